"""What the nodes of a cluster are and announce: Node objects, Calico's own words of its BIRDs, and the objects that make up a drain.

CalicoNodeStatus objects are made where there are none, and those we made are removed when we go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from anyconsole.drivers.kube import exports
from anyconsole.drivers.kube.access import KubeApi, Object
from anyconsole.drivers.kube.advertising import CalicoObjects, drain_of, is_ours, objects_of
from anyconsole.drivers.kube.calico import (
    KINDS,
    CalicoApi,
    node_path,
    node_status_body,
    node_status_name,
    node_status_of,
    speaker_of,
)
from anyconsole.drivers.kube.calico_transaction import routing_config
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.lock import Lock, read_lock
from anyconsole.drivers.kube.nodes import cluster_node_of
from anyconsole.drivers.kube.terminal import execute
from anyconsole.drivers.kube.values import part, parts, text
from anyconsole.drivers.kube.watch import Batch, Watch, WatchState
from anyconsole.drivers.kube.workloads import Emit
from anyconsole.model.facts import Export, Exported
from anyconsole.model.inventory import ClusterSpec, Inventory, NodeSpec

__all__ = ["EXPORTS", "Routing"]

EXPORTS: Final = "exports"
"""The section of what BIRD was seen to export: it is asked apart from Calico's own words, and may be silent while those go on."""

_STATUS: Final = "CalicoNodeStatus"
_DRAIN_KINDS: Final = ("BGPPeer", "BGPConfiguration", "BGPFilter")
"""Without these nobody knows what is drained; without the others only some things can't be planned."""

_LOCK_EVERY: Final = 5.0
_EXEC_DEADLINE: Final = 5.0
_NOT_SERVED: Final = 404
_STATUS_EVERY: Final = 10.0

_log = logging.getLogger(__name__)


class Routing:
    """Nodes and routing of one cluster. `watches` are to be run, and `keep_status` and `ask_exports` beside them."""

    def __init__(
        self, inventory: Inventory, spec: ClusterSpec, api: KubeApi, calico: CalicoApi | None, emit: Emit
    ) -> None:
        self._inventory = inventory
        self._spec = spec
        self._api = api
        self._calico = calico
        self._emit = emit
        self.nodes = {n.address: n for n in inventory.nodes if n.cluster == spec.name}
        self._found: dict[str, dict[str, Object]] = {kind: {} for kind in ("Node", *KINDS)}
        self._told_at: dict[str, tuple[str, float]] = {}
        self._speakers: dict[str, str] = {}
        self._names: dict[str, dict[str, str]] = {}
        self._ours: set[str] = set()
        self._status_due = asyncio.Event()
        self._lock: Lock | None = None
        self._told: tuple[CalicoObjects, Lock | None, str] | None = None
        self._node_watch = self._watch("Node", node_path())
        self._calico_watches = {k: self._watch(k, calico.path(k)) for k in KINDS} if calico is not None else {}
        self._speaker_watch = self._watch_speakers()

    @property
    def watches(self) -> list[Watch[Any]]:
        """All that are to be run."""
        return [self._node_watch, *self._calico_watches.values(), *([self._speaker_watch] if self._calico else [])]

    @property
    def period(self) -> int:
        """Seconds between two words of Calico's."""
        return max(1, min(10, round(self._inventory.poll.dns)))

    def sections(self) -> Iterator[tuple[str, str]]:
        """(node, section) of everything that is known to be as it was told."""
        now = time.monotonic()
        for node in self.nodes.values():
            if _stands(self._node_watch):
                yield node.name, "host"
            # A calico-node that hangs leaves its last words standing, and the API server serves them as before.
            _, at = self._told_at.get(node.address, ("", float("-inf")))
            watches = self._calico_watches.values()
            if now - at <= 2 * self.period + 1 and all(_stands(watch) or _is_closed(watch) for watch in watches):
                yield node.name, "calico"

    def objects(self) -> CalicoObjects | None:
        """What a drain is made of; None while what decides about it wasn't told. What a cluster doesn't serve it doesn't have."""
        if self._calico is None or not self._node_watch.state.synced:
            return None
        for kind, watch in self._calico_watches.items():
            is_known = watch.state.synced or watch.state.status == _NOT_SERVED
            if not is_known and (kind in _DRAIN_KINDS or (kind != _STATUS and not watch.state.denied)):
                return None
        lists = {kind: found.values() for kind, found in self._found.items() if kind != _STATUS}
        return objects_of(self._calico, lists)

    # --- what is told

    def _watch(self, kind: str, path: str) -> Watch[Object]:
        def project(obj: Object) -> Object:
            if isinstance(metadata := obj.get("metadata"), dict):
                metadata.pop("managedFields", None)
            if kind == "Node":
                status = part(obj, "status")
                kept = {key: status.get(key) for key in ("conditions", "addresses", "nodeInfo")}
                return {"metadata": obj.get("metadata"), "spec": obj.get("spec"), "status": kept}
            return obj

        def take(batch: Batch[Object]) -> None:
            self._take(kind, {name: obj for (_, name), obj in batch.changed.items()}, [n for _, n in batch.gone])

        def heed(state: WatchState) -> None:
            if state.synced and kind != _STATUS:  # of a kind without objects nothing else is ever told
                self._tell_routing()

        return Watch(self._api, path, project, take, on_state=heed)

    def _take(self, kind: str, changed: dict[str, Object], gone: list[str]) -> None:
        self._keep(kind, changed, gone)
        if kind == _STATUS:
            self._speak([node for node in self.nodes.values() if self._status_of(node) in [*changed.values()]])
        else:
            self._tell_routing()

    def _keep(self, kind: str, changed: dict[str, Object], gone: list[str]) -> None:
        found = self._found[kind]
        found.update(changed)
        for name in gone:
            found.pop(name, None)
        if kind == "Node":
            now = time.time()
            mine = [(self.nodes[name], obj) for name, obj in changed.items() if name in self.nodes]
            self._emit([cluster_node_of(obj, node.name, self._spec.name, now) for node, obj in mine])
        if kind == _STATUS and gone:
            self._status_due.set()

    def _tell_routing(self) -> None:
        objects = self.objects()
        if objects is None:
            return
        now = time.time()
        pools = self._calico_watches["IPPool"].state
        obstacle = f"no permission: list ippools: {pools.error}" if pools.denied else ""
        config = (objects, self._lock, obstacle)
        # A lock expires by time alone.
        if self._lock is not None and (config != self._told or self._lock.expires_at < now):
            self._told = config
            self._emit([routing_config(objects, self._spec.name, now, self._lock, obstacle)])
        self._speak([*self.nodes.values()])

    def _status_of(self, node: NodeSpec) -> Object | None:
        """The CalicoNodeStatus of a node: ours, or whosoever's there is."""
        found = self._found[_STATUS]
        ours = found.get(node_status_name(node))
        if ours is not None and text(part(ours, "status"), "lastUpdated"):
            return ours
        others = (obj for obj in found.values() if text(part(obj, "spec"), "node") == node.address)
        return max(others, key=lambda obj: text(part(obj, "status"), "lastUpdated"), default=ours)

    def _speak(self, nodes: list[NodeSpec]) -> None:
        objects = self.objects()
        for node in nodes:
            status = self._status_of(node)
            updated = text(part(status, "status"), "lastUpdated")
            if not updated:
                continue
            known, _ = self._told_at.get(node.address, ("", 0.0))
            if known != updated:
                # By our own clock, for the cluster's may be another; its first word may be old, and its next one soon is not.
                self._told_at[node.address] = (updated, time.monotonic())
            drain = drain_of(objects, self._inventory, node) if objects is not None else None
            self._emit(node_status_of(status, node, time.time(), drain))

    # --- to look now

    async def look(self, nodes: list[NodeSpec]) -> None:
        """Read the nodes and what their routing is made of, anew. Raises KubeError."""
        for node in nodes:
            self._keep("Node", {node.address: await self._api.get(node_path(node.address))}, [])
        if self._calico is None:
            return
        for kind, watch in self._calico_watches.items():
            if _is_closed(watch):
                continue
            listed = await self._api.get(self._calico.path(kind))
            now = {text(part(item, "metadata"), "name"): item for item in parts(listed, "items", 100_000)}
            self._keep(kind, now, [name for name in self._found[kind] if name not in now])
        self._lock = await read_lock(self._api)
        self._tell_routing()
        await asyncio.gather(*(self._ask(node) for node in nodes))

    async def follow_lock(self) -> None:
        """Read again and again who has an unconfirmed change in the cluster, until cancelled."""
        while self._calico is not None:
            try:
                self._lock = await read_lock(self._api)
                self._tell_routing()
            except KubeError as error:
                _log.info("%s: whether a change is unconfirmed there isn't known: %s", self._spec.name, error)
            await asyncio.sleep(_LOCK_EVERY)

    # --- our CalicoNodeStatus

    async def keep_status(self) -> None:
        """Have a CalicoNodeStatus for each node until cancelled; then remove those that are ours.

        One that another console of ours still needs is made by that one again, at once; one that was left behind goes too.
        """
        if self._calico is None:
            return
        watch = self._calico_watches[_STATUS]
        try:
            while True:
                for node in self.nodes.values() if _stands(watch) else ():
                    await self._make_status(self._calico, node)
                self._status_due.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STATUS_EVERY if _stands(watch) else 0.5):
                        await self._status_due.wait()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await asyncio.shield(self._remove_status(self._calico))

    async def _make_status(self, calico: CalicoApi, node: NodeSpec) -> None:
        found = self._found[_STATUS]
        if is_ours(found.get(node_status_name(node))):
            self._ours.add(node_status_name(node))
        if speaker_of(node) is None or any(text(part(o, "spec"), "node") == node.address for o in found.values()):
            return
        try:
            await self._api.send("POST", calico.path(_STATUS), node_status_body(calico, node, self.period))
            self._ours.add(node_status_name(node))
        except KubeError as error:
            # Another console was faster, or we may not: then the speaker stays unknown, and what we may not is told.
            _log.info("%s: no CalicoNodeStatus for %s: %s", self._spec.name, node.name, error)

    async def _remove_status(self, calico: CalicoApi) -> None:
        for name in sorted(self._ours):
            try:
                await self._api.send("DELETE", calico.path(_STATUS, name))
            except KubeError as error:
                _log.info("%s: the CalicoNodeStatus %s stays: %s", self._spec.name, name, error)
        self._ours.clear()

    # --- what BIRD exports

    def _watch_speakers(self) -> Watch[Object]:
        """The calico-node pods: where to ask."""

        def take(batch: Batch[Object]) -> None:
            for (_, name), host in batch.changed.items():
                self._speakers[str(host["host"])] = name
            gone = {name for _, name in batch.gone}
            self._speakers = {host: name for host, name in self._speakers.items() if name not in gone}

        path = f"/api/v1/namespaces/{self._spec.calico}/pods"
        return Watch(
            self._api,
            path,
            lambda obj: {"host": text(part(obj, "spec"), "nodeName")},
            take,
            labelSelector=exports.POD_LABEL,
        )

    async def ask_exports(self) -> None:
        """Ask each node's BIRDs what they export, again and again until cancelled."""
        if self._calico is None:
            return
        while True:
            began = time.monotonic()
            await asyncio.gather(*(self._ask(node) for node in self.nodes.values()))
            await asyncio.sleep(max(0.2, self._inventory.poll.dns - (time.monotonic() - began)))

    async def _ask(self, node: NodeSpec) -> None:
        pod = self._speakers.get(node.address)
        if pod is None or speaker_of(node) is None:
            if self._speaker_watch.state.denied:
                self._cannot_ask(node, f"no permission: list pods in {self._spec.calico}")
            elif _stands(self._speaker_watch):
                self._cannot_ask(node, f"no calico-node pod there in {self._spec.calico}")
            return
        names = self._names.get(node.name, {})
        answers = await self._answers(node, pod, names)
        if answers is not None and answers.names != names:  # its protocols are others than we thought
            self._names[node.name] = answers.names
            answers = await self._answers(node, pod, answers.names)
        if answers is not None:
            self._emit([msgspec.structs.replace(fact, section=EXPORTS) for fact in answers.facts])

    async def _answers(self, node: NodeSpec, pod: str, names: dict[str, str]) -> exports.Answers | None:
        argv = exports.question(self._inventory, node, names)
        try:
            said = await execute(self._api, self._spec.calico, pod, exports.CONTAINER, argv, _EXEC_DEADLINE)
        except KubeError as error:
            self._cannot_ask(node, str(error))
            return None
        return exports.read_answers(said.stdout, self._inventory, node, names, time.time())

    def _cannot_ask(self, node: NodeSpec, why: str) -> None:
        answers = exports.read_answers(b"", self._inventory, node, {}, time.time())
        self._emit([_unknown(fact, why) for fact in answers.facts])


def _unknown(fact: Export, why: str) -> Export:
    return msgspec.structs.replace(fact, section=EXPORTS, exported=Exported.UNKNOWN, detail=why)


def _stands(watch: Watch[Any]) -> bool:
    return watch.state.connected and watch.state.synced


def _is_closed(watch: Watch[Any]) -> bool:
    """Whether there is nothing to be had: the cluster doesn't serve it (an older Calico), or not to us."""
    return watch.state.denied or watch.state.status == _NOT_SERVED
