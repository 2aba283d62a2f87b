"""The two lines at the top: which fleet this is, whether it can be changed, what time it is, how it is, and how fresh that is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from textual.color import Color, ColorParseError
from textual.content import Content
from textual.widget import Widget

from anyconsole.engine.client import EngineState
from anyconsole.model.inventory import Inventory
from anyconsole.model.table import Glyphs, Level, Row, duration, rate
from anyconsole.model.views import FLEET
from anyconsole.tui.plain_text import plain

__all__ = ["Header", "HeaderFacts", "freshness", "level_style", "summary"]

_COLUMN = {column.id: i for i, column in enumerate(FLEET.columns)}
_STYLES = {
    Level.NONE: "$foreground",
    Level.OK: "$success",
    Level.WARN: "bold $warning",
    Level.CRIT: "bold $error",
    Level.DRAINED: "$drained",
    Level.STALE: "$stale",
}

_ARMED = "bold auto on $warning"

Words = tuple[str, Level]


def level_style(level: Level) -> str:
    """The style of words of this level."""
    return _STYLES[level]


class HeaderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the header says. `armed_for` is how many seconds the fleet may still be changed, `changes` what is going on."""

    now: float
    summary: tuple[Words, ...]
    qps: float | None
    freshness: Words
    frozen_at: float | None = None
    armed_for: float = 0.0
    changes: tuple[Words, ...] = ()


def summary(rows: Iterable[Row]) -> tuple[tuple[Words, ...], float | None]:
    """How many nodes are in which state, worst first, and the fleet's queries per second."""
    states: Counter[tuple[int, str, Level]] = Counter()
    rates: list[float] = []
    for row in rows:
        status = row.cells[_COLUMN["status"]]
        if not status.text:
            continue  # a row that is only named yet
        states[row.rank, status.text, status.level] += 1
        qps = row.cells[_COLUMN["qps"]].value
        if isinstance(qps, int | float):
            rates.append(qps)
    words = []
    for (_, text, level), count in sorted(states.items()):
        glyph, _, word = text.partition(" ")
        words.append((f"{glyph} {count} {word}", level))
    return tuple(words), sum(rates) if rates else None


def freshness(rows: Iterable[Row], state: EngineState, detail: str, stale_after: float) -> Words:
    """Whether the numbers can be trusted: live, or how old the oldest evidence is, or what the engine is doing."""
    if state is EngineState.LOST:
        return f"ENGINE LOST: {detail}" if detail else "ENGINE LOST", Level.CRIT
    if state is EngineState.STARTING:
        return "starting", Level.STALE
    ages = [row.cells[_COLUMN["age"]].value for row in rows]
    known = [age for age in ages if isinstance(age, int | float)]
    if len(known) < len(ages):
        return f"{len(known)}/{len(ages)} nodes seen", Level.WARN if known else Level.STALE
    old = [age for age in known if age > stale_after]
    if old:
        return f"{len(old)} stale, oldest {duration(max(old))}", Level.WARN
    return "live", Level.OK


class Header(Widget):
    """Paints `HeaderFacts`."""

    DEFAULT_CSS = "Header { dock: top; height: 2; background: $panel; color: $foreground; }"

    def __init__(self, inventory: Inventory, glyphs: Glyphs) -> None:
        super().__init__()
        self._inventory = inventory
        self._glyphs = glyphs
        self._facts: HeaderFacts | None = None

    def show(self, facts: HeaderFacts) -> None:
        """Paint other facts."""
        self._facts = facts
        self.refresh()

    @property
    def is_production(self) -> bool:
        """True for a profile whose name says that real users depend on it."""
        return "prod" in self._inventory.name.casefold()

    def render(self) -> Content:
        """Both lines."""
        width = self.size.width
        return Content("\n").join([self._first(width), self._second(width)])

    def _first(self, width: int) -> Content:
        badge = self._badge_style()
        armed = self._facts.armed_for if self._facts else 0.0
        counts_down = 0 < armed < math.inf
        ground = _ARMED if counts_down else badge if self.is_production else ""
        state = "ARMED" if armed else "READ-ONLY"
        if counts_down:
            state += f" {int(armed) // 60:02}:{int(armed) % 60:02}"
        name = plain(self._inventory.name, 24).upper() or "UNNAMED"
        left = [
            (" anyconsole ", ground or "bold"),
            (f" {name} ", badge),
            (" ", ground),
            (f" {state} ", f"{ground} reverse" if ground else _ARMED if armed else "reverse bold"),
            (" ", ground),
        ]
        clock = " ".join(dict.fromkeys([f"{self._time(utc=True)} UTC ", f"{self._time(utc=False)} "]))
        room = width - sum(len(text) for text, _ in left) - len(clock) - 1
        words, level = self._facts.freshness if self._facts else ("starting", Level.STALE)
        sign = {Level.OK: self._glyphs.ok, Level.WARN: self._glyphs.warn, Level.CRIT: self._glyphs.crit}.get(
            level, self._glyphs.stale
        )
        fresh = f"{sign} {plain(words)}"[: max(0, room)]
        fill = " " * max(1, room - len(fresh) + 1)
        return Content.assemble(*left, (fresh, ground or level_style(level)), (fill, ground), (clock, ground))

    def _second(self, width: int) -> Content:
        if self._facts is None:
            return Content("")
        parts: list[tuple[str, str]] = [(" ", "")]
        for words, level in self._facts.summary:
            parts.append((f"{words}  ", level_style(level)))
        qps = f"{rate(self._facts.qps).text} q/s "
        frozen = f" FROZEN {_clock(self._facts.frozen_at, utc=True)} UTC " if self._facts.frozen_at is not None else ""
        changes = [(f" {plain(words)} ", f"{level_style(level)} reverse bold") for words, level in self._facts.changes]
        used = sum(len(text) for text, _ in parts)
        room = width - len(qps) - len(frozen) - sum(len(text) + 1 for text, _ in changes)
        left = (
            Content.assemble(*parts).truncate(max(0, room), ellipsis=True) if used > room else Content.assemble(*parts)
        )
        fill = " " * max(0, room - used)
        said = [piece for change in changes for piece in (change, (" ", ""))]
        return Content.assemble(left, fill, *said, (qps, "bold"), (frozen, "bold reverse $warning"))

    def _badge_style(self) -> str:
        colour = self._inventory.colour or ("$error" if self.is_production else "$primary")
        if self.app.theme_is_plain:  # type: ignore[attr-defined]  # ConsoleApp's; profile colours are no use in a plain terminal
            return "bold reverse"
        if colour.startswith("$"):
            return f"bold auto on {colour}"
        try:
            ground = Color.parse(colour)
        except ColorParseError:
            return "bold auto on $primary"
        return f"bold {ground.get_contrast_text(1.0).hex6} on {ground.hex6}"

    def _time(self, *, utc: bool) -> str:
        return _clock(self._facts.now, utc=utc) if self._facts else "--:--:--"


def _clock(at: float, *, utc: bool) -> str:
    if utc:
        return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
    local = datetime.fromtimestamp(at).astimezone()
    return f"{local:%H:%M:%S} {local.tzname() or 'local'}"
