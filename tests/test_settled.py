"""When a first look is over: the command line prints once nothing more is to be expected, and waits no longer for what can't come."""

from __future__ import annotations

import msgspec
import pytest

from anyconsole.headless import is_settled
from anyconsole.model.facts import Export, Exported, Gone, LinkState
from anyconsole.model.pods import Permission
from anyconsole.model.store import FleetStore
from tests.fleet import CLUSTER, NOW, healthy, healthy_hybrid, healthy_store, hybrid


@pytest.mark.parametrize("store", [healthy_store(), healthy_hybrid()], ids=["bare", "hybrid"])
def test_a_fleet_that_has_told_everything_is_settled(store: FleetStore) -> None:
    assert is_settled(store, NOW)


def test_a_cluster_is_waited_for_until_its_pods_and_nodes_are_known_or_it_is_out_of_reach() -> None:
    fleet = hybrid()
    store = FleetStore(fleet)
    store.apply([f for f in healthy(fleet) if getattr(f, "node", "") != CLUSTER])
    assert not is_settled(store, NOW)
    whole = healthy_hybrid()
    link = whole.link(CLUSTER)
    assert link is not None
    store.apply([msgspec.structs.replace(link, state=LinkState.BACKOFF)])
    assert is_settled(store, NOW)


def test_pods_that_may_not_be_listed_are_not_waited_for() -> None:
    fleet = hybrid()
    store = FleetStore(fleet)
    store.apply([f for f in healthy(fleet) if getattr(f, "section", "") != "pods:nic"])
    assert not is_settled(store, NOW)
    cluster = store.cluster(CLUSTER)
    assert cluster is not None
    denied = (Permission(verb="list", resource="pods", namespace="nic"),)
    store.apply([msgspec.structs.replace(cluster, denied=denied)])
    assert is_settled(store, NOW)


def test_what_drains_are_planned_from_is_waited_for_unless_it_may_not_be_seen() -> None:
    store = healthy_hybrid()
    store.apply([Gone(key=("routing", CLUSTER))])
    assert not is_settled(store, NOW)
    cluster = store.cluster(CLUSTER)
    assert cluster is not None
    denied = (Permission(verb="list", resource="bgpfilters", group="crd.projectcalico.org"),)
    store.apply([msgspec.structs.replace(cluster, denied=denied)])
    assert is_settled(store, NOW)


def test_what_calico_exports_is_waited_for_until_it_is_known_or_said_why_it_is_not() -> None:
    store = healthy_hybrid()
    exports = [f for f in store if isinstance(f, Export) and f.node in ("hv1", "hv2")]
    assert exports
    store.apply([Gone(key=f.key) for f in exports])
    assert not is_settled(store, NOW)
    unknown = {"exported": Exported.UNKNOWN, "detail": "no permission: create pods/exec in kube-system"}
    store.apply([msgspec.structs.replace(f, **unknown) for f in exports])
    assert is_settled(store, NOW)


def test_what_set_up_made_is_waited_for() -> None:
    store = healthy_hybrid()
    told = store.tenant_set(CLUSTER, "nic")
    assert told is not None
    store.apply([Gone(key=told.key)])
    assert not is_settled(store, NOW)
    store.apply([msgspec.structs.replace(told, is_set_up=None)])
    assert is_settled(store, NOW)
