"""Load tests as reports: a list, one run's sheet, two sets side by side; for people as sheets, for programs as CSV and JSON. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from anyconsole.actions.load.capabilities import Capability, Mark
from anyconsole.actions.load.compare import CURVE, Comparison, Measure, Side, Spread
from anyconsole.actions.load.conditions import is_search
from anyconsole.actions.load.index import RunLine
from anyconsole.actions.load.record import RunRecord, TrialRow
from anyconsole.actions.load.sheet import Sheet, Table
from anyconsole.actions.load.words import counted, milliseconds, percent, rate
from anyconsole.model.table import Cell, Column, Level, Row, clean, duration

__all__ = [
    "RUN_COLUMNS", "comparison_csv", "comparison_document", "comparison_sheet", "run_csv", "run_document", "run_row", "run_sheet",
    "verdict_words",
]  # fmt: skip

# --- the list

RUN_COLUMNS: Final = (
    Column(id="id", title="RUN", width=20),
    Column(id="at", title="UTC", width=16),
    Column(id="seconds", title="TOOK", width=6, right=True),
    Column(id="target", title="TARGET", width=14),
    Column(id="kind", title="KIND", width=7),
    Column(id="purpose", title="PURPOSE", width=7),
    Column(id="lower", title="BEST/s", width=8, right=True),
    Column(id="upper", title="NOT/s", width=8, right=True),
    Column(id="loss", title="LOSS", width=7, right=True),
    Column(id="p99_ms", title="P99 ms", width=6, right=True),
    Column(id="limited_by", title="LIMITED BY", width=12),
    Column(id="verdict", title="VERDICT", width=8),
    Column(id="operator", title="WHO", width=12),
    Column(id="pair_id", title="PAIR", width=4),
)


def run_row(run: RunLine, index: int = 0) -> Row:
    """A run as a line of the list; `index` is its place in it."""
    level = {"ok": Level.OK, "running": Level.NONE}.get(run.verdict, Level.WARN)
    return Row(
        ("loadtest", run.id),
        (
            Cell(run.id),
            Cell(_time(run.at, "%Y-%m-%d %H:%M"), value=run.at, order=run.at),
            Cell(duration(run.seconds), value=run.seconds, order=run.seconds),
            _said(run.target),
            _said(run.kind),
            _said(run.purpose),
            Cell(rate(run.lower), value=run.lower, order=run.lower),
            Cell(rate(run.upper), value=run.upper, order=run.upper),
            Cell(percent(run.loss), value=run.loss, order=run.loss),
            Cell(milliseconds(run.p99), value=None if run.p99 is None else run.p99 * 1000, order=run.p99),
            _said(run.limited_by),
            Cell(clean(run.verdict), level, run.verdict),
            _said(run.operator),
            _said(run.pair_id),
        ),
        index,
    )


def _said(words: str) -> Cell:
    return Cell(clean(words), value=words)


# --- one run


def run_sheet(run: RunRecord) -> Sheet:
    """All of one run: the interval, what limited it, the conditions, every trial."""
    x = run.conditions
    return Sheet(
        title=f"{x.purpose.capitalize() or 'Load test'}: {x.target.label}",
        words=(verdict_words(run),),
        tables=(
            Table(rows=tuple(_result(run))),
            Table(title="Conditions", rows=tuple((name, words) for name, words in _conditions(run) if words)),
            Table(
                title="Trials",
                titles=(
                    "N",
                    "PHASE",
                    "RATE/s",
                    "S",
                    "LOSS",
                    "P50 ms",
                    "P95 ms",
                    "P99 ms",
                    "LATE",
                    "TC",
                    "VERDICT",
                    "WHY",
                ),
                rows=tuple(_trial(trial) for trial in run.trials),
                right=(0, 2, 3, 4, 5, 6, 7, 8, 9),
            ),
            Table(
                title="Events",
                titles=("UTC", "WHAT", ""),
                rows=tuple((_time(e.x.at, "%H:%M:%S") if e.x.at else "-", e.msg_type, e.msg) for e in run.events),
            ),
        ),
        remarks=run.remarks,
    )


def verdict_words(run: RunRecord) -> str:
    """The result in one line; a run that was cut off has none, whatever its trials say."""
    result = run.result
    if run.state != "done":
        what = "still running" if run.state == "running" else "cut off: its console died or was killed before it ended"
        return f"{what.capitalize()}, {counted(len(run.trials), 'trial')} so far. That is no result."
    if result.verdict == "ok":
        # A rate that was given is carried out whether it passed or not.
        failed = not is_search(run) and result.lower_qps is None and result.upper_qps is not None
        return f"{'over the goal' if failed else 'ok'}: {_found(run)}"
    found = f"; {_found(run)}" if result.lower_qps is not None else ""
    why = f": {result.why}" if result.why else ""
    return f"{result.verdict or 'no verdict'}{why}{found}"


def _found(run: RunRecord) -> str:
    result, allowed = run.result, percent(run.conditions.goal.loss, 1)
    if not is_search(run):
        lost = f"{percent(result.loss_at_lower)} lost" if result.loss_at_lower is not None else "carried out"
        return f"{lost}, {allowed} allowed"
    upper = f"{rate(result.upper_qps)}/s is too much" if result.upper_qps else "what is too much isn't known"
    return f"{rate(result.lower_qps)} queries/s, most seconds lost no more than {allowed}; {upper}"


def _result(run: RunRecord) -> Iterator[tuple[str, str]]:
    result = run.result
    if result.loss_at_lower is not None:
        yield "Loss there", percent(result.loss_at_lower)
    if result.p50 is not None:
        tail = f", max {milliseconds(result.max)}" if result.max is not None else ""
        yield "p50 / p95 / p99", f"{' / '.join(map(milliseconds, (result.p50, result.p95, result.p99)))} ms{tail}"
    if (long := result.sustained) is not None:
        # Votes forgive a hiccup, a long run doesn't: the difference is told, not hidden.
        forgiven = is_search(run) and long.loss > run.conditions.goal.loss
        above = " (above the goal: hiccups that the votes forgave)" if forgiven else ""
        latencies = " / ".join(map(milliseconds, (long.p50, long.p95, long.p99)))
        yield (
            "Sustained",
            f"{long.s:.0f} s at {rate(long.qps)}/s: {percent(long.loss)} lost{above}, p50 / p95 / p99 {latencies} ms",
        )
    if result.plateau_qps is not None:
        yield "Plateau", f"{rate(result.plateau_qps)}/s answered when overloaded"
    if (limit := result.limit) is not None:
        evidence = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in limit.evidence.items())
        yield "Limited by", "; ".join(filter(None, (limit.cause, limit.words, evidence)))
    if result.cpu_s_per_mq_server is not None:
        yield "Server CPU", f"{result.cpu_s_per_mq_server:.1f} s per million queries"
    if run.summary is not None and run.summary.queries and not run.trials:
        lost = max(0, run.summary.queries - run.summary.responses)
        yield "Queries", f"{rate(run.summary.queries)}, {percent(lost / run.summary.queries)} not answered"
    if result.seconds or result.trials:
        yield "Took", f"{duration(result.seconds)}, {counted(result.trials, 'trial')}"


def _conditions(run: RunRecord) -> Iterator[tuple[str, str]]:
    x, target, work, goal = run.conditions, run.conditions.target, run.conditions.workload, run.conditions.goal
    yield "Run", run.id
    yield "When", f"{_time(run.began_at)} UTC" if run.began_at else ""
    yield "Who", x.operator
    yield "Why", " ".join(filter(None, (x.ticket, x.reason)))
    yield "Pair", f"{x.pair_id}{f', number {x.repeat}' if x.repeat else ''}" if x.pair_id else ""
    yield (
        "Target",
        _joined(
            f"{target.address} port {target.port}" if target.address else "", target.kind, target.stack, target.path
        ),
    )
    yield "Zone", _joined(target.zone, f"serial {target.zone_serial}" if target.zone_serial is not None else "")
    for i in target.instance:
        yield "Instance", _joined(
            i.name, i.version, f"{i.workers} workers" if i.workers else "",
            f"{i.cpu_limit:g} cores" if i.cpu_limit else "", f"CPUs {i.cpuset}" if i.cpuset else "",
            f"receive buffer {i.rcvbuf >> 10} KiB" if i.rcvbuf else "", f"rate limits {i.rrl}" if i.rrl else "",
            f"Linux {i.kernel}" if i.kernel else "", f"configuration {i.config_hash[:12]}" if i.config_hash else "",
        )  # fmt: skip
    for g in x.generators:
        yield "Generator", _joined(
            g.host, g.cpu_model, f"Linux {g.kernel}" if g.kernel else "", f"{g.flows} flows" if g.flows else "",
            f"{len(g.src_addrs)} addresses" if g.src_addrs else "",
            f"can send {rate(g.selftest_max_qps)}/s" if g.selftest_max_qps else "",
            f"round trip {g.rtt_ms:g} ms" if g.rtt_ms is not None else "",
        )  # fmt: skip
    yield (
        "Sent by",
        _joined(
            f"{run.header.generator} {run.header.generator_version}".strip(), " ".join(run.header.generator_params)
        ),
    )
    yield "Timeout", f"{run.header.timeout:g} s" if run.header.timeout else ""
    mix = " / ".join(f"{percent(share, 0)} {name}" for name, share in work.mix.items())
    yield "Query set", _joined(
        work.source, f"{rate(work.lines)} queries" if work.lines else "", mix,
        work.protocol if work.protocol != "udp" else "",
        f"EDNS {work.edns}{' DO' if work.do else ''}" if work.edns else "",
        f"sha256 {work.file_sha256}" if work.file_sha256 else "",
    )  # fmt: skip
    yield "Goal", _joined(
        f"{percent(goal.loss, 1)} loss", f"p99 {goal.p99_guard_ms:g} ms" if goal.p99_guard_ms else "", f"width {percent(goal.width, 1)}",
        f"{goal.trial_s:g} s trials after {goal.prime_s:g} s", f"never above {rate(goal.cap_qps)}/s" if goal.cap_qps else "",
    )  # fmt: skip


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _trial(trial: TrialRow) -> tuple[str, ...]:
    figures = (percent(trial.loss), milliseconds(trial.p50), milliseconds(trial.p95), milliseconds(trial.p99))
    counts = ("-" if count is None else str(count) for count in (trial.late, trial.tc))
    return (str(trial.n), trial.phase, rate(trial.rate), f"{trial.dur:g}", *figures, *counts, trial.verdict, trial.why)


# --- two sets


def comparison_sheet(comparison: Comparison, capabilities: Sequence[Capability] = ()) -> Sheet:
    """Both sides: what was measured, what differs, the curves, the capability table."""
    a, b = comparison.a, comparison.b
    goal = f"at <= {percent(comparison.loss, 1)} loss" if comparison.loss is not None else ""
    guard = f"p99 <= {comparison.p99_guard_ms:g} ms" if comparison.p99_guard_ms else ""
    words = [
        ", ".join(
            filter(
                None,
                (counted(comparison.pairs, "pair"), goal, guard, comparison.pair_id and f"pair {comparison.pair_id}"),
            )
        )
    ]
    words += [f"No ratio: {reason}." for reason in comparison.refused]
    names = (f"A: {_name(a)}", f"B: {_name(b)}")
    differing = [c for c in comparison.conditions if c.differs]
    return Sheet(
        title=f"{a.label} against {b.label}",
        words=tuple(words),
        tables=(
            Table(titles=("", *names, "A / B"), rows=tuple(_measure(m) for m in comparison.measures)),
            Table(
                title="Loss at per cent of the own best rate",
                titles=("", *(f"{p} %" for p in CURVE)),
                rows=tuple((name, *(percent(loss) for loss in side.curve)) for name, side in (("A", a), ("B", b))),
                right=tuple(range(1, len(CURVE) + 1)),
            ),
            Table(
                title="What differs",
                titles=("", "A", "B", ""),
                rows=tuple((c.name, c.a, c.b, "forbids a ratio" if c.forbids else "") for c in differing)
                or (("nothing that is known", "", "", ""),),
            ),
            Table(
                title="What doesn't",
                titles=("", "A and B"),
                rows=tuple((c.name, c.a) for c in comparison.conditions if not c.differs),
            ),
            Table(
                title="Capabilities",
                titles=("", "A", "B"),
                rows=tuple((c.name, _marked(c.a, c.a_mark), _marked(c.b, c.b_mark)) for c in capabilities),
            ),
        ),
        remarks=comparison.remarks,
    )


def _marked(words: str, mark: Mark) -> str:
    return f"{words} ({mark})" if words else str(mark)


def _name(side: Side) -> str:
    return f"{side.label}{f' ({side.kind})' if side.kind else ''}, {len(side.results)} of {len(side.runs)} runs"


def _measure(measure: Measure) -> tuple[str, str, str, str]:
    if measure.words is not None:
        return (measure.title, *measure.words, "")
    ratio = measure.ratio.words if measure.ratio is not None else ""
    return (measure.title, _spread(measure.a, measure.unit), _spread(measure.b, measure.unit), ratio)


def _spread(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return "not measured"
    figures = [_figure(value, unit) for value in (spread.median, spread.low, spread.high)]
    suffix = {"qps": "/s", "s": " ms", "s/Mq": " s/Mq"}.get(unit, "")
    return f"{figures[0]}{suffix}" if spread.count == 1 else f"{figures[0]}{suffix} [{figures[1]} .. {figures[2]}]"


def _figure(value: float, unit: str) -> str:
    match unit:
        case "qps":
            return rate(value)
        case "share":
            return percent(value)
        case "s":
            return milliseconds(value)
        case _:
            return f"{value:.1f}"


# --- for programs


def run_document(run: RunRecord) -> dict[str, Any]:
    """The run as JSON, without its seconds; docs/json.md describes it."""
    plain = msgspec.to_builtins(msgspec.structs.replace(run, seconds=()), str_keys=True)
    return {"version": 1, "loadtest": {k: v for k, v in plain.items() if k not in ("seconds", "remarks")}}


def comparison_document(comparison: Comparison, capabilities: Sequence[Capability] = ()) -> dict[str, Any]:
    """The comparison as JSON; docs/json.md describes it."""
    sides = {
        name: {
            "label": side.label,
            "kind": side.kind,
            "runs": [run.id for run in side.runs],
            "results": [run.id for run in side.results],
            "curve": {str(p): loss for p, loss in zip(CURVE, side.curve, strict=True)},
        }
        for name, side in (("a", comparison.a), ("b", comparison.b))
    }
    plain = {
        **sides,
        "pair_id": comparison.pair_id,
        "pairs": comparison.pairs,
        "refused": list(comparison.refused),
        "measures": [_measured(measure) for measure in comparison.measures],
        "conditions": [msgspec.to_builtins(condition) for condition in comparison.conditions],
        "capabilities": [msgspec.to_builtins(capability) for capability in capabilities],
        "remarks": list(comparison.remarks),
    }
    return {"version": 1, "comparison": plain}


def _measured(measure: Measure) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(measure)
    if measure.ratio is not None:
        plain["ratio"] |= {"shows_difference": measure.ratio.shows}
    return plain


_TRIAL_FIELDS: Final = tuple(
    f.name for f in msgspec.structs.fields(TrialRow) if f.name not in ("runid", "response_rcodes", "buckets", "since")
)


def run_csv(run: RunRecord) -> str:
    """The trials, one a line."""
    return _csv(("run", *_TRIAL_FIELDS), ((run.id, *(getattr(t, f) for f in _TRIAL_FIELDS)) for t in run.trials))


def comparison_csv(comparison: Comparison) -> str:
    """The measures, one a line: medians and ranges of both sides, and of the ratio."""
    titles = (
        "measure",
        "unit",
        *(f"{side}_{what}" for side in ("a", "b", "ratio") for what in ("median", "low", "high", "count")),
    )
    return _csv(titles, (_measure_fields(m) for m in comparison.measures if m.words is None))


def _measure_fields(measure: Measure) -> Iterator[object]:
    yield from (measure.id, measure.unit)
    for spread in (measure.a, measure.b):
        yield from ("",) * 4 if spread is None else (spread.median, spread.low, spread.high, spread.count)
    ratio = measure.ratio
    yield from ("",) * 4 if ratio is None else (ratio.median, ratio.low, ratio.high, ratio.pairs)


def _csv(titles: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows([_csv_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _csv_cell(value: object) -> object:
    # A spreadsheet must not run what a generator said.
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "@", "-"} else value


def _time(at: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return datetime.fromtimestamp(at, UTC).strftime(form)
