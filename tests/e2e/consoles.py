"""Consoles that a test sees a change through: one that watches all the while, and one that is struck in the middle of its own change."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeVar, cast

from anyconsole.actions.journal_record import JournalledChange
from anyconsole.engine.client import EngineClient, EngineState
from anyconsole.model.facts import Exported
from anyconsole.profile import load_profile
from tests.e2e.struck import STRUCK, Boundary, Strike

__all__ = ["StruckConsole", "Watching"]

_PATIENCE = 30.0

_T = TypeVar("_T")


class Watching:
    """A console that is there before, during and after: its engine in a process, its screen in a thread of this one."""

    def __init__(self, profile: Path) -> None:
        self.client = EngineClient(load_profile(str(profile)))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="watching console")
        self._running: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._running = cast("asyncio.Future[None]", asyncio.run_coroutine_threadsafe(self.client.run(), self._loop))
        end = time.monotonic() + _PATIENCE
        while self.client.state is not EngineState.LIVE:
            assert time.monotonic() < end, self.client.state_detail
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        others = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=_PATIENCE)

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    def ask(self, op: str, **args: str) -> str:
        """Ask its engine."""
        return self._do(self.client.ask(op, **args))

    def exports(self, change: JournalledChange) -> set[Exported]:
        """What it sees exported for the announcements of a change."""
        return {
            export.exported
            for c in change.plan.steps[0].changes
            if (export := self.client.store.export(c.node, c.speaker, c.session, c.prefix)) is not None
        }


class StruckConsole:
    """A console in a process of its own, and what it says on standard error. `struck.py` is its program."""

    def __init__(self, argv: Sequence[str], boundary: Boundary, strike: Strike) -> None:
        self.boundary = boundary
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.struck", str(boundary), strike, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self.stdout = ""
        self._struck = threading.Event()
        self._readers = [threading.Thread(target=read) for read in (self._read, self._read_result)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        for line in cast("IO[str]", self.process.stderr):
            self.said.append(line.rstrip())
            if line.rstrip().endswith(STRUCK):  # it may come between a line of the console's and its end
                self._struck.set()
        self._struck.set()

    def _read_result(self) -> None:
        self.stdout = cast("IO[str]", self.process.stdout).read()

    def wait_for_boundary(self) -> bool:
        """Until it stands still at its boundary; False if it never came there."""
        assert self._struck.wait(3 * _PATIENCE), self.said
        return any(line.endswith(STRUCK) for line in self.said)

    def go_on(self) -> None:
        """Let it go on."""
        pipe = cast("IO[str]", self.process.stdin)
        pipe.write("\n")
        pipe.flush()

    def wait(self) -> int:
        """Its exit status."""
        try:
            self.process.wait(4 * _PATIENCE)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            for reader in self._readers:
                reader.join()
            for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                cast("IO[str]", pipe).close()
        return int(self.process.returncode)

    @property
    def last_words(self) -> str:
        """The end of what it said; a refusal is told on standard output alone."""
        return " | ".join(self.said[-4:]) or self.stdout[-1000:]
