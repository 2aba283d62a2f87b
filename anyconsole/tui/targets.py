"""What a change is about: the rows an operator chose, taken down by name at the moment of the key press.

Rows move under the cursor; names don't. Nothing here asks the engine, and nothing decides whether the change is a good idea.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from anyconsole.model.facts import Key
from anyconsole.model.inventory import Family, SessionSpec
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import node_announcements
from anyconsole.tui.plain_text import some
from anyconsole.tui.scope import scope_of

__all__ = [
    "Cell",
    "Targets",
    "Wish",
    "drift_targets_of",
    "load_targets_of",
    "request_text",
    "stack_targets_of",
    "targets_of",
]

Cell = tuple[str, str, str]
"""An announcement by name: node, session, prefix."""

_KINDS = frozenset({"node", "tenant", "instance", "session", "announcement"})

_NAMED = 4
"""So many names of marked rows are said; then only how many more there are."""


class Wish(StrEnum):
    """What is to become of the chosen rows, as a title begins."""

    DRAIN = "Drain"
    UNDRAIN = "Undrain"
    ADOPT = "Adopt drift"
    REVERT = "Revert drift"
    LOAD_TEST = "Load test"
    SET_UP = "Set up"
    TEAR_DOWN = "Tear down"

    @property
    def action(self) -> str:
        """What the engine calls it."""
        return _ACTIONS[self]


_ACTIONS = {
    Wish.DRAIN: "drain",
    Wish.UNDRAIN: "drain",
    Wish.ADOPT: "drift",
    Wish.REVERT: "drift",
    Wish.LOAD_TEST: "loadtest",
    Wish.SET_UP: "setup",
    Wish.TEAR_DOWN: "teardown",
}


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """A scope as a plan's request says it; an empty field does not narrow, `words` say it in a title.

    `loads` are names of what may be load tested, `clusters` those in which tenants are set up.
    """

    nodes: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()
    cells: tuple[Cell, ...] = ()
    loads: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    words: str = ""


def targets_of(store: FleetStore, keys: Sequence[Key]) -> Targets | None:
    """What these rows stand for together; None if one of them stands for no announcement."""
    kinds = {key[0] for key in keys}
    if not keys or not kinds <= _KINDS:
        return None
    if len(keys) == 1:
        return _of_one(store, keys[0])
    # In the profile's order, whatever the rows' is: the same marks make the same plan.
    chosen = {key[1] for key in keys}
    if kinds == {"node"}:
        nodes = tuple(node.name for node in store.inventory.nodes if node.name in chosen)
        return Targets(nodes=nodes, words=f"{len(nodes)} nodes: {some(nodes, _NAMED)}")
    if kinds == {"tenant"}:
        tenants = tuple(tenant.name for tenant in store.inventory.tenants if tenant.name in chosen)
        return Targets(tenants=tenants, words=f"{len(tenants)} tenants on all nodes: {some(tenants, _NAMED)}")
    cells = tuple(sorted({cell for key in keys for cell in _cells(store, key)}))
    if not cells:
        return None  # all empty would mean the whole fleet
    return Targets(cells=cells, words=f"{len(cells)} announcements of {len(keys)} marked rows")


def drift_targets_of(store: FleetStore, keys: Sequence[Key]) -> Targets | None:
    """The nodes that these rows are on: drift is a node's as a whole. None if a row is on no node."""
    nodes = {scope_of(store.inventory, key).node for key in keys}
    if not nodes or "" in nodes:
        return None
    chosen = tuple(node.name for node in store.inventory.nodes if node.name in nodes)
    return Targets(nodes=chosen, words=some(chosen, _NAMED))


def request_text(wish: Wish, targets: Targets, *, reason: str = "", ticket: str = "", **form: object) -> str:
    """The request for a plan, as JSON. `form` is what was filled in of this kind of change."""
    request: dict[str, object] = {"reason": reason, "ticket": ticket}
    match wish.action:
        case "drift":
            request |= {"way": wish.name.lower(), "nodes": targets.nodes}
        case "loadtest":
            request |= {"targets": targets.loads, **form}
        case "setup" | "teardown":
            request |= {"clusters": targets.clusters, "tenants": targets.tenants, **form}
        case _:
            scope = ("nodes", "tenants", "peers", "families", "cells")
            request |= {name: value for name in scope if (value := getattr(targets, name))}
            request |= {"level": "serve", "expires_at": None, **form}
    return msgspec.json.encode(request).decode()


def load_targets_of(store: FleetStore, keys: Sequence[Key]) -> Targets | None:
    """What the profile lets be load tested of these rows; no `loads` if that is nothing. None if a row stands for no part of the fleet."""
    if not keys or not {key[0] for key in keys} <= _KINDS:
        return None
    scopes = [scope_of(store.inventory, key) for key in keys]
    names = tuple(
        target.name
        for target in store.inventory.load.targets
        if any(scope.node in ("", target.node) and scope.tenant in ("", target.tenant) for scope in scopes)
    )
    return Targets(loads=names, words=some(names, _NAMED))


def stack_targets_of(store: FleetStore, keys: Sequence[Key]) -> Targets | None:
    """The tenants of these rows in the clusters they are in, or could be; None if a row is in none."""
    fleet = store.inventory
    pairs: set[tuple[str, str]] = set()
    for key in keys:
        scope = scope_of(fleet, key)
        found = {
            (node.cluster, instance.tenant)
            for node in fleet.nodes
            if node.cluster and scope.cluster in ("", node.cluster) and scope.node in ("", node.name)
            for instance in node.instances
            if scope.tenant in ("", instance.tenant)
        }
        if not (scope.cluster or scope.node or scope.tenant) or not found:
            return None
        pairs |= found
    clusters = tuple(c.name for c in fleet.clusters if c.name in {cluster for cluster, _ in pairs})
    tenants = tuple(t.name for t in fleet.tenants if t.name in {tenant for _, tenant in pairs})
    if not pairs or len(pairs) != len(clusters) * len(tenants):
        return None  # a request says every one of these tenants on every one of these clusters
    return Targets(clusters=clusters, tenants=tenants, words=f"{some(tenants, _NAMED)} on {some(clusters, _NAMED)}")


def _of_one(store: FleetStore, key: Key) -> Targets | None:
    match key:
        case ("node", node):
            return Targets(nodes=(node,), words=f"node {node}, all tenants")
        case ("tenant", tenant):
            return Targets(tenants=(tenant,), words=f"tenant {tenant} on all nodes")
        case ("instance", node, tenant):
            return Targets(nodes=(node,), tenants=(tenant,), words=f"tenant {tenant} on {node}")
        case ("session", node, speaker, name):
            return _of_session(store, key, node, speaker, name)
        case ("announcement", node, _, session, prefix):
            tenant = scope_of(store.inventory, key).tenant
            return Targets(cells=((node, session, prefix),), words=f"{prefix} ({tenant}) on {node} {session}")
        case _:
            return None


def _of_session(store: FleetStore, key: Key, node: str, speaker: str, name: str) -> Targets | None:
    sessions = [(s.name, one) for s in store.inventory.node(node).speakers for one in s.sessions]
    session = next((one for owner, one in sessions if (owner, one.name) == (speaker, name)), None)
    if session is None:
        return None
    words = f"session {session.title} on {node}, all tenants"
    if sum(_is_alike(one, session) for _, one in sessions) == 1:
        return Targets(nodes=(node,), peers=(session.peer,), families=(session.family,), words=words)
    cells = tuple(_cells(store, key))  # a second session with the same peer is not meant
    return Targets(cells=cells, words=words) if cells else None


def _is_alike(one: SessionSpec, other: SessionSpec) -> bool:
    return (one.peer, one.family) == (other.peer, other.family)


def _cells(store: FleetStore, key: Key) -> Iterator[Cell]:
    scope = scope_of(store.inventory, key)
    for node in store.inventory.nodes:
        if scope.node not in ("", node.name):
            continue
        for speaker, session, tenant, prefix in node_announcements(store, node):
            if (
                scope.session in ("", session.name)
                and scope.tenant in ("", tenant.name)
                and scope.prefix in ("", prefix)
                and (not scope.session or key[2] == speaker.name)
            ):
                yield node.name, session.name, prefix
