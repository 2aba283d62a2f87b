"""What load generators can do themselves, found out before a search: their limit must not be taken for that of the target (loadtest.md, 5).

Each generator runs its agent as it will in the search, but against a responder on its own host. The rate climbs in one-second trials until
the agent falls behind its schedule or answers are lost, twice in a row; then one try halfway. It takes six to ten seconds, all at once.

The responder takes CPU that the agent will have for itself in a test, 0.6 to 0.7 of what the agent takes: where cores are scarce the limit
is too low. Measured on 2 cores with one agent process: 300,000 q/s; with both on one core 240,000. The way between them is the kernel's
loopback, which costs less than a network card: whether that keeps up is told by the skipped queries of each trial of the search itself.
Generators that share cores with each other or with their target, as in the lab, are what they are then.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from anyconsole.actions.load.rig import LoadHands
from anyconsole.actions.load.search import HEADROOM
from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.generator import Generator, Generators
from anyconsole.drivers.load.messages import MessageError, Setup
from anyconsole.drivers.ssh.fault import plain
from anyconsole.errors import LoadError
from anyconsole.model import inventory as profile
from anyconsole.model.inventory import Family, family_of
from anyconsole.model.load import Order, Phase, Trial

__all__ = ["SelfTest", "SelfTests", "highest_of", "limit_of", "next_rate", "together"]

FIRST: Final = 1 / 8
"""Of the generator's `max_qps`, where it begins."""

STEP: Final = 1.63
"""Five of them lead from there to the highest rate that anybody needs to know of."""

SECONDS: Final = 1.0
"""Of each trial."""

MOST_TRIALS: Final = 8
MOST_LOST: Final = 0.005

TIMEOUT: Final = 0.25
"""Seconds. There is no network on the way; what is later is lost."""

START_DEADLINE: Final = 15.0

LOOPBACK: Final = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}

# As many names, and as long, as a zone's: the agent prepares its packets in the same way whatever they are.
_QUERIES: Final = "".join(f"name-{number}.self-test.invalid A\n" for number in range(1000))


class SelfTest(msgspec.Struct, frozen=True):
    """What a generator can do: queries/s, and when that was found (epoch seconds)."""

    limit: float
    at: float


class SelfTests:
    """Self-tests of this session. A generator is tested once for each way it is set up."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[tuple[str, Setup], SelfTest] = {}
        self._turn = asyncio.Lock()

    async def of(
        self, hands: LoadHands, generators: Collection[profile.Generator], setups: Mapping[str, Setup]
    ) -> dict[str, SelfTest]:
        """What each of the generators can do, set up as it will be; those that aren't known yet are tested, in parallel.

        Pods are tested each time: who is called so now may be another one, on another node.

        Raises:
            AnyconsoleError: One can't be tested, or can't even do an eighth of its `max_qps`.
        """
        own = {g.name: _own(setups[g.name], highest_of(g)) for g in generators}
        # Two at once would only find out what half a host can do.
        async with self._turn:
            pods = {g.name for g in generators if g.cluster}
            unknown = {name: one for name, one in own.items() if name in pods or (name, one) not in self._known}
            for name, limit in (await _all_of(hands, unknown)).items():
                self._known[name, own[name]] = SelfTest(limit, self._clock())
        return {name: self._known[name, setup] for name, setup in own.items()}


def together(tests: Mapping[str, SelfTest], shares: Mapping[str, float]) -> float:
    """What generators can do together, each carrying its share of the rate: the weakest decides."""
    return min(test.limit / shares[name] for name, test in tests.items())


def highest_of(generator: profile.Generator) -> float:
    """The rate above which nobody needs to know: who does it may do all of its `max_qps`, rounding errors included."""
    return generator.max_qps / HEADROOM + 1


def next_rate(trials: Sequence[Trial], highest: float) -> float | None:
    """Which rate comes after these trials, None if they say enough. Pure."""
    if not trials:
        return highest * HEADROOM * FIRST
    if len(trials) == MOST_TRIALS:
        return None
    rate = trials[-1].order.rate
    failed = _failed(trials)
    if failed is None:
        if not _is_sound(trials[-1]):
            return rate
        return min(rate * STEP, highest) if rate < highest else None
    carried = limit_of(trials)
    return math.sqrt(carried * failed) if carried and rate == failed else None


def limit_of(trials: Sequence[Trial]) -> float:
    """The highest rate that was carried, skipped queries being as few as in any trial that counts; 0 if none was."""
    return max((trial.order.rate for trial in trials if _is_sound(trial)), default=0.0)


def _failed(trials: Sequence[Trial]) -> float | None:
    """The rate that was tried twice in vain."""
    for one, other in itertools.pairwise(trials):
        if one.order.rate == other.order.rate and not _is_sound(one) and not _is_sound(other):
            return one.order.rate
    return None


def _is_sound(trial: Trial) -> bool:
    # It would be void, had it skipped too much of its schedule or dropped answers itself.
    return not trial.void and trial.counts.sent > 0 and trial.counts.loss <= MOST_LOST


def _own(setup: Setup, highest: float) -> Setup:
    """The setup against the host itself. Source addresses aren't used there; how many flows and processes there are matters."""
    return msgspec.structs.replace(
        setup,
        address=LOOPBACK[family_of(setup.address)],
        port=0,
        sources=(),
        max_rate=highest,
        max_seconds=MOST_TRIALS * SECONDS,
        timeout=TIMEOUT,
    )


async def _all_of(hands: LoadHands, setups: Mapping[str, Setup]) -> dict[str, float]:
    try:
        async with asyncio.TaskGroup() as tasks:
            tests = {name: tasks.create_task(_self_test(hands, name, setup)) for name, setup in setups.items()}
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return {name: test.result() for name, test in tests.items()}


async def _self_test(hands: LoadHands, name: str, setup: Setup) -> float:
    """What one generator can do. Raises AnyconsoleError."""
    trials: list[Trial] = []
    async with _responder(hands, name, setup) as port:
        agent = await hands.open_channel(name, "agent")
        facing = msgspec.structs.replace(setup, port=port)
        async with Generators([Generator(name, agent, facing, _QUERIES)]) as alone:
            while (rate := next_rate(trials, setup.max_rate)) is not None:
                trials.append(await alone.trial(Order(phase=Phase.SELF_TEST, rate=rate, seconds=SECONDS)))
    if limit := limit_of(trials):
        return limit
    last = trials[-1]
    raise LoadError(
        f"load generator {name}: self-test: of {last.order.rate:,.0f} q/s to itself it could not send {last.counts.short:.1%} in "
        f"time and lost {last.counts.loss:.1%}. Something else takes its CPU, or its max_qps in the profile is too high"
    )


@asynccontextmanager
async def _responder(hands: LoadHands, host: str, setup: Setup) -> AsyncIterator[int]:
    """A responder on the host; its port. Raises AnyconsoleError."""
    channel = await hands.open_channel(host, "responder")
    try:
        family = 6 if family_of(setup.address) is Family.IPV6 else 4
        order = msgspec.json.encode({"family": family, "processes": setup.processes, "plain": setup.plain})
        channel.write(bootstrap("responder")[1] + order + b"\n")
        said = b""
        try:
            async with asyncio.timeout(START_DEADLINE):
                async for line in channel.lines():
                    said = line
                    break
        except (TimeoutError, MessageError):
            said = b""
        word, _, port = said.partition(b" ")
        if word != b"ready" or not port.isdigit():
            why = plain(channel.last_words or said.decode("utf-8", "replace")[:200] or "it says nothing")
            raise LoadError(f"load generator {host}: self-test: no responder there: {why}")
        yield int(port)
    finally:
        channel.close()
        channel.abort()
