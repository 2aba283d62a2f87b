"""A table for live data: it paints the visible rows straight from the caller's mapping and repaints only cells that changed.

It knows keys, cells and levels, and nothing of what they mean. Rows are immutable tuples: a row changes by being replaced, so a
painted line is known to be fresh by identity. The app must define the `$drained` and `$stale` variables (`theme.VARIABLE_DEFAULTS`).

    table = LineTable([Column("node", "NODE"), Column("qps", "QPS", right=True, descending=True)])
    table.show_rows({"fra1": (Cell("fra1", Level.OK), Cell("1.2k", sort=1200.0))})
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from anyconsole.tui.plain_text import fit, plain
from anyconsole.tui.widgets.cells import GUTTER, Cell, Column, Key, Level, Row, in_order
from anyconsole.tui.widgets.line_painter import LinePainter, Sort

__all__ = ["Cell", "Column", "Key", "Level", "LineTable", "Row"]


_MEASURED_ROWS = 500


class LineTable(ScrollView, can_focus=True):
    """Rows of cells with a cursor, marks, sorting and a frozen first column."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line-table--header", "line-table--cursor", "line-table--mark", "line-table--empty",
        *(f"line-table--{level}" for level in Level if level),
    }  # fmt: skip

    DEFAULT_CSS = """
    LineTable {
        background: $surface; color: $foreground; height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1;
        & > .line-table--header { background: $panel; color: $foreground; text-style: bold; }
        & > .line-table--cursor {
            background: $block-cursor-blurred-background; color: $block-cursor-blurred-foreground;
            text-style: $block-cursor-blurred-text-style;
        }
        &:focus > .line-table--cursor {
            background: $block-cursor-background; color: $block-cursor-foreground; text-style: $block-cursor-text-style;
        }
        & > .line-table--mark { color: $accent; text-style: bold; }
        & > .line-table--empty { color: $stale; }
        & > .line-table--ok { color: $success; }
        & > .line-table--warn { color: $warning; }
        & > .line-table--crit { color: $error; text-style: bold; }
        & > .line-table--drained { color: $drained; }
        & > .line-table--stale { color: $stale; text-style: $stale-style; }
        & > .line-table--dim { color: $stale; text-style: $stale-style; }
        & > .line-table--accent { color: $accent 70%; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move('up')", "Row up", show=False),
        Binding("down,j", "move('down')", "Row down", show=False),
        Binding("pageup", "move('page_up')", "Page up", show=False),
        Binding("pagedown", "move('page_down')", "Page down", show=False),
        Binding("ctrl+u", "move('half_up')", "Half a page up", show=False),
        Binding("ctrl+d", "move('half_down')", "Half a page down", show=False),
        Binding("home,g", "move('home')", "First row", show=False),
        Binding("end,G", "move('end')", "Last row", show=False),
        Binding("left", "sideways(-1)", "Scroll left", show=False),
        Binding("right", "sideways(1)", "Scroll right", show=False),
        Binding("enter", "select", "Open", show=False),
        Binding("space", "mark", "Mark", show=False),
        Binding("v", "range", "Mark a range", show=False),
        Binding("less_than_sign", "sort_column(-1)", "Sort by the column to the left", show=False),
        Binding("greater_than_sign", "sort_column(1)", "Sort by the column to the right", show=False),
        Binding("I", "invert_sort", "Invert the sort order", show=False),
    ]

    class _About(Message):
        """A message about a table; `control` makes `@on(..., "#id")` work."""

        def __init__(self, table: LineTable) -> None:
            self.table = table
            super().__init__()

        @property
        def control(self) -> LineTable:
            """The table this is about."""
            return self.table

    class CursorMoved(_About):
        """Another row is under the cursor; `key` is None when the table became empty."""

        def __init__(self, table: LineTable, key: Key | None) -> None:
            self.key = key
            super().__init__(table)

    class Selected(_About):
        """Enter or a double click on a row."""

        def __init__(self, table: LineTable, key: Key) -> None:
            self.key = key
            super().__init__(table)

    class MarksChanged(_About):
        """Rows were marked or unmarked; `marks` are all that are marked now, also those a filter hides."""

        def __init__(self, table: LineTable, marks: frozenset[Key]) -> None:
            self.marks = marks
            super().__init__(table)

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: str = "nothing here yet",
        ascii_only: bool = False,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - Textual's own name for it
        classes: str | None = None,
    ) -> None:
        """Make an empty table.

        Args:
            columns: At least one; the first stays in place when the table is scrolled sideways.
            empty: What is said when there are no rows.
            ascii_only: Draw cursor, marks and sort order in ASCII.
            name: Textual's name of the widget.
            id: Textual's id of the widget.
            classes: Textual's CSS classes of the widget.
        """
        super().__init__(name=name, id=id, classes=classes)
        self._empty = empty
        self.resort_every = 3.0
        """Seconds between two re-sorts by `show_rows` when only values changed."""
        self.hold_after_key = 2.0
        """Seconds after a key press in which `show_rows` does not re-sort: rows must not jump under the operator's hand."""
        self._painter = LinePainter(columns, self._style, ascii_only=ascii_only)
        self._rows: Mapping[Key, Row] = {}
        self._order: list[Key] = []
        self._positions: dict[Key, int] = {}
        self._order_by: Callable[[Key, Row], Any] | None = None
        self._match: Callable[[Key, Row], bool] | None = None
        self._match_text = ""
        self._sort: Sort | None = None
        self._cursor = 0
        self._told_cursor: Key | None = None
        self._at_home = True
        self._marks: set[Key] = set()
        self._anchor: Key | None = None
        self._marks_before_range: frozenset[Key] = frozenset()
        self._styles: dict[tuple[str, bool], Style] = {}
        self._sorted_at = 0.0
        self._is_unsorted = False
        self._moved_at = 0.0

    # What the table shows

    @property
    def columns(self) -> Sequence[Column]:
        """The columns from left to right."""
        return self._painter.columns

    @property
    def rows(self) -> Mapping[Key, Row]:
        """All rows, also those a filter hides."""
        return self._rows

    @property
    def order(self) -> Sequence[Key]:
        """The keys that are shown, from top to bottom."""
        return self._order

    @property
    def empty(self) -> str:
        """What is said when there are no rows."""
        return self._empty

    @empty.setter
    def empty(self, text: str) -> None:
        if text != self._empty:
            self._empty = text
            if not self._order:
                self.refresh()

    @property
    def cursor_key(self) -> Key | None:
        """Key of the row under the cursor, None if there are no rows."""
        return self._order[self._cursor] if self._cursor < len(self._order) else None

    @property
    def marks(self) -> frozenset[Key]:
        """Keys of the marked rows, also of those a filter hides."""
        return frozenset(self._marks)

    @property
    def hidden_marks(self) -> int:
        """How many marked rows the filter hides."""
        return sum(key not in self._positions for key in self._marks)

    @property
    def targets(self) -> tuple[Key, ...]:
        """What an action is about: the marked rows in their order on screen (hidden ones last), else the row under the cursor."""
        if self._marks:
            last = len(self._order)
            return tuple(sorted(self._marks, key=lambda key: self._positions.get(key, last)))
        return () if self.cursor_key is None else (self.cursor_key,)

    @property
    def sort(self) -> Sort | None:
        """Id of the sorted column and whether it is reversed; None is the caller's own order."""
        return self._sort

    # Data in

    def set_rows(self, rows: Mapping[Key, Row], order_by: Callable[[Key, Row], Any] | None = None) -> None:
        """Adopt a mapping as the row store (shared, not copied) and show it.

        Args:
            rows: Rows by identity. Replace a row's tuple to change it, then call `changed` with its key.
            order_by: The default order, as a sort key of (key, row). None is the mapping's own order.
        """
        self._order_by = order_by
        self._rows = rows
        self.rebuild()

    def show_rows(self, rows: Mapping[Key, Row], order_by: Callable[[Key, Row], Any] | None = None) -> None:
        """Replace the store and do as little as possible: repaint changed cells, re-sort now and then, rebuild if rows came or went."""
        before, self._rows, self._order_by = self._rows, rows, order_by or self._order_by
        if rows.keys() != before.keys():
            self.rebuild()
            return
        changed = {key for key, row in rows.items() if before[key] is not row and before[key] != row}
        self._is_unsorted |= bool(changed)
        now = time.monotonic()
        if (
            self._is_unsorted
            and now - self._sorted_at >= self.resort_every
            and now - self._moved_at >= self.hold_after_key
        ):
            self.rebuild()
        elif changed:
            self.changed(changed)

    def changed(self, keys: Collection[Key]) -> None:
        """Repaint the cells that differ from what is on screen, in the visible rows among `keys`."""
        keys = keys if isinstance(keys, AbstractSet) else set(keys)
        top = self.scroll_offset.y
        visible = [(line, key) for line, key in enumerate(self._order[top : top + self._page], 1) if key in keys]
        rows = self._rows
        if self._painter.measure(rows[key] for _, key in visible if key in rows):
            self.refresh()
            return
        places = [
            (line, place) for line, key in visible if key in rows for place in self._painter.differences(key, rows[key])
        ]
        if places:
            self.refresh(*(Region(left, line, right - left, 1) for line, (left, right) in places))

    def rebuild(self) -> None:
        """Filter and sort anew. The cursor stays on its key, and its key on its screen line; marks of vanished rows are dropped."""
        self._sorted_at, self._is_unsorted = time.monotonic(), False
        key, top = self.cursor_key, self.scroll_offset.y
        ids = [c.id for c in self.columns]
        order = in_order(
            self._rows, self._match, self._order_by, self._sort and (ids.index(self._sort[0]), self._sort[1])
        )
        if self._marks - self._rows.keys():
            self._marks &= self._rows.keys()
            self._tell_marks()
        self._painter.keep(self._rows)
        if order != self._order:
            self._order = order
            self._positions = {k: i for i, k in enumerate(order)}
            self.virtual_size = Size(0, len(order) + 1)
            self._place_cursor(key, top)
            self.refresh()
        if not order or self._painter.measure(self._rows[k] for k in order[:_MEASURED_ROWS]):
            self.refresh()
        else:
            self.changed(self._rows.keys())
        self._tell_cursor()

    def set_filter(self, match: Callable[[Key, Row], bool] | None, text: str = "nothing matches") -> None:
        """Show only rows that match.

        Args:
            match: Called with key and row; None shows all.
            text: What is said when nothing matches.
        """
        self._match, self._match_text = match, plain(text)
        self.rebuild()

    def sort_by(self, column: str | None, *, reverse: bool = False) -> None:
        """Sort by a column's id, or by the caller's own order (None). Raises KeyError for an unknown column."""
        if column is not None and column not in {c.id for c in self.columns}:
            raise KeyError(column)
        self._sort = None if column is None else (column, reverse)
        self.rebuild()
        self.refresh(Region(0, 0, self.size.width, 1))

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Show other columns. The rows are gone with the old ones: `set_rows` or `show_rows` brings those that fit."""
        if self._sort is not None and self._sort[0] not in {c.id for c in columns}:
            self._sort = None
        self._painter.set_columns(columns)
        self._rows = {}
        self.rebuild()
        self.refresh()

    # Cursor and marks

    @property
    def is_at_home(self) -> bool:
        """True while the operator has not left the head of the list: what comes there is shown."""
        return self._at_home

    def move_to(self, key: Key, *, at_home: bool = False) -> bool:
        """Put the cursor on a row; False if it isn't shown. With `at_home` the head of the list stays in sight all the same."""
        position = self._positions.get(key)
        if position is None:
            return False
        self._move(position)
        self._at_home |= at_home
        return True

    def set_marks(self, keys: Iterable[Key]) -> None:
        """Mark these rows and no others; keys that have no row are left out."""
        self._anchor = None
        self._set_marks(set(keys))

    def clear_marks(self) -> None:
        """Unmark all rows, also those that a filter hides."""
        self.set_marks(())

    def escape(self) -> bool:
        """Leave range marking, else clear the marks; False if there was nothing to leave."""
        if self._anchor is not None:
            self._anchor = None
            self._set_marks(set(self._marks_before_range))
            return True
        had_marks = bool(self._marks)
        self.clear_marks()
        return had_marks

    def action_move(self, where: str) -> None:
        """Move the cursor: up, down, page_up, page_down, half_up, half_down, home, end."""
        page = max(1, self._page - 1)
        steps = {
            "up": -1,
            "down": 1,
            "page_up": -page,
            "page_down": page,
            "half_up": -(page // 2),
            "half_down": page // 2,
        }
        last = len(self._order) - 1
        self._move({"home": 0, "end": last}.get(where, self._cursor + steps.get(where, 0)))

    def action_select(self) -> None:
        """Tell that the row under the cursor was chosen."""
        if self.cursor_key is not None:
            self.post_message(self.Selected(self, self.cursor_key))

    def action_mark(self) -> None:
        """Mark or unmark the row under the cursor and go down one row; ends range marking."""
        if self._anchor is not None:
            self._anchor = None
        elif self.cursor_key is not None:
            self._set_marks(self._marks ^ {self.cursor_key})
            self._move(self._cursor + 1)

    def action_range(self) -> None:
        """Begin marking from here to wherever the cursor goes; a second time ends it and keeps the marks."""
        if self._anchor is not None or self.cursor_key is None:
            self._anchor = None
            return
        self._anchor = self.cursor_key
        self._marks_before_range = self.marks
        self._extend_range()

    def action_clear_marks(self) -> None:
        """Unmark all rows."""
        self.clear_marks()

    def action_sideways(self, direction: int) -> None:
        """Scroll the columns after the first by one column to the left (-1) or to the right (1)."""
        if self._painter.scroll(direction):
            self.refresh()

    def action_sort_column(self, step: int) -> None:
        """Sort by the column `step` to the right of the sorted one; past either end is the caller's own order."""
        ids = [None, *(c.id for c in self.columns)]
        column = ids[(ids.index(self._sort[0] if self._sort else None) + step) % len(ids)]
        self.sort_by(column, reverse=any(c.descending for c in self.columns if c.id == column))

    def action_invert_sort(self) -> None:
        """Turn the sorted column's order round."""
        if self._sort is not None:
            self.sort_by(self._sort[0], reverse=not self._sort[1])

    # Events

    def on_click(self, event: events.Click) -> None:
        """A heading sorts, a row takes the cursor, a double click opens it."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        position = self.scroll_offset.y + offset.y - 1
        if offset.y == 0:
            self._click_heading(offset.x)
        elif position < len(self._order):
            self._move(position)
            if event.chain == 2:
                self.action_select()

    def on_resize(self) -> None:
        """Lines get another length; the cursor stays in sight."""
        self._painter.resize(self._width)
        self.refresh()
        if self._at_home and self._cursor >= self._page:
            self._cursor = 0
            self._tell_cursor()
        self._scroll_to_cursor()

    def notify_style_update(self) -> None:
        """Theme or focus changed: every line is painted anew."""
        super().notify_style_update()
        self._styles.clear()
        self._painter.forget()

    # Moving and marking

    def _place_cursor(self, key: Key | None, top: int) -> None:
        """Find `key` again after the order changed, and leave it on the screen line it had."""
        line = self._cursor - top
        was_visible = 0 <= line < self._page
        position = self._positions.get(key)
        if position is None:
            position = max(0, min(self._cursor, len(self._order) - 1))
        if self._at_home:
            # An operator who has not moved yet wants to see the head of the list, whatever sorts there.
            self._cursor, y = (position if position < self._page else 0), 0
        else:
            self._cursor, y = position, (position - line if was_visible else top)
            if top == 0 and position < self._page:
                y = 0
        self.scroll_to(y=max(0, y), animate=False)

    @property
    def _width(self) -> int:
        """Cells of a line, without the scrollbar."""
        return self.scrollable_content_region.width

    @property
    def _page(self) -> int:
        """Rows that fit on the screen."""
        return max(1, self.size.height - 1)

    def _move(self, position: int) -> None:
        self._moved_at = time.monotonic()
        position = max(0, min(position, len(self._order) - 1))
        self._at_home = position == 0
        before, self._cursor = self._cursor, position
        if before != position:
            self._scroll_to_cursor()
            self._repaint({self._order[i] for i in (before, position) if i < len(self._order)})
            if self._anchor is not None:
                self._extend_range()
        self._tell_cursor()

    def _scroll_to_cursor(self) -> None:
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + self._page:
            self.scroll_to(y=self._cursor - self._page + 1, animate=False)

    def _extend_range(self) -> None:
        anchor = self._positions.get(self._anchor)
        if anchor is None:
            self._anchor = None
            return
        first, last = sorted((anchor, self._cursor))
        self._set_marks(self._marks_before_range | set(self._order[first : last + 1]))

    def _set_marks(self, marks: AbstractSet[Key]) -> None:
        marks = marks & self._rows.keys()
        if difference := self._marks ^ marks:
            self._marks = set(marks)
            self._repaint(difference)
            self._tell_marks()

    def _tell_marks(self) -> None:
        self.post_message(self.MarksChanged(self, self.marks))

    def _tell_cursor(self) -> None:
        if self.cursor_key != self._told_cursor:
            self._told_cursor = self.cursor_key
            self.post_message(self.CursorMoved(self, self.cursor_key))

    def _click_heading(self, x: int) -> None:
        """In its natural direction, then the other way round, then the caller's own order again."""
        column = self._painter.column_at(x)
        if column is None:
            return
        if self._sort is None or self._sort[0] != column.id:
            self.sort_by(column.id, reverse=column.descending)
        elif self._sort[1] == column.descending:
            self.sort_by(column.id, reverse=not column.descending)
        else:
            self.sort_by(None)

    # Painting

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the heading, a row, the word about emptiness, or nothing."""
        width = self._width
        if width != self._painter.screen:
            self._painter.resize(width)  # the scrollbar came or went, which is no resize
        if y == 0:
            return self._painter.heading(self._sort)
        position = self.scroll_offset.y + y - 1
        key = self._order[position] if position < len(self._order) else None
        row = self._rows.get(key)
        if row is not None:
            return self._painter.line(key, row, is_cursor=position == self._cursor, is_marked=key in self._marks)
        if not self._order and y == 2:
            text = self._match_text if self._rows and self._match is not None else self._empty
            return Strip([Segment(fit(" " * GUTTER + text, width), self._style("empty"))], width)
        return Strip.blank(width, self._style(""))

    def _style(self, level: str, is_cursor: bool = False) -> Style:
        style = self._styles.get((level, is_cursor))
        if style is None:
            name = f"line-table--{level}"
            style = self.get_component_rich_style(name) if name in self.COMPONENT_CLASSES else self.rich_style
            if is_cursor:
                cursor = self.get_component_rich_style("line-table--cursor")
                # A cursor that is reversed text would make a block of each colour; glyph and word say it too.
                coloured = level and name in self.COMPONENT_CLASSES and not cursor.reverse
                style = cursor + Style(color=style.color, bold=style.bold or None) if coloured else cursor
            self._styles[level, is_cursor] = style
        return style

    def _repaint(self, keys: AbstractSet[Key]) -> None:
        """Repaint whole lines, because cursor or marks changed."""
        top, width = self.scroll_offset.y, self._width
        lines = [self._positions[key] - top + 1 for key in keys if key in self._positions]
        if regions := [Region(0, line, width, 1) for line in lines if 1 <= line <= self._page]:
            self.refresh(*regions)
