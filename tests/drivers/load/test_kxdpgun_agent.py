"""kxdpgun behind the load agent's protocol: its totals mean the same as ours, and whatever ends it the interface is given back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from anyconsole.drivers.load.kxdpgun_agent import (
    PORTS,
    arguments,
    counts_of,
    queries_of,
    refusal_of,
    report_of,
    version_of,
    void_of,
)
from anyconsole.drivers.load.messages import Failure, Ready, Setup, TrialEnd, decode
from anyconsole.drivers.load.tool_agent import GarbledError
from anyconsole.errors import LoadError
from anyconsole.lab import requirements
from anyconsole.model.load import Transport, Verdict
from benchmarks.wire import Wire
from tests.drivers.load.tool_trials import Alone, flowing, gone, order, running, silent_after
from tests.drivers.samples import mutated, sample, samples
from tests.drivers.sshd import children_of

PROGRAM = "kxdpgun_agent"

# --- flags and report, without a kxdpgun


def report(name: str) -> dict[str, Any]:
    return report_of(sample("load", name).decode())


def test_a_report_is_read_whatever_the_version() -> None:
    old = report("kxdpgun-3.2.6-veth.out")
    assert (old["sent"], old["replies"], old["threads"], old["rcodes"]) == (99900, 97236, 1, {0: 87635, 3: 9601})
    assert old["ran"] == pytest.approx(5, abs=0.001)
    text = sample("load", "kxdpgun-3.2.6-veth.out").decode()
    # As 3.4's source prints them.
    new = text.replace("(19980 pps)", "(19980 pps) (99.900000%)").replace("(97%)", "(97.333333%)")
    new = new.replace("duration: 5 s", "duration: 5.0002 s").replace(
        "responded NX", "responded unknown:   7\nresponded NX"
    )
    assert report_of(new) == old


def test_the_last_of_several_reports_counts() -> None:
    last = report("kxdpgun-3.2.6-usr1-int.out")
    assert last["sent"] == 8820
    assert last["ran"] == pytest.approx(2.937, abs=0.001), "which it calls 2 s"


def test_what_its_totals_mean() -> None:
    told = report("kxdpgun-3.2.6-veth.out")
    assert counts_of(told, 20_000, 5) == {
        "offered": 100_000, "sent": 99_900, "answered": 97_236, "skipped": 100, "rcodes": {0: 87635, 3: 9601},
    }  # fmt: skip
    assert void_of(told, 20_000, 5) == ""
    assert void_of(told, 25_000, 5) == "kxdpgun sent 80% of what it was to send"
    assert void_of(told, 15_000, 5) == "kxdpgun sent 133% of what it was to send"
    strays = counts_of({**told, "replies": 99_999}, 20_000, 5)
    assert (strays["answered"], strays["stray"]) == (99_900, 99), "an answer too many is none"


def test_broken_output_gives_a_report_or_says_so() -> None:
    originals = [path.read_bytes() for path in samples("load", "kxdpgun*.out")]

    @settings(max_examples=200, deadline=None)
    @given(content=mutated(originals))
    def check(content: bytes) -> None:
        try:
            told = report_of(content.decode("utf-8", "replace"))
        except GarbledError:
            return
        assert told["sent"] >= 0
        assert told["ran"] >= 0

    check()
    text = sample("load", "kxdpgun-3.2.6-veth.out").decode()
    with pytest.raises(GarbledError, match="no report of kxdpgun"):
        report_of(text[: text.index("duration")])
    with pytest.raises(GarbledError, match="no version of kxdpgun"):
        version_of("dnsperf")


def test_queries_say_themselves_whether_they_carry_edns() -> None:
    text = "a.test A\n\nb.test AAAA\n"
    assert queries_of(text, edns=False, dnssec=False) == "a.test A\nb.test AAAA\n"
    assert queries_of(text, edns=True, dnssec=False) == "a.test A E\nb.test AAAA E\n"
    assert queries_of(text, edns=True, dnssec=True) == "a.test A D\nb.test AAAA D\n"


def test_it_asks_from_no_address_but_its_own_and_in_no_bursts_it_can_avoid() -> None:
    argv = arguments(2000, 1.5, address="192.0.2.1", queries="/q", interface="eth1", source="192.0.2.7")
    assert argv[2:] == [
        *("kxdpgun", "-i", "/q", "-I", "eth1", "-l", "192.0.2.7"),
        *("-t", "1.5", "-Q", "2000", "-b", "1", "-p", "53", "192.0.2.1"),
    ]
    assert "-l" not in arguments(500_000, 1, address="192.0.2.1", queries="/q", interface="eth1")


LINK = {"ifname": "eth1", "addr_info": [{"local": "192.0.2.7"}, {"local": "2001:db8::7"}]}
ROUTE = {"dst": "192.0.2.1", "dev": "eth1"}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"source": "2001:db8::7"}, ""),
        ({"services": ["192.0.2.0/29"]}, "interface eth1 carries 192.0.2.7, a service address: "),
        ({"services": ["2001:db8::7"]}, "interface eth1 carries 2001:db8::7, a service address: "),
        ({"services": ["198.51.100.0/24"]}, ""),
        ({"link": {**LINK, "xdp": {"prog": {"name": "filter"}}}}, "interface eth1 has an XDP program already (filter)"),
        ({"source": "192.0.2.8"}, "source address 192.0.2.8 is not on interface eth1"),
        ({"route": {"dev": "eth0"}}, "192.0.2.1 is reached through eth0, not through eth1"),
        ({"link": {"ifname": "eth1", "master": "bond0"}, "route": {"dev": "bond0"}}, ""),
        (
            {"link": {"ifname": "eth1", "master": "bond0"}, "route": {"dev": "bond0"}, "services": ["192.0.2.9/32"]},
            "interface eth1 carries 192.0.2.9, a service address",
        ),
    ],
)
def test_which_interface_it_may_have(changed: dict[str, Any], why: str) -> None:
    said = refusal_of(
        **{
            "address": "192.0.2.1", "source": "", "interface": "eth1", "services": [], "link": LINK, "route": ROUTE,
            "links": {"bond0": {"ifname": "bond0", "addr_info": [{"local": "192.0.2.9"}]}}, **changed,
        }
    )  # fmt: skip
    assert said.startswith(why)
    assert bool(said) == bool(why)


# --- a real kxdpgun on a wire


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    if reason := requirements.unmet():
        pytest.skip(reason)
    with Wire(f"tk{os.getpid()}") as wire:
        yield wire


def setup(wire: Wire, **fields: object) -> Setup:
    told = {
        "address": wire.server_v4,
        "max_rate": 50_000,
        "max_seconds": 60,
        "timeout": 0.3,
        "interface": "w0",
        **fields,
    }
    return msgspec.convert(told, Setup)


def has_xdp(wire: Wire) -> bool:
    argv = [*wire.client, "ip", "-o", "link", "show", "dev", "w0"]
    return " xdp" in subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout


def given_back(wire: Wire) -> bool:
    deadline = time.monotonic() + 3
    while has_xdp(wire):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.lab
@pytest.mark.measures
async def test_a_real_trial_is_a_trial_of_a_generator(wire: Wire) -> None:
    seen: list[Any] = []
    told = setup(wire, sources=(wire.client_v4[1],), services=("192.0.2.0/24",))
    async with running(PROGRAM, told, wire.queries, wire.client, seen) as (generators, _):
        before, second = wire.counted(), wire.counted("second")
        good = await generators.trial(order(20_000, 1.5))
        assert wire.counted() - before == good.counts.sent == wire.counted("second") - second
        assert not has_xdp(wire), "between trials the host has its interface"
        wire.drop(50)
        try:
            bad = await generators.trial(order(2000, 1))
        finally:
            wire.drop(0)
        (engine,) = generators.engines
    assert good.verdict(0.01) is Verdict.OK, (good.void, good.counts)
    assert (good.counts.offered, good.seconds, good.counts.latency.count) == (30_000, (), 0)
    assert good.counts.sent == pytest.approx(30_000, rel=0.01)
    assert good.counts.rcodes[3] / good.counts.answered == pytest.approx(0.1, abs=0.01)
    assert 0 < good.health["gen1"].busy < 1
    assert bad.verdict(0.01) is Verdict.BAD
    assert bad.counts.loss == pytest.approx(0.5, abs=0.01), "it holds its rate under loss"
    assert engine.startswith("kxdpgun 3.")
    assert all(tick.counts.answered == 0 for tick in seen), "it tells nothing before its end"


@pytest.mark.lab
@pytest.mark.measures
async def test_a_stop_is_silent_at_once_even_before_the_first_query(wire: Wire) -> None:
    """Told to stop in its first second, kxdpgun itself forgets it."""
    told = setup(wire, address=wire.server_v6)
    async with running(PROGRAM, told, wire.queries, wire.client) as (generators, _):
        task = asyncio.create_task(generators.trial(order(2000, 30)))
        before = wire.delivered()
        await asyncio.sleep(0.5)
        generators.halt()
        early = await asyncio.wait_for(task, 2)
        assert early.void == "stopped"
        assert given_back(wire)
        task = asyncio.create_task(generators.trial(order(2000, 30)))
        await flowing(wire)
        assert wire.delivered() - before < 2000, "the first trial never sent anything"
        await asyncio.sleep(0.6)
        since = time.monotonic()
        generators.halt()
        assert await silent_after(wire, since) < 0.1
        late = await task
    assert late.void == "stopped"
    assert late.counts.sent == wire.delivered() - before
    assert late.order.seconds == pytest.approx(late.counts.sent / 2000, rel=0.1), "it counts as the time that it ran"
    assert late.counts.offered == pytest.approx(late.counts.sent, rel=0.02)
    assert not has_xdp(wire)


@pytest.mark.lab
@pytest.mark.measures
@pytest.mark.parametrize("end", ["its input ends", "it is killed"])
async def test_kxdpgun_ends_with_its_agent_and_the_interface_is_given_back(wire: Wire, end: str) -> None:
    async with running(PROGRAM, setup(wire), wire.queries, wire.client) as (generators, channel):
        task = asyncio.create_task(generators.trial(order(1000, 30)))
        await flowing(wire)
        assert has_xdp(wire)
        pids = [channel.process.pid, *children_of(channel.process.pid)]
        assert len(pids) >= 3
        since = time.monotonic()
        if end == "it is killed":
            channel.process.kill()
        else:
            channel.close()
        assert await silent_after(wire, since) < 0.25
        assert given_back(wire)
        assert gone(pids), "nothing is left behind"
        with pytest.raises(LoadError, match="gen1: lost"):
            await task


@pytest.mark.lab
@pytest.mark.measures
async def test_silence_within_three_and_a_half_seconds_of_the_last_heartbeat(wire: Wire) -> None:
    with Alone(PROGRAM, wire, setup(wire)) as agent:
        assert agent.ready == Ready(batched=False, flows=200, processes=1)
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
    assert not has_xdp(wire)


@pytest.mark.lab
@pytest.mark.measures
@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"transport": Transport.TCP}, "transport 'tcp' is none that kxdpgun knows: udp"),
        ({"interface": ""}, "'' is not the name of an interface"),
        ({"interface": "w1"}, "there is no interface w1 here"),
        ({"interface": "lo"}, "198.18.253.2 is reached through w0, not through lo"),
        ({"services": ("198.18.253.0/30",)}, "interface w0 carries 198.18.253.1, a service address"),
        ({"address": "203.0.113.1"}, "Network is unreachable"),
    ],
)
def test_what_it_may_not_have_is_refused_before_anything_runs(wire: Wire, fields: dict[str, object], why: str) -> None:
    with Alone(PROGRAM, wire, setup(wire, **fields)) as agent:
        assert isinstance(agent.ready, Failure)
        assert why in agent.ready.why
    assert not has_xdp(wire)


@pytest.mark.lab
@pytest.mark.measures
def test_an_interface_has_one_test_at_a_time(wire: Wire) -> None:
    """A second kxdpgun there takes the first one's answers, which then seem lost."""
    with Alone(PROGRAM, wire, setup(wire)), Alone(PROGRAM, wire, setup(wire)) as second:
        assert isinstance(second.ready, Failure)
        assert second.ready.why == "another load test has interface w0"


@pytest.mark.lab
@pytest.mark.measures
def test_what_the_records_say_of_edns_and_flows_is_what_it_sends(wire: Wire) -> None:
    """It asks from a new port each time, and offers the size that our own agent offers."""
    code = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5301)); s.settimeout(10); print(flush=True)\n"
        "got = [s.recvfrom(512) for _ in range(20)]; print(got[0][0][-11:].hex(), len({a[1] for _, a in got}), min(a[1] for _, a in got))"
    )
    with subprocess.Popen([*wire.server, "python3", "-c", code], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        with Alone(PROGRAM, wire, setup(wire, port=5301)) as agent:
            agent.trial(20, 2)
            opt, ports, lowest = server.stdout.readline().split()
    assert bytes.fromhex(opt)[:5] == b"\0" + (41).to_bytes(2, "big") + Setup(
        address="", max_rate=1, max_seconds=1
    ).bufsize.to_bytes(2, "big")
    assert int(ports) == 20
    assert int(lowest) >= 65536 - PORTS
