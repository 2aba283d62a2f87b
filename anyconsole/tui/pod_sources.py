"""Which pods and containers are meant by a row, and what they are called in questions: "pod/NAMESPACE/NAME/CONTAINER" of a cluster."""

from __future__ import annotations

from collections.abc import Iterable

from anyconsole.model.facts import Key
from anyconsole.model.inventory import NodeSpec
from anyconsole.model.pods import ClusterEvent, Container, Pod
from anyconsole.model.store import FleetStore
from anyconsole.model.views.monitoring import component_pods
from anyconsole.tui.scope import scope_of

__all__ = ["containers_of", "pod_path", "pods_behind", "speaker_pods"]

_NAME_SERVER = "name-server"
"""The component (`anyconsole.io/component`) of the pods that answer queries."""

_DAEMONS = frozenset({"nsd", "knot", "knotd", "bind", "named"})
"""What the container of a name server is called."""

_SPEAKER = "calico-node"


def pod_path(pod: Pod, container: str = "") -> str:
    """What the engine calls a pod, or one of its containers."""
    return "/".join(filter(None, ("pod", pod.namespace, pod.name, container)))


def containers_of(pod: Pod, first: str = "") -> list[Container]:
    """Its containers: `first`, the name server, the others, and what only prepares at last."""

    def place(container: Container) -> int:
        if container.name == first:
            return 0
        if container.init and not container.sidecar:
            return 3
        return 1 if container.name in _DAEMONS else 2

    return sorted(pod.containers, key=place)


def pods_behind(store: FleetStore, key: Key) -> list[Pod]:
    """The pods that a row is about, name servers first: itself, those of an instance or a component, or those on a node."""
    match key:
        case ("pod", *name) | ("container", *name, _):
            pod = store.pod(name[0], name[1], name[2])
            return [pod] if pod is not None else []
        case ("cluster_event", cluster, namespace, _):
            event = store.get(key)
            about = event.about.removeprefix("Pod/") if isinstance(event, ClusterEvent) else ""
            pod = store.pod(cluster, namespace, about)
            return [pod] if pod is not None else []
        case ("monitoring", cluster, component):
            return component_pods(store, cluster, component)
        case ("cluster" | "denied" | "denied_events" | "workload", *_):
            return []
        case _:
            return _of_instances(store, key)


def _of_instances(store: FleetStore, key: Key) -> list[Pod]:
    scope = scope_of(store.inventory, key)
    pods: list[Pod] = []
    for node in store.inventory.nodes:
        if node.cluster and scope.node in ("", node.name):
            tenants = [i.tenant for i in node.instances if scope.tenant in ("", i.tenant)]
            namespaces = store.inventory.cluster(node.cluster).namespaces
            for namespace in filter(None, map(namespaces.get, tenants)):
                pods += _on(node, store.pods(node.cluster, namespace))
    return sorted(pods, key=lambda pod: not _is_name_server(pod))


def speaker_pods(store: FleetStore, node: NodeSpec) -> list[Pod]:
    """The pods of Calico on a node, where they may be seen."""
    if not node.cluster:
        return []
    pods = store.pods(node.cluster, store.inventory.cluster(node.cluster).calico)
    return [pod for pod in _on(node, pods) if pod.app == _SPEAKER]


def _on(node: NodeSpec, pods: Iterable[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.host == node.address]


def _is_name_server(pod: Pod) -> bool:
    return pod.component == _NAME_SERVER or any(c.name in _DAEMONS for c in pod.containers)
