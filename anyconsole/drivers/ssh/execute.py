"""One command over a connection that stands: bounded output, a deadline, and never "done" where we can't know it."""

from __future__ import annotations

import asyncio
import shlex
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import asyncssh
import msgspec

from anyconsole.drivers.ssh.fault import Fault, Lost, SshError, Stage, classify, plain

__all__ = ["Completed", "follow", "run_command", "until_open"]

_T = TypeVar("_T")

MAX_OUTPUT: Final = 1 << 20
WINDOW: Final = 65536
OPEN_DEADLINE: Final = 10.0


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """A command that ended. `truncated` says that output beyond 1 MiB was thrown away."""

    exit_status: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False


async def until_open(opening: Coroutine[Any, Any, _T], give_up: Callable[[_T], None]) -> _T:
    """Wait for a channel that is being opened; if we stop waiting and it opens later, `give_up` closes it then.

    asyncssh forgets such a channel, but on the host it stays open and counts: ten of them, and sshd opens no more (MaxSessions).
    """
    task = asyncio.ensure_future(opening)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:

        def close(late: asyncio.Task[_T]) -> None:
            if not late.cancelled() and late.exception() is None:
                give_up(late.result())

        task.add_done_callback(close)
        raise


async def run_command(
    connection: asyncssh.SSHClientConnection,
    argv: Sequence[str],
    deadline: float,
    stdin: bytes | AsyncIterable[bytes] = b"",
) -> Completed:
    """Run `argv` (quoted for the login shell) and wait for its end. What it reads piece by piece is sent as fast as it is read there.

    Raises:
        Lost: The connection or the command's session ended without an exit status; the command may or may not have run.
        SshError: No channel, or no end within `deadline` seconds; the command was sent SIGTERM.
    """
    what = "the script" if tuple(argv[:2]) == ("sh", "-c") else plain(shlex.join(argv), 120)
    session = _Collect()
    try:
        async with asyncio.timeout(deadline):
            channel = await session.open(connection, shlex.join(argv))
            if isinstance(stdin, bytes):
                session.write(stdin)
            else:
                async for piece in stdin:
                    if not await session.has_room():
                        break  # it ended without reading all of it; its status says why
                    session.write(piece)
            if not channel.is_closing():
                channel.write_eof()
            await session.ended.wait()
    except TimeoutError:
        raise SshError(Fault.TIMEOUT, f"{what}: not finished after {deadline:g} s, stopped") from None
    except (OSError, asyncssh.Error) as error:
        fault = classify(error, Stage.SESSION)
        if fault is Fault.LOST:
            raise Lost(f"{what}: connection lost ({plain(str(error))})") from error
        raise SshError(fault, f"{what}: {plain(str(error))}") from error
    finally:
        session.stop()
    if session.exit_status is None:
        raise Lost(f"{what}: ended without an exit status; it may or may not have been done")
    return Completed(
        exit_status=session.exit_status,
        stdout=bytes(session.stdout),
        stderr=bytes(session.stderr),
        truncated=session.truncated,
    )


async def follow(connection: asyncssh.SSHClientConnection, path: str) -> AsyncGenerator[bytes, None]:
    """The last 200 lines of a file and whatever is appended to it, until closed.

    A slow reader slows the sender down: nothing beyond the channel's window is kept here.

    Raises:
        SshError: No channel, or `tail` ended; its own words are in the message.
    """
    # What tail says of a file that is missing, unreadable or replaced belongs among its lines: it waits for the file and never ends.
    command = shlex.join(["sh", "-c", f"exec tail -n 200 -F -- {shlex.quote(path)} 2>&1"])
    session = _Follow()
    try:
        async with asyncio.timeout(OPEN_DEADLINE):
            await session.open(connection, command)
        while chunk := await session.next():
            yield chunk
    except TimeoutError:
        raise SshError(Fault.TIMEOUT, f"tail {path}: no channel after {OPEN_DEADLINE:g} s") from None
    except (OSError, asyncssh.Error) as error:
        raise SshError(classify(error, Stage.SESSION), f"tail {path}: {plain(str(error))}") from error
    finally:
        session.stop()
    if session.exit_status is None:
        raise Lost(f"tail {path}: connection lost")
    raise SshError(Fault.CHANNEL, f"tail {path}: ended with status {session.exit_status}: {plain(session.said)}")


class _Session(asyncssh.SSHClientSession[bytes]):
    """What both kinds of session need: the channel as soon as it exists, the exit status, the end."""

    def __init__(self) -> None:
        self.exit_status: int | None = None
        self.ended = asyncio.Event()
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._stopped = False

    async def open(self, connection: asyncssh.SSHClientConnection, command: str) -> asyncssh.SSHClientChannel[bytes]:
        """Start `command` in this session. Raises OSError or asyncssh.Error."""
        opening = connection.create_session(lambda: self, command, encoding=None, window=WINDOW, request_pty=False)
        channel, _ = await until_open(opening, lambda late: late[0].abort())
        return channel

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self.channel = chan
        if self._stopped:
            chan.abort()
            raise ConnectionAbortedError("opened too late")  # before the command is sent: it must not run now

    def exit_status_received(self, status: int) -> None:
        self.exit_status = status

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - no exit status says it all
        self.ended.set()

    def stop(self) -> None:
        """Ask for the end of a command that still runs, and let go of the channel without waiting."""
        self._stopped = True
        if self.channel is not None and not self.ended.is_set():
            if not self.channel.is_closing():
                self.channel.terminate()
            self.channel.abort()


class _Collect(_Session):
    def __init__(self) -> None:
        super().__init__()
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.truncated = False
        self._room = asyncio.Event()
        self._room.set()

    def write(self, data: bytes) -> None:
        """Send to its standard input."""
        if data and self.channel is not None:
            self.channel.write(data)

    async def has_room(self) -> bool:
        """Wait until more may be sent; False if it has ended."""
        await self._room.wait()
        return not self.ended.is_set() and self.channel is not None and not self.channel.is_closing()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._room.set()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        into = self.stderr if datatype == asyncssh.EXTENDED_DATA_STDERR else self.stdout
        room = MAX_OUTPUT - len(into)
        into += data[:room]
        self.truncated |= len(data) > room

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002
        self.exit_status = 255
        self.stderr += plain(f"killed by signal {signal} {msg}").encode()


class _Follow(_Session):
    def __init__(self) -> None:
        super().__init__()
        self.said = ""
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()

    async def next(self) -> bytes:
        """The next piece, b"" at the end."""
        while not self._chunks and not self.ended.is_set():
            self._news.clear()
            await self._news.wait()
        if not self._chunks:
            return b""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self.channel is not None:
            self.channel.resume_reading()
        return data

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self.said = (self.said + data.decode("utf-8", "replace"))[-1000:]
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= WINDOW and self.channel is not None:
            self.channel.pause_reading()
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._news.set()
