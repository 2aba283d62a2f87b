"""What a request for a load test looks for, and the course that finds it. Pure."""

from __future__ import annotations

from typing import Final

from anyconsole.actions.load.answer import Course, Goal
from anyconsole.actions.load.courses import FixedRate, Ramp, Soak
from anyconsole.actions.load.engines import ENGINES
from anyconsole.actions.load.request import LoadRequest, Purpose, asked_seconds, cap_of, engine_of
from anyconsole.actions.load.search import Search
from anyconsole.model.inventory import LoadTarget
from anyconsole.model.store import FleetStore

__all__ = ["course_of", "goal_of"]

RAMP_STEPS: Final = 20


def goal_of(store: FleetStore, request: LoadRequest, target: LoadTarget, limit: float | None = None) -> Goal:
    """What is looked for: the request's figures, else the profile's. `limit` is what the generators can do, None if not known."""
    load = store.inventory.load
    engine = ENGINES[engine_of(store, request)]
    primed = {} if engine.seconds else {"trial_seconds": engine.shortest, "prime_seconds": 0.0}
    guard = load.p99_guard_ms / 1000 if request.p99_guard is None else request.p99_guard
    return Goal(
        **primed,
        cap=cap_of(store, request, target),
        start=request.rate or None,
        loss=load.loss if request.loss is None else request.loss,
        width=load.width if request.width is None else request.width,
        p99_guard=guard if engine.latency else None,
        confirm_seconds=request.confirm,
        generator_limit=limit,
    )


def course_of(request: LoadRequest, goal: Goal) -> Course:
    """The sequence of trials that the request is for."""
    seconds = asked_seconds(request)
    match request.purpose:
        case Purpose.SEARCH:
            return Search(goal)
        case Purpose.FIXED:
            return FixedRate(goal, request.rate, seconds)
        case Purpose.RAMP:
            steps = max(1, min(RAMP_STEPS, int(seconds / goal.trial_seconds)))
            return Ramp(goal, request.rate / steps, request.rate, steps, seconds / steps)
        case Purpose.SOAK:
            return Soak(goal, request.rate, seconds)
