"""A question that a running change asks. The cursor is on leaving it open; every answer, also the default one, is a choice of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from anyconsole.actions.run import Question
from anyconsole.model.table import duration
from anyconsole.tui.plain_text import plain
from anyconsole.tui.screens.dialog import Dialog
from anyconsole.tui.widgets.form import Push

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["QuestionScreen"]


class QuestionScreen(Dialog[str]):
    """Dismissed with the answer, or None: then the question stays open until its time is up."""

    def __init__(self, app: ConsoleApp, run: str, question: Question) -> None:
        super().__init__()
        self.console = app
        self._run = run
        self._question = question
        # The default first: it is what is safe.
        self._choices = sorted(question.choices, key=lambda choice: choice[0] != question.default)

    def compose(self) -> ComposeResult:
        """Question, a button for each answer with what it means, and the countdown."""
        with Vertical(classes="dialog low"):
            yield Static(Content(plain(self._question.text)), classes="dialog-title")
            yield Push("leave open", id="first")
            for index, (answer, meaning) in enumerate(self._choices):
                yield Push(plain(answer, 40), id=f"answer-{index}", is_dangerous=answer != self._question.default)
                yield Static(Content(plain(meaning)), classes="dialog-indent")
            yield Static("", id="countdown", classes="dialog-words")

    def on_mount(self) -> None:
        """The countdown is there from the first frame on."""
        self.tick()

    def tick(self) -> None:
        """Count down; leave a question that is answered, or whose time is up."""
        run = self.console.client.runs.get(self._run)
        if run is None or run.question is None or run.question.id != self._question.id:
            self.leave()
            return
        left = duration(max(0.0, self._question.until - self.console.now()))
        self.query_one("#countdown", Static).update(
            Content(
                f"without an answer it goes on as with '{plain(self._question.default, 40)}' in {left}; esc leaves this open"
            )
        )

    def on_push_pressed(self, event: Push.Pressed) -> None:
        """An answer, or none."""
        answers = {f"answer-{index}": answer for index, (answer, _) in enumerate(self._choices)}
        self.leave(answers.get(event.push.id or ""))
