"""Markdown (CommonMark with tables) from any text: what operators and nodes said is cleaned, escaped and fenced, so that it stays text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from anyconsole.model.table import clean

__all__ = ["fenced", "inline", "table"]

# An underscore within a word is no emphasis, and names are full of them.
_SPECIAL: Final = re.compile(r"[\\`*\[\]<>|&~#]|(?<![^\W_])_|_(?![^\W_])")


def inline(text: str) -> str:
    """Any text as plain words of a line."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(clean(text, len(text)).split()))


def fenced(text: str, language: str = "") -> Iterator[str]:
    """Any text as a code block: its fence is longer than every run of backticks in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield fence + language
    yield from (
        clean(line, len(line)) if not line.isprintable() else line
        for line in text.expandtabs(4).rstrip("\n").split("\n")
    )
    yield fence


def table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, escaped: bool = True, right: Collection[int] = ()
) -> Iterator[str]:
    """A table; `escaped` says that its cells are Markdown already, `right` which columns are figures."""
    yield f"| {' | '.join(titles)} |"
    yield "|" + "".join(" ---: |" if i in right else " --- |" for i in range(len(titles)))
    for row in rows:
        yield f"| {' | '.join(row if escaped else map(inline, row))} |"
