"""A short list to choose one thing from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from anyconsole.tui.actions import Context, bindings

__all__ = ["ChooseScreen"]


class ChooseScreen(ModalScreen[str | None], inherit_bindings=False):
    """Dismissed with the id of what was chosen, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.CHOICE)]

    def __init__(self, title: str, options: Sequence[tuple[str, str]], current: str = "") -> None:
        """Make it.

        Args:
            title: Said above the list.
            options: Id and words of each.
            current: Id of the one that is chosen now.
        """
        super().__init__()
        self._title_words = title
        self._options = options
        self._current = current

    def compose(self) -> ComposeResult:
        """Title above the list."""
        with Vertical(id="choose"):
            yield Static(Content(self._title_words), id="choose-title")
            yield OptionList(
                *(Option(Content(words), id=f"choice-{i}") for i, (_, words) in enumerate(self._options)), compact=True
            )

    def on_mount(self) -> None:
        """Begin at the one that is chosen now."""
        listing = self.query_one(OptionList)
        listing.highlighted = next((i for i, (name, _) in enumerate(self._options) if name == self._current), 0)
        listing.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Chosen."""
        self._leave(self._options[event.option_index][0])

    def _leave(self, chosen: str | None) -> None:
        if self.is_active:  # else an earlier key already chose
            self.dismiss(chosen)

    def action_leave(self) -> None:
        """Escape."""
        self._leave(None)
