"""Watching a change: what moves, each step with what proves it, and how it ended. Leaving it never stops anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from anyconsole.actions.run import Run, RunState
from anyconsole.engine.client import EngineState
from anyconsole.model.table import Level
from anyconsole.tui.actions import Context, bindings
from anyconsole.tui.plain_text import plain, some
from anyconsole.tui.screens.dialog import ConfirmScreen
from anyconsole.tui.screens.question import QuestionScreen
from anyconsole.tui.screens.text import TextScreen
from anyconsole.tui.traffic import Traffic, traffic
from anyconsole.tui.watch_text import ended_words, outcome_level, run_words, watch_lines
from anyconsole.tui.widgets.banner import Banner
from anyconsole.tui.widgets.braille_chart import BrailleChart, Series
from anyconsole.tui.widgets.braille_chart import Glyphs as ChartGlyphs

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["WatchScreen"]

_SPARE = 3
"""Cells of the text that belong to its edge and its scrollbar."""

_TALL = 36
"""Lines from which on the chart is tall."""

_SECOND = 0.9
_REST = 10.0
"""One part adding up to so many parts of waiting."""

_ABORT = (
    "What no node has confirmed yet is taken back, and nothing more is begun. "
    "Steps that are done stay done; undo them with a plan of their own."
)
_ABORT_LASTING = (
    "Nothing more is done. What was done stays: plan again to go on, or take it away with a plan of its own."
)


class WatchScreen(TextScreen):
    """One run, live."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.WATCH)]
    contexts = (Context.TEXT, Context.WATCH, Context.APP)

    def __init__(self, app: ConsoleApp, run: str) -> None:
        super().__init__(app, "change")
        self.run_id = run
        self._outcome = Banner()
        glyphs = ChartGlyphs.ASCII if app.glyphs.ok.isascii() else ChartGlyphs.BRAILLE
        self._here, self._elsewhere = (
            BrailleChart(title, unit=" q/s", seconds=1.0, glyphs=glyphs) for title in ("", "more elsewhere")
        )
        self._asked: set[int] = set()
        self._shown: tuple[Run | None, EngineState | None] = (None, None)
        self._moves: Traffic | None = None
        self._moves_due = 0.0

    def above(self) -> ComposeResult:
        """The outcome and the charts stand above the text: what is moved, and what the others have more than before."""
        yield self._outcome
        with Horizontal(id="watch-charts"):
            yield self._here
            yield self._elsewhere

    @property
    def change(self) -> Run | None:
        """The run as it is now; None until the engine has told of it."""
        return self.console.client.runs.get(self.run_id)

    def begin(self) -> None:
        """What there is."""
        self.tick()

    def on_resize(self) -> None:
        """A small terminal has room for a small chart."""
        self.set_class(self.size.height < _TALL, "low-screen")

    def on_screen_resume(self) -> None:
        """What came meanwhile is shown at once."""
        if self.is_there:
            self.tick()

    def tick(self) -> None:
        """Show the run as it is now; asks its question once."""
        run, now = self.change, self.console.now()
        if run is None:
            self.note("the engine has not told of it yet")
            return
        self._shown = (run, self.console.client.state)
        moves = self._traffic(run)
        self.heading = run.plan.title
        if self.console.client.state is EngineState.LOST and run.state is not RunState.ENDED:
            self.note(
                "ENGINE LOST: this is the last it said; nodes take back by themselves what is unconfirmed", Level.CRIT
            )
        else:
            self.note(run_words(run, now), Level.WARN if run.state is RunState.ASKING else Level.STALE)
        end = int(now)
        self.query_one("#watch-charts").display = bool(run.plan.changes)  # nothing else moves queries
        self._here.title = f"at {some(dict.fromkeys(change.node for change in run.plan.changes))}"
        self._here.show(Series(moves.moved, filled=True, end=end))
        self._elsewhere.show(Series(moves.gained, filled=True, end=end))
        self.text.show(watch_lines(run, moves, now, self.console.glyphs, self.console.size.width - _SPARE))
        if run.state is RunState.ENDED:
            self._outcome.show(ended_words(run), outcome_level(run).value)
            self.console.changing.result_was_seen(run)
        elif run.question is not None and run.question.id not in self._asked and self.is_active:
            self._asked.add(run.question.id)
            self._ask(run)

    def news(self) -> None:
        """A frame came: show it if it is about this run."""
        if self.is_there and (self.change, self.console.client.state) != self._shown:
            self.tick()

    def _traffic(self, run: Run) -> Traffic:
        """What moves, added up anew once a second, and less often where the fleet is so large that it is dear."""
        before = time.monotonic()
        if self._moves is None or before >= self._moves_due:
            self._moves = traffic(self.console.client.store, run.plan, self.console.changing.baseline_of(run))
            now = time.monotonic()
            self._moves_due = now + max(_SECOND, _REST * (now - before))
        return self._moves

    def _ask(self, run: Run) -> None:
        question = run.question
        if question is None:
            return

        def answered(answer: str | None) -> None:
            if answer is not None:
                self.console.changing.answer(run.id, question.id, answer)

        self.console.push_screen(QuestionScreen(self.console, run.id, question), answered)

    def action_answer(self) -> None:
        """Enter: the question again, if there is one."""
        run = self.change
        if run is not None and run.question is not None and run.state is not RunState.ENDED:
            self._ask(run)
        else:
            self.say("nothing is asked")

    def action_abort(self) -> None:
        """`x`: asks first."""
        run = self.change
        if run is None or run.state is RunState.ENDED:
            self.say("it has ended; there is nothing to abort")
            return
        if run.state is RunState.CANCELLING:
            self.say("it is being aborted already")
            return

        def meant(yes: bool | None) -> None:
            if yes:
                self.console.changing.cancel(self.run_id)

        about = _ABORT_LASTING if any(step.lasting for step in run.plan.steps) else _ABORT
        self.console.push_screen(
            ConfirmScreen(f"Abort: {plain(run.plan.title)}?", about, go_on="Go on", do_it="Abort"), meant
        )

    def action_close_text(self) -> None:
        """Clear the search, else leave; the change goes on without a spectator."""
        was_searched = self.text.is_searched
        super().action_close_text()
        run = self.change
        if not was_searched and run is not None and run.state is not RunState.ENDED:
            self.console.main.say("the change goes on; W shows it again")
