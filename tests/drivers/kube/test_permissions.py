"""The roles that we ship permit what we ask for, and no more than that is ever missed."""

from __future__ import annotations

import pytest

from anyconsole.drivers.kube.calico import CalicoApi
from anyconsole.drivers.kube.permissions import changing, reading
from anyconsole.drivers.kube.render import load
from anyconsole.model.cluster_state import denied_of
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.pods import Cluster, Permission

SPEC = ClusterSpec(name="k3s", namespaces={"de": "de"}, prometheus="monitoring/prometheus:web")
ROLES = {role["metadata"]["name"]: role.get("rules", []) for role in load("roles") if role["kind"] == "ClusterRole"}


def permits(wanted: Permission, *roles: str) -> bool:
    return any(
        wanted.verb in rule["verbs"] and wanted.group in rule["apiGroups"] and wanted.resource in rule["resources"]
        for role in roles
        for rule in ROLES[role]
    )


@pytest.mark.parametrize("group", ["projectcalico.org/v3", "crd.projectcalico.org/v1"])
def test_an_operator_lacks_nothing_and_a_reader_nothing_that_reads(group: str) -> None:
    calico = CalicoApi(group)
    both = ("anyconsole-reader", "anyconsole-operator")
    assert [p for p in (*reading(SPEC, calico), *changing(calico)) if not permits(p, *both)] == []
    lacking = {p.resource for p in reading(SPEC, calico) if not permits(p, "anyconsole-reader")}
    assert lacking == {"pods/exec"}, "a shell in calico-node may do more than look"
    assert not permits(Permission(verb="patch", resource="nodes"), "anyconsole-reader")


def test_what_is_denied_everywhere_is_denied_in_each_namespace() -> None:
    denied = (Permission(verb="list", resource="pods"), Permission(verb="list", resource="events", namespace="nic"))
    cluster = Cluster(node="k3s", section="api", at=1.0, denied=denied)
    assert denied_of(cluster, "pods", "de") == denied[:1]
    assert denied_of(cluster, "events", "de") == ()
    assert denied_of(cluster, "events") == denied_of(cluster, "events", "nic") == denied[1:]
