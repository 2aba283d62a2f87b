"""The journal as rows: changes that were begun and never ended on top, then the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from anyconsole.actions.journal_record import OPEN, RUNNING, ChangeSummary
from anyconsole.actions.run import Outcome
from anyconsole.model.events import Event
from anyconsole.model.facts import Key
from anyconsole.model.store import ChangeSet
from anyconsole.model.table import Cell, Column, Glyphs, Level, Row, clean, duration
from anyconsole.tui.fleet_client import FleetClient
from anyconsole.tui.live_rows import table_row
from anyconsole.tui.widgets.cells import Row as TableRow

__all__ = ["JOURNAL_COLUMNS", "JournalRows", "journal_row"]

JOURNAL_COLUMNS = (
    Column(id="at", title="UTC", width=11),
    Column(id="operator", title="WHO", width=10),
    Column(id="state", title="OUTCOME", width=13),
    Column(id="title", title="CHANGE", width=22),
    Column(id="seconds", title="TOOK", width=6, right=True),
    Column(id="ticket", title="TICKET", width=8),
    Column(id="reason", title="WHY", width=20),
)

_LEVELS = {OPEN: Level.CRIT, RUNNING: Level.WARN, Outcome.DONE: Level.OK, Outcome.UNKNOWN: Level.CRIT}


def journal_row(change: ChangeSummary, index: int, glyphs: Glyphs) -> Row:
    """A change as a line; `index` is its place in the journal, newest first."""
    level = _LEVELS.get(change.state, Level.WARN)
    sign = {Level.OK: glyphs.ok, Level.CRIT: glyphs.crit}.get(level, glyphs.warn)
    if change.state == RUNNING:
        sign = glyphs.arrow[-1]
    cells = (
        Cell(datetime.fromtimestamp(change.opened_at, UTC).strftime("%m-%d %H:%M"), value=change.opened_at),
        Cell(clean(change.operator, 40), value=change.operator),
        Cell(f"{sign} {change.state.upper() if change.state == OPEN else change.state}", level, change.state),
        Cell(clean(change.title), Level.CRIT if change.state == OPEN else Level.NONE, change.title),
        Cell(duration(change.seconds), value=change.seconds),
        Cell(clean(change.ticket, 40), value=change.ticket),
        Cell(clean(change.reason or change.words), value=change.reason),
    )
    return Row(("change", change.id), cells, index if change.state != OPEN else index - 1_000_000)


class JournalRows:
    """The client's changes as a row source. They are few, and replaced as a whole when one of them changes."""

    columns: Sequence[Column] = JOURNAL_COLUMNS

    def __init__(self, client: FleetClient, glyphs: Glyphs) -> None:
        self.rows: dict[Key, Row] = {}
        self.painted: dict[Key, TableRow] = {}
        self._client = client
        self._glyphs = glyphs
        self._shown: tuple[ChangeSummary, ...] = ()

    def load(self, now: float) -> None:  # noqa: ARG002 - a change has its own times
        """Make all rows anew."""
        self._shown = tuple(self._client.changes)
        rows = [journal_row(change, index, self._glyphs) for index, change in enumerate(self._shown)]
        self.rows = {row.key: row for row in rows}
        painted = {row.key: table_row(self.columns, row) for row in rows}
        self.painted = {key: row if self.painted.get(key) != row else self.painted[key] for key, row in painted.items()}

    def mark(self, changes: ChangeSet, events: Sequence[Event]) -> None:
        """Whether the journal changed is seen when it is painted."""

    def refresh(self, visible: Sequence[Key], now: float, budget: float) -> bool:  # noqa: ARG002 - all rows at once
        """Show the journal as it is now."""
        if tuple(self._client.changes) == self._shown:
            return False
        self.load(now)
        return True

    def sweep(self, visible: Sequence[Key], now: float, budget: float) -> bool:
        """A change does not age."""
        return self.refresh(visible, now, budget)
