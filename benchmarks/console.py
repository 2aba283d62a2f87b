"""What the console costs on a real fleet: time to the first frame and to all of the truth, CPU, memory, bytes to the terminal, keys.

    .venv/bin/python -m benchmarks.console [--profile PROFILE] [--runs 5] [--seconds 20] [--markdown]

Without a profile it brings its own lab up (as root) and removes it afterwards. Best and median of several runs where a run is short;
everything is measured from outside: a pty of 200x50, the clock, and /proc. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from anyconsole.lab import Lab
from tests.terminal import Terminal, cpu_seconds, process_tree

__all__ = ["main"]

COLUMNS, ROWS = 200, 50

_FIRST_FRAME = r"READ-ONLY[\s\S]* Fleet\["
_UNSEEN = re.compile(r"UNKNOWN|STALE|starting")


class Figure(NamedTuple):
    """A line of the table."""

    what: str
    value: str


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path, help="a profile file (default: a lab of its own)")
    parser.add_argument("--runs", type=int, default=5, help="runs of what is short (default: 5)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of what is averaged (default: 20)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args(argv)
    with _fleet(args.profile) as profile, tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state
        figures = [*start_up(args.runs), *first_look(profile, args.runs), *running(profile, args.seconds)]
    _print(figures, markdown=args.markdown)
    return 0


@contextmanager
def _fleet(profile: Path | None) -> Iterator[Path]:
    if profile is not None:
        yield profile
        return
    lab = Lab("bench")
    lab.up(_tell)
    try:
        time.sleep(5)  # its daemons have their own start-up costs, which are not ours
        yield lab.profile_path
    finally:
        lab.down()


def start_up(runs: int) -> list[Figure]:
    """The cheapest command there is: what every start pays at least."""
    walls, cpus = [], []
    for _ in range(runs):
        before, begun = _children_cpu(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "anyconsole", "--version"], check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - begun)
        cpus.append(_children_cpu() - before)
    return [Figure("`--version`", f"{_ms(walls)}, {_ms(cpus)} CPU")]


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_look(profile: Path, runs: int) -> list[Figure]:
    """From the start to the first frame, and to the moment when nothing on the home screen is unknown any more."""
    frames, frame_cpu, full, full_cpu = [], [], [], []
    for number in range(runs):
        _tell(f"start {number + 1} of {runs}")
        begun = time.perf_counter()
        with _console(profile) as terminal:
            terminal.wait_for(_FIRST_FRAME, 20)
            frames.append(time.perf_counter() - begun)
            frame_cpu.append(cpu_seconds(terminal.pid))
            terminal.wait_until(lambda terminal=terminal: _is_full(terminal.text()), 60, "all of the fleet")  # type: ignore[misc]
            full.append(time.perf_counter() - begun)
            full_cpu.append(terminal.cpu_seconds())
            terminal.send("q")
            terminal.exit_status()
    return [
        Figure("first frame", f"{_ms(frames)}, {_ms(frame_cpu)} CPU"),
        Figure(
            "all nodes, sessions, answers and rates on the screen", f"{_ms(full)}, {_ms(full_cpu)} CPU of UI and engine"
        ),
    ]


def _is_full(text: str) -> bool:
    header, summary = text.splitlines()[:2]
    return "live" in header and not _UNSEEN.search(text) and re.search(r"[\d.]+[kM]? q/s", summary) is not None


def running(profile: Path, seconds: float) -> list[Figure]:
    """Costs of a console that nobody touches, then of one whose keys are pressed."""
    figures = []
    with _watching(profile) as terminal:
        ui, engine = terminal.pid, _engine(terminal.pid)
        for pane, key in (("fleet", "1"), ("BGP", "3"), ("QPS with charts", "5")):
            terminal.send(key)
            time.sleep(2)
            _tell(f"{seconds:.0f} s of pane {pane}")
            sent, ui_cpu, engine_cpu = _average(terminal, ui, engine, seconds)
            cpu = f"UI {ui_cpu:.1f} %, engine {engine_cpu:.1f} % of one core"
            figures.append(Figure(f"idle, pane {pane}", f"{cpu}, {sent:.0f} bytes/s to the terminal"))
        figures.append(Figure("memory (RSS)", f"UI {_rss(ui):.0f} MiB, engine {_rss(engine):.0f} MiB"))
        _tell("keys")
        terminal.send("4")
        terminal.wait_for(r"Health\[", 5)
        time.sleep(1)
        latencies = sorted(_key_latencies(terminal, 100))
        p50, p90 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.9)]
        figures.append(Figure("key to screen", f"p50 {p50 * 1000:.1f} ms, p90 {p90 * 1000:.1f} ms"))
    with _watching(profile, ANYCONSOLE_DIFF="0") as terminal:
        for pane, key in (("fleet", "1"), ("QPS with charts", "5")):
            terminal.send(key)
            time.sleep(2)
            _tell(f"{seconds / 2:.0f} s of pane {pane} without the diff driver")
            sent, _, _ = _average(terminal, terminal.pid, _engine(terminal.pid), seconds / 2)
            figures.append(Figure(f"the same without the cell-diffing driver, pane {pane}", f"{sent:.0f} bytes/s"))
    return figures


def _average(terminal: Terminal, ui: int, engine: int, seconds: float) -> tuple[float, float, float]:
    """Bytes per second to the terminal, and CPU of UI and engine in per cent of one core."""
    begun, sent = time.perf_counter(), terminal.bytes_received
    before = cpu_seconds(ui), cpu_seconds(engine)
    time.sleep(seconds)
    took = time.perf_counter() - begun
    return (
        (terminal.bytes_received - sent) / took,
        (cpu_seconds(ui) - before[0]) / took * 100,
        (cpu_seconds(engine) - before[1]) / took * 100,
    )


def _key_latencies(terminal: Terminal, count: int) -> Iterator[float]:
    """Seconds from a key's way into the terminal until the cursor's bar is on the other line."""
    buffer = terminal.emulator.screen.buffer
    top = next(y for y in range(ROWS) if buffer[y][0].data == "▌")
    line = top
    for _ in range(count):
        key, there = ("j", line + 1) if line < top + 5 else ("g", top)
        begun = time.perf_counter()
        terminal.send(key)
        while buffer[there][0].data != "▌":
            if time.perf_counter() - begun > 5:
                raise RuntimeError(f"the cursor did not move:\n{terminal.text()}")
            time.sleep(0.0002)
        yield time.perf_counter() - begun
        line = there
        time.sleep(0.037)  # not in step with the paints


# --- the console


def _console(profile: Path, **env: str) -> Terminal:
    argv = [sys.executable, "-m", "anyconsole", "--profile", str(profile)]
    return Terminal(argv, columns=COLUMNS, rows=ROWS, env=env)


@contextmanager
def _watching(profile: Path, **env: str) -> Iterator[Terminal]:
    with _console(profile, **env) as terminal:
        terminal.wait_until(lambda: len(terminal.text()) > ROWS and _is_full(terminal.text()), 60, "all of the fleet")
        time.sleep(8)  # what is done once after the start, such as sparing the collector, is over
        yield terminal


def _engine(ui: int) -> int:
    return next(p for p in process_tree(ui)[1:] if b"anyconsole.engine" in Path(f"/proc/{p}/cmdline").read_bytes())


def _rss(pid: int) -> float:
    """MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


# --- output


def _ms(values: list[float]) -> str:
    return f"{min(values) * 1000:.0f} ms (median {statistics.median(values) * 1000:.0f})"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(figures: list[Figure], *, markdown: bool) -> None:
    width = max(len(figure.what) for figure in figures)
    if markdown:
        print(f"| {'what':{width}} | measured |\n| {'-' * width} | --- |")
    for figure in figures:
        print(f"| {figure.what:{width}} | {figure.value} |" if markdown else f"{figure.what:{width}}  {figure.value}")


if __name__ == "__main__":
    sys.exit(main())
