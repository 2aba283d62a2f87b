"""Load tests on paper, for the tests of records, index, comparison and charts: what a search of a server of known capacity would write."""

from __future__ import annotations

import math
import random
from pathlib import Path

import msgspec

from anyconsole.actions.load.files import RunFile
from anyconsole.actions.load.record import (
    Conditions,
    GeneratorHost,
    Goal,
    Header,
    Instance,
    InstanceSecond,
    LimitCause,
    Result,
    Sustained,
    Target,
    Workload,
)
from anyconsole.model.load import Counts, Health, Latency, Order, Phase, Trial, bin_of

NOW = 1_795_460_000.0
"""2026-11-23 18:53:20 UTC."""
QUERIES = "9f" * 32


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def counts(
    rate: float,
    capacity: float,
    dice: random.Random,
    *,
    seconds: float = 1.0,
    latency_ms: float = 0.3,
    skipped: int = 0,
) -> Counts:
    """A trial's counts at a server that answers `capacity` a second and drops the rest, slower the fuller it is."""
    offered = round(rate * seconds)
    sent = offered - skipped
    passed = min(sent, capacity * seconds * dice.uniform(0.999, 1.001))
    answered = round(passed - sent * dice.uniform(0, 0.0004))
    fullness = min(0.995, sent / seconds / capacity)
    middle = latency_ms / (1 - fullness) ** 0.6
    bins: dict[int, int] = {}
    for _ in range(100):
        index = bin_of(1000 * middle * math.exp(dice.gauss(0, 0.5)))
        bins[index] = bins.get(index, 0) + answered // 100
    nxdomain = answered // 10
    return Counts(
        offered=offered, sent=sent, answered=answered, skipped=skipped, rcodes={0: answered - nxdomain, 3: nxdomain},
        latency=Latency(bins=bins), late=3 if answered < sent else 0,
    )  # fmt: skip


def trial(phase: Phase, rate: float, found: Counts, at: float, *, seconds: float = 1.0, void: str = "") -> Trial:
    """A trial that found these counts."""
    order = Order(phase=phase, rate=rate, seconds=seconds, prime_rate=1.4 * rate, prime_seconds=0.3)
    health = {"gen-1": Health(cpu=0.41 * seconds, elapsed=seconds)}
    return Trial(order=order, began_at=at, counts=found, health=health, void=void)


def header(
    id_: str, *, kind: str = "virtual", node: str = "k3s-2", cores: float = 1.5, at: float = NOW, pair_id: str = "7f3a",
    purpose: str = "search", flows: int = 1000, queries: str = QUERIES, timeout: float = 0.5, repeat: int = 0,
) -> Header:  # fmt: skip
    """The header of a run at a node of one tenant."""
    instance = Instance(
        name=f"de-{node}", identity=f"{node}.de.example", ip="198.18.0.2", version="NSD 4.6.1", workers=3, rcvbuf=1 << 20,
        cpu_limit=cores if kind == "virtual" else None, rrl="off", kernel="6.1.0-28-amd64", config_hash=f"c0ffee{node}",
    )  # fmt: skip
    return Header(
        runid=id_,
        generator="anyconsole",
        generator_version="0.1.0",
        timeout=timeout,
        since=round(at * 1e9),
        x=Conditions(
            purpose=purpose, operator="alice@desk1", reason="CHG-7: virtual or bare", profile="prod", console_version="0.1.0",
            pair_id=pair_id, repeat=repeat,
            target=Target(
                name=f"de@{node}", stack="nsd", kind=kind, tenant="de", node=node, instance=(instance,), address="198.18.0.2",
                path="pod" if kind == "virtual" else "service", zone="de", zone_serial=2026112301,
            ),
            generators=(
                GeneratorHost(
                    host="gen-1", cpu_model="AMD EPYC 7302P", kernel="6.1.0-28-amd64", flows=flows, rtt_ms=0.4,
                    src_addrs=("198.18.9.1", "198.18.9.2", "198.18.9.3", "198.18.9.4"), selftest_max_qps=110_000,
                ),
            ),
            workload=Workload(
                file_sha256=queries, lines=100_000, edns=1232, mix={"A": 0.75, "AAAA": 0.15, "NXDOMAIN": 0.1}, source="zone de",
            ),
            goal=Goal(p99_guard_ms=50, cap_qps=60_000),
        ),
    )  # fmt: skip


def write_search(
    folder: Path, head: Header, *, capacity: float = 20_000, seed: int = 1, latency_ms: float = 0.3
) -> Path:
    """The file of a whole search of a server of known capacity, with a void trial on the way."""
    dice, clock = random.Random(seed), Clock((head.since or 0) / 1e9)
    grid = [capacity / 0.99 * 1.01**step for step in (-1, 0, 1)]
    plan: list[tuple[Phase, float, float]] = [(Phase.CLIMB, capacity / 2**n, 1.0) for n in (5, 4, 3, 2, 1, 0)]
    plan += [(Phase.CLIMB, capacity * 2, 1.0)] * 2 + [(Phase.PLATEAU, capacity * 1.08, 1.0)] * 4
    plan += [(Phase.VOTE, grid[1], 1.0)] * 4 + [(Phase.VOTE, grid[2], 1.0)] * 5 + [(Phase.VOTE, grid[0], 1.0)] * 4
    plan += [(Phase.CONFIRM, grid[1], 30.0)]
    with RunFile.create(folder, head, clock=clock) as file:
        file.event("search begins", "start", who="alice@desk1")
        found = Counts()
        for place, (phase, rate, seconds) in enumerate(plan):
            is_void = place == 14
            # Just below its capacity's 1 % point the server passes, just above it fails.
            real = capacity * (1.004 if rate <= grid[1] else 1.0)
            found = counts(
                rate, real, dice, seconds=seconds, latency_ms=latency_ms, skipped=round(rate / 10) if is_void else 0
            )
            done = trial(
                phase, rate, found, clock.now, seconds=seconds, void="the generator skipped 10.0 %" if is_void else ""
            )
            for second in range(round(seconds)):
                file.periodic(
                    clock.now + second, counts(rate, real, dice, latency_ms=latency_ms),
                    {head.x.target.instance[0].name: InstanceSecond(share=1.0, served=round(capacity), cpu=0.7, throttled=4)},
                )  # fmt: skip
            file.trial(done, done.verdict(0.01))
            clock.now += seconds + 0.5
        file.end(_result(found, grid, clock.now - (head.since or 0) / 1e9, kind=head.x.target.kind))
    return file.path


def _result(found: Counts, grid: list[float], seconds: float, *, kind: str) -> Result:
    p50, p95, p99 = (found.latency.percentile(share) for share in (0.5, 0.95, 0.99))
    evidence = {"throttled_periods": "9 of 10"} if kind == "virtual" else {"busiest_worker": 1.0}
    cause = "cpu-quota" if kind == "virtual" else "worker-cpu"
    return Result(
        verdict="ok", lower_qps=grid[1], upper_qps=grid[2], loss_at_lower=found.loss, p50=p50, p95=p95, p99=p99,
        sustained=Sustained(qps=grid[1], s=30, loss=found.loss, p50=p50, p95=p95, p99=p99), plateau_qps=grid[1] * 0.99,
        limit=LimitCause(cause=cause, words="the quota stopped it", evidence=evidence), seconds=seconds,
        cpu_s_per_mq_server=10.4 if kind == "virtual" else 7.1,
    )  # fmt: skip


def write_soak(folder: Path, head: Header, *, rate: float = 8000, seconds: int = 120) -> Path:
    """The file of a soak run with a hiccup in it."""
    dice, clock = random.Random(3), Clock((head.since or 0) / 1e9)
    head = msgspec.structs.replace(head, x=msgspec.structs.replace(head.x, purpose="soak"))
    totals = Counts()
    with RunFile.create(folder, head, clock=clock) as file:
        for second in range(seconds):
            found = counts(rate, rate * (0.93 if second == 77 else 1.8), dice)
            totals += found
            file.periodic(clock.now + second, found)
        done = trial(Phase.SOAK, rate, totals, clock.now, seconds=seconds)
        file.trial(done, done.verdict(0.01))
        clock.now += seconds
        file.end(Result(verdict="ok", loss_at_lower=totals.loss, seconds=seconds))
    return file.path


def write_pair(
    folder: Path, *, order: str = "ABBAABBA", ratio: float = 0.62, pair_id: str = "7f3a"
) -> tuple[list[Path], list[Path]]:
    """Searches of a virtual (A) and a bare (B) stack in turn; A answers `ratio` of what B does."""
    sides: dict[str, list[Path]] = {"A": [], "B": []}
    for place, side in enumerate(order):
        at = NOW + place * 120
        capacity = 38_900 * (ratio if side == "A" else 1.0) * random.Random(place).uniform(0.985, 1.015)
        head = header(
            f"20261123-{place:06}-{side.lower()}{place:03}", at=at, pair_id=pair_id,
            kind="virtual" if side == "A" else "bare", node="k3s-2" if side == "A" else "ns-bm-4",
        )  # fmt: skip
        latency = 0.5 if side == "A" else 0.2
        sides[side].append(write_search(folder, head, capacity=capacity, seed=place, latency_ms=latency))
    return sides["A"], sides["B"]
