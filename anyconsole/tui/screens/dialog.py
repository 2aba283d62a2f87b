"""Dialogs: their keys, and the plain one that asks whether something is really meant.

The harmless button has the cursor at first. Enter presses the button under the cursor and does nothing elsewhere; no letter does anything.
"""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from anyconsole.tui.actions import Context, bindings
from anyconsole.tui.widgets.form import Choice, Push, Tick

__all__ = ["ConfirmScreen", "Dialog"]

_Result = TypeVar("_Result")


class Dialog(ModalScreen[_Result], Generic[_Result], inherit_bindings=False):
    """A modal screen with the keys of a form. The widget with id `first` gets the cursor, and gets it back when another loses it."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.FORM)]
    AUTO_FOCUS = "#first"
    contexts: tuple[Context, ...] = (Context.FORM, Context.APP)

    def on_mount(self) -> None:
        """A terminal without Unicode gets other borders."""
        self.set_class(self.app.glyphs.ok.isascii(), "ascii")  # type: ignore[attr-defined]  # ConsoleApp's

    @property
    def is_there(self) -> bool:
        """False while it is still being made, or is being taken away."""
        return bool(self.query("#first"))

    def tick(self) -> None:
        """Called once a second while it is there."""

    def leave(self, result: _Result | None = None) -> None:
        """Go, unless an earlier key already said so."""
        if self.is_active:
            self.dismiss(result)

    def keep_cursor(self) -> None:
        """A button that can't be pressed any more has lost the cursor."""
        if self.focused is None and self.is_there:
            self.query_one("#first").focus()

    def action_leave(self) -> None:
        """Escape."""
        self.leave()

    def action_press(self) -> None:
        """Enter."""
        if isinstance(self.focused, Push):
            self.focused.press()

    def action_tick(self) -> None:
        """Space."""
        if isinstance(self.focused, Tick):
            self.focused.toggle()

    def action_choose(self, step: int) -> None:
        """Left and right."""
        if isinstance(self.focused, Choice):
            self.focused.choose(step)

    def action_next_field(self) -> None:
        """Tab."""
        self.focus_next()

    def action_previous_field(self) -> None:
        """Shift+tab."""
        self.focus_previous()

    def action_scroll_body(self, lines: int) -> None:
        """Up and down."""
        for body in self.query(".dialog-scroll"):
            body.scroll_relative(y=lines, animate=False)


class ConfirmScreen(Dialog[bool]):
    """Dismissed with True if it is meant; the other button has the cursor."""

    def __init__(self, question: str, explain: str, *, go_on: str, do_it: str) -> None:
        """Make it.

        Args:
            question: What is asked.
            explain: What would happen.
            go_on: The harmless button.
            do_it: The other one.
        """
        super().__init__()
        self._question, self._explain = question, explain
        self._go_on, self._do_it = go_on, do_it

    def compose(self) -> ComposeResult:
        """Question, explanation, two buttons."""
        with Vertical(classes="dialog narrow"):
            yield Static(Content(self._question), classes="dialog-title")
            yield Static(Content(self._explain), classes="dialog-words")
            with Horizontal(classes="dialog-buttons"):
                yield Push(self._go_on, id="first")
                yield Push(self._do_it, id="do", is_dangerous=True)

    def on_push_pressed(self, event: Push.Pressed) -> None:
        """Either button."""
        self.leave(event.push.id == "do")
