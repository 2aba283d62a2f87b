"""Placeholders in the strings of a profile: `{name}` is filled in, `{number:02}` pads with zeros, `{{` and `}}` are plain braces.

Which names there are is known by those who read nodes, name servers and clusters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from anyconsole.profile.report import Report, element, inside, nearest

__all__ = ["fill", "fill_text"]

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

Raw = Mapping[str, object]


def fill(raw: object, values: Raw, where: str, report: Report) -> Any:  # noqa: ANN401 - the type of `raw`
    """`raw` with the placeholders in all its strings filled in."""
    if isinstance(raw, str):
        return fill_text(raw, values, where, report)
    if isinstance(raw, dict):
        return {key: fill(value, values, inside(where, key), report) for key, value in raw.items()}
    if isinstance(raw, list):
        return [fill(item, values, at, report) for at, item in _items(raw, where)]
    return raw


def _items(raw: list[Any], where: str) -> Iterator[tuple[str, Any]]:
    for index, item in enumerate(raw):
        yield element(where, index, item.get("name") if isinstance(item, dict) else None), item


def fill_text(text: str, values: Raw, where: str, report: Report) -> str:
    """`text` with its placeholders filled in. One that isn't known is reported and stays."""

    def replacement(match: re.Match[str]) -> str:
        found = match.group()
        if found in {"{{", "}}"}:
            return found[0]
        name, _, width = (match.group(1) or "").partition(":")
        if match.group(1) is None:
            report.add(where, "has a single brace: write {{ or }} for a plain one", text)
        elif name not in values:
            report.add(where, f'unknown placeholder "{{{name}}}", {nearest(name, values)}', text)
        elif width and not (isinstance(values[name], int) and re.fullmatch(r"0?[1-9]", width)):
            report.add(where, f'unknown format "{found}": only numbers have one, like {{number:02}}', text)
        else:
            return f"{values[name]:{width}}"
        return found

    return _PLACEHOLDER.sub(replacement, text) if "{" in text or "}" in text else text
