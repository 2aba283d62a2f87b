"""Pods in kubectl's words: what runs, what fails and why, what may not be seen, and what is only remembered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from anyconsole.model.facts import Beat, Gone, LinkState
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.metrics import DnsProbe, Metrics, Workload
from anyconsole.model.pods import ContainerState, Permission
from anyconsole.model.report import row_value
from anyconsole.model.store import FleetStore
from anyconsole.model.table import ASCII, UNICODE, Level, Row, View, human_duration
from anyconsole.model.views import containers_view, pod_events_view, views
from tests.fleet import CLUSTER, MONITORING, NOW, container, healthy_hybrid, hybrid, name_server_pod, pod

AC = ("pod", CLUSTER, "de", "ac-c9df674b-wt9b8")


def change(store: FleetStore, key: tuple[str, ...], **fields: object) -> None:
    fact = store.get(key)
    assert fact is not None, key
    store.apply([msgspec.structs.replace(fact, **fields)])


def rows_of(store: FleetStore, name: str, now: float = NOW) -> tuple[View, list[Row]]:
    view = views(store)[name]
    return view, view.rows(store, now)


def shown(store: FleetStore, name: str, now: float = NOW) -> list[dict[str, Any]]:
    view, rows = rows_of(store, name, now)
    return [row_value(view.columns, row) for row in rows]


def texts(store: FleetStore, key: tuple[str, ...], name: str = "pods", now: float = NOW) -> dict[str, str]:
    view, rows = rows_of(store, name, now)
    row = next(r for r in rows if r.key == key)
    return {column.id: cell.text for column, cell in zip(view.columns, row.cells, strict=True)}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (4380, "73m"), (3 * 3600, "3h"), (5 * 3600 + 120, "5h2m"),
        (30 * 3600, "30h"), (2 * 86400, "2d"), (2 * 86400 + 4 * 3600, "2d4h"), (57 * 86400, "57d"), (800 * 86400, "2y70d"),
        (10 * 365 * 86400, "10y"), (-5, "0s"),
    ],
)  # fmt: skip
def test_ages_are_in_kubectls_words(seconds: float, words: str) -> None:
    assert human_duration(seconds) == words


def test_a_pod_reads_as_kubectl_shows_it() -> None:
    store = healthy_hybrid()
    change(store, AC, restarts=2, restarted_at=NOW - 4380)
    row = texts(store, AC)
    del row["seen_age"]
    assert row == {
        "namespace": "de", "name": "ac-c9df674b-wt9b8", "ready": "1/1", "status": "● Running", "restarts": "2 (73m ago)",
        "pod_age": "73m", "host": "hv1", "addresses": "10.42.0.7 fd42::7", "reason": "",
    }  # fmt: skip


def test_tenants_and_monitoring_come_before_others_and_the_worst_before_all() -> None:
    store = healthy_hybrid()
    store.apply([pod("aaa", "x"), pod("zzz", "y", status="ImagePullBackOff", is_ready=False)])
    order = list(dict.fromkeys(v["namespace"] for v in shown(store, "pods")))
    assert order == ["zzz", "de", "nic", "enum", "monitoring", "aaa"]


@pytest.mark.parametrize(
    ("status", "is_ready", "sign", "level"),
    [
        ("Running", True, "●", Level.OK),
        ("Completed", False, "●", Level.OK),
        ("Running", False, "▲", Level.WARN),
        ("Pending", False, "▲", Level.WARN),
        ("Init:0/2", False, "▲", Level.WARN),
        ("Terminating", True, "▲", Level.WARN),
        ("CrashLoopBackOff", False, "✖", Level.CRIT),
        ("Init:CrashLoopBackOff", False, "✖", Level.CRIT),
        ("ExitCode:1", False, "✖", Level.CRIT),
        ("Unknown", False, "✖", Level.CRIT),
        ("SomethingNew", False, "✖", Level.CRIT),
    ],
)
def test_a_status_is_coloured_by_its_word_and_never_by_colour_alone(
    status: str, is_ready: bool, sign: str, level: Level
) -> None:
    store = healthy_hybrid()
    change(store, AC, status=status, is_ready=is_ready)
    view = views(store)["pods"]
    cell = view.row(store, AC, NOW, UNICODE).cells[3]
    assert (cell.text, cell.level) == (f"{sign} {status}", level)
    assert view.row(store, AC, NOW, ASCII).cells[3].text.isascii()


def test_why_a_pod_is_not_ready_stands_beside_it_cleaned() -> None:
    store = healthy_hybrid()
    change(store, AC, status="Pending", is_ready=False, trouble="0/2 nodes are available: \x1b[31mtoo few cpus")
    assert texts(store, AC)["reason"] == "0/2 nodes are available:  [31mtoo few cpus"


def test_a_pod_that_runs_but_not_as_it_was_set_up_says_how() -> None:
    store = healthy_hybrid()
    change(store, AC, drift="image of nsd is nsd:1, not nsd:2")
    assert (texts(store, AC)["status"], texts(store, AC)["reason"]) == (
        "● Running",
        "not as set up: image of nsd is nsd:1, not nsd:2",
    )
    change(store, AC, status="Pending", is_ready=False, trouble="too few cpus")
    assert texts(store, AC)["reason"] == "too few cpus"


def test_a_recent_restart_warns_and_an_old_one_does_not() -> None:
    store = healthy_hybrid()
    view = views(store)["pods"]
    for ago, level in ((100, Level.WARN), (4000, Level.NONE)):
        change(store, AC, restarts=2, restarted_at=NOW - ago)
        assert view.row(store, AC, NOW, UNICODE).cells[4].level is level


def test_a_lost_cluster_leaves_its_pods_with_their_age_and_counts_none_of_them_as_ready() -> None:
    store = healthy_hybrid()
    row = texts(store, AC, now=NOW + 42)
    assert (row["status"], row["ready"], row["reason"], row["seen_age"]) == (
        "? STALE",
        "?/1",
        "was Running 42s ago",
        "42s",
    )
    assert {v["status"] for v in shown(store, "pods", NOW + 42)} == {"STALE"}
    assert {v["status"] for v in shown(store, "monitoring", NOW + 42)} == {"STALE"}


def test_a_cluster_that_was_never_seen_is_a_row_and_not_an_empty_list() -> None:
    store = FleetStore(hybrid())
    assert [(v["name"], v["status"], v["reason"]) for v in shown(store, "pods")] == [
        ("(k3s)", "UNKNOWN", "not connected yet")
    ]
    fact = healthy_hybrid().link(CLUSTER)
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, state=LinkState.DENIED, detail="k3s: 401 Unauthorized")])
    assert shown(store, "pods")[0]["reason"] == "401 Unauthorized"
    assert {(v["status"], v["reason"]) for v in shown(store, "monitoring")} == {("UNKNOWN", "401 Unauthorized")}


def test_what_may_not_be_listed_is_said_with_the_permission_and_to_whom() -> None:
    store = healthy_hybrid()
    denied = tuple(Permission(verb=verb, resource="pods", namespace="nic") for verb in ("list", "watch"))
    change(store, ("cluster", CLUSTER), denied=(*denied, Permission(verb="get", resource="secrets")))
    row = texts(store, ("denied", CLUSTER, "nic"))
    assert (row["namespace"], row["status"], row["restarts"]) == ("nic", "▲ no permission", "-")
    assert row["reason"] == "ops may not list pods in nic, watch pods in nic"
    assert len([v for v in shown(store, "pods") if v["status"] == "no permission"]) == 1


def test_a_second_cluster_brings_a_column_that_tells_them_apart() -> None:
    fleet = hybrid()
    assert "cluster" not in shown(healthy_hybrid(), "pods")[0]
    both = msgspec.structs.replace(fleet, clusters=(*fleet.clusters, ClusterSpec(name="lab")))
    store = healthy_hybrid(both)
    assert {v["cluster"] for v in shown(store, "pods")} == {"k3s", "lab"}
    assert len(shown(store, "monitoring")) == 2 * len(MONITORING)


# --- monitoring


def component(store: FleetStore, name: str, now: float = NOW) -> tuple[str, str, str, str]:
    row = texts(store, ("monitoring", CLUSTER, name), "monitoring", now)
    return row["status"], row["ready"], row["restarts"], row["reason"]


def test_monitoring_is_one_row_per_component_with_its_worst_word() -> None:
    store = healthy_hybrid()
    assert [v["component"] for v in shown(store, "monitoring")] == list(MONITORING)
    assert component(store, "node-exporter") == ("● Running", "2/2", "0", "")
    change(
        store, ("pod", CLUSTER, "monitoring", "node-exporter-hv2"),
        status="CrashLoopBackOff", is_ready=False, restarts=3, restarted_at=NOW - 90, trouble="exit 1",
    )  # fmt: skip
    assert component(store, "node-exporter") == ("✖ CrashLoopBackOff", "1/2", "3 (90s ago)", "exit 1")
    assert shown(store, "monitoring")[0]["component"] == "node-exporter"


def test_a_component_is_found_by_the_names_that_its_charts_give_it_and_a_job_is_none() -> None:
    store = healthy_hybrid()
    store.apply([Gone(key=("pod", CLUSTER, "monitoring", f"{name}-hv1")) for name in ("blackbox-exporter", "nginx")])
    store.apply(
        [
            pod("monitoring", "p-1", app="prometheus-blackbox-exporter"),
            pod("monitoring", "i-1", app="ingress-nginx"),
            pod("monitoring", "j-1", app="ingress-nginx", status="Completed", is_ready=False),
            pod("de", "n-1", app="nginx"),
        ]
    )
    assert component(store, "blackbox-exporter")[:2] == ("● Running", "1/1")
    assert component(store, "nginx")[:2] == ("● Running", "1/1")


def test_a_component_that_is_not_there_is_absent_only_if_we_can_see_that() -> None:
    store = healthy_hybrid()
    store.apply([Gone(key=("pod", CLUSTER, "monitoring", "prometheus-hv1"))])
    assert component(store, "prometheus") == ("· absent", "-", "-", "no pod of it in monitoring")
    assert component(store, "prometheus", NOW + 60)[0] == "? STALE"
    store.apply([Beat(node=CLUSTER, at=NOW + 60, sections=("pods:monitoring",))])
    assert component(store, "prometheus", NOW + 60)[0] == "· absent"
    change(store, ("cluster", CLUSTER), denied=(Permission(verb="list", resource="pods"),))
    assert component(store, "prometheus")[0::3] == ("▲ no permission", "ops may not list pods in all namespaces")


PROBE = DnsProbe(
    node=CLUSTER, section="blackbox:192.0.2.53", at=NOW, tenant="de", address="192.0.2.53", succeeded=True, answered=True,
    zone="de.example", latency=0.0012, serial=7,
)  # fmt: skip
SHORT = Workload(
    node=CLUSTER, section="workload:x", at=NOW, namespace="de", of="Deployment", name="ns-nsd", wanted=2, available=1
)


def prometheus(**fields: Any) -> Metrics:  # noqa: ANN401
    return Metrics(node=CLUSTER, section="prometheus", at=NOW, **fields)


def test_a_component_that_runs_says_what_it_does_for_us() -> None:
    store = healthy_hybrid()
    store.apply([prometheus(rates=6)])
    assert component(store, "prometheus")[3] == "6 instances with a rate"
    assert component(store, "blackbox-exporter")[3] == "Prometheus has no DNS probe of a service address"
    assert component(store, "kube-state-metrics")[3] == "Prometheus has no workload of ours"
    bad = msgspec.structs.replace(PROBE, address="2001:db8:de::53", section="blackbox:x", succeeded=False)
    store.apply([prometheus(rates=6, probes=2, workloads=1), PROBE, bad, SHORT])
    assert component(store, "blackbox-exporter")[3] == "1 of 2 DNS probes answered"
    assert component(store, "kube-state-metrics")[3] == "0 of 1 workloads complete"
    store.apply([prometheus(error="k3s: 503 no endpoints")])
    assert component(store, "prometheus")[::3] == ("▲ Running", "k3s: 503 no endpoints")


# --- workloads, as kube-state-metrics counts them


def test_a_workload_that_lacks_pods_is_a_row_and_a_complete_one_is_none() -> None:
    store = healthy_hybrid()
    store.apply([SHORT])
    row = texts(store, SHORT.key)
    assert (row["name"], row["ready"], row["status"]) == ("Deployment/ns-nsd", "1/2", "▲ incomplete")
    assert row["reason"] == "1 of 2 pods are not available, by kube-state-metrics"
    assert texts(store, SHORT.key, now=NOW + 300)["status"] == "? STALE"
    change(store, SHORT.key, available=0)
    assert texts(store, SHORT.key)["status"] == "✖ incomplete"
    change(store, SHORT.key, available=2)
    assert SHORT.key not in [row.key for row in rows_of(store, "pods")[1]]


def test_where_pods_may_not_be_listed_the_workloads_stand_for_them() -> None:
    store = healthy_hybrid()
    store.apply([msgspec.structs.replace(SHORT, available=2)])
    change(store, ("cluster", CLUSTER), denied=(Permission(verb="list", resource="pods", namespace="nic"),))
    assert SHORT.key not in [row.key for row in rows_of(store, "pods")[1]]
    change(store, ("cluster", CLUSTER), denied=(Permission(verb="list", resource="pods", namespace="de"),))
    assert texts(store, SHORT.key)["status"] == "● complete"


# --- one pod


def test_containers_say_how_they_are_and_how_they_ended_before() -> None:
    store = FleetStore(hybrid())
    waiting = {"state": ContainerState.WAITING, "ready": False, "started_at": None}
    broken = name_server_pod(
        "de", "hv1", status="CrashLoopBackOff", is_ready=False,
        containers=(
            container("prepare", init=True, state=ContainerState.TERMINATED, ready=False, exit_code=0, reason="Completed"),
            container("proxy", init=True, sidecar=True),
            container("observer", ready=False),
            container(
                "nsd", **waiting, reason="CrashLoopBackOff", message="back-off 40s", restarts=4, last_reason="OOMKilled",
                last_exit_code=137, last_finished_at=NOW - 100,
            ),
            container("exporter", **waiting, reason="ContainerCreating"),
        ),
    )  # fmt: skip
    store.apply([broken])
    view = containers_view(*broken.key[1:])
    rows = {row.key[4]: row_value(view.columns, row) for row in view.rows(store, NOW)}
    assert list(rows) == ["nsd", "observer", "exporter", "prepare", "proxy"]
    assert {name: (row["kind"], row["status"]) for name, row in rows.items()} == {
        "prepare": ("init", "Completed"), "proxy": ("sidecar", "running"), "observer": ("container", "running"),
        "nsd": ("container", "CrashLoopBackOff"), "exporter": ("container", "ContainerCreating"),
    }  # fmt: skip
    assert (rows["nsd"]["last_end"], rows["nsd"]["restarts"], rows["nsd"]["reason"]) == (
        "OOMKilled (137) 100s ago",
        4,
        "back-off 40s",
    )
    assert rows["observer"]["image"] == "registry.example/observer:1.0"
    stale = view.rows(store, NOW + 60)
    assert {row.cells[2].text for row in stale} == {"? STALE"}
    store.apply([Gone(key=broken.key)])
    assert view.keys(store) == []
    assert view.row(store, ("container", *broken.key[1:], "nsd"), NOW, UNICODE).cells[2].text == "· gone"


def test_the_events_of_a_pod_are_its_own_the_latest_first() -> None:
    store = healthy_hybrid()
    (known,) = store.cluster_events(CLUSTER, "de")
    about = f"Pod/{AC[3]}"
    store.apply(
        [
            msgspec.structs.replace(known, name="e1", about=about, severity="Warning", reason="BackOff", last_at=NOW - 30, count=7),
            msgspec.structs.replace(known, name="e2", about=about, last_at=NOW - 3),
        ]
    )  # fmt: skip
    view = pod_events_view(*AC[1:])
    rows = [row_value(view.columns, row) for row in view.rows(store, NOW)]
    assert [(r["last_age"], r["severity"], r["event"], r["count"]) for r in rows] == [
        (3, "Normal", "Pulled", 1),
        (30, "Warning", "BackOff", 7),
    ]
