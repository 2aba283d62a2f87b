"""The views: fleet, tenants, BGP, announcements, catchment, health, pods, monitoring, queries and drains, as tables over the store.

Screen and command line show these same rows. A view derives everything from facts and verdicts at the moment it is asked.
"""

from anyconsole.model.store import FleetStore
from anyconsole.model.table import View
from anyconsole.model.views.announcements import ANNOUNCEMENTS
from anyconsole.model.views.bgp import bgp_view
from anyconsole.model.views.catchment import CATCHMENT, catchment, node_of_nsid
from anyconsole.model.views.containers import containers_view, pod_events_view
from anyconsole.model.views.drains import DRAINS
from anyconsole.model.views.fleet import FLEET
from anyconsole.model.views.health import HEALTH
from anyconsole.model.views.monitoring import monitoring_view
from anyconsole.model.views.pods import pods_view
from anyconsole.model.views.qps import QPS, spark
from anyconsole.model.views.tenants import TENANTS

__all__ = [
    "ANNOUNCEMENTS",
    "CATCHMENT",
    "DRAINS",
    "FLEET",
    "HEALTH",
    "QPS",
    "TENANTS",
    "bgp_view",
    "catchment",
    "containers_view",
    "monitoring_view",
    "node_of_nsid",
    "pod_events_view",
    "pods_view",
    "spark",
    "views",
]


def views(store: FleetStore) -> dict[str, View]:
    """All views by name, in the order of the panes."""
    health = (HEALTH, pods_view(store), monitoring_view(store))
    return {v.name: v for v in (FLEET, TENANTS, bgp_view(store), ANNOUNCEMENTS, CATCHMENT, *health, QPS, DRAINS)}
