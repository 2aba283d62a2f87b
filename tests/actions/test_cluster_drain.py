"""Plans for nodes in a cluster: each step from what the one before leaves, and what stands in the way said before anything is tried."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from anyconsole.actions.drain import DrainRequest, Level, make_plan
from anyconsole.actions.guards import Outcome, evaluate
from anyconsole.actions.plan import Plan, render
from anyconsole.actions.runner import COMMAND_DEADLINE
from anyconsole.drivers.kube.advertising import CalicoObjects, NodeDrain, drain_of
from anyconsole.drivers.kube.calico import serial_of
from anyconsole.drivers.kube.calico_transaction import routing_config
from anyconsole.drivers.kube.levers import applied, plan_levers
from anyconsole.drivers.kube.lock import Lock
from anyconsole.drivers.kube.script import Verb, parse
from anyconsole.model.facts import InstanceStatus, SpeakerStatus
from anyconsole.model.inventory import Inventory, NodeSpec
from anyconsole.model.pods import Cluster, Permission
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Intent
from tests.drivers.kube.calico_fleet import DE, EVERYTHING, IX1_V4, IX1_V6, bgp_peers, calico_object, inventory, objects

FLEET = inventory()
HV1, HV2 = FLEET.nodes
NOW = 1_795_460_000.0
READY = Lock(has_account=True)


def seen(
    world: CalicoObjects,
    lock: Lock | None = READY,
    denied: tuple[Permission, ...] = (),
    obstacle: str = "",
    fleet: Inventory = FLEET,
) -> FleetStore:
    """A store that was told of these objects."""
    store = FleetStore(fleet)
    store.apply([
        routing_config(world, "k3s", NOW, lock, obstacle),
        Cluster(node="k3s", section="api", at=NOW, user="alice", denied=denied),
        *(speaker(world, node) for node in FLEET.nodes),
    ])  # fmt: skip
    return store


def speaker(world: CalicoObjects, node: NodeSpec) -> SpeakerStatus:
    drain = drain_of(world, FLEET, node)
    return SpeakerStatus(
        node=node.name, section="calico", at=NOW, speaker="calico", daemon="calico", running=True, drain_note=drain.note,
        drain_hard=drain.hard, drain_soft=drain.soft, drain_serial=serial_of(drain), pending=drain.pending,
    )  # fmt: skip


def planned(store: FleetStore, level: Level, **scope: Any) -> Plan:  # noqa: ANN401 - any part of a request
    scope = {"nodes": ("hv1",)} | scope
    return make_plan(store, DrainRequest(level=level, reason="disk", operator="alice", **scope), NOW)


def drained(world: CalicoObjects, *hard: tuple[int, int], node: NodeSpec = HV1) -> CalicoObjects:
    return applied(world, plan_levers(world, FLEET, node, NodeDrain(hard=tuple(sorted(hard)), note="by=bob")).changes)


def intents(plan: Plan) -> list[tuple[str, set[tuple[Intent, Intent]]]]:
    return [(step.host, {(c.before, c.after) for c in step.changes}) for step in plan.steps]


def test_the_steps_of_all_nodes_of_a_cluster_build_on_each_other_in_one_lane() -> None:
    plan = planned(seen(objects()), Level.SOFT_THEN_HARD, nodes=("hv1", "hv2"), peers=("ix1",), tenants=("de",))
    assert plan.missing == ()
    assert intents(plan) == [
        (host, {change})
        for host in ("hv1", "hv2")
        for change in ((Intent.SERVE, Intent.SOFT), (Intent.SOFT, Intent.HARD))
    ]
    assert {step.place for step in plan.steps} == {"k3s"}
    soft, hard, other, _ = (parse(step.apply) for step in plan.steps)
    # The second stage finds the copies that the first one made, the second node the original that is left to them already.
    assert [c.path for c in soft if c.verb is Verb.CREATE and "bgppeers" in c.path]
    assert not [c.path for c in hard if c.verb is Verb.CREATE and "bgppeers" in c.path]
    assert f"drain.anyconsole.io/peer-{IX1_V4}" in str([c.body for c in other if c.verb is Verb.EXPECT])
    told = render(plan, evaluate(seen(objects()), plan.changes, NOW))
    assert "create BGPFilter anyconsole-soft-hv1" in told
    shown, scripts = told.split("SCRIPT 1 apply", 1)
    assert "   diff    + spec.filters: [anyconsole-soft-hv1" in shown
    assert "   diff    - spec.nodeSelector: rack == 'r1'\n" in shown
    assert "import http.client" not in shown
    assert "\n              import http.client\n" in scripts, "the dead-man can be read before it is let loose"
    assert "&id" not in scripts


def test_nothing_can_be_pulled_behind_the_dead_mans_back() -> None:
    """It never takes a change back while the script that makes it may still be under way."""
    limits = msgspec.structs.replace(FLEET.guards, hold=10)
    store = seen(objects(), fleet=msgspec.structs.replace(FLEET, guards=limits))
    (step,) = planned(store, Level.HARD).steps
    assert step.hold > COMMAND_DEADLINE
    assert f'"hold": {step.hold}' in step.apply


def test_the_dead_man_is_awake_before_anything_is_marked_and_that_before_anything_is_pulled() -> None:
    (step,) = planned(seen(objects()), Level.HARD).steps
    verbs = [(call.verb, call.path.rpartition("/")[2]) for call in parse(step.apply)]
    assert verbs == [
        (Verb.EXPECT, HV1.address),
        (Verb.CREATE, "leases"),
        (Verb.CREATE, "jobs"),
        (Verb.AWAIT, "unconfirmed-change"),
        (Verb.EXPECT, HV1.address),
        (Verb.MERGE, HV1.address),
        (Verb.EXPECT, HV1.address),
        (Verb.MERGE, HV1.address),
    ]


def test_an_undrain_without_a_canary_says_so_and_serves() -> None:
    world = drained(objects(version="v3.28.0"), (DE, IX1_V4), (DE, IX1_V6))
    plan = planned(seen(world), Level.SERVE)
    assert plan.missing == ()
    assert intents(plan) == [("hv1", {(Intent.HARD, Intent.SERVE)})]
    assert "serves at once" in "".join(plan.steps[0].about)
    assert not plan.steps[0].waits_for
    # A drain has no such way out: it is said what can be had.
    soft = planned(seen(objects(version="v3.28.0")), Level.SOFT_THEN_HARD, peers=("ix1",), tenants=("de",))
    assert soft.steps == ()
    assert "came with Calico 3.32" in soft.missing[0]


@pytest.mark.parametrize(
    ("lock", "denied", "obstacle", "why"),
    [
        (Lock(has_account=False), (), "", "set-up of the cluster first: k3s has no ServiceAccount dead-man"),
        (Lock(), (), "", "is not known"),
        (None, (), "", "is not known"),
        (Lock(has_account=True), (), "no permission: list ippools", "k3s: no permission: list ippools"),
        (
            Lock(has_account=True),
            (Permission(verb="patch", resource="nodes"),),
            "",
            "no permission for alice: patch nodes",
        ),
        (
            Lock(has_account=True),
            (Permission(verb="create", resource="jobs", group="batch", namespace="anyconsole"),),
            "",
            "create jobs.batch in anyconsole",
        ),
    ],
)
def test_what_stands_in_the_way_is_said_and_nothing_planned(
    lock: Lock | None, denied: tuple[Permission, ...], obstacle: str, why: str
) -> None:
    plan = planned(seen(objects(), lock, denied, obstacle), Level.SOFT_THEN_HARD)
    assert plan.steps == ()
    assert len(plan.missing) == 1
    assert why in plan.missing[0]


@pytest.mark.parametrize("resource", ["nodes", "bgpfilters", "caliconodestatuses"])
def test_a_drain_state_that_may_not_be_seen_is_said_to_be_denied(resource: str) -> None:
    store = seen(objects(), denied=(Permission(verb="list", resource=resource),))
    store.apply([msgspec.structs.replace(speaker(objects(), HV1), drain_serial=None)])
    plan = planned(store, Level.SOFT_THEN_HARD)
    assert plan.steps == ()
    why = f"(no permission: list {resource} in all namespaces), so nothing can be planned there"
    assert plan.missing == (f"hv1 calico: its drain state is not known {why}",)


def test_what_is_denied_elsewhere_stands_in_nobodys_way() -> None:
    denied = (Permission(verb="create", resource="jobs", group="batch", namespace="de"),)
    assert planned(seen(objects(), denied=denied), Level.HARD).missing == ()


def test_what_others_filtered_stands_in_nobodys_way_while_it_is_as_wanted() -> None:
    theirs = calico_object("theirs", exportV4=[{"cidr": "198.51.100.0/24", "matchOperator": "In", "action": "Reject"}])
    world = objects(version="v3.28.0", peer=bgp_peers(node=HV1.address, filters=["theirs"]), filter=[theirs])
    plan = planned(seen(world), Level.HARD, tenants=("de",))
    assert plan.missing == ()


def test_anybodys_unconfirmed_change_in_the_cluster_refuses_one_and_a_lock_that_expired_is_taken_over() -> None:
    store = seen(objects(), Lock(has_account=True, holder="bob.1.a", uid="u1"))
    plan = planned(store, Level.HARD)
    (pending,) = [g for g in evaluate(store, plan.changes, NOW) if g.name == "pending"]
    assert (pending.outcome, pending.overridable) == (Outcome.REFUSE, False)
    assert pending.numbers == "k3s: bob.1.a has an unconfirmed change there"
    left = seen(objects(), Lock(has_account=True, holder="bob.1.a", uid="u1", expires_at=NOW - 1))
    plan = planned(left, Level.HARD)
    assert [g.outcome for g in evaluate(left, plan.changes, NOW) if g.name == "pending"] == [Outcome.OK]
    _, expect, delete, *_ = parse(plan.steps[0].apply)
    assert (expect.body, expect.else_skip, delete.verb) == ({"metadata": {"uid": "u1"}}, True, Verb.DELETE)


def test_a_ready_pod_has_current_zones_and_one_that_is_not_watched_must_tell_its_serials() -> None:
    world = drained(objects(), *EVERYTHING)
    store = seen(world)
    plan = planned(store, Level.SERVE)
    assert plan.missing == ()

    def serials(*, is_ready: bool | None) -> Outcome:
        instance = InstanceStatus(
            node="hv1", section="pod:de", at=NOW, tenant="de", daemon="nsd", running=True, is_ready=is_ready
        )
        other = msgspec.structs.replace(instance, section="pod:nic", tenant="nic")
        store.apply([instance, other])
        return next(g.outcome for g in evaluate(store, plan.changes, NOW) if g.name == "serials")

    assert serials(is_ready=True) is Outcome.OK
    assert serials(is_ready=None) is not Outcome.OK


def test_what_is_too_much_for_one_change_is_not_begun() -> None:
    theirs = [f"{'x' * 60}-{n}" for n in range(1000)]
    world = objects(peer=bgp_peers(node=HV1.address, filters=theirs))
    plan = planned(seen(world), Level.HARD, tenants=("de",))
    assert plan.steps == ()
    assert "choose fewer tenants or sessions" in plan.missing[0]


def test_what_changes_while_it_is_planned_is_planned_again() -> None:
    store = seen(objects())
    store.apply([routing_config(drained(objects(), *EVERYTHING), "k3s", NOW, Lock(has_account=True))])
    plan = planned(store, Level.HARD)
    assert plan.steps == ()
    assert "plan again" in plan.missing[0]
