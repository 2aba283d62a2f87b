"""Numbers that hold still, and rates."""

from __future__ import annotations

import pytest

from anyconsole.drivers.ask import State
from anyconsole.drivers.quantise import coarse_uptime, rates, steady


def test_value_moves_only_beyond_its_tolerance() -> None:
    state: State = {}
    assert [steady(state, "x", v, 1.0) for v in (5.0, 5.9, 4.2, 6.5, 6.0)] == [5.0, 5.0, 5.0, 6.5, 6.5]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, 0), (9, 0), (19.9, 10), (599, 590), (600, 600), (659, 600), (86461, 86460)]
)
def test_uptime_moves_in_steps(seconds: float, shown: float) -> None:
    assert coarse_uptime(seconds) == shown


def test_rate_is_taken_over_three_seconds() -> None:
    state: State = {}
    assert rates(state, {"total": 0}, 0.0) is None
    seen = [rates(state, {"total": n * n * 10}, float(n)) for n in range(1, 7)]
    assert [s["total"] if s else None for s in seen] == [10.0, 20.0, 30.0, 50.0, 70.0, 90.0]


def test_restart_of_the_daemon_starts_anew() -> None:
    state: State = {}
    rates(state, {"total": 100}, 0.0, "pid 1")
    assert rates(state, {"total": 150}, 1.0, "pid 2") is None
    assert rates(state, {"total": 160}, 2.0, "pid 2") == {"total": 10.0}


def test_counter_reset_never_gives_a_negative_rate() -> None:
    state: State = {}
    rates(state, {"total": 100, "tcp": 5}, 0.0)
    assert rates(state, {"total": 200, "tcp": 1}, 1.0) is None
    assert rates(state, {"total": 300, "tcp": 1}, 2.0) == {"total": 100.0, "tcp": 0.0}


def test_counter_that_appears_late_counts_from_zero() -> None:
    state: State = {}
    rates(state, {"total": 10}, 0.0)
    assert rates(state, {"total": 20, "rcode.NXDOMAIN": 5}, 1.0) == {"total": 10.0, "rcode.NXDOMAIN": 5.0}
