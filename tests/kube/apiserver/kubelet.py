"""A scheduler and a kubelet in small: a pod gets a node, waits for its image, runs, gets ready, is stopped, as scripted.

Nothing really runs. What clients see of a pod's life is what a real cluster shows, in its order and its words.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Callable

from tests.kube.apiserver.api import Api
from tests.kube.apiserver.events import emit
from tests.kube.apiserver.objects import Object, copy, dig, items, name_of, namespace_of, now
from tests.kube.apiserver.scripts import Behaviour, JobHook, JobRun, Scripts

Credentials = Callable[[Object, Object], JobRun]
"""Makes what a Job's container finds mounted, of its pod and container."""


class Kubelet:
    """Takes each pod one step further when its time has come."""

    def __init__(self, api: Api, scripts: Scripts, credentials: Credentials) -> None:
        self._api = api
        self._scripts = scripts
        self._credentials = credentials
        self._since: dict[tuple[str, str], float] = {}
        self._held_ready: dict[str, bool] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._addresses = itertools.count(2)

    def hold_ready(self, pod: Object, ready: bool | None) -> None:
        """Keep a pod ready or unready, whatever its script says; None to let it be."""
        if ready is None:
            self._held_ready.pop(pod["metadata"]["uid"], None)
        else:
            self._held_ready[pod["metadata"]["uid"]] = ready

    async def stop(self) -> None:
        """End what runs."""
        for task in self._jobs.values():
            task.cancel()
        await asyncio.gather(*self._jobs.values(), return_exceptions=True)

    def step(self, pod: Object) -> float | None:
        """Take a pod one step further. Returns in how many seconds the next one is due."""
        uid = pod["metadata"]["uid"]
        if pod["metadata"].get("deletionTimestamp"):
            return self._stop(pod, uid)
        life = self._scripts.lives.find(namespace_of(pod), name_of(pod)) or Behaviour()
        if not dig(pod, "spec", "nodeName"):
            return self._schedule(pod, life)
        phase = dig(pod, "status", "phase")
        if phase in {"Succeeded", "Failed"}:
            return None
        if not items(pod, "status", "containerStatuses"):
            self._create_containers(pod, life)
            return life.starts_after
        if phase == "Pending":
            return self._start(pod, life, uid)
        return self._run(pod, life, uid)

    def _waited(self, uid: str, stage: str) -> float:
        clock = asyncio.get_running_loop().time()
        return clock - self._since.setdefault((uid, stage), clock)

    def _stop(self, pod: Object, uid: str) -> float | None:
        if not pod["metadata"].get("deletionGracePeriodSeconds"):
            return None
        if (wait := 0.03 - self._waited(uid, "stopping")) > 0:
            return wait
        if job := self._jobs.pop(uid, None):
            job.cancel()
        stopped = copy(pod)
        stopped["metadata"]["deletionGracePeriodSeconds"] = 0
        self._write(stopped)
        return None

    def _schedule(self, pod: Object, life: Behaviour) -> float | None:
        chosen = None if life.unschedulable else self._node_for(pod)
        scheduled = copy(pod)
        if chosen is None:
            words = f"0/{len(self._api.store.all('nodes'))} nodes are available."
            condition = _condition("PodScheduled", False, "Unschedulable", words)
            if not any(c.get("reason") == "Unschedulable" for c in items(pod, "status", "conditions")):
                emit(self._api, pod, "FailedScheduling", words, "Warning")
                scheduled["status"]["conditions"] = [condition]
                self._write(scheduled)
            return None
        scheduled["spec"]["nodeName"] = chosen
        scheduled["status"]["conditions"] = [_condition("PodScheduled", True)]
        emit(self._api, pod, "Scheduled", f"Successfully assigned {namespace_of(pod)}/{name_of(pod)} to {chosen}")
        self._write(scheduled)
        return None

    def _node_for(self, pod: Object) -> str | None:
        wanted = dig(pod, "spec", "nodeSelector") or {}
        busy = collections.Counter(dig(other.obj, "spec", "nodeName") for other in self._api.store.all("pods"))
        fits = [
            name_of(node.obj)
            for node in self._api.store.all("nodes")
            if is_ready(node.obj) and not dig(node.obj, "spec", "unschedulable") and has_labels(node.obj, wanted)
        ]
        return min(fits, key=lambda node: (busy[node], node), default=None)

    def _create_containers(self, pod: Object, life: Behaviour) -> None:
        creating = copy(pod)
        reason = life.stuck or "ContainerCreating"
        status = creating["status"]
        status |= {"phase": "Pending", "startTime": now(), **self._host(pod)}
        status["conditions"] = [_condition("PodScheduled", True), *_unready(), _condition("Initialized", True)]
        status["containerStatuses"] = [
            {
                "name": container["name"], "image": container["image"], "imageID": "", "ready": False, "started": False,
                "restartCount": 0, "lastState": {}, "state": {"waiting": {"reason": reason}},
            }
            for container in items(pod, "spec", "containers")
        ]  # fmt: skip
        if life.stuck:
            emit(self._api, pod, "Failed", f"Error: {life.stuck}", "Warning")
        self._write(creating)

    def _host(self, pod: Object) -> Object:
        node = self._api.store.get("nodes", "", pod["spec"]["nodeName"])
        found = [
            a["address"] for a in items(node.obj if node else {}, "status", "addresses") if a["type"] == "InternalIP"
        ]
        return {"hostIP": found[0], "hostIPs": [{"ip": ip} for ip in found]} if found else {}

    def _start(self, pod: Object, life: Behaviour, uid: str) -> float | None:
        if life.stuck:
            return None
        if (wait := life.starts_after - self._waited(uid, "creating")) > 0:
            return wait
        if self._lacks_a_volume(pod):
            return 0.2
        running = copy(pod)
        if dig(pod, "spec", "hostNetwork"):
            addresses = [entry["ip"] for entry in items(pod, "status", "hostIPs")]
        else:
            number = next(self._addresses)
            addresses = [f"10.42.{number >> 8}.{number & 255}", f"fd00:42::{number:x}"]
        running["status"] |= {
            "phase": "Running",
            "podIP": addresses[0] if addresses else "",
            "podIPs": [{"ip": ip} for ip in addresses],
        }
        for container in running["status"]["containerStatuses"]:
            container |= {"started": True, "state": {"running": {"startedAt": now()}}, "imageID": f"sha256:{uid}"}
            emit(self._api, pod, "Started", f"Started container {container['name']}")
        self._write(running)
        hook = self._scripts.jobs.find(namespace_of(pod), name_of(pod))
        if hook is not None:
            self._jobs[uid] = asyncio.create_task(self._run_job(running, hook))
        return life.ready_after

    def _lacks_a_volume(self, pod: Object) -> bool:
        for volume in items(pod, "spec", "volumes"):
            for plural, kind, key in (("configmaps", "configMap", "name"), ("secrets", "secret", "secretName")):
                source = volume.get(kind)
                if (
                    source
                    and not source.get("optional")
                    and self._api.store.get(plural, namespace_of(pod), source[key]) is None
                ):
                    return True
        return False

    def _run(self, pod: Object, life: Behaviour, uid: str) -> float | None:
        held = self._held_ready.get(uid)
        due = held is True or (held is None and not life.never_ready)
        if due and held is None and (wait := life.ready_after - self._waited(uid, "running")) > 0:
            return wait
        statuses = items(pod, "status", "containerStatuses")
        if any("running" not in container["state"] for container in statuses) or uid in self._jobs:
            return None
        if any(container["ready"] != due for container in statuses):
            self._write(with_readiness(pod, due))
        return None

    async def _run_job(self, pod: Object, hook: JobHook) -> None:
        code = await hook(self._credentials(pod, pod["spec"]["containers"][0]))
        stored = self._api.store.get("pods", namespace_of(pod), name_of(pod))
        if stored is None or stored.obj["metadata"]["uid"] != pod["metadata"]["uid"]:
            return
        ended = copy(stored.obj)
        word = "Completed" if code == 0 else "Error"
        ended["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
        ended["status"]["conditions"] = [
            _condition("PodScheduled", True),
            *_unready("PodCompleted"),
            _condition("Initialized", True),
        ]
        for container in ended["status"]["containerStatuses"]:
            started = dig(container, "state", "running", "startedAt")
            terminated = {"exitCode": code, "reason": word, "startedAt": started, "finishedAt": now()}
            container |= {"ready": False, "started": False, "state": {"terminated": terminated}}
        self._write(ended)

    def _write(self, pod: Object) -> None:
        self._api.write(self._api.catalogue.named("pods"), pod)


def is_ready(obj: Object) -> bool:
    """Whether its Ready condition is true."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in items(obj, "status", "conditions"))


def has_labels(obj: Object, wanted: Object) -> bool:
    """Whether it has all these labels."""
    have = obj["metadata"].get("labels") or {}
    return all(have.get(key) == value for key, value in wanted.items())


def with_readiness(pod: Object, ready: bool) -> Object:
    """The pod, ready or not."""
    changed = copy(pod)
    for container in changed["status"]["containerStatuses"]:
        container["ready"] = ready
    kept = [c for c in items(pod, "status", "conditions") if c["type"] not in {"Ready", "ContainersReady"}]
    told = [_condition(kind, True) for kind in ("Ready", "ContainersReady")] if ready else _unready()
    changed["status"]["conditions"] = [*kept, *told]
    return changed


def restarted(pod: Object, container: str, exit_code: int, reason: str, back_off: bool) -> Object:
    """The pod after one of its containers ended: running anew, or waiting in back-off."""
    changed = copy(pod)
    for status in changed["status"]["containerStatuses"]:
        if status["name"] == container:
            started = dig(status, "state", "running", "startedAt") or now()
            terminated = {"exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": now()}
            status |= {"restartCount": status["restartCount"] + 1, "lastState": {"terminated": terminated}}
            waiting = {
                "waiting": {
                    "reason": "CrashLoopBackOff",
                    "message": f"back-off 10s restarting failed container={container}",
                }
            }
            status |= {"ready": not back_off, "state": waiting if back_off else {"running": {"startedAt": now()}}}
    if back_off:
        kept = [c for c in items(changed, "status", "conditions") if c["type"] not in {"Ready", "ContainersReady"}]
        changed["status"]["conditions"] = [*kept, *_unready()]
    return changed


def _condition(kind: str, true: bool, reason: str = "", message: str = "") -> Object:
    condition: Object = {
        "type": kind,
        "status": "True" if true else "False",
        "lastProbeTime": None,
        "lastTransitionTime": now(),
    }
    return condition | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def _unready(reason: str = "ContainersNotReady") -> list[Object]:
    return [_condition(kind, False, reason) for kind in ("Ready", "ContainersReady")]
