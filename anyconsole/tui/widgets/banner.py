"""How something ended, in large: a bar with its words that is only there once there are some."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from anyconsole.tui.plain_text import plain

__all__ = ["Banner"]


class Banner(Widget):
    """Words on a coloured ground, ok, warn or crit."""

    DEFAULT_CSS = """
    Banner {
        height: 3; display: none; padding: 1 2; text-style: bold;
        &.ok { display: block; background: $success; color: $surface; }
        &.warn { display: block; background: $warning; color: $surface; }
        &.crit { display: block; background: $error; color: $surface; }
        &:ansi { text-style: bold reverse; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._words = ""

    def show(self, words: str, level: str) -> None:
        """Say it."""
        if (plain(words), level) != (self._words, " ".join(self.classes)):
            self._words = plain(words)
            self.set_classes(level)
            self.refresh()

    def render(self) -> Content:
        """The words."""
        return Content(self._words)
