"""Rows of a view, kept up to date at bounded cost: what is on screen first, the rest as time allows.

A change of one fact marks the rows it may show in; evidence that grows old changes rows without any fact, so each round also looks at
all visible rows again and at a few of the others in turn.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence

from anyconsole.model.events import Event
from anyconsole.model.facts import InstanceStatus, Key, Link
from anyconsole.model.metrics import Workload
from anyconsole.model.pods import Cluster
from anyconsole.model.store import ChangeSet, FleetStore
from anyconsole.model.table import Cell, Column, Glyphs, Level, Row, View
from anyconsole.model.verdicts import Verdict
from anyconsole.tui.scope import Scope, is_within
from anyconsole.tui.widgets.cells import Cell as TableCell
from anyconsole.tui.widgets.cells import Level as TableLevel
from anyconsole.tui.widgets.cells import Row as TableRow

__all__ = ["LiveRows", "is_troubled", "table_row"]

_LOAD_BUDGET = 0.1
"""Seconds that opening a pane may take before rows are left for later."""

_DEAR = 0.08
"""CPU seconds of one round from which on the next one has to wait."""

_HURRY = 3
"""How many times the budget is spent while there are rows of which only the name is known."""

_UNMADE_RANK = 1000

_OF_ALL = frozenset({Link.kind, Cluster.kind})
"""Facts that change every row of their place, in a view of things that come and go."""

_WARNINGS = frozenset({Level.WARN, Level.CRIT})
_TROUBLE = _WARNINGS | {Level.STALE}
_SPARKS = frozenset({"last"})
_VERDICTS = frozenset(map(str, Verdict))


def table_row(columns: Sequence[Column], row: Row) -> TableRow:
    """A model's row as the table widget paints it."""
    return tuple(
        TableCell(
            cell.text,
            cell.level.value or (TableLevel.ACCENT if column.id in _SPARKS else ""),
            cell.order if cell.order is not None else cell.value if isinstance(cell.value, int | float | str) else None,
        )
        for column, cell in zip(columns, row.cells, strict=True)
    )


def is_troubled(row: Row) -> bool:
    """True if a verdict in the row is worse than serving or drained on purpose; in a row without verdicts, if a cell warns."""
    said = [
        c.level
        for c in row.cells
        if isinstance(c.value, str) and c.value in _VERDICTS and c.order == Verdict(c.value).rank
    ]
    return any(level in _TROUBLE for level in said) if said else any(c.level in _WARNINGS for c in row.cells)


class LiveRows:
    """The rows of one view within one scope."""

    def __init__(self, view: View, store: FleetStore, scope: Scope, glyphs: Glyphs) -> None:
        self.view = view
        self.columns = view.columns
        self.rows: dict[Key, Row] = {}
        self.painted: dict[Key, TableRow] = {}
        self._store = store
        self._scope = scope
        self._glyphs = glyphs
        self._by_place: dict[str, list[Key]] = {}
        self._dirty: dict[Key, None] = {}
        self._round: deque[Key] = deque()
        self._unmade = 0
        self._rest_until = 0.0
        self._is_unlisted = False

    def load(self, now: float) -> None:
        """Make all rows anew; in a large fleet most of them are only named at first, and are made with the next frames."""
        keys = self._keys()
        self.rows, self.painted, self._by_place = {}, {}, {}
        self._dirty.clear()
        self._is_unlisted = False
        until = time.perf_counter() + _LOAD_BUDGET
        for key in keys:
            self._by_place.setdefault(key[1], []).append(key)
            if time.perf_counter() < until:
                self._make(key, now)
            else:
                self._name(key)
        self._unmade = len(self._dirty)
        self._round = deque(keys)

    def _keys(self) -> list[Key]:
        keys = self.view.keys(self._store)
        return keys if self._scope == Scope() else [key for key in keys if is_within(self._store, self._scope, key)]

    def _name(self, key: Key) -> None:
        """A row of which only the name is known, to be made soon."""
        lead = self.view.lead(key)
        cells = [*map(Cell, lead), *(Cell("") for _ in self.columns[len(lead) :])]
        self.rows[key] = Row(key, tuple(cells), _UNMADE_RANK)
        self.painted[key] = table_row(self.columns, self.rows[key])
        self._dirty[key] = None

    def mark(self, changes: ChangeSet, events: Sequence[Event] = ()) -> None:  # noqa: ARG002 - other sources live on events
        """Remember which rows a frame may have changed."""
        if self.view.listed:
            self._mark_listed(changes)
            return
        zones_may_differ = any(key[0] == InstanceStatus.kind for key in changes.changed | changes.gone)
        if zones_may_differ or self.view.name == "tenants":
            self._dirty.update(dict.fromkeys(self.rows))
            return
        for place in changes.nodes:
            self._dirty.update(dict.fromkeys(self._by_place.get(place, ())))

    def _mark_listed(self, changes: ChangeSet) -> None:
        """In a view of things that come and go: a fact changes the row with its key, and there may be others."""
        for key in changes.changed | changes.gone:
            self._is_unlisted |= key[0] == Workload.kind  # whether it is a row depends on what it says
            if key in self.rows:
                self._dirty[key] = None
                self._is_unlisted |= key in changes.gone or bool(self._scope.node)
            elif key[0] in _OF_ALL:
                self._dirty.update(dict.fromkeys(self._by_place.get(key[1], ())))
                self._is_unlisted = True
            elif key[0] == self.view.listed and key in changes.changed:
                self._is_unlisted |= is_within(self._store, self._scope, key)

    def _list_again(self, now: float, budget: float) -> bool:
        """Take the rows that there are now; new ones are made, or named where there are many. True if any came or went."""
        self._is_unlisted = False
        keys = self._keys()
        if keys == list(self.rows):
            return False
        there = set(keys)
        for key in self.rows.keys() - there:
            self._dirty.pop(key, None)
        until = time.perf_counter() + budget
        for key in keys:
            if key not in self.rows:
                if time.perf_counter() < until:
                    self._make(key, now)
                else:
                    self._name(key)
        self.rows = {key: self.rows[key] for key in keys}
        self.painted = {key: self.painted[key] for key in keys}
        self._by_place = {}
        for key in keys:
            self._by_place.setdefault(key[1], []).append(key)
        self._round = deque(keys)
        return True

    def refresh(self, visible: Collection[Key], now: float, budget: float) -> bool:
        """Make marked rows again, the visible ones at once, others until `budget` seconds are spent; True if any changed.

        Rows that are dear to make are made less often, so that one view never takes more than a tenth of a core.
        """
        if time.monotonic() < self._rest_until:
            return False
        before = time.process_time()
        changed = self._is_unlisted and self._list_again(now, budget)
        for key in [k for k in visible if k in self._dirty]:
            del self._dirty[key]
            changed |= self._make(key, now)
        until = time.perf_counter() + budget * (_HURRY if self._unmade else 1)
        while self._dirty and time.perf_counter() < until:
            key = next(iter(self._dirty))
            del self._dirty[key]
            changed |= self._make(key, now)
        self._unmade = min(self._unmade, len(self._dirty))
        if (cost := time.process_time() - before) > _DEAR:
            self._rest_until = time.monotonic() + 9 * cost
        return changed

    def sweep(self, visible: Collection[Key], now: float, budget: float) -> bool:
        """Look again at all visible rows, and at others in turn until `budget` seconds are spent: ages grow without any news."""
        self._dirty.update(dict.fromkeys(key for key in visible if key in self.rows))
        changed = self.refresh(visible, now, budget)
        if time.monotonic() < self._rest_until:
            return changed
        until = time.perf_counter() + budget
        for _ in range(len(self._round)):
            if time.perf_counter() >= until:
                break
            changed |= self._make(self._round[0], now)
            self._round.rotate(-1)
        return changed

    def _make(self, key: Key, now: float) -> bool:
        row = self.view.row(self._store, key, now, self._glyphs)
        if self.rows.get(key) == row:
            return False
        self.rows[key] = row
        self.painted[key] = table_row(self.columns, row)
        return True
