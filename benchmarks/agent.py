"""Our load agent beside dnsperf, on the same wire, in the same minute: what it costs, whether it holds its rate, whether it accuses.

    .venv/bin/python -m benchmarks.agent [--runs 3] [--seconds 3] [--rates 20000 50000] [--markdown]

As root, in network namespaces of its own with NSD behind a wire. Three tables: CPU seconds per million queries sent (user and system, of
all their processes, as the kernel counts them); queries sent and loss seen where the kernel drops a known share of what arrives; and
verdicts on a healthy server of one-second trials at a tenth of what it can do, with two CPU hogs beside. An accusation is a loss above
1 % that wasn't; a void trial says that the generator, not the server, was too slow. dnsperf runs with the flags of loadtest.md, 2.3.
Takes about two and a half minutes; absolute numbers are worth what the machine was doing meanwhile, so it runs them in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from anyconsole.drivers.load.generator import Generator, Generators
from anyconsole.drivers.load.local_channel import LocalChannel
from anyconsole.drivers.load.messages import Setup
from anyconsole.model.load import Order, Phase, Verdict
from benchmarks.wire import Wire

__all__ = ["main"]

LOSSES = (0, 5, 50, 100)
LOSS_RATE = 20_000
HOGS = 2
HOG_RATE = 10_000
MAY_LOSE = 0.01

_TIMEOUT = 0.25
_PRIME = 0.2


class Shot(NamedTuple):
    """One run of one engine: queries asked for and sent, the loss it saw, CPU seconds, and its verdict."""

    asked: int
    sent: int
    loss: float
    cpu: float
    verdict: Verdict

    @property
    def cost(self) -> float:
        """CPU seconds per million queries."""
        return self.cpu / self.sent * 1e6 if self.sent else 0.0


class Row(NamedTuple):
    """What stands in a line of a table."""

    engine: str
    case: str
    shots: list[Shot]


class Ours:
    """The agent: one process, started once."""

    name = "agent"

    def __init__(self, generators: Generators, channel: LocalChannel) -> None:
        self._generators = generators
        self._channel = channel

    async def shoot(self, rate: int, seconds: float) -> Shot:
        """One trial. Its cost includes the run-up, so that is counted as sent."""
        before = _cpu_of(self._channel.process.pid)
        order = Order(phase=Phase.FIXED, rate=rate, seconds=seconds, prime_rate=rate, prime_seconds=_PRIME)
        trial = await self._generators.trial(order)
        cpu = (_cpu_of(self._channel.process.pid) - before) * seconds / (seconds + _PRIME)
        return Shot(round(rate * seconds), trial.counts.sent, trial.counts.loss, cpu, trial.verdict(MAY_LOSE))


class Dnsperf:
    """dnsperf, one process a run."""

    name = "dnsperf"

    def __init__(self, wire: Wire, queries: Path) -> None:
        self._wire = wire
        self._queries = queries

    async def shoot(self, rate: int, seconds: float) -> Shot:
        """One run."""
        argv = [
            *self._wire.client, "dnsperf", "-s", self._wire.server_v4, "-d", str(self._queries), "-l", f"{seconds:g}", "-Q", str(rate),
            "-q", str(max(200, round(rate * 0.03))), "-t", f"{_TIMEOUT:g}", "-c", "200", "-T", "1", "-b", "4096", "-W",
            "-O", "suppress=timeouts",
        ]  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + 30)  # noqa: ASYNC221 - nothing else runs
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        sent, completed = (int(_found(rf"Queries {word}:\s+(\d+)", done.stdout)) for word in ("sent", "completed"))
        loss = 1 - completed / sent if sent else 0.0
        return Shot(round(rate * seconds), sent, loss, cpu, Verdict.BAD if loss > MAY_LOSE else Verdict.OK)


Engine = Ours | Dnsperf


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, (pattern, text)
    return match[1]


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process and all its children, from the scheduler's own clock."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    return own + sum(_cpu_of(int(child)) for child in children)


async def costs(engines: Sequence[Engine], rates: Sequence[int], runs: int, seconds: float) -> list[Row]:
    """What each costs at the same rate."""
    rows = [Row(engine.name, f"{rate} q/s", []) for rate in rates for engine in engines]
    for _ in range(runs):
        await _round(rows, engines, [rate for rate in rates for _ in engines], seconds)
    return rows


async def losses(engines: Sequence[Engine], wire: Wire, seconds: float) -> list[Row]:
    """What each sends and sees where a known share is lost."""
    rows = []
    for percent in LOSSES:
        wire.drop(percent)
        fresh = [Row(engine.name, f"{percent} % lost", []) for engine in engines]
        await _round(fresh, engines, [LOSS_RATE] * len(engines), seconds)
        rows += fresh
    wire.drop(0)
    return rows


async def verdicts(engines: Sequence[Engine], trials: int) -> list[Row]:
    """What each says of a healthy server while others take the CPU."""
    rows = [Row(engine.name, f"{HOGS} CPU hogs", []) for engine in engines]
    with _hogs():
        for _ in range(trials):
            await _round(rows, engines, [HOG_RATE] * len(engines), 1.0)
    return rows


async def _round(rows: Sequence[Row], engines: Sequence[Engine], rates: Sequence[int], seconds: float) -> None:
    by_name: dict[str, Engine] = {engine.name: engine for engine in engines}
    for row, rate in zip(rows, rates, strict=True):
        shot = await by_name[row.engine].shoot(rate, seconds)
        _tell(f"{row.engine}, {row.case}: sent {shot.sent} of {shot.asked}, lost {shot.loss:.2%}, {shot.cost:.1f} s/M")
        row.shots.append(shot)


@contextlib.contextmanager
def _hogs() -> Iterator[None]:
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(HOGS)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


@contextlib.asynccontextmanager
async def _bench(rates: Sequence[int]) -> AsyncIterator[tuple[Wire, list[Engine]]]:
    with Wire(f"benchagent{os.getpid()}") as wire, tempfile.NamedTemporaryFile("w", suffix=".queries") as queries:
        queries.write(wire.queries)
        queries.flush()
        setup = Setup(
            address=wire.server_v4,
            max_rate=max(*rates, LOSS_RATE, HOG_RATE),
            max_seconds=3600,
            timeout=_TIMEOUT,
            bufsize=4096,
        )
        channel = await LocalChannel.open(wire.client)
        async with Generators([Generator("agent", channel, setup, wire.queries)]) as generators:
            yield wire, [Ours(generators, channel), Dnsperf(wire, Path(queries.name))]


async def _measure(
    rates: Sequence[int], runs: int, seconds: float, trials: int
) -> list[tuple[str, _Columns, list[Row]]]:
    async with _bench(rates) as (wire, engines):
        return [
            ("CPU seconds per million queries", _COST, await costs(engines, rates, runs, seconds)),
            (f"{LOSS_RATE} q/s against known loss", _LOSS, await losses(engines, wire, seconds)),
            (f"one-second trials of a healthy server, {HOG_RATE} q/s", _VERDICT, await verdicts(engines, trials)),
        ]


_Columns = dict[str, Callable[[list[Shot]], str]]

_SENT: _Columns = {"sent/asked": lambda shots: f"{statistics.median(s.sent / s.asked for s in shots):.2%}"}
_COST: _Columns = {
    "s/M median": lambda shots: f"{statistics.median(s.cost for s in shots):.1f}",
    "s/M range": lambda shots: f"{min(s.cost for s in shots):.1f} .. {max(s.cost for s in shots):.1f}",
    **_SENT,
}
_LOSS: _Columns = {**_SENT, "loss seen": lambda shots: f"{statistics.median(s.loss for s in shots):.2%}"}
_VERDICT: _Columns = {
    "trials": lambda shots: str(len(shots)),
    "ok": lambda shots: str(sum(s.verdict is Verdict.OK for s in shots)),
    "void": lambda shots: str(sum(s.verdict is Verdict.VOID for s in shots)),
    "accused": lambda shots: str(sum(s.verdict is Verdict.BAD for s in shots)),
    **_SENT,
}


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(title: str, columns: _Columns, rows: list[Row], *, markdown: bool) -> None:
    lines = [("engine", "case", *columns)]
    if markdown:
        lines.append(("---", "---", *("---:" for _ in columns)))
    lines += [(row.engine, row.case, *(say(row.shots) for say in columns.values())) for row in rows]
    print(f"\n{title}\n")
    for line in lines:
        print(f"| {' | '.join(line)} |" if markdown else "".join(f"{word:>16}" for word in line))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="runs of each engine at each rate (default: 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a run (default: 3)")
    parser.add_argument("--rates", type=int, nargs="+", default=[20_000, 50_000], help="default: 20000 50000")
    parser.add_argument("--trials", type=int, default=20, help="trials beside the hogs (default: 20)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    args = parser.parse_args(argv)
    tables = asyncio.run(_measure(args.rates, args.runs, args.seconds, args.trials))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for title, columns, rows in tables:
        _print(title, columns, rows, markdown=args.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
