"""A live table with its title: one view of the fleet within one scope, filtered, sorted and marked by the operator."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget

from anyconsole.engine.client import EngineState
from anyconsole.model.events import Event
from anyconsole.model.facts import Key
from anyconsole.model.store import ChangeSet
from anyconsole.model.table import Column, Glyphs, Level, Row
from anyconsole.tui.actions import Context, bindings
from anyconsole.tui.fleet_client import FleetClient
from anyconsole.tui.live_rows import is_troubled
from anyconsole.tui.places import LEAST_NEEDED, TableState
from anyconsole.tui.plain_text import plain
from anyconsole.tui.row_filter import row_filter
from anyconsole.tui.widgets.cells import GAP, GUTTER
from anyconsole.tui.widgets.cells import Column as TableColumn
from anyconsole.tui.widgets.cells import Key as TableKey
from anyconsole.tui.widgets.cells import Row as TableRow
from anyconsole.tui.widgets.line_table import LineTable

__all__ = ["FleetTable", "RowSource", "TablePane"]

_WIDEST = 32
"""Cells a column may grow to; the last one takes what is left."""

_WIDEST_LAST = 120
"""Cells that the last column may take where columns are scrolled sideways."""

_LEAST = 8
"""Cells that the last column gets before it must be scrolled to."""

_WIDEST_FITTED = 26
"""Cells that it may take where columns are left out: what it lacks is in the message line."""

_MEASURED = 200
"""Rows that are measured at first."""

_BUDGET = 0.02
"""Seconds of computing per frame that rows out of sight may cost."""


class RowSource(Protocol):
    """Where a pane's rows come from."""

    rows: dict[Key, Row]
    painted: dict[Key, TableRow]

    @property
    def columns(self) -> Sequence[Column]:
        """What the cells of a row are."""

    def load(self, now: float) -> None:
        """Make all rows anew."""

    def mark(self, changes: ChangeSet, events: Sequence[Event]) -> None:
        """Remember which rows a frame may have changed."""

    def refresh(self, visible: Sequence[Key], now: float, budget: float) -> bool:
        """Bring marked rows up to date; True if any row changed."""

    def sweep(self, visible: Sequence[Key], now: float, budget: float) -> bool:
        """Bring visible rows up to date though nothing was marked: their evidence grew older."""


class FleetTable(LineTable, inherit_bindings=False):
    """The line table with the keys of the registry."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.TABLE)]


class _Title(Widget):
    """`Health(fra1)[3] </de>` on the left, the trail on the right."""

    DEFAULT_CSS = "_Title { height: 1; background: $surface; color: $foreground; }"

    def __init__(self) -> None:
        super().__init__()
        self._parts: tuple[tuple[str, str], ...] = ()
        self._trail = ""

    def show(self, parts: Sequence[tuple[str, str]], trail: str) -> None:
        """Paint if it differs."""
        if (tuple(parts), trail) != (self._parts, self._trail):
            self._parts, self._trail = tuple(parts), trail
            self.refresh()

    @property
    def text(self) -> str:
        """The left part."""
        return "".join(text for text, _ in self._parts)

    def render(self) -> Content:
        """The trail is left out where it doesn't fit."""
        left = Content.assemble(*self._parts)
        room = self.size.width - left.cell_length - len(self._trail) - 2
        if not self._trail or room < 0:
            return left
        return Content.assemble(left, " " * (room + 1), (self._trail, "$stale"), " ")


class TablePane(Vertical):
    """One titled live table. Data comes by `take`, is painted by `paint`; both do nothing to a frozen view."""

    DEFAULT_CSS = "TablePane { height: 1fr; }"

    def __init__(
        self,
        client: FleetClient,
        source: RowSource,
        *,
        view_name: str,
        title: str,
        scope: str,
        trail: str,
        glyphs: Glyphs,
        state: TableState,
        empty: Callable[[], str] | None = None,
    ) -> None:
        super().__init__()
        self._empty = empty
        self.view_name = view_name
        self.source = source
        self.state = state
        self.frozen_at: float | None = None
        self._client = client
        self._heading = f"{title}({scope})" if scope else title
        self._trail = trail
        self._title = _Title()
        self._picks: dict[Key, tuple[TableRow, TableRow]] = {}
        self._shown = tuple(range(len(source.columns)))
        self._widths = [c.width for c in source.columns]
        self.table = FleetTable(self._columns(self._shown), ascii_only=glyphs.ok.isascii())

    def compose(self) -> ComposeResult:
        """Title above table."""
        yield self._title
        yield self.table

    # Data

    def load(self, now: float) -> None:
        """Show all rows; call once the pane is mounted."""
        self.source.load(now)
        self.table.empty = self._why_empty()
        self._apply_filter()
        self._measure(list(self.source.rows)[:_MEASURED])
        self._shown = self._fitting()
        self.table.set_columns(self._columns(self._shown))
        self._show_rows()
        self._restore(self.state)
        self._show_title()

    def _restore(self, state: TableState) -> None:
        if state.sort is not None and state.sort[0] in {c.id for c in self.table.columns}:
            self.table.sort_by(state.sort[0], reverse=state.sort[1])
        if state.cursor is not None:
            self.table.move_to(state.cursor, at_home=state.at_home)
        self.table.set_marks(state.marks)

    def take(self, changes: ChangeSet, events: Sequence[Event]) -> None:
        """A frame came; what it changed is painted with the next `paint`."""
        self.source.mark(changes, events)

    def paint(self, now: float, *, aged: bool = False) -> None:
        """Show what changed. With `aged`, visible rows are looked at again even if nothing changed."""
        if self.frozen_at is not None:
            return
        look = self.source.sweep if aged else self.source.refresh
        if look(self._visible(), now, _BUDGET):
            self._show_rows()
            self._measure(self._visible())
            if self._fitting() != self._shown:
                self._show_columns()
        self.table.empty = self._why_empty()
        self._show_title()

    def _show_rows(self) -> None:
        rows = self.source.painted
        if len(self._shown) == len(self.source.columns):
            self.table.show_rows(dict(rows), self._order)
        else:
            pick = operator.itemgetter(*self._shown)
            if len(self._picks) > 2 * len(rows):
                self._picks = {key: known for key, known in self._picks.items() if key in rows}
            self.table.show_rows({key: self._picked(key, row, pick) for key, row in rows.items()}, self._order)

    def _picked(self, key: Key, row: TableRow, pick: Callable[[TableRow], TableRow]) -> TableRow:
        """The shown cells of a row; the same tuple as before while the row is the same."""
        known = self._picks.get(key)
        if known is None or known[0] is not row:
            known = self._picks[key] = (row, pick(row))
        return known[1]

    # Columns

    def on_resize(self) -> None:
        """Other columns may fit."""
        if self.is_mounted:
            self._show_columns()

    def set_wide(self, on: bool) -> None:
        """All columns, to be scrolled sideways; or only those that fit."""
        self.state.wide = on
        self._show_columns()

    def _show_columns(self) -> None:
        """The table forgets its rows with its columns; cursor, marks and order are put back where they were."""
        fitting = self._fitting()
        columns = self._columns(fitting)
        if columns != list(self.table.columns):
            state = self.save()
            self._shown = fitting
            self._picks.clear()
            self.table.set_columns(columns)
            self._show_rows()
            self._restore(state)
        self._show_title()

    def _fitting(self) -> tuple[int, ...]:
        """The columns that fit the present width, as positions."""
        columns = self.source.columns
        shown = list(range(len(columns)))
        if not self.state.wide:
            widths = [*self._widths[:-1], columns[-1].room]
            for name in LEAST_NEEDED:
                if GUTTER + sum(widths[i] + GAP for i in shown) <= self.app.size.width:
                    break
                shown = [i for i in shown if columns[i].id != name]
        return tuple(shown)

    def _columns(self, shown: Sequence[int]) -> list[TableColumn]:
        last = len(self.source.columns) - 1
        columns = []
        for i in shown:
            c = self.source.columns[i]
            least, most = (
                (c.width, _WIDEST) if i < last else (_LEAST, _WIDEST_LAST if self.state.wide else _WIDEST_FITTED)
            )
            width = {"min_width": least, "max_width": max(c.width, most)}
            columns.append(TableColumn(c.id, c.title, right=c.right, descending=c.right, **width))
        return columns

    def _measure(self, keys: Iterable[Key]) -> None:
        """What the columns need; widths only grow, so that columns don't come and go."""
        rows = [self.source.rows[key] for key in keys if key in self.source.rows]
        for i, width in enumerate(self._widths):
            self._widths[i] = min(max([width, *(len(row.cells[i].text) for row in rows)]), max(width, _WIDEST))

    def freeze(self, now: float | None) -> None:
        """Hold the view still from now on, or let it go (None)."""
        self.frozen_at = now

    def _visible(self) -> Sequence[Key]:
        top = self.table.scroll_offset.y
        return [_key(k) for k in self.table.order[top : top + self.table.size.height]]

    def _order(self, key: TableKey, _: TableRow) -> int:
        row = self.source.rows.get(_key(key))
        return row.rank if row is not None else 0

    def _why_empty(self) -> str:
        if self._empty is not None:
            return self._empty()
        if self._client.state is EngineState.LIVE:
            return "nothing here"
        return (
            "the engine is starting"
            if self._client.state is EngineState.STARTING
            else "the engine is lost; nothing was seen before"
        )

    # What the operator arranged

    @property
    def key(self) -> Key | None:
        """Key of the row under the cursor."""
        key = self.table.cursor_key
        return None if key is None else _key(key)

    @property
    def targets(self) -> list[Key]:
        """The marked rows, else the one under the cursor."""
        return [_key(key) for key in self.table.targets]

    @property
    def last_words(self) -> tuple[str, Level]:
        """The last cell of the row under the cursor, of which a narrow table shows only the beginning; no figures."""
        row = self.source.rows.get(self.key) if self.key is not None and not self.source.columns[-1].right else None
        return (row.cells[-1].text, row.cells[-1].level) if row is not None else ("", Level.NONE)

    def as_json(self, keys: Sequence[Key]) -> str:
        """Rows as JSON, each with the values of its cells by column."""
        rows = [self.source.rows[key] for key in keys if key in self.source.rows]
        values = [{c.id: cell.value for c, cell in zip(self.source.columns, row.cells, strict=True)} for row in rows]
        return json.dumps(values[0] if len(values) == 1 else values, ensure_ascii=False, indent=2)

    def save(self) -> TableState:
        """The state of the table, to be restored on return."""
        self.state.cursor, self.state.at_home = self.key, self.table.is_at_home
        self.state.sort = self.table.sort
        self.state.marks = frozenset(_key(k) for k in self.table.marks)
        return self.state

    def set_filter(self, text: str) -> None:
        """Show only rows that match `text`, in memory and at once."""
        self.state.filter = text
        self._apply_filter()
        self._show_title()

    def set_unhealthy(self, on: bool) -> None:
        """Show only troubled rows."""
        self.state.unhealthy = on
        self._apply_filter()
        self._show_title()

    @property
    def is_filtered(self) -> bool:
        """True if a filter hides rows."""
        return bool(self.state.filter) or self.state.unhealthy

    def _apply_filter(self) -> None:
        words = row_filter(self.state.filter)
        only_troubled = self.state.unhealthy
        if words is None and not only_troubled:
            self.table.set_filter(None)
            return

        def matches(key: TableKey, _: TableRow) -> bool:
            row = self.source.rows.get(_key(key))
            if row is None or (only_troubled and not is_troubled(row)):
                return False
            return words is None or words(cell.text for cell in row.cells)

        nothing = f"no rows match /{self.state.filter}/" if words is not None else "nothing is troubled here"
        self.table.set_filter(matches, nothing)

    @property
    def title(self) -> str:
        """The title line as text."""
        return self._title.text

    def _show_title(self) -> None:
        shown, there = len(self.table.order), len(self.source.rows)
        parts = [(f" {self._heading}", "bold"), (f"[{shown}]" if shown == there else f"[{shown} of {there}]", "")]
        if self.state.filter:
            parts.append((f" </{plain(self.state.filter)}>", "bold $accent"))
        if self.state.unhealthy:
            parts.append((" <troubled only>", "bold $accent"))
        if left_out := len(self.source.columns) - len(self._shown):
            parts.append((f"  w: {left_out} more column{'s' if left_out > 1 else ''}", "$stale"))
        if marks := len(self.table.marks):
            hidden = self.table.hidden_marks
            parts.append((f" {marks} marked" + (f", {hidden} hidden" if hidden else ""), "bold $accent"))
        if self.frozen_at is not None:
            parts.append((" FROZEN ", "bold reverse $warning"))
        self._title.show(parts, self._trail)

    def on_line_table_marks_changed(self) -> None:
        """The title counts marks."""
        self._show_title()


def _key(key: TableKey) -> Key:
    """The widget's keys are hashable things; ours are fact and view keys."""
    assert isinstance(key, tuple)  # noqa: S101 - the widget gives back what it was given
    return key
