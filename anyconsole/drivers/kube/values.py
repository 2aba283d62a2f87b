"""Reading JSON that an API server sent without trusting it: a value of the right type comes back whatever it holds, and never an error.

What is missing, of the wrong type or out of range reads as not told. Text comes back as one bounded line without control characters.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, TypeAlias

from anyconsole.drivers.ssh.fault import plain

__all__ = [
    "LINE",
    "NAME",
    "WORD",
    "Json",
    "condition",
    "labels",
    "moment",
    "number",
    "part",
    "parts",
    "text",
    "texts",
    "told",
]

Json: TypeAlias = dict[str, Any]
"""A JSON object as it was parsed."""

WORD: Final = 128
"""Characters of a reason, a phase, a type: CamelCase words."""
NAME: Final = 253
"""Characters of an object's name (RFC 1123 subdomain)."""
LINE: Final = 300
"""Characters of a message."""

_ITEMS: Final = 64
_BIGGEST: Final = 2**31 - 1
_NOTHING: Final[Json] = {}


def part(obj: object, key: str) -> Json:
    """The object at `key`, an empty one if there is none. Not to be changed."""
    found = obj.get(key) if isinstance(obj, dict) else None
    return found if isinstance(found, dict) else _NOTHING


def told(obj: object, key: str) -> bool:
    """Whether there is an object at `key`, were it an empty one: `"running": {}` says something."""
    return isinstance(obj, dict) and isinstance(obj.get(key), dict)


def parts(obj: object, key: str, limit: int = _ITEMS) -> list[Json]:
    """The objects in the list at `key`, `limit` at most."""
    found = obj.get(key) if isinstance(obj, dict) else None
    return [item for item in found[:limit] if isinstance(item, dict)] if isinstance(found, list) else []


def text(obj: object, key: str, limit: int = NAME) -> str:
    """The string at `key`."""
    return _line(obj.get(key), limit) if isinstance(obj, dict) else ""


def texts(obj: object, key: str, limit: int = NAME) -> list[str]:
    """The strings in the list at `key`."""
    found = obj.get(key) if isinstance(obj, dict) else None
    lines = [_line(item, limit) for item in found[:_ITEMS]] if isinstance(found, list) else []
    return [line for line in lines if line]


def number(obj: object, key: str) -> int:
    """The int32 at `key`, 0 if there is none."""
    found = obj.get(key) if isinstance(obj, dict) else None
    return found if type(found) is int and -_BIGGEST <= found <= _BIGGEST else 0


def moment(obj: object, key: str) -> float | None:
    """The time at `key`, a Time or a MicroTime, as epoch seconds."""
    found = obj.get(key) if isinstance(obj, dict) else None
    if not isinstance(found, str):
        return None
    try:
        when = dt.datetime.fromisoformat(found)
    except ValueError:
        return None
    seconds = (when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp()
    # Go's zero time, in year 1, is how a server says that there is none.
    return seconds if seconds > 0 else None


def condition(status: object, kind: str) -> Json:
    """The condition of type `kind` of an object's status, an empty one if there is none."""
    return next((c for c in parts(status, "conditions") if c.get("type") == kind), _NOTHING)


def labels(obj: object, limit: int = _ITEMS) -> dict[str, str]:
    """An object's labels, the first `limit` in the order of their keys."""
    found = part(part(obj, "metadata"), "labels")
    keys = sorted(key for key, value in found.items() if isinstance(value, str))
    return {_line(key, LINE + 20): _line(found[key], NAME) for key in keys[:limit]}


def _line(value: object, limit: int) -> str:
    if not isinstance(value, str):
        return ""
    # Nearly all is clean already, and there are a hundred of these in a pod, and thousands of pods.
    return value if len(value) <= limit and value.isprintable() else plain(value, limit)
