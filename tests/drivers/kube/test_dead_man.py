"""Whatever becomes of the console, a drain of a node in a cluster that nobody confirms is taken back, by the cluster itself.

The dead-man is run for real, as the process that its Job describes, against the fake API server, with the rights of its own account.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import kubernetes.client.models as published
import msgspec
import pytest

from anyconsole.drivers.kube import dead_man_job
from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.advertising import (
    PENDING,
    CalicoObjects,
    NodeDrain,
    cells_of,
    drain_of,
    objects_of,
)
from anyconsole.drivers.kube.calico import CalicoApi, node_path
from anyconsole.drivers.kube.calico_transaction import transaction
from anyconsole.drivers.kube.execute import carry_out
from anyconsole.drivers.kube.levers import plan_levers
from anyconsole.drivers.kube.lock import LEASE_PATH
from anyconsole.drivers.kube.script import Verb, parse, render
from anyconsole.drivers.transaction import Ended, Transaction
from anyconsole.model.inventory import ClusterSpec, Inventory, NodeSpec
from anyconsole.profile import load_profile
from tests.drivers.kube.networks import no_tunnel
from tests.kube.apiserver.calico import misfits
from tests.kube.dead_men import DeadMen
from tests.kube.virtual import VirtualCluster

Json = dict[str, Any]

KINDS: Final = ("BGPPeer", "BGPConfiguration", "BGPFilter", "IPPool", "ClusterInformation")
HOLD: Final = 1
NOTE: Final = "by=alice ticket=CHG4711 at=2026-11-24T04:00Z why=disk"


class World:
    """A cluster with one node that is changed."""

    def __init__(self, cluster: VirtualCluster, inventory: Inventory, api: KubeApi, men: DeadMen) -> None:
        self.cluster = cluster
        self.inventory = inventory
        self.api = api
        self.men = men
        self.node: NodeSpec = inventory.nodes[0]

    async def objects(self) -> CalicoObjects:
        calico = self.cluster.calico_api
        lists = {kind: (await self.api.get(calico.path(kind)))["items"] for kind in KINDS}
        return objects_of(CalicoApi(calico.group_version), lists | {"Node": (await self.api.get(node_path()))["items"]})

    async def drain(self) -> NodeDrain:
        return drain_of(await self.objects(), self.inventory, self.node)

    async def plan(self, wanted: NodeDrain, hold: int = HOLD) -> Transaction:
        objects = await self.objects()
        levers = plan_levers(objects, self.inventory, self.node, wanted)
        assert levers.refused == ()
        before = drain_of(objects, self.inventory, self.node).serial or 0
        return transaction(objects, self.node.address, before, wanted, levers, hold, "python:3", "")

    async def run(self, script: str) -> tuple[Ended, str]:
        said = await carry_out(self.api, script, 20)
        return Ended(said.exit_status), said.stdout.decode()

    def lease(self) -> Json | None:
        return self.cluster.get("leases", "anyconsole", LEASE_PATH.rpartition("/")[2])

    async def until(self, true: Callable[[], object], seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.men.said
            await asyncio.sleep(0.05)

    def mark(self) -> str | None:
        node = self.cluster.get("nodes", "", self.node.address)
        assert node is not None
        found: str | None = (node["metadata"].get("annotations") or {}).get(PENDING)
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VirtualCluster, Inventory, DeadMen]]:
    folder = tmp_path_factory.mktemp("virtual")
    with VirtualCluster() as made:
        inventory = load_profile(str(made.profile(folder / "virtual.toml")))
        made.make_roles(inventory)
        yield made, inventory, DeadMen(made, folder)


@pytest.fixture
async def world(
    cluster: tuple[VirtualCluster, Inventory, DeadMen], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """As an operator sees it who holds no more than the two roles; afterwards nothing is left of a change."""
    made, inventory, men = cluster
    monkeypatch.setattr(dead_man_job, "SHORTEST", HOLD)
    monkeypatch.setattr(dead_man_job, "PACE", 0.05)
    if made.get("clusterrolebindings", "", "alice-anyconsole-operator") is None:
        made.user("alice", "anyconsole-reader", "anyconsole-operator")
    kubeconfig = str(made.kubeconfig_for("alice"))
    async with KubeApi.open(ClusterSpec(name="k3s", kubeconfig=kubeconfig), no_tunnel) as api:
        world = World(made, inventory, api, men)
        yield world
        await world.until(lambda: not men.running)
        assert world.lease() is None
        assert world.mark() is None


def mixed(world: World, serial: int) -> NodeDrain:
    """One tenant withdrawn from one peer, another depreferred towards one: filters, copies of BGPPeers, a switch."""
    pairs = [cell.pair for cell in cells_of(world.inventory, world.node)]
    return NodeDrain(hard=tuple(sorted(pairs[:1])), soft=tuple(sorted(pairs[1:2])), note=NOTE, serial=serial)


def everything(world: World, serial: int) -> NodeDrain:
    return NodeDrain(
        hard=tuple(sorted(c.pair for c in cells_of(world.inventory, world.node))), note=NOTE, serial=serial
    )


async def undrain(world: World, serial: int) -> None:
    """By the book."""
    told = await world.plan(NodeDrain(serial=serial))
    assert (await world.run(told.apply))[0] is Ended.DONE
    assert (await world.run(told.confirm))[0] is Ended.DONE


async def test_what_a_drain_makes_is_of_the_published_types(world: World) -> None:
    told = await world.plan(mixed(world, 1))
    made = {call.body["kind"]: call.body for call in parse(told.apply) if call.verb is Verb.CREATE and call.body}
    assert made.keys() == {"Lease", "Job", "BGPFilter", "BGPPeer"}
    published.V1Lease.model_validate(made["Lease"])
    published.V1Job.model_validate(made["Job"])
    assert misfits(made["BGPFilter"]) == misfits(made["BGPPeer"]) == []


async def test_a_console_that_dies_between_any_two_calls_leaves_the_cluster_as_it_was(world: World) -> None:
    before = (await world.objects()).found
    whole = parse((await world.plan(mixed(world, 100))).apply)
    pulled = 0
    # An EXPECT and the call behind it are one boundary: nothing lies between them.
    for end in [n for n in range(1, len(whole) + 1) if whole[n - 1].verb.changes or whole[n - 1].verb is Verb.AWAIT]:
        ended, said = await world.run(render(whole[:end]))
        assert ended is Ended.DONE, said
        pulled += (await world.drain()).hard != ()
        if end < whole.index(next(call for call in whole if call.verb is Verb.AWAIT)):
            # Not even the dead-man is there yet: the lock alone is left, and expires.
            assert (await world.objects()).found == before
            await world.api.send("DELETE", LEASE_PATH)
        await world.until(lambda: world.lease() is None)
        await world.until(lambda: not world.men.running)
        assert (await world.objects()).found == before, whole[end - 1]
        for job in world.cluster.objects("jobs", "anyconsole"):
            await world.api.send("DELETE", f"/apis/batch/v1/namespaces/anyconsole/jobs/{job['metadata']['name']}")
    assert pulled, "at some boundary something was withdrawn"


async def test_an_undrain_that_nobody_confirms_leaves_the_drain_as_it_was(world: World) -> None:
    told = await world.plan(everything(world, 200))
    assert (await world.run(told.apply))[0] is Ended.DONE
    assert (await world.run(told.confirm))[0] is Ended.DONE
    before = (await world.objects()).found
    back = await world.plan(mixed(world, 201))
    assert (await world.run(back.apply))[0] is Ended.DONE
    assert (await world.drain()).serial == 201
    await world.until(lambda: world.lease() is None)
    assert (await world.objects()).found == before
    await undrain(world, 202)


async def test_what_is_confirmed_stays_and_gives_the_lock_back(world: World) -> None:
    told = await world.plan(mixed(world, 300), hold=60)
    assert (await world.run(told.apply))[0] is Ended.DONE
    drain = await world.drain()
    assert (drain.serial, bool(drain.pending)) == (300, True)
    assert (await world.run(told.confirm))[0] is Ended.DONE
    assert world.lease() is None
    drain = await world.drain()
    assert (drain.serial, drain.pending, drain.hard) == (300, "", mixed(world, 300).hard)
    assert (await world.run(told.revert))[0] is not Ended.DONE, "what is confirmed isn't taken back"
    assert (await world.drain()).serial == 300
    await undrain(world, 301)


async def test_a_confirmation_that_is_cut_short_is_one_all_the_same(world: World) -> None:
    told = await world.plan(mixed(world, 350), hold=60)
    assert (await world.run(told.apply))[0] is Ended.DONE
    first = [call for call in parse(told.confirm) if "nodes" in call.path]
    assert (await world.run(render(first)))[0] is Ended.DONE
    await world.until(lambda: world.lease() is None, 10)
    assert (await world.drain()).serial == 350
    await undrain(world, 351)


async def test_taking_back_is_done_at_once_and_twice_is_harmless(world: World) -> None:
    before = (await world.objects()).found
    told = await world.plan(mixed(world, 400), hold=60)
    assert (await world.run(told.apply))[0] is Ended.DONE
    for _ in range(2):
        ended, said = await world.run(told.revert)
        assert ended is Ended.DONE, said
        assert (await world.objects()).found == before
        assert world.lease() is None
    assert (await world.run(told.confirm))[0].is_conflict


async def test_a_confirmation_wins_or_loses_against_a_dead_man_that_wakes_in_the_same_moment(world: World) -> None:
    won, lost = 0.0, 1.5
    for serial in range(500, 512, 2):
        before = (await world.objects()).found
        told = await world.plan(mixed(world, serial), hold=1)
        assert (await world.run(told.apply))[0] is Ended.DONE
        # Ever closer to the moment in which it claims.
        moment = (won + lost) / 2
        await asyncio.sleep(moment)
        ended, said = await world.run(told.confirm)
        await world.until(lambda: world.lease() is None)
        drain = await world.drain()
        if ended is Ended.DONE:
            won = moment
            assert (drain.serial, drain.hard) == (serial, mixed(world, 0).hard)
            await undrain(world, serial + 1)
        else:
            lost = moment
            assert ended.is_conflict, said
            assert (await world.objects()).found == before
    assert won > 0
    assert lost < 1.5


async def test_a_console_that_dies_after_it_asked_for_its_change_need_not_stay_for_it(world: World) -> None:
    before = (await world.objects()).found
    told = await world.plan(mixed(world, 550), hold=60)
    assert (await world.run(told.apply))[0] is Ended.DONE
    assert (await world.run(render(parse(told.revert)[:2])))[0] is Ended.DONE
    await world.until(lambda: world.lease() is None)
    assert (await world.objects()).found == before


async def test_a_dead_man_that_is_killed_has_a_successor_that_keeps_its_time(world: World) -> None:
    before = (await world.objects()).found
    told = await world.plan(mixed(world, 600), hold=4)
    assert (await world.run(told.apply))[0] is Ended.DONE
    began = time.monotonic()
    assert world.cluster.call(world.men.kill) == 1
    await world.until(lambda: world.lease() is None, 20)
    assert time.monotonic() - began < 8, "counted from the first one's awakening"
    assert (await world.objects()).found == before


async def test_an_api_server_that_is_away_only_delays_it(world: World) -> None:
    before = (await world.objects()).found
    told = await world.plan(mixed(world, 700))
    assert (await world.run(told.apply))[0] is Ended.DONE
    world.cluster.stop()
    await asyncio.sleep(HOLD + 1)
    world.cluster.start()
    await world.until(lambda: world.lease() is None, 20)
    assert (await world.objects()).found == before


async def test_of_two_consoles_one_gets_the_cluster(world: World) -> None:
    first, second = await world.plan(mixed(world, 800), hold=60), await world.plan(everything(world, 801), hold=60)
    assert (await world.run(first.apply))[0] is Ended.DONE
    ended, said = await world.run(second.apply)
    assert ended is Ended.STALE, said
    other = msgspec.structs.replace(world.node, name="hv2", address="node-2")
    objects = await world.objects()
    levers = plan_levers(objects, world.inventory, other, everything(world, 801))
    elsewhere = transaction(objects, "node-2", 0, everything(world, 801), levers, 60, "python:3", "")
    ended, said = await world.run(elsewhere.apply)
    assert ended is Ended.LOCKED, said
    assert "unconfirmed-change" in said
    assert (await world.run(first.revert))[0] is Ended.DONE


async def test_nothing_is_pulled_where_no_dead_man_wakes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (await world.objects()).found
    monkeypatch.setattr("anyconsole.drivers.kube.execute._AWAIT", 0.5)
    told = await world.plan(mixed(world, 900))
    calls = [call for call in parse(told.apply) if not call.path.endswith("/jobs")]
    ended, said = await world.run(render(calls))
    assert ended is Ended.REFUSED, said
    assert (await world.objects()).found == before
    assert (await world.run(told.revert))[0] is Ended.DONE
    assert world.lease() is None


async def test_the_program_is_told_by_the_job_alone_and_nothing_in_it_is_a_reference(world: World) -> None:
    told = await world.plan(mixed(world, 950), hold=60)
    (job,) = [call.body for call in parse(told.apply) if call.path.endswith("/jobs")]
    assert job is not None
    (container,) = job["spec"]["template"]["spec"]["containers"]
    texts = [*container["command"], *(variable["value"] for variable in container["env"])]
    assert not [text for text in texts if "$" in text], "Kubernetes would replace $(NAME)"
    assert max(map(len, texts)) < 100_000, "the kernel takes 128 KiB"
