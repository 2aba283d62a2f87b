"""Drain plans: the right announcements, the exact file, and nothing that is as wanted already."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.actions.drain import DrainRequest, drain_file, make_plan
from anyconsole.actions.guards import evaluate
from anyconsole.actions.plan import render
from anyconsole.errors import AnyconsoleError
from anyconsole.model.inventory import Family
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Intent
from tests.fleet import NOW, healthy_store

HARD = Intent.HARD


def drained(store: FleetStore, node: str, **sets: tuple[tuple[int, int], ...]) -> None:
    fact = store.speaker(node, "bird")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, drain_serial=5, **sets)])


def test_one_tenant_on_one_node_is_all_its_sessions_and_nothing_else() -> None:
    plan = make_plan(healthy_store(), DrainRequest(level=HARD, nodes=("fra1",), tenants=("de",)), NOW)
    (step,) = plan.steps
    assert {(c.session, c.prefix) for c in step.changes} == {
        ("ix1_v4", "192.0.2.0/24"),
        ("ix1_v6", "2001:db8:de::/48"),
        ("transit_v4", "192.0.2.0/24"),
        ("transit_v6", "2001:db8:de::/48"),
    }
    assert "define DRAIN_HARD   = [ (0,0), (1,11..12), (1,31..32) ];" in step.content
    assert "define DRAIN_SOFT   = [ (0,0) ];" in step.content


@pytest.mark.parametrize(
    ("scope", "cells"),
    [
        ({"nodes": ("fra1",)}, 12),
        ({"sites": ("fra",)}, 24),
        ({"peers": ("ix1",)}, 30),
        ({"families": (Family.IPV6,)}, 30),
        ({"nodes": ("ams1",), "peers": ("ix1",), "families": (Family.IPV4,), "tenants": ("nic",)}, 1),
        ({}, 60),
    ],
)
def test_a_scope_is_what_fits_all_of_it(scope: dict[str, tuple[str, ...]], cells: int) -> None:
    plan = make_plan(healthy_store(), DrainRequest(level=Intent.SOFT, **scope), NOW)  # type: ignore[arg-type]
    assert len(plan.changes) == cells


def test_what_was_drained_before_stays_so() -> None:
    store = healthy_store()
    drained(store, "fra1", drain_hard=((2, 11),), drain_soft=((1, 11), (3, 31)))
    plan = make_plan(store, DrainRequest(level=HARD, nodes=("fra1",), tenants=("de",)), NOW)
    assert "DRAIN_HARD   = [ (0,0), (1,11..12), (1,31..32), (2,11) ]" in plan.steps[0].content
    assert "DRAIN_SOFT   = [ (0,0), (3,31) ]" in plan.steps[0].content


def test_undrain_takes_out_only_its_own_scope() -> None:
    store = healthy_store()
    drained(store, "fra1", drain_hard=((1, 11), (1, 12), (2, 11)))
    plan = make_plan(store, DrainRequest(level=Intent.SERVE, nodes=("fra1",), tenants=("de",)), NOW)
    assert len(plan.changes) == 2
    assert "DRAIN_HARD   = [ (0,0), (2,11) ]" in plan.steps[0].content


def test_a_plan_for_what_is_already_so_is_empty_and_says_so() -> None:
    store = healthy_store()
    plan = make_plan(store, DrainRequest(level=Intent.SERVE), NOW)
    assert plan.steps == ()
    assert "Nothing to change" in render(plan, evaluate(store, plan.changes, NOW))


def test_a_node_whose_drain_state_is_unknown_is_named_not_guessed() -> None:
    store = healthy_store()
    fact = store.speaker("fra1", "bird")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, drain_serial=None)])
    plan = make_plan(store, DrainRequest(level=HARD, sites=("fra",)), NOW)
    assert [s.host for s in plan.steps] == ["fra2"]
    assert "fra1" in plan.remarks[0]


@pytest.mark.parametrize(
    ("scope", "said"),
    [({"nodes": ("fra9",)}, "fra9"), ({"peers": ("ix7",)}, "ix1, transit"), ({"tenants": ("DE",)}, "enum")],
)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(scope: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(AnyconsoleError, match=said):
        make_plan(healthy_store(), DrainRequest(level=HARD, **scope), NOW)  # type: ignore[arg-type]


@given(st.sets(st.tuples(st.integers(1, 6), st.integers(1, 24)), max_size=60))
def test_every_set_that_is_written_reads_back_the_same(pairs: set[tuple[int, int]]) -> None:
    line = next(line for line in drain_file(7, "", pairs, ()).splitlines() if "DRAIN_HARD" in line)
    items = re.findall(r"\((\d+),(\d+)(?:\.\.(\d+))?\)", line)
    read = {(int(t), s) for t, low, high in items for s in range(int(low), int(high or low) + 1)}
    assert read - {(0, 0)} == pairs
    assert len(items) == len(set(items))


@given(st.text(max_size=400), st.text(max_size=60))
def test_no_reason_breaks_out_of_the_note(reason: str, ticket: str) -> None:
    request = DrainRequest(
        level=HARD, nodes=("fra1",), reason=reason, ticket=ticket, operator="op1", expires_at=NOW + 60
    )
    content = make_plan(healthy_store(), request, NOW).steps[0].content
    lines = content.splitlines()
    assert len(lines) == 4
    assert lines[1].count('"') == 2
    assert lines[1].isascii()
    assert lines[1].endswith('";')


def test_the_plan_reads_as_one_page_with_commands_and_guards() -> None:
    store = healthy_store()
    plan = make_plan(
        store, DrainRequest(level=HARD, nodes=("fra1",), tenants=("de",), ticket="CHG1", reason="disk"), NOW
    )
    text = render(plan, evaluate(store, plan.changes, NOW))
    assert text.startswith("PLAN  drain hard: node fra1, tenant de")
    for words in (
        "CHG1",
        "configure check",
        "timeout 120",
        "serve -> hard, now announced",
        "ASK      capacity",
        "OK       floor",
    ):
        assert words in text
