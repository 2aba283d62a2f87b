"""Pods on the screen: beside the instances of pane 4, down to their containers, with logs, shells and YAML of the right one."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
import pytest

from anyconsole.model.facts import Gone, Key
from anyconsole.model.inventory import Inventory
from anyconsole.model.metrics import DnsProbe, Metrics, Workload
from anyconsole.model.pods import ContainerState, Permission
from anyconsole.model.table import UNICODE
from anyconsole.tui.fact_text import describe, facts_about
from anyconsole.tui.pod_sources import containers_of
from anyconsole.tui.scope import Scope, is_within
from anyconsole.tui.sources import Source, logs_of, sections_of, shell_of
from tests.fleet import CLUSTER, NOW, container, healthy_hybrid, hybrid, inventory, name_server_pod, pod
from tests.tui.conftest import console
from tests.tui.fake_client import FakeClient

NS = "ns.de-7c89b7799b-hv1"
CRASHED = pod(
    "de", "ac-c9df674b-wt9b8", tenant="de", status="CrashLoopBackOff", is_ready=False, restarts=4, restarted_at=NOW - 100,
    trouble="ac: OOMKilled (137)",
    containers=(
        container(
            "ac", state=ContainerState.WAITING, ready=False, started_at=None, reason="CrashLoopBackOff", message="back-off 40s", restarts=4,
            last_reason="OOMKilled", last_exit_code=137, last_finished_at=NOW - 100,
        ),
    ),
)  # fmt: skip


def client(fleet: Inventory | None = None) -> FakeClient:
    return FakeClient(fleet or hybrid())


async def test_the_health_pane_goes_round_instances_pods_and_monitoring() -> None:
    async with console(fleet=client()) as c:
        await c.press("4")
        assert "Health[12]" in c.text
        await c.press("m")
        assert "Pods[17]" in c.text
        assert "ns.enum-7c89b7799b-hv2" in c.text
        await c.press("m")
        assert "Monitoring[6]" in c.text
        assert "kube-state-metrics" in c.text
        await c.press("m")
        assert "Health[12]" in c.text


async def test_without_clusters_the_health_pane_is_what_it_was() -> None:
    async with console() as c:
        await c.press("4", "m")
        assert "no other half" in c.message
        await c.app.run_command("pods")
        await c.pilot.pause()
        assert "the profile names no cluster" in c.text


async def test_pods_are_those_of_the_node_or_tenant_one_came_from() -> None:
    async with console((120, 40), fleet=client()) as c:
        await c.app.run_command("node hv2")
        await c.pilot.pause()
        await c.press("m")
        assert "Pods(hv2)[5]" in c.text
        await c.press("escape")
        await c.app.run_command("tenant nic")
        await c.pilot.pause()
        await c.press("m")
        assert "Pods(nic)[3]" in c.text
        await c.app.run_command("node fra1")
        await c.pilot.pause()
        await c.press("m")
        assert "no other half" in c.message


async def test_pods_come_go_and_fail_while_one_looks() -> None:
    async with console((120, 40), fleet=client()) as c:
        await c.app.run_command("pods")
        await c.pilot.pause()
        c.pane.table.hold_after_key = c.pane.table.resort_every = 0
        await c.press("j")
        under = c.pane.key
        c.fleet.apply(CRASHED, pod("nic", "new-1"), Gone(key=("pod", CLUSTER, "monitoring", "nginx-hv1")))
        await c.settle()
        assert "Pods[17]" in c.text
        assert "new-1" in c.text
        assert "nginx-hv1" not in c.text
        assert next(iter(c.pane.table.order)) == CRASHED.key
        assert c.pane.key == under
        await c.press("exclamation_mark")
        assert list(c.pane.table.order) == [CRASHED.key]


async def test_a_workload_that_lacks_pods_comes_and_goes_while_one_looks() -> None:
    short = Workload(
        node=CLUSTER, section="workload:x", at=NOW, namespace="de", of="Deployment", name="ns-nsd", wanted=2, available=1
    )  # fmt: skip
    async with console((160, 40), fleet=client()) as c:
        await c.app.run_command("pods")
        await c.pilot.pause()
        c.pane.table.hold_after_key = c.pane.table.resort_every = 0
        c.fleet.apply(short)
        await c.settle()
        assert "1 of 2 pods are not available" in c.line_with("Deployment/ns-nsd")
        await c.press("g", "d")
        assert "workload k3s de Deployment/ns-nsd" in c.text
        await c.press("q")
        c.fleet.apply(msgspec.structs.replace(short, available=2))
        await c.settle()
        assert "Deployment/ns-nsd" not in c.text


async def test_what_prometheus_tells_is_among_the_facts_of_its_component() -> None:
    probe = DnsProbe(
        node=CLUSTER, section="blackbox:192.0.2.53", at=NOW, tenant="de", address="192.0.2.53", succeeded=False, answered=True
    )  # fmt: skip
    store = healthy_hybrid()
    store.apply([probe, Metrics(node=CLUSTER, section="prometheus", at=NOW, probes=1)])
    for key in (
        ("monitoring", CLUSTER, "blackbox-exporter"),
        ("tenant", "de"),
        ("catchment", CLUSTER, "192.0.2.53", ""),
    ):
        assert probe in list(facts_about(store, key))
    assert store.metrics(CLUSTER) in list(facts_about(store, ("monitoring", CLUSTER, "prometheus")))
    assert probe not in list(facts_about(store, ("tenant", "nic")))


def test_a_tenant_tells_all_that_is_not_as_set_up_and_what_of_it_may_not_be_seen() -> None:
    store = healthy_hybrid()
    lines = ("no NetworkPolicy dns-in of its set in de", "Service de/ac: spec.type is NodePort, not ClusterIP")
    unseen = (Permission(verb="list", resource="configmaps", namespace="de"),)
    known = store.tenant_set(CLUSTER, "de")
    assert known is not None
    store.apply([msgspec.structs.replace(known, drift=lines, unseen=unseen)])
    told = [line.text.split(maxsplit=1) for line in describe(store, None, ("tenant", "de"), NOW, UNICODE)]
    assert [words[1] for words in told if words[:1] == ["drift"]] == [*lines]
    assert ["unseen", "list configmaps in de"] in told
    assert not [
        line for line in describe(store, None, ("tenant", "nic"), NOW, UNICODE) if "tenant_set k3s de" in line.text
    ]


async def test_enter_on_a_pod_shows_its_containers_and_events_and_goes_on_to_all_facts() -> None:
    async with console((160, 40), fleet=client()) as c:
        c.fleet.apply(CRASHED)
        await c.app.run_command("pods")
        await c.pilot.pause()
        await c.press("enter")
        assert "Containers(de/ac-c9df674b-wt9b8)[1]" in c.text
        assert "pods > de/ac-c9df674b-wt9b8" in c.text
        for words in ("✖ CrashLoopBackOff", "OOMKilled (137) 100s ago", "registry.example/ac:1.0", "back-off 40s"):
            assert words in c.line_with("container ")
        assert "Events of the pod" in c.text
        (event,) = c.fleet.store.cluster_events(CLUSTER, "de")
        c.fleet.apply(msgspec.structs.replace(event, name="e1", about=f"Pod/{CRASHED.name}", reason="BackOff"))
        await c.settle()
        assert "BackOff" in c.line_with("Container image present")
        await c.press("enter")
        assert "containers        ac: waiting CrashLoopBackOff, not ready, 4 restarts" in c.text
        assert f"Pod/{CRASHED.name}" in c.text
        await c.press("q", "q")
        assert "Pods[17]" in c.text


async def test_an_event_of_a_pod_leads_to_it() -> None:
    async with console((160, 40), fleet=client()) as c:
        c.fleet.apply(CRASHED)
        await c.press("7", "enter")
        assert "Containers(de/ac-c9df674b-wt9b8)[1]" in c.text


async def test_a_component_of_monitoring_leads_to_the_pods_of_its_namespace() -> None:
    async with console(fleet=client()) as c:
        await c.app.run_command("monitoring")
        await c.pilot.pause()
        await c.press("enter")
        assert "Pods(k3s monitoring)[8]" in c.text


@pytest.mark.parametrize("glyphs", ["unicode", "ascii"])
@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_pods_read_well_in_a_small_and_a_large_terminal(size: tuple[int, int], glyphs: str) -> None:
    async with console(size, fleet=client(), glyphs=glyphs) as c:
        await c.app.run_command("pods")
        await c.pilot.pause()
        head = c.lines[3].split()
        always = ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
        assert head == ([*always, "NODE", "IP", "SEEN", "WHY"] if size[0] == 200 else [*always, "WHY"])
        c.fleet.apply(CRASHED)
        await c.settle()
        line = c.line_with(CRASHED.name)
        assert ("✖ CrashLoopBackOff" if glyphs == "unicode" else "X CrashLoopBackOff") in line
        await c.press("g")
        await c.settle()
        assert CRASHED.trouble in c.message
        await c.app.run_command("monitoring")
        await c.pilot.pause()
        assert {"COMPONENT", "STATUS", "READY", "RESTARTS", "WHY"} <= set(c.lines[3].split())


async def test_no_permission_is_said_in_the_list() -> None:
    async with console((160, 40), fleet=client()) as c:
        denied = (Permission(verb="list", resource="pods", namespace="nic"),)
        c.fleet.change(("cluster", CLUSTER), denied=denied)
        await c.app.run_command("pods")
        await c.pilot.pause()
        assert "ops may not list pods in nic" in c.line_with("no permission")
        c.fleet.change(("cluster", CLUSTER), denied=())
        await c.settle()
        assert "no permission" not in c.text


async def test_a_lost_cluster_goes_stale_on_the_screen_and_the_bare_nodes_stay() -> None:
    async with console((160, 40), fleet=client()) as c:
        await c.app.run_command("pods")
        await c.pilot.pause()
        c.fleet.pass_time(30, silent=(CLUSTER, "hv1", "hv2"))
        for _ in range(3):
            await c.settle(aged=True)
        assert "was Running 30s ago" in c.line_with("? STALE")
        await c.press("1")
        assert "SERVING" in c.line_with("fra1")
        assert "STALE" in c.line_with("hv1")


async def test_virtual_nodes_stand_beside_the_others_and_say_what_they_are() -> None:
    async with console((200, 50), fleet=client()) as c:
        assert "bird+nsd" in c.line_with("fra1")
        assert "k3s calico+nsd" in c.line_with("hv1", "SERVING")
        await c.press("4")
        assert "pod" in c.line_with("hv1", "nsd 4.8.0")
        assert "ready" in c.line_with("hv1", "nsd 4.8.0")


# --- questions to the engine


async def test_l_follows_the_name_servers_log_goes_round_the_containers_and_p_shows_the_run_before() -> None:
    fleet = client()
    async with console((140, 30), fleet=fleet) as c:
        await c.app.run_command("pods")
        await c.pilot.pause()
        await c.press("slash")
        await c.type(NS)
        await c.press("enter", "l")
        assert f"log k3s de/{NS} nsd  1 of 3" in c.text
        assert "] next source" in c.lines[-1]
        assert "p previous run" in c.lines[-1]
        fleet.log.put_nowait("nsd started\n")
        await c.pilot.pause(0.1)
        assert "nsd started" in c.text
        await c.press("p")
        assert f"PREVIOUS RUN of pod/de/{NS}/nsd" in c.text
        fleet.log.put_nowait("nsd was killed\n")
        fleet.log.put_nowait(None)
        await c.pilot.pause(0.1)
        assert "nsd was killed" in c.text
        assert "this is how it ended" in c.text
        await c.press("right_square_bracket")
        await c.pilot.pause()
        assert f"log k3s de/{NS} observer  2 of 3" in c.text
    path = f"pod/de/{NS}"
    assert [args for op, args in fleet.asked if op == "log"] == [
        {"node": CLUSTER, "path": f"{path}/nsd"},
        {"node": CLUSTER, "path": f"{path}/nsd", "previous": "true"},
        {"node": CLUSTER, "path": f"{path}/observer"},
    ]


async def test_a_file_has_no_run_before() -> None:
    fleet = client()
    async with console(fleet=fleet) as c:
        await c.press("3", "l", "p")
        assert "only a container" in c.message
        assert len(fleet.asked) == 1


async def test_y_on_a_pod_asks_for_its_yaml_and_s_for_a_shell_in_the_name_server() -> None:
    fleet = client()
    fleet.answers["raw", CLUSTER, f"pod/de/{NS}"] = "apiVersion: v1\nkind: Pod\n"
    fleet.answers["shell", CLUSTER, f"pod/de/{NS}/nsd"] = json.dumps(["true"])
    lent: list[list[str]] = []

    def lend(argv: Sequence[str]) -> int:
        lent.append(list(argv))
        return 0

    async with console(fleet=fleet) as c:
        c.app.objects.lend_terminal = lend
        await c.app.run_command("pods")
        await c.pilot.pause()
        await c.press("slash")
        await c.type(NS)
        await c.press("enter", "y")
        await c.pilot.pause(0.1)
        assert "kind: Pod" in c.text
        await c.press("q", "s")
        await c.pilot.pause(0.1)
        assert f"the shell on de/{NS} nsd ended with 0" in c.message
    assert lent == [["true"]]
    assert fleet.asked == [
        ("raw", {"node": CLUSTER, "section": f"pod/de/{NS}"}),
        ("shell", {"node": CLUSTER, "path": f"pod/de/{NS}/nsd"}),
    ]


async def test_looking_again_at_a_pod_asks_its_cluster() -> None:
    fleet = client()
    fleet.answers["poke", CLUSTER] = ""
    async with console(fleet=fleet) as c:
        await c.app.run_command("pods")
        await c.pilot.pause()
        await c.press("R")
        await c.pilot.pause(0.1)
        assert fleet.asked == [("poke", {"node": CLUSTER})]


async def test_a_pod_names_nothing_that_could_be_drained() -> None:
    fleet = client()
    fleet.arm(600)
    async with console(fleet=fleet) as c:
        await c.app.run_command("pods")
        await c.pilot.pause()
        await c.press("D")
        assert "name nothing that could be changed" in c.message


def test_an_instance_in_a_cluster_has_the_logs_yaml_and_shell_of_its_pod() -> None:
    store = healthy_hybrid()
    store.apply([pod("kube-system", "calico-node-x", "hv1", app="calico-node", containers=(container("calico-node"),))])
    key = ("instance", "hv1", "de")
    path = f"pod/de/{NS}"
    assert logs_of(store, key)[0] == Source(CLUSTER, f"de/{NS} nsd", f"{path}/nsd")
    assert sections_of(store, key)[0] == Source(CLUSTER, f"de/{NS}", path)
    assert shell_of(store, key) == Source(CLUSTER, f"de/{NS} nsd", f"{path}/nsd")
    assert shell_of(store, ("instance", "fra1", "de")) is None
    assert shell_of(store, ("node", "hv1")) is None
    assert (
        logs_of(store, ("session", "hv1", "calico", "198.19.11.1"))[0].what
        == "pod/kube-system/calico-node-x/calico-node"
    )
    assert [s.what for s in sections_of(store, ("node", "hv1"))][:2] == ["calico", "host"]
    assert not any(s.what in ("dns", "nsd:de") for s in sections_of(store, ("node", "hv1")))
    assert sections_of(store, ("cluster", CLUSTER)) == [Source(CLUSTER, "api", "api")]


def test_the_chosen_container_comes_first_then_the_name_server_and_what_only_prepares_last() -> None:
    prepare, proxy = container("prepare", init=True), container("proxy", init=True, sidecar=True)
    whole = name_server_pod("de", "hv1")
    whole = msgspec.structs.replace(whole, containers=(prepare, proxy, *whole.containers))
    assert [c.name for c in containers_of(whole)] == ["nsd", "proxy", "observer", "exporter", "prepare"]
    assert next(c.name for c in containers_of(whole, "exporter")) == "exporter"


async def test_describe_tells_the_kubernetes_node_and_the_pods_of_an_instance() -> None:
    async with console((160, 200), fleet=client()) as c:
        await c.app.run_command("fleet")
        c.pane.table.move_to(("node", "hv1"))
        await c.press("d")
        assert "cluster_node hv1  (0s ago, by host)" in c.text
        assert "v1.31.4+k3s1" in c.text
        await c.press("q", "4")
        c.pane.table.move_to(("instance", "hv1", "de"))
        await c.press("d")
        assert f"pod k3s de {NS}" in c.text
        assert "nsd: running for 73m, ready, registry.example/nsd:1.0" in c.text
        assert "hv2" not in c.text


def test_a_fleet_without_clusters_asks_what_it_asked_before() -> None:
    from anyconsole.model.store import FleetStore

    store = FleetStore(inventory())
    assert [s.what for s in sections_of(store, ("node", "ams1"))] == [
        "bird",
        "nsd:de",
        "nsd:nic",
        "nsd:enum",
        "host",
        "dns",
    ]


@pytest.mark.parametrize(
    ("scope", "is_seen"),
    [
        (Scope(), True),
        (Scope(node="hv1"), True),
        (Scope(node="fra1"), False),
        (Scope(tenant="de"), True),
        (Scope(tenant="nic"), False),
        (Scope(node="hv2", tenant="de"), True),
        (Scope(cluster=CLUSTER, namespace="de"), True),
        (Scope(cluster=CLUSTER, namespace="nic"), False),
        (Scope(cluster="lab"), False),
    ],
)
def test_that_pods_may_not_be_listed_is_seen_wherever_some_of_them_would_be(scope: Scope, is_seen: bool) -> None:
    assert is_within(healthy_hybrid(), scope, ("denied", CLUSTER, "de")) is is_seen


@pytest.mark.parametrize("key", [("node", "hv1"), ("instance", "hv1", "de"), ("pod", CLUSTER, "de", NS)])
def test_whatever_is_in_a_cluster_is_described_with_what_we_may_not_see_there(key: Key) -> None:
    store = healthy_hybrid()
    fact = store.cluster(CLUSTER)
    assert fact is not None
    denied = (Permission(verb="list", resource="nodes"), Permission(verb="patch", resource="nodes"))
    store.apply([msgspec.structs.replace(fact, denied=denied)])
    lines = [line.text for line in describe(store, None, key, NOW, UNICODE)]
    assert [line for line in lines if line.startswith("no permission")] == [
        "no permission       list nodes in all namespaces"
    ]
    bare = [line.text for line in describe(store, None, ("node", "fra1"), NOW, UNICODE)]
    assert not [line for line in bare if "no permission" in line]


async def test_a_pod_whose_events_may_not_be_listed_says_so_in_their_place() -> None:
    fleet = client()
    fact = fleet.store.cluster(CLUSTER)
    assert fact is not None
    fleet.apply(msgspec.structs.replace(fact, denied=(Permission(verb="list", resource="events", namespace="de"),)))
    async with console(fleet=fleet) as c:
        await c.app.run_command("pods")
        await c.pilot.pause()
        await c.press("slash")
        await c.type(NS)
        await c.press("enter", "enter")
        await c.pilot.pause(0.1)
        assert "ops may not list events in de" in c.text
        await c.press("tab", "d")
        await c.pilot.pause(0.1)
        assert "list events in de" in c.text
