"""Tables as values: what a view is made of, and how figures, ages and verdicts are worded everywhere.

The screen and the command line show the same cells; JSON carries each cell's `value`.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

import msgspec

from anyconsole.model.facts import Key
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Verdict

__all__ = [
    "ASCII", "UNICODE", "Cell", "Column", "Glyphs", "Level", "Row", "Value", "View", "clean", "clock", "duration", "human_duration",
    "level_of", "number",
    "rate", "size", "verdict_cell",
]  # fmt: skip

Value: TypeAlias = str | int | float | bool | list[str] | dict[str, int] | dict[str, float] | dict[str, str] | None
"""What a cell is in JSON."""


class Level(StrEnum):
    """How a cell is meant; themes give it a colour, glyph and word say it without one."""

    NONE = ""
    OK = "ok"
    WARN = "warn"
    CRIT = "crit"
    DRAINED = "drained"
    STALE = "stale"


class Cell(msgspec.Struct, frozen=True):
    """One field: its words, its meaning, its value for JSON, and what it sorts by (`value` if None)."""

    text: str
    level: Level = Level.NONE
    value: Value = None
    order: float | str | None = None


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column: `id` is its name in JSON and in sorting, `width` its least width in terminal cells.

    The last one takes what is left, and others are left out where that is less than its `room`.
    """

    id: str
    title: str
    width: int
    right: bool = False
    room: int = 26


class Row(msgspec.Struct, frozen=True):
    """One line of a view. `key` is its identity, `rank` its place when the worst comes first."""

    key: Key
    cells: tuple[Cell, ...]
    rank: int = 0


class Glyphs(msgspec.Struct, frozen=True):
    """The signs before the words: one set for terminals with Unicode fonts, one for those without."""

    ok: str
    soft: str
    drained: str
    warn: str
    crit: str
    stale: str
    unknown: str
    arrow: str
    spark: str


UNICODE = Glyphs("●", "◐", "■", "▲", "✖", "?", "·", "→", " ▁▂▃▄▅▆▇█")
ASCII = Glyphs("+", "~", "=", "!", "X", "?", ".", "->", " .:-=+*#@")


def _place(key: Key) -> tuple[str, ...]:
    return (key[1],)


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A table over the fleet: `keys` lists the rows there are, `row` makes one; both are pure.

    Rows of most views are those of the profile. In a view of things that come and go, `listed` is the kind of fact whose keys they have.
    `lead` are the words of the first cells that are known by the key alone.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    keys: Callable[[FleetStore], list[Key]]
    row: Callable[[FleetStore, Key, float, Glyphs], Row]
    listed: str = ""
    lead: Callable[[Key], tuple[str, ...]] = _place

    def rows(self, store: FleetStore, now: float, glyphs: Glyphs = UNICODE) -> list[Row]:
        """All rows, worst first, then in the profile's order."""
        return sorted((self.row(store, key, now, glyphs) for key in self.keys(store)), key=lambda row: row.rank)


_LEVELS = {
    Verdict.BLACKHOLE: Level.CRIT,
    Verdict.DOWN: Level.CRIT,
    Verdict.BELOW_FLOOR: Level.CRIT,
    Verdict.EXPIRED: Level.CRIT,
    Verdict.WASTED: Level.WARN,
    Verdict.DRIFT: Level.WARN,
    Verdict.OLD_ZONE: Level.WARN,
    Verdict.DEGRADED: Level.WARN,
    Verdict.UNTRUSTED: Level.CRIT,
    Verdict.STALE: Level.STALE,
    Verdict.UNKNOWN: Level.STALE,
    Verdict.SOFT: Level.DRAINED,
    Verdict.DRAINED: Level.DRAINED,
    Verdict.SERVING: Level.OK,
}


def level_of(verdict: Verdict) -> Level:
    """The meaning of a verdict."""
    return _LEVELS[verdict]


def glyph_of(verdict: Verdict, glyphs: Glyphs) -> str:
    """The sign of a verdict."""
    if verdict is Verdict.SOFT:
        return glyphs.soft
    if verdict is Verdict.UNKNOWN:
        return glyphs.unknown
    return {
        Level.OK: glyphs.ok,
        Level.WARN: glyphs.warn,
        Level.CRIT: glyphs.crit,
        Level.DRAINED: glyphs.drained,
        Level.STALE: glyphs.stale,
    }[_LEVELS[verdict]]


def verdict_cell(verdict: Verdict, glyphs: Glyphs, words: str = "") -> Cell:
    """Glyph, word and level of a verdict; `words` replaces the verdict's own."""
    return Cell(f"{glyph_of(verdict, glyphs)} {words or verdict}", _LEVELS[verdict], str(verdict), verdict.rank)


def clean(text: str, limit: int = 300) -> str:
    """Remote text made fit for a screen: one line, no control, format or private-use characters, at most `limit` long."""
    if text.isascii() and text.isprintable():
        return text[:limit]
    return "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[:limit]).strip()


def number(value: float | None, digits: int = 0) -> Cell:
    """A plain figure, or a dash where it isn't known."""
    if value is None or math.isnan(value):
        return Cell("-", Level.STALE, None, -math.inf)
    return Cell(f"{value:.{digits}f}", value=value, order=value)


def rate(value: float | None) -> Cell:
    """Queries per second: three significant digits, k and M from ten thousand on."""
    if value is None or math.isnan(value):
        return Cell("-", Level.STALE, None, -math.inf)
    for divisor, unit in ((1e6, "M"), (1e3, "k")):
        if value >= 10 * divisor or (unit == "M" and value >= divisor):
            return Cell(f"{value / divisor:.3g}{unit}", value=value, order=value)
    return Cell(f"{value:.0f}" if value >= 100 else f"{value:.1f}", value=value, order=value)


def size(value: float | None) -> Cell:
    """Bytes, in powers of 1024."""
    if value is None:
        return Cell("-", Level.STALE, None, -math.inf)
    amount = float(value)
    for unit in ("B", "K", "M", "G"):
        if amount < 1024:
            return Cell(
                f"{amount:.0f}{unit}" if amount >= 10 or unit == "B" else f"{amount:.1f}{unit}",
                value=value,
                order=value,
            )
        amount /= 1024
    return Cell(f"{amount:.1f}T", value=value, order=value)


def duration(seconds: float | None) -> str:
    """An age or a span in two units at most: 7s, 3m12s, 5h02m, 12d4h; a dash where it isn't known."""
    if seconds is None or math.isinf(seconds) or math.isnan(seconds):
        return "-"
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def human_duration(seconds: float) -> str:
    """An age as kubectl words it (apimachinery, HumanDuration): 90s, 3m12s, 73m, 5h2m, 30h, 2d4h, 57d, 2y100d."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    years = days // 365
    steps = (
        (whole < 120, whole, "s", 0, ""),
        (minutes < 10, minutes, "m", whole % 60, "s"),
        (minutes < 180, minutes, "m", 0, ""),
        (hours < 8, hours, "h", minutes % 60, "m"),
        (hours < 48, hours, "h", 0, ""),
        (hours < 192, days, "d", hours % 24, "h"),
        (years < 2, days, "d", 0, ""),
        (years < 8, years, "y", days % 365, "d"),
    )
    _, major, unit, minor, small = next((step for step in steps if step[0]), (True, years, "y", 0, ""))
    return f"{major}{unit}" + (f"{minor}{small}" if minor else "")


def clock(at: float) -> str:
    """A time of day in UTC, HH:MM:SS."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
