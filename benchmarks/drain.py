"""What three ways of draining a node cost its users, side by side: `birdc disable`, hard at once, and soft then hard.

    .venv/bin/python -m benchmarks.drain [--runs 3] [--rate 200] [--seconds 0.5] [--ways WAY ...] [--markdown]
    .venv/bin/python -m benchmarks.drain --scopes tenant node interconnect frr --runs 10

On a lab of its own (as root), which is removed afterwards. Scope is the whole of node fra1, seen from client1 behind `transit`, which
knows no other path: transit2 hides its own as long as fra1's is better. client3 is served by another node and must notice nothing.
Each way is measured with fast routers, and with `transit` or `transit2` standing still for two seconds at every change. A query is lost
if nobody answers it in two seconds; a gap is the time for which one client got no answer in one family; "moved" is
how long after the command was given the last query was answered by the node that was to be left, the console's own start, guards and
confirmation included. Takes about two minutes a run.

With `--scopes` the console alone drains and undrains each of them, as often, and every query of two vantage points is accounted for. The
exit code is 1 if the console lost a query or flapped a session, by either.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from anyconsole.lab import Lab
from anyconsole.lab.nameservers import chroot_of
from anyconsole.lab.queries import QueryLoad
from anyconsole.lab.query_result import QueryResult
from anyconsole.lab.slow import slowed
from anyconsole.lab.topology import TENANTS, node, sessions_of
from anyconsole.lab.uptimes import flapped, uptimes

__all__ = ["main"]

NODE = "fra1"
CLIENT = "client1"
CLIENTS = (CLIENT, "client3")
ROUTERS = ("", "transit", "transit2")
"""Who is slow: nobody, the router that has to move, the router that has to show it the alternative."""

_STANDSTILL = 2.0
_SAMPLE = 0.25
_LEFT = 0.05
_PATIENCE = 20.0
_NOTHING = "(0,0)"

Change = Callable[[], None]
"""One command to the node, after which the routers have something to learn."""


class Way(NamedTuple):
    """A way of draining: what it does to the node, given how slow the routers are at each change."""

    name: str
    drain: Callable[[Bench], None]
    undrain: Callable[[Bench], None]


class Row(NamedTuple):
    """What one drain or undrain cost."""

    way: str
    slow: str
    phase: str
    result: QueryResult
    flapped: int
    moved: float


class Bench:
    """The lab under load, and who is slow in it."""

    def __init__(self, lab: Lab, slow: str) -> None:
        self.lab = lab
        self.slow = slow
        self.baseline = self.rate()

    def change(self, change: Change) -> None:
        """Make a change, while the slow router stands still. Returns when it goes on."""
        with self._standstill():
            change()

    def _standstill(self) -> AbstractContextManager[None]:
        return slowed(self.lab, self.slow, _STANDSTILL) if self.slow else nullcontext()

    def birdc(self, *words: str) -> str:
        """What BIRD on the node answers."""
        done = self.lab.run(NODE, ["birdc", *words])
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def queries(self) -> int:
        """Queries the node's name servers have answered since their start."""
        controls = [f"nsd-control -c {chroot_of(t)}/etc/nsd.conf stats_noreset" for t in TENANTS]
        said = self.lab.run(NODE, ["sh", "-c", "; ".join(controls)]).stdout
        return sum(int(count) for count in re.findall(r"^num\.queries=(\d+)$", said, re.MULTILINE))

    def rate(self) -> float:
        """The node's own queries/s just now."""
        count, began = self.queries(), time.monotonic()
        time.sleep(_SAMPLE)
        return (self.queries() - count) / (time.monotonic() - began)

    def wait_until_left(self) -> None:
        """Until three samples in a row show that (nearly) nobody asks the node any more."""
        deadline, quiet = time.monotonic() + _PATIENCE, 0
        while quiet < 3:
            assert time.monotonic() < deadline, f"{NODE} still has {self.rate():.0f} q/s of {self.baseline:.0f}"
            quiet = quiet + 1 if self.rate() < _LEFT * self.baseline else 0


def _disable(bench: Bench) -> None:
    bench.change(lambda: _each_session(bench, "disable"))


def _enable(bench: Bench) -> None:
    bench.change(lambda: _each_session(bench, "enable"))


def _each_session(bench: Bench, verb: str) -> None:
    spec = node(NODE)
    assert spec is not None
    script = "; ".join(f"birdc {verb} {s.name}" for s in sessions_of(spec))
    assert bench.lab.run(NODE, ["sh", "-c", script]).returncode == 0


def _intend(bench: Bench, *, soft: str = _NOTHING, hard: str = _NOTHING) -> None:
    content = (
        f'define DRAIN_SERIAL = {time.time_ns() // 1_000_000 % 2**31};\ndefine DRAIN_NOTE = "benchmark";\n'
        f"define DRAIN_HARD = [ {hard} ];\ndefine DRAIN_SOFT = [ {soft} ];\n"
    )
    script = f"cat > /etc/bird/drain.conf <<'EOT'\n{content}EOT\nbirdc configure"
    done = bench.lab.run(NODE, ["sh", "-c", script])
    assert done.returncode == 0, (done.stdout, done.stderr)


def _whole_node() -> str:
    spec = node(NODE)
    assert spec is not None
    return ", ".join((_NOTHING, *(f"(1..{len(TENANTS)},{s.number})" for s in sessions_of(spec))))


def _hard(bench: Bench) -> None:
    bench.change(lambda: _intend(bench, hard=_whole_node()))


def _soft(bench: Bench) -> None:
    bench.change(lambda: _intend(bench, soft=_whole_node()))


def _serve(bench: Bench) -> None:
    bench.change(lambda: _intend(bench))


def _soft_then_hard(bench: Bench) -> None:
    _soft(bench)
    bench.wait_until_left()
    _hard(bench)


def _soft_then_serve(bench: Bench) -> None:
    _soft(bench)
    _serve(bench)


def _console_drain(bench: Bench) -> None:
    _console(bench, "drain")


def _console_undrain(bench: Bench) -> None:
    _console(bench, "undrain")


def _argv(lab: Lab, verb: str, *scope: str) -> list[str]:
    profile = str(lab.profile_path)
    return [sys.executable, "-m", "anyconsole", "--profile", profile, verb, *scope, "--reason", "benchmark", "--yes"]


def _console(bench: Bench, verb: str) -> None:
    argv = _argv(bench.lab, verb, "--node", NODE)
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as process:
            # When exactly it changes something is its own business: the slow router stands still most of the time.
            while process.poll() is None:
                bench.change(lambda: time.sleep(0.1))
                time.sleep(0.3)
        said.seek(0)
        assert process.returncode == 0, f"{' '.join(argv)} returned {process.returncode}: {said.read()}"


WAYS = {
    "disable": Way("`birdc disable`", _disable, _enable),
    "hard": Way("hard at once", _hard, _serve),
    "hand": Way("soft then hard, by hand", _soft_then_hard, _soft_then_serve),
    "console": Way("soft then hard, by the console", _console_drain, _console_undrain),
}


def measure(lab: Lab, way: Way, slow: str, rate: float, seconds: float) -> Iterator[Row]:
    """Drain and undrain once under load."""
    with QueryLoad(lab, clients=CLIENTS, rate=rate) as load:
        load.wait_until(lambda _: _answering(load) == {NODE}, _PATIENCE, f"{CLIENT} served by {NODE}")
        bench = Bench(lab, slow)
        time.sleep(seconds)
        before = uptimes(lab)
        drained_at = time.monotonic()
        way.drain(bench)
        load.wait_until(lambda _: bool(_answering(load) - {NODE}) and NODE not in _answering(load), _PATIENCE, "moved")
        time.sleep(seconds)
        undrained_at = time.monotonic()
        between = uptimes(lab)
        way.undrain(bench)
        load.wait_until(lambda _: _answering(load) == {NODE}, _PATIENCE, "moved back")
        load.wait_until(lambda _: uptimes(lab).keys() == before.keys(), _PATIENCE, "all sessions up")
        time.sleep(seconds)
        after = uptimes(lab)
    result = load.result
    untouched = result.between(end=drained_at)
    assert untouched.answered == untouched.sent, f"before anything was changed: {untouched}"
    drain, undrain = result.between(drained_at, undrained_at), result.between(undrained_at)
    # A session that is down now will have another `since`: each flap is counted once, where it went down.
    yield Row(way.name, slow, "drain", drain, len(flapped(before, between)), _last(drain, {NODE}, drained_at))
    others = set(result.of(CLIENT).by_node) - {NODE}
    yield Row(way.name, slow, "undrain", undrain, len(flapped(between, after)), _last(undrain, others, undrained_at))


def _answering(load: QueryLoad) -> set[str]:
    return {name for (client, _), names in load.answering(0.3).items() if client == CLIENT for name in names}


def _last(result: QueryResult, nodes: set[str], since: float) -> float:
    sent = [q.sent_at for s in result.of(CLIENT).streams for q in s.queries if q.good and q.node in nodes]
    return max(sent, default=since) - since


SCOPES = {
    "tenant": ("de", ("--node", "fra1", "--tenant", "de")),
    "node": ("nic", ("--node", "fra1")),
    "interconnect": ("de", ("--interconnect", "transit", "--parallel", "3")),
    "frr": ("enum", ("--node", "lon1")),
}
"""What is drained, and whose queries are counted meanwhile."""


def measure_scope(lab: Lab, name: str, rate: float, seconds: float) -> Iterator[Row]:
    """Have the console drain and undrain a scope once under load."""
    tenant, scope = SCOPES[name]
    for verb in ("drain", "undrain"):
        before = uptimes(lab)
        with QueryLoad(lab, tenant=tenant, clients=CLIENTS, rate=rate) as load:
            time.sleep(seconds)
            # What still comes over sessions that stay can't leave: those are asked about, and it goes on.
            argv = [*_argv(lab, verb, *scope), "--residual", "go"]
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            time.sleep(seconds)
        assert done.returncode == 0, f"{' '.join(argv)} returned {done.returncode}: {done.stdout}{done.stderr}"
        yield Row(f"the console, {name}", "", verb, load.result, len(flapped(before, uptimes(lab))), 0.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="drains and undrains of each kind (default: 3)")
    parser.add_argument("--rate", type=float, default=200.0, help="queries/s per family and client (default: 200)")
    parser.add_argument("--seconds", type=float, default=0.5, help="rest before and after each change (default: 0.5)")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=["disable", "hard", "console"], help="default: %(default)s"
    )
    parser.add_argument("--scopes", nargs="+", choices=SCOPES, default=[], help="the console alone, on each of these")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args(argv)
    rows = []
    with _lab() as lab:
        for scope in args.scopes:
            for number in range(args.runs):
                _tell(f"{scope}, run {number + 1} of {args.runs}")
                rows += list(measure_scope(lab, scope, args.rate, args.seconds))
                _tell(f"  {rows[-2].result}; {rows[-1].result}")
        for way in (WAYS[name] for name in ([] if args.scopes else args.ways)):
            for slow in ROUTERS:
                for number in range(args.runs):
                    _tell(f"{way.name}, {slow or 'no router'} slow, run {number + 1} of {args.runs}")
                    found = list(measure(lab, way, slow, args.rate, args.seconds))
                    for row in found:
                        _tell(f"  {row.phase}: {row.result}")
                    rows += found
    _print(rows, markdown=args.markdown)
    ours = [row for row in rows if "console" in row.way]
    return 1 if any(row.result.lost or row.result.failed or row.flapped for row in ours) else 0


@contextmanager
def _lab() -> Iterator[Lab]:
    lab = Lab("benchdrain")
    lab.up(_tell)
    try:
        with tempfile.TemporaryDirectory() as state:
            os.environ["XDG_STATE_HOME"] = state
            yield lab
    finally:
        lab.down()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_HEADS = ("way", "slow", "", "lost", "sent", "longest gap ms", "sessions flapped", "moved ms")


def _print(rows: list[Row], *, markdown: bool) -> None:
    kinds = dict.fromkeys((row.way, row.slow, row.phase) for row in rows)
    lines = [_line([row for row in rows if (row.way, row.slow, row.phase) == kind]) for kind in kinds]
    if markdown:
        lines = [("---", "---", "---", *(["---:"] * 5)), *lines]
    for line in (_HEADS, *lines):
        widths = (32, 10, 9, 8, 8, 16, 18, 10)
        plain = "".join(
            f"{v:<{w}}" if n < 3 else f"{v:>{w}}" for n, (v, w) in enumerate(zip(line, widths, strict=True))
        )
        print(f"| {' | '.join(line)} |" if markdown else plain)


def _line(rows: list[Row]) -> tuple[str, ...]:
    """All runs of a kind: sums, but the worst gap and the median of the times."""
    first = rows[0]
    return (
        first.way,
        first.slow or "none",
        first.phase,
        str(sum(r.result.lost + r.result.failed for r in rows)),
        str(sum(r.result.sent for r in rows)),
        f"{max(r.result.longest_gap for r in rows) * 1000:.0f}",
        str(sum(r.flapped for r in rows)),
        f"{statistics.median(r.moved for r in rows) * 1000:.0f}",
    )


if __name__ == "__main__":
    sys.exit(main())
