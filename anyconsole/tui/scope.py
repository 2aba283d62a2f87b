"""What a place is about: the part of the fleet that a pane is narrowed to, and which row belongs to it."""

from __future__ import annotations

import msgspec

from anyconsole.model.cluster_state import tenant_in
from anyconsole.model.facts import Key
from anyconsole.model.inventory import Inventory
from anyconsole.model.pods import Pod
from anyconsole.model.store import FleetStore

__all__ = ["Scope", "is_within", "node_of", "scope_of"]


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the fleet. An empty field does not narrow."""

    node: str = ""
    tenant: str = ""
    session: str = ""
    prefix: str = ""
    cluster: str = ""
    namespace: str = ""
    pod: str = ""

    def holds(self, other: Scope) -> bool:
        """True if everything this scope narrows to is said, and said alike, by `other`."""
        return all(
            mine in ("", theirs)
            for mine, theirs in (
                (self.node, other.node),
                (self.tenant, other.tenant),
                (self.session, other.session),
                (self.prefix, other.prefix),
                (self.cluster, other.cluster),
                (self.namespace, other.namespace),
                (self.pod, other.pod),
            )
        )

    @property
    def words(self) -> str:
        """The scope in a title, "" for the whole fleet."""
        if self.pod:
            return f"{self.namespace}/{self.pod}"
        words = (self.node, self.session, self.cluster, self.namespace or self.tenant, self.prefix)
        return " ".join(word for word in words if word)


def scope_of(inventory: Inventory, key: Key) -> Scope:
    """What a row or an event's subject is about, as narrow as it can be said."""
    match key:
        case ("node", node) | ("drain", node, _):
            return Scope(node=node)
        case ("tenant", tenant):
            return Scope(tenant=tenant)
        case ("instance", node, tenant):
            return Scope(node=node, tenant=tenant)
        case ("session", node, _, session):
            return Scope(node=node, session=session)
        case ("announcement", node, _, session, prefix):
            tenant = next((t.name for t in inventory.tenants if prefix in t.prefixes), "")
            return Scope(node=node, session=session, tenant=tenant, prefix=prefix)
        case ("catchment", _, address, _):
            return Scope(tenant=next((t.name for t in inventory.tenants if address in t.addresses), ""))
        case ("catchment", _, tenant):
            return Scope(tenant=tenant)
        case ("pod", cluster, namespace, pod) | ("container", cluster, namespace, pod, _):
            tenant = tenant_in(inventory, cluster, namespace)
            return Scope(tenant=tenant, cluster=cluster, namespace=namespace, pod=pod)
        case ("workload", cluster, namespace, _):
            return Scope(tenant=tenant_in(inventory, cluster, namespace), cluster=cluster, namespace=namespace)
        case ("cluster_event", cluster, namespace, _) | ("denied" | "denied_events", cluster, namespace):
            return Scope(cluster=cluster, namespace=namespace)
        case ("cluster", cluster) | ("monitoring", cluster, _):
            return Scope(cluster=cluster)
        case _:
            return Scope()


def node_of(inventory: Inventory, key: Key) -> str:
    """The node a key is about, else the cluster, which is asked instead; "" if it is about neither."""
    scope = scope_of(inventory, key)
    return scope.node or scope.cluster


def is_within(store: FleetStore, scope: Scope, key: Key) -> bool:
    """True if a row belongs to the scope. Which node a pod is on is no part of its key: the store knows.

    That pods can't be seen concerns every part of the fleet that may have some among them.
    """
    if key[0] in ("cluster", "denied"):
        return _may_be_about(store.inventory, scope, *key[1:])
    if scope.node and key[0] == Pod.kind:
        node, pod = store.inventory.node(scope.node), store.pod(*key[1:])
        if pod is None or (pod.node, pod.host) != (node.cluster, node.address):
            return False
        scope = msgspec.structs.replace(scope, node="")
    return scope.holds(scope_of(store.inventory, key))


def _may_be_about(inventory: Inventory, scope: Scope, cluster: str, namespace: str = "") -> bool:
    """Whether pods of a cluster, or of one of its namespaces, may be in the scope."""
    there = inventory.node(scope.node).cluster if scope.node else cluster
    if there != cluster or scope.cluster not in ("", cluster):
        return False
    whose = tenant_in(inventory, cluster, namespace)
    return not namespace or (scope.namespace in ("", namespace) and scope.tenant in ("", whose))
