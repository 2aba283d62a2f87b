"""How a table's lines are drawn: cells into strips, scrolled sideways behind the first column, and kept until their row changes.

Rows are immutable, so that a kept line is known to be fresh by the identity of its row, on the screen or off it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from anyconsole.tui.plain_text import fit
from anyconsole.tui.widgets.cells import GAP, GUTTER, Column, ColumnWidths, Key, Row, full_width, next_shift, spans

__all__ = ["LinePainter", "Sort"]

Sort = tuple[str, bool]
"""Id of the sorted column, and whether it is reversed."""

_CACHED_ROWS = 1000


class _Glyphs(NamedTuple):
    bar: str
    mark: str
    ascending: str
    descending: str
    more_left: str
    more_right: str
    ellipsis: str


_PRETTY = _Glyphs("▌", "◆", "▲", "▼", "◂", "▸", "…")
_ASCII = _Glyphs(">", "*", "^", "v", "<", ">", "~")


class _Painted(NamedTuple):
    """The lines of one row as they were painted last, by (is cursor, is marked)."""

    row: Row
    strips: dict[tuple[bool, bool], Strip]


class LinePainter:
    """Paints the heading and the rows of one table. `style` gives the style of a level, on the cursor's line or off it."""

    def __init__(self, columns: Sequence[Column], style: Callable[[str, bool], Style], *, ascii_only: bool) -> None:
        self.columns = tuple(columns)
        self._style = style
        self._glyphs = _ASCII if ascii_only else _PRETTY
        self._measured = ColumnWidths(self.columns)
        self._screen = 0
        self._widths = self._measured.fitted(0)
        self._shift = 0
        self._painted: dict[Key, _Painted] = {}

    @property
    def screen(self) -> int:
        """Cells of a line."""
        return self._screen

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Paint other columns from now on."""
        self.columns = tuple(columns)
        self._measured = ColumnWidths(self.columns)
        self._shift = 0
        self.resize(self._screen)

    def resize(self, screen: int) -> None:
        """Lines are so many cells wide now."""
        self._screen = screen
        self._widths = self._measured.fitted(screen)
        if full_width(self._widths) <= screen:
            self._shift = 0
        self.forget()

    def measure(self, rows: Iterable[Row]) -> bool:
        """Make columns wide enough for these rows; True if all lines look different now."""
        if not self._measured.measure(rows):
            return False
        self.resize(self._screen)
        return True

    def scroll(self, direction: int) -> bool:
        """Scroll one column to the left (-1) or to the right (1); False if there is no more."""
        before, self._shift = self._shift, next_shift(self._widths, self._screen, self._shift, direction)
        self.forget()
        return before != self._shift

    def forget(self) -> None:
        """All lines have to be painted anew."""
        self._painted.clear()

    def keep(self, keys: Iterable[Key]) -> None:
        """Forget the lines of all other rows."""
        for gone in self._painted.keys() - set(keys):
            del self._painted[gone]

    def column_at(self, x: int) -> Column | None:
        """The column at a place on the line."""
        found = zip(self.columns, spans(self._widths, self._screen, self._shift), strict=True)
        return next((column for column, (left, right) in found if left <= x < right + GAP), None)

    def differences(self, key: Key, row: Row) -> list[tuple[int, int]]:
        """From where to where the line of a row differs from what was painted last."""
        painted = self._painted.get(key)
        if painted is None:
            return [(0, self._screen)]
        if painted.row is row:
            return []
        places = zip(spans(self._widths, self._screen, self._shift), painted.row, row, strict=True)
        return [
            place
            for place, old, new in places
            if place[0] < place[1] and (old.text != new.text or old.level != new.level)
        ]

    def line(self, key: Key, row: Row, *, is_cursor: bool, is_marked: bool) -> Strip:
        """The line of a row."""
        painted = self._painted.get(key)
        if painted is None or painted.row is not row:
            if len(self._painted) >= _CACHED_ROWS:
                self._painted.clear()
            painted = self._painted[key] = _Painted(row, {})
        strip = painted.strips.get((is_cursor, is_marked))
        if strip is None:
            strip = painted.strips[is_cursor, is_marked] = self._row(row, is_cursor, is_marked)
        return strip

    def heading(self, sort: Sort | None) -> Strip:
        """The titles, the sorted one with an arrow, and signs where columns are out of sight."""
        style = self._style("header", False)
        pieces = [(" " * GUTTER, style)]
        for column, width in zip(self.columns, self._widths, strict=True):
            arrow = ""
            if sort is not None and sort[0] == column.id:
                arrow = self._glyphs.descending if sort[1] else self._glyphs.ascending
            title = fit(column.title, min(width - len(arrow), len(column.title)), ellipsis=self._glyphs.ellipsis)
            pieces.append((fit(title + arrow, width, right=column.right) + " " * GAP, style))
        strip = self._joined(pieces, style)
        if self._shift:
            frozen = GUTTER + self._widths[0]
            strip = Strip.join(
                [strip.crop(0, frozen), Strip([Segment(self._glyphs.more_left, style)], 1), strip.crop(frozen + 1)]
            )
        if full_width(self._widths) - self._shift > self._screen:
            strip = Strip.join([strip.crop(0, self._screen - 1), Strip([Segment(self._glyphs.more_right, style)], 1)])
        return strip

    def _row(self, row: Row, is_cursor: bool, is_marked: bool) -> Strip:
        gutter = (self._glyphs.bar if is_cursor else " ") + (self._glyphs.mark if is_marked else " ")
        pieces = [(gutter, self._style("mark", is_cursor))]
        plain = self._style("", is_cursor)
        for index, (column, width) in enumerate(zip(self.columns, self._widths, strict=True)):
            cell = row[index]
            level = "mark" if is_marked and index == 0 and not cell.level else cell.level
            text = fit(cell.text, width, right=column.right, ellipsis=self._glyphs.ellipsis)
            pieces += ((text, self._style(level, is_cursor)), (" " * GAP, plain))
        return self._joined(pieces, plain)

    def _joined(self, pieces: Iterable[tuple[str, Style]], blank: Style) -> Strip:
        """A strip as wide as the screen; neighbours of one style become one segment."""
        segments: list[Segment] = []
        for text, style in pieces:
            if segments and segments[-1].style is style:
                segments[-1] = Segment(segments[-1].text + text, style)
            else:
                segments.append(Segment(text, style))
        strip = Strip(segments)
        if self._shift:
            frozen = GUTTER + self._widths[0] + GAP
            strip = Strip.join([strip.crop(0, frozen), strip.crop(frozen + self._shift)])
        return strip.adjust_cell_length(self._screen, blank)
