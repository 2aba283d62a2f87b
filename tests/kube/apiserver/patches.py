"""The three patches that are no apply: JSON merge patch (RFC 7386), JSON patch (RFC 6902), strategic merge patch."""

from __future__ import annotations

from typing import cast

from tests.kube.apiserver import errors
from tests.kube.apiserver.list_types import Path, list_type
from tests.kube.apiserver.objects import Object, Value, copy
from tests.kube.apiserver.resources import Resource

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def merge(target: Value, patch: Value) -> Value:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def json_patch(target: Object, operations: Value) -> Object:
    """RFC 6902, all or nothing."""
    if not isinstance(operations, list):
        raise errors.bad_request("a JSON patch is a list of operations")
    document: Value = copy(target)
    for operation in operations:
        document = _operate(document, operation)
    return cast("Object", document)


def strategic(resource: Resource, target: Object, patch: Object) -> Object:
    """Kubernetes' own: lists whose items have a key merge by it, and `$` directives remove, replace and order."""
    return cast("Object", _strategic(resource, target, patch, ()))


def _tokens(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise errors.bad_request(f"not a JSON pointer: {pointer!r}")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _refused(operation: Object, why: str) -> errors.ApiError:
    words = f"the server rejected our request due to an error in our request: {operation.get('op')} {operation.get('path')}: {why}"
    return errors.ApiError(422, "Invalid", words)


def _look_up(document: Value, tokens: list[str], operation: Object) -> Value:
    for token in tokens:
        try:
            document = document[int(token)] if isinstance(document, list) else document[token]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise _refused(operation, "no such path") from error
    return document


def _operate(document: Value, operation: Object) -> Value:
    op, tokens = operation.get("op"), _tokens(str(operation.get("path", "")))
    if op == "test":
        if _look_up(document, tokens, operation) != operation.get("value"):
            raise _refused(operation, "testing value failed")
        return document
    if op in {"move", "copy"}:
        source = _tokens(str(operation.get("from", "")))
        value = _look_up(document, source, operation)
        if op == "move":
            document = _operate(document, {"op": "remove", "path": operation["from"]})
        return _operate(document, {"op": "add", "path": operation["path"], "value": value})
    if op not in {"add", "remove", "replace"}:
        raise _refused(operation, "unknown operation")
    if not tokens:
        return operation.get("value")
    parent, last = _look_up(document, tokens[:-1], operation), tokens[-1]
    if op != "add":
        _look_up(parent, [last], operation)
    if isinstance(parent, list):
        _operate_on_list(parent, last, operation)
    elif isinstance(parent, dict):
        if op == "remove":
            del parent[last]
        else:
            parent[last] = operation.get("value")
    else:
        raise _refused(operation, "no such path")
    return document


def _operate_on_list(parent: list[Value], last: str, operation: Object) -> None:
    index = len(parent) if last == "-" else int(last)
    match operation["op"]:
        case "add" if index <= len(parent):
            parent.insert(index, operation.get("value"))
        case "replace":
            parent[index] = operation.get("value")
        case "remove":
            del parent[index]
        case _:
            raise _refused(operation, "index out of range")


def _strategic(resource: Resource, target: Value, patch: Value, path: Path) -> Value:
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _strategic_list(resource, result.get(key) or [], value, (*path, key))
        else:
            result[key] = _strategic(resource, result.get(key), value, (*path, key))
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            result[field] = [item for item in result.get(field) or [] if item not in value]
        elif key.startswith("$setElementOrder/"):
            field = key.partition("/")[2]
            result[field] = _ordered(resource, result.get(field) or [], value, (*path, field))
        elif key == "$retainKeys":
            result = {field: kept for field, kept in result.items() if field in value}
    return result


def _strategic_list(resource: Resource, target: list[Value], patch: list[Value], path: Path) -> list[Value]:
    how = list_type(resource, path, strategic=True)
    if how.is_set:
        return [*target, *(item for item in patch if item not in target)]
    directives = [item for item in patch if isinstance(item, dict) and item.get("$patch")]
    if not how.keys or any(item == {"$patch": "replace"} for item in directives):
        return [item for item in patch if item not in directives]
    key = how.keys[0]
    result = [dict(item) for item in target]
    for item in patch:
        if key not in item:
            raise errors.bad_request(f"map: {item} does not contain declared merge key: {key}")
        index = next((i for i, have in enumerate(result) if have.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [have for have in result if have.get(key) != item[key]]
        elif index is None:
            result.append(_strategic(resource, {}, item, path))
        else:
            result[index] = _strategic(resource, result[index], item, path)
    return result


def _ordered(resource: Resource, target: list[Value], order: list[Value], path: Path) -> list[Value]:
    how = list_type(resource, path, strategic=True)
    wanted = [item.get(how.keys[0]) for item in order] if how.keys else order
    place = {str(name): index for index, name in enumerate(wanted)}
    return sorted(target, key=lambda item: place.get(str(item.get(how.keys[0]) if how.keys else item), len(place)))
