"""What runs in the namespaces of a cluster that concern us: pods and events as facts, and of the tenants' pods their instances."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from anyconsole.drivers.kube.access import KubeApi, Object
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.events import event_of, latest
from anyconsole.drivers.kube.pods import NAME_SERVER, instances, pod_of, server_on
from anyconsole.drivers.kube.set_up import Template, drift_of, templates_of
from anyconsole.drivers.kube.watch import Batch, Watch
from anyconsole.model.facts import Beat, Gone, InstanceStatus, Observation
from anyconsole.model.inventory import ClusterSpec, Inventory, NodeSpec
from anyconsole.model.pods import ClusterEvent, Pod

__all__ = ["Emit", "Workloads"]

Emit = Callable[[Sequence[Observation | Gone | Beat]], None]


class Workloads:
    """Pods and events of one cluster's namespaces. `watches` are to be run; `sections` say what is known by them."""

    def __init__(self, inventory: Inventory, spec: ClusterSpec, api: KubeApi, emit: Emit) -> None:
        self._inventory = inventory
        self._spec = spec
        self._api = api
        self._emit = emit
        self._tenants = {namespace: tenant for tenant, namespace in spec.namespaces.items()}
        self._nodes = [node for node in inventory.nodes if node.cluster == spec.name]
        self._templates: dict[str, dict[str, Template]] = {}
        self._pods: dict[str, dict[str, Pod]] = {namespace: {} for namespace in self.namespaces}
        self._events: dict[str, dict[str, ClusterEvent]] = {namespace: {} for namespace in self.namespaces}
        self._told: dict[str, set[str]] = {namespace: set() for namespace in self.namespaces}
        self.pods = {ns: self._watch_pods(ns) for ns in self.namespaces}
        self.events = {ns: self._watch_events(ns) for ns in self.namespaces}

    @property
    def namespaces(self) -> list[str]:
        """The tenants' in the profile's order, and that of monitoring."""
        return [*dict.fromkeys((*self._tenants, self._spec.monitoring))]

    def sections(self) -> Iterator[tuple[str, str]]:
        """(node or cluster, section) of everything that is being watched now."""
        for namespace in self.namespaces:
            if _stands(self.pods[namespace]):
                yield self._spec.name, f"pods:{namespace}"
                tenant = self._tenants.get(namespace)
                for node in self._hosting(tenant) if tenant else ():
                    yield node.name, f"pod:{tenant}"
            if _stands(self.events[namespace]):
                yield self._spec.name, f"events:{namespace}"

    def on(self, namespace: str, pod: str) -> str:
        """The node of the profile on which a pod runs, "" if it is on none of them, or there is no such pod."""
        known = self._pods.get(namespace, {}).get(pod)
        return next((n.name for n in self._nodes if known is not None and n.address == known.host), "")

    def name_server(self, node: NodeSpec, tenant: str) -> tuple[str, str, str]:
        """Namespace, pod and container of a tenant's name server on a node. Raises KubeError if none runs there."""
        namespace = self._spec.namespaces.get(tenant, "")
        daemon = next((i.kind for i in node.instances if i.tenant == tenant), "")
        found = server_on(self._pods.get(namespace, {}).values(), node.address, tenant, daemon)
        if found is None:
            raise KubeError(f"{self._spec.name}: no name server of {tenant} runs on {node.name}")
        return namespace, *found

    def tenant_in(self, namespace: str) -> str:
        """Whose namespace this is, "" if it is no tenant's."""
        return self._tenants.get(namespace, "")

    def _hosting(self, tenant: str) -> list[NodeSpec]:
        return [node for node in self._nodes if any(i.tenant == tenant for i in node.instances)]

    # --- pods

    def _watch_pods(self, namespace: str) -> Watch[Pod]:
        tenant = self._tenants.get(namespace, "")

        def project(obj: Object) -> Pod:
            pod = pod_of(obj, self._spec.name, tenant, time.time())
            drift = drift_of(obj, self._templates_of(tenant)) if pod.component == NAME_SERVER else ""
            return msgspec.structs.replace(pod, drift=drift) if drift else pod

        def take(batch: Batch[Pod]) -> None:
            pods = self._pods[namespace]
            pods.update({name: pod for (_, name), pod in batch.changed.items()})
            for _, name in batch.gone:
                pods.pop(name, None)
            facts: list[Observation | Gone] = [Gone(key=("pod", self._spec.name, *name)) for name in batch.gone]
            facts += batch.changed.values()
            # What wasn't told yet is not known to be missing.
            if tenant and (batch.synced or self.pods[namespace].state.synced):
                facts += self._instances(tenant, list(pods.values()))
            self._emit(facts)

        return Watch(self._api, f"/api/v1/namespaces/{namespace}/pods", project, take)

    def _templates_of(self, tenant: str) -> dict[str, Template]:
        """How set-up would make its pods; rendered once, when the first one is seen."""
        if tenant not in self._templates:
            fleet = self._inventory
            self._templates[tenant] = templates_of(fleet, self._spec, fleet.tenant(tenant)) if tenant else {}
        return self._templates[tenant]

    def _instances(self, tenant: str, pods: list[Pod]) -> Iterator[InstanceStatus]:
        now = time.time()
        for node in self._hosting(tenant):
            daemon = next(i.kind for i in node.instances if i.tenant == tenant)
            yield instances(pods, node.name, node.address, tenant, daemon, now)

    # --- events

    def _watch_events(self, namespace: str) -> Watch[ClusterEvent]:
        def project(obj: Object) -> ClusterEvent:
            return event_of(obj, self._spec.name, time.time())

        def take(batch: Batch[ClusterEvent]) -> None:
            known = self._events[namespace]
            known.update({name: event for (_, name), event in batch.changed.items()})
            for _, name in batch.gone:
                known.pop(name, None)
            kept = {event.name: event for event in latest(known.values())}
            self._events[namespace] = kept
            told = self._told[namespace]
            gone = told - kept.keys()
            fresh = [event for (_, name), event in batch.changed.items() if name in kept]
            self._told[namespace] = set(kept)
            self._emit([*(Gone(key=("cluster_event", self._spec.name, namespace, n)) for n in sorted(gone)), *fresh])

        return Watch(self._api, f"/api/v1/namespaces/{namespace}/events", project, take)


def _stands(watch: Watch[Pod] | Watch[ClusterEvent]) -> bool:
    return watch.state.connected and watch.state.synced
