"""Results of load tests, from the disk of this machine: read in a thread when a pane wants to see them, kept for the next one."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from anyconsole.errors import AnyconsoleError

if TYPE_CHECKING:
    from anyconsole.actions.load.index import RunLine
    from anyconsole.actions.load.sheet import Sheet
    from anyconsole.model.inventory import Inventory
    from anyconsole.tui.app import ConsoleApp

__all__ = ["LoadResults"]

_EVERY = 10.0
"""Seconds between two looks for what other consoles wrote."""


class LoadResults:
    """All load tests of the profile, the newest first. `words` say why there are none to be seen."""

    def __init__(self, app: ConsoleApp) -> None:
        self._app = app
        self.lines: tuple[RunLine, ...] = ()
        self.words = "reading ..."
        self._is_reading = False
        self._read_at = 0.0

    def refresh(self, age: float = 0.0) -> None:
        """Read them anew, unless that was done less than `age` seconds ago."""
        if not self._is_reading and time.monotonic() - self._read_at >= age:
            self._is_reading = True
            self._app.begin(self._read())

    def keep_fresh(self) -> None:
        """Called once a second by who shows them."""
        self.refresh(_EVERY)

    def find(self, run: str) -> RunLine | None:
        """The one with that id, as far as it has been read."""
        return next((line for line in self.lines if line.id == run), None)

    async def sheet(self, run: str) -> Sheet:
        """All of one run. Raises AnyconsoleError."""
        return await asyncio.to_thread(_sheet, self._app.client.inventory, run)

    async def _read(self) -> None:
        try:
            lines = await asyncio.to_thread(_lines, self._app.client.inventory)
            # The same value as before is the same object: nothing is painted again.
            self.lines = self.lines if lines == self.lines else lines
            self.words = "no load test yet; L on a node, a tenant or an instance plans one"
        except AnyconsoleError as error:
            self.words = str(error)
        finally:
            self._is_reading, self._read_at = False, time.monotonic()
        self._app.main.age()


def _lines(inventory: Inventory) -> tuple[RunLine, ...]:
    # The first frame doesn't wait for the index; this is a thread of its own.
    from anyconsole.actions.load.files import runs_folder  # noqa: PLC0415
    from anyconsole.actions.load.index import LoadIndex  # noqa: PLC0415

    return tuple(LoadIndex(runs_folder(inventory)).runs())


def _sheet(inventory: Inventory, run: str) -> Sheet:
    from pathlib import Path  # noqa: PLC0415

    from anyconsole.actions.load.files import read_run, runs_folder  # noqa: PLC0415
    from anyconsole.actions.load.index import LoadIndex  # noqa: PLC0415
    from anyconsole.actions.load.report import run_sheet  # noqa: PLC0415
    from anyconsole.errors import LoadError  # noqa: PLC0415

    found = LoadIndex(runs_folder(inventory)).find(run)
    if not found:
        raise LoadError(f"there is no load test {run!r} on this machine")
    return run_sheet(read_run(Path(found[0].path), seconds=False))
