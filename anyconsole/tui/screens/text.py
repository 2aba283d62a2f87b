"""A text over the panes: scrolls, is searched, and is kept up to date while it lies there."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from anyconsole.model.table import Level
from anyconsole.tui.actions import Context, bindings
from anyconsole.tui.bottom import Bottom, Prompt
from anyconsole.tui.header import Header, level_style
from anyconsole.tui.plain_text import plain
from anyconsole.tui.widgets.text_view import TextView

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["TextScreen"]


class _Title(Widget):
    DEFAULT_CSS = "_Title { height: 1; background: $surface; color: $foreground; }"

    def __init__(self) -> None:
        super().__init__()
        self._words = ("", "", Level.NONE)

    def show(self, title: str, note: str, level: Level) -> None:
        if (title, note, level) != self._words:
            self._words = (title, note, level)
            self.refresh()

    def render(self) -> Content:
        title, note, level = self._words
        return Content.assemble(
            (f" {plain(title)}", "bold"), f"  {' ' if note else ''}", (plain(note), level_style(level))
        )


class TextScreen(Screen[None], inherit_bindings=False):
    """Header, title, text, hints. Sub-classes fill `text` and say more keys in `contexts`."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.TEXT)]
    contexts: tuple[Context, ...] = (Context.TEXT, Context.APP)

    def __init__(self, app: ConsoleApp, title: str) -> None:
        super().__init__()
        self.console = app
        self.heading = title
        self.text = TextView()
        self._line = _Title()

    def compose(self) -> ComposeResult:
        """Chrome around the text."""
        yield Header(self.console.client.inventory, self.console.glyphs)
        yield self._line
        yield from self.above()
        yield self.text
        yield from self.below()
        yield Bottom(self.contexts, self.console.glyphs)

    def on_mount(self) -> None:
        """Show the title, then whatever the sub-class has."""
        self.note("")
        self.console.tick()
        self.begin()
        self.text.focus()

    @property
    def is_there(self) -> bool:
        """False while it is still being made, or is being taken away."""
        return bool(self.query(Bottom))

    def above(self) -> ComposeResult:
        """What stands between title and text."""
        yield from ()

    def below(self) -> ComposeResult:
        """What stands between text and hints."""
        yield from ()

    def begin(self) -> None:
        """Fill the text; called once, when the screen is there."""

    def tick(self) -> None:
        """Called once a second while it is there."""

    def engine_back(self) -> None:
        """Called when the engine is live again after it was lost, while it is there."""

    def leave(self) -> None:
        """Go, unless an earlier key already said so."""
        if self.is_active:
            self.dismiss()

    def note(self, words: str, level: Level = Level.STALE) -> None:
        """Something beside the title."""
        self._line.show(self.heading, words, level)

    def say(self, text: str, level: Level = Level.NONE) -> None:
        """A message in the message line."""
        self.query_one(Bottom).say(text, level)

    # Keys

    def action_scroll(self, where: str) -> None:
        """Move through the text."""
        self.text.move(where)

    def action_close_text(self) -> None:
        """Clear the search, else leave."""
        if self.text.is_searched:
            self.text.search("")
            self.say("")
        else:
            self.leave()

    async def action_pane(self, name: str) -> None:
        """A digit leaves the text for a pane."""
        self.leave()
        await self.console.main.action_pane(name)

    def action_changes(self) -> None:
        """`W`."""
        self.console.changing.watch()

    async def action_search(self) -> None:
        """`/`."""
        await self.query_one(Bottom).ask("/", "", lambda _: (), self.console.history["search"])

    def action_next_match(self, step: int) -> None:
        """`n` and `N`."""
        which, count = self.text.next_match(step)
        self.say(f"match {which} of {count}" if count else "no match", Level.NONE if count else Level.WARN)

    def action_copy_text(self) -> None:
        """`c`."""
        self.console.objects.copy(self.text.text, f"{len(self.text.lines)} lines")

    def on_prompt_typed(self, event: Prompt.Typed) -> None:
        """Search while it is typed."""
        self.search(event.text)

    def on_prompt_done(self, event: Prompt.Done) -> None:
        """Enter goes to the first match, escape forgets the search."""
        self.query_one(Bottom).close()
        self.text.focus()
        self.search(event.text if event.accepted else "")
        if event.accepted and event.text:
            self.action_next_match(1)

    def search(self, text: str) -> None:
        """Highlight what matches."""
        self.text.search(text)
