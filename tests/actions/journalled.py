"""A change on paper, for the tests of the journal: what a run of two steps would write."""

from __future__ import annotations

from anyconsole.actions.guards import Change, GuardVerdict
from anyconsole.actions.guards import Outcome as Verdict
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Operator, Outcome, Run, StepRun
from anyconsole.model.facts import Exported
from anyconsole.model.verdicts import Intent

NOW = 1_795_460_000.0
"""2026-11-23 18:53:20 UTC."""
ALICE = Operator(user="alice", host="desk1", key="alice@laptop")


def step(host: str = "fra1", level: Intent = Intent.SOFT) -> Step:
    """One step that drains a prefix on one session."""
    change = Change(
        node=host, speaker="bird", session="rs1_v4", peer="rs1", tenant="de", prefix="192.0.2.0/24",
        before=Intent.SERVE, after=level, exported=Exported.ANNOUNCED,
    )  # fmt: skip
    return Step(
        host=host, title=f"drain {level}", apply="echo apply\n", confirm="echo confirm\n", revert="echo revert\n", hold=120,
        changes=(change,), proof=("exported is depreferred",), undo=("anyconsole undrain --node fra1",),
    )  # fmt: skip


def run(id_: str = "", *, reason: str = "router upgrade", steps: tuple[Step, ...] = (step(),)) -> Run:
    """A run that is about to begin."""
    plan = Plan(
        action="drain",
        title="drain soft: node fra1",
        profile="lab",
        made_at=NOW,
        reason=reason,
        ticket="CHG-7",
        steps=steps,
    )
    floor = GuardVerdict(name="floor", outcome=Verdict.REFUSE, numbers="served by 1 nodes, at least 2 are wanted")
    return Run(id=id_, plan=plan, operator=ALICE, began_at=NOW, guards=(floor,), overrides={"floor": "agreed with NOC"})


def ended(begun: Run, outcome: Outcome = Outcome.DONE, words: str = "1 of 1 steps done") -> Run:
    """The same run when it has ended."""
    steps = tuple(StepRun() for _ in begun.plan.steps)
    return Run(
        id=begun.id, plan=begun.plan, operator=begun.operator, began_at=NOW, overrides=begun.overrides, steps=steps,
        outcome=outcome, words=words, ended_at=NOW + 42,
    )  # fmt: skip
