"""A pod reads as it does in kubectl, and says in one line what keeps it from being ready."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings

from anyconsole.drivers.kube.pods import instances, pod_of
from anyconsole.model.facts import InstanceStatus
from anyconsole.model.pods import ContainerState, Pod
from tests.drivers.kube.objects import (
    NOW,
    Object,
    Value,
    assert_is_clean,
    changed,
    container,
    falsified,
    falsified_once,
    how,
    pod,
    running,
    terminated,
    waiting,
    with_init,
)

DELETED = ("metadata", "deletionTimestamp")
LAST = how(1, "Error", "2026-09-21T14:13:10Z")
EARLIER = how(1, "Error", "2026-09-21T14:11:20Z")
BLANK = waiting("nsd", "")
GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked"}
UNSCHEDULABLE = {
    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
    "message": "0/2 nodes are available: 2 node(s) didn't match\n Pod's node affinity/selector.",
}  # fmt: skip


def read(obj: object) -> Pod:
    return pod_of(obj, "k3s", "de", NOW)


def sidecar(name: str, started: bool, **fields: Value) -> Object:
    return container(name, {"running": {}}, **fields) | {"started": started}


def row(obj: Object) -> tuple[str, str, int, float | None]:
    """READY, STATUS, RESTARTS and how long ago the last was."""
    found = read(obj)
    ready, all_of_them = found.ready
    ago = None if found.restarted_at is None else NOW - found.restarted_at
    return f"{ready}/{all_of_them}", found.status, found.restarts, ago


@pytest.mark.parametrize(
    ("obj", "printed"),
    [
        (pod(running("nsd"), running("exporter")), ("2/2", "Running", 0, None)),
        (pod(running("nsd", ready=False)), ("0/1", "Running", 0, None)),
        (pod(phase="Pending"), ("0/0", "Pending", 0, None)),
        (pod(waiting("nsd", "ContainerCreating"), phase="Pending"), ("0/1", "ContainerCreating", 0, None)),
        (pod(waiting("nsd", "ImagePullBackOff"), running("exporter")), ("1/2", "ImagePullBackOff", 0, None)),
        (pod(waiting("nsd", "CrashLoopBackOff", restarts=2, last=LAST)), ("0/1", "CrashLoopBackOff", 2, 10.0)),
        # The first of the containers has the last word.
        (pod(waiting("nsd", "ErrImagePull"), terminated("exporter", 1, "Error")), ("0/2", "ErrImagePull", 0, None)),
        (pod(terminated("nsd", 0, "Completed"), phase="Succeeded"), ("0/1", "Completed", 0, None)),
        (pod(terminated("nsd", 1, "Error"), phase="Failed"), ("0/1", "Error", 0, None)),
        (pod(terminated("nsd", 137, "OOMKilled"), phase="Failed"), ("0/1", "OOMKilled", 0, None)),
        (pod(terminated("nsd", 3), phase="Failed"), ("0/1", "ExitCode:3", 0, None)),
        (pod(terminated("nsd", 0), phase="Succeeded"), ("0/1", "ExitCode:0", 0, None)),
        (pod(container("nsd", {"terminated": how(137, signal=9)})), ("0/1", "Signal:9", 0, None)),
        (pod(container("nsd", {"terminated": {}})), ("0/1", "ExitCode:0", 0, None)),
        # Ready alone isn't running.
        (pod(running("nsd", restarts=3), container("exporter", {}, restarts=3, ready=True)), ("1/2", "Running", 6, None)),
        (
            pod(terminated("job", 0, "Completed", restarts=3, ready=True), running("nsd", restarts=3), ready=False),
            ("1/2", "NotReady", 6, None),
        ),
        (pod(terminated("job", 0, "Completed"), running("nsd"), ready=True), ("1/2", "Running", 0, None)),
        (pod(phase="Failed", reason="Evicted", message="low on memory"), ("0/0", "Evicted", 0, None)),
        (pod(running("nsd"), running("x", restarts=3, last=LAST)), ("2/2", "Running", 3, 10.0)),
        (pod(running("nsd", restarts=6, last=EARLIER), running("x", restarts=3, last=LAST)), ("2/2", "Running", 9, 10.0)),
        (pod(phase="Pending", conditions=[GATED]), ("0/0", "SchedulingGated", 0, None)),
        (changed(pod(running("nsd")), *DELETED, to="2026-09-21T14:00:00Z"), ("1/1", "Terminating", 0, None)),
        (changed(pod(phase="Pending"), *DELETED, to="2026-09-21T14:00:00Z"), ("0/0", "Terminating", 0, None)),
        (
            changed(pod(terminated("nsd", 0, "Completed"), phase="Succeeded"), *DELETED, to="2026-09-21T14:00:00Z"),
            ("0/1", "Completed", 0, None),
        ),
        (
            changed(pod(running("nsd"), reason="NodeLost"), *DELETED, to="2026-09-21T14:00:00Z"),
            ("1/1", "Unknown", 0, None),
        ),
        (pod(running("nsd"), reason="NodeLost"), ("1/1", "NodeLost", 0, None)),
    ],
)  # fmt: skip
def test_a_pod_is_told_in_the_columns_that_kubectl_prints(obj: Object, printed: object) -> None:
    assert row(obj) == printed


@pytest.mark.parametrize(
    ("init", "printed"),
    [
        ([running("one", restarts=3, last=LAST), BLANK], ("0/1", "Init:0/2", 3, 10.0)),
        ([terminated("one", 0, "Completed"), running("two", restarts=3, last=LAST)], ("0/1", "Init:1/2", 3, 10.0)),
        (
            [terminated("one", 0, restarts=2, last=EARLIER), running("two", restarts=3, last=LAST)],
            ("0/1", "Init:1/2", 5, 10.0),
        ),
        ([waiting("one", "PodInitializing"), waiting("two", "PodInitializing")], ("0/1", "Init:0/2", 0, None)),
        ([waiting("one", "CrashLoopBackOff", restarts=4, last=LAST)], ("0/1", "Init:CrashLoopBackOff", 4, 10.0)),
        ([terminated("one", 1, "Error")], ("0/1", "Init:Error", 0, None)),
        ([terminated("one", 1)], ("0/1", "Init:ExitCode:1", 0, None)),
        ([container("one", {"terminated": how(137, signal=9)})], ("0/1", "Init:Signal:9", 0, None)),
    ],
)
def test_a_pod_that_is_initialising_says_how_far_it_is(init: list[Object], printed: object) -> None:
    assert row(with_init(pod(waiting("nsd", "PodInitializing"), phase="Pending"), *init)) == printed


def test_a_pod_whose_init_containers_are_done_is_told_by_the_others() -> None:
    done = terminated("one", 0, "Completed", restarts=2, last=EARLIER)
    creating = with_init(pod(waiting("nsd", "PodInitializing"), phase="Pending"), done)
    assert row(creating) == ("0/1", "PodInitializing", 0, None)
    back = with_init(pod(running("nsd", ready=False, restarts=4, last=LAST)), done)
    assert row(back) == ("0/1", "Running", 4, 10.0)


@pytest.mark.parametrize(
    ("main", "init", "initialized", "printed"),
    [
        (BLANK, [sidecar("a", False, restarts=3, last=LAST), waiting("b", "")], False, ("0/3", "Init:0/2", 3, 10.0)),
        (BLANK, [sidecar("a", True, restarts=3, last=LAST), sidecar("b", False)], False, ("0/3", "Init:1/2", 3, 10.0)),
        (
            running("nsd", restarts=4, last=EARLIER),
            [sidecar("a", True, restarts=3, last=LAST), sidecar("b", True)],
            True,
            ("1/3", "Running", 7, 10.0),
        ),
        (running("nsd"), [sidecar("a", True, ready=True), sidecar("b", True, ready=True)], True, ("3/3", "Running", 0, None)),
        (
            terminated("nsd", 0, "Completed", restarts=4, last=EARLIER),
            [terminated("a", 137, "Error", restarts=3, last=LAST), terminated("b", 137, "Error")],
            True,
            ("0/3", "Completed", 7, 10.0),
        ),
        # A sidecar that crashes after all went well: kubectl counts the restarts of those up to it.
        (
            running("nsd"),
            [waiting("a", "CrashLoopBackOff", restarts=5, last=EARLIER), sidecar("b", True, ready=True, restarts=2, last=LAST)],
            True,
            ("2/3", "Init:CrashLoopBackOff", 5, 120.0),
        ),
    ],
)  # fmt: skip
def test_sidecars_count_as_containers(main: Object, init: list[Object], initialized: bool, printed: object) -> None:
    obj = with_init(pod(main), *init, initialized=initialized, sidecars=("a", "b"))
    assert row(obj) == printed


GATE = "target-health.example/ns"


@pytest.mark.parametrize(
    ("obj", "trouble"),
    [
        (pod(running("nsd")), ""),
        (pod(terminated("job", 0, "Completed"), phase="Succeeded"), ""),
        (
            pod(phase="Pending", conditions=[UNSCHEDULABLE]),
            "Unschedulable: 0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
        ),
        (
            changed(pod(phase="Pending", conditions=[GATED]), "spec", "schedulingGates", to=[{"name": "example/wait"}]),
            "SchedulingGated: Scheduling is blocked: example/wait",
        ),
        (pod(phase="Failed", reason="Evicted", message="The node was low on memory."), "Evicted: The node was low on memory."),
        (
            pod(waiting("nsd", "ImagePullBackOff", 'Back-off pulling image "nsd:9"'), waiting("x", "ContainerCreating")),
            'nsd: ImagePullBackOff: Back-off pulling image "nsd:9"',
        ),
        (
            pod(running("nsd", ready=False), waiting("x", "CrashLoopBackOff", "back-off 5m0s", restarts=2, last=LAST)),
            "x: CrashLoopBackOff, last Error (exit code 1): back-off 5m0s",
        ),
        (
            pod(waiting("nsd", "CrashLoopBackOff", "back-off 5m0s", restarts=2, last=how(1, "Error", message="bad zone\n"))),
            "nsd: CrashLoopBackOff, last Error (exit code 1): bad zone",
        ),
        (pod(running("x"), terminated("nsd", 137, "OOMKilled")), "nsd: OOMKilled (exit code 137)"),
        (pod(container("nsd", {"terminated": how(139, signal=11)})), "nsd: Signal:11"),
        (pod(running("nsd", ready=False, restarts=1, last=LAST)), "nsd: not ready, last Error (exit code 1)"),
        (pod(running("nsd", ready=False), running("observer", ready=False), running("x")), "not ready: nsd, observer"),
        (pod(waiting("nsd", "ContainerCreating"), waiting("x", "ContainerCreating")), "nsd: ContainerCreating"),
        (
            with_init(pod(waiting("nsd", "PodInitializing")), terminated("a", 0, "Completed"), terminated("b", 2, "Error")),
            "b: Error (exit code 2)",
        ),
        (
            changed(pod(running("nsd"), ready=False), "spec", "readinessGates", to=[{"conditionType": GATE}]),
            f"waits for readiness gate {GATE}",
        ),
        (
            changed(
                changed(pod(running("nsd", ready=False)), *DELETED, to="2026-09-21T14:00:00Z"),
                "metadata", "finalizers", to=["example/keep"],
            ),
            "being deleted, kept by finalizers example/keep",
        ),
    ],
)  # fmt: skip
def test_what_keeps_a_pod_from_being_ready_is_one_line(obj: Object, trouble: str) -> None:
    assert read(obj).trouble == trouble


def test_a_pod_says_what_it_is_where_it_is_and_whose() -> None:
    found = read(pod(running("nsd"), waiting("x", "CrashLoopBackOff", "back-off", restarts=2, last=LAST)))
    assert found.key == ("pod", "k3s", "de", "ns-5c7b8d9f6-x2x4q")
    assert (found.section, found.tenant, found.host) == ("pods:de", "de", "hv1")
    assert found.addresses == ("10.42.0.7", "fd00::7")
    assert (found.app, found.owner) == ("ns", "Deployment/ns")
    assert NOW - found.created_at == 3620
    nsd, other = found.containers
    assert (nsd.state, nsd.started_at, nsd.image) == (ContainerState.RUNNING, NOW - 3600, "nsd:4.9.1")
    assert (other.state, other.reason, other.message) == (ContainerState.WAITING, "CrashLoopBackOff", "back-off")
    assert (other.last_reason, other.last_exit_code, other.last_finished_at) == ("Error", 1, NOW - 10)


def test_a_pod_without_statuses_yet_has_its_containers_all_the_same() -> None:
    fresh = changed(
        pod(running("nsd"), running("x"), phase="Pending", ready=False), "status", "containerStatuses", to=[]
    )
    assert read(fresh).ready == (0, 2)
    assert [c.image for c in read(fresh).containers] == ["nsd:4.9.1", "x:4.9.1"]


@pytest.mark.parametrize(
    ("labels", "owner", "told"),
    [
        ({"app": "a", "k8s-app": "k"}, ("DaemonSet", "ds"), ("a", "DaemonSet/ds")),
        ({"k8s-app": "calico-node"}, ("DaemonSet", "calico-node"), ("calico-node", "DaemonSet/calico-node")),
        ({"pod-template-hash": "5c7"}, ("ReplicaSet", "web-5c7"), ("web", "Deployment/web")),
        ({}, ("ReplicaSet", "web-5c7"), ("web-5c7", "ReplicaSet/web-5c7")),
        ({}, ("StatefulSet", "ns"), ("ns", "StatefulSet/ns")),
        ({}, ("Node", "x2x4q"), ("ns-5c7b8d9f6", "Node/x2x4q")),
    ],
)
def test_a_pod_is_of_an_app_even_if_its_labels_do_not_say_so(
    labels: dict[str, str], owner: tuple[str, str], told: tuple[str, str]
) -> None:
    obj = changed(pod(running("nsd")), "metadata", "labels", to=labels)
    reference = {"kind": owner[0], "name": owner[1], "controller": True}
    found = read(
        changed(obj, "metadata", "ownerReferences", to=[{"kind": "X", "name": "not its controller"}, reference])
    )
    assert (found.app, found.owner) == told


def named(name: str, obj: Object, component: str = "", host: str = "hv1", created: str = "2026-09-21T13:00:00Z") -> Pod:
    obj = changed(changed(obj, "metadata", "name", to=name), "spec", "nodeName", to=host)
    labels = {"anyconsole.io/component": component} if component else {}
    return read(changed(changed(obj, "metadata", "labels", to=labels), "metadata", "creationTimestamp", to=created))


def instance(*pods: Pod) -> InstanceStatus:
    return instances(pods, "fra-k1", "hv1", "de", "nsd", NOW)


def test_the_name_server_of_a_node_is_its_tenant_s_pod_there() -> None:
    newer = named("newer", pod(running("nsd", image="nsd:9")), "name-server", created="2026-09-21T14:00:00Z")
    found = instance(
        named("controller", pod(running("ac")), "controller"),
        named("elsewhere", pod(running("nsd", ready=False)), "name-server", host="hv2"),
        named("answers", pod(running("exporter"), running("nsd", image="localhost:5000/nsd:4.9.1@sha256:0f1e")), "name-server"),
        msgspec.structs.replace(newer, tenant="nic"),
    )  # fmt: skip
    assert found.key == ("instance", "fra-k1", "de")
    assert (found.section, found.daemon) == ("pod:de", "nsd")
    assert (found.running, found.is_ready, found.detail) == (True, True, "")
    assert (found.version, found.uptime) == ("4.9.1", 3600)


def test_a_pod_that_runs_and_is_not_ready_says_why() -> None:
    found = instance(named("ns-a", pod(running("nsd"), running("observer", ready=False))))
    assert (found.running, found.is_ready, found.detail) == (True, False, "not ready: observer")


def test_in_a_roll_over_the_ready_pod_counts() -> None:
    new, old = pod(waiting("nsd", "ErrImagePull")), pod(running("nsd"))
    younger = named("ns-new", new, created="2026-09-21T14:00:00Z")
    going = named("ns-gone", changed(pod(running("nsd", ready=False)), *DELETED, to="2026-09-21T14:00:00Z"))
    assert instance(younger, named("ns-old", old), going).is_ready
    assert instance(going, younger).detail == "nsd: ErrImagePull"


def test_a_name_server_that_is_nowhere_on_a_node_does_not_run() -> None:
    found = instance(named("ns-a", pod(running("nsd")), host="hv2"))
    assert (found.running, found.is_ready, found.uptime, found.detail) == (False, False, None, "no pod on this node")
    assert not found.is_absent, "it is on another"
    assert instance().is_absent
    assert instance(named("debug", pod(running("shell")))).is_absent, "that is no name server"
    stuck = pod(phase="Pending", conditions=[UNSCHEDULABLE])
    assert not instance(named("ns-a", stuck, host="")).is_absent
    assert instance(named("ns-a", stuck, host="")).detail.startswith(
        "no pod on this node (ns-a: Unschedulable: 0/2 nodes"
    )


@pytest.mark.parametrize(("name", "process"), [("ns-a", "main"), ("dns", "knotd"), ("dns", "named"), ("dns", "bind")])
def test_name_servers_that_others_set_up_are_found_by_their_names(name: str, process: str) -> None:
    assert instance(named(name, pod(running(process)))).running
    assert not instance(named(name, pod(running(process)), "exporter")).running
    assert not instance(named("web", pod(running("nginx")))).running


def test_remote_words_cannot_reach_the_terminal() -> None:
    found = read(pod(waiting("nsd", "Err\x1b[2J", "\x1b]0;owned\x07 \u202e" + "x" * 5000)))
    assert_is_clean(found)
    assert found.status == "Err [2J"
    assert len(found.trouble) == 300


def test_a_pod_without_end_is_cut() -> None:
    found = read(pod(*(running(f"c{n}", restarts=1) for n in range(5000))))
    assert_is_clean(found)
    assert found.ready == (64, 64)


REAL = [
    pod(running("nsd"), waiting("x", "CrashLoopBackOff", "back-off", restarts=2, last=LAST)),
    with_init(pod(BLANK, phase="Pending"), terminated("a", 0), sidecar("b", True), terminated("c", 1), sidecars=("b",)),
    changed(
        changed(pod(terminated("nsd", 1, "Error"), phase="Pending", conditions=[GATED]), *DELETED, to="2026-09-21T14:00:00Z"),
        "metadata", "finalizers", to=["a/b"],
    ),
    changed(pod(running("nsd"), ready=False), "spec", "readinessGates", to=[{"conditionType": GATE}]),
]  # fmt: skip


def check(lie: object) -> None:
    found = read(lie)
    assert_is_clean(found)
    assert found.status
    assert_is_clean(instances([found], "fra-k1", "hv1", "de", "nsd", NOW))


@pytest.mark.parametrize("original", REAL)
def test_no_single_value_of_a_pod_breaks_anything(original: Object) -> None:
    for lie in falsified_once(original):
        check(lie)


@settings(max_examples=200, deadline=None)
@given(falsified(REAL))
def test_a_server_that_lies_about_pods_breaks_nothing(lie: object) -> None:
    check(lie)
