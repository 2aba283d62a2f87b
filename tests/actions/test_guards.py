"""Every guard lets a harmless drain pass and refuses the one that would lose queries, with the numbers."""

from __future__ import annotations

import msgspec
import pytest

from anyconsole.actions.drain import DrainRequest, Level, make_plan
from anyconsole.actions.guards import Change, GuardVerdict, Outcome, evaluate
from anyconsole.model.drain_note import DrainNote
from anyconsole.model.facts import Beat, Capacity, Export, Exported, LinkState, SessionState
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Intent
from tests.fleet import CLUSTER, NOW, healthy_store, settled_hybrid


def judge(
    store: FleetStore, level: Level = Level.HARD, now: float = NOW, **scope: tuple[str, ...]
) -> dict[str, GuardVerdict]:
    plan = make_plan(store, DrainRequest(level=level, **scope), now)  # type: ignore[arg-type]
    return {guard.name: guard for guard in evaluate(store, plan.changes, now)}


def change(store: FleetStore, key: tuple[str, ...], **fields: object) -> None:
    fact = store.get(key)
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, **fields)])


def refused(guards: dict[str, GuardVerdict]) -> set[str]:
    return {name for name, guard in guards.items() if guard.refuses}


def test_a_healthy_fleet_lets_one_node_go_but_asks_about_capacity() -> None:
    guards = judge(healthy_store(), nodes=("fra1",))
    assert refused(guards) == set()
    assert guards["capacity"].outcome is Outcome.ASK
    assert "36 q/s" in guards["capacity"].numbers
    assert "4 nodes, at least 3" in guards["floor"].numbers


def test_the_last_announcer_is_refused_and_that_is_final() -> None:
    guards = judge(healthy_store(), tenants=("de",))
    assert not guards["last announcer"].overridable
    assert guards["last announcer"].refuses
    assert "192.0.2.0/24" in guards["last announcer"].numbers


def test_the_floor_counts_only_nodes_that_announce_and_answer() -> None:
    store = healthy_store()
    for node in ("lon1", "sin1"):
        change(store, ("answer", node, "192.0.2.53", "de.example"), rcode=None, serial=None, error="timeout")
    guards = judge(store, nodes=("fra1",), tenants=("de",))
    assert "floor" in refused(guards)
    assert guards["floor"].overridable
    assert "192.0.2.0/24 would be served by 2 nodes, at least 3" in guards["floor"].numbers


def test_what_is_not_known_counts_as_unhealthy() -> None:
    store = healthy_store()
    later = NOW + 20
    store.apply([msgspec.structs.replace(f, at=later) for f in list(store) if f.node in ("fra1", "fra2")])
    guards = judge(store, now=later, nodes=("fra1",))
    assert {"floor", "sites"} <= refused(guards)


def test_sites_are_counted_apart_from_nodes() -> None:
    guards = judge(healthy_store(), nodes=("ams1", "lon1", "sin1"))
    assert "sites" in refused(guards)
    assert "from 1 sites, at least 2" in guards["sites"].numbers


def test_a_region_is_not_left_without_saying_so() -> None:
    store = healthy_store()
    fleet = store.inventory
    sites = tuple(msgspec.structs.replace(s, region="asia") if s.name == "sin" else s for s in fleet.sites)
    apart = FleetStore(msgspec.structs.replace(fleet, sites=sites))
    apart.apply(list(store))
    assert "leaves region asia" in judge(apart, nodes=("sin1",))["regions"].numbers
    assert "regions" not in refused(judge(apart, nodes=("fra1",)))
    four = msgspec.structs.replace(fleet.guards, min_per_region=4)
    wide = healthy_store(msgspec.structs.replace(fleet, sites=sites, guards=four))
    assert "is left on 3 nodes in region eu" in judge(wide, nodes=("fra1",))["regions"].numbers


@pytest.mark.parametrize("how", ["old", "unreachable"])
def test_old_evidence_is_no_ground_to_act_on(how: str) -> None:
    store = healthy_store()
    now = NOW
    if how == "old":
        now = NOW + 31
        store.apply([msgspec.structs.replace(f, at=now) for f in list(store) if f.node != "fra1"])
    else:
        change(store, ("link", "fra1"), state=LinkState.BACKOFF)
    guards = judge(store, now=now, nodes=("fra1",))
    assert guards["evidence"].refuses
    assert not guards["evidence"].overridable
    assert "fra1" in guards["evidence"].numbers


def test_somebody_elses_unconfirmed_change_is_waited_for() -> None:
    store = healthy_store()
    change(store, ("speaker", "fra1", "bird"), pending="undo in 57 s")
    guards = judge(store, nodes=("fra1",))
    assert guards["pending"].refuses
    assert "undo in 57 s" in guards["pending"].numbers
    assert "pending" not in refused(judge(store, nodes=("fra2",)))


def test_drift_is_settled_first() -> None:
    store = healthy_store()
    change(store, ("export", "fra1", "bird", "ix1_v4", "192.0.2.0/24"), exported=Exported.ABSENT)
    assert "drift" in refused(judge(store, nodes=("fra1",), tenants=("nic",)))


def test_a_session_disabled_by_hand_is_not_enabled_again_without_a_word() -> None:
    store = healthy_store()
    change(store, ("session", "fra1", "bird", "ix1_v4"), state=SessionState.ADMIN_DOWN, since="18:02:11.004")
    drift = judge(store, nodes=("fra1",), tenants=("nic",))["drift"]
    assert drift.refuses
    assert drift.overridable
    assert drift.numbers == (
        "fra1 ix1_v4 disabled by hand on the node since 18:02:11; "
        "this change ends with a plain `configure`, which enables it again: it would silently undo that"
    )
    assert "drift" not in refused(judge(store, nodes=("fra2",), tenants=("nic",)))


def test_a_drain_file_that_differs_from_the_daemon_is_settled_first() -> None:
    store = healthy_store()
    change(store, ("speaker", "fra1", "bird"), drain_serial=7, disk_serial=9, at=NOW - 60)
    store.apply([Beat(node="fra1", at=NOW, sections=("bird",))])
    drift = judge(store, nodes=("fra1",), tenants=("nic",))["drift"]
    assert drift.refuses
    assert drift.numbers == "fra1: drain file says serial 9, the daemon 7"


def test_an_overdue_hard_drain_counts_again_once_it_is_put_back() -> None:
    store = healthy_store()
    note = DrainNote(operator="alice", expires=NOW - 3600).text()
    pairs = ((1, 11), (1, 12), (1, 31), (1, 32))
    for name in ("fra1", "fra2", "ams1", "lon1"):
        change(store, ("speaker", name, "bird"), drain_hard=pairs, drain_serial=4, drain_note=note)
        for key in [
            f.key for f in store if f.key[:2] == ("export", name) and f.key[4] in ("192.0.2.0/24", "2001:db8:de::/48")
        ]:
            change(store, key, exported=Exported.ABSENT)
    out = make_plan(store, DrainRequest(level=Level.HARD, nodes=("sin1",), tenants=("de",)), NOW).changes
    back = make_plan(store, DrainRequest(level=Level.SERVE, nodes=("fra1",), tenants=("de",)), NOW).changes
    alone, swapped = ({g.name: g for g in evaluate(store, changes, NOW)} for changes in (out, (*back, *out)))
    assert "last announcer" in refused(alone)
    assert "last announcer" not in refused(swapped)


def test_what_does_not_answer_is_not_put_back() -> None:
    store = healthy_store()
    change(store, ("speaker", "fra1", "bird"), drain_hard=((1, 11), (1, 12), (1, 31), (1, 32)), drain_serial=4)
    change(store, ("instance", "fra1", "de"), running=False, detail="connection refused")
    guards = judge(store, Level.SERVE, nodes=("fra1",), tenants=("de",))
    assert "answers" in refused(guards)
    assert "nsd is not running" in guards["answers"].numbers


def test_a_soft_drain_withdraws_nothing() -> None:
    guards = judge(healthy_store(), Level.SOFT, tenants=("de",))
    assert refused(guards) == set()
    assert guards["floor"].numbers == "nothing is withdrawn"


# --- what is put back must be fit to serve


def undrained(store: FleetStore) -> dict[str, GuardVerdict]:
    change(store, ("speaker", "fra1", "bird"), drain_hard=((1, 11), (1, 12), (1, 31), (1, 32)))
    return judge(store, Level.SERVE, nodes=("fra1",), tenants=("de",))


def test_nothing_is_put_back_on_a_session_that_is_down() -> None:
    store = healthy_store()
    change(store, ("session", "fra1", "bird", "ix1_v4"), state=SessionState.ACTIVE)
    guards = undrained(store)
    assert guards["sessions"].refuses
    assert "fra1 ix1_v4 Active" in guards["sessions"].numbers


def test_an_instance_with_an_old_zone_is_not_put_back() -> None:
    store = healthy_store()
    change(store, ("instance", "fra1", "de"), serials={"de.example": 1})
    guards = undrained(store)
    assert guards["serials"].refuses
    assert "de.example serial 1" in guards["serials"].numbers


def test_a_node_whose_clock_is_wrong_is_left_alone() -> None:
    store = healthy_store()
    change(store, ("host", "fra1"), clock_offset=90.0)
    guards = undrained(store)
    assert guards["clock"].refuses
    assert "fra1 is off by +90.0 s" in guards["clock"].numbers


def test_a_clock_that_nobody_sees_is_asked_about() -> None:
    store = healthy_store()
    guards = judge(store, now=NOW + 3600, nodes=("fra1",))
    assert guards["clock"].outcome is Outcome.ASK
    assert "fra1" in guards["clock"].numbers


def test_a_zone_is_compared_with_what_the_others_have_and_not_with_itself() -> None:
    store = healthy_store()
    for node in ("fra2", "ams1", "lon1", "sin1"):
        change(store, ("instance", node, "de"), serials={})
    guards = undrained(store)
    assert guards["serials"].outcome is Outcome.ASK
    assert "nobody else's serial is known" in guards["serials"].numbers
    change(store, ("instance", "ams1", "de"), serials={"de.example": 7})
    assert undrained(store)["serials"].refuses


def test_a_node_that_somebody_else_is_changing_counts_as_serving_nothing() -> None:
    store = healthy_store()
    for node in ("lon1", "sin1"):
        change(store, ("speaker", node, "bird"), pending="unconfirmed")
    guards = judge(store, nodes=("fra1",), tenants=("de",))
    assert guards["floor"].refuses
    assert "served by 2 nodes, at least 3" in guards["floor"].numbers


def test_a_node_that_could_not_be_looked_at_afresh_counts_as_serving_nothing() -> None:
    store = healthy_store()
    plan = make_plan(store, DrainRequest(level=Level.HARD, nodes=("fra1",), tenants=("de",)), NOW)
    guards = {
        g.name: g for g in evaluate(store, plan.changes, NOW, unconfirmed=True, unseen={"lon1", "sin1", "ams1", "fra2"})
    }
    assert guards["last announcer"].refuses
    assert "pending" not in guards


# --- measured capacity


def measured(qps: float, *, but: str = "") -> FleetStore:
    store = healthy_store()
    store.apply(
        Capacity(
            node=n.name,
            section="loadtest",
            at=NOW,
            tenant=i.tenant,
            qps=qps,
            measured_at=NOW - 2 * 86400,
            how="load test 7f3a",
        )
        for n in store.inventory.nodes
        for i in n.instances
        if n.name != but
    )
    return store


def test_measured_capacity_lets_a_drain_pass_and_says_how_it_was_measured() -> None:
    guard = judge(measured(1000.0), nodes=("fra1",))["capacity"]
    assert guard.outcome is Outcome.OK
    assert "24 q/s are 2%" in guard.numbers
    assert "load test 7f3a, 2d0h ago" in guard.numbers


def test_what_would_fill_another_node_is_refused_and_can_be_overridden() -> None:
    guard = judge(measured(30.0), nodes=("fra1",))["capacity"]
    assert guard.refuses
    assert guard.overridable
    assert "80%" in guard.numbers
    assert "70% are allowed" in guard.numbers


def test_one_node_that_was_never_measured_is_asked_about() -> None:
    guard = judge(measured(1000.0, but="sin1"), nodes=("fra1",), tenants=("de",))["capacity"]
    assert guard.outcome is Outcome.ASK
    assert "de on sin1" in guard.numbers
    assert "worst case where it was" in guard.numbers


def test_load_that_is_not_known_is_not_taken_for_none() -> None:
    store = measured(1000.0)
    change(store, ("instance", "fra1", "de"), running=False)
    guard = judge(store, nodes=("fra1",))["capacity"]
    assert guard.outcome is Outcome.ASK
    assert guard.numbers == "how much moves is not known: de on fra1"


def test_a_tenant_that_is_not_set_up_in_a_cluster_refuses_no_drain_of_another() -> None:
    store = settled_hybrid()
    mine = store.inventory.tenant("de").prefixes
    for fact in list(store):
        if isinstance(fact, Export) and fact.node in ("hv1", "hv2") and fact.prefix in mine:
            change(store, fact.key, exported=Exported.ABSENT)
    other = Change(
        node="hv1", speaker="calico", session="198.19.11.1", peer="ix1", tenant="nic", prefix="198.51.100.0/24", before=Intent.SERVE,
        after=Intent.HARD, exported=Exported.ANNOUNCED,
    )  # fmt: skip

    def drift() -> GuardVerdict:
        return next(guard for guard in evaluate(store, [other], NOW) if guard.name == "drift")

    for name in ("hv1", "hv2"):
        change(store, ("instance", name, "de"), running=False, is_ready=False)
    assert drift().refuses
    assert "intended serve, but not announced" in drift().numbers
    change(store, ("tenant_set", CLUSTER, "de"), is_set_up=False)
    assert drift().refuses, "it may still have a pod"
    for name in ("hv1", "hv2"):
        change(store, ("instance", name, "de"), is_absent=True)
    assert (drift().outcome, drift().numbers.partition("; ")[2]) == (Outcome.OK, "de is not set up in k3s")
