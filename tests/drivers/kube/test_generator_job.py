"""The Job of load generators is what Kubernetes' published types allow, keeps off the node that is tested, and ends whatever happens."""

from __future__ import annotations

from typing import cast

import kubernetes.client.models as published
import msgspec
import pytest

from anyconsole.drivers.kube import script
from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.execute import carry_out
from anyconsole.drivers.kube.generator_job import generator_job, job_path
from anyconsole.drivers.kube.generator_pods import running
from anyconsole.drivers.kube.render import Object
from anyconsole.drivers.kube.script import Verb
from anyconsole.drivers.transaction import Ended
from anyconsole.model.inventory import Generator
from tests.drivers.kube.stack import fleet

FLEET = fleet()
PODS = Generator(
    name="pods", address="pods", cluster=FLEET.clusters[0].name, replicas=3, processes=2, node_selector={"load": "yes"}
)
NODE = next(node for node in FLEET.nodes if node.cluster)


def body(generator: Generator = PODS, tested: str = NODE.name) -> Object:
    made = generator_job(FLEET, generator, tested=tested, seconds=700, test="alice de-hv1 1.000")
    (call,) = script.parse(made.begin)
    assert call.body is not None
    assert (call.verb, call.path) == (Verb.CREATE, "/apis/batch/v1/namespaces/anyconsole/jobs")
    return call.body


def test_it_is_of_the_published_type_and_has_no_field_that_it_doesnt_know() -> None:
    published.V1Job.model_validate(body())
    with pytest.raises(ValueError, match="spek"):
        published.V1Job.model_validate({**body(), "spek": {}})


def test_it_gets_what_it_asks_for_and_ends_by_itself() -> None:
    spec = body()["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (3, 3, 0)
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (700, 60)
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"] == {"cpu": "2", "memory": "512Mi"}
    assert (container["image"], container["command"]) == (FLEET.stack.python, ["sleep", "700"])
    assert (pod["nodeSelector"], pod["restartPolicy"], pod["automountServiceAccountToken"]) == (
        {"load": "yes"},
        "Never",
        False,
    )
    own = body(msgspec.structs.replace(PODS, image="registry.example.net/python:3"))
    assert own["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.net/python:3"


def test_no_pod_of_it_runs_on_the_node_that_is_tested() -> None:
    def excluded(generator: Generator) -> list[Object]:
        affinity = body(generator)["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert term["matchExpressions"], "a term without any condition matches no node at all"
        return list(term["matchFields"])

    assert excluded(PODS) == [{"key": "metadata.name", "operator": "NotIn", "values": [NODE.address]}]
    assert excluded(msgspec.structs.replace(PODS, cluster="elsewhere")) == []


async def test_only_the_test_that_made_it_deletes_it(api: KubeApi, namespace: str) -> None:
    here = msgspec.structs.replace(PODS, namespace=namespace)
    ours = generator_job(FLEET, here, tested=NODE.name, seconds=700, test="alice de-hv1 1.000")
    theirs = generator_job(FLEET, here, tested=NODE.name, seconds=700, test="bob de-hv1 2.000")
    assert (await carry_out(api, ours.begin, 10)).exit_status == Ended.DONE
    assert (await carry_out(api, theirs.begin, 10)).exit_status == Ended.LOCKED, "its name is the lock"
    assert (await carry_out(api, theirs.end, 10)).exit_status == Ended.STALE
    assert (await api.get(job_path(here)))["spec"]["parallelism"] == 3
    assert (await carry_out(api, ours.end, 10)).exit_status == Ended.DONE
    assert (await carry_out(api, theirs.begin, 10)).exit_status == Ended.DONE, "the next one needn't wait"
    assert (await carry_out(api, theirs.end, 10)).exit_status == Ended.DONE


class Told:
    """A cluster that tells of a Job and its pods."""

    name = "k3s"

    def __init__(self, *pods: Object) -> None:
        self.pods = pods

    async def get(self, path: str, **query: str) -> Object:
        if path.endswith("/jobs/load-pods"):
            return {"metadata": {"uid": "new"}}
        assert query == {"labelSelector": "anyconsole.io/generator=pods"}
        return {"items": list(self.pods)}


def pod(name: str, owner: str = "new", phase: str = "Running", **meta: object) -> Object:
    return {"metadata": {"name": name, "ownerReferences": [{"uid": owner}], **meta}, "status": {"phase": phase}}


async def test_its_pods_are_those_of_this_job_alone_always_in_one_order() -> None:
    many = msgspec.structs.replace(PODS, replicas=100)
    names = [f"load-pods-{n:03}" for n in range(100)]
    before = [pod(f"load-pods-0{n}", owner="old") for n in range(100)]
    told = Told(*before, *(pod(name) for name in reversed(names)))
    assert await running(cast("KubeApi", told), many) == names


async def test_pods_that_go_or_wait_dont_run() -> None:
    told = Told(pod("a"), pod("b", deletionTimestamp="2026-12-01T00:00:00Z"), pod("c", phase="Pending"))
    with pytest.raises(KubeError, match="k3s: 1 of 3 pods of load-pods run: Pending is all that is told"):
        await running(cast("KubeApi", told), PODS)
