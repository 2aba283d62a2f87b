"""Field sets: which fields of an object somebody owns, in memory and as the FieldsV1 of managedFields.

A field is a tuple of path elements: `f:name` for a field, `k:{...}` for the item of a keyed list, `v:...` for a value of a set.
"""

from __future__ import annotations

import json
from typing import TypeAlias

import msgspec

from tests.kube.apiserver.list_types import KEY_DEFAULTS, ListType, Path, is_atomic_map, list_type
from tests.kube.apiserver.objects import Object, Value
from tests.kube.apiserver.resources import Resource

Field: TypeAlias = tuple[str, ...]

_NOBODYS = {("f:apiVersion",), ("f:kind",)} | {
    ("f:metadata", f"f:{name}")
    for name in (
        "name", "namespace", "creationTimestamp", "generation", "resourceVersion", "uid", "selfLink", "managedFields",
        "deletionTimestamp", "deletionGracePeriodSeconds",
    )
}  # fmt: skip


def flatten(resource: Resource, obj: Object) -> dict[Field, Value]:
    """Every field of an object that can be owned, with its value; an item of a keyed list is a field with no value of its own."""
    found: dict[Field, Value] = {}
    _walk(resource, obj, (), (), found)
    return {field: value for field, value in found.items() if field[:1] not in _NOBODYS and field[:2] not in _NOBODYS}


def item_key(how: ListType, item: Value) -> str:
    """The path element of an item in a keyed list or a set."""
    if how.is_set:
        return "v:" + json.dumps(item, separators=(",", ":"))
    keys = {key: item.get(key, KEY_DEFAULTS.get(key)) for key in sorted(how.keys)}
    return "k:" + json.dumps({k: v for k, v in keys.items() if v is not None}, separators=(",", ":"))


def to_v1(fields: set[Field]) -> Object:
    """The nested form that managedFields carries."""
    tree: Object = {}
    for field in sorted(fields):
        node = tree
        for element in field:
            node = node.setdefault(element, {})
        node["."] = {}
    return _without_lone_dots(tree)


def from_v1(tree: Object) -> set[Field]:
    """The set that a FieldsV1 describes."""
    found: set[Field] = set()
    _read(tree, (), found)
    return found


def say(field: Field) -> str:
    """A field as messages write it: .spec.containers[name="nsd"].image."""
    text = ""
    for element in field:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "v":
            text += f"[={rest}]"
        else:
            pairs = msgspec.json.decode(rest.encode(), type=dict[str, object])
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in pairs.items()) + "]"
    return text


def remove(obj: Object, field: Field, resource: Resource) -> None:
    """Take one field out of an object, and the maps that this leaves empty."""
    _remove(obj, field, (), resource)


def _walk(resource: Resource, value: Value, field: Field, path: Path, found: dict[Field, Value]) -> None:
    if isinstance(value, dict) and value and not is_atomic_map(resource, path):
        for key, inner in value.items():
            _walk(resource, inner, (*field, f"f:{key}"), (*path, key), found)
        return
    if isinstance(value, list) and value:
        how = list_type(resource, path)
        if how.is_set or how.keys:
            for item in value:
                element = (*field, item_key(how, item))
                found[element] = None
                if how.keys:
                    for key, inner in item.items():
                        _walk(resource, inner, (*element, f"f:{key}"), (*path, key), found)
            return
    if field:
        found[field] = value


def _without_lone_dots(tree: Object) -> Object:
    if list(tree) == ["."]:
        return {}
    return {key: _without_lone_dots(value) if key != "." else {} for key, value in tree.items()}


def _read(tree: Object, field: Field, found: set[Field]) -> None:
    if not tree and field:
        found.add(field)
    for key, inner in tree.items():
        if key == ".":
            found.add(field)
        else:
            _read(inner, (*field, key), found)


def _remove(node: Value, field: Field, path: Path, resource: Resource) -> None:
    element, rest = field[0], field[1:]
    kind, _, name = element.partition(":")
    if kind == "f":
        if not isinstance(node, dict) or name not in node:
            return
        if not rest:
            del node[name]
            return
        _remove(node[name], rest, (*path, name), resource)
        if node[name] in ({}, []):
            del node[name]
    elif isinstance(node, list):
        how = list_type(resource, path)
        for index, item in enumerate(node):
            if item_key(how, item) == element:
                if rest:
                    _remove(item, rest, path, resource)
                else:
                    del node[index]
                return
