"""The load test of one target: proof of where packets go, trials, a look each second at what must stop them, and the record of it all.

A guard that trips, a generator that is lost, a key: whatever ends a test, its generators are silent before anything else is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from anyconsole.actions.load import guards as load_guards
from anyconsole.actions.load.answer import Answer, Course, Ending, judged
from anyconsole.actions.load.courses import FixedRate
from anyconsole.actions.load.engines import ENGINES
from anyconsole.actions.load.files import RunFile, new_id
from anyconsole.actions.load.goal import course_of, goal_of
from anyconsole.actions.load.header import header_of
from anyconsole.actions.load.jobs import Note, jobs_made
from anyconsole.actions.load.limit import Limit
from anyconsole.actions.load.live import Live
from anyconsole.actions.load.node_locks import node_locked
from anyconsole.actions.load.record import LimitCause, Result
from anyconsole.actions.load.recording import Recording
from anyconsole.actions.load.request import (
    LoadRequest,
    Purpose,
    address_of,
    engine_of,
    flows_of,
    generators_of,
    jobs_of,
    lock_of,
    zone_of,
)  # fmt: skip
from anyconsole.actions.load.rig import (
    Hold,
    LoadHands,
    generators,
    held,
    prove,
    queries_in_file,
    queries_of,
    setups_of,
    shares_of,
    watched,
)  # fmt: skip
from anyconsole.actions.load.rows import result_of
from anyconsole.actions.load.selftest import SelfTests, together
from anyconsole.actions.load.server import Server
from anyconsole.actions.plan import Plan
from anyconsole.drivers.load.generator import Generators, Told
from anyconsole.drivers.load.messages import Second, Tick
from anyconsole.drivers.load.query_set import QuerySet
from anyconsole.errors import AnyconsoleError, LoadError
from anyconsole.model.inventory import LoadTarget
from anyconsole.model.load import Counts, Latency, Order, Trial, Verdict
from anyconsole.model.load_view import GeneratorRow, LoadState, LoadView
from anyconsole.model.store import FleetStore

__all__ = ["TargetTest"]

TICK_SECONDS: Final = 0.2
GUARD_EVERY: Final = 1.0
COUNT_DEADLINE: Final = 2.0
"""Seconds that a look at what the name server counts may take; later it isn't known."""
OBEY_TURNS: Final = 3
"""Looks after which a generator that goes on in spite of a stop is cut off."""
LAST_WORDS: Final = 1.0
"""Seconds beyond the timeout in which generators that were stopped say what their trial came to."""
BY_HAND: Final = "stopped by the operator"
_OF_RATE: Final = ("caps", "production")
"""Guards that judge the rate: they are asked again when it is raised."""


class TargetTest:
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
        note: Note,
    ) -> None:
        """`note` writes to the journal what is done besides the steps of the plan."""
        self._note = note
        self._store, self._plan, self._request, self._target, self._hands = store, plan, request, target, hands
        self._change, self._on_view, self._say, self._clock = change, on_view, say, clock
        self._self_tests = self_tests
        self._generators: Generators | None = None
        self._course: Course | None = None
        self._goal = goal_of(store, request, target)
        self._is_virtual = bool(store.inventory.node(target.node).cluster)
        look = None if self._is_virtual else self._look  # name servers in clusters tell no counters
        self._server = Server(store, target, self._goal.loss, self._goal.p99_guard, request.protocol, look)
        self._tripped = ""
        self._is_adjusting = self._is_ending = False
        self._trial: asyncio.Task[Trial] | None = None
        self._cut: Trial | None = None
        self._holds: tuple[Hold, ...] = ()
        self._record: Recording | None = None
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

    async def _look(self) -> None:
        await self._hands.look({self._target.node}, COUNT_DEADLINE)

    def _second(self, at: float, counts: Counts) -> None:
        if self._record is not None:
            self._record.second(at, counts, self._server.seconds(self._clock(), counts.identities))

    def _show(self, **fields: object) -> None:
        self._live.set(**fields)
        self._on_view(self._live.view)

    def _fixed(self) -> FixedRate:
        if self._generators is None or not isinstance(self._course, FixedRate):
            raise AnyconsoleError("only the rate of a fixed run can be changed while it runs")
        return self._course

    def adjusted(self, factor: float) -> tuple[float, float]:
        """The rate of the fixed run that runs, and what `factor` makes of it, under its cap. Raises AnyconsoleError."""
        course = self._fixed()
        rate = course.within(course.rate * factor)
        asked = msgspec.structs.replace(self._request, rate=rate, targets=(self._target.name,))
        plan = msgspec.structs.replace(self._plan, request=msgspec.to_builtins(asked))
        for guard in load_guards.evaluate(self._store, plan, self._clock()):
            if guard.name in _OF_RATE and guard.refuses and factor > 1:
                raise AnyconsoleError(f"{guard.name}: {guard.numbers}")
        return course.rate, rate

    def adjust(self, rate: float) -> None:
        """Go on with a fixed run at a rate that `adjusted` told. Raises AnyconsoleError."""
        self._fixed().change(rate)
        if self._record is not None:
            self._record.note(f"the rate is now {rate:,.0f} q/s", "rate", who=self._request.operator, rate=rate)
        if self._trial is not None and self._generators is not None:
            self._is_adjusting = True
            self._generators.halt()

    async def carry_out(self, folder: Path) -> str:
        """Do it. Raises AnyconsoleError."""
        try:
            return await self._carry_out(folder)
        except (AnyconsoleError, asyncio.CancelledError) as error:
            if self._live.view.state is not LoadState.ENDED:  # it never came to its first trial
                words = str(error) or BY_HAND
                self._show(state=LoadState.ENDED, verdict=str(Ending.ABORTED), words=words, ended_at=self._clock())
            raise

    async def _carry_out(self, folder: Path) -> str:
        zone = zone_of(self._store, self._target)
        queries = await queries_in_file(self._request, self._target, zone)
        async with AsyncExitStack() as stack:
            self._show(words="takes node and generators for itself")
            # Pods are held by their Job, a node in a cluster by a Lease.
            own = () if self._is_virtual else (self._target.node,)
            hosts = (*own, *(g.name for g in generators_of(self._store, self._request) if not g.cluster))
            self._holds = await stack.enter_async_context(held(self._hands, hosts))
            lock = lock_of(self._store, self._request, self._target, self._plan.made_at)
            await stack.enter_async_context(node_locked(self._hands, lock, self._note, self._clock))
            jobs = jobs_of(self._store, self._request, self._target, self._plan.made_at)
            await stack.enter_async_context(
                jobs_made(self._hands, jobs, self._note, lambda words: self._show(words=words))
            )
            watching = await stack.enter_async_context(
                watched(self._hands, self._store, self._target.node, self._server.sampled)
            )
            await self._server.watch(watching)
            if queries is None:
                self._show(words="collects queries")
                queries = await queries_of(self._hands, self._store, self._request, self._target, zone)
            # What can't run on a generator says so before anything is sent.
            running = None if self._engine.seconds else await self._prepare(stack, queries)
            self._show(state=LoadState.PROVING, words="200 queries prove where packets go")
            proof, hosts_said = await prove(self._hands, self._store, self._request, self._target, queries)
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
                hosts=hosts_said,
                limits=limits,
                engines=running.engines,
                now=self._clock(),
            )
            file = await asyncio.to_thread(RunFile.create, folder, header, untold=self._engine.untold)
            stack.callback(file.close)
            self._show(record=file.id)
            self._generators = running
            record = self._record = Recording(file, self._clock)
            record.note(self._plan.title, "start", who=self._request.operator)
            try:
                answer = await self._trials(running, record)
            except (LoadError, asyncio.CancelledError) as error:
                running.halt()
                await asyncio.shield(running.stop())  # silence first, however they behave; then the record
                assert self._course is not None  # noqa: S101 - it is made before the first order
                answer = self._course.abort(self._tripped or str(error) or BY_HAND, self._cut)
                self._note_end(record, answer.why, "abort" if str(error) else "stop")
                await self._finish(record, answer)
                if self._tripped and isinstance(error, LoadError):
                    raise LoadError(f"stopped: {self._tripped}") from error
                raise
            else:
                await self._finish(record, answer)
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

    async def _trials(self, running: Generators, record: Recording) -> Answer:
        course = self._course = course_of(self._request, self._goal)
        before = load_guards.baseline_of(self._store, self._target, self._clock())
        step = course.next()
        phase = None
        while isinstance(step, Order):
            if step.phase is not phase:
                phase = step.phase
                record.note(phase, "phase", rate=step.rate)
            trial = await self._guarded(running, step, before, record)
            was_adjusted, self._is_adjusting = self._is_adjusting, False
            if self._tripped:
                trial = trial.voided(self._tripped)
            elif was_adjusted and trial.is_halted and not trial.counts.sent:
                continue  # nothing of it was counted: as if it had never been
            else:
                trial = judged(trial.unhalted() if was_adjusted else trial, self._goal)
            await record.trial(trial, trial.verdict(self._goal.loss))
            step = course.abort(self._tripped, _lean(trial)) if self._tripped else course.next(_lean(trial))
            self._live.ended(trial, course.progress)
            self._show()
            self._say(course.progress.words)
        return step

    async def _guarded(
        self, running: Generators, order: Order, before: load_guards.Baseline, record: Recording
    ) -> Trial:
        """One trial, with a look every second at what must stop it."""
        await self._server.begin(self._clock())
        if isinstance(self._course, FixedRate):  # it may have been changed meanwhile
            order = msgspec.structs.replace(order, rate=self._course.rate)
        self._live.begin(order, self._clock())
        self._show()
        trial = self._trial = running.begin(order)
        turns_to_obey = OBEY_TURNS
        try:
            while not (await asyncio.wait((trial,), timeout=GUARD_EVERY))[0]:
                if not self._tripped and (tripped := self._overrun() or self._trip(before)):
                    self._tripped = tripped
                    self._note_end(record, tripped, "guard")
                if self._tripped:
                    running.halt()
                    turns_to_obey -= 1
                    if not turns_to_obey:
                        await running.stop()
                self._live.serves(self._server.rows(self._live.identities, self._clock()))
                self._show()
                await record.flush()
        except asyncio.CancelledError:
            running.halt()
            self._note_end(record, BY_HAND, "stop")
            await self._keep(trial, record)
            raise
        except AnyconsoleError:
            running.halt()
            trial.cancel()
            raise
        finally:
            self._trial = None
        ended = trial.result()
        await self._server.ended(_lean(ended), self._clock())
        return ended

    def _note_end(self, record: Recording, why: str, kind: str) -> None:
        """Note why it ends; the first reason is the one that counts."""
        if not self._is_ending:
            self._is_ending = True
            record.note(why, kind, who=self._request.operator if kind == "stop" else "")

    def _trip(self, before: load_guards.Baseline) -> str:
        return load_guards.trip(
            self._store,
            self._target,
            before,
            self._clock(),
            identities=self._live.identities,
            servfail=_servfail(self._live.last),
            idle=self._server.idle,
            taken=self._server.taken,
        )

    async def _keep(self, trial: asyncio.Task[Trial], record: Recording) -> None:
        """Write what a trial came to that was stopped by hand, if its generators still say so."""
        done, _ = await asyncio.wait((trial,), timeout=self._store.inventory.load.timeout + LAST_WORDS)
        if not done:
            trial.cancel()
        elif trial.exception() is None and trial.result().counts.sent:
            ended = trial.result().voided(self._tripped or BY_HAND)
            self._cut = _lean(ended)
            await record.trial(ended, Verdict.VOID)

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

    async def _finish(self, record: Recording, answer: Answer) -> None:
        """Write the end of it and show it, whatever else happens."""
        limit = self._server.limit(answer)
        self._live.answered(answer, f"{limit.cause}: {limit.words}" if limit else "", self._clock())
        self._show()
        self._say(answer.why)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(record.end(self._result(answer, limit)))

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
