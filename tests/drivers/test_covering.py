"""What daemons send that covers an address: found in whatever they have, and what isn't known is never taken for nothing."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from anyconsole.drivers import bird_covering, covering, frr_covering, gobgp_covering
from anyconsole.drivers.ask import FRESH, Ask, CollectError, Get, Reply, Row, Run, State, Talk
from anyconsole.drivers.probe.config import probe_config, unprobed
from anyconsole.drivers.probe.facts_of import fact_of
from anyconsole.drivers.probe.row_keys import row_key
from anyconsole.model.facts import Covering
from tests.actions.load_targets import store_with, target
from tests.drivers.samples import drive, sample
from tests.fleet import inventory

SPEC: dict[str, Any] = {
    "section": "x:covering",
    "speaker": "x",
    "socket": "/run/x.ctl",
    "addresses": ["192.0.2.9"],
    "every": 10.0,
}
V6 = "2001:db8:de::9"


class Bird:
    """A BIRD with one IPv4 session per name: routes of its table, and which of them each session exports."""

    def __init__(
        self, table: dict[str, set[str]], *, sessions: tuple[str, ...] = ("ix1", "rogue"), learnt: str = ""
    ) -> None:
        self.table = table
        self.sessions = sessions
        self.learnt = learnt
        self.asked: list[str] = []

    def __call__(self, ask: Ask) -> Reply:
        assert isinstance(ask, Talk)
        command = ask.data.decode().strip()
        self.asked.append(command)
        if command == "show protocols":
            rows = [f"{name} BGP --- up 2026-12-01 00:30:23.085  Established" for name in self.sessions]
            return Reply(f"2002-Name Proto Table State Since Info\n1002-{rows[0]}\n {rows[1]}\n0000 \n".encode())
        words = command.split()
        assert words[:3] == ["show", "route", "for"]
        if ":" in words[3]:
            return Reply(b"9001 No valid tables\n")
        wanted = ip_network(words[3])
        over = [n for n in self.table if wanted.subnet_of(ip_network(n))]  # type: ignore[arg-type]
        if not over:
            return Reply(b"8001 Network not found\n")
        best = max(over, key=lambda n: ip_network(n).prefixlen)
        shown = len(words) == 4 or (best != self.learnt and (words[5] in self.table[best]) == (words[4] == "export"))
        route = f"1007-Table master4:\n {best}         blackhole [svc4 00:30:22.118] * (200)\n" if shown else ""
        return Reply(f"{route}0000 \n".encode())


def bird(table: dict[str, set[str]], **fields: Any) -> Row:  # noqa: ANN401 - of the fake
    (row,) = drive(bird_covering.collect(SPEC, {}, 0.0), Bird(table, **fields))
    return row


@pytest.mark.parametrize(
    ("table", "routes"),
    [
        ({}, []),
        ({"198.51.100.0/24": {"ix1"}}, []),
        ({"192.0.2.0/24": {"ix1"}}, ["192.0.2.0/24 on ix1"]),
        ({"192.0.2.0/24": set()}, []),
        ({"192.0.2.9/32": set(), "192.0.2.0/25": set(), "192.0.0.0/16": {"rogue"}}, ["192.0.0.0/16 on rogue"]),
        ({"192.0.2.9/32": {"rogue"}, "192.0.2.0/24": {"ix1"}}, ["192.0.2.0/24 on ix1", "192.0.2.9/32 on rogue"]),
    ],
    ids=["none", "another", "exported", "kept", "hidden by what is kept", "two"],
)
def test_bird_tells_what_it_exports_on_any_session_whatever_more_specific_it_keeps(
    table: dict[str, set[str]], routes: list[str]
) -> None:
    row = bird(table)
    assert (row["routes"], row["unknown"]) == (routes, "")


def test_a_default_route_that_came_from_a_session_is_not_sent_back_there() -> None:
    row = bird({"0.0.0.0/0": set(), "192.0.0.0/8": {"ix1"}}, learnt="0.0.0.0/0")
    assert (row["routes"], row["unknown"]) == (["192.0.0.0/8 on ix1"], "")


def test_a_table_that_goes_on_and_on_is_not_known() -> None:
    nested = {str(ip_network(f"192.0.2.9/{n}", strict=False)): set[str]() for n in range(32, 16, -1)}
    assert "not looked up to its end" in bird(nested)["unknown"]


def test_bird_is_only_asked_about_one_address_or_network_at_a_time_and_seldom() -> None:
    daemon = Bird({"192.0.2.9/32": set(), "192.0.0.0/16": {"ix1"}})
    state: State = {}
    drive(bird_covering.collect(SPEC, state, 0.0), daemon)
    assert all(command.startswith("show route for 192.0.") for command in daemon.asked[1:])
    count = len(daemon.asked)
    assert count < 12

    with pytest.raises(StopIteration) as ended:
        next(bird_covering.collect(SPEC, state, 5.0))
    assert ended.value.value is None, "nothing to look at in this round: the evidence grows old"
    with pytest.raises(CollectError):
        drive(bird_covering.collect(SPEC, state, 10.0), lambda _: Reply(fault="timeout", text="busy"))
    drive(bird_covering.collect(SPEC, state, 10.5), daemon)
    assert len(daemon.asked) == 2 * count, "after a failure it isn't waited so long"
    state[FRESH] = True
    drive(bird_covering.collect(SPEC, state, 10.6), daemon)
    assert len(daemon.asked) == 3 * count, "when somebody waits it is asked at once"


@pytest.mark.parametrize("driver", [bird_covering, frr_covering, gobgp_covering], ids=["bird", "frr", "gobgp"])
def test_a_daemon_that_is_down_sends_nothing_and_one_that_does_not_answer_is_not_known(driver: Any) -> None:  # noqa: ANN401
    def absent(ask: Ask) -> Reply:
        return Reply(fault="absent" if isinstance(ask, (Talk, Get)) else "failed", text="nobody listens")

    (row,) = drive(driver.collect(SPEC, {}, 0.0), absent)
    assert (row["routes"], row["unknown"]) == ([], "")
    fact = fact_of("fra1", json.loads(json.dumps(row)), 5.0, 0.0)
    assert isinstance(fact, Covering)
    assert fact.key == ("covering", "fra1", *row_key(row)[1:])
    with pytest.raises(CollectError):
        drive(driver.collect(SPEC, {}, 0.0), lambda _: Reply(fault="timeout", text="no answer"))


def frr(sent: int) -> Row:
    peers = {
        "198.18.0.1": {"state": "Established", "pfxSnt": sent, "connectionsEstablished": 1},
        "198.18.0.2": {"state": "Active"},
    }
    summary = {"ipv4Unicast": {"routerId": "198.18.0.9", "as": 64500, "peers": peers}}
    advertised = {"advertisedRoutes": {"192.0.2.0/24": {"path": ""}, "198.51.100.0/24": {"path": ""}}, "localAS": 64500}

    def answer(ask: Ask) -> Reply:
        assert isinstance(ask, Talk)
        if ask.data == b"show bgp summary json\0":
            return Reply(json.dumps(summary).encode() + bytes(4))
        assert ask.data == b"show bgp ipv4 unicast neighbors 198.18.0.1 advertised-routes json\0"
        return Reply(json.dumps(advertised).encode() + bytes(4))

    (row,) = drive(frr_covering.collect(SPEC, {}, 0.0), answer)
    return row


def test_frr_tells_what_it_advertises_and_a_full_table_is_not_read() -> None:
    assert (frr(2)["routes"], frr(2)["unknown"]) == (["192.0.2.0/24 on 198.18.0.1"], "")
    assert frr(900_000)["routes"] == []
    assert "198.18.0.1 is sent too many routes" in frr(900_000)["unknown"]


def test_gobgp_tells_what_it_advertises_in_the_families_that_a_session_carries() -> None:
    asked: list[tuple[str, ...]] = []
    prefix = next(iter(json.loads(sample("gobgp-3.10", "adjout_json.txt"))))
    inside = str(ip_network(prefix)[0])

    def answer(ask: Ask) -> Reply:
        assert isinstance(ask, Run)
        asked.append(ask.argv[4:])
        name = "adjout_json.txt" if "adj-out" in ask.argv else "neighbor_json.txt"
        return Reply(sample("gobgp-3.10", name))

    spec = {**SPEC, "socket": "unix:///run/gobgp.sock", "addresses": [inside]}
    (row,) = drive(gobgp_covering.collect(spec, {}, 0.0), answer)
    family = "ipv6" if ip_address(inside).version == 6 else "ipv4"
    assert {words[-1] for words in asked[1:]} == {family}
    assert "10.0.99.99" not in str(asked), "it isn't up"
    assert row["routes"]
    assert all(route.startswith(f"{prefix} on ") for route in row["routes"])


def test_a_speaker_that_nobody_can_ask_is_not_known_and_says_why() -> None:
    (row,) = drive(covering.collect({**SPEC, "why": "nobody knows how to ask exotic"}, {}, 0.0), lambda _: Reply())
    assert (row["routes"], row["unknown"]) == ([], "nobody knows how to ask exotic")


def test_where_no_probe_runs_no_look_ups_are_made() -> None:
    store = store_with()
    config = probe_config(store.inventory, store.inventory.node("fra1"))
    assert [(c["section"], c["module"]) for c in config["covering"]] == [("bird:covering", bird_covering.__name__)]
    assert config["covering"][0]["addresses"] == list(target().addresses)
    (polled,) = unprobed(config)["covering"]
    assert polled["module"] == covering.__name__
    assert "runs no probe" in polled["why"]
    assert not probe_config(inventory(), store.inventory.node("fra1"))["covering"], "nothing there may be load tested"
