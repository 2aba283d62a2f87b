"""A change of the journal as a report: Markdown ready to paste into an incident, JSON for programs, one line for lists. Pure.

What operators and nodes said is data: it is cleaned and escaped, and fenced so that nothing in it can end its fence.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from anyconsole.actions.journal_record import FOUND, OPEN, RUNNING, ChangeSummary, JournalledChange, Record
from anyconsole.actions.markdown import fenced, inline, table
from anyconsole.actions.plan import Plan, Step
from anyconsole.model.table import Cell, Column, Level, Row, clean, duration

__all__ = ["CHANGE_COLUMNS", "change_row", "document", "markdown"]

_GOOD: Final = frozenset({"done", FOUND})

CHANGE_COLUMNS: Final = (
    Column(id="id", title="CHANGE", width=20),
    Column(id="opened_at", title="UTC", width=16),
    Column(id="seconds", title="TOOK", width=6, right=True),
    Column(id="state", title="STATE", width=11),
    Column(id="operator", title="WHO", width=12),
    Column(id="ticket", title="TICKET", width=8),
    Column(id="title", title="WHAT", width=24),
    Column(id="reason", title="WHY", width=20),
)


def change_row(change: ChangeSummary, index: int = 0) -> Row:
    """A change as a line of a list; `index` is its place in it."""
    level = {RUNNING: Level.WARN, OPEN: Level.CRIT}.get(change.state, Level.OK if change.state in _GOOD else Level.WARN)
    return Row(
        ("change", change.id),
        (
            Cell(change.id),
            Cell(_time(change.opened_at, "%Y-%m-%d %H:%M"), value=change.opened_at, order=change.opened_at),
            Cell(duration(change.seconds), value=change.seconds, order=change.seconds),
            Cell(clean(change.state), level, change.state),
            Cell(clean(change.operator)),
            Cell(clean(change.ticket)),
            Cell(clean(change.title)),
            Cell(clean(change.reason)),
        ),
        index,
    )


def document(change: JournalledChange) -> dict[str, Any]:
    """The change as JSON; docs/json.md describes it."""
    return {"version": 1, "change": msgspec.to_builtins(change, str_keys=True)}


def markdown(change: JournalledChange) -> str:
    """The whole report as Markdown (CommonMark with tables), with a newline at the end."""
    return "\n".join(_lines(change)) + "\n"


def _lines(change: JournalledChange) -> Iterator[str]:
    yield f"# {inline(change.title)}"
    yield ""
    yield from table(("", ""), _about(change))
    yield from _plan(change.plan)
    if change.guards:
        yield from _guards(change)
    if change.overrides:
        yield from ("", "## Overrides", "")
        yield from (f"- **{inline(name)}**: {inline(reason)}" for name, reason in change.overrides.items())
    yield from ("", "## Timeline (UTC)")
    for record in change.records:
        yield from _entry(record)
    yield from _verification(change)
    yield from _scripts_not_run(change)


def _about(change: JournalledChange) -> Iterator[tuple[str, str]]:
    who = change.operator
    key = f" (SSH key {inline(who.key)})" if who.key else ""
    states = {
        RUNNING: "**running**: a console is at it",
        OPEN: "**open**: it was begun and never ended, and whoever began it is gone",
    }
    words = f": {inline(change.words)}" if change.words else ""
    yield "Outcome", states.get(change.outcome, f"**{inline(change.outcome)}**{words}")
    yield "Change", inline(change.id)
    yield "Profile", inline(change.profile)
    yield "Who", f"{inline(who.user)} on {inline(who.host)}{key}"
    yield "Ticket", inline(change.ticket) or "none"
    yield "Why", inline(change.reason) or "no reason given"
    yield "Opened", f"{_time(change.opened_at)} UTC"
    if change.closed_at is not None:
        yield "Closed", f"{_time(change.closed_at)} UTC, after {duration(change.closed_at - change.opened_at)}"


def _plan(plan: Plan) -> Iterator[str]:
    yield from ("", "## Plan", "")
    yield f"Made {_time(plan.made_at)} UTC."
    for remark in plan.missing:
        yield from ("", f"Note: {inline(remark)}")
    for number, step in enumerate(plan.steps, start=1):
        yield from ("", f"### Step {number}: {inline(step.host)}, {inline(step.title)}", "")
        yield _afterwards(step)
        if step.waits_for:
            yield f"Waits for: {inline(step.waits_for)}."
        if step.estimate:
            yield f"It took here before: {inline(step.estimate)}."
        if step.changes:
            yield ""
            yield from table(
                ("Tenant", "Prefix", "Session", "Peer", "Before", "After", "Exported then"),
                ((c.tenant, c.prefix, c.session, c.peer, c.before, c.after, c.exported) for c in step.changes),
                escaped=False,
            )
        for title, texts in (
            ("What becomes different", (step.diff,) if step.diff else ()),
            ("To know before", step.about),
            ("Proof", step.proof),
            ("Undo, once confirmed", step.undo),
        ):
            if texts:
                yield from ("", f"{title}:", "")
                yield from fenced("\n".join(texts))
    if not plan.steps and plan.action:
        yield from ("", f"Nothing to change: {inline(plan.settled)}.")


def _afterwards(step: Step) -> str:
    """What becomes of a step if nobody sees to it."""
    if step.confirm:
        return f"Unconfirmed, the node takes it back by itself after {step.hold} s."
    if step.lasting:
        return f"What of it is done stays, however it ends; all of it has to be proved within {step.hold} s."
    return f"It ends by itself {step.hold} s after its console."


def _guards(change: JournalledChange) -> Iterator[str]:
    yield from ("", "## Guards", "")
    settled = dict.fromkeys(change.acknowledged, "looked at") | dict.fromkeys(change.overrides, "overridden")
    rows = ((g.name, g.outcome.upper(), g.numbers, settled.get(g.name, "")) for g in change.guards)
    yield from table(("Guard", "Verdict", "Numbers", ""), rows, escaped=False)


# --- the timeline

_CODE: Final = ("commands", "script", "output")
_SAID_ABOVE: Final = {
    "opened": frozenset(
        {"plan", "profile", "title", "ticket", "reason", "operator", "overrides", "acknowledged", "guards"}
    ),
    "closed": frozenset({"overrides", "timings"}),
}


def _entry(record: Record) -> Iterator[str]:
    """One record: its time, what happened, and below it the commands and their output."""
    fields = {k: v for k, v in record.fields.items() if k not in _SAID_ABOVE.get(record.kind, ())}
    what = record.kind
    if record.kind == "step":
        number, host, event = (fields.pop(k, "") for k in ("step", "host", "event"))
        what = f"step {_counted(number)}, {host}: {event}"
    plain = {k: v for k, v in fields.items() if not _is_block(k, v)}
    said = "".join(
        f"; {inline(k.replace('_', ' '))}: {inline(_words(v))}" for k, v in plain.items() if v not in (None, "")
    )
    yield from ("", f"**{_time(record.at, '%Y-%m-%d %H:%M:%S')}** {inline(what)}{said}")
    for name, value in fields.items():
        if name not in plain and value:
            yield from ("", f"{inline(name)}:".capitalize(), "")
            yield from fenced(_block(value), "" if name == "output" else "sh" if name in _CODE else "")


def _is_block(name: str, value: object) -> bool:
    return name in _CODE or isinstance(value, (list, dict)) or (isinstance(value, str) and "\n" in value)


def _block(value: object) -> str:
    """A value as lines: texts as they are, layers and guards one a line."""
    if isinstance(value, list):
        return "\n".join(_words(item) for item in value)
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_words(item)}" for name, item in value.items())
    return _words(value)


def _words(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "not known"
        case float():
            return f"{value:.6g}"
        case {"name": str(name), "outcome": str(outcome), "numbers": numbers}:
            return f"{outcome.upper():<8} {name}: {numbers}"
        case {"layer": str(layer), "met": met, "words": words}:
            return f"{_MET.get(met, 'not known'):<9} {layer}: {words}"
        case {"user": str(user), "host": str(host)}:
            return f"{user} on {host}"
        case dict():
            return ", ".join(f"{name} {_words(item)}" for name, item in value.items())
        case list():
            return ", ".join(map(_words, value))
        case _:
            return str(value)


# --- what proved it

_MET: Final[dict[Any, str]] = {True: "seen", False: "not seen"}


def _verification(change: JournalledChange) -> Iterator[str]:
    """The layers of each step as they were seen last, with the stopwatch."""
    proofs: dict[Any, list[dict[str, Any]]] = {}
    timings: dict[Any, dict[str, Any]] = {}
    hosts: dict[Any, str] = {}
    for fields in (r.fields for r in change.records if r.kind == "step"):
        number = _counted(fields.get("step"))
        hosts[number] = str(fields.get("host", ""))
        if seen := fields.get("proofs"):
            proofs[number] = [p for p in seen if isinstance(p, dict)]
        if isinstance(fields.get("timings"), dict):
            timings.setdefault(number, {}).update(fields["timings"])
    rows = []
    for number in dict.fromkeys((*proofs, *timings)):
        layers = {str(p.get("layer", "")): p for p in proofs.get(number, [])}
        for layer in dict.fromkeys((*layers, *timings.get(number, {}))):
            proof, seconds = layers.get(layer, {}), timings.get(number, {}).get(layer)
            seen = _MET.get(proof.get("met"), "not known") if proof else "seen"
            required = "yes" if proof.get("required") else "no"
            after = f"{seconds:.1f} s" if isinstance(seconds, (int, float)) else ""
            rows.append((number, hosts[number], layer, required, seen, after, str(proof.get("words", ""))))
    if rows:
        yield from ("", "## Verification", "")
        yield from table(("Step", "Node", "Layer", "Required", "Seen", "After", "Words"), rows, escaped=False)


def _scripts_not_run(change: JournalledChange) -> Iterator[str]:
    """What the timeline doesn't have: scripts that were ready and not needed."""
    ran = {
        (r.fields.get("step"), r.fields.get("script"))
        for r in change.records
        if isinstance(r.fields.get("script"), str)
    }
    rest = [
        (f"Step {index + 1}, {inline(step.host)}, {name}:", script)
        for index, step in enumerate(change.plan.steps)
        for name, script in (("apply", step.apply), ("confirm", step.confirm), ("revert", step.revert))
        if (index, script) not in ran
    ]
    if rest:
        yield from ("", "## Scripts that were not run")
    for title, script in rest:
        yield from ("", title, "")
        yield from fenced(script, "sh")


def _counted(index: object) -> str:
    """Steps are counted from 0 in records, from 1 for people."""
    return str(index + 1) if isinstance(index, int) else "?"


def _time(at: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return datetime.fromtimestamp(at, UTC).strftime(form)
