"""Trials of the agents that run another program, as generators of an engine or alone; when they fell silent, and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import msgspec

from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.generator import Generator, Generators
from anyconsole.drivers.load.local_channel import LocalChannel
from anyconsole.drivers.load.messages import Failure, Hello, Message, Setup, Tick, command, decode
from anyconsole.model.load import Order, Phase
from benchmarks.wire import Wire


def order(rate: float, seconds: float = 4.0) -> Order:
    return Order(phase=Phase.FIXED, rate=rate, seconds=seconds)


@contextlib.asynccontextmanager
async def running(
    program: str, told: Setup, queries: str, prefix: list[str], seen: list[Message] | None = None
) -> AsyncIterator[tuple[Generators, LocalChannel]]:
    channel = await LocalChannel.open(prefix, program)
    watch = None if seen is None else (lambda _, what: seen.append(what))
    async with Generators([Generator("gen1", channel, told, queries, watch, program=program)]) as generators:
        yield generators, channel


async def silent_after(wire: Wire, since: float) -> float:
    """Seconds from `since` until the last query arrived."""
    last, changed = wire.delivered(), time.monotonic()
    while time.monotonic() - changed < 0.5:
        await asyncio.sleep(0.002)
        if (now := wire.delivered()) != last:
            last, changed = now, time.monotonic()
    return changed - since


async def flowing(wire: Wire) -> None:
    before = wire.delivered()
    async with asyncio.timeout(10):
        while wire.delivered() < before + 100:
            await asyncio.sleep(0.01)


def gone(pids: list[int]) -> bool:
    def ended(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    deadline = time.monotonic() + 5
    while not all(map(ended, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Alone:
    """The agent without an engine that keeps it alive."""

    def __init__(self, program: str, wire: Wire, told: Setup) -> None:
        start, code = bootstrap(program)
        self.process = subprocess.Popen(
            [*wire.client, "/bin/sh", "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.say(code)
        self.prepare = command("prepare", **msgspec.to_builtins(told), queries=wire.queries)
        self.say(self.prepare)
        assert isinstance(self.hear(), Hello)
        self.ready = self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)

    def say(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hear(self) -> Message:
        assert self.process.stdout is not None
        return decode(self.process.stdout.readline())

    def trial(self, rate: float, seconds: float) -> None:
        self.say(command("trial", number=1, rate=rate, seconds=seconds, prime_rate=0, prime_seconds=0))

    def refusal(self) -> str:
        while not isinstance(said := self.hear(), Failure):
            assert isinstance(said, Tick), said
        return said.why
