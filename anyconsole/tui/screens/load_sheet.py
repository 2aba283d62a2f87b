"""Enter on a result of a load test: all of it, as `anyconsole loadtest show` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from anyconsole.actions.load.sheet import Sheet, text
from anyconsole.errors import AnyconsoleError
from anyconsole.model.table import Level
from anyconsole.tui.screens.text import TextScreen
from anyconsole.tui.watch_text import folded
from anyconsole.tui.widgets import cells
from anyconsole.tui.widgets.text_view import Line

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["LoadSheetScreen"]

_SPARE = 3
"""Cells of the text that belong to its edge and its scrollbar."""


class LoadSheetScreen(TextScreen):
    """One run; `c` copies it."""

    def __init__(self, app: ConsoleApp, run: str) -> None:
        super().__init__(app, f"load test {run}")
        self._run = run
        self._sheet: Sheet | None = None

    def begin(self) -> None:
        """Read it."""
        self.note("reading ...")
        self.run_worker(self._read())

    async def _read(self) -> None:
        try:
            self._sheet = await self.console.load_results.sheet(self._run)
        except AnyconsoleError as error:
            self.note(str(error), Level.CRIT)
            return
        self.on_resize()
        self.note("c copies it")

    def on_resize(self) -> None:
        """Fold anew: nothing of it is out of sight."""
        if self._sheet is not None:
            self.text.show(folded(_lines(self._sheet), self.size.width - _SPARE))


def _lines(sheet: Sheet) -> Iterator[Line]:
    titles = {sheet.title, *(table.title for table in sheet.tables if table.title)}
    for line in text(sheet).splitlines():
        yield Line(line, cells.Level.ACCENT, bold=True) if line in titles else Line(line)
