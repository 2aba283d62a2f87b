"""Drains on nodes in clusters, on paper: what a plan's steps make of a cluster's objects, one after the other, and what stands in the way.

Nodes of a cluster share objects, so each step is planned from what the steps before it, on any node there, will have left.
"""

from __future__ import annotations

from collections.abc import Iterable

from anyconsole.drivers.kube.advertising import CalicoObjects, NodeDrain, drain_of
from anyconsole.drivers.kube.calico import serial_of
from anyconsole.drivers.kube.calico_transaction import confirmed, objects_from, transaction
from anyconsole.drivers.kube.lacking import missing
from anyconsole.drivers.kube.levers import plan_levers
from anyconsole.drivers.kube.script import needed, parse
from anyconsole.drivers.transaction import DrainState, Transaction
from anyconsole.model.inventory import NodeSpec
from anyconsole.model.store import FleetStore

__all__ = ["CannotDrainError", "ClusterDrains"]


class CannotDrainError(Exception):
    """A step that can't be planned: `reasons` says of what, and why."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class ClusterDrains:
    """The clusters of one plan, as its steps leave them."""

    def __init__(self, store: FleetStore) -> None:
        self._store = store
        self._objects: dict[str, CalicoObjects] = {}

    def transaction(
        self, node: NodeSpec, before: DrainState, after: DrainState, hold: int
    ) -> tuple[Transaction, tuple[str, ...]]:
        """The scripts of the next step, and what one should know before. Raises CannotDrainError."""
        objects = self._now(node, before)
        wanted = NodeDrain(
            hard=tuple(sorted(after.hard)), soft=tuple(sorted(after.soft)), note=after.note, serial=after.serial
        )
        levers = plan_levers(objects, self._store.inventory, node, wanted)
        if levers.refused:
            raise CannotDrainError(*(f"{node.name}: {why}" for why in levers.refused))
        routing = self._store.routing(node.cluster)
        lock = routing.expired_lock if routing is not None else ""
        image = self._store.inventory.stack.python
        try:
            told = transaction(objects, node.address, before.serial, wanted, levers, hold, image, lock)
        except ValueError as error:
            raise CannotDrainError(f"{node.name}: {error}") from error
        self._require_permission(node.cluster, (told.apply, told.confirm, told.revert))
        self._objects[node.cluster] = confirmed(objects, node.address, levers, after.serial)
        return told, levers.cautions

    def _now(self, node: NodeSpec, before: DrainState) -> CalicoObjects:
        """The objects that a step begins with. Raises CannotDrainError."""
        cluster = node.cluster
        if cluster in self._objects:
            return self._objects[cluster]
        routing = self._store.routing(cluster)
        if routing is None:
            raise CannotDrainError(f"{cluster}: what its announcements are made of is not known")
        if routing.obstacle:
            raise CannotDrainError(f"{cluster}: {routing.obstacle}")
        if routing.dead_man is None:
            raise CannotDrainError(
                f"{cluster}: whether the account is there that takes unconfirmed drains back is not known"
            )
        if not routing.dead_man:
            raise CannotDrainError(
                f"set-up of the cluster first: {cluster} has no ServiceAccount dead-man in namespace anyconsole,"
                " which takes unconfirmed drains back"
            )
        objects = objects_from(routing)
        seen = drain_of(objects, self._store.inventory, node)
        if serial_of(seen) != before.serial:
            raise CannotDrainError(f"{node.name}: its drain state is just being changed, plan again")
        return objects

    def _require_permission(self, cluster: str, scripts: Iterable[str]) -> None:
        """Raises CannotDrainError unless we may carry the scripts out."""
        known = self._store.cluster(cluster)
        if known is None:
            raise CannotDrainError(f"{cluster}: what we may do there is not known")
        asked = dict.fromkeys(p for script in scripts for p in needed(parse(script)))
        if lacking := missing(asked, known.denied):
            words = ", ".join(map(str, lacking))
            raise CannotDrainError(f"{cluster}: no permission for {known.user or 'this user'}: {words}")
