"""Keeping noisy numbers still, so that a row changes only when something happened, and turning counters into rates.

Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyconsole.drivers.ask import State

__all__ = ["RATE_WINDOW", "coarse_uptime", "rates", "steady"]

RATE_WINDOW = 3.0
"""Seconds over which a rate is taken (less at first)."""


def steady(state: State, key: str, new: float, tolerance: float) -> float:
    """The value shown last under `key` while `new` is within `tolerance` of it, else `new`."""
    old = state.get(key)
    if old is None or abs(new - float(old)) > tolerance:
        state[key] = new
        return new
    return float(old)


def coarse_uptime(seconds: float) -> float:
    """Uptime in steps: whole ten seconds in the first ten minutes, then minutes."""
    step = 10 if seconds < 600 else 60
    return float(int(max(0.0, seconds)) // step * step)


def rates(state: State, counters: dict[str, int], now: float, generation: object = None) -> dict[str, float] | None:
    """Per-second rates of `counters` over the last few seconds; None until there are two samples.

    A counter that runs backwards, or another `generation` (the process's identity), starts anew.
    """
    samples: list[tuple[float, dict[str, int]]] = state.setdefault("samples", [])
    if state.get("generation", generation) != generation or (
        samples and any(value < samples[-1][1].get(name, 0) for name, value in counters.items())
    ):
        del samples[:]
    state["generation"] = generation
    samples.append((now, counters))
    while len(samples) > 2 and (now - samples[1][0] >= RATE_WINDOW - 0.25 or len(samples) > 64):
        del samples[0]
    then, before = samples[0]
    if now - then < 0.2:
        return None
    return {
        name: _rounded((value - before.get(name, 0)) / (now - then))
        for name, value in counters.items()
        if value - before.get(name, 0) >= 0
    }


def _rounded(rate: float) -> float:
    return round(rate, 1) if rate < 100 else float(round(rate))
