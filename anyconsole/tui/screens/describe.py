"""`d`: every fact about one object, each with its age, live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyconsole.model.facts import Key
from anyconsole.tui.fact_text import describe
from anyconsole.tui.places import view_of
from anyconsole.tui.screens.text import TextScreen

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["DescribeScreen"]


class DescribeScreen(TextScreen):
    """Rewritten once a second; only lines that differ are painted."""

    def __init__(self, app: ConsoleApp, key: Key) -> None:
        super().__init__(app, f"{key[0]} {' '.join(key[1:])}")
        self._key = key

    def begin(self) -> None:
        """All facts there are."""
        self.tick()

    def tick(self) -> None:
        """All facts there are now."""
        store = self.console.client.store
        self.text.show(describe(store, view_of(store, self._key), self._key, self.console.now(), self.console.glyphs))
