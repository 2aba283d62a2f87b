"""What a speaker says beyond its drain sets: whose drain it is, whether it is overdue, and what was changed behind the console's back.

Pure words over facts; which verdict follows from them is `verdicts`' business.
"""

from __future__ import annotations

from anyconsole.model.drain_note import DrainNote, clock_words, parse_note
from anyconsole.model.facts import SessionStatus, SpeakerStatus
from anyconsole.model.inventory import SessionSpec
from anyconsole.model.store import FleetStore

__all__ = ["disabled_words", "drain_words", "expired_words", "file_difference", "file_drift", "note_of"]

_FILE_SETTLING = 2.0
"""Seconds, and two looks, for which drain file and daemon must differ: between moving the file and `configure` they do, briefly."""


def note_of(status: SpeakerStatus) -> DrainNote | None:
    """The note of the speaker's latest drain; None if it has none that can be read."""
    return parse_note(status.drain_note)


def drain_words(level: str, status: SpeakerStatus, now: float) -> str:
    """An announcement that is drained on purpose: "drained hard by alice until 20:00, CHG4711"."""
    note = note_of(status)
    words = note.words(now) if note is not None else ""
    return f"drained {level}{'' if not words or words.startswith(('by ', 'until ')) else ','} {words}".strip()


def expired_words(status: SpeakerStatus, now: float) -> str:
    """What is to be said of a drain that should have ended: "drain expired 20:00 UTC (alice, CHG4711)"; "" if it should not."""
    note = note_of(status)
    if note is None or note.expires is None or not note.is_expired(now):
        return ""
    who = ", ".join(filter(None, (note.operator, note.ticket)))
    return f"drain expired {clock_words(note.expires, now)} UTC" + (f" ({who})" if who else "")


def disabled_words(session: SessionSpec, status: SessionStatus) -> str:
    """A session that somebody disabled at the daemon, which no console does."""
    since = f" since {status.since.partition('.')[0]}" if status.since else ""
    info = f": {status.info}" if status.info and status.info != status.state else ""
    return f"{session.title} disabled by hand on the node{since}{info}"


def file_drift(store: FleetStore, status: SpeakerStatus) -> str:
    """How the drain file on the node differs from the daemon's memory; "" while it doesn't, or not long enough, or isn't known."""
    words = file_difference(store, status)
    return words if store.seen_at(status) - status.at >= _FILE_SETTLING else ""


def file_difference(store: FleetStore, status: SpeakerStatus) -> str:
    """The same at this moment, which may be that of somebody's confirmation."""
    if status.pending or not status.running or status.drain_serial is None:
        return ""
    if status.disk_fault:
        return f"drain file: {status.disk_fault}"
    if status.disk_serial is None:
        return ""
    if status.disk_serial != status.drain_serial:
        return f"drain file says serial {status.disk_serial}, the daemon {status.drain_serial}"
    node = store.inventory.node(status.node)
    sessions = [s.number for d in node.speakers if d.name == status.speaker for s in d.sessions]
    cells = {(store.inventory.tenant(i.tenant).number, session) for i in node.instances for session in sessions}
    sets = ((status.disk_hard, status.drain_hard), (status.disk_soft, status.drain_soft))
    if any(disk is not None and cells & set(disk) != cells & set(memory) for disk, memory in sets):
        return f"drain file says other drains than the daemon, both with serial {status.drain_serial}"
    return ""
