"""Guards and scope of set-up and teardown: what isn't known is traffic, and the end of a tenant wants its name and a reason."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from anyconsole.actions.guards import Change, GuardVerdict, Outcome
from anyconsole.actions.plan import Plan, Step, render
from anyconsole.actions.stack import guards
from anyconsole.actions.stack.proofs import Seen, layers, serials_in
from anyconsole.actions.stack.request import StackRequest, Way, hosting, scope_of
from anyconsole.drivers.kube.rollout import Rollout
from anyconsole.errors import AnyconsoleError
from anyconsole.model import verdicts
from anyconsole.model.facts import Exported, LinkState, Observation
from anyconsole.model.inventory import StackSpec, StackTenant
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Intent
from tests.fleet import CLUSTER, NOW, healthy_hybrid, hybrid, inventory, name_server_pod

FLEET = hybrid()


def step(store: FleetStore, tenant: str = "de", *findings: GuardVerdict) -> Step:
    changes = tuple(
        Change(
            node=node.name, speaker=speaker.name, session=session.name, peer=session.peer, tenant=tenant, prefix=prefix,
            before=Intent.SERVE, after=Intent.HARD, exported=Exported.ANNOUNCED,
        )
        for node in hosting(FLEET, FLEET.cluster(CLUSTER), tenant)
        for speaker, session, owner, prefix in verdicts.node_announcements(store, node)
        if owner.name == tenant
    )  # fmt: skip
    return Step(
        host=CLUSTER, part=f"tenant-{tenant}", title="", apply="", confirm="", revert="", hold=60, lasting=True,
        findings=findings, changes=changes,
    )  # fmt: skip


def judged(store: FleetStore, way: Way, *steps: Step) -> dict[str, GuardVerdict]:
    return {g.name: g for g in guards.evaluate(store, way, steps or [step(store)], NOW)}


def changed(store: FleetStore, kind: str, node: str, **fields: object) -> None:
    for fact in [fact for fact in store if fact.kind == kind and fact.node == node]:
        new: Observation = msgspec.structs.replace(fact, **fields)
        store.apply([new])


# Teardown


def test_what_is_announced_and_asked_is_not_torn_down() -> None:
    told = judged(healthy_hybrid(), Way.TEARDOWN)
    assert told["drained"].refuses
    assert "anyconsole drain --tenant de --node hv1 --node hv2 --hard" in told["drained"].numbers, (
        "there, and nowhere else"
    )
    assert told["live traffic"].refuses
    assert "de on hv1 answers 9.0 q/s" in told["live traffic"].numbers
    assert told["last announcer"].outcome is Outcome.OK, "the bare nodes go on"


def test_what_is_withdrawn_and_silent_is() -> None:
    store = healthy_hybrid()
    for node in ("hv1", "hv2"):
        changed(store, "export", node, exported=Exported.ABSENT)
        changed(store, "rates", node, qps=0.0)
    told = judged(store, Way.TEARDOWN)
    assert [g.name for g in told.values() if g.refuses] == []


@pytest.mark.parametrize(
    ("guard", "forget"),
    [
        ("live traffic", lambda store: changed(store, "rates", "hv1", at=NOW - 600, section="old")),
        ("drained", lambda store: changed(store, "export", "hv1", exported=Exported.UNKNOWN)),
    ],
)
def test_what_is_not_known_counts_as_live(guard: str, forget: Callable[[FleetStore], None]) -> None:
    store = healthy_hybrid()
    for node in ("hv1", "hv2"):
        changed(store, "export", node, exported=Exported.ABSENT)
        changed(store, "rates", node, qps=0.0)
    forget(store)
    told = judged(store, Way.TEARDOWN)[guard]
    assert told.refuses
    assert "known" in told.numbers


def test_the_end_of_a_tenant_is_refused_and_can_be_overridden_unlike_in_a_drain() -> None:
    store = healthy_hybrid()
    for node in ("fra1", "ams1"):
        changed(store, "export", node, exported=Exported.ABSENT)
    told = judged(store, Way.TEARDOWN)["last announcer"]
    assert told.refuses
    assert told.overridable


def test_a_node_that_could_not_be_looked_at_serves_nothing_and_is_not_silent() -> None:
    store = healthy_hybrid()
    told = {g.name: g for g in guards.evaluate(store, Way.TEARDOWN, [step(store)], NOW, unseen={"fra1", "ams1", "hv1"})}
    assert told["last announcer"].refuses
    assert "de on hv1 answers an unknown rate" in told["live traffic"].numbers


# Set-up


def test_what_planning_found_is_repeated_and_the_gravest_decides_whether_it_can_be_overridden() -> None:
    store = healthy_hybrid()

    def finding(numbers: str, *, may: bool) -> GuardVerdict:
        return GuardVerdict(name="conflicts", outcome=Outcome.REFUSE, numbers=numbers, overridable=may)

    told = judged(
        store, Way.SETUP, step(store, "de", finding("a", may=True)), step(store, "nic", finding("b", may=False))
    )
    assert (told["conflicts"].numbers, told["conflicts"].overridable) == ("a; b", False)
    assert not told["foreign"].refuses


def test_a_node_that_takes_no_pods_is_named() -> None:
    store = healthy_hybrid()
    assert not judged(store, Way.SETUP)["nodes"].refuses
    changed(store, "cluster_node", "hv2", is_cordoned=True)
    assert judged(store, Way.SETUP)["nodes"].numbers == "hv2 is cordoned"


def test_pods_of_a_tenant_that_nobody_else_serves_are_not_just_restarted() -> None:
    store = healthy_hybrid()
    new_pods = GuardVerdict(name="restarts", outcome=Outcome.REFUSE, numbers="ns-nsd")
    assert not judged(store, Way.SETUP, step(store, "de", new_pods))["restarts"].refuses
    for node in ("fra1", "ams1", "hv2"):
        changed(store, "export", node, exported=Exported.ABSENT)
    assert "1 nodes serve it now" in judged(store, Way.SETUP, step(store, "de", new_pods))["restarts"].numbers
    assert judged(store, Way.SETUP, step(store, "de", new_pods))["restarts"].refuses


def test_nothing_is_begun_on_a_cluster_that_doesnt_answer() -> None:
    store = healthy_hybrid()
    changed(store, "link", CLUSTER, state=LinkState.STALE)
    for way in Way:
        told = judged(store, way)["connected"]
        assert told.refuses
        assert not told.overridable


# Scope, plan, proofs


def test_a_scope_is_tenants_on_clusters_and_nothing_else() -> None:
    assert [(c.name, [t.name for t in ts]) for c, ts in scope_of(FLEET, StackRequest(tenants=("nic", "de")))] == [
        ("k3s", ["de", "nic"])
    ]
    for request, words in (
        (StackRequest(tenants=("xy",)), "there is no tenant 'xy'"),
        (StackRequest(clusters=("k4s",)), "there is no cluster 'k4s'"),
    ):
        with pytest.raises(AnyconsoleError, match=words):
            scope_of(FLEET, request)
    with pytest.raises(AnyconsoleError, match=r"no \[\[cluster\]\]"):
        scope_of(inventory(), StackRequest())


def test_a_plan_says_that_what_is_done_stays_and_promises_no_end_by_itself() -> None:
    plan = Plan(action="setup", title="x", profile="p", made_at=NOW, steps=(step(healthy_hybrid()),), notes=("n",))
    said = render(plan, ())
    assert "lasts  what of it is done stays" in said
    assert "by itself" not in said
    assert "NOTE  n" in said
    assert "confirm, on" not in said
    nothing = msgspec.structs.replace(plan, steps=(), settled="de on k3s: as the profile says")
    assert "Nothing to change: de on k3s: as the profile says." in render(nothing, ())


def test_only_lines_that_make_sense_are_serials() -> None:
    told = serials_in("hv1", "de.example 7 8\nnic.example - 8\nnoise\nx y z\n")
    assert [(s.zone, s.here, s.primary) for s in told] == [("de.example", 7, 8), ("nic.example", None, 8)]


def test_routes_that_can_be_seen_have_to_be_gone() -> None:
    store = healthy_hybrid()
    seen = Seen(done=3, total=3, is_looked=True)
    routes = {p.layer: p for p in layers(store, Way.TEARDOWN, step(store), seen, NOW)}["routes"]
    assert (routes.met, routes.required) == (False, True)
    for node in ("hv1", "hv2"):
        changed(store, "export", node, exported=Exported.ABSENT)
    assert all(p.met for p in layers(store, Way.TEARDOWN, step(store), seen, NOW))
    assert not all(p.met for p in layers(store, Way.TEARDOWN, step(store), Seen(), NOW)), "nobody has looked"


def test_pods_that_wait_for_their_key_say_what_to_do() -> None:
    store = healthy_hybrid(
        msgspec.structs.replace(
            FLEET,
            stack=StackSpec(tenants=(StackTenant(tenant="de", primaries=("198.18.8.1",), tsig_secret="tsig"),)),  # noqa: S106 - a name
        )
    )
    waiting = name_server_pod("de", "hv1", is_ready=False, trouble="ContainerCreating", owner="Deployment/ns-nsd")
    store.apply([waiting])
    seen = Seen(
        done=1, total=1, is_looked=True, rollouts=(Rollout(name="ns-nsd", ready=1, wanted=2, is_complete=False),)
    )

    def words() -> str:
        return {p.layer: p.words for p in layers(store, Way.SETUP, step(store), seen, NOW)}["workloads"]

    assert words() == "ns-nsd 1 of 2 ready; ns.de-7c89b7799b-hv1: ContainerCreating"
    event = store.cluster_events(CLUSTER, "de")[0]
    message = 'MountVolume.SetUp failed for volume "tsig" : secret "tsig" not found'
    store.apply([msgspec.structs.replace(event, name="ns.1", reason="FailedMount", message=message)])
    assert "kubectl -n de create secret generic tsig" in words()
