"""Rows stay true at bounded cost: what is seen first, then the rest, and nothing that is dear too often."""

from __future__ import annotations

import time

import msgspec
import pytest

from anyconsole.model.facts import Gone, Link, LinkState, SessionState
from anyconsole.model.store import FleetStore
from anyconsole.model.table import UNICODE
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views import FLEET, HEALTH, bgp_view, pods_view
from anyconsole.tui import live_rows
from anyconsole.tui.live_rows import LiveRows, is_troubled
from anyconsole.tui.scope import Scope
from tests.fleet import CLUSTER, NOW, healthy_hybrid, healthy_store, inventory, pod


def rows_of(nodes: int, scope: Scope | None = None) -> LiveRows:
    store = healthy_store(inventory([f"n{i}" for i in range(nodes)]))
    rows = LiveRows(FLEET, store, scope or Scope(), UNICODE)
    rows.load(NOW)
    return rows


def test_a_changed_fact_changes_its_row_and_no_other() -> None:
    store = healthy_store()
    rows = LiveRows(bgp_view(store), store, Scope(), UNICODE)
    rows.load(NOW)
    before = dict(rows.rows)
    fact = store.session("lon1", "bird", "ix1_v4")
    assert fact is not None
    rows.mark(store.apply([msgspec.structs.replace(fact, state=SessionState.ACTIVE)]))
    assert rows.refresh((), NOW, budget=1.0)
    assert [k for k in before if rows.rows[k] is not before[k]] == [("session", "lon1", "bird", "ix1_v4")]


def test_what_is_seen_is_made_first_even_without_any_budget() -> None:
    store = healthy_store()
    rows = LiveRows(FLEET, store, Scope(), UNICODE)
    rows.load(NOW)
    facts = [store.session(n, "bird", "ix1_v4") for n in ("fra1", "sin1")]
    rows.mark(store.apply([msgspec.structs.replace(f, state=SessionState.ACTIVE) for f in facts if f is not None]))
    rows.refresh([("node", "sin1")], NOW, budget=0.0)
    assert rows.rows["node", "sin1"].rank == Verdict.DEGRADED.rank
    assert rows.rows["node", "fra1"].rank == Verdict.SERVING.rank
    rows.refresh((), NOW, budget=1.0)
    assert rows.rows["node", "fra1"].rank == Verdict.DEGRADED.rank


def test_a_large_fleet_is_named_at_once_and_made_with_the_next_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rows, "_LOAD_BUDGET", 0.0)
    rows = rows_of(30)
    assert len(rows.rows) == 30
    assert rows.painted["node", "n7"][0].text == "n7"
    assert not rows.painted["node", "n7"][2].text
    while rows.refresh((), NOW, budget=0.05):
        pass
    assert "SERVING" in rows.painted["node", "n7"][2].text


def test_a_dear_view_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(3)
    monkeypatch.setattr(live_rows, "_DEAR", -1.0)
    rows.sweep([("node", "n0")], NOW + 60, budget=0.0)
    seen = rows.rows["node", "n1"]
    monkeypatch.setattr(live_rows, "_DEAR", 60.0)
    rows._rest_until = time.monotonic() + 60
    rows.sweep([("node", "n1")], NOW + 60, budget=1.0)
    assert rows.rows["node", "n1"] is seen


def test_a_scope_leaves_the_others_out() -> None:
    store = healthy_store()
    rows = LiveRows(HEALTH, store, Scope(tenant="de"), UNICODE)
    rows.load(NOW)
    assert {key[2] for key in rows.rows} == {"de"}


def test_serving_and_drained_are_no_trouble() -> None:
    store = healthy_store()
    row = FLEET.row(store, ("node", "fra1"), NOW, UNICODE)
    assert not is_troubled(row)
    assert is_troubled(FLEET.row(store, ("node", "fra1"), NOW + 60, UNICODE))


def listed(scope: Scope | None = None) -> tuple[FleetStore, LiveRows]:
    store = healthy_hybrid()
    rows = LiveRows(pods_view(store), store, scope or Scope(), UNICODE)
    rows.load(NOW)
    return store, rows


def test_in_a_list_a_fact_changes_its_own_row_only_and_news_of_the_cluster_all() -> None:
    store, rows = listed()
    before = dict(rows.rows)
    key = ("pod", CLUSTER, "de", "ac-c9df674b-wt9b8")
    rows.mark(store.apply([pod("de", key[3], restarts=1)]))
    assert rows.refresh((), NOW, budget=1.0)
    assert [k for k in before if rows.rows[k] is not before[k]] == [key]
    lost = Link(node=CLUSTER, section="link", at=NOW, state=LinkState.BACKOFF, since=NOW)
    rows.mark(store.apply([lost]))
    assert rows.refresh((), NOW + 60, budget=1.0)
    assert all(row.rank == Verdict.STALE.rank for row in rows.rows.values())


def test_in_a_list_rows_come_and_go_in_their_order_within_the_scope() -> None:
    store, rows = listed(Scope(tenant="de"))
    assert len(rows.rows) == 3
    rows.mark(store.apply([pod("nic", "a"), pod("monitoring", "b")]))
    assert not rows.refresh((), NOW, budget=1.0)
    rows.mark(store.apply([pod("de", "a"), Gone(key=("pod", CLUSTER, "de", "ac-c9df674b-wt9b8"))]))
    assert rows.refresh((), NOW, budget=1.0)
    assert [key[3][:5] for key in rows.rows] == [key[3][:5] for key in rows.painted] == ["a", "ns.de", "ns.de"]
    rows.sweep(list(rows.rows), NOW + 1, budget=1.0)


def test_a_pod_that_moves_to_the_node_in_sight_appears_there() -> None:
    store, rows = listed(Scope(node="hv2"))
    rows.mark(store.apply([pod("de", "late", host="")]))
    rows.refresh((), NOW, budget=1.0)
    assert ("pod", CLUSTER, "de", "late") not in rows.rows
    rows.mark(store.apply([pod("de", "late", host="hv2")]))
    rows.refresh((), NOW, budget=1.0)
    assert ("pod", CLUSTER, "de", "late") in rows.rows


def test_in_a_long_list_rows_are_named_by_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rows, "_LOAD_BUDGET", 0.0)
    _, rows = listed()
    assert [cell.text for cell in next(iter(rows.painted.values()))][:3] == ["de", "ac-c9df674b-wt9b8", ""]
