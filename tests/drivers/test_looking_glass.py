"""A peer's table as its BIRD prints it: every path with what makes it preferred, and no row that says more than was seen."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from anyconsole.drivers import looking_glass
from anyconsole.drivers.ask import Ask, CollectError, Reply, Row, Talk
from anyconsole.drivers.bird_reply import BirdRefusedError, parse_routes
from anyconsole.drivers.parse_error import ParseError
from anyconsole.drivers.probe.facts_of import fact_of
from anyconsole.model.facts import PeerRoute
from tests.drivers.samples import drive, file_name, sample

V2, V3 = "bird-2.0.12", "bird-3.3.2"
DE4, DE6 = "192.0.2.0/24", "2001:db8:de::/48"


def look(version: str, state: str, changed: dict[str, bytes] | None = None, community: str = "") -> dict[str, Row]:
    def answer(ask: Ask) -> Reply:
        assert isinstance(ask, Talk)
        assert ask.framing == "bird"
        command = ask.data.decode().strip()
        if changed and command in changed:
            return Reply(changed[command])
        return Reply(sample(version, "peer_ix1", f"wire_{file_name(command)}__{state}.txt"))

    spec: dict[str, Any] = {"section": "routes", "socket": "/s", "prefixes": [DE4, DE6], "community": community}
    return {row["prefix"]: row for row in drive(looking_glass.collect(spec, {}, 0.0), answer)}


@pytest.mark.parametrize("version", [V2, V3])
def test_every_path_is_told_with_who_announced_it_and_how_preferred_it_is(version: str) -> None:
    paths = look(version, "normal")[DE4]["paths"]
    assert [(p["protocol"], p["source"], p["next_hop"], p["local_pref"], p["best"]) for p in paths] == [
        ("pop1_v4", "10.0.11.1", "10.0.11.1", 200, True),
        ("pop2_v4", "10.0.21.1", "10.0.21.1", 150, False),
        ("peer_v4", "10.0.99.2", "10.0.99.2", 50, False),
    ]
    assert {p["depreferred"] for p in paths} == {""}


@pytest.mark.parametrize("version", [V2, V3])
def test_a_soft_drain_is_seen_with_what_the_peer_made_of_it(version: str) -> None:
    drained = look(version, "soft_t1")[DE4]["paths"][1]
    assert (drained["source"], drained["local_pref"], drained["communities"]) == ("10.0.11.1", 0, ["65535:0"])
    assert drained["depreferred"] == ("graceful shutdown community, prepended x3, MED 4294967294, local preference 0")


@pytest.mark.parametrize("version", [V2, V3])
def test_a_hard_drain_takes_the_path_away_and_leaves_the_others(version: str) -> None:
    rows = look(version, "hard_t1")
    assert {p["source"] for p in rows[DE4]["paths"]} == {"10.0.21.1", "10.0.99.2"}
    assert {p["source"] for p in rows[DE6]["paths"]} == {"fd00:0:21::1", "fd00:0:99::2"}


def test_rows_become_facts() -> None:
    fact = fact_of("ix1", look(V2, "soft_t1")[DE4], 1.0, 0.0)
    assert isinstance(fact, PeerRoute)
    assert str(fact.paths[1]) == "pop1_v4 from 10.0.11.1 LP 0 as-path 64500 64500 64500 64500 65535:0"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fact), type=PeerRoute) == fact


def test_a_prefix_that_is_not_in_the_table_has_no_path_and_that_is_told() -> None:
    rows = look(V2, "normal", {f"show route {DE4} all": b"8001 Network not found\n"})
    assert rows[DE4]["paths"] == []
    assert len(rows[DE6]["paths"]) == 3


def test_a_family_that_this_bird_does_not_know_is_left_out_instead_of_told_as_absent() -> None:
    refused = b"9001 syntax error, unexpected ':'\n"
    assert look(V2, "normal", {f"show route {DE6} all": refused}).keys() == {DE4}
    with pytest.raises(BirdRefusedError):
        look(V2, "normal", {f"show route {p} all": refused for p in (DE4, DE6)})


def test_a_daemon_that_is_not_there_is_an_error_not_an_empty_table() -> None:
    spec: dict[str, Any] = {"section": "routes", "socket": "/s", "prefixes": [DE4], "community": ""}
    with pytest.raises(CollectError, match="nobody listens"):
        drive(looking_glass.collect(spec, {}, 0.0), lambda _: Reply(fault="absent", text="/s: nobody listens"))


def test_the_peers_own_community_makes_a_path_depreferred() -> None:
    reply = sample(V2, "peer_ix1", "wire_show_route_192_0_2_0_24_all__normal.txt").replace(
        b" \tBGP.local_pref: 200\n", b" \tBGP.local_pref: 80\n \tBGP.community: (64612,80)\n"
    )
    path = look(V2, "normal", {f"show route {DE4} all": reply}, "64612:80")[DE4]["paths"][0]
    assert path["depreferred"] == "community 64612:80"


def test_prepends_are_told_behind_other_networks_too() -> None:
    reply = sample(V2, "peer_ix1", "wire_show_route_192_0_2_0_24_all__normal.txt").replace(
        b"64612 64500", b"64612 64500 64500"
    )
    paths = look(V2, "normal", {f"show route {DE4} all": reply})[DE4]["paths"]
    assert [p["depreferred"] for p in paths] == ["", "", "prepended x1"]


def test_a_route_server_in_between_is_named_beside_the_next_hop() -> None:
    reply = (
        b"1007-Table master4:\n 192.0.2.0/24         unicast [rs1 2026-11-23 16:41:44.147 from 10.0.11.250] * (100) [AS64500i]\n"
        b" \tvia 10.0.11.1 on ep1\n1008-\tType: BGP univ\n1012-\tBGP.as_path: 64500\n \tBGP.next_hop: 10.0.11.1\n0000 \n"
    )
    (path,) = parse_routes(reply, DE4)
    assert (path.source, path.next_hop, path.local_pref) == ("10.0.11.250", "10.0.11.1", None)


def test_bird_1_names_the_gateway_on_the_line_of_the_route() -> None:
    reply = (
        b"1007-10.9.9.9/32        via 10.0.12.2 on ei2 [Node_10_0_12_2 16:57:19] * (100/0) [AS64700i]\n"
        b"1008-\tType: BGP unicast univ\n1012-\tBGP.as_path: 64612 64700\n \tBGP.next_hop: 10.0.12.2\n \tBGP.local_pref: 100\n"
        b"1007-                   blackhole [static1 16:57:17] (200)\n1008-\tType: static unicast univ\n0000 \n"
    )
    bgp, static = parse_routes(reply, "10.9.9.9/32")
    assert (bgp.protocol, bgp.source, bgp.local_pref, bgp.best) == ("Node_10_0_12_2", "10.0.12.2", 100, True)
    assert (static.protocol, static.source, static.best) == ("static1", "", False)


def test_a_table_full_of_paths_is_cut_and_counted() -> None:
    one = b"1007-                     unicast [p%d_v4 16:41:42.059] (100) [AS64500i]\n \tvia 10.0.21.1 on ep2\n"
    reply = b"1007-Table master4:\n " + DE4.encode() + b"         unicast [p_v4 16:41:44.147] * (100) [AS64500i]\n"
    reply += b"".join(one % i for i in range(99)) + b"0000 \n"
    row = look(V2, "normal", {f"show route {DE4} all": reply})[DE4]
    assert (len(row["paths"]), row["more"]) == (looking_glass.MAX_PATHS, 100 - looking_glass.MAX_PATHS)


@pytest.mark.parametrize(
    "line", ["192.0.2.0/25 unicast [p 1] (100)", "[" * 100_000, " unicast [p 1] * (100)", "x" * 2000]
)
def test_what_is_no_path_of_that_prefix_is_refused(line: str) -> None:
    with pytest.raises(ParseError):
        parse_routes(f"1007-{line}\n0000 \n".encode(), DE4)
