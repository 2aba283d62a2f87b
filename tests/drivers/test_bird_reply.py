"""What BIRD says, in the dialects 1.6, 2.0 and 3.3."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from anyconsole.drivers.bird_reply import (
    BirdRefusedError,
    in_ranges,
    parse_config_status,
    parse_eval,
    parse_export,
    parse_protocol,
    parse_protocols,
    parse_ranges,
    parse_routes,
    parse_status,
    reply_lines,
    session_state,
    small_ranges,
    steady_time,
)
from anyconsole.drivers.parse_error import ParseError
from tests.drivers.samples import mutated, refuses_every_truncation, sample, samples, survives

V1, V2, V3 = "bird-1.6.8-calico-style", "bird-2.0.12", "bird-3.3.2"
STATES = f"{V2}/session_states"


def test_status_of_all_dialects() -> None:
    v2 = parse_status(sample(V2, "wire_show_status.txt"))
    assert (v2.version, v2.router_id) == ("2.0.12", "10.0.255.1")
    assert v2.last_reconfigured == "2026-11-23 16:42:10.553"
    assert v2.server_time == "2026-11-23 16:42:11.155"
    assert v2.state == "Daemon is up and running"
    assert parse_status(sample(V3, "wire_show_status.txt")).version == "3.3.2"
    v1 = parse_status(sample(V1, "wire_show_status.txt"))
    assert (v1.version, v1.last_reconfigured) == ("1.6.8", "2026-11-23 16:57:17")


def test_sessions_in_every_state_are_told_apart() -> None:
    seen = {
        p.name: session_state(p) for p in parse_protocols(sample(STATES, "wire_show_protocols.txt")) if p.proto == "BGP"
    }
    assert seen == {
        "ok_multi": ("Established", ""),
        "bad_as": ("Idle", "BGP Error: Bad peer AS"),
        "refused": ("Active", "Socket: Connection refused"),
        "unreach": ("Active", "Socket: Network is unreachable"),
        "passive_peer": ("Passive", ""),
        "cfg_disabled": ("Admin down", ""),
        "limited": ("Limit hit", "Automatic shutdown: Route limit exceeded"),
        "warnlimit": ("Established", ""),
        "peer_shut": ("Peer admin down", "Received: Administrative shutdown"),
        "blocklimit": ("Established", ""),
        "a_very_long_protocol_name_for_column_overflow_v4": ("Established", ""),
    }


@pytest.mark.parametrize(
    ("row", "since", "info"),
    [
        ("x  BGP --- up 16:41:44.106  Established   ", "16:41:44.106", "Established"),
        ("x  BGP --- up 2026-11-23  Established   ", "2026-11-23", "Established"),
        ("x  BGP --- up 2026-11-23 16:41:44.106  Established", "2026-11-23 16:41:44.106", "Established"),
        ("x  BGP --- up 2026-11-23 16:41:44  Established", "2026-11-23 16:41:44", "Established"),
        ("x  BGP master up 16:57:19    Established", "16:57:19", "Established"),
        ("x  BGP --- up Nov23  Established", "Nov23", "Established"),
        ("x  BGP --- down 16:42:14.028  ", "16:42:14.028", ""),
    ],
)
def test_since_in_every_time_format(row: str, since: str, info: str) -> None:
    heading = b"2002-Name       Proto      Table      State  Since         Info\n"
    (protocol,) = parse_protocols(heading + b"1002-" + row.encode() + b"\n0000 \n")
    assert (protocol.since, protocol.info) == (since, info)


def test_names_wider_than_their_column_are_read_whole() -> None:
    names = [p.name for p in parse_protocols(sample(V1, "wire_show_protocols.txt"))]
    assert "Global_10_0_11_2" in names


@pytest.mark.parametrize("version", [V2, V3])
def test_details_of_a_session(version: str) -> None:
    detail = parse_protocol(sample(version, "wire_show_protocols_all_ix1_v4.txt"))
    assert (detail.neighbor, detail.neighbor_as, detail.local_as) == ("10.0.11.2", 64611, 64500)
    assert detail.local == "10.0.11.1"
    assert (detail.imported, detail.exported) == (1, 3)
    down = parse_protocol(sample(version, "wire_show_protocols_all_ix1_v4__disabled.txt"))
    assert (down.message, down.imported) == ("drain CHG4711 (op1)", None)


def test_counts_of_a_session_with_two_channels_are_summed() -> None:
    detail = parse_protocol(sample(STATES, "wire_show_protocols_all_ok_multi.txt"))
    assert detail.exported is not None
    assert detail.exported > 1


def test_details_of_bird_1() -> None:
    detail = parse_protocol(sample(V1, "wire_show_protocols_all_Global_10_0_11_2.txt"))
    assert (detail.neighbor_as, detail.local_as, detail.exported) == (64611, None, 6)


@pytest.mark.parametrize("version", [V2, V3])
def test_unconfirmed_configuration_is_seen(version: str) -> None:
    doing, left = parse_config_status(sample(version, "wire_configure_status__hard_ix1_pending_confirm.txt"))
    assert doing == "Daemon is up and running"
    assert left == pytest.approx(29.37, abs=0.01)
    assert parse_config_status(sample(version, "wire_configure_status.txt"))[1] is None


def test_bird_1_has_no_configure_status() -> None:
    with pytest.raises(BirdRefusedError) as refused:
        parse_config_status(sample(V1, "wire_configure_status.txt"))
    assert refused.value.code == 9001


@pytest.mark.parametrize("version", [V1, V2, V3])
def test_announced_route(version: str) -> None:
    name, prefix = {
        V1: ("wire_show_route_192_0_2_53_32_export_Global_10_0_11_2_all.txt", "192.0.2.53/32"),
        V2: ("wire_show_route_192_0_2_0_24_export_ix1_v4_all.txt", "192.0.2.0/24"),
        V3: ("wire_show_route_192_0_2_0_24_export_ix1_v4_all.txt", "192.0.2.0/24"),
    }[version]
    route = parse_export(sample(version, name), prefix)
    assert route is not None
    assert route.communities == []
    assert route.as_path == ([64500] if version == V1 else [])
    assert route.med is None


@pytest.mark.parametrize("version", [V2, V3])
def test_softly_drained_route_shows_why(version: str) -> None:
    route = parse_export(sample(version, "wire_show_route_192_0_2_0_24_export_ix1_v4_all__soft_t1.txt"), "192.0.2.0/24")
    assert route is not None
    assert route.communities == ["65535:0"]
    assert route.as_path == [64500, 64500, 64500]
    assert route.med == 4294967294


@pytest.mark.parametrize("version", [V2, V3])
@pytest.mark.parametrize("state", ["hard_t1", "hard_ix1_pending_confirm"])
def test_withdrawn_route_is_absent(version: str, state: str) -> None:
    assert (
        parse_export(sample(version, f"wire_show_route_192_0_2_0_24_export_ix1_v4_all__{state}.txt"), "192.0.2.0/24")
        is None
    )


def test_prefix_that_is_in_no_table_is_absent() -> None:
    assert parse_export(b"8001 Network not found\n", "192.0.2.0/24") is None


@pytest.mark.parametrize(
    ("version", "name", "code"),
    [
        (V1, "wire_show_route_export_Mesh_10_0_21_1.txt", 8005),
        (V2, "wire_show_route_export_ix1_v4__disabled.txt", 9001),
        (V3, "wire_show_route_export_ix1_v4__disabled.txt", 9001),
        (STATES, "wire_show_route_export_refused.txt", 9001),
    ],
)
def test_export_of_a_session_that_is_down_is_an_error_with_its_code(version: str, name: str, code: int) -> None:
    with pytest.raises(BirdRefusedError) as refused:
        parse_export(sample(*version.split("/"), name), "192.0.2.0/24")
    assert refused.value.code == code


def test_another_prefix_than_the_one_asked_for_is_refused() -> None:
    with pytest.raises(ParseError, match=r"another prefix"):
        parse_export(sample(V2, "wire_show_route_192_0_2_0_24_export_ix1_v4_all.txt"), "198.51.100.0/24")


def test_second_path_of_a_prefix_does_not_mix_with_the_first() -> None:
    reply = (
        b"1007-Table master4:\n 192.0.2.0/24         blackhole [svc4 16:41:40.208] * (200)\n1008-\tType: static univ\n"
        b"1012-\tBGP.med: 7\n1007-                      via 10.0.0.1 on eth0 [x 16:41:40.208] (100)\n1012-\tBGP.med: 9\n0000 \n"
    )
    route = parse_export(reply, "192.0.2.0/24")
    assert route is not None
    assert route.med == 7


def test_drain_sets_are_read_with_their_ranges() -> None:
    hard = parse_ranges(parse_eval(sample(V2, "wire_eval_DRAIN_HARD__hard_ix1_pending_confirm.txt")))
    assert small_ranges(hard) == {(1, 11), (1, 12), (2, 11), (2, 12), (3, 11), (3, 12)}
    assert small_ranges(parse_ranges(parse_eval(sample(V3, "wire_eval_DRAIN_SOFT__hard_t1.txt")))) == set()
    assert parse_ranges("[]") == []
    assert parse_eval(sample(V2, "wire_eval_DRAIN_SERIAL__hard_t1.txt")) == "12"


def test_huge_range_is_not_expanded_but_answers_for_its_cells() -> None:
    ranges = parse_ranges("[(0,0), (0,0)..(65535,65535)]")
    assert small_ranges(ranges) == set()
    assert in_ranges(ranges, (1, 11))
    assert len(small_ranges(parse_ranges("[" + ", ".join(f"({n},0)..({n},200)" for n in range(1, 200)) + "]"))) < 1500


@pytest.mark.parametrize(
    "text", ["", "[", "(1,1)", "[(1,1]", "[(1,2)..(1,1)]", "[(1,1);(2,2)]", "[(99999,1)..(99999,2)]", "[(1,x)]"]
)
def test_nonsense_is_not_a_drain_set(text: str) -> None:
    with pytest.raises(ParseError):
        parse_ranges(text)


def test_one_millisecond_of_jitter_is_no_change() -> None:
    assert steady_time("16:41:35.780", "16:41:35.779") == "16:41:35.780"
    assert steady_time("2026-11-23 16:41:59.999", "2026-11-23 16:42:00.001") == "2026-11-23 16:41:59.999"
    assert steady_time("16:41:35.780", "16:41:35.900") == "16:41:35.900"
    assert steady_time("2026-11-22 16:41:35.780", "2026-11-23 16:41:35.780") == "2026-11-23 16:41:35.780"
    assert steady_time("16:41:35", "16:41:36") == "16:41:36"


PARSERS: list[tuple[str, Callable[[bytes], object]]] = [
    ("wire_show_status*.txt", parse_status),
    ("wire_show_protocols.txt", parse_protocols),
    ("wire_show_protocols__*.txt", parse_protocols),
    ("wire_show_protocols_all_*_v4*.txt", parse_protocol),
    ("wire_show_route_192_0_2_0_24_export*.txt", lambda b: parse_export(b, "192.0.2.0/24")),
    ("peer_ix1/wire_show_route_192_0_2_0_24_all*.txt", lambda b: parse_routes(b, "192.0.2.0/24")),
    ("wire_configure_status*.txt", parse_config_status),
    ("wire_eval_DRAIN_*.txt", lambda b: parse_ranges(t) if (t := parse_eval(b))[:1] == "[" else t),
]


@pytest.mark.parametrize(("pattern", "parse"), PARSERS, ids=[p for p, _ in PARSERS])
@pytest.mark.parametrize("version", [V2, V3])
def test_truncated_reply_is_refused_not_half_parsed(
    version: str, pattern: str, parse: Callable[[bytes], object]
) -> None:
    for path in samples(version, pattern):
        refuses_every_truncation(parse, path.read_bytes())


@pytest.mark.parametrize(("pattern", "parse"), PARSERS, ids=[p for p, _ in PARSERS])
def test_mutated_reply_gives_a_value_or_a_named_error(pattern: str, parse: Callable[[bytes], object]) -> None:
    originals = [p.read_bytes() for v in (V2, V3) for p in samples(v, pattern)]

    @settings(max_examples=150, deadline=None)
    @given(content=mutated(originals))
    def check(content: bytes) -> None:
        survives(parse, content)

    check()


def test_every_sample_of_the_wire_is_a_whole_reply() -> None:
    for version in (V1, V2, V3):
        for path in samples(version, "wire_*.txt"):
            content = path.read_bytes()
            if content[:1] in b"89":
                with pytest.raises(BirdRefusedError):
                    reply_lines(content)
            else:
                assert reply_lines(content)
