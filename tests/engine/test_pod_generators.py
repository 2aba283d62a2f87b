"""A load test from the pods of a Job, as the engine makes it: real agents answer to it, and nothing is left in the cluster.

The node under test is on paper; what is asked is a name server of this test's own on the loopback.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path

import dns.edns
import dns.message
import msgspec
import pytest

from anyconsole.actions.action import Said
from anyconsole.actions.journal import journal_of
from anyconsole.actions.load import jobs, rig, target_test
from anyconsole.actions.load.files import read_run, run_paths, runs_folder
from anyconsole.actions.load.request import LoadRequest, Purpose
from anyconsole.actions.plan import Plan
from anyconsole.actions.run import Outcome, Run
from anyconsole.drivers.kube import script
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.load.channel import Channel
from anyconsole.engine.changes import Changes
from anyconsole.engine.core import FleetEngine
from anyconsole.model.facts import Link, LinkState
from anyconsole.model.inventory import ClusterSpec, Generator
from tests.actions.load_hands import NSID, LoadHosts
from tests.actions.load_targets import store_with, target
from tests.drivers.kube.stack import fleet
from tests.fleet import NOW
from tests.kube.apiserver import run_here
from tests.kube.apiserver.scripts import Behaviour
from tests.kube.virtual import VirtualCluster

pytestmark = pytest.mark.measures

RATE, SECONDS = 200, 2
JOB = ("jobs", "anyconsole", "load-pods")


class NameServer:
    """Answers every query with its NSID, and counts them."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.count = 0
        self.last = 0.0
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def _serve(self) -> None:
        while True:
            data, source = self.socket.recvfrom(2048)
            if not data:
                return
            self.count, self.last = self.count + 1, time.monotonic()
            answer = dns.message.make_response(dns.message.from_wire(data))
            answer.use_edns(options=[dns.edns.NSIDOption(NSID.encode())])
            self.socket.sendto(answer.to_wire(), source)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join()
        self.socket.close()


class Hands(LoadHosts):
    """The node on paper, and the engine for what is in a cluster."""

    def __init__(self, engine: FleetEngine) -> None:
        super().__init__()
        self.engine = engine

    async def open_channel(self, host: str, program: str) -> Channel:
        if host.startswith("pods-"):
            return await self.engine.open_channel(host, program)
        return await super().open_channel(host, program)

    async def execute(self, host: str, script: str, deadline: float) -> Said:
        return await self.engine.execute(host, script, deadline)

    async def await_generators(self, names: Collection[str], deadline: float) -> None:
        await self.engine.await_generators(names, deadline)


class Bench:
    """The engine's changes, a cluster, and what is tested."""

    def __init__(self, cluster: VirtualCluster, server: NameServer, queries: Path) -> None:
        operator = cluster.kubeconfig_for("operator")
        self.cluster, self.server, self._queries = cluster, server, queries
        self.store = store_with(
            target(addresses=("127.0.0.1",), port=server.port, identity=(NSID,)),
            generators=(),
            pods=(Generator(name="pods", address="pods", cluster="k3s", replicas=2, max_qps=1000),),
            clusters=(ClusterSpec(name="k3s", kubeconfig=str(operator)),),
        )
        self.engine = FleetEngine(self.store.inventory)
        self.hands = Hands(self.engine)
        self.changes = Changes(self.store, self.hands, lambda _: "", lambda: None, lambda: NOW)
        self.changes.arm(600)
        self.run_id = ""

    async def plan(self, **fields: object) -> Plan:
        asked: dict[str, object] = {"purpose": Purpose.FIXED, "rate": RATE, "seconds": SECONDS, "flows": 32}
        request = LoadRequest(**asked | fields, queries=str(self._queries), reason="capacity")  # type: ignore[arg-type]
        return await self.changes.plan("loadtest", msgspec.json.encode(request))

    async def start(self, plan: Plan) -> str:
        self.run_id = await self.changes.start(plan, {"in service": "paper"}, {"neighbours": "looked at"})
        return self.run_id

    async def end(self) -> Run:
        async with asyncio.timeout(20):
            return await self.changes.wait(self.run_id)

    async def under_load(self) -> None:
        """Wait until it is past the proof, and sends what was ordered."""
        await self.until(lambda: bool(run_paths(runs_folder(self.store.inventory))) and self.server.count > 300)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():
                assert self.changes.is_running, self.changes.runner(self.run_id).run
                await asyncio.sleep(0.01)

    def journalled(self) -> list[tuple[object, object]]:
        """What became of Jobs, as the journal has it."""
        records = journal_of(self.store.inventory).change(self.run_id).records
        return [(r.fields["event"], r.fields["host"]) for r in records if r.kind == "generators"]

    async def delete_job(self) -> None:
        """As somebody would by hand."""
        path = "/apis/batch/v1/namespaces/anyconsole/jobs/load-pods"
        async with asyncio.timeout(10):
            while True:
                try:
                    await self.engine.execute("k3s", f"DELETE {path}\n", 5)
                except KubeError:
                    await asyncio.sleep(0.05)
                else:
                    break
        await self.is_clean()

    async def is_clean(self) -> None:
        """Wait until neither Job nor pods are there."""
        async with asyncio.timeout(5):
            while await asyncio.to_thread(lambda: self.cluster.get(*JOB) or self.cluster.objects("pods", "anyconsole")):
                await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def cluster() -> Iterator[VirtualCluster]:
    with VirtualCluster() as made:
        made.make_roles(fleet())
        for role in ("anyconsole-reader", "anyconsole-operator"):
            made.bind("operator", role)
        made.scripts.execs.add("anyconsole", "load-pods-*", run_here)
        yield made


@pytest.fixture
def server() -> Iterator[NameServer]:
    made = NameServer()
    yield made
    made.close()


@pytest.fixture
async def bench(
    cluster: VirtualCluster, server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(rig, "PROOF_SECONDS", 1.0)
    monkeypatch.setattr(target_test, "LAST_WORDS", 0.5)
    queries = tmp_path / "queries"
    queries.write_text("a.de.example A\nb.de.example A\n")
    made = Bench(cluster, server, queries)
    assert made.engine._clusters is not None
    link = made.engine._clusters._links["k3s"]
    watching = asyncio.create_task(link.run())
    async with asyncio.timeout(10):
        while link._api is None:
            await asyncio.sleep(0.01)
    yield made
    made.changes.cancel_all()
    if made.run_id:
        await made.changes.wait(made.run_id)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_the_pods_of_a_job_carry_a_load_test_together_and_it_is_gone_afterwards(bench: Bench) -> None:
    plan = await bench.plan()
    (step,) = plan.steps
    assert "pods-0$ python3" in step.apply
    assert "pods-1$ python3" in step.apply
    await bench.start(plan)
    await bench.under_load()
    live = bench.cluster.get(*JOB)
    assert live is not None
    shown = step.apply[step.apply.index("CREATE ") : step.apply.index("pods-0$")]
    (call,) = script.parse(shown)
    assert call.body is not None
    assert call.body["metadata"]["annotations"] == live["metadata"]["annotations"], "the plan shows it exactly"
    assert (
        call.body["spec"]["template"]["spec"]["containers"][0]["resources"]
        == (live["spec"]["template"]["spec"]["containers"][0]["resources"])
    )
    run = await bench.end()
    assert run.outcome is Outcome.DONE, run
    (path,) = run_paths(runs_folder(bench.store.inventory))
    record = read_run(path)
    (trial,) = record.trials
    assert abs(trial.sent - RATE * SECONDS) <= 0.05 * RATE * SECONDS
    assert trial.ok >= 0.98 * trial.sent
    assert [g.host for g in record.header.x.generators] == ["pods-0", "pods-1"]
    await bench.is_clean()
    assert bench.journalled() == [("making", "k3s"), ("deleted", "k3s")]


async def test_a_stop_silences_the_pods_and_deletes_the_job(bench: Bench) -> None:
    await bench.start(await bench.plan(seconds=60))
    await bench.under_load()
    stopped_at = time.monotonic()
    bench.changes.runner(bench.run_id).cancel()
    await bench.end()
    assert bench.server.last < stopped_at + 0.5
    await bench.is_clean()
    assert bench.journalled()[-1] == ("deleted", "k3s")


async def test_without_the_api_server_the_pods_fall_silent_and_the_journal_says_that_the_job_is_left(
    bench: Bench,
) -> None:
    await bench.start(await bench.plan(seconds=60))
    await bench.under_load()
    cut_at = time.monotonic()
    await asyncio.to_thread(bench.cluster.stop)
    try:
        run = await bench.end()
    finally:
        await asyncio.to_thread(bench.cluster.start)
    assert bench.server.last < cut_at + 3.5
    assert run.outcome is Outcome.FAILED
    assert bench.journalled()[-1] == ("left", "k3s")
    assert (job := bench.cluster.get(*JOB)) is not None
    assert job["spec"]["activeDeadlineSeconds"] == 2 * 60 + 600, "then Kubernetes ends it"
    await bench.delete_job()


async def test_a_job_that_is_somebody_elses_keeps_a_test_from_beginning_and_stays(bench: Bench) -> None:
    plan = await bench.plan()
    (call, *_) = script.parse(plan.steps[0].apply[plan.steps[0].apply.index("CREATE ") :].partition("pods-0$")[0])
    assert call.body is not None
    theirs = call.body | {"metadata": call.body["metadata"] | {"annotations": {"anyconsole.io/load-test": "bob"}}}
    await asyncio.to_thread(bench.cluster.create, theirs)
    await bench.start(plan)
    run = await bench.end()
    assert run.outcome is Outcome.FAILED
    assert "Job anyconsole/load-pods can't be made: " in run.steps[0].words
    assert '"load-pods" already exists (409); one that is there is somebody else\'s load test' in run.steps[0].words
    assert bench.cluster.get(*JOB) is not None, "it isn't ours to delete"
    assert bench.server.count == 0
    assert bench.journalled() == [("making", "k3s"), ("not deleted", "k3s")]
    await bench.delete_job()


async def test_pods_that_dont_start_say_why_and_leave_no_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "START_DEADLINE", 0.7)
    bench.cluster.scripts.lives.add("anyconsole", "load-pods-*", Behaviour(stuck="ImagePullBackOff"))
    try:
        await bench.start(await bench.plan())
        run = await bench.end()
    finally:
        bench.cluster.scripts.lives.add("anyconsole", "load-pods-*", Behaviour())
    assert run.outcome is Outcome.FAILED
    assert "0 of 2 pods of load-pods run: " in run.steps[0].words
    assert "ImagePullBackOff" in run.steps[0].words
    await bench.is_clean()


async def test_a_cluster_that_cant_be_reached_keeps_a_test_from_being_planned(bench: Bench) -> None:
    bench.store.apply([Link(node="k3s", section="link", at=NOW, state=LinkState.CONNECTING, since=NOW)])
    assert (await bench.plan()).missing == ("pods is not connected (connecting)",)
