"""Load tests while they run: proof of where packets go, trials, a look each second at what must stop them, and the record of it all.

A guard that trips, a generator that is lost, a key: whatever ends a test, its generators are silent before anything else is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from anyconsole.actions.guards import GuardVerdict, Outcome
from anyconsole.actions.load import guards as load_guards
from anyconsole.actions.load.answer import Answer, Course, Ending, Goal, judged
from anyconsole.actions.load.courses import FixedRate, Ramp, Soak
from anyconsole.actions.load.engines import ENGINES
from anyconsole.actions.load.files import RunFile, new_id, runs_folder
from anyconsole.actions.load.header import header_of
from anyconsole.actions.load.limit import Limit
from anyconsole.actions.load.live import Live
from anyconsole.actions.load.record import InstanceSecond, LimitCause, Result
from anyconsole.actions.load.request import (
    LoadRequest,
    Purpose,
    address_of,
    asked_of,
    asked_seconds,
    cap_of,
    engine_of,
    flows_of,
    generators_of,
    targets_of,
    zone_of,
)  # fmt: skip
from anyconsole.actions.load.rig import (
    Hold,
    LoadHands,
    generators,
    held,
    prove,
    queries_of,
    setups_of,
    shares_of,
    watched,
)  # fmt: skip
from anyconsole.actions.load.rows import result_of
from anyconsole.actions.load.search import Search
from anyconsole.actions.load.selftest import SelfTests, together
from anyconsole.actions.load.server import Server
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Proof
from anyconsole.actions.runner import Gate, Standing
from anyconsole.drivers.load.generator import Generators, Told
from anyconsole.drivers.load.messages import Second, Tick
from anyconsole.drivers.load.query_set import QuerySet
from anyconsole.errors import AnyconsoleError, LoadError
from anyconsole.model.inventory import LoadTarget
from anyconsole.model.load import Counts, Latency, Order, Trial
from anyconsole.model.load_view import GeneratorRow, LoadState, LoadView
from anyconsole.model.store import FleetStore

__all__ = ["LoadTesting", "course_of", "goal_of"]

TICK_SECONDS: Final = 0.2
GUARD_EVERY: Final = 1.0
OBEY_TURNS: Final = 3
"""Looks after which a generator that goes on in spite of a stop is cut off."""
_OF_RATE: Final = ("caps", "production")
"""Guards that judge the rate: they are asked again when it is raised."""
RAMP_STEPS: Final = 20


def goal_of(store: FleetStore, request: LoadRequest, target: LoadTarget, limit: float | None = None) -> Goal:
    """What is looked for: the request's figures, else the profile's. `limit` is what the generators can do, None if not known."""
    load = store.inventory.load
    engine = ENGINES[engine_of(store, request)]
    primed = {} if engine.seconds else {"trial_seconds": engine.shortest, "prime_seconds": 0.0}
    guard = load.p99_guard_ms / 1000 if request.p99_guard is None else request.p99_guard
    return Goal(
        **primed,
        cap=cap_of(store, request, target),
        start=request.rate or None,
        loss=load.loss if request.loss is None else request.loss,
        width=load.width if request.width is None else request.width,
        p99_guard=guard if engine.latency else None,
        confirm_seconds=request.confirm,
        generator_limit=limit,
    )


def course_of(request: LoadRequest, goal: Goal) -> Course:
    """The sequence of trials that the request is for."""
    seconds = asked_seconds(request)
    match request.purpose:
        case Purpose.SEARCH:
            return Search(goal)
        case Purpose.FIXED:
            return FixedRate(goal, request.rate, seconds)
        case Purpose.RAMP:
            steps = max(1, min(RAMP_STEPS, int(seconds / goal.trial_seconds)))
            return Ramp(goal, request.rate / steps, request.rate, steps, seconds / steps)
        case Purpose.SOAK:
            return Soak(goal, request.rate, seconds)


class LoadTesting:
    """The action of one load test's plan."""

    def __init__(
        self,
        store: FleetStore,
        plan: Plan,
        hands: LoadHands,
        on_view: Callable[[LoadView], None],
        *,
        change: str = "",
        clock: Callable[[], float] = time.time,
        self_tests: SelfTests | None = None,
    ) -> None:
        """`self_tests` are those of the session; without them each generator is tested anew."""
        self._store = store
        self._plan = plan
        self._change = change
        self._request = asked_of(plan)
        self._hands = hands
        self._on_view = on_view
        self._clock = clock
        self._self_tests = self_tests or SelfTests(clock)
        self._test: _Test | None = None

    def adjust(self, factor: float) -> float:
        """Go on with a fixed run at `factor` times its rate, under its cap; returns the new rate. Raises AnyconsoleError."""
        if self._test is None:
            raise AnyconsoleError("no load test runs now")
        return self._test.adjust(factor)

    # --- what the runner asks

    def witnesses(self, steps: Sequence[Step]) -> set[str]:
        """The nodes under test."""
        return {step.host for step in steps}

    def guards(
        self, steps: Sequence[Step], now: float, *, unconfirmed: bool = False, unseen: Collection[str] = ()
    ) -> list[GuardVerdict]:
        """The guards of `guards`, on these steps' targets."""
        assert not unconfirmed  # noqa: S101 - a load test leaves nothing to be confirmed
        request = msgspec.structs.replace(self._request, targets=tuple(step.part for step in steps))
        plan = msgspec.structs.replace(self._plan, request=msgspec.to_builtins(request))
        verdicts = load_guards.evaluate(self._store, plan, now)
        if blind := sorted(set(unseen)):
            words = f"{', '.join(blind)} can't be seen"
            verdicts.append(GuardVerdict(name="evidence", outcome=Outcome.REFUSE, numbers=words, overridable=False))
        return verdicts

    def gate(self, step: Step, now: float) -> Gate:  # noqa: ARG002
        """Nothing has to be waited for."""
        return Gate(is_open=True)

    def proofs(self, step: Step, now: float) -> tuple[Proof, ...]:  # noqa: ARG002
        """Nothing is left that would have to be proved."""
        return ()

    def standing(self, step: Step, now: float) -> Standing:  # noqa: ARG002
        """A load test changes nothing: whatever became of it, its node is as it was."""
        return Standing.BEFORE

    async def inspect(self, step: Step) -> str:  # noqa: ARG002
        """Nothing of it is left anywhere."""
        return ""

    async def perform(self, step: Step, say: Callable[[str], None]) -> str:
        """Test one target; returns its result in words. Raises AnyconsoleError."""
        target = next(t for t in targets_of(self._store, self._request) if t.name == step.part)
        self._test = _Test(
            self._store,
            self._plan,
            self._request,
            target,
            self._hands,
            self._on_view,
            say,
            change=self._change,
            clock=self._clock,
            self_tests=self._self_tests,
        )
        try:
            return await self._test.carry_out(await asyncio.to_thread(runs_folder, self._store.inventory))
        finally:
            self._test = None


class _Test:
    """The test of one target."""

    def __init__(
        self,
        store: FleetStore,
        plan: Plan,
        request: LoadRequest,
        target: LoadTarget,
        hands: LoadHands,
        on_view: Callable[[LoadView], None],
        say: Callable[[str], None],
        *,
        change: str,
        clock: Callable[[], float],
        self_tests: SelfTests,
    ) -> None:
        self._store, self._plan, self._request, self._target, self._hands = store, plan, request, target, hands
        self._change, self._on_view, self._say, self._clock = change, on_view, say, clock
        self._self_tests = self_tests
        self._generators: Generators | None = None
        self._course: Course | None = None
        self._goal = goal_of(store, request, target)
        self._server = Server(store, target, self._goal.loss, self._goal.p99_guard, request.protocol)
        self._tripped = ""
        self._is_adjusting = False
        self._trial: asyncio.Task[Trial] | None = None
        self._holds: tuple[Hold, ...] = ()
        self._seconds: list[tuple[float, Counts, dict[str, InstanceSecond]]] = []
        view = LoadView(
            run=change,
            target=target.name,
            node=target.node,
            tenant=target.tenant,
            address=address_of(target, request.family),
            purpose=request.purpose,
            state=LoadState.PREPARING,
            began_at=clock(),
            cap=self._goal.cap,
            goal=self._goal.loss,
        )
        flows = flows_of(store, request)
        rows = [
            GeneratorRow(name=g.name, flows=flows, sources=len(g.sources) or None)
            for g in generators_of(store, request)
        ]
        self._engine = ENGINES[engine_of(store, request)]
        self._live = Live(view, rows, self._second, self._engine.untold)

    def _second(self, at: float, counts: Counts) -> None:
        self._seconds.append((at, counts, self._server.seconds(self._clock())))

    def _show(self, **fields: object) -> None:
        self._live.set(**fields)
        self._on_view(self._live.view)

    def adjust(self, factor: float) -> float:
        """See `LoadTesting.adjust`."""
        if self._generators is None or not isinstance(self._course, FixedRate):
            raise AnyconsoleError("only the rate of a fixed run can be changed while it runs")
        rate = self._course.progress.rate * factor
        asked = msgspec.structs.replace(self._request, rate=min(rate, self._goal.cap), targets=(self._target.name,))
        plan = msgspec.structs.replace(self._plan, request=msgspec.to_builtins(asked))
        for guard in load_guards.evaluate(self._store, plan, self._clock()):
            if guard.name in _OF_RATE and guard.refuses and factor > 1:
                raise AnyconsoleError(f"{guard.name}: {guard.numbers}")
        rate = self._course.change(rate)
        if self._trial is not None:
            self._is_adjusting = True
            self._generators.halt()
        return rate

    async def carry_out(self, folder: Path) -> str:
        """Do it. Raises AnyconsoleError."""
        try:
            return await self._carry_out(folder)
        except (AnyconsoleError, asyncio.CancelledError) as error:
            if self._live.view.state is not LoadState.ENDED:  # it never came to its first trial
                words = str(error) or "stopped by the operator"
                self._show(state=LoadState.ENDED, verdict=str(Ending.ABORTED), words=words, ended_at=self._clock())
            raise

    async def _carry_out(self, folder: Path) -> str:
        async with AsyncExitStack() as stack:
            self._show(words="takes node and generators for itself")
            hosts = (self._target.node, *(g.name for g in generators_of(self._store, self._request)))
            self._holds = await stack.enter_async_context(held(self._hands, hosts))
            watching = await stack.enter_async_context(
                watched(self._hands, self._store, self._target.node, self._server.sampled)
            )
            await self._server.watch(watching)
            self._show(words="collects queries")
            queries = await queries_of(
                self._hands, self._store, self._request, self._target, zone_of(self._store, self._target)
            )
            # What can't run on a generator says so before anything is sent.
            running = None if self._engine.seconds else await self._prepare(stack, queries)
            self._show(state=LoadState.PROVING, words="200 queries prove where packets go")
            proof = await prove(self._hands, self._store, self._request, self._target, queries)
            limits = await self._limits()
            running = running or await self._prepare(stack, queries)
            header = header_of(
                self._store,
                self._plan,
                self._request,
                self._target,
                runid=new_id(self._clock()),
                change=self._change,
                goal=self._goal,
                queries=queries,
                conditions=self._server.conditions,
                proof=proof,
                limits=limits,
                engines=running.engines,
                now=self._clock(),
            )
            file = await asyncio.to_thread(RunFile.create, folder, header, untold=self._engine.untold)
            stack.callback(file.close)
            self._show(record=file.id)
            self._generators = running
            try:
                answer = await self._trials(running, file)
            except (LoadError, asyncio.CancelledError) as error:
                running.halt()
                await asyncio.shield(running.stop())  # silence first, however they behave; then the record
                assert self._course is not None  # noqa: S101 - it is made before the first order
                answer = self._course.abort(str(error) or "stopped by the operator")
                await asyncio.shield(self._flush(file))
                await self._finish(file, answer)
                raise
            await self._finish(file, answer)
        if self._tripped:
            raise LoadError(f"stopped: {self._tripped}")
        return answer.why

    async def _prepare(self, stack: AsyncExitStack, queries: QuerySet) -> Generators:
        """The generators, told what to ask. Raises AnyconsoleError."""
        self._show(words="prepares generators")
        return await stack.enter_async_context(
            generators(self._hands, self._store, self._request, self._target, queries, self._heard)
        )

    async def _limits(self) -> dict[str, float]:
        """What each generator can do itself, which only a search has to know; its goal has it from now on. Raises AnyconsoleError."""
        if self._request.purpose is not Purpose.SEARCH or not self._engine.seconds:
            return {}
        self._show(state=LoadState.PREPARING, words="self-test of the generators")
        wanted = generators_of(self._store, self._request)
        setups = setups_of(self._store, self._request, self._target)
        tests = await self._self_tests.of(self._hands, wanted, setups)
        for name, test in tests.items():
            self._live.told(name, limit=test.limit)
        self._goal = goal_of(self._store, self._request, self._target, together(tests, shares_of(wanted)))
        return {name: test.limit for name, test in tests.items()}

    async def _trials(self, running: Generators, file: RunFile) -> Answer:
        self._course = course_of(self._request, self._goal)
        before = load_guards.baseline_of(self._store, self._target, self._clock())
        step = self._course.next()
        while isinstance(step, Order):
            self._live.begin(step, self._clock())
            self._show()
            trial = await self._guarded(running, step, before, file)
            if self._is_adjusting and isinstance(self._course, FixedRate):
                self._is_adjusting = False
                trial = msgspec.structs.replace(trial, void="")
                if not trial.counts.sent:  # nothing of it was counted: as if it had never been
                    step = msgspec.structs.replace(step, rate=self._course.progress.rate)
                    continue
            await self._write(file, trial)
            step = self._course.abort(self._tripped) if self._tripped else self._course.next(_lean(trial))
            self._live.ended(trial, self._course.progress)
            self._show()
            self._say(self._course.progress.words)
        return step

    async def _guarded(self, running: Generators, order: Order, before: load_guards.Baseline, file: RunFile) -> Trial:
        """One trial, with a look every second at what must stop it."""
        await self._server.begin()
        if isinstance(self._course, FixedRate):  # it may have been changed meanwhile
            order = msgspec.structs.replace(order, rate=self._course.progress.rate)
        trial = self._trial = asyncio.create_task(running.trial(order), name="load trial")
        turns_to_obey = OBEY_TURNS
        try:
            while not (await asyncio.wait((trial,), timeout=GUARD_EVERY))[0]:
                self._live.serves(self._server.rows(self._live.identities, self._clock()))
                self._show()
                await self._flush(file)
                self._tripped = (
                    self._tripped
                    or self._overrun()
                    or load_guards.trip(
                        self._store,
                        self._target,
                        before,
                        self._clock(),
                        identities=self._live.identities,
                        servfail=_servfail(self._live.last),
                        idle=self._server.idle,
                        taken=self._server.taken,
                    )
                )
                if self._tripped:
                    running.halt()
                    turns_to_obey -= 1
                    if not turns_to_obey:
                        await running.stop()
        except asyncio.CancelledError:
            running.halt()
            trial.cancel()
            raise
        finally:
            self._trial = None
        ended = trial.result()
        await self._server.ended(_lean(ended))
        return ended.voided(self._tripped) if self._tripped else judged(ended, self._goal)

    def _heard(self, generator: str, told: Told) -> None:
        match told:
            case Tick() if not self._engine.seconds:
                self._live.told(generator, heard_at=self._clock())  # what it sends is known at the end alone
            case Tick():
                self._live.ticked(generator, told.counts, TICK_SECONDS, self._clock())
            case Second():
                self._live.heard(generator, told.second, told.counts)
        self._on_view(self._live.view)

    def _overrun(self) -> str:
        """What stops a test besides the fleet: its time window, and losing its hold of node or generators."""
        if self._request.force and self._clock() >= self._request.window_until:
            return "its time window is over"
        lost = next((hold.host for hold in self._holds if hold.is_lost), "")
        return f"{lost} is not held any more: another test may begin there" if lost else ""

    async def _flush(self, file: RunFile) -> None:
        """Write the seconds that have come: whatever becomes of this console, they are on record."""
        seconds, self._seconds = self._seconds, []

        def write() -> None:
            for at, counts, instances in seconds:
                file.periodic(at, counts, instances)

        await asyncio.to_thread(write)

    async def _write(self, file: RunFile, trial: Trial) -> None:
        await self._flush(file)

        def write() -> None:
            if trial.counts.sent and not trial.seconds:
                file.periodic(trial.began_at, trial.counts, seconds=trial.order.seconds)
            file.trial(trial, trial.verdict(self._goal.loss))

        await asyncio.to_thread(write)

    async def _finish(self, file: RunFile, answer: Answer) -> None:
        """Write the end of it and show it, whatever else happens."""
        limit = self._server.limit(answer)
        self._live.answered(answer, f"{limit.cause}: {limit.words}" if limit else "", self._clock())
        self._show()
        self._say(answer.why)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(asyncio.to_thread(file.end, self._result(answer, limit)))

    def _result(self, answer: Answer, limit: Limit | None) -> Result:
        cause = LimitCause(cause=limit.cause, words=limit.words, evidence=dict(limit.evidence)) if limit else None
        return result_of(
            answer,
            limit=cause,
            cpu_s_per_mq_server=self._server.cpu_per_million(),
            host_noise=self._server.noise,
        )


def _lean(trial: Trial) -> Trial:
    """The trial without its seconds' histograms, of which a day would fill the memory; the whole trial's stays."""
    seconds = tuple(msgspec.structs.replace(second, latency=Latency()) for second in trial.seconds)
    return msgspec.structs.replace(trial, seconds=seconds)


def _servfail(second: Counts) -> float | None:
    return second.rcodes.get(2, 0) / second.answered if second.answered else None
