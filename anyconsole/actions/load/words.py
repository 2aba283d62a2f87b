"""Figures of load tests in words: the same in reports, comparisons and charts."""

from __future__ import annotations

__all__ = ["counted", "milliseconds", "percent", "rate"]


def rate(queries_per_second: float | None) -> str:
    """Whole queries per second, their thousands apart; a dash where it isn't known."""
    return "-" if queries_per_second is None else f"{queries_per_second:,.0f}".replace(",", " ")


def percent(share: float | None, digits: int = 2) -> str:
    """A share in per cent; a dash where it isn't known."""
    return "-" if share is None else f"{share * 100:.{digits}f} %"


def milliseconds(seconds: float | None) -> str:
    """A latency with two or three digits that mean something; a dash where it isn't known."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def counted(number: int, thing: str) -> str:
    """So many things."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
