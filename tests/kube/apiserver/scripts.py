"""What the test scripts: how pods answer exec, logs and ports, how they live, and what is behind a Service's name.

Hooks are found by namespace and a shell pattern of the pod's name; the newest that fits wins. They run in the server's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from tests.kube.apiserver.objects import Object, now

T = TypeVar("T")


class ExecCall:
    """One exec: what was asked, what comes in, where output goes."""

    def __init__(
        self,
        namespace: str,
        pod: str,
        container: str,
        argv: list[str],
        tty: bool,
        send: Callable[[int, bytes], Awaitable[None]],
    ) -> None:
        self.namespace = namespace
        self.pod = pod
        self.container = container
        self.argv = argv
        self.tty = tty
        self.size: tuple[int, int] | None = None
        """Width and height of the client's terminal, as it last said."""
        self._input: asyncio.Queue[bytes] = asyncio.Queue()
        self._send = send

    async def read(self) -> bytes:
        """The next piece of standard input; nothing when it has ended."""
        return await self._input.get()

    def feed(self, data: bytes) -> None:
        """Standard input from the client."""
        self._input.put_nowait(data)

    async def out(self, data: bytes) -> None:
        """Standard output."""
        await self._send(1, data)

    async def err(self, data: bytes) -> None:
        """Standard error; on a terminal there is only one stream."""
        await self._send(1 if self.tty else 2, data)


ExecHook = Callable[[ExecCall], Awaitable[int]]


class JobRun(msgspec.Struct, frozen=True):
    """A Job's pod, now running: what its container was told, and the credentials that it finds mounted."""

    pod: Object
    container: Object
    token: str
    """Its service account's."""
    server: str
    ca_file: str


JobHook = Callable[[JobRun], Awaitable[int]]


class Behaviour(msgspec.Struct, frozen=True):
    """How a pod lives under the fake kubelet."""

    starts_after: float = 0.05
    """Seconds in ContainerCreating: the pull."""
    ready_after: float = 0.05
    """Seconds from running to ready."""
    stuck: str = ""
    """A reason for which it waits for ever: ImagePullBackOff, CreateContainerConfigError, ..."""
    never_ready: bool = False
    unschedulable: bool = False


class Log:
    """The output of one container."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.grown = asyncio.Event()

    def add(self, *lines: str) -> None:
        """Say something."""
        self.lines += [(now(fraction=True), line) for line in lines]
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()


class Hooks(Generic[T]):
    """Hooks of one kind."""

    def __init__(self) -> None:
        self._hooks: list[tuple[str, str, T]] = []

    def add(self, namespace: str, pattern: str, hook: T) -> None:
        """From now on."""
        self._hooks.insert(0, (namespace, pattern, hook))

    def find(self, namespace: str, name: str) -> T | None:
        """The newest that fits."""
        fits = (h for n, p, h in self._hooks if fnmatch.fnmatchcase(namespace, n) and fnmatch.fnmatchcase(name, p))
        return next(fits, None)


class Scripts:
    """Everything that is scripted in a cluster."""

    def __init__(self) -> None:
        self.execs: Hooks[ExecHook] = Hooks()
        self.jobs: Hooks[JobHook] = Hooks()
        self.lives: Hooks[Behaviour] = Hooks()
        self.ports: Hooks[dict[int, tuple[str, int]]] = Hooks()
        """For port-forward: the pod's port, and the local address behind it."""
        self.services: dict[tuple[str, str, str], str] = {}
        """For the service proxy: namespace, name and port (name or number), and the local URL behind it."""
        self._logs: dict[tuple[str, str, str, bool], Log] = {}

    def log(self, namespace: str, pod: str, container: str, previous: bool = False) -> Log:
        """The log of a container, or of the one before its last restart."""
        return self._logs.setdefault((namespace, pod, container, previous), Log())

    def has_log(self, namespace: str, pod: str, container: str, previous: bool) -> bool:
        """Whether anything was ever said there."""
        return (namespace, pod, container, previous) in self._logs


async def run_here(call: ExecCall) -> int:
    """An exec hook that really runs the command, on this machine."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*call.argv, stdin=pipe, stdout=pipe, stderr=pipe)
    except FileNotFoundError:
        await call.err(f"exec: {call.argv[0]!r}: executable file not found in $PATH".encode())
        return 127
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr

    async def feed() -> None:
        with contextlib.suppress(ConnectionError):
            while data := await call.read():
                stdin.write(data)
                await stdin.drain()
        stdin.close()

    async def pump(source: asyncio.StreamReader, to: Callable[[bytes], Awaitable[None]]) -> None:
        while data := await source.read(65536):
            await to(data)

    feeding = asyncio.create_task(feed())
    try:
        await asyncio.gather(pump(stdout, call.out), pump(stderr, call.err))
        return await process.wait()
    finally:
        feeding.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
