"""`D`, `U`, `S`, `T`, `L`, `:adopt` and `:revert`: what would be done, what the guards say of it now, and the only way to have it done.

The targets are names taken at the key press. What is started is, to the letter, the plan that is shown.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from anyconsole.actions.guards import GuardVerdict, Outcome
from anyconsole.actions.judge import judge
from anyconsole.actions.plan import Plan, render
from anyconsole.engine.client import EngineState
from anyconsole.errors import AnyconsoleError
from anyconsole.model.table import Glyphs, Level
from anyconsole.tui.actions import key_label
from anyconsole.tui.guard_text import guard_level, guard_parts
from anyconsole.tui.header import level_style
from anyconsole.tui.plain_text import plain
from anyconsole.tui.screens.dialog import Dialog
from anyconsole.tui.screens.plan_form import form_of, row
from anyconsole.tui.targets import Targets, Wish, request_text
from anyconsole.tui.widgets.form import Field, Push, Tick
from anyconsole.tui.widgets.text_view import Line, TextView

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["PlanScreen"]

_PAUSE = 0.4
"""Seconds without a key after which the plan is asked for anew."""

_WIDE = 126
"""Columns from which on the plan stands beside the form."""

_NARROWEST = 40
"""Cells that a line of the plan gets at the least."""

_REST = 10.0
"""Guards of a wide change are dear: one part judging to so many parts of waiting."""


class _GuardRow(Vertical):
    """One guard: its verdict, and what it wants before it lets the change go on."""

    DEFAULT_CSS = """
    _GuardRow {
        height: auto;
        & > .verdict { height: auto; }
        & > .verdict > Static { width: 25; height: auto; background: $panel; }
        & > .verdict > .numbers { width: 1fr; }
        &.content > .verdict > .numbers { text-wrap: nowrap; text-overflow: ellipsis; }
        & > .override, & > .ask { height: 1; padding-left: 2; display: none; }
        &.override > .override { display: block; }
        &.ask > .ask { display: block; }
    }
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.verdict: GuardVerdict | None = None
        self._words, self._numbers = Static(), Static(classes="numbers")
        self._reason = Field("why it is right all the same")
        self._tick = Tick("I have looked at this; go on")
        self._name = name

    def compose(self) -> ComposeResult:
        """The verdict above its field or its tick."""
        with Horizontal(classes="verdict"):
            yield self._words
            yield self._numbers
        with Horizontal(classes="override"):
            yield Static("override: ", classes="label")
            yield self._reason
        with Horizontal(classes="ask"):
            yield self._tick

    def show(self, verdict: GuardVerdict, glyphs: Glyphs) -> None:
        """Another verdict of the same guard."""
        if verdict != self.verdict:
            self.verdict = verdict
            level = guard_level(verdict)
            words, numbers = guard_parts(verdict, glyphs)
            self._words.update(Content.assemble((plain(words), level_style(level))))
            self._numbers.update(Content.assemble((plain(numbers), "" if level is Level.OK else level_style(level))))
            self.set_class(level is Level.OK, "content")
            self.set_class(verdict.refuses and verdict.overridable, "override")
            self.set_class(verdict.outcome is Outcome.ASK, "ask")

    @property
    def lacks(self) -> str:
        """What is missing before the change may go on, "" for nothing."""
        match self.verdict:
            case GuardVerdict(outcome=Outcome.REFUSE, overridable=False):
                return f"{self._name} refuses, and can't be overridden"
            case GuardVerdict(outcome=Outcome.REFUSE) if not self._reason.words:
                return f"{self._name} refuses: say why it is right all the same"
            case GuardVerdict(outcome=Outcome.ASK) if not self._tick.is_ticked:
                return f"{self._name} asks: look at its numbers and tick it"
            case _:
                return ""

    @property
    def is_final(self) -> bool:
        """True while it refuses for good."""
        return self.verdict is not None and self.verdict.refuses and not self.verdict.overridable

    @property
    def override(self) -> str:
        """Why it is right although this guard refuses, "" if it doesn't."""
        return self._reason.words if self.verdict is not None and self.verdict.refuses else ""

    @property
    def acknowledged(self) -> str:
        """The numbers that were looked at because this guard asks, "" if it doesn't."""
        return self.verdict.numbers if self.verdict is not None and self.verdict.outcome is Outcome.ASK else ""


class PlanScreen(Dialog[None]):
    """Asks for the plan, judges it every second, and starts it if everything is there and a human means it."""

    def __init__(self, app: ConsoleApp, targets: Targets, wish: Wish) -> None:
        super().__init__()
        self.console = app
        self.targets = targets
        self.plan: Plan | None = None
        self._wish = wish
        self._plan_text = ""
        self._problem = ""
        self._notice = ("", "")
        self._is_planning = True
        self._is_starting = False
        self._is_started = False
        self._pause: Timer | None = None
        self._judge_at = 0.0
        self._guards: dict[str, _GuardRow] = {}
        self._troubled: list[_GuardRow] = []
        self._form = form_of(app, wish)
        self._ticket = Field("ticket, if there is one", id="ticket", max_length=40)
        self._reason = Field("why, for the journal and for whoever comes after you", id="reason")
        self._typed = Field(id="typed")
        self._title = Static(classes="dialog-title")
        self._text = TextView()
        self._text.can_focus = False
        self._status = Static(id="plan-status")
        self._apply = Push("Apply", id="apply", is_dangerous=True, disabled=True)

    def compose(self) -> ComposeResult:
        """Title, form and guards, the plan, what is missing, two buttons."""
        with Vertical(classes="dialog", id="plan"):
            yield self._title
            with VerticalScroll(id="plan-body", classes="dialog-scroll", can_focus=False):
                with VerticalScroll(id="plan-form", classes="dialog-scroll", can_focus=False):
                    yield self._form
                    yield from row("reason", self._reason)
                    yield from row("ticket", self._ticket)
                    yield from row("confirm", self._typed, "confirm")
                    yield Vertical(id="plan-guards")
                with VerticalScroll(id="plan-side", classes="dialog-scroll", can_focus=False):
                    yield self._text
            yield self._status
            with Horizontal(classes="dialog-buttons"):
                yield Push("Cancel", id="first")
                yield self._apply

    def on_mount(self) -> None:
        """Ask for the first plan."""
        self._lay_out()
        self._show_plan()
        self._ask_now()

    def on_resize(self) -> None:
        """The plan stands beside the form, or below it."""
        self._lay_out()
        self.call_after_refresh(self._show_plan)

    def _lay_out(self) -> None:
        self.query_one("#plan").set_class(self.app.size.width >= _WIDE, "wide")

    # --- the plan

    def on_choice_changed(self) -> None:
        """Another choice in the form."""
        self._ask_soon()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Reason, ticket and the form are part of the plan; the rest only lets it go on."""
        event.stop()
        if event.input in (self._reason, self._ticket) or self._form in event.input.ancestors:
            self._ask_soon()
        self._judge_status()

    def on_tick_changed(self) -> None:
        """A guard was looked at."""
        self._judge_status()

    def _ask_soon(self) -> None:
        self._is_planning = True
        self._notice = ("", "")
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(_PAUSE, self._ask_now)
        self._judge_status()

    def _ask_now(self) -> None:
        self._is_planning = True
        self._judge_status()
        self.run_worker(self._ask(), exclusive=True, group="plan")

    async def _ask(self) -> None:
        try:
            form = self._form.fields(self.console.now())
            request = request_text(
                self._wish, self.targets, reason=self._reason.words, ticket=self._ticket.words, **form
            )
            text = await self.console.client.ask("plan", action=self._wish.action, request=request)
            self.plan, self._plan_text, self._problem = msgspec.json.decode(text, type=Plan), text, ""
        except (AnyconsoleError, msgspec.MsgspecError) as error:
            self.plan, self._plan_text, self._problem = None, "", str(error)
        self._is_planning = False
        self._show_plan()
        self._judge()
        self._judge_status()

    def _show_plan(self) -> None:
        plan = self.plan
        size = f"   {len(plan.steps)} step(s)" if plan is not None else ""
        if plan is not None and plan.changes:
            size += f", {len(plan.changes)} announcement(s)"
        self._title.update(Content.assemble(f"{self._wish}: {plain(self.targets.words)}", (size, "not bold $stale")))
        # The guards stand beside it, live.
        words = render(plan, ()).replace("\nGUARDS\n", "", 1).splitlines() if plan is not None else [self._problem]
        width = self._text.size.width - 1 or _NARROWEST
        lines = [Line(piece, bold=line.startswith("PLAN")) for line in words for piece in _fold(line, width)]
        self._text.show(lines)
        self._text.styles.height = len(lines)
        wanted = plan.type_to_confirm if plan is not None else ""
        self.query_one(".confirm").set_class(bool(wanted), "wanted")
        self.query_one(".confirm .label", Static).update(Content(f"type {plain(wanted)} to confirm: "))

    # --- the guards

    def tick(self) -> None:
        """Every second: numbers change, and what was allowed may be no longer."""
        if time.monotonic() >= self._judge_at:
            self._judge()
        self._judge_status()

    def _judge(self) -> None:
        """Judge the plan on the fleet as it is now."""
        if self.plan is None:
            return
        before = time.monotonic()
        listing = self.query_one("#plan-guards")
        for verdict in judge(self.console.client.store, self.plan, self.console.now()):
            if verdict.name not in self._guards:
                self._guards[verdict.name] = _GuardRow(verdict.name)
                listing.mount(self._guards[verdict.name])
            row = self._guards[verdict.name]
            row.show(verdict, self.console.glyphs)
            if verdict.outcome is not Outcome.OK and row not in self._troubled:
                # On top, and it stays there: a field must not move away from under the hand.
                listing.move_child(row, before=len(self._troubled))
                self._troubled.append(row)
        now = time.monotonic()
        self._judge_at = now + _REST * (now - before)

    @property
    def lacks(self) -> str:
        """The first thing that is missing before it may be applied; "" if nothing is."""
        return next(self._lacking(), "")

    def _lacking(self) -> Iterator[str]:
        if self._is_starting:
            yield "starting ..."
        if self.console.client.state is not EngineState.LIVE:
            yield f"the engine is {self.console.client.state}"
        if self._is_planning:
            yield "planning ..."
        if self.plan is None:
            yield self._problem or "there is no plan"
            return
        yield from self.plan.missing
        if not self.plan.steps:
            yield f"there is nothing to change: {self.plan.settled}"
        if not self.console.changing.is_armed:
            yield "read-only: leave this, and :arm 15m lifts it"
        guards = list(self._guards.values())
        yield from (row.lacks for row in guards if row.is_final)
        if not self._reason.words:
            yield "a reason is missing"
        yield from (row.lacks for row in guards if row.lacks)
        if self.plan.type_to_confirm and self._typed.value != self.plan.type_to_confirm:
            yield f"type {plain(self.plan.type_to_confirm)} to confirm"

    def _judge_status(self) -> None:
        lacks = self.lacks
        if lacks and self._apply.has_focus:
            self.query_one("#first", Push).take_cursor()
        self._apply.set_ready(not lacks)
        words = lacks or f"{key_label('tab')} to Apply: carries out this plan as it is shown"
        level = Level.OK if not lacks else Level.CRIT if self._problem and not self._is_planning else Level.WARN
        self._status.update(Content.assemble(self._notice, (plain(words), level_style(level))))
        self.keep_cursor()

    # --- applying

    def on_push_pressed(self, event: Push.Pressed) -> None:
        """Either button."""
        if event.push is self._apply:
            self._start()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Escape; while it is being started, it is too late for that: the watch screen aborts."""
        if self._is_started or not self._is_starting:
            self.leave()

    def on_screen_resume(self) -> None:
        """It was started while another screen lay over this one."""
        if self._is_started:
            self.leave()

    def say(self, text: str, level: Level = Level.NONE) -> None:
        """A message where it is looked at; it stays until something is changed in the form."""
        self._notice = (f"{plain(text)}\n", level_style(level)) if text else ("", "")
        self._judge_status()

    def _start(self) -> None:
        """Everything is looked at once more, at the last moment."""
        self._judge()
        if self.console.changing.refuse() or self.lacks:
            self._judge_status()
            return
        self._is_starting = True
        self._judge_status()
        # The app's, so that it is told of even if this screen goes.
        self.console.run_worker(self._ask_to_start())

    async def _ask_to_start(self) -> None:
        overrides = {name: row.override for name, row in self._guards.items() if row.override}
        acknowledged = {name: row.acknowledged for name, row in self._guards.items() if row.acknowledged}
        try:
            run = await self.console.client.ask(
                "start",
                plan=self._plan_text,
                overrides=msgspec.json.encode(overrides).decode(),
                acknowledged=msgspec.json.encode(acknowledged).decode(),
            )
        except AnyconsoleError as error:
            self._is_starting = False
            self._ask_now()  # the fleet is another one than was planned for
            self.say(str(error), Level.CRIT)
            return
        self._is_started = True
        self.leave()
        self.console.changing.watch_run(run, self._wish.action)


def _fold(line: str, width: int) -> list[str]:
    """A line of the plan in pieces that fit: nothing of what will be done is out of sight."""
    indent = " " * (len(line) - len(line.lstrip()) + 6)
    return textwrap.wrap(
        line, max(_NARROWEST, width), subsequent_indent=indent, break_on_hyphens=False, replace_whitespace=False
    ) or [""]
