"""A channel to one of the programs of load tests in a pod, over exec: the same commands and lines as over SSH."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final

import aiohttp

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.connection import Value
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.terminal import CLOSE_STDIN, PIECE, Stream, can_end_input, exec_socket, exit_status, frames
from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.messages import Lines
from anyconsole.drivers.ssh.fault import Fault, plain

__all__ = ["PodChannel"]

OPEN_DEADLINE: Final = 10.0
HEARTBEAT: Final = 1.0
"""Seconds between pings: an API server that answers none of them for half as long is gone."""

MAX_UNSENT: Final = 32 << 20
"""Bytes that wait to be sent. A query set is a few MiB; whoever doesn't read that much reads nothing."""


class PodChannel:
    """The agent as a process of a pod. A flood slows its sender down: nothing is read that nobody asks for."""

    def __init__(self, api: KubeApi) -> None:
        self.last_words = ""
        self._api = api
        self._socket: asyncio.Future[aiohttp.ClientWebSocketResponse] = asyncio.get_running_loop().create_future()
        self._unsent: deque[bytes] = deque()
        self._size = 0
        self._more = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, api: KubeApi, namespace: str, pod: str, container: str, program: str) -> PodChannel:
        """Start a program's command in a container. Raises KubeError."""
        return await cls.run(api, namespace, pod, container, bootstrap(program)[0], f"load {program}")

    @classmethod
    async def run(cls, api: KubeApi, namespace: str, pod: str, container: str, command: str, what: str) -> PodChannel:
        """Start a shell's command in a container; errors call it `what`. Raises KubeError."""
        channel = cls(api)
        where = f"{api.name}: {namespace}/{pod}"
        query: dict[str, Value] = {"stdin": True, "stdout": True, "stderr": True, "command": ["/bin/sh", "-c", command]}
        opening = exec_socket(api, namespace, pod, container, query, heartbeat=HEARTBEAT)
        channel._task = asyncio.create_task(channel._hold(opening), name=f"load channel to {where}")
        try:
            async with asyncio.timeout(OPEN_DEADLINE):
                await channel._socket
        except TimeoutError:
            channel.abort()
            raise KubeError(f"{where}: {what}: no channel in time", fault=Fault.TIMEOUT) from None
        except BaseException:
            channel.abort()
            raise
        return channel

    def write(self, data: bytes) -> None:
        """Send, without waiting. What nobody reads ends the channel."""
        if self._is_closing or self._task is None or self._task.done():
            return
        self._size += len(data)
        if self._size > MAX_UNSENT:
            self.last_words = f"it doesn't read: {self._size} bytes wait to be sent"
            self.abort()
            return
        self._unsent.append(data)
        self._more.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """What the agent says. Raises MessageError if a line is too long."""
        lines = Lines()
        async for stream, data in frames(await self._socket):
            match stream:
                case Stream.STDOUT:
                    for line in lines.feed(data):
                        yield line
                case Stream.STDERR:
                    self._say(data.decode("utf-8", "replace"))
                case Stream.OUTCOME:
                    self._say(self._outcome(data))
                    break
        else:
            self._say("" if self._is_closing else "the connection to its pod was lost")
        self.abort()

    def close(self) -> None:
        """End its input."""
        self._is_closing = True
        self._more.set()

    def abort(self) -> None:
        """Let go of the channel without waiting: the end of its input is what silences it."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()

    def _say(self, words: str) -> None:
        self.last_words = plain(f"{self.last_words} {words}".strip()[-600:])

    def _outcome(self, data: bytes) -> str:
        try:
            status = exit_status(self._api, data)
        except KubeError as error:
            return str(error)
        return f"ended with status {status}" if status else ""

    async def _hold(self, opening: AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]) -> None:
        """Open the socket and send what there is to send. It is closed when this is cancelled, or can't go on."""
        try:
            async with opening as socket:
                if self._socket.done():  # nobody waits for it any more
                    return
                self._socket.set_result(socket)
                while await self._next():
                    data = self._unsent.popleft()
                    for start in range(0, len(data), PIECE):
                        await socket.send_bytes(bytes((Stream.STDIN,)) + data[start : start + PIECE])
                    self._size -= len(data)
                if can_end_input(socket):
                    await socket.send_bytes(CLOSE_STDIN)
                    await asyncio.Event().wait()  # it may have something to say yet
        except (aiohttp.ClientError, ConnectionError) as error:
            self._say(f"connection lost ({str(error) or type(error).__name__})")
        except KubeError as error:
            if not self._socket.done():
                self._socket.set_exception(error)

    async def _next(self) -> bool:
        """Wait for something to send; False if nothing will come any more."""
        while not self._unsent:
            if self._is_closing:
                return False
            self._more.clear()
            await self._more.wait()
        return True
