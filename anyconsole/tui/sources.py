"""Where raw output, logs and a shell of an object are: the sections and log files of its node, or its pods and their containers."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from anyconsole.model.facts import Key
from anyconsole.model.inventory import InstanceSpec, Inventory, NodeSpec, SpeakerSpec
from anyconsole.model.pods import Pod
from anyconsole.model.store import FleetStore
from anyconsole.tui.pod_sources import containers_of, pod_path, pods_behind, speaker_pods
from anyconsole.tui.scope import scope_of

__all__ = ["Source", "logs_of", "sections_of", "shell_of"]


class Source(msgspec.Struct, frozen=True):
    """One thing to read: `what` is a section of the node, or the path of a log on it; of a cluster a pod or one of its containers."""

    node: str
    label: str
    what: str


_Spec: TypeAlias = SpeakerSpec | InstanceSpec | NodeSpec
_Found: TypeAlias = tuple[_Spec, Source]


def sections_of(store: FleetStore, key: Key) -> list[Source]:
    """What can be asked for raw: the object's own section first, then the others of its node; of a pod its YAML."""
    inventory = store.inventory
    if key[0] == "catchment":
        vantage = key[1].partition("/")[0]
        return [Source(vantage, "dns", "dns")]
    scope = scope_of(inventory, key)
    pods = [Source(pod.node, f"{pod.namespace}/{pod.name}", pod_path(pod)) for pod in pods_behind(store, key)]
    if scope.cluster:
        return pods or [Source(scope.cluster, "api", "api")]
    found: list[_Found] = [
        *((s, Source(n.name, s.name, s.name)) for n in inventory.nodes for s in n.speakers),
        *(
            (i, Source(n.name, f"{i.kind}:{i.tenant}", f"{i.kind}:{i.tenant}"))
            for n in inventory.nodes
            if not n.cluster
            for i in n.instances
        ),
        *((n, Source(n.name, "host", "host")) for n in inventory.nodes),
        *((n, Source(n.name, "dns", "dns")) for n in inventory.nodes if not n.cluster),
    ]
    own = _own_first(inventory, key, found)
    return pods + own if key[0] == "instance" else own + pods


def logs_of(store: FleetStore, key: Key) -> list[Source]:
    """Logs that can be followed: the object's own first, then the others of its node; those the profile names no path for are left out."""
    inventory = store.inventory
    scope = scope_of(inventory, key)
    first = key[4] if key[0] == "container" else ""
    pods = [source for pod in pods_behind(store, key) for source in _containers(pod, first)]
    if scope.cluster:
        return pods
    found: list[_Found] = [
        *((s, Source(n.name, s.name, s.log)) for n in inventory.nodes for s in n.speakers),
        *((i, Source(n.name, f"{i.kind}:{i.tenant}", i.log)) for n in inventory.nodes for i in n.instances),
    ]
    own = _own_first(inventory, key, [(spec, source) for spec, source in found if source.what])
    speaker = speaker_pods(store, inventory.node(scope.node)) if scope.node else []
    of_speaker = [source for pod in speaker for source in _containers(pod)]
    return [*pods, *own, *of_speaker] if key[0] == "instance" else [*own, *of_speaker, *pods]


def shell_of(store: FleetStore, key: Key) -> Source | None:
    """The container that a shell on this row is meant for; None if it is meant for a node."""
    if key[0] in ("pod", "container", "cluster_event", "monitoring", "instance"):
        return next((s for s in logs_of(store, key) if s.what.startswith("pod/")), None)
    return None


def _containers(pod: Pod, first: str = "") -> list[Source]:
    name = f"{pod.namespace}/{pod.name}"
    return [Source(pod.node, f"{name} {c.name}", pod_path(pod, c.name)) for c in containers_of(pod, first)]


def _own_first(inventory: Inventory, key: Key, found: list[_Found]) -> list[Source]:
    scope = scope_of(inventory, key)
    if not scope.node:
        return [s for spec, s in found if isinstance(spec, InstanceSpec) and spec.tenant == scope.tenant]

    def distance(spec: _Spec) -> int:
        match spec:
            case SpeakerSpec(name=name):
                if key[0] in ("session", "announcement", "drain"):
                    return 0 if key[2] == name else 2
                return 1
            case InstanceSpec(tenant=tenant):
                return 2 if not scope.tenant else 1 if scope.session else 0 if tenant == scope.tenant else 3
            case _:
                return 4

    mine = [(spec, source) for spec, source in found if source.node == scope.node]
    return [source for _, source in sorted(mine, key=lambda pair: distance(pair[0]))]
