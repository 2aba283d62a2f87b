"""One host's connection from end to end: find out how, wait for its jump, log in, start the probe, notice silence, try again.

Connected is not the same as alive: only what the probe says counts, and `sweep` takes a host for gone once it has been silent for
too long, whatever TCP believes. Every change of state is emitted as a `Link` fact.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import asyncssh
import msgspec

from anyconsole.drivers.probe.stream import Update
from anyconsole.drivers.ssh.dial import OPERATOR_KEY, Dialer
from anyconsole.drivers.ssh.fault import POLICY, Fault, Lost, SshError, Stage, classify, plain
from anyconsole.drivers.ssh.feed import Feed, Feeds
from anyconsole.drivers.ssh.resolve import Endpoint, Resolver
from anyconsole.drivers.ssh.retry import Attempts
from anyconsole.drivers.ssh.tunnels import Trouble, Tunnel, Tunnels
from anyconsole.model.facts import Link, LinkState
from anyconsole.model.inventory import Host, PollSpec

__all__ = ["Emit", "NodeLink", "Shared"]

log = logging.getLogger(__name__)

Emit: TypeAlias = Callable[[Sequence[Update]], None]

OPERATIONS: Final = 4
"""Channels for commands and logs beside the probe's: sshd allows 10 sessions (MaxSessions) on a connection."""


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What all links of a fleet use together. `held` is told whenever a link begins to wait for a change by the operator."""

    resolver: Resolver
    dialer: Dialer
    tunnels: Tunnels
    feeds: Feeds
    emit: Emit
    poll: PollSpec
    timeout: float
    rng: random.Random
    held: Callable[[], None]


class _JumpLost(Exception):  # noqa: N818 - says what happened, never leaves this module
    """The jump host went away, and the host behind it with it."""


class NodeLink:
    """The connection to one host."""

    def __init__(self, host: Host, shared: Shared) -> None:
        self.name = host.name
        self.settled = asyncio.Event()
        self._operations = asyncio.Semaphore(OPERATIONS)
        self.endpoint: Endpoint | None = None
        self.feed: Feed | None = None
        self.waits_for: SshError | None = None
        self._host = host
        self._shared = shared
        self._attempts = Attempts(shared.rng)
        self._tunnel: Tunnel | None = None
        self._connection: asyncssh.SSHClientConnection | None = None
        self._failure: SshError | None = None
        self._fact: Link | None = None
        self._last_rx = 0.0
        self._blind: tuple[str, ...] = ()

    @property
    def connection(self) -> asyncssh.SSHClientConnection:
        """The connection for commands. Raises SshError, saying why there is none."""
        if self._connection is None or self._connection.is_closed():
            why = f": {self._fact.detail}" if self._fact and self._fact.detail else ""
            raise SshError(Fault.LOST, f"{self.name} is not connected{why}")
        return self._connection

    @asynccontextmanager
    async def operation(self, patience: float) -> AsyncIterator[None]:
        """One of the few channels for commands and logs. Raises SshError if none gets free within `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._operations.acquire()
        except TimeoutError:
            raise SshError(
                Fault.CHANNEL, f"{self.name}: {OPERATIONS} commands or logs are open there already; close one"
            ) from None
        try:
            yield
        finally:
            self._operations.release()

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        self._show(LinkState.IDLE)
        # A storm at the very start would only queue behind itself.
        await asyncio.sleep(self._shared.rng.uniform(0, 0.2))
        self._show(LinkState.CONNECTING)
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._hold()
            except _JumpLost:
                # Not this host's failure: wait for the jump, which is retried by itself.
                continue
            except SshError as error:
                wait = self._attempts.failed(error.fault, loop.time())
                self._show_fault(error, str(error), time.time() + wait if wait is not None else 0.0)
                await self._wait(error if wait is None else None, wait)

    def sweep(self, now: float) -> None:
        """Judge the host by the age of what it said last. `now` is the event loop's clock."""
        if self._fact is None or self._connection is None:
            return
        poll = self._shared.poll
        stale = max(poll.stale, 3 * poll.probe)
        drop = max(poll.drop, stale + 2 * poll.probe)
        silent = now - self._last_rx
        match self._fact.state:
            case LinkState.STARTING if silent > self._shared.timeout:
                said = self.feed.last_words if self.feed else ""
                self._fail(
                    SshError(Fault.PROBE, f"{self.name}: the probe said nothing in {silent:.0f} s {said}".rstrip())
                )
            case LinkState.LIVE | LinkState.STALE if silent > drop:
                self._fail(
                    SshError(
                        Fault.TIMEOUT,
                        f"{self.name}: nothing heard for {silent:.0f} s, connection dropped; the host is frozen or cut off",
                    )
                )
            case LinkState.LIVE if silent > stale:
                self._show(
                    LinkState.STALE, error=Fault.TIMEOUT.value, detail=f"{self.name}: nothing heard for {silent:.0f} s"
                )
            case _:
                pass

    def forgive(self, seconds: float) -> None:
        """Our own process slept for `seconds`: silence during that time was not the host's."""
        self._last_rx += seconds

    def poke(self) -> None:
        """Connect now, whatever the back-off says. A host that answers is left alone."""
        if self._fact is not None and self._fact.state is LinkState.LIVE:
            return
        if self._tunnel is not None:
            self._tunnel.poke()
        if self._fact is not None and self._fact.state is LinkState.STALE:
            self._fail(SshError(Fault.LOST, f"{self.name}: reconnecting as asked"))
        self._attempts.poke()

    def retry(self) -> None:
        """Try again now: what it waited for may have changed."""
        self._attempts.poke()

    async def look(self) -> frozenset[str]:
        """Look at every section but DNS now; returns those that were seen, after they were emitted. Raises SshError."""
        feed = self.feed
        if feed is None:
            self.connection  # noqa: B018 - raises, saying why there is no connection
            raise SshError(Fault.PROBE, f"{self.name}: the probe isn't running")
        seen = await feed.look()
        # Once a connection is given up, what still comes over it is not emitted any more.
        if feed is not self.feed or self._failure is not None:
            raise Lost(f"{self.name}: connection lost while it was looked at")
        return seen

    @property
    def operator_key(self) -> str:
        """The key that logged us in: its comment, else its fingerprint; "" if there is no connection."""
        return "" if self._connection is None else str(self._connection.get_extra_info(OPERATOR_KEY, ""))

    def abort(self) -> None:
        """Cut the connection without waiting for anybody."""
        if self._connection is not None:
            self._connection.abort()

    async def _hold(self) -> None:
        """Connect and stay connected. Always ends with SshError."""
        endpoint = await self._shared.resolver.resolve(self._host)
        self._choose_way(endpoint)
        try:
            connection = await self._log_in(endpoint)
            try:
                await self._serve(connection)
            finally:
                self._connection = None
                self.feed = None
                connection.abort()
        except SshError as error:
            if self._tunnel is not None and not self._tunnel.is_up:
                raise _JumpLost from error
            raise

    async def _log_in(self, endpoint: Endpoint) -> asyncssh.SSHClientConnection:
        slots = self._shared.dialer.slots
        if self._tunnel is None:
            async with slots.hold():
                return await self._shared.dialer.dial(endpoint)
        shown: Trouble | None = None

        def blocked(trouble: Trouble) -> None:
            nonlocal shown
            if shown is not None:
                raise _JumpLost  # once more from the start: by now the configuration may name another way
            shown = trouble
            self._show_fault(trouble.error, f"waiting for jump host: {trouble.error}", trouble.retry_at)

        through = await self._tunnel.connection(blocked)
        async with self._tunnel.slots.hold(), slots.hold():
            return await self._shared.dialer.dial(endpoint, through)

    async def _serve(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection
        self._failure = None
        self._last_rx = asyncio.get_running_loop().time()
        self._show(LinkState.STARTING)
        try:
            self.feed = self._shared.feeds(self._host, connection, self._received)
            await self.feed.run()
        except Exception as error:
            raise self._end(self._explain(error)) from error
        raise self._end(Lost(f"{self.name}: connection lost"))

    def _end(self, error: SshError) -> SshError:
        """Why it ended: our own decision if we cut it, else what was seen."""
        return self._failure or error

    def _explain(self, error: Exception) -> SshError:
        if isinstance(error, SshError):
            return error
        if not isinstance(error, OSError | asyncssh.Error):
            log.error("%s: feed failed", self.name, exc_info=error)
            return SshError(Fault.PROBE, f"{self.name}: could not understand the probe: {plain(repr(error))}")
        return SshError(classify(error, Stage.SESSION), f"{self.name}: connection lost ({plain(str(error))})")

    def _received(self, updates: Sequence[Update]) -> None:
        """The feed's news. Empty news are signs of life too."""
        now = asyncio.get_running_loop().time()
        self._last_rx = now
        if self._connection is None or self._failure is not None:
            return
        if self._fact is None or self.feed is None:
            return
        # Only which sections fail is news: the words of an error may change every second.
        blind = tuple(sorted(self.feed.errors))
        if self._fact.state is not LinkState.LIVE or blind != self._blind:
            if self._fact.state not in {LinkState.LIVE, LinkState.STALE}:
                self._attempts.came_up(now)
            self._blind = blind
            why = "; ".join(f"{section}: {self.feed.errors[section]}" for section in blind)
            self._show(LinkState.LIVE, detail=plain(why), probe=self.feed.kind)
            self.settled.set()
        if updates:
            self._shared.emit(updates)

    def _fail(self, error: SshError) -> None:
        self._failure = self._failure or error
        # Not a graceful close: the peer may be frozen and never answer it.
        self.abort()

    def _choose_way(self, endpoint: Endpoint) -> None:
        if endpoint == self.endpoint:
            return
        before = self._tunnel
        self.endpoint = endpoint
        self._tunnel = self._shared.tunnels.join(endpoint.via, self.name) if endpoint.via else None
        if before is not None and before is not self._tunnel:
            self._shared.tunnels.leave(before, self.name)

    async def _wait(self, waits_for: SshError | None, seconds: float | None) -> None:
        self.waits_for = waits_for
        if waits_for is not None:
            self._shared.held()
        try:
            if await self._attempts.wait(seconds):
                self._show(LinkState.CONNECTING)
        finally:
            self.waits_for = None

    def _show_fault(self, error: SshError, detail: str, retry_at: float) -> None:
        self._show(
            POLICY[error.fault].state,
            error=error.fault.value,
            detail=detail,
            fingerprint=error.fingerprint,
            retry_at=retry_at,
        )
        self.settled.set()

    def _show(
        self,
        state: LinkState,
        *,
        error: str = "",
        detail: str = "",
        fingerprint: str = "",
        retry_at: float = 0.0,
        probe: str = "",
    ) -> None:
        now = time.time()
        since = self._fact.since if self._fact is not None and self._fact.state is state else now
        self._fact = Link(
            node=self.name, section="link", at=now, state=state, since=since,
            error=error, detail=detail, fingerprint=fingerprint, retry_at=retry_at, probe=probe,
        )  # fmt: skip
        self._shared.emit([self._fact])
