"""What a Kubernetes cluster says of one of its nodes and of its pods, in words.

Pure words over facts; which verdict follows from those of a node is `verdicts`' business.
"""

from __future__ import annotations

import re

from anyconsole.model.inventory import ClusterSpec, Inventory
from anyconsole.model.pods import Cluster, ClusterNode, Permission, Pod
from anyconsole.model.store import FleetStore

__all__ = ["EXCLUDE_LABEL", "denied_of", "excluded_words", "is_done", "is_passing", "not_ready_words", "tenant_in"]

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
"""On a node that announces no load balancer's address."""

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


def tenant_in(inventory: Inventory, cluster: str, namespace: str) -> str:
    """Whose namespace this is, "" if it is no tenant's."""
    found: ClusterSpec | None = next((c for c in inventory.clusters if c.name == cluster), None)
    return next((t for t, ns in found.namespaces.items() if ns == namespace), "") if found is not None else ""
