"""The fleet over SSH: a link to every node, vantage point and looking glass, and everything one can ask of a host.

`run` owns all tasks. What hosts say goes to `emit`, on the event loop, as it arrives; nothing is queued here.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

import asyncssh

from anyconsole.drivers.ssh.credentials import Keyring
from anyconsole.drivers.ssh.dial import Dialer
from anyconsole.drivers.ssh.execute import Completed, follow, run_command
from anyconsole.drivers.ssh.fault import Fault, SshError, plain
from anyconsole.drivers.ssh.feed import Feeds, probe_feeds
from anyconsole.drivers.ssh.hostkeys import HostKeyBook
from anyconsole.drivers.ssh.link import Emit, NodeLink, Shared
from anyconsole.drivers.ssh.load_channel import LoadChannel
from anyconsole.drivers.ssh.process import DaemonThreads, quiet_libraries, raise_file_limit
from anyconsole.drivers.ssh.resolve import Resolver
from anyconsole.drivers.ssh.tunnels import Trouble, Tunnel, Tunnels
from anyconsole.model.inventory import Inventory

__all__ = ["SshFleet"]

SWEEP: Final = 0.5
WATCH: Final = 2.0
FIRST_WAVE: Final = 30.0
LOOKUPS: Final = 16
CLOSE_DEADLINE: Final = 2.0
TAIL_PATIENCE: Final = 3.0
LOOK_PAUSE: Final = 0.2


class SshFleet:
    """SSH links to all hosts of a profile."""

    def __init__(self, inventory: Inventory, emit: Emit, feeds: Feeds | None = None) -> None:
        quiet_libraries()
        self._inventory = inventory
        self._emit = emit
        self._feeds = feeds or probe_feeds(inventory)
        self._resolver = Resolver(inventory.ssh)
        self._keyring = Keyring()
        self._book = HostKeyBook()
        self._rng = random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._held = asyncio.Event()
        self._links: dict[str, NodeLink] = {}
        self._tunnels: Tunnels | None = None
        self._runner: asyncio.Task[object] | None = None

    async def run(self) -> None:
        """Connect to all hosts and keep them connected until cancelled."""
        raise_file_limit()
        asyncio.get_running_loop().set_default_executor(DaemonThreads(LOOKUPS))
        self._runner = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as tasks:
                shared = self._share(tasks)
                self._links = {host.name: NodeLink(host, shared) for host in self._inventory.hosts}
                for link in self._links.values():
                    tasks.create_task(link.run(), name=f"link {link.name}")
                tasks.create_task(self._sweep(), name="ssh sweep")
                tasks.create_task(self._watch(), name="ssh watch")
                tasks.create_task(self._freeze_after_first_wave(), name="ssh first wave")
        finally:
            self._runner = None
            self._cut()
            self._tunnels = None

    async def close(self) -> None:
        """Let go of every host at once; a frozen one is not waited for. Ends `run`."""
        runner = self._runner
        if runner is not None and runner is not asyncio.current_task():
            runner.cancel()
            await asyncio.wait({runner}, timeout=CLOSE_DEADLINE)
        self._cut()

    def poke(self, node: str) -> None:
        """Reconnect to a host now instead of waiting for its next attempt. Raises SshError if there is no such host."""
        self._link(node).poke()

    async def raw(self, node: str, section: str) -> str:
        """What the daemon behind a section said last, in its own words.

        Raises:
            SshError: No such host, no connection, no such section, or no answer in time.
        """
        link = self._link(node)
        if link.feed is None:
            link.connection  # noqa: B018 - raises, saying why there is no connection
            raise SshError(Fault.PROBE, f"{node}: the probe isn't running")
        return await link.feed.raw(section)

    async def look(self, nodes: Collection[str], timeout: float) -> set[str]:  # noqa: ASYNC109 - one for all of them
        """Look at nodes afresh: what was read was read after this call began, and has been emitted when it returns.

        Covers the host, speakers and instances; zone serials and DNS answers come at their own pace.

        Args:
            nodes: Which nodes.
            timeout: Seconds; a node that needs longer delays no other one.

        Returns:
            The nodes of which every speaker was seen; an instance that could not be seen keeps its older evidence and its age.
        """
        seen: set[str] = set()

        async def look_at(name: str) -> None:
            speakers = {speaker.name for speaker in self._inventory.node(name).speakers}
            with suppress(TimeoutError, OSError, SshError, asyncssh.Error):
                async with asyncio.timeout(timeout):
                    # On a busy node a round may miss its deadline; the next one may not.
                    while not speakers <= await self._link(name).look():  # noqa: ASYNC110 - each look is an event
                        await asyncio.sleep(LOOK_PAUSE)
                seen.add(name)

        async with asyncio.TaskGroup() as tasks:
            for name in {n.name for n in self._inventory.nodes}.intersection(nodes):
                tasks.create_task(look_at(name), name=f"look {name}")
        return seen

    def operator_key(self, node: str) -> str:
        """The comment (else the SHA256 fingerprint) of the key that logged us in to a host; "" where it isn't known."""
        link = self._links.get(node)
        return link.operator_key if link is not None else ""

    async def open_channel(self, host: str, program: str) -> LoadChannel:
        """Start one of the programs of load tests (agent, watcher, responder, lock) on a host. Raises SshError."""
        return await LoadChannel.open(self._link(host).connection, program)

    @asynccontextmanager
    async def forward(self, host: str, address: str, port: int) -> AsyncIterator[int]:
        """A port on 127.0.0.1 that leads to an address as `host` sees it, while the context lasts. Raises SshError."""
        try:
            listener = await self._link(host).connection.forward_local_port("127.0.0.1", 0, address, port)
        except (OSError, asyncssh.Error) as error:
            raise SshError(Fault.CHANNEL, f"{host}: no port to forward ({plain(str(error))})") from error
        try:
            yield listener.get_port()
        finally:
            listener.close()

    async def execute(
        self,
        node: str,
        argv: Sequence[str],
        timeout: float,  # noqa: ASYNC109
        stdin: bytes | AsyncIterable[bytes] = b"",
    ) -> Completed:
        """Run one command on a host as the profile's user, through its login shell, each word quoted.

        Args:
            node: Any host.
            argv: The command; no shell reads it.
            timeout: Seconds until the command is stopped.
            stdin: What it reads.

        Raises:
            Lost: The connection ended first: the command may or may not have run.
            SshError: No connection, no channel, or not finished in time.
        """
        link = self._link(node)
        began = asyncio.get_running_loop().time()
        async with link.operation(timeout):
            left = timeout - (asyncio.get_running_loop().time() - began)
            return await run_command(link.connection, argv, left, stdin)

    async def tail(self, node: str, path: str) -> AsyncGenerator[bytes, None]:
        """The last lines of a file on a host and whatever is appended to it, until the iterator is closed. Raises SshError."""
        link = self._link(node)
        async with link.operation(TAIL_PATIENCE), aclosing(follow(link.connection, path)) as chunks:
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def open_tunnel(self, via: str, host: str, port: int) -> AsyncIterator[int]:
        """A port on 127.0.0.1 that leads to `host:port` as the jump host `via` sees it, while the context lasts.

        Raises:
            SshError: The jump host is unknown or can't be reached now.
        """
        if self._tunnels is None:
            raise SshError(Fault.LOST, f"jump host {via}: the fleet isn't connected")
        endpoint = await self._resolver.resolve_jump(via)
        tunnel = self._tunnels.join((*endpoint.via, endpoint), f"forward {host}:{port}")

        def blocked(trouble: Trouble) -> None:
            raise SshError(trouble.error.fault, f"waiting for jump host: {trouble.error}")

        try:
            async with asyncio.timeout(self._inventory.ssh.connect_timeout):
                connection = await tunnel.connection(blocked)
                listener = await connection.forward_local_port("127.0.0.1", 0, host, port)
        except TimeoutError:
            raise SshError(Fault.TIMEOUT, f"jump host {via}: no connection yet") from None
        except (OSError, asyncssh.Error) as error:
            raise SshError(Fault.CHANNEL, f"jump host {via}: no port to forward ({plain(str(error))})") from error
        try:
            yield listener.get_port()
        finally:
            listener.close()

    def _share(self, tasks: asyncio.TaskGroup) -> Shared:
        dialer = Dialer(self._book, self._keyring, self._inventory.ssh.connect_timeout)
        self._tunnels = Tunnels(dialer, tasks, self._rng, self._held.set)
        return Shared(
            resolver=self._resolver,
            dialer=dialer,
            tunnels=self._tunnels,
            feeds=self._feeds,
            emit=self._emit,
            poll=self._inventory.poll,
            timeout=self._inventory.ssh.connect_timeout,
            rng=self._rng,
            held=self._held.set,
        )

    def _link(self, node: str) -> NodeLink:
        if (link := self._links.get(node)) is None:
            raise SshError(Fault.LOST, f"{node}: no such host, or the fleet isn't running")
        return link

    def _cut(self) -> None:
        for link in self._links.values():
            link.abort()
        for tunnel in self._tunnels.all() if self._tunnels else ():
            tunnel.abort()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            # After a suspended laptop or a stopped process everybody looks silent; what they said is still in our sockets.
            overslept = now - last - SWEEP
            last = now
            for link in self._links.values():
                if overslept > 1.0:
                    link.forgive(overslept)
                link.sweep(now)

    async def _watch(self) -> None:
        """Try hosts again that were refused for good, once known_hosts, keys, agent or configuration say otherwise."""
        before: dict[NodeLink | Tunnel, object] = {}
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH):
                    await self._held.wait()
            self._held.clear()
            after: dict[NodeLink | Tunnel, object] = {}
            credentials: dict[object, object] = {}
            config = self._resolver.stamp()
            for waiting in (*self._links.values(), *(self._tunnels.all() if self._tunnels else ())):
                error, endpoint = waiting.waits_for, waiting.endpoint
                if error is None or endpoint is None:
                    continue
                if error.fault is Fault.AUTH:
                    who = (endpoint.identity_files, endpoint.certificate_files, endpoint.agent)
                    if who not in credentials:
                        credentials[who] = await self._keyring.stamp(endpoint)
                    after[waiting] = (config, credentials[who])
                else:
                    after[waiting] = (config, self._book.stamp(endpoint))
                if before.get(waiting, after[waiting]) != after[waiting]:
                    waiting.retry()
            before = after

    async def _freeze_after_first_wave(self) -> None:
        """Take what lives as long as the fleet out of the collector's sight: a full collection stops the loop for 200 ms."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WAVE):
                for link in self._links.values():
                    await link.settled.wait()
        gc.collect(1)  # what is young: a full collection is the pause that this spares
        gc.freeze()
