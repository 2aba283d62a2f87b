"""The way there and back: places, crumbs, and what each leads to."""

from __future__ import annotations

import pytest

from anyconsole.tui.places import HOME, Place, behind, view_of
from anyconsole.tui.scope import Scope, scope_of
from anyconsole.tui.trail import Trail
from tests.fleet import CLUSTER, healthy_hybrid, hybrid, inventory

FRA1 = Place("node", Scope(node="fra1"))
SESSION = Place("announcements", Scope(node="fra1", session="ix1_v4"))


def test_back_goes_the_way_one_came_and_then_home() -> None:
    trail = Trail()
    trail.root(Place("bgp"))
    trail.deeper(FRA1)
    trail.deeper(SESSION)
    assert trail.crumbs == "bgp > fra1 > announcements(fra1 ix1_v4)"
    places = []
    while trail.back():
        places.append(trail.visit.place)
    assert places == [FRA1, Place("bgp"), HOME]


def test_a_pane_is_found_again_as_it_was_left() -> None:
    trail = Trail()
    trail.visit.tables[0].filter = "fra"
    trail.root(Place("bgp"))
    assert trail.visit.tables[0].filter == ""
    trail.root(HOME)
    assert trail.visit.tables[0].filter == "fra"


def test_swap_goes_there_and_back() -> None:
    trail = Trail()
    assert not trail.swap()
    trail.deeper(FRA1)
    trail.root(Place("qps"))
    trail.swap()
    assert trail.visit.place == FRA1
    assert trail.is_deep
    trail.swap()
    assert trail.visit.place == Place("qps")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (("node", "fra1"), FRA1),
        (("drain", "fra1", "bird"), FRA1),
        (("tenant", "de"), Place("tenant", Scope(tenant="de"))),
        (("instance", "fra1", "de"), Place("announcements", Scope(node="fra1", tenant="de"))),
        (("session", "fra1", "bird", "ix1_v4"), SESSION),
        (("catchment", "client1/v4", "de"), Place("tenant", Scope(tenant="de"))),
        (("announcement", "fra1", "bird", "ix1_v4", "192.0.2.0/24"), None),
        (("catchment", "client1", "192.0.2.53", "de.example"), None),
    ],
)
def test_every_row_leads_where_an_operator_would_guess(key: tuple[str, ...], place: Place | None) -> None:
    assert behind(inventory(), key) == place


def test_what_is_in_a_cluster_leads_to_pods() -> None:
    fleet = hybrid()
    scope = Scope(tenant="de", cluster=CLUSTER, namespace="de", pod="ac-1")
    assert behind(fleet, ("pod", CLUSTER, "de", "ac-1")) == Place("pod", scope)
    assert behind(fleet, ("monitoring", CLUSTER, "nginx")) == Place(
        "pods", Scope(cluster=CLUSTER, namespace="monitoring")
    )
    assert behind(fleet, ("cluster", CLUSTER)) == Place("pods", Scope(cluster=CLUSTER))
    for leaf in (
        ("container", CLUSTER, "de", "ac-1", "ac"),
        ("cluster_event", CLUSTER, "de", "e1"),
        ("denied", CLUSTER, "de"),
    ):
        assert behind(fleet, leaf) is None


def test_a_scope_holds_what_is_narrower() -> None:
    fleet = inventory()
    announcement = scope_of(fleet, ("announcement", "fra1", "bird", "ix1_v4", "192.0.2.0/24"))
    assert announcement == Scope(node="fra1", session="ix1_v4", tenant="de", prefix="192.0.2.0/24")
    assert Scope(node="fra1").holds(announcement)
    assert Scope(tenant="de", node="fra1").holds(announcement)
    assert not Scope(tenant="nic").holds(announcement)
    assert not Scope(session="ix1_v4").holds(Scope(node="fra1"))


def test_every_row_of_every_view_can_be_described() -> None:
    store = healthy_hybrid()
    for name in ("fleet", "tenants", "bgp", "announcements", "health", "catchment", "pods", "monitoring"):
        from anyconsole.tui.places import VIEWS

        view = VIEWS[name](store)
        found = view_of(store, view.keys(store)[0])
        assert found is not None
        assert found.name == name
