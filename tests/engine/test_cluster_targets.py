"""A load test of a name server in a cluster: its node is held by a Lease there, nobody asks for SSH, and its record can be compared."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anyconsole.actions.action import Said
from anyconsole.actions.journal import journal_of
from anyconsole.actions.load.capabilities import capabilities
from anyconsole.actions.load.compare import compare
from anyconsole.actions.load.files import read_run, run_paths, runs_folder
from anyconsole.actions.load.node_locks import node_locked
from anyconsole.actions.load.request import LoadRequest, Purpose, lock_of
from anyconsole.actions.plan import Plan
from anyconsole.actions.run import Outcome, Run
from anyconsole.drivers.kube import script
from anyconsole.drivers.kube.hands import ClusterHands
from anyconsole.drivers.kube.lock import found_node_lock
from anyconsole.drivers.load.channel import Channel
from anyconsole.drivers.load.pod_counters import END
from anyconsole.engine.changes import Changes
from anyconsole.engine.core import FleetEngine
from anyconsole.errors import AnyconsoleError, LoadError
from anyconsole.model.inventory import ClusterSpec
from tests.actions.load_hands import NSID, LoadHosts, Program
from tests.actions.load_targets import hybrid_store, target
from tests.drivers.kube.stack import fleet
from tests.fleet import NOW, hybrid
from tests.kube.virtual import VirtualCluster

LEASE = ("leases", "anyconsole", "load-test.hv1")


class HeldBack(Program):
    """A container with half a core, of which every look sees nine of ten periods more held back."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = 0

    def write(self, data: bytes) -> None:  # noqa: ARG002
        self._looks += 1
        for path, text in (
            (
                "cpu.stat",
                f"usage_usec {self._looks * 50_000}\nnr_periods {self._looks * 10}\nnr_throttled {self._looks * 9}",
            ),
            ("cpu.max", "50000 100000"),
        ):
            self._say(f"==> /sys/fs/cgroup/{path} <==\n{text}\n")
        self._say(f"==> /proc/uptime <==\n{time.monotonic() + 1000:.2f} 1.0\n")
        self.said.put_nowait(END)

    def _say(self, text: str) -> None:
        for line in text.split("\n"):
            self.said.put_nowait(line.encode())


class Hands(LoadHosts):
    """Generator and bare node on paper, and the engine for the cluster. `container` is what shows counters in it."""

    def __init__(self, engine: FleetEngine) -> None:
        super().__init__()
        self.engine = engine
        self.container: HeldBack | None = None
        self.opened: list[tuple[str, str]] = []

    async def open_channel(self, host: str, program: str) -> Channel:
        self.opened.append((host, program))
        if program == "lock":  # a test begins
            self.agents.clear()
            self.provers.clear()
        return await super().open_channel(host, program)

    async def open_reader(self, node: str, tenant: str) -> Channel:
        if self.container is None or tenant != "de":
            raise AnyconsoleError(f"{tenant} on {node} shows nothing")
        return self.container

    async def execute(self, host: str, script: str, deadline: float) -> Said:
        return await self.engine.execute(host, script, deadline)

    def in_cluster(self, name: str) -> ClusterHands:
        return self.engine.in_cluster(name)


class Bench:
    """The engine's changes, a cluster, and a target on each side."""

    def __init__(self, cluster: VirtualCluster, queries: Path) -> None:
        self.cluster = cluster
        spec: ClusterSpec = msgspec.structs.replace(
            hybrid().clusters[0], kubeconfig=str(cluster.kubeconfig_for("operator"))
        )
        self.targets = (
            target(name="de-hv1", node="hv1", addresses=("198.18.1.9",), identity=(NSID,), queries=str(queries)),
            target(addresses=("198.18.1.1",), identity=(NSID,), queries=str(queries)),
        )
        self.store = hybrid_store(*self.targets, clusters=(spec,))
        self.engine = FleetEngine(self.store.inventory)
        self.hands = Hands(self.engine)
        self.changes = Changes(self.store, self.hands, lambda _: "", lambda: None, lambda: NOW)
        self.changes.arm(600)
        self.run_id = ""

    def asked(self, *targets: str, **fields: Any) -> LoadRequest:  # noqa: ANN401 - of the request
        usual: dict[str, Any] = {"purpose": Purpose.FIXED, "rate": 200, "seconds": 3, "reason": "does it pay"}
        return LoadRequest(targets=targets, **usual | fields)

    async def run(self, plan: Plan) -> Run:
        self.run_id = await self.changes.start(
            plan, {"in service": "paper", "announced": "paper"}, {"neighbours": "looked at"}
        )
        async with asyncio.timeout(20):
            return await self.changes.wait(self.run_id)

    async def plan(self, *targets: str, **fields: Any) -> Plan:  # noqa: ANN401
        return await self.changes.plan("loadtest", msgspec.json.encode(self.asked(*targets, **fields)))

    async def lease(self) -> dict[str, Any] | None:
        return await asyncio.to_thread(self.cluster.get, *LEASE)

    def held(self) -> list[object]:
        """What became of the lock, as the journal has it."""
        records = journal_of(self.store.inventory).change(self.run_id).records
        return [r.fields["event"] for r in records if r.kind == "hold"]

    async def taken_by(self, who: str) -> None:
        """Somebody else's test of hv1 begins."""
        lock = lock_of(self.store, self.asked(operator=who), self.targets[0], NOW)
        assert lock is not None
        await self.engine.execute("k3s", lock.begin, 5)

    async def given_back(self) -> None:
        await self.engine.execute("k3s", f"DELETE {PATH} if-exists\n", 5)


PATH = "/apis/coordination.k8s.io/v1/namespaces/anyconsole/leases/load-test.hv1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[VirtualCluster]:
    with VirtualCluster() as made:
        made.make_roles(fleet())
        for role in ("anyconsole-reader", "anyconsole-operator"):
            made.bind("operator", role)
        yield made


@pytest.fixture
async def bench(cluster: VirtualCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    queries = tmp_path / "queries"
    queries.write_text("a.de.example A\nb.de.example A\n")
    made = Bench(cluster, queries)
    assert made.engine._clusters is not None
    link = made.engine._clusters._links["k3s"]
    watching = asyncio.create_task(link.run())
    async with asyncio.timeout(10):
        while link._api is None:
            await asyncio.sleep(0.01)
    yield made
    await made.given_back()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_virtual_against_bare_is_tested_in_turns_and_compared(bench: Bench) -> None:
    plan = await bench.plan("de-hv1", "de-fra1", rounds=1, pair="7f3a")
    seen: list[dict[str, Any] | None] = []
    open_channel = bench.hands.open_channel

    async def looking(host: str, program: str) -> Channel:
        if program == "agent":
            seen.append(await bench.lease())
        return await open_channel(host, program)

    bench.hands.open_channel = looking  # type: ignore[method-assign]
    run = await bench.run(plan)
    assert run.outcome is Outcome.DONE, run
    (call,) = script.parse(plan.steps[0].apply.partition("\n")[2].partition("gen1$")[0])
    assert call.body is not None
    assert seen[0] is not None
    assert seen[0]["spec"] == call.body["spec"], "the plan shows it exactly"
    assert seen[-1] is None, "the bare node is held over SSH"
    assert await bench.lease() is None
    assert bench.held() == ["taking", "given back"]
    assert not [program for host, program in bench.hands.opened if host == "hv1"], "there is no SSH to it"
    by_kind = {r.conditions.target.kind: r for r in map(read_run, run_paths(runs_folder(bench.store.inventory)))}
    compared = compare([by_kind["virtual"]], [by_kind["bare"]])
    assert not compared.refused
    assert (compared.a.kind, compared.b.kind) == ("virtual", "bare")
    portability = next(c for c in capabilities(compared) if c.name == "Portability")
    assert (portability.a, portability.b) == ("wherever the orchestrator runs", "tied to its operating system")


async def test_a_name_server_in_a_pod_that_used_up_its_quota_is_told_so_on_record(bench: Bench) -> None:
    bench.hands.container = HeldBack()
    bench.hands.rcodes = {0: 60}
    run = await bench.run(await bench.plan("de-hv1"))
    assert run.outcome is Outcome.DONE, run
    (found,) = map(read_run, run_paths(runs_folder(bench.store.inventory)))
    assert found.conditions.target.instance[0].cpu_limit == 0.5
    assert found.result is not None
    assert found.result.limit is not None
    assert found.result.limit.cause == "cpu-quota"


async def test_a_bad_file_of_queries_is_told_before_anything_is_made(bench: Bench) -> None:
    file = Path(bench.targets[0].queries)
    await asyncio.to_thread(file.write_text, "a.de.example A\na.de.example WHAT\n")
    plan = await bench.plan("de-hv1")
    bench.cluster.server.requests.clear()
    run = await bench.run(plan)
    assert run.outcome is Outcome.FAILED
    assert '`queries` of [[load.target]] "de-hv1": ' in run.words
    assert "line 2" in run.words
    asked = [path for _, method, path in bench.cluster.server.requests if method != "GET"]
    assert not [path for path in asked if "leases" in path or "jobs" in path]


async def test_a_node_that_somebody_else_tests_is_left_alone(bench: Bench) -> None:
    await bench.taken_by("bob")
    run = await bench.run(await bench.plan("de-hv1"))
    assert run.outcome is Outcome.FAILED
    assert "hv1: somebody else runs a load test there: bob de-hv1 " in run.steps[0].words
    assert not bench.hands.agents
    assert await bench.lease() is not None, "it isn't ours to delete"
    assert bench.held() == ["taking", "not given back"]


async def test_a_lock_that_a_dead_console_left_is_taken_over_once_it_has_expired(bench: Bench) -> None:
    await bench.taken_by("bob")
    lock = lock_of(bench.store, bench.asked(operator="ops"), bench.targets[0], NOW)
    assert lock is not None
    noted: list[object] = []

    def note(kind: str, **fields: Any) -> None:  # noqa: ANN401 - as in Note
        noted.append((kind, fields["event"]))

    with pytest.raises(LoadError, match=r"bob de-hv1 .* expires in "):
        async with node_locked(bench.hands, lock, note, lambda: time.time() + lock.seconds):
            pass
    noted.clear()
    async with node_locked(bench.hands, lock, note, lambda: time.time() + lock.seconds + 31):
        lease = await bench.lease()
        assert lease is not None
        assert lease["spec"]["holderIdentity"].startswith("ops ")
    assert await bench.lease() is None
    assert noted == [("hold", event) for event in ("taking", "freeing", "taking", "given back")]


@pytest.mark.parametrize("seconds", [None, 0, -1, "60", True, 1e9])
def test_a_lock_that_does_not_say_when_it_expires_never_does(seconds: object) -> None:
    held = {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"leaseDurationSeconds": seconds}}
    assert found_node_lock(held).expires_at == math.inf
    assert found_node_lock({**held, "spec": {"leaseDurationSeconds": 200_000}}).expires_at < math.inf
