"""Changing the fleet from the screen: the one check that read-only is, the dialogs it leads to, and what became of the runs.

Nothing here decides whether a change is safe or carries one out: plans and runs are the engine's, guards are `actions.guards`'.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anyconsole.actions.journal_record import OPEN, ChangeSummary
from anyconsole.actions.run import Run, RunState
from anyconsole.model.facts import Key
from anyconsole.model.load_view import LoadView
from anyconsole.model.table import Level, rate
from anyconsole.tui.actions import ACTIONS, key_label
from anyconsole.tui.header import Words
from anyconsole.tui.targets import Targets, Wish, drift_targets_of, load_targets_of, stack_targets_of, targets_of
from anyconsole.tui.traffic import Place, baseline

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp
    from anyconsole.tui.screens.load import LoadScreen
    from anyconsole.tui.screens.watch import WatchScreen

__all__ = ["READ_ONLY", "Changing", "seconds_of"]

_log = logging.getLogger(__name__)

READ_ONLY = "read-only: :arm 15m lifts it"

LOAD_TEST = "loadtest"
"""The action of load tests' plans."""

_IN_A_CLUSTER = "set up in a cluster or torn down there; choose tenants, nodes or pods that are in one"

_FASTER, _SLOWER = 1.1, 0.9
"""What `+` and `-` make of a rate."""

_KEYS = ", ".join(key_label(action.keys[0]) for action in ACTIONS if action.mutates and action.keys)
"""Of what can be done while it is armed."""

_UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> int | None:
    """Seconds of a time such as 90s, 15m or 1h; None if it isn't one."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smh])", text.strip())
    return int(found[1]) * _UNITS[found[2]] if found else None


class Changing:
    """What an operator can do to the fleet, and what they are told of what is being done."""

    def __init__(self, app: ConsoleApp) -> None:
        self._app = app
        self._baselines: dict[str, dict[Place, float]] = {}
        self._running: set[str] = set()
        self._unseen: set[str] = set()
        self._told: frozenset[str] = frozenset()
        self._said: tuple[tuple[Words, ...], bool] = ((), False)

    # --- read-only

    @property
    def is_armed(self) -> bool:
        """True while the fleet may be changed from here."""
        return self._app.now() < self._app.client.armed_until

    @property
    def armed_for(self) -> float:
        """Seconds for which it may still be changed; infinite where the profile isn't read-only."""
        until = self._app.client.armed_until
        return until if math.isinf(until) else max(0.0, until - self._app.now())

    def refuse(self) -> bool:
        """The one check: True, and said, if this console is read-only now."""
        if self.is_armed:
            return False
        self._app.say(READ_ONLY, Level.WARN)
        return True

    def arm(self, text: str) -> None:
        """`:arm 15m`."""
        seconds = seconds_of(text)
        if seconds is None:
            self._app.say(":arm wants a time, such as 15m or 1h", Level.WARN)
        else:
            self._app.begin(self._arm(seconds, f"armed for {text.strip()}: {_KEYS} are live"))

    def disarm(self) -> None:
        """`:disarm`."""
        self._app.begin(self._arm(0, "read-only again"))

    async def _arm(self, seconds: int, words: str) -> None:
        await self._app.client.ask("arm", seconds=str(seconds))
        self._app.say(words, Level.WARN if seconds else Level.OK)
        self._app.tick()

    # --- plans

    def plan(self, keys: Sequence[Key], wish: Wish) -> None:
        """Open the dialog on these rows, by name."""
        find, what = {
            "drift": (drift_targets_of, "changed; choose rows that are on one node"),
            "setup": (stack_targets_of, _IN_A_CLUSTER),
            "teardown": (stack_targets_of, _IN_A_CLUSTER),
            "loadtest": (load_targets_of, "load tested; choose nodes, tenants or instances"),
        }.get(wish.action, (targets_of, "changed; choose rows that are nodes, tenants, sessions or announcements"))
        targets: Targets | None = find(self._app.client.store, keys)
        if targets is None:
            self._app.say(f"these rows name nothing that could be {what}", Level.WARN)
        elif wish is Wish.LOAD_TEST and not targets.loads:
            self._app.say(
                "nothing here is listed as a target of load tests ([[load.target]] in the profile)", Level.WARN
            )
        else:
            from anyconsole.tui.screens.plan import PlanScreen  # noqa: PLC0415 - the first frame doesn't wait for it

            self._app.push_screen(PlanScreen(self._app, targets, wish))

    # --- runs

    def take(self) -> None:
        """The client has news: remember what was before a run, and tell of one that asks or has ended."""
        client = self._app.client
        for run in client.runs.values():
            if run.id not in self._baselines:
                self._baselines[run.id] = baseline(client.store, run.plan)
            if run.state is not RunState.ENDED:
                self._running.add(run.id)
            elif run.id in self._running:
                self._running.discard(run.id)
                self._unseen.add(run.id)
                if run.plan.action == LOAD_TEST:
                    self._app.load_results.refresh()
                if not self._is_watched(run.id):
                    from anyconsole.tui.watch_text import ended_words  # noqa: PLC0415 - the first frame doesn't wait for it

                    self._app.say(f"{ended_words(run)} (W)", outcome_level_of(run))
        self._tell_open()
        for screen in self._watching:
            screen.news()
        before, self._said = self._said, (self.words, self.is_armed)
        if self._said != before:
            self._app.tick()

    def _tell_open(self) -> None:
        opened = self.open_changes
        if fresh := [change for change in opened if change.id not in self._told]:
            self._app.say(_open_words(fresh[0], len(opened)), Level.CRIT)
        self._told |= {change.id for change in opened}

    def _is_watched(self, run: str) -> bool:
        return any(screen.run_id == run for screen in self._watching)

    @property
    def _watching(self) -> list[WatchScreen | LoadScreen]:
        """The watch screens that are open."""
        if not self._app.client.runs:
            return []
        from anyconsole.tui.screens.load import LoadScreen  # noqa: PLC0415 - the first frame doesn't wait for it
        from anyconsole.tui.screens.watch import WatchScreen  # noqa: PLC0415

        return [screen for screen in self._app.screen_stack if isinstance(screen, WatchScreen | LoadScreen)]

    @property
    def open_changes(self) -> list[ChangeSummary]:
        """Changes that were begun and never ended, and that nobody works on."""
        return [change for change in self._app.client.changes if change.state == OPEN]

    @property
    def words(self) -> tuple[Words, ...]:
        """For the header: what is going on, and what waits to be looked at."""
        runs = self._app.client.runs
        live = [run for run in runs.values() if run.state is not RunState.ENDED]
        tests = sum(run.plan.action == LOAD_TEST for run in live)
        asking = sum(run.state is RunState.ASKING for run in live)
        said: list[Words] = []
        if asking:
            said.append((f"{_count(asking, 'change')} ASK{'S' if asking == 1 else ''} (W)", Level.CRIT))
        if tests:
            said.append((f"{_count(tests, 'load test')} running (6)", Level.WARN))
        if len(live) > asking + tests:
            said.append((f"{_count(len(live) - asking - tests, 'change')} running (W)", Level.WARN))
        if not live:
            said += [
                (f"{runs[i].outcome or 'ended'} (W)", outcome_level_of(runs[i]))
                for i in list(self._unseen)[:1]
                if i in runs
            ]
        if opened := self.open_changes:
            said.append((f"{_count(len(opened), 'open change')} (8)", Level.CRIT))
        return tuple(said)

    def baseline_of(self, run: Run) -> dict[Place, float]:
        """What the instances concerned answered before the run began."""
        if run.id not in self._baselines:
            self._baselines[run.id] = baseline(self._app.client.store, run.plan)
        return self._baselines[run.id]

    def result_was_seen(self, run: Run) -> None:
        """The result sheet was shown."""
        if run.id in self._unseen:
            self._unseen.discard(run.id)
            self._app.tick()

    def watch(self) -> None:
        """The run that asks, else the one that runs, else the last; a list if there are several."""
        runs = list(self._app.client.runs.values())
        live = [run for run in runs if run.state is not RunState.ENDED]
        wanted = live or [run for run in runs if run.id in self._unseen] or runs[-1:]
        if not wanted:
            self._app.say("nothing has been changed from here yet; 8 shows the journal")
        elif len(wanted) == 1:
            self.watch_run(wanted[0].id)
        else:

            def chosen(run: str | None) -> None:
                if run is not None:
                    self.watch_run(run)

            options = [(run.id, f"{run.outcome or run.state}  {run.plan.title}") for run in wanted]
            from anyconsole.tui.screens.choose import ChooseScreen  # noqa: PLC0415 - the first frame doesn't wait for it

            self._app.push_screen(ChooseScreen("Watch", options), chosen)

    def watch_run(self, run: str, action: str = "") -> None:
        """Open the watch screen, unless it is the one that is seen. `action` is the plan's, for a run that was only just begun."""
        from anyconsole.tui.screens.load import LoadScreen  # noqa: PLC0415 - the first frame doesn't wait for it
        from anyconsole.tui.screens.watch import WatchScreen  # noqa: PLC0415

        known = self._app.client.runs.get(run)
        action = known.plan.action if known is not None else action
        kind = LoadScreen if action == LOAD_TEST else WatchScreen
        screen = self._app.screen
        if not (isinstance(screen, kind) and screen.run_id == run):
            self._app.push_screen(kind(self._app, run))

    def cancel(self, run: str) -> None:
        """Take back what isn't confirmed, begin nothing more."""
        known = self._app.client.runs.get(run)
        lasts = known is not None and any(step.lasting for step in known.plan.steps)
        words = "what was done stays" if lasts else "what is unconfirmed is taken back"
        self._app.begin(self._say_after(f"aborting: {words}", "cancel", run=run))

    def answer(self, run: str, question: int, answer: str) -> None:
        """Answer a run's question."""
        self._app.begin(
            self._say_after(f"answered: {answer}", "answer", run=run, question=str(question), answer=answer)
        )

    # --- load tests

    @property
    def load_tests(self) -> list[Run]:
        """Those that run."""
        runs = self._app.client.runs.values()
        return [run for run in runs if run.plan.action == LOAD_TEST and run.state is not RunState.ENDED]

    def watch_load(self) -> None:
        """The load test that runs, if one does."""
        if tests := self.load_tests:
            self.watch_run(tests[-1].id)

    def stop_load(self, run: str = "") -> None:
        """Stop a load test, or all that run. It is asked of nobody: stopping is safe, and it is allowed when read-only too."""
        tests = [test for test in self.load_tests if run in ("", test.id)]
        for test in tests:
            self._app.begin(self._say_after("stopping: the generators fall silent", "cancel", run=test.id))
        if not tests:
            self._app.say("no load test is running")

    def adjust_load(self, view: LoadView, step: int) -> None:
        """A tenth faster or slower; faster is a change, slower never does harm."""
        if not view.can_adjust:
            self._app.say("only a load test at a fixed rate can go faster or slower while it runs", Level.WARN)
        elif step < 0 or not self.refuse():
            self._app.begin(self._adjust(view.run, _FASTER if step > 0 else _SLOWER))

    async def _adjust(self, run: str, factor: float) -> None:
        now = await self._app.client.ask("adjust", run=run, factor=f"{factor:.6g}")
        self._app.say(f"goes on at {rate(float(now)).text} q/s")

    def load_sheet(self, record: str) -> None:
        """A result; the test itself if it is one of ours that runs."""
        view = next((v for v in self._app.client.loads.values() if v.record == record), None)
        if view is not None and view.run in {test.id for test in self.load_tests}:
            self.watch_run(view.run)
            return
        from anyconsole.tui.screens.load_sheet import LoadSheetScreen  # noqa: PLC0415 - the first frame doesn't wait for it

        self._app.push_screen(LoadSheetScreen(self._app, record))

    # --- journal

    def report(self, change: str) -> None:
        """The report of a change."""
        from anyconsole.tui.screens.report import ReportScreen  # noqa: PLC0415 - the first frame doesn't wait for it

        self._app.push_screen(ReportScreen(self._app, change))

    def acknowledge(self, key: Key | None) -> None:
        """The open change under the cursor; anywhere else the only one there is."""
        opened = [change.id for change in self.open_changes]
        chosen = [change for change in opened if key == ("change", change)] or (opened if len(opened) == 1 else [])
        if chosen:
            self._app.begin(self._say_after("acknowledged", "acknowledge", change=chosen[0]))
        else:
            self._app.say("no open change is under the cursor" if opened else "no change is open", Level.WARN)

    async def _say_after(self, words: str, op: str, **args: str) -> None:
        await self._app.client.ask(op, **args)
        self._app.say(words)


def outcome_level_of(run: Run) -> Level:
    """The level of a message about the end of a run."""
    from anyconsole.tui.watch_text import outcome_level  # noqa: PLC0415 - the first frame doesn't wait for it

    return Level(outcome_level(run).value)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _open_words(change: ChangeSummary, count: int) -> str:
    more = f", and {count - 1} more" if count > 1 else ""
    began = datetime.fromtimestamp(change.opened_at, UTC).strftime("%H:%M")
    return f"open change from {began}: {change.title}{more} (8)"
