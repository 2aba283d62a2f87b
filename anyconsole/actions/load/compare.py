"""Two sets of load tests side by side: medians and full ranges, ratios of neighbours, and what differs. Pure.

A ratio is only made where both sides were asked the same, in the same way, by the same generators; else it says which condition differs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from anyconsole.actions.load.conditions import Condition, conditions, is_search, refusals
from anyconsole.actions.load.record import RunRecord, TrialRow
from anyconsole.actions.load.words import percent
from anyconsole.model.load import BIN_RATIO

__all__ = [
    "CURVE", "Comparison", "Measure", "Ratio", "Side", "Spread", "compare", "loss_curve",
]  # fmt: skip

CURVE: Final = (50, 70, 80, 90, 95, 100, 103, 106, 110)
"""Per cent of the own best rate at which the loss of both sides is told."""
_NEAR: Final = 0.015
"""A trial this near (share of the best rate) counts as one at a point of the curve."""
_HALF: Final = (0.4, 0.6)
"""Shares of the best rate that count as 50 %."""
_USABLE: Final = frozenset({"ok", "latency-limited"})


class Spread(msgspec.Struct, frozen=True):
    """Several measurements of one thing: their median and full range."""

    median: float
    low: float
    high: float
    count: int


class Ratio(msgspec.Struct, frozen=True):
    """A divided by B, neighbour by neighbour: median and full range of the pairs.

    `resolution` is the factor by which two measurements of the same thing may differ because of how it is measured.
    """

    median: float
    low: float
    high: float
    pairs: int
    resolution: float = 1.0

    @property
    def shows(self) -> bool:
        """True if every pair says the same way, by more than the resolution; a single pair shows no difference."""
        return self.pairs > 1 and (self.low > self.resolution or self.high < 1 / self.resolution)

    @property
    def words(self) -> str:
        """The ratio for people."""
        if self.pairs == 1:
            return f"{self.median:.2f} (one pair: no range)"
        ranged = f"{self.median:.2f} ({self.low:.2f} .. {self.high:.2f}), {self.pairs} pairs"
        return ranged if self.shows else f"no difference shown: {ranged}"


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing measured on both sides. `unit` is qps, share, s, or s/Mq; `words` replace figures that are no numbers."""

    id: str
    title: str
    unit: str = ""
    a: Spread | None = None
    b: Spread | None = None
    ratio: Ratio | None = None
    words: tuple[str, str] | None = None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One set: what people call it, its runs in order, those with a usable result, and its loss curve by per cent of its best."""

    label: str
    kind: str
    runs: tuple[RunRecord, ...]
    results: tuple[RunRecord, ...]
    curve: tuple[float | None, ...] = ()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the sheet. `refused` says why there is no ratio, one reason each; "" nowhere. `remarks` qualify what is there."""

    a: Side
    b: Side
    measures: tuple[Measure, ...]
    conditions: tuple[Condition, ...]
    pairs: int
    refused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    pair_id: str = ""
    loss: float | None = None
    p99_guard_ms: float | None = None

    def measure(self, id_: str) -> Measure:
        """The measure of that id. Raises KeyError."""
        for measure in self.measures:
            if measure.id == id_:
                return measure
        raise KeyError(id_)


def compare(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> Comparison:
    """The comparison of two sets of runs, each of at least one; their order in time says who is whose neighbour."""
    left, right = _side(a), _side(b)
    circumstances = conditions(left.runs, right.runs)
    refused = (*refusals(circumstances), *_without_result(left, right))
    pairs = _pairs(left.results, right.results)
    goals = {run.conditions.goal for run in (*a, *b)} if not refused else set()
    goal = next(iter(goals), None)
    ids = {run.conditions.pair_id for run in (*a, *b)}
    return Comparison(
        a=left,
        b=right,
        measures=tuple(_measures(left, right, [] if refused else pairs)),
        conditions=circumstances,
        pairs=len(pairs),
        refused=refused,
        remarks=tuple(_remarks(left, right, pairs)),
        pair_id=ids.pop() if len(ids) == 1 else "",
        loss=goal.loss if goal is not None else None,
        p99_guard_ms=goal.p99_guard_ms if goal is not None else None,
    )


def _without_result(a: Side, b: Side) -> Iterable[str]:
    return (f"{name} has no usable result" for name, side in (("A", a), ("B", b)) if not side.results)


def _side(runs: Sequence[RunRecord]) -> Side:
    ordered = tuple(sorted(runs, key=_when))
    results = tuple(run for run in ordered if _is_usable(run))
    labels = dict.fromkeys(run.conditions.target.label for run in ordered)
    kinds = {run.conditions.target.kind for run in ordered}
    curve = tuple(_median(_loss_near(run, percent / 100) for run in results) for percent in CURVE)
    return Side(
        label=", ".join(labels), kind=kinds.pop() if len(kinds) == 1 else "", runs=ordered, results=results, curve=curve
    )


def _is_usable(run: RunRecord) -> bool:
    """A search needs a rate that it found; other runs were carried out at theirs."""
    return run.result.verdict in _USABLE and (not is_search(run) or bool(run.result.lower_qps))


def _best(run: RunRecord) -> float | None:
    return run.result.lower_qps if is_search(run) else None


def _when(run: RunRecord) -> float:
    return run.began_at or 0.0


# --- pairs

_Pair = tuple[RunRecord, RunRecord]


def _pairs(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> list[_Pair]:
    """Each run with its neighbour of the other side: of the same repeat where those were numbered, else the next in time.

    In the order A B B A A B B A a drift of the hosts is in the pairs once in this direction and once in that.
    """
    numbered = {(run.conditions.pair_id, run.conditions.repeat): run for run in b if run.conditions.repeat}
    if numbered and all(run.conditions.repeat for run in (*a, *b)):
        keys = [(run, (run.conditions.pair_id, run.conditions.repeat)) for run in a]
        return [(run, numbered[key]) for run, key in keys if key in numbered]
    pairs: list[_Pair] = []
    ordered = sorted(
        [(_when(run), True, run) for run in a] + [(_when(run), False, run) for run in b], key=lambda r: r[0]
    )
    while len(ordered) > 1:
        (_, is_a, run), (_, other_is_a, other) = ordered[:2]
        if is_a == other_is_a:
            del ordered[0]
            continue
        pairs.append((run, other) if is_a else (other, run))
        del ordered[:2]
    return pairs


def _remarks(a: Side, b: Side, pairs: Sequence[_Pair]) -> Iterable[str]:
    for name, side in (("A", a), ("B", b)):
        for run in side.runs:
            if all(run is not result for result in side.results):
                yield f"{name}: {run.id} is left out: {run.result.verdict or 'it'} is no result that can be compared"
        alone = len(side.results) - len(pairs)
        if alone and pairs:
            yield f"{name}: {alone} of {len(side.results)} runs have no neighbour of the other side; run them in the order A B B A"
        yield from (f"{name}: {remark}" for run in side.runs for remark in run.remarks)
    if len(pairs) == 1:
        yield "one pair says nothing about how much results vary: four searches each are a comparison"


# --- what was measured


def _measures(a: Side, b: Side, pairs: Sequence[_Pair]) -> Iterable[Measure]:
    # Percentiles are told by bins of 3 %, rates by the width of the grid they were searched on.
    width = max((run.conditions.goal.width for pair in pairs for run in pair), default=0.0)
    resolutions = {"s": BIN_RATIO, "qps": 1 + width}

    def one(id_: str, title: str, unit: str, value: Callable[[RunRecord], float | None]) -> Measure:
        return Measure(
            id=id_,
            title=title,
            unit=unit,
            a=_spread(map(value, a.results)),
            b=_spread(map(value, b.results)),
            ratio=_ratio(((value(x), value(y)) for x, y in pairs), resolutions.get(unit, 1.0)),
        )

    yield one("best", "best rate", "qps", _best)
    yield Measure(id="limit", title="limited by", words=(_limits(a), _limits(b)))
    yield one("sustained", "sustained loss", "share", lambda run: s.loss if (s := run.result.sustained) else None)
    yield one("p50", "p50 at best", "s", lambda run: run.result.p50)
    yield one("p95", "p95 at best", "s", lambda run: run.result.p95)
    yield one("p99", "p99 at best", "s", lambda run: run.result.p99)
    yield one("p99_half", "p99 at 50 % of best", "s", _p99_at_half)
    yield one("plateau", "plateau when overloaded", "qps", lambda run: run.result.plateau_qps)
    yield one("cpu", "server CPU", "s/Mq", lambda run: run.result.cpu_s_per_mq_server)
    yield one("per_core", "best rate per core", "qps", _per_core)
    yield Measure(id="shares", title="instance spread", words=(_shares(a), _shares(b)))


def _per_core(run: RunRecord) -> float | None:
    cores, best = run.conditions.target.cores, _best(run)
    return best / cores if cores and best else None


def _p99_at_half(run: RunRecord) -> float | None:
    """Of the trial nearest to half of the best rate, if there is one near enough."""
    best = _best(run) or 0.0
    near = [t for t in _valid(run) if _HALF[0] * best <= t.rate <= _HALF[1] * best and t.p99 is not None]
    return min(near, key=lambda t: abs(t.rate - best / 2)).p99 if near else None


def _valid(run: RunRecord) -> list[TrialRow]:
    return [trial for trial in run.trials if not trial.is_void]


def loss_curve(run: RunRecord) -> list[tuple[float, float]]:
    """The median loss at each rate that was tried, by rate; without trials (another tool's file) of the seconds by their queries."""
    by_rate: dict[float, list[float]] = {}
    for trial in _valid(run):
        by_rate.setdefault(round(trial.rate, 1), []).append(trial.loss)
    if not run.trials:
        for row in run.seconds:
            seconds = (row.until - row.since) / run.header.time_units_per_sec
            if row.queries and seconds > 0:
                by_rate.setdefault(row.queries / seconds, []).append(max(0.0, 1 - row.responses / row.queries))
    return [(rate, statistics.median(losses)) for rate, losses in sorted(by_rate.items())]


def _loss_near(run: RunRecord, share: float) -> float | None:
    best = _best(run) or 0.0
    return _median(t.loss for t in _valid(run) if best and abs(t.rate / best - share) <= _NEAR)


def _limits(side: Side) -> str:
    found = [r.result.limit.cause if r.result.limit is not None else "not known" for r in side.results]
    counted = {cause: found.count(cause) for cause in found}
    if len(counted) == 1:
        return next(iter(counted))
    return ", ".join(f"{cause} ({n} of {len(found)})" for cause, n in counted.items()) or "not known"


def _shares(side: Side) -> str:
    """The mean share of each instance over all runs, where it was seen."""
    seen: dict[str, list[float]] = {}
    for run in side.results:
        for row in run.seconds:
            for name, second in (row.x.inst if row.x is not None else {}).items():
                if second.share is not None:
                    seen.setdefault(name, []).append(second.share)
    return (
        " / ".join(f"{name} {percent(statistics.mean(shares), 0)}" for name, shares in sorted(seen.items()))
        or "not known"
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _median(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return statistics.median(known) if known else None


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = _known(values)
    return Spread(statistics.median(known), min(known), max(known), len(known)) if known else None


def _ratio(pairs: Iterable[tuple[float | None, float | None]], resolution: float) -> Ratio | None:
    ratios = [x / y for x, y in pairs if x is not None and y]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios), len(ratios), resolution) if ratios else None
