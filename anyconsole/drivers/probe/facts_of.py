"""Rows from a node, which are untrusted input, made into facts: known kinds and fields only, typed, bounded, printable."""

from __future__ import annotations

from typing import Any, TypeAlias, get_args

import msgspec

from anyconsole.drivers.ask import Row
from anyconsole.drivers.dnswire import parse_answer
from anyconsole.drivers.parse_error import ParseError, printable
from anyconsole.model.facts import (
    Answer,
    Covering,
    Export,
    HostHealth,
    InstanceStatus,
    Observation,
    PeerRoute,
    QueryRates,
    SessionStatus,
    SpeakerStatus,
)

__all__ = ["MAX_ITEMS", "MAX_TEXT", "NodeFact", "RowError", "fact_of"]

NodeFact: TypeAlias = (
    HostHealth | SpeakerStatus | SessionStatus | Export | Covering | InstanceStatus | QueryRates | Answer | PeerRoute
)

_KINDS: dict[str, type[NodeFact]] = {k.kind: k for k in get_args(NodeFact)}
_FIELDS = {kind: frozenset(cls.__struct_fields__) - {"node", "at"} for kind, cls in _KINDS.items()}

MAX_TEXT = 500
"""Characters kept of any text from a node."""

MAX_ITEMS = 5000
"""Items a list or table in a row may have."""


class RowError(ValueError):
    """A row that isn't a fact: the message says why, printable and bounded."""


def fact_of(node: str, row: Row, at: float, clock_offset: float) -> Observation:
    """The fact a row stands for, seen on `node` at `at`. Raises RowError."""
    if not isinstance(row, dict):
        raise RowError(f"not a row: {printable(repr(row), 100)}")
    kind = row.get("kind")
    cls = _KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None or not isinstance(kind, str):
        raise RowError(f"unknown kind of row: {printable(repr(kind), 100)}")
    fields = {k: _clean(v) for k, v in row.items() if k != "kind"}
    if cls is HostHealth:
        fields["clock_offset"] = clock_offset
    elif cls is QueryRates and fields.get("source") != "probe":
        raise RowError("query rates of a node come from its probe")
    elif cls is Answer:
        fields = _answer(fields)
    unknown = fields.keys() - _FIELDS[kind]
    if unknown:
        raise RowError(f"unknown field of {kind}: {printable(str(min(unknown)), 100)}")
    try:
        return msgspec.convert({**fields, "node": node, "at": at}, cls)
    except (msgspec.ValidationError, OverflowError) as error:
        raise RowError(f"{kind}: {printable(str(error), 200)}") from error


def _answer(fields: dict[str, Any]) -> dict[str, Any]:
    reply = fields.pop("reply", None)
    if reply is None:
        return fields
    if not isinstance(reply, str) or not isinstance(fields.get("zone"), str):
        raise RowError("answer without a zone, or whose reply is not text")
    try:
        seen = parse_answer(bytes.fromhex(reply), fields["zone"])
    except (ParseError, ValueError) as error:
        return {**fields, "error": printable(str(error), 200)}
    return {**fields, "rcode": seen.rcode, "serial": seen.serial, "nsid": seen.nsid, "error": seen.error}


def _clean(value: object, depth: int = 0) -> object:
    """`value` with all texts printable, all of it bounded. A reply in hex is longer than other texts may be: it is digits, not text."""
    if isinstance(value, str):
        if len(value) <= 8192 and depth == 0 and value.isalnum() and value.isascii():
            return value
        return value if len(value) <= MAX_TEXT and value.isprintable() else printable(value, MAX_TEXT)
    if isinstance(value, list):
        if len(value) > MAX_ITEMS or depth > 2:
            raise RowError("a list in a row is too long or too deep")
        return [_clean(v, depth + 1) for v in value]
    if isinstance(value, dict):
        if len(value) > MAX_ITEMS or depth > 2:
            raise RowError("a table in a row is too long or too deep")
        return {printable(str(k), MAX_TEXT): _clean(v, depth + 1) for k, v in value.items()}
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise RowError("a number in a row is beyond 64 bits")  # frames to the screen can't carry it
    return value
