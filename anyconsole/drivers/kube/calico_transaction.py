"""What a cluster's announcements are configured by, as a fact: what drains change, so that they can be planned."""

from __future__ import annotations

import msgspec

from anyconsole.drivers.kube.advertising import CalicoObjects
from anyconsole.model.pods import RoutingConfig, RoutingObject

__all__ = ["routing_config"]


def routing_config(objects: CalicoObjects, cluster: str, at: float) -> RoutingConfig:
    """The fact of these objects."""
    found = tuple(
        RoutingObject(
            kind=kind,
            name=name,
            body=msgspec.json.encode(obj).decode(),
            version="" if kind == "Node" else objects.versions.get((kind, name), ""),
        )
        for (kind, name), obj in sorted(objects.found.items())
    )
    calico = ".".join(map(str, objects.calico)) if objects.calico is not None else ""
    return RoutingConfig(
        node=cluster, section="calico", at=at, api=objects.api.group_version, calico=calico, objects=found
    )
