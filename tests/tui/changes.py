"""Plans, runs and journal lines for the tests of the screen, and an engine's answers to what the dialogs ask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from anyconsole.actions.guards import Change, GuardVerdict
from anyconsole.actions.guards import Outcome as Verdict
from anyconsole.actions.journal_record import ChangeSummary
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Operator, Proof, Run, StepRun, StepState
from anyconsole.model.facts import Exported
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Intent, node_announcements
from tests.fleet import NOW
from tests.tui.fake_client import FakeClient

__all__ = ["OPERATOR", "engine_of_plans", "plan_for", "run_of", "summary"]

OPERATOR = Operator(user="alice", host="oncall1", key="alice@laptop")


def plan_for(store: FleetStore, request: Mapping[str, Any], *, type_to_confirm: str = "") -> Plan:
    """What an engine would plan for a request: one step a node, as much of it as the screen shows."""
    level = {"serve": Intent.SERVE, "hard": Intent.HARD}.get(request["level"], Intent.SOFT)
    cells = {tuple(cell) for cell in request.get("cells", ())}
    steps = []
    for node in store.inventory.nodes:
        if request.get("nodes") and node.name not in request["nodes"]:
            continue
        changes = tuple(
            Change(
                node=node.name, speaker=speaker.name, session=session.name, peer=session.peer, tenant=tenant.name, prefix=prefix,
                before=Intent.SERVE, after=level, exported=Exported.ANNOUNCED,
            )
            for speaker, session, tenant, prefix in node_announcements(store, node)
            if (not request.get("tenants") or tenant.name in request["tenants"])
            and (not request.get("peers") or session.peer in request["peers"])
            and (not request.get("families") or session.family in request["families"])
            and (not cells or (node.name, session.name, prefix) in cells)
        )  # fmt: skip
        if changes:
            steps.append(
                Step(
                    host=node.name,
                    title=f"BIRD {level}, {len(changes)} announcements",
                    apply="set -e\nbirdc configure\n",
                    hold=120,
                    confirm="birdc configure confirm\n",
                    revert="birdc configure undo\n",
                    changes=changes,
                    undo=(f"anyconsole undrain --node {node.name}",),
                    proof=("the daemon says serial 17",),
                )
            )  # fmt: skip
    return Plan(
        action="drain", title=f"drain {request['level']}", profile=store.inventory.name, made_at=NOW,
        reason=request["reason"], ticket=request["ticket"], request=dict(request), type_to_confirm=type_to_confirm, steps=tuple(steps),
    )  # fmt: skip


def engine_of_plans(fleet: FakeClient, *, type_to_confirm: str = "", armed: float = 900.0) -> None:
    """Make a scripted fleet answer as an armed engine does."""

    def plan(args: dict[str, str]) -> str:
        made = plan_for(fleet.store, {"level": "soft", **json.loads(args["request"])}, type_to_confirm=type_to_confirm)
        return msgspec.json.encode(made).decode()

    def start(args: dict[str, str]) -> str:
        fleet.runs["r1"] = run_of(msgspec.json.decode(args["plan"], type=Plan))
        return "r1"

    def arm(args: dict[str, str]) -> str:
        fleet.arm(float(args["seconds"]))
        return ""

    fleet.replies |= {"plan": plan, "start": start, "arm": arm}
    fleet.replies |= dict.fromkeys(("cancel", "answer", "acknowledge"), lambda _: "")
    fleet.armed_until = fleet.now + armed if armed else 0.0


def run_of(plan: Plan, **fields: object) -> Run:
    """A run of a plan whose first step is being verified."""
    first = StepRun(
        state=StepState.VERIFYING, began_at=NOW, reverts_at=NOW + 120,
        proofs=(
            Proof(layer="daemon", met=True, words="serial 17 is in effect", required=True, since=NOW + 1),
            Proof(layer="peers", met=False, words="ix1 still has 2 of 6 paths", required=True),
            Proof(layer="catchment", met=None, words="no vantage point has asked yet"),
        ),
        timings={"daemon": 0.4},
    )  # fmt: skip
    steps = (first, *(StepRun() for _ in plan.steps[1:]))
    guards = (
        GuardVerdict(
            name="floor", outcome=Verdict.OK, numbers="192.0.2.0/24 would be served by 4 nodes, at least 3 are wanted"
        ),
    )
    run = Run(id="r1", plan=plan, operator=OPERATOR, began_at=NOW, steps=steps, guards=guards)
    return msgspec.structs.replace(run, **fields)


def summary(number: int, state: str = "done", **fields: object) -> ChangeSummary:
    """A line of the journal, an hour older with each number."""
    opened = NOW - 3600 * number
    line = ChangeSummary(
        id=f"c{number}", opened_at=opened, closed_at=opened + 74, operator="alice@oncall1", title=f"drain hard: node fra{number}",
        ticket=f"OPS-{number}", reason="replace a line card", state=state, seconds=74.0,
    )  # fmt: skip
    return msgspec.structs.replace(line, **fields)
