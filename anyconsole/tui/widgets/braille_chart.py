"""A live chart: title with the current value, y axis in SI units, an optional limit, time to the right. Paints changed lines only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from anyconsole.tui.plain_text import fit, plain
from anyconsole.tui.widgets.plot import LIMIT, Glyphs, Plot, Series, draw, nice, si, sparkline

__all__ = ["BrailleChart", "Glyphs", "Series", "si", "sparkline"]

_AXIS = 6  # cells of the y axis: five for a number, one for the line
_SMALLEST = (_AXIS + 4, 2)
_WITH_TIME = 6  # from this height on the bottom line tells the time

_Line = tuple[tuple[str, str], ...]  # (text, component class) pieces


class BrailleChart(Widget):
    """One or several curves over time; up to four have a colour of their own."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--title", "chart--axis", "chart--limit", "chart--over", "chart--1", "chart--2", "chart--3", "chart--4",
    }  # fmt: skip

    DEFAULT_CSS = """
    BrailleChart {
        background: $surface; color: $foreground; height: 1fr; width: 1fr;
        & > .chart--title { text-style: bold; }
        & > .chart--axis { color: $stale; }
        & > .chart--limit { color: $warning; }
        & > .chart--over { color: $error; }
        & > .chart--1 { color: $primary; }
        & > .chart--2 { color: $success; }
        & > .chart--3 { color: $drained; }
        & > .chart--4 { color: $foreground; }
    }
    """

    def __init__(
        self,
        title: str,
        *,
        unit: str = "",
        limit: float | None = None,
        seconds: float = 0.0,
        glyphs: Glyphs = Glyphs.BRAILLE,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - Textual's own name for it
        classes: str | None = None,
    ) -> None:
        """Make an empty chart.

        Args:
            title: What is shown; plain text.
            unit: Written after the current value.
            limit: A value not to be exceeded: a dotted line, and another colour above it.
            seconds: Time between two values, for the time axis; 0 draws none.
            glyphs: What the terminal's font can show.
            name: Textual's name of the widget.
            id: Textual's id of the widget.
            classes: Textual's CSS classes of the widget.
        """
        super().__init__(name=name, id=id, classes=classes)
        self.title = title
        self.unit = unit
        self.limit = limit
        self.seconds = seconds
        self.glyphs = glyphs
        self._series: tuple[Series, ...] = ()
        self._top = 0.0
        self._lines: list[_Line] = []
        self._styles: dict[str, Style] = {}

    def show(self, *series: Series) -> None:
        """Draw these curves; later ones lie over earlier ones. Only lines that differ are painted."""
        self._series = series
        self._redraw()

    @property
    def dots(self) -> int:
        """How many values fit side by side."""
        return max(0, self.size.width - _AXIS) * (2 if self.glyphs is Glyphs.BRAILLE else 1)

    def on_resize(self) -> None:
        """Everything has another size."""
        self._lines = []
        self._redraw()

    def notify_style_update(self) -> None:
        """Theme changed."""
        super().notify_style_update()
        self._styles.clear()

    def render_line(self, y: int) -> Strip:
        """One line: title, a row of the plot with its label, or the time axis."""
        width = self.size.width
        pieces = self._lines[y] if y < len(self._lines) else ()
        return Strip([Segment(text, self._style(name)) for text, name in pieces]).adjust_cell_length(
            width, self._style("")
        )

    def _redraw(self) -> None:
        before, self._lines = self._lines, self._composed(self.size.width, self.size.height)
        if len(before) != len(self._lines):
            self.refresh()
        elif changed := [Region(0, y, self.size.width, 1) for y, line in enumerate(self._lines) if line != before[y]]:
            self.refresh(*changed)

    def _composed(self, width: int, height: int) -> list[_Line]:
        if width < _SMALLEST[0] or height < _SMALLEST[1]:
            return [self._title(width)] if height and width else []
        timed = self.seconds > 0 and height >= _WITH_TIME
        rows = height - 1 - timed
        self._top = self._next_top()
        plot = draw(self._series, width - _AXIS, rows, self._top, self.glyphs, self.limit)
        labels = {0: si(self._top), rows - 1: "0"} | (
            {(rows - 1) // 2: si(self._top / 2)} if rows >= 5 and rows % 2 else {}
        )
        lines = [self._title(width)]
        rule = "|" if self.glyphs is Glyphs.ASCII else "│"
        for index, (text, owners) in enumerate(plot.rows):
            lines.append(((labels.get(index, "").rjust(_AXIS - 1) + rule, "axis"), *_runs(text, owners)))
        if timed:
            lines.append(self._time(width, plot))
        return lines

    def _title(self, width: int) -> _Line:
        values: list[tuple[str, str]] = []
        for number, series in enumerate(self._series, 1):
            now = next((v for v in series.values[-1:] if v is not None and math.isfinite(v)), None)
            value = "?" if now is None else f"{si(now)}{self.unit}"
            colour = "over" if now is not None and self.limit is not None and now > self.limit else str(min(number, 4))
            values.append((f"  {plain(series.name) + ' ' if series.name else ''}{value}", colour))
        title = plain(self.title)
        room = width - sum(cell_len(text) for text, _ in values)
        ellipsis = "~" if self.glyphs is Glyphs.ASCII else "…"
        return ((fit(title, min(cell_len(title), room), ellipsis=ellipsis), "title"), *values)

    def _time(self, width: int, plot: Plot) -> _Line:
        start = f"-{_duration(self.dots * plot.step * self.seconds)}"
        return ((" " * _AXIS + start + "now".rjust(width - _AXIS - len(start)), "axis"),)

    def _next_top(self) -> float:
        """The axis moves in steps, and down only when there is much room, so that it seldom repaints everything."""
        values = [v for series in self._series for v in series.values if v is not None and v < float("inf")]
        needed = nice(max(values, default=0.0))
        if self.limit is not None and needed < self.limit <= 3 * needed:
            needed = nice(self.limit)
        return self._top if needed <= self._top <= 2.1 * needed else needed

    def _style(self, name: str) -> Style:
        if name not in self._styles:
            self._styles[name] = self.get_component_rich_style(f"chart--{name}") if name else self.rich_style
        return self._styles[name]


def _runs(text: str, owners: Sequence[int]) -> _Line:
    """Neighbouring cells of one owner as one piece."""
    pieces: list[tuple[str, str]] = []
    for glyph, owner in zip(text, owners, strict=True):
        name = "limit" if owner == LIMIT else "over" if owner < 0 else str(min(owner, 4)) if owner else ""
        if pieces and pieces[-1][1] == name:
            pieces[-1] = (pieces[-1][0] + glyph, name)
        else:
            pieces.append((glyph, name))
    return tuple(pieces)


def _duration(seconds: float) -> str:
    """About how long, in one unit."""
    for factor, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.0f}{unit}"
    return f"{seconds:.0f}s"
