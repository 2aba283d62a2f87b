"""The engine's side of a watcher: starts it on a node over any channel, keeps it alive, has what the node counted at hand.

A watcher that is lost costs a load test its explanation, not its result: what to do about that is for whoever runs the test.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.channel import Channel, listen
from anyconsole.drivers.load.messages import MessageError, command
from anyconsole.drivers.ssh.fault import plain
from anyconsole.errors import LoadError
from anyconsole.model.inventory import Inventory
from anyconsole.model.load_counters import NodeConditions, NodeCounters

__all__ = ["Follow", "Watched", "Watcher", "Watching", "instances_of"]

HEARTBEAT: Final = 1.0
START_DEADLINE: Final = 15.0
SAMPLE_DEADLINE: Final = 3.0
MAX_LINES: Final = 100
"""Lines a second: one is told unasked."""
_CLOSE_DEADLINE: Final = 1.0

Follow: TypeAlias = Callable[[str, NodeCounters], None]
"""Is told each sample, with the node's name; must be quick."""


class Watcher(Protocol):
    """What tells of a node's counters while a load test lasts: `Watching`, and `pod_watching` for one in a cluster."""

    @property
    def error(self) -> LoadError | None:
        """Why it is of no more use."""

    async def start(self) -> NodeConditions:
        """Begin, and say what doesn't change. Raises LoadError."""

    async def sample(self) -> NodeCounters:
        """What the node counts now. Raises LoadError."""

    async def stop(self) -> None:
        """End it. Never raises."""


class Watched(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A name server as a watcher has to find it. `pid` is used where `pid_file` can't be read."""

    name: str
    kind: str
    addresses: tuple[str, ...]
    port: int = 53
    pid_file: str = ""
    pid: int | None = None
    config: str = ""


def instances_of(inventory: Inventory, node: str, pids: Mapping[str, int | None] | None = None) -> tuple[Watched, ...]:
    """All name servers of a node, those beside the one under test too. `pids` are processes by tenant, as far as others know them."""
    found = []
    for instance in inventory.node(node).instances:
        targets = [t for t in inventory.load.targets if (t.node, t.tenant) == (node, instance.tenant)]
        addresses = itertools.chain(
            inventory.tenant(instance.tenant).addresses, *(target.addresses for target in targets)
        )
        found.append(
            Watched(
                name=instance.tenant,
                kind=instance.kind,
                addresses=tuple(dict.fromkeys(addresses)),
                port=targets[0].port if targets else 53,
                pid_file=instance.pid_file,
                pid=(pids or {}).get(instance.tenant),
                config=instance.config,
            )
        )
    return tuple(found)


class _Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="ev", tag="hello"):
    WATCHER = 1

    watcher: int


class _Conditions(NodeConditions, frozen=True, kw_only=True, tag_field="ev", tag="conditions"):
    pass


class _Sample(NodeCounters, frozen=True, kw_only=True, tag_field="ev", tag="sample"):
    pass


class _Failure(msgspec.Struct, frozen=True, kw_only=True, tag_field="ev", tag="error"):
    why: str


_Message: TypeAlias = _Hello | _Conditions | _Sample | _Failure

_decoder: msgspec.json.Decoder[_Message] = msgspec.json.Decoder(_Message)


class Watching:
    """One watcher. `start` it first, `stop` it at last."""

    def __init__(self, node: str, channel: Channel, instances: Sequence[Watched], follow: Follow | None = None) -> None:
        self.node = node
        self.latest: NodeCounters | None = None
        """The last sample, asked for or not."""
        self.error: LoadError | None = None
        """Why it is of no more use."""
        self._channel = channel
        self._instances = tuple(instances)
        self._follow = follow
        self._came_at = 0.0
        self._hello: asyncio.Future[None] | None = None
        self._conditions: asyncio.Future[NodeConditions] | None = None
        self._asked: dict[int, asyncio.Future[NodeCounters]] = {}
        self._number = 0
        self._told: NodeConditions | None = None
        self._reader: asyncio.Task[None] | None = None
        self._heart: asyncio.Task[None] | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the last sample came, None if none ever did."""
        return None if self.latest is None else asyncio.get_running_loop().time() - self._came_at

    async def start(self) -> NodeConditions:
        """Push the watcher and wait for its first sample and what doesn't change. Raises LoadError."""
        loop = asyncio.get_running_loop()
        self._hello, self._conditions = loop.create_future(), loop.create_future()
        self._reader = loop.create_task(self._read(), name=f"watcher on {self.node}")
        self._channel.write(bootstrap("watcher")[1])
        try:
            async with asyncio.timeout(START_DEADLINE):
                await self._hello
                instances = [msgspec.to_builtins(instance) for instance in self._instances]
                self._channel.write(command("watch", instances=instances))
                self._heart = loop.create_task(self._beat(), name=f"heartbeat of the watcher on {self.node}")
                return await self._conditions
        except TimeoutError:
            raise self._fail(f"not started within {START_DEADLINE:g} s") from None

    async def sample(self) -> NodeCounters:
        """What the node counts now: looked at after this was called. Raises LoadError."""
        if self.error is not None:
            raise self.error
        self._number += 1
        number = self._number
        self._asked[number] = asyncio.get_running_loop().create_future()
        self._channel.write(command("sample", id=number))
        try:
            async with asyncio.timeout(SAMPLE_DEADLINE):
                return await self._asked[number]
        except TimeoutError:
            raise LoadError(f"watcher on {self.node}: no sample within {SAMPLE_DEADLINE:g} s") from None
        finally:
            del self._asked[number]

    async def stop(self) -> None:
        """End it, however it behaves. Never raises."""
        try:
            self._channel.close()
            if self._reader is not None:
                await asyncio.wait({self._reader}, timeout=_CLOSE_DEADLINE)
        finally:
            self._channel.abort()
            self._fail("was stopped")
            for task in (self._heart, self._reader):
                if task is not None:
                    task.cancel()

    async def _beat(self) -> None:
        while self.error is None:
            await asyncio.sleep(HEARTBEAT)
            self._channel.write(command("hb"))

    async def _read(self) -> None:
        self._fail(await listen(self._channel, self._hear, MAX_LINES, f"watcher on {self.node}"))

    def _hear(self, line: bytes) -> None:
        try:
            message = _decoder.decode(line)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise MessageError(f"{line[:80]!r}: {error}") from error
        match message:
            case _Hello():
                self._greet(message)
            case _Conditions():
                self._check(message.instances)
                self._told = message
            case _Sample():
                self._check(message.instances)
                self._take(message)
            case _Failure():
                self._fail(message.why)

    def _greet(self, hello: _Hello) -> None:
        if hello.watcher != _Hello.WATCHER:
            raise MessageError(f"speaks version {hello.watcher} of the protocol, not {_Hello.WATCHER}")
        if self._hello is not None and not self._hello.done():
            self._hello.set_result(None)

    def _check(self, told: Mapping[str, object]) -> None:
        if set(told) != {instance.name for instance in self._instances}:
            raise MessageError(f"tells of {', '.join(told) or 'nothing'}, which isn't what it was asked about")

    def _take(self, sample: NodeCounters) -> None:
        if self._told is None:
            raise MessageError("a sample out of turn")
        if self.latest is not None and sample.clock < self.latest.clock:
            raise MessageError("its clock runs backwards")
        self.latest, self._came_at = sample, asyncio.get_running_loop().time()
        if self._conditions is not None and not self._conditions.done():
            self._conditions.set_result(self._told)
        if (asked := self._asked.get(sample.id)) is not None and not asked.done():
            asked.set_result(sample)
        if self._follow is not None:
            self._follow(self.node, sample)

    def _fail(self, why: str) -> LoadError:
        """It is of no more use; the first reason stays."""
        if self.error is None:
            self.error = LoadError(f"watcher on {self.node}: {plain(why)}")
        for waiting in (self._hello, self._conditions, *self._asked.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(self.error)
                waiting.exception()  # whether or not anybody waits for it
        return self.error
