"""The screen's side of the engine: starts the engine process, keeps a replica of its store, and brings it back when it dies.

This is all that the screen sees of the engine; it imports no transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum

import msgspec

from anyconsole.actions.journal_record import ChangeSummary
from anyconsole.actions.run import Outcome, Run, RunState
from anyconsole.engine import frames
from anyconsole.errors import AnyconsoleError
from anyconsole.model.events import Event
from anyconsole.model.inventory import Inventory
from anyconsole.model.load_view import LoadView
from anyconsole.model.store import ChangeSet, FleetStore

__all__ = ["EngineClient", "EngineError", "EngineState"]

_log = logging.getLogger(__name__)

_EVENTS_KEPT = 5000
_ANSWER_TIMEOUT = 15.0
_EXIT_TIMEOUT = 3.0
_STREAM_BACKLOG = 2000


class EngineError(AnyconsoleError):
    """The engine could not answer; the message is fit for the message line."""


class EngineState(StrEnum):
    """What the engine process is doing."""

    STARTING = "starting"
    LIVE = "live"
    LOST = "lost"


Listener = Callable[[ChangeSet, Sequence[Event]], None]


class EngineClient:
    """Owns the engine process and the replica of its store. Only this class applies frames to the replica."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.store = FleetStore(inventory)
        self.events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self.state = EngineState.STARTING
        self.state_detail = ""
        self.lag = 0.0
        self.runs: dict[str, Run] = {}
        self.loads: dict[tuple[str, str], LoadView] = {}
        self.changes: Sequence[ChangeSummary] = ()
        self.armed_until = 0.0
        self.pid: int | None = None
        self._listeners: list[Listener] = []
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[frames.Answer]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def listen(self, callback: Listener) -> None:
        """Call `callback` on the loop after every frame and every change of `state`, four times a second at most."""
        self._listeners.append(callback)

    # --- the process

    async def run(self) -> None:
        """Keep an engine process running until cancelled; a dead one is replaced after 0.5 s, then ever later, up to 10 s."""
        failures = 0
        try:
            while True:
                started = time.monotonic()
                why = await self._run_once()
                failures = 0 if time.monotonic() - started > 30 else failures + 1
                delay = min(10.0, 0.5 * 2 ** (failures - 1)) if failures else 0.5
                self._become(EngineState.LOST, f"{why}, restarting in {delay:.0f} s")
                await asyncio.sleep(delay)
        finally:
            await self.close()

    async def _run_once(self) -> str:
        """One life of an engine process; returns how it ended."""
        self._process = None
        try:
            self._process, ours = await self._start()
        except OSError as error:  # no process or no descriptor left: that may pass
            return f"the engine can't be started ({error.strerror or error})"
        self.pid = self._process.pid
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        try:
            frames.write(self._writer, frames.Hello(self.inventory))
            decoder = msgspec.msgpack.Decoder(frames.FromEngine)
            while (body := await frames.read(reader)) is not None:
                self._take(decoder.decode(body))
        except (frames.FrameError, msgspec.DecodeError) as error:
            _log.warning("engine %s: %s", self.pid, error)
        finally:
            self._fail_waiting("the engine is gone")
            self._lose_runs()
            self._writer.close()
            self._writer = None
            await self._reap()
        return self._how_it_ended()

    async def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """A new engine process and our end of the socket to it. Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                # Not asyncio's: its transport kills the child when it is collected, and a running change must outlive us.
                process = await asyncio.to_thread(
                    subprocess.Popen,
                    [sys.executable, "-m", "anyconsole.engine", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # the terminal's ctrl-c and hang-up are the screen's to handle
                )
        except BaseException:
            ours.close()
            raise
        return process, ours

    async def _reap(self) -> None:
        process = self._process
        if process is None:
            return
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None and self.is_changing:
                return  # it exits by itself once its changes have come to their end
            if number is not None:
                process.send_signal(number)
            end = time.monotonic() + _EXIT_TIMEOUT
            while time.monotonic() < end:
                if process.poll() is not None:
                    return
                await asyncio.sleep(0.02)

    @property
    def is_changing(self) -> bool:
        """True while a change that this console began isn't ended."""
        return any(run.state is not RunState.ENDED for run in self.runs.values())

    def _how_it_ended(self) -> str:
        code = self._process.returncode if self._process else None
        if code is None:
            return "the engine does not answer"
        if code < 0:
            return f"the engine was ended by {signal.Signals(-code).name}"
        return f"the engine exited with {code}"

    def _become(self, state: EngineState, detail: str = "") -> None:
        self.state, self.state_detail = state, detail
        self._tell(ChangeSet(frozenset(), frozenset(), frozenset()), ())

    def _tell(self, changes: ChangeSet, events: Sequence[Event]) -> None:
        for callback in self._listeners:
            callback(changes, events)

    def _take(self, frame: frames.FromEngine) -> None:
        match frame:
            case frames.Ready():
                # A fact that vanished while no engine ran would look fresh for ever beside its neighbours.
                self._tell(self.store.forget(), ())
                self._become(EngineState.LIVE)
            case frames.Delta(updates=updates, events=events, lag=lag):
                self.lag = lag
                self.events.extend(events)
                self.runs.update((run.id, run) for run in frame.runs)
                self.loads.update(((view.run, view.target), view) for view in frame.loads)
                self.armed_until = frame.armed_until
                if frame.changes is not None:
                    self.changes = frame.changes
                self._tell(self.store.apply(updates), events)
            case frames.Answer(id=number):
                queue = self._waiting.get(number)
                if queue is not None and (frame.done or queue.qsize() < _STREAM_BACKLOG):
                    queue.put_nowait(frame)  # a log that floods a paused view loses lines, not our memory

    def _lose_runs(self) -> None:
        """The engine died in the middle of these: what became of them is in the journal and on the nodes."""
        if self._process is None or self._process.poll() is None:
            return
        for run in self.runs.values():
            if run.state is not RunState.ENDED:
                words = "the engine was lost: nodes take back what was not confirmed; the journal (8) has it as an open change"
                self.runs[run.id] = msgspec.structs.replace(
                    run, state=RunState.ENDED, outcome=Outcome.UNKNOWN, words=words, ended_at=time.time(), question=None
                )

    def _fail_waiting(self, why: str) -> None:
        for number, queue in self._waiting.items():
            queue.put_nowait(frames.Answer(number, done=True, error=why))

    # --- questions

    async def ask(self, op: str, **args: str) -> str:
        """Ask the engine; `FleetEngine.ask` has the list. Raises EngineError."""
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                text = [piece async for piece in self.follow(op, **args)]
        except TimeoutError as error:
            raise EngineError(f"{op}: no answer within {_ANSWER_TIMEOUT:.0f} s") from error
        return "".join(text)

    async def shell_argv(self, node: str) -> list[str]:
        """The user's own ssh command to a node. Raises EngineError."""
        argv: list[str] = json.loads(await self.ask("shell", node=node))
        return argv

    async def follow(self, op: str, **args: str) -> AsyncIterator[str]:
        """Pieces of a stream as they come: log (node, path). Raises EngineError when it ends badly."""
        if self._writer is None:
            raise EngineError(f"{op}: the engine is not running")
        number = next(self._numbers)
        queue: asyncio.Queue[frames.Answer] = asyncio.Queue()
        self._waiting[number] = queue
        done = False
        try:
            frames.write(self._writer, frames.Ask(number, op, args))
            while True:
                answer = await queue.get()
                done = answer.done
                if answer.error:
                    raise EngineError(answer.error)
                if answer.text:
                    yield answer.text
                if done:
                    return
        finally:
            del self._waiting[number]
            if not done and self._writer is not None:
                frames.write(self._writer, frames.Cancel(number))

    async def close(self) -> None:
        """Ask the engine to exit and wait for it; within seconds it is gone either way."""
        if self._writer is not None:
            with contextlib.suppress(ConnectionError):
                frames.write(self._writer, frames.Bye())
                self._writer.close()
        await self._reap()
