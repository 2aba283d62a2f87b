"""What the journal says: records folded into changes, their short form, and how long changes took. Pure; the files are `journal`'s.

A record is one line of JSON; docs/journal.md describes it. Records of another version are read as far as they can be, never dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.plan import Plan
from anyconsole.actions.run import Operator
from anyconsole.model.verdicts import Intent

__all__ = [
    "FOUND", "OPEN", "RESERVED", "RUNNING", "VERSION", "ChangeSummary", "Durations", "Estimates", "JournalledChange", "Record", "durations",
    "fold", "is_id", "line_of", "parse", "summary",
]  # fmt: skip

VERSION: Final = 1
RUNNING: Final = "running"
"""A process that lives is at it."""
OPEN: Final = "open"
"""Begun and never ended: whoever did it is gone."""
FOUND: Final = "found"
"""Was open; somebody looked at what the nodes say and closed it."""

RESERVED: Final = ("v", "at", "id", "kind")
"""Fields that every record has."""
_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_YEAR_10000: Final = 253402300800


class Record(msgspec.Struct, frozen=True):
    """One line of the journal: when (epoch seconds), of which change, what kind, and the rest of its fields."""

    at: float
    id: str
    kind: str
    fields: dict[str, Any] = {}


class JournalledChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change as the journal knows it. `outcome` is OPEN or RUNNING while it isn't closed.

    A plan that another version of the console wrote, and this one can't read, has no action and no steps; `records` still has it.
    """

    id: str
    opened_at: float
    closed_at: float | None = None
    operator: Operator
    title: str
    ticket: str = ""
    reason: str = ""
    profile: str = ""
    outcome: str = OPEN
    words: str = ""
    plan: Plan
    guards: tuple[GuardVerdict, ...] = ()
    overrides: dict[str, str] = {}
    acknowledged: dict[str, str] = {}
    records: tuple[Record, ...] = ()

    @property
    def state(self) -> str:
        """RUNNING, OPEN or the outcome."""
        return self.outcome


class ChangeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A change as one line of a list. `state` is RUNNING, OPEN or its outcome; `seconds` it took, None if it isn't closed."""

    id: str
    opened_at: float
    closed_at: float | None = None
    operator: str
    title: str
    ticket: str = ""
    reason: str = ""
    state: str
    words: str = ""
    seconds: float | None = None


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """How long one layer of verification took the last `count` times, in seconds."""

    median: float
    worst: float
    count: int


def is_id(text: str) -> bool:
    """True for what may name a change: it becomes a file name."""
    return _ID.fullmatch(text) is not None


# --- lines


def line_of(record: Record) -> bytes:
    """The record as one line of JSON with its newline. Text that isn't valid Unicode is escaped, so that every record can be written.

    Raises:
        ValueError: A field has one of the reserved names.
    """
    if taken := [name for name in RESERVED if name in record.fields]:
        raise ValueError(f"a record has its own {', '.join(taken)}")
    document = {"v": VERSION, "at": round(record.at, 3), "id": record.id, "kind": record.kind, **record.fields}
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def parse(line: bytes) -> Record | None:
    """The record on a line, None if it isn't one (a crash or a full disk tears lines)."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match document:
        case {"at": int() | float() as at, "id": str(id_), "kind": str(kind)} if is_id(id_) and 0 <= at < _YEAR_10000:
            return Record(float(at), id_, kind, {k: v for k, v in document.items() if k not in RESERVED})
        case _:
            return None


# --- changes


def fold(records: Iterable[Record], running: frozenset[str] | set[str]) -> list[JournalledChange]:
    """The changes that records tell of, the newest first. `running` are the ids of those that a living process holds."""
    changes: dict[str, list[Record]] = {}
    for record in records:
        changes.setdefault(record.id, []).append(record)
    folded = [_change(id_, tuple(own), running) for id_, own in changes.items()]
    return sorted(folded, key=lambda change: (change.opened_at, change.id), reverse=True)


def _change(id_: str, records: tuple[Record, ...], running: frozenset[str] | set[str]) -> JournalledChange:
    opened = next((r for r in records if r.kind == "opened"), Record(records[0].at, id_, "opened"))
    closed = next((r for r in reversed(records) if r.kind == "closed"), None)
    said = opened.fields
    if closed is not None:
        outcome, words = _text(closed.fields, "outcome") or "unknown", _text(closed.fields, "words")
    else:
        outcome, words = RUNNING if id_ in running else OPEN, ""
    return JournalledChange(
        id=id_,
        opened_at=opened.at,
        closed_at=closed.at if closed is not None else None,
        operator=_as(Operator, said.get("operator")) or Operator(user="unknown", host="unknown"),
        title=_text(said, "title") or "(the record of its beginning is missing)",
        ticket=_text(said, "ticket"),
        reason=_text(said, "reason"),
        profile=_text(said, "profile"),
        outcome=outcome,
        words=words,
        plan=_as(Plan, said.get("plan")) or _unreadable_plan(said, opened.at),
        guards=next(filter(None, (_as(tuple[GuardVerdict, ...], r.fields.get("guards")) for r in records)), ()),
        overrides=_as(dict[str, str], said.get("overrides")) or {},
        acknowledged=_as(dict[str, str], said.get("acknowledged")) or {},
        records=records,
    )


def _unreadable_plan(said: Mapping[str, Any], at: float) -> Plan:
    remark = (
        "another version of the console wrote this plan, and this one can't read it; the record of the beginning has it"
    )
    return Plan(action="", title=_text(said, "title"), profile=_text(said, "profile"), made_at=at, missing=(remark,))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _as(kind: Any, value: object) -> Any:  # noqa: ANN401 - a type and a value of it
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def summary(change: JournalledChange) -> ChangeSummary:
    """The short form of a change."""
    return ChangeSummary(
        id=change.id,
        opened_at=change.opened_at,
        closed_at=change.closed_at,
        operator=f"{change.operator.user}@{change.operator.host}",
        title=change.title,
        ticket=change.ticket,
        reason=change.reason,
        state=change.outcome,
        words=change.words,
        seconds=None if change.closed_at is None else max(0.0, change.closed_at - change.opened_at),
    )


# --- the convergence stopwatch

_SAMPLES: Final = 10
_HEAVIEST_FIRST: Final = (Intent.HARD, Intent.SOFT, Intent.SERVE)

Estimates: TypeAlias = dict[tuple[str, str], dict[str, Durations]]
"""By (place, level), then by layer."""


def durations(changes: Sequence[JournalledChange], places: Mapping[str, str]) -> Estimates:
    """What the stopwatch said the last ten times, for the next plan's estimate.

    Args:
        changes: As `fold` returns them, the newest first.
        places: Which place a host belongs to: its site, or the host itself, whichever is to be estimated. Other hosts are left out.

    Returns:
        By (place, level) the seconds until each layer was met; levels are hard, soft and serve.
    """
    samples: dict[tuple[str, str], dict[str, list[float]]] = {}
    for change in changes:
        for host, level, timings in _stopwatches(change):
            if host in places:
                layers = samples.setdefault((places[host], level), {})
                for layer, seconds in timings.items():
                    layers.setdefault(layer, []).append(seconds)
    return {
        key: {layer: _durations(seconds[:_SAMPLES]) for layer, seconds in layers.items()}
        for key, layers in samples.items()
    }


def _durations(seconds: list[float]) -> Durations:
    import statistics  # noqa: PLC0415 - the screen reads records too, and never needs it

    return Durations(median=statistics.median(seconds), worst=max(seconds), count=len(seconds))


def _stopwatches(change: JournalledChange) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Host, level and timings of each step that was measured."""
    timings: dict[int, dict[str, float]] = {}
    for record in change.records:
        if record.kind == "step" and record.fields.get("event") in ("verified", "confirmed", "done", "watched"):
            index = record.fields.get("step")
            if isinstance(index, int) and 0 <= index < len(change.plan.steps):
                timings.setdefault(index, {}).update(_as(dict[str, float], record.fields.get("timings")) or {})
    for index, measured in timings.items():
        step = change.plan.steps[index]
        levels = {c.after for c in step.changes}
        level = next((known for known in _HEAVIEST_FIRST if known in levels), None)
        if level is not None and measured:
            yield step.host, str(level), measured
