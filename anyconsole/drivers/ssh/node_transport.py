"""Answers a collector's asks over SSH channels, for hosts where the probe can't run: sockets by forwarding, the rest by commands.

The counterpart of `probe/transport.py`, with the same rules: an ask never raises, a failed one is a reply with a fault.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable
from typing import Final

import asyncssh

from anyconsole.drivers.ask import MAX_REPLY, Ask, Exchange, Get, Read, Reply, Run, Talk
from anyconsole.drivers.framing import FRAMINGS, Framing
from anyconsole.drivers.ssh.execute import Completed, run_command, until_open
from anyconsole.drivers.ssh.fault import Fault, Lost, SshError, plain

__all__ = ["NodeTransport"]

CHANNELS: Final = 4
WINDOW: Final = 65536
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# sshd says "open failed" whether a socket is missing, dead or forbidden: could we write to it, then nobody listens.
WHY_NOT: Final = 'test -x "${1%/*}" && { test ! -e "$1" || test -w "$1"; }'

Streams = tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]


class NodeTransport:
    """The asks of one host over its connection. Control connections that may be kept are kept, one user at a time."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection
        self._channels = asyncio.Semaphore(CHANNELS)
        self._kept: dict[str, Streams] = {}

    async def answer(self, batch: list[Ask], timeout: float) -> list[Reply]:  # noqa: ASYNC109 - every ask gets the same one
        """Replies in the order of the asks; requests to one control socket go one after another, the rest at the same time.

        Raises:
            Lost: The connection itself is gone.
        """
        lanes: dict[object, list[int]] = {}
        for number, ask in enumerate(batch):
            lanes.setdefault(ask.path if isinstance(ask, Talk) else number, []).append(number)
        replies: dict[int, Reply] = {}

        async def walk(lane: list[int]) -> None:
            for number in lane:
                async with self._channels:
                    replies[number] = await self._answer_one(batch[number], timeout)

        async with asyncio.TaskGroup() as tasks:
            for lane in lanes.values():
                tasks.create_task(walk(lane))
        if self._connection.is_closed():
            raise Lost("connection lost")
        return [replies[number] for number in range(len(batch))]

    async def _answer_one(self, ask: Ask, timeout: float) -> Reply:  # noqa: ASYNC109
        began = time.monotonic()
        what, answer = self._start(ask, timeout)
        try:
            async with asyncio.timeout(timeout):
                reply = await answer
        except TimeoutError:
            return Reply(fault="timeout", text=f"{what}: no answer in time")
        except asyncssh.ChannelOpenError as error:
            fault = await self._open_fault(ask, error, timeout)
            return Reply(fault=fault, text=f"{what}: {plain(error.reason)}")
        except SshError as error:
            return Reply(fault="timeout" if error.fault is Fault.TIMEOUT else "failed", text=f"{what}: {error}")
        except (OSError, EOFError, asyncssh.Error, ValueError) as error:
            return Reply(fault="failed", text=f"{what}: {plain(str(error)) or type(error).__name__}")
        if reply.fault:
            return reply
        now = time.monotonic()
        return reply._replace(elapsed=reply.elapsed or now - began, at=now)

    def _start(self, ask: Ask, timeout: float) -> tuple[str, Awaitable[Reply]]:
        match ask:
            case Talk():
                return f"talk to {ask.path}", self._talk(ask)
            case Get():
                return f"get http://{ask.host}:{ask.port}{ask.path}", self._get(ask)
            case Exchange():
                return f"ask {ask.address}", self._exchange(ask)
            case Read():
                return f"read {ask.path}", self._command(["head", "-c", str(ask.limit), "--", ask.path], timeout)
            case Run():
                return f"run {' '.join(ask.argv)}", self._command(list(ask.argv), timeout)

    async def _talk(self, ask: Talk) -> Reply:
        framing = FRAMINGS[ask.framing]
        kept = self._kept.pop(ask.path, None)
        if kept is not None:
            try:
                return await self._converse(ask, framing, kept)
            except EOFError:
                # Closed at the other end since the last round (a restart): once more on a new connection.
                pass
        return await self._converse(ask, framing, await self._open_socket(ask.path, framing))

    async def _converse(self, ask: Talk, framing: Framing, streams: Streams) -> Reply:
        try:
            data = await _request(streams, framing, ask.data)
        except BaseException:
            # The next reply could belong to this request.
            streams[1].channel.abort()
            raise
        if framing.persistent:
            self._kept[ask.path] = streams
        else:
            streams[1].channel.abort()
        return Reply(data)

    async def _open_socket(self, path: str, framing: Framing) -> Streams:
        streams = await until_open(self._connection.open_unix_connection(path, encoding=None, window=WINDOW), _close)
        try:
            if framing.greets:
                await _receive(streams[0], framing)
            for request, expected in framing.opening:
                reply = await _request(streams, framing, request)
                if not reply.startswith(expected):
                    raise ValueError(f"refused {request!r}: {reply[:100]!r}")
        except BaseException:
            streams[1].channel.abort()
            raise
        return streams

    async def _connect(self, host: str, port: int) -> Streams:
        return await until_open(self._connection.open_connection(host, port, encoding=None, window=WINDOW), _close)

    async def _get(self, ask: Get) -> Reply:
        reader, writer = await self._connect(ask.host, ask.port)
        try:
            host = f"[{ask.host}]" if ":" in ask.host else ask.host
            writer.write(f"GET {ask.path} HTTP/1.0\r\nHost: {host}:{ask.port}\r\nConnection: close\r\n\r\n".encode())
            answer = await _until_eof(reader)
        finally:
            writer.channel.abort()
        head, _, body = answer.partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1:2] != [b"200"]:
            return Reply(fault="failed", text=f"get http://{host}:{ask.port}{ask.path}: answered {head[:60]!r}")
        return Reply(body)

    async def _exchange(self, ask: Exchange) -> Reply:
        """SSH carries no UDP, so DNS goes over TCP. The time it took includes our way to the host: more than the truth, never less."""
        reader, writer = await self._connect(ask.address, ask.port)
        began = time.monotonic()
        try:
            ident = os.urandom(2)
            writer.write(len(ask.data).to_bytes(2, "big") + ident + ask.data[2:])
            size = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(size)
        finally:
            writer.channel.abort()
        if data[:2] != ident:
            raise ValueError("answer to another question")
        return Reply(b"\0\0" + data[2:], elapsed=time.monotonic() - began)

    async def _command(self, argv: list[str], timeout: float) -> Reply:  # noqa: ASYNC109
        done: Completed = await run_command(self._connection, ["env", f"PATH={PATH}", "LC_ALL=C", *argv], timeout)
        if done.exit_status == 0:
            return Reply(done.stdout[:MAX_REPLY])
        said = plain((done.stderr or done.stdout).decode("utf-8", "replace"), 200)
        words = said.lower()
        fault = "absent" if "no such" in words else "denied" if "permission denied" in words else "failed"
        return Reply(fault=fault, text=f"{' '.join(argv)}: exit status {done.exit_status}: {said}")

    async def _open_fault(self, ask: Ask, error: asyncssh.ChannelOpenError, timeout: float) -> str:  # noqa: ASYNC109
        if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
            return "denied"
        if not isinstance(ask, Talk):
            return "absent" if "refused" in error.reason.lower() else "failed"
        try:
            done = await run_command(self._connection, ["sh", "-c", WHY_NOT, "sh", ask.path], timeout)
        except SshError:
            return "failed"
        return "absent" if done.exit_status == 0 else "denied"


def _close(streams: Streams) -> None:
    streams[1].channel.abort()


async def _request(streams: Streams, framing: Framing, data: bytes) -> bytes:
    reader, writer = streams
    if reader.at_eof() or writer.is_closing():
        raise EOFError("connection closed")
    writer.write(data)
    return await _receive(reader, framing)


async def _receive(reader: asyncssh.SSHReader[bytes], framing: Framing) -> bytes:
    buffer = b""
    while (end := framing.end(buffer)) is None:
        data = await reader.read(65536)
        if not data:
            if framing.persistent:
                raise EOFError("connection closed in the middle of a reply")
            return buffer
        buffer += data
        if len(buffer) > MAX_REPLY:
            raise ValueError(f"reply is longer than {MAX_REPLY} bytes")
    return buffer[:end]


async def _until_eof(reader: asyncssh.SSHReader[bytes]) -> bytes:
    answer = b""
    while data := await reader.read(65536):
        answer += data
        if len(answer) > MAX_REPLY:
            raise ValueError(f"answer is longer than {MAX_REPLY} bytes")
    return answer
