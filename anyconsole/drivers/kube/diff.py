"""What applying an object would change: as lines, from the object as it is and as the API server would store it (dry run). Pure.

Only fields that we own are looked at, so defaults, statuses and what controllers and others add are never a difference. Without a dry run,
by who may only read, the object as it was rendered is all there is to compare with (`departures`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final, TypeAlias

from anyconsole.drivers.kube.render import Object

__all__ = ["UNCHANGED", "Departure", "departures", "difference", "differences"]

UNCHANGED: Final = "unchanged"

_Path: TypeAlias = tuple[str, ...]
_ABSENT: Final = object()
_LONGEST: Final = 160
_HASH: Final = "metadata.annotations.anyconsole.io/rendered"
_IDENTITY: Final[frozenset[_Path]] = frozenset({("apiVersion",), ("kind",)})
"""What the members of a list don't repeat."""

_QUANTITIES: Final = frozenset({"hard", "requests", "limits", "default", "defaultRequest", "sizeLimit"})
"""Fields that are quantities, or hold some; the server spells these its own way."""
_QUANTITY: Final = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)([numkMGTPE]|[KMGTPE]i)?")
_SCALES: Final = {
    "": Fraction(1),
    **{unit: Fraction(1, 1000**n) for n, unit in enumerate("mun", start=1)},
    **{unit: Fraction(1000**n) for n, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Fraction(1024**n) for n, unit in enumerate("KMGTPE", start=1)},
}

# Lists of things with a name of their own: a container more isn't a change of all that follow it.
_KEYS: Final = ("name", "mountPath", "key", "port", "containerPort", "cidr", "topologyKey", "type")


def difference(rendered: Object, live: Object | None, dry_run: Object | None = None) -> list[str]:
    """The lines of one object, each "- field: value" (as it is) or "+ field: value" (as it would be); none if it is unchanged.

    Args:
        rendered: The object that would be applied: its fields are those we own.
        live: As it is, None if it isn't there.
        dry_run: As the API server would store it, with its own spelling of values ("0.5" cores are "500m"); `rendered` without one.
    """
    if live is None:
        return [f"+ {line}" for line in _leaves((), rendered)]
    wanted = rendered if dry_run is None else dry_run
    lines: list[str] = []
    for path, _ in _walk((), rendered):
        if path in _IDENTITY:
            continue
        was, becomes = _at(live, path), _at(wanted, path)
        if was == becomes:
            continue
        lines += [f"{sign} {line}" for sign, value in (("-", was), ("+", becomes)) for line in _told(path, value)]
    lines += [f"- {line}" for path, value in _dropped(rendered, live, dry_run) for line in _told(path, value)]
    # The hash changes with whatever changes: alone it says something, beside the others it doesn't.
    telling = [line for line in lines if not line[2:].startswith(f"{_HASH}:")]
    return telling or lines


Departure: TypeAlias = tuple[str, object, object]
"""A field, its value in the cluster (None if it has none), and the one it was rendered with."""


def departures(rendered: Object, live: Object) -> list[Departure]:
    """The fields of an object that aren't as rendered; none if there is no difference."""
    found: list[Departure] = []
    for path, wanted in _walk((), rendered):
        if path in _IDENTITY:
            continue
        was = _at(live, path)
        if not _is_same(path, was, wanted):
            found.append((_named(path), None if was is _ABSENT else was, wanted))
    return [field for field in found if field[0] != _HASH] or found


def differences(lines: Mapping[str, list[str]]) -> str:
    """The differences of objects by their names, as text."""
    told = []
    for name, changed in lines.items():
        told.append(f"{name}: {UNCHANGED}" if not changed else "\n".join([name, *(f"  {line}" for line in changed)]))
    return "\n".join(told)


def _walk(path: _Path, value: object) -> Iterator[tuple[_Path, object]]:
    """Every leaf with the path to it; members of lists by their keys."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _walk((*path, str(key)), inner)
    elif isinstance(value, list) and (by_key := _by_key(value)) is not None:
        for key, inner in by_key.items():
            yield from _walk((*path, key), inner)
    else:
        yield path, value


def _leaves(path: _Path, value: object) -> Iterator[str]:
    for leaf, inner in _walk(path, value):
        yield from _told(leaf, inner)


def _by_key(members: list[Any]) -> dict[str, Any] | None:
    """The members of a list by what names each of them; None if nothing does."""
    if not members or not all(isinstance(member, dict) for member in members):
        return None
    for key in _KEYS:
        named = {f"[{m[key]}{_protocol(m)}]": m for m in members if isinstance(m.get(key), str | int)}
        if len(named) == len(members):
            return named
    return None


def _protocol(member: Mapping[str, Any]) -> str:
    # DNS has the same port twice.
    return f"/{protocol}" if isinstance(protocol := member.get("protocol"), str) and "name" not in member else ""


def _at(obj: object, path: _Path) -> object:
    for step in path:
        if isinstance(obj, list):
            obj = (_by_key(obj) or {}).get(step, _ABSENT)
        elif isinstance(obj, dict):
            obj = obj.get(step, _ABSENT)
        else:
            return _ABSENT
    return obj


def _dropped(rendered: Object, live: Object, dry_run: Object | None) -> Iterator[tuple[_Path, object]]:
    """What is there because we applied it once, and would go: a field that isn't rendered any more."""
    if dry_run is None:
        return
    ours = set(_walk_paths(rendered))
    for path, value in _walk((), live):
        if path[:1] == ("status",) or (path[:1] == ("metadata",) and path[1:2] not in {("labels",), ("annotations",)}):
            continue
        if path not in ours and _at(dry_run, path) is _ABSENT:
            yield path, value


def _walk_paths(value: object) -> Iterator[_Path]:
    return (path for path, _ in _walk((), value))


def _is_same(path: _Path, was: object, wanted: object) -> bool:
    """Whether the server would store the same for both: it leaves out what is empty, and writes 1000m as 1."""
    if was is _ABSENT or was is None:
        return wanted in ("", [], {})
    if was == wanted:
        return True
    amount = _amount(wanted) if _QUANTITIES & {*path[-2:]} else None
    return amount is not None and amount == _amount(was)


def _amount(value: object) -> Fraction | None:
    """A quantity as a number, None if it is none."""
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    return Fraction(match[1]) * _SCALES[match[2] or ""] if match else None


def _named(path: _Path) -> str:
    return ".".join(path).replace(".[", "[")


def _told(path: _Path, value: object) -> Iterator[str]:
    if value is _ABSENT:
        return
    where = _named(path)
    text = value if isinstance(value, str) else _flat(value)
    lines = text.splitlines() or [""]
    if len(lines) == 1:
        yield f"{where}: {_short(lines[0])}"
    else:
        yield f"{where}: ({len(lines)} lines)"


def _flat(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return "[" + ", ".join(_flat(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_flat(v)}" for k, v in value.items()) + "}"
    return str(value)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
