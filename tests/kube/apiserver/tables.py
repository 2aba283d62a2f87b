"""The Table form of objects: the columns that `kubectl get` prints, computed by the server."""

from __future__ import annotations

import datetime as dt
import re

from tests.kube.apiserver.objects import Object, Value, dig, items, moment_of, name_of
from tests.kube.apiserver.resources import Resource

Column = tuple[str, int]
"""Its name, and its priority: above 0 it is shown only when wide output is asked for."""

_COLUMNS: dict[str, tuple[Column, ...]] = {
    "pods": (
        ("Ready", 0), ("Status", 0), ("Restarts", 0), ("Age", 0), ("IP", 1), ("Node", 1), ("Nominated Node", 1), ("Readiness Gates", 1),
    ),
    "nodes": (("Status", 0), ("Roles", 0), ("Age", 0), ("Version", 0), ("Internal-IP", 1)),
    "namespaces": (("Status", 0), ("Age", 0)),
    "services": (("Type", 0), ("Cluster-IP", 0), ("External-IP", 0), ("Port(s)", 0), ("Age", 0), ("Selector", 1)),
    "deployments": (("Ready", 0), ("Up-to-date", 0), ("Available", 0), ("Age", 0)),
    "daemonsets": (("Desired", 0), ("Current", 0), ("Ready", 0), ("Up-to-date", 0), ("Available", 0), ("Age", 0)),
    "jobs": (("Status", 0), ("Completions", 0), ("Age", 0)),
    "configmaps": (("Data", 0), ("Age", 0)),
    "secrets": (("Type", 0), ("Data", 0), ("Age", 0)),
    "events": (("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Message", 0)),
}  # fmt: skip


def table(resource: Resource, objects: list[Object], include: str = "Metadata", with_columns: bool = True) -> Object:
    """A Table of these objects; in a watch only the first says its columns."""
    wanted = _COLUMNS.get(resource.plural) if not resource.is_custom else None
    columns = [("Name", 0), *(wanted or [*((name, 0) for name, _, _ in resource.columns), ("Age", 0)])]
    definitions = [
        {
            "name": name,
            "type": "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": priority,
        }
        for name, priority in columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": objects[0]["metadata"]["resourceVersion"]} if len(objects) == 1 else {},
        "columnDefinitions": definitions if with_columns else None,
        "rows": [
            {"cells": [name_of(obj), *_cells(resource, obj)], "object": _included(obj, include)} for obj in objects
        ],
    }


def age(stamp: str | None) -> str:
    """How long ago, in kubectl's words."""
    if not stamp:
        return "<unknown>"
    seconds = int((dt.datetime.now(dt.UTC) - moment_of(stamp)).total_seconds())
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d" if days >= 8 or not hours % 24 else f"{days}d{hours % 24}h"


def pod_status(pod: Object) -> str:
    """The one word that kubectl prints as a pod's status."""
    status = pod.get("status") or {}
    word = str(status.get("reason") or status.get("phase") or "")
    for container in items(pod, "status", "initContainerStatuses"):
        terminated, waiting = dig(container, "state", "terminated"), dig(container, "state", "waiting")
        if terminated and not terminated.get("exitCode"):
            continue
        if terminated:
            return "Init:" + str(terminated.get("reason") or f"ExitCode:{terminated['exitCode']}")
        if waiting and waiting.get("reason") not in {None, "PodInitializing"}:
            return f"Init:{waiting['reason']}"
        done = sum(
            1 for c in items(pod, "status", "initContainerStatuses") if dig(c, "state", "terminated", "exitCode") == 0
        )
        return f"Init:{done}/{len(items(pod, 'spec', 'initContainers'))}"
    running = False
    for container in reversed(items(pod, "status", "containerStatuses")):
        if reason := dig(container, "state", "waiting", "reason"):
            word = reason
        elif terminated := dig(container, "state", "terminated"):
            signal = terminated.get("signal")
            word = str(
                terminated.get("reason") or (f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode')}")
            )
        elif container.get("ready") and dig(container, "state", "running"):
            running = True
    if word == "Completed" and running:
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in items(pod, "status", "conditions"))
        word = "Running" if ready else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return word


def _included(obj: Object, include: str) -> Value:
    if include == "Object":
        return obj
    if include == "None":
        return None
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _cells(resource: Resource, obj: Object) -> list[Value]:
    born = age(dig(obj, "metadata", "creationTimestamp"))
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    match "" if resource.is_custom else resource.plural:
        case "pods":
            return _pod(obj, born)
        case "nodes":
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in items(obj, "status", "conditions"))
            word = ("Ready" if ready else "NotReady") + (",SchedulingDisabled" if spec.get("unschedulable") else "")
            address = next(
                (a["address"] for a in items(obj, "status", "addresses") if a["type"] == "InternalIP"), "<none>"
            )
            return [word, "<none>", born, dig(status, "nodeInfo", "kubeletVersion"), address]
        case "namespaces":
            return [status.get("phase"), born]
        case "services":
            outside = [
                *(spec.get("externalIPs") or ()),
                *(i.get("ip") for i in items(status, "loadBalancer", "ingress")),
            ]
            ports = ",".join(
                f"{p['port']}" + (f":{p['nodePort']}" if p.get("nodePort") else "") + f"/{p['protocol']}"
                for p in items(spec, "ports")
            )
            chosen = ",".join(f"{k}={v}" for k, v in (spec.get("selector") or {}).items())
            return [
                spec.get("type"),
                spec.get("clusterIP"),
                ",".join(outside) or "<none>",
                ports or "<none>",
                born,
                chosen or "<none>",
            ]
        case "deployments":
            return [
                f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
                status.get("updatedReplicas", 0),
                status.get("availableReplicas", 0),
                born,
            ]
        case "daemonsets":
            names = (
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "numberReady",
                "updatedNumberScheduled",
                "numberAvailable",
            )
            return [*(status.get(name, 0) for name in names), born]
        case "jobs":
            ended = [c["type"] for c in items(status, "conditions") if c["status"] == "True"]
            return [
                ended[0] if ended else "Running",
                f"{status.get('succeeded', 0)}/{spec.get('completions', 1)}",
                born,
            ]
        case "configmaps":
            return [len(obj.get("data") or {}), born]
        case "secrets":
            return [obj.get("type"), len(obj.get("data") or {}), born]
        case "events":
            target = obj.get("involvedObject") or {}
            about = f"{str(target.get('kind', '')).lower()}/{target.get('name')}"
            return [age(obj.get("lastTimestamp")), obj.get("type"), obj.get("reason"), about, obj.get("message")]
        case _:
            return [*(_at(obj, path) for _, _, path in resource.columns), born]


def _at(obj: Object, path: str) -> Value:
    return dig(obj, *(part for part in re.split(r"\.", path) if part))


def _pod(pod: Object, born: str) -> list[Value]:
    statuses = items(pod, "status", "containerStatuses")
    ready = sum(1 for container in statuses if container.get("ready"))
    restarts = sum(int(container.get("restartCount", 0)) for container in statuses)
    ends = [dig(container, "lastState", "terminated", "finishedAt") for container in statuses]
    last = max((end for end in ends if end), default=None)
    shown = f"{restarts} ({age(last)} ago)" if restarts and last else str(restarts)
    where = (dig(pod, "status", "podIP") or "<none>", dig(pod, "spec", "nodeName") or "<none>")
    return [
        f"{ready}/{len(items(pod, 'spec', 'containers'))}",
        pod_status(pod),
        shown,
        born,
        *where,
        "<none>",
        "<none>",
    ]
