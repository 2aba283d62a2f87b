"""What watching costs a load test: the same fixed run in turns, from the command line and started and watched on the screen's pane 6.

    .venv/bin/python -m benchmarks.watching [--pairs 5] [--rate 5000] [--seconds 10] [--markdown]

In a lab of its own (as root), where generators, name server, engine and screen share this machine's cores: the worst place to be watched.
Pairs go A B B A. Watching costs nothing if what the generators sent, what was lost, its latencies and its CPU are the same in both.
Takes about four minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from anyconsole.actions.load.record import RunRecord, TrialRow
from anyconsole.lab import Lab
from tests.e2e.drains import apply_on_screen, go_to_first, settle
from tests.e2e.loads import IN_SERVICE, arguments, records_of
from tests.e2e.observe import open_console, run_headless
from tests.terminal import ENTER, Terminal, cpu_seconds

__all__ = ["main"]

TARGET = "de.fra1"
_SLACK = 60.0


class Ran(NamedTuple):
    """A run: its trial, and CPU seconds that the screen took meanwhile."""

    trial: TrialRow
    asked: float
    screen: float


def unwatched(lab: Lab, state: Path, rate: int, seconds: int) -> Ran:
    """From the command line, whose progress nobody reads."""
    fixed = ("--purpose", "fixed", "--rate", str(rate), "--seconds", str(seconds))
    done = run_headless(lab, state, *arguments(TARGET, *fixed, *IN_SERVICE), timeout=seconds + _SLACK)
    if done.returncode:
        raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr[-2000:]}")
    return Ran(_trial(records_of(state)), rate * seconds, 0.0)


def watched(lab: Lab, state: Path, rate: int, seconds: int) -> Ran:
    """By keys, with its live pane on the screen until it ends."""
    with open_console(lab, state, columns=200, rows=50) as terminal:
        _start_by_keys(terminal, rate, seconds)
        terminal.wait_for("Load test.*running", _SLACK)
        before = cpu_seconds(terminal.pid)
        terminal.wait_for("ended: ok", seconds + _SLACK)
        screen = cpu_seconds(terminal.pid) - before
    return Ran(_trial(records_of(state)), rate * seconds, screen)


def _start_by_keys(terminal: Terminal, rate: int, seconds: int) -> None:
    terminal.wait_for("● live", 30)
    terminal.send(f":arm 15m{ENTER}")
    terminal.wait_for("ARMED", 10)
    settle(terminal)
    go_to_first(terminal, "4", "fra1 +de")
    terminal.send("L")
    terminal.wait_for(f"Load test: {TARGET}", 20)
    terminal.wait_for("production ", 20)  # the last of the guards
    for keys in ("\t\x1b[C", f"\t{rate}", f"\t{seconds}", "\t\twatched", "\t\ta benchmark", "\t", " "):
        terminal.send(keys)
        settle(terminal)
    apply_on_screen(terminal)


def _trial(records: list[RunRecord]) -> TrialRow:
    (trial,) = (t for t in records[-1].trials if t.dur >= 1)
    return trial


def _measure(pairs: int, rate: int, seconds: int) -> dict[str, list[Ran]]:
    ways: dict[str, Callable[[Lab, Path, int, int], Ran]] = {"nobody watches": unwatched, "watched": watched}
    runs: dict[str, list[Ran]] = {way: [] for way in ways}
    lab = Lab(f"watch{os.getpid()}")
    lab.up(_tell)
    try:
        for pair in range(pairs):
            for way in list(ways) if pair % 2 == 0 else reversed(ways):
                with tempfile.TemporaryDirectory() as state:
                    run = ways[way](lab, Path(state), rate, seconds)
                trial = run.trial
                p99 = f"{trial.p99 * 1000:.2f} ms" if trial.p99 else "unknown"
                _tell(f"{way}: sent {trial.sent}, lost {trial.lost}, p99 {p99}, generators {trial.gen_cpu}")
                runs[way].append(run)
    finally:
        lab.down()
    return runs


_COLUMNS: dict[str, Callable[[list[Ran]], str]] = {
    "runs": lambda runs: str(len(runs)),
    "sent/asked": lambda runs: f"{statistics.median(r.trial.sent / r.asked for r in runs):.2%}",
    "skipped": lambda runs: str(sum(r.trial.skipped for r in runs)),
    "lost": lambda runs: str(sum(r.trial.lost for r in runs)),
    "p50": lambda runs: _milliseconds([r.trial.p50 for r in runs]),
    "p99": lambda runs: _milliseconds([r.trial.p99 for r in runs]),
    "generators' CPU": lambda runs: _range([100 * (r.trial.gen_cpu or 0.0) for r in runs], "%"),
    "screen's CPU": lambda runs: _range([100 * r.screen / r.trial.dur for r in runs], "%"),
}


def _milliseconds(values: list[float | None]) -> str:
    return _range([1000 * value for value in values if value is not None], "ms")


def _range(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} .. {max(values):.2f}) {unit}" if values else "unknown"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="runs of each way (default: 5)")
    parser.add_argument("--rate", type=int, default=5000, help="queries/s (default: 5000)")
    parser.add_argument("--seconds", type=int, default=10, help="length of a run (default: 10)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args(argv)
    runs = _measure(args.pairs, args.rate, args.seconds)
    print(f"{args.rate} q/s for {args.seconds} s, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    lines = [("", *_COLUMNS), *((way, *(say(ran) for say in _COLUMNS.values())) for way, ran in runs.items())]
    if args.markdown:
        lines.insert(1, ("---", *("---:" for _ in _COLUMNS)))
    for line in lines:
        print(f"| {' | '.join(line)} |" if args.markdown else "".join(f"{word:>24}" for word in line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
