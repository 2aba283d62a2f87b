"""What a Kubernetes cluster says of one of its nodes and of its pods, in words.

Pure words over facts; which verdict follows from those of a node is `verdicts`' business.
"""

from __future__ import annotations

import re

from anyconsole.model.inventory import ClusterSpec, Inventory, NodeSpec
from anyconsole.model.pods import Cluster, ClusterNode, Permission, Pod
from anyconsole.model.store import FleetStore

__all__ = [
    "EXCLUDE_LABEL", "NO_PERMISSION", "denied_of", "denied_to_see", "excluded_words", "is_done", "is_passing", "may_not_ask",
    "may_not_see_drains", "may_not_see_node", "may_not_see_pods", "may_not_see_rates", "may_not_see_speaker", "not_ready_words",
    "not_set_up", "tenant_in",
]  # fmt: skip

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
"""On a node that announces no load balancer's address."""

NO_PERMISSION = "no permission"
"""How everything begins that is said of what we may not see."""

_DRAIN_RESOURCES = ("nodes", "bgppeers", "bgpconfigurations", "bgpfilters")
"""What says what is drained."""

_ASKED = frozenset({"pods/exec", "caliconodestatuses"})
"""What has to be made in order to see."""

_DONE = frozenset({"Completed", "Succeeded"})
_PASSING = frozenset(
    {"Running", "NotReady", "Pending", "ContainerCreating", "PodInitializing", "Terminating", "SchedulingGated"}
)
_INITIALISING = re.compile(r"Init:\d+/\d+")


def not_ready_words(node: ClusterNode) -> str:
    """Why Kubernetes would start no pod there; "" while it is ready, or nobody knows."""
    if node.is_ready is not False:
        return ""
    why = node.troubles[0].removeprefix("NotReady").lstrip(": ") if node.troubles else ""
    return "Kubernetes node is not ready" + (f": {why}" if why else "")


def excluded_words(store: FleetStore, node: ClusterNode) -> str:
    """That somebody withdrew all of the node's addresses with the label, and not as a drain of ours; "" if not, or not known."""
    spec = store.inventory.node(node.node)
    speakers = [status for s in spec.speakers if (status := store.speaker(node.node, s.name)) is not None]
    if not node.excluded or not speakers or any(status.drain_note for status in speakers):
        return ""
    return f"withdrawn by hand: the node has the label {EXCLUDE_LABEL}"


def not_set_up(store: FleetStore, node: NodeSpec, tenant: str, now: float) -> str:
    """That a tenant of the profile is not in the node's cluster at all, neither set up nor with a pod; "" if it is, or nobody knows."""
    known = store.tenant_set(node.cluster, tenant) if node.cluster else None
    status = store.instance(node.name, tenant)
    if known is None or known.is_set_up is not False or status is None or not status.is_absent:
        return ""
    is_known = store.is_fresh(known, now) and store.is_fresh(status, now)
    return f"not set up in {node.cluster}" if is_known else ""


def is_done(pod: Pod) -> bool:
    """True for a pod that ran to its end, as it should."""
    return pod.status in _DONE


def is_passing(pod: Pod) -> bool:
    """True if its word for a pod that isn't ready is one of coming and going; all others are reasons why it fails."""
    return pod.status in _PASSING or _INITIALISING.fullmatch(pod.status) is not None


def denied_of(cluster: Cluster | None, resource: str, namespace: str = "") -> tuple[Permission, ...]:
    """What we may not do with this kind of object, in one namespace or at all. What is denied everywhere is denied there."""
    denied = cluster.denied if cluster is not None else ()
    return tuple(p for p in denied if p.resource == resource and (not namespace or p.namespace in ("", namespace)))


# --- what we may not see, each "no permission: list pods in de", "" if we may, it isn't in a cluster, or nobody knows


def may_not_see_node(store: FleetStore, node: NodeSpec) -> str:
    """Why its Node object isn't seen."""
    return _lacks(store, node.cluster, "nodes")


def may_not_see_pods(store: FleetStore, node: NodeSpec, tenant: str) -> str:
    """Why a tenant's pod on it isn't seen."""
    namespace = store.inventory.cluster(node.cluster).namespaces.get(tenant) if node.cluster else None
    return _lacks(store, node.cluster, "pods", namespace) if namespace else ""


def may_not_see_speaker(store: FleetStore, node: NodeSpec) -> str:
    """Why its Calico and the sessions aren't seen: what tells of them may not be listed, or not be asked for."""
    listed = _lacks(store, node.cluster, "caliconodestatuses")
    return listed or _lacks(store, node.cluster, "caliconodestatuses", verbs=("create",))


def may_not_see_drains(store: FleetStore, node: NodeSpec) -> str:
    """Why its drain state isn't known."""
    return next(filter(None, (_lacks(store, node.cluster, resource) for resource in _DRAIN_RESOURCES)), "")


def may_not_ask(store: FleetStore, node: NodeSpec) -> str:
    """Why what BIRD exports there isn't known."""
    namespace = store.inventory.cluster(node.cluster).calico if node.cluster else ""
    listed = _lacks(store, node.cluster, "pods", namespace)
    return listed or _lacks(store, node.cluster, "pods/exec", namespace, ("create",))


def may_not_see_rates(store: FleetStore, node: NodeSpec, tenant: str) -> str:
    """Why the queries per second that its cluster's Prometheus has aren't known."""
    service = store.inventory.cluster(node.cluster).prometheus if node.cluster else ""
    if not service:
        return ""
    proxy = _lacks(store, node.cluster, "services/proxy", service.partition("/")[0], ("get",))
    return proxy or may_not_see_pods(store, node, tenant)


def denied_to_see(cluster: Cluster | None) -> tuple[Permission, ...]:
    """What we would look at there and may not."""
    denied = cluster.denied if cluster is not None else ()
    return tuple(p for p in denied if p.verb in ("get", "list", "watch") or p.resource in _ASKED)


def _lacks(
    store: FleetStore, cluster: str, resource: str, namespace: str = "", verbs: tuple[str, ...] = ("list", "watch")
) -> str:
    known = store.cluster(cluster) if cluster else None
    denied = (p for p in denied_of(known, resource, namespace) if p.verb in verbs)
    return next((f"{NO_PERMISSION}: {permission}" for permission in denied), "")


def tenant_in(inventory: Inventory, cluster: str, namespace: str) -> str:
    """Whose namespace this is, "" if it is no tenant's."""
    found: ClusterSpec | None = next((c for c in inventory.clusters if c.name == cluster), None)
    return next((t for t, ns in found.namespaces.items() if ns == namespace), "") if found is not None else ""
