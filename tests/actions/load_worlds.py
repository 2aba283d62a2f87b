"""Simulated targets of known capacity: they carry out orders as a generator would, and return trials. Seeded, so deterministic.

The simulation of loadtest.md, 4, as a fluid in steps of 5 ms: what comes in, what the target serves, what its buffer holds. Every world
has a clock that also runs between trials, so that drift, hiccups and full buffers carry over as they would.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from anyconsole.actions.load.answer import Answer, Course
from anyconsole.model.load import Counts, Latency, Order, Trial, bin_of, total

QUOTA_PERIOD = 0.1
STEP = 0.005
"""Seconds."""
PAUSE = 0.55
"""Seconds between two trials: the timeout of the last queries, and the way of the order."""


@dataclass
class World:
    """A queue of `capacity` answers/s that holds `buffer` seconds of them.

    `hiccups` per second stop it for `hiccup_seconds` on average; its capacity swings by `drift` (share). `efficiency` is what becomes of
    its capacity (factor) at an offered rate and with a share of its buffer full. `is_bucket` makes it a token bucket: what is too much is
    dropped, not queued. `quota` is the share of each 100 ms that it may use a CPU for: it works until that is used up, then not at all.
    `random_loss` (share) is lost on the way at any rate. The generator skips what is above `generator_limit`, and in each second up to
    twice `hogs` (share of the schedule) at random; while it is `stalled` (from, to) it sends half.
    """

    capacity: float = 20_000.0
    seed: int = 0
    buffer: float = 0.02
    hiccups: float = 0.0
    hiccup_seconds: float = 0.03
    drift: float = 0.0
    is_bucket: bool = False
    quota: float = 1.0
    random_loss: float = 0.0
    efficiency: Callable[[float, float], float] = lambda _rate, _full: 1.0
    generator_limit: float = math.inf
    hogs: float = 0.0
    stalled: tuple[float, float] = (math.inf, math.inf)
    rtt: float = 0.0003
    timeout: float = 0.5
    answers_until: float = math.inf
    now: float = 0.0
    orders: list[Order] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._swing = self._random.random() * math.tau
        self._queue = 0.0
        self._tokens = self.buffer * self.capacity
        self._stopped = 0.0
        self._budget = math.inf

    def trial(self, order: Order) -> Trial:
        """Carry out an order."""
        self.orders.append(order)
        began = self.now
        self._span(order.prime_rate, order.prime_seconds)
        seconds = []
        left = order.seconds
        while left > 1e-9:
            seconds.append(self._span(order.rate, min(1.0, left)))
            left -= 1.0
        self._span(0.0, PAUSE)
        return Trial(order=order, began_at=began, counts=total(seconds), seconds=tuple(seconds))

    def _span(self, rate: float, seconds: float) -> Counts:
        """A time at one rate."""
        skipped = max(0.0, 1 - self.generator_limit / rate) if rate else 0.0
        skipped = max(skipped, self._random.random() * 2 * self.hogs)
        if self.stalled[0] <= self.now < self.stalled[1]:
            skipped = max(skipped, 0.5)
        sends = rate * (1 - skipped)
        sent = answered = late = 0.0
        latency: dict[int, float] = {}
        for _ in range(round(seconds / STEP)):
            arriving = sends * STEP
            lost, wait = self._step(arriving, sends)
            sent += arriving
            if wait > self.timeout:
                late += arriving - lost
            elif arriving > lost:
                answered += arriving - lost
                bin_ = bin_of((wait + self.rtt) * 1e6)
                latency[bin_] = latency.get(bin_, 0.0) + arriving - lost
        answered -= self._noise(sent) if answered else 0.0
        whole = round(sent)
        good = min(whole, max(0, round(answered)))
        return Counts(
            offered=round(rate * seconds),
            sent=whole,
            answered=good,
            late=min(whole - good, round(late)),
            skipped=max(0, round(rate * seconds) - whole),
            rcodes={0: good},
            latency=Latency(bins={b: round(n) for b, n in latency.items() if round(n)}),
        )

    def _noise(self, sent: float) -> float:
        """Queries lost at random, on the way."""
        if not self.random_loss:
            return 0.0
        expected = sent * self.random_loss
        return max(0.0, self._random.gauss(expected, math.sqrt(expected)))

    def _step(self, arriving: float, rate: float) -> tuple[float, float]:
        """One step: queries lost, and seconds that the others wait."""
        if self.hiccups and self._stopped <= 0 and self._random.random() < self.hiccups * STEP:
            self._stopped = self._random.expovariate(1 / self.hiccup_seconds)
        capacity = self.capacity * (1 + self.drift * math.sin(self.now / 7 + self._swing))
        room = self.buffer * capacity
        capacity *= self.efficiency(rate, self._queue / room if room else 1.0)
        self.now += STEP
        if self.now > self.answers_until:
            return arriving, 0.0
        runs = self._stopped <= 0
        self._stopped -= STEP
        if self.now // QUOTA_PERIOD != (self.now - STEP) // QUOTA_PERIOD:
            self._budget = capacity * QUOTA_PERIOD
        serves = min(capacity / self.quota * STEP, self._budget) if runs else 0.0
        if self.is_bucket:
            self._tokens = min(room, self._tokens + capacity * STEP)
            passes = min(self._tokens, arriving)
            self._tokens -= passes
            return arriving - passes, 0.0
        wait = self._queue / capacity if capacity else self.timeout * 2
        served = min(serves, self._queue + arriving)
        if self.quota < 1.0:
            self._budget -= served
        self._queue += arriving - served
        lost = max(0.0, self._queue - room)
        self._queue -= lost
        return min(lost, arriving), wait


def run(course: Course, world: World, most: int = 400) -> Answer:
    """Carry a course out to its end."""
    step = course.next()
    for _ in range(most):
        if isinstance(step, Answer):
            return step
        step = course.next(world.trial(step))
    raise AssertionError(f"no end after {most} trials")
