"""Charts as values: panels of curves, marks and limits over two axes. Nothing is drawn here: that is `chart_svg`'s and `chart_png`'s.

An axis places a value between 0 and 1 and brings its ticks along, so that a chart looks the same whoever draws it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from anyconsole.actions.load.words import rate

__all__ = [
    "Axis", "Band", "Curve", "Figure", "Limit", "Marks", "Panel", "Points", "Tag", "count_axis", "loss_axis", "percent_axis", "rate_axis",
    "seconds_axis", "time_axis",
]  # fmt: skip

Points: TypeAlias = tuple[tuple[float, float], ...]
_KNEE: Final = 0.001
"""Loss (share) around which its axis turns from linear to logarithmic: 0 is on it, and 1 % is where one looks."""


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """One axis. `scale` is linear, log or loss (linear near 0, logarithmic beyond)."""

    title: str
    low: float
    high: float
    scale: str = "linear"
    ticks: tuple[tuple[float, str], ...] = ()

    def place(self, value: float) -> float:
        """Where a value is, 0 at the low end and 1 at the high one; never outside."""
        low, high, here = (self._scaled(v) for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (here - low) / (high - low))) if high > low else 0.5

    def _scaled(self, value: float) -> float:
        match self.scale:
            case "log":
                return math.log10(max(value, 1e-12))
            case "loss":
                return math.log10(1 + max(0.0, value) / _KNEE)
            case _:
                return value


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A line through points. `role` gives its colour, `label` stands at its end."""

    points: Points
    role: str = "ink"
    label: str = ""


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """Single points; `label` goes into the legend. `sign` is dot, cross, ring or diamond: nobody needs the colour to read it."""

    points: Points
    role: str
    sign: str = "dot"
    label: str = ""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A horizontal line that isn't to be crossed."""

    value: float
    label: str


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A shaded interval of the x axis."""

    low: float
    high: float
    label: str = ""


class Tag(msgspec.Struct, frozen=True):
    """A word at the top of a panel, over a place of the x axis."""

    x: float
    text: str


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One coordinate system and what is in it."""

    title: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...] = ()
    marks: tuple[Marks, ...] = ()
    limits: tuple[Limit, ...] = ()
    bands: tuple[Band, ...] = ()
    tags: tuple[Tag, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to see."""
        return not any(c.points for c in self.curves) and not any(m.points for m in self.marks)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Panels in rows, under a title and a line or two of conditions."""

    title: str
    subtitle: tuple[str, ...] = ()
    rows: tuple[tuple[Panel, ...], ...] = ()


# --- axes


def rate_axis(rates: Iterable[float], title: str = "offered, queries/s", *, room: float = 0.04) -> Axis:
    """An axis for rates: logarithmic if they span more than a factor of four."""
    known = [r for r in rates if r > 0] or [1.0]
    low, high = min(known), max(known)
    if high > 4 * low:
        low, high = low / 1.15, high * 1.15
        steps = [
            m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
        ]
        return Axis(title=title, low=low, high=high, scale="log", ticks=_ticks(steps, low, high, rate))
    margin = (high - low) * room if high > low else high * 0.05
    low, high = max(0.0, low - margin), high + margin
    return Axis(title=title, low=low, high=high, ticks=_ticks(_round_steps(low, high), low, high, rate))


def loss_axis(losses: Iterable[float]) -> Axis:
    """An axis for loss, as a share: from 0 to what there is, 3 % at least."""
    high = min(1.0, max([0.03, *losses]) * 1.2)
    steps = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    return Axis(
        title="loss", low=0.0, high=high, scale="loss", ticks=_ticks(steps, 0.0, high, lambda v: f"{v * 100:g} %")
    )


def seconds_axis(latencies: Iterable[float]) -> Axis:
    """An axis for latencies in seconds, logarithmic, told in milliseconds."""
    known = [s for s in latencies if s > 0] or [0.001]
    low, high = min(known) / 1.3, max(known) * 1.3
    ticks: tuple[tuple[float, str], ...] = ()
    for factors in ((1,), (1, 3), (1, 2, 5)):
        steps = [
            f * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for f in factors
        ]
        ticks = _ticks(steps, low, high, lambda s: f"{s * 1000:g}")
        if len(ticks) >= 3:
            break
    return Axis(title="latency, ms", low=low, high=high, scale="log", ticks=ticks)


def time_axis(seconds: float) -> Axis:
    """An axis for the time since the beginning."""
    high = max(seconds, 1.0)
    return Axis(
        title="seconds", low=0.0, high=high, ticks=_ticks(_round_steps(0.0, high), 0.0, high, lambda s: f"{s:g}")
    )


def percent_axis(shares: Iterable[float], title: str) -> Axis:
    """An axis for shares of something, in per cent."""
    known = list(shares) or [0.0, 1.0]
    low, high = min(known) - 0.02, max(known) + 0.02
    return Axis(
        title=title,
        low=low,
        high=high,
        ticks=_ticks(_round_steps(low, high), low, high, lambda v: f"{v * 100:.0f} %"),
    )


def count_axis(count: int, title: str) -> Axis:
    """An axis for the first, the second, ... of something."""
    return Axis(title=title, low=0.5, high=count + 0.5, ticks=tuple((n, str(n)) for n in range(1, count + 1)))


def _round_steps(low: float, high: float) -> list[float]:
    """Four to eight round numbers between two."""
    span = (high - low) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if span / (unit * m) <= 8)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _ticks(
    steps: Iterable[float], low: float, high: float, words: Callable[[float], str]
) -> tuple[tuple[float, str], ...]:
    return tuple((step, words(step)) for step in steps if low <= step <= high)
