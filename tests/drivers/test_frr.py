"""FRR 8.4.4 over its own words."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from anyconsole.drivers import frr
from anyconsole.drivers.ask import Ask, CollectError, Reply, Row, Talk
from anyconsole.drivers.frr_reply import (
    FrrRefusedError,
    parse_advertised,
    parse_carrier,
    parse_local_address,
    parse_neighbor,
    parse_prefix_lists,
    parse_route_communities,
    parse_summary,
    parse_version,
)
from tests.drivers.samples import drive, mutated, refuses_every_truncation, sample, survives

OK = b"\0\0\0\0"

SPEC = {
    "section": "frr",
    "speaker": "frr",
    "socket": "/run/frr/bgpd.vty",
    "sessions": [
        {"name": "10.0.11.2", "peer": "ix1", "family": "ipv4", "number": 11, "community": ""},
        {"name": "FD00:0:11:0::2", "peer": "ix1", "family": "ipv6", "number": 12, "community": ""},
        {"name": "10.0.99.9", "peer": "ix3", "family": "ipv4", "number": 31, "community": ""},
    ],
    "tenants": [
        {"name": "de", "number": 1, "prefixes": ["192.0.2.0/24"]},
        {"name": "nic", "number": 2, "prefixes": ["198.51.100.0/24"]},
    ],
}


def frr_sample(name: str) -> bytes:
    return sample("frr-8.4.4", name) + OK


def lists(**entries: str) -> bytes:
    named = {
        f"AC-{n.replace('_', '-')}": {
            "addressFamily": "IPv4",
            "entries": [{"sequenceNumber": 5, "type": "permit", "prefix": prefix}],
        }
        for n, prefix in entries.items()
    }
    return json.dumps({"BGP": named}).encode() + OK


def state_list(words: str, **entries: str) -> bytes:
    named = json.loads(lists(**entries)[: -len(OK)])
    entry = {"sequenceNumber": 5, "type": "deny", "prefix": "0.0.0.0/32"}
    named["BGP"]["AC-STATE"] = {"addressFamily": "IPv4", "entries": [entry], "description": words}
    return json.dumps(named).encode() + OK


def playback(changed: dict[str, bytes] | None = None) -> Callable[[Ask], Reply]:
    words = {
        "show version": frr_sample("show_version.txt"),
        "show bgp summary json": frr_sample("show_bgp_summary_json.txt"),
        "show ip prefix-list json": frr_sample("show_ip_prefix-list_json.txt"),
        "show ipv6 prefix-list json": b'{\n  "BGP":{\n  }\n}\n' + OK,
        "show bgp ipv4 unicast neighbors 10.0.11.2 advertised-routes json": frr_sample(
            "show_bgp_ipv4_unicast_neighbors_10.0.11.2_advertised-routes_json.txt"
        ),
        "show bgp ipv6 unicast neighbors FD00:0:11:0::2 advertised-routes json": b'{"advertisedRoutes":{}}' + OK,
        "show bgp ipv4 unicast 192.0.2.0/24 json": frr_sample("show_bgp_ipv4_unicast_192.0.2.0_24_json.txt"),
        "show bgp ipv4 unicast 198.51.100.0/24 json": b"{}" + OK,
        "show bgp neighbors 10.0.11.2 json": frr_sample("show_bgp_neighbors_10.0.11.2_json.txt"),
        "show bgp neighbors FD00:0:11:0::2 json": b'{"fd00:0:11::2":{"hostLocal":"FD00:0:11:0::1"}}' + OK,
        **(changed or {}),
    }

    def answer(ask: Ask) -> Reply:
        assert isinstance(ask, Talk)
        return Reply(words[ask.data.rstrip(b"\0").decode()])

    return answer


def look(changed: dict[str, bytes] | None = None) -> dict[tuple[str, ...], Row]:
    rows = drive(frr.collect(SPEC, {}, 0.0), playback(changed))
    return {tuple(str(r.get(k)) for k in ("kind", "session", "prefix") if r.get(k)): r for r in rows}


def test_serving_speaker() -> None:
    rows = look()
    speaker = rows["speaker",]
    assert (speaker["version"], speaker["router_id"], speaker["drain_serial"]) == ("8.4.4", "10.0.255.1", 0)
    session = rows["session", "10.0.11.2"]
    assert (session["state"], session["neighbor_as"], session["exported"]) == ("Established", 64611, 3)
    assert session["since"] == "2026-11-23 16:46:25"
    assert rows["session", "FD00:0:11:0::2"]["neighbor"] == "fd00:0:11::2"
    assert rows["session", "10.0.99.9"]["state"] == "Absent"
    assert rows["export", "10.0.11.2", "192.0.2.0/24"]["exported"] == "announced"


def test_drain_note_serial_and_time_out_are_read_from_the_running_configuration() -> None:
    words = "serial=1795452000 until=1795453507 note=CHG4711 op1 exp=2026-11-23T20:00Z"
    speaker = look({"show ip prefix-list json": state_list(words, HARD_IX1="192.0.2.0/24")})["speaker",]
    assert (speaker["drain_serial"], speaker["drain_hard"]) == (1795452000, [(1, 11)])
    assert speaker["drain_note"] == "CHG4711 op1 exp=2026-11-23T20:00Z"
    assert speaker["pending"] == "unconfirmed, undo at 17:05:07"
    confirmed = look({"show ip prefix-list json": state_list("serial=1795452000 until=0 note=")})["speaker",]
    assert (confirmed["drain_serial"], confirmed["drain_note"], confirmed["pending"]) == (1795452000, "", "")


@pytest.mark.parametrize(
    "words", ["", "made by hand", "serial=12 until=never note=x", "serial=99999999999 until=0 note="]
)
def test_description_that_no_console_wrote_counts_for_nothing(words: str) -> None:
    by_hand = look({"show ip prefix-list json": lists(HARD_IX1="192.0.2.0/24")})["speaker",]
    speaker = look({"show ip prefix-list json": state_list(words, HARD_IX1="192.0.2.0/24")})["speaker",]
    assert (speaker["drain_serial"], speaker["pending"]) == (by_hand["drain_serial"], "")


def test_own_address_is_asked_for_once_and_again_when_the_session_came_up_anew() -> None:
    state: dict[str, object] = {}
    summary = frr_sample("show_bgp_summary_json.txt")
    asked: list[bytes] = []

    def round_with(summary: bytes) -> list[str]:
        del asked[:]
        answers = playback({"show bgp summary json": summary})

        def answer(ask: Ask) -> Reply:
            assert isinstance(ask, Talk)
            asked.append(ask.data)
            return answers(ask)

        rows = drive(frr.collect(SPEC, state, 0.0), answer)
        assert [r["local"] for r in rows if r["kind"] == "session"] == ["10.0.11.1", "fd00:0:11::1", ""]
        return [a.rstrip(b"\0").decode() for a in asked if a.startswith(b"show bgp neighbors ")]

    assert round_with(summary) == [f"show bgp neighbors {n} json" for n in ("10.0.11.2", "FD00:0:11:0::2")]
    assert round_with(summary) == []
    epoch = json.loads(summary[: -len(OK)])["ipv4Unicast"]["peers"]["10.0.11.2"]["peerUptimeEstablishedEpoch"]
    later = summary.replace(b'Epoch":%d' % epoch, b'Epoch":%d' % (epoch + 60), 1)
    assert round_with(later) == ["show bgp neighbors 10.0.11.2 json"]


def test_soft_drain_shows_by_path_and_med_and_in_the_drain_state() -> None:
    rows = look(
        {
            "show ip prefix-list json": lists(SOFT_IX1="192.0.2.0/24"),
            "show bgp ipv4 unicast neighbors 10.0.11.2 advertised-routes json": frr_sample(
                "advertised-routes_json__soft_t1.txt"
            ),
        }
    )
    assert rows["speaker",]["drain_soft"] == [(1, 11)]
    assert rows["speaker",]["drain_serial"] > 0
    cell = rows["export", "10.0.11.2", "192.0.2.0/24"]
    assert cell["exported"] == "depreferred"
    assert "prepended x3, MED 4294967294" in cell["detail"]
    assert rows["export", "10.0.11.2", "198.51.100.0/24"]["exported"] == "announced"


def test_soft_drain_by_community_alone_is_unknown_for_frr_hides_it() -> None:
    rows = look({"show ip prefix-list json": lists(SOFT_IX1="192.0.2.0/24")})
    assert rows["export", "10.0.11.2", "192.0.2.0/24"]["exported"] == "unknown"


def test_hard_drain() -> None:
    rows = look(
        {
            "show ip prefix-list json": lists(HARD_IX1="192.0.2.0/24"),
            "show bgp ipv4 unicast neighbors 10.0.11.2 advertised-routes json": frr_sample(
                "advertised-routes_json__hard_t1.txt"
            ),
        }
    )
    assert rows["speaker",]["drain_hard"] == [(1, 11)]
    assert rows["export", "10.0.11.2", "192.0.2.0/24"]["exported"] == "absent"


def test_global_graceful_shutdown_depreferres_everything() -> None:
    rows = look(
        {"show bgp ipv4 unicast 192.0.2.0/24 json": frr_sample("show_bgp_ipv4_unicast_192.0.2.0_24_json__gshut.txt")}
    )
    cell = rows["export", "10.0.11.2", "192.0.2.0/24"]
    assert (cell["exported"], cell["communities"]) == ("depreferred", ["65535:0"])


def test_session_shut_down_by_the_operator() -> None:
    rows = look({"show bgp summary json": frr_sample("show_bgp_summary_json__shutdown.txt")})
    assert rows["session", "10.0.11.2"]["state"] == "Admin down"
    assert rows["export", "10.0.11.2", "192.0.2.0/24"]["exported"] == "absent"


def test_session_that_is_down_says_why() -> None:
    summary = sample("frr-8.4.4", "show_bgp_summary_json.txt").replace(b'"state":"Established"', b'"state":"Active"', 1)
    notice = {
        "10.0.11.2": {
            "lastResetDueTo": "BGP Notification received",
            "lastNotificationReason": "Cease/Administrative Shutdown",
        }
    }
    rows = look(
        {"show bgp summary json": summary + OK, "show bgp neighbors 10.0.11.2 json": json.dumps(notice).encode() + OK}
    )
    session = rows["session", "10.0.11.2"]
    assert (session["state"], session["info"]) == ("Peer admin down", "Cease/Administrative Shutdown")


def test_daemon_that_does_not_run() -> None:
    rows = drive(frr.collect(SPEC, {}, 0.0), lambda _ask: Reply(fault="absent", text="no such file"))
    assert rows[0]["running"] is False


def test_status_of_the_vty_is_heeded() -> None:
    with pytest.raises(FrrRefusedError, match="status 2"):
        parse_version(sample("frr-8.4.4", "show_bgp_nonsense.txt") + b"\0\0\0\2")
    with pytest.raises(FrrRefusedError, match="nothing to show"):
        parse_summary(b"% BGP instance not found\n" + OK)
    with pytest.raises(CollectError, match="reason"):
        drive(frr.collect(SPEC, {}, 0.0), lambda _ask: Reply(fault="timeout", text="reason"))


PARSERS: dict[str, tuple[str, Callable[[bytes], object]]] = {
    "version": ("show_version.txt", parse_version),
    "summary": ("show_bgp_summary_json.txt", parse_summary),
    "neighbor": ("show_bgp_neighbors_10.0.11.2_json__shutdown.txt", parse_neighbor),
    "advertised": ("advertised-routes_json__soft_t1.txt", parse_advertised),
    "communities": ("show_bgp_ipv4_unicast_192.0.2.0_24_json__gshut.txt", parse_route_communities),
    "lists": ("show_ip_prefix-list_json.txt", parse_prefix_lists),
    "carrier": ("show_ip_prefix-list_json.txt", parse_carrier),
    "local": ("show_bgp_neighbors_10.0.11.2_json.txt", parse_local_address),
}


@pytest.mark.parametrize("what", PARSERS)
def test_truncated_reply_is_refused_not_half_parsed(what: str) -> None:
    name, parse = PARSERS[what]
    refuses_every_truncation(parse, frr_sample(name))


@pytest.mark.parametrize("what", PARSERS)
def test_mutated_reply_gives_a_value_or_a_named_error(what: str) -> None:
    name, parse = PARSERS[what]

    @settings(max_examples=150, deadline=None)
    @given(content=mutated([frr_sample(name)]))
    def check(content: bytes) -> None:
        survives(parse, content)
        survives(parse, content[:-4] + OK)

    check()
