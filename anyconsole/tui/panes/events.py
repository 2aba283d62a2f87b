"""Events as rows: newest first, kept for the session; narrowed to what a scope is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anyconsole.model.events import EVENT_COLUMNS, Event, event_row
from anyconsole.model.facts import Key
from anyconsole.model.store import ChangeSet
from anyconsole.model.table import Column, Glyphs, Row
from anyconsole.tui.fleet_client import FleetClient
from anyconsole.tui.live_rows import table_row
from anyconsole.tui.scope import Scope, scope_of
from anyconsole.tui.widgets.cells import Row as TableRow

__all__ = ["EventRows"]


class EventRows:
    """The client's events as a row source. Rows are numbered over the whole session, so the cursor finds its event again."""

    columns: Sequence[Column] = EVENT_COLUMNS

    def __init__(self, client: FleetClient, seen: Callable[[], int], scope: Scope, glyphs: Glyphs) -> None:
        """Make it.

        Args:
            client: Holds the events.
            seen: Tells how many events have come in this session, those included that were dropped since.
            scope: Only events about this.
            glyphs: Signs before the words.
        """
        self.rows: dict[Key, Row] = {}
        self.painted: dict[Key, TableRow] = {}
        self._client = client
        self._count_seen = seen
        self._seen = 0
        self._scope = scope
        self._glyphs = glyphs
        self._subjects: dict[Key, Key] = {}
        self._new: list[Event] = []

    def subject(self, key: Key) -> Key | None:
        """What the event in this row is about."""
        return self._subjects.get(key)

    def load(self, now: float) -> None:  # noqa: ARG002 - events have their own time
        """Make all rows anew."""
        self.rows, self.painted, self._subjects = {}, {}, {}
        self._new, self._seen = [], self._count_seen()
        first = self._seen - len(self._client.events)
        for number, event in enumerate(self._client.events, first):
            self._add(event, number)

    def mark(self, changes: ChangeSet, events: Sequence[Event]) -> None:  # noqa: ARG002 - other sources live on changes
        """Remember new events."""
        self._new.extend(events)

    def refresh(self, visible: Sequence[Key], now: float, budget: float) -> bool:  # noqa: ARG002 - rows never change
        """Add the new events, drop those the client dropped."""
        fresh, self._new = self._new, []
        for event in fresh:
            self._add(event, self._seen)
            self._seen += 1
        while len(self.rows) > (self._client.events.maxlen or len(self.rows)):
            oldest = next(iter(self.rows))
            del self.rows[oldest], self.painted[oldest], self._subjects[oldest]
        return bool(fresh)

    def sweep(self, visible: Sequence[Key], now: float, budget: float) -> bool:
        """An event does not age."""
        return self.refresh(visible, now, budget)

    def _add(self, event: Event, number: int) -> None:
        inventory = self._client.inventory
        subject = event.subject
        if self._scope.holds(scope_of(inventory, subject)):
            row = event_row(event, number, self._glyphs)
            self.rows[row.key] = row
            self.painted[row.key] = table_row(self.columns, row)
            self._subjects[row.key] = subject
