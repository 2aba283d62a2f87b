"""Generators that prove themselves before a search: what they can't do is never taken for what their target can't."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from anyconsole.actions.action import Said
from anyconsole.actions.load import selftest
from anyconsole.actions.load.rig import Finder
from anyconsole.actions.load.search import HEADROOM
from anyconsole.actions.load.selftest import MOST_TRIALS, SelfTest, SelfTests, highest_of, limit_of, next_rate, together
from anyconsole.drivers.load.channel import Channel
from anyconsole.drivers.load.local_channel import LocalChannel
from anyconsole.drivers.load.messages import Setup
from anyconsole.errors import LoadError
from anyconsole.model.inventory import Generator
from anyconsole.model.load import Counts, Order, Phase, Trial
from tests.drivers.sshd import children_of

ATTEMPTS = 3
"""A machine that is busy with something else may fail what is tested, and only that."""

GENERATOR = Generator(name="gen1", address="gen1", max_qps=2000)


def setup(**fields: object) -> Setup:
    return Setup(**{"address": "198.51.100.1", "max_rate": 100.0, "max_seconds": 60.0, "flows": 64} | fields)  # type: ignore[arg-type]


class Hands:
    """This machine as every generator's host."""

    kinds: Mapping[str, type[LocalChannel]] = {}

    def __init__(self) -> None:
        self.opened: dict[str, LocalChannel] = {}

    async def look(self, hosts: Collection[str], deadline: float) -> set[str]:  # noqa: ARG002
        raise AssertionError("a self-test looks at no node")

    async def open_channel(self, host: str, program: str) -> LocalChannel:
        channel = await self.kinds.get(program, LocalChannel).open(program=program)
        self.opened[f"{program} on {host}"] = channel
        return channel

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            for channel in self.opened.values():
                await channel.process.wait()

    async def execute(self, host: str, script: str, deadline: float) -> Said:  # noqa: ARG002
        raise AssertionError(f"{host}: nothing is changed")

    async def open_reader(self, node: str, tenant: str) -> Channel:
        raise AssertionError(f"{tenant} on {node}: no pod is looked into")

    async def await_generators(self, names: Collection[str], deadline: float) -> None:  # noqa: ARG002
        raise AssertionError(f"{names}: none of them is a pod")

    def in_cluster(self, name: str) -> Finder:
        raise AssertionError(f"{name}: nothing is asked of a cluster")

    def forward(self, host: str, address: str, port: int) -> AbstractAsyncContextManager[int]:
        raise AssertionError(f"{host}: nothing is forwarded to {address}:{port}")


class StuckChannel(LocalChannel):
    """The responder stops answering once it is ready."""

    stopped: tuple[int, ...] = ()

    async def lines(self) -> AsyncIterator[bytes]:
        async for line in super().lines():
            self.stopped = tuple(children_of(self.process.pid))
            for pid in self.stopped:
                os.kill(pid, signal.SIGSTOP)
            yield line


class StuckHands(Hands):
    """Queries arrive at the generator's host, and that is all that becomes of them."""

    kinds: Mapping[str, type[LocalChannel]] = {"responder": StuckChannel}


class MuteChannel(LocalChannel):
    """The responder can't be started."""

    async def lines(self) -> AsyncIterator[bytes]:
        yield b"error permission denied"


class MuteHands(Hands):
    """A host that lets nobody open a port."""

    kinds: Mapping[str, type[LocalChannel]] = {"responder": MuteChannel}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "SECONDS", 0.3)


async def test_a_generator_that_can_do_all_it_may_limits_no_search_and_is_tested_once_a_session() -> None:
    found: dict[str, SelfTest] = {}
    for _attempt in range(ATTEMPTS):
        tests, hands = SelfTests(clock=lambda: 7.0), Hands()
        found = await tests.of(hands, [GENERATOR], {"gen1": setup()})
        assert list(hands.opened) == ["responder on gen1", "agent on gen1"]
        await hands.ended()
        hands.opened.clear()
        assert await tests.of(hands, [GENERATOR], {"gen1": setup()}) == found
        assert not hands.opened
        if found["gen1"].limit == highest_of(GENERATOR):
            break
    assert found == {"gen1": SelfTest(highest_of(GENERATOR), 7.0)}
    assert HEADROOM * together(found, {"gen1": 1.0}) >= GENERATOR.max_qps


async def test_a_pod_is_tested_each_time_for_it_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tested: list[str] = []

    async def all_of(_: object, setups: Mapping[str, Setup]) -> dict[str, float]:
        tested.extend(setups)
        return dict.fromkeys(setups, 1000.0)

    monkeypatch.setattr(selftest, "_all_of", all_of)
    (pod,) = msgspec.structs.replace(GENERATOR, cluster="k3s").members
    tests, setups = SelfTests(), {"gen1": setup(), pod.name: setup()}
    for _ in range(2):
        await tests.of(Hands(), [GENERATOR, pod], setups)
    assert tested == ["gen1", "gen1-0", "gen1-0"]


async def test_a_generator_that_cannot_is_named_with_what_it_lost() -> None:
    hands = StuckHands()
    try:
        with pytest.raises(LoadError, match=r"^load generator gen1: self-test: of 250 q/s to itself .* lost 100\.0%"):
            await SelfTests().of(hands, [GENERATOR], {"gen1": setup()})
    finally:
        for channel in hands.opened.values():
            for pid in getattr(channel, "stopped", ()):
                os.kill(pid, signal.SIGKILL)
        await hands.ended()


async def test_a_generator_that_cannot_test_itself_ends_the_self_tests_of_all() -> None:
    hands = MuteHands()
    two = [GENERATOR, Generator(name="gen2", address="gen2", max_qps=2000)]
    with pytest.raises(
        LoadError, match=r"^load generator gen[12]: self-test: no responder there: error permission denied"
    ):
        await SelfTests().of(hands, two, {"gen1": setup(), "gen2": setup()})
    await hands.ended()


async def test_stopping_in_the_middle_leaves_nothing_running() -> None:
    hands = Hands()
    task = asyncio.create_task(SelfTests().of(hands, [GENERATOR], {"gen1": setup()}))
    async with asyncio.timeout(10):
        while "agent on gen1" not in hands.opened:
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await hands.ended()


# --- which rates are tried


def trial(rate: float, capacity: float, void: str = "") -> Trial:
    """A second of a generator that sends `capacity` at most and skips the rest."""
    offered = int(rate)
    sent = min(offered, int(capacity))
    counts = Counts(offered=offered, sent=sent, skipped=offered - sent, answered=sent, rcodes={0: sent})
    void = void or ("skipped" if counts.short > 0.03 else "")
    return Trial(order=Order(phase=Phase.SELF_TEST, rate=rate), began_at=0.0, counts=counts, void=void)


def climbed(capacity: float, highest: float, void_at: int | None = None) -> list[Trial]:
    trials: list[Trial] = []
    while (rate := next_rate(trials, highest)) is not None:
        trials.append(trial(rate, capacity, "a hiccup" if len(trials) == void_at else ""))
    return trials


@pytest.mark.parametrize("capacity", [6_500, 9_000, 15_000, 29_000, 40_000, 60_000, 70_000])
def test_the_limit_is_found_from_below_in_eight_seconds(capacity: float) -> None:
    trials = climbed(capacity, highest_of(Generator(name="gen1", address="gen1", max_qps=50_000)))
    assert len(trials) <= MOST_TRIALS
    assert capacity / 1.28 <= limit_of(trials) <= capacity * 1.03
    assert max(t.order.rate for t in trials) <= 50_000 / HEADROOM + 1


def test_a_hiccup_of_a_second_does_not_lower_the_limit() -> None:
    for number in range(6):
        assert limit_of(climbed(1e6, 1000, void_at=number)) == 1000


def test_a_generator_that_cannot_do_an_eighth_has_no_limit_at_all() -> None:
    assert len(climbed(10, 1000)) == 2
    assert limit_of(climbed(10, 1000)) == 0


def test_of_several_generators_the_weakest_for_its_share_decides() -> None:
    tests = {"large": SelfTest(90_000, 0), "small": SelfTest(5_000, 0)}
    assert together(tests, {"large": 0.9, "small": 0.1}) == 50_000
    assert together(tests, {"large": 0.99, "small": 0.01}) == pytest.approx(90_909, abs=1)
