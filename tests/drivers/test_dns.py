"""DNS asked from nodes and vantage points: questions by turns there, answers understood here."""

from __future__ import annotations

from collections.abc import Callable

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings

from anyconsole.drivers import dns_exchange
from anyconsole.drivers.ask import Ask, Exchange, Reply, Row, State
from anyconsole.drivers.dns_exchange import soa_serial
from anyconsole.drivers.dnswire import parse_answer, soa_query
from anyconsole.drivers.parse_error import ParseError
from tests.drivers.samples import mutated, survives


def answer_to(zone: str, *, serial: int | None = 7, rcode: int = 0, aa: bool = True, nsid: bytes = b"de.fra1") -> bytes:
    query = dns.message.from_wire(soa_query(zone))
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.AA if aa else 0
    reply.set_rcode(dns.rcode.Rcode(rcode))
    reply.use_edns(0, options=[dns.edns.NSIDOption(nsid)])
    if serial is not None:
        reply.answer.append(
            dns.rrset.from_text(f"{zone}.", 60, "IN", "SOA", f"ns.{zone}. hostmaster.{zone}. {serial} 1 2 3 4")
        )
    return reply.to_wire()


def test_question_is_a_soa_query_with_nsid_and_without_recursion() -> None:
    query = dns.message.from_wire(soa_query("example.de"))
    assert str(query.question[0]) == "example.de. IN SOA"
    assert query.id == 0
    assert not query.flags & dns.flags.RD
    assert isinstance(query.options[0], dns.edns.NSIDOption)


@pytest.mark.parametrize("zone", ["a..b", "x" * 70 + ".de"])
def test_name_that_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="not a zone"):
        soa_query(zone)


def test_answer_tells_serial_rcode_and_who_answered() -> None:
    seen = parse_answer(answer_to("example.de"), "example.de")
    assert (seen.rcode, seen.serial, seen.nsid, seen.error) == ("NOERROR", 7, "de.fra1", "")


def test_useless_answers_say_why() -> None:
    assert parse_answer(answer_to("example.de", serial=None), "example.de").error == "no SOA in the answer"
    assert parse_answer(answer_to("example.de", aa=False), "example.de").error == "not authoritative"
    assert parse_answer(answer_to("example.de", serial=None, rcode=5), "example.de").rcode == "REFUSED"


def test_nsid_that_is_no_text_is_shown_in_hex() -> None:
    assert parse_answer(answer_to("example.de", nsid=b"\x1b[31m"), "example.de").nsid == "1b5b33316d"
    assert parse_answer(answer_to("example.de", nsid=b"\xff"), "example.de").nsid == "ff"


def test_answer_to_another_question_or_a_question_is_refused() -> None:
    with pytest.raises(ParseError, match="something else"):
        parse_answer(answer_to("example.org"), "example.de")
    with pytest.raises(ParseError, match="not a response"):
        parse_answer(soa_query("example.de"), "example.de")


def test_serial_is_read_on_the_node_as_it_is_here() -> None:
    assert soa_serial(answer_to("example.de", serial=4294967295)) == 4294967295
    assert soa_serial(answer_to("example.de", serial=None)) is None


def test_truncated_and_mutated_messages_give_a_value_or_a_named_error() -> None:
    whole = answer_to("example.de")
    for length in range(len(whole)):
        for parse in (soa_serial, lambda b: parse_answer(b, "example.de")):
            survives(parse, whole[:length])

    @settings(max_examples=300, deadline=None)
    @given(content=mutated([whole, soa_query("example.de")]))
    def check(content: bytes) -> None:
        survives(soa_serial, content)
        survives(lambda b: parse_answer(b, "example.de"), content)

    check()


def question(address: str, zone: str) -> dict[str, str]:
    return {"tenant": "de", "address": address, "zone": zone, "wire": soa_query(zone).hex()}


SPEC = {
    "section": "dns",
    "period": 2.0,
    "questions": [
        question("192.0.2.53", "example.de"),
        question("192.0.2.53", "example.org"),
        question("2001:db8:de::53", "example.de"),
    ],
}


def run(spec: dict[str, object], state: State, now: float, answer: Callable[[Exchange], Reply]) -> list[Row] | None:
    collector = dns_exchange.collect(spec, state, now)

    def reply(ask: Ask) -> Reply:
        assert isinstance(ask, Exchange)
        return answer(ask)

    try:
        batch = next(collector)
        while True:
            batch = collector.send([reply(ask) for ask in batch])
    except StopIteration as done:
        rows: list[Row] | None = done.value
        return rows


def test_each_address_is_asked_in_its_rhythm_and_zones_take_turns() -> None:
    asked: list[tuple[float, str, bytes]] = []
    state: State = {}
    for now in range(9):

        def note(ask: Exchange, now: int = now) -> Reply:
            asked.append((now, ask.address, ask.data))
            return Reply(answer_to("example.de"), elapsed=0.001)

        run(SPEC, state, float(now), note)
    assert [t for t, a, _ in asked if a == "192.0.2.53"] == [0, 2, 4, 6, 8]
    assert [t for t, a, _ in asked if ":" in a] == [1, 3, 5, 7]
    zones = [d for _, a, d in asked if a == "192.0.2.53"]
    assert zones[0] != zones[1]
    assert zones[0] == zones[2]


def test_round_without_a_question_says_that_nothing_was_looked_at() -> None:
    state: State = {}
    assert run(SPEC, state, 0.0, lambda _: Reply(fault="timeout")) is not None
    assert run({**SPEC, "questions": SPEC["questions"][:1]}, state, 0.5, lambda _: Reply(fault="timeout")) is None  # type: ignore[index]


@pytest.mark.parametrize(
    ("fault", "text", "said"),
    [("timeout", "late", "timeout"), ("absent", "x", "refused"), ("failed", "no route", "no route")],
)
def test_silence_has_a_name(fault: str, text: str, said: str) -> None:
    rows = run(SPEC, {}, 0.0, lambda _: Reply(fault=fault, text=text))
    assert rows is not None
    assert rows[0]["error"] == said
    assert "reply" not in rows[0]


def latencies(values: list[float]) -> list[float]:
    state: State = {}
    spec = {**SPEC, "questions": [question("192.0.2.53", "example.de")]}
    shown = []
    for n, value in enumerate(values):
        rows = run(spec, state, 2.0 * n, lambda _, value=value: Reply(b"x", elapsed=value))  # type: ignore[misc]
        assert rows is not None
        shown.append(rows[0]["latency"])
    return shown


def test_flickering_latency_changes_no_row() -> None:
    assert latencies([0.001, 0.0012, 0.03, 0.0009, 0.0018]) == [0.001] * 5


def test_latency_that_stays_high_is_shown() -> None:
    assert latencies([0.001] * 3 + [0.03] * 4)[-1] == 0.03
