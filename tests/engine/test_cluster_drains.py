"""Drains of nodes in a cluster from beginning to end: planned, guarded, applied unconfirmed, proved by Calico's BIRD, confirmed.

The engine is the real one, the dead-man a real process; Kubernetes and Calico are stand-ins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from anyconsole.actions.drain import DrainRequest, Level
from anyconsole.actions.guards import asked
from anyconsole.actions.judge import judge
from anyconsole.actions.plan import Plan
from anyconsole.actions.run import Outcome, Run, RunState, StepState
from anyconsole.drivers.kube.advertising import SERIAL
from anyconsole.drivers.kube.calico import EXCLUDE_LABEL
from anyconsole.engine.core import FleetEngine
from anyconsole.errors import AnyconsoleError
from anyconsole.headless import looked_at
from anyconsole.model.facts import Capacity
from anyconsole.profile import load_profile
from tests.kube.dead_men import DeadMen
from tests.kube.virtual import PEERS, VirtualCluster

MORE: Final = """\
[poll]
probe = 0.5
dns = 1
prometheus = 1
[guards]
min_nodes = 1
hold = {hold}
settle = 0.5
patience = 20
"""
FAR: Final = "drained in a test"

Routes = dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualCluster]:
    folder = tmp_path_factory.mktemp("virtual")
    with VirtualCluster() as made:
        inventory = load_profile(str(made.profile(folder / "virtual.toml")))
        made.make_roles(inventory)
        made.serve(inventory)
        made.user("alice", "anyconsole-reader", "anyconsole-operator")
        made.user("bob", "anyconsole-reader")
        DeadMen(made, folder)
        yield made


@asynccontextmanager
async def console(
    cluster: VirtualCluster, folder: Path, user: str = "alice", hold: int = 20
) -> AsyncIterator[FleetEngine]:
    profile = cluster.profile(
        folder / f"{user}.toml", kubeconfig=cluster.kubeconfig_for(user), more=MORE.format(hold=hold)
    )
    async with looked_at(load_profile(str(profile)), 20) as engine:
        engine.changes.arm(3600)
        # Measured, so that no guard has to ask.
        now = time.time()
        engine.take([
            Capacity(node=node.name, section="capacity", at=now, tenant=i.tenant, qps=10_000, measured_at=now)
            for node in engine.inventory.nodes
            for i in node.instances
        ])  # fmt: skip
        yield engine


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


async def plan(engine: FleetEngine, level: Level, **scope: Any) -> Plan:  # noqa: ANN401 - any part of a request
    request = DrainRequest(level=level, reason=FAR, **scope)
    made = await engine.changes.plan("drain", msgspec.json.encode(request))
    assert made.missing == ()
    return made


async def start(engine: FleetEngine, made: Plan) -> str:
    return await engine.changes.start(made, {}, asked(judge(engine.store, made, time.time())))


async def change(engine: FleetEngine, level: Level, **scope: Any) -> Run:  # noqa: ANN401 - as above
    made = await plan(engine, level, **scope)
    run = await engine.changes.wait(await start(engine, made))
    assert run.outcome is Outcome.DONE, (run.words, [step.words for step in run.steps])
    assert [step.state for step in run.steps] == [StepState.DONE] * len(made.steps)
    return run


def routes(cluster: VirtualCluster, node: str) -> Routes:
    """What each peer has of each tenant from a node."""
    addresses = {
        address for service in cluster.objects("services") for address in service["spec"].get("externalIPs") or ()
    }

    peers = [peer for _, *both in PEERS.values() for peer in both]
    pairs = [(p, a) for p in peers for a in sorted(addresses) if (":" in p) == (":" in a)]

    def told(peer: str, address: str) -> str:
        route = cluster.birds.route(node, peer, address)
        return "absent" if route is None else "soft" if "65535:0" in route.communities else "serve"

    return cluster.call(lambda: {pair: told(*pair) for pair in pairs})


def levels(cluster: VirtualCluster, node: str, peer: str = "", tenant: str = "") -> set[str]:
    """The levels of what goes to a peer, of a tenant."""
    addresses = PEERS[peer][1:] if peer else tuple(a for _, *both in PEERS.values() for a in both)
    mine = {"de": ("192.0.2.53", "2001:db8:de::53")}.get(tenant)
    found = routes(cluster, node)
    return {level for (p, a), level in found.items() if p in addresses and (mine is None or a in mine)}


def leftovers(cluster: VirtualCluster) -> list[str]:
    """What is there of drains, but for the serial that says of what it is the last."""
    found = [f"lease {lease['metadata']['name']}" for lease in cluster.objects("leases", "anyconsole")]
    found += [f"filter {obj['metadata']['name']}" for obj in cluster.objects("bgpfilters")]
    found += [
        f"peer {o['metadata']['name']}"
        for o in cluster.objects("bgppeers")
        if o["metadata"]["name"].startswith("anyconsole")
    ]
    for node in cluster.objects("nodes"):
        annotations = node["metadata"].get("annotations") or {}
        found += [key for key in annotations if key.startswith("anyconsole.io/") and key != SERIAL]
        found += [key for key in node["metadata"].get("labels") or {} if "anyconsole" in key or key == EXCLUDE_LABEL]
    return found


async def test_a_tenant_is_drained_soft_then_hard_and_put_back(cluster: VirtualCluster, tmp_path: Path) -> None:
    async with console(cluster, tmp_path) as engine:
        run = await change(engine, Level.SOFT_THEN_HARD, nodes=("hv1",), tenants=("de",))
        assert len(run.steps) == 2
        assert levels(cluster, "node-1", tenant="de") == {"absent"}
        assert levels(cluster, "node-2") == {"serve"}
        (daemon, *_) = run.steps[1].proofs
        assert "exports are absent" in daemon.words
        await change(engine, Level.SERVE, nodes=("hv1",), tenants=("de",))
        assert levels(cluster, "node-1") == {"serve"}
        assert leftovers(cluster) == []
        journal = await engine.changes.report(run.id)
        assert "CREATE /apis/coordination.k8s.io/v1" in journal


async def test_a_whole_node_is_drained_and_put_back_peer_by_peer(cluster: VirtualCluster, tmp_path: Path) -> None:
    async with console(cluster, tmp_path) as engine:
        run = await change(engine, Level.HARD, nodes=("hv1",))
        assert levels(cluster, "node-1") == {"absent"}
        assert levels(cluster, "node-2") == {"serve"}
        assert "every service of the node" in run.plan.steps[0].about[0]
        await change(engine, Level.SERVE, nodes=("hv1",), interconnects=("transit",))
        assert (levels(cluster, "node-1", "ix1"), levels(cluster, "node-1", "transit")) == ({"absent"}, {"serve"})
        await change(engine, Level.SERVE, nodes=("hv1",))
        assert levels(cluster, "node-1") == {"serve"}
        assert leftovers(cluster) == []


async def test_one_interconnect_is_drained_soft_then_hard(cluster: VirtualCluster, tmp_path: Path) -> None:
    async with console(cluster, tmp_path) as engine:
        run = await change(engine, Level.SOFT_THEN_HARD, nodes=("hv2",), interconnects=("ix1",))
        assert [step.place for step in run.plan.steps] == ["k3s"] * 2
        assert (levels(cluster, "node-2", "ix1"), levels(cluster, "node-2", "transit")) == ({"absent"}, {"serve"})
        assert levels(cluster, "node-1") == {"serve"}
        await change(engine, Level.SERVE, interconnects=("ix1",))
        assert levels(cluster, "node-2") == {"serve"}
        assert leftovers(cluster) == []


async def begun(cluster: VirtualCluster, engine: FleetEngine, run_id: str) -> None:
    """Until a change of node-1 is in effect, which nobody can prove, so that it isn't confirmed."""
    async with asyncio.timeout(20):
        while not cluster.objects("leases", "anyconsole"):
            await asyncio.sleep(0.02)
        cluster.mute_birds("node-1")
        while (run := engine.changes.runner(run_id).run).steps[0].state is not StepState.VERIFYING:
            assert run.state is not RunState.ENDED, run.words
            await asyncio.sleep(0.05)


async def test_meanwhile_a_second_console_is_refused_and_what_is_cancelled_is_as_before(
    cluster: VirtualCluster, tmp_path: Path
) -> None:
    async with console(cluster, tmp_path, hold=40) as first, console(cluster, tmp_path, hold=40) as second:
        early = await plan(second, Level.HARD, nodes=("hv2",), tenants=("nic",))
        run_id = await start(first, await plan(first, Level.HARD, nodes=("hv1",), tenants=("de",)))
        try:
            await begun(cluster, first, run_id)
            assert levels(cluster, "node-1", tenant="de") == {"absent"}
            refused = await second.changes.wait(await start(second, early))
            assert refused.outcome is Outcome.CONFLICT, refused.words
            assert "unconfirmed change there" in refused.words
            with pytest.raises(AnyconsoleError, match="k3s: another change"):
                await start(first, await plan(first, Level.HARD, nodes=("hv2",), tenants=("nic",)))
            # The serial is as planned, but it is a note of ours and proves nothing.
            async with asyncio.timeout(10):
                while not (proof := first.changes.runner(run_id).run.steps[0].proofs[1]).required:
                    await asyncio.sleep(0.05)
            assert (proof.met, "nobody tells whether" in proof.words) == (False, True)
            first.changes.cancel_all()
            ended = await first.changes.wait(run_id)
        finally:
            cluster.mute_birds("node-1", is_mute=False)
        assert ended.outcome is Outcome.ROLLED_BACK, ended.words
        assert levels(cluster, "node-1") == levels(cluster, "node-2") == {"serve"}
        assert leftovers(cluster) == []


async def test_a_reader_is_told_what_is_not_permitted_before_anything_is_tried(
    cluster: VirtualCluster, tmp_path: Path
) -> None:
    async with console(cluster, tmp_path, "bob") as engine:
        request = DrainRequest(level=Level.SOFT_THEN_HARD, nodes=("hv1",), reason=FAR)
        made = await engine.changes.plan("drain", msgspec.json.encode(request))
        assert made.steps == ()
        (missing,) = made.missing
        assert missing.startswith("k3s: no permission for bob: ")
        for permission in (
            "patch nodes",
            "create leases.coordination.k8s.io in anyconsole",
            "create jobs.batch in anyconsole",
        ):
            assert permission in missing
        with pytest.raises(AnyconsoleError, match="no permission"):
            await start(engine, made)
    assert leftovers(cluster) == []


async def test_without_the_dead_mans_account_set_up_comes_first(cluster: VirtualCluster, tmp_path: Path) -> None:
    account = cluster.get("serviceaccounts", "anyconsole", "dead-man")
    assert account is not None
    async with console(cluster, tmp_path) as engine:
        routing = engine.store.routing("k3s")
        assert routing is not None
        engine.store.apply([msgspec.structs.replace(routing, dead_man=False)])
        request = DrainRequest(level=Level.HARD, nodes=("hv1",), reason=FAR)
        made = await engine.changes.plan("drain", msgspec.json.encode(request))
        assert made.steps == ()
        assert "set-up of the cluster first" in made.missing[0]
