"""DNS load tests as values: what was offered, what came back, how long it took. They add up over seconds, processes and generators.

Everything is counted in the second in which the query was *sent*: whatever an answer's fate, it belongs to the rate that asked for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Self, TypeAlias, TypeVar

import msgspec

__all__ = [
    "BIN_RATIO",
    "Counts",
    "Health",
    "Latency",
    "Order",
    "Phase",
    "Transport",
    "Trial",
    "Untold",
    "Verdict",
    "bin_of",
    "total",
]

BIN_RATIO = 1.03
"""Each latency bin is 3 % wider than the one before: that is the error of a percentile, whatever its size."""

Untold: TypeAlias = Collection[str]
"""Fields of `Counts` that an engine can't tell: "late", "truncated". They are 0 there, and shown and written as not known."""

_Key = TypeVar("_Key", int, str)
_LOG_RATIO = math.log(BIN_RATIO)


def bin_of(microseconds: float) -> int:
    """The latency bin: bin i holds [1.03**i, 1.03**(i+1)) microseconds; everything below 1 us is in bin 0."""
    return int(math.log(microseconds) / _LOG_RATIO) if microseconds >= 1 else 0


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram of answer times in logarithmic bins. Histograms add up; percentiles alone would not (loadtest.md, 7)."""

    bins: dict[int, int] = {}

    @property
    def count(self) -> int:
        """How many answers are in it."""
        return sum(self.bins.values())

    def percentile(self, share: float) -> float | None:
        """Seconds within which `share` (0 to 1) of the answers came, to 3 %; None if there are none."""
        wanted, seen = share * self.count, 0
        for index in sorted(self.bins):
            seen += self.bins[index]
            if seen >= wanted:
                return float(BIN_RATIO ** (index + 0.5)) / 1e6
        return None

    @property
    def mean(self) -> float | None:
        """Average in seconds, to 3 %; None if there are none."""
        if not self.count:
            return None
        return sum(n * float(BIN_RATIO ** (i + 0.5)) for i, n in self.bins.items()) / self.count / 1e6

    def __add__(self, other: Latency) -> Latency:
        return Latency(bins=_added(self.bins, other.bins))


def _added(one: Mapping[_Key, int], other: Mapping[_Key, int]) -> dict[_Key, int]:
    return {**one, **{key: one.get(key, 0) + count for key, count in other.items()}}


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Queries of a time, by what became of them.

    `offered` is what the schedule asked for, `sent` what went out, `skipped` what the generator could not send in time and never repaid.
    `answered` came within the timeout whatever their `rcodes` (by number); `late` came after it; `truncated` had TC set (also in
    `answered`). What is `stray` matched no query. `receive_errors` are answers that the generator's own socket buffers dropped.
    `identities` are the answers to those few queries that asked for the NSID, by what it was ("" if the answer carried none).
    """

    offered: int = 0
    sent: int = 0
    answered: int = 0
    late: int = 0
    truncated: int = 0
    stray: int = 0
    skipped: int = 0
    receive_errors: int = 0
    rcodes: dict[int, int] = {}
    identities: dict[str, int] = {}
    latency: Latency = Latency()

    @property
    def good(self) -> int:
        """Answers that a resolver could use: in time, not truncated, neither SERVFAIL (2) nor REFUSED (5)."""
        return max(0, self.answered - self.truncated - self.rcodes.get(2, 0) - self.rcodes.get(5, 0))

    @property
    def lost(self) -> int:
        """Queries without a usable answer."""
        return max(0, self.sent - self.good)

    @property
    def loss(self) -> float:
        """Share of the queries sent that had no usable answer (0 to 1); 0 if none were sent."""
        return self.lost / self.sent if self.sent else 0.0

    @property
    def short(self) -> float:
        """Share of the schedule that the generator skipped (0 to 1)."""
        return self.skipped / self.offered if self.offered else 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            offered=self.offered + other.offered,
            sent=self.sent + other.sent,
            answered=self.answered + other.answered,
            late=self.late + other.late,
            truncated=self.truncated + other.truncated,
            stray=self.stray + other.stray,
            skipped=self.skipped + other.skipped,
            receive_errors=self.receive_errors + other.receive_errors,
            rcodes=_added(self.rcodes, other.rcodes),
            identities=_added(self.identities, other.identities),
            latency=self.latency + other.latency,
        )


def total(counts: Iterable[Counts]) -> Counts:
    """All of them together."""
    return sum(counts, Counts())


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a generator fared in a trial. `cpu` is CPU seconds of its processes, `elapsed` seconds they took, `processes` their number."""

    cpu: float = 0.0
    elapsed: float = 0.0
    processes: int = 1

    @property
    def busy(self) -> float:
        """Share of one core that each process used (0 to 1)."""
        return self.cpu / self.elapsed / self.processes if self.elapsed else 0.0


class Phase(StrEnum):
    """What a trial is for (loadtest.md, 5)."""

    CLIMB = "climb"
    PLATEAU = "plateau"
    VOTE = "vote"
    CONFIRM = "confirm"
    FIXED = "fixed"
    RAMP = "ramp"
    SOAK = "soak"
    SELF_TEST = "self-test"
    PROOF = "proof"


class Transport(StrEnum):
    """What queries travel in."""

    UDP = "udp"
    TCP = "tcp"
    DOT = "dot"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One trial to be run: `rate` queries/s for `seconds` after `prime_seconds` at `prime_rate`, which fill buffers and aren't counted."""

    phase: Phase
    rate: float
    seconds: float = 1.0
    prime_rate: float = 0.0
    prime_seconds: float = 0.0


class Verdict(StrEnum):
    """What a trial says about its target. A VOID one says nothing about it, only about the generator or the world around."""

    OK = "ok"
    BAD = "bad"
    VOID = "void"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """An order that was carried out, on all generators together. `began_at` is epoch seconds; `seconds` are its counts one by one.

    There are no `seconds` where the generator's engine can't tell them apart. `void` says why it is void, "" if it isn't. One that
    `is_halted` is void for nothing but that we stopped it; its order's `seconds` are those that it ran.
    """

    order: Order
    began_at: float
    counts: Counts
    seconds: tuple[Counts, ...] = ()
    health: Mapping[str, Health] = {}
    void: str = ""
    is_halted: bool = False

    @property
    def answered_rate(self) -> float:
        """Usable answers per second."""
        return self.counts.good / self.order.seconds if self.order.seconds else 0.0

    def verdict(self, loss: float) -> Verdict:
        """Against a loss ratio that may be reached but not exceeded."""
        if self.void:
            return Verdict.VOID
        return Verdict.BAD if self.counts.loss > loss else Verdict.OK

    def voided(self, why: str) -> Self:
        """The same trial, void; the first reason stays, but for our having stopped it: then this is why."""
        return self if self.void and not self.is_halted else msgspec.structs.replace(self, void=why, is_halted=False)

    def unhalted(self) -> Self:
        """The same trial, which counts for the seconds that it ran if nothing was wrong but that we stopped it."""
        return msgspec.structs.replace(self, void="", is_halted=False) if self.is_halted else self
