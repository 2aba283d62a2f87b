"""A virtual node shows what its Node object says: whether it is ready, what presses it, and what keeps it from announcing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from anyconsole.drivers.kube.nodes import EXCLUDE_LABEL, cluster_node_of
from anyconsole.model.pods import ClusterNode
from tests.drivers.kube.objects import NOW, Object, assert_is_clean, changed, falsified, falsified_once

LOST = "Kubelet stopped posting node status."


def node(**conditions: tuple[str, str, str]) -> Object:
    """A node with these conditions: status, reason, message."""
    fine = {
        "NetworkUnavailable": ("False", "CalicoIsUp", "Calico is running on this node"),
        "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        "Ready": ("True", "KubeletReady", "kubelet is posting ready status"),
        # k3s's own, where True is good.
        "EtcdIsVoter": ("True", "MemberNotLearner", "Node is a voting member of the etcd cluster"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "hv1", "labels": {"kubernetes.io/hostname": "hv1", "kubernetes.io/os": "linux"}},
        "spec": {"podCIDR": "10.42.0.0/24", "taints": [{"key": "dedicated", "value": "dns", "effect": "NoSchedule"}]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "InternalIP", "address": "2001:db8::1"},
                {"type": "Hostname", "address": "hv1"},
            ],
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": message}
                for kind, (status, reason, message) in (fine | conditions).items()
            ],
            "nodeInfo": {"kubeletVersion": "v1.36.2+k3s1"},
        },
    }


def read(obj: object) -> ClusterNode:
    return cluster_node_of(obj, "fra-k1", "k3s", NOW)


def test_a_node_that_is_well_has_no_troubles() -> None:
    found = read(node())
    assert found.key == ("cluster_node", "fra-k1")
    assert (found.section, found.cluster, found.version) == ("host", "k3s", "v1.36.2+k3s1")
    assert (found.is_ready, found.is_cordoned, found.excluded, found.troubles) == (True, False, False, ())
    assert found.addresses == ("192.0.2.1", "2001:db8::1")
    assert found.labels == {"kubernetes.io/hostname": "hv1", "kubernetes.io/os": "linux"}


@pytest.mark.parametrize(
    ("conditions", "is_ready", "troubles"),
    [
        (
            {"Ready": ("False", "KubeletNotReady", "container runtime is down")},
            False,
            ("NotReady: KubeletNotReady: container runtime is down",),
        ),
        (
            {
                "Ready": ("Unknown", "NodeStatusUnknown", LOST),
                "MemoryPressure": ("Unknown", "NodeStatusUnknown", LOST),
                "DiskPressure": ("Unknown", "NodeStatusUnknown", LOST),
            },
            None,
            (f"Ready unknown: NodeStatusUnknown: {LOST}",),
        ),
        (
            {
                "DiskPressure": ("True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
                "NetworkUnavailable": ("True", "NoRouteCreated", ""),
            },
            True,
            ("DiskPressure: kubelet has disk pressure", "NetworkUnavailable: NoRouteCreated"),
        ),
    ],
)
def test_conditions_that_are_not_as_they_should_be_are_told_in_words(
    conditions: dict[str, tuple[str, str, str]], is_ready: bool | None, troubles: tuple[str, ...]
) -> None:
    found = read(node(**conditions))
    assert (found.is_ready, found.troubles) == (is_ready, troubles)


@pytest.mark.parametrize(
    ("value", "excluded"), [("true", True), ("True", False), ("", False), ("false", False), (True, False)]
)
def test_the_label_excludes_by_its_exact_value(value: object, excluded: bool) -> None:
    assert read(changed(node(), "metadata", "labels", to={EXCLUDE_LABEL: value})).excluded is excluded


def test_a_cordoned_node_and_its_taints_are_told() -> None:
    taints = [{"key": "dedicated", "value": "dns", "effect": "NoSchedule"}, {"key": "away", "effect": "NoExecute"}]
    found = read(changed(changed(node(), "spec", "unschedulable", to=True), "spec", "taints", to=taints))
    assert found.is_cordoned
    assert found.taints == ("dedicated=dns:NoSchedule", "away:NoExecute")


def test_labels_without_end_are_cut_and_the_one_that_excludes_is_seen_all_the_same() -> None:
    labels = {f"a{n:03}": "v" * 5000 for n in range(500)} | {EXCLUDE_LABEL: "true"}
    found = read(changed(node(), "metadata", "labels", to=labels))
    assert found.excluded
    assert len(found.labels) == 64
    assert max(len(value) for value in found.labels.values()) == 253


REAL = [node(), node(Ready=("False", "x", "y"), PIDPressure=("True", "x", "y"))]


@pytest.mark.parametrize("original", REAL)
def test_no_single_value_of_a_node_breaks_anything(original: Object) -> None:
    for lie in falsified_once(original):
        assert_is_clean(read(lie))


@settings(max_examples=100, deadline=None)
@given(falsified(REAL))
def test_a_server_that_lies_about_nodes_breaks_nothing(lie: object) -> None:
    assert_is_clean(read(lie))
