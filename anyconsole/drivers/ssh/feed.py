"""What a host says about itself: the pushed probe over one session, or polling where the host can't run it.

A feed knows nothing of retries or states; it runs until something ends it and says why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import asyncssh

from anyconsole.drivers.probe.bundle import bootstrap
from anyconsole.drivers.probe.config import host_config, row_count, section_names
from anyconsole.drivers.probe.stream import (
    MAX_FACTS,
    FactTracker,
    ProbeError,
    ProbeStream,
    ProbeUnsupportedError,
    Update,
)
from anyconsole.drivers.ssh.fault import Fault, Lost, SshError, plain
from anyconsole.drivers.ssh.poll_feed import PollFeed
from anyconsole.model.inventory import Host, Inventory

__all__ = ["Feed", "Feeds", "HostFeed", "ProbeFeed", "Received", "probe_feeds"]

Received: TypeAlias = Callable[[Sequence[Update]], None]

log = logging.getLogger(__name__)

# asyncssh's 2 MiB for each of a thousand hosts would be 2 GB that a stalled loop could have to hold.
WINDOW: Final = 65536
OPEN_DEADLINE: Final = 10.0
RAW_DEADLINE: Final = 10.0
STDERR_LIMIT: Final = 256 * 1024


class Feed(Protocol):
    """A source of facts about one host over its connection. `errors` are the sections that can't be seen now."""

    @property
    def kind(self) -> str:
        """How it works: "python" or "poll"."""

    @property
    def errors(self) -> Mapping[str, str]:
        """Sections that can't be seen now, and why."""

    @property
    def last_words(self) -> str:
        """What came on standard error."""

    async def run(self) -> None:
        """Deliver until something ends it. Always raises: SshError, OSError or asyncssh.Error."""

    async def raw(self, section: str) -> str:
        """What the daemon behind `section` said last. Raises SshError."""

    async def look(self) -> frozenset[str]:
        """Look at every section but DNS at once; returns those that were seen in a round that began after the call.

        What was seen has been delivered when it returns. Raises SshError; how long it may take is for the caller to say.
        """


Feeds: TypeAlias = Callable[[Host, asyncssh.SSHClientConnection, Received], Feed]


def probe_feeds(inventory: Inventory) -> Feeds:
    """Feeds of real hosts: the probe, or polling where there is no Python for it."""
    # One per host for good: what vanished while a host was out of reach is then seen to be gone.
    trackers: dict[str, FactTracker] = {}

    def start(host: Host, connection: asyncssh.SSHClientConnection, received: Received) -> Feed:
        config = host_config(inventory, host)
        command, program = bootstrap(config)
        if (tracker := trackers.get(host.name)) is None:
            # Room for a plugin's few rows of its own, none for a node that fills our memory.
            limit = min(MAX_FACTS, 100 + 2 * row_count(config))
            tracker = trackers[host.name] = FactTracker(host.name, section_names(config), limit)
        probe = ProbeFeed(host.name, connection, command, program, received, tracker)
        return HostFeed(probe, lambda: PollFeed(host.name, connection, config, received, tracker))

    return start


class ProbeFeed(asyncssh.SSHClientSession[bytes]):
    """The probe, pushed over one session: its program goes in, JSON lines come out."""

    kind = "python"

    def __init__(
        self,
        name: str,
        connection: asyncssh.SSHClientConnection,
        command: str,
        program: bytes,
        received: Received,
        tracker: FactTracker,
    ) -> None:
        self.last_words = ""
        self._name = name
        self._connection = connection
        self._command = command
        self._program = program
        self._received = received
        self._stream = ProbeStream(name, tracker)
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._exit_status: int | None = None
        self._error: SshError | ProbeUnsupportedError | None = None
        self._ended = asyncio.Event()
        self._stderr_bytes = 0
        self._questions: dict[int, asyncio.Future[str]] = {}
        self._looks: dict[int, asyncio.Future[frozenset[str]]] = {}

    @property
    def errors(self) -> Mapping[str, str]:
        """Sections the probe can't see now, and why."""
        return self._stream.errors

    async def run(self) -> None:
        """Start the probe and deliver what it says until it ends.

        Raises:
            ProbeUnsupportedError: The host has no Python for it; the connection is fine.
            SshError: The probe ended, broke its protocol, or was lost.
        """
        try:
            async with asyncio.timeout(OPEN_DEADLINE):
                channel, _ = await self._connection.create_session(
                    lambda: self, self._command, encoding=None, window=WINDOW, request_pty=False
                )
        except TimeoutError:
            raise SshError(Fault.CHANNEL, f"{self._name}: no session within {OPEN_DEADLINE:.0f} s") from None
        channel.write(self._program)
        try:
            await self._ended.wait()
        finally:
            channel.abort()
            for question in self._questions.values():
                question.cancel()
            for look in self._looks.values():
                look.cancel()
        if self._error is not None:
            raise self._error
        if self._exit_status is None:
            raise Lost(f"{self._name}: connection lost")
        raise SshError(
            Fault.PROBE,
            f"{self._name}: the probe ended with status {self._exit_status}: {self.last_words}".rstrip(": "),
        )

    async def raw(self, section: str) -> str:
        """What the daemon behind `section` said last, through the probe. Raises SshError."""
        if self._channel is None or self._channel.is_closing():
            raise Lost(f"{self._name}: the probe isn't running")
        number, request = self._stream.request_raw(section)
        question: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._questions[number] = question
        try:
            self._channel.write(request)
            async with asyncio.timeout(RAW_DEADLINE):
                await asyncio.wait({question})
        except TimeoutError:
            raise SshError(Fault.TIMEOUT, f"{self._name}: no raw {section} in {RAW_DEADLINE:.0f} s") from None
        finally:
            del self._questions[number]
        if question.cancelled():
            raise Lost(f"{self._name}: connection lost before raw {section} came")
        return question.result()

    async def look(self) -> frozenset[str]:
        """Let the probe look now. Raises SshError."""
        # Before the hello its input is still the program.
        if self._channel is None or self._channel.is_closing() or self._stream.hello is None:
            raise Lost(f"{self._name}: the probe isn't running")
        number, request = self._stream.request_look()
        seen: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
        self._looks[number] = seen
        try:
            self._channel.write(request)
            await asyncio.wait({seen})
        finally:
            del self._looks[number]
        if seen.cancelled():
            raise Lost(f"{self._name}: connection lost before it was looked at")
        return seen.result()

    # --- called by asyncssh

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The session is being opened."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """The probe said something."""
        if self._error is not None:
            return
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self.last_words = plain((self.last_words + " " + data[-600:].decode("utf-8", "replace"))[-600:])
            self._stderr_bytes += len(data)
            if self._stderr_bytes > STDERR_LIMIT:
                self._stop(SshError(Fault.PROBE, f"{self._name}: flood on standard error: {self.last_words}"))
            return
        try:
            self._understand(data)
        except ProbeUnsupportedError as error:
            self._error = error
            self._ended.set()
        except ProbeError as error:
            self._stop(SshError(Fault.PROBE, f"{self._name}: probe dropped, {error}"))
        except Exception as error:  # a surprise must end this link, not asyncssh's reader
            log.exception("%s: probe not understood", self._name)
            self._stop(SshError(Fault.PROBE, f"{self._name}: the probe was not understood: {plain(repr(error))}"))

    def exit_status_received(self, status: int) -> None:
        """The probe ended."""
        self._exit_status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002
        """The probe was killed."""
        self._exit_status = 255
        self.last_words = plain(f"killed by signal {signal} {msg}")

    def connection_lost(self, exc: Exception | None) -> None:
        """The session is closed; with `exc` the connection too."""
        if exc is not None and self._error is None:
            self._error = Lost(f"{self._name}: connection lost ({plain(str(exc))})")
        self._ended.set()

    def _understand(self, data: bytes) -> None:
        frames = self._stream.frames
        updates = self._stream.feed(data, time.time())
        for number, text in self._stream.take_raw().items():
            if (question := self._questions.get(number)) is not None and not question.done():
                question.set_result(text)
        if updates or self._stream.frames != frames:
            self._received(updates)
        for number, sections in self._stream.take_looks().items():
            if (look := self._looks.get(number)) is not None and not look.done():
                look.set_result(sections)
        if self._stream.hello is None or self._channel is None or self._channel.is_closing():
            return
        # The probe speaks every second, so this is where its keep-alives go out, without a timer per host.
        if request := self._stream.requests(time.monotonic()):
            self._channel.write(request)

    def _stop(self, error: SshError) -> None:
        self._error = error
        self._connection.abort()


class HostFeed:
    """The probe first; polling if the host can't run it."""

    def __init__(self, probe: ProbeFeed, poll: Callable[[], PollFeed]) -> None:
        self._feed: ProbeFeed | PollFeed = probe
        self._poll = poll

    @property
    def kind(self) -> str:
        """How it works: "python" or "poll"."""
        return self._feed.kind

    @property
    def errors(self) -> Mapping[str, str]:
        """Sections that can't be seen now, and why."""
        return self._feed.errors

    @property
    def last_words(self) -> str:
        """What came on standard error."""
        return self._feed.last_words

    async def run(self) -> None:
        """Deliver until something ends it. Always raises."""
        try:
            await self._feed.run()
        except ProbeUnsupportedError as error:
            log.info("%s: polled over SSH", error)
            self._feed = self._poll()
            await self._feed.run()

    async def raw(self, section: str) -> str:
        """What the daemon behind `section` said last. Raises SshError."""
        return await self._feed.raw(section)

    async def look(self) -> frozenset[str]:
        """Look at every section but DNS at once. Raises SshError."""
        return await self._feed.look()
