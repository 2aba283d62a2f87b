"""Reconciling the workloads: Deployment to ReplicaSets, ReplicaSet, DaemonSet, StatefulSet and Job to pods, and their statuses."""

from __future__ import annotations

import datetime as dt
import hashlib

from tests.kube.apiserver import errors
from tests.kube.apiserver.api import Api, Delete, How, Place
from tests.kube.apiserver.events import emit
from tests.kube.apiserver.kubelet import has_labels, is_ready
from tests.kube.apiserver.objects import (
    Object,
    controller_of,
    copy,
    dig,
    encode,
    items,
    meta,
    moment_of,
    name_of,
    name_suffix,
    namespace_of,
    now,
    owner_reference,
)

_MANAGER = How("kube-controller-manager")
_REVISION = "deployment.kubernetes.io/revision"


def deployment(api: Api, workload: Object) -> float | None:
    """One ReplicaSet for each template there was; the newest gets the replicas, the others lose them when it is ready, or one by one."""
    wanted = dig(workload, "spec", "replicas") or 0
    key = template_hash(workload)
    owned = _owned(api, "replicasets.apps", workload)
    newest = next((rs for rs in owned if rs["metadata"]["labels"].get("pod-template-hash") == key), None)
    old = [rs for rs in owned if rs is not newest]
    recreate = dig(workload, "spec", "strategy", "type") == "Recreate"
    if newest is None:
        if recreate and any(_count(rs, "replicas") for rs in old):
            _scale_all(api, old, 0)
            return None
        first = 0 if old and not recreate else wanted
        newest = _create_replica_set(api, workload, key, first, 1 + max((_revision(rs) for rs in owned), default=0))
    if dig(workload, "spec", "strategy", "rollingUpdate", "maxSurge") == 0:
        _roll(api, workload, newest, old)
    else:
        _scale_all(api, [newest], wanted)
        if _count(newest, "availableReplicas") >= wanted:
            _scale_all(api, old, 0)
    everything = [newest, *old]
    available = sum(_count(rs, "availableReplicas") for rs in everything)
    status: Object = {"observedGeneration": workload["metadata"]["generation"]}
    status |= {
        "replicas": sum(_count(rs, "replicas") for rs in everything),
        "updatedReplicas": _count(newest, "replicas"),
    }
    status |= {"readyReplicas": sum(_count(rs, "readyReplicas") for rs in everything), "availableReplicas": available}
    status["unavailableReplicas"] = max(0, wanted - available)
    status = {key: value for key, value in status.items() if value or key == "observedGeneration"}
    done = _count(newest, "availableReplicas") >= wanted and status.get("replicas", 0) == wanted
    failed = next(
        (c for rs in everything for c in items(rs, "status", "conditions") if c["type"] == "ReplicaFailure"), None
    )
    conditions = [
        (
            "Available",
            available >= wanted,
            "MinimumReplicasAvailable" if available >= wanted else "MinimumReplicasUnavailable",
            "",
        ),
        ("Progressing", True, "NewReplicaSetAvailable" if done else "ReplicaSetUpdated", ""),
        *([("ReplicaFailure", True, failed["reason"], failed["message"])] if failed else []),
    ]
    changed = with_status(workload, status, conditions)
    meta(changed).setdefault("annotations", {})[_REVISION] = str(_revision(newest))
    api.write(api.catalogue.named("deployments"), changed)
    return None


def _roll(api: Api, workload: Object, newest: Object, old: list[Object]) -> None:
    """Without a surge: a new pod when an old one is gone, an old one goes while enough are available."""
    wanted = dig(workload, "spec", "replicas") or 0
    here = [newest, *old]
    left = sum(max(_count(rs, "replicas"), dig(rs, "spec", "replicas") or 0) for rs in old)
    unavailable = dig(workload, "spec", "strategy", "rollingUpdate", "maxUnavailable") or 0
    # What is on its way down already isn't available any more, whatever its status still says.
    going = sum(max(0, _count(rs, "replicas") - (dig(rs, "spec", "replicas") or 0)) for rs in here)
    spare = sum(_count(rs, "availableReplicas") for rs in here) - going - (wanted - unavailable)
    for replicas in old:
        asked = dig(replicas, "spec", "replicas") or 0
        fewer = min(asked, max(0, spare))
        spare -= fewer
        _scale_all(api, [replicas], asked - fewer)
    _scale_all(api, [newest], max(dig(newest, "spec", "replicas") or 0, wanted - left))


def replica_set(api: Api, workload: Object) -> float | None:
    """As many pods as it says."""
    pods = [pod for pod in _owned(api, "pods", workload) if not pod["metadata"].get("deletionTimestamp")]
    active = [pod for pod in pods if dig(pod, "status", "phase") not in {"Succeeded", "Failed"}]
    missing = (dig(workload, "spec", "replicas") or 0) - len(active)
    failure = ""
    for _ in range(missing):
        if failure := _create_pod(api, workload, f"{name_of(workload)}-{name_suffix()}"):
            break
    for pod in sorted(active, key=is_ready)[: max(0, -missing)]:
        api.delete(Place(api.catalogue.named("pods"), namespace_of(pod), name_of(pod)), Delete())
    ready = sum(1 for pod in active if is_ready(pod))
    status: Object = {"replicas": len(active), "observedGeneration": workload["metadata"]["generation"]}
    status |= {"fullyLabeledReplicas": len(active), "readyReplicas": ready, "availableReplicas": ready} if ready else {}
    changed = with_status(workload, status, [("ReplicaFailure", True, "FailedCreate", failure)] if failure else [])
    api.write(api.catalogue.named("replicasets"), changed)
    return 1.0 if failure else None


def daemon_set(api: Api, workload: Object) -> float | None:
    """One pod on each node that fits; after a change of the template one node after the other."""
    wanted = dig(workload, "spec", "template", "spec", "nodeSelector") or {}
    nodes = [name_of(node.obj) for node in api.store.all("nodes") if has_labels(node.obj, wanted)]
    key = template_hash(workload)
    pods = _owned(api, "pods", workload)
    placed = {str(dig(pod, "spec", "nodeName")): pod for pod in pods}
    failure = ""
    for node in nodes:
        if node not in placed:
            extra = {"controller-revision-hash": key}
            failure = failure or _create_pod(api, workload, f"{name_of(workload)}-{name_suffix()}", extra, node)
    current = [pod for node, pod in placed.items() if node in nodes]
    outdated = [pod for pod in current if pod["metadata"]["labels"].get("controller-revision-hash") != key]
    settled = len(current) == len(nodes) and all(
        is_ready(pod) and not pod["metadata"].get("deletionTimestamp") for pod in current
    )
    surplus = [pod for node, pod in placed.items() if node not in nodes]
    for pod in surplus + (outdated[:1] if settled else []):
        api.delete(Place(api.catalogue.named("pods"), namespace_of(pod), name_of(pod)), Delete())
    ready = sum(1 for pod in current if is_ready(pod))
    status = {
        "desiredNumberScheduled": len(nodes),
        "currentNumberScheduled": len(current),
        "updatedNumberScheduled": len(current) - len(outdated),
        "numberReady": ready,
        "numberAvailable": ready,
        "numberUnavailable": len(nodes) - ready,
        "numberMisscheduled": len(surplus),
        "observedGeneration": workload["metadata"]["generation"],
    }
    api.write(api.catalogue.named("daemonsets"), with_status(workload, status, []))
    return 1.0 if failure else None


def stateful_set(api: Api, workload: Object) -> float | None:
    """Numbered pods, one after the other."""
    pods = {name_of(pod): pod for pod in _owned(api, "pods", workload)}
    names = [f"{name_of(workload)}-{number}" for number in range(dig(workload, "spec", "replicas") or 0)]
    waiting = next((name for name in names if name not in pods or not is_ready(pods[name])), None)
    if waiting is not None and waiting not in pods:
        _create_pod(api, workload, waiting)
    for name in sorted(pods.keys() - set(names), reverse=True):
        api.delete(Place(api.catalogue.named("pods"), namespace_of(workload), name), Delete())
    ready = sum(1 for name in names if name in pods and is_ready(pods[name]))
    counts = dict.fromkeys(("readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"), ready)
    status = {"replicas": len(pods), "observedGeneration": workload["metadata"]["generation"], **counts}
    api.write(api.catalogue.named("statefulsets"), with_status(workload, status, []))
    return None


def job(api: Api, workload: Object) -> float | None:
    """As many pods at once as it says, and others after failures until the limit; then it is Complete or Failed."""
    if any(c["status"] == "True" for c in items(workload, "status", "conditions")):
        return _expire(api, workload)
    pods = _owned(api, "pods", workload)
    phases = [dig(pod, "status", "phase") for pod in pods]
    succeeded, failed = phases.count("Succeeded"), phases.count("Failed")
    active = len(pods) - succeeded - failed
    wanted = dig(workload, "spec", "completions") or 1
    missing = min(dig(workload, "spec", "parallelism") or 1, wanted - succeeded) - active
    limit = dig(workload, "spec", "backoffLimit")
    deadline = dig(workload, "spec", "activeDeadlineSeconds")
    begun = dig(workload, "status", "startTime") or now()
    left = None if deadline is None else deadline - (dt.datetime.now(dt.UTC) - moment_of(begun)).total_seconds()
    ended: list[tuple[str, bool, str, str]] = []
    if succeeded >= wanted:
        ended = [("Complete", True, "CompletionsReached", "")]
    elif failed > limit:
        ended = [("Failed", True, "BackoffLimitExceeded", "Job has reached the specified backoff limit")]
        for pod in pods:
            if dig(pod, "status", "phase") not in {"Succeeded", "Failed"}:
                api.delete(Place(api.catalogue.named("pods"), namespace_of(pod), name_of(pod)), Delete())
        active = 0
    elif left is not None and left <= 0:
        ended = [("Failed", True, "DeadlineExceeded", "Job was active longer than specified deadline")]
        for pod in pods:
            api.delete(Place(api.catalogue.named("pods"), namespace_of(pod), name_of(pod)), Delete())
        active = 0
    elif not dig(workload, "spec", "suspend"):
        for _ in range(missing):
            if not _create_pod(api, workload, f"{name_of(workload)}-{name_suffix()}"):
                active += 1
    status: Object = {"startTime": begun, "active": active, "succeeded": succeeded, "failed": failed}
    status = {key: value for key, value in status.items() if value}
    if ended and ended[0][0] == "Complete":
        status["completionTime"] = now()
    api.write(api.catalogue.named("jobs"), with_status(workload, status, ended))
    return left if left is not None and left > 0 else None


def template_hash(workload: Object) -> str:
    """What tells one template from another."""
    return hashlib.sha256(encode(workload["spec"]["template"])).hexdigest()[:10]


def with_status(workload: Object, status: Object, conditions: list[tuple[str, bool, str, str]]) -> Object:
    """The object with a new status; conditions keep their time while they say the same."""
    changed = copy(workload)
    before = {c["type"]: c for c in items(workload, "status", "conditions")}
    told = []
    for kind, true, reason, message in conditions:
        condition: Object = {"type": kind, "status": "True" if true else "False", "reason": reason, "message": message}
        old = before.get(kind)
        same = old is not None and {k: old.get(k) for k in condition} == condition
        told.append(old if same else condition | {"lastUpdateTime": now(), "lastTransitionTime": now()})
    changed["status"] = status | ({"conditions": told} if told else {})
    return changed


def _expire(api: Api, workload: Object) -> float | None:
    keep = dig(workload, "spec", "ttlSecondsAfterFinished")
    if keep is None:
        return None
    ended = next(c["lastTransitionTime"] for c in items(workload, "status", "conditions"))
    left = float(keep) - (dt.datetime.now(dt.UTC) - moment_of(ended)).total_seconds()
    if left > 0:
        return left
    api.delete(Place(api.catalogue.named("jobs"), namespace_of(workload), name_of(workload)), Delete())
    return None


def _owned(api: Api, resource: str, owner: Object) -> list[Object]:
    """What an object controls, of one resource."""
    uid = owner["metadata"]["uid"]
    found = (stored.obj for key, stored in api.store.dependents(uid) if key == resource)
    return [obj for obj in found if (controller_of(obj) or {}).get("uid") == uid]


def _count(workload: Object, field: str) -> int:
    return int(dig(workload, "status", field) or 0)


def _revision(replicas: Object) -> int:
    return int((replicas["metadata"].get("annotations") or {}).get(_REVISION, 0))


def _scale_all(api: Api, replica_sets: list[Object], wanted: int) -> None:
    for replicas in replica_sets:
        if dig(replicas, "spec", "replicas") != wanted:
            changed = copy(replicas)
            changed["spec"]["replicas"] = wanted
            changed["metadata"]["generation"] += 1
            api.write(api.catalogue.named("replicasets"), changed)


def _create_replica_set(api: Api, workload: Object, key: str, wanted: int, revision: int) -> Object:
    template = copy(workload["spec"]["template"])
    template["metadata"]["labels"]["pod-template-hash"] = key
    selector = copy(workload["spec"]["selector"])
    selector.setdefault("matchLabels", {})["pod-template-hash"] = key
    replicas = {
        "metadata": {
            "name": f"{name_of(workload)}-{key}",
            "labels": template["metadata"]["labels"],
            "annotations": {_REVISION: str(revision)},
            "ownerReferences": [owner_reference(workload)],
        },
        "spec": {"replicas": wanted, "selector": selector, "template": template},
    }
    return api.create(Place(api.catalogue.named("replicasets"), namespace_of(workload)), replicas, _MANAGER)


def _create_pod(api: Api, workload: Object, name: str, labels: Object | None = None, node: str = "") -> str:
    """Create a pod from a template. Returns why it could not, if it could not."""
    template = copy(workload["spec"]["template"])
    metadata = {**(template.get("metadata") or {}), "name": name, "ownerReferences": [owner_reference(workload)]}
    metadata["labels"] = {**(metadata.get("labels") or {}), **(labels or {})}
    pod = {"metadata": metadata, "spec": template["spec"] | ({"nodeName": node} if node else {})}
    place = Place(api.catalogue.named("pods"), namespace_of(workload))
    try:
        api.create(place, pod, _MANAGER)
    except errors.ApiError as error:
        if error.code != 403 or "being terminated" in error.message:
            return error.message
        if not any(c.get("message") == error.message for c in items(workload, "status", "conditions")):
            emit(api, workload, "FailedCreate", f"Error creating: {error.message}", "Warning", "replicaset-controller")
        return error.message
    return ""
