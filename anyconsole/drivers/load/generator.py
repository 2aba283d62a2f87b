"""The engine's side of load generators: starts an agent over any channel, keeps it alive, runs trials on it, silences it.

`Generator` is one agent on one host, `Generators` several as one: the same order to all at the same time, the rate divided, the results
added up. An agent lives by our heartbeat and by its input being open; whatever happens to this process, it falls silent by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self, TypeAlias, TypeVar

import msgspec

from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.channel import Channel, listen
from anyconsole.drivers.load.messages import (
    Failure,
    Hello,
    MessageError,
    Ready,
    Second,
    Setup,
    Tick,
    TrialEnd,
    command,
    decode,
)
from anyconsole.drivers.ssh.fault import plain
from anyconsole.errors import LoadError
from anyconsole.model.load import Counts, Health, Order, Trial, total

__all__ = ["MAX_SKIPPED", "Channel", "Generator", "Generators", "Told", "Watch"]

MAX_SKIPPED: Final = 0.03
"""A generator that skipped more than this of its schedule says nothing about its target (loadtest.md, 5)."""

HEARTBEAT: Final = 1.0
SILENCE: Final = 2.0
"""Seconds without a word from a generator that is at a trial, after which it is lost: its ticks come five a second."""
START_DEADLINE: Final = 30.0
GRACE: Final = 5.0
MAX_LINES: Final = 500
_CLOSE_DEADLINE: Final = 1.0
_LOOK: Final = 0.2

_Answer = TypeVar("_Answer", Hello, Ready, TrialEnd)

Told: TypeAlias = Tick | Second
Watch: TypeAlias = Callable[[str, Told], None]
"""Is told what a generator says during a trial, with the generator's name; must be quick."""


class _Done(msgspec.Struct, frozen=True):
    """A trial of one generator."""

    seconds: tuple[Counts, ...]
    end: TrialEnd

    def void(self) -> str:
        """Why it says nothing about the target, "" if it does, or would if we hadn't stopped it."""
        counts = total(self.seconds) + self.end.counts
        if self.end.stopped == "heartbeat":
            return "it stopped itself: no heartbeat came"
        if counts.receive_errors:
            return f"its own buffers dropped {counts.receive_errors} answers"
        is_cut = self.end.whole and self.end.stopped  # then what was skipped is a guess
        if counts.short > MAX_SKIPPED and not self.end.void and not is_cut:
            why = f": {self.end.unsendable}" if self.end.unsendable else ""
            return f"it could not send {counts.short:.1%} of its queries in time{why}"
        return plain(self.end.void)


class Generator:
    """One agent. `start` it first, `stop` it at last; between them, one trial at a time."""

    def __init__(
        self,
        name: str,
        channel: Channel,
        setup: Setup,
        queries: str,
        watch: Watch | None = None,
        *,
        program: str = "agent",
    ) -> None:
        """`program` is the one that the channel was opened for: "agent", "dnsperf_agent" or "kxdpgun_agent"."""
        self.name = name
        self._program = program
        self.setup = setup
        self.hello: Hello | None = None
        self._channel = channel
        self._queries = queries
        self._watch = watch
        self._number = 0
        self._seconds: list[Counts] = []
        self._most_seconds = 0
        self._answer: asyncio.Future[Hello | Ready | TrialEnd] | None = None
        self._error: LoadError | None = None
        self._has_spoken = False
        self._is_halted = False
        self._reader: asyncio.Task[None] | None = None
        self._heart: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """True between its start and its end."""
        return self._reader is not None and self._error is None

    @property
    def error(self) -> LoadError | None:
        """Why it is of no more use."""
        return self._error

    async def start(self) -> Ready:
        """Push the agent, its target, limits and queries. Raises LoadError."""
        loop = asyncio.get_running_loop()
        self._reader = loop.create_task(self._read(), name=f"load generator {self.name}")
        _, program = bootstrap(self._program)
        hello = await self._ask(program, Hello, START_DEADLINE, "start")
        if hello.agent != Hello.AGENT:
            raise self._fail(f"speaks version {hello.agent} of the protocol, not {Hello.AGENT}")
        self.hello = hello
        self._heart = loop.create_task(self._beat(), name=f"heartbeat of load generator {self.name}")
        arguments = {**msgspec.to_builtins(self.setup), "queries": self._queries}
        return await self._ask(command("prepare", **arguments), Ready, START_DEADLINE, "prepare")

    def make_ready(self) -> None:
        """A trial is about to begin: from now on `halt` is meant for it."""
        self._is_halted = False

    async def trial(self, order: Order) -> _Done:
        """Carry out an order, unless it was halted meanwhile. Whatever ends the wait for it early, the agent is told to stop.

        Raises:
            LoadError: It refused, was lost, or said nothing for `SILENCE`.
        """
        self._number += 1
        if self._is_halted:
            return _Done((), TrialEnd.unbegun(self._number))
        self._seconds, self._most_seconds = [], math.ceil(order.seconds)
        arguments = {k: v for k, v in msgspec.to_builtins(order).items() if k != "phase"}
        deadline = order.prime_seconds + order.seconds + self.setup.timeout + GRACE
        try:
            order_ = command("trial", number=self._number, **arguments)
            end = await self._ask(order_, TrialEnd, deadline, "trial", is_talkative=True)
        except (asyncio.CancelledError, LoadError):
            self.halt()
            raise
        if not end.stopped and not end.whole and len(self._seconds) != math.ceil(order.seconds):
            raise self._fail(f"told {len(self._seconds)} seconds of a trial of {order.seconds:g}")
        return _Done(tuple(self._seconds), end)

    def halt(self) -> None:
        """Stop the trial that runs, or is about to, without waiting; it ends as usual, with what there is."""
        self._is_halted = True
        self._channel.write(command("stop"))

    async def stop(self) -> None:
        """Silence at once, then the end of the agent, however it behaves. Never raises, takes 2.5 s and the timeout at most."""
        self.halt()
        try:
            if self._answer is not None and self.is_alive:
                await asyncio.wait({self._answer}, timeout=self.setup.timeout + _CLOSE_DEADLINE)
            self._channel.close()
            if self._reader is not None:
                await asyncio.wait({self._reader}, timeout=_CLOSE_DEADLINE)
        finally:
            self._channel.abort()
            self._fail("was stopped")
            for task in (self._heart, self._reader):
                if task is not None:
                    task.cancel()

    async def _ask(
        self, data: bytes, expected: type[_Answer], deadline: float, what: str, *, is_talkative: bool = False
    ) -> _Answer:
        if self._error is not None:
            raise self._error
        waited: asyncio.Future[Hello | Ready | TrialEnd] = asyncio.get_running_loop().create_future()
        self._answer = waited
        self._channel.write(data)
        try:
            async with asyncio.timeout(deadline):
                if is_talkative:
                    await self._listen_for(waited)
                answer = await waited
        except TimeoutError:
            waited.cancel()
            raise self._fail(f"{what}: no answer within {deadline:g} s") from None
        finally:
            self._answer = None
        if not isinstance(answer, expected):
            raise self._fail(f"{what}: said {type(answer).__name__} out of turn")
        return answer

    async def _listen_for(self, waited: asyncio.Future[Hello | Ready | TrialEnd]) -> None:
        """Until it came, or so many looks in a row found nothing said: a stall of ours is one look, however long."""
        silent = 0
        while not (await asyncio.wait((waited,), timeout=_LOOK))[0]:
            silent = 0 if self._has_spoken else silent + 1
            self._has_spoken = False
            if silent * _LOOK >= SILENCE:
                self._fail(f"nothing was heard of it for {SILENCE:g} s")

    async def _beat(self) -> None:
        while True:
            self._channel.write(command("hb"))
            await asyncio.sleep(HEARTBEAT)

    async def _read(self) -> None:
        self._fail(await listen(self._channel, self._hear, MAX_LINES, f"load generator {self.name}"))

    def _hear(self, line: bytes) -> None:
        message = decode(line)
        self._has_spoken = True
        match message:
            case Tick() | Second() if message.trial != self._number or self._answer is None:
                return
            case Second():
                if message.second != len(self._seconds) or message.second >= self._most_seconds:
                    raise MessageError(f"second {message.second} after {len(self._seconds)} others")
                self._seconds.append(message.counts)
            case Failure():
                self._refuse(message.why)
                return
            case Hello() | Ready() | TrialEnd():
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(message)
                return
            case Tick():
                pass
        if self._watch is not None:
            self._watch(self.name, message)

    def _refuse(self, why: str) -> None:
        """It won't do what it was told. It goes on living, if it does."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LoadError(f"load generator {self.name}: {plain(why)}"))

    def _fail(self, why: str) -> LoadError:
        """It is of no more use; the first reason stays."""
        if self._error is None:
            self._error = LoadError(f"load generator {self.name}: {plain(why)}")
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self._error)
        return self._error


class Generators:
    """Several generators as one, for as long as the context lasts. What one does, all do; what one lacks, the whole lacks."""

    def __init__(self, generators: Sequence[Generator], weights: Mapping[str, float] | None = None) -> None:
        """Of the rate each carries its share of the weights, by default as much as its limit allows."""
        self._generators = tuple(generators)
        weigh = {g.name: g.setup.max_rate for g in generators} if weights is None else weights
        whole = sum(weigh[g.name] for g in generators)
        self._shares = {g.name: weigh[g.name] / whole for g in generators}

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.TaskGroup() as tasks:
                for generator in self._generators:
                    tasks.create_task(generator.start())
        except ExceptionGroup as errors:
            await self.stop()
            raise errors.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def alive(self) -> tuple[str, ...]:
        """Names of those that are there."""
        return tuple(g.name for g in self._generators if g.is_alive)

    @property
    def hellos(self) -> dict[str, Hello]:
        """What each said of itself and its host."""
        return {g.name: g.hello for g in self._generators if g.hello is not None}

    @property
    def engines(self) -> tuple[str, ...]:
        """Programs that make their queries, with versions, each once; "" is our own agent."""
        return tuple(sorted({hello.engine for hello in self.hellos.values()}))

    def begin(self, order: Order) -> asyncio.Task[Trial]:
        """As `trial`, which from now on can be halted: also one that has not begun when `halt` is called."""
        for generator in self._generators:
            generator.make_ready()
        return asyncio.create_task(self._carry_out(order), name="load trial")

    async def trial(self, order: Order) -> Trial:
        """Carry out an order together.

        A generator that is lost or fails on the way stops the others, and the trial is void; so is one that was halted, whose order
        has the seconds that it ran. Cancelled: all are told to stop.

        Raises:
            LoadError: One of them isn't there any more, or all refused.
        """
        return await self.begin(order)

    async def _carry_out(self, order: Order) -> Trial:
        if gone := [g for g in self._generators if not g.is_alive]:
            raise gone[0].error or LoadError(f"load generator {gone[0].name} isn't there any more")
        began_at = time.time()
        tasks = {
            g.name: asyncio.ensure_future(g.trial(_share(order, self._shares[g.name], g.setup.max_rate)))
            for g in self._generators
        }
        try:
            _, pending = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
            if pending:
                self.halt()
                await asyncio.wait(pending)
        except asyncio.CancelledError:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            raise
        failed = [error for task in tasks.values() if (error := task.exception()) is not None]
        done = {name: task.result() for name, task in tasks.items() if task.exception() is None}
        if not done:
            raise failed[0]
        seconds = tuple(
            total(column) for column in itertools.zip_longest(*(d.seconds for d in done.values()), fillvalue=Counts())
        )
        voids = [*map(str, failed), *(f"{name}: {why}" for name, d in done.items() if (why := d.void()))]
        is_halted = not voids and any(d.end.stopped for d in done.values())
        if any(d.end.stopped for d in done.values()):
            ran = max(d.end.ran for d in done.values())
            order = msgspec.structs.replace(order, seconds=min(order.seconds, ran))
        return Trial(
            order=order,
            began_at=began_at,
            counts=total(seconds) + total(d.end.counts for d in done.values()),
            seconds=seconds,
            health={
                name: Health(cpu=d.end.cpu, elapsed=d.end.elapsed, processes=d.end.processes)
                for name, d in done.items()
            },
            void="; ".join(voids) or ("stopped" if is_halted else ""),
            is_halted=is_halted,
        )

    def halt(self) -> None:
        """Stop the trial that runs, or is about to, on all of them, without waiting."""
        for generator in self._generators:
            generator.halt()

    async def stop(self) -> None:
        """Silence all at once, then end them, in parallel and however they behave."""
        self.halt()
        await asyncio.gather(*(generator.stop() for generator in self._generators))


def _share(order: Order, share: float, most: float) -> Order:
    """One generator's part."""
    rate, prime_rate = _within(order.rate * share, most), _within(order.prime_rate * share, most)
    return msgspec.structs.replace(order, rate=rate, prime_rate=prime_rate)


def _within(rate: float, most: float) -> float:
    """The rate; at the cap rounding alone must not make it more than its limit."""
    return most if most < rate <= most * (1 + 1e-9) else rate
