"""What the plan dialog asks besides a reason: how and until when, what for, whose fields may be taken. No decision is made here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Static

from anyconsole.actions.load.request import Purpose
from anyconsole.errors import AnyconsoleError
from anyconsole.tui.plain_text import plain
from anyconsole.tui.targets import Wish
from anyconsole.tui.widgets.form import Choice, Field

if TYPE_CHECKING:
    from anyconsole.tui.app import ConsoleApp

__all__ = ["DrainForm", "LoadForm", "PlanForm", "SetupForm", "form_of", "rate_of", "row", "span_of"]

_LEVELS = (("soft-then-hard", "soft then hard"), ("soft", "soft"), ("hard", "hard"))
_SPANS = (("", "open end"), ("7200", "2 h"), ("28800", "8 h"), ("86400", "24 h"), ("604800", "7 d"))
"""For how long: the drain is marked with its end, and alarms after it; nothing is undrained by itself."""

_PURPOSES = tuple((str(purpose), str(purpose)) for purpose in Purpose)

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_FACTORS = {"": 1, "k": 1e3, "m": 1e6}


def rate_of(text: str) -> float | None:
    """Queries per second of 20000, 20 000 or 20k; None if it is no rate."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([km]?)", re.sub(r"[ ,_]", "", text).lower())
    return float(found[1]) * _FACTORS[found[2]] if found else None


def span_of(text: str) -> float | None:
    """Seconds of 60, 90s, 10m or 1h; None if it is no time."""
    found = re.fullmatch(r"([0-9]{1,6})([smh]?)", text.strip())
    return float(found[1]) * _UNITS[found[2]] if found else None


def row(label: str, field: Widget, name: str = "") -> ComposeResult:
    """A line of a form."""
    with Horizontal(classes=f"dialog-row {name}"):
        yield Static(f"{label:<9}", classes="label")
        yield field


class PlanForm(Vertical):
    """A form that asks nothing: undrain and drift are known by their rows."""

    def fields(self, now: float) -> dict[str, object]:  # noqa: ARG002 - a drain's end depends on it
        """What was filled in, as the request says it. Raises AnyconsoleError for what can't be meant."""
        return {}


class DrainForm(PlanForm):
    """How, and until when."""

    def __init__(self, *, ascii_only: bool) -> None:
        super().__init__()
        self._level = Choice(_LEVELS, id="level", ascii_only=ascii_only)
        self._span = Choice(_SPANS, id="span", ascii_only=ascii_only)

    def compose(self) -> ComposeResult:
        """Two choices."""
        yield from row("level", self._level)
        yield from row("for", self._span)

    def fields(self, now: float) -> dict[str, object]:
        """Level and end."""
        span = self._span.value
        return {"level": self._level.value, "expires_at": now + float(span) if span else None}


class LoadForm(PlanForm):
    """What for, how fast and how long where it is no search, and from where."""

    def __init__(self, generators: Sequence[str], *, ascii_only: bool) -> None:
        super().__init__()
        self._purpose = Choice(_PURPOSES, id="purpose", ascii_only=ascii_only)
        self._rate = Field("queries per second, such as 5000 or 20k", id="rate", max_length=20)
        self._seconds = Field("60, 90s, 10m or 1h; nothing is as usual", id="seconds", max_length=20)
        known = (("", "all"), *((name, plain(name, 40)) for name in generators)) if len(generators) > 1 else ()
        self._generators = Choice(known, id="generators", ascii_only=ascii_only) if known else None

    def compose(self) -> ComposeResult:
        """Rate and time are shown where they are needed."""
        yield from row("purpose", self._purpose)
        yield from row("rate", self._rate, "steady")
        yield from row("time", self._seconds, "steady")
        if self._generators is not None:
            yield from row("from", self._generators)

    def on_mount(self) -> None:
        """A search comes first, and needs neither."""
        self.on_choice_changed()

    def on_choice_changed(self) -> None:
        """Another purpose needs other fields."""
        self.query(".steady").set(display=not self._is_search)

    @property
    def _is_search(self) -> bool:
        return self._purpose.value == Purpose.SEARCH

    def fields(self, now: float) -> dict[str, object]:  # noqa: ARG002 - it begins when it is applied
        """Purpose, generators, and rate and time where they are asked."""
        chosen = self._generators.value if self._generators is not None else ""
        said: dict[str, object] = {"purpose": self._purpose.value, "generators": (chosen,) if chosen else ()}
        if self._is_search:
            return said
        rate = rate_of(self._rate.words)
        if rate is None:
            raise AnyconsoleError("at what rate? Queries per second, such as 5000 or 20k")
        seconds = span_of(self._seconds.words) if self._seconds.words else 0.0
        if seconds is None:
            raise AnyconsoleError("for how long? A time such as 60, 90s, 10m or 1h")
        return said | {"rate": rate, "seconds": seconds}


class SetupForm(PlanForm):
    """What becomes of fields that somebody else manages."""

    def __init__(self, *, ascii_only: bool) -> None:
        super().__init__()
        self._force = Choice((("", "leave them"), ("force", "take them")), id="force", ascii_only=ascii_only)

    def compose(self) -> ComposeResult:
        """One choice."""
        yield from row("others'", self._force)

    def fields(self, now: float) -> dict[str, object]:  # noqa: ARG002 - it begins when it is applied
        """Whether fields are taken by force."""
        return {"force": bool(self._force.value)}


def form_of(app: ConsoleApp, wish: Wish) -> PlanForm:
    """The form for what is wished."""
    ascii_only = app.glyphs.ok.isascii()
    match wish:
        case Wish.DRAIN:
            return DrainForm(ascii_only=ascii_only)
        case Wish.SET_UP:
            return SetupForm(ascii_only=ascii_only)
        case Wish.LOAD_TEST:
            return LoadForm([g.name for g in app.client.inventory.generators], ascii_only=ascii_only)
        case _:
            return PlanForm()
