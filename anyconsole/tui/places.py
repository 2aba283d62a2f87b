"""Where an operator can be: panes with their views, and where each row leads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from anyconsole.model.facts import Key
from anyconsole.model.inventory import Inventory
from anyconsole.model.store import FleetStore
from anyconsole.model.table import View
from anyconsole.model.views import (
    ANNOUNCEMENTS,
    CATCHMENT,
    FLEET,
    HEALTH,
    QPS,
    TENANTS,
    bgp_view,
    containers_view,
    monitoring_view,
    pod_events_view,
    pods_view,
)
from anyconsole.model.views.containers import DENIED_EVENTS
from anyconsole.tui.scope import Scope, scope_of

__all__ = [
    "EVENTS",
    "EXTRAS",
    "HOME",
    "JOURNAL",
    "LEAST_NEEDED",
    "LOADS",
    "PANES",
    "VIEWS",
    "Place",
    "TableState",
    "Visit",
    "behind",
    "other_place",
    "view_at",
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
    "pods": ("pods",),
    "monitoring": ("monitoring",),
    "pod": ("containers", "pod_events"),
}
"""Panes by name, each with the views it shows from top to bottom."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "fleet": ("tenants", EVENTS),
    "node": (EVENTS,),
    "tenant": (EVENTS,),
}
"""What is shown below a pane's own views where there is room."""

_OTHER_VIEW = {
    "tenants": "catchment", "catchment": "tenants", "bgp": "announcements", "announcements": "bgp", "health": "pods",
    "pods": "monitoring", "monitoring": "health",
}  # fmt: skip
"""What `m` turns one view into."""

LEAST_NEEDED = (
    "addresses", "image", "kind", "seen_age", "nodes", "host", "pod_age",
    "stack", "mem_available", "load", "site", "number", "attributes", "process", "rss", "pid", "uptime", "zones", "udp", "tcp",
    "prometheus_age", "drained", "imported", "since", "nsid", "zone", "peer", "family", "serials", "chroot", "catchment", "exported",
    "source", "before", "seconds", "ticket", "operator",
    "purpose", "p99", "last_end", "restarts",
)  # fmt: skip
"""Columns that a narrow terminal leaves out, the first of them first, so that the last column (why) stays in sight."""

VIEWS: dict[str, Callable[[FleetStore], View]] = {
    "fleet": lambda _: FLEET,
    "tenants": lambda _: TENANTS,
    "catchment": lambda _: CATCHMENT,
    "bgp": bgp_view,
    "announcements": lambda _: ANNOUNCEMENTS,
    "health": lambda _: HEALTH,
    "pods": pods_view,
    "monitoring": monitoring_view,
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
        if self.pane in ("node", "tenant", "pod"):
            return words
        return f"{self.pane}({words})" if words else self.pane


HOME = Place("fleet")


def view_at(store: FleetStore, name: str, scope: Scope) -> View:
    """A view of a place; those of one pod are made for it."""
    match name:
        case "containers":
            return containers_view(scope.cluster, scope.namespace, scope.pod)
        case "pod_events":
            return pod_events_view(scope.cluster, scope.namespace, scope.pod)
        case _:
            return VIEWS[name](store)


def other_place(inventory: Inventory, place: Place, view_name: str) -> Place | None:
    """Where `m` leads from one of a place's views; None if that has no other half. Pods are where a cluster is."""
    other = _OTHER_VIEW.get(view_name)
    if other is None:
        return None
    if "health" in (other, view_name):
        node = place.scope.node
        if not (inventory.node(node).cluster if node else inventory.clusters):
            return None
    # What monitoring is about is no part of the fleet that another view could be narrowed to.
    is_wide = "monitoring" in (other, view_name)
    return Place(other, _EVERYTHING if is_wide else place.scope)


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
        case "pod":
            return Place("pod", scope)
        case "cluster":
            return Place("pods", scope)
        case "monitoring":
            return Place("pods", Scope(cluster=key[1], namespace=inventory.cluster(key[1]).monitoring))
        case _:
            return None


_VIEW_OF_KIND = {
    "node": "fleet",
    "tenant": "tenants",
    "session": "bgp",
    "announcement": "announcements",
    "instance": "health",
    "catchment": "catchment",
    "pod": "pods",
    "cluster": "pods",
    "denied": "pods",
    "workload": "pods",
    "monitoring": "monitoring",
    "container": "containers",
    "cluster_event": "pod_events",
    DENIED_EVENTS: "pod_events",
}


def view_of(store: FleetStore, key: Key) -> View | None:
    """The view in which this key is a row; None for what is nowhere a row (an event's drain state)."""
    name = _VIEW_OF_KIND.get(key[0])
    if name is None or (name == "catchment" and len(key) != 4):
        return None
    return view_at(store, name, scope_of(store.inventory, key))
