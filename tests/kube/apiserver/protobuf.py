"""The few messages that stock kubectl sends as protobuf and can't be told to send as JSON: the reviews behind `kubectl auth`.

An envelope (`k8s`, a zero byte, then kind and content) around messages whose fields are numbered. Answers are JSON: kubectl takes both.
"""

from __future__ import annotations

from tests.kube.apiserver import errors
from tests.kube.apiserver.objects import Object

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
# Field numbers of k8s.io/api/authorization/v1: a name for a string, a pair for a message inside.
_ATTRIBUTES: dict[int, object] = {
    1: "namespace",
    2: "verb",
    3: "group",
    4: "version",
    5: "resource",
    6: "subresource",
    7: "name",
}
_QUESTION: dict[int, object] = {
    1: ("resourceAttributes", _ATTRIBUTES),
    2: ("nonResourceAttributes", {1: "path", 2: "verb"}),
}
_SHAPES: dict[str, dict[int, object]] = {
    "SelfSubjectAccessReview": {2: ("spec", _QUESTION)},
    "SelfSubjectRulesReview": {2: ("spec", {1: "namespace"})},
    "SelfSubjectReview": {},
}


def read(raw: bytes) -> Object:
    """The object in a protobuf body.

    Raises:
        ApiError: 415 for every other kind: this server speaks JSON.
    """
    envelope = dict(_fields(raw.removeprefix(_MAGIC)))
    kinds = dict(_fields(envelope.get(1, b"")))
    kind = kinds.get(2, b"").decode()
    if kind not in _SHAPES:
        raise errors.unsupported_media_type(MEDIA_TYPE, ("application/json", "application/yaml"))
    return {"apiVersion": kinds[1].decode(), "kind": kind, **_message(envelope.get(2, b""), _SHAPES[kind])}


def _message(raw: bytes, shape: dict[int, object]) -> Object:
    found: Object = {}
    for number, content in _fields(raw):
        match shape.get(number):
            case str(name):
                found[name] = content.decode()
            case (str(name), dict(inner)):
                found[name] = _message(content, inner)
            case _:
                pass
    return found


def _fields(raw: bytes) -> list[tuple[int, bytes]]:
    """The length-delimited fields of a message; numbers are passed over."""
    found, position = [], 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        value, position = _varint(raw, position)
        if tag & 7 == 2:
            found.append((tag >> 3, raw[position : position + value]))
            position += value
    return found


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
