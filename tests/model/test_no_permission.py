"""What may not be seen in a cluster is "no permission", with verb and resource: never absent, never an alarm, never news to come."""

from __future__ import annotations

import msgspec
import pytest

from anyconsole.model import verdicts
from anyconsole.model.facts import Export, Exported, Gone, Key, Observation, SpeakerStatus
from anyconsole.model.pods import Cluster, Permission
from anyconsole.model.store import FleetStore
from anyconsole.model.table import UNICODE, Cell
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views import pod_events_view, views
from tests.fleet import CLUSTER, NOW, healthy_hybrid, hybrid

GROUP = "crd.projectcalico.org"
NODES = Permission(verb="list", resource="nodes")
PODS = Permission(verb="list", resource="pods", namespace="de")
STATUSES = Permission(verb="list", resource="caliconodestatuses", group=GROUP)
EXEC = Permission(verb="create", resource="pods/exec", namespace="kube-system")
PROXY = Permission(verb="get", resource="services/proxy", namespace="monitoring")


def blind(*denied: Permission, without: tuple[str, ...] = (), **changed: object) -> FleetStore:
    """A fleet whose cluster denies us this, so that some kinds of facts never came, and speakers know less."""
    fleet = hybrid()
    cluster = msgspec.structs.replace(fleet.clusters[0], prometheus="monitoring/prometheus:web")
    whole = healthy_hybrid(msgspec.structs.replace(fleet, clusters=(cluster,)))
    store = FleetStore(whole.inventory)
    store.apply([_less(fact, denied, changed) for fact in whole if not _is_hidden(fact, without)])
    return store


def _is_hidden(fact: Observation, kinds: tuple[str, ...]) -> bool:
    return fact.kind in kinds and fact.node in ("hv1", "hv2", CLUSTER) and fact.section not in ("pod:nic", "pod:enum")


def _less(fact: Observation, denied: tuple[Permission, ...], changed: dict[str, object]) -> Observation:
    if isinstance(fact, Cluster):
        return msgspec.structs.replace(fact, denied=denied)
    if fact.node in ("hv1", "hv2") and isinstance(fact, SpeakerStatus | Export):
        return msgspec.structs.replace(fact, **{k: v for k, v in changed.items() if k in fact.__struct_fields__})
    return fact


def node(store: FleetStore) -> tuple[Verdict, str, float]:
    seen = verdicts.node(store, store.inventory.node("hv1"), NOW)
    return seen.verdict, seen.reason, seen.age


def cells(store: FleetStore, name: str, key: Key) -> dict[str, Cell]:
    view = views(store)[name]
    return dict(zip((c.id for c in view.columns), view.row(store, key, NOW, UNICODE).cells, strict=True))


SESSION = ("session", "hv1", "calico", "198.19.11.1")
ANNOUNCEMENT = ("announcement", *SESSION[1:], "192.0.2.0/24")


def test_nodes_that_may_not_be_listed_are_no_nodes_to_come() -> None:
    store = blind(NODES, without=("cluster_node",))
    assert node(store) == (Verdict.UNKNOWN, "no permission: list nodes in all namespaces", 0.0)
    assert cells(store, "fleet", ("node", "hv1"))["age"].text == "0s", "the cluster itself is heard"
    assert cells(store, "fleet", ("node", "hv1"))["sessions"].text == "?/4"
    bare = verdicts.node(store, store.inventory.node("fra1"), NOW)
    assert (bare.verdict, bare.reason) == (Verdict.SERVING, "")


def test_what_was_seen_of_a_node_before_we_lost_the_permission_is_not_believed() -> None:
    store = blind(NODES)
    assert store.cluster_node("hv1") is not None
    assert node(store)[:2] == (Verdict.UNKNOWN, "no permission: list nodes in all namespaces")


@pytest.mark.parametrize("denied", [STATUSES, msgspec.structs.replace(STATUSES, verb="create")])
def test_sessions_that_nobody_tells_us_of_are_not_absent(denied: Permission) -> None:
    store = blind(denied, without=("speaker", "session"))
    words = f"no permission: {denied}"
    assert node(store)[:2] == (Verdict.UNKNOWN, f"{words} (+3 more)")
    session = cells(store, "bgp", SESSION)
    assert (session["state"].text, session["info"].text) == ("· no permission", words)
    assert {session[f"tenant.{t.name}"].value for t in store.inventory.tenants} == {"UNKNOWN"}
    cell = cells(store, "announcements", ANNOUNCEMENT)
    assert (cell["exported"].text, cell["exported"].value, cell["reason"].text) == ("no permission", "unknown", words)


@pytest.mark.parametrize("resource", ["bgppeers", "bgpconfigurations", "bgpfilters"])
def test_a_drain_state_that_may_not_be_seen_is_not_no_drain(resource: str) -> None:
    denied = Permission(verb="list", resource=resource, group=GROUP)
    store = blind(denied, drain_serial=None)
    cell = cells(store, "announcements", ANNOUNCEMENT)
    assert (cell["intended"].text, cell["intended"].value, cell["status"].value) == (
        "no permission",
        "unknown",
        "SERVING",
    )
    rows = {row.key: row for row in views(store)["drains"].rows(store, NOW)}
    assert [key[1] for key in rows] == ["hv1", "hv2"]
    (first, *_) = rows.values()
    assert first.cells[1].text == "▲ no permission"
    assert first.cells[-1].text == f"no permission: list {resource}.{GROUP} in all namespaces"


def test_what_is_not_announced_while_nobody_may_see_why_is_no_drift() -> None:
    denied = Permission(verb="list", resource="bgpfilters", group=GROUP)
    store = blind(denied, drain_serial=None, exported=Exported.ABSENT)
    cell = cells(store, "announcements", ANNOUNCEMENT)
    assert cell["status"].value == "UNKNOWN"
    assert cell["reason"].text == f"no permission: list bgpfilters.{GROUP} in all namespaces"


def test_exports_that_we_may_not_ask_for_are_said_to_be_denied() -> None:
    store = blind(EXEC, exported=Exported.UNKNOWN, detail="k3s: no permission to create pods/exec in kube-system")
    cell = cells(store, "announcements", ANNOUNCEMENT)
    assert (cell["exported"].text, cell["status"].value) == ("no permission", "UNKNOWN")
    assert cell["reason"].text == "k3s: no permission to create pods/exec in kube-system"
    assert "no permission to create pods/exec" in node(store)[1]
    session = cells(store, "bgp", SESSION)
    assert session["state"].text == "● Established"
    assert session["info"].text == "k3s: no permission to create pods/exec in kube-system"
    status = store.instance("hv1", "de")
    assert status is not None
    store.apply([msgspec.structs.replace(status, running=False, is_ready=False)])
    assert cells(store, "fleet", ("node", "hv1"))["announced"].text == "?/12", (
        "nobody knows, also of a node that is down"
    )
    assert cells(store, "health", ("instance", "hv1", "de"))["announced"].text == "?/4"


def test_the_pods_of_one_namespace_that_may_not_be_listed_are_no_pods_to_come() -> None:
    store = blind(PODS, without=("instance",))
    health = cells(store, "health", ("instance", "hv1", "de"))
    assert (health["status"].value, health["reason"].text) == ("UNKNOWN", "no permission: list pods in de")
    assert cells(store, "health", ("instance", "hv1", "nic"))["status"].value == "SERVING"
    assert node(store)[:2] == (Verdict.UNKNOWN, "de: no permission: list pods in de")
    tenant = cells(store, "tenants", ("tenant", "de"))
    assert (tenant["status"].value, tenant["reason"].text) == ("UNKNOWN", "hv1 UNKNOWN (+1 more)")


def test_a_tenant_whose_floor_nobody_may_see_says_so() -> None:
    store = blind(PODS, STATUSES, without=("instance", "speaker", "session"))
    store.apply([Gone(key=("speaker", "fra1", "bird"))])
    seen = verdicts.tenant(store, store.inventory.tenant("de"), NOW)
    assert (seen.verdict, seen.reason) == (Verdict.UNKNOWN, "3 of 4 nodes not seen; no permission: list pods in de")


def test_rates_that_may_not_be_read_have_no_source_for_a_reason() -> None:
    store = blind(PROXY, without=("rates",))
    assert cells(store, "qps", ("instance", "hv1", "de"))["source"].text == "no permission"
    assert cells(store, "qps", ("instance", "fra1", "de"))["source"].text == "probe"
    assert cells(blind(without=("rates",)), "qps", ("instance", "hv1", "de"))["source"].text == "none"


def test_events_that_may_not_be_listed_are_a_row_and_not_no_events() -> None:
    store = blind(Permission(verb="list", resource="events", namespace="de"), without=("cluster_event",))
    view = pod_events_view(CLUSTER, "de", "ns-1")
    (row,) = view.rows(store, NOW)
    assert [cell.text for cell in row.cells] == ["-", "▲ no permission", "", "-", "ops may not list events in de"]
    assert pod_events_view(CLUSTER, "nic", "ns-1").keys(store) == []
