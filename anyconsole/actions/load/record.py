"""The record of a load test as values: its rows, and the run that they tell of. No files, no JSON: those are `rows` and `files`.

Row types and field names are those of DNS-OARC dns-metrics (header, event, stats_periodic, stats_sum); what is ours beyond that is under
`x`, and in rows of the type `trial`. So other tools can read ours, and the rows that kxdpgun, shotgun and others write can be read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import msgspec

from anyconsole.model.load import Verdict

__all__ = [
    "NANOSECONDS", "SCHEMA_VERSION", "Conditions", "Event", "EventDetails", "GeneratorHost", "Goal", "Header", "HostNoise", "Instance",
    "InstanceSecond", "LimitCause", "Periodic", "PeriodicDetails", "ResponseLatency", "Result", "Row", "RunRecord", "Summary",
    "SummaryDetails", "Sustained", "Target", "TrialRow", "Workload",
]  # fmt: skip

SCHEMA_VERSION: Final = 20221207
"""Of dns-metrics, a date: the one whose names are used here."""
NANOSECONDS: Final = 1_000_000_000

# --- the header: under which conditions a run was made. What isn't known is None or "", never 0.


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A name server under test. `identity` is its NSID, `rcvbuf` bytes, `cpu_limit` cores, `rrl` its rate limits in words."""

    name: str
    identity: str = ""
    ip: str = ""
    version: str = ""
    workers: int | None = None
    rcvbuf: int | None = None
    cpu_limit: float | None = None
    cpuset: str = ""
    rrl: str = ""
    kernel: str = ""
    config_hash: str = ""

    @property
    def cores(self) -> float | None:
        """Cores that it can use at most: its quota or its CPU set, but never more than it has workers; None if nothing is known."""
        known = [float(n) for n in (self.workers, self.cpu_limit, _cpus(self.cpuset)) if n]
        return min(known) if known else None


def _cpus(cpuset: str) -> int | None:
    """How many CPUs a list like 0-3,8 has."""
    try:
        ranges = [part.split("-") for part in cpuset.split(",") if part.strip()]
        return sum(int(r[-1]) - int(r[0]) + 1 for r in ranges) or None
    except ValueError:
        return None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What was loaded. `kind` is virtual or bare; `path` says what the address belongs to: pod, service or anycast."""

    name: str = ""
    stack: str = ""
    kind: str = ""
    tenant: str = ""
    node: str = ""
    instance: tuple[Instance, ...] = ()
    address: str = ""
    port: int = 53
    path: str = ""
    zone: str = ""
    zone_serial: int | None = None

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name or "@".join(filter(None, (self.tenant, self.node))) or self.address or "?"

    @property
    def cores(self) -> float | None:
        """Cores of all its instances; None unless all are known."""
        cores = [instance.cores for instance in self.instance]
        return sum(c for c in cores if c) if cores and all(cores) else None


class GeneratorHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host that sent queries. `flows` are its sockets, `selftest_max_qps` what it proved to be able to send."""

    host: str
    cpu_model: str = ""
    kernel: str = ""
    flows: int | None = None
    src_addrs: tuple[str, ...] = ()
    selftest_max_qps: float | None = None
    rtt_ms: float | None = None


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked. `mix` is the share of each kind of query (A, AAAA, NXDOMAIN, ...), `edns` the payload size or None.

    `protocol` is what the queries travelled in: udp, tcp or dot.
    """

    file_sha256: str = ""
    lines: int | None = None
    edns: int | None = None
    do: bool = False
    mix: dict[str, float] = {}
    source: str = ""
    protocol: str = "udp"


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked for: the loss allowed (share), how many bad seconds (share), the interval's width (share), and the limits."""

    loss: float = 0.01
    exceed: float = 0.5
    width: float = 0.01
    trial_s: float = 1.0
    prime_s: float = 0.3
    confirm_s: float = 30.0
    p99_guard_ms: float | None = None
    cap_qps: float | None = None


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """`x` of the header. `pair_id` links runs that are to be compared, `repeat` counts them; `change` is the run's id in the journal."""

    purpose: str = ""
    operator: str = ""
    reason: str = ""
    ticket: str = ""
    profile: str = ""
    change: str = ""
    console_version: str = ""
    pair_id: str = ""
    repeat: int = 0
    target: Target = Target()
    generators: tuple[GeneratorHost, ...] = ()
    workload: Workload = Workload()
    goal: Goal = Goal()


class Header(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="header"):
    """The first row. `generator` is the program that sent the queries; `stats_interval` and `timeout` are seconds."""

    runid: str
    schema_version: int = SCHEMA_VERSION
    generator: str = ""
    generator_version: str = ""
    generator_params: tuple[str, ...] = ()
    time_units_per_sec: int = NANOSECONDS
    stats_interval: float = 1.0
    timeout: float | None = None
    since: int | None = None
    x: Conditions = Conditions()


# --- what happened


class EventDetails(msgspec.Struct, frozen=True, kw_only=True):
    """`x` of an event: when (epoch seconds), who, and the rate it happened at."""

    at: float | None = None
    who: str = ""
    rate: float | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="event"):
    """Something that happened. `msg_type` is start, phase, rate, guard, stop, abort or note."""

    runid: str
    msg: str
    msg_type: str = "note"
    x: EventDetails = EventDetails()


class InstanceSecond(msgspec.Struct, frozen=True, kw_only=True):
    """What a name server did in a second: its share of the answers, queries served, cores used, and what went wrong on its side."""

    share: float | None = None
    served: int | None = None
    cpu: float | None = None
    throttled: int | None = None
    rcvbuf_err: int | None = None


class PeriodicDetails(msgspec.Struct, frozen=True, kw_only=True):
    """`x` of a second."""

    offered: int = 0
    skipped: int = 0
    late: int | None = 0
    tc: int | None = 0
    gen_rcvbuf_err: int = 0
    inst: dict[str, InstanceSecond] = {}


class ResponseLatency(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Latencies in the header's time units. Each bucket ends in how many answers there were; ours begin with the middle of a 3 % bin."""

    avg: float | None = None
    min: float | None = None
    max: float | None = None
    buckets: tuple[tuple[int, ...], ...] = ()


class Periodic(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="stats_periodic"):
    """A second. All is counted in the second in which the query was sent; `timeouts` includes what came late."""

    runid: str
    since: int = 0
    until: int = 0
    queries: int = 0
    responses: int = 0
    timeouts: int | None = None
    unexpected: int = 0
    response_rcodes: dict[str, int] = {}
    response_latency: ResponseLatency = ResponseLatency()
    x: PeriodicDetails | None = None


class TrialRow(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="trial"):
    """A trial, ours. `rate`, `prime` are queries/s, `dur` and the latencies seconds; `ok` had a usable answer; `why`: why it is void."""

    runid: str
    n: int
    phase: str
    rate: float
    prime: float = 0.0
    dur: float = 1.0
    since: int = 0
    sent: int = 0
    ok: int = 0
    lost: int = 0
    late: int | None = 0
    tc: int | None = 0
    loss: float = 0.0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    verdict: str = "ok"
    why: str = ""
    offered: int = 0
    skipped: int = 0
    unexpected: int = 0
    gen_cpu: float | None = None
    response_rcodes: dict[str, int] = {}
    buckets: tuple[tuple[int, ...], ...] = ()

    @property
    def is_void(self) -> bool:
        """True if it says nothing about its target."""
        return self.verdict == str(Verdict.VOID)


# --- the end


class Sustained(msgspec.Struct, frozen=True, kw_only=True):
    """The long run at the result: what the votes forgive shows here. Latencies are seconds."""

    qps: float
    s: float
    loss: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class LimitCause(msgspec.Struct, frozen=True, kw_only=True):
    """What limited the result, and the figures that say so."""

    cause: str
    words: str = ""
    evidence: dict[str, Any] = {}


class HostNoise(msgspec.Struct, frozen=True, kw_only=True):
    """What else the target's host did: stolen time (share), load average, cores that others used."""

    steal: float | None = None
    loadavg: float | None = None
    other_cpu: float | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found. `verdict` is ok, >=cap, latency-limited, generator-limited, aborted, void or nothing-answers.

    `lower_qps` is the highest rate that passed, `upper_qps` the lowest that failed. Latencies are seconds, at `lower_qps`.
    """

    verdict: str
    why: str = ""
    lower_qps: float | None = None
    upper_qps: float | None = None
    loss_at_lower: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    sustained: Sustained | None = None
    plateau_qps: float | None = None
    limit: LimitCause | None = None
    trials: int = 0
    seconds: float = 0.0
    cpu_s_per_mq_server: float | None = msgspec.field(name="cpu_s_per_Mq_server", default=None)
    host_noise: HostNoise | None = None


class SummaryDetails(msgspec.Struct, frozen=True, kw_only=True):
    """`x` of the last row."""

    result: Result | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="stats_sum"):
    """The last row: totals of all trials, and what was found. A file without it is of a run that is going on or was cut off."""

    runid: str
    since: int = 0
    until: int = 0
    queries: int = 0
    responses: int = 0
    timeouts: int | None = None
    unexpected: int = 0
    response_rcodes: dict[str, int] = {}
    response_latency: ResponseLatency = ResponseLatency()
    x: SummaryDetails = SummaryDetails()


Row: TypeAlias = Header | Event | Periodic | TrialRow | Summary


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its file tells it. `state` is done, running, or aborted: it was cut off. `remarks` say what couldn't be read."""

    header: Header
    events: tuple[Event, ...] = ()
    seconds: tuple[Periodic, ...] = ()
    trials: tuple[TrialRow, ...] = ()
    summary: Summary | None = None
    state: str = "done"
    remarks: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its name."""
        return self.header.runid

    @property
    def conditions(self) -> Conditions:
        """Under which it was made."""
        return self.header.x

    @property
    def result(self) -> Result:
        """What it found; a run without an end found nothing, whatever its trials say."""
        found = self.summary.x.result if self.summary is not None else None
        return found or Result(verdict="" if self.summary is not None else self.state, trials=len(self.trials))

    @property
    def began_at(self) -> float | None:
        """Epoch seconds; None if the tool that wrote it never said."""
        rows: Iterator[int | None] = (r.since for r in (self.header, *self.trials, *self.seconds, self.summary) if r)
        first = next((since for since in rows if since), None)
        return None if first is None else first / self.header.time_units_per_sec
