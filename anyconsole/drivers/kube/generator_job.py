"""The Job whose pods are load generators: rendered, made, deleted. Its name is fixed, so that creating it is the lock. Pure.

Kubernetes ends it by itself: each pod after its deadline, the Job a minute later. Long before that its agents are silent: they live by
their input and by a heartbeat.
"""

from __future__ import annotations

from typing import Final

import msgspec

from anyconsole.drivers.kube.render import Object, render
from anyconsole.drivers.kube.script import Call, Verb
from anyconsole.drivers.kube.script import render as render_script
from anyconsole.model.inventory import Generator, Inventory

__all__ = ["CONTAINER", "GENERATOR_LABEL", "GeneratorJob", "generator_job", "job_path", "pods_path"]

CONTAINER: Final = "generator"
GENERATOR_LABEL: Final = "anyconsole.io/generator"
_TEST: Final = "anyconsole.io/load-test"


class GeneratorJob(msgspec.Struct, frozen=True, kw_only=True):
    """The Job of one generator of the profile for one load test, and the scripts that make it and delete it.

    `end` deletes it only where it is this test's. `seconds` is when Kubernetes ends it.
    """

    generator: Generator
    seconds: int
    begin: str
    end: str


def generator_job(inventory: Inventory, generator: Generator, *, tested: str, seconds: int, test: str) -> GeneratorJob:
    """The Job of a generator in a cluster. Raises RenderError.

    Args:
        inventory: The profile.
        generator: As it is in the profile.
        tested: The node under test, on which no pod of it may run.
        seconds: Until Kubernetes ends it.
        test: Names the load test that has it: no two at any time are called the same.
    """
    node = inventory.node(tested)
    (made,) = render(
        "generator",
        {
            "generator": generator.name,
            "namespace": generator.namespace,
            "test": test,
            "replicas": generator.replicas,
            "seconds": seconds,
            "seconds_text": str(seconds),
            "node_selector": dict(generator.node_selector),
            "excluded": [node.address] if node.cluster == generator.cluster else [],
            "image": generator.image or inventory.stack.python,
            "cpu": str(generator.processes or 1),
        },
    )
    return GeneratorJob(generator=generator, seconds=seconds, begin=_begin(generator, made), end=_end(generator, test))


def _begin(generator: Generator, job: Object) -> str:
    return render_script([Call(verb=Verb.CREATE, path=job_path(generator).rpartition("/")[0], body=job)])


def _end(generator: Generator, test: str) -> str:
    path = job_path(generator)
    # The API's own default for Jobs is to leave their pods behind.
    options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    own: Object = {"metadata": {"annotations": {_TEST: test}}}
    return render_script(
        [Call(verb=Verb.EXPECT, path=path, body=own), Call(verb=Verb.DELETE, path=path, body=options, if_exists=True)]
    )


def job_path(generator: Generator) -> str:
    """Where the Job of a generator is in the API."""
    return f"/apis/batch/v1/namespaces/{generator.namespace}/jobs/load-{generator.name}"


def pods_path(generator: Generator) -> str:
    """Where the pods of its namespace are."""
    return f"/api/v1/namespaces/{generator.namespace}/pods"
