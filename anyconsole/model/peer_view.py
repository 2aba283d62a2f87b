"""The peer's view: whether an announcement has arrived in the peer's network, as its looking glasses show it. Pure.

A path is one announcement's if it came from, or leads to, our own address on that session. That it is missing means something only where
it would be seen, so the rule is cautious: a looking glass that holds another path straight from that session speaks for it; otherwise
all of the peer's looking glasses must be readable and lack it.
"""

from __future__ import annotations

import math

import msgspec

from anyconsole.model.facts import Exported, LinkState, PeerPath, PeerRoute
from anyconsole.model.inventory import LookingGlass, SessionSpec
from anyconsole.model.store import FleetStore

__all__ = ["PEER_SETTLING", "PeerView", "contradicts", "peer_view"]

PEER_SETTLING = 15.0
"""Seconds that a withdrawal may take to arrive at the peer before the difference is worth a word."""

_SECTION = "routes"


class PeerView(msgspec.Struct, frozen=True):
    """What a peer has of an announcement.

    `words` say which looking glass shows what, or why nothing is known; `glasses` are those it rests on; `age` is the age of the oldest of
    their evidence in seconds, infinite if there is none.
    """

    seen: Exported
    words: str
    age: float = math.inf
    glasses: tuple[str, ...] = ()


def peer_view(store: FleetStore, node: str, speaker: str, session: SessionSpec, prefix: str, now: float) -> PeerView:
    """What the peer of `session` has of `prefix` from this session of a node's speaker.

    Args:
        store: What is known.
        node: The node's name.
        speaker: Its speaker's name.
        session: The session.
        prefix: The service prefix.
        now: The engine's clock.
    """
    glasses = [glass for glass in store.inventory.looking_glasses if glass.peer == session.peer]
    if not glasses:
        return PeerView(Exported.UNKNOWN, f"{session.peer} has no looking glass")
    status = store.session(node, speaker, session.name)
    local = status.local if status is not None else ""
    arrived: list[tuple[LookingGlass, PeerPath]] = []
    lacking: list[PeerRoute] = []
    blind: list[str] = []
    for glass in glasses:
        age = _age(store, glass, now)
        if age > store.max_age(_SECTION):
            blind.append(_why_blind(store, glass, age))
            continue
        route = store.peer_route(glass.name, prefix)
        if route is None:
            continue  # it knows no such family: neither a witness nor a gap
        paths = [path for path in route.paths if local and local in (path.source, path.next_hop)]
        if paths:
            arrived.append((glass, min(paths, key=lambda path: (bool(path.depreferred), path.source != local))))
        elif route.more or (route.paths and not local):
            blind.append(f"{glass.name}: too many paths" if route.more else "our address on the session is not known")
        else:
            lacking.append(route)
    if arrived:
        # Full preference anywhere outweighs: whoever waits for a drain must not be told that it has arrived.
        glass, path = min(arrived, key=lambda found: bool(found[1].depreferred))
        seen = Exported.DEPREFERRED if path.depreferred else Exported.ANNOUNCED
        return PeerView(seen, f"{glass.name}: {path.attributes}", _age(store, glass, now), (glass.name,))
    ends = [route for route in lacking if local in _direct_sources(store, route.node, now)]
    if not ends and (blind or not lacking):
        return PeerView(
            Exported.UNKNOWN, ", ".join(dict.fromkeys(blind)) or "its looking glasses don't know this family"
        )
    names = tuple(route.node for route in ends or lacking)
    return PeerView(
        Exported.ABSENT,
        f"not at {', '.join(names)}",
        max(_age(store, glass, now) for glass in glasses if glass.name in names),
        names,
    )


def contradicts(exported: Exported, view: PeerView) -> bool:
    """True if the peer has what isn't exported to it, or lacks what is."""
    absent = Exported.ABSENT
    return Exported.UNKNOWN not in (exported, view.seen) and (exported is absent) is not (view.seen is absent)


def _age(store: FleetStore, glass: LookingGlass, now: float) -> float:
    seen = store.section_seen_at(glass.name, _SECTION)
    return math.inf if seen is None else max(0.0, now - seen)


def _why_blind(store: FleetStore, glass: LookingGlass, age: float) -> str:
    link = store.link(glass.name)
    if link is not None and (link.detail or link.state is not LinkState.LIVE):
        return f"{glass.name}: {link.detail.removeprefix(f'{glass.name}: ') or link.state}"
    return f"{glass.name}: not seen yet" if math.isinf(age) else f"{glass.name}: no answer for {age:.0f} s"


def _direct_sources(store: FleetStore, glass: str, now: float) -> frozenset[str]:
    """The neighbours of which a looking glass has any path straight from them: those sessions end there."""

    def collect() -> frozenset[str]:
        return frozenset(
            path.source for route in store.of_node(glass, PeerRoute) for path in route.paths if path.source
        )

    return store.once(now, ("direct sources", glass), collect)
