"""Every query is accounted for: counted once, as answered, failed or lost, and every gap is seen with its length."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.lab import querier
from anyconsole.lab.query_result import Query, QueryResult, Stream


def stream(answers: str, client: str = "client1") -> Stream:
    """Ten queries a second: a letter is the node that answered, `.` a lost query, `!` a SERVFAIL of node a."""
    queries = []
    for number, letter in enumerate(answers):
        sent = 100 + number / 10
        node, rcode = ("a", 2) if letter == "!" else (letter.strip("."), 0)
        error = "ENETUNREACH" if letter == "." and number == 2 else ""
        queries.append(Query(number, sent, None if letter == "." else sent + 0.01, node, rcode, error))
    return Stream(client=client, family="ipv4", rate=10, began_at=100, queries=tuple(queries))


def test_every_query_is_counted_once() -> None:
    result = QueryResult(streams=(stream("aa..!b.b"), stream("cccc", "client3")))
    assert (result.sent, result.answered, result.failed, result.lost) == (12, 8, 1, 3)
    assert result.by_node == {"a": 2, "b": 2, "c": 4}
    assert result.errors == {"ENETUNREACH": 1, "SERVFAIL": 1}


def test_a_gap_lasts_until_the_next_good_answer() -> None:
    result = QueryResult(streams=(stream("aa..!b.b"), stream("c...", "client3")))
    found = [(b.client, round(b.began_at - 100, 3), b.queries, round(b.seconds, 3)) for b in result.bursts]
    assert found == [("client3", 0.1, 3, 0.3), ("client1", 0.2, 3, 0.3), ("client1", 0.6, 1, 0.1)]
    assert result.longest_gap == pytest.approx(0.3)


def test_nothing_lost_is_no_gap() -> None:
    result = QueryResult(streams=(stream("aaaa"),))
    assert (result.bursts, result.longest_gap) == ((), 0)


def test_turns_say_who_answered_from_when_on() -> None:
    turns = QueryResult(streams=(stream("aa.bb..a"),)).turns
    assert [(t.node, round(t.at - 100, 3)) for t in turns] == [("a", 0), ("b", 0.3), ("a", 0.7)]


def test_a_part_of_the_time_and_the_rest_make_the_whole() -> None:
    whole = QueryResult(streams=(stream("aa..!b.b"),))
    before, after = whole.between(end=100.35), whole.between(100.35)
    assert (before.lost, after.lost) == (2, 1)
    assert before.sent + after.sent == whole.sent


def test_a_sender_that_was_late_is_told() -> None:
    late = Stream(
        client="client1", family="ipv4", rate=10, began_at=100, queries=(Query(0, 100.0, 100.1), Query(1, 100.4, 100.5))
    )
    assert late.lateness == pytest.approx(0.3)


def test_queries_that_a_sender_left_out_are_told_as_lateness() -> None:
    away = Stream(
        client="client1",
        family="ipv4",
        rate=10,
        began_at=100,
        queries=(Query(0, 100.0, 100.1), Query(5, 100.51, 100.6)),
    )
    assert away.lateness == pytest.approx(0.41)


def test_a_sender_that_was_away_does_not_catch_up_with_a_burst() -> None:
    stream = querier.Stream(0, "127.0.0.1", b"", {"rate": 200.0, "patience": 1.0})
    stream.sent = 100
    stream.leave_out(10.0, 10.51)
    assert stream.sent == 100, "two are due, and sent"
    stream.leave_out(10.0, 12.9)
    assert 10 <= (12.9 - stream.due_at(10.0)) * 200 <= 11
    stream.socket.close()


def answer(ident: int, nsid: bytes = b"de.fra1", rcode: int = 0) -> bytes:
    option = struct.pack(">HH", querier.NSID, len(nsid)) + nsid
    opt = b"\0" + struct.pack(">HHIH", querier.OPT, 1232, 0, len(option)) + option
    return (
        struct.pack(">6H", ident, 0x8400 | rcode, 1, 1, 0, 1)
        + b"\2de\0\0\6\0\1"
        + b"\xc0\x0c\0\6\0\1\0\0\0\0\0\1x"
        + opt
    )


def test_an_answer_is_read_with_its_rcode_and_nsid() -> None:
    assert querier.read_answer(answer(7)) == (0, "de.fra1")
    assert querier.read_answer(answer(7, b"", rcode=2)) == (2, "")


@given(st.one_of(st.binary(max_size=80), st.integers(0, 60).map(lambda end: answer(1)[:end])))
def test_a_broken_answer_is_an_error_and_nothing_else(message: bytes) -> None:
    try:
        rcode, _ = querier.read_answer(message)
    except ValueError:
        return
    assert 0 <= rcode < 16


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def test_an_answer_counts_only_for_the_query_it_is_for(server: socket.socket) -> None:
    config = {"rate": 10, "patience": 0.0, "port": server.getsockname()[1]}
    asking = querier.Stream(0, "127.0.0.1", querier.question("de.example"), config)
    for _ in range(3):
        asking.send()
    query, client = server.recvfrom(4096)
    assert query[-4:] == struct.pack(">HH", querier.NSID, 0)
    for message in (answer(1), answer(1), answer(4711), b"?", answer(0, rcode=2)):
        server.sendto(message, client)
    asking.receive()
    asking.give_up(float("inf"))
    rows = {number: (took is not None, nsid, rcode) for _, number, _, took, nsid, rcode, _ in asking.rows}
    assert rows == {0: (True, "de.fra1", 2), 1: (True, "de.fra1", 0), 2: (False, "", 0)}
    assert asking.strays == 3
    asking.socket.close()
