"""How the lists and maps of an object merge: by which keys, as a set, or as one value.

Kubernetes says so in its types; a custom resource says so in its schema. The table holds what this project's objects use.
"""

from __future__ import annotations

import msgspec

from tests.kube.apiserver.objects import Object, Value
from tests.kube.apiserver.resources import Resource

Path = tuple[str, ...]
"""Names of fields from the top, without the lists' indices."""


class ListType(msgspec.Struct, frozen=True):
    """How one list merges: by keys, as a set, or (neither) as one value."""

    keys: tuple[str, ...] = ()
    is_set: bool = False


ATOMIC = ListType()
SET = ListType(is_set=True)

_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
# By the last names of the path. The first key alone is strategic merge patch's, all of them are server-side apply's.
_BY_SUFFIX: dict[Path, ListType] = {
    **{(c,): ListType(("name",)) for c in _CONTAINERS},
    **{(c, "env"): ListType(("name",)) for c in _CONTAINERS},
    **{(c, "ports"): ListType(("containerPort", "protocol")) for c in _CONTAINERS},
    **{(c, "volumeMounts"): ListType(("mountPath",)) for c in _CONTAINERS},
    ("volumes",): ListType(("name",)),
    ("spec", "imagePullSecrets"): ListType(("name",)),
    ("topologySpreadConstraints",): ListType(("topologyKey", "whenUnsatisfiable")),
    ("hostAliases",): ListType(("ip",)),
    ("status", "conditions"): ListType(("type",)),
    ("status", "podIPs"): ListType(("ip",)),
    ("status", "addresses"): ListType(("type",)),
    ("metadata", "ownerReferences"): ListType(("uid",)),
    ("metadata", "finalizers"): SET,
}
_BY_KIND: dict[tuple[str, Path], ListType] = {
    ("services", ("spec", "ports")): ListType(("port", "protocol")),
    ("serviceaccounts", ("secrets",)): ListType(("name",)),
}
_STRATEGIC_ONLY: dict[tuple[str, Path], ListType] = {
    ("nodes", ("spec", "taints")): ListType(("key",)),
    ("serviceaccounts", ("imagePullSecrets",)): ListType(("name",)),
}
_ATOMIC_MAPS = {
    "selector", "nodeSelector", "podSelector", "namespaceSelector", "labelSelector", "roleRef",
    "configMapKeyRef", "secretKeyRef", "fieldRef", "resourceFieldRef",
}  # fmt: skip
KEY_DEFAULTS: dict[str, Value] = {"protocol": "TCP"}
"""What a key is when an item doesn't say it."""


def list_type(resource: Resource, path: Path, strategic: bool = False) -> ListType:
    """How the list at a path merges."""
    if resource.schema is not None and path[:1] != ("metadata",):
        return _custom_list(resource.schema, path)
    exact = (resource.plural, path)
    if strategic and exact in _STRATEGIC_ONLY:
        return _STRATEGIC_ONLY[exact]
    found = _BY_KIND.get(exact) or _BY_SUFFIX.get(path[-2:]) or _BY_SUFFIX.get(path[-1:])
    if found is None:
        return ATOMIC
    return ListType(found.keys[:1]) if strategic and found.keys else found


def is_atomic_map(resource: Resource, path: Path) -> bool:
    """Whether the object at a path is owned and replaced as one."""
    if resource.schema is not None and path[:1] != ("metadata",):
        schema = _schema_at(resource.schema, path)
        return schema is None or schema.get("x-kubernetes-map-type") == "atomic"
    return bool(path) and path[-1] in _ATOMIC_MAPS


def _schema_at(schema: Object | None, path: Path) -> Object | None:
    for name in path:
        while schema is not None and schema.get("type") == "array":
            schema = schema.get("items")
        if schema is None:
            return None
        if schema.get("x-kubernetes-preserve-unknown-fields") and name not in schema.get("properties", {}):
            return {}
        schema = (schema.get("properties") or {}).get(name) or schema.get("additionalProperties")
        if not isinstance(schema, dict):
            return None
    return schema


def _custom_list(schema: Object, path: Path) -> ListType:
    found = _schema_at(schema, path) or {}
    match found.get("x-kubernetes-list-type"):
        case "map":
            return ListType(tuple(found.get("x-kubernetes-list-map-keys", ())))
        case "set":
            return SET
        case _:
            return ATOMIC
