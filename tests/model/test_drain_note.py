"""A drain note says who, until when and why, survives every quoting, and is read back as it was written."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anyconsole.model.drain_note import MAX_NOTE, DrainNote, parse_note

AT = datetime(2026, 11, 23, 17, 0, tzinfo=UTC).timestamp()
EXPIRES = AT + 3 * 3600
MINUTES = st.integers(min_value=0, max_value=4_000_000_000 // 60).map(lambda n: n * 60.0)
NOTES = st.builds(
    DrainNote,
    operator=st.text(max_size=60),
    ticket=st.text(max_size=60),
    reason=st.text(max_size=300),
    at=st.none() | MINUTES,
    expires=st.none() | MINUTES,
)


def test_a_note_reads_as_documented() -> None:
    note = DrainNote(operator="alice", ticket="CHG4711", reason="maintenance of the rack", at=AT, expires=EXPIRES)
    text = "by=alice ticket=CHG4711 at=2026-11-23T17:00Z exp=2026-11-23T20:00Z why=maintenance of the rack"
    assert note.text() == text
    assert parse_note(text) == note
    assert note.words(AT) == "by alice until 20:00, CHG4711"
    assert note.words(AT + 86_400) == "by alice until 2026-11-23 20:00, CHG4711"
    assert (note.is_expired(EXPIRES), note.is_expired(EXPIRES + 1)) == (False, True)


@given(NOTES)
@example(DrainNote(operator='a "b" exp=2020-01-01T00:00Z', reason="x why=y at=z", expires=60.0))
@example(DrainNote(reason="only", expires=60.0))
def test_what_was_written_is_read_back_and_fits_where_it_is_quoted(note: DrainNote) -> None:
    text = note.text()
    assert len(text) <= MAX_NOTE
    assert text.isascii()
    assert text.isprintable() or not text
    assert not set("\"'`\\%") & set(text)
    read = parse_note(text)
    if read is None:
        assert text == ""
        return
    assert read.text() == text
    assert (read.at, read.expires) == (note.at, note.expires)
    if note.reason.isalnum() and note.reason.isascii():
        assert note.reason.startswith(read.reason)


def test_only_the_reason_is_shortened() -> None:
    note = DrainNote(operator="o" * 40, ticket="t" * 40, reason="r" * 300, at=AT, expires=EXPIRES)
    read = parse_note(note.text())
    assert read is not None
    assert len(note.text()) == MAX_NOTE
    assert msgspec.structs.replace(read, reason="") == msgspec.structs.replace(note, reason="")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "CHG4711 op1 2026-11-23T17:00Z new disks exp=2026-11-23T20:00Z",
            DrainNote(ticket="CHG4711", operator="op1", at=AT, reason="new disks", expires=EXPIRES),
        ),
        ("CHG4711 op1 exp=2026-11-23T20:00Z", DrainNote(ticket="CHG4711", operator="op1", expires=EXPIRES)),
        ("op1 2026-11-23T17:00Z disks", DrainNote(operator="op1", at=AT, reason="disks")),
        ("CHG4711 2026-11-23T17:00Z", DrainNote(ticket="CHG4711", at=AT)),
        ("2026-11-23T17:00Z new disks", DrainNote(at=AT, reason="new disks")),
        ("exp=2026-11-23T20:00Z", DrainNote(expires=EXPIRES)),
        ("by hand", None),
        ("", None),
        ("exp=2026-13-45T99:99Z", None),
    ],
)
def test_notes_of_older_consoles_and_of_nobody(text: str, note: DrainNote | None) -> None:
    assert parse_note(text) == note


@given(st.text(max_size=400))
def test_no_text_from_a_node_breaks_the_reading(text: str) -> None:
    note = parse_note(text)
    assert note is None or note.text().isascii()
