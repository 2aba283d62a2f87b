"""Plans: what a change would do, step by step, as a value that reads the same on every screen and in every file.

It knows nothing of drains: an action makes the steps, guards judge the changes, and this renders both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from anyconsole.actions.guards import Change, GuardVerdict, Repair
from anyconsole.model.table import clock

__all__ = ["Plan", "Step", "document", "render"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do on one host: the exact scripts, how to take it back, and what will prove it.

    `apply` makes the change unconfirmed: the host takes it back by itself after `hold` seconds. `confirm` makes it stay, `revert` takes
    it back at once; all three are POSIX sh, or calls of a cluster's API. `diff` is what becomes different on the host, in the words of its
    configuration.
    A step without `confirm` changes nothing that would have to stay: it ends by itself `hold` seconds after its console does. One that is
    `lasting` does, and no host takes it back: whatever of it was done stays, and it has `hold` seconds until everything must be proved.
    `about` says what else there is to know before it begins, `waits_for` what must be true before it may, "" for nothing; `estimate` how
    long it took here before; `undo` how to take it back once it is confirmed. `serial` is the number by which the host tells that the
    step is in effect, `serial_before` the one it tells until then. `lane` is what else only one step at a time may change, "" if it is
    the host alone: a cluster.
    """

    host: str
    lane: str = ""
    part: str = ""
    title: str
    apply: str
    confirm: str
    revert: str
    hold: int
    diff: str = ""
    about: tuple[str, ...] = ()
    serial: int = 0
    serial_before: int = 0
    waits_for: str = ""
    estimate: str = ""
    undo: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    repair: Repair | None = None
    """Drift that it settles."""
    lasting: bool = False
    findings: tuple[GuardVerdict, ...] = ()
    """What planning found out that no fact tells; the guards repeat it."""
    proof: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """What only one step at a time may change."""
        return self.lane or self.host


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A change as a whole. `made_at` is seconds since the epoch; `missing` says what belongs into it and can't be planned, and why.

    `action` names what made it ("drain"), `request` is what it was made from, as JSON. Steps of one host are done in their order, all
    steps one after the other if they are `in_order`.
    `type_to_confirm` is what has to be typed before it may be carried out, "" if a key press is enough. `notes` are worth knowing and keep
    nothing from being done; `settled` says how things stand where there is no step.
    """

    action: str
    title: str
    profile: str
    made_at: float
    reason: str = ""
    ticket: str = ""
    request: dict[str, Any] = {}
    type_to_confirm: str = ""
    steps: tuple[Step, ...] = ()
    in_order: bool = False
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settled: str = "every announcement is as wanted already"

    @property
    def changes(self) -> tuple[Change, ...]:
        """All announcements that change, in order of the steps."""
        return tuple(change for step in self.steps for change in step.changes)

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """All drift that it settles; the guards are to be told of it."""
        return tuple(step.repair for step in self.steps if step.repair is not None)


def document(plan: Plan, guards: Sequence[GuardVerdict]) -> dict[str, Any]:
    """The plan and the guards' answers as JSON; docs/json.md describes it."""
    return {"version": 1, "plan": msgspec.to_builtins(plan), "guards": msgspec.to_builtins(list(guards))}


def render(plan: Plan, guards: Sequence[GuardVerdict]) -> str:
    """The plan and what the guards say of it, as plain text with a newline at the end."""
    return "\n".join(_lines(plan, guards)) + "\n"


def _lines(plan: Plan, guards: Sequence[GuardVerdict]) -> Iterator[str]:
    about = "".join(f", {word}" for word in (plan.ticket, plan.reason) if word)
    yield f"PLAN  {plan.title}  (profile {plan.profile}, made {clock(plan.made_at)} UTC{about})"
    yield from (f"  MISSING  {what}" for what in plan.missing)
    yield from (f"  NOTE  {what}" for what in plan.notes)
    for number, step in enumerate(plan.steps, start=1):
        yield ""
        yield f"{number}. {step.host}: {step.title}"
        if step.waits_for:
            yield f"   waits for {step.waits_for}"
        if step.estimate:
            yield f"   took  {step.estimate}"
        for change in step.changes:
            where = f"{change.tenant} {change.prefix} on {change.session} ({change.peer})"
            yield f"   {where}: {change.before} -> {change.after}, now {change.exported}"
        yield from (f"   diff  {line}" for line in step.diff.splitlines())
        yield from (f"   {line}" for line in step.about)
        yield from (f"   proof {proof}" for proof in step.proof)
        if step.confirm:
            yield f"   undo  by itself after {step.hold} s, unless it is confirmed"
        elif step.lasting:
            yield f"   lasts  what of it is done stays, however it ends; all of it has to be proved within {step.hold} s"
        else:
            yield f"   ends  by itself {step.hold} s after this console, if it isn't stopped before"
        yield from (f"   undo  {way}" for way in step.undo)
    if not plan.steps and not plan.missing:
        yield ""
        yield f"Nothing to change: {plan.settled}."
    yield ""
    yield "GUARDS"
    for guard in guards:
        override = " (can be overridden with a reason)" if guard.refuses and guard.overridable else ""
        yield f"  {guard.outcome.upper():<8} {guard.name}: {guard.numbers}{override}"
    for number, step in enumerate(plan.steps, start=1):
        scripts = (("apply", step.apply), ("confirm", step.confirm), ("revert", step.revert))
        for name, script in scripts if step.confirm else scripts[:1]:
            yield ""
            yield f"SCRIPT {number} {name}, on {step.host}"
            yield from (f"  {line}" for line in script.splitlines())
