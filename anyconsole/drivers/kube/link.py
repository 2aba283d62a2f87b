"""One cluster from end to end: sign in, ask again and again whether its API server is there, run what watches it, say how it stands.

Connected is not the same as alive: what is known stays fresh only while the API server answers a small question and the watch that told
it is connected. A server that hangs makes its rows stale by itself, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from anyconsole.drivers.kube import permissions
from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.calico import CalicoApi, calico_api
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.metrics import read_metrics
from anyconsole.drivers.kube.routing import Routing
from anyconsole.drivers.kube.set_reading import SetReading
from anyconsole.drivers.kube.values import WORD, text
from anyconsole.drivers.kube.watch import Watch
from anyconsole.drivers.kube.workloads import Emit, Workloads
from anyconsole.drivers.prometheus import OpenTunnel
from anyconsole.drivers.ssh.fault import POLICY, Fault, delay
from anyconsole.model.facts import Beat, Link, LinkState
from anyconsole.model.inventory import ClusterSpec, Inventory
from anyconsole.model.metrics import Metrics
from anyconsole.model.pods import Cluster, Permission

__all__ = ["ClusterLink"]

_PERMISSIONS_EVERY: Final = 60.0
_LONGEST_PAUSE: Final = 10.0
"""Seconds between two attempts at an API server that isn't there, at most."""

_READY: Final = "/readyz"
"""Answered only by a server that reaches its storage: one that doesn't tells its version all the same, and leaves its watches silent."""
_EXCLUDED: Final = "shutdown"
"""Of several servers one that is about to go still serves those who are connected to it."""
_HIDDEN: Final = frozenset({403, 404})

_log = logging.getLogger(__name__)


class ClusterLink:
    """The connection to one cluster.

    Attributes:
        settled: Set once it told all there is, or it is known that it can't be reached.
    """

    def __init__(self, inventory: Inventory, spec: ClusterSpec, emit: Emit, open_tunnel: OpenTunnel) -> None:
        self.spec = spec
        self.settled = asyncio.Event()
        self._inventory = inventory
        self._emit = emit
        self._open_tunnel = open_tunnel
        self._rng = random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._generators = [g.namespace for g in inventory.generators if g.cluster == spec.name]
        self._nodes = [node.name for node in inventory.nodes if node.cluster == spec.name]
        self._api: KubeApi | None = None
        self._calico: CalicoApi | None = None
        self._workloads: Workloads | None = None
        self._routing: Routing | None = None
        self._sets: SetReading | None = None
        self._fact: Link | None = None
        self._poked = asyncio.Event()
        self._permissions_due = asyncio.Event()
        self._told_closed: frozenset[Permission] = frozenset()
        self._question = _READY

    @property
    def api(self) -> KubeApi:
        """Its API. Raises KubeError, saying why there is none."""
        if self._api is None:
            why = f": {self._fact.detail}" if self._fact is not None and self._fact.detail else ""
            raise KubeError(f"{self.spec.name}: not connected{why}", fault=Fault.LOST)
        return self._api

    @property
    def calico(self) -> CalicoApi | None:
        """Where it serves Calico's objects, None if it doesn't or wasn't asked yet."""
        return self._calico

    @property
    def routing(self) -> Routing:
        """Its nodes and their routing. Raises KubeError while it isn't connected."""
        if self._routing is None:
            raise KubeError(f"{self.spec.name}: not connected", fault=Fault.LOST)
        return self._routing

    @property
    def workloads(self) -> Workloads:
        """Its pods. Raises KubeError while it isn't connected."""
        if self._workloads is None:
            raise KubeError(f"{self.spec.name}: not connected", fault=Fault.LOST)
        return self._workloads

    def changed(self, paths: Iterable[str]) -> None:
        """Set-up or teardown changed these objects: see what became of them."""
        if self._sets is not None:
            self._sets.hurry(paths)

    def poke(self) -> None:
        """Try again now."""
        self._poked.set()
        self._permissions_due.set()

    async def run(self) -> None:
        """Watch until cancelled. A cluster that can't be reached is a state, not an exception."""
        failures = 0
        while True:
            self._show(LinkState.CONNECTING)
            try:
                async with KubeApi.open(self.spec, self._open_tunnel) as api:
                    await self._reach(api)
                    failures = 0
                    await self._hold(api)
            except KubeError as error:
                await self._rest(error, failures)
                failures += 1

    async def _reach(self, api: KubeApi) -> None:
        """Until the API server answers for the first time. Raises KubeError if the kubeconfig is what's wrong."""
        failures = 0
        while True:
            try:
                await self._ping(api)
                self._calico = calico_api(await api.get("/apis"))
            except KubeError as error:
                if error.fault is Fault.AUTH:
                    raise
                await self._rest(error, failures)
                failures += 1
            else:
                return

    async def _rest(self, error: KubeError, failures: int) -> None:
        wait = delay(error.fault, failures, self._rng)
        # What waits for the operator is worth a look now and then: credentials may be renewed.
        wait = error.retry_after or min(_LONGEST_PAUSE, 5.0 if wait is None else wait)
        self._failed(error, wait)
        self._poked.clear()
        try:
            async with asyncio.timeout(wait):
                await self._poked.wait()
        except TimeoutError:
            return

    async def _hold(self, api: KubeApi) -> None:
        """Run everything that watches the cluster, until cancelled."""
        self._workloads = Workloads(self._inventory, self.spec, api, self._emit)
        self._routing = Routing(self._inventory, self.spec, api, self._calico, self._emit)
        self._sets = SetReading(self._inventory, self.spec, api, self._emit)
        self._api = api
        try:
            async with asyncio.TaskGroup() as tasks:
                for watch in self._watches():
                    tasks.create_task(watch.run())
                tasks.create_task(self._routing.keep_status(), name=f"{self.spec.name} status")
                tasks.create_task(self._routing.ask_exports(), name=f"{self.spec.name} exports")
                tasks.create_task(self._routing.follow_lock(), name=f"{self.spec.name} lock")
                tasks.create_task(self._sets.run(), name=f"{self.spec.name} sets")
                tasks.create_task(self._tell_permissions(api), name=f"{self.spec.name} permissions")
                if self.spec.prometheus:
                    tasks.create_task(self._ask_prometheus(api), name=f"{self.spec.name} prometheus")
                await self._beat(api)
        finally:
            self._api = None

    def _watches(self) -> list[Watch[Any]]:
        workloads, routing = self._workloads, self._routing
        if workloads is None or routing is None:
            return []
        return [*workloads.pods.values(), *workloads.events.values(), *routing.watches]

    # --- is it there

    async def _ping(self, api: KubeApi) -> None:
        try:
            query = {"exclude": _EXCLUDED} if self._question == _READY else {}
            await api.read(self._question, query, most=65536, deadline=self._inventory.poll.drop)
        except KubeError as error:
            if self._question != _READY or error.status not in _HIDDEN:
                raise
            self._question = "/version"  # which nobody is refused
            await self._ping(api)

    async def _beat(self, api: KubeApi) -> None:
        """Ask whether the API server is there; what is being watched is fresh as of then."""
        failures = 0
        while True:
            began, at = time.monotonic(), time.time()
            try:
                await self._ping(api)
            except KubeError as error:
                await self._rest(error, failures)
                failures += 1
                continue
            if failures:
                failures = 0
                for watch in self._watches():
                    watch.hurry()
            self._show(LinkState.LIVE)
            if all(watch.state.synced or watch.state.denied for watch in self._watches()):
                self.settled.set()
            self._freshen(at)
            if self._closed() != self._told_closed:
                self._permissions_due.set()
            await asyncio.sleep(max(0.1, self._inventory.poll.probe - (time.monotonic() - began)))

    def _freshen(self, at: float) -> None:
        workloads, routing = self._workloads, self._routing
        if workloads is None or routing is None:
            return
        by_node: dict[str, list[str]] = {self.spec.name: ["api"]}
        for node, section in (*workloads.sections(), *routing.sections()):
            by_node.setdefault(node, []).append(section)
        self._emit([Beat(node=node, at=at, sections=tuple(sections)) for node, sections in by_node.items()])

    # --- what we may, and how it is

    def _closed(self) -> frozenset[Permission]:
        """What we were refused to watch, whatever we are said to be allowed to."""
        return frozenset(permissions.watching(watch.path) for watch in self._watches() if watch.state.denied)

    async def _tell_permissions(self, api: KubeApi) -> None:
        while True:
            self._told_closed = self._closed()
            try:
                version = await api.get("/version")
                denied = {*await permissions.denied(api, self.spec, self._calico, self._generators)}
                # What may not be listed either is said already.
                denied |= {p for p in self._told_closed if msgspec.structs.replace(p, verb="list") not in denied}
                fact = Cluster(
                    node=self.spec.name,
                    section="api",
                    at=time.time(),
                    version=text(version, "gitVersion", WORD),
                    calico=self._calico.group_version if self._calico is not None else "",
                    user=await api.whoami(),
                    denied=tuple(sorted(denied)),
                )
                self._emit([fact])
            except KubeError as error:
                _log.info("%s: what we may do there is not known: %s", self.spec.name, error)
            self._permissions_due.clear()
            try:
                async with asyncio.timeout(_PERMISSIONS_EVERY):
                    await self._permissions_due.wait()
            except TimeoutError:
                continue

    async def _ask_prometheus(self, api: KubeApi) -> None:
        workloads = self._workloads
        if workloads is None:
            return
        said = ""
        while True:
            began = time.monotonic()
            found = await read_metrics(api, self._inventory, self.spec, workloads)
            self._emit(found)
            error = next(fact.error for fact in found if isinstance(fact, Metrics))
            if error and error != said:
                _log.warning("%s: Prometheus doesn't tell all: %s", self.spec.name, error)
            said = error
            await asyncio.sleep(max(0.5, self._inventory.poll.prometheus - (time.monotonic() - began)))

    # --- how it stands

    def _failed(self, error: KubeError, wait: float) -> None:
        state = POLICY[error.fault].state
        self._show(state, error.fault, str(error), time.time() + wait)
        self.settled.set()

    def _show(self, state: LinkState, error: str = "", detail: str = "", retry_at: float = 0.0) -> None:
        old, now = self._fact, time.time()
        if old is not None and (old.state, old.detail, old.retry_at) == (state, detail, retry_at):
            return
        since = old.since if old is not None and old.state is state else now
        fact = self._fact = Link(
            node=self.spec.name,
            section="link",
            at=now,
            state=state,
            since=since,
            error=str(error),
            detail=detail,
            retry_at=retry_at,
        )
        # A node in a cluster is reached through it, and by nothing else.
        self._emit([fact, *(msgspec.structs.replace(fact, node=node) for node in self._nodes)])
