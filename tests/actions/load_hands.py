"""Hosts of a load test without hosts: generators that answer as the load agent does, a node that tells nothing of its counters.

A second of theirs takes `PACE` seconds of ours. The real programs are met in tests/drivers/load and tests/e2e.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from anyconsole.actions.action import Said
from anyconsole.actions.stack.request import InCluster
from anyconsole.drivers.load.channel import Channel
from anyconsole.errors import LoadError

__all__ = ["NSID", "PACE", "Agent", "LoadHosts", "Program"]

NSID = "de.fra1"
PACE = 0.04


class Program:
    """A program on a host; as it is, it ends at once and has said nothing. `said` is what it said and nobody read, None is its end."""

    def __init__(self) -> None:
        self.last_words = "not here"
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()

    def write(self, data: bytes) -> None:  # noqa: ARG002
        self.said.put_nowait(None)

    async def lines(self) -> AsyncIterator[bytes]:
        while (line := await self.said.get()) is not None:
            yield line

    def close(self) -> None:
        self.said.put_nowait(None)

    def abort(self) -> None:
        self.close()


class _Lock(Program):
    def write(self, data: bytes) -> None:  # noqa: ARG002
        self.said.put_nowait(b"locked")


class Agent(Program):
    """A load agent. `orders` are the trials that it was told, with what it sent in each; `is_deaf`: it hears and says nothing more."""

    def __init__(self, rcodes: dict[int, int]) -> None:
        super().__init__()
        self.orders: list[dict[str, Any]] = []
        self.setup: dict[str, Any] = {}
        self.is_deaf = False
        self.obeys = True
        self._rcodes = rcodes
        self._stopped = asyncio.Event()
        self._trial: asyncio.Task[None] | None = None

    @property
    def is_silent(self) -> bool:
        """True while it sends nothing."""
        return self._trial is None or self._trial.done()

    def write(self, data: bytes) -> None:
        if not data.startswith(b"{"):
            self._say(ev="hello", agent=1, python="3.11.2", cores=2)
            return
        command = msgspec.json.decode(data)
        if self.is_deaf:
            return
        match command["op"]:
            case "prepare":
                self.setup = command
                self._say(ev="ready", batched=True, flows=16, processes=1)
            case "trial":
                self._stopped.clear()
                self.orders.append(command | {"sent": 0})
                self._trial = asyncio.create_task(self._run(self.orders[-1]))
            case "stop" if self.obeys:
                self._stopped.set()

    def abort(self) -> None:
        super().abort()
        if self._trial is not None:
            self._trial.cancel()

    async def _run(self, order: dict[str, Any]) -> None:
        number, rate, ran = order["number"], order["rate"], 0.0
        for second in range(math.ceil(order["seconds"])):
            began = asyncio.get_running_loop().time()
            took = min(1.0, order["seconds"] - second)
            try:
                async with asyncio.timeout(took * PACE):
                    await self._stopped.wait()
                took = min(took, (asyncio.get_running_loop().time() - began) / PACE)
            except TimeoutError:
                pass
            ran += took
            sent = int(rate * ran) - order["sent"]
            order["sent"] += sent
            if not self.is_deaf:
                rcodes = {code: sent * share // 100 for code, share in self._rcodes.items()}
                answered = sent * sum(self._rcodes.values()) // 100
                counts = {
                    "offered": sent,
                    "sent": sent,
                    "answered": answered,
                    "rcodes": rcodes,
                    "identities": {NSID: 1},
                }
                self._say(ev="tick", trial=number, at=ran, counts={"sent": sent})
                self._say(ev="second", trial=number, second=second, counts=counts)
            if self._stopped.is_set():
                break
        if not self.is_deaf:
            stopped = "stop" if self._stopped.is_set() else ""
            self._say(ev="trial", trial=number, cpu=0.1, elapsed=ran, ran=ran, processes=1, stopped=stopped, counts={})

    def _say(self, **line: object) -> None:
        self.said.put_nowait(msgspec.json.encode(line))


class LoadHosts:
    """The hosts. `agents` are those that carry the load, by generator, `provers` those that proved where packets go.

    `rcodes` is what their target answers, in percent of the queries; the rest gets no answer.
    """

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.provers: dict[str, Agent] = {}
        self.rcodes: dict[int, int] = {0: 100}

    async def open_channel(self, host: str, program: str) -> Channel:
        match program:
            case "lock":
                return _Lock()
            case "agent":
                agent = Agent(self.rcodes)
                (self.agents if host in self.provers else self.provers)[host] = agent
                return agent
        return Program()

    async def open_reader(self, node: str, tenant: str) -> Channel:
        raise LoadError(f"{tenant} on {node}: pods on paper show nothing")

    async def await_generators(self, names: Collection[str], deadline: float) -> None:
        raise NotImplementedError

    def forward(self, host: str, address: str, port: int) -> AbstractAsyncContextManager[int]:
        raise NotImplementedError

    async def execute(self, host: str, script: str, deadline: float) -> Said:
        raise NotImplementedError

    async def feed(self, host: str, script: str, pieces: AsyncIterable[bytes], deadline: float) -> Said:
        raise NotImplementedError

    def in_cluster(self, name: str) -> InCluster:
        raise NotImplementedError

    async def look(self, hosts: Collection[str], deadline: float) -> set[str]:  # noqa: ARG002
        return set(hosts)
