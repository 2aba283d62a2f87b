"""The fleet on paper with something to test: a unicast address of `de` on fra1, and a generator that is connected."""

from __future__ import annotations

from typing import Any

import msgspec

from anyconsole.model.facts import Exported, Link, LinkState
from anyconsole.model.inventory import ClusterSpec, Generator, LoadSpec, LoadTarget, TargetClass
from anyconsole.model.store import FleetStore
from tests.fleet import NOW, healthy_hybrid, healthy_store, hybrid, inventory

__all__ = ["drained_store", "hybrid_store", "store_with", "target"]


def target(**fields: Any) -> LoadTarget:  # noqa: ANN401 - of any type
    """A lab target on fra1."""
    usual: dict[str, Any] = {
        "name": "de-fra1",
        "node": "fra1",
        "tenant": "de",
        "addresses": ("198.18.1.1", "2001:db8:ff::1"),
        "class_": TargetClass.LAB,
        "max_qps": 20_000,
        "max_seconds": 600,
    }
    return LoadTarget(**usual | fields)


def store_with(
    *targets: LoadTarget,
    generators: tuple[str, ...] = ("gen1",),
    pods: tuple[Generator, ...] = (),
    clusters: tuple[ClusterSpec, ...] = (),
) -> FleetStore:
    """A healthy fleet that has these targets, and generators, hosts and pods in clusters, that are connected."""
    fleet = msgspec.structs.replace(
        inventory(),
        load=LoadSpec(targets=targets or (target(),)),
        generators=(*(Generator(name=name, address=name) for name in generators), *pods),
        clusters=clusters,
    )
    store = healthy_store(fleet)
    links = (*generators, *(cluster.name for cluster in clusters))
    store.apply([Link(node=name, section="link", at=NOW, state=LinkState.LIVE, since=NOW) for name in links])
    return store


def drained_store(*targets: LoadTarget) -> FleetStore:
    """As `store_with`, and fra1 announces nothing of `de`."""
    store = store_with(*targets)
    for speaker in store.inventory.node("fra1").speakers:
        for session in speaker.sessions:
            for prefix in store.inventory.tenant("de").prefixes:
                export = store.export("fra1", speaker.name, session.name, prefix)
                if export is not None:
                    store.apply([msgspec.structs.replace(export, exported=Exported.ABSENT)])
    return store


def hybrid_store(*targets: LoadTarget, clusters: tuple[ClusterSpec, ...] = ()) -> FleetStore:
    """A healthy fleet with a cluster, whose target is `de` on hv1 there unless others are given, and a generator that is connected."""
    fleet = hybrid()
    fleet = msgspec.structs.replace(
        fleet,
        load=LoadSpec(targets=targets or (target(name="de-hv1", node="hv1"),)),
        generators=(Generator(name="gen1", address="gen1"),),
        clusters=clusters or fleet.clusters,
    )
    store = healthy_hybrid(fleet)
    store.apply([Link(node="gen1", section="link", at=NOW, state=LinkState.LIVE, since=NOW)])
    return store
