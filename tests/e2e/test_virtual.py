"""Tenants on a cluster from nothing to nothing: set up, again, drain, undrain, drift, repair, teardown. What isn't ours is left alone."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.judge import judge
from anyconsole.actions.plan import Plan
from anyconsole.actions.run import Run
from anyconsole.actions.runner import Runner
from anyconsole.actions.stack.request import StackRequest, Way
from anyconsole.engine.core import FleetEngine
from anyconsole.headless import looked_at
from tests.e2e.long import is_all
from tests.e2e.stacks import REAL, Said, Stack, real_stack
from tests.kube.apiserver.scripts import Behaviour, ExecCall
from tests.kube.apiserver.server import Fault
from tests.kube.client import Kube
from tests.kube.dead_men import DeadMen
from tests.kube.virtual import VirtualCluster

OWNED = "anyconsole.io/set"
REASON = ("--reason", "a test", "--yes", "--within", "240")


@pytest.fixture(autouse=True)
def _own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A cluster without tenants."""
    if REAL:
        with real_stack(tmp_path) as real:
            yield real
        return
    with VirtualCluster() as cluster:
        DeadMen(cluster, tmp_path)
        yield Stack(cluster.profile(tmp_path / "virtual.toml", prometheus=False), cluster.kubeconfig, cluster)


@pytest.fixture
def fake(stack: Stack) -> VirtualCluster:
    """What can be made to misbehave."""
    if stack.fake is None:
        pytest.skip("a real cluster can't be made to misbehave on demand")
    return stack.fake


def steps_of(said: Said) -> dict[str, str]:
    return {step["part"]: step["title"] for step in said.document["plan"]["steps"]}


def guards_of(said: Said) -> dict[str, str]:
    return {guard["name"]: guard["numbers"] for guard in said.document["guards"] if guard["outcome"] == "refuse"}


def reasons(stack: Stack, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What is said of each tenant on the screen."""
    rows = stack.run(capsys, "show", "tenants", "--output", "json").document["rows"]
    return {row["tenant"]: row["reason"] for row in rows}


def budget(stack: Stack, tenant: str) -> str:
    return f"/apis/policy/v1/namespaces/{stack.namespace(tenant)}/poddisruptionbudgets/name-server"


@pytest.mark.timeout(900 if REAL else 180)
def test_three_tenants_are_set_up_again_drained_mended_and_torn_down(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = stack.run(capsys, "setup", "--plan", "--output", "json")
    assert planned.code == 0, planned.err
    assert list(steps_of(planned))[-3:] == ["tenant-de", "tenant-nic", "tenant-enum"]
    assert stack.ask("GET", f"/api/v1/namespaces/{stack.namespace('de')}")["code"] == 404, "a plan changes nothing"

    done = stack.run(capsys, "setup", *REASON, "--output", "json")
    assert done.code == 0, done.out + done.err
    run = done.document["run"]
    assert run["outcome"] == "done"
    for step in run["steps"][-3:]:
        assert step["timings"]["workloads"] <= step["timings"]["from confirmation"]
        assert all(proof["met"] for proof in step["proofs"] if proof["required"]), step
        assert "set up" in step["words"]

    again = stack.run(capsys, "setup", *REASON)
    assert again.code == 0
    assert "Nothing to change: de, nic, enum on k3s: as the profile says." in again.out

    if stack.has_sessions:
        _drained_and_put_back(capsys, stack)
    else:
        warnings.warn("no drain was tried: Calico has no BGPPeer for all nodes there", stacklevel=1)

    # Drift: an object is gone, and a field.
    stack.ask("DELETE", budget(stack, "de"))
    service = f"/api/v1/namespaces/{stack.namespace('nic')}/services/ac"
    stack.ask("PATCH", service, {"spec": {"externalIPs": None}})
    drifted = stack.run(capsys, "setup", "--plan", "--output", "json")
    assert set(steps_of(drifted)) == {"tenant-de", "tenant-nic"}
    diff = "\n".join(step["diff"] for step in drifted.document["plan"]["steps"])
    assert "poddisruptionbudgets.policy/name-server" in diff
    assert "+ spec.externalIPs: [198.51.100.53, 2001:db8:11c::53]" in diff
    seen, spaces = reasons(stack, capsys), {tenant: stack.namespace(tenant) for tenant in ("de", "nic")}
    assert seen["de"] == f"k3s: no PodDisruptionBudget name-server of its set in {spaces['de']}"
    assert (
        f"k3s: Service {spaces['nic']}/ac: spec.externalIPs is not set, not 198.51.100.53 2001:db8:11c::53"
        in seen["nic"]
    )
    assert stack.run(capsys, "setup", *REASON).code == 0
    assert stack.ask("GET", service)["spec"]["externalIPs"] == ["198.51.100.53", "2001:db8:11c::53"]
    assert stack.ask("GET", budget(stack, "de"))["spec"]["maxUnavailable"] == 1

    live = stack.run(capsys, "teardown", "--tenant", "enum", *REASON, "--output", "json")
    assert live.code == 3
    assert {"drained", "live traffic"} <= set(guards_of(live)) | ({"drained"} if REAL else set())

    gone = stack.run(
        capsys,
        "teardown",
        *(w for t in ("de", "nic", "enum") for w in ("--tenant", t)),
        *REASON,
        *_going(capsys, stack),
    )
    assert gone.code == 0, gone.out + gone.err
    assert "none is left" in gone.out
    for tenant in ("de", "nic", "enum"):
        assert stack.ask("GET", f"/api/v1/namespaces/{stack.namespace(tenant)}/services/ac")["code"] == 404
    nothing = stack.run(capsys, "teardown", "--tenant", "de", *REASON)
    assert nothing.code == 0
    assert "nothing of it is there" in nothing.out


def _drained_and_put_back(capsys: pytest.CaptureFixture[str], stack: Stack) -> None:
    """All three tenants on one node; the other goes on serving."""
    before = _announced(capsys, stack)
    assert before["hv1"] == before["hv2"]
    total, drained = before["hv1"]
    assert total
    assert not drained
    scopes = ((("--hard",), total), (("--tenant", "de", "--hard"), total // 3), (("--tenant", "nic", "--soft"), 0))
    overridden = [w for guard in ("floor", "capacity") for w in ("--override", f"{guard}=it is a test")]
    for scope, gone in scopes if REAL or is_all() else scopes[:1]:
        words = ("--node", "hv1", "--reason", "a test", "--yes")
        done = stack.run(capsys, "drain", *words, *scope, *overridden)
        assert done.code == 0, done.out + done.err
        there = _announced(capsys, stack)
        assert there["hv2"] == before["hv2"], "the other node is left alone"
        assert there["hv1"] == (total - gone, total if scope == ("--hard",) else total // 3)
        back = stack.run(capsys, "undrain", *words)
        assert back.code == 0, back.out + back.err
        assert _announced(capsys, stack) == before
    jobs = stack.ask("GET", "/apis/batch/v1/namespaces/anyconsole/jobs")["items"]
    waiting = [job for job in jobs if job["status"].get("active") and not job["metadata"].get("deletionTimestamp")]
    assert not waiting, "no dead-man is left"


def _announced(capsys: pytest.CaptureFixture[str], stack: Stack) -> dict[str, tuple[int, int]]:
    """How much each node announces, and how much is drained there."""
    rows = stack.run(capsys, "show", "fleet", "--output", "json").document["rows"]
    return {row["node"]: (row["announced"], row["drained"]) for row in rows}


def _going(capsys: pytest.CaptureFixture[str], stack: Stack) -> list[str]:
    """Overrides of what refuses that everything goes at once."""
    words = [w for tenant in ("de", "nic", "enum") for w in ("--tenant", tenant)]
    refused = guards_of(stack.run(capsys, "teardown", *words, "--plan", "--output", "json"))
    return [word for guard in refused for word in ("--override", f"{guard}=it is a test")]


class Kept:
    """Where an operator keeps a TSIG key: a file that the profile's command prints."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def hold(self, secret: str) -> None:
        self.path.write_text(f"transfer.:{secret}\n")

    def lose(self) -> None:
        self.path.unlink()


class Desk:
    """One engine at work on a cluster: plans, what refuses them, and what becomes of them."""

    def __init__(self, engine: FleetEngine) -> None:
        self.engine = engine

    async def plan(self, way: Way, *tenants: str, force: bool = False, within: int = 60) -> Plan:
        asked = StackRequest(tenants=tenants, force=force, within=within, reason="a test")
        return await self.engine.changes.plan(way, msgspec.json.encode(asked))

    def refused(self, plan: Plan) -> dict[str, GuardVerdict]:
        return {g.name: g for g in judge(self.engine.store, plan, time.time()) if g.refuses}

    async def begin(self, plan: Plan, *overridden: str) -> Runner:
        refused = self.refused(plan)
        assert set(refused) <= set(overridden), refused
        run = await self.engine.changes.start(plan, dict.fromkeys(overridden, "it is a test"))
        return self.engine.changes.runner(run)

    async def done(self, plan: Plan, *overridden: str) -> Run:
        runner = await self.begin(plan, *overridden)
        ended = await self.engine.changes.wait(runner.run.id)
        assert ended.outcome == "done", ended.words
        return ended

    async def until_seen(self, tenant: str, *, is_set_up: bool) -> None:
        """Wait for what set-up made of a tenant to be read again: right after a change of ours, not at the next round."""
        async with asyncio.timeout(5):
            while (known := self.engine.store.tenant_set("k3s", tenant)) is None or known.is_set_up is not is_set_up:
                await asyncio.sleep(0.05)
        assert known.drift == ()

    async def setup(self, *tenants: str) -> Run:
        return await self.done(await self.plan(Way.SETUP, *tenants))

    async def teardown(self, *tenants: str) -> Run:
        plan = await self.plan(Way.TEARDOWN, *tenants)
        refused = self.refused(plan)
        assert all(guard.overridable for guard in refused.values()), refused
        return await self.done(plan, *refused)


@asynccontextmanager
async def desk(stack: Stack, kubeconfig: Path | None = None) -> AsyncIterator[Desk]:
    if kubeconfig is not None:
        own = str(stack.inventory.clusters[0].kubeconfig)
        stack.profile.write_text(stack.profile.read_text().replace(own, str(kubeconfig)))
    async with looked_at(stack.inventory, 10) as engine:
        engine.changes.arm(600)
        yield Desk(engine)


async def test_fields_that_somebody_else_manages_are_named_and_taken_only_by_force(stack: Stack) -> None:
    path = budget(stack, "de")
    async with desk(stack) as at, Kube(stack.kubeconfig) as somebody:
        await at.setup("de")
        await somebody.patch(f"{path}?fieldManager=somebody", {"spec": {"maxUnavailable": 2}})
        conflict = at.refused(await at.plan(Way.SETUP, "de"))["conflicts"]
        assert "somebody" in conflict.numbers
        assert ".spec.maxUnavailable" in conflict.numbers
        assert not conflict.overridable, "without the word for it, it can't be overridden"
        forced = await at.plan(Way.SETUP, "de", force=True)
        assert at.refused(forced)["conflicts"].overridable
        assert f"APPLY {path} force" in forced.steps[0].apply
        await at.done(forced, "conflicts")
        assert (await somebody.get(path)).body["spec"]["maxUnavailable"] == 1
        assert not (await at.plan(Way.SETUP, "de")).steps


async def test_what_is_there_and_not_ours_is_refused_by_name_and_survives_a_teardown(stack: Stack) -> None:
    namespace = stack.namespace("de")
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}
    async with Kube(stack.kubeconfig) as somebody:
        await somebody.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        await somebody.create(maps, {**theirs, "metadata": {"name": "programs"}})
        async with desk(stack) as at:
            plan = await at.plan(Way.SETUP, "de")
            refused = at.refused(plan)
            assert f"configmaps/programs in {namespace}" in refused["foreign"].numbers
            assert not refused["foreign"].overridable
            assert f"namespaces/{namespace}" in refused["namespace"].numbers
            ended = await at.engine.changes.wait(
                await at.engine.changes.start(plan, {"foreign": "mine", "namespace": "mine"})
            )
            assert ended.outcome == "refused"
            assert (await somebody.get(f"{maps}/programs")).body["data"] == {"a": "b"}

            # Without that object the namespace may be used, and is given back.
            await somebody.delete(f"{maps}/programs")
            await somebody.create(maps, {**theirs, "metadata": {"name": "theirs"}})
            await at.done(await at.plan(Way.SETUP, "de"), "namespace")
            await at.teardown("de")
        space = (await somebody.get(f"/api/v1/namespaces/{namespace}")).body["metadata"]
        assert not any("anyconsole" in key for key in {**space["labels"], **space.get("annotations", {})})
        left = (await somebody.get(maps)).body["items"]
        assert "theirs" in [obj["metadata"]["name"] for obj in left]
        assert not any(OWNED in (obj["metadata"].get("labels") or {}) for obj in left)


async def test_a_namespace_that_we_made_goes_once_nothing_of_others_is_in_it(
    stack: Stack, fake: VirtualCluster
) -> None:
    def count(secrets: str) -> None:
        used = {"secrets": secrets, "persistentvolumeclaims": "0"}
        fake.change("resourcequotas", "de", "tenant", lambda obj: obj.update(status={"used": used}))

    async with desk(stack) as at:
        await at.setup("de")
        await at.until_seen("de", is_set_up=True)
        count("1")
        kept = await at.teardown("de")
        assert "stays: namespaces/de, with 1 secrets" in kept.plan.steps[-1].about
        await at.until_seen("de", is_set_up=False)
        assert fake.get("namespaces", "", "de") is not None
        count("0")
        await at.teardown("de")
        assert fake.get("namespaces", "", "de") is None
        assert not (await at.plan(Way.TEARDOWN, "de")).steps


async def test_entries_that_others_listed_for_calico_stay(stack: Stack, fake: VirtualCluster) -> None:
    def listed() -> list[dict[str, str]]:
        found = fake.get("bgpconfigurations", "", "default")
        assert found is not None
        return list(found["spec"]["serviceExternalIPs"])

    theirs = [{"cidr": "203.0.113.0/24"}, {"cidr": "192.0.2.53/32"}]
    fake.change("bgpconfigurations", "", "default", lambda obj: obj["spec"].update(serviceExternalIPs=theirs))
    async with desk(stack) as at:
        await at.setup("de")
        assert listed() == [*theirs, {"cidr": "2001:db8:de::53/128"}]
        ended = await at.teardown("de")
        assert any(line.startswith("stays: 192.0.2.53/32") for line in ended.plan.steps[0].about)
    assert listed() == theirs


async def test_a_reader_is_told_what_is_not_permitted_before_anything_is_tried(stack: Stack) -> None:
    async with desk(stack) as at:
        await at.setup("de")
    alice = await asyncio.to_thread(stack.user, "alice", "anyconsole-reader")
    async with desk(stack, alice) as at:
        plan = await at.plan(Way.SETUP, "nic")
        refused = at.refused(plan)["permissions"]
        assert "create namespaces in all namespaces" in refused.numbers
        assert not refused.overridable
        ended = await at.engine.changes.wait(await at.engine.changes.start(plan, {"permissions": "please"}))
        assert ended.outcome == "refused"
        assert (await stack.asked("GET", f"/api/v1/namespaces/{stack.namespace('nic')}"))["code"] == 404
        torn = at.refused(await at.plan(Way.TEARDOWN, "de"))["permissions"]
        assert f"delete services in {stack.namespace('de')}" in torn.numbers


async def test_an_operator_sets_tenants_up_and_is_told_what_an_administrator_has_to_do(stack: Stack) -> None:
    async with desk(stack) as at:
        await at.setup("nic")  # with what tenants share
    bob = await asyncio.to_thread(stack.user, "bob", "anyconsole-reader", "anyconsole-operator")
    async with desk(stack, bob) as at:
        ended = await at.setup("de")
        (note,) = ended.plan.notes
        assert "an administrator applies them: anyconsole render --cluster k3s --set cluster" in note
        assert "get clusterroles.rbac.authorization.k8s.io" in note
        await at.teardown("de")


async def test_what_tenants_share_has_to_be_there_before_an_operator_can_set_one_up(
    stack: Stack, fake: VirtualCluster
) -> None:
    fake.make_roles(stack.inventory)
    async with desk(stack, fake.user("bob", "anyconsole-reader", "anyconsole-operator")) as at:
        async with Kube(fake.kubeconfig) as somebody:
            await somebody.delete("/apis/scheduling.k8s.io/v1/priorityclasses/anyconsole-name-server")
        refused = at.refused(await at.plan(Way.SETUP, "de"))
        assert "create priorityclasses.scheduling.k8s.io" in refused["permissions"].numbers


async def test_a_pod_that_waits_for_its_image_is_quoted_and_ends_in_a_clear_failure(
    stack: Stack, fake: VirtualCluster
) -> None:
    fake.scripts.lives.add("de", "ns-nsd-*", Behaviour(stuck="ImagePullBackOff"))
    async with desk(stack) as at:
        runner = await at.begin(await at.plan(Way.SETUP, "de", "nic", within=2))
        ended = await at.engine.changes.wait(runner.run.id)
    assert ended.outcome == "stopped"
    assert "ns-nsd 0 of 2 ready" in ended.words
    assert "ImagePullBackOff" in ended.words
    assert "what of it was done stays" in ended.words
    assert [step.state for step in ended.steps][-2:] == ["failed", "not begun"]
    assert fake.get("namespaces", "", "nic") is None


async def test_a_cluster_that_became_another_since_it_was_planned_for_is_left_alone(stack: Stack) -> None:
    namespace = stack.namespace("de")
    async with desk(stack) as at:
        plan = await at.plan(Way.SETUP, "de")
        await stack.asked("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        runner = await at.begin(plan)
        ended = await at.engine.changes.wait(runner.run.id)
    assert "tenant-de is not as it was planned for any more: plan again" in ended.words
    assert ended.steps[-1].state == "failed"
    assert not (await stack.asked("GET", f"/api/v1/namespaces/{namespace}/services"))["items"]


async def test_a_server_that_fails_before_the_first_call_or_in_the_middle_is_told_apart(
    stack: Stack, fake: VirtualCluster
) -> None:
    def broken(verb: str, plural: str) -> Fault:
        return Fault(503, "ServiceUnavailable", "no leader", 1, verb, plural)

    async with desk(stack) as at:
        plan = await at.plan(Way.SETUP, "de")
        fake.fail(broken("get", "bgpconfigurations"))
        ended = await at.engine.changes.wait((await at.begin(plan)).run.id)
        assert ended.outcome == "evidence insufficient"
        assert fake.get("namespaces", "", "anyconsole") is None
        runner = await at.begin(plan)
        tell, failing = runner._on_change, [broken("patch", "clusterroles")]

        def told(run: Run) -> None:
            """As soon as the first call is made, and before the next one."""
            if failing and run.steps[0].words.startswith("1 of "):
                fake.fail(failing.pop())
            tell(run)

        runner._on_change = told
        ended = await at.engine.changes.wait(runner.run.id)
        assert not failing
        assert ended.outcome == "stopped"
        assert "no leader" in ended.words
        assert "what of it was done stays (" in ended.words
        assert fake.get("namespaces", "", "anyconsole") is not None
        again = await at.plan(Way.SETUP, "de")
        assert again.steps[0].title.startswith("cluster: ")
        await at.done(again)


async def test_a_quiet_cluster_without_tenants_is_not_waited_for(stack: Stack, fake: VirtualCluster) -> None:
    text = fake.profile(stack.profile, prometheus=False).read_text()
    speakers, servers = text.index("  [[template.pods.speaker]]"), text.index("  [[template.pods.name_server]]")
    stack.profile.write_text(text[:speakers] + text[servers:])
    began = time.monotonic()
    async with looked_at(stack.inventory, 60):
        assert time.monotonic() - began < 30


def test_a_cluster_that_doesnt_answer_is_no_evidence(
    stack: Stack, fake: VirtualCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.stop()
    said = stack.run(capsys, "setup", "--plan", "--wait", "1")
    assert said.code == 4
    assert "MISSING  k3s: not connected" in said.out


async def test_serials_are_compared_with_the_primaries_by_the_observers(stack: Stack, fake: VirtualCluster) -> None:
    serials = ["7 8", "8 8"]

    async def observer(call: ExecCall) -> int:
        assert call.argv[-1] == "serials"
        await call.out(f"de.example {serials[0]}\n".encode())
        return 0

    fake.scripts.execs.add("de", "ns-nsd-*", observer)
    async with desk(stack) as at:
        runner = await at.begin(await at.plan(Way.SETUP, "de"))
        async with asyncio.timeout(15):
            while " has de.example 7, its primaries 8" not in runner.run.steps[-1].words:
                await asyncio.sleep(0.05)
        del serials[0]
        ended = await at.engine.changes.wait(runner.run.id)
    assert ended.outcome == "done"
    proofs = {proof.layer: proof.words for proof in ended.steps[-1].proofs}
    assert proofs["serials"] == "1 of 1 zones as at the primaries, on 2 of 2 nodes"


async def test_a_set_up_that_nobody_watches_goes_on_and_a_cancelled_one_says_what_stays(
    stack: Stack, fake: VirtualCluster
) -> None:
    fake.scripts.lives.add("nic", "ns-nsd-*", Behaviour(never_ready=True))
    async with desk(stack) as at:
        runner = await at.begin(await at.plan(Way.SETUP, "de"))
        runner.leave()
        ended = await at.engine.changes.wait(runner.run.id)
        assert ended.outcome == "done", ended.words
        runner = await at.begin(await at.plan(Way.SETUP, "nic"))
        async with asyncio.timeout(10):
            while "waits for workloads" not in runner.run.steps[-1].words:
                await asyncio.sleep(0.05)
        runner.cancel()
        ended = await at.engine.changes.wait(runner.run.id)
        assert ended.outcome == "stopped"
        assert "cancelled; what of it was done stays (14 calls done" in ended.words
    assert fake.get("deployments", "nic", "ns-nsd") is not None


def test_a_console_that_dies_in_the_middle_leaves_an_open_change_that_tells_what_is_there(
    stack: Stack, fake: VirtualCluster
) -> None:
    fake.scripts.lives.add("de", "ns-nsd-*", Behaviour(never_ready=True))
    words = ["--profile", str(stack.profile), "setup", "--tenant", "de", "--tenant", "nic", *REASON]
    with subprocess.Popen(
        [sys.executable, "-m", "anyconsole", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    ) as console:
        assert console.stderr is not None
        for line in console.stderr:
            if "waits for workloads" in line:
                break
        console.send_signal(signal.SIGKILL)

    async def found() -> str:
        async with looked_at(stack.inventory, 10) as engine:
            (change,) = await asyncio.to_thread(engine.changes._journal().changes, 10)
            return await engine.changes.report(change.id)

    report = asyncio.run(found())
    assert "13 of 13 objects are as planned" in report
    assert "0 of 13 objects are as planned; not: namespaces/nic" in report


# --- TSIG keys


SECRETS = [base64.b64encode(f"{word} key of a test".encode()).decode() for word in ("first", "second", "third")]
TSIG = '[[stack.tenant]]\ntenant = "de"\nprimaries = ["198.18.8.1"]\n'


@pytest.fixture
def keyed(stack: Stack, tmp_path: Path) -> Kept:
    """Where tenant de has its key: a file of the operator's, which its command prints."""
    if stack.fake is None:
        pytest.skip("the pods of a real cluster would wait for a primary that knows the key")
    kept = Kept(tmp_path / "kept elsewhere")
    kept.hold(SECRETS[0])
    text = stack.profile.read_text()
    assert TSIG in text
    stack.profile.write_text(text.replace(TSIG, f"{TSIG}tsig_command = \"cat '{kept.path}'\"\n"))
    return kept


def key_in(fake: VirtualCluster) -> str:
    found = fake.get("secrets", "de", "tsig")
    assert found is not None
    assert found["metadata"]["labels"]["anyconsole.io/set"] == "tenant-de"
    return base64.b64decode(found["data"]["secret"]).decode()


def configuration(fake: VirtualCluster) -> str:
    found = fake.get("deployments", "de", "ns-nsd")
    assert found is not None
    return str(found["spec"]["template"]["metadata"]["annotations"]["anyconsole.io/configuration"])


def test_a_key_goes_from_its_source_into_its_secret_and_nowhere_else(
    stack: Stack, fake: VirtualCluster, keyed: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [stack.run(capsys, "setup", "--tenant", "de", "--plan", "--output", "json")]
    assert f"which is made of what `cat '{keyed.path}'` holds" in said[0].out
    assert "+ secrets/tsig in de" in said[0].out
    said.append(stack.run(capsys, "setup", "--tenant", "de", *REASON, "--output", "json"))
    assert said[-1].code == 0, said[-1].out + said[-1].err
    assert key_in(fake) == SECRETS[0]
    said.append(stack.run(capsys, "setup", "--tenant", "de", "--plan"))
    assert "Nothing to change" in said[-1].out

    # Another key is a change, and makes new pods.
    before = configuration(fake)
    keyed.hold(SECRETS[1])
    said.append(stack.run(capsys, "setup", "--tenant", "de", "--plan"))
    assert "metadata.annotations.anyconsole.io/key: " in said[-1].out
    assert "pods of de are replaced one after the other" in said[-1].out
    said.append(stack.run(capsys, "setup", "--tenant", "de", *REASON))
    assert said[-1].code == 0, said[-1].out + said[-1].err
    assert key_in(fake) == SECRETS[1]
    assert configuration(fake) != before

    said.append(stack.run(capsys, "render", "--tenant", "de"))
    assert (
        f"# not here: /api/v1/namespaces/de/secrets/tsig\n#   anyconsole setup makes it of the TSIG key that `cat '{keyed.path}'`"
        in (said[-1].out)
    )
    said += [stack.run(capsys, "journal", "show"), stack.run(capsys, "journal", "export", "--output", "json")]
    assert f"cat '{keyed.path}'" in said[-1].out
    everywhere = "".join(part for one in said for part in (one.out, one.err)).encode()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != keyed.path]
    assert [path for path in files if "anyconsole" in str(path)], "the journal is among them"
    everywhere += b"".join(path.read_bytes() for path in files)
    for secret in SECRETS[:2]:
        for form in (secret, base64.b64encode(secret.encode()).decode(), base64.b64decode(secret).decode()):
            assert form.encode() not in everywhere


async def test_the_secret_that_we_made_goes_with_its_tenant_and_a_strangers_is_left_alone(
    stack: Stack, fake: VirtualCluster, keyed: Kept
) -> None:
    def count(secrets: str) -> None:
        used = {"secrets": secrets, "persistentvolumeclaims": "0"}
        fake.change("resourcequotas", "de", "tenant", lambda obj: obj.update(status={"used": used}))

    async with desk(stack) as at:
        await at.setup("de")
        count("1")
        await at.teardown("de")
        assert fake.get("secrets", "de", "tsig") is None
        assert fake.get("namespaces", "", "de") is None, "the one that was counted was ours"
        fake.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "de"}})
        theirs = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "tsig", "namespace": "de"},
            "data": {"a": "Yg=="},
        }
        fake.create(theirs, with_status=False)
        refused = at.refused(await at.plan(Way.SETUP, "de"))
        assert "secrets/tsig in de: there, and not ours" in refused["foreign"].numbers
    keyed.lose()
    async with desk(stack) as at:
        refused = at.refused(await at.plan(Way.SETUP, "de"))
        assert not refused["tsig"].overridable
        assert "failed with 1; try it by hand" in refused["tsig"].numbers
    found = fake.get("secrets", "de", "tsig")
    assert found is not None
    assert found["data"] == {"a": "Yg=="}


async def test_a_key_that_became_another_since_it_was_planned_is_not_applied(
    stack: Stack, fake: VirtualCluster, keyed: Kept
) -> None:
    async with desk(stack) as at:
        plan = await at.plan(Way.SETUP, "de")
        keyed.hold(SECRETS[2])
        ended = await at.engine.changes.wait((await at.begin(plan)).run.id)
        assert "is not as it was planned for any more: plan again" in ended.words
        assert fake.get("namespaces", "", "de") is None


@pytest.mark.usefixtures("keyed")
async def test_an_operator_writes_the_secrets_that_the_profile_names_and_no_other(
    stack: Stack, fake: VirtualCluster
) -> None:
    fake.make_roles(stack.inventory)
    both = ("anyconsole-reader", "anyconsole-operator")
    async with desk(stack, fake.user("bob", *both)) as at:
        refused = at.refused(await at.plan(Way.SETUP, "de"))["permissions"]
        assert "create secrets/tsig in de" in refused.numbers
    async with desk(stack, fake.user("carol", *both, "anyconsole-keys")) as at:
        await at.setup("de")
        assert key_in(fake) == SECRETS[0]
        await at.teardown("de")
        assert fake.get("secrets", "de", "tsig") is None
