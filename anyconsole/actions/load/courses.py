"""Load tests that aren't a search: one rate, rising rates, one rate for long. Each is a pure `Course`, as a search is.

They end OK when they were carried out. Whether the rate passed shows in where it stands: `lower` passed, `upper` failed.
"""

from __future__ import annotations

from typing import Final

from anyconsole.actions.load.answer import (
    Answer,
    Ending,
    Goal,
    Progress,
    Sustained,
    judged,
    point_of,
    span,
    sustained_of,
    verdict_of,
    worst_of,
)
from anyconsole.model.load import Order, Phase, Trial, Verdict, total

__all__ = ["FixedRate", "Ramp", "Soak"]

OVERLOAD: Final = 0.04
"""So much loss above the goal is overload: a ramp goes on through one such step, not through two in a row."""


class _Course:
    """What the three have in common: the trials so far, and how they are told."""

    def __init__(self, goal: Goal) -> None:
        self._goal = goal
        self._trials: list[Trial] = []
        self._order: Order | None = None
        self._answer: Answer | None = None

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        lower, upper = self._bracket()
        return Progress(
            phase=self._order.phase if self._order else None,
            rate=self._order.rate if self._order else 0.0,
            lower=lower,
            upper=upper,
            points=tuple(point_of(t, self._goal) for t in self._trials),
            words=self._answer.why if self._answer else self._words(),
        )

    def next(self, trial: Trial | None = None) -> Order | Answer:
        """What to do after `trial`, which is None at the very beginning."""
        if self._answer is not None:
            return self._answer
        if (trial is None) != (self._order is None):
            raise ValueError("the first order follows no trial, and every other one follows one")
        if trial is not None:
            self._trials.append(judged(trial, self._goal))
        order = self._following()
        if order is None:
            self._answer = self._told()
            return self._answer
        self._order = order
        return order

    def abort(self, why: str, trial: Trial | None = None) -> Answer:
        """End it now, also if `trial` was on the way; the answer is what is known so far."""
        if self._answer is None:
            self._trials += [trial.voided(why)] if trial is not None else []
            self._answer = self._told(Ending.ABORTED, why)
        return self._answer

    def _following(self) -> Order | None:
        raise NotImplementedError

    def _bracket(self) -> tuple[float | None, float | None]:
        raise NotImplementedError

    def _words(self) -> str:
        raise NotImplementedError

    def _verdict(self, trial: Trial) -> Verdict:
        return verdict_of(trial, self._goal, is_timely=True)

    @property
    def _sound(self) -> list[Trial]:
        return [t for t in self._trials if not t.void]

    def _told(self, ending: Ending | None = None, why: str = "") -> Answer:
        lower, upper = self._bracket()
        if ending is None:
            ending = Ending.OK if self._sound else Ending.VOID
            why = self._words() if self._sound else f"no trial is sound: {self._trials[-1].void}"
        rate = lower if lower is not None else upper
        counts = total(t.counts for t in self._sound if t.order.rate == rate)
        return Answer(
            ending=ending,
            why=why,
            lower=lower,
            upper=upper,
            loss=counts.loss if counts.sent else None,
            p50=counts.latency.percentile(0.5),
            p95=counts.latency.percentile(0.95),
            p99=counts.latency.percentile(0.99),
            worst=worst_of(counts.latency),
            sustained=self._sustained(),
            plateau=self._plateau(),
            trials=len(self._trials),
            seconds=span(self._trials),
        )

    def _sustained(self) -> Sustained | None:
        return None

    def _plateau(self) -> float | None:
        return None

    def _one_rate(self, rate: float, *, passes: bool) -> tuple[float | None, float | None]:
        if not self._sound:
            return None, None
        return (rate, None) if passes else (None, rate)


class FixedRate(_Course):
    """One rate for a time. `change()` gives another one for what is left of it: end the running trial, and feed it as far as it ran."""

    def __init__(self, goal: Goal, rate: float, seconds: float) -> None:
        super().__init__(goal)
        self._rate = min(rate, goal.cap)
        self._seconds = seconds

    @property
    def rate(self) -> float:
        """Queries/s that are asked now; those of the running trial may still be others."""
        return self._rate

    def within(self, rate: float) -> float:
        """The nearest rate that is allowed."""
        return min(max(rate, 1.0), self._goal.cap)

    def change(self, rate: float) -> float:
        """Go on at another rate, under the cap; the rate that it became."""
        self._rate = self.within(rate)
        return self._rate

    @property
    def _left(self) -> float:
        return self._seconds - sum(t.order.seconds for t in self._trials)

    def _following(self) -> Order | None:
        return (
            Order(phase=Phase.FIXED, rate=self._rate, seconds=self._left)
            if self._left >= 1.0 or not self._trials
            else None
        )

    def _bracket(self) -> tuple[float | None, float | None]:
        """Of the rate that was asked last."""
        last = [t for t in self._sound if t.order.rate == self._rate]
        counts = total(t.counts for t in last)
        return self._one_rate(self._rate, passes=counts.loss <= self._goal.loss) if last else (None, None)

    def _words(self) -> str:
        counts = total(t.counts for t in self._sound if t.order.rate == self._rate)
        lost = f", {counts.loss:.2%} lost" if counts.sent else ""
        return f"{self._rate:,.0f} q/s{lost}"

    def _sustained(self) -> Sustained | None:
        return sustained_of([t for t in self._sound if t.order.rate == self._rate])


class Ramp(_Course):
    """Rising rates, one step each. It ends above, or after two overloaded steps in a row; what a step loses once proves nothing."""

    def __init__(self, goal: Goal, first: float, last: float, steps: int, step_seconds: float = 1.0) -> None:
        super().__init__(goal)
        top = min(last, goal.cap)
        bottom = min(first, top)
        self._rates = [bottom + (top - bottom) * i / max(1, steps - 1) for i in range(max(1, steps))]
        self._step_seconds = step_seconds

    def _following(self) -> Order | None:
        done = len(self._trials)
        ends = done >= 2 and all(self._is_overload(t) for t in self._trials[-2:])
        if ends or done >= len(self._rates):
            return None
        return Order(phase=Phase.RAMP, rate=self._rates[done], seconds=self._step_seconds)

    def _is_overload(self, trial: Trial) -> bool:
        return not trial.void and trial.counts.loss > self._goal.loss + OVERLOAD

    def _bracket(self) -> tuple[float | None, float | None]:
        """Up to the first step that failed together with the one after it, or as the last."""
        lower = None
        sound = self._sound
        for trial, after in zip(sound, [*sound[1:], None], strict=True):
            if self._verdict(trial) is Verdict.OK:
                lower = trial.order.rate
            elif after is None or self._verdict(after) is not Verdict.OK:
                return lower, trial.order.rate
        return lower, None

    def _words(self) -> str:
        lower, upper = self._bracket()
        kept = "no step" if lower is None else f"{lower:,.0f} q/s"
        return f"{kept} kept the goal" + (f", {upper:,.0f} q/s did not" if upper is not None else "")

    def _plateau(self) -> float | None:
        over = sorted(t.answered_rate for t in self._sound if self._is_overload(t))
        return over[len(over) // 2] if over else None


class Soak(_Course):
    """One rate for long, in intervals that are judged one by one. It passes if every sound one does."""

    def __init__(self, goal: Goal, rate: float, seconds: float, interval: float = 60.0) -> None:
        super().__init__(goal)
        self._rate = min(rate, goal.cap)
        self._seconds = seconds
        self._interval = min(interval, seconds)

    def _following(self) -> Order | None:
        left = self._seconds - len(self._trials) * self._interval
        if left < min(1.0, self._interval):
            return None
        return Order(phase=Phase.SOAK, rate=self._rate, seconds=min(self._interval, left))

    def _bracket(self) -> tuple[float | None, float | None]:
        return self._one_rate(self._rate, passes=all(self._verdict(t) is Verdict.OK for t in self._sound))

    def _words(self) -> str:
        sound = self._sound
        kept = sum(self._verdict(t) is Verdict.OK for t in sound)
        void = len(self._trials) - len(sound)
        worst = max((t.counts.loss for t in sound), default=0.0)
        said = f"{kept} of {len(sound)} intervals at {self._rate:,.0f} q/s kept the goal, the worst lost {worst:.2%}"
        return said + (f"; {void} more are void" if void else "")

    def _sustained(self) -> Sustained | None:
        return sustained_of(self._sound)
