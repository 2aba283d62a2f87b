"""The `/` filter: a substring or a regular expression over a row's words, `!` in front inverts it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = ["row_filter"]

_LONGEST = 200


def row_filter(text: str) -> Callable[[Iterable[str]], bool] | None:
    """A test of a row's cells for what the operator typed; None where it asks for nothing.

    All words must be found (in any cell, upper or lower case alike). What isn't a regular expression is taken literally.
    """
    text = text[:_LONGEST].strip()
    inverted = text.startswith("!")
    words = text.removeprefix("!").split()
    if not words:
        return None
    patterns = [_pattern(word) for word in words]

    def matches(cells: Iterable[str]) -> bool:
        line = " ".join(cells)
        return all(pattern.search(line) for pattern in patterns) is not inverted

    return matches


def _pattern(word: str) -> re.Pattern[str]:
    try:
        return re.compile(word, re.IGNORECASE)
    except re.error:
        return re.compile(re.escape(word), re.IGNORECASE)
