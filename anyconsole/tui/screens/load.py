"""Watching a load test: its figures against the goal, its votes, its hosts, the curve as it grows. `x` stops it at once.

Leaving this screen never stops anything; leaving the console does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from anyconsole.actions.load.request import Purpose
from anyconsole.actions.load.words import counted
from anyconsole.actions.run import Outcome, Run, RunState
from anyconsole.engine.client import EngineState
from anyconsole.model.load import Verdict
from anyconsole.model.load_view import LoadSecond, LoadState, LoadView
from anyconsole.model.table import Level
from anyconsole.tui.actions import Context, bindings
from anyconsole.tui.load_text import doing_words, found_words, is_good, load_lines, sign_of
from anyconsole.tui.places import LOADS
from anyconsole.tui.plain_text import plain
from anyconsole.tui.screens.text import TextScreen
from anyconsole.tui.watch_text import ended_words, folded, outcome_level, run_words, who_line
from anyconsole.tui.widgets import cells
from anyconsole.tui.widgets.banner import Banner
from anyconsole.tui.widgets.braille_chart import BrailleChart, Series
from anyconsole.tui.widgets.braille_chart import Glyphs as ChartGlyphs
from anyconsole.tui.widgets.loss_curve import LossCurve, Mark
from anyconsole.tui.widgets.text_view import Line

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["LoadScreen"]

_CHROME = 5
"""Lines of header, title, message and hints."""

_BANNER = 3
_LEAST_CHART = 5
"""Lines below which charts are left out."""

_SPARE = 3
"""Cells of the text that belong to its edge and its scrollbar."""

_SHOWN = 60
"""Seconds of offered and answered queries that are drawn."""

_STEADY = (Purpose.FIXED, Purpose.SOAK)
_STYLES = {Verdict.OK: "2", Verdict.BAD: "over", Verdict.VOID: "axis"}


class LoadScreen(TextScreen):
    """One run of load tests, live; of several targets the one that is tested now."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.LOAD)]
    contexts = (Context.TEXT, Context.LOAD, Context.APP)

    def __init__(self, app: ConsoleApp, run: str) -> None:
        super().__init__(app, "load test")
        self.run_id = run
        self._end = Banner()
        glyphs = ChartGlyphs.ASCII if app.glyphs.ok.isascii() else ChartGlyphs.BRAILLE
        self._curve = LossCurve("loss by rate", glyphs=glyphs)
        self._flow = BrailleChart("queries", unit=" q/s", seconds=1.0, glyphs=glyphs)
        self._loss = BrailleChart("loss", unit=" %", seconds=1.0, glyphs=glyphs)
        self._charts = Horizontal(self._curve, self._loss, self._flow, id="load-charts")
        self._shown: tuple[object, ...] = ()
        self._lines = 0

    def above(self) -> ComposeResult:
        """How it ended."""
        yield self._end

    def below(self) -> ComposeResult:
        """Loss by rate, and what was offered and answered."""
        yield self._charts

    @property
    def change(self) -> Run | None:
        """The run as it is now; None until the engine has told of it."""
        return self.console.client.runs.get(self.run_id)

    @property
    def view(self) -> LoadView | None:
        """The test that goes on, else the one that was begun last; None until the engine has told of one."""
        views = [view for (run, _), view in self.console.client.loads.items() if run == self.run_id]
        return max(views, key=lambda view: (view.state is not LoadState.ENDED, view.began_at), default=None)

    def begin(self) -> None:
        """What there is."""
        self.tick()

    def on_resize(self) -> None:
        """Other things fit."""
        self._lines = 0
        if self.is_there:
            self.tick()

    def on_screen_resume(self) -> None:
        """What came meanwhile is shown at once."""
        if self.is_there:
            self.tick()

    def news(self) -> None:
        """A frame came: show it if it is about this test."""
        if self.is_there and (self.change, self.view, self.console.client.state) != self._shown:
            self.tick()

    def tick(self) -> None:
        """Show the test as it is now."""
        run, view = self.change, self.view
        if run is None:
            self.note("the engine has not told of it yet")
            return
        self._shown = (run, view, self.console.client.state)
        has_ended = run.state is RunState.ENDED
        self._tell_title(run, view)
        if has_ended:
            self._end.show(*_ended(run, view))
            self.console.changing.result_was_seen(run)
        width, height = self.size.width - _SPARE, self.size.height - _CHROME - (_BANNER if has_ended else 0)
        lines = list(self._text(run, view, width, height))
        # Only ever more: charts that jump up and down can't be read.
        self._lines = min(height, max(self._lines, len(lines)))
        free = height - self._lines
        self._charts.display = view is not None and free >= _LEAST_CHART
        self.text.styles.height = self._lines if self._charts.display else "1fr"
        self.text.show(lines)
        if view is not None and self._charts.display:
            self._draw(view)

    def _tell_title(self, run: Run, view: LoadView | None) -> None:
        self.heading = f"Load test {plain(view.target)}" if view is not None else run.plan.title
        if self.console.client.state is EngineState.LOST and run.state is not RunState.ENDED:
            self.note("ENGINE LOST: this is the last it said; generators fall silent 3 s after it", Level.CRIT)
            return
        # A test that never came to its end, or whose engine was lost, is not said to go on.
        is_whole = run.state is not RunState.ENDED or (view is not None and view.state is LoadState.ENDED)
        now = self.console.now()
        words = doing_words(view, now) if view is not None and is_whole else run_words(run, now)
        if run.state is RunState.CANCELLING:
            words = f"stopping; {words}"
        several = f", {len(run.plan.steps)} targets one after the other" if len(run.plan.steps) > 1 else ""
        self.note(f"{view.purpose if view is not None else ''} {words}{several}".strip())

    def _text(self, run: Run, view: LoadView | None, width: int, height: int) -> Iterator[Line]:
        if run.state is RunState.ENDED and run.outcome is not Outcome.DONE and run.words:
            yield from folded([Line(run.words, cells.Level.WARN)], width)
        if view is not None:
            yield from load_lines(view, self.console.now(), self.console.glyphs, width, height)
        else:
            yield Line("nothing is known of the test yet", cells.Level.STALE)
        others = [
            Line(f"{plain(step.part)}: {state.state}{', ' if state.words else ''}{plain(state.words)}")
            for step, state in zip(run.plan.steps, run.steps, strict=False)
            if view is None or step.part != view.target
        ]
        yield from folded([*others, who_line(run)], width)

    def _draw(self, view: LoadView) -> None:
        """Loss by rate, or by time where the rate stands; beside it what was offered and answered."""
        is_steady = view.purpose in _STEADY
        self._curve.display, self._loss.display = not is_steady, is_steady
        if is_steady:
            self._loss.limit = view.goal * 100
            self._over_time(self._loss, view, lost=lambda second: second.loss * 100)
        else:
            self._draw_curve(view)
        self._over_time(
            self._flow, view, offered=lambda second: second.offered, answered=lambda second: second.answered
        )

    def _draw_curve(self, view: LoadView) -> None:
        glyphs = self.console.glyphs
        marks = [
            Mark(p.rate, p.loss, sign_of(p.verdict, glyphs), _STYLES[p.verdict], p.verdict is not Verdict.VOID)
            for p in view.points
        ]
        near = _near(marks, view)
        some = "" if len(near) == len(marks) else f"{len(near)} of "
        signs = " ".join(f"{sign_of(verdict, glyphs)} {verdict}" for verdict in Verdict)
        self._curve.title = f"loss by rate, {some}{counted(len(marks), 'trial')}  {signs}"
        self._curve.show_marks(near, view.goal)

    def _over_time(self, chart: BrailleChart, view: LoadView, **figures: Callable[[LoadSecond], float]) -> None:
        """Figures of the last minute; a second is as many dots wide as let about that much fill the chart."""
        wide = max(1, round(chart.dots / _SHOWN))
        chart.seconds = 1 / wide
        seconds = view.seconds[-_SHOWN:]
        end = int(seconds[-1].at) * wide if seconds else 0
        chart.show(
            *(
                Series([float(of(s)) for s in seconds for _ in range(wide)], name=name, end=end)
                for name, of in figures.items()
            )
        )

    # --- keys

    def action_load_stop(self) -> None:
        """`x`: at once."""
        self.console.changing.stop_load(self.run_id)

    def action_load_adjust(self, step: int) -> None:
        """`+` and `-`."""
        if (view := self.view) is None or view.state is LoadState.ENDED:
            self.say("no load test is running")
        else:
            self.console.changing.adjust_load(view, step)

    def action_load_sheet(self) -> None:
        """Enter: the record of it, once there is all of it."""
        view = self.view
        if view is not None and view.record and view.state is LoadState.ENDED:
            self.console.changing.load_sheet(view.record)
        else:
            self.say("its sheet is there when it has ended")

    async def action_pane(self, name: str) -> None:
        """A digit leaves it for a pane; its own digit has nowhere to go while it runs."""
        run = self.change
        if name != LOADS or run is None or run.state is RunState.ENDED:
            await super().action_pane(name)

    def action_close_text(self) -> None:
        """Clear the search, else leave; the test goes on without a spectator."""
        was_searched = self.text.is_searched
        super().action_close_text()
        run = self.change
        if not was_searched and run is not None and run.state is not RunState.ENDED:
            self.console.main.say("the load test goes on; 6 shows it, x stops it", Level.WARN)


def _near(marks: list[Mark], view: LoadView) -> list[Mark]:
    """Once rates are voted on, what is far away would only squeeze what matters into one column."""
    if not view.grid:
        return marks
    low, high = view.grid[0].rate, view.grid[-1].rate
    room = max(high - low, 0.05 * high)
    return [mark for mark in marks if low - room <= mark.rate <= high + room]


def _ended(run: Run, view: LoadView | None) -> tuple[str, str]:
    """The end in one line, and how it is painted: a test that was carried out may still have found nothing."""
    level = outcome_level(run).value
    if view is None or run.outcome is not Outcome.DONE or len(run.plan.steps) > 1:
        return ended_words(run), level
    return f"{view.verdict.upper() or 'ENDED'}: {found_words(view)}", level if is_good(view) else cells.Level.WARN
