"""A channel to a load agent on this machine, if need be in another network namespace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Self

from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.messages import Lines

__all__ = ["LocalChannel"]


class LocalChannel:
    """The agent as a child of this process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("a process without pipes")
        self.process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self.last_words = ""

    @classmethod
    async def open(cls, prefix: Sequence[str] = (), program: str = "agent") -> Self:
        """Start a program's command; `prefix` goes before it, like `ip netns exec NAME`. Raises OSError."""
        pipe = asyncio.subprocess.PIPE
        command, _ = bootstrap(program)
        argv = [*prefix, "/bin/sh", "-c", command]
        return cls(await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe))

    def write(self, data: bytes) -> None:
        """Send, without waiting."""
        if not self._stdin.is_closing():
            self._stdin.write(data)

    async def lines(self) -> AsyncIterator[bytes]:
        """What the agent says. Raises MessageError if a line is too long."""
        lines = Lines()
        while data := await self._stdout.read(65536):
            for line in lines.feed(data):
                yield line
        self.last_words = (await self._stderr.read(4096)).decode("utf-8", "replace")[-300:]

    def close(self) -> None:
        """End its input."""
        self._stdin.close()

    def abort(self) -> None:
        """Kill it."""
        self.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
