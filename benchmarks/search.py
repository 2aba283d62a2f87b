"""Four ways to find the best rate at 1 % loss, against a limit that is known: ours, RFC 2544 with dnsperf, resperf's verdict, MLRsearch.

    .venv/bin/python -m benchmarks.search [--limits 2000,5000,20000] [--runs 20] [--others 5] [--methods NAME ...]
                                          [--background [HOGS]] [--json FILE] [--markdown]

As root, in network namespaces of its own: NSD behind a token bucket of nftables that lets so many queries a second through and holds 50
ms of them, so the true 1 % point is limit / 0.99. All look for it below four times the limit, on the same wire, in turn, and none of
them at latency: what the hogs do to NSD's is not what is asked. Ours and
MLRsearch drive our agent; the binary search (trials of 5 s, 1 % wide) drives dnsperf with the product's fixed flags; resperf ramps up for
30 s and judges by itself (-L 1 -F 0). An error is that of the rate that is said to pass; a run that names none counts as 100 % off.
Time is without our own confirming run, which is told apart; CPU is that of the generators. `--background` adds CPU hogs, one a core.
Ours takes about 70 s a run, the others together 2 minutes; every run is appended to the JSON file, one a line, as it ends.

MLRsearch (the FD.io project's library) is no dependency of ours: pip install MLRsearch==1.2.1. Where it is missing it is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from anyconsole.actions.load.answer import Answer, Goal
from anyconsole.actions.load.search import Search
from anyconsole.drivers.load import dnsperf
from anyconsole.drivers.load.generator import Generator, Generators
from anyconsole.drivers.load.local_channel import LocalChannel
from anyconsole.drivers.load.messages import Setup
from anyconsole.model.load import Order, Phase, Trial
from benchmarks.wire import Wire

__all__ = ["main"]

LOSS = 0.01
WIDTH = 0.01
BUCKET_SECONDS = 0.05
CAP_FACTOR = 4
CLOSE = 0.02
"""An answer this near the truth is right."""

_RFC2544_SECONDS = 5.0
_RESPERF_SECONDS = 30


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a method said. `rate` is None if it named none; `confirm` are seconds of our long run, not in `seconds`."""

    rate: float | None
    seconds: float
    confirm: float = 0.0
    trials: int = 1
    cpu: float = 0.0
    why: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as it stands in the JSON file."""

    limit: int
    method: str
    found: Found
    hogs: int
    load_average: float

    @property
    def error(self) -> float:
        """Relative to the true point."""
        return (self.found.rate or 0.0) / (self.limit / (1 - LOSS)) - 1


class Bench:
    """The wire with its limiter, and our agent on it."""

    def __init__(self, wire: Wire, generators: Generators, queries: Path, limit: int) -> None:
        self.wire = wire
        self.queries = queries
        self.cap = float(CAP_FACTOR * limit)
        self._generators = generators

    async def trial(self, order: Order) -> Trial:
        """One trial of our agent."""
        return await self._generators.trial(order)


async def ours(bench: Bench) -> Found:
    """The product's search."""
    search, trial = Search(Goal(cap=bench.cap, loss=LOSS, width=WIDTH, p99_guard=None)), None
    cpu = confirm = 0.0
    began = time.monotonic()
    while not isinstance(step := search.next(trial), Answer):
        at = time.monotonic()
        trial = await bench.trial(step)
        cpu += sum(h.cpu for h in trial.health.values())
        confirm += time.monotonic() - at if step.phase is Phase.CONFIRM else 0.0
    seconds = time.monotonic() - began - confirm
    return Found(
        rate=step.lower,
        seconds=seconds,
        confirm=confirm,
        trials=step.trials,
        cpu=cpu,
        why=f"{step.ending}: {step.why}",
    )


async def rfc2544(bench: Bench) -> Found:
    """A binary search where every trial counts once, with dnsperf."""
    began, before = time.monotonic(), _children_cpu()
    lower, upper, trials = 0.0, bench.cap, 0
    while upper - lower > WIDTH * upper:
        order = Order(phase=Phase.VOTE, rate=(lower + upper) / 2, seconds=_RFC2544_SECONDS)
        argv = dnsperf.command(
            order, address=bench.wire.server_v4, queries=str(bench.queries), version=_dnsperf_version()
        )
        done = await asyncio.to_thread(
            subprocess.run, [*bench.wire.client, *argv], capture_output=True, text=True, check=False, timeout=60
        )
        trial = dnsperf.trial_of(dnsperf.parse_report(done.stdout), order, time.time())
        trials += 1
        # One that is void fell behind without being lost from: it passed no rate.
        if trial.counts.loss > LOSS or trial.void:
            upper = order.rate
        else:
            lower = order.rate
    return Found(rate=lower or None, seconds=time.monotonic() - began, trials=trials, cpu=_children_cpu() - before)


async def resperf(bench: Bench) -> Found:
    """What resperf says by itself."""
    began, before = time.monotonic(), _children_cpu()
    with tempfile.NamedTemporaryFile() as plot:
        argv = [
            *bench.wire.client, "resperf", "-s", bench.wire.server_v4, "-d", str(bench.queries), "-R", "-m", f"{bench.cap:.0f}",
            "-r", str(_RESPERF_SECONDS), "-L", f"{LOSS * 100:g}", "-F", "0", "-C", "20", "-q", "65536", "-t", "1", "-b", "4096",
            "-P", plot.name, "-W",
        ]  # fmt: skip
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False, timeout=120)
    said = re.search(r"^  Maximum throughput:\s+([0-9.]+) qps$", done.stdout, re.MULTILINE)
    assert said is not None, done.stdout + done.stderr
    return Found(rate=float(said[1]) or None, seconds=time.monotonic() - began, cpu=_children_cpu() - before)


async def mlrsearch(bench: Bench) -> Found:
    """The MLRsearch library with one-second trials, as CSIT sets it (sum of 21 s, half of them may be bad), on our agent."""
    mlr: Any = importlib.import_module("MLRsearch")
    loop, trials, cpu = asyncio.get_running_loop(), 0, 0.0

    class Measurer(mlr.AbstractMeasurer):  # type: ignore[misc]
        def measure(self, intended_duration: float, intended_load: float) -> object:
            nonlocal trials, cpu
            order = Order(phase=Phase.VOTE, rate=intended_load, seconds=intended_duration)
            began = time.monotonic()
            trial = asyncio.run_coroutine_threadsafe(bench.trial(order), loop).result()
            trials, cpu = trials + 1, cpu + sum(h.cpu for h in trial.health.values())
            return mlr.MeasurementResult(
                intended_duration=intended_duration,
                intended_load=intended_load,
                offered_count=trial.counts.sent,
                loss_count=trial.counts.lost,
                duration_with_overheads=time.monotonic() - began,
            )

    goal = mlr.SearchGoal(
        loss_ratio=LOSS, exceed_ratio=0.5, relative_width=WIDTH, initial_trial_duration=1.0, final_trial_duration=1.0,
        duration_sum=21.0, preceding_targets=2, expansion_coefficient=2, fail_fast=False,
    )  # fmt: skip
    config = mlr.Config()
    config.goals = [goal]
    config.min_load, config.max_load = bench.cap / 100, bench.cap
    config.search_duration_max, config.warmup_duration = 600.0, 0.5
    began = time.monotonic()
    search = mlr.MultipleLossRatioSearch(config=config)
    results = await asyncio.to_thread(search.search, measurer=Measurer(), debug=lambda *_: None)
    rate = getattr(results[goal], "conditional_throughput", None)
    return Found(
        rate=float(rate) if rate is not None else None, seconds=time.monotonic() - began, trials=trials, cpu=cpu
    )


METHODS: dict[str, Callable[[Bench], Awaitable[Found]]] = {
    "ours": ours,
    "rfc2544": rfc2544,
    "resperf": resperf,
    "mlrsearch": mlrsearch,
}


def _dnsperf_version() -> tuple[int, int]:
    return dnsperf.parse_version(subprocess.run(["dnsperf", "-h"], capture_output=True, text=True, check=False).stdout)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.asynccontextmanager
async def _bench(limit: int) -> AsyncIterator[Bench]:
    with Wire(f"benchsearch{os.getpid()}") as wire, tempfile.NamedTemporaryFile("w", suffix=".queries") as queries:
        queries.write(wire.queries)
        queries.flush()
        rule = (
            "flush chain inet wire drops\nadd rule inet wire drops udp dport 53 "
            f"limit rate over {limit}/second burst {round(limit * BUCKET_SECONDS)} packets counter name dropped drop\n"
        )
        subprocess.run([*wire.server, "nft", "-f", "-"], input=rule, text=True, check=True)  # noqa: ASYNC221
        setup = Setup(address=wire.server_v4, max_rate=CAP_FACTOR * limit, max_seconds=86_400)
        channel = await LocalChannel.open(wire.client)
        async with Generators([Generator("agent", channel, setup, wire.queries)]) as generators:
            yield Bench(wire, generators, Path(queries.name), limit)


@contextlib.contextmanager
def _hogs(count: int) -> Iterator[None]:
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


async def measure(limits: Sequence[int], counts: dict[str, int], hogs: int) -> AsyncIterator[Run]:
    """Run every method so many times against every limit, all in turn: what is done is as good as it goes whenever it is cut short."""
    for turn in range(max(counts.values())):
        for limit in limits:
            async with _bench(limit) as bench:
                for method in (name for name, count in counts.items() if turn < count):
                    with _hogs(hogs):
                        found = await METHODS[method](bench)
                    yield Run(limit=limit, method=method, found=found, hogs=hogs, load_average=os.getloadavg()[0])


async def _measure(limits: Sequence[int], counts: dict[str, int], hogs: int, target: Path | None) -> list[Run]:
    runs = []
    async for run in measure(limits, counts, hogs):
        found = run.found
        print(
            f"{run.limit}/s {run.method}: {found.rate or 0:,.0f} ({run.error:+.2%}), {found.seconds:.0f} s + {found.confirm:.0f} s, "
            f"{found.trials} trials, load {run.load_average:.1f} {found.why}",
            file=sys.stderr,
            flush=True,
        )
        runs.append(run)
        if target is not None:
            with target.open("ab") as file:
                file.write(msgspec.json.encode({**msgspec.to_builtins(run), "error": run.error}) + b"\n")
    return runs


_HEADS = (
    "limit/s",
    "method",
    "runs",
    "median error",
    "lowest ... highest",
    "within 2 %",
    "median s",
    "confirm s",
    "CPU s",
)


def _line(limit: int, method: str, runs: Sequence[Run]) -> tuple[str, ...]:
    errors = [run.error for run in runs]
    return (
        str(limit),
        method,
        str(len(runs)),
        f"{statistics.median(errors):+.2%}",
        f"{min(errors):+.2%} ... {max(errors):+.2%}",
        f"{sum(abs(e) <= CLOSE for e in errors)} of {len(errors)}",
        f"{statistics.median(r.found.seconds for r in runs):.0f}",
        f"{statistics.median(r.found.confirm for r in runs):.0f}",
        f"{statistics.median(r.found.cpu for r in runs):.1f}",
    )


def _print(runs: Sequence[Run], *, markdown: bool) -> None:
    kinds = dict.fromkeys((run.limit, run.method) for run in runs)
    lines = [_HEADS, *(_line(*kind, [r for r in runs if (r.limit, r.method) == kind]) for kind in kinds)]
    if markdown:
        lines.insert(1, ("---:", "---", *["---:"] * (len(_HEADS) - 2)))
    for line in lines:
        print(
            f"| {' | '.join(line)} |"
            if markdown
            else "".join(f"{word:>14}" if n != 4 else f"{word:>24}" for n, word in enumerate(line))
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", default="2000,5000,20000", help="queries/s let through (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=20, help="runs of ours (default: 20)")
    parser.add_argument("--others", type=int, default=5, help="runs of each other method (default: 5)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--background", type=int, nargs="?", const=os.cpu_count(), default=0, help="CPU hogs beside it")
    parser.add_argument("--json", type=Path, help="file to append every run to")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args(argv)
    methods = args.methods
    if "mlrsearch" in methods and importlib.util.find_spec("MLRsearch") is None:
        print("left out: mlrsearch (pip install MLRsearch==1.2.1)", file=sys.stderr)
        methods = [name for name in methods if name != "mlrsearch"]
    counts = {name: args.runs if name == "ours" else args.others for name in methods}
    counts = {name: count for name, count in counts.items() if count > 0}
    if not counts:
        parser.error("nothing to run")
    limits = [int(word) for word in args.limits.split(",")]
    runs = asyncio.run(_measure(limits, counts, args.background, args.json))
    runs.sort(key=lambda run: (run.limit, methods.index(run.method)))
    print(f"{args.background} CPU hogs, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    _print(runs, markdown=args.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
