"""Drain notes: who drained, when, until when and why, as one line of text that lives in the routing daemon's own configuration.

Every console reads it, so it is the same for all of them. One speaker has one note: that of the latest change there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

__all__ = ["MAX_NOTE", "DrainNote", "clock_words", "parse_note"]

MAX_NOTE = 200
"""Characters a note may have: BIRD evaluates at most some 500."""

_MAX_WORD = 40
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ")
_FORBIDDEN = re.compile(r"[\"'`\\%]|[^ -~]")
"""What would end or alter the text where it is quoted: in BIRD's configuration, in a shell, in a format."""


class DrainNote(msgspec.Struct, frozen=True, kw_only=True):
    """Who drained, under which ticket, why, when, and until when (epoch seconds; None if it wasn't said)."""

    operator: str = ""
    ticket: str = ""
    reason: str = ""
    at: float | None = None
    expires: float | None = None

    def text(self) -> str:
        """The note as it is written on the node: ASCII, at most `MAX_NOTE` characters, times to the minute. Only the reason is cut."""
        words = [
            f"{name}={_word(value)}" for name, value in (("by", self.operator), ("ticket", self.ticket)) if _word(value)
        ]
        words += [f"{name}={stamp}" for name, at in (("at", self.at), ("exp", self.expires)) if (stamp := _stamp(at))]
        start = " ".join(words)
        reason = _clean(self.reason)[: MAX_NOTE - len(start) - len(" why=")].rstrip()
        return f"{start} why={reason}".strip() if reason else start

    def is_expired(self, now: float) -> bool:
        """True if it was to end before `now`."""
        return self.expires is not None and self.expires < now

    def words(self, now: float) -> str:
        """For a reason: "by alice until 20:00, CHG4711"; what isn't known is left out."""
        by = f"by {self.operator}" if self.operator else ""
        until = f"until {clock_words(self.expires, now)}" if self.expires is not None else ""
        return ", ".join(filter(None, (" ".join(filter(None, (by, until))), self.ticket)))


def clock_words(at: float, now: float) -> str:
    """A time in UTC: of today only the time of day."""
    then, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC).date()
    return then.strftime("%H:%M" if then.date() == today else "%Y-%m-%d %H:%M")


def parse_note(text: str) -> DrainNote | None:
    """What a note says; None if it is no note of ours.

    An older form is understood too: "TICKET OPERATOR TIME REASON exp=TIME", of which everything but one time may be missing.
    """
    text = _clean(text)
    head, why, reason = f" {text}".partition(" why=")
    fields = dict(word.split("=", 1) for word in head.split() if re.match(r"(by|ticket|at|exp)=.", word))
    at, expires = _time(fields.get("at", "")), _time(fields.get("exp", ""))
    if why or "by" in fields or "ticket" in fields or at is not None:
        return DrainNote(
            operator=fields.get("by", ""),
            ticket=fields.get("ticket", ""),
            reason=reason.strip(),
            at=at,
            expires=expires,
        )
    return _parse_older(text)


def _parse_older(text: str) -> DrainNote | None:
    words = text.split()
    expires = next((t for w in reversed(words) if w.startswith("exp=") and (t := _time(w[4:])) is not None), None)
    words = [w for w in words if not (w.startswith("exp=") and _time(w[4:]) is not None)]
    place = next((i for i, w in enumerate(words[:3]) if _time(w) is not None), None)
    if place is None and expires is None:
        return None
    who = words[: 2 if place is None else place]
    reason = words[2:] if place is None else words[place + 1 :]
    ticket = who[0] if len(who) == 2 or (who and _is_ticket(who[0])) else ""
    return DrainNote(
        operator=who[-1] if who and (len(who) == 2 or not ticket) else "",
        ticket=ticket,
        reason=" ".join(reason),
        at=None if place is None else _time(words[place]),
        expires=expires,
    )


def _is_ticket(word: str) -> bool:
    """A word alone is a ticket if it looks like one (CHG4711, NET-12, #815)."""
    return re.fullmatch(r"#?[A-Z]*-?\d+", word) is not None


def _clean(text: str) -> str:
    return " ".join(_FORBIDDEN.sub(" ", text).split())


def _word(text: str) -> str:
    """A name without spaces, which would end it."""
    return _clean(text).replace(" ", "_")[:_MAX_WORD]


def _stamp(at: float | None) -> str:
    if at is None:
        return ""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")
    except (ValueError, OverflowError, OSError):
        return ""


def _time(text: str) -> float | None:
    if _STAMP.fullmatch(text) is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
