"""Whose queries a change moves, and where they go: series of what is drained, and what the other nodes gained since it began. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from anyconsole.actions.plan import Plan
from anyconsole.model.store import FleetStore

__all__ = ["Place", "Traffic", "baseline", "places_of", "traffic"]

Place = tuple[str, str]
"""An instance by node and tenant."""

_BEFORE = 30
"""Seconds of which the mean is what an instance had before."""

_NOISE = 0.02
"""A change smaller than this share of what is moved is not worth a word."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Queries per second around a change. The two series are as long as each other, newest last; NaN is not known.

    `gains` are the other nodes of the same tenants with what they have more, or less, than before; the greatest first.
    """

    moved: tuple[float, ...]
    gained: tuple[float, ...]
    before: float
    now: float
    gains: tuple[tuple[str, float], ...]


def places_of(plan: Plan) -> frozenset[Place]:
    """The instances whose announcements a plan changes."""
    return frozenset((change.node, change.tenant) for change in plan.changes)


def baseline(store: FleetStore, plan: Plan) -> dict[Place, float]:
    """What all instances of the plan's tenants answered in the last half minute; NaN where nobody knew."""
    tenants = {change.tenant for change in plan.changes}
    return {place: _mean(store.series(*place)[-_BEFORE:]) for place in _instances(store, tenants)}


def traffic(store: FleetStore, plan: Plan, before: Mapping[Place, float]) -> Traffic:
    """The present state of things, against what was `before`."""
    moved = places_of(plan)
    others = [place for place in before if place not in moved]
    own = _summed([store.series(*place) for place in moved])
    rest = _summed([store.series(*place) for place in others])
    rest_before = sum(v for place in others if not math.isnan(v := before[place]))
    length = max(len(own), len(rest))
    own, rest = _padded(own, length), _padded(rest, length)
    gains: dict[str, float] = {}
    for node, tenant in others:
        now = _mean(store.series(node, tenant)[-3:])
        if not math.isnan(now) and not math.isnan(before[node, tenant]):
            gains[node] = gains.get(node, 0.0) + now - before[node, tenant]
    own_before = sum(v for place in moved if not math.isnan(v := before.get(place, math.nan)))
    worth = [(node, gain) for node, gain in gains.items() if abs(gain) >= max(1.0, _NOISE * own_before)]
    return Traffic(
        moved=own,
        gained=tuple(max(0.0, v - rest_before) if not math.isnan(v) else v for v in rest),
        before=own_before,
        now=_mean(own[-1:]),
        gains=tuple(sorted(worth, key=lambda pair: -pair[1])),
    )


def _instances(store: FleetStore, tenants: Collection[str]) -> Iterable[Place]:
    return ((n.name, i.tenant) for n in store.inventory.nodes for i in n.instances if i.tenant in tenants)


def _summed(series: Sequence[Sequence[float]]) -> tuple[float, ...]:
    length = max(map(len, series), default=0)
    total = [math.nan] * length
    for samples in series:
        for i, value in enumerate(samples, start=length - len(samples)):
            if not math.isnan(value):
                total[i] = value + (0.0 if math.isnan(total[i]) else total[i])
    return tuple(total)


def _padded(values: tuple[float, ...], length: int) -> tuple[float, ...]:
    return (math.nan,) * (length - len(values)) + values


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan
