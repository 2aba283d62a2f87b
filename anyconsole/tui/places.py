"""Where an operator can be: panes with their views, and where each row leads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from anyconsole.model.facts import Key
from anyconsole.model.inventory import Inventory
from anyconsole.model.store import FleetStore
from anyconsole.model.table import View
from anyconsole.model.views import ANNOUNCEMENTS, CATCHMENT, FLEET, HEALTH, QPS, TENANTS, bgp_view
from anyconsole.tui.scope import Scope, scope_of

__all__ = [
    "EVENTS",
    "EXTRAS",
    "HOME",
    "JOURNAL",
    "LEAST_NEEDED",
    "LOADS",
    "OTHER_VIEW",
    "PANES",
    "VIEWS",
    "Place",
    "TableState",
    "Visit",
    "behind",
    "view_of",
    "views_at",
]

EVENTS = "events"
JOURNAL = "journal"
LOADS = "load"
"""Names of the panes whose rows are not a view of the store."""

PANES: dict[str, tuple[str, ...]] = {
    "fleet": ("fleet",),
    "tenants": ("tenants",),
    "catchment": ("catchment",),
    "bgp": ("bgp",),
    "announcements": ("announcements",),
    "health": ("health",),
    "qps": ("qps",),
    "load": (LOADS,),
    "events": (EVENTS,),
    "journal": (JOURNAL,),
    "node": ("health", "bgp"),
    "tenant": ("health", "catchment"),
}
"""Panes by name, each with the views it shows from top to bottom."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "fleet": ("tenants", EVENTS),
    "node": (EVENTS,),
    "tenant": (EVENTS,),
}
"""What is shown below a pane's own views where there is room."""

OTHER_VIEW = {"tenants": "catchment", "catchment": "tenants", "bgp": "announcements", "announcements": "bgp"}
"""What `m` turns one view into."""

LEAST_NEEDED = (
    "stack", "mem_available", "load", "site", "number", "attributes", "process", "rss", "pid", "uptime", "zones", "udp", "tcp",
    "prometheus_age", "drained", "imported", "since", "nsid", "zone", "peer", "family", "serials", "chroot", "catchment", "exported",
    "source", "before", "seconds", "ticket", "operator",
    "purpose", "p99",
)  # fmt: skip
"""Columns that a narrow terminal leaves out, the first of them first, so that the last column (why) stays in sight."""

VIEWS: dict[str, Callable[[FleetStore], View]] = {
    "fleet": lambda _: FLEET,
    "tenants": lambda _: TENANTS,
    "catchment": lambda _: CATCHMENT,
    "bgp": bgp_view,
    "announcements": lambda _: ANNOUNCEMENTS,
    "health": lambda _: HEALTH,
    "qps": lambda _: QPS,
}


_EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Place:
    """A pane, narrowed to a scope."""

    pane: str
    scope: Scope = _EVERYTHING

    @property
    def crumb(self) -> str:
        """Its name in the trail."""
        words = self.scope.words
        if self.pane in ("node", "tenant"):
            return words
        return f"{self.pane}({words})" if words else self.pane


HOME = Place("fleet")


def views_at(place: Place) -> tuple[str, ...]:
    """Names of the views at a place, from top to bottom, those included that are shown only where there is room."""
    return PANES[place.pane] + EXTRAS.get(place.pane, ())


@dataclass(slots=True)
class TableState:
    """What an operator arranged in one table, kept while they are elsewhere."""

    cursor: Key | None = None
    at_home: bool = True
    filter: str = ""
    unhealthy: bool = False
    wide: bool = False
    sort: tuple[str, bool] | None = None
    marks: frozenset[Key] = frozenset()


@dataclass(slots=True)
class Visit:
    """A place in the trail, with the state of its tables and which of them has the cursor."""

    place: Place
    tables: list[TableState] = field(default_factory=list)
    focused: int = 0

    def __post_init__(self) -> None:
        self.tables = self.tables or [TableState() for _ in views_at(self.place)]


def behind(inventory: Inventory, key: Key) -> Place | None:
    """Where `enter` on a row leads; None if there is nothing deeper than its facts."""
    scope = scope_of(inventory, key)
    match key[0]:
        case "node" | "drain":
            return Place("node", scope)
        case "tenant":
            return Place("tenant", scope)
        case "catchment" if len(key) == 3:
            return Place("tenant", scope)
        case "instance" | "session":
            return Place("announcements", scope)
        case _:
            return None


_VIEW_OF_KIND = {
    "node": "fleet",
    "tenant": "tenants",
    "session": "bgp",
    "announcement": "announcements",
    "instance": "health",
    "catchment": "catchment",
}


def view_of(store: FleetStore, key: Key) -> View | None:
    """The view in which this key is a row; None for what is nowhere a row (an event's drain state)."""
    name = _VIEW_OF_KIND.get(key[0])
    if name is None or (name == "catchment" and len(key) != 4):
        return None
    return VIEWS[name](store)
