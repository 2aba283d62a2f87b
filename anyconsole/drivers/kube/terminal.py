"""What runs in a pod: a command and its exit code, a shell on our terminal, and what a container logged.

Exec is a WebSocket of channels (`v5.channel.k8s.io`, `v4.channel.k8s.io`): 0 to 2 are the standard streams, 3 says how it ended, 4 is the
size of the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
import tty
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from enum import IntEnum
from typing import Final

import aiohttp
import msgspec

from anyconsole.drivers.kube.access import KubeApi, Object
from anyconsole.drivers.kube.connection import Value
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.values import parts
from anyconsole.drivers.ssh.execute import Completed
from anyconsole.drivers.ssh.fault import Fault, plain
from anyconsole.model.pods import Permission

__all__ = [
    "CLOSE_STDIN",
    "PIECE",
    "Stream",
    "attach",
    "can_end_input",
    "exec_socket",
    "execute",
    "exit_status",
    "frames",
    "logs",
]

MAX_OUTPUT: Final = 1 << 20
_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
CLOSE_STDIN: Final = b"\xff\x00"
"""Ends the command's input, where `can_end_input`."""

PIECE: Final = 32768
"""Bytes that are sent at once at most."""

_HEARTBEAT: Final = 20.0


class Stream(IntEnum):
    """The channels of an exec: the first byte of each message."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    OUTCOME = 3
    """How the command ended, as a Status object."""
    RESIZE = 4


async def execute(
    api: KubeApi,
    namespace: str,
    pod: str,
    container: str,
    argv: Sequence[str],
    deadline: float,
    stdin: bytes | None = None,
) -> Completed:
    """Run a command in a container; no shell reads it.

    Args:
        api: The cluster.
        namespace: The pod's.
        pod: Its name.
        container: Which of its containers, "" for the only or default one.
        argv: The command.
        deadline: Seconds after which we stop listening. Kubernetes has no way to stop the command itself.
        stdin: What it reads; None for no standard input at all.

    Raises:
        KubeError: It could not be started, or how it ended isn't known (`maybe_done`).
    """
    outputs: dict[int, bytearray] = {Stream.STDOUT: bytearray(), Stream.STDERR: bytearray()}
    truncated = False
    unknown = f"{api.name}: {namespace}/{pod}: {plain(argv[0] if argv else '', 80)}"
    query: dict[str, Value] = {"stdout": True, "stderr": True, "stdin": stdin is not None, "command": argv}
    try:
        async with asyncio.timeout(deadline), exec_socket(api, namespace, pod, container, query) as socket:
            if stdin is not None and not can_end_input(socket):
                raise KubeError(f"{api.name}: this server can't end a command's input (before Kubernetes 1.30)")
            feeding = asyncio.create_task(_feed(socket, stdin)) if stdin is not None else None
            try:
                async for channel, data in frames(socket):
                    if channel == Stream.OUTCOME:
                        return Completed(
                            exit_status=exit_status(api, data),
                            stdout=bytes(outputs[Stream.STDOUT]),
                            stderr=bytes(outputs[Stream.STDERR]),
                            truncated=truncated,
                        )
                    if (output := outputs.get(channel)) is not None:
                        room = MAX_OUTPUT - len(output)
                        truncated = truncated or len(data) > room
                        output += data[:room]
            finally:
                await _cancelled(feeding)
    except TimeoutError:
        raise KubeError(f"{unknown} was not finished in {deadline:g} s", fault=Fault.TIMEOUT, maybe_done=True) from None
    raise KubeError(f"{unknown}: the connection ended before the command", fault=Fault.LOST, maybe_done=True)


async def attach(
    api: KubeApi, namespace: str, pod: str, container: str, argv: Sequence[str], stdin_fd: int, stdout_fd: int
) -> int:
    """Run a command on a terminal of ours until it ends, in raw mode and with the terminal's size. Returns its exit status.

    For a process of its own: it takes the signal that tells of a new size.

    Raises:
        KubeError: It could not be started, or the connection ended first.
    """
    query: dict[str, Value] = {"stdin": True, "stdout": True, "tty": True, "command": argv}
    async with exec_socket(api, namespace, pod, container, query, heartbeat=_HEARTBEAT) as socket:
        with _raw(stdin_fd):
            talking = asyncio.create_task(_talk(socket, stdin_fd, stdout_fd))
            try:
                async for channel, data in frames(socket):
                    if channel == Stream.OUTCOME:
                        return exit_status(api, data)
                    if channel in {Stream.STDOUT, Stream.STDERR}:
                        # Our terminal may be slower than the pod; the loop isn't to wait for it.
                        await asyncio.to_thread(_write, stdout_fd, data)
            finally:
                await _cancelled(talking)
    raise KubeError(f"{api.name}: {namespace}/{pod}: the connection ended", fault=Fault.LOST)


async def logs(
    api: KubeApi,
    namespace: str,
    pod: str,
    container: str = "",
    *,
    follow: bool = False,
    previous: bool = False,
    tail: int | None = None,
    timestamps: bool = False,
) -> AsyncGenerator[bytes, None]:
    """What a container logged, as it comes; with `follow` until the iterator is closed or the container ends.

    Args:
        api: The cluster.
        namespace: The pod's.
        pod: Its name.
        container: Which of its containers, "" for the only or default one.
        follow: Go on with what it says from now on.
        previous: The log of before its last restart.
        tail: Only so many last lines.
        timestamps: Each line begins with its time.

    Raises:
        KubeError: There is no such log, with the server's words, or the connection was lost.
    """
    query: dict[str, Value] = {"follow": follow, "previous": previous, "timestamps": timestamps}
    query |= {"container": container} if container else {}
    query |= {"tailLines": tail} if tail is not None else {}
    async with contextlib.aclosing(api.chunks(f"{_path(namespace, pod)}/log", query)) as chunks:
        async for chunk in chunks:
            yield chunk


def _path(namespace: str, pod: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{pod}"


@asynccontextmanager
async def exec_socket(
    api: KubeApi,
    namespace: str,
    pod: str,
    container: str,
    query: dict[str, Value],
    heartbeat: float | None = None,
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """The socket of a command that was started in a container, closed with the context. `query` says what is run, with which streams.

    Raises:
        KubeError: It could not be started.
    """
    if container:
        query["container"] = container
    opening = api.socket(f"{_path(namespace, pod)}/exec", query, _PROTOCOLS, heartbeat=heartbeat)
    try:
        socket = await opening.__aenter__()
    except KubeError as error:
        raise await _explained(api, error, namespace, pod, container) from None
    try:
        if socket.protocol not in _PROTOCOLS:
            raise KubeError(f"{api.name}: the server speaks no exec protocol that we know")
        yield socket
    finally:
        await opening.__aexit__(None, None, None)


async def _explained(api: KubeApi, error: KubeError, namespace: str, pod: str, container: str) -> KubeError:
    """A refused handshake tells nothing but a number: the pod, or what we may do with it, tells the rest."""
    if not error.status:
        return error
    try:
        if error.status == 403:
            # Before Kubernetes 1.35 `get` was enough for a WebSocket.
            missing = Permission(verb="create", resource="pods/exec", namespace=namespace)
            if not await api.may(missing):
                return KubeError(f"{api.name}: no permission to {missing}", status=403, reason="Forbidden")
        why = _why_not(await api.get(_path(namespace, pod)), container)
    except KubeError as other:
        return other if other.status == 404 else error
    return KubeError(f"{api.name}: {namespace}/{pod}: {why}", status=error.status) if why else error


def _why_not(pod: Object, container: str) -> str:
    """Why nothing can be run in a pod, "" if nothing speaks against it."""
    match pod:
        case {"metadata": dict(metadata), "spec": dict(spec), "status": dict(status)}:
            pass
        case _:
            return ""
    kinds = ("containers", "initContainers", "ephemeralContainers")
    names = [str(container.get("name")) for kind in kinds for container in parts(spec, kind)]
    if container and container not in names:
        return f"there is no container {container}; there are {', '.join(names)}"
    if not spec.get("nodeName"):
        return "the pod is on no node yet"
    kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    for told in (one for kind in kinds for one in parts(status, kind)):
        state = told.get("state")
        if isinstance(state, dict) and "running" not in state and container in {"", told.get("name")}:
            reasons = [str(s.get("reason")) for s in state.values() if isinstance(s, dict)]
            return f"container {told.get('name')} isn't running: {', '.join(reasons) or status.get('phase')}"
    if metadata.get("deletionTimestamp"):
        return "the pod is being deleted"
    if not container and len(parts(spec, "containers")) > 1:
        return f"it has several containers, name one: {', '.join(names)}"
    return ""


def can_end_input(socket: aiohttp.ClientWebSocketResponse) -> bool:
    """Whether the server can end a command's input without ending the connection (Kubernetes 1.30 and later)."""
    return socket.protocol == _PROTOCOLS[0]


async def frames(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[tuple[int, bytes]]:
    """(channel, data) until the connection ends."""
    async for message in socket:
        data = message.data.encode() if message.type is aiohttp.WSMsgType.TEXT else message.data
        if message.type in {aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT} and len(data) > 1:
            yield data[0], data[1:]


def exit_status(api: KubeApi, data: bytes) -> int:
    """What `Stream.OUTCOME` says.

    Raises:
        KubeError: The command was never started.
    """
    try:
        status = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        status = None
    match status:
        case {"status": "Success"}:
            return 0
        case {"reason": "NonZeroExitCode", "details": {"causes": list(causes)}}:
            for cause in causes:
                match cause:
                    case {"reason": "ExitCode", "message": str(code)} if code.isascii() and code.isdigit():
                        return int(code[:5])
        case dict():
            raise api.told(status)
    raise KubeError(f"{api.name}: the server doesn't say how the command ended", maybe_done=True)


async def _feed(socket: aiohttp.ClientWebSocketResponse, data: bytes) -> None:
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        for start in range(0, len(data), PIECE):
            await socket.send_bytes(bytes((Stream.STDIN,)) + data[start : start + PIECE])
        if can_end_input(socket):
            await socket.send_bytes(CLOSE_STDIN)


async def _talk(socket: aiohttp.ClientWebSocketResponse, stdin_fd: int, stdout_fd: int) -> None:
    """Send what is typed, and the terminal's size whenever it changes."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    resized = asyncio.Event()
    resized.set()
    loop.add_signal_handler(signal.SIGWINCH, resized.set)

    def typed() -> None:
        # Only asked for when it is waited for: a read without anything to be read would stop the loop.
        loop.remove_reader(stdin_fd)
        ready.set()

    async def resize() -> None:
        while True:
            await resized.wait()
            resized.clear()
            if (size := _size(stdout_fd)) is not None:
                told = msgspec.json.encode({"Width": size[0], "Height": size[1]})
                await socket.send_bytes(bytes((Stream.RESIZE,)) + told)

    sizing = asyncio.create_task(resize())
    try:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while True:
                ready.clear()
                loop.add_reader(stdin_fd, typed)
                await ready.wait()
                if not (data := os.read(stdin_fd, PIECE)):
                    break
                await socket.send_bytes(bytes((Stream.STDIN,)) + data)
            if can_end_input(socket):
                await socket.send_bytes(CLOSE_STDIN)
            await sizing
    finally:
        loop.remove_reader(stdin_fd)
        loop.remove_signal_handler(signal.SIGWINCH)
        await _cancelled(sizing)


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """A terminal that hands on each key, and is as before afterwards."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _size(fd: int) -> tuple[int, int] | None:
    """Columns and rows of a terminal."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return None
    return (columns, rows) if columns and rows else None


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
