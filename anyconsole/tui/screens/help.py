"""`?`: what each key and command does, made from the action registry, for the place it was asked in first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from anyconsole.tui.actions import ACTIONS, Action, Context, Group, key_label
from anyconsole.tui.screens.text import TextScreen
from anyconsole.tui.widgets.cells import Level
from anyconsole.tui.widgets.text_view import Line

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["HelpScreen", "help_lines"]

WHEN_ARMED = "(when armed: this console is read-only now)"

_NARROWEST = 20
"""Cells that an explanation gets at the least."""

_SCROLLBAR = 2


def help_lines(contexts: Sequence[Context], words: str = "", width: int = 120, *, armed: bool = True) -> list[Line]:
    """The help as text: first what works in these contexts, by group, then what works elsewhere; only entries with all `words`.

    What changes the fleet is said to need arming while it does.
    """
    here = [a for a in ACTIONS if set(contexts).intersection(a.contexts)]
    elsewhere = [a for a in ACTIONS if a not in here]
    lines = []
    for group in Group:
        lines += _chapter(group.value, [a for a in here if a.group is group], words, width, armed=armed)
    for context in Context:
        lines += _chapter(
            f"In {context.value}", [a for a in elsewhere if a.contexts[0] is context], words, width, armed=armed
        )
    return lines or [Line(f"nothing in the help matches {words!r}")]


def _chapter(title: str, actions: Iterable[Action], words: str, width: int, *, armed: bool) -> list[Line]:
    lines = []
    for entry in actions:
        keys = " ".join(key_label(key) for key in entry.keys)
        argument = f" {entry.argument.upper()}" if entry.argument else ""
        command = f":{entry.command}{argument}" if entry.command else ""
        start = f"  {keys:<11} {command:<15} "
        explain = entry.explain if armed or not entry.mutates else f"{entry.explain} {WHEN_ARMED}"
        said = f"{start}{entry.title} {explain}".casefold()
        if all(word in said for word in words.casefold().split()):
            first, *more = textwrap.wrap(explain, max(_NARROWEST, width - len(start))) or [""]
            level = Level.PLAIN if armed or not entry.mutates else Level.STALE
            lines += [Line(start + first, level), *(Line(" " * len(start) + rest, level) for rest in more)]
    return [Line(title, Level.ACCENT, bold=True), *lines, Line("")] if lines else []


class HelpScreen(TextScreen):
    """The search narrows the help instead of jumping through it."""

    def __init__(self, app: ConsoleApp, contexts: Sequence[Context]) -> None:
        super().__init__(app, "Help")
        self._for = contexts
        self._words = ""

    def begin(self) -> None:
        """All of it."""
        self.note("/ shows only what matches; q leaves")
        self.search("")

    def search(self, text: str) -> None:
        """Show only what matches."""
        self._words = text
        width, armed = self.console.size.width - _SCROLLBAR, self.console.changing.is_armed
        self.text.show(help_lines(self._for, text, width, armed=armed))

    def on_resize(self) -> None:
        """Wrap anew."""
        self.search(self._words)

    def action_close_text(self) -> None:
        """All of the help again, else leave."""
        if self._words:
            self.search("")
        else:
            self.leave()

    def action_next_match(self, step: int) -> None:
        """Nothing to jump to."""
