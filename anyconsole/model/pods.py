"""What was observed in Kubernetes clusters: frozen facts beside those of `facts`, projected from the API's objects, never the objects.

A cluster is the `node` of its facts; its name is one of the profile. What is about one node of it that the profile names (its
conditions, its speaker, its instances) is told under that node's name, as on bare metal. Sections of a cluster are "api" (its version and
what we may do there), "nodes", "calico" (what its routing is made of), "pods:NAMESPACE", "events:NAMESPACE" and "set:TENANT"; of a virtual
node "host" (the Node object), "calico" and "pod:TENANT".
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from anyconsole.model.fact import Fact, Key

__all__ = [
    "SET_EVERY",
    "Cluster",
    "ClusterEvent",
    "ClusterNode",
    "Container",
    "ContainerState",
    "Permission",
    "Pod",
    "RoutingConfig",
    "RoutingObject",
    "TenantSet",
    "set_section",
]

SET_EVERY: Final = 60.0
"""Seconds between two looks at what set-up made of a tenant; after a set-up or teardown of ours it is looked at once more."""


def set_section(tenant: str) -> str:
    """The section of a cluster that sees what set-up made of a tenant."""
    return f"set:{tenant}"


class ContainerState(StrEnum):
    """The three states of a container (Kubernetes API, ContainerState), and not told."""

    RUNNING = "running"
    WAITING = "waiting"
    TERMINATED = "terminated"
    UNKNOWN = "unknown"


class Container(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One container of a pod. Times are epoch seconds; `last_*` is how it ended the time before, None and "" if it never did.

    `init` runs before the others; a `sidecar` is an init container that stays (restartPolicy Always). `ready` is as kubectl counts it:
    what runs and is ready, and of an init container that it has done its work.
    """

    name: str
    image: str = ""
    init: bool = False
    sidecar: bool = False
    state: ContainerState = ContainerState.UNKNOWN
    ready: bool = False
    restarts: int = 0
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    started_at: float | None = None
    last_reason: str = ""
    last_exit_code: int | None = None
    last_finished_at: float | None = None


class Pod(Fact, frozen=True, kw_only=True, tag="pod", gc=False):
    """A pod of a namespace that is watched, as `kubectl get pods -o wide` tells it.

    `status` is kubectl's word (CrashLoopBackOff, Init:0/1, Terminating), `host` the Kubernetes node it is on, `is_ready` its Ready
    condition and `trouble` why it isn't. `tenant` is whose namespace it is in, "" in others. `component` is what it is of a tenant's
    set-up (label `anyconsole.io/component`), and `drift` says how it differs from what set-up would make. Times are epoch seconds.
    """

    kind: ClassVar[str] = "pod"

    namespace: str
    name: str
    uid: str = ""
    tenant: str = ""
    app: str = ""
    component: str = ""
    owner: str = ""
    status: str
    is_ready: bool
    trouble: str = ""
    drift: str = ""
    restarts: int = 0
    restarted_at: float | None = None
    created_at: float
    host: str = ""
    addresses: tuple[str, ...] = ()
    containers: tuple[Container, ...] = ()

    @property
    def key(self) -> Key:
        """One per cluster, namespace and name."""
        return (self.kind, self.node, self.namespace, self.name)

    @property
    def ready(self) -> tuple[int, int]:
        """How many of its containers are ready, and how many it has; init containers aren't counted, sidecars are."""
        mine = [c for c in self.containers if c.sidecar or not c.init]
        return sum(c.ready for c in mine), len(mine)


class ClusterNode(Fact, frozen=True, kw_only=True, tag="cluster_node"):
    """The Node object behind a node of the profile, in section "host". `is_ready` is None where its kubelet stopped telling.

    `troubles` are conditions that are not as they should be, in words; `excluded` is the label that keeps its load balancers' addresses
    from being announced (`node.kubernetes.io/exclude-from-external-load-balancers`).
    """

    kind: ClassVar[str] = "cluster_node"

    cluster: str
    is_ready: bool | None
    is_cordoned: bool = False
    excluded: bool = False
    troubles: tuple[str, ...] = ()
    version: str = ""
    addresses: tuple[str, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    taints: tuple[str, ...] = ()


class Permission(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Something one may do in a cluster, as RBAC words it. `namespace` and `name` "" are all; `resource` may have a "/subresource"."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        what += f"/{self.name}" if self.name else ""
        return f"{self.verb} {what}" + (f" in {self.namespace}" if self.namespace else " in all namespaces")


class Cluster(Fact, frozen=True, kw_only=True, tag="cluster"):
    """A cluster as a whole, in section "api".

    `calico` is the API group and version in which Calico's objects are served, "" if they aren't. `denied` is what we would do there and
    may not, reading or changing.
    """

    kind: ClassVar[str] = "cluster"

    version: str = ""
    calico: str = ""
    user: str = ""
    denied: tuple[Permission, ...] = ()


class ClusterEvent(Fact, frozen=True, kw_only=True, tag="cluster_event", gc=False):
    """An event of a namespace that is watched. `about` is like "Pod/ns-5c7b8"; `last_at` is epoch seconds; `severity` Normal or Warning."""

    kind: ClassVar[str] = "cluster_event"

    namespace: str
    name: str
    severity: str
    about: str
    reason: str
    message: str
    count: int
    last_at: float

    @property
    def key(self) -> Key:
        """One per cluster, namespace and name."""
        return (self.kind, self.node, self.namespace, self.name)


class RoutingObject(msgspec.Struct, frozen=True, kw_only=True):
    """One of the objects that a drain is made of: as much of it as decides what is announced, as JSON in `body`."""

    kind: str
    name: str
    body: str


class RoutingConfig(Fact, frozen=True, kw_only=True, tag="routing"):
    """What a cluster's announcements are configured by, in section "calico": what drains change, so that they can be planned.

    `api` is the API group and version of Calico's objects, `calico` Calico's version ("3.32", "" if it isn't known). `dead_man` says
    whether the account is there that takes unconfirmed drains back, None if that isn't known. `lock` says whose change is unconfirmed
    somewhere in the cluster, "" if none is; `expired_lock` is the uid of a lock that somebody left behind. `obstacle` says why nothing
    can be planned there all the same, "" if it can.
    """

    kind: ClassVar[str] = "routing"

    api: str
    calico: str = ""
    dead_man: bool | None = None
    lock: str = ""
    expired_lock: str = ""
    obstacle: str = ""
    objects: tuple[RoutingObject, ...] = ()


class TenantSet(Fact, frozen=True, kw_only=True, tag="tenant_set"):
    """What set-up made of a tenant in a cluster, beside its pods: how it differs from what set-up would make now, a line per object.

    `is_set_up` is False where nothing of it is there, but perhaps a namespace with its quota, and None where that isn't known. `unseen` are
    kinds of objects that we may not list: of these nothing is said.
    """

    kind: ClassVar[str] = "tenant_set"

    tenant: str
    is_set_up: bool | None
    drift: tuple[str, ...] = ()
    unseen: tuple[Permission, ...] = ()

    @property
    def key(self) -> Key:
        """One per cluster and tenant."""
        return (self.kind, self.node, self.tenant)
