"""NSD 4.6, Knot DNS 3.2 and BIND 9.18 over their own words."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from anyconsole.drivers import bind, knot, nsd
from anyconsole.drivers.ask import FRESH, Ask, CollectError, Exchange, Get, Read, Reply, Row, State, Talk
from anyconsole.drivers.instance_rows import rates_row
from anyconsole.drivers.parse_error import ParseError
from anyconsole.drivers.probe.facts_of import fact_of
from anyconsole.model.facts import QueryRates
from tests.drivers.samples import drive, mutated, refuses_every_truncation, sample, samples, survives

SOA = {"example.de": {"address": "192.0.2.53", "wire": "0000" + "00" * 10}}
SPEC: dict[str, Any] = {
    "section": "x:de",
    "tenant": "de",
    "control": "/run/ctl",
    "chroot": "/srv/de",
    "pid_file": "/srv/de/pid",
    "zones": ["example.de"],
    "soa": SOA,
}

SOA_REPLY = (
    struct.pack(">6H", 0, 0x8400, 1, 1, 0, 0)
    + b"\x07example\x02de\0\0\x06\0\x01"
    + b"\xc0\x0c\0\x06\0\x01\0\0\0\x3c\0\x20"
    + b"\x02ns\xc0\x0c"
    + b"\x04host\xc0\x0c"
    + struct.pack(">5I", 2026112301, 1, 2, 3, 4)
)


def proc(ask: Read, command: bytes = b"nsd\0-c\0", state: bytes = b"S") -> Reply:
    if ask.path == "/srv/de/pid":
        return Reply(b"9918\n")
    if ask.path == "/proc/9918/stat":
        return Reply(sample("proc", "stat.nsd").replace(b") S ", b") " + state + b" "))
    if ask.path == "/proc/9918/cmdline":
        return Reply(command)
    if ask.path == "/proc/9918/status":
        return Reply(b"Name:\txfrd\nVmRSS:\t    7384 kB\n")
    if ask.path == "/proc/uptime":
        return Reply(b"2800.00 100.00\n")
    if ask.path == "/proc/9918/mountinfo":
        return Reply(sample("proc", "mountinfo.nsd-inside.txt").replace(b"/tmp/acp/nsd", b"/srv/de"))
    if ask.path == "/proc/self/mountinfo":
        return Reply(sample("proc", "mountinfo.self.txt").replace(b"/tmp/acp/nsd", b"/srv/de"))
    return Reply(fault="absent", text=ask.path)


def nsd_answers(role: str = "primary", stats: bytes | None = None) -> Callable[[Ask], Reply]:
    def answer(ask: Ask) -> Reply:
        if isinstance(ask, Read):
            return proc(ask)
        if isinstance(ask, Exchange):
            return Reply(SOA_REPLY)
        assert isinstance(ask, Talk)
        word = ask.data.decode().split()[1]
        if word == "stats_noreset" and stats is not None:
            return Reply(stats)
        return Reply(sample("nsd-4.6.1", f"{word}.{role}.txt"))

    return answer


def test_nsd_instance_with_its_process_in_its_chroot() -> None:
    (row,) = drive(nsd.collect(SPEC, {}, 0.0), nsd_answers())
    assert row == {
        "kind": "instance", "section": "x:de", "tenant": "de", "daemon": "nsd", "running": True, "pid": 9918, "uptime": 900.0,
        "rss": 7384 * 1024, "chroot": "inside", "version": "4.6.1", "serials": {"example.de": 2026112301}, "detail": "",
    }  # fmt: skip


def test_nsd_tells_the_serial_of_secondary_zones_itself() -> None:
    assert nsd.parse_zones(sample("nsd-4.6.1", "zonestatus.secondary.txt")) == {
        "example.de": 2026112301,
        "never.example": None,
    }
    assert nsd.parse_zones(sample("nsd-4.6.1", "zonestatus.primary.txt")) == {"example.de": None}


def test_nsd_is_asked_for_a_primary_zones_serial_less_than_once_a_second() -> None:
    asked: list[float] = []
    state: State = {}
    whole = nsd_answers()
    for now in range(12):

        def answer(ask: Ask, now: int = now) -> Reply:
            if isinstance(ask, Exchange):
                asked.append(now)
            return whole(ask)

        drive(nsd.collect(SPEC, state, float(now)), answer)
    assert asked == [0, 3, 6, 9]


def test_serial_survives_one_lost_packet_but_not_three() -> None:
    state: State = {}
    whole = nsd_answers()

    def lossy(ask: Ask) -> Reply:
        return Reply(fault="timeout", text="lost") if isinstance(ask, Exchange) else whole(ask)

    drive(nsd.collect(SPEC, state, 0.0), whole)
    serials = [drive(nsd.collect(SPEC, state, 3.0 * n), lossy)[0]["serials"] for n in range(1, 5)]
    assert [bool(s) for s in serials] == [True, True, False, False]


def test_zone_that_is_not_configured_is_named() -> None:
    (row,) = drive(nsd.collect({**SPEC, "zones": ["example.de", "example.org"]}, {}, 0.0), nsd_answers())
    assert row["detail"] == "zone example.org is not configured"


def test_rates_come_from_two_samples_and_split_by_family_and_transport() -> None:
    state: State = {}
    before = sample("nsd-4.6.1", "stats_noreset.primary.txt")
    rest = nsd.parse_stats(before)
    drive(nsd.collect(SPEC, state, 0.0), nsd_answers(stats=before))
    after = before
    for name, more in (("queries", 50), ("udp", 30), ("udp6", 10), ("tcp", 6), ("tcp6", 4), ("rcode.NOERROR", 50)):
        old = rest["num." + name]
        after = after.replace(f"num.{name}={old}\n".encode(), f"num.{name}={old + more}\n".encode())
    rows = drive(nsd.collect(SPEC, state, 2.0), nsd_answers(stats=after))
    rates = next(r for r in rows if r["kind"] == "rates")
    assert (rates["qps"], rates["ipv4"], rates["ipv6"], rates["udp"], rates["tcp"]) == (25.0, 18.0, 7.0, 20.0, 5.0)
    assert rates["rcodes"]["NOERROR"] == 25.0


def test_counters_that_came_late_were_counted_late() -> None:
    """A machine that stalls for most of the first second would else show a tenth of the rate, and a drain take that for the normal one."""
    state: State = {}
    rows: list[Row] | None = None
    for now, came, queries in ((0.0, 0.9, 0), (1.0, 1.4, 50)):
        stats = sample("nsd-4.6.1", "stats_noreset.primary.txt").splitlines()
        stats = [b"num.queries=%d" % queries if line.startswith(b"num.queries=") else line for line in stats]
        whole = nsd_answers(stats=b"\n".join(stats) + b"\n")
        rows = drive(nsd.collect(SPEC, state, now), lambda ask, whole=whole, came=came: whole(ask)._replace(at=came))  # type: ignore[misc]
    assert rows is not None
    assert next(r for r in rows if r["kind"] == "rates")["qps"] == 100.0


def test_counters_that_run_backwards_start_anew() -> None:
    state: State = {}
    high = sample("nsd-4.6.1", "stats_noreset.secondary.txt")
    low = high.replace(b"num.queries=4\n", b"num.queries=0\n")
    assert low != high
    assert len(drive(nsd.collect(SPEC, state, 0.0), nsd_answers(stats=high))) == 1
    assert len(drive(nsd.collect(SPEC, state, 1.0), nsd_answers(stats=high))) == 2
    assert len(drive(nsd.collect(SPEC, state, 2.0), nsd_answers(stats=low))) == 1


def test_counters_themselves_are_told_when_somebody_looks_and_stay_until_the_next_look() -> None:
    state: State = {}
    before = sample("nsd-4.6.1", "stats_noreset.primary.txt")
    taken = nsd.parse_stats(before)["num.queries"]
    withheld = before.replace(b"num.dropped=0\n", b"num.dropped=17\n")
    after = withheld.replace(b"num.queries=%d\n" % taken, b"num.queries=%d\n" % (taken + 40))

    def counted(now: float, stats: bytes, *, fresh: bool = False) -> dict[str, Any] | None:
        state[FRESH] = fresh
        rows = drive(nsd.collect(SPEC, state, now), nsd_answers(stats=stats))
        found: dict[str, Any] | None = rows[-1].get("counted")
        return found

    assert counted(0.0, before) is None
    assert counted(1.0, before) is None
    looked = counted(2.0, withheld, fresh=True)
    assert looked == {"moment": 2.0, "taken": taken, "withheld": 17}
    assert counted(3.0, after) == looked, "a row that changed each second would be sent each second"
    assert counted(4.0, after, fresh=True) == {"moment": 4.0, "taken": taken + 40, "withheld": 17}


def knot_answers(error: bytes | None = None) -> Callable[[Ask], Reply]:
    def answer(ask: Ask) -> Reply:
        if isinstance(ask, Read):
            return proc(ask, command=b"/usr/sbin/knotd\0-c\0")
        assert isinstance(ask, Talk)
        if error is not None:
            return Reply(error)
        name = {
            knot.request("stats"): "stats.bin",
            knot.request("zone-status"): "zone-status.bin",
            knot.request("status", kind="version"): "status_version.bin",
        }[ask.data]
        return Reply(sample("knot-3.2.6", name), pid=9918)

    return answer


def test_knot_instance() -> None:
    (row,) = drive(knot.collect({**SPEC, "zones": ["example.de", "broken.de"]}, {}, 0.0), knot_answers())
    assert (row["version"], row["serials"], row["pid"]) == ("3.2.6", {"example.de": 2026112301}, 9918)
    assert row["detail"] == "zone broken.de is not loaded"


def test_knot_process_is_found_by_the_kernel_where_its_pid_file_is_unreadable() -> None:
    whole = knot_answers()

    def answer(ask: Ask) -> Reply:
        return Reply(fault="denied", text="no") if isinstance(ask, Read) and ask.path == "/srv/de/pid" else whole(ask)

    (row,) = drive(knot.collect(SPEC, {}, 0.0), answer)
    assert row["pid"] == 9918


def test_knot_counts_by_protocol() -> None:
    units = knot.parse_units(sample("knot-3.2.6", "stats.bin"))
    assert knot.counters_of(units) == {
        "total": 4, "ipv4": 3, "ipv6": 1, "udp": 3, "tcp": 1, "rcode.NOERROR": 3, "rcode.NXDOMAIN": 1,
    }  # fmt: skip


def test_knot_tells_what_its_global_rate_limit_dropped() -> None:
    def unit(section: str, item: str, value: str, name: str = "") -> dict[int, str]:
        return {3: section, 4: item, 10: value} | ({5: name} if name else {})

    units = [
        unit("mod-stats", "request-protocol", "200", "udp4"),
        unit("mod-rrl", "slipped", "3"),
        unit("mod-rrl", "dropped", "180"),
    ]
    assert knot.counters_of(units) == {"total": 200, "ipv4": 200, "ipv6": 0, "udp": 200, "tcp": 0, "withheld": 180}


def test_knot_without_its_statistics_module_says_so_and_reports_no_rate() -> None:
    assert knot.counters_of(knot.parse_units(sample("knot-3.2.6", "stats_server.bin"))) is None


def test_knots_own_error_is_passed_on() -> None:
    with pytest.raises(CollectError, match="no such zone found"):
        drive(knot.collect(SPEC, {}, 0.0), knot_answers(sample("knot-3.2.6", "error.bin")))


def bind_answers() -> Callable[[Ask], Reply]:
    def answer(ask: Ask) -> Reply:
        if isinstance(ask, Read):
            return proc(ask, command=b"/usr/sbin/named\0-t\0")
        assert isinstance(ask, Get)
        assert (ask.host, ask.port) == ("127.0.0.1", 8001)
        return Reply(
            sample("bind-9.18", ask.path.strip("/").replace("/", "_").replace("json_v1", "bind_json_v1") + ".json")
        )

    return answer


BIND_SPEC = {**SPEC, "control": "127.0.0.1:8001"}


def test_bind_instance() -> None:
    (row,) = drive(bind.collect(BIND_SPEC, {}, 0.0), bind_answers())
    assert row["version"].startswith("9.18.")
    assert (row["serials"], row["detail"], row["running"]) == ({"example.de": 2026112301}, "", True)


def test_bind_counts() -> None:
    _, boot, counters = bind.parse_server(sample("bind-9.18", "bind_json_v1_server.json"))
    assert boot.startswith("2026-11-23T")
    assert (counters["total"], counters["ipv4"], counters["ipv6"], counters["udp"], counters["tcp"]) == (4, 3, 1, 3, 1)
    assert counters["rcode.NXDOMAIN"] == 1
    assert counters["withheld"] == 0, "what is 0 isn't there"


def test_a_bind_that_invents_numbers_and_codes_costs_only_its_own_section() -> None:
    zone = {"name": "example.de", "class": "IN", "type": "primary", "serial": 10**30, "loaded": "x"}
    with pytest.raises(ParseError, match="serial"):
        bind.parse_zones(json.dumps({"views": {"_default": {"zones": [zone]}}}).encode())
    server = json.loads(sample("bind-9.18", "bind_json_v1_server.json"))
    with pytest.raises(ParseError, match="counters"):
        bind.parse_server(json.dumps({**server, "opcodes": {"QUERY": 10**308}}).encode())
    state: dict[str, Any] = {}
    counters = {"total": 9000, **{f"rcode.X{i}": 1 for i in range(9000)}}
    rates_row(BIND_SPEC, state, counters, 1.0, "boot")
    (row,) = rates_row(BIND_SPEC, state, {k: 2 * v for k, v in counters.items()}, 2.0, "boot")
    assert len(row["rcodes"]) <= 64
    assert isinstance(fact_of("sin1", row, 1.0, 0.0), QueryRates)


def test_bind_needs_the_address_of_its_statistics_channel() -> None:
    with pytest.raises(CollectError, match="host:port"):
        drive(bind.collect(SPEC, {}, 0.0), bind_answers())


DRIVERS: dict[str, tuple[Any, dict[str, Any], Callable[[Ask], Reply], bytes]] = {
    "nsd": (nsd, SPEC, nsd_answers(), b"nsd\0"),
    "knot": (knot, SPEC, knot_answers(), b"knotd\0"),
    "bind": (bind, BIND_SPEC, bind_answers(), b"named\0"),
}


def faulty(kind: str, fault: str, *, process: bytes | None = None, state: bytes = b"S") -> list[Row]:
    driver, spec, _, _ = DRIVERS[kind]

    def answer(ask: Ask) -> Reply:
        if isinstance(ask, Read):
            if process is None and ask.path.startswith("/proc/9918"):
                return Reply(fault="absent", text="no such process")
            return proc(ask, command=process or b"", state=state)
        return Reply(fault=fault, text="control socket: the reason")

    return drive(driver.collect(spec, {}, 0.0), answer)


@pytest.mark.parametrize("kind", DRIVERS)
def test_server_without_process_and_control_is_down(kind: str) -> None:
    (row,) = faulty(kind, "absent")
    assert (row["running"], row["detail"]) == (False, "control socket: the reason")


@pytest.mark.parametrize("kind", DRIVERS)
def test_pid_of_another_program_does_not_make_it_run(kind: str) -> None:
    (row,) = faulty(kind, "absent", process=b"/usr/bin/vim\0")
    assert row["running"] is False


@pytest.mark.parametrize("kind", DRIVERS)
def test_stopped_process_is_down_and_the_reason_is_said(kind: str) -> None:
    (row,) = faulty(kind, "timeout", process=DRIVERS[kind][3], state=b"T")
    assert (row["running"], row["detail"]) == (False, "process 9918 is stopped")


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("fault", ["timeout", "denied", "absent"])
def test_running_process_that_can_not_be_asked_is_not_called_down(kind: str, fault: str) -> None:
    with pytest.raises(CollectError, match=r"the reason \(process 9918 runs\)"):
        faulty(kind, fault, process=DRIVERS[kind][3])


PARSERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "nsd stats": (sample("nsd-4.6.1", "stats_noreset.secondary.txt"), nsd.parse_stats),
    "nsd number": (sample("nsd-4.6.1", "serverpid.primary.txt"), nsd.parse_number),
    "knot stats": (sample("knot-3.2.6", "stats.bin"), lambda b: knot.counters_of(knot.parse_units(b))),
    "knot zones": (sample("knot-3.2.6", "zone-status.bin"), lambda b: knot.serials_of(knot.parse_units(b))),
    "knot version": (sample("knot-3.2.6", "status_version.bin"), lambda b: knot.version_of(knot.parse_units(b))),
    "bind server": (sample("bind-9.18", "bind_json_v1_server.json").rstrip(), bind.parse_server),
    "bind zones": (sample("bind-9.18", "bind_json_v1_zones.json").rstrip(), bind.parse_zones),
}


@pytest.mark.parametrize("what", PARSERS)
def test_truncated_reply_is_refused_not_half_parsed(what: str) -> None:
    whole, parse = PARSERS[what]
    refuses_every_truncation(parse, whole)


def test_every_reply_of_knot_is_read() -> None:
    for path in samples("knot-3.2.6", "*.bin"):
        survives(knot.parse_units, path.read_bytes())


@pytest.mark.parametrize("what", [*PARSERS, "nsd status", "nsd zones"])
def test_mutated_reply_gives_a_value_or_a_named_error(what: str) -> None:
    more: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
        "nsd status": (sample("nsd-4.6.1", "status.primary.txt"), nsd.parse_status),
        "nsd zones": (sample("nsd-4.6.1", "zonestatus.secondary.txt"), nsd.parse_zones),
    }
    whole, parse = {**PARSERS, **more}[what]

    @settings(max_examples=150, deadline=None)
    @given(content=mutated([whole]))
    def check(content: bytes) -> None:
        survives(parse, content)
        survives(parse, content[: len(content) // 2])

    check()


def test_nsd_error_is_an_error_and_half_lines_are_refused() -> None:
    with pytest.raises(CollectError, match="unknown command"):
        nsd.parse_stats(sample("nsd-4.6.1", "nonsense.txt"))
    with pytest.raises(ParseError):
        nsd.parse_zones(sample("nsd-4.6.1", "zonestatus.secondary.txt")[:-3])
