"""The conditions of load tests side by side: which must be equal before results may be compared, and which are what is compared. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from anyconsole.actions.load.record import GeneratorHost, Instance, RunRecord
from anyconsole.actions.load.words import percent, rate

__all__ = ["Condition", "conditions", "is_search", "refusals"]


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A circumstance on both sides. One that `forbids` must be equal and known, or there is no ratio.

    It is `mixed` if the runs of a side differ among themselves.
    """

    name: str
    a: str
    b: str
    forbids: bool = False
    mixed: bool = False

    @property
    def differs(self) -> bool:
        """True if the sides aren't alike in it."""
        return self.a != self.b


def is_search(run: RunRecord) -> bool:
    """True for a run that looked for a rate; else it was given."""
    return run.conditions.purpose in ("search", "")


_NOT_KNOWN: Final = "not known"


def conditions(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> tuple[Condition, ...]:
    """All of them, those that must be equal first."""
    return tuple(
        _condition(name, [value(run) for run in a], [value(run) for run in b], forbids)
        for forbids, rules in ((True, _MUST_BE_EQUAL), (False, _MAY_DIFFER))
        for name, value in rules
    )


def _condition(name: str, a: Sequence[str], b: Sequence[str], forbids: bool) -> Condition:
    said = [" or ".join(dict.fromkeys(value or _NOT_KNOWN for value in values)) for values in (a, b)]
    return Condition(name=name, a=said[0], b=said[1], forbids=forbids, mixed=len({*a}) > 1 or len({*b}) > 1)


def refusals(conditions: Iterable[Condition]) -> Iterable[str]:
    """Why nothing can be compared, one reason each."""
    for condition in conditions:
        if not condition.forbids:
            continue
        if condition.differs:
            yield f"{condition.name} differs: {condition.a} against {condition.b}"
        elif condition.mixed:
            yield f"{condition.name} differs within each side: {condition.a}"
        elif condition.a == _NOT_KNOWN:
            yield f"{condition.name} isn't known"


def _rate(run: RunRecord) -> str:
    """What was offered, where that was said beforehand."""
    if is_search(run):
        return "searched for"
    return ", ".join(f"{rate(r)}/s" for r in dict.fromkeys(trial.rate for trial in run.trials if not trial.is_void))


def _goal(run: RunRecord) -> str:
    goal = run.conditions.goal
    guard = f", p99 {goal.p99_guard_ms:g} ms" if goal.p99_guard_ms else ""
    return (
        f"{percent(goal.loss)} loss{guard}, {percent(goal.exceed, 0)} of {goal.trial_s:g} s trials, width {percent(goal.width, 1)}, "
        f"primed {goal.prime_s:g} s"
    )


def _generators(run: RunRecord) -> str:
    hosts = sorted(f"{host.host} ({host.cpu_model or 'CPU not known'})" for host in run.conditions.generators)
    program = " ".join(filter(None, (run.header.generator, run.header.generator_version)))
    return f"{program} on {', '.join(hosts)}" if hosts else ""


def _flows(run: RunRecord) -> str:
    return _by_host(run, lambda g: f"{g.flows} from {len(g.src_addrs)} addresses" if g.flows else "")


def _by_host(run: RunRecord, words: Callable[[GeneratorHost], str]) -> str:
    """What is said of each generator; "" if one of them says nothing."""
    said = [words(host) for host in sorted(run.conditions.generators, key=lambda g: g.host)]
    return ", ".join(said) if all(said) else ""


def _by_instance(words: Callable[[Instance], str]) -> Callable[[RunRecord], str]:
    return lambda run: ", ".join(dict.fromkeys(words(i) or _NOT_KNOWN for i in run.conditions.target.instance))


def _edns(run: RunRecord) -> str:
    workload = run.conditions.workload
    return f"{workload.edns} bytes{', DO' if workload.do else ''}" if workload.edns else "none"


def _loaded(run: RunRecord) -> str:
    serial = run.conditions.target.zone_serial
    return f"{run.conditions.target.zone or 'zone not known'}{f', serial {serial}' if serial is not None else ''}"


_Rule = tuple[str, Callable[[RunRecord], str]]
_MUST_BE_EQUAL: Final[tuple[_Rule, ...]] = (
    ("purpose", lambda run: run.conditions.purpose),
    ("rate", _rate),
    ("query set", lambda run: run.conditions.workload.file_sha256[:16]),
    ("protocol", lambda run: run.conditions.workload.protocol),
    ("EDNS", _edns),
    ("flows", _flows),
    ("timeout", lambda run: f"{run.header.timeout:g} s" if run.header.timeout else ""),
    ("goal", _goal),
    ("generator", _generators),
)
_MAY_DIFFER: Final[tuple[_Rule, ...]] = (
    ("kind", lambda run: run.conditions.target.kind),
    ("stack", lambda run: run.conditions.target.stack),
    ("instances", lambda run: str(len(run.conditions.target.instance) or "")),
    ("version", _by_instance(lambda i: i.version)),
    ("workers", _by_instance(lambda i: str(i.workers or ""))),
    ("CPU limit", _by_instance(lambda i: f"{i.cpu_limit:g} cores" if i.cpu_limit else "none")),
    ("CPU set", _by_instance(lambda i: i.cpuset or "none")),
    ("receive buffer", _by_instance(lambda i: f"{i.rcvbuf >> 10} KiB" if i.rcvbuf else "")),
    ("rate limits", _by_instance(lambda i: i.rrl)),
    ("kernel", _by_instance(lambda i: i.kernel)),
    ("configuration", _by_instance(lambda i: i.config_hash[:12])),
    ("path", lambda run: run.conditions.target.path),
    ("address family", lambda run: "IPv6" if ":" in run.conditions.target.address else "IPv4"),
    ("zone", _loaded),
    ("round trip", lambda run: _by_host(run, lambda g: f"{g.rtt_ms:.1f} ms" if g.rtt_ms is not None else "")),
    ("long run", lambda run: f"{run.conditions.goal.confirm_s:g} s" if is_search(run) else ""),
    ("rate cap", lambda run: f"{rate(cap)}/s" if (cap := run.conditions.goal.cap_qps) else ""),
    ("console", lambda run: run.conditions.console_version),
)
