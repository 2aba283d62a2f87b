"""Load tests as charts: loss and latency by rate with votes and interval, over time where the rate stands, and two sets together. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from anyconsole.actions.load.chart import (
    Axis,
    Band,
    Curve,
    Figure,
    Limit,
    Marks,
    Panel,
    Points,
    Tag,
    count_axis,
    loss_axis,
    percent_axis,
    rate_axis,
    seconds_axis,
    time_axis,
)
from anyconsole.actions.load.compare import Comparison, Side, loss_curve
from anyconsole.actions.load.record import NANOSECONDS, Periodic, RunRecord, TrialRow
from anyconsole.actions.load.rows import counts_of
from anyconsole.actions.load.words import milliseconds, percent, rate
from anyconsole.model.load import Phase, Verdict

__all__ = ["comparison_figure", "run_figure"]

_SIGNS: Final = {
    Verdict.OK: ("ok", "dot", "passed"),
    Verdict.BAD: ("bad", "cross", "failed"),
    Verdict.VOID: ("void", "ring", "void"),
}
_SIDES: Final = {"a": "dot", "b": "ring"}
_STEADY: Final = frozenset({Phase.FIXED, Phase.SOAK})


def run_figure(run: RunRecord) -> Figure:
    """What one run saw: by rate if it tried several, else over time."""
    x = run.conditions
    at = f"{datetime.fromtimestamp(run.began_at, UTC):%Y-%m-%d %H:%M} UTC" if run.began_at else ""
    program = " ".join(filter(None, (run.header.generator, run.header.generator_version)))
    limited = f"limited by {run.result.limit.cause}" if run.result.limit is not None else ""
    lines = (
        " · ".join(filter(None, (_found(run), limited, "" if run.result.verdict == "ok" else run.result.why))),
        " · ".join(filter(None, (at, f"run {run.id}", program, _asked(run)))),
    )
    is_steady = bool(run.seconds) and all(trial.phase in _STEADY for trial in run.trials)
    return Figure(
        title=f"{x.purpose.capitalize() or 'Load test'}: {x.target.label}",
        subtitle=tuple(filter(None, lines)),
        rows=_over_time(run) if is_steady else _by_rate(run),
    )


def _found(run: RunRecord) -> str:
    result = run.result
    if result.lower_qps is None:
        lost = f"{percent(result.loss_at_lower)} lost" if result.loss_at_lower is not None else ""
        rates = [t.rate for t in run.trials] if len(run.trials) == 1 else []
        return ", ".join(filter(None, (result.verdict, *(f"{rate(r)} queries/s" for r in rates), lost)))
    upper = f" .. {rate(result.upper_qps)}" if result.upper_qps else " or more"
    verdict = "" if result.verdict == "ok" else f"{result.verdict}: "
    lost = f", {percent(result.loss_at_lower)} lost" if result.loss_at_lower is not None else ""
    p99 = f", p99 {milliseconds(result.p99)} ms" if result.p99 is not None else ""
    return f"{verdict}{rate(result.lower_qps)}{upper} queries/s{lost}{p99}"


def _asked(run: RunRecord) -> str:
    workload = run.conditions.workload
    return f"query set {workload.file_sha256[:8]}" if workload.file_sha256 else ""


def _allowed(run: RunRecord) -> Limit:
    loss = run.conditions.goal.loss
    return Limit(value=loss, label=f"{percent(loss, 1)} allowed")


def _interval(run: RunRecord) -> tuple[Band, ...]:
    lower, upper = run.result.lower_qps, run.result.upper_qps
    if not lower or not upper:
        return ()
    return (Band(low=lower, high=upper, label=f"{rate(lower)} .. {rate(upper)}"),)


def _marks(trials: Sequence[TrialRow], place: Callable[[TrialRow], float]) -> tuple[Marks, ...]:
    return tuple(
        Marks(
            points=tuple((place(t), t.loss) for t in trials if t.verdict == verdict), role=role, sign=sign, label=label
        )
        for verdict, (role, sign, label) in _SIGNS.items()
    )


# --- by rate


def _by_rate(run: RunRecord) -> tuple[tuple[Panel, ...], ...]:
    trials = [t for t in run.trials if t.phase != Phase.SELF_TEST]
    brief = [t for t in trials if t.phase != Phase.CONFIRM]
    long = [t for t in trials if t.phase == Phase.CONFIRM]
    curve = loss_curve(run)
    axis = rate_axis([t.rate for t in trials] or [x for x, _ in curve])
    confirm = Marks(
        points=tuple((t.rate, t.loss) for t in long),
        role="ok" if all(t.verdict == Verdict.OK for t in long) else "bad",
        sign="diamond",
        label="sustained",
    )
    loss = Panel(
        title="Loss by offered rate",
        x=axis,
        y=loss_axis(loss for _, loss in curve),
        curves=(Curve(points=tuple(curve), role="frame"),),
        marks=(*_marks(brief, lambda t: t.rate), confirm),
        limits=(_allowed(run),),
        bands=_interval(run),
    )
    return ((loss,), (_votes(run, trials), _latency_by_rate(run, trials, axis)))


def _votes(run: RunRecord, trials: Sequence[TrialRow]) -> Panel:
    """The votes of each grid point side by side, in their order."""
    votes = [t for t in trials if t.phase == Phase.VOTE]
    rates = sorted({t.rate for t in votes})
    step = min((b - a for a, b in itertools.pairwise(rates)), default=(rates or [1.0])[0] * 0.01)
    place: dict[int, float] = {}
    tags = []
    for grid_point in rates:
        here = [t for t in votes if t.rate == grid_point]
        for index, trial in enumerate(here):
            place[trial.n] = grid_point + (index - (len(here) - 1) / 2) * step * min(0.13, 0.8 / len(here))
        passed, failed = (sum(t.verdict == v for t in here) for v in (Verdict.OK, Verdict.BAD))
        tags.append(Tag(grid_point, f"{passed}:{failed}"))
    axis = rate_axis((p for r in rates for p in (r - step * 0.7, r + step * 0.7)), room=0.0)
    ticks = tuple((r, rate(r)) for r in rates)
    return Panel(
        title="Votes, passed : failed",
        x=Axis(title=axis.title, low=axis.low, high=axis.high, ticks=ticks if len(ticks) <= 6 else axis.ticks),
        # A third more room above, for the count of the votes.
        y=loss_axis([t.loss * 1.6 for t in votes]),
        marks=_marks(votes, lambda t: place[t.n]),
        limits=(_allowed(run),),
        bands=tuple(Band(low=b.low, high=b.high) for b in _interval(run)),
        tags=tuple(tags),
    )


def _latency_by_rate(run: RunRecord, trials: Sequence[TrialRow], axis: Axis) -> Panel:
    percentiles: dict[str, Callable[[TrialRow], float | None]] = {
        "p50": lambda t: t.p50,
        "p95": lambda t: t.p95,
        "p99": lambda t: t.p99,
    }
    curves = tuple(
        Curve(points=_medians((t.rate, value(t)) for t in trials if not t.is_void), role=name, label=name)
        for name, value in percentiles.items()
    )
    return _latency(
        "Latency by offered rate", axis, curves, run, bands=tuple(Band(low=b.low, high=b.high) for b in _interval(run))
    )


def _latency(title: str, axis: Axis, curves: tuple[Curve, ...], run: RunRecord, bands: tuple[Band, ...] = ()) -> Panel:
    seen = [y for curve in curves for _, y in curve.points]
    guard = run.conditions.goal.p99_guard_ms
    limits = (Limit(value=guard / 1000, label=f"p99 {guard:g} ms allowed"),) if guard and seen else ()
    y = seconds_axis([*seen, *(limit.value for limit in limits)])
    return Panel(title=title, x=axis, y=y, curves=curves, limits=limits, bands=bands)


def _medians(points: Iterable[tuple[float, float | None]]) -> Points:
    by_x: dict[float, list[float]] = {}
    for x, y in points:
        if y is not None:
            by_x.setdefault(round(x, 4), []).append(y)
    return tuple((x, statistics.median(ys)) for x, ys in sorted(by_x.items()))


# --- over time


def _over_time(run: RunRecord) -> tuple[tuple[Panel, ...], ...]:
    units = run.header.time_units_per_sec or NANOSECONDS
    begin = run.seconds[0].since
    counted = [((row.since - begin) / units, _length(row, units), counts_of(row, units)) for row in run.seconds]
    axis = time_axis(max(at + length for at, length, _ in counted))
    allowed = _allowed(run)
    losses = tuple((at, counts.loss) for at, _, counts in counted)
    bad = Marks(
        points=tuple(p for p in losses if p[1] > allowed.value), role="bad", sign="cross", label="second above it"
    )
    loss = Panel(
        title="Loss, by the second of sending",
        x=axis,
        y=loss_axis(y for _, y in losses),
        curves=(Curve(points=losses, role="ok"),),
        marks=(bad,),
        limits=(allowed,),
    )
    rates = {
        "offered": tuple((at, max(counts.offered, counts.sent) / length) for at, length, counts in counted),
        "answered": tuple((at, counts.good / length) for at, length, counts in counted),
    }
    flow = Panel(
        title="Rate",
        x=axis,
        y=_from_zero(rate_axis((y for points in rates.values() for _, y in points), "queries/s")),
        curves=(
            Curve(points=rates["offered"], role="void", label=""),
            Curve(points=rates["answered"], role="ok", label=""),
        ),
        marks=(
            Marks(points=rates["offered"][:1], role="void", label="offered"),
            Marks(points=rates["answered"][:1], role="ok", label="answered"),
        ),
    )
    curves = tuple(
        Curve(
            points=tuple((at, p) for at, _, counts in counted if (p := counts.latency.percentile(share)) is not None),
            role=name,
            label=name,
        )
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    )
    return ((loss,), (flow, _latency("Latency", axis, curves, run)))


def _length(row: Periodic, units: int) -> float:
    return max(1e-9, (row.until - row.since) / units)


def _from_zero(axis: Axis) -> Axis:
    return rate_axis((axis.high, axis.high * 0.3), axis.title) if axis.scale == "log" else axis


# --- two sets


def comparison_figure(comparison: Comparison) -> Figure:
    """Both sides in one chart, by their own best rate, and every search's result."""
    sides = (("a", comparison.a), ("b", comparison.b))
    best = comparison.measure("best")
    ratio = (
        "; ".join(comparison.refused)
        if comparison.refused
        else best.ratio.words
        if best.ratio is not None
        else "no pair"
    )
    names = " · ".join(
        f"{name.upper()} {side.label}{f' ({side.kind})' if side.kind else ''}: "
        + (f"{rate(spread.median)} queries/s" if spread is not None else "no result")
        for (name, side), spread in zip(sides, (best.a, best.b), strict=True)
    )
    curves = {name: _shares(side, lambda t: t.loss) for name, side in sides}
    tails = {name: _shares(side, lambda t: t.p99) for name, side in sides}
    axis = percent_axis([x for points in curves.values() for x, _ in points], "offered, of the own best rate")
    loss = comparison.loss
    both = Panel(
        title="Loss by rate",
        x=axis,
        y=loss_axis(y for points in curves.values() for _, y in points),
        curves=tuple(Curve(points=points, role=name, label=name.upper()) for name, points in curves.items()),
        marks=tuple(Marks(points=points, role=name, sign=_SIDES[name]) for name, points in curves.items()),
        limits=(Limit(value=loss, label=f"{percent(loss, 1)} allowed"),) if loss is not None else (),
    )
    latency = Panel(
        title="p99 by rate",
        x=axis,
        y=seconds_axis(y for points in tails.values() for _, y in points),
        curves=tuple(Curve(points=points, role=name, label=name.upper()) for name, points in tails.items()),
    )
    results = {
        name: tuple((float(n), run.result.lower_qps or 0.0) for n, run in enumerate(side.results, 1))
        for name, side in sides
    }
    searches = Panel(
        title="Best rate of each search",
        x=count_axis(max([1, *(len(points) for points in results.values())]), "search"),
        y=_from_zero(rate_axis((y for points in results.values() for _, y in points), "queries/s", room=0.15)),
        curves=tuple(Curve(points=points, role=name, label=name.upper()) for name, points in results.items()),
        marks=tuple(Marks(points=points, role=name, sign=_SIDES[name]) for name, points in results.items()),
    )
    return Figure(
        title=f"{comparison.a.label} against {comparison.b.label}",
        subtitle=(names, f"A / B: {ratio}"),
        rows=((both,), (latency, searches)),
    )


def _shares(side: Side, value: Callable[[TrialRow], float | None]) -> Points:
    """What all runs of a side saw, by share of their own best rate: medians in steps of 2 %, up to 1.3 times it."""
    points = []
    for run in side.results:
        best = run.result.lower_qps or 1.0
        points += [
            (round(t.rate / best / 0.02) * 0.02, value(t)) for t in run.trials if not t.is_void and t.rate <= 1.3 * best
        ]
    return _medians(points)
