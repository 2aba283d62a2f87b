"""What a load test is asked and what it answers: its goal, how a trial is judged by it, the answer, and how far it has come.

Nothing in here runs anything or knows the time. How an answer is found is in `search` and `courses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from anyconsole.model.load import Counts, Latency, Order, Phase, Trial, Verdict, total
from anyconsole.model.load_view import GridPoint, Point

__all__ = [
    "SHORT",
    "Answer",
    "Course",
    "Ending",
    "Goal",
    "Progress",
    "Sustained",
    "is_silent",
    "judged",
    "loss_of",
    "point_of",
    "span",
    "steady_loss",
    "sustained_of",
    "verdict_of",
    "worst_of",
]  # fmt: skip

SHORT: Final = 0.03
"""Share of its schedule that a generator may skip before a trial says nothing about the target any more."""


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for, and how hard it may be looked for. Rates are queries/s, shares 0 to 1, times seconds.

    `loss` may be reached, not exceeded; `exceed` is the share of one-second trials that may be bad all the same; `width` is how far apart
    the passing and the failing rate may be. `p99_guard` of None doesn't look at latency. No order is ever above `cap`.
    `generator_limit` is what the generators could do in their self-test: the search stays under 0.7 of it, None is not known.
    """

    cap: float
    start: float | None = None
    loss: float = 0.01
    exceed: float = 0.5
    width: float = 0.01
    p99_guard: float | None = 0.05
    trial_seconds: float = 1.0
    confirm_seconds: float = 30.0
    prime_seconds: float = 0.3
    prime_factor: float = 1.4
    generator_limit: float | None = None

    def __post_init__(self) -> None:
        for name, holds in (
            ("cap", self.cap > 0),
            ("start", self.start is None or self.start > 0),
            ("loss", 0 <= self.loss < 0.5),
            ("exceed", 0 < self.exceed < 1),
            ("width", 0 < self.width <= 0.5),
            ("trial_seconds", self.trial_seconds > 0),
            ("confirm_seconds", self.confirm_seconds > 0),
            ("prime_seconds", self.prime_seconds >= 0),
            ("prime_factor", self.prime_factor >= 1),
            ("generator_limit", self.generator_limit is None or self.generator_limit > 0),
        ):
            if not holds:
                raise ValueError(f"{name} of a load test can't be {getattr(self, name)}")


class Ending(StrEnum):
    """How a load test ended (`x.result.verdict` of the record).

    VOID says nothing about what the target can do: it lost as much at rest, or never behaved alike twice. A course that is no search
    ends OK when it was carried out; whether its rate passed is told by where the rate stands, in `lower` or in `upper`.
    """

    OK = "ok"
    CAP = ">=cap"
    LATENCY_LIMITED = "latency-limited"
    GENERATOR_LIMITED = "generator-limited"
    ABORTED = "aborted"
    VOID = "void"
    NOTHING_ANSWERS = "nothing-answers"


class Sustained(msgspec.Struct, frozen=True, kw_only=True):
    """The long run at the result: it includes the hiccups that votes forgive. Latencies are seconds."""

    rate: float
    seconds: float
    loss: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    worst: float | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The result: `lower` is the highest rate that passed, `upper` the lowest that failed; None where there is none.

    `loss` and the latencies are those at `lower`: the loss of its votes, the latencies of the sustained run if there was one.
    `plateau` is what was answered per second while overloaded. `seconds` is the time it all took.
    """

    ending: Ending
    why: str
    lower: float | None = None
    upper: float | None = None
    loss: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    worst: float | None = None
    sustained: Sustained | None = None
    plateau: float | None = None
    trials: int = 0
    seconds: float = 0.0


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a course has come, for the screen: every trial so far in order, every rate that is voted on from low to high."""

    phase: Phase | None = None
    rate: float = 0.0
    lower: float | None = None
    upper: float | None = None
    plateau: float | None = None
    points: tuple[Point, ...] = ()
    grid: tuple[GridPoint, ...] = ()
    words: str = ""


class Course(Protocol):
    """A sequence of trials, each decided by those before it."""

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        ...

    def next(self, trial: Trial | None = None) -> Order | Answer:
        """What to do after `trial`, which is None at the very beginning."""
        ...

    def abort(self, why: str, trial: Trial | None = None) -> Answer:
        """End it now, also if `trial` was on the way; the answer is what is known so far."""
        ...


def judged(trial: Trial, goal: Goal, short: float = SHORT) -> Trial:
    """The trial, void if its generator skipped more than `short` of the schedule or dropped answers itself.

    A tenth of the loss that is allowed may be the generator's own: less can't turn a verdict.
    """
    counts = trial.counts
    if not counts.sent:
        return trial.voided("nothing was sent")
    if counts.short > short:
        return trial.voided(f"the generator skipped {counts.short:.1%} of its schedule")
    if counts.receive_errors > goal.loss * counts.sent / 10:
        return trial.voided(f"the generator dropped {counts.receive_errors} answers itself")
    return trial


def point_of(trial: Trial, goal: Goal) -> Point:
    """The trial as a point of the curve."""
    return Point(
        phase=trial.order.phase,
        rate=trial.order.rate,
        loss=trial.counts.loss,
        answered=trial.answered_rate,
        verdict=trial.verdict(goal.loss),
        p99=trial.counts.latency.percentile(0.99),
        void=trial.void,
    )


def steady_loss(trial: Trial) -> float:
    """The loss that a third of all seconds stay within. Seconds that the generator spoilt don't count.

    At the very point that is searched for half of the seconds are bad: were it the median, a coin would decide.
    """
    sound = sorted(second.loss for second in trial.seconds if second.sent and second.short <= SHORT)
    return sound[len(sound) // 3] if sound else trial.counts.loss


def sustained_of(trials: Sequence[Trial]) -> Sustained | None:
    """The figures of long trials at one rate; None without one."""
    if not trials:
        return None
    counts = total(t.counts for t in trials)
    latency = counts.latency
    return Sustained(
        rate=trials[-1].order.rate,
        seconds=sum(t.order.seconds for t in trials),
        loss=counts.loss,
        p50=latency.percentile(0.5),
        p95=latency.percentile(0.95),
        p99=latency.percentile(0.99),
        worst=worst_of(latency),
    )


def worst_of(latency: Latency) -> float | None:
    """The longest that an answer took, in seconds, to the width of its bin."""
    return latency.percentile(1.0) if latency.count else None


def loss_of(trials: Sequence[Trial]) -> float | None:
    """The loss of several trials together; None without a query."""
    sent = sum(t.counts.sent for t in trials)
    return sum(t.counts.lost for t in trials) / sent if sent else None


def span(trials: Sequence[Trial]) -> float:
    """Seconds from the first trial's beginning to the last one's end."""
    if not trials:
        return 0.0
    last = trials[-1]
    elapsed = last.began_at - trials[0].began_at
    return max(0.0, elapsed) + last.order.prime_seconds + last.order.seconds


def is_silent(counts: Counts) -> bool:
    """True if there were queries and not one answer to them, not even a late or a useless one."""
    return counts.sent > 0 and counts.answered + counts.late == 0


def verdict_of(trial: Trial, goal: Goal, *, is_timely: bool) -> Verdict:
    """The trial's verdict; one that `is_timely` also keeps the guard on p99."""
    verdict = trial.verdict(goal.loss)
    if is_timely and verdict is Verdict.OK and goal.p99_guard is not None:
        p99 = trial.counts.latency.percentile(0.99)
        if p99 is not None and p99 > goal.p99_guard:
            return Verdict.BAD
    return verdict
