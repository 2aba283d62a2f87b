"""A difference shows what applying would change of what is ours, and nothing that the server or others put there."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anyconsole.drivers.kube.diff import difference, differences
from anyconsole.drivers.kube.objects import tenant_objects
from anyconsole.drivers.kube.render import Object
from tests.drivers.kube.stack import fleet

FLEET = fleet()
OBJECTS = tenant_objects(FLEET, FLEET.clusters[0], FLEET.tenant("de"))
DEPLOYMENT, SERVICE = OBJECTS[-1], next(obj for obj in OBJECTS if obj["kind"] == "Service")


def stored(obj: Object) -> Object:
    """The object as a server gives it back: with defaults, a status, and what others wrote."""
    live = copy.deepcopy(obj)
    live["metadata"] |= {"uid": "1", "resourceVersion": "7", "generation": 2, "managedFields": [{"manager": "x"}]}
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    live["metadata"]["labels"]["team"] = "dns"
    live["status"] = {"replicas": 2}
    if obj["kind"] == "Deployment":
        live["spec"]["progressDeadlineSeconds"] = 600
        live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
        live["spec"]["template"]["spec"]["containers"].append({"name": "injected", "image": "mesh"})
    return live


def test_an_object_that_is_as_it_was_rendered_differs_in_nothing() -> None:
    for obj in OBJECTS:
        assert difference(obj, stored(obj)) == []
        assert difference(obj, stored(obj), stored(obj)) == []


def test_what_somebody_edited_by_hand_is_shown_as_it_is_and_as_it_would_be() -> None:
    live = stored(DEPLOYMENT)
    live["spec"]["replicas"] = 1
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.net/nsd:4.0.0"
    assert difference(DEPLOYMENT, live, stored(DEPLOYMENT)) == [
        "- spec.replicas: 1",
        "+ spec.replicas: 2",
        "- spec.template.spec.containers[nsd].image: registry.example.net/nsd:4.0.0",
        "+ spec.template.spec.containers[nsd].image: registry.example.net/nsd:4.12.0",
    ]


def test_the_same_port_of_two_protocols_is_two_things() -> None:
    live = stored(SERVICE)
    live["spec"]["ports"] = live["spec"]["ports"][:1]
    lines = difference(SERVICE, live)
    assert lines
    assert all(line.startswith("+ spec.ports[dns-tcp].") for line in lines)


def test_what_isnt_rendered_any_more_is_shown_to_go() -> None:
    live, dry = stored(SERVICE), stored(SERVICE)
    live["spec"]["externalIPs"] = [*SERVICE["spec"]["externalIPs"], "192.0.2.99"]
    live["metadata"]["labels"]["old"] = "1"
    assert difference(SERVICE, live, dry) == [
        "- spec.externalIPs: [192.0.2.53, 2001:db8:de::53, 192.0.2.99]",
        "+ spec.externalIPs: [192.0.2.53, 2001:db8:de::53]",
        "- metadata.labels.old: 1",
    ]


def test_the_servers_own_spelling_is_no_difference() -> None:
    rendered = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"cpu": "0.5"}}
    live: Object = {"metadata": {"name": "l"}, "spec": {"cpu": "500m"}}
    assert difference(rendered, live, live) == []


def test_an_object_that_isnt_there_is_all_new_and_long_text_is_counted() -> None:
    programs = next(obj for obj in OBJECTS if obj["metadata"]["name"] == "programs")
    lines = difference(programs, None)
    assert "+ kind: ConfigMap" in lines
    assert any(line.startswith("+ data.observer.py: (") and line.endswith("lines)") for line in lines)
    assert differences({"a": [], "b": ["+ x: 1"]}) == "a: unchanged\nb\n  + x: 1"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "spec", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values, json_values, json_values)
def test_no_object_of_a_server_that_lies_makes_it_fail(first: Any, second: Any, third: Any) -> None:  # noqa: ANN401
    rendered: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": first}
    lines = difference(rendered, {"metadata": second, "data": third}, {"metadata": third, "data": second})
    assert all(line[:2] in {"- ", "+ "} for line in lines)
    assert difference(rendered, rendered, rendered) == []
