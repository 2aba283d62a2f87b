"""GoBGP 3.10 over its own words."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from anyconsole.drivers import gobgp
from anyconsole.drivers.ask import Ask, CollectError, Get, Reply, Row, Run, State, Talk
from tests.drivers.samples import drive, mutated, refuses_every_truncation, sample, survives

SPEC = {
    "section": "gobgp",
    "speaker": "gobgp",
    "socket": "unix:///run/gobgp.sock",
    "sessions": [
        {"name": "10.0.11.2", "peer": "ix1", "family": "ipv4", "number": 11, "community": ""},
        {"name": "10.0.99.99", "peer": "ix3", "family": "ipv4", "number": 31, "community": ""},
    ],
    "tenants": [{"name": "de", "number": 1, "prefixes": ["192.0.2.0/24"]}],
}


def playback(
    adj_out: str = "adjout_json.txt",
    version: bytes = b"gobgp version 3.10.0\n",
    calls: list[str] | None = None,
    sets: bytes | None = None,
    rib: bytes | None = None,
) -> Callable[[Ask], Reply]:
    def answer(ask: Ask) -> Reply:
        assert isinstance(ask, Run)
        words = " ".join(ask.argv)
        if calls is not None:
            calls.append(words)
        if words == "gobgp --version":
            return Reply(version)
        assert words.startswith("gobgp -j --target unix:///run/gobgp.sock ")
        if sets is not None and words.endswith("policy prefix"):
            return Reply(sets)
        if rib is not None and words.endswith("global rib 192.0.2.0/24 -a ipv4"):
            return Reply(rib)
        name = {
            "neighbor": "neighbor_json.txt",
            "global": "global_json.txt",
            "policy prefix": "policy_prefix_json.txt",
            "neighbor 10.0.11.2 adj-out -a ipv4": adj_out,
            "global rib 192.0.2.0/24 -a ipv4": "global_rib_json.txt",
        }[words.split("sock ", 1)[1]]
        return Reply(sample("gobgp-3.10", name))

    return answer


def look(answer: Callable[[Ask], Reply]) -> dict[tuple[str, ...], Row]:
    rows = drive(gobgp.collect(SPEC, {}, 0.0), answer)
    return {tuple(str(r.get(k)) for k in ("kind", "session", "prefix") if r.get(k)): r for r in rows}


def test_serving_speaker_with_the_caveat_on_what_it_says_it_sent() -> None:
    rows = look(playback())
    assert (rows["speaker",]["router_id"], rows["speaker",]["version"]) == ("10.0.255.1", "3.10.0")
    session = rows["session", "10.0.11.2"]
    assert (session["state"], session["neighbor_as"], session["local"]) == ("Established", 64611, "10.0.11.1")
    down = rows["session", "10.0.99.99"]
    assert (down["state"], down["local"]) == ("Active", "")
    cell = rows["export", "10.0.11.2", "192.0.2.0/24"]
    assert (cell["exported"], cell["detail"]) == ("announced", gobgp.COMPUTED)


def test_soft_and_hard() -> None:
    soft = look(playback("adjout_soft_json.txt"))["export", "10.0.11.2", "192.0.2.0/24"]
    assert (soft["exported"], soft["communities"], soft["as_path"]) == ("depreferred", ["65535:0"], [64500] * 4)


def hard(
    version: bytes = b"gobgp version 3.10.0\n", sets: bytes | None = None, rib: bytes | None = None
) -> tuple[object, object]:
    answer = playback("adjout_hard_json.txt", version=version, sets=sets, rib=rib)
    row = look(answer)["export", "10.0.11.2", "192.0.2.0/24"]
    return row["exported"], row["detail"]


def sets(*lists: tuple[str, str]) -> bytes:
    return json.dumps(
        [
            {
                "name": name,
                "prefixes": [{"ip_prefix": prefix, "mask_length_min": length, "mask_length_max": length}],
            }
            for name, prefix in lists
            for length in [int(prefix.partition("/")[2])]
        ]
    ).encode()


def test_absence_that_is_only_computed_is_not_believed() -> None:
    assert hard() == ("unknown", gobgp.COMPUTED)
    assert hard(sets=sets(("AC-HARD-IX1", "192.0.2.0/24"))) == ("unknown", gobgp.COMPUTED)
    assert hard(sets=sets(("AC-WITHDRAWN-IX2", "192.0.2.0/24"))) == ("unknown", gobgp.COMPUTED)


def test_absence_with_evidence_is_believed() -> None:
    assert hard(rib=b"{}") == ("absent", "no route for it on this node")
    noted = sets(("AC-HARD-IX1", "192.0.2.0/24"), ("AC-WITHDRAWN-IX1", "192.0.2.0/24"))
    assert hard(sets=noted) == ("absent", "the drain saw the withdrawal leave")
    assert hard(version=b"gobgp version 4.6.0\n") == ("absent", "")


def test_drain_state_is_read_from_a_set_s_name() -> None:
    state = ("AC-STATE,serial=7,until=0,note=CHG7%20op1", "0.0.0.0/32")
    row = look(playback(sets=sets(state)))["speaker",]
    assert (row["drain_serial"], row["drain_note"], row["pending"]) == (7, "CHG7 op1", "")
    waits = ("AC-STATE,serial=8,until=1795452120,note=", "0.0.0.0/32")
    row = look(playback(sets=sets(state, waits)))["speaker",]
    assert (row["drain_serial"], row["drain_note"], row["pending"]) == (8, "", "unconfirmed, undo at 16:42:00")
    confirmed = ("AC-STATE,serial=8,until=0,note=CHG8", "0.0.0.0/32")
    row = look(playback(sets=sets(state, waits, confirmed)))["speaker",]
    assert (row["drain_serial"], row["drain_note"], row["pending"]) == (8, "CHG8", "")


def test_set_of_the_other_family_belongs_to_the_same_peer() -> None:
    lists = gobgp.parse_prefix_sets(sets(("AC-HARD-IX1", "192.0.2.0/24"), ("AC-HARD-IX1/6", "2001:db8::/48")))
    assert [str(entry.network) for entry in lists["AC-HARD-IX1"]] == ["192.0.2.0/24", "2001:db8::/48"]


def test_caveat_ends_with_4_6() -> None:
    assert look(playback(version=b"gobgp version 4.6.0\n"))["export", "10.0.11.2", "192.0.2.0/24"]["detail"] == ""


def test_prefix_sets_are_the_drain_state() -> None:
    assert look(playback())["speaker",]["drain_soft"] == [(1, 11)]


def test_neighbor_disabled_by_the_operator() -> None:
    (neighbor,) = gobgp.parse_neighbors(sample("gobgp-3.10", "neighbor_disabled_json.txt")).values()
    assert neighbor.state == "Admin down"


def test_dear_commands_are_not_run_every_round() -> None:
    calls: list[str] = []
    state: State = {}
    drive(gobgp.collect(SPEC, state, 0.0), playback(calls=calls))
    assert len(calls) == 5
    drive(gobgp.collect(SPEC, state, 1.0), playback(calls=calls))
    assert len(calls) == 6
    drive(gobgp.collect(SPEC, state, 2.5), playback(calls=calls))
    assert len(calls) == 9


@pytest.mark.parametrize(
    ("socket", "kind"), [("unix:///run/gobgp.sock", Talk), ("127.0.0.1:50051", Get), ("[::1]:50051", Get)]
)
def test_daemon_that_does_not_run_is_told_from_one_that_is_slow(socket: str, kind: type) -> None:
    def answer(fault: str) -> Callable[[Ask], Reply]:
        return lambda ask: Reply(fault=fault if isinstance(ask, kind) else "timeout", text="no answer")

    rows = drive(gobgp.collect({**SPEC, "socket": socket}, {}, 0.0), answer("absent"))
    assert rows[0]["running"] is False
    with pytest.raises(CollectError):
        drive(gobgp.collect({**SPEC, "socket": socket}, {}, 0.0), answer(""))


PARSERS: dict[str, tuple[str, Callable[[bytes], object]]] = {
    "neighbors": ("neighbor_json.txt", gobgp.parse_neighbors),
    "adj-out": ("adjout_soft_json.txt", gobgp.parse_adj_out),
    "global": ("global_json.txt", gobgp.parse_global),
    "sets": ("policy_prefix_json.txt", gobgp.parse_prefix_sets),
}


@pytest.mark.parametrize("what", PARSERS)
def test_truncated_output_is_refused_not_half_parsed(what: str) -> None:
    name, parse = PARSERS[what]
    refuses_every_truncation(parse, sample("gobgp-3.10", name).rstrip())


@pytest.mark.parametrize("what", PARSERS)
def test_mutated_output_gives_a_value_or_a_named_error(what: str) -> None:
    name, parse = PARSERS[what]

    @settings(max_examples=150, deadline=None)
    @given(content=mutated([sample("gobgp-3.10", name)]))
    def check(content: bytes) -> None:
        survives(parse, content)

    check()
