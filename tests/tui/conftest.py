"""What all tests of the screen share: a running app on a scripted fleet, and its screen as text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from anyconsole.tui.app import ConsoleApp
from anyconsole.tui.panes.table_pane import TablePane
from tests.tui.fake_client import FakeClient

__all__ = ["Console", "console"]


class Console:
    """The app, its fleet and a hand on the keyboard."""

    def __init__(self, app: ConsoleApp, fleet: FakeClient, pilot: Pilot[Any]) -> None:
        self.app = app
        self.fleet = fleet
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        """Press keys and let the app come to rest."""
        for key in keys:
            await self.pilot.press(key)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        """Type text, key by key."""
        names = {
            " ": "space",
            "/": "slash",
            ":": "colon",
            "!": "exclamation_mark",
            "-": "minus",
            "[": "left_square_bracket",
        }
        await self.press(*(names.get(c, c) for c in text))

    async def settle(self, *, aged: bool = False) -> None:
        """What the timers would do, without waiting for them."""
        if aged:
            self.app.main.age()
        self.app.main.paint()
        self.app.tick()
        await self.pilot.pause()

    @property
    def lines(self) -> list[str]:
        """The screen."""
        return ["".join(s.text for s in strip).rstrip() for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    @property
    def pane(self) -> TablePane:
        """The table that has the cursor."""
        pane = self.app.main.pane
        assert pane is not None
        return pane

    @property
    def message(self) -> str:
        """The message line."""
        return self.lines[-2].strip()

    def line_with(self, *words: str) -> str:
        """The first line that has all these words."""
        return next((line for line in self.lines if all(word in line for word in words)), "")


@asynccontextmanager
async def console(
    size: tuple[int, int] = (120, 30), fleet: FakeClient | None = None, glyphs: str = "unicode"
) -> AsyncIterator[Console]:
    """A running console."""
    fleet = fleet or FakeClient()
    app = ConsoleApp(fleet, clock=fleet.clock, glyphs=glyphs)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield Console(app, fleet, pilot)
