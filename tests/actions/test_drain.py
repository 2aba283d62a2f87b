"""Drain plans: the right announcements in the right order, exact scripts, and nothing that is as wanted already."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.actions.drain import DrainRequest, Level, make_plan
from anyconsole.actions.guards import evaluate
from anyconsole.actions.journal_record import Durations
from anyconsole.actions.plan import Plan, Step, render
from anyconsole.errors import AnyconsoleError
from anyconsole.model import verdicts
from anyconsole.model.drain_note import DrainNote, parse_note
from anyconsole.model.inventory import Family
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Intent
from tests.fleet import NOW, healthy_store


def drained(store: FleetStore, node: str, note: str = "", **sets: tuple[tuple[int, int], ...]) -> None:
    fact = store.speaker(node, "bird")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, drain_serial=5, drain_note=note, **sets)])


def drain_conf(step: Step) -> list[str]:
    """The lines of the drain file in the step's script."""
    lines = [line for line in step.apply.splitlines() if line.startswith("define DRAIN_")]
    assert len(lines) == 4
    return lines


def intents(step: Step) -> set[tuple[Intent, Intent]]:
    return {(c.before, c.after) for c in step.changes}


def test_a_plan_that_a_screen_hands_back_is_the_plan_it_was_given() -> None:
    plan = make_plan(healthy_store(), DrainRequest(level=Level.SOFT_THEN_HARD, nodes=("fra1",)), NOW)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_one_tenant_on_one_node_is_all_its_sessions_and_nothing_else() -> None:
    plan = make_plan(healthy_store(), DrainRequest(level=Level.HARD, nodes=("fra1",), tenants=("de",)), NOW)
    (step,) = plan.steps
    assert {(c.session, c.prefix) for c in step.changes} == {
        ("ix1_v4", "192.0.2.0/24"),
        ("ix1_v6", "2001:db8:de::/48"),
        ("transit_v4", "192.0.2.0/24"),
        ("transit_v6", "2001:db8:de::/48"),
    }
    assert drain_conf(step)[2:] == [
        "define DRAIN_HARD   = [ (0,0), (1,11..12), (1,31..32) ];",
        "define DRAIN_SOFT   = [ (0,0) ];",
    ]


@pytest.mark.parametrize(
    ("scope", "cells"),
    [
        ({"nodes": ("fra1",)}, 12),
        ({"sites": ("fra",)}, 24),
        ({"peers": ("ix1",)}, 30),
        ({"interconnects": ("ix1",)}, 30),
        ({"families": (Family.IPV6,)}, 30),
        ({"nodes": ("ams1",), "peers": ("ix1",), "families": (Family.IPV4,), "tenants": ("nic",)}, 1),
        ({"cells": (("fra1", "ix1_v4", "192.0.2.0/24"), ("ams1", "ix1_v4", "192.0.2.0/24"))}, 2),
        ({}, 60),
    ],
)
def test_a_scope_is_what_fits_all_of_it(scope: dict[str, tuple[str, ...]], cells: int) -> None:
    plan = make_plan(healthy_store(), DrainRequest(level=Level.SOFT, **scope), NOW)  # type: ignore[arg-type]
    assert len(plan.changes) == cells


def test_a_drain_goes_soft_first_and_hard_when_the_traffic_has_left() -> None:
    plan = make_plan(healthy_store(), DrainRequest(level=Level.SOFT_THEN_HARD, nodes=("fra1",)), NOW)
    soft, hard = plan.steps
    assert intents(soft) == {(Intent.SERVE, Intent.SOFT)}
    assert intents(hard) == {(Intent.SOFT, Intent.HARD)}
    assert not soft.waits_for
    assert "fra1's own queries for de, enum, nic under 5%" in hard.waits_for
    assert (soft.serial_before, soft.serial) < (hard.serial_before, hard.serial)
    assert hard.serial_before == soft.serial


def test_an_undrain_goes_soft_first_only_where_it_was_withdrawn() -> None:
    store = healthy_store()
    drained(store, "fra1", drain_hard=((1, 11),), drain_soft=((2, 11),))
    canary, serve = make_plan(store, DrainRequest(level=Level.SERVE, nodes=("fra1",)), NOW).steps
    assert [(c.tenant, c.before, c.after) for c in canary.changes] == [("de", Intent.HARD, Intent.SOFT)]
    assert {(c.tenant, c.before, c.after) for c in serve.changes} == {
        ("de", Intent.SOFT, Intent.SERVE),
        ("nic", Intent.SOFT, Intent.SERVE),
    }
    assert "canary" in serve.waits_for


def test_what_was_drained_before_stays_so() -> None:
    store = healthy_store()
    drained(store, "fra1", drain_hard=((2, 11),), drain_soft=((1, 11), (3, 31)))
    (step,) = make_plan(store, DrainRequest(level=Level.HARD, nodes=("fra1",), tenants=("de",)), NOW).steps
    assert drain_conf(step)[2:] == [
        "define DRAIN_HARD   = [ (0,0), (1,11..12), (1,31..32), (2,11) ];",
        "define DRAIN_SOFT   = [ (0,0), (3,31) ];",
    ]


def test_undrain_takes_out_only_its_own_scope() -> None:
    store = healthy_store()
    drained(store, "fra1", drain_hard=((1, 11), (1, 12), (2, 11)))
    steps = make_plan(store, DrainRequest(level=Level.SERVE, nodes=("fra1",), tenants=("de",)), NOW).steps
    assert "define DRAIN_HARD   = [ (0,0), (2,11) ];" in drain_conf(steps[-1])


def test_a_plan_for_what_is_already_so_is_empty_and_says_so() -> None:
    store = healthy_store()
    plan = make_plan(store, DrainRequest(level=Level.SERVE), NOW)
    assert plan.steps == ()
    assert "Nothing to change" in render(plan, evaluate(store, plan.changes, NOW))


def test_a_node_whose_drain_state_is_unknown_is_named_not_guessed() -> None:
    store = healthy_store()
    fact = store.speaker("fra1", "bird")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, drain_serial=None)])
    plan = make_plan(store, DrainRequest(level=Level.HARD, sites=("fra",)), NOW)
    assert [s.host for s in plan.steps] == ["fra2"]
    assert "fra1" in plan.missing[0]


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ({"nodes": ("fra9",)}, "fra9"),
        ({"peers": ("ix7",)}, "ix1, transit"),
        ({"tenants": ("DE",)}, "enum"),
        ({"interconnects": ("ix7",)}, "ix1"),
        ({"cells": (("fra1", "ix9_v4", "192.0.2.0/24"),)}, "fra1 ix9_v4"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(scope: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(AnyconsoleError, match=said):
        make_plan(healthy_store(), DrainRequest(level=Level.HARD, **scope), NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (DrainRequest(level=Level.SOFT, nodes=("fra1",), tenants=("de",)), ""),
        (DrainRequest(level=Level.SOFT, nodes=("fra1",), peers=("ix1",)), ""),
        (DrainRequest(level=Level.SOFT, nodes=("fra1",)), "fra1"),
        (DrainRequest(level=Level.SOFT, sites=("fra",)), "fra"),
        (DrainRequest(level=Level.SOFT, tenants=("de",)), "de"),
        (DrainRequest(level=Level.SOFT, interconnects=("ix1",)), "ix1"),
        (DrainRequest(level=Level.SOFT), "test"),
    ],
)
def test_a_wide_scope_has_to_be_typed(request_: DrainRequest, word: str) -> None:
    store = healthy_store()
    wanted = store.inventory.name if word == "test" else word
    assert make_plan(store, request_, NOW).type_to_confirm == wanted


def test_a_node_marked_cell_by_cell_is_still_a_whole_node() -> None:
    store = healthy_store()
    node = store.inventory.node("fra1")
    cells = tuple(("fra1", session.name, prefix) for _, session, _, prefix in verdicts.node_announcements(store, node))
    assert make_plan(store, DrainRequest(level=Level.SOFT, cells=cells), NOW).type_to_confirm == "fra1"
    assert make_plan(store, DrainRequest(level=Level.SOFT, cells=cells[1:]), NOW).type_to_confirm == ""


def test_the_plan_says_how_long_it_took_there_before() -> None:
    took = {("fra", "hard"): {"peers": Durations(median=1.5, worst=4.0, count=3)}}
    request = DrainRequest(level=Level.HARD, nodes=("fra1", "ams1"), tenants=("de",))
    plan = make_plan(healthy_store(), request, NOW, took)
    assert [bool(step.estimate) for step in plan.steps] == [True, False]
    assert "took  " in render(plan, ())
    assert "1.5" in plan.steps[0].estimate


# --- the note


def note_of(step: Step) -> DrainNote:
    note = parse_note(drain_conf(step)[1].split('"')[1])
    assert note is not None
    return note


def test_the_node_is_told_who_why_and_until_when() -> None:
    request = DrainRequest(
        level=Level.HARD, nodes=("fra1",), reason="disk", ticket="CHG1", operator="alice", expires_at=NOW + 7200
    )
    note = note_of(make_plan(healthy_store(), request, NOW).steps[0])
    assert (note.operator, note.ticket, note.reason) == ("alice", "CHG1", "disk")
    assert note.expires == pytest.approx(NOW + 7200, abs=60)


def test_another_drain_on_the_node_does_not_outlive_its_own_expiry() -> None:
    store = healthy_store()
    older = DrainNote(operator="bob", at=NOW - 60, expires=NOW + 600).text()
    drained(store, "fra1", older, drain_hard=((2, 11),))
    request = DrainRequest(level=Level.HARD, nodes=("fra1",), tenants=("de",), expires_at=NOW + 7200)
    assert note_of(make_plan(store, request, NOW).steps[0]).expires == pytest.approx(NOW + 600, abs=60)


def test_whose_the_rest_is_stays_on_the_node() -> None:
    store = healthy_store()
    older = DrainNote(operator="bob", ticket="CHG1", reason="line card", at=NOW - 60).text()
    drained(store, "fra1", older, drain_hard=((2, 11),))
    request = DrainRequest(level=Level.HARD, nodes=("fra1",), tenants=("de",), operator="alice", reason="disks")
    note = note_of(make_plan(store, request, NOW).steps[0])
    assert (note.operator, note.reason) == ("alice", "disks; the rest by bob CHG1: line card")


def test_a_node_that_serves_again_expires_no_more() -> None:
    store = healthy_store()
    drained(store, "fra1", DrainNote(operator="bob", at=NOW, expires=NOW + 600).text(), drain_soft=((2, 11),))
    steps = make_plan(store, DrainRequest(level=Level.SERVE, nodes=("fra1",), operator="eve"), NOW).steps
    assert note_of(steps[-1]).expires is None


@given(st.text(max_size=400), st.text(max_size=60))
def test_no_reason_breaks_out_of_the_note(reason: str, ticket: str) -> None:
    request = DrainRequest(
        level=Level.HARD, nodes=("fra1",), reason=reason, ticket=ticket, operator="op1", expires_at=NOW + 60
    )
    (step,) = make_plan(healthy_store(), request, NOW).steps
    note = drain_conf(step)[1]
    assert note.count('"') == 2
    assert note.isascii()
    assert note.endswith('";')


def test_the_plan_reads_as_one_page_with_scripts_and_guards() -> None:
    store = healthy_store()
    plan = make_plan(
        store, DrainRequest(level=Level.HARD, nodes=("fra1",), tenants=("de",), ticket="CHG1", reason="disk"), NOW
    )
    text = render(plan, evaluate(store, plan.changes, NOW))
    assert text.startswith("PLAN  drain hard: node fra1, tenant de")
    for words in (
        "CHG1",
        "configure check",
        "hold=120",
        "serve -> hard, now announced",
        "ASK      capacity",
        "OK       floor",
        "SCRIPT 1 revert, on fra1",
    ):
        assert words in text
