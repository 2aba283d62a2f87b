"""What a cluster's facts mean: its nodes are judged by what Kubernetes says of them, and bare nodes beside them stay as they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from anyconsole.model import verdicts
from anyconsole.model.drain_note import DrainNote
from anyconsole.model.facts import Answer, Beat, Export, Exported, LinkState
from anyconsole.model.report import summary
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Verdict
from tests.fleet import CLUSTER, NOW, healthy_hybrid, settled_hybrid

NODE = ("cluster_node", "hv1")
INSTANCE = ("instance", "hv1", "de")


def change(store: FleetStore, key: tuple[str, ...], **fields: object) -> None:
    fact = store.get(key)
    assert fact is not None, key
    store.apply([msgspec.structs.replace(fact, **fields)])


def node(store: FleetStore, name: str = "hv1", now: float = NOW) -> tuple[Verdict, str]:
    seen = verdicts.node(store, store.inventory.node(name), now)
    return seen.verdict, seen.reason


def instance(store: FleetStore) -> tuple[Verdict, str]:
    spec = store.inventory.node("hv1")
    seen = verdicts.instance(store, spec, spec.instances[0], NOW)
    return seen.verdict, seen.reason


def test_a_healthy_hybrid_fleet_serves_everywhere() -> None:
    store = healthy_hybrid()
    assert {node(store, n.name) for n in store.inventory.nodes} == {(Verdict.SERVING, "")}
    assert summary(store, NOW)[0] == 0


@pytest.mark.parametrize(
    ("fields", "verdict", "words"),
    [
        (
            {"is_ready": False, "troubles": ("NotReady: KubeletNotReady: PLEG is not healthy",)},
            Verdict.DOWN,
            "Kubernetes node is not ready: KubeletNotReady: PLEG is not healthy",
        ),
        ({"is_ready": None, "troubles": ("Ready unknown",)}, Verdict.STALE, "its kubelet has stopped telling of it"),
        ({"is_cordoned": True}, Verdict.DEGRADED, "cordoned"),
        ({"troubles": ("DiskPressure: 2 % left",), "is_cordoned": True}, Verdict.DEGRADED, "DiskPressure: 2 % left (+1 more)"),
        (
            {"excluded": True},
            Verdict.DRIFT,
            "withdrawn by hand: the node has the label node.kubernetes.io/exclude-from-external-load-balancers",
        ),
    ],
)  # fmt: skip
def test_what_kubernetes_says_of_a_node_is_said_of_it(fields: dict[str, object], verdict: Verdict, words: str) -> None:
    store = healthy_hybrid()
    change(store, NODE, **fields)
    assert node(store) == (verdict, words)
    assert node(store, "hv2") == node(store, "fra1") == (Verdict.SERVING, "")


def test_the_exclude_label_is_no_drift_where_a_drain_of_ours_set_it() -> None:
    store = healthy_hybrid()
    change(store, NODE, excluded=True)
    note = DrainNote(operator="alice", ticket="CHG1", reason="kernel").text()
    pairs = tuple((t, s) for t in (1, 2, 3) for s in (11, 12, 31, 32))
    change(store, ("speaker", "hv1", "calico"), drain_hard=pairs, drain_note=note, drain_serial=7)
    for fact in list(store):
        if fact.kind == "export" and fact.node == "hv1":
            change(store, fact.key, exported=Exported.ABSENT)
    assert node(store)[0] is Verdict.DRAINED
    assert "alice" in node(store)[1]


def test_a_node_that_is_not_ready_explains_its_pods() -> None:
    store = healthy_hybrid()
    change(store, NODE, is_ready=False)
    change(store, INSTANCE, is_ready=False, detail="NodeNotReady")
    for fact in list(store):
        if fact.kind == "export" and fact.node == "hv1":
            change(store, fact.key, exported=Exported.ABSENT)
    assert node(store) == (Verdict.DOWN, "Kubernetes node is not ready")


def test_a_pod_that_is_not_ready_does_not_answer_whoever_announces_it() -> None:
    store = healthy_hybrid()
    change(store, INSTANCE, is_ready=False, detail="observer: SOA of de.example is 3 h old")
    words = "pod is not ready: observer: SOA of de.example is 3 h old, but announced"
    assert instance(store) == (Verdict.BLACKHOLE, words)
    assert node(store) == (Verdict.BLACKHOLE, f"de: {words}")


def test_a_node_without_the_pod_has_no_name_server_running() -> None:
    store = healthy_hybrid()
    change(store, INSTANCE, running=False, is_ready=False, detail="no pod on this node")
    assert instance(store) == (Verdict.BLACKHOLE, "nsd is not running (no pod on this node), but announced")


def test_where_somebody_asks_from_the_node_their_answer_counts_too() -> None:
    store = healthy_hybrid()
    tenant = store.inventory.tenant("de")
    assert verdicts.answering(store, "hv1", tenant, tenant.addresses, NOW) == (True, "")
    answer = Answer(
        node="hv1", section="dns", at=NOW, tenant="de", address="192.0.2.53", zone="de.example", error="timeout"
    )
    store.apply([answer])
    assert verdicts.answering(store, "hv1", tenant, tenant.addresses, NOW) == (
        False,
        "192.0.2.53 timeout for de.example",
    )


def test_readiness_that_is_not_known_or_old_is_no_answer() -> None:
    store = healthy_hybrid()
    tenant = store.inventory.tenant("de")
    assert verdicts.answering(store, "hv1", tenant, tenant.addresses, NOW + 60) == (None, "not asked yet")
    change(store, INSTANCE, is_ready=None)
    assert verdicts.answering(store, "hv1", tenant, tenant.addresses, NOW) == (None, "not asked yet")


def test_an_api_server_that_is_lost_makes_its_nodes_stale_and_leaves_the_others_alive() -> None:
    store = healthy_hybrid()
    for name in ("hv1", "hv2"):
        change(store, ("link", name), state=LinkState.BACKOFF, detail="k3s: connection refused", error="refused")
    assert node(store) == (Verdict.STALE, "k3s: connection refused")
    assert node(store, "fra1") == (Verdict.SERVING, "")


def test_an_api_server_that_hangs_makes_its_nodes_stale_by_itself() -> None:
    store = healthy_hybrid()
    bare = {f.node for f in store} - {"hv1", "hv2", CLUSTER}
    store.apply([Beat(node=n, at=NOW + 9, sections=tuple(store.sections(n))) for n in bare])
    assert node(store, now=NOW + 9) == (Verdict.STALE, "nothing heard for 9 s")
    assert node(store, "fra1", NOW + 9) == (Verdict.SERVING, "")


def test_a_denied_login_is_said_in_the_clusters_words() -> None:
    store = healthy_hybrid()
    change(store, ("link", "hv1"), state=LinkState.DENIED, detail="k3s: 401 Unauthorized")
    assert node(store) == (Verdict.STALE, "denied: k3s: 401 Unauthorized")


def test_calico_has_time_to_do_as_its_objects_say_before_that_is_drift() -> None:
    """Objects are watched, BIRD is asked now and then: a drain is known before its effect can be."""
    store = healthy_hybrid()
    speaker = store.speaker("hv1", "calico")
    assert speaker is not None
    pairs = tuple((t, s) for t in (1, 2, 3) for s in (11, 12, 31, 32))
    store.apply([msgspec.structs.replace(speaker, at=NOW + 1, drain_soft=pairs, drain_serial=7)])
    assert node(store, now=NOW + 2)[0] is Verdict.UNKNOWN
    bare = store.speaker("fra1", "bird")
    assert bare is not None
    store.apply([msgspec.structs.replace(bare, at=NOW + 1, drain_soft=pairs, drain_serial=7)])
    assert node(store, "fra1", NOW + 2)[0] is Verdict.DRIFT, "a daemon's drain state and exports are read together"
    sections = {name: tuple(store.sections(name)) for name in ("hv1", CLUSTER)}
    store.apply([Beat(node=name, at=NOW + 6, sections=told) for name, told in sections.items()])
    assert node(store, now=NOW + 6) == (Verdict.DRIFT, "de: drained soft, but announced at full preference (+2 more)")


def test_pods_that_are_not_as_set_up_are_drift_of_their_tenant_and_of_nothing_else() -> None:
    store = healthy_hybrid()
    change(store, INSTANCE, drift="image of nsd is nsd:1, not nsd:2")
    seen = verdicts.tenant(store, store.inventory.tenant("de"), NOW)
    assert (seen.verdict, seen.reason) == (
        Verdict.DRIFT,
        "pods are not as set up on hv1: image of nsd is nsd:1, not nsd:2",
    )
    assert node(store) == (Verdict.SERVING, "")
    assert verdicts.tenant(store, store.inventory.tenant("nic"), NOW).verdict is Verdict.SERVING
    code, line = summary(store, NOW)
    assert code == 1
    assert "de DRIFT: pods are not as set up on hv1" in line


# --- what set-up made, and where it made nothing


def leave(store: FleetStore, tenant: str = "de", *, is_absent: bool = True, is_set_up: bool | None = False) -> None:
    """A tenant is nowhere in the cluster: no object, no pod, and nothing announced."""
    change(store, ("tenant_set", CLUSTER, tenant), is_set_up=is_set_up)
    for name in ("hv1", "hv2"):
        gone = {"running": False, "is_ready": False, "detail": "no pod on this node", "is_absent": is_absent}
        change(store, ("instance", name, tenant), **gone)
    prefixes = store.inventory.tenant(tenant).prefixes
    for fact in list(store):
        if isinstance(fact, Export) and fact.node in ("hv1", "hv2") and fact.prefix in prefixes:
            change(store, fact.key, exported=Exported.ABSENT)


def cells(store: FleetStore, now: float = NOW) -> set[tuple[Verdict, str]]:
    return {(c.verdict, c.reason) for c in verdicts.announcements(store, store.inventory.node("hv1"), now, "de")}


def test_a_tenant_that_is_not_set_up_is_down_and_no_drift() -> None:
    store = settled_hybrid()
    leave(store)
    assert cells(store) == {(Verdict.DOWN, "not set up in k3s")}
    assert instance(store) == (Verdict.DOWN, "not set up in k3s")
    assert node(store) == (Verdict.DOWN, "de: not set up in k3s")
    assert node(store, "fra1") == (Verdict.SERVING, "")
    seen = verdicts.tenant(store, store.inventory.tenant("de"), NOW)
    assert seen.verdict is Verdict.DEGRADED
    for name in ("fra1", "ams1"):
        change(store, ("instance", name, "de"), running=False)
    seen = verdicts.tenant(store, store.inventory.tenant("de"), NOW)
    assert (seen.verdict, seen.reason) == (Verdict.DOWN, "192.0.2.0/24 is served by no node; not set up in k3s")


@pytest.mark.parametrize("left", [{"is_absent": False}, {"is_set_up": True}, {"is_set_up": None}], ids=str)
def test_a_tenant_of_which_something_is_there_or_nobody_knows_has_drifted(left: dict[str, Any]) -> None:
    store = settled_hybrid()
    leave(store, **left)
    assert cells(store) == {(Verdict.DRIFT, "intended serve, but not announced")}
    assert instance(store) == (Verdict.DOWN, "nsd is not running (no pod on this node)")


def test_an_instance_that_is_there_and_not_announced_has_drifted_though_set_up_made_nothing() -> None:
    store = settled_hybrid()
    leave(store)
    change(store, INSTANCE, running=True, is_ready=True, is_absent=False, detail="")
    assert cells(store) == {(Verdict.DRIFT, "intended serve, but not announced")}


def test_what_was_seen_of_a_set_long_ago_says_nothing_any_more() -> None:
    store = settled_hybrid()
    leave(store)
    change(store, ("tenant_set", CLUSTER, "nic"), drift=("no Service ac of its set in nic",))
    places = {fact.node for fact in store}
    for now, is_believed in ((NOW + 100, True), (NOW + 140, False)):
        sections = {name: tuple(s for s in store.sections(name) if not s.startswith("set:")) for name in places}
        store.apply([Beat(node=name, at=now, sections=told) for name, told in sections.items()])
        assert (cells(store, now) == {(Verdict.DOWN, "not set up in k3s")}) is is_believed
        assert (verdicts.tenant(store, store.inventory.tenant("nic"), now).verdict is Verdict.DRIFT) is is_believed


def test_objects_that_are_not_as_set_up_are_drift_of_their_tenant_and_of_nothing_else() -> None:
    store = healthy_hybrid()
    lines = (
        "ConfigMap de/ns-nsd: data.nsd.conf differs from what set-up makes",
        "no NetworkPolicy dns-in of its set in de",
    )
    change(store, ("tenant_set", CLUSTER, "de"), drift=lines)
    seen = verdicts.tenant(store, store.inventory.tenant("de"), NOW)
    assert (seen.verdict, seen.reason) == (Verdict.DRIFT, f"k3s: {lines[0]} (+1 more)")
    assert node(store) == (Verdict.SERVING, "")
    assert verdicts.tenant(store, store.inventory.tenant("nic"), NOW).verdict is Verdict.SERVING
    change(store, INSTANCE, drift="image of nsd is nsd:1, not nsd:2")
    seen = verdicts.tenant(store, store.inventory.tenant("de"), NOW)
    assert seen.reason == "pods are not as set up on hv1: image of nsd is nsd:1, not nsd:2 (+2 more)"
    assert "de DRIFT: pods are not as set up" in summary(store, NOW)[1]
