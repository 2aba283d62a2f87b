"""The suite every registered driver passes: rows that are facts, about things it was told of, JSON-able, and no half rows ever.

A driver that comes as a plugin joins by adding its sample session to `PLAYED`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

from anyconsole.drivers import plugins
from anyconsole.drivers.ask import Ask, Collector, Exchange, Get, Read, Reply, Row, Run, State, Talk
from anyconsole.drivers.framing import FRAMINGS
from anyconsole.drivers.probe.facts_of import fact_of
from anyconsole.drivers.probe.row_keys import row_key
from anyconsole.model.facts import Export, InstanceStatus, QueryRates, SessionStatus, SpeakerStatus
from tests.drivers import test_bird, test_frr, test_gobgp, test_name_servers
from tests.drivers.samples import REFUSALS, drive

PLAYED: dict[str, tuple[dict[str, Any], Callable[[Ask], Reply]]] = {
    "bird": (test_bird.SPEC, test_bird.playback(test_bird.V2)),
    "frr": (test_frr.SPEC, test_frr.playback()),
    "gobgp": (test_gobgp.SPEC, test_gobgp.playback()),
    "nsd": (test_name_servers.SPEC, test_name_servers.nsd_answers()),
    "knot": (test_name_servers.SPEC, test_name_servers.knot_answers()),
    "bind": (test_name_servers.BIND_SPEC, test_name_servers.bind_answers()),
}

SPEAKERS, NAME_SERVERS = plugins.speakers(), plugins.name_servers()
ALL = SPEAKERS + NAME_SERVERS


def collect(kind: str, state: State, now: float) -> Collector:
    driver = plugins.speaker(kind) if kind in SPEAKERS else plugins.name_server(kind)
    return driver.collect(PLAYED[kind][0], state, now)


def look(kind: str, state: State | None = None, now: float = 0.0) -> list[Row]:
    return drive(collect(kind, {} if state is None else state, now), PLAYED[kind][1])


def test_our_own_drivers_are_registered_as_plugins_are() -> None:
    assert SPEAKERS == ("bird", "frr", "gobgp")
    assert NAME_SERVERS == ("bind", "knot", "nsd")


@pytest.mark.parametrize("kind", ALL)
def test_driver_is_played_here_and_says_what_it_is_for(kind: str) -> None:
    driver = plugins.speaker(kind) if kind in SPEAKERS else plugins.name_server(kind)
    assert kind in PLAYED
    assert driver.__doc__
    assert inspect.isgeneratorfunction(driver.collect)
    assert len(inspect.signature(driver.collect).parameters) == 3


@pytest.mark.parametrize("kind", ALL)
def test_rows_are_facts_with_keys_of_their_own_and_travel_as_json(kind: str) -> None:
    state: State = {}
    rows = look(kind, state) + look(kind, state, 1.0)
    for row in rows:
        fact = fact_of("fra1", json.loads(json.dumps(row)), 5.0, 0.0)
        assert (fact.section, fact.node, fact.at) == (PLAYED[kind][0]["section"], "fra1", 5.0)
        assert fact.key == (row["kind"], "fra1", *row_key(row)[1:])
    once = look(kind, state, 2.0)
    assert len({row_key(r) for r in once}) == len(once)


@pytest.mark.parametrize("kind", SPEAKERS)
def test_speaker_reports_itself_every_session_and_every_announcement(kind: str) -> None:
    spec = PLAYED[kind][0]
    facts = [fact_of("fra1", r, 5.0, 0.0) for r in look(kind)]
    (status,) = (f for f in facts if isinstance(f, SpeakerStatus))
    assert status.running
    assert status.version
    assert status.router_id
    assert status.drain_serial is not None
    assert {f.session for f in facts if isinstance(f, SessionStatus)} == {s["name"] for s in spec["sessions"]}
    cells = {(f.session, f.prefix) for f in facts if isinstance(f, Export)}
    assert cells == {
        (s["name"], p)
        for s in spec["sessions"]
        for t in spec["tenants"]
        for p in t["prefixes"]
        if (":" in p) == (s["family"] == "ipv6")
    }


@pytest.mark.parametrize("kind", NAME_SERVERS)
def test_name_server_reports_its_instance_at_once_and_its_rates_from_the_second_look(kind: str) -> None:
    state: State = {}
    first = [fact_of("fra1", r, 5.0, 0.0) for r in look(kind, state)]
    second = [fact_of("fra1", r, 6.0, 0.0) for r in look(kind, state, 1.0)]
    (status,) = first
    assert isinstance(status, InstanceStatus)
    assert (status.running, status.serials, status.pid) == (True, {"example.de": 2026112301}, 9918)
    assert status.version
    assert status.chroot == "inside"
    (rates,) = (f for f in second if isinstance(f, QueryRates))
    assert (rates.qps, rates.source) == (0.0, "probe")


@pytest.mark.parametrize("kind", ALL)
def test_nothing_happened_changes_no_row(kind: str) -> None:
    state: State = {}
    look(kind, state)
    second = look(kind, state, 1.0)
    assert look(kind, state, 2.0) == second


@pytest.mark.parametrize("kind", ALL)
def test_only_reading_is_asked_for(kind: str) -> None:
    asks: list[Ask] = []

    def note(ask: Ask) -> Reply:
        asks.append(ask)
        return PLAYED[kind][1](ask)

    drive(collect(kind, {}, 0.0), note)
    for ask in asks:
        assert isinstance(ask, (Talk, Run, Read, Get, Exchange))
        if isinstance(ask, Talk):
            assert ask.framing in FRAMINGS
            if ask.framing == "bird":
                assert ask.data.startswith((b"show ", b"eval ", b"configure status\n"))
                assert ask.data.count(b"\n") == 1
            elif ask.framing == "frr":
                assert ask.data.startswith(b"show ")
                assert ask.data.count(b"\0") == 1
            elif ask.framing == "nsd":
                assert ask.data.split()[1] in (b"status", b"stats_noreset", b"zonestatus", b"serverpid")
        if isinstance(ask, Run):
            assert not {"add", "del", "set", "enable", "disable", "reset", "softreset"} & set(ask.argv)


@pytest.mark.parametrize("kind", ALL)
def test_reply_cut_anywhere_gives_no_half_row(kind: str) -> None:
    """Each reply in turn is cut at some places: the round ends with a named error, or with rows that are facts."""
    count = 0

    def counting(ask: Ask) -> Reply:
        nonlocal count
        count += 1
        return PLAYED[kind][1](ask)

    drive(collect(kind, {}, 0.0), counting)
    for broken in range(count):
        for share in (0.0, 0.3, 0.7, 0.99):
            turn = 0

            def cut(ask: Ask, broken: int = broken, share: float = share) -> Reply:
                nonlocal turn
                reply = PLAYED[kind][1](ask)
                turn += 1
                return reply._replace(data=reply.data[: int(len(reply.data) * share)]) if turn == broken + 1 else reply

            with contextlib.suppress(*REFUSALS):
                for row in drive(collect(kind, {}, 0.0), cut):
                    fact_of("fra1", row, 5.0, 0.0)


@pytest.mark.parametrize("kind", SPEAKERS)
def test_daemon_that_is_not_there_is_reported_down_with_all_its_announcements(kind: str) -> None:
    rows = drive(collect(kind, {}, 0.0), lambda _: Reply(fault="absent", text="talk to /x: No such file or directory"))
    facts = [fact_of("fra1", r, 5.0, 0.0) for r in rows]
    assert [f.running for f in facts if isinstance(f, SpeakerStatus)] == [False]
    assert {f.exported for f in facts if isinstance(f, Export)} == {"absent"}


@pytest.mark.parametrize("kind", NAME_SERVERS)
def test_server_that_is_not_there_is_reported_down(kind: str) -> None:
    rows = drive(collect(kind, {}, 0.0), lambda _: Reply(fault="absent", text="talk to /x: No such file or directory"))
    (status,) = (fact_of("fra1", r, 5.0, 0.0) for r in rows)
    assert isinstance(status, InstanceStatus)
    assert not status.running


def test_unknown_kinds_and_broken_plugins_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        plugins.PluginError, match=r"no driver for a name server of kind 'powerdns'; known kinds: bind, knot, nsd"
    ):
        plugins.name_server("powerdns")
    for value, message in (("json", "lacks DAEMON, collect"), ("no.such.module", "can't be loaded")):
        point = importlib.metadata.EntryPoint("x", value, "anyconsole.speakers")
        monkeypatch.setattr(plugins, "_registered", lambda _group, point=point: {"x": point})
        plugins._load.cache_clear()
        with pytest.raises(plugins.PluginError, match=message):
            plugins.speaker("x")
    plugins._load.cache_clear()
