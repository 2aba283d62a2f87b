"""What a load test asks: the same for everybody, only the target's own names, and nothing that a file from anywhere could make of it."""

from __future__ import annotations

import io
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyconsole.drivers.load import query_set
from anyconsole.drivers.load.capture import packets_to_name_servers
from anyconsole.drivers.load.dnstap import queries_seen
from anyconsole.drivers.load.query_set import QuerySet, from_capture, from_dnstap, from_file, question_of
from anyconsole.drivers.load.zone_mix import from_transfer, from_zone_text
from anyconsole.errors import LoadError
from anyconsole.model.inventory import QueryKind
from tests.drivers.load.name_server import ZONE, NameServer, serving
from tests.drivers.samples import SAMPLES, mutated

LOAD = SAMPLES / "load"
CAPTURES = ("tcpdump-4.99-ethernet.pcap", "tcpdump-4.99-sll2.pcap", "dumpcap-4.0.pcapng")
SEEN = ("www1.de.example A", "www2.de.example AAAA", "nobody.de.example A", "de.example NS")

ZONE_TEXT = """\
$ORIGIN de.example.
$TTL 1h
@ 3600 IN SOA ns hostmaster ( 1 2 ; a comment with ( in it
    3 4 5 )
        NS ns
ns      A 192.0.2.1
        AAAA 2001:db8::1
WWW1 300 A 192.0.2.2
www2 IN 1d A 192.0.2.3
text TXT "a ; quoted ( thing" more
sold NS ns.sold
ns.sold A 192.0.2.9
moved DNAME elsewhere.example.
below.moved A 192.0.2.9
odd\\032name A 192.0.2.4
elsewhere.example. A 192.0.2.5
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", CAPTURES)
def test_a_packet_capture_gives_the_queries_for_the_targets_names_in_their_order(name: str) -> None:
    found = from_capture(LOAD / name, ["de.example"])
    assert found.lines == SEEN
    assert found.left_out == {
        query_set.OUTSIDE: 1, "no plain query": 1, "names that not every engine can write": 1,
    }  # fmt: skip
    assert name in found.source


def test_packets_that_were_cut_short_when_captured_are_used_as_far_as_they_say_what_was_asked() -> None:
    found = from_capture(LOAD / "tcpdump-4.99-sll.pcap", ["de.example"])
    assert found.lines == tuple(line for line in SEEN if "nobody" not in line)
    assert found.left_out["cut off or no DNS"] == 1


def test_a_dnstap_sample_gives_the_queries_whatever_they_travelled_in() -> None:
    found = from_dnstap(LOAD / "named-9.18.dnstap", ["DE.example."])
    assert Counter(found.lines) == Counter([*SEEN, "de.example SOA"])
    assert found.left_out == {query_set.OUTSIDE: 1, "no plain query": 2, "names that not every engine can write": 1}


def test_vlan_tags_raw_ip_and_ipv6_extensions_are_looked_behind() -> None:
    query = dns.message.make_query("www1.de.example", "A").to_wire()
    udp = struct.pack(">4H", 4000, 53, 8 + len(query), 0) + query
    options = bytes([17, 0]) + bytes(6)  # hop-by-hop, then UDP
    v6 = struct.pack(">IHBB", 6 << 28, len(options + udp), 0, 64) + bytes(32) + options + udp
    v4 = struct.pack(">BBHHHBBH8x", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + udp
    fragment = v4[:6] + b"\x00\x10" + v4[8:]
    tagged = bytes(12) + b"\x88\xa8\x00\x01\x81\x00\x00\x02\x08\x00" + v4
    for link, packet, wanted in ((1, tagged, [query]), (101, v6, [query]), (101, v4, [query]), (101, fragment, [])):
        for order in "<>":
            header = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
            record = struct.pack(order + "4I", 0, 0, len(packet), len(packet)) + packet
            assert list(packets_to_name_servers(io.BytesIO(header + record), "x")) == wanted


def test_a_query_file_is_read_as_dnsperf_does(tmp_path: Path) -> None:
    path = written(
        tmp_path / "q.txt",
        "; a comment\n\nWWW1.de.example.  a\nwww.else.example A\nde.example\tSOA\n".replace("\t", " "),
    )
    found = from_file(path, ["de.example"])
    assert found.lines == ("www1.de.example A", "de.example SOA")
    assert found.left_out == {query_set.OUTSIDE: 1}
    assert found.mix == {"A": 0.5, "SOA": 0.5}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("www1.de.example A\nwww2.de.example\n", r"q\.txt line 2: no type to ask for"),
        ("www1.de.example NONSENSE\n", r"line 1: no type to ask for: 'NONSENSE'"),
        ("www1.de.example AXFR\n", r"line 1: no type"),
        ("www1..example A\n", r"line 1: no plain name"),
        ("a\\.b.de.example A\n", r"line 1: no plain name"),
        ("www.else.example A\n", r"no query for a name under de\.example \(1 outside the target's zones\)"),
        ("notde.example A\n", r"1 outside"),
        ("", r"it holds none"),
    ],
)
def test_a_query_file_that_makes_no_sense_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(LoadError, match=problem):
        from_file(written(tmp_path / "q.txt", text), ["de.example"])


def test_what_is_no_file_or_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(2 << 30)
    for name, problem in (
        ("absent", "No such file"),
        ("huge", "2048 MiB, of which 1024 are allowed"),
        ("pipe", "no file"),
    ):
        with pytest.raises(LoadError, match=problem):
            from_capture(tmp_path / name, ["de.example"])


def test_more_queries_than_a_generator_takes_are_counted_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_set, "MAX_LINES", 3)
    found = from_file(written(tmp_path / "q.txt", "a.de.example A\n" * 5), ["de.example"])
    assert (len(found.lines), found.left_out) == (3, {query_set.BEYOND: 2})


def test_the_hash_is_that_of_the_file_that_engines_read() -> None:
    same = [QuerySet(lines=("a.example A", "b.example A"), source=source) for source in ("here", "there")]
    assert same[0].sha256 == same[1].sha256
    assert same[0].sha256 != QuerySet(lines=("b.example A", "a.example A"), source="here").sha256
    assert same[0].text == "a.example A\nb.example A\n"


# --- from a zone


def test_a_zone_is_asked_for_its_names_in_the_given_mix_and_always_in_the_same_order() -> None:
    found = from_zone_text(ZONE_TEXT, "de.example")
    assert from_zone_text(ZONE_TEXT, "de.example").sha256 == found.sha256
    assert from_zone_text(ZONE_TEXT, "de.example", seed=2).sha256 != found.sha256
    asked = {tuple(line.split()) for line in found.lines}
    absent = {name for name, _ in asked if name.startswith("n") and name != "ns.de.example"}
    assert len(found.lines) == 10_000
    assert sum(line.split()[0] in absent for line in found.lines) == len(absent) == 1000
    assert sum(line.endswith(" AAAA") for line in found.lines) == 1500
    # Delegated names are answered with a referral; what lies below them, or below a DNAME, isn't the zone's.
    assert {name for name, kind in asked if kind == "A"} - absent == {
        "ns.de.example", "www1.de.example", "www2.de.example", "sold.de.example",
    }  # fmt: skip
    assert found.left_out == {"unusable records": 2}
    assert found.source == "zone de.example: 75% A, 15% AAAA, 10% NXDOMAIN"
    # Well mixed: no kind of query waits for the others.
    assert max(len(run) for run in "".join("x" if " AAAA" in line else " " for line in found.lines).split()) < 10


def test_an_enum_zone_is_asked_for_what_it_has_and_a_wildcard_for_a_new_name_each_time() -> None:
    text = "@ SOA a b 1 2 3 4 5\n@ NS ns.other.example.\n*.1.2.3 NAPTR 1 1 u E2U+sip !.! .\n"
    found = from_zone_text(text, "enum.example", count=100)
    assert found.mix == {"NAPTR": 1.0}
    assert found.source == "zone enum.example: 90% NAPTR, 10% NXDOMAIN"
    assert found.names == 100
    assert sum(line.endswith(".1.2.3.enum.example NAPTR") for line in found.lines) == 90


def test_names_that_are_not_there_are_not_covered_by_a_wildcard() -> None:
    text = "@ SOA a b 1 2 3 4 5\n* A 192.0.2.1\nwww A 192.0.2.1\nsold NS ns.elsewhere.example.\n"
    mix = {QueryKind.NXDOMAIN: 1.0}
    assert all(line.endswith(".www.de.example A") for line in from_zone_text(text, "de.example", mix, count=50).lines)
    with pytest.raises(LoadError, match="answers for every name"):
        from_zone_text("@ SOA a b 1 2 3 4 5\n* A 192.0.2.1\n", "de.example", mix)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not one name"),
        ("@ SOA a b (1 2 3 4 5\n", "line 1: a parenthesis without end"),
        ("@ SOA a b 1) 2 3 4 5\n", "line 1: a parenthesis that was never opened"),
        ('@ SOA a b 1 2 3 4 5\nx TXT "no end\n', "line 2: a quote or escape without end"),
        ("@ SOA a b 1 2 3 4 5\nx 300 IN\n", "line 2: no record: 'x 300 IN'"),
    ],
)
def test_a_zone_file_that_makes_no_sense_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(LoadError, match=problem):
        from_zone_text(text, "de.example")


def test_a_directive_that_is_not_followed_is_told() -> None:
    text = "@ SOA a b 1 2 3 4 5\nns A 192.0.2.1\n$INCLUDE /etc/passwd\n$GENERATE 1-9999999 a$ A 192.0.2.1\n"
    assert from_zone_text(text, "de.example").left_out == {"directives that were not followed": 2}


@pytest.fixture(scope="module")
def name_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    with serving(tmp_path_factory.mktemp("nsd")) as server:
        yield server


@pytest.mark.lab
async def test_a_zone_that_is_transferred_gives_the_same_set_as_its_file(name_server: NameServer) -> None:
    moved = await from_transfer(ZONE, "127.0.0.1", port=name_server.port)
    assert moved.sha256 == from_zone_text(name_server.zone_text, ZONE).sha256
    with pytest.raises(LoadError, match=r"transfer from 127\.0\.0\.1 failed"):
        await from_transfer("other.test", "127.0.0.1", port=name_server.port)


# --- whatever comes

Reader = Callable[[Path, list[str]], QuerySet]


def outcome(read: Callable[[], QuerySet]) -> tuple[tuple[str, ...], str]:
    """The queries, or else the error that says why there are none."""
    try:
        return read().lines, ""
    except LoadError as error:
        return (), str(error)


@pytest.mark.parametrize(
    ("read", "names"), [(from_capture, (*CAPTURES, "tcpdump-4.99-sll.pcap")), (from_dnstap, ("named-9.18.dnstap",))]
)
def test_a_broken_sample_gives_whole_queries_or_a_named_error(
    tmp_path: Path, read: Reader, names: tuple[str, ...]
) -> None:
    originals = [(LOAD / name).read_bytes() for name in names]
    path = tmp_path / "broken"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        lines, problem = outcome(lambda: read(path, ["de.example"]))
        assert all(line.split()[0].endswith("de.example") for line in lines)
        assert lines or problem.startswith(f"{path}: ")
        assert problem.isprintable()
        assert len(problem) < 500

    settings(max_examples=200, deadline=None)(given(mutated(originals))(check))()
    for original in originals:
        for length in range(0, len(original), 7):
            check(original[:length])


def test_a_capture_that_was_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    for name in CAPTURES:
        whole = (LOAD / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) - 5])
        assert from_capture(tmp_path / name, ["de.example"]).left_out["cut off or no DNS"] == 1
    whole = (LOAD / "named-9.18.dnstap").read_bytes()
    assert list(queries_seen(io.BytesIO(whole[:300]), "x"))[-1] == b""


@given(st.binary(max_size=64))
def test_any_message_is_a_question_or_a_reason(message: bytes) -> None:
    name, kind = question_of(message)
    assert name
    assert not kind or " " not in name


@given(st.text('@ab.\\"();$ \t\nSOAINTL13', max_size=80))
def test_any_zone_text_is_a_set_or_a_named_error(text: str) -> None:
    lines, problem = outcome(lambda: from_zone_text(text, "ab.ba", count=10))
    assert len(lines) == 10 or problem.startswith("zone ab.ba")
