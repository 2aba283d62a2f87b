"""A console that is struck at one boundary of its change, in a process of its own.

    python -m tests.e2e.struck BOUNDARY STRIKE headless ARGS...           the command line, engine in its process
    python -m tests.e2e.struck BOUNDARY STRIKE screen PROFILE NODE TENANT REASON   what a screen does, engine in another process
    python -m tests.e2e.struck BOUNDARY STRIKE engine FD                  that engine; never started by hand

A boundary is just before or just after a record is written to the journal, or in the middle of a script on the node. What happens there
is a SIGKILL, or that the console says so on standard error and stands still until it is sent a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, Self
from unittest import mock

import msgspec

from anyconsole.actions.drain import DrainRequest, Level
from anyconsole.actions.guards import asked
from anyconsole.actions.journal import ChangeJournal
from anyconsole.actions.judge import judge
from anyconsole.actions.plan import Plan
from anyconsole.actions.run import RunState
from anyconsole.drivers.ssh.execute import Completed
from anyconsole.engine.client import EngineClient, EngineError, EngineState
from anyconsole.engine.core import FleetEngine
from anyconsole.profile import load_profile

__all__ = ["STRUCK", "Boundary", "Strike"]

STRUCK = "struck"
"""What a console says that stands still at its boundary."""

_IN_THE_MIDDLE = 0.12
"""Seconds after a script was sent: it takes about twice that."""

_PATIENCE = 40.0


class Boundary(NamedTuple):
    """Where in a change: `place` is before, after or during; `event` as in the journal; `step` counts from 0."""

    place: str
    event: str
    step: int = 0

    @classmethod
    def of(cls, text: str) -> Self:
        """What `str` made a word of."""
        place, event, step = text.split("-")
        return cls(place, event, int(step))

    def __str__(self) -> str:
        return f"{self.place}-{self.event}-{self.step}"


class Strike(StrEnum):
    """What happens at the boundary."""

    KILL = "kill"
    """SIGKILL of the process that writes the journal."""
    KILL_SCREEN = "kill-screen"
    """SIGKILL of the screen; the engine lives on."""
    KILL_BOTH = "kill-both"
    TELL = "tell"
    """Say so, and go on when a line comes."""

    def __call__(self) -> None:
        """Strike this process, or its screen."""
        if self in (Strike.KILL_SCREEN, Strike.KILL_BOTH):
            os.kill(os.getppid(), signal.SIGKILL)
        if self in (Strike.KILL, Strike.KILL_BOTH):
            os.kill(os.getpid(), signal.SIGKILL)
        if self is Strike.TELL:
            print(STRUCK, file=sys.stderr, flush=True)
            sys.stdin.readline()


def _arm(boundary: Boundary, strike: Callable[[], None]) -> contextlib.ExitStack:
    """Strike once, when this process comes to the boundary."""
    record, execute = ChangeJournal.record, FleetEngine.execute
    sent = itertools.count()
    left = [strike]

    def at(place: str, event: str, step: int) -> None:
        if left and (place, event, step) == boundary:
            left.pop()()

    def recorded(self: ChangeJournal, kind: str, **fields: Any) -> None:  # noqa: ANN401 - as it is declared
        event, step = str(fields.get("event", kind)), int(fields.get("step", 0))
        at("before", event, step)
        record(self, kind, **fields)
        at("after", event, step)

    async def executed(self: FleetEngine, host: str, script: str, deadline: float) -> Completed:
        step, is_confirmation = divmod(next(sent), 2)
        running = asyncio.ensure_future(execute(self, host, script, deadline))
        if boundary.place == "during":
            await asyncio.sleep(_IN_THE_MIDDLE)
            await asyncio.to_thread(at, "during", "confirmed" if is_confirmation else "applied", step)
        return await running

    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(ChangeJournal, "record", recorded))
    stack.enter_context(mock.patch.object(FleetEngine, "execute", executed))
    return stack


async def _screen(profile: str, node: str, tenant: str, reason: str) -> int:
    """Plan, arm and start a drain as a screen does, and wait for its end."""
    client = EngineClient(load_profile(profile))
    running = asyncio.create_task(client.run())
    end = time.monotonic() + _PATIENCE
    while client.state is not EngineState.LIVE:
        assert time.monotonic() < end, client.state_detail
        await asyncio.sleep(0.1)
    request = DrainRequest(level=Level.SOFT_THEN_HARD, nodes=(node,), tenants=(tenant,), reason=reason)
    while True:
        text = await client.ask("plan", action="drain", request=msgspec.json.encode(request).decode())
        # Other nodes may be struck right now: this one, with its traffic, is all that must have been seen. Prometheus tells that of
        # before the last strike.
        if not msgspec.json.decode(text, type=Plan).missing and client.store.rates(node, tenant, "probe") is not None:
            break
        assert time.monotonic() < end, text
        await asyncio.sleep(0.5)
    await client.ask("arm", seconds="600")
    looked_at = asked(judge(client.store, msgspec.json.decode(text, type=Plan), time.time()))
    acknowledged = msgspec.json.encode(dict.fromkeys(("capacity", "clock"), "a strike") | looked_at).decode()
    run_id = await client.ask("start", plan=text, overrides='{"regions": "asked to"}', acknowledged=acknowledged)
    while run_id not in client.runs or client.runs[run_id].state is not RunState.ENDED:
        run = client.runs.get(run_id)
        if run is not None and run.question is not None:
            with contextlib.suppress(EngineError):  # it may be asked no longer: its traffic left meanwhile
                await client.ask("answer", run=run_id, question=str(run.question.id), answer="go")
        await asyncio.sleep(0.5)
    print(client.runs[run_id].outcome)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return 0


def main(argv: list[str]) -> int:
    """Be the console that is meant."""
    boundary, strike, mode, *args = argv
    if mode == "screen":
        start = subprocess.Popen

        def started(command: list[str], **how: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - Popen's
            """The engine, armed as well."""
            return start([*command[:2], "tests.e2e.struck", boundary, strike, "engine", command[-1]], **how)

        with mock.patch.object(subprocess, "Popen", started):
            return asyncio.run(_screen(*args))
    with _arm(Boundary.of(boundary), Strike(strike)):
        if mode == "engine":
            from anyconsole.engine import server
            from anyconsole.logs import log_to_file

            log_to_file("engine")
            return server.main(args)
        from anyconsole import cli

        return cli.main(args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
