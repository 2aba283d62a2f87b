"""The effective profile as TOML: templates applied, placeholders filled in, sections with all their defaults. Reading it gives it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from anyconsole.model.inventory import InstanceSpec, Inventory
from anyconsole.profile.schema import ARRAYS, SECTIONS, Table
from anyconsole.profile.toml_text import toml_value

__all__ = ["print_profile"]

_FIELDS = {
    "site": "sites",
    "interconnect": "interconnects",
    "tenant": "tenants",
    "cluster": "clusters",
    "node": "nodes",
    "vantage": "vantages",
    "looking_glass": "looking_glasses",
    "generator": "generators",
    "bootstrap": "bootstraps",
}


def print_profile(inventory: Inventory) -> str:
    """The profile that `inventory` was made from, without its shorthands, as TOML."""
    lines: list[str] = []
    for name, table in SECTIONS.items():
        section = inventory if name == "profile" else getattr(inventory, name)
        if section is not None:
            lines += [
                "",
                f"[{name}]",
                *_settings(section, table, with_defaults=True),
                *_arrays_of(section, table, name),
            ]
    for name, table in ARRAYS.items():
        for item in getattr(inventory, _FIELDS[name]):
            lines += ["", *_array_item(item, table, name)]
    return "\n".join(lines[1:]) + "\n"


def _array_item(item: msgspec.Struct, table: Table, path: str) -> Iterator[str]:
    indent = "  " * path.count(".")
    yield f"{indent}[[{path}]]"
    for line in _settings(item, table, with_defaults=False, plain_braces=path.split(".", maxsplit=1)[0] == "node"):
        yield indent + line
    yield from _arrays_of(item, table, path)


def _arrays_of(item: msgspec.Struct, table: Table, path: str) -> Iterator[str]:
    for key in table.keys.values():
        if key.table:
            for child in getattr(item, key.field):
                yield from _array_item(child, key.table, f"{path}.{key.name}")


def _settings(item: msgspec.Struct, table: Table, *, with_defaults: bool, plain_braces: bool = False) -> Iterator[str]:
    """The keys of a table. An optional value that isn't set has no spelling in TOML and is left out."""
    defaults = {f.name: _default(f) for f in msgspec.structs.fields(item)}
    if isinstance(item, InstanceSpec):
        yield f"tenants = {toml_value([item.tenant])}"
    for key in table.keys.values():
        if key.table or key.field not in defaults:
            continue
        value = getattr(item, key.field)
        if value is not None and (with_defaults or value != defaults[key.field]):
            filled_in = plain_braces and key.name not in {"name", "site"}
            yield f"{key.name} = {toml_value(_escaped(value) if filled_in else value)}"


def _default(field: msgspec.structs.FieldInfo) -> Any:  # noqa: ANN401 - whatever the field has
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _escaped(value: object) -> object:
    """`value` for a place where placeholders are filled in: its braces are plain ones."""
    if isinstance(value, str):
        return value.replace("{", "{{").replace("}", "}}")
    if isinstance(value, tuple):
        return [_escaped(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    return value
