"""What speakers send that covers an address, whatever the profile knows of it: what a load test of that address has to know.

Here is what the drivers share that ask, and what is said where none can. Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from anyconsole.drivers.ask import FRESH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyconsole.drivers.ask import Collector, Row, Spec, State

__all__ = ["DEADLINE", "MOST_ROUTES", "collect", "covering_row", "covers", "is_due"]

MOST_ROUTES = 5000
"""Routes sent on a session that are read to find those that cover an address; of a session with more it isn't known."""

DEADLINE = 2.0
"""Seconds a round may take: nobody's tick waits for it."""

_MOST_TOLD = 20


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round of a speaker that can't be asked: that it isn't known, and why."""
    yield from ()
    if not is_due(spec, state, now):
        return None
    state["looked_at"] = now
    return [covering_row(spec, address, [], spec["why"]) for address in spec["addresses"]]


def is_due(spec: Spec, state: State, now: float) -> bool:
    """True if it is time to look again, that long after the last look that succeeded: what is exported rarely changes."""
    return bool(state.get(FRESH)) or now - state.get("looked_at", -60.0) >= spec["every"] - 0.05


def covers(prefix: str, address: str) -> bool:
    """True if the address is in the prefix; False also for what is no prefix."""
    try:
        return ip_address(address) in ip_network(prefix, strict=False)
    except ValueError:
        return False


def covering_row(spec: Spec, address: str, routes: Iterable[str], unknown: str = "") -> Row:
    """A row for the fact `Covering`. `routes` are "PREFIX on SESSION", `unknown` is why there may be more."""
    row: dict[str, Any] = {
        "kind": "covering",
        "section": spec["section"],
        "speaker": spec["speaker"],
        "address": address,
        "routes": sorted(set(routes))[:_MOST_TOLD],
        "unknown": unknown,
    }
    return row
