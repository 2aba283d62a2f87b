"""A pod that isn't as set-up would make it says how; one that set-up didn't make, or that only an API server completed, says nothing."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.drivers.kube.objects import SET_LABEL, tenant_objects
from anyconsole.drivers.kube.set_up import difference_of, drift_of, objects_of, templates_of
from tests.drivers.kube.stack import fleet

FLEET = fleet()
CLUSTER, DE = FLEET.clusters[0], FLEET.tenants[0]
TEMPLATES = templates_of(FLEET, CLUSTER, DE)


def made(kind: str = "nsd") -> dict[str, Any]:
    """A pod of `de` as set-up has it made, and an API server completes it."""
    deployments = (o for o in tenant_objects(FLEET, CLUSTER, DE) if o["kind"] == "Deployment")
    template = next(
        d["spec"]["template"] for d in deployments if d["metadata"]["labels"]["app.kubernetes.io/name"] == kind
    )
    pod: dict[str, Any] = copy.deepcopy(template)
    pod["metadata"]["labels"]["pod-template-hash"] = "5c7b8"
    pod["spec"]["nodeName"] = "node-1"
    for container in pod["spec"]["containers"]:
        container |= {"imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"}
    pod["spec"]["containers"].append({"name": "injected", "image": "mesh:1"})
    return pod


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in pod["spec"]["containers"] if c["name"] == name)


def test_a_pod_as_it_was_rendered_has_not_drifted() -> None:
    assert {kind: drift_of(made(kind), TEMPLATES) for kind in TEMPLATES} == dict.fromkeys(TEMPLATES, "")
    assert TEMPLATES


def test_what_somebody_changed_is_named_with_what_it_should_be() -> None:
    pod = made()
    container(pod, "nsd")["image"] = "registry.example.net/nsd:4.11.0"
    assert drift_of(pod, TEMPLATES) == (
        "image of nsd is registry.example.net/nsd:4.11.0, not registry.example.net/nsd:4.12.0"
    )
    pod = made()
    zones = next(env for env in container(pod, "observer")["env"] if env["name"] == "ZONES")
    zones["value"] = "example.de"
    assert drift_of(pod, TEMPLATES) == "env ZONES of observer is example.de, not example.de 4/25.2.0.192.in-addr.arpa"
    pod = made()
    pod["spec"]["containers"] = [c for c in pod["spec"]["containers"] if c["name"] != "exporter"]
    assert drift_of(pod, TEMPLATES) == "it has no container exporter"
    pod = made()
    del container(pod, "nsd")["command"]
    assert drift_of(pod, TEMPLATES) == "command of nsd is not set, not nsd -d -c /run/configuration/nsd.conf"


def test_a_configuration_that_the_profile_no_longer_has_is_seen_by_its_hash() -> None:
    older = msgspec.structs.replace(DE, zones=("example.de",))
    tenants = (older, *FLEET.tenants[1:])
    before = templates_of(msgspec.structs.replace(FLEET, tenants=tenants), CLUSTER, older)
    assert before["nsd"].configuration != TEMPLATES["nsd"].configuration
    pod = made()
    pod["metadata"]["annotations"]["anyconsole.io/configuration"] = "0123456789abcdef"
    assert drift_of(pod, TEMPLATES) == (f"its configuration is 0123456789abcdef, not {TEMPLATES['nsd'].configuration}")


@pytest.mark.parametrize("labels", [{}, {SET_LABEL: "tenant-nic"}, {"app.kubernetes.io/name": "nsd"}])
def test_a_pod_that_set_up_did_not_make_is_nobodys_business(labels: dict[str, str]) -> None:
    pod = made()
    pod["metadata"]["labels"] = labels
    container(pod, "nsd")["image"] = "other"
    assert drift_of(pod, TEMPLATES) == ""


def test_a_tenant_that_cannot_be_set_up_has_nothing_to_drift_from() -> None:
    bare = msgspec.structs.replace(FLEET, stack=msgspec.structs.replace(FLEET.stack, tenants=()))
    assert templates_of(bare, CLUSTER, DE) == {}
    assert objects_of(bare, CLUSTER, DE) == ()


def test_the_hashes_of_a_key_that_only_set_up_reads_are_no_difference() -> None:
    keyed = fleet(('tsig_secret = "tsig"', 'tsig_command = "pass show dns/de"'))
    applied = [o for o in tenant_objects(keyed, CLUSTER, DE, key_hash="0123abcd") if o["kind"] != "Secret"]
    assert [difference_of(*pair) for pair in zip(objects_of(keyed, CLUSTER, DE), applied, strict=True)] == [""] * len(
        applied
    )
    deployment = applied[-1]
    assert drift_of(deployment["spec"]["template"], templates_of(keyed, CLUSTER, DE)) == ""
    deployment["spec"]["replicas"] = 0
    assert (
        difference_of(objects_of(keyed, CLUSTER, DE)[-1], deployment)
        == "Deployment de/ns-nsd: spec.replicas is 0, not 2"
    )


def test_the_servers_spelling_of_quantities_and_what_it_leaves_out_are_no_difference() -> None:
    big = fleet(("images = { nsd", 'cpu = "1000m"\nmemory = "1024Mi"\nimages = { nsd'))
    quota, deployment = objects_of(big, CLUSTER, DE)[1], objects_of(big, CLUSTER, DE)[-1]
    live = copy.deepcopy(deployment)
    nsd = live["spec"]["template"]["spec"]["containers"][0]
    assert nsd["resources"] == {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "1024Mi"}}
    nsd["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    deployment["spec"]["template"]["spec"]["containers"][1]["env"][1]["value"] = ""
    del live["spec"]["template"]["spec"]["containers"][1]["env"][1]["value"]
    assert difference_of(deployment, live) == ""
    nsd["resources"]["limits"]["memory"] = "1G"
    assert difference_of(deployment, live).endswith("containers[nsd].resources.limits.memory is 1G, not 1024Mi")
    live = copy.deepcopy(quota)
    assert quota["spec"]["hard"]["requests.cpu"] == "3120m"
    live["spec"]["hard"] |= {"requests.cpu": "3.12", "pods": "3.0"}
    assert difference_of(quota, live) == ""


def test_an_object_that_is_missing_or_has_another_hash_alone_says_so() -> None:
    programs = next(o for o in objects_of(FLEET, CLUSTER, DE) if o["metadata"]["name"] == "programs")
    assert difference_of(programs, None) == "no ConfigMap programs of its set in de"
    live = copy.deepcopy(programs)
    live["metadata"]["annotations"]["anyconsole.io/rendered"] = "older"
    assert "rendered is older, not " in difference_of(programs, live)
    live["data"]["observer.py"] += "# changed\n"
    assert difference_of(programs, live) == "ConfigMap de/programs: data.observer.py differs from what set-up makes"
    del live["data"]["configure.py"]
    assert difference_of(programs, live) == "ConfigMap de/programs: data.configure.py is not set (+1 more)"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON, st.sampled_from(["labels", "annotations", "containers", "initContainers", "env", "image", "command"]))
def test_whatever_a_server_sends_it_is_compared_without_an_error(value: object, where: str) -> None:
    pod = made()
    match where:
        case "labels" | "annotations":
            pod["metadata"][where] = value
        case "containers" | "initContainers":
            pod["spec"][where] = value
        case _:
            container(pod, "observer")[where] = value
    assert isinstance(drift_of(pod, TEMPLATES), str)


@given(_JSON, st.sampled_from(["metadata", "spec", "template", "containers", "name", "env"]))
def test_whatever_a_server_sends_for_an_object_it_is_compared_without_an_error(value: object, where: str) -> None:
    rendered = objects_of(FLEET, CLUSTER, DE)[-1]
    live = copy.deepcopy(rendered)
    pod = live["spec"]["template"]["spec"]
    match where:
        case "metadata" | "spec":
            live[where] = value
        case "template":
            live["spec"][where] = value
        case "containers":
            pod[where] = value
        case _:
            pod["containers"][1][where] = value
    assert difference_of(rendered, live).startswith("Deployment de/ns-nsd: ") or value == rendered.get(where)
