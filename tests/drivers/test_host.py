"""The host, from procfs and ip."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given, settings

from anyconsole.drivers import host
from anyconsole.drivers.ask import Ask, CollectError, Read, Reply, Run, State
from anyconsole.drivers.parse_error import ParseError
from anyconsole.drivers.process import parse_uptime
from tests.drivers.samples import drive, mutated, sample, survives, survives_every_truncation

SPEC = {"section": "host", "addresses": ["192.0.2.53", "2001:DB8:de:0::53", "198.51.100.53"]}


def playback(ran: list[str] | None = None) -> Callable[[Ask], Reply]:
    def answer(ask: Ask) -> Reply:
        if isinstance(ask, Run):
            if ran is not None:
                ran.append(" ".join(ask.argv))
            return Reply(sample("proc", "ip-o-addr-lo.txt"))
        assert isinstance(ask, Read)
        if ask.path == "/sys/devices/system/cpu/online":
            return Reply(b"0-1\n")
        return Reply(sample("proc", ask.path.rsplit("/", 1)[1]))

    return answer


def test_host_and_the_service_addresses_it_holds() -> None:
    (row,) = drive(host.collect(SPEC, {}, 0.0), playback())
    assert row["cores"] == 2
    assert row["mem_total"] > row["mem_available"] > 0
    assert row["addresses"] == ["192.0.2.53", "2001:DB8:de:0::53"]


def test_addresses_cost_a_process_and_are_looked_at_every_three_seconds() -> None:
    ran: list[str] = []
    state: State = {}
    for now in range(9):
        drive(host.collect(SPEC, state, float(now)), playback(ran))
    assert ran == ["ip -o addr show dev lo"] * 3


def test_flickering_load_changes_nothing() -> None:
    state: State = {}

    def answer(load: bytes) -> Callable[[Ask], Reply]:
        whole = playback()
        return lambda ask: Reply(load) if isinstance(ask, Read) and ask.path == "/proc/loadavg" else whole(ask)

    first = drive(host.collect(SPEC, state, 0.0), answer(b"0.50 0.5 0.5 1/99 100\n"))
    assert drive(host.collect(SPEC, state, 1.0), answer(b"0.55 0.5 0.5 1/99 100\n")) == first
    assert drive(host.collect(SPEC, state, 2.0), answer(b"4.00 0.5 0.5 1/99 100\n")) != first


def test_file_that_can_not_be_read_is_an_error_with_its_name() -> None:
    with pytest.raises(CollectError, match="read /proc/loadavg: denied"):
        drive(host.collect(SPEC, {}, 0.0), lambda _ask: Reply(fault="denied", text="read /proc/loadavg: denied"))


@pytest.mark.parametrize(("text", "cores"), [("0\n", 1), ("0-3\n", 4), ("0-3,8-11,15\n", 9)])
def test_cores(text: str, cores: int) -> None:
    assert host.parse_cores(text.encode()) == cores


def test_addresses_of_both_families() -> None:
    assert ip_address("2001:db8:de::53") in host.parse_addresses(sample("proc", "ip-o-addr-lo.txt"))


@pytest.mark.parametrize(
    ("parse", "content"),
    [
        (host.parse_loadavg, sample("proc", "loadavg")),
        (host.parse_meminfo, sample("proc", "meminfo")),
        (parse_uptime, sample("proc", "uptime")),
        (host.parse_cores, b"0-3,6\n"),
        (host.parse_addresses, sample("proc", "ip-o-addr-lo.txt")),
    ],
)
def test_parsers_give_a_value_or_a_named_error(parse: Callable[[bytes], object], content: bytes) -> None:
    parse(content)
    survives_every_truncation(parse, content)

    @settings(max_examples=100, deadline=None)
    @given(content=mutated([content]))
    def check(content: bytes) -> None:
        survives(parse, content)

    check()


@pytest.mark.parametrize("cut", [1, 5, 10])
def test_line_cut_in_the_middle_is_refused(cut: int) -> None:
    with pytest.raises(ParseError):
        host.parse_addresses(sample("proc", "ip-o-addr-lo.txt")[:-cut])
