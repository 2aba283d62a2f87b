"""The controllers in small: workloads make pods, Services get their endpoints, budgets and statuses follow.

Level-triggered like the real ones: each reconciles one object from what the store says now, whenever something near it changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.kube.apiserver import networking, workloads
from tests.kube.apiserver.api import Api
from tests.kube.apiserver.kubelet import Kubelet
from tests.kube.apiserver.objects import Object, controller_of
from tests.kube.apiserver.store import Change

Key = tuple[str, str, str]
Reconcile = Callable[[Api, Object], float | None]

_OWNERS = {
    "Deployment": "deployments.apps",
    "ReplicaSet": "replicasets.apps",
    "DaemonSet": "daemonsets.apps",
    "StatefulSet": "statefulsets.apps",
    "Job": "jobs.batch",
}
_NEAR_A_POD = ("services", "poddisruptionbudgets.policy")
_NEAR_A_NODE = ("daemonsets.apps", "pods")


class Controllers:
    """A work queue over the objects that have a controller."""

    def __init__(self, api: Api, kubelet: Kubelet) -> None:
        self._api = api
        self._reconcilers: dict[str, Reconcile] = {
            "deployments.apps": workloads.deployment,
            "replicasets.apps": workloads.replica_set,
            "daemonsets.apps": workloads.daemon_set,
            "statefulsets.apps": workloads.stateful_set,
            "jobs.batch": workloads.job,
            "services": networking.service,
            "poddisruptionbudgets.policy": networking.budget,
            "pods": lambda _, pod: kubelet.step(pod),
        }
        self._queue: dict[Key, None] = {}
        self._filled = asyncio.Event()
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    async def run(self) -> None:
        """Reconcile until cancelled."""
        self._api.graceful = True
        self._api.store.listen(self._note)
        for resource in self._reconcilers:
            self._add_all(resource)
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                while self._queue:
                    key = next(iter(self._queue))
                    del self._queue[key]
                    self._reconcile(key)
                    await asyncio.sleep(0)
        finally:
            self._api.graceful = False
            self._api.store.unlisten(self._note)
            for timer in self._timers.values():
                timer.cancel()

    def _reconcile(self, key: Key) -> None:
        stored = self._api.store.get(*key)
        if stored is None:
            return
        if key[0] != "pods" and stored.obj["metadata"].get("deletionTimestamp"):
            return
        due = self._reconcilers[key[0]](self._api, stored.obj)
        if due is not None:
            if timer := self._timers.pop(key, None):
                timer.cancel()
            self._timers[key] = asyncio.get_running_loop().call_later(due, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._add(key)

    def _add(self, key: Key) -> None:
        self._queue[key] = None
        self._filled.set()

    def _add_all(self, resource: str, namespace: str = "") -> None:
        for stored in self._api.store.all(resource, namespace):
            self._add((resource, *stored.key))

    def _note(self, resource: str, change: Change) -> None:
        namespace, name = change.stored.key
        if resource in self._reconcilers:
            self._add((resource, namespace, name))
        owner = controller_of(change.stored.obj)
        if owner and owner["kind"] in _OWNERS:
            self._add((_OWNERS[owner["kind"]], namespace, owner["name"]))
        if resource == "pods":
            for near in _NEAR_A_POD:
                self._add_all(near, namespace)
        if resource == "nodes":
            for near in _NEAR_A_NODE:
                self._add_all(near)
