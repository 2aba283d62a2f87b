"""A load test as it is shown while it runs, and after: one value, made anew by the engine a few times a second, and never a backlog."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from anyconsole.model.load import Phase, Verdict

__all__ = ["GeneratorRow", "GridPoint", "InstanceRow", "LoadSecond", "LoadState", "LoadView", "Point"]


class LoadState(StrEnum):
    """What a load test is doing."""

    PREPARING = "preparing"
    PROVING = "proving where packets go"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class LoadSecond(msgspec.Struct, frozen=True, kw_only=True):
    """One second of all generators, by when the query was sent. Times are seconds, None where nothing was answered.

    `at` is epoch seconds of its beginning; `loss` a share of `sent` (0 to 1). `rcodes` are by number. None is not known.
    """

    at: float
    target: float
    offered: int
    sent: int
    answered: int
    lost: int
    late: int | None
    truncated: int | None
    loss: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    worst: float | None = None
    rcodes: dict[int, int] = {}


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One trial on the curve of rate against loss. `p99` is seconds."""

    phase: Phase
    rate: float
    loss: float
    answered: float
    verdict: Verdict
    p99: float | None = None
    void: str = ""


class GridPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A rate that is voted on, with its votes so far; `passed` is None while they go on."""

    rate: float
    votes: tuple[Verdict, ...] = ()
    passed: bool | None = None


class GeneratorRow(msgspec.Struct, frozen=True, kw_only=True):
    """How a generator fares. `busy` is the share of a core per process, `short` the share of its schedule that it skipped.

    `limit` is what its self-test found it can do (queries/s), `heard_at` when it spoke last (epoch seconds); None is unknown.
    """

    name: str
    state: str = ""
    sent: float | None = None
    busy: float | None = None
    short: float | None = None
    receive_errors: int | None = None
    flows: int | None = None
    sources: int | None = None
    limit: float | None = None
    heard_at: float | None = None


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance does meanwhile, from its server's own counters. Anything may be None: unknown.

    `share` is its part of the answers (by NSID), `served` queries/s by its own count, `busy` the cores it uses, `throttled` the share of
    its CPU periods in which it was held back, `drops` packets/s that its sockets dropped.
    """

    node: str
    tenant: str
    identity: str = ""
    share: float | None = None
    served: float | None = None
    busy: float | None = None
    throttled: float | None = None
    drops: float | None = None
    bgp: str = ""
    is_target: bool = True


class LoadView(msgspec.Struct, frozen=True, kw_only=True):
    """One load test. `run` is the change in the journal, `record` its file once there is one.

    `goal` is the loss ratio that may be reached; `lower` and `upper` are the bracket so far, or the result.
    `seconds` are the last minutes, the newest last; `points` every trial so far, in order. `words` say what it does or how it ended,
    `limit` what limited it. `can_adjust` is true where `+` and `-` change the rate.
    """

    run: str
    target: str
    node: str
    tenant: str
    address: str
    purpose: str
    state: LoadState
    began_at: float
    cap: float
    goal: float
    record: str = ""
    phase: Phase | None = None
    rate: float = 0.0
    words: str = ""
    can_adjust: bool = False
    ended_at: float | None = None
    ends_at: float | None = None
    plateau: float | None = None
    lower: float | None = None
    upper: float | None = None
    verdict: str = ""
    limit: str = ""
    seconds: tuple[LoadSecond, ...] = ()
    points: tuple[Point, ...] = ()
    grid: tuple[GridPoint, ...] = ()
    generators: tuple[GeneratorRow, ...] = ()
    instances: tuple[InstanceRow, ...] = ()
