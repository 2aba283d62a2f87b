"""Reads raw TOML tables by the schema: unknown keys, missing keys, wrong types and wrong values are reported, good values returned."""

from __future__ import annotations

import types
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

from anyconsole.profile.report import Report, element, inside, nearest
from anyconsole.profile.schema import Key, Table
from anyconsole.profile.values import Check

__all__ = ["Row", "build", "read_array", "read_table"]

_BROKEN: Final = object()
_MAY_SPAN_LINES: Final = frozenset({"qps", "description"})
_T = TypeVar("_T", bound=msgspec.Struct)


class Row(NamedTuple):
    """A table that was read: where it stands, its good values by key, and whether everything in it was good."""

    where: str
    values: dict[str, Any]


def read_table(
    raw: object,
    table: Table,
    where: str,
    report: Report,
    *,
    inherited: tuple[Mapping[str, object], str] = ({}, ""),
    skip: Collection[str] = (),
) -> Row:
    """Read one table.

    Args:
        raw: What stands in the file.
        table: What may stand there.
        where: Its key path.
        report: Takes what is wrong.
        inherited: The template that gives missing keys, and its key path.
        skip: Keys that are known, but read by somebody else.
    """
    values: dict[str, Any] = {}
    if not isinstance(raw, dict):
        report.add(where, "expected a table", raw)
        return Row(where, values)
    check_keys(raw, table.keys, where, report)
    template, template_where = inherited
    for key in table.keys.values():
        if key.name in skip:
            continue
        if key.name in raw:
            value = _read_key(raw[key.name], key, inside(where, key.name), report)
        elif key.name in template:
            value = _read_key(template[key.name], key, inside(template_where, key.name), report)
        else:
            if key.required:
                report.add(inside(where, key.name), "is missing")
            continue
        if value is not _BROKEN:
            values[key.name] = value
    return Row(where, values)


def read_array(raw: object, table: Table, where: str, report: Report) -> list[Row]:
    """Read an array of tables. An element that is no table is reported and left out."""
    return [read_table(item, table, at, report) for at, item in table_items(raw, where, report)]


def table_items(raw: object, where: str, report: Report) -> list[tuple[str, dict[str, Any]]]:
    """The tables of an array with their key paths. What isn't one is reported and left out."""
    if not isinstance(raw, list):
        report.add(where, f"expected an array of tables, [[{where.rpartition('.')[2]}]]", raw)
        return []
    tables = []
    for index, item in enumerate(raw):
        if isinstance(item, dict):
            tables.append((element(where, index, item.get("name")), item))
        else:
            report.add(element(where, index), "expected a table", item)
    return tables


def check_keys(raw: Mapping[str, object], valid: Collection[str], where: str, report: Report) -> None:
    """Report the keys of `raw` that aren't valid."""
    for key in raw:
        if key not in valid:
            report.add(inside(where, key), f"unknown key, {nearest(key, valid)}", raw[key])


def build(row: Row, table: Table, struct: type[_T], **given: object) -> _T:
    """The struct of a row. A key that was missing or broken gets its default or an empty value, so that other checks can go on.

    Args:
        row: What was read.
        table: By which table.
        struct: The table's struct.
        given: Fields that don't come from the row's values.
    """
    fields: dict[str, Any] = {}
    for key in table.keys.values():
        if key.field in given or key.field not in struct.__struct_fields__:
            continue
        if key.name in row.values:
            fields[key.field] = row.values[key.name]
        elif key.required:
            fields[key.field] = _empty(key.kind)
    return struct(**fields, **given)


def _read_key(raw: object, key: Key, where: str, report: Report) -> object:
    if key.table:
        return read_array(raw, key.table, where, report)
    return _read(raw, _without_none(key.kind), key, where, report)


def _read(raw: object, kind: Any, key: Key, where: str, report: Report) -> object:  # noqa: ANN401 - an annotation
    """`raw` as a `kind`, checked; _BROKEN if it isn't one."""
    origin = get_origin(kind)
    if origin is tuple:
        if not isinstance(raw, list):
            report.add(where, "expected a list, like [...]", raw)
            return _BROKEN
        items = [_read(item, get_args(kind)[0], key, element(where, index), report) for index, item in enumerate(raw)]
        return tuple(item for item in items if item is not _BROKEN)
    if origin is dict:
        return _read_dict(raw, kind, key, where, report)
    try:
        value = _scalar(raw, kind, key)
        return _checked(value, key.check)
    except ValueError as error:
        report.add(where, str(error), raw)
        return _BROKEN


def _read_dict(raw: object, kind: Any, key: Key, where: str, report: Report) -> object:  # noqa: ANN401
    key_kind, value_kind = get_args(kind)
    if not isinstance(raw, dict):
        expected = "a table, { NAME = ... }" if key_kind is str else f"a table of {', '.join(key_kind)}"
        report.add(where, f"expected {expected}", raw)
        return _BROKEN
    # Names that the profile itself gives are looked up by who knows them.
    valid = list(raw if key_kind is str else key_kind)
    check_keys(raw, valid, where, report)
    values = {
        key_kind(name): _read(item, value_kind, key, inside(where, name), report)
        for name, item in raw.items()
        if name in valid
    }
    return {name: value for name, value in values.items() if value is not _BROKEN}


def _scalar(raw: object, kind: Any, key: Key) -> object:  # noqa: ANN401
    if issubclass(kind, StrEnum):
        if raw not in list(kind):
            raise ValueError(
                f"expected one of {', '.join(kind)}" + (f", {nearest(raw, kind)}" if isinstance(raw, str) else "")
            )
        return kind(raw)
    if kind is bool:
        if isinstance(raw, bool):
            return raw
        raise ValueError("expected true or false")
    if kind is int:
        if isinstance(raw, int) and not isinstance(raw, bool):
            return raw
        raise ValueError("expected a whole number")
    if kind is float:
        if isinstance(raw, int | float) and not isinstance(raw, bool) and abs(raw) < 1e18:
            return float(raw)
        raise ValueError("expected a number")
    if not isinstance(raw, str):
        raise ValueError("expected a string in quotes")
    allowed = "\n\t" if key.name in _MAY_SPAN_LINES else ""
    if not all(c.isprintable() or c in allowed for c in raw):
        raise ValueError("has a control character or another one that can't be seen")
    return raw


def _checked(value: object, check: Check | None) -> object:
    return check(value) if check else value


def _without_none(kind: Any) -> Any:  # noqa: ANN401
    if get_origin(kind) in {Union, types.UnionType}:
        return next(arg for arg in get_args(kind) if arg is not types.NoneType)
    return kind


def _empty(kind: Any) -> object:  # noqa: ANN401
    kind = _without_none(kind)
    if get_origin(kind) in {tuple, dict}:
        return (get_origin(kind))()
    if issubclass(kind, StrEnum):
        return next(iter(kind))
    return kind()
