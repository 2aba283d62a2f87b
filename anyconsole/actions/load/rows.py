"""Rows of a load test's record: made from what was counted, put into lines of JSON, read from them again. Pure.

Reading is forgiving: fields of newer versions and rows of other tools are passed over, what is torn costs itself alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from anyconsole.actions.journal_scrub import scrub_json
from anyconsole.actions.load.answer import Answer
from anyconsole.actions.load.record import (
    NANOSECONDS,
    Event,
    Header,
    HostNoise,
    InstanceSecond,
    LimitCause,
    Periodic,
    PeriodicDetails,
    ResponseLatency,
    Result,
    Row,
    RunRecord,
    Summary,
    SummaryDetails,
    Sustained,
    TrialRow,
)
from anyconsole.model.load import BIN_RATIO, Counts, Latency, Trial, Untold, Verdict, bin_of

__all__ = [
    "buckets_of", "counts_of", "latency_of", "line_of", "periodic_of", "rcode_names", "result_of", "rows_of", "run_of", "summary_of",
    "trial_row",
]  # fmt: skip

_ROWS: Final[dict[str, type[Row]]] = {
    "header": Header, "event": Event, "stats_periodic": Periodic, "trial": TrialRow, "stats_sum": Summary,
}  # fmt: skip

# --- rows from values


def rcode_names(rcodes: Mapping[int, int]) -> dict[str, int]:
    """Counts by the rcode's name (RFC 6895)."""
    return {_RCODES.get(code, f"RCODE{code}"): count for code, count in sorted(rcodes.items())}


_RCODES: Final = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMPL", 5: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET", 8: "NXRRSET",
    9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI", 16: "BADVERS", 23: "BADCOOKIE",
}  # fmt: skip
_NUMBERS: Final = {name: number for number, name in _RCODES.items()} | {"NOTIMP": 4}


def _number(rcode: str) -> int:
    digits = rcode.removeprefix("RCODE").removeprefix("TYPE")
    return _NUMBERS.get(rcode.upper(), int(digits) if digits.isdigit() else 65535)


def buckets_of(latency: Latency) -> tuple[tuple[int, ...], ...]:
    """The histogram as [nanoseconds, answers], the middle of each bin."""
    return tuple((round(BIN_RATIO ** (i + 0.5) * 1000), n) for i, n in sorted(latency.bins.items()) if n)


def latency_of(buckets: Iterable[tuple[int, ...]], units_per_second: int = NANOSECONDS) -> Latency:
    """The histogram that [time, answers] or [from, to, answers] tell."""
    bins: dict[int, int] = {}
    for *edges, count in buckets:
        if edges:
            index = bin_of(sum(edges) / len(edges) * 1e6 / units_per_second)
            bins[index] = bins.get(index, 0) + count
    return Latency(bins=bins)


def _latency_row(latency: Latency) -> ResponseLatency:
    mean, low, high = latency.mean, latency.percentile(0.0), _longest(latency)
    if mean is None or low is None or high is None:
        return ResponseLatency()
    return ResponseLatency(
        avg=round(mean * NANOSECONDS),
        min=round(low * NANOSECONDS),
        max=round(high * NANOSECONDS),
        buckets=buckets_of(latency),
    )


def _longest(latency: Latency) -> float | None:
    """The upper edge of the highest bin, in seconds: no answer took longer."""
    used = [i for i, n in latency.bins.items() if n]
    return float(BIN_RATIO ** (max(used) + 1)) / 1e6 if used else None


def periodic_of(
    runid: str,
    since: float,
    counts: Counts,
    instances: Mapping[str, InstanceSecond],
    *,
    seconds: float = 1.0,
    untold: Untold = (),
) -> Periodic:
    """A second's row; `since` is epoch seconds, `untold` what its generator can't tell."""
    return Periodic(
        runid=runid,
        since=round(since * NANOSECONDS),
        until=round((since + seconds) * NANOSECONDS),
        queries=counts.sent,
        responses=counts.answered,
        timeouts=max(0, counts.sent - counts.answered),
        unexpected=counts.stray,
        response_rcodes=rcode_names(counts.rcodes),
        response_latency=_latency_row(counts.latency),
        x=PeriodicDetails(
            offered=counts.offered,
            skipped=counts.skipped,
            late=None if "late" in untold else counts.late,
            tc=None if "truncated" in untold else counts.truncated,
            gen_rcvbuf_err=counts.receive_errors,
            inst=dict(instances),
        ),
    )


def trial_row(runid: str, n: int, trial: Trial, verdict: Verdict, untold: Untold = ()) -> TrialRow:
    """A trial's row; `n` is its place in the run, from 1, `untold` what its generator can't tell."""
    order, counts = trial.order, trial.counts
    return TrialRow(
        runid=runid,
        n=n,
        phase=str(order.phase),
        rate=order.rate,
        prime=order.prime_rate,
        dur=order.seconds,
        since=round(trial.began_at * NANOSECONDS),
        sent=counts.sent,
        ok=counts.good,
        lost=counts.lost,
        late=None if "late" in untold else counts.late,
        tc=None if "truncated" in untold else counts.truncated,
        loss=counts.loss,
        p50=counts.latency.percentile(0.5),
        p95=counts.latency.percentile(0.95),
        p99=counts.latency.percentile(0.99),
        max=_longest(counts.latency),
        verdict=str(verdict),
        why=trial.void,
        offered=counts.offered,
        skipped=counts.skipped,
        unexpected=counts.stray,
        gen_cpu=max((health.busy for health in trial.health.values()), default=None),
        response_rcodes=rcode_names(counts.rcodes),
        buckets=buckets_of(counts.latency),
    )


def summary_of(runid: str, since: float, until: float, totals: Counts, result: Result) -> Summary:
    """The last row; times are epoch seconds."""
    return Summary(
        runid=runid,
        since=round(since * NANOSECONDS),
        until=round(until * NANOSECONDS),
        queries=totals.sent,
        responses=totals.answered,
        timeouts=max(0, totals.sent - totals.answered),
        unexpected=totals.stray,
        response_rcodes=rcode_names(totals.rcodes),
        response_latency=_latency_row(totals.latency),
        x=SummaryDetails(result=result),
    )


def result_of(
    answer: Answer,
    *,
    limit: LimitCause | None = None,
    cpu_s_per_mq_server: float | None = None,
    host_noise: HostNoise | None = None,
) -> Result:
    """What a course answered, as the last row has it, with what only the runner knows."""
    long = answer.sustained
    return Result(
        verdict=str(answer.ending),
        why=answer.why,
        lower_qps=answer.lower,
        upper_qps=answer.upper,
        loss_at_lower=answer.loss,
        p50=answer.p50,
        p95=answer.p95,
        p99=answer.p99,
        max=answer.worst,
        sustained=None
        if long is None
        else Sustained(
            qps=long.rate, s=long.seconds, loss=long.loss, p50=long.p50, p95=long.p95, p99=long.p99, max=long.worst
        ),
        plateau_qps=answer.plateau,
        limit=limit,
        trials=answer.trials,
        seconds=answer.seconds,
        cpu_s_per_mq_server=cpu_s_per_mq_server,
        host_noise=host_noise,
    )


def counts_of(row: Periodic | Summary, units_per_second: int = NANOSECONDS) -> Counts:
    """What a row counted, also one of another tool: it adds up with others."""
    x = row.x if isinstance(row, Periodic) and row.x is not None else PeriodicDetails(offered=row.queries)
    return Counts(
        offered=x.offered,
        sent=row.queries,
        answered=row.responses,
        late=x.late or 0,
        truncated=x.tc or 0,
        stray=row.unexpected,
        skipped=x.skipped,
        receive_errors=x.gen_rcvbuf_err,
        rcodes={_number(name): count for name, count in row.response_rcodes.items()},
        latency=latency_of(row.response_latency.buckets, units_per_second),
    )


# --- lines


def line_of(row: Row) -> bytes:
    """The row as one line of JSON with its newline. What looks like a secret is taken out of every text in it."""
    plain = scrub_json(msgspec.to_builtins(row, str_keys=True, enc_hook=str))
    try:
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def rows_of(content: bytes) -> tuple[list[Row], tuple[str, ...]]:
    """The rows in a file's content, and remarks on what of it is none. Objects may also be spread over several lines."""
    rows: list[Row] = []
    unreadable = 0
    others: dict[str, int] = {}
    for document in _documents(content):
        row = None if document is None else _row(document)
        if row is not None:
            rows.append(row)
        elif document is not None and isinstance(kind := document.get("type"), str) and kind not in _ROWS:
            others[kind] = others.get(kind, 0) + 1
        else:
            unreadable += 1
    remarks = [f"{unreadable} unreadable row{'' if unreadable == 1 else 's'}"] if unreadable else []
    return rows, (*remarks, *(f"{n} of the unknown type {kind[:40]!r}" for kind, n in others.items()))


def _documents(content: bytes) -> Iterator[dict[str, Any] | None]:
    """Each JSON object, None for what is none: line by line, unless the first object goes on over several lines."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    if lines and _object(lines[0]) is None and lines[0].strip() == b"{":
        yield from _spread(content.decode("utf-8", "replace"))
        return
    for line in lines:
        yield _object(line)


def _spread(text: str) -> Iterator[dict[str, Any] | None]:
    decoder, place = json.JSONDecoder(), 0
    while (place := text.find("{", place)) >= 0:
        try:
            document, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            yield None
            return
        yield document


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


_Some = TypeVar("_Some")


def _row(document: dict[str, Any]) -> Row | None:
    kind = _ROWS.get(str(document.get("type")))
    if kind is None or "runid" not in document:
        return None
    # kxdpgun numbers its runs; the schema wants text. What another tool keeps under `x` isn't ours.
    plain = document | {"runid": str(document["runid"])}
    return _as(kind, plain) or _as(kind, {k: v for k, v in plain.items() if k != "x"})


def _as(kind: type[_Some], plain: dict[str, Any]) -> _Some | None:
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError:
        return None


def run_of(rows: Iterable[Row], *, state: str = "done", remarks: tuple[str, ...] = ()) -> RunRecord | None:
    """The run that rows tell of; None without a header. `state` is what it is if its last row is missing."""
    by_type: dict[type[Row], list[Any]] = {kind: [] for kind in _ROWS.values()}
    for row in rows:
        by_type[type(row)].append(row)
    if not by_type[Header]:
        return None
    ends = by_type[Summary]
    return RunRecord(
        header=by_type[Header][0],
        events=tuple(by_type[Event]),
        seconds=tuple(by_type[Periodic]),
        trials=tuple(by_type[TrialRow]),
        summary=ends[-1] if ends else None,
        state="done" if ends else state,
        remarks=remarks,
    )
