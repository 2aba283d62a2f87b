"""What clusters have to let a load test do: hold the node, make the generators and speak with them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from anyconsole.drivers.kube.generator_job import GeneratorJob
from anyconsole.drivers.kube.lacking import missing
from anyconsole.drivers.kube.node_lock import NodeLock
from anyconsole.drivers.kube.script import needed, parse
from anyconsole.model.pods import Permission
from anyconsole.model.store import FleetStore

__all__ = ["asked_for", "denied_words"]


def asked_for(lock: NodeLock | None, jobs: Iterable[GeneratorJob]) -> dict[str, tuple[Permission, ...]]:
    """The permissions that a test needs, by cluster."""
    found: dict[str, dict[Permission, None]] = {}
    if lock is not None:
        found.setdefault(lock.cluster, {}).update(_needed(lock.begin, lock.end))
    for job in jobs:
        namespace = job.generator.namespace
        speaking = (("list", "pods"), ("create", "pods/exec"))
        wanted = found.setdefault(job.generator.cluster, {})
        wanted.update(_needed(job.begin, job.end))
        wanted.update({Permission(verb=v, resource=r, namespace=namespace): None for v, r in speaking})
    return {cluster: tuple(wanted) for cluster, wanted in found.items()}


def _needed(*scripts: str) -> dict[Permission, None]:
    return {permission: None for script in scripts for permission in needed(parse(script))}


def denied_words(store: FleetStore, asked: dict[str, tuple[Permission, ...]]) -> list[str]:
    """What of this we may not do, a line for each cluster; none if all is permitted."""
    words = []
    for cluster, wanted in asked.items():
        known = store.cluster(cluster)
        if known is None:
            words.append(f"{cluster}: what we may do there is not known")
        elif denied := missing(wanted, known.denied):
            words.append(f"{cluster}: no permission for {known.user or 'this user'}: {', '.join(map(str, denied))}")
    return words
