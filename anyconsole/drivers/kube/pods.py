"""What a Pod object says: as a fact, and what the pods of a tenant say of its name server on a node. Pure.

The word for its status is in `pod_status`, and why it isn't ready in `pod_trouble`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from anyconsole.drivers.kube.pod_status import sidecars_of, standing_of
from anyconsole.drivers.kube.pod_trouble import trouble_of
from anyconsole.drivers.kube.values import LINE, WORD, Json, condition, moment, number, part, parts, text, told
from anyconsole.model.facts import InstanceStatus
from anyconsole.model.pods import Container, ContainerState, Pod

__all__ = ["COMPONENT_LABEL", "NAME_SERVER", "instances", "pod_of", "server_on"]

COMPONENT_LABEL: Final = "anyconsole.io/component"
"""What an object is of a tenant's set-up."""
NAME_SERVER: Final = "name-server"
"""Its value for the pods that answer queries."""

_APP_LABELS: Final = ("app.kubernetes.io/name", "app", "k8s-app")
_DAEMONS: Final = frozenset({"nsd", "knot", "knotd", "bind", "named"})
"""What a name server's container is called by those who don't use our labels."""


def pod_of(obj: object, cluster: str, tenant: str, at: float) -> Pod:
    """The fact of a Pod object. Never raises, whatever the object holds."""
    meta, spec, status = part(obj, "metadata"), part(obj, "spec"), part(obj, "status")
    labels = part(meta, "labels")
    namespace = text(meta, "namespace")
    owner_kind, owner = _owner(meta, labels)
    standing = standing_of(meta, spec, status)
    is_ready = condition(status, "Ready").get("status") == "True"
    return Pod(
        node=cluster,
        section=f"pods:{namespace}",
        at=at,
        namespace=namespace,
        name=text(meta, "name"),
        uid=text(meta, "uid", WORD),
        tenant=tenant,
        app=next((app for app in (text(labels, key) for key in _APP_LABELS) if app), "")
        or _app(meta, owner_kind, owner),
        component=text(labels, COMPONENT_LABEL),
        owner=f"{owner_kind}/{owner}" if owner else "",
        status=standing.word,
        is_ready=is_ready,
        trouble="" if is_ready else trouble_of(meta, spec, status),
        restarts=standing.restarts,
        restarted_at=standing.restarted_at,
        created_at=moment(meta, "creationTimestamp") or moment(status, "startTime") or at,
        host=text(spec, "nodeName"),
        addresses=_addresses(status),
        containers=_containers(spec, status),
    )


def instances(pods: Iterable[Pod], node: str, kube_name: str, tenant: str, daemon: str, at: float) -> InstanceStatus:
    """The name server of `tenant` on `node`, which the cluster calls `kube_name`, from all the pods of the tenant's namespace.

    Of several (a roll-over) the one that is ready counts. None there is a name server that doesn't run.
    """
    candidates = _name_servers([pod for pod in pods if pod.tenant == tenant])
    pod = max((pod for pod in candidates if pod.host == kube_name), key=_standing_in, default=None)
    if pod is None:
        waits = next((f" ({pod.name}: {pod.trouble})" for pod in candidates if not pod.host and pod.trouble), "")
        return InstanceStatus(
            node=node,
            section=f"pod:{tenant}",
            at=at,
            tenant=tenant,
            daemon=daemon,
            running=False,
            is_ready=False,
            detail=f"no pod on this node{waits}"[:LINE],
            is_absent=not candidates,
        )
    server = _server(pod, daemon)
    runs = server is not None and server.state is ContainerState.RUNNING
    since = server.started_at if server and runs else None
    return InstanceStatus(
        node=node,
        section=f"pod:{tenant}",
        at=at,
        tenant=tenant,
        daemon=daemon,
        running=runs,
        version=_tag(server.image) if server else "",
        uptime=max(0.0, at - since) if since is not None else None,
        is_ready=pod.is_ready,
        detail=pod.trouble,
        drift=pod.drift,
    )


def _owner(meta: Json, labels: Json) -> tuple[str, str]:
    reference = next((r for r in parts(meta, "ownerReferences") if r.get("controller") is True), None)
    kind, name = text(reference, "kind", WORD), text(reference, "name")
    hashed = text(labels, "pod-template-hash")
    if kind == "ReplicaSet" and hashed and name.endswith(f"-{hashed}"):
        return "Deployment", name[: -len(hashed) - 1]
    return kind, name


def _app(meta: Json, owner_kind: str, owner: str) -> str:
    # A static pod is its node's, and is called after what it is and its node.
    return text(meta, "name").removesuffix(f"-{owner}") if owner_kind == "Node" else owner


def _addresses(status: Json) -> tuple[str, ...]:
    told_all = [text(address, "ip") for address in parts(status, "podIPs")]
    return tuple(ip for ip in told_all or [text(status, "podIP")] if ip)


def _containers(spec: Json, status: Json) -> tuple[Container, ...]:
    sidecars = sidecars_of(spec)
    said_first = {text(s, "name"): s for s in parts(status, "initContainerStatuses")}
    said = {text(s, "name"): s for s in parts(status, "containerStatuses")}
    return (
        *(_container(c, said_first, init=True, sidecars=sidecars) for c in parts(spec, "initContainers")),
        *(_container(c, said) for c in parts(spec, "containers")),
    )


def _container(
    spec: Json, said: dict[str, Json], *, init: bool = False, sidecars: frozenset[str] = frozenset()
) -> Container:
    name = text(spec, "name")
    status, sidecar = said.get(name, {}), name in sidecars
    state, last = part(status, "state"), part(part(status, "lastState"), "terminated")
    is_now = next((s for s in ContainerState if told(state, s)), ContainerState.UNKNOWN)
    now = part(state, is_now)
    ready = status.get("ready") is True
    if sidecar:
        ready = ready and status.get("started") is True
    elif not init:
        ready = ready and is_now is ContainerState.RUNNING
    return Container(
        name=name,
        # As it was asked for: what the status names is one of all the names that the image has on that node.
        image=text(spec, "image", LINE) or text(status, "image", LINE),
        init=init,
        sidecar=sidecar,
        state=is_now,
        ready=ready,
        restarts=max(0, number(status, "restartCount")),
        reason=text(now, "reason", WORD),
        message=text(now, "message", LINE),
        exit_code=number(now, "exitCode") if is_now is ContainerState.TERMINATED else None,
        started_at=moment(now, "startedAt"),
        last_reason=text(last, "reason", WORD),
        last_exit_code=number(last, "exitCode") if last else None,
        last_finished_at=moment(last, "finishedAt"),
    )


def server_on(pods: Iterable[Pod], kube_name: str, tenant: str, daemon: str) -> tuple[str, str] | None:
    """Pod and container of a tenant's name server on a node, by what the cluster calls it; None if none runs there."""
    mine = [pod for pod in _name_servers([p for p in pods if p.tenant == tenant]) if pod.host == kube_name]
    pod = max(mine, key=_standing_in, default=None)
    container = _server(pod, daemon) if pod is not None else None
    if pod is None or container is None or container.state is not ContainerState.RUNNING:
        return None
    return pod.name, container.name


def _name_servers(pods: list[Pod]) -> list[Pod]:
    if any(pod.component for pod in pods):
        return [pod for pod in pods if pod.component == NAME_SERVER]
    return [pod for pod in pods if pod.name.startswith("ns") or any(c.name in _DAEMONS for c in pod.containers)]


def _standing_in(pod: Pod) -> tuple[bool, bool, bool, float, str]:
    """How much a pod counts as the instance: the ready one, rather one that stays, that runs, that is newer."""
    stays = pod.status not in {"Terminating", "Unknown"}
    runs = any(c.state is ContainerState.RUNNING for c in pod.containers)
    return (pod.is_ready, stays, runs, pod.created_at, pod.name)


def _server(pod: Pod, daemon: str) -> Container | None:
    """The container of a pod that is the name server: called as the daemon is, or the first."""
    mine = [c for c in pod.containers if not c.init]
    wanted = ({daemon}, _DAEMONS, {NAME_SERVER, "ns"})
    return next((c for names in wanted for c in mine if c.name in names), mine[0] if mine else None)


def _tag(image: str) -> str:
    """`registry:5000/nsd:4.9@sha256:...` is 4.9."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]
