"""Whether an announcement has arrived at the peer: never said to be gone on evidence that could not show it."""

from __future__ import annotations

import math

import msgspec
import pytest

from anyconsole.model import verdicts
from anyconsole.model.facts import Exported, Gone, Link, LinkState, PeerPath, PeerRoute
from anyconsole.model.inventory import SessionSpec
from anyconsole.model.peer_view import PEER_SETTLING, PeerView, peer_view
from anyconsole.model.report import row_value
from anyconsole.model.store import FleetStore
from anyconsole.model.table import ASCII
from anyconsole.model.views import views
from tests.fleet import NOW, healthy, healthy_store, inventory

DE4 = "192.0.2.0/24"


def session_of(store: FleetStore, node: str, name: str) -> SessionSpec:
    return next(s for s in store.inventory.node(node).speakers[0].sessions if s.name == name)


def view_of(store: FleetStore, node: str = "fra1", session: str = "transit_v4", now: float = NOW) -> PeerView:
    return peer_view(store, node, "bird", session_of(store, node, session), DE4, now)


def withdraw(store: FleetStore, node: str = "fra1", session: str = "transit_v4", *prefixes: str) -> None:
    """The peers' routers have none of these prefixes (default: de's) from a node's session any more."""
    status = store.session(node, "bird", session)
    assert status is not None
    for glass in store.inventory.looking_glasses:
        for route in store.of_node(glass.name, PeerRoute):
            if route.prefix in (prefixes or (DE4,)):
                left = tuple(p for p in route.paths if p.source != status.local)
                store.apply([msgspec.structs.replace(route, paths=left)])


def change_path(store: FleetStore, glass: str, came_from: str, **attributes: object) -> None:
    route = store.peer_route(glass, DE4)
    assert route is not None
    paths = tuple(msgspec.structs.replace(p, **attributes) if p.source == came_from else p for p in route.paths)
    store.apply([msgspec.structs.replace(route, paths=paths)])


def local_of(store: FleetStore, node: str, session: str = "transit_v4") -> str:
    status = store.session(node, "bird", session)
    assert status is not None
    return status.local


def silence(store: FleetStore, glass: str, now: float) -> None:
    """All but one looking glass are looked at again at `now`."""
    facts = [
        f for f in healthy(store.inventory, now) if getattr(f, "node", "") != glass and not isinstance(f, PeerRoute)
    ]
    store.apply(facts)
    store.apply([msgspec.structs.replace(f, at=now) for f in store if isinstance(f, PeerRoute) and f.node != glass])


def test_an_announcement_is_seen_at_the_router_its_session_ends_at() -> None:
    store = healthy_store()
    assert view_of(store, "fra1") == PeerView(Exported.ANNOUNCED, "transit: LP 100 as-path 64500", 0.0, ("transit",))
    assert view_of(store, "fra2").glasses == ("transit2",)
    assert view_of(store, "fra2", "ix1_v4").glasses == ("ix1",)


def test_a_withdrawn_prefix_is_absent_where_the_rest_of_the_session_still_is() -> None:
    store = healthy_store()
    withdraw(store)
    assert view_of(store) == PeerView(Exported.ABSENT, "not at transit", 0.0, ("transit",))
    assert view_of(store, "fra2").seen is Exported.ANNOUNCED


def test_a_router_that_can_not_be_read_now_does_not_matter_to_another_ones_session() -> None:
    store = healthy_store()
    withdraw(store)
    silence(store, "transit2", NOW + 60)
    assert view_of(store, now=NOW + 60).seen is Exported.ABSENT
    assert view_of(store, "fra2", now=NOW + 60).seen is Exported.UNKNOWN


def test_nothing_is_absent_while_the_router_of_the_session_can_not_be_read() -> None:
    store = healthy_store()
    withdraw(store)
    silence(store, "transit", NOW + 60)
    seen = view_of(store, now=NOW + 60)
    assert (seen.seen, seen.words) == (Exported.UNKNOWN, "transit: no answer for 60 s")


def test_a_node_that_withdrew_everything_is_absent_only_if_every_looking_glass_of_the_peer_says_so() -> None:
    store = healthy_store()
    withdraw(store, "fra1", "transit_v4", *(p for t in store.inventory.tenants for p in t.prefixes))
    seen = view_of(store)
    assert (seen.seen, seen.glasses) == (Exported.ABSENT, ("transit", "transit2"))
    silence(store, "transit2", NOW + 60)
    assert view_of(store, now=NOW + 60).seen is Exported.UNKNOWN


def test_a_path_by_its_next_hop_counts_behind_a_route_server() -> None:
    store = healthy_store()
    change_path(store, "transit", local_of(store, "fra1"), next_hop=local_of(store, "fra1"), source="198.51.100.250")
    assert view_of(store).seen is Exported.ANNOUNCED


def test_a_depreferred_path_is_told_with_its_attributes() -> None:
    store = healthy_store()
    change_path(
        store, "transit", local_of(store, "fra1"),
        local_pref=0, communities=("65535:0",), depreferred="graceful shutdown community",
    )  # fmt: skip
    seen = view_of(store)
    assert (seen.seen, seen.words) == (Exported.DEPREFERRED, "transit: LP 0 as-path 64500 65535:0")


def test_full_preference_at_one_router_outweighs_another_that_depreferred() -> None:
    store = healthy_store()
    local = local_of(store, "fra1")
    change_path(store, "transit", local, depreferred="local preference 0")
    route = store.peer_route("transit2", DE4)
    assert route is not None
    more = PeerPath(protocol="ibgp", source="10.0.0.1", next_hop=local)
    store.apply([msgspec.structs.replace(route, paths=(*route.paths, more))])
    assert view_of(store).seen is Exported.ANNOUNCED


def test_without_our_address_only_an_empty_table_says_anything() -> None:
    store = healthy_store()
    status = store.session("fra1", "bird", "ix1_v4")
    assert status is not None
    store.apply([msgspec.structs.replace(status, local="")])
    assert view_of(store, "fra1", "ix1_v4").seen is Exported.UNKNOWN
    route = store.peer_route("ix1", DE4)
    assert route is not None
    store.apply([msgspec.structs.replace(route, paths=())])
    assert view_of(store, "fra1", "ix1_v4").seen is Exported.ABSENT


def test_a_table_that_was_cut_does_not_prove_that_a_path_is_absent() -> None:
    store = healthy_store()
    withdraw(store, "fra1", "ix1_v4")
    route = store.peer_route("ix1", DE4)
    assert route is not None
    store.apply([msgspec.structs.replace(route, more=7)])
    assert view_of(store, "fra1", "ix1_v4").words == "ix1: too many paths"


def test_a_looking_glass_of_another_family_neither_proves_nor_hinders() -> None:
    store = healthy_store()
    withdraw(store, "fra1", "transit_v4", *(p for t in store.inventory.tenants for p in t.prefixes))
    store.apply([Gone(key=r.key) for r in store.of_node("transit2", PeerRoute)])
    assert view_of(store).glasses == ("transit",)
    store.apply([Gone(key=r.key) for r in store.of_node("transit", PeerRoute)])
    assert view_of(store).seen is Exported.UNKNOWN


def test_a_peer_without_looking_glass_is_unknown_and_says_why() -> None:
    fleet = msgspec.structs.replace(inventory(), looking_glasses=())
    assert view_of(healthy_store(fleet)) == PeerView(Exported.UNKNOWN, "transit has no looking glass", math.inf, ())


def test_a_looking_glass_out_of_reach_says_what_its_connection_says() -> None:
    store = FleetStore(inventory())
    why = "ix1: permission denied (publickey)"
    store.apply([Link(node="ix1", section="link", at=NOW, state=LinkState.DENIED, since=NOW, detail=why)])
    seen = view_of(store, "fra1", "ix1_v4")
    assert (seen.seen, seen.words, seen.age) == (Exported.UNKNOWN, why, math.inf)


@pytest.mark.parametrize(("waited", "told"), [(PEER_SETTLING - 1, False), (PEER_SETTLING + 1, True)])
def test_a_drained_announcement_that_the_peer_still_has_says_so_once_it_had_time_to_go(
    waited: float, told: bool
) -> None:
    store = healthy_store()
    status, export = store.speaker("fra1", "bird"), store.export("fra1", "bird", "ix1_v4", DE4)
    assert status is not None
    assert export is not None
    store.apply(
        [
            msgspec.structs.replace(status, drain_hard=((1, 11),)),
            msgspec.structs.replace(export, exported=Exported.ABSENT),
        ]
    )
    now = NOW + waited
    store.apply([f for f in healthy(store.inventory, now) if f.key not in (status.key, export.key)])  # type: ignore[union-attr]
    store.apply([msgspec.structs.replace(f, at=now) for f in list(store) if f.key in (status.key, export.key)])
    view = views(store)["announcements"]
    row = row_value(view.columns, view.row(store, ("announcement", "fra1", "bird", "ix1_v4", DE4), now, ASCII))
    assert (row["status"], row["exported"], row["at_peer"]) == ("DRAINED", "absent", "announced")
    wanted = "drained hard, but ix1 still has it (ix1: LP 100 best as-path 64500)" if told else "drained hard"
    assert row["reason"] == wanted
    assert verdicts.announcements(store, store.inventory.node("fra1"), now, "de")[0].reason == wanted
