"""What limited a load test: the first cause of loadtest.md, 6.3, that a trial and the counters around it speak for. Pure.

Every counter may be unknown, and unknown is never taken for zero: a cause is only named on figures that are there, and what would have
been needed is said. Counters are read before a trial's priming and after its last answer: they contain the priming, the trial doesn't.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from anyconsole.actions.load.answer import SHORT
from anyconsole.model.load import Trial

__all__ = ["Cause", "Limit", "Reading", "Watched", "catchment", "limit_of"]

EXPLAINS: Final = 0.5
"""A counter explains a loss if it grew by at least so much of it."""
RATE_LIMITED: Final = 0.005
"""Share of truncated or refused answers, above that at rest, from which on somebody limits the rate (loadtest.md, 2.4)."""
THROTTLED: Final = 0.1
"""Share of CPU periods in which a cgroup was held back that is no accident any more."""
BUSY: Final = 0.9
"""Share of the time from which on a worker has nothing left: it ran, or waited for a CPU that others had."""
IDLE: Final = 0.5
"""Workers that use less than this share of what the busiest uses, on average, could have taken its queries."""
ALL: Final = 0.98
"""Share of the queries asked that counts as all of them: counters aren't read at the same instant."""

Figure: TypeAlias = int | float | str


class Cause(StrEnum):
    """What limited a result."""

    GENERATOR = "generator"
    RATE_LIMIT = "rate-limit"
    CATCHMENT_MOVED = "catchment-moved"
    CPU_QUOTA = "cpu-quota"
    WORKER_CPU = "worker-cpu"
    FLOW_SKEW = "flow-skew"
    SOCKET_BUFFER = "socket-buffer"
    HOST_NETWORK = "host-network"
    RETURN_PATH = "return-path"
    PATH = "path"
    UNKNOWN = "unknown"


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """The cause, in words, and the figures that speak for it."""

    cause: Cause
    words: str
    evidence: Mapping[str, Figure] = {}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of an instance at one moment, as they stand; None is unknown.

    `served` are the queries that its name server took in, `withheld` those of them that it deliberately left without any answer
    (NSD: num.dropped; BIND: RateDropped; Knot: mod-rrl's dropped). `cpu` are seconds by worker: only the processes or threads that
    answer queries; `waited` are seconds in which they could have run but had no CPU. `periods` and `throttled` are those of its cgroup,
    `datagrams` and `receive_errors` UDP's in its network namespace (InDatagrams, RcvbufErrors), `socket_drops` by worker; `softnet_drops`
    and `nic_drops` are the host's: of several instances on one host, only one has them.
    """

    served: int | None = None
    withheld: int | None = None
    cpu: Mapping[str, float] | None = None
    waited: Mapping[str, float] | None = None
    periods: int | None = None
    throttled: int | None = None
    datagrams: int | None = None
    receive_errors: int | None = None
    socket_drops: Mapping[str, int] | None = None
    softnet_drops: int | None = None
    nic_drops: int | None = None


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """An instance over a trial: `seconds` of load lie between the two readings.

    `rate_limit` is what its name server is configured to answer a client per second (0 is no limit, None unknown). `has_moved` is true if a
    BGP session or an exported route of its node changed. `share` are its own answers of all those that told an NSID.
    """

    name: str
    before: Reading
    after: Reading
    seconds: float
    rate_limit: int | None = None
    has_moved: bool = False
    share: float | None = None


def limit_of(trial: Trial, instances: Iterable[Watched], *, loss: float = 0.01, rest: Trial | None = None) -> Limit:
    """What limited a trial, as far as it can be told.

    Args:
        trial: The trial that failed, or the overloaded one nearest to the result.
        instances: Everything that may have answered, over the same time.
        loss: The loss ratio that is allowed.
        rest: A trial that passed at a low rate: what it saw truncated or refused has other reasons than the rate.
    """
    targets = tuple(instances)
    ladder = (
        _generator(trial, loss),
        _rate_limit(trial, targets, rest),
        catchment(targets),
        _quota(targets),
        _buffers(trial, targets, loss),
        _host(trial, targets),
        _silent_limit(trial, targets),
        _paths(trial, targets),
    )
    return next((limit for limit in ladder if limit is not None), _unknown(trial, targets))


# --- the causes, in order


def _generator(trial: Trial, loss: float) -> Limit | None:
    counts = trial.counts
    if counts.short > SHORT:
        words = f"the generators skipped {counts.short:.1%} of their schedule: they were the limit, not the target"
        return Limit(
            cause=Cause.GENERATOR, words=words, evidence={"skipped": counts.skipped, "offered": counts.offered}
        )
    if counts.receive_errors > loss * counts.sent / 10:
        words = f"the generators dropped {counts.receive_errors:,} answers in their own receive buffers"
        return Limit(
            cause=Cause.GENERATOR, words=words, evidence={"receive_errors": counts.receive_errors, "sent": counts.sent}
        )
    return None


def _rate_limit(trial: Trial, targets: Sequence[Watched], rest: Trial | None) -> Limit | None:
    share, usual = _withheld(trial), _withheld(rest) if rest is not None else 0.0
    counts = trial.counts
    seen: dict[str, Figure] = {"truncated": counts.truncated, "refused": counts.rcodes.get(5, 0), "sent": counts.sent}
    configured = [f"{i.name} is set to {i.rate_limit:,} q/s per client" for i in targets if i.rate_limit]
    if share - usual > RATE_LIMITED:
        words = "; ".join(
            [f"{share:.1%} of the queries were answered truncated or refused, {usual:.1%} at rest", *configured]
        )
        return Limit(cause=Cause.RATE_LIMIT, words=words, evidence=seen)
    withheld, missing = _grown(targets, "withheld"), _missing(trial)
    if withheld is not None and missing and withheld >= max(EXPLAINS * missing, RATE_LIMITED * counts.sent):
        said = f"the name servers themselves withheld {withheld:,} answers, {missing:,} are missing"
        seen |= {"withheld": withheld, "lost": missing}
        return Limit(cause=Cause.RATE_LIMIT, words="; ".join([said, *configured]), evidence=seen)
    return None


def _withheld(trial: Trial) -> float:
    counts = trial.counts
    return (counts.truncated + counts.rcodes.get(5, 0)) / counts.sent if counts.sent else 0.0


def catchment(targets: Sequence[Watched]) -> Limit | None:
    """Catchment-moved, if packets went elsewhere or may have: then nothing that was counted is about the target."""
    for instance in targets:
        if instance.has_moved:
            words = f"a BGP session or an exported route of {instance.name} changed meanwhile"
            return Limit(cause=Cause.CATCHMENT_MOVED, words=words, evidence={"instance": instance.name})
        if instance.share is not None and instance.share < 1:
            words = f"{instance.name} gave {instance.share:.0%} of the answers that tell who gave them"
            evidence: dict[str, Figure] = {"instance": instance.name, "share": round(instance.share, 3)}
            return Limit(cause=Cause.CATCHMENT_MOVED, words=words, evidence=evidence)
    return None


def _quota(targets: Sequence[Watched]) -> Limit | None:
    for instance in targets:
        throttled = _growth(instance, "throttled")
        periods = _growth(instance, "periods")
        if throttled and (periods is None or throttled >= THROTTLED * periods):
            of = "" if periods is None else f" of {periods}"
            words = f"{instance.name} had used up its CPU quota in {throttled}{of} periods"
            evidence: dict[str, Figure] = {"instance": instance.name, "throttled": throttled}
            return Limit(
                cause=Cause.CPU_QUOTA,
                words=words,
                evidence=evidence if periods is None else evidence | {"periods": periods},
            )
    return None


def _buffers(trial: Trial, targets: Sequence[Watched], loss: float) -> Limit | None:
    """The sockets' own drops, or without a loss to explain (a slow one, not a lossy one), busy workers alone."""
    lost = _missing(trial)
    dropped = _dropped(targets)
    is_lossy = lost > loss * trial.counts.sent
    if is_lossy and (dropped is None or dropped < EXPLAINS * lost):
        return None
    busy = {f"{i.name} {worker}": share for i in targets for worker, share in _busy(i).items()}
    evidence: dict[str, Figure] = {"lost": lost}
    if dropped is not None:
        evidence["socket_drops"] = dropped
    evidence |= {f"at work {worker}": round(share, 2) for worker, share in busy.items()}
    said = (
        f"their sockets dropped {dropped:,}, {lost:,} answers are missing" if is_lossy else "answers are late, not lost"
    )
    worker = max(busy, key=lambda w: busy[w], default="")
    if worker and busy[worker] >= BUSY:
        others = [share for w, share in busy.items() if w != worker]
        if others and sum(others) / len(others) < IDLE * busy[worker]:
            average = sum(others) / len(others)
            rest = f"the {len(others)} others" if len(others) > 1 else "the other"
            words = f"{worker} was at work for {busy[worker]:.0%} of the time, {rest} for {average:.0%}: too few flows; {said}"
            return Limit(cause=Cause.FLOW_SKEW, words=words, evidence=evidence)
        full = sum(share >= BUSY for share in busy.values())
        words = f"{full} of {len(busy)} workers were at work all the time, {worker} for {busy[worker]:.0%}; {said}"
        return Limit(cause=Cause.WORKER_CPU, words=words, evidence=evidence)
    if not is_lossy:
        return None
    free = (
        f"the busiest worker was at work for {busy[worker]:.0%} of the time"
        if worker
        else "how busy the workers were isn't known"
    )
    return Limit(
        cause=Cause.SOCKET_BUFFER, words=f"{said}, and {free}: small buffers, or late scheduling", evidence=evidence
    )


def _host(trial: Trial, targets: Sequence[Watched]) -> Limit | None:
    lost = _missing(trial)
    drops = {name: _grown(targets, name) for name in ("softnet_drops", "nic_drops")}
    known: dict[str, Figure] = {name: count for name, count in drops.items() if count is not None}
    count = sum(c for c in drops.values() if c is not None)
    if not lost or count < EXPLAINS * lost:
        return None
    words = f"the hosts dropped {count:,} packets before any socket, {lost:,} answers are missing"
    return Limit(cause=Cause.HOST_NETWORK, words=words, evidence=known | {"lost": lost})


def _silent_limit(trial: Trial, targets: Sequence[Watched]) -> Limit | None:
    """Queries that were taken in and not answered, where a limit is set and the name server doesn't count what it withholds."""
    served, asked = _grown(targets, "served"), _asked(trial)
    limited = [i for i in targets if i.rate_limit and _growth(i, "withheld") is None]
    if served is None or not limited or not _missing(trial) or served < ALL * asked:
        return None
    words = f"{served:,} queries of {asked:,} were taken in, {_missing(trial):,} not answered: {limited[0].name} limits each client to "
    return Limit(
        cause=Cause.RATE_LIMIT,
        words=f"{words}{limited[0].rate_limit:,} q/s, and doesn't count what it withholds",
        evidence={
            "served": served,
            "asked": asked,
            "lost": _missing(trial),
            "rate_limit": limited[0].rate_limit or 0,
        },
    )


def _paths(trial: Trial, targets: Sequence[Watched]) -> Limit | None:
    served, asked, lost = _grown(targets, "served"), _asked(trial), trial.counts.lost
    # What reached any socket of the namespace is the most that its name server can have served.
    arrived = served if served is not None else _grown(targets, "datagrams")
    if arrived is None or not lost:
        return None
    evidence: dict[str, Figure] = {
        "served" if served is not None else "datagrams": arrived,
        "asked": asked,
        "lost": lost,
    }
    if served is not None and served >= ALL * asked:
        doubt = "" if all(i.rate_limit == 0 for i in targets) else "; or they limit rates without a word"
        words = f"the name servers took in {served:,} of {asked:,} queries, {lost:,} answers never arrived{doubt}"
        return Limit(cause=Cause.RETURN_PATH, words=words, evidence=evidence)
    dropped = _dropped(targets)
    if asked - arrived - (dropped or 0) >= EXPLAINS * lost:
        seen = "their sockets' drops aren't known" if dropped is None else f"their sockets dropped {dropped:,}"
        words = f"{arrived:,} of {asked:,} queries reached the name servers and {seen}: lost on the way (path, packet filter, conntrack)"
        return Limit(
            cause=Cause.PATH,
            words=words,
            evidence=evidence if dropped is None else evidence | {"socket_drops": dropped},
        )
    return None


def _unknown(trial: Trial, targets: Sequence[Watched]) -> Limit:
    """No cause. It is said which counters nobody could read."""
    names = {
        "served": "queries served",
        "receive_errors": "UDP receive errors",
        "throttled": "CPU throttling",
        "softnet_drops": "softnet drops",
    }
    missing = [words for field, words in names.items() if _grown(targets, field) is None]
    if not all(_busy(i) for i in targets):
        missing.append("CPU of the workers")
    counts = trial.counts
    lost = f"{_missing(trial):,} of {counts.sent:,} answers are missing"
    if counts.late:
        lost += f", {counts.late:,} were late"
    words = f"{lost}; not known: {', '.join(missing)}" if missing else f"{lost}; no counter that is read explains it"
    evidence: dict[str, Figure] = {"lost": _missing(trial), "sent": counts.sent}
    if counts.late:
        evidence["late"] = counts.late
    return Limit(cause=Cause.UNKNOWN, words=words, evidence=evidence)


# --- figures


def _asked(trial: Trial) -> int:
    """Queries that the counters should have seen: also those of the priming."""
    return trial.counts.sent + round(trial.order.prime_rate * trial.order.prime_seconds)


def _missing(trial: Trial) -> int:
    """Queries to which no answer came at all, neither late nor useless: those alone can a counter of drops explain."""
    return max(0, trial.counts.sent - trial.counts.answered - trial.counts.late)


def _growth(instance: Watched, field: str) -> int | None:
    """By how much a counter grew. One that went back was begun anew, so nobody knows."""
    before, after = getattr(instance.before, field), getattr(instance.after, field)
    return after - before if before is not None and after is not None and after >= before else None


def _grown(instances: Sequence[Watched], field: str) -> int | None:
    """All instances together; unknown if one is."""
    grown = [_growth(i, field) for i in instances]
    known = [g for g in grown if g is not None]
    return sum(known) if known and len(known) == len(grown) else None


def _dropped(targets: Sequence[Watched]) -> int | None:
    """What sockets dropped for want of room, by the namespace's count, or socket by socket."""
    counted = _grown(targets, "receive_errors")
    if counted is not None:
        return counted
    drops = [_by_worker(i.before.socket_drops, i.after.socket_drops) for i in targets]
    return sum(round(sum(d.values())) for d in drops if d) if drops and all(d is not None for d in drops) else None


def _busy(instance: Watched) -> dict[str, float]:
    """Share of the time in which each worker was at work; empty if unknown."""
    used = _by_worker(instance.before.cpu, instance.after.cpu)
    if not used or instance.seconds <= 0:
        return {}
    waited = _by_worker(instance.before.waited, instance.after.waited) or {}
    return {worker: min(1.0, (ran + waited.get(worker, 0.0)) / instance.seconds) for worker, ran in used.items()}


def _by_worker(before: Mapping[str, float] | None, after: Mapping[str, float] | None) -> dict[str, float] | None:
    if before is None or after is None:
        return None
    return {w: after[w] - before[w] for w in after if w in before and after[w] >= before[w]}
