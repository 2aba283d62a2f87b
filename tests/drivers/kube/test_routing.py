"""What a drain is planned from is told of older Calicos and with fewer permissions too, and nothing of ours is left lying about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from anyconsole.drivers.kube.advertising import PENDING
from anyconsole.drivers.kube.fleet import KubeFleet
from anyconsole.drivers.kube.lock import LEASE_PATH, lease
from anyconsole.model.facts import SpeakerStatus
from anyconsole.model.pods import RoutingConfig
from anyconsole.model.store import FleetStore, Update
from anyconsole.profile import load_profile
from tests.drivers.kube.networks import no_tunnel
from tests.kube.apiserver.objects import Object
from tests.kube.virtual import VirtualCluster


class Seen:
    """A cluster as it is seen."""

    def __init__(self, profile: Path) -> None:
        inventory = load_profile(str(profile))
        self.store = FleetStore(inventory)
        self.fleet = KubeFleet(inventory, self._take, no_tunnel)
        self.told = 0

    def _take(self, updates: Sequence[Update]) -> None:
        self.told += sum(isinstance(update, RoutingConfig) for update in updates)
        self.store.apply(updates)

    @property
    def routing(self) -> RoutingConfig | None:
        return self.store.routing("k3s")

    def speaker(self, node: str = "hv1") -> SpeakerStatus | None:
        return self.store.speaker(node, "calico")

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.02)


@asynccontextmanager
async def watching(cluster: VirtualCluster, folder: Path, kubeconfig: Path | None = None) -> AsyncIterator[Seen]:
    seen = Seen(cluster.profile(folder / "virtual.toml", kubeconfig=kubeconfig, more="[poll]\ndns = 1\n"))
    task = asyncio.create_task(seen.fleet.run())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_the_same_is_not_told_again_when_nodes_only_breathe(tmp_path: Path) -> None:
    with VirtualCluster() as cluster:
        async with watching(cluster, tmp_path) as seen:
            await seen.until(lambda: seen.routing is not None and seen.routing.dead_man is False)
            told = seen.told

            def breathe(obj: Object) -> None:
                obj["status"]["conditions"][0]["lastHeartbeatTime"] = f"2026-11-24T04:00:{seen.told % 60:02}Z"

            for _ in range(5):
                cluster.change("nodes", "", "node-1", breathe)
            assert await seen.fleet.look(["hv1", "hv2"], 5.0) == {"hv1", "hv2"}
            assert seen.told == told
            cluster.label("node-1", "rack", "r1")
            await seen.until(lambda: seen.told > told)


@pytest.mark.parametrize("resource", ["bgpfilters", "ippools"])
async def test_a_kind_that_may_not_be_seen_costs_no_more_than_what_depends_on_it(tmp_path: Path, resource: str) -> None:
    with VirtualCluster() as cluster:
        cluster.make_roles(load_profile(str(cluster.profile(tmp_path / "roles.toml"))))
        cluster.deny("anyconsole-reader", resource)
        kubeconfig = cluster.user("alice", "anyconsole-reader", "anyconsole-operator")
        async with watching(cluster, tmp_path, kubeconfig) as seen:
            await seen.until(lambda: seen.store.section_seen_at("hv1", "calico") and seen.speaker() is not None)
            assert await seen.fleet.look(["hv1"], 5.0) == {"hv1"}
            await seen.until(lambda: time.time() - (seen.store.section_seen_at("hv1", "calico") or 0) < 1)
            speaker = seen.speaker()
            assert speaker is not None
            if resource == "bgpfilters":
                assert (seen.routing, speaker.drain_serial) == (None, None), "whether something is filtered isn't known"
            else:
                assert seen.routing is not None
                assert "ippools" in seen.routing.obstacle
                assert speaker.drain_serial is not None


async def test_a_status_that_was_left_behind_goes_with_the_next_console(tmp_path: Path) -> None:
    with VirtualCluster() as cluster:
        async with watching(cluster, tmp_path) as first:
            await first.until(lambda: first.speaker() and first.speaker("hv2"))
            (tmp_path / "2").mkdir()
            async with watching(cluster, tmp_path / "2") as second:
                await second.until(lambda: second.speaker() and second.speaker("hv2"))
            # The first one still needs them.
            await first.until(lambda: len(cluster.objects("caliconodestatuses")) == 2)
        assert cluster.objects("caliconodestatuses") == []


async def test_a_lock_is_somebodys_until_it_expires_with_nothing_unconfirmed(tmp_path: Path) -> None:
    with VirtualCluster() as cluster:
        cluster.make_roles(load_profile(str(cluster.profile(tmp_path / "roles.toml"))))
        cluster.create(lease("alice.100.abc"))
        async with watching(cluster, tmp_path) as seen:
            await seen.until(lambda: seen.routing is not None)
            assert seen.routing is not None
            assert (seen.routing.dead_man, seen.routing.lock, seen.routing.expired_lock) == (True, "alice.100.abc", "")
            name = LEASE_PATH.rpartition("/")[2]
            made = cluster.change(
                "leases", "anyconsole", name, lambda obj: obj["spec"].update(renewTime="2026-11-24T04:00:00.000000Z")
            )
            await seen.fleet.look(["hv1"], 5.0)
            assert (seen.routing.lock, seen.routing.expired_lock) == ("", made["metadata"]["uid"])

            def mark(obj: Object) -> None:
                obj["metadata"].setdefault("annotations", {})[PENDING] = "alice.100.abc"

            cluster.change("nodes", "", "node-2", mark)
            await seen.fleet.look(["hv2"], 5.0)
            assert seen.routing.lock == "alice.100.abc", "what isn't confirmed needs its lock"
