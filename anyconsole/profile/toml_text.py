"""Values as TOML text: for `profile print`, for the importers and for values quoted in error messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["shown", "toml_key", "toml_string", "toml_value"]

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_LONGEST_SHOWN = 60
_WIDEST_INTEGER = 64


def toml_string(text: str) -> str:
    """`text` as a basic TOML string on one line. Everything unprintable is escaped."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escaped(c)) for c in text) + '"'


def toml_key(key: str) -> str:
    """`key` bare where TOML allows it, else quoted."""
    return key if key and _BARE.issuperset(key) else toml_string(key)


def toml_value(value: object) -> str:
    """A string, number, boolean, list or (inline) table as TOML; anything else as its quoted text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, int):
        # Python refuses to print very long integers; a hexadecimal one may still come out of a file.
        return str(value) if value.bit_length() <= _WIDEST_INTEGER else hex(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{toml_key(str(key))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return toml_string(str(value))


def shown(value: object) -> str:
    """`value` for an error message: short, on one line, without control characters."""
    if isinstance(value, Mapping):
        return "{...}"
    if isinstance(value, str):
        value = value[: _LONGEST_SHOWN + 1]
    elif isinstance(value, Sequence):
        value = ["{...}" if isinstance(item, Mapping | list) else item for item in value[:_LONGEST_SHOWN]]
    text = toml_value(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
