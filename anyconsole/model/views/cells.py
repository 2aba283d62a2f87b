"""Cells that several views share: ages, shares and remote text."""

from __future__ import annotations

import math

from anyconsole.model.table import Cell, Level, clean, duration, level_of
from anyconsole.model.verdicts import Verdict

__all__ = ["age_cell", "reason_cell", "share_cell", "text_cell"]


def age_cell(seconds: float, limit: float) -> Cell:
    """An age, shown stale beyond `limit` seconds."""
    stale = seconds > limit
    known = None if math.isinf(seconds) else round(seconds, 1)
    return Cell(duration(seconds), Level.STALE if stale else Level.NONE, known, seconds)


def share_cell(have: int | None, want: int, *, on_purpose: bool = False) -> Cell:
    """So many of so many; None is not known. A share that is small on purpose is no warning."""
    if have is None:
        return Cell(f"?/{want}", Level.STALE, None, -math.inf)
    level = Level.NONE if have == want or on_purpose else Level.WARN if have else Level.CRIT
    return Cell(f"{have}/{want}", level, have, have - want)


def text_cell(text: str, level: Level = Level.NONE) -> Cell:
    """Text that may come from a node, cleaned."""
    cleaned = clean(text)
    return Cell(cleaned, level, cleaned)


def reason_cell(verdict: Verdict, reason: str) -> Cell:
    """Why a verdict is what it is, in its colour unless all is well."""
    return text_cell(reason, Level.NONE if verdict is Verdict.SERVING else level_of(verdict))
