"""dnsperf behind the load agent's protocol: real trials over every transport, the same limits, and the same silence."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.dnsperf import EDNS_SIZE
from anyconsole.drivers.load.messages import (
    Failure,
    Message,
    Ready,
    Setup,
    Tick,
    TrialEnd,
    command,
    decode,
)
from anyconsole.errors import LoadError
from anyconsole.lab import requirements
from anyconsole.model.load import Transport, Trial, Verdict
from benchmarks.wire import Wire
from tests.drivers.load.name_server import ZONE, serving
from tests.drivers.load.tool_trials import Alone, flowing, gone, order, running, silent_after
from tests.drivers.sshd import children_of

pytestmark = [pytest.mark.lab, pytest.mark.measures]

PROGRAM = "dnsperf_agent"


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    if reason := requirements.unmet():
        pytest.skip(reason)
    with Wire(f"td{os.getpid()}") as wire:
        yield wire


def setup(wire: Wire, **fields: object) -> Setup:
    told = {"address": wire.server_v4, "max_rate": 5000, "max_seconds": 60, "timeout": 0.3, **fields}
    return msgspec.convert(told, Setup)


async def test_a_real_trial_over_every_transport_is_a_trial_of_a_generator(wire: Wire, tmp_path: Path) -> None:
    seen: list[Message] = []

    async def trial(told: Setup, queries: str, prefix: list[str]) -> tuple[Trial, tuple[str, ...]]:
        async with running(PROGRAM, told, queries, prefix, seen) as (generators, _):
            return await generators.trial(order(500)), generators.engines

    with serving(tmp_path) as tls:
        text = "".join(f"h{n}.{ZONE} A\n" for n in range(1, 91)) + f"x.{ZONE} A\n" * 10
        arrived = wire.counted()
        udp, tcp, dot = await asyncio.gather(  # at the same time: each takes four seconds
            trial(setup(wire, sources=(wire.client_v4[1],)), wire.queries, wire.client),
            trial(setup(wire, transport=Transport.TCP), wire.queries, wire.client),
            trial(setup(wire, address="127.0.0.1", port=tls.tls_port, transport=Transport.DOT, timeout=1), text, []),
        )
    for made, engines in (udp, tcp, dot):
        assert made.verdict(0.01) is Verdict.OK, (made.void, made.counts)
        assert made.counts.offered == 2000
        assert made.counts.sent == pytest.approx(2000, rel=0.03)
        assert made.counts.rcodes[3] / made.counts.answered == pytest.approx(0.1, abs=0.03)
        assert made.seconds == ()
        assert 0 < made.health["gen1"].busy < 1
        assert engines[0].startswith("dnsperf 2.")
    assert wire.counted() - arrived == udp[0].counts.sent == wire.counted("second"), "TCP is not UDP"
    ticks = [told for told in seen if isinstance(told, Tick)]
    assert len(ticks) > 3 * 4 * 3, "it lives, and says so"
    assert max(told.counts.answered for told in ticks) == pytest.approx(500, rel=0.1)


async def test_losses_that_hold_it_up_are_the_targets_and_are_a_bad_trial(wire: Wire) -> None:
    wire.drop(50)
    try:
        async with running(PROGRAM, setup(wire), wire.queries, wire.client) as (generators, _):
            made, short = await generators.trial(order(2000)), await generators.trial(order(200, 0.5))
    finally:
        wire.drop(0)
    assert made.counts.sent < 2000 * 4 * 0.97, "it can't hold its rate, which is why it is not the first choice"
    assert (made.void, made.verdict(0.01)) == ("", Verdict.BAD)
    assert made.counts.loss == pytest.approx(0.5, abs=0.05)
    assert short.void == "gen1: dnsperf says nothing of use in less than 4 s"


async def test_a_stop_is_silent_at_once_and_the_next_trial_runs(wire: Wire) -> None:
    async with running(PROGRAM, setup(wire), wire.queries, wire.client) as (generators, _):
        task = asyncio.create_task(generators.trial(order(1000, 30)))
        await flowing(wire)
        since = time.monotonic()
        generators.halt()
        assert await silent_after(wire, since) < 0.1
        made = await task
        assert (made.void, made.is_halted) == ("stopped", True)
        assert made.order.seconds < 10, "it counts as the time that it ran"
        assert made.counts.offered == pytest.approx(made.order.seconds * 1000, rel=0.02)
        task = asyncio.create_task(generators.trial(order(2000, 50)))
        await flowing(wire)
        generators.halt()
        assert (await task).is_halted, "the rest of the time is left"


@pytest.mark.parametrize("end", ["its input ends", "it is killed"])
async def test_dnsperf_ends_with_its_agent(wire: Wire, end: str) -> None:
    async with running(PROGRAM, setup(wire), wire.queries, wire.client) as (generators, channel):
        task = asyncio.create_task(generators.trial(order(1000, 30)))
        await flowing(wire)
        pids = [channel.process.pid, *children_of(channel.process.pid)]
        assert len(pids) >= 2
        since = time.monotonic()
        if end == "it is killed":
            channel.process.kill()
        else:
            channel.close()
        assert await silent_after(wire, since) < 0.25
        assert gone(pids), "nothing is left behind"
        with pytest.raises(LoadError, match="gen1: lost"):
            await task


async def test_silence_and_its_own_end_within_three_and_a_half_seconds_of_the_last_heartbeat(wire: Wire) -> None:
    with Alone(PROGRAM, wire, setup(wire)) as agent:
        agent.trial(1000, 30)
        since = time.monotonic()
        await flowing(wire)
        pids = children_of(agent.process.pid)
        assert 2.5 < await silent_after(wire, since) <= 3.5
        assert agent.process.wait(5) == 0
        assert gone(pids)
        assert agent.process.stdout is not None
        ends = [told for line in agent.process.stdout if isinstance(told := decode(line), TrialEnd)]
        assert [told.stopped for told in ends] == ["heartbeat"]


def test_limits_are_set_once_and_hold_whatever_is_asked_later(wire: Wire) -> None:
    with Alone(PROGRAM, wire, setup(wire, max_rate=1000, max_seconds=5, flows=32)) as agent:
        assert agent.ready == Ready(batched=False, flows=32, processes=1)
        before = wire.delivered()
        agent.trial(1001, 4)
        assert agent.refusal() == "1001 queries/s are more than the 1000 allowed"
        agent.trial(10, 6)
        assert agent.refusal() == "only 5 s are left of the 5 s allowed"
        agent.trial(float("nan"), 4)
        assert "not understood" in agent.refusal()
        agent.trial(-5, 4)
        assert agent.refusal() == "rate and seconds must be above zero"
        agent.say(agent.prepare)
        assert agent.refusal() == "target and limits are set once"
        assert wire.delivered() == before
        agent.trial(100, 5)
        agent.trial(100, 4)
        assert agent.refusal() == "a trial is running"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"address": "-h"}, "'-h' does not appear to be an IPv4 or IPv6 address"),
        ({"address": "ns.load.test"}, "does not appear to be an IPv4 or IPv6 address"),
        ({"sources": ("203.0.113.9",)}, "source address 203.0.113.9: "),
        ({"sources": ("-x",)}, "'-x' does not appear to be"),
        ({"port": 0}, "port must be above zero"),
    ],
)
def test_what_it_is_told_never_becomes_an_option_of_dnsperf(wire: Wire, fields: dict[str, object], why: str) -> None:
    with Alone(PROGRAM, wire, setup(wire, **fields)) as agent:
        assert isinstance(agent.ready, Failure)
        assert why in agent.ready.why


def test_what_the_records_say_of_edns_is_what_dnsperf_sends(wire: Wire) -> None:
    """It offers a payload size of its own choice."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        start, program = bootstrap(PROGRAM)
        told = setup(wire, address="127.0.0.1", port=server.getsockname()[1])
        say = program + command("prepare", **msgspec.to_builtins(told), queries="a.test A\n")
        say += command("trial", number=1, rate=10, seconds=4, prime_rate=0, prime_seconds=0)
        with subprocess.Popen(["/bin/sh", "-c", start], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as agent:
            assert agent.stdin is not None
            agent.stdin.write(say)
            agent.stdin.flush()
            query = server.recv(4096)
    assert query[-11:-6] == b"\0" + (41).to_bytes(2, "big") + EDNS_SIZE.to_bytes(2, "big")
