"""Rows of pods beside rows of processes: each with what is known of its kind, and nothing that only looks known."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from anyconsole.model.facts import Beat
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Cell, Level
from anyconsole.model.views import views
from tests.fleet import CLUSTER, NOW, healthy_hybrid, hybrid

SCRAPED = "monitoring/prometheus:web"


def scraped_store() -> FleetStore:
    """A fleet whose cluster has a Prometheus."""
    fleet = hybrid()
    cluster = msgspec.structs.replace(fleet.clusters[0], prometheus=SCRAPED)
    return healthy_hybrid(msgspec.structs.replace(fleet, clusters=(cluster,)))


def cells(store: FleetStore, name: str, now: float, **where: Any) -> dict[str, Cell]:  # noqa: ANN401 - of any cell
    """The cells of the first row of a view in which these columns have these values."""
    view = views(store)[name]
    rows = (dict(zip((c.id for c in view.columns), r.cells, strict=True)) for r in view.rows(store, now))
    return next(row for row in rows if all(row[column].value == value for column, value in where.items()))


def test_rates_that_came_through_the_api_server_go_with_it() -> None:
    store = scraped_store()
    assert cells(store, "qps", NOW + 2, node="hv1")["qps"].value == 9.0
    gone = cells(store, "qps", NOW + 10, node="hv1")
    assert (gone["qps"].value, gone["prometheus"].value, gone["source"].text) == (None, None, "none")
    assert gone["age"].level is Level.STALE
    assert cells(store, "fleet", NOW + 10, node="hv1")["qps"].value is None


def test_rates_are_not_stale_between_two_scrapes() -> None:
    store = scraped_store()
    store.apply([Beat(node=CLUSTER, at=NOW + 10, sections=("api",))])
    row = cells(store, "qps", NOW + 10, node="hv1")
    assert row["qps"].value == 9.0
    assert row["age"].level is Level.NONE


@pytest.mark.parametrize(("later", "uptime"), [(0, 4380.0), (59, 4380.0), (61, 4440.0)])
def test_a_pod_that_goes_on_running_gets_older(later: int, uptime: float) -> None:
    store = healthy_hybrid()
    store.apply([Beat(node="hv1", at=NOW + later, sections=("pod:de",))])
    assert cells(store, "health", NOW + later, node="hv1", tenant="de")["uptime"].value == uptime


def test_a_pod_that_is_out_of_sight_has_no_unknown_chroot() -> None:
    store = healthy_hybrid()
    chroot = cells(store, "health", NOW + 10, node="hv1", tenant="de")["chroot"]
    assert (chroot.text, chroot.level) == ("pod", Level.STALE)
    assert cells(store, "health", NOW + 10, node="fra1", tenant="de")["chroot"].text == "unknown"


def test_what_was_absent_from_monitoring_says_since_when_that_is_not_known_any_more() -> None:
    store = FleetStore(hybrid())
    store.apply([Beat(node=CLUSTER, at=NOW, sections=("pods:monitoring",))])
    seen = cells(store, "monitoring", NOW + 1, component="nginx")
    assert (seen["status"].value, seen["seen_age"].text) == ("absent", "1s")
    lost = cells(store, "monitoring", NOW + 60, component="nginx")
    assert (lost["status"].value, lost["seen_age"].text, lost["seen_age"].level) == ("STALE", "1m00s", Level.STALE)
