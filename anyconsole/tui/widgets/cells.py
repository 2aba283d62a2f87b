"""What a table is made of: cells, levels, columns, and the pure arithmetic of sorting them and of fitting them on a line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from rich.cells import cell_len

from anyconsole.tui.plain_text import plain

__all__ = [
    "GAP", "GUTTER", "Cell", "Column", "ColumnWidths", "Key", "Level", "Row", "SortValue",
    "full_width", "in_order", "next_shift", "sort_value", "spans",
]  # fmt: skip

Key: TypeAlias = Any
"""Identity of a row, anything hashable: cursor, marks and messages carry it, never a line number."""

GUTTER = 2
"""Cells at the left of each line: the cursor's bar and the mark."""

GAP = 1
"""Cells between two columns."""


class Level(StrEnum):
    """How a cell is painted. Colour only repeats what glyph and word of the cell already say."""

    PLAIN = ""
    OK = "ok"
    WARN = "warn"
    CRIT = "crit"
    DRAINED = "drained"
    STALE = "stale"
    DIM = "dim"
    ACCENT = "accent"


class Cell(NamedTuple):
    """One cell: plain text (never markup), its level, and the value it sorts by (a number or text; None: the text itself)."""

    text: str
    level: str = Level.PLAIN
    sort: float | str | None = None


Row: TypeAlias = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        id: What the column is called in code and in `sort_by`.
        title: Its heading.
        width: Cells; None measures the content and stays between `min_width` and `max_width`. The last column takes the rest.
        min_width: Least width of a measured column.
        max_width: Greatest width of a measured column.
        right: Align to the right (numbers).
        descending: The first click on the heading sorts the largest first.
    """

    id: str
    title: str
    width: int | None = None
    min_width: int = 3
    max_width: int = 40
    right: bool = False
    descending: bool = False


class ColumnWidths:
    """Widths of columns: given, or measured and only ever growing, so that columns don't wobble."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._widths = [c.width if c.width is not None else _clamp(cell_len(c.title) + 1, c) for c in columns]

    def measure(self, rows: Iterable[Row]) -> bool:
        """Widen measured columns to what these rows need; True if one grew."""
        limits = [(i, c.max_width) for i, c in enumerate(self._columns) if c.width is None]
        before = list(self._widths)
        for row in rows:
            for index, most in limits:
                text = row[index].text
                if len(text) * 2 > self._widths[index] < most:
                    width = len(text) if text.isascii() else cell_len(plain(text, most))
                    self._widths[index] = max(self._widths[index], min(width, most))
        return before != self._widths

    def fitted(self, screen: int) -> list[int]:
        """Widths on a screen of so many cells: the last column takes what is left."""
        rest = screen - GUTTER - sum(w + GAP for w in self._widths[:-1])
        return [*self._widths[:-1], max(self._widths[-1], rest)]


def spans(widths: Sequence[int], screen: int, shift: int) -> list[tuple[int, int]]:
    """Where each column is on a screen of so many cells scrolled sideways by `shift`: (left, right), empty if out of sight."""
    frozen = GUTTER + widths[0]
    found = [(GUTTER, min(frozen, screen))]
    left = frozen + GAP - shift
    for width in widths[1:]:
        a, b = max(left, frozen + GAP), min(left + width, screen)
        found.append((a, max(a, b)))
        left += width + GAP
    return found


def next_shift(widths: Sequence[int], screen: int, shift: int, direction: int) -> int:
    """How far to scroll sideways next: a column at a time, and within the last one if it alone is wider than the screen."""
    most = max(0, full_width(widths) - screen)
    starts = [0]
    for width in widths[1:-1]:
        starts.append(starts[-1] + width + GAP)
    if direction < 0:
        return max((s for s in starts if s < shift), default=0)
    if shift >= most:
        return shift
    return next((s for s in starts if s > shift), most)


def full_width(widths: Sequence[int]) -> int:
    """Cells that a line would need to show all columns."""
    return GUTTER + sum(widths) + GAP * (len(widths) - 1)


SortValue: TypeAlias = tuple[int, float, tuple[tuple[int, int, str], ...]]


def sort_value(cell: Cell) -> SortValue | None:
    """What a cell sorts by: numbers before texts, texts as people count (fra2 before fra10); None sorts last in both directions."""
    value = cell.text if cell.sort is None else cell.sort
    if isinstance(value, str):
        return (1, 0.0, _natural(value)) if value else None
    return None if value != value else (0, value, ())  # noqa: PLR0124 - NaN is not equal to itself and would spoil any order


def in_order(
    rows: Mapping[Key, Row],
    match: Callable[[Key, Row], bool] | None,
    order_by: Callable[[Key, Row], Any] | None,
    sort: tuple[int, bool] | None,
) -> list[Key]:
    """The keys of the rows that match, in order.

    Args:
        rows: All rows.
        match: Which are wanted; None wants all.
        order_by: The default order as a sort key; None is the mapping's own. It also decides between rows that sort alike.
        sort: Index of a column to sort by, and whether the greatest comes first.
    """
    order = list(rows) if match is None else [key for key, row in rows.items() if match(key, row)]
    if order_by is not None:
        order.sort(key=lambda key: order_by(key, rows[key]))
    if sort is None:
        return order
    index, reverse = sort
    values = {key: sort_value(rows[key][index]) for key in order}
    known = sorted(
        (key for key in order if values[key] is not None), key=lambda key: values[key] or (), reverse=reverse
    )
    return known + [key for key in order if values[key] is None]


@lru_cache(maxsize=16384)
def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"([0-9]{1,18})", text.casefold())
    return tuple((0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts) if part)


def _clamp(width: int, column: Column) -> int:
    return min(max(width, column.min_width), column.max_width)
