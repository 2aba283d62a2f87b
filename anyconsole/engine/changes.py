"""Changes of the fleet as the engine owns them: arming, plans, runs, the journal. It knows actions by name only."""

from __future__ import annotations

import asyncio
import getpass
import logging
import math
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from anyconsole.actions import drain, drift
from anyconsole.actions.action import Action, Hands, Standing
from anyconsole.actions.bootstrap.request import BootstrapRequest, HostHands
from anyconsole.actions.draining import Draining
from anyconsole.actions.guards import asked
from anyconsole.actions.journal import ChangeJournal, Journal, journal_of
from anyconsole.actions.journal_record import OPEN, ChangeSummary, Estimates, JournalledChange, durations, summary
from anyconsole.actions.journal_report import markdown
from anyconsole.actions.judge import judge
from anyconsole.actions.load import request as load_request
from anyconsole.actions.load.files import runs_folder
from anyconsole.actions.load.index import LoadIndex
from anyconsole.actions.load.rig import LoadHands
from anyconsole.actions.load.selftest import SelfTests
from anyconsole.actions.load.testing import LoadTesting
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Operator, Run, RunState
from anyconsole.actions.runner import Runner
from anyconsole.actions.stack.request import InCluster, StackRequest, Way
from anyconsole.errors import AnyconsoleError, JournalError
from anyconsole.model.facts import Capacity
from anyconsole.model.load_view import LoadView
from anyconsole.model.store import FleetStore
from anyconsole.model.table import clock as time_of_day

__all__ = ["Changes", "in_sequence"]

_log = logging.getLogger(__name__)

_PLANS_KEPT = 50
_RUNS_KEPT = 50
_CHANGES_KEPT = 200

_JOURNAL_EVERY = 5.0
"""Seconds between two looks for what other consoles of this user wrote."""


class AllHands(Hands, LoadHands, HostHands, Protocol):
    """How actions reach and touch hosts."""

    def in_cluster(self, name: str) -> InCluster:
        """What can be asked and done in a cluster. Raises AnyconsoleError if there is no such."""


class Changes:
    """What this console changes, has changed, and may change. Everything that mutates goes through `start`."""

    def __init__(
        self,
        store: FleetStore,
        hands: AllHands,
        operator_key: Callable[[str], str],
        woken: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._hands = hands
        self._operator_key = operator_key
        self._woken = woken
        self._clock = clock
        self._plans: deque[Plan] = deque(maxlen=_PLANS_KEPT)
        self._runners: dict[str, Runner] = {}
        self._tasks: dict[str, asyncio.Task[Run]] = {}
        self._armed_until = 0.0 if store.inventory.read_only else math.inf
        self._new_runs: dict[str, Run] = {}
        self._load_tests: dict[str, tuple[LoadTesting, ChangeJournal]] = {}
        self._adjusting = asyncio.Lock()
        self._measured = asyncio.Event()
        self._self_tests = SelfTests(clock)
        self._new_loads: dict[tuple[str, str], LoadView] = {}
        self._summaries: list[ChangeSummary] = []
        self._told: list[ChangeSummary] | None = None
        self._estimates: Estimates = {}
        self._found_journal: Journal | None = None
        self._is_unattended = False

    # --- arming

    @property
    def armed_until(self) -> float:
        """Until when changes may be started (epoch seconds); 0 is read-only, infinite where the profile isn't read-only."""
        return self._armed_until if self._armed_until > self._clock() else 0.0

    def arm(self, seconds: float) -> None:
        """Allow changes for so long; 0 makes it read-only again. Raises AnyconsoleError for more than 12 hours, or if it is locked."""
        if self._store.inventory.is_locked:
            raise AnyconsoleError("this console was started with --read-only: start another to change something")
        if not 0 <= seconds <= 12 * 3600:
            raise AnyconsoleError(f"{seconds:g} s: arming is for 12 hours at most")
        self._armed_until = self._clock() + seconds if seconds else 0.0
        self._woken()

    # --- plans and runs

    async def plan(self, action: str, request: bytes | str) -> Plan:
        """The plan of an action's request (JSON). Changes nothing. Raises AnyconsoleError."""
        try:
            made = await self._made(action, request)
        except msgspec.MsgspecError as error:
            raise AnyconsoleError(f"{action}: {error}") from error
        plan = msgspec.json.decode(msgspec.json.encode(made), type=Plan)  # as a screen hands it back: no tuples in it
        self._plans.append(plan)
        return plan

    async def _made(self, action: str, request: bytes | str) -> Plan:
        operator, now = getpass.getuser(), self._clock()
        match action:
            case "drain":
                drained = msgspec.json.decode(request, type=drain.DrainRequest)
                drained = msgspec.structs.replace(drained, operator=operator)
                return drain.make_plan(self._store, drained, now, self._estimates)
            case "drift":
                settled = msgspec.json.decode(request, type=drift.DriftRequest)
                settled = msgspec.structs.replace(settled, operator=operator)
                return drift.make_plan(self._store, settled, now, self._estimates)
            case "loadtest":
                load = msgspec.json.decode(request, type=load_request.LoadRequest)
                return load_request.make_plan(self._store, msgspec.structs.replace(load, operator=operator), now)
            case "setup" | "teardown":
                from anyconsole.actions.stack.planning import make_plan  # noqa: PLC0415 - who has no cluster doesn't pay for it

                wanted = msgspec.json.decode(request, type=StackRequest)
                wanted = msgspec.structs.replace(wanted, way=Way(action), operator=operator)
                return await make_plan(self._store, self._hands.in_cluster, wanted, now)
            case "bootstrap":
                from anyconsole.actions.bootstrap.planning import make_plan as plan_bootstrap  # noqa: PLC0415 - as above

                boot = msgspec.json.decode(request, type=BootstrapRequest)
                boot = msgspec.structs.replace(boot, operator=operator)
                return await plan_bootstrap(self._store, self._hands, boot, now)
        raise AnyconsoleError(f"there is no action {action!r}")

    def action_of(self, plan: Plan, journal: ChangeJournal | None = None) -> Action:
        """The action of a plan, from now on, as this change of the journal. Drift is settled by drain steps."""
        if plan.action in list(Way):
            from anyconsole.actions.stack.building import action_of  # noqa: PLC0415 - as above

            return action_of(self._store, plan, self._hands.in_cluster, self._clock)
        if plan.action == "bootstrap":
            from anyconsole.actions.bootstrap.installing import Bootstrapping  # noqa: PLC0415 - as above

            return Bootstrapping(self._store, plan, self._hands)
        if plan.action == "loadtest":
            return LoadTesting(
                self._store,
                plan,
                self._hands,
                self._loaded,
                change=journal.id if journal is not None else "",
                note=journal.record if journal is not None else None,
                self_tests=self._self_tests,
                clock=self._clock,
            )
        return Draining(self._store, plan, self._clock())

    async def start(
        self,
        plan: Plan,
        overrides: Mapping[str, str],
        acknowledged: Mapping[str, str] | None = None,
        parallel: int = 1,
    ) -> str:
        """Carry out a plan that this engine made; returns the run's id.

        Args:
            plan: As it was made.
            overrides: Why it is right although a guard refuses, by the guard's name.
            acknowledged: What was looked at because a guard asks, by the guard's name.
            parallel: Hosts at once, after the first.

        Raises:
            AnyconsoleError: Not armed; not a plan of this engine's; nothing to do; a host is being changed already; a guard asks and
                nobody has looked; no journal.
        """
        if not self.armed_until:
            raise AnyconsoleError("read-only: nothing is changed until this console is armed")
        if plan not in self._plans:
            raise AnyconsoleError("this plan was not made by this engine, or too long ago: plan again")
        if plan.missing:
            raise AnyconsoleError(
                f"{'; '.join(plan.missing)}. Leave it out of the scope, or wait until it is seen again"
            )
        if not plan.steps:
            raise AnyconsoleError(f"nothing to change: {plan.settled}")
        if not plan.reason.strip():
            raise AnyconsoleError("a change needs a reason")
        busy = {s.place for r in self._runners.values() if r.run.state is not RunState.ENDED for s in r.run.plan.steps}
        if taken := sorted(busy & {step.place for step in plan.steps}):
            raise AnyconsoleError(f"{', '.join(taken)}: another change of this console is running there")
        guards = judge(self._store, plan, self._clock())
        looked_at = dict(acknowledged or {})
        if unseen := [f"{name} ({numbers})" for name, numbers in asked(guards).items() if name not in looked_at]:
            raise AnyconsoleError(f"a guard asks, and nobody has looked at it: {'; '.join(unseen)}")
        operator = Operator(
            user=getpass.getuser(), host=socket.gethostname(), key=self._operator_key(plan.steps[0].host)
        )
        run = Run(
            id="",
            plan=plan,
            operator=operator,
            began_at=self._clock(),
            guards=tuple(guards),
            overrides={name: why.strip() for name, why in overrides.items() if why.strip()},
            acknowledged=looked_at,
        )
        journal = await asyncio.to_thread(lambda: self._journal().open_change(run))
        run = msgspec.structs.replace(run, id=journal.id)
        action = self.action_of(plan, journal)
        runner = Runner(run, action, self._hands, journal, self._changed, parallel=parallel, clock=self._clock)
        if isinstance(action, LoadTesting):
            self._load_tests[run.id] = action, journal
        self._runners[run.id] = runner
        task = asyncio.create_task(runner.carry_out(), name=f"run {run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(lambda _: self._ended(run.id))
        if self._is_unattended:  # the screen went while the journal was being opened
            runner.leave()
        self._changed(runner.run)
        return run.id

    def _changed(self, run: Run) -> None:
        self._new_runs[run.id] = run
        self._woken()

    def _loaded(self, view: LoadView) -> None:
        self._new_loads[view.run, view.target] = view
        self._woken()

    async def adjust(self, run_id: str, factor: float) -> float:
        """Change the rate of a fixed load test that runs; returns the new one, which is in the journal before it is asked.

        Raises:
            AnyconsoleError: There is no such test, or it may not be that fast.
            JournalError: It isn't on the disk. Then it isn't made faster, but slower all the same.
        """
        if factor > 1 and not self.armed_until:
            raise AnyconsoleError("read-only: a load test can be slowed down or stopped, but not made faster")
        async with self._adjusting:
            if run_id not in self._load_tests:
                raise AnyconsoleError(f"there is no load test {run_id!r} running in this console")
            test, journal = self._load_tests[run_id]
            before, rate = test.adjusted(factor)
            operator = Operator(user=getpass.getuser(), host=socket.gethostname())
            try:
                await asyncio.to_thread(journal.record, "adjusted", operator=operator, rate_before=before, rate=rate)
            except JournalError:
                if rate < before:
                    test.adjust(rate)
                raise
            test.adjust(rate)
        return rate

    async def follow_capacities(self, emit: Callable[[Sequence[Capacity]], None]) -> None:
        """Tell what this user's load tests have measured, now and after each of them."""
        while True:
            self._measured.clear()
            try:
                emit(await asyncio.to_thread(self._capacities))
            except (OSError, AnyconsoleError) as error:
                _log.warning("load tests: %s", error)  # then no capacity is known, and the guard says so
            await self._measured.wait()

    def _capacities(self) -> list[Capacity]:
        known = {(node.name, i.tenant) for node in self._store.inventory.nodes for i in node.instances}
        index = LoadIndex(runs_folder(self._store.inventory))
        return [c for c in index.capacities(self._clock()) if (c.node, c.tenant) in known]

    def _ended(self, run_id: str) -> None:
        self._tasks.pop(run_id, None)
        if self._load_tests.pop(run_id, None) is not None:
            self._measured.set()
        ended = [name for name, runner in self._runners.items() if runner.run.state is RunState.ENDED]
        for name in ended[:-_RUNS_KEPT]:
            del self._runners[name]

    def runner(self, run_id: str) -> Runner:
        """The runner of a run of this console. Raises AnyconsoleError."""
        if run_id not in self._runners:
            raise AnyconsoleError(f"there is no run {run_id!r} in this console")
        return self._runners[run_id]

    async def wait(self, run_id: str) -> Run:
        """The run as it ends."""
        runner = self.runner(run_id)
        if (task := self._tasks.get(run_id)) is not None:
            await asyncio.wait({task})
        return runner.run

    @property
    def is_running(self) -> bool:
        """True while a run isn't ended."""
        return bool(self._tasks)

    async def finish(self) -> None:
        """The screen is gone: bring every run to its end. Questions are answered with what is safe."""
        self._is_unattended = True
        for runner in self._runners.values():
            runner.leave()
        if self._tasks:
            _log.info("the screen is gone, %d changes go on to their end", len(self._tasks))
            await asyncio.wait(set(self._tasks.values()))

    def cancel_all(self) -> None:
        """Take back everything that is unconfirmed."""
        for runner in self._runners.values():
            runner.cancel()

    # --- the journal

    def _journal(self) -> Journal:
        """The journal, found once it is needed. Raises JournalError."""
        if self._found_journal is None:
            self._found_journal = journal_of(self._store.inventory)
        return self._found_journal

    async def follow_journal(self) -> None:
        """Keep the summaries of the journal up to date, with what other consoles of this user write."""
        said = ""
        while True:
            try:
                changes = await asyncio.to_thread(lambda: self._journal().changes(_CHANGES_KEPT))
            except (OSError, AnyconsoleError) as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("journal: %s", said)
            else:
                self._estimates = durations(changes, {n.name: n.site for n in self._store.inventory.nodes})
                summaries = [summary(change) for change in changes]
                if summaries != self._summaries:
                    self._summaries = summaries
                    self._woken()
            await asyncio.sleep(1.0 if self._tasks else _JOURNAL_EVERY)

    async def left_open(self) -> list[JournalledChange]:
        """Changes that were begun and never ended, the newest first. Raises JournalError."""
        changes = await asyncio.to_thread(lambda: self._journal().changes(_CHANGES_KEPT))
        return [change for change in changes if change.outcome == OPEN]

    async def report(self, change_id: str) -> str:
        """A change as an incident report, with what the nodes say now if it was left open."""
        change = await asyncio.to_thread(lambda: self._journal().change(change_id))
        text = markdown(change)
        if change.outcome == OPEN:
            text += f"\n## What the nodes say now ({time_of_day(self._clock())} UTC)\n\n{await self.found(change)}\n"
        return text

    async def acknowledge(self, change_id: str) -> str:
        """Close a change that was left open, with what the nodes say now; returns those words."""
        journal = self._journal()
        change = await asyncio.to_thread(lambda: journal.change(change_id))
        words = await self.found(change)
        operator = Operator(user=getpass.getuser(), host=socket.gethostname())
        await asyncio.to_thread(lambda: journal.acknowledge(change_id, operator, words))
        return words

    async def found(self, change: JournalledChange) -> str:
        """Where the nodes of a change stand now, step by step."""
        if not change.plan.steps:
            return "its plan can't be read, so where the nodes should stand is not known"
        action = self.action_of(change.plan)
        now = self._clock()
        steps = change.plan.steps
        standings = in_sequence(steps, [action.standing(step, now) for step in steps])
        told = []
        for step, standing in zip(steps, standings, strict=True):
            try:
                words = await action.inspect(step) or str(standing)
            except AnyconsoleError as error:
                words = f"{Standing.UNKNOWN}: {error}"
            told.append(f"{step.host} {step.title}: {words}")
        return "\n".join(told)

    # --- for the screen

    def take_loads(self) -> list[LoadView]:
        """Load tests that changed since the last call, each as it is now."""
        loads, self._new_loads = list(self._new_loads.values()), {}
        return loads

    def take_news(self) -> tuple[list[Run], list[ChangeSummary] | None]:
        """Runs that changed since the last call, and the journal's summaries if they did."""
        runs, self._new_runs = list(self._new_runs.values()), {}
        if self._summaries is self._told:
            return runs, None
        self._told = self._summaries
        return runs, self._summaries


def in_sequence(steps: Sequence[Step], standings: Sequence[Standing]) -> list[Standing]:
    """Where the steps of one plan stand together: the one serial that a host tells is known to the steps on both sides of it alone."""
    told = list(standings)
    for i, step in enumerate(steps):
        if standings[i] is not Standing.OTHER:
            continue
        same = [j for j, other in enumerate(steps) if (other.host, other.part) == (step.host, step.part)]
        if any(standings[j] in (Standing.CONFIRMED, Standing.UNCONFIRMED) for j in same if j > i):
            told[i] = Standing.CONFIRMED
        elif any(standings[j] not in (Standing.OTHER, Standing.UNKNOWN) for j in same if j < i):
            told[i] = Standing.BEFORE
    return told
