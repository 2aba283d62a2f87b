"""What set-up made is compared with what it would make now: what others change or delete is named, and what we may not see isn't."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from anyconsole.drivers.kube import set_reading
from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.hands import ClusterHands
from anyconsole.drivers.kube.objects import cluster_objects, path_of, tenant_objects
from anyconsole.drivers.kube.set_reading import SetReading
from anyconsole.drivers.kube.sets import apply
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.pods import TenantSet
from anyconsole.model.store import Update
from tests.drivers.kube.networks import no_tunnel
from tests.drivers.kube.stack import fleet
from tests.kube.apiserver import FakeCluster
from tests.kube.apiserver.server import Fault
from tests.kube.client import Kube

FLEET = fleet()
SPEC = FLEET.clusters[0]
DE = tenant_objects(FLEET, SPEC, FLEET.tenant("de"))
ENFORCE = "pod-security.kubernetes.io/enforce"
API = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    """One with what tenants share."""
    with FakeCluster(nodes=2) as made:
        for obj in cluster_objects(FLEET, SPEC):
            made.create(obj)
        yield made


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_reading, "_SOON", 0.0)
    monkeypatch.setattr(set_reading, "_AGAIN", 0.1)
    monkeypatch.setattr(set_reading, "_PAUSE", 0.1)


class Reading:
    """What is told of the tenants of a cluster, the latest of each."""

    def __init__(self, api: KubeApi) -> None:
        self.told: dict[str, TenantSet] = {}
        self.reading = SetReading(FLEET, SPEC, api, self._take)
        self.hands = ClusterHands(api, None, self.reading.hurry)

    def _take(self, updates: Sequence[Update]) -> None:
        self.told |= {fact.tenant: fact for fact in updates if isinstance(fact, TenantSet)}

    async def until(self, true: Callable[[dict[str, TenantSet]], bool]) -> None:
        end = time.monotonic() + 10
        while not true(self.told):
            assert time.monotonic() < end, self.told
            await asyncio.sleep(0.01)

    async def afresh(self, tenant: str = "de") -> TenantSet:
        """What is told once it was looked at again."""
        asked = time.time()
        self.reading.hurry([f"/api/v1/namespaces/{tenant}/configmaps/x"])
        await self.until(lambda told: tenant in told and told[tenant].at >= asked)
        return self.told[tenant]

    async def set_up(self, *, by_force: bool = False) -> None:
        calls = apply(DE, map(path_of, DE) if by_force else ())
        assert (await self.hands.carry_out(calls, 20)).exit_status == 0


@asynccontextmanager
async def reading(cluster: FakeCluster, kubeconfig: Path | None = None) -> AsyncIterator[Reading]:
    spec = ClusterSpec(name="k3s", kubeconfig=str(kubeconfig or cluster.kubeconfig))
    async with KubeApi.open(spec, no_tunnel) as api:
        at = Reading(api)
        task = asyncio.create_task(at.reading.run())
        try:
            yield at
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def permitted(cluster: FakeCluster, user: str, *resources: str) -> Path:
    """A user who may list these, and nothing else."""
    role = {"apiVersion": f"{API}/v1", "kind": "ClusterRole", "metadata": {"name": user}}
    rules = [{"apiGroups": ["*"], "resources": list(resources), "verbs": ["get", "list"]}]
    cluster.create(role | {"rules": rules})
    subjects = [{"apiGroup": API, "kind": "User", "name": user}]
    reference = {"apiGroup": API, "kind": "ClusterRole", "name": user}
    cluster.create(role | {"kind": "ClusterRoleBinding", "roleRef": reference, "subjects": subjects})
    return cluster.kubeconfig_for(user)


async def test_nothing_differs_after_set_up_until_somebody_changes_something(cluster: FakeCluster) -> None:
    async with reading(cluster) as at, Kube(cluster.kubeconfig) as somebody:
        await at.until(lambda told: told.keys() == {"de", "nic", "enum"})
        assert {(fact.is_set_up, fact.drift) for fact in at.told.values()} == {(False, ())}
        for _ in range(2):
            await at.set_up()
            await at.until(lambda told: told["de"].is_set_up is True)
            assert (await at.afresh()).drift == ()

        await somebody.patch("/api/v1/namespaces/de", {"metadata": {"labels": {ENFORCE: None}}})
        await somebody.patch(
            "/api/v1/namespaces/de/configmaps/ns-nsd", {"data": {"nsd.conf": "server:\n", "more": "x"}}
        )
        await somebody.patch("/apis/apps/v1/namespaces/de/deployments/ns-nsd", {"spec": {"replicas": 1}})
        await somebody.patch("/api/v1/namespaces/de/services/ac", {"spec": {"externalIPs": ["192.0.2.99"]}})
        await somebody.patch("/api/v1/namespaces/de/resourcequotas/tenant", {"spec": {"hard": {"pods": "9"}}})
        await somebody.delete("/apis/networking.k8s.io/v1/namespaces/de/networkpolicies/dns-in")
        assert (await at.afresh()).drift == (
            "Namespace de: metadata.labels.pod-security.kubernetes.io/enforce is not set, not restricted",
            "ResourceQuota de/tenant: spec.hard.pods is 9, not 3",
            "no NetworkPolicy dns-in of its set in de",
            "ConfigMap de/ns-nsd: data.nsd.conf differs from what set-up makes",
            "Service de/ac: spec.externalIPs is 192.0.2.99, not 192.0.2.53 2001:db8:de::53",
            "Deployment de/ns-nsd: spec.replicas is 1, not 2",
        )  # fmt: skip
        await at.set_up(by_force=True)
        await at.until(lambda told: told["de"].drift == ())


async def test_a_namespace_with_its_quota_alone_is_no_tenant_that_is_set_up(cluster: FakeCluster) -> None:
    async with reading(cluster) as at, Kube(cluster.kubeconfig) as somebody:
        await at.set_up()
        await at.until(lambda told: "de" in told and told["de"].is_set_up is True)
        for call in apply(DE)[2:]:
            await somebody.delete(call.path)
        fact = await at.afresh()
        assert (fact.is_set_up, fact.drift) == (False, ())


async def test_what_may_not_be_listed_is_unknown_and_never_missed(cluster: FakeCluster) -> None:
    some = ("namespaces", "configmaps", "services", "deployments", "serviceaccounts", "limitranges", "resourcequotas")
    async with reading(cluster) as at, Kube(cluster.kubeconfig) as somebody:
        await at.set_up()
        await somebody.delete("/apis/networking.k8s.io/v1/namespaces/de/networkpolicies/dns-in")
        await somebody.delete("/api/v1/namespaces/de/limitranges/tenant")
    async with reading(cluster, permitted(cluster, "alice", *some)) as at:
        fact = await at.afresh()
        assert fact.is_set_up is True
        assert fact.drift == ("no LimitRange tenant of its set in de",)
        assert set(map(str, fact.unseen)) == {
            "list networkpolicies.networking.k8s.io in de",
            "list poddisruptionbudgets.policy in de",
        }
    async with reading(cluster, permitted(cluster, "bob", "pods")) as at:
        fact = await at.afresh()
        assert (fact.is_set_up, fact.drift, len(fact.unseen)) == (None, (), 8)
    asked = [path for user, _, path in cluster.server.requests if user in ("alice", "bob")]
    assert asked
    assert not [path for path in asked if "secrets" in path]


async def test_a_server_that_fails_tells_nothing_and_is_asked_again(cluster: FakeCluster) -> None:
    async with reading(cluster) as at:
        await at.set_up()
        await at.until(lambda told: told.keys() == {"de", "nic", "enum"})
        before = await at.afresh()
        cluster.fail(Fault(500, "InternalError", "etcd failed", 2, verb="list", plural="services"))
        fact = await at.afresh()
        assert fact.at > before.at
        assert (fact.is_set_up, fact.drift) == (True, ())
        assert {fault.times for fault in cluster.server.faults} == {0}, "it was met"


async def test_lists_come_from_the_servers_cache_and_only_what_is_ours(cluster: FakeCluster) -> None:
    async with reading(cluster) as at:
        await at.until(lambda told: told.keys() == {"de", "nic", "enum"})
    paths: list[Any] = [path for _, _, path in cluster.server.requests if "/namespaces/de/services?" in path]
    assert paths
    assert all(
        "resourceVersion=0" in path and "labelSelector=anyconsole.io%2Fset%3Dtenant-de" in path for path in paths
    )
