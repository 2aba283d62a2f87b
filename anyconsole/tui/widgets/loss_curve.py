"""The curve of a load test as it grows: rate to the right, loss upwards (logarithmic, for both 0.1 % and 50 % matter), one sign a trial."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from anyconsole.tui.plain_text import fit
from anyconsole.tui.widgets.braille_chart import BrailleChart
from anyconsole.tui.widgets.plot import Glyphs

__all__ = ["LossCurve", "Mark", "row_of"]

_AXIS = 6
_LEAST = 5e-4
"""Losses below this share are drawn on the lowest line, which is labelled 0."""

_TOPS = (0.03, 0.1, 0.3, 1.0)

_MARGIN = 0.02
"""Room beside the outermost marks, as a share of the rates' span."""


class Mark(NamedTuple):
    """A trial: its rate, its loss (a share), its sign (one cell), and how that is painted (a class of `BrailleChart`)."""

    rate: float
    loss: float
    sign: str
    style: str
    joins: bool = True
    """Part of the line through the means."""


def row_of(loss: float, rows: int, top: float = 1.0) -> int:
    """The row of a loss, 0 at the bottom, of so many rows; `top` is the loss of the uppermost."""
    if loss < _LEAST or rows < 2:
        return 0
    return 1 + int(math.log(min(loss, top) / _LEAST) / math.log(top / _LEAST) * (rows - 2) + 0.5)


class LossCurve(BrailleChart):
    """Marks on a grid of cells, joined by a dotted line through the mean of each rate, with the line of the goal."""

    def __init__(self, title: str, *, glyphs: Glyphs) -> None:
        super().__init__(title, glyphs=glyphs)
        self._marks: tuple[Mark, ...] = ()
        self._goal = 0.0

    def show_marks(self, marks: Sequence[Mark], goal: float) -> None:
        """Draw these trials, in order; later ones lie over earlier ones."""
        self._marks, self._goal = tuple(marks), goal
        self._redraw()

    def _composed(self, width: int, height: int) -> list[tuple[tuple[str, str], ...]]:
        ascii_only = self.glyphs is Glyphs.ASCII
        title = ((fit(self.title, width, ellipsis="~" if ascii_only else "…"), "title"),)
        across, rows = width - _AXIS, height - 2
        if across < 4 or rows < 3:
            return [title] if height and width else []
        cells = [[(" ", "")] * across for _ in range(rows)]
        top = self._greatest()
        goal = row_of(self._goal, rows, top)
        cells[goal] = [("-" if ascii_only else "╌", "limit")] * across
        low, high = self._span()
        if self._marks:
            self._join(cells, top, "." if ascii_only else "·")
            for mark in self._marks:
                cells[row_of(mark.loss, rows, top)][_column(mark.rate, low, high, across)] = (mark.sign, mark.style)
        labels = {row_of(share, rows, top): f"{share:.0%}" for share in (0.1, top) if share <= top}
        labels |= {0: "0", goal: f"{self._goal * 100:.3g}%"}
        rule = "|" if ascii_only else "│"
        plot = [
            ((labels.get(row, "").rjust(_AXIS - 1) + rule, "axis"), *_merged(cells[row]))
            for row in range(rows - 1, -1, -1)
        ]
        return [title, *plot, ((self._rates(low, high, across), "axis"),)]

    def _span(self) -> tuple[float, float]:
        rates = [mark.rate for mark in self._marks]
        if not rates:
            return 0.0, 1.0
        low, high = min(rates), max(rates)
        margin = max((high - low) * _MARGIN, high * 1e-3, 1e-9)
        return max(0.0, low - margin), high + margin

    def _greatest(self) -> float:
        """The loss at the upper edge: the least of a few that shows everything, and leaves room above the goal."""
        needed = max([2 * self._goal, *(1.05 * mark.loss for mark in self._marks)])
        return next((top for top in _TOPS if top >= needed), 1.0)

    def _join(self, cells: list[list[tuple[str, str]]], top: float, dot: str) -> None:
        low, high = self._span()
        by_rate: dict[float, list[float]] = {}
        for mark in self._marks:
            if mark.joins:
                by_rate.setdefault(mark.rate, []).append(mark.loss)
        means = [(rate, sum(losses) / len(losses)) for rate, losses in sorted(by_rate.items())]
        across = len(cells[0])
        for (rate, loss), (next_rate, next_loss) in itertools.pairwise(means):
            first, last = _column(rate, low, high, across), _column(next_rate, low, high, across)
            for column in range(first, last + 1):
                share = (column - first) / max(1, last - first)
                cells[row_of(loss + (next_loss - loss) * share, len(cells), top)][column] = (dot, "1")

    def _rates(self, low: float, high: float, across: int) -> str:
        if not self._marks:
            return ""
        left, right = (f"{value:,.0f}".replace(",", " ") for value in (low, high))
        line = left + f"{right} q/s".rjust(across - len(left))
        return " " * _AXIS + line[:across]


def _column(rate: float, low: float, high: float, across: int) -> int:
    return min(across - 1, max(0, int((rate - low) / (high - low) * (across - 1) + 0.5)))


def _merged(cells: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbouring cells that are painted alike as one piece."""
    pieces: list[tuple[str, str]] = []
    for text, style in cells:
        if pieces and pieces[-1][1] == style:
            pieces[-1] = (pieces[-1][0] + text, style)
        else:
            pieces.append((text, style))
    return pieces
