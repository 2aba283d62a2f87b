"""Votes on a grid of rates: what a point's trials decide so far, and which point is to be voted on next. Pure bookkeeping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from anyconsole.actions.load.answer import Goal, loss_of, verdict_of
from anyconsole.model.load import Trial, Verdict
from anyconsole.model.load_view import GridPoint

__all__ = ["MOST_VOTES", "Grid", "decision", "look"]

MOST_VOTES: Final = 11
"""Valid votes on one point at most."""
TIMELY_VOTES: Final = 3
"""The same while votes keep the guard on latency: each takes seconds then, and the long run that follows judges better."""
UNANIMOUS: Final = 4
"""So many votes alike, and none other, decide a point early."""
LOOKS: Final = 3
"""So many bad trials, and no good one, are enough against a point that only shows the way: far above what it can do, a target has no
good second, while far below it may well have a bad one."""
FAR: Final = 4
"""Grid steps from which on a point only shows the way."""


def decision(votes: Sequence[Verdict], exceed: float = 0.5, most: int = MOST_VOTES) -> bool | None:
    """Whether a point passes; None while it is open. Void trials are no votes.

    It fails when more than `exceed` of all votes would be bad, and passes when that can't happen any more.
    """
    bad, good = votes.count(Verdict.BAD), votes.count(Verdict.OK)
    allowed = math.floor(most * exceed)
    if bad > allowed or (bad >= UNANIMOUS and not good):
        return False
    if good >= most - allowed or (good >= UNANIMOUS and not bad):
        return True
    return None


def look(votes: Sequence[Verdict]) -> bool | None:
    """Whether a point far from the others seems to pass; None if that can't be said yet."""
    if Verdict.OK in votes:
        return True
    return False if votes.count(Verdict.BAD) >= LOOKS else None


class Grid:
    """Points one width apart around a guess, which lies in the middle between points 0 and 1. The highest point is at the ceiling."""

    def __init__(self, guess: float, goal: Goal, ceiling: float) -> None:
        self._goal = goal
        self._ceiling = ceiling
        self._ratio = 1 + goal.width
        self._base = guess / math.sqrt(self._ratio)
        # a hair's breadth under the ceiling counts as at it: no two points of almost the same rate
        self._top = math.ceil(math.log(ceiling / self._base) / math.log(self._ratio) - 0.1)
        self._first = self._top if guess >= ceiling else min(0, self._top)
        self._votes: dict[int, list[Trial]] = {}
        self._refuted: set[int] = set()
        self.is_timely = False

    def rate(self, point: int) -> float:
        """The point's queries/s."""
        return self._ceiling if point >= self._top else self._base * self._ratio**point

    def is_top(self, point: int) -> bool:
        """True at the ceiling: there is no point above."""
        return point >= self._top

    def add(self, point: int, trial: Trial) -> None:
        """Count a vote."""
        self._votes.setdefault(point, []).append(trial)

    def refute(self, point: int) -> None:
        """A long run failed at a point that had passed. That stands, and so it does for every point above."""
        self._refuted.add(point)

    def keep_guard(self) -> None:
        """From now on votes also keep the guard on latency: earlier ones were asked something else, and are forgotten."""
        self.is_timely = True
        self._votes.clear()

    def verdicts(self, point: int) -> tuple[Verdict, ...]:
        """The point's votes so far, in order."""
        return tuple(verdict_of(t, self._goal, is_timely=self.is_timely) for t in self._votes.get(point, ()))

    def has_too_many_voids(self, point: int) -> bool:
        """True if two of three trials of a point are void, or more: the generator then can't be said to offer that rate."""
        votes = self.verdicts(point)
        voids = votes.count(Verdict.VOID)
        return voids > 3 + 2 * (len(votes) - voids)

    def passed(self, point: int) -> bool | None:
        """What is decided, or at least looks decided, about a point."""
        if point in self._refuted:
            return False
        sure = self._decided(point)
        return look(self.verdicts(point)) if sure is None else sure

    def is_sure(self, point: int) -> bool:
        """True if a full vote decided it."""
        return point in self._refuted or self._decided(point) is not None

    def _decided(self, point: int) -> bool | None:
        return decision(self.verdicts(point), self._goal.exceed, TIMELY_VOTES if self.is_timely else MOST_VOTES)

    def needs_vote(self, point: int, *, is_look: bool) -> bool:
        """True if the point needs another trial, be it for a look."""
        return self.passed(point) is None if is_look else not self.is_sure(point)

    def bracket(self) -> tuple[int | None, int | None]:
        """The highest point that passed below the lowest that failed, and that one."""
        known = {point: self.passed(point) for point in {*self._votes, *self._refuted}}
        upper = min((p for p, passed in known.items() if passed is False), default=None)
        lower = max((p for p, passed in known.items() if passed and (upper is None or p < upper)), default=None)
        return lower, upper

    def wanted(self) -> tuple[int, bool] | None:
        """The point to vote on next, and whether a look is enough. None if the bracket is as narrow as it gets, and sure."""
        lower, upper = self.bracket()
        first = self._first
        if lower is None and upper is None:
            return first, False
        if upper is None and lower is not None:
            if self.is_top(lower):
                return None if self.is_sure(lower) else (lower, False)
            point = min(lower + max(1, lower - first), self._top)
            return point, point - lower >= FAR
        if lower is None and upper is not None:
            point = upper - max(1, first - upper)
            return point, upper - point >= FAR
        assert lower is not None  # noqa: S101  the type checker can't see that all other cases are done
        assert upper is not None  # noqa: S101
        if upper - lower > 1:
            return (lower + upper) // 2, upper - lower >= FAR
        unsure = [point for point in (lower, upper) if not self.is_sure(point)]
        return (unsure[0], False) if unsure else None

    def loss(self, point: int) -> float | None:
        """The loss of all valid votes on a point together."""
        return loss_of([t for t in self._votes.get(point, ()) if not t.void])

    @property
    def points(self) -> tuple[GridPoint, ...]:
        """Every point with votes, from low to high."""
        return tuple(
            GridPoint(rate=self.rate(p), votes=self.verdicts(p), passed=self.passed(p) if self.is_sure(p) else None)
            for p in sorted({*self._votes, *self._refuted})
        )
