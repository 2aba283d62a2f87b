"""The lines at the bottom: one message (or the line being typed), and the key hints of this place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input

from anyconsole.model.table import Glyphs, Level
from anyconsole.tui.actions import Action, Context, actions_in, bindings, key_label
from anyconsole.tui.header import level_style
from anyconsole.tui.plain_text import fit, plain

__all__ = ["Bottom", "Prompt"]

Completer = Callable[[str], Sequence[str]]

_MESSAGE_SECONDS = 8.0
"""How long good news stays; warnings and errors stay until the next message or key that brings one."""


class MessageLine(Widget):
    """One line that says what happened."""

    DEFAULT_CSS = "MessageLine { height: 1; background: $surface; color: $foreground; }"

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.text = ""
        self.level = Level.NONE
        self._detail = ("", Level.NONE)
        self._glyphs = glyphs
        self._number = 0

    def say(self, text: str, level: Level = Level.NONE) -> None:
        """Show a message; "" clears the line."""
        self.text, self.level = plain(text), level
        self._number += 1
        self.refresh()
        if text and level not in (Level.WARN, Level.CRIT):
            number = self._number
            self.set_timer(_MESSAGE_SECONDS, lambda: self.say("") if number == self._number else None)

    def explain(self, text: str, level: Level) -> None:
        """What is shown while there is no message: more about what is under the cursor."""
        if (text, level) != self._detail:
            self._detail = (text, level)
            self.refresh()

    def render(self) -> Content:
        """Sign and message, else the detail."""
        if not self.text:
            text, level = self._detail
            return self._line(text, level)
        sign = {Level.OK: self._glyphs.ok, Level.WARN: self._glyphs.warn, Level.CRIT: self._glyphs.crit}.get(
            self.level, ""
        )
        return self._line(f"{sign} {self.text}" if sign else self.text, self.level)

    def _line(self, text: str, level: Level) -> Content:
        ellipsis = "~" if self._glyphs.ok.isascii() else "…"
        return Content.assemble((fit(f" {text}", self.size.width, ellipsis=ellipsis), level_style(level)))


class Hints(Widget):
    """Keys of this place, as many as fit; while a command is typed, what it could become."""

    DEFAULT_CSS = "Hints { height: 1; background: $panel; color: $foreground; }"

    def __init__(self, contexts: Iterable[Context]) -> None:
        super().__init__()
        self._actions = _hinted(contexts)
        self._words: tuple[str, ...] = ()
        self._is_armed = False

    def show_armed(self, on: bool) -> None:
        """Show the keys that change the fleet, or leave them out."""
        if on is not self._is_armed:
            self._is_armed = on
            self.refresh()

    def show_contexts(self, contexts: Iterable[Context]) -> None:
        """Show the keys of other contexts."""
        self._actions, self._words = _hinted(contexts), ()
        self.refresh()

    def show_words(self, words: Sequence[str]) -> None:
        """Show words instead of keys."""
        self._words = tuple(words)
        self.refresh()

    def render(self) -> Content:
        """As much as fits, never half a hint."""
        room = self.size.width - 1
        parts: list[tuple[str, str]] = [(" ", "")]
        shown = [a for a in self._actions if self._is_armed or not a.mutates]
        pieces = [(word, "") for word in self._words] or [(key_label(a.keys[0]), a.title) for a in shown]
        for key, title in pieces:
            text = f" {title.lower()}  " if title else "  "
            room -= len(key) + len(text)
            if room < -2:
                break
            parts += [(key, "bold $footer-key-foreground"), (text, "")]
        return Content.assemble(*parts)


def _hinted(contexts: Iterable[Context]) -> list[Action]:
    return sorted((a for a in actions_in(contexts) if a.hint and a.keys), key=lambda a: a.hint)


class _Completion(Suggester):
    """Shows the first completion behind the cursor."""

    def __init__(self, complete: Completer) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        """The first completion."""
        return next(iter(self._complete(value)), None) if value else None


class Prompt(Input):
    """The line in which a filter, a search or a command is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.PROMPT)]

    DEFAULT_CSS = """
    Prompt, Prompt:focus { height: 1; border: none; padding: 0; background: $surface; color: $foreground; }
    """

    class Typed(Message):
        """The text changed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Done(Message):
        """Enter (`accepted`) or escape."""

        def __init__(self, text: str, accepted: bool) -> None:
            super().__init__()
            self.text = text
            self.accepted = accepted

    def __init__(self, sign: str, text: str, complete: Completer, history: list[str]) -> None:
        super().__init__(text, suggester=_Completion(complete), select_on_focus=False)
        self.sign = sign
        self.cursor_blink = False
        self._completions = complete
        self._history = history
        self._place = len(history)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Pass it on as ours."""
        event.stop()
        self.post_message(self.Typed(event.value))

    def action_leave(self) -> None:
        """Escape."""
        self.post_message(self.Done(self.value, accepted=False))

    def action_accept(self) -> None:
        """Enter: the line also goes into the history."""
        text = self.value.strip()
        if text and self._history[-1:] != [text]:
            self._history.append(text)
        self.post_message(self.Done(self.value, accepted=True))

    def action_complete(self) -> None:
        """Take the first completion."""
        if found := self._completions(self.value):
            self.value = found[0]
            self.cursor_position = len(self.value)

    def action_history(self, step: int) -> None:
        """An older or a newer line."""
        self._place = max(0, min(len(self._history), self._place + step))
        self.value = self._history[self._place] if self._place < len(self._history) else ""
        self.cursor_position = len(self.value)


class _Sign(Widget):
    DEFAULT_CSS = "_Sign { width: 2; height: 1; background: $surface; color: $accent; text-style: bold; }"

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def render(self) -> Content:
        return Content(f" {self._text}")


class Bottom(Vertical):
    """Message line, prompt and hints."""

    DEFAULT_CSS = """
    Bottom {
        dock: bottom; height: 2;
        & > .prompt { height: 1; layout: horizontal; }
    }
    """

    def __init__(self, contexts: Sequence[Context], glyphs: Glyphs) -> None:
        super().__init__()
        self._contexts = contexts
        self._message = MessageLine(glyphs)
        self._hints = Hints(contexts)
        self._prompt: Prompt | None = None

    def compose(self) -> ComposeResult:
        """Message above hints."""
        yield self._message
        yield self._hints

    @property
    def message(self) -> tuple[str, Level]:
        """What the message line says."""
        return self._message.text, self._message.level

    @property
    def prompt(self) -> Prompt | None:
        """The open prompt."""
        return self._prompt

    def say(self, text: str, level: Level = Level.NONE) -> None:
        """Show a message."""
        self._message.say(text, level)

    def show_armed(self, on: bool) -> None:
        """Whether the keys that change the fleet are live."""
        self._hints.show_armed(on)

    def explain(self, text: str, level: Level) -> None:
        """What the message line shows while there is no message."""
        self._message.explain(text, level)

    async def ask(self, sign: str, text: str, complete: Completer, history: list[str]) -> None:
        """Open the prompt in place of the message; `Prompt.Typed` and `Prompt.Done` tell the rest. The next key is already its own."""
        self.close()
        self._prompt = Prompt(sign, text, complete, history)
        self._message.display = False
        self._hints.show_contexts((Context.PROMPT,))
        await self.mount(Vertical(_Sign(sign), self._prompt, classes="prompt"), before=0)
        self.screen.set_focus(self._prompt)

    def offer(self, words: Sequence[str]) -> None:
        """Show what a half-typed command could become; nothing shows the prompt's keys."""
        if words:
            self._hints.show_words(words)
        else:
            self._hints.show_contexts((Context.PROMPT,))

    def close(self) -> None:
        """Close the prompt, show message and hints again."""
        if self._prompt is not None:
            self.query(".prompt").remove()
            self._prompt = None
        self._message.display = True
        self._hints.show_contexts(self._contexts)
