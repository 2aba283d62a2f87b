"""A channel to one of the programs of load tests on a host (agent, watcher, responder, lock), over an SSH connection that stands."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

import asyncssh

from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.messages import Lines
from anyconsole.drivers.ssh.execute import until_open
from anyconsole.drivers.ssh.fault import SshError, Stage, classify, plain

__all__ = ["LoadChannel"]

WINDOW: Final = 65536
OPEN_DEADLINE: Final = 10.0


class LoadChannel(asyncssh.SSHClientSession[bytes]):
    """The agent in a session of its own. A flood slows its sender down: nothing beyond the channel's window is kept here."""

    def __init__(self) -> None:
        self.last_words = ""
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._ended = False

    @classmethod
    async def open(cls, connection: asyncssh.SSHClientConnection, program: str = "agent") -> LoadChannel:
        """Start the agent's command, or the watcher's. Raises SshError."""
        session = cls()
        command, _ = bootstrap(program)
        opening = connection.create_session(lambda: session, command, encoding=None, window=WINDOW, request_pty=False)
        try:
            async with asyncio.timeout(OPEN_DEADLINE):
                await until_open(opening, lambda late: late[0].abort())
        except (OSError, asyncssh.Error) as error:
            why = "no channel in time" if isinstance(error, TimeoutError) else plain(str(error))
            raise SshError(classify(error, Stage.SESSION), f"load {program}: {why}") from error
        return session

    def write(self, data: bytes) -> None:
        """Send, without waiting."""
        if self._channel is not None and not self._ended and not self._channel.is_closing():
            self._channel.write(data)

    async def lines(self) -> AsyncIterator[bytes]:
        """What the agent says. Raises MessageError if a line is too long."""
        lines = Lines()
        while True:
            while not self._chunks and not self._ended:
                self._news.clear()
                await self._news.wait()
            if not self._chunks:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._size = 0
            if self._channel is not None and not self._ended:
                self._channel.resume_reading()
            for line in lines.feed(data):
                yield line

    def close(self) -> None:
        """End its input."""
        if self._channel is not None and not self._ended and not self._channel.is_closing():
            self._channel.write_eof()

    def abort(self) -> None:
        """Ask for its end, and let go of the channel without waiting: the end of its input is what silences it."""
        if self._channel is not None and not self._ended:
            if not self._channel.is_closing():
                self._channel.terminate()
            self._channel.abort()

    # --- called by asyncssh

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The session is being opened."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """The agent said something."""
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self.last_words = plain((self.last_words + " " + data[-600:].decode("utf-8", "replace"))[-600:])
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= WINDOW and self._channel is not None:
            self._channel.pause_reading()
        self._news.set()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002
        """The agent was killed."""
        self.last_words = plain(f"killed by signal {signal} {msg}")

    def connection_lost(self, exc: Exception | None) -> None:
        """The session is closed; with `exc` the connection too."""
        self._ended = True
        if exc is not None:
            self.last_words = plain(f"connection lost ({exc})")
        self._news.set()
