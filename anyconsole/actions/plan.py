"""Plans: what a change would do, step by step, as a value that reads the same on every screen and in every file.

It knows nothing of drains: an action makes the steps, guards judge the changes, and this renders both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from anyconsole.actions.guards import Change, GuardVerdict
from anyconsole.model.table import clock

__all__ = ["Plan", "Step", "document", "render"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do on one host: the exact file and commands, how to take it back, and what will prove it."""

    host: str
    title: str
    file: str = ""
    content: str = ""
    commands: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    proof: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A change as a whole. `made_at` is seconds since the epoch; `remarks` say what was left out of it, and why."""

    title: str
    profile: str
    made_at: float
    reason: str = ""
    ticket: str = ""
    steps: tuple[Step, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        """All announcements that change, in order of the steps."""
        return tuple(change for step in self.steps for change in step.changes)


def document(plan: Plan, guards: Sequence[GuardVerdict]) -> dict[str, Any]:
    """The plan and the guards' answers as JSON; docs/json.md describes it."""
    return {"version": 1, "plan": msgspec.to_builtins(plan), "guards": msgspec.to_builtins(list(guards))}


def render(plan: Plan, guards: Sequence[GuardVerdict]) -> str:
    """The plan and what the guards say of it, as plain text with a newline at the end."""
    return "\n".join(_lines(plan, guards)) + "\n"


def _lines(plan: Plan, guards: Sequence[GuardVerdict]) -> Iterator[str]:
    about = "".join(f", {word}" for word in (plan.ticket, plan.reason) if word)
    yield f"PLAN  {plan.title}  (profile {plan.profile}, made {clock(plan.made_at)} UTC{about})"
    yield from (f"  note: {remark}" for remark in plan.remarks)
    for number, step in enumerate(plan.steps, start=1):
        yield ""
        yield f"{number}. {step.host}: {step.title}"
        if step.file:
            yield f"   write {step.file}:"
            yield from (f"     {line}" for line in step.content.splitlines())
        yield from (f"   run   {command}" for command in step.commands)
        yield from (f"   undo  {command}" for command in step.undo)
        for change in step.changes:
            where = f"{change.tenant} {change.prefix} on {change.session} ({change.peer})"
            yield f"   {where}: {change.before} -> {change.after}, now {change.exported}"
        if step.proof:
            yield f"   proof {step.proof}"
    if not plan.steps:
        yield ""
        yield "Nothing to change: every announcement is as wanted already."
    yield ""
    yield "GUARDS"
    for guard in guards:
        override = " (can be overridden with a reason)" if guard.refuses and guard.overridable else ""
        yield f"  {guard.outcome.upper():<8} {guard.name}: {guard.numbers}{override}"
