"""Results of load tests as rows: the newest first, each with its interval, never a number alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anyconsole.actions.load.words import milliseconds, percent, rate
from anyconsole.model.events import Event
from anyconsole.model.facts import Key
from anyconsole.model.store import ChangeSet
from anyconsole.model.table import Cell, Column, Glyphs, Level, Row, clean, duration
from anyconsole.tui.live_rows import table_row
from anyconsole.tui.load_results import LoadResults
from anyconsole.tui.widgets.cells import Row as TableRow

if TYPE_CHECKING:
    from anyconsole.actions.load.index import RunLine

__all__ = ["LOAD_COLUMNS", "LoadResultRows", "load_row"]

LOAD_COLUMNS = (
    Column(id="at", title="UTC", width=11),
    Column(id="target", title="TARGET", width=12),
    Column(id="verdict", title="VERDICT", width=9),
    Column(id="best", title="BEST q/s", width=14, right=True),
    Column(id="loss", title="LOSS", width=7, right=True),
    Column(id="p99", title="P99 ms", width=6, right=True),
    Column(id="purpose", title="PURPOSE", width=7),
    Column(id="seconds", title="TOOK", width=6, right=True),
    Column(id="operator", title="WHO", width=12),
    Column(id="limited_by", title="LIMITED BY", width=12),
)

_LEVELS = {"ok": Level.OK, ">=cap": Level.OK, "running": Level.NONE}


def load_row(run: RunLine, index: int, glyphs: Glyphs) -> Row:
    """A run as a line; `index` is its place, the newest first."""
    level = _LEVELS.get(run.verdict, Level.WARN)
    sign = {Level.OK: glyphs.ok, Level.NONE: glyphs.arrow[-1]}.get(level, glyphs.warn)
    cells = (
        Cell(datetime.fromtimestamp(run.at, UTC).strftime("%m-%d %H:%M"), value=run.at),
        Cell(clean(run.target, 40), value=run.target),
        Cell(f"{sign} {clean(run.verdict, 40) or 'no verdict'}", level, run.verdict),
        Cell(_interval(run), value=run.lower, order=run.lower if run.lower is not None else run.upper),
        Cell(percent(run.loss), value=run.loss, order=run.loss),
        Cell(milliseconds(run.p99), value=None if run.p99 is None else run.p99 * 1000, order=run.p99),
        Cell(clean(run.purpose, 40), value=run.purpose),
        Cell(duration(run.seconds), value=run.seconds, order=run.seconds),
        Cell(clean(run.operator, 40), value=run.operator),
        Cell(clean(run.limited_by) or "-", value=run.limited_by),
    )
    return Row(("loadtest", run.id), cells, index)


def _interval(run: RunLine) -> str:
    if run.lower is None:
        return "-" if run.upper is None else f"< {rate(run.upper)}"
    return f">= {rate(run.lower)}" if run.upper is None else f"{rate(run.lower)}..{rate(run.upper)}"


class LoadResultRows:
    """The results as a row source. They are few, and replaced as a whole when they were read anew."""

    columns: Sequence[Column] = LOAD_COLUMNS

    def __init__(self, results: LoadResults, glyphs: Glyphs) -> None:
        self.rows: dict[Key, Row] = {}
        self.painted: dict[Key, TableRow] = {}
        self._results = results
        self._glyphs = glyphs
        self._shown: tuple[RunLine, ...] = ()

    def load(self, now: float) -> None:  # noqa: ARG002 - a run has its own times
        """Make all rows of what has been read."""
        self._shown = self._results.lines
        rows = [load_row(run, index, self._glyphs) for index, run in enumerate(self._shown)]
        self.rows = {row.key: row for row in rows}
        painted = {row.key: table_row(self.columns, row) for row in rows}
        self.painted = {key: row if self.painted.get(key) != row else self.painted[key] for key, row in painted.items()}

    def mark(self, changes: ChangeSet, events: Sequence[Event]) -> None:
        """The fleet changes no result."""

    def refresh(self, visible: Sequence[Key], now: float, budget: float) -> bool:  # noqa: ARG002 - all rows at once
        """Show what was read meanwhile."""
        if self._results.lines is self._shown:
            return False
        self.load(now)
        return True

    def sweep(self, visible: Sequence[Key], now: float, budget: float) -> bool:
        """Other consoles make results too."""
        self._results.keep_fresh()
        return self.refresh(visible, now, budget)
