"""Templates: the YAML files of the folder `templates`, filled in and given back as objects. Strict, and too simple to be clever.

A template is plain YAML, parsed first and filled in then, so a value can't change its structure:

    $name                  in a string is a value; a string that is nothing else takes the value's own type, a list too
    - $each names: ...     in a list stands for one copy for each of these, in which `$item` (or `$item_key`) is the one
    $text: [...]           instead of a string: its parts, put together
    $$                     a dollar sign; $(NAME) is Kubernetes' own and stays

A name that isn't known is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias

from anyconsole.errors import AnyconsoleError

__all__ = ["Object", "RenderError", "fill", "load", "render", "template_names", "to_yaml", "yaml_of"]

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object."""

_FOLDER: Final = files("anyconsole.drivers.kube") / "templates"
_PLACEHOLDER: Final = re.compile(r"\$(?:(?P<name>[a-z][a-z_]*)|(?P<plain>\$)|(?P<kept>(?=\())|(?P<wrong>))")
_EACH: Final = "$each "
_TEXT: Final = "$text"


class RenderError(AnyconsoleError):
    """A template can't be filled in, or what a profile says isn't enough for it."""


def template_names() -> list[str]:
    """All templates."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))


def render(name: str, values: Mapping[str, Any]) -> list[Object]:
    """The objects of a template. Raises RenderError."""
    try:
        return [fill(document, values) for document in _loaded(name)]
    except RenderError as error:
        raise RenderError(f"template {name}.yaml: {error}") from error


def load(name: str) -> list[Object]:
    """The documents of a template as they are written."""
    import yaml  # noqa: PLC0415 - only who sets up a cluster pays for it

    return [found for found in yaml.safe_load_all((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")) if found]


@cache
def _loaded(name: str) -> tuple[Object, ...]:
    """The documents of a template, parsed once: `fill` never changes them."""
    return tuple(load(name))


def fill(template: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever YAML holds
    """A part of a template, filled in. Raises RenderError."""
    if isinstance(template, str):
        return _string(template, values)
    if isinstance(template, list):
        return _items(template, values)
    if not isinstance(template, dict):
        return template
    if _TEXT in template:
        return "".join(str(part) for part in _items(template[_TEXT], values))
    return {_string(key, values): fill(value, values) for key, value in template.items()}


def to_yaml(objects: Iterable[Object]) -> str:
    """Objects as a stream of YAML documents."""
    return "".join("---\n" + yaml_of(obj) for obj in objects)


def yaml_of(obj: Object) -> str:
    """One object as YAML; long text stays readable."""
    import yaml  # noqa: PLC0415 - as above

    class Dumper(yaml.SafeDumper):
        """Writes text of several lines as it is, and what is there twice, twice."""

        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - as it is called
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        # One that ends in empty lines would take those along that follow it in a script.
        style = "|" if "\n" in value.rstrip("\n") and not value.endswith("\n\n") else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return yaml.dump(obj, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


def _items(template: list[Any], values: Mapping[str, Any]) -> list[Any]:
    filled: list[Any] = []
    for part in template:
        each = next(iter(part), "") if isinstance(part, dict) and len(part) == 1 else ""
        if each.startswith(_EACH):
            members = _value(each.removeprefix(_EACH), values)
            filled += [fill(part[each], {**values, **_named(member)}) for member in members]
        else:
            filled.append(fill(part, values))
    return filled


def _named(member: object) -> dict[str, Any]:
    fields = member if isinstance(member, Mapping) else {}
    return {"item": member} | {f"item_{key}": value for key, value in fields.items()}


def _string(template: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    whole = _PLACEHOLDER.fullmatch(template)
    if whole and whole["name"]:
        return _value(whole["name"], values)

    def replacement(match: re.Match[str]) -> str:
        if match["name"]:
            value = _value(match["name"], values)
            if not isinstance(value, str | int):
                raise RenderError(f"${match['name']} is no text, in {template!r}")
            return str(value)
        if match["wrong"] is not None:
            raise RenderError(f"a dollar sign alone, in {template[:80]!r}")
        return "$"

    return _PLACEHOLDER.sub(replacement, template)


def _value(name: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if name not in values:
        raise RenderError(f"unknown placeholder ${name}")
    return values[name]
