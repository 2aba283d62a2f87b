"""What tests can script in the fake cluster: pods that live and fail, Jobs that run, Services that are reached, load."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest

from tests.kube.apiserver import API_GROUP, CRD_GROUP, Behaviour, FakeCluster, JobRun, calico, cel
from tests.kube.client import Kube, Object, until

SCRAPER = "system:serviceaccount:dns:scraper"


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(nodes=3, calico_group=API_GROUP) as cluster:
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dns"}})
        yield cluster


def wait_for(question: Callable[[], object], patience: float = 10) -> None:
    """Wait for what the controllers do in their own time."""
    ends = time.monotonic() + patience
    while not question():
        assert time.monotonic() < ends
        time.sleep(0.01)


def workload(kind: str, name: str, **spec: object) -> Object:
    pod = {"containers": [{"name": "nsd", "image": "example.test/nsd:1"}]}
    template = {"metadata": {"labels": {"app": "ns", "set": name}}, "spec": pod}
    whole = {"selector": {"matchLabels": {"set": name}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "dns"}, "spec": whole}


def give(cluster: FakeCluster, rule: Object, **subject: str) -> None:
    """Let a user or a group do one thing more."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"of-{subject['name']}"},
    }
    cluster.create(role | {"rules": [rule]})
    reference = {"kind": "ClusterRole", "name": f"of-{subject['name']}"}
    cluster.create(role | {"kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]})


def pods(cluster: FakeCluster, of: str) -> list[Object]:
    return [pod for pod in cluster.objects("pods", "dns") if pod["metadata"]["name"].startswith(f"{of}-")]


def status_of(pod: Object) -> Object:
    status: Object = pod["status"]["containerStatuses"][0]
    return status


def test_a_daemon_set_runs_on_every_node_and_a_service_finds_its_pods(cluster: FakeCluster) -> None:
    cluster.create(workload("DaemonSet", "everywhere"))
    spec = {
        "selector": {"set": "everywhere"},
        "ports": [{"port": 53, "protocol": "UDP"}],
        "ipFamilyPolicy": "PreferDualStack",
    }
    cluster.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "everywhere", "namespace": "dns"}, "spec": spec}
    )

    def ready(family: str) -> list[Object]:
        found = cluster.get("endpointslices", "dns", f"everywhere-{family}") or {}
        return [endpoint for endpoint in found.get("endpoints", ()) if endpoint["conditions"]["ready"]]

    wait_for(lambda: len(ready("ipv4")) == len(ready("ipv6")) == 3)
    assert {endpoint["nodeName"] for endpoint in ready("ipv4")} == {"node-1", "node-2", "node-3"}
    cluster.hold_ready("dns", pods(cluster, "everywhere")[0]["metadata"]["name"], False)
    wait_for(lambda: len(ready("ipv4")) == 2)


def test_a_pod_that_cannot_start_says_why_and_stays(cluster: FakeCluster) -> None:
    cluster.scripts.lives.add("dns", "stuck-*", Behaviour(stuck="ImagePullBackOff"))
    cluster.create(workload("Deployment", "stuck", replicas=1))
    wait_for(lambda: pods(cluster, "stuck") and "containerStatuses" in pods(cluster, "stuck")[0]["status"])
    assert status_of(pods(cluster, "stuck")[0])["state"] == {"waiting": {"reason": "ImagePullBackOff"}}
    deployment = cluster.get("deployments", "dns", "stuck")
    assert deployment is not None
    assert deployment["status"]["unavailableReplicas"] == 1


def test_a_container_that_ends_is_restarted_and_remembered(cluster: FakeCluster) -> None:
    cluster.create(workload("Deployment", "crashing", replicas=1))
    wait_for(
        lambda: any(
            status_of(pod)["ready"] for pod in pods(cluster, "crashing") if "containerStatuses" in pod["status"]
        )
    )
    name = pods(cluster, "crashing")[0]["metadata"]["name"]
    cluster.crash("dns", name, "nsd", exit_code=137, reason="OOMKilled")
    status = status_of(pods(cluster, "crashing")[0])
    assert (status["restartCount"], status["lastState"]["terminated"]["reason"]) == (1, "OOMKilled")
    assert "running" in status["state"]


def test_a_pod_that_breaks_pod_security_is_never_made_and_the_workload_says_so(cluster: FakeCluster) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": labels}})
    loose = workload("Deployment", "loose", replicas=1)
    loose["metadata"]["namespace"] = "strict"
    cluster.create(loose)

    def said() -> list[str]:
        found = cluster.get("deployments", "strict", "loose") or {}
        return [c["message"] for c in found.get("status", {}).get("conditions", ()) if c["type"] == "ReplicaFailure"]

    wait_for(said)
    assert 'violates PodSecurity "restricted:latest"' in said()[0]
    assert cluster.objects("pods", "strict") == []


def job(name: str, **spec: object) -> Object:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.test/kubectl:1"}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "dns"},
        "spec": {"template": template, **spec},
    }


def ended(cluster: FakeCluster, name: str) -> list[str]:
    found = cluster.get("jobs", "dns", name) or {}
    return [c["type"] for c in found.get("status", {}).get("conditions", ())]


def test_a_job_acts_on_the_cluster_with_its_own_account(cluster: FakeCluster) -> None:
    async def revert(run: JobRun) -> int:
        # As from inside a container: the mounted token, and nothing else.
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {run.token}"}) as session:
            answer = await session.get(f"{run.server}/api/v1/namespaces/dns/pods", ssl=False)
            return 0 if answer.status == 403 else 1

    cluster.scripts.jobs.add("dns", "reverter-*", revert)
    cluster.create(job("reverter"))
    wait_for(lambda: ended(cluster, "reverter") == ["Complete"])


def test_a_job_that_fails_too_often_is_given_up(cluster: FakeCluster) -> None:
    async def fail(_: JobRun) -> int:
        return 1

    cluster.scripts.jobs.add("dns", "failing-*", fail)
    cluster.create(job("failing", backoffLimit=1))
    wait_for(lambda: ended(cluster, "failing") == ["Failed"])
    assert len(pods(cluster, "failing")) == 2


def test_a_job_of_several_pods_has_them_at_once_and_loses_all_with_one(cluster: FakeCluster) -> None:
    died: list[str] = []

    async def die(_: JobRun) -> int:
        while not died:
            await asyncio.sleep(0.01)
        return 1 if died.pop(0) == "first" else await asyncio.sleep(60, 0)

    cluster.scripts.jobs.add("dns", "together-*", die)
    cluster.create(job("together", parallelism=3, completions=3, backoffLimit=0))
    wait_for(lambda: len([p for p in pods(cluster, "together") if p["status"]["phase"] == "Running"]) == 3)
    died += ["first", "other", "other"]
    wait_for(lambda: ended(cluster, "together") == ["Failed"])
    wait_for(lambda: [p["status"]["phase"] for p in pods(cluster, "together")] == ["Failed"])


def test_a_lost_node_takes_the_readiness_of_its_pods_along(cluster: FakeCluster) -> None:
    def unready() -> set[str]:
        return {pod["spec"]["nodeName"] for pod in pods(cluster, "everywhere") if not status_of(pod)["ready"]}

    cluster.hold_ready("dns", pods(cluster, "everywhere")[0]["metadata"]["name"], None)
    wait_for(lambda: unready() == set())
    cluster.set_node_ready("node-3", False)
    lost = cluster.get("nodes", "", "node-3") or {}
    assert [c["status"] for c in lost["status"]["conditions"] if c["type"] == "Ready"] == ["Unknown"]
    assert unready() == {"node-3"}
    cluster.set_node_ready("node-3", True)
    wait_for(lambda: unready() == set())


@pytest.fixture
def web(cluster: FakeCluster) -> Iterator[int]:
    """A real HTTP server on a local port, that answers with what it was asked."""

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"path": self.path, "authorization": self.headers.get("Authorization")}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cluster.scripts.services["monitoring", "prometheus", "web"] = f"http://127.0.0.1:{server.server_port}"
        cluster.scripts.ports.add("dns", "everywhere-*", {9090: ("127.0.0.1", server.server_port)})
        yield server.server_port
        server.shutdown()


@pytest.mark.usefixtures("web")
async def test_a_service_is_reached_through_the_proxy_without_the_callers_credentials(cluster: FakeCluster) -> None:
    give(cluster, {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]}, kind="User", name=SCRAPER)
    async with Kube(cluster.kubeconfig_for_account("dns", "scraper")) as kube:
        answer = await kube.get(
            "/api/v1/namespaces/monitoring/services/http:prometheus:web/proxy/api/v1/query?query=up%7Ba%3D%22b%22%7D"
        )
    assert answer.body == {"path": "/api/v1/query?query=up%7Ba%3D%22b%22%7D", "authorization": None}


@pytest.mark.usefixtures("web")
async def test_a_port_of_a_pod_is_reached_through_port_forward(cluster: FakeCluster) -> None:
    name = pods(cluster, "everywhere")[0]["metadata"]["name"]
    async with (
        Kube(cluster.kubeconfig) as kube,
        kube.websocket(f"/api/v1/namespaces/dns/pods/{name}/portforward?ports=9090", "v4.channel.k8s.io") as socket,
    ):
        await socket.receive_bytes()
        await socket.receive_bytes()
        await socket.send_bytes(b"\x00GET /metrics HTTP/1.0\r\n\r\n")
        said = b"".join([message.data[1:] async for message in socket])
    assert b'"path": "/metrics"' in said


async def test_a_log_that_is_followed_goes_on_as_the_container_speaks(cluster: FakeCluster) -> None:
    name = pods(cluster, "crashing")[0]["metadata"]["name"]
    cluster.say("dns", name, "nsd", "first")
    async with (
        Kube(cluster.kubeconfig) as kube,
        kube.stream(f"/api/v1/namespaces/dns/pods/{name}/log?follow=true") as stream,
    ):
        assert await stream.readline() == b"first\n"
        await asyncio.to_thread(cluster.say, "dns", name, "nsd", "second")
        assert await stream.readline() == b"second\n"


async def test_a_user_of_a_client_certificate_has_the_rights_of_its_name_and_groups(cluster: FakeCluster) -> None:
    give(cluster, {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}, kind="Group", name="noc")
    async with Kube(cluster.kubeconfig_for("alice", ("noc",))) as alice, Kube(cluster.kubeconfig_for("bob")) as bob:
        assert (await alice.get("/api/v1/pods")).code == 200
        refused = await bob.get("/api/v1/pods")
    assert (refused.code, 'User "bob"' in refused.body["message"]) == (403, True)


@pytest.mark.parametrize("group", [CRD_GROUP, API_GROUP])
def test_every_rule_of_calicos_schemas_is_known(group: tuple[str, str]) -> None:
    def rules(part: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
        for key, value in part.items() if isinstance(part, dict) else ():
            if key == "x-kubernetes-validations" and isinstance(value, list):
                yield from (" ".join(rule["rule"].split()) for rule in value)
            yield from rules(value)
        for value in part if isinstance(part, list) else ():
            yield from rules(value)

    found = {rule for plural in calico.PUBLISHED for rule in rules(calico.published(group[0], plural))}
    assert found == cel.RULES.keys()


async def test_calicos_objects_get_its_defaults_and_what_its_schema_forbids_is_refused(cluster: FakeCluster) -> None:
    async with Kube(cluster.kubeconfig) as kube:
        base = f"/apis/{'/'.join(API_GROUP)}"
        config = {
            "apiVersion": "/".join(API_GROUP),
            "kind": "BGPConfiguration",
            "metadata": {"name": "node.x"},
            "spec": {},
        }
        made = await kube.create(f"{base}/bgpconfigurations", config)
        assert made.body["spec"] == {"logSeverityScreen": "Info", "serviceLoadBalancerAggregation": "Enabled"}
        both = {"node": "a", "nodeSelector": "all()", "peerIP": "192.0.2.1", "asNumber": 64500}
        peer = {"apiVersion": "/".join(API_GROUP), "kind": "BGPPeer", "metadata": {"name": "x"}, "spec": both}
        refused = await kube.create(f"{base}/bgppeers", peer)
        assert (refused.code, "node and nodeSelector cannot both be set" in refused.body["message"]) == (422, True)


async def test_calico_can_be_served_in_its_other_group(cluster: FakeCluster) -> None:
    async with Kube(cluster.kubeconfig) as kube:
        assert (await kube.get("/apis/projectcalico.org/v3/bgppeers")).body["kind"] == "BGPPeerList"
        assert (await kube.get("/apis/crd.projectcalico.org/v1/bgppeers")).code == 404


async def test_a_definition_that_is_created_is_served_at_once(cluster: FakeCluster) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "kind": "Widget"}
    spec = {"group": "example.test", "scope": "Namespaced", "names": names, "versions": [version]}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.test"},
    }
    cluster.create(definition | {"spec": spec})
    widget = {
        "apiVersion": "example.test/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"size": 1, "other": 2},
    }
    path = "/apis/example.test/v1/namespaces/dns/widgets"
    async with Kube(cluster.kubeconfig) as kube:
        assert (await kube.create(f"{path}?fieldValidation=Strict", widget)).code == 400
        assert (await kube.create(path, widget)).body["spec"] == {"size": 1}
        await kube.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.test")
        assert (await kube.get(path)).code == 404


async def test_a_flood_reaches_a_watcher_that_keeps_up() -> None:
    with FakeCluster() as cluster:
        cluster.make_pods(200)
        async with Kube(cluster.kubeconfig) as kube:
            found = (await kube.get("/api/v1/pods")).body
            assert len(found["items"]) == 200
            assert 9_000 < len(json.dumps(found["items"][0], separators=(",", ":"))) < 11_000
            revision = int(found["metadata"]["resourceVersion"])
            flood = asyncio.create_task(asyncio.to_thread(cluster.change_pods, 1_000))
            async with kube.watch("/api/v1/pods", f"resourceVersion={revision}&timeoutSeconds=30") as events:
                revisions = [int((await anext(events))["object"]["metadata"]["resourceVersion"]) for _ in range(1_000)]
            await flood
    assert revisions == list(range(revision + 1, revision + 1_001))


async def test_a_watcher_that_is_too_slow_is_dropped_without_a_word() -> None:
    with FakeCluster(keep_events=1_000) as cluster:
        cluster.make_pods(50)
        async with Kube(cluster.kubeconfig) as kube:
            revision = (await kube.get("/api/v1/pods?limit=1")).body["metadata"]["resourceVersion"]
            async with kube.watch("/api/v1/pods", f"resourceVersion={revision}&timeoutSeconds=30") as events:

                async def is_open() -> bool:
                    return await asyncio.to_thread(cluster.watches) == 1

                await until(is_open)
                # 40 MB that nobody reads meanwhile: more than all buffers on the way.
                await asyncio.to_thread(cluster.change_pods, 4_000)
                seen = [event["type"] async for event in events]
    assert set(seen) == {"MODIFIED"}
    assert len(seen) < 4_000
