"""What dialogs are made of: buttons, choices, ticks and fields of one line each. They know nothing of what they are about.

None of them has keys of its own but what typing needs; the dialog around them moves the cursor and presses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from anyconsole.tui.plain_text import plain

__all__ = ["HASTE", "Choice", "Field", "Push", "Tick"]

HASTE = 0.4
"""Seconds for which a dangerous button must have had the cursor, and been ready, before a press counts: so long nobody means it."""


class Push(Widget, can_focus=True):
    """A button. A dangerous one ignores a press that comes sooner than a human can have looked."""

    DEFAULT_CSS = """
    Push {
        width: auto; height: 1; background: $panel; color: $foreground; text-style: bold; margin: 0 1;
        &.dangerous { color: $warning; }
        &:disabled { color: $stale; text-style: none; }
        &:focus { background: $block-cursor-background; color: $block-cursor-foreground; text-style: $block-cursor-text-style; }
    }
    """

    class Pressed(Message):
        """It was pressed, by key or by mouse."""

        def __init__(self, push: Push) -> None:
            super().__init__()
            self.push = push

        @property
        def control(self) -> Push:
            """The button."""
            return self.push

    def __init__(self, label: str, *, id: str, is_dangerous: bool = False, disabled: bool = False) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, disabled=disabled, classes="dangerous" if is_dangerous else None)
        self.label = label
        self._is_dangerous = is_dangerous
        self._ready_since = time.monotonic()
        self._unasked_until = 0.0

    def press(self) -> None:
        """Tell that it was pressed, unless it can't be or that came too soon."""
        now = time.monotonic()
        if self.disabled or now < self._unasked_until or (self._is_dangerous and now - self._ready_since < HASTE):
            return
        self.post_message(self.Pressed(self))

    def set_ready(self, on: bool) -> None:
        """Make it possible, or impossible, to press it."""
        if on is self.disabled:
            self.disabled = not on
            self._ready_since = time.monotonic()

    def take_cursor(self) -> None:
        """Have the cursor because another lost it: a key that was on its way to that one presses nothing here."""
        self._unasked_until = time.monotonic() + HASTE
        self.focus()

    def on_focus(self) -> None:
        """From now on it can be pressed by key."""
        self._ready_since = time.monotonic()

    def on_click(self, event: events.Click) -> None:
        """The mouse presses at once."""
        event.stop()
        self.press()

    def get_content_width(self, container: object, viewport: object) -> int:  # noqa: ARG002 - Textual's shape
        """Label and brackets."""
        return len(self.label) + 4

    def render(self) -> Content:
        """The brackets point inwards while it has the cursor, for terminals without colours."""
        return Content(f"> {self.label} <" if self.has_focus else f"[ {self.label} ]")


class Choice(Widget, can_focus=True):
    """One of a few, side by side; left and right choose."""

    DEFAULT_CSS = """
    Choice {
        height: 1; width: 1fr; background: $panel; color: $foreground;
        &:focus { background: $block-cursor-background; color: $block-cursor-foreground; }
    }
    """

    class Changed(Message):
        """Another one is chosen."""

    def __init__(self, options: Sequence[tuple[str, str]], *, id: str, ascii_only: bool = False) -> None:  # noqa: A002 - Textual's name
        """Make it; the first one is chosen.

        Args:
            options: Value and words of each.
            id: Textual's id of the widget.
            ascii_only: Draw in ASCII.
        """
        super().__init__(id=id)
        self._options = tuple(options)
        self._index = 0
        self._on, self._off = ("(*)", "( )") if ascii_only else ("●", "○")

    @property
    def value(self) -> str:
        """What is chosen."""
        return self._options[self._index][0]

    def choose(self, step: int) -> None:
        """The one `step` further; it ends at both ends."""
        self._take(max(0, min(len(self._options) - 1, self._index + step)))

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked at."""
        offset = event.get_content_offset(self)
        left = 0
        for index, piece in enumerate(self._pieces()):
            if offset is not None and left <= offset.x < left + len(piece):
                self._take(index)
            left += len(piece)

    def render(self) -> Content:
        """All of them, the chosen one bold."""
        return Content.assemble(*((p, "bold" if i == self._index else "") for i, p in enumerate(self._pieces())))

    def _pieces(self) -> list[str]:
        return [
            f"{self._on if i == self._index else self._off} {words}  " for i, (_, words) in enumerate(self._options)
        ]

    def _take(self, index: int) -> None:
        if index != self._index:
            self._index = index
            self.refresh()
            self.post_message(self.Changed())


class Tick(Widget, can_focus=True):
    """Something to agree to; space or a click ticks it."""

    DEFAULT_CSS = """
    Tick {
        height: 1; width: 1fr; background: $panel; color: $warning;
        &:focus { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
    }
    """

    class Changed(Message):
        """It was ticked or unticked."""

    def __init__(self, words: str, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._words = plain(words)
        self.is_ticked = False

    def toggle(self) -> None:
        """Tick or untick."""
        self.is_ticked = not self.is_ticked
        self.refresh()
        self.post_message(self.Changed())

    def on_click(self, event: events.Click) -> None:
        """The mouse ticks too."""
        event.stop()
        self.toggle()

    def render(self) -> Content:
        """Box and words."""
        return Content(f"[{'x' if self.is_ticked else ' '}] {self._words}")


class Field(Input):
    """A line to type in. Enter does nothing, and only the first line of what is pasted is taken."""

    DEFAULT_CSS = """
    Field, Field:focus {
        height: 1; width: 1fr; border: none; padding: 0 1; background: $surface; color: $foreground;
    }
    Field:focus { background: $block-cursor-blurred-background; }
    """

    def __init__(self, placeholder: str = "", *, id: str | None = None, max_length: int = 200) -> None:  # noqa: A002 - Textual's name
        super().__init__(placeholder=placeholder, id=id, max_length=max_length, select_on_focus=False)
        self.cursor_blink = False

    @property
    def words(self) -> str:
        """What was typed, without blanks around it."""
        return plain(self.value).strip()
