"""Jump hosts: few shared connections that carry everybody's, kept up by themselves.

A jump is logged in to once per `MEMBERS` hosts behind it, not once per host. While a jump is away its hosts wait for it and say so;
only the jump is retried.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from typing import Final

import asyncssh
import msgspec

from anyconsole.drivers.ssh.dial import HANDSHAKES_PER_JUMP, Dialer, Slots
from anyconsole.drivers.ssh.fault import Lost, SshError
from anyconsole.drivers.ssh.resolve import Endpoint
from anyconsole.drivers.ssh.retry import Attempts

__all__ = ["Trouble", "Tunnel", "Tunnels"]

MEMBERS: Final = 200


class Trouble(msgspec.Struct, frozen=True):
    """Why a tunnel is down and when it is tried again (epoch seconds, 0 if not by itself)."""

    error: SshError
    retry_at: float


class Tunnel:
    """One shared connection to a jump host."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        parent: Tunnel | None,
        dialer: Dialer,
        rng: random.Random,
        held: Callable[[], None],
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.parent = parent
        self.members: set[str] = set()
        self.slots = Slots(HANDSHAKES_PER_JUMP)
        self.trouble: Trouble | None = None
        self.waits_for: SshError | None = None
        self._dialer = dialer
        self._attempts = Attempts(rng)
        self._held = held
        self._connection: asyncssh.SSHClientConnection | None = None
        self._changed = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """True while the jump host's connection stands."""
        return self._connection is not None and not self._connection.is_closed()

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._hold()
            except SshError as error:
                wait = self._attempts.failed(error.fault, loop.time())
                self._tell(Trouble(error, time.time() + wait if wait is not None else 0.0))
                if wait is None:
                    self.waits_for = error
                    self._held()
                await self._attempts.wait(wait)
                self.waits_for = None

    async def connection(self, blocked: Callable[[Trouble], None]) -> asyncssh.SSHClientConnection:
        """The jump host's connection, once it stands. `blocked` hears of every failed attempt meanwhile; raising ends the wait."""
        while True:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection
            if self.trouble is not None:
                blocked(self.trouble)
            await self._changed.wait()

    def poke(self) -> None:
        """Try again now, at the outermost jump that is down. A tunnel that is up is left alone."""
        if self.parent is not None and not self.parent.is_up:
            self.parent.poke()
        if self.trouble is not None:
            self._attempts.poke()

    def retry(self) -> None:
        """Try again now: what it waited for may have changed."""
        self._attempts.poke()

    def abort(self) -> None:
        """Cut the connection without waiting for anybody."""
        if self._connection is not None:
            self._connection.abort()

    async def _hold(self) -> None:
        through = await self.parent.connection(self._tell) if self.parent else None
        async with self._dialer.slots.hold():
            connection = await self._dialer.dial(self.endpoint, through, is_jump=True)
        try:
            self._connection = connection
            self._attempts.came_up(asyncio.get_running_loop().time())
            self._tell(None)
            await connection.wait_closed()
        finally:
            self._connection = None
            connection.abort()
        raise Lost(f"{self.endpoint.label}: connection lost")

    def _tell(self, trouble: Trouble | None) -> None:
        self.trouble = trouble
        self._changed.set()
        self._changed = asyncio.Event()


class Tunnels:
    """All tunnels of a fleet, by chain of jump hosts. Hosts stay with their tunnel until they leave it; one without hosts ends."""

    def __init__(self, dialer: Dialer, tasks: asyncio.TaskGroup, rng: random.Random, held: Callable[[], None]) -> None:
        self._dialer = dialer
        self._held = held
        self._tasks = tasks
        self._rng = rng
        self._by_chain: dict[tuple[Endpoint, ...], list[Tunnel]] = {}
        self._numbers = itertools.count(1)
        self._running: dict[Tunnel, asyncio.Task[None]] = {}

    def all(self) -> list[Tunnel]:
        """Every tunnel there is."""
        return [tunnel for tunnels in self._by_chain.values() for tunnel in tunnels]

    def join(self, chain: tuple[Endpoint, ...], member: str) -> Tunnel:
        """The tunnel over which `member` is to go; `chain` is outermost first and not empty."""
        tunnels = self._by_chain.setdefault(chain, [])
        for tunnel in tunnels:
            if member in tunnel.members:
                return tunnel
        tunnel = next((t for t in tunnels if len(t.members) < MEMBERS), None) or self._open(chain, tunnels)
        tunnel.members.add(member)
        return tunnel

    def leave(self, tunnel: Tunnel, member: str) -> None:
        """`member` goes another way now."""
        tunnel.members.discard(member)
        if tunnel.members:
            return
        for tunnels in self._by_chain.values():
            if tunnel in tunnels:
                tunnels.remove(tunnel)
                self._running.pop(tunnel).cancel()
        if tunnel.parent is not None:
            self.leave(tunnel.parent, tunnel.name)

    def _open(self, chain: tuple[Endpoint, ...], tunnels: list[Tunnel]) -> Tunnel:
        name = f"tunnel {chain[-1].name} {next(self._numbers)}"
        parent = self.join(chain[:-1], name) if len(chain) > 1 else None
        tunnel = Tunnel(name, chain[-1], parent, self._dialer, self._rng, self._held)
        tunnels.append(tunnel)
        self._running[tunnel] = self._tasks.create_task(tunnel.run(), name=name)
        return tunnel
