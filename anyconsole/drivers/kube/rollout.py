"""How far a workload has come: whether its pods are of its present configuration and ready, and what its controller complains of. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from anyconsole.drivers.kube.render import Object
from anyconsole.drivers.kube.values import LINE, condition, number, part, text

__all__ = ["Rollout", "rollout_of"]

_COUNTS: Final = {
    "DaemonSet": ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady", "currentNumberScheduled"),
}
_REPLICAS: Final = ("replicas", "updatedReplicas", "readyReplicas", "replicas")


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A workload: `ready` of `wanted` pods, and whether all of them are of its present configuration and none of an older one is left."""

    name: str
    ready: int
    wanted: int
    is_complete: bool
    trouble: str = ""

    @property
    def words(self) -> str:
        """In a line."""
        state = (
            "" if self.is_complete or self.ready < self.wanted else ", pods of the old configuration are being replaced"
        )
        return f"{self.name} {self.ready} of {self.wanted} ready{state}{f' ({self.trouble})' if self.trouble else ''}"


def rollout_of(obj: Object) -> Rollout:
    """The roll-out of a Deployment, DaemonSet or StatefulSet. What isn't told counts as not done."""
    status = part(obj, "status")
    wanted, updated, ready, there = (number(status, key) for key in _COUNTS.get(obj["kind"], _REPLICAS))
    if obj["kind"] not in _COUNTS:
        wanted = number(part(obj, "spec"), "replicas")
    is_seen = number(status, "observedGeneration") >= number(part(obj, "metadata"), "generation") > 0
    failure = condition(status, "ReplicaFailure")
    stuck = condition(status, "Progressing")
    trouble = text(failure, "message", LINE) if failure.get("status") == "True" else ""
    if not trouble and stuck.get("status") == "False":
        trouble = text(stuck, "message", LINE) or text(stuck, "reason", LINE)
    return Rollout(
        name=str(part(obj, "metadata").get("name")),
        ready=ready,
        wanted=wanted,
        is_complete=is_seen and updated == ready == there == wanted,
        trouble=trouble,
    )
