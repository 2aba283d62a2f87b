"""The record of a load test while it runs: what happens is kept as it happens, and written in a thread when there is time for it.

So a slow disk holds up neither the load nor a stop. What is written is `files`' and `rows`' to say.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping

from anyconsole.actions.load.files import RunFile
from anyconsole.actions.load.record import InstanceSecond, Result
from anyconsole.model.load import Counts, Trial, Verdict

__all__ = ["Recording"]


class Recording:
    """A run's file, and what isn't in it yet. `second` and `note` only remember; the others write and raise LoadError."""

    def __init__(self, file: RunFile, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._unwritten: deque[Callable[[], None]] = deque()
        self._writing = threading.Lock()

    def second(self, at: float, counts: Counts, instances: Mapping[str, InstanceSecond]) -> None:
        """A second that began at `at` (epoch seconds), and what the instances did in it."""
        self._unwritten.append(lambda: self._file.periodic(at, counts, instances))

    def note(self, msg: str, msg_type: str, *, who: str = "", rate: float | None = None) -> None:
        """Something happens now."""
        at = self._clock()
        self._unwritten.append(lambda: self._file.event(msg, msg_type, who=who, rate=rate, at=at))

    async def flush(self) -> None:
        """Write what has come: whatever becomes of this console, it is on record."""
        if self._unwritten:
            await asyncio.to_thread(self._write)

    def _write(self) -> None:
        with self._writing:  # whoever was cancelled while it waited has left its thread at it
            while self._unwritten:
                self._unwritten[0]()
                self._unwritten.popleft()

    async def trial(self, trial: Trial, verdict: Verdict) -> None:
        """A trial that is over, after all that came before it."""
        if trial.counts.sent and not trial.seconds:
            self._unwritten.append(
                lambda: self._file.periodic(trial.began_at, trial.counts, seconds=trial.order.seconds)
            )
        self._unwritten.append(lambda: self._file.trial(trial, verdict))
        await self.flush()

    async def end(self, result: Result) -> None:
        """What was found; the file is complete then."""
        self._unwritten.append(lambda: self._file.end(result))
        await self.flush()
