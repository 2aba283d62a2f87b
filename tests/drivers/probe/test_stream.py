"""The engine's end of a probe: it says what is true, and survives whatever a node sends."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyconsole.drivers.probe.bundle import NO_PYTHON
from anyconsole.drivers.probe.main import Frames
from anyconsole.drivers.probe.stream import (
    MAX_FACTS,
    MAX_LINE,
    FactTracker,
    ProbeError,
    ProbeStream,
    ProbeUnsupportedError,
    Update,
)
from anyconsole.model.facts import (
    Answer,
    Beat,
    Gone,
    HostHealth,
    QueryRates,
    SessionState,
    SessionStatus,
    SpeakerStatus,
)
from tests.drivers.samples import mutated

HELLO = b'{"h":1,"v":1,"python":"3.11","boot":"b","t":1.0,"sections":["bird"]}\n'
T = 1795452000.0

SESSION = {"kind": "session", "section": "bird", "speaker": "bird", "session": "ix1_v4", "state": "Established"}
SPEAKER = {
    "kind": "speaker",
    "section": "bird",
    "speaker": "bird",
    "daemon": "bird",
    "running": True,
    "drain_hard": [[1, 11]],
}
HOST = {
    "kind": "host",
    "section": "host",
    "load1": 0.5,
    "cores": 2,
    "mem_total": 8,
    "mem_available": 4,
    "uptime": 60.0,
    "addresses": ["192.0.2.53"],
}
RATES = {
    "kind": "rates",
    "section": "nsd:de",
    "tenant": "de",
    "source": "probe",
    "qps": 12.5,
    "rcodes": {"NOERROR": 12.5},
}


def line(**fields: object) -> bytes:
    return json.dumps({"t": T, **fields}).encode() + b"\n"


def live(*lines: bytes) -> ProbeStream:
    stream = ProbeStream("fra1")
    stream.feed(HELLO + b"".join(lines), T)
    return stream


def facts(updates: list[Update]) -> list[Update]:
    return [u for u in updates if not isinstance(u, Beat)]


def test_keyframe_becomes_facts_and_a_beat() -> None:
    updates = live().feed(line(s=0, f=[SPEAKER, SESSION, HOST, RATES], ok=["bird", "host", "nsd:de"]), T + 1)
    speaker, session, host, rates, beat = updates
    assert isinstance(speaker, SpeakerStatus)
    assert speaker.drain_hard == ((1, 11),)
    assert isinstance(session, SessionStatus)
    assert (session.state, session.node, session.at) == (SessionState.ESTABLISHED, "fra1", T + 1)
    assert isinstance(host, HostHealth)
    assert isinstance(rates, QueryRates)
    assert beat == Beat(node="fra1", at=T + 1, sections=("bird", "host", "nsd:de"))


def test_delta_without_change_is_only_a_beat() -> None:
    stream = live(line(s=0, f=[SESSION], ok=["bird"]))
    assert stream.feed(line(s=1, ok=["bird"]), T + 1) == [Beat(node="fra1", at=T + 1, sections=("bird",))]
    assert facts(stream.feed(line(s=2, d=[SESSION], ok=["bird"]), T + 2)) == []
    assert len(facts(stream.feed(line(s=3, d=[{**SESSION, "state": "Idle"}], ok=["bird"]), T + 3))) == 1


def test_section_that_can_not_be_seen_gets_no_beat_and_its_reason_is_known() -> None:
    stream = live(line(s=0, f=[SESSION], ok=["bird"]))
    updates = stream.feed(line(s=1, ok=["host"], err={"bird": "no answer\x1b[31m"}), T + 1)
    assert updates == [Beat(node="fra1", at=T + 1, sections=("host",))]
    assert stream.errors == {"bird": "no answer [31m"}


def test_things_that_went_are_gone_by_delta_and_by_keyframe() -> None:
    stream = live(line(s=0, f=[SPEAKER, SESSION], ok=["bird"]))
    gone = Gone(key=("session", "fra1", "bird", "ix1_v4"))
    assert facts(stream.feed(line(s=1, x=[["session", "bird", "ix1_v4"]], ok=["bird"]), T)) == [gone]
    stream = live(line(s=0, f=[SPEAKER, SESSION], ok=["bird"]))
    assert facts(stream.feed(line(s=1, f=[SPEAKER], ok=["bird"]), T)) == [gone]


def test_things_that_went_between_two_sessions_are_gone() -> None:
    before = live(line(s=0, f=[SPEAKER, SESSION], ok=["bird"]))
    after = ProbeStream("fra1", before.tracker)
    after.feed(HELLO, T)
    updates = after.feed(line(s=0, f=[SPEAKER], ok=["bird"]), T + 9)
    speaker, gone = facts(updates)
    # told again although nothing changed: the last session may have ended before its updates got through
    assert isinstance(speaker, SpeakerStatus)
    assert gone == Gone(key=("session", "fra1", "bird", "ix1_v4"))


def test_keyframe_says_nothing_about_a_section_that_was_not_looked_at() -> None:
    stream = live(line(s=0, f=[SESSION, HOST], ok=["bird", "host"]))
    assert facts(stream.feed(line(s=1, f=[HOST], ok=["host"], err={"bird": "stuck"}), T)) == []


def test_keyframe_in_several_lines_is_one() -> None:
    stream = live()
    assert stream.feed(line(s=0, f=[SPEAKER], m=1), T) == []
    assert len(facts(stream.feed(line(s=1, f=[SESSION], ok=["bird"]), T))) == 2


def test_gap_in_the_numbers_asks_for_a_keyframe_once() -> None:
    stream = live(line(s=0, f=[SESSION], ok=["bird"]))
    stream.requests(T)
    stream.feed(line(s=5, ok=["bird"]), T)
    assert stream.requests(T + 1) == b'{"key":1}\n'
    assert stream.requests(T + 2) == b""


def test_client_is_heard_every_ten_seconds() -> None:
    stream = live()
    sent = [stream.requests(T + n) for n in range(25)]
    assert [n for n, s in enumerate(sent) if s] == [0, 10, 20]


def test_look_is_over_with_the_sections_that_were_asked_for_and_seen() -> None:
    asked = FactTracker("fra1", frozenset({"bird", "host"}))
    stream = ProbeStream("fra1", asked)
    stream.feed(HELLO, T)
    number, request = stream.request_look()
    assert json.loads(request) == {"id": number, "op": "look"}
    updates = stream.feed(line(s=0, d=[SESSION], ok=["bird"]) + line(id=number, look=["bird", "invented"]), T)
    assert [type(u) for u in updates] == [SessionStatus, Beat]
    assert stream.take_looks() == {number: frozenset({"bird"})}
    stream.feed(line(id=number + 5, look=["bird"]), T)
    assert stream.take_looks() == {}, "an answer that nobody asked for"


def test_login_chatter_before_the_hello_is_ignored_up_to_a_limit() -> None:
    stream = ProbeStream("fra1")
    stream.feed(b"Welcome to fra1\n{}\n" + HELLO, T)
    assert stream.hello == {"python": "3.11", "boot": "b"}
    with pytest.raises(ProbeError, match="no hello"):
        ProbeStream("fra1").feed(b"la la la\n" * 8000, T)


def test_node_without_python_is_told_apart() -> None:
    with pytest.raises(ProbeUnsupportedError, match=r"3\.7"):
        ProbeStream("fra1").feed(b"motd\n" + NO_PYTHON.encode() + b"\n", T)


def test_clock_offset_is_that_of_the_fastest_lines() -> None:
    stream = live()
    updates: list[Update] = []
    for n in range(10):
        late = 0.4 if n % 2 else 0.001
        updates += stream.feed(line(s=n, t=T + n + 30, f=[HOST] if n == 0 else None, ok=["host"]), T + n + late)
    host = [u for u in updates if isinstance(u, HostHealth)][-1]
    assert host.clock_offset == pytest.approx(30.0, abs=0.11)


def test_steady_clock_changes_no_fact() -> None:
    stream = live(line(s=0, f=[HOST], ok=["host"]))
    updates = [u for n in range(1, 30) for u in stream.feed(line(s=n, t=T + n, ok=["host"]), T + n + n % 3 / 50)]
    assert facts(updates) == []


def test_answers_are_read_on_this_side_and_a_bad_one_is_an_answer_with_an_error() -> None:
    row = {"kind": "answer", "section": "dns", "tenant": "de", "address": "192.0.2.53", "zone": "example.de"}
    stream = live()
    (answer,) = facts(stream.feed(line(s=0, f=[{**row, "reply": "00ff", "latency": 0.1}], ok=["dns"]), T))
    assert isinstance(answer, Answer)
    assert "no DNS message" in answer.error
    (answer,) = facts(stream.feed(line(s=1, d=[{**row, "error": "timeout"}], ok=["dns"]), T))
    assert isinstance(answer, Answer)
    assert (answer.error, answer.rcode, answer.good) == ("timeout", None, False)


def test_control_characters_never_reach_a_fact() -> None:
    evil = {**SESSION, "info": "\x1b]0;owned\x07[bold]", "since": "x" * 10000}
    (session,) = facts(live().feed(line(s=0, f=[evil], ok=["bird"]), T))
    assert isinstance(session, SessionStatus)
    assert session.info == "]0;owned [bold]"
    assert len(session.since) == 500


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\n",
        b"{}\n",
        b"[]\n",
        b'{"s":"x"}\n',
        line(s=0, f=[{"kind": "link", "section": "x"}], ok=["x"]),
        line(s=0, f=[{**SESSION, "surprise": 1}], ok=["bird"]),
        line(s=0, f=[{**SESSION, "node": "ams1"}], ok=["bird"]),
        line(s=0, f=[{**SESSION, "state": "Fine"}], ok=["bird"]),
        line(s=0, f=[{**SESSION, "neighbor_as": "64500"}], ok=["bird"]),
        line(s=0, f=[{**RATES, "source": "prometheus"}], ok=["nsd:de"]),
        line(s=0, f=[SESSION], ok=["host"]),
        line(s=0, f=[5], ok=["host"]),
        line(s=0, x=[["session", "bird"]]),
        line(s=0, x=[["planet", "earth"]]),
        line(s=0, t=-1.0),
        line(s=0, f=[{**SESSION, "info": [[[[[1]]]]]}], ok=["bird"]),
        b'{"s":0,"t":NaN}\n',
        b'{"s":0,"t":1e999}\n',
        b"[" * 100000 + b"\n",
    ],
)
def test_violation_of_the_protocol_ends_the_session_with_the_line_at_fault(bad: bytes) -> None:
    with pytest.raises(ProbeError) as error:
        live().feed(bad, T)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


def test_over_long_line_is_refused_before_it_is_whole() -> None:
    with pytest.raises(ProbeError, match="line of more than"):
        live().feed(b"x" * (MAX_LINE + 1), T)


def test_flooding_node_is_cut_off() -> None:
    stream = live(line(s=0, f=[SESSION], ok=["bird"]))
    beat = line(s=0, ok=["bird"]) * 2000

    def flood() -> None:
        for n in range(1000):
            stream.feed(beat, T + n / 100)

    with pytest.raises(ProbeError, match="flood"):
        flood()


def test_node_can_not_fill_our_memory_with_facts() -> None:
    stream = live()

    def fill() -> None:
        for n in range(100):
            rows = [{**SESSION, "session": f"{n}-{i}"} for i in range(200)]
            stream.feed(line(s=n, d=rows, ok=["bird"]), T + n)

    with pytest.raises(ProbeError, match=str(MAX_FACTS)):
        fill()


def test_node_can_not_invent_sections() -> None:
    asked = FactTracker("fra1", frozenset({"bird", "host"}))
    stream = ProbeStream("fra1", asked)
    stream.feed(HELLO, T)
    updates = stream.feed(line(s=0, ok=["bird", "x1", "link"], err={"host": "no", "x2": "no"}), T)
    assert updates == [Beat(node="fra1", at=T, sections=("bird",))]
    assert stream.errors == {"host": "no"}
    assert stream.feed(line(s=1, f=[], ok=["x3"]), T) == []
    assert asked.sections() == frozenset()
    with pytest.raises(ProbeError, match="nobody asked for"):
        stream.feed(line(s=2, d=[{**SESSION, "section": "x4"}]), T)


@pytest.mark.parametrize(
    "row",
    [
        {**HOST, "mem_total": 1 << 63},
        {**HOST, "cores": -(10**30)},
        {**SPEAKER, "drain_hard": [[10**25, 1]]},
        {**SPEAKER, "drain_serial": 1 << 64},
    ],
)
def test_number_that_no_frame_can_carry_ends_one_session_and_not_the_engine(row: dict[str, Any]) -> None:
    with pytest.raises(ProbeError, match="64 bits"):
        live(line(s=0, f=[row], ok=[row["section"]]))
    largest = live().feed(line(s=0, f=[{**HOST, "mem_total": (1 << 63) - 1}], ok=["host"]), T)
    assert msgspec.msgpack.encode(largest)


def test_a_node_whose_every_section_fails_is_heard_all_the_same() -> None:
    stream = live(line(s=0, f=[HOST], ok=["host"]))
    before = stream.frames
    assert stream.feed(line(s=1, err={"host": "no answer for 9 s"}), T) == []
    assert stream.frames == before + 1


def test_raw_replies_are_put_together_from_their_chunks() -> None:
    stream = live()
    number, request = stream.request_raw("bird")
    assert json.loads(request) == {"id": number, "op": "raw", "section": "bird"}
    stream.feed(json.dumps({"id": number, "n": 0, "raw": "0001 BIRD", "more": True}).encode() + b"\n", T)
    assert stream.take_raw() == {}
    stream.feed(json.dumps({"id": number, "n": 1, "raw": " ready.\x1b", "more": False}).encode() + b"\n", T)
    assert stream.take_raw() == {number: "0001 BIRD ready.\x1b"}
    assert stream.take_raw() == {}


def test_raw_reply_nobody_asked_for_is_ignored_and_one_out_of_order_refused() -> None:
    stream = live()
    assert stream.feed(b'{"id":99,"n":0,"raw":"x"}\n', T) == []
    number, _ = stream.request_raw("bird")
    with pytest.raises(ProbeError):
        stream.feed(json.dumps({"id": number, "n": 3, "raw": "x"}).encode() + b"\n", T)


def session_of(frames: int) -> bytes:
    """What a real probe's frames say over some ticks."""
    told = Frames(key_every=4)
    out = HELLO
    for n in range(frames):
        sessions = [{**SESSION, "session": f"s{i}", "info": f"n{n // 3}"} for i in range(3 + n % 2)]
        seen: dict[str, list[dict[str, Any]]] = {"host": [HOST]}
        if n % 5:
            seen["bird"] = [SPEAKER, *sessions]
        out += b"".join(told.frame(seen, {} if n % 5 else {"bird": "stuck"}, T + n))
    return out


def test_frames_of_the_probe_are_understood_and_no_gap_is_seen() -> None:
    stream = ProbeStream("fra1")
    updates = stream.feed(session_of(40), T)
    assert sum(isinstance(u, Gone) for u in updates) > 3
    assert b"key" not in stream.requests(T)


def test_frame_longer_than_a_line_goes_on_in_the_next() -> None:
    rows = [{**SESSION, "session": f"session-{i}", "info": "x" * 400} for i in range(1500)]
    lines = Frames(60).frame({"bird": rows}, {}, T)
    assert len(lines) > 2
    assert max(map(len, lines)) < MAX_LINE
    assert len(facts(live().feed(b"".join(lines), T))) == 1500


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_any_chunking_tells_the_same(cuts: list[int]) -> None:
    content = session_of(12)
    whole = ProbeStream("fra1").feed(content, T)
    stream, parts, at, turn = ProbeStream("fra1"), [], 0, 0
    while at < len(content):
        size = cuts[turn % len(cuts)]
        parts += stream.feed(content[at : at + size], T)
        at, turn = at + size, turn + 1
    assert msgspec.to_builtins(parts) == msgspec.to_builtins(whole)


def test_stream_cut_at_any_byte_raises_nothing() -> None:
    content = session_of(5)
    stream = ProbeStream("fra1")
    for at in range(len(content)):
        stream.feed(content[at : at + 1], T)


@settings(max_examples=300, deadline=None)
@given(content=mutated([session_of(8)]))
def test_mutated_stream_gives_updates_or_a_probe_error(content: bytes) -> None:
    said = ""
    try:
        ProbeStream("fra1").feed(content, T)
    except ProbeError as error:
        said = str(error)
    assert said.isprintable()
