"""The roles that we ship permit what we ask for, and no more than that is ever missed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.calico import CalicoApi
from anyconsole.drivers.kube.objects import collection_of, tenant_objects
from anyconsole.drivers.kube.permissions import changing, denied, reading, watching
from anyconsole.drivers.kube.render import load
from anyconsole.model.cluster_state import denied_of
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.pods import Cluster, Permission
from tests.drivers.kube.networks import no_tunnel
from tests.drivers.kube.stack import fleet
from tests.kube.apiserver import FakeCluster

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


def test_a_reader_may_list_all_that_set_up_makes_of_a_tenant() -> None:
    inventory = fleet()
    rendered = tenant_objects(inventory, inventory.clusters[0], inventory.tenant("de"))
    for permission in {watching(collection_of(obj)) for obj in rendered}:
        verb = "get" if permission.resource == "namespaces" else "list"
        assert permits(msgspec.structs.replace(permission, verb=verb), "anyconsole-reader"), permission


def test_what_is_denied_everywhere_is_denied_in_each_namespace() -> None:
    lacking = (Permission(verb="list", resource="pods"), Permission(verb="list", resource="events", namespace="nic"))
    cluster = Cluster(node="k3s", section="api", at=1.0, denied=lacking)
    assert denied_of(cluster, "pods", "de") == lacking[:1]
    assert denied_of(cluster, "events", "de") == ()
    assert denied_of(cluster, "events") == denied_of(cluster, "events", "nic") == lacking[1:]


async def test_what_is_denied_is_found_with_few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    review = KubeApi._review

    async def counted(self: KubeApi, group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        asked.append(kind)
        return await review(self, group, kind, spec)

    monkeypatch.setattr(KubeApi, "_review", counted)
    namespaces = {f"t{n}": f"t{n}" for n in range(10)}
    with FakeCluster() as cluster:
        for namespace in (*namespaces, "anyconsole"):
            cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        for role in load("roles"):
            cluster.create(role)
        for user in ("alice", "bob"):
            subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]
            for name in ("anyconsole-reader", *(["anyconsole-operator"] if user == "alice" else [])):
                cluster.create({
                    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                    "metadata": {"name": f"{user}-{name}"}, "subjects": subjects,
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                })  # fmt: skip

        async def denied_to(user: str, *generators: str) -> set[str]:
            spec = ClusterSpec(name="k3s", kubeconfig=str(cluster.kubeconfig_for(user)), namespaces=namespaces)
            async with KubeApi.open(spec, no_tunnel) as api:
                return {str(p) for p in await denied(api, spec, CalicoApi("crd.projectcalico.org/v1"), generators)}

        assert await denied_to("alice") == set()
        assert len(asked) < 45, "it was 45 and more for each namespace"
        told = await denied_to("bob")
        assert {"patch nodes in all namespaces", "create leases.coordination.k8s.io in anyconsole"} <= told
        assert {f"create deployments.apps in t{n}" for n in range(10)} <= told
        assert not [word for word in told if word.startswith(("list", "get"))]
        making = {"create jobs.batch in load", "delete jobs.batch in load", "create pods/exec in load"}
        assert await denied_to("bob", "load", "anyconsole") >= making
