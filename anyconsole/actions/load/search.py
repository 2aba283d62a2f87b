"""The search for the highest rate at which most one-second trials lose no more than the goal: which trial comes next, and when it is over.

No I/O, no clock, no randomness: finished trials go in, orders come out, at last an answer. The steps are those of loadtest.md, 5:

climb     double the rate until trials are clearly overloaded, or down from the start until one passes
plateau   what is answered while overloaded, for a guess: noise can only lower it
vote      one-second trials on a grid one width apart, with the guess between two of its points; a majority decides a point
confirm   one long run at the highest point that passed, which itself must have a point above it that failed

Buffers hide overload: a trial is primed, so that they are full when it begins. How deep they are is read from the latency under
overload. Buffers deeper than the guard on p99 make the target latency-limited: votes then keep that guard, last longer, and aren't primed.

Measured in the worlds of tests/actions/load_worlds.py, 60 searches each; error of `lower` in % of the true 1 % point, median [p5 ... p95],
and seconds before the long run (1.85 s a trial):

token bucket of 2,000, 5,000, 20,000/s and 50 ms    -0.5 [-0.5 ... -0.5]    30 to 32 s
queue of 20 ms, 0.2 hiccups/s of 30 ms              -0.5 [-0.5 ... -0.5]    35 s
the same, a hiccup a second of 40 ms                -2.5 [-8.9 ... -1.2]    65 s; there, half of all seconds are bad from -2.5 % on
the same, capacity drifting by 5 % in 44 s          -2.3 [-4.1 ... +0.4]    63 s
answers less the more it is overloaded              -0.6                    57 s
queue of 135 or 450 ms, guard of 50 ms on p99       -1.5                    49 to 52 s, and a second long run
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator
from typing import Final, TypeAlias

from anyconsole.actions.load.answer import (
    SHORT,
    Answer,
    Ending,
    Goal,
    Progress,
    is_silent,
    judged,
    point_of,
    span,
    steady_loss,
    sustained_of,
    worst_of,
)
from anyconsole.actions.load.votes import Grid
from anyconsole.model.load import Order, Phase, Trial, Verdict, total

__all__ = ["Search"]

HEADROOM: Final = 0.7
"""Share of the generators' own limit up to which they are believed (RFC 8219 asks the tester to prove itself likewise)."""
OVERLOAD: Final = 0.04
"""So much loss above the goal is overload, not a hiccup or a full second."""
DESCENT: Final = 8.0
"""How much lower the climb begins anew when its first rate isn't carried."""
LEVELS: Final = 3
"""How many beginnings a climb has."""
MOST_PLATEAU_TRIALS: Final = 6
DEEPEST_PRIME: Final = 3.0
"""Seconds of priming at most."""
MOST_CONFIRMS: Final = 4
"""One, and three further down."""
CLIMB_PATIENCE: Final = 2
"""Void trials that are repeated at one rate before the generator is taken to be unable to do it."""
SECOND_CHANCES: Final = 2
"""How often that is doubted, once a lower rate was carried."""
MOST_VOIDS: Final = 32
"""Void trials of a whole search; a single point has its own limit."""
MOST_TRIALS: Final = 160
FEWEST_LOST: Final = 10
"""A vote lasts until so many queries may be lost: below that, one packet would decide it. So it is longer than usual at low rates."""
LONGEST_VOTE: Final = 10.0

Steps: TypeAlias = Generator[Order, Trial, None]
Asking: TypeAlias = Generator[Order, Trial, Trial]


class _Ended(Exception):  # noqa: N818
    """The search can't go on."""

    def __init__(self, ending: Ending, why: str) -> None:
        super().__init__(why)
        self.ending, self.why = ending, why


class Search:
    """A search. Call `next()` for the first order, `next(trial)` with each finished one, until it is an `Answer`."""

    def __init__(self, goal: Goal) -> None:
        self._goal = goal
        self._hardest = min(goal.cap, goal.generator_limit or math.inf)
        self._ceiling = min(goal.cap, HEADROOM * (goal.generator_limit or math.inf))
        self._is_cap = self._ceiling == goal.cap
        self._trials: list[Trial] = []
        self._grid: Grid | None = None
        self._carried: Trial | None = None  # the climb's highest that passed
        self._overloaded = math.inf  # the climb's lowest rate that didn't
        self._plateau: float | None = None
        self._prime = goal.prime_seconds  # priming at least
        self._depth = 0.0  # seconds of answers that the target's buffers hold under overload
        self._sustained: Trial | None = None
        self._order: Order | None = None
        self._answer: Answer | None = None
        self._words = ""
        self._steps = self._run()

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        lower, upper = self._bracket()
        return Progress(
            phase=self._order.phase if self._order else None,
            rate=self._order.rate if self._order else 0.0,
            lower=lower,
            upper=upper,
            plateau=self._plateau,
            points=tuple(point_of(t, self._goal) for t in self._trials),
            grid=self._grid.points if self._grid else (),
            words=self._answer.why if self._answer else self._words,
        )

    def next(self, trial: Trial | None = None) -> Order | Answer:
        """What to do after `trial`, which is None at the very beginning."""
        if self._answer is not None:
            return self._answer
        if (trial is None) != (self._order is None):
            raise ValueError("the first order follows no trial, and every other one follows one")
        try:
            self._order = next(self._steps) if trial is None else self._steps.send(trial)
        except StopIteration as end:
            answer: Answer = end.value
            self._answer = answer
            return answer
        return self._order

    def abort(self, why: str, trial: Trial | None = None) -> Answer:
        """End it now, also if `trial` was on the way; the answer is what is known so far."""
        if self._answer is None:
            self._trials += [trial.voided(why)] if trial is not None else []
            self._steps.close()
            self._answer = self._told(Ending.ABORTED, why)
        return self._answer

    # --- the course of it

    def _run(self) -> Generator[Order, Trial, Answer]:
        try:
            carried = yield from self._descend(min(self._goal.start or self._ceiling / 32, self._ceiling))
            yield from self._climb(carried)
            guess = yield from self._guess()
            self._grid = Grid(guess, self._goal, self._ceiling)
            if self._is_deep():
                self._grid.keep_guard()
            ending, why = yield from self._settle(self._grid)
        except _Ended as end:
            ending, why = end.ending, end.why
        return self._told(ending, why)

    def _descend(self, start: float) -> Asking:
        """From the start downwards until a rate is carried: it may be unknown how little the target can do."""
        for level in range(LEVELS):
            rate = max(min(1.0, start), start / DESCENT**level)
            self._words = f"begins {'anew, ' if level else ''}at {rate:,.0f} q/s"
            trial = yield from self._ask(Phase.CLIMB, rate)
            if trial.verdict(self._goal.loss) is not Verdict.OK:
                trial = yield from self._ask(Phase.CLIMB, rate)
            if trial.verdict(self._goal.loss) is Verdict.OK:
                self._carried = trial
                break
            if not trial.void:
                self._overloaded = rate
        else:
            raise self._hopeless(self._trials[-1])
        return self._prompt(trial)

    def _prompt(self, trial: Trial) -> Trial:
        """The trial, if its answers come fast enough for the guard to mean anything."""
        median = trial.counts.latency.percentile(0.5)
        guard = self._goal.p99_guard
        if guard is not None and median is not None and median > guard:
            rest = f"{trial.order.rate:,.0f} q/s"
            why = (
                f"half of all answers take over {median * 1e3:.0f} ms even at {rest}, the guard is {guard * 1e3:.0f} ms"
            )
            raise _Ended(Ending.LATENCY_LIMITED, why)
        return trial

    def _hopeless(self, trial: Trial) -> _Ended:
        rate = f"{trial.order.rate:,.0f} q/s"
        if trial.void:
            return _Ended(Ending.GENERATOR_LIMITED, f"no trial is sound even at {rate}: {trial.void}")
        if is_silent(trial.counts):
            return _Ended(Ending.NOTHING_ANSWERS, f"nothing answers, not even at {rate}")
        why = f"{trial.counts.loss:.1%} are lost even at {rate}: it isn't the rate that loses them"
        return _Ended(Ending.VOID, why)

    def _climb(self, trial: Trial) -> Steps:
        """Up from a rate that is carried, until two trials in a row are overloaded, or the ceiling is reached."""
        reached, full, was_cap, chances = trial.order.rate, self._ceiling, self._is_cap, SECOND_CHANCES
        while reached < self._ceiling:
            rate = min(reached * (2.0 if trial.verdict(self._goal.loss) is Verdict.OK else 1.25), self._ceiling)
            if rate >= self._overloaded:
                return
            self._words = f"climbs from {reached:,.0f} q/s"
            found = yield from self._ask(Phase.CLIMB, rate)
            for _ in range(CLIMB_PATIENCE):
                if found.void:
                    found = yield from self._ask(Phase.CLIMB, rate)
            if not found.void and self._is_overload(found):
                found = yield from self._ask(Phase.CLIMB, rate)
            if found.void:
                # the generator can't do it: half the way instead, until that is hardly a step
                self._is_cap = False
                between = math.sqrt(reached * rate)
                self._ceiling = between if between > reached * 1.05 and chances == SECOND_CHANCES else reached
                continue
            if self._is_overload(found):
                self._overloaded = rate
                return
            trial, reached = found, rate
            if found.verdict(self._goal.loss) is Verdict.OK:
                self._carried = found
            if reached >= self._ceiling < full and chances:
                # it may only have been busy with something else for a while
                chances -= 1
                self._ceiling, self._is_cap = full, was_cap

    def _guess(self) -> Generator[Order, Trial, float]:
        """The rate at which the goal's loss is expected, from what is answered under slight overload."""
        best = max(t.answered_rate for t in self._trials if not t.void)
        # some answer less while overloaded than before: the guess then starts from what was carried
        least = 0.9 * self._carried.answered_rate if self._carried else 0.0
        if best >= self._ceiling * (1 - self._goal.loss):
            return self._ceiling
        answered: list[float] = []
        medians: list[float] = []
        for _ in range(MOST_PLATEAU_TRIALS):
            self._words = f"overloads it a little: it answered {best:,.0f} q/s"
            rate = min(best * 1.08, self._ceiling)
            trial = yield from self._ask(Phase.PLATEAU, rate)
            if trial.void:
                continue
            if trial.counts.loss < 2 * self._goal.loss:
                if rate >= self._ceiling:
                    break
                best, answered = max(best, trial.answered_rate) * 1.04, []
                continue
            answered.append(trial.answered_rate)
            medians.append(trial.counts.latency.percentile(0.5) or self._depth)
            # noise only lowers what is answered, so the highest two that agree are the plateau
            top = sorted(answered)
            self._plateau = top[-1 - len(top) // 4]
            best = max(self._plateau, least)
            if len(top) >= 3 and top[-1] <= top[-2] * (1 + self._goal.width / 4):
                break
        if medians:
            self._depth = statistics.median(medians)
        return min(best if self._is_deep() else best / (1 - self._goal.loss), self._ceiling)

    def _settle(self, grid: Grid) -> Generator[Order, Trial, tuple[Ending, str]]:
        """Vote until two neighbours differ, confirm the lower one; what isn't confirmed counts as failed, and the votes go on."""
        for _ in range(MOST_CONFIRMS):
            lower, upper = yield from self._vote(grid)
            rate = grid.rate(lower)
            self._words = f"holds {rate:,.0f} q/s for {self._goal.confirm_seconds:.0f} s"
            trial = yield from self._ask(Phase.CONFIRM, rate)
            if trial.void:
                trial = yield from self._ask(Phase.CONFIRM, rate)
            if trial.void:
                raise _Ended(Ending.GENERATOR_LIMITED, f"{rate:,.0f} q/s can't be held for long: {trial.void}")
            self._sustained = trial
            loss, p99 = steady_loss(trial), trial.counts.latency.percentile(0.99)
            if loss <= self._goal.loss and (p99 is None or self._goal.p99_guard is None or p99 <= self._goal.p99_guard):
                return self._found(grid, rate, upper)
            grid.refute(lower)
            if loss > self._goal.loss:
                grid = self._deepened(grid, trial)
            elif not grid.is_timely:
                grid.keep_guard()
        if grid.is_timely:
            return Ending.LATENCY_LIMITED, "no rate kept both the loss and the guard on p99 for long"
        return (
            Ending.VOID,
            f"{MOST_CONFIRMS} rates passed their votes and then lost more for long: the target doesn't behave alike twice",
        )

    def _vote(self, grid: Grid) -> Generator[Order, Trial, tuple[int, int | None]]:
        while (wanted := grid.wanted()) is not None:
            point, is_look = wanted
            rate = grid.rate(point)
            if self._carried is None or rate < self._carried.order.rate / DESCENT:
                raise _Ended(Ending.VOID, f"nothing passes any more, not even {rate * (1 + self._goal.width):,.0f} q/s")
            self._words = f"votes on {rate:,.0f} q/s"
            while grid.needs_vote(point, is_look=is_look):
                trial = yield from self._ask(Phase.VOTE, rate, is_primed=not grid.is_timely)
                grid.add(point, trial)
                if grid.has_too_many_voids(point):
                    raise _Ended(Ending.GENERATOR_LIMITED, f"too many trials at {rate:,.0f} q/s are void: {trial.void}")
        lower, upper = grid.bracket()
        assert lower is not None  # noqa: S101  nothing is wanted only once a point passed
        return lower, upper

    def _deepened(self, grid: Grid, trial: Trial) -> Grid:
        """The grid to go on with after a long run that lost too much: another one if buffers fooled the votes by far."""
        answered = statistics.median(s.good for s in trial.seconds) if trial.seconds else trial.answered_rate
        guess = answered / (1 - self._goal.loss)
        if not 0 < guess < trial.order.rate / (1 + self._goal.width) ** 2:
            return grid
        self._prime = max(0.3, 4 * self._prime)
        self._grid = Grid(guess, self._goal, self._ceiling)
        self._grid.is_timely = grid.is_timely
        return self._grid

    # --- trials

    def _ask(self, phase: Phase, rate: float, *, is_primed: bool = True) -> Asking:
        trial = judged((yield self._order_for(phase, rate, is_primed=is_primed)), self._goal, self._may_skip(phase))
        self._trials.append(trial)
        voids = sum(1 for t in self._trials if t.void)
        if voids > MOST_VOIDS:
            raise _Ended(Ending.GENERATOR_LIMITED, f"{voids} trials are void, at last: {trial.void}")
        if len(self._trials) > MOST_TRIALS:
            raise _Ended(Ending.VOID, f"{MOST_TRIALS} trials didn't settle it: the target doesn't behave alike twice")
        if self._carried is not None and len(self._trials) > 1 and all(is_silent(t.counts) for t in self._trials[-2:]):
            rest = self._carried.order.rate
            if phase is Phase.CLIMB and rate <= rest:
                raise _Ended(
                    Ending.NOTHING_ANSWERS,
                    f"it stopped answering after {len(self._trials) - 2} trials, also at {rest:,.0f} q/s",
                )
            yield from self._ask(Phase.CLIMB, rest)
        return trial

    def _may_skip(self, phase: Phase) -> float:
        """A vote has to be on the rate that it is said to be on."""
        return min(SHORT, self._goal.width) if phase is Phase.VOTE else SHORT

    def _order_for(self, phase: Phase, rate: float, *, is_primed: bool) -> Order:
        if phase is Phase.CONFIRM:
            return Order(phase=phase, rate=rate, seconds=self._goal.confirm_seconds)
        seconds = self._goal.trial_seconds
        if self._goal.loss:
            seconds = max(seconds, min(LONGEST_VOTE, FEWEST_LOST / (rate * self._goal.loss)))
        if phase is Phase.CLIMB:
            return Order(phase=phase, rate=rate, seconds=min(seconds, 2 * self._goal.trial_seconds))
        if phase is Phase.VOTE and not is_primed:
            guard = self._goal.p99_guard or 0.0
            return Order(phase=phase, rate=rate, seconds=max(seconds, min(LONGEST_VOTE, guard / self._goal.width)))
        if not self._prime:
            return Order(phase=phase, rate=rate, seconds=seconds)
        prime_rate = max(rate, min(rate * self._goal.prime_factor, self._hardest))
        excess = max(prime_rate / rate - 1, 1e-6)
        fill = max(self._prime * (self._goal.prime_factor - 1), self._depth * 1.25)
        return Order(
            phase=phase,
            rate=rate,
            seconds=seconds,
            prime_rate=prime_rate,
            prime_seconds=min(max(self._prime, fill / excess), DEEPEST_PRIME),
        )

    def _is_overload(self, trial: Trial) -> bool:
        if trial.void or trial.counts.loss <= self._goal.loss + OVERLOAD:
            return False
        self._depth = max(self._depth, trial.counts.latency.percentile(0.99) or 0.0)
        return True

    def _is_deep(self) -> bool:
        """True if full buffers alone break the guard on latency."""
        return self._goal.p99_guard is not None and self._depth > self._goal.p99_guard

    # --- the answer

    def _found(self, grid: Grid, rate: float, upper: int | None) -> tuple[Ending, str]:
        percent = f"{self._goal.loss:.1%}"
        if upper is None:
            if self._is_cap:
                return Ending.CAP, f"{rate:,.0f} q/s, all that may be asked, lose no more than {percent}"
            return (
                Ending.GENERATOR_LIMITED,
                f"{rate:,.0f} q/s lose no more than {percent}, and the generators aren't believed above that",
            )
        above = f"{grid.rate(upper):,.0f} q/s"
        if grid.is_timely and self._goal.p99_guard is not None:
            guard = self._goal.p99_guard * 1e3
            return (
                Ending.LATENCY_LIMITED,
                f"{rate:,.0f} q/s keep p99 under {guard:.0f} ms and loss under {percent}, {above} don't",
            )
        return Ending.OK, f"{rate:,.0f} q/s lose no more than {percent}, {above} lose more"

    def _bracket(self) -> tuple[float | None, float | None]:
        lower, upper = self._grid.bracket() if self._grid else (None, None)
        high = self._overloaded if upper is None or self._grid is None else self._grid.rate(upper)
        low = (
            self._grid.rate(lower)
            if self._grid and lower is not None
            else self._carried.order.rate
            if self._carried
            else None
        )
        if lower is not None and upper is None:
            high = math.inf  # the climb's overload counts for less than a vote
        return (low if low is not None and low < high else None), (high if math.isfinite(high) else None)

    def _told(self, ending: Ending, why: str) -> Answer:
        lower, upper = self._bracket()
        held = self._sustained
        there = [t for t in self._trials if t.order.rate == lower and not t.void]
        votes = [t.counts for t in there if t.order.phase is not Phase.CONFIRM]
        shown = [held.counts] if held and held.order.rate == lower and not held.void else votes
        latency = total(shown).latency
        return Answer(
            ending=ending,
            why=why,
            lower=lower,
            upper=upper,
            loss=total(votes).loss if votes else None,
            p50=latency.percentile(0.5),
            p95=latency.percentile(0.95),
            p99=latency.percentile(0.99),
            worst=worst_of(latency),
            sustained=sustained_of([held]) if held else None,
            plateau=self._plateau,
            trials=len(self._trials),
            seconds=span(self._trials),
        )
