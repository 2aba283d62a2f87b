"""A watcher for name servers in pods: their containers show their counters once a second and whenever somebody asks.

It is to a node in a cluster what `watching` is to a host. A container that can't be looked into costs the test what it would have told.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from anyconsole.drivers.load.channel import Channel, listen
from anyconsole.drivers.load.messages import MessageError
from anyconsole.drivers.load.pod_counters import (
    END,
    clock_of,
    files_of,
    host_conditions,
    host_of,
    instance_conditions,
    instance_of,
)
from anyconsole.drivers.load.watcher import Unreadable
from anyconsole.drivers.load.watching import Follow
from anyconsole.drivers.ssh.fault import plain
from anyconsole.errors import LoadError
from anyconsole.model.load_counters import (
    HostCounters,
    InstanceConditions,
    InstanceCounters,
    NodeConditions,
    NodeCounters,
)

__all__ = ["PodWatching"]

INTERVAL: Final = 1.0
DEADLINE: Final = 3.0
_MOST: Final = 16384
"""Lines of a look; many cores and sockets have some thousands."""


class _Reader:
    """One container, looked into. Its answers come in the order of the questions."""

    def __init__(self, who: str, channel: Channel) -> None:
        self.error = ""
        self._channel = channel
        self._lines: list[str] = []
        self._asked: deque[asyncio.Future[dict[str, str]]] = deque()
        self._task = asyncio.create_task(self._listen(who), name=who)

    async def read(self) -> dict[str, str]:
        """Its files as they are now. Raises LoadError."""
        if self.error:
            raise LoadError(self.error)
        asked: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._channel.write(b"\n")
        return await asked

    def stop(self) -> None:
        self._channel.close()
        self._channel.abort()
        self._task.cancel()

    async def _listen(self, who: str) -> None:
        self.error = plain(await listen(self._channel, self._hear, 8 * _MOST, who))
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(LoadError(self.error))
                asked.exception()  # whether or not anybody waits for it

    def _hear(self, line: bytes) -> None:
        if line != END:
            self._lines.append(line.decode("utf-8", "replace"))
            if len(self._lines) > _MOST:
                raise MessageError(f"more than {_MOST} lines for a look")
            return
        files, self._lines = files_of(self._lines), []
        if not self._asked:
            raise MessageError("an answer to no question")
        if not (asked := self._asked.popleft()).done():
            asked.set_result(files)


class PodWatching:
    """The name servers of one node in a cluster. `start` it first, `stop` it at last."""

    def __init__(
        self, node: str, channels: Mapping[str, Channel | str], ports: Mapping[str, int], follow: Follow | None = None
    ) -> None:
        """Channels that run `READING`, by tenant, or why there is none."""
        self.node = node
        self._channels = channels
        self._ports = ports
        self._follow = follow
        self._readers: dict[str, _Reader] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False

    @property
    def error(self) -> LoadError | None:
        """Why it is of no more use: no container can be looked into."""
        if self._is_stopped:
            return LoadError(f"pods of {self.node}: not watched any more")
        if any(not reader.error for reader in self._readers.values()):
            return None
        return LoadError(f"pods of {self.node}: " + "; ".join(dict.fromkeys(self._why(t) for t in self._channels)))

    async def start(self) -> NodeConditions:
        """The first look. Raises LoadError."""
        for tenant, channel in self._channels.items():
            if not isinstance(channel, str):
                self._readers[tenant] = _Reader(f"counters of {tenant} on {self.node}", channel)
        files = await self._look()
        self._tell(files)
        self._task = asyncio.create_task(self._repeat(), name=f"counters of {self.node}")
        hidden = {tenant: InstanceConditions(unknown={"cpu_limit": self._why(tenant)}) for tenant in self._channels}
        return NodeConditions(
            host=host_conditions(next(iter(files.values()))),
            instances=hidden | {tenant: instance_conditions(shown) for tenant, shown in files.items()},
        )

    async def sample(self) -> NodeCounters:
        """What they count now: looked at after this was called. Raises LoadError."""
        return self._sample(await self._look())

    async def stop(self) -> None:
        """End it. Never raises."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
        for reader in self._readers.values():
            reader.stop()

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                self._tell(await self._look())
            except LoadError:
                if self.error is not None:
                    return

    def _tell(self, files: Mapping[str, Mapping[str, str]]) -> None:
        if self._follow is not None:
            self._follow(self.node, self._sample(files))

    async def _look(self) -> dict[str, dict[str, str]]:
        """The files of each container that shows them. Raises LoadError if none does."""

        async def one(tenant: str, reader: _Reader) -> tuple[str, dict[str, str]] | None:
            try:
                async with asyncio.timeout(DEADLINE):
                    files = await reader.read()
                clock_of(files)
            except (LoadError, TimeoutError, Unreadable):
                return None
            return tenant, files

        found = await asyncio.gather(*(one(*each) for each in self._readers.items()))
        shown = dict(each for each in found if each is not None)
        if not shown:
            raise self.error or LoadError(f"pods of {self.node}: no counters within {DEADLINE:g} s")
        return shown

    def _sample(self, files: Mapping[str, Mapping[str, str]]) -> NodeCounters:
        first = next(iter(files.values()))
        host: HostCounters = host_of(first)
        hidden = {tenant: InstanceCounters(unknown={"cpu": self._why(tenant)}) for tenant in self._channels}
        shown = {tenant: instance_of(each, self._ports.get(tenant, 53)) for tenant, each in files.items()}
        return NodeCounters(at=time.time(), clock=clock_of(first), cost=0.0, host=host, instances=hidden | shown)

    def _why(self, tenant: str) -> str:
        """Why a container tells nothing."""
        channel = self._channels[tenant]
        words = channel if isinstance(channel, str) else self._readers[tenant].error if tenant in self._readers else ""
        return plain(f"{tenant}: {words or 'its counters did not come in time'}")
