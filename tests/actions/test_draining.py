"""What a drain waits for between its steps, and when it stops waiting."""

from __future__ import annotations

import argparse

from anyconsole.actions.drain import DrainRequest, Level, make_plan
from anyconsole.actions.draining import Draining
from anyconsole.actions.run import Question
from anyconsole.actions.runner import Gate
from anyconsole.change_command import answer_to
from tests.fleet import NOW, healthy_store


def gate_after(seconds_unseen: float, level: Level) -> Gate:
    """The gate of the last step for a node that nobody has heard of since the run began."""
    store = healthy_store()
    plan = make_plan(store, DrainRequest(level=level, nodes=("fra1",), tenants=("de",)), NOW)
    draining = Draining(store, plan, NOW)
    last = plan.steps[-1]
    draining.gate(last, NOW + 100)
    return draining.gate(last, NOW + 100 + seconds_unseen)


def test_a_node_that_can_not_be_seen_is_waited_for_and_then_asked_about() -> None:
    patience = healthy_store().inventory.guards.patience
    assert gate_after(patience - 1, Level.SOFT_THEN_HARD).ask == ""
    gate = gate_after(patience + 1, Level.SOFT_THEN_HARD)
    assert "not known" in gate.ask
    assert [choice for choice, _ in gate.choices] == ["stay", "look"], "it can't be withdrawn unseen"
    assert gate.default == "stay"


async def test_whoever_waits_for_traffic_to_leave_does_not_wait_for_ever_for_a_node_that_is_gone() -> None:
    gate = gate_after(healthy_store().inventory.guards.patience + 1, Level.SOFT_THEN_HARD)
    question = Question(id=1, text=gate.ask, choices=gate.choices, default=gate.default, until=NOW)
    for residual in ("wait", "go", "stay", ""):
        assert await answer_to(question, argparse.Namespace(residual=residual, yes=True)) == "stay"
