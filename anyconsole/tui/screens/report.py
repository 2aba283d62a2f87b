"""Enter on a line of the journal: the report of one change, ready to paste into an incident."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyconsole.errors import AnyconsoleError
from anyconsole.model.table import Level
from anyconsole.tui.screens.text import TextScreen
from anyconsole.tui.widgets import cells
from anyconsole.tui.widgets.text_view import Line

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["ReportScreen"]


class ReportScreen(TextScreen):
    """Markdown as it is, with its headings coloured; `c` copies it."""

    def __init__(self, app: ConsoleApp, change: str) -> None:
        super().__init__(app, f"journal {change}")
        self._change = change

    def begin(self) -> None:
        """Ask for it."""
        self.note("asking ...")
        self.run_worker(self._read())

    async def _read(self) -> None:
        try:
            text = await self.console.client.ask("journal", change=self._change)
        except AnyconsoleError as error:
            self.note(str(error), Level.CRIT)
            return
        self.text.show(_line(line) for line in text.splitlines())
        self.note("c copies it")


def _line(text: str) -> Line:
    return Line(text, cells.Level.ACCENT, bold=True) if text.startswith("#") else Line(text)
