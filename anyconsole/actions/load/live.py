"""What a running load test shows: ticks, seconds and trials go in as they come, `view` is their sum. No I/O, nothing piles up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from anyconsole.actions.load.answer import Answer, Progress
from anyconsole.model.load import Counts, Order, Phase, Trial, Untold, total
from anyconsole.model.load_view import GeneratorRow, InstanceRow, LoadSecond, LoadState, LoadView

__all__ = ["Live", "load_second"]

SECONDS_KEPT: Final = 120


def load_second(at: float, target: float, counts: Counts, untold: Untold = ()) -> LoadSecond:
    """One second of all generators; `target` is the rate that was ordered, `untold` what they can't tell."""
    latency = counts.latency
    return LoadSecond(
        at=at,
        target=target,
        offered=counts.offered,
        sent=counts.sent,
        answered=counts.answered,
        lost=counts.lost,
        late=None if "late" in untold else counts.late,
        truncated=None if "truncated" in untold else counts.truncated,
        loss=counts.loss,
        p50=latency.percentile(0.5),
        p95=latency.percentile(0.95),
        p99=latency.percentile(0.99),
        worst=latency.percentile(1.0),
        rcodes=counts.rcodes,
    )


def _average(whole: LoadSecond, seconds: float) -> LoadSecond:
    """A second of a time whose counts are `whole`."""
    names = ("offered", "sent", "answered", "lost", "late", "truncated")
    counted = {name: round(count / seconds) for name in names if (count := getattr(whole, name)) is not None}
    rcodes = {code: round(count / seconds) for code, count in whole.rcodes.items()}
    return msgspec.structs.replace(whole, rcodes=rcodes, **counted)


class Live:
    """One test as it goes on. `on_second` is told each second that all generators have told, with its beginning in epoch seconds."""

    def __init__(
        self,
        view: LoadView,
        generators: Collection[GeneratorRow],
        on_second: Callable[[float, Counts], None],
        untold: Untold = (),
    ) -> None:
        """`untold` is what the generators can't tell."""
        self._view = view
        self._untold = untold
        self._rows = {row.name: row for row in generators}
        self._on_second = on_second
        self._seconds: deque[LoadSecond] = deque(maxlen=SECONDS_KEPT)
        self._identities: dict[str, int] = {}
        self._order: Order | None = None
        self._began_at = 0.0
        self._parts: dict[int, dict[str, Counts]] = {}
        self._instances: tuple[InstanceRow, ...] = ()
        self.last = Counts()
        """The newest second."""

    @property
    def view(self) -> LoadView:
        """The test as it is now."""
        return msgspec.structs.replace(
            self._view,
            seconds=tuple(self._seconds),
            generators=tuple(self._rows.values()),
            instances=self._instances,
        )

    @property
    def identities(self) -> Mapping[str, int]:
        """How many answers of this test carried which NSID."""
        return self._identities

    def set(self, **fields: object) -> None:
        """Replace fields of the view."""
        self._view = msgspec.structs.replace(self._view, **fields)

    def begin(self, order: Order, now: float) -> None:
        """A trial begins; seconds are counted from where its priming ends."""
        self._order, self._began_at, self._parts = order, now + order.prime_seconds, {}
        self.set(
            state=LoadState.RUNNING,
            phase=order.phase,
            rate=order.rate,
            can_adjust=order.phase is Phase.FIXED,
            ends_at=self._began_at + order.seconds,
        )

    def ticked(self, generator: str, counts: Counts, seconds: float, now: float) -> None:
        """A generator told what happened in the last `seconds`."""
        row = self._rows[generator]
        self._rows[generator] = msgspec.structs.replace(
            row, sent=counts.sent / seconds, short=counts.short, receive_errors=counts.receive_errors, heard_at=now
        )

    def heard(self, generator: str, second: int, counts: Counts) -> None:
        """A generator told one of its seconds; when all have told it, it is one of the test's."""
        parts = self._parts.setdefault(second, {})
        parts[generator] = counts
        for identity, number in counts.identities.items():
            self._identities[identity] = self._identities.get(identity, 0) + number
        if len(parts) < len(self._rows) or self._order is None:
            return
        del self._parts[second]
        self.last = total(parts.values())
        at = self._began_at + second
        self._seconds.append(load_second(at, self._order.rate, self.last, self._untold))
        self._on_second(at, self.last)

    def ended(self, trial: Trial, progress: Progress) -> None:
        """A trial is over: generators' health, and how far the test has come."""
        for name, health in trial.health.items():
            self._rows[name] = msgspec.structs.replace(self._rows[name], busy=health.busy)
        if trial.counts.sent and not trial.seconds:
            # Nobody can tell its seconds apart: what is shown is a usual one.
            self.last = trial.counts
            second = load_second(trial.began_at, trial.order.rate, trial.counts, self._untold)
            self._seconds.append(_average(second, trial.order.seconds))
        self.came_to(progress)

    def came_to(self, progress: Progress) -> None:
        """How far the test has come."""
        self.set(
            plateau=progress.plateau,
            lower=progress.lower,
            upper=progress.upper,
            points=progress.points,
            grid=progress.grid,
            words=progress.words,
        )

    def told(self, generator: str, **fields: object) -> None:
        """Replace fields of a generator's row."""
        self._rows[generator] = msgspec.structs.replace(self._rows[generator], **fields)

    def serves(self, rows: tuple[InstanceRow, ...]) -> None:
        """What the instances do."""
        self._instances = rows

    def answered(self, answer: Answer, limit: str, now: float) -> None:
        """It is over."""
        self.set(
            state=LoadState.ENDED,
            lower=answer.lower,
            upper=answer.upper,
            plateau=answer.plateau,
            verdict=str(answer.ending),
            words=answer.why,
            limit=limit,
            ended_at=now,
            can_adjust=False,
        )
