"""What a drain waits for between its steps, and when it stops waiting."""

from __future__ import annotations

import argparse

import msgspec

from anyconsole.actions.action import Gate
from anyconsole.actions.drain import DrainRequest, Level, make_plan
from anyconsole.actions.draining import SAMPLES, Draining
from anyconsole.actions.run import Question
from anyconsole.change_command import answer_to
from anyconsole.model.facts import Beat
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


def test_each_node_of_a_plan_waits_for_itself() -> None:
    store = healthy_store()
    plan = make_plan(store, DrainRequest(level=Level.SOFT_THEN_HARD, nodes=("fra1", "ams1"), tenants=("de",)), NOW)
    draining = Draining(store, plan, NOW)
    first, second = (next(s for s in plan.steps if s.host == host and s.waits_for) for host in ("fra1", "ams1"))
    assert first.serial == second.serial
    settle = store.inventory.guards.settle
    later = NOW + settle + 100
    draining.gate(first, NOW)
    assert "settles" not in draining.gate(first, later).words
    assert f"settles for {settle:.0f} s more" in draining.gate(second, later).words


def test_the_canary_of_each_node_has_its_own_time() -> None:
    store = healthy_store()
    for node in ("fra1", "ams1"):
        speaker = store.speaker(node, "bird")
        assert speaker is not None
        hard = ((1, 11), (1, 12), (1, 31), (1, 32))
        store.apply([msgspec.structs.replace(speaker, drain_hard=hard, drain_serial=4, disk_serial=4)])
    plan = make_plan(store, DrainRequest(level=Level.SERVE, nodes=("fra1", "ams1"), tenants=("de",)), NOW)
    draining = Draining(store, plan, NOW)
    first, second = (next(s for s in plan.steps if s.host == host and s.waits_for) for host in ("fra1", "ams1"))
    draining.gate(first, NOW)
    assert draining.gate(first, NOW + 4).is_open
    assert not draining.gate(second, NOW + 4).is_open, "nobody has looked at this one's canary yet"


def test_traffic_that_left_one_node_opens_no_other() -> None:
    store = healthy_store()
    plan = make_plan(store, DrainRequest(level=Level.SOFT_THEN_HARD, nodes=("fra1", "ams1"), tenants=("de",)), NOW)
    draining = Draining(store, plan, NOW)
    first, second = (next(s for s in plan.steps if s.host == host and s.waits_for) for host in ("fra1", "ams1"))
    for step in (first, second):
        draining.gate(step, NOW)
    at = NOW + store.inventory.guards.settle
    gate = draining.gate(first, at)
    for _ in range(SAMPLES):
        at += 1.0
        for node in ("fra1", "ams1"):
            rates = store.rates(node, "de", "probe")
            assert rates is not None
            store.apply([msgspec.structs.replace(rates, qps=0.0, at=at), Beat(node=node, at=at, sections=("nsd",))])
        gate = draining.gate(first, at)
    assert gate.is_open, gate.words
    assert not draining.gate(second, at).is_open, "its own traffic was looked at once only"
