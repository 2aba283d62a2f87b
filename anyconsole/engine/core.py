"""The engine's core: drivers write into the store, changes and events are collected for whoever shows them.

It runs in the engine process under `server`, and in the command line's own process without one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import msgspec

from anyconsole.actions.plan import Plan
from anyconsole.drivers.load.generator import Channel
from anyconsole.drivers.prometheus import PrometheusDriver
from anyconsole.drivers.ssh.argv import shell_argv
from anyconsole.drivers.ssh.execute import Completed
from anyconsole.drivers.ssh.fleet import SshFleet
from anyconsole.engine.changes import Changes
from anyconsole.errors import AnyconsoleError
from anyconsole.model.events import Event, EventLog
from anyconsole.model.facts import Beat, Gone, Key, Observation
from anyconsole.model.inventory import Inventory
from anyconsole.model.store import FleetStore, Update

if TYPE_CHECKING:
    from anyconsole.drivers.kube.fleet import KubeFleet
    from anyconsole.drivers.kube.hands import ClusterHands
    from anyconsole.drivers.prometheus import OpenTunnel

__all__ = ["FleetEngine"]

_log = logging.getLogger(__name__)

_SWEEP = 0.5
"""Seconds between two looks for verdicts that changed with time alone."""

_EVENTS_KEPT = 10_000

_CLOCK_STEP = 0.5
"""Seconds by which the machine's clock has to jump to count as set."""


def _since_boot() -> float:
    """Seconds that nobody can set; sleep counts where the system can tell (Linux)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _clusters(
    inventory: Inventory, emit: Callable[[Sequence[Update]], None], open_tunnel: OpenTunnel
) -> KubeFleet | None:
    """The clusters of a profile. One without any doesn't pay for the Kubernetes client."""
    if not inventory.clusters:
        return None
    from anyconsole.drivers.kube.fleet import KubeFleet  # noqa: PLC0415

    return KubeFleet(inventory, emit, open_tunnel)


class FleetEngine:
    """Owns store, drivers and events of one profile. Create it and `run` it inside one event loop."""

    def __init__(
        self,
        inventory: Inventory,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = _since_boot,
    ) -> None:
        self.inventory = inventory
        self.store = FleetStore(inventory)
        self.events: list[Event] = []
        self.events_dropped = 0
        self.lag = 0.0
        self._clock = clock
        self._steady = steady
        self._clock_base = clock() - steady()
        self._log = EventLog()
        self._dirty: set[Key] = set()
        self._gone: set[Key] = set()
        self._beaten: set[str] = set()
        self._touched: set[str] = set()
        self._new_events: list[Event] = []
        self._fleet = SshFleet(inventory, self.take)
        self._clusters = _clusters(inventory, self.take, self._fleet.open_tunnel)
        self._woken = asyncio.Event()
        self.changes = Changes(self.store, self, self._fleet.operator_key, self._woken.set, clock)

    async def run(self) -> None:
        """Watch the fleet until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fleet.run(), name="ssh fleet")
                if self._clusters is not None:
                    tasks.create_task(self._clusters.run(), name="clusters")
                tasks.create_task(self._sweep(), name="sweep")
                tasks.create_task(self.changes.follow_journal(), name="journal")
                tasks.create_task(self.changes.follow_capacities(self.take), name="capacities")
                if self.inventory.prometheus is not None:
                    driver = PrometheusDriver(self.inventory, self.take, self._fleet.open_tunnel)
                    tasks.create_task(driver.run(), name="prometheus")
        finally:
            await self._fleet.close()

    def take(self, updates: Sequence[Update]) -> None:
        """What drivers emit goes into the store, and what it changed is remembered for the next delta."""
        self._notice_set_clock()
        changes = self.store.apply(updates)
        self._dirty |= changes.changed
        self._gone = (self._gone | changes.gone) - changes.changed
        self._beaten |= changes.beaten
        nodes = changes.nodes
        if nodes:
            self._touched |= nodes
            self._woken.set()

    def _notice_set_clock(self) -> None:
        """Evidence keeps its age when the clock is set; else what is dead would look fresh until a clock set back caught up."""
        by = self._clock() - self._steady() - self._clock_base
        if abs(by) >= _CLOCK_STEP:
            _log.warning("the clock of this machine was set by %+.1f s", by)
            self._clock_base += by
            self._beaten |= self.store.clock_was_set(by)

    async def changed(self) -> None:
        """Returns when something changed since the last call."""
        await self._woken.wait()
        self._woken.clear()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        turn = 0
        while True:
            due = loop.time() + _SWEEP
            await asyncio.sleep(_SWEEP)
            self.lag = max(0.0, loop.time() - due)
            names = [n.name for n in self.inventory.nodes]
            nodes = self._touched | set(names[turn % 4 :: 4])
            self._touched = set()
            turn += 1
            self._notice_set_clock()
            self._add_events(self._log.observe(self.store, nodes, self._clock()))

    def _add_events(self, events: list[Event]) -> None:
        if events:
            self.events.extend(events)
            surplus = max(0, len(self.events) - _EVENTS_KEPT)
            del self.events[:surplus]
            self.events_dropped += surplus
            self._new_events.extend(events)
            del self._new_events[:-_EVENTS_KEPT]
            self._woken.set()

    def drain(self) -> tuple[list[Update], list[Event]]:
        """Facts, removals, beats and events since the last call: the latest of each, never a backlog."""
        facts: list[Observation] = [f for key in self._dirty if (f := self.store.get(key)) is not None]
        by_node: dict[tuple[str, float], list[str]] = {}
        for node in self._beaten:
            for section, at in self.store.sections(node).items():
                by_node.setdefault((node, at), []).append(section)
        updates: list[Update] = [Gone(key=key) for key in self._gone]
        updates += facts
        updates += [Beat(node=n, at=at, sections=tuple(s)) for (n, at), s in by_node.items()]
        events = self._new_events
        self._dirty, self._gone, self._beaten, self._new_events = set(), set(), set(), []
        return updates, events

    # --- hands of the runner

    async def execute(self, host: str, script: str, deadline: float) -> Completed:
        """Run a script on a node: of sh, or of API calls where it is in a cluster. Raises AnyconsoleError: it may or may not have run."""
        if (clusters := self._holding(host)) is not None:
            return await clusters.execute(host, script, deadline)
        return await self._fleet.execute(host, ["sh", "-c", script], deadline)

    async def feed(self, host: str, script: str, pieces: AsyncIterable[bytes], deadline: float) -> Completed:
        """Run a script of sh that reads `pieces` on a host with SSH. Raises AnyconsoleError: it may or may not have run."""
        return await self._fleet.execute(host, ["sh", "-c", script], deadline, pieces)

    async def look(self, hosts: Collection[str], deadline: float) -> set[str]:
        """Look at nodes anew; those whose state, read after this call began, is in the store."""
        if self._clusters is None:
            return await self._fleet.look(hosts, deadline)
        bare, virtual = await asyncio.gather(self._fleet.look(hosts, deadline), self._clusters.look(hosts, deadline))
        return bare | virtual

    def in_cluster(self, name: str) -> ClusterHands:
        """What set-up and teardown ask and do in a cluster. Raises AnyconsoleError."""
        if (clusters := self._holding(name)) is None:
            raise AnyconsoleError(f"there is no cluster {name!r} in profile {self.inventory.name}")
        return clusters.hands(name)

    async def open_channel(self, host: str, program: str) -> Channel:
        """Start one of the programs of load tests on a host, or in the pod that a generator is. Raises AnyconsoleError."""
        if self._clusters is not None and self._clusters.generates(host):
            return await self._clusters.open_channel(host, program)
        return await self._fleet.open_channel(host, program)

    async def open_reader(self, node: str, tenant: str) -> Channel:
        """Have the container of a tenant's name server on a node in a cluster show its counters. Raises AnyconsoleError."""
        if (clusters := self._holding(node)) is None:
            raise AnyconsoleError(f"{node} is in no cluster")
        return await clusters.open_reader(node, tenant)

    async def await_generators(self, names: Collection[str], deadline: float) -> None:
        """Wait until the pods that generators are run. Raises AnyconsoleError."""
        if names and self._clusters is not None:
            await self._clusters.await_generators(names, deadline)

    def forward(self, host: str, address: str, port: int) -> AbstractAsyncContextManager[int]:
        """A port on 127.0.0.1 that leads to an address as `host` sees it. Raises AnyconsoleError."""
        return self._fleet.forward(host, address, port)

    def _holding(self, name: str) -> KubeFleet | None:
        """The clusters, if `name` is one of them or a node in one."""
        return self._clusters if self._clusters is not None and self._clusters.knows(name) else None

    # --- questions

    async def ask(self, op: str, args: dict[str, str]) -> str:
        """Answer one question. Raises AnyconsoleError.

        Looking: raw (node, section), poke (node), shell (node; in a cluster also path), plan (action, request), journal (change).
        Changing: arm (seconds), start (plan, overrides, acknowledged), cancel (run), answer (run, question, answer), adjust (run, factor),
        acknowledge (change).
        """
        match op:
            case "raw":
                if (clusters := self._holding(args["node"])) is not None:
                    return await clusters.raw(args["node"], args["section"])
                return await self._fleet.raw(args["node"], args["section"])
            case "poke":
                (self._holding(args["node"]) or self._fleet).poke(args["node"])
                return ""
            case "shell":
                if "path" in args and (clusters := self._holding(args["node"])) is not None:
                    return json.dumps(await clusters.shell(args["node"], args["path"]))
                return json.dumps(shell_argv(self.inventory, args["node"]))
            case "plan":
                return msgspec.json.encode(await self.changes.plan(args["action"], args["request"])).decode()
            case "journal":
                return await self.changes.report(args["change"])
            case "acknowledge":
                return await self.changes.acknowledge(args["change"])
            case "arm":
                self.changes.arm(float(args["seconds"]))
                return ""
            case "start":
                overrides, acknowledged = (
                    msgspec.json.decode(args[name], type=dict[str, str]) for name in ("overrides", "acknowledged")
                )
                plan = msgspec.json.decode(args["plan"], type=Plan)
                return await self.changes.start(plan, overrides, acknowledged)
            case "cancel":
                self.changes.runner(args["run"]).cancel()
                return ""
            case "adjust":
                return str(await self.changes.adjust(args["run"], float(args["factor"])))
            case "answer":
                self.changes.runner(args["run"]).answer(int(args["question"]), args["answer"])
                return ""
            case _:
                raise AnyconsoleError(f"the engine does not know the question {op!r}")

    def follow(self, op: str, args: dict[str, str]) -> AsyncGenerator[bytes, None]:
        """Open a stream: log (node, path; of a container also previous). Raises AnyconsoleError."""
        if op != "log":
            raise AnyconsoleError(f"the engine does not know the stream {op!r}")
        if (clusters := self._holding(args["node"])) is not None:
            return clusters.log(args["node"], args["path"], previous=bool(args.get("previous")))
        return self._fleet.tail(args["node"], args["path"])
