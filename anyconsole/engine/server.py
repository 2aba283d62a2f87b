"""The engine process: serves one screen over the socket it was started with, and exits when that socket ends.

`python -m anyconsole.engine FD` is started by `client.EngineClient`; FD is its end of a socketpair. Standard output is never used;
diagnostics go to the log file in the user's state folder.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import logging
import os
import signal
import socket
import time

import msgspec

from anyconsole import __version__
from anyconsole.engine import frames
from anyconsole.engine.core import FleetEngine
from anyconsole.errors import AnyconsoleError

__all__ = ["main"]

_log = logging.getLogger(__name__)

_FRAME_INTERVAL = 0.25
"""Least seconds between two deltas."""

_MAX_UNSENT = 8 << 20
"""Bytes a screen may be behind before deltas are held back; they coalesce meanwhile."""


class _Session:
    """One screen's session: its questions, its streams, and the deltas sent to it."""

    def __init__(self, engine: FleetEngine, writer: asyncio.StreamWriter) -> None:
        self._engine = engine
        self._writer = writer
        self._asked: dict[int, asyncio.Task[None]] = {}

    async def send_deltas(self) -> None:
        """Send what changed, four times a second at most; with nothing new only freshness goes out, once a second."""
        armed_until = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._engine.changed()
            if self._writer.transport.get_write_buffer_size() < _MAX_UNSENT:
                updates, events = self._engine.drain()
                runs, changes = self._engine.changes.take_news()
                armed = self._engine.changes.armed_until
                loads = self._engine.changes.take_loads()
                if updates or events or runs or loads or changes is not None or armed != armed_until:
                    armed_until = armed
                    delta = frames.Delta(
                        at=time.time(),
                        updates=updates,
                        events=events,
                        lag=self._engine.lag,
                        runs=runs,
                        changes=changes,
                        armed_until=armed,
                        loads=loads,
                    )
                    frames.write(self._writer, delta)
                    await self._writer.drain()
            await asyncio.sleep(_FRAME_INTERVAL)

    async def read_questions(self, reader: asyncio.StreamReader, tasks: asyncio.TaskGroup) -> None:
        """Handle questions until the screen says goodbye or is gone."""
        decoder = msgspec.msgpack.Decoder(frames.ToEngine)
        while (body := await frames.read(reader)) is not None:
            match decoder.decode(body):
                case frames.Ask(id=number, op=op, args=args):
                    task = tasks.create_task(self._answer(number, op, args), name=f"{op} {number}")
                    self._asked[number] = task
                    task.add_done_callback(lambda _, number=number: self._asked.pop(number, None))  # type: ignore[misc]
                case frames.Cancel(id=number):
                    if running := self._asked.get(number):
                        running.cancel()
                case frames.Bye():
                    return
                case frames.Hello():
                    raise frames.FrameError("a second hello")

    async def _answer(self, number: int, op: str, args: dict[str, str]) -> None:
        error = ""
        try:
            if op == "log":
                decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a chunk may end inside a character
                async with contextlib.aclosing(self._engine.follow(op, args)) as chunks:
                    async for chunk in chunks:
                        frames.write(self._writer, frames.Answer(number, decoder.decode(chunk)))
                        await self._writer.drain()
            else:
                frames.write(self._writer, frames.Answer(number, await self._engine.ask(op, args)))
        except AnyconsoleError as caught:
            error = str(caught)
        except (OSError, KeyError, TimeoutError) as caught:
            _log.exception("question %s %s", op, args)
            error = f"{op}: {type(caught).__name__}: {caught}"
        frames.write(self._writer, frames.Answer(number, done=True, error=error))


async def serve(sock: socket.socket) -> None:
    """Serve the screen at the other end of `sock` until it goes."""
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 20)
    body = await frames.read(reader)
    if body is None:
        return
    hello = msgspec.msgpack.decode(body, type=frames.Hello)
    engine = FleetEngine(hello.inventory)
    frames.write(writer, frames.Ready(os.getpid(), __version__))
    session = _Session(engine, writer)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    async def until_gone(tasks: asyncio.TaskGroup) -> None:
        serving = {
            asyncio.create_task(session.read_questions(reader, tasks), name="questions"),
            asyncio.create_task(session.send_deltas(), name="deltas"),
            asyncio.create_task(stop.wait(), name="signals"),
        }
        done, left = await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await _finish(engine, stop)
        for task in done:
            task.result()  # a fault of ours ends the engine as one, once nothing is half done
        raise _Finished

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.run(), name="engine")
            tasks.create_task(until_gone(tasks), name="until gone")
    except* (_Finished, ConnectionError):
        _log.info("the screen is gone, the engine exits")
    finally:
        writer.close()


async def _finish(engine: FleetEngine, stop: asyncio.Event) -> None:
    """Let changes come to their end; a signal from now on takes back what is unconfirmed."""
    stop.clear()
    finishing = asyncio.create_task(engine.changes.finish(), name="finish changes")
    stopping = asyncio.create_task(stop.wait(), name="signals")
    await asyncio.wait((finishing, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not finishing.done():
        engine.changes.cancel_all()
    await finishing
    stopping.cancel()


class _Finished(Exception):  # noqa: N818 - it ends the task group, nothing went wrong
    """Raised inside the task group to end it."""


def main(argv: list[str]) -> int:
    """Entry point of the engine process: `argv` is [fd]."""
    sock = socket.socket(fileno=int(argv[0]))
    try:
        asyncio.run(serve(sock))
    except Exception:  # noqa: BLE001 - the last frame of a process without a screen: whatever it was, it is logged
        _log.exception("the engine failed")
        return 1
    return 0
