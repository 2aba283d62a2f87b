"""Numbers drawn with characters: plots on a grid of braille dots, blocks or ASCII, and sparklines. Pure text, no Textual.

The newest value is at the right edge. Where more values than dots are to be shown, each dot is the maximum of its bucket, so that a
spike of one second survives; a value that isn't known (None, NaN) leaves a gap and is never drawn as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = ["Glyphs", "Plot", "Series", "Value", "draw", "nice", "si", "sparkline"]

Value: TypeAlias = float | None


class Glyphs(StrEnum):
    """What the terminal's font can show."""

    BRAILLE = "braille"
    BLOCK = "block"
    ASCII = "ascii"


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Attributes:
        values: Oldest first, one for each step of time.
        name: Said in the title beside the current value, where there are several curves.
        filled: An area down to zero instead of a line.
        end: Running number of the newest value (its second, say): buckets then stay still while time passes.
    """

    values: Sequence[Value]
    name: str = ""
    filled: bool = False
    end: int = 0


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawn plot: rows from top to bottom, each a string of cells and the owner of each cell.

    Owners are 0 for empty, 1 and up for the series by number, `LIMIT` for the limit line, negative for a series above the limit.
    """

    rows: tuple[tuple[str, tuple[int, ...]], ...]
    step: int
    """Values per bucket."""


_NOTHING = 1e-12
"""Values up to this are shown as zero."""

LIMIT = 99
"""Owner of the cells of the limit line."""

_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))  # by column of the cell, then by dot from the bottom
_BLOCKS = " ▁▂▃▄▅▆▇█"
_RESOLUTION = {Glyphs.BRAILLE: (2, 4), Glyphs.BLOCK: (1, 8), Glyphs.ASCII: (1, 3)}
_FILLED = {Glyphs.BLOCK: _BLOCKS, Glyphs.ASCII: " .:#"}
_LINES = {Glyphs.BLOCK: "▁▁▁──▔▔▔", Glyphs.ASCII: "_-'"}
_UPRIGHT = {Glyphs.BLOCK: "│", Glyphs.ASCII: "|"}
_LIMIT = {Glyphs.BLOCK: "╌", Glyphs.ASCII: "-"}
_SPARKS = {Glyphs.BLOCK: "▁▂▃▄▅▆▇█", Glyphs.ASCII: "_.-=+*#@"}


def si(value: float) -> str:
    """A number in at most five characters: 950, 1.23k, 48k, 1.5M."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 0.9995:
            return f"{_three(value / factor)}{prefix}"
    return _three(value)


def nice(value: float) -> float:
    """The least of 1, 1.5, 2, 3, 5, 7.5 times a power of ten that is not below `value`; 1 for nothing."""
    if not _NOTHING < value < math.inf:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((m * power for m in (1, 1.5, 2, 3, 5, 7.5) if m * power >= value * (1 - 1e-9)), 10 * power)


def sparkline(values: Sequence[Value], width: int, glyphs: Glyphs = Glyphs.BLOCK, *, top: float | None = None) -> str:
    """Values as one line of exactly `width` cells.

    Args:
        values: Oldest first.
        width: Cells.
        glyphs: Braille shows two values a cell, the others one.
        top: Value of full height; None takes the greatest value.
    """
    dots = width * (2 if glyphs is Glyphs.BRAILLE else 1)
    points = _bucketed(values, dots, 0)[0]
    greatest = max((p for p in points if p is not None), default=0.0) if top is None else top
    top = greatest if greatest > _NOTHING else 1.0
    if glyphs is Glyphs.BRAILLE:
        heights = [0 if p is None else 1 + _step(p, top, 3) for p in points]
        pairs = zip(heights[::2], heights[1::2], strict=True)
        return "".join([_braille(sum(_DOTS[0][:left]) + sum(_DOTS[1][:right])) for left, right in pairs])
    steps = _SPARKS[glyphs]
    return "".join([" " if p is None else steps[_step(p, top, 7)] for p in points])


def draw(
    series: Sequence[Series], width: int, height: int, top: float, glyphs: Glyphs, limit: float | None = None
) -> Plot:
    """Draw curves on `width` x `height` cells; `top` is the value of the upper edge. Later series are drawn over earlier ones."""
    across, up = _RESOLUTION[glyphs]
    canvas = _Canvas(width, height, glyphs)
    step = 1
    for number, curve in enumerate(series, 1):
        points, step = _bucketed(curve.values, width * across, curve.end)
        before: int | None = None
        for x, value in enumerate(points):
            if value is None:
                before = None
                continue
            y = _step(value, top, height * up - 1)
            if curve.filled:
                canvas.column(x, 0, y, number)
            else:
                canvas.stroke(x, y if before is None else before, y, number)
            before = y
    limit_row = height if limit is None or limit > top else _step(limit, top, height * up - 1) // up
    if limit is not None and limit_row < height:
        canvas.limit(_step(limit, top, height * up - 1))
    return Plot(canvas.rows(limit_row), step)


class _Canvas:
    """A grid of cells, row 0 at the bottom; each cell has the pattern of one glyph and belongs to whoever drew in it last."""

    def __init__(self, width: int, height: int, glyphs: Glyphs) -> None:
        self.width, self.height, self.glyphs = width, height, glyphs
        self.across, self.up = _RESOLUTION[glyphs]
        self.cells = [[" "] * width for _ in range(height)]
        self.dots = [[0] * width for _ in range(height)]
        self.owners = [[0] * width for _ in range(height)]

    def column(self, x: int, low: int, high: int, owner: int) -> None:
        """Fill one column of dots from `low` to `high`."""
        cell = x // self.across
        for row in range(low // self.up, high // self.up + 1):
            first = max(low - row * self.up, 0)
            last = min(high - row * self.up, self.up - 1)
            self.owners[row][cell] = owner
            if self.glyphs is Glyphs.BRAILLE:
                for dot in _DOTS[x % 2][first : last + 1]:
                    self.dots[row][cell] |= dot
            else:
                self.cells[row][cell] = _FILLED[self.glyphs][last + 1]

    def stroke(self, x: int, start: int, end: int, owner: int) -> None:
        """A piece of a line: the dot at `end`, joined to `start` of the column before."""
        if self.glyphs is Glyphs.BRAILLE:
            joint = end if start == end else start + (1 if end > start else -1)
            self.column(x, min(joint, end), max(joint, end), owner)
            return
        for row in range(min(start, end) // self.up + 1, max(start, end) // self.up):
            self._put(row, x, _UPRIGHT[self.glyphs], owner)
        self._put(end // self.up, x, _LINES[self.glyphs][end % self.up], owner)

    def limit(self, y: int) -> None:
        """A dotted line across all cells that are still empty."""
        row = y // self.up
        for cell in range(self.width):
            if not self.owners[row][cell]:
                self.owners[row][cell] = LIMIT
                if cell % 2:
                    continue
                if self.glyphs is Glyphs.BRAILLE:
                    self.dots[row][cell] = _DOTS[0][y % self.up]
                else:
                    self.cells[row][cell] = _LIMIT[self.glyphs]

    def rows(self, limit_row: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The finished rows from top to bottom; what series drew at `limit_row` or above has a negative owner."""
        found = []
        for row in range(self.height - 1, -1, -1):
            text = "".join([_braille(d) for d in self.dots[row]] if self.glyphs is Glyphs.BRAILLE else self.cells[row])
            owners = self.owners[row]
            found.append((text, tuple(-o if row >= limit_row and 0 < o < LIMIT else o for o in owners)))
        return tuple(found)

    def _put(self, row: int, cell: int, glyph: str, owner: int) -> None:
        self.cells[row][cell] = glyph
        self.owners[row][cell] = owner


def _bucketed(values: Sequence[Value], dots: int, end: int) -> tuple[list[Value], int]:
    """One value for each dot, the newest last, and how many values a dot stands for."""
    known = [None if v is None or not math.isfinite(v) else v for v in values]
    if not dots:
        return [], 1
    step = max(1, math.ceil(len(known) / dots))
    if step > 1:
        begun = (end % step) + 1 if end else step  # values in the newest bucket
        edges = range(len(known) - begun, -step, -step)
        buckets = [known[len(known) - begun :], *([known[max(0, edge - step) : edge] for edge in edges if edge > 0])]
        points = [max((v for v in bucket if v is not None), default=None) for bucket in buckets[:dots]][::-1]
    else:
        points = list(known)
    return [None] * (dots - len(points)) + points, step


def _step(value: float, top: float, last: int) -> int:
    """Which of the steps 0 to `last` is nearest to a value, where `top` is the last."""
    return int(min(1.0, max(0.0, value / top)) * last + 0.5)


def _braille(dots: int) -> str:
    return chr(0x2800 | dots) if dots else " "


def _three(value: float) -> str:
    """Three significant digits, no exponent, no needless zeros."""
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
