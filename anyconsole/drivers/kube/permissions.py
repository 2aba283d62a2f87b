"""What we do in a cluster, as permissions; and which of them we don't have there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.calico import KINDS, CalicoApi
from anyconsole.drivers.kube.lock import NAMESPACE
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.pods import Permission

__all__ = ["CHANGED", "changing", "denied", "reading"]

_AT_ONCE: Final = 4
_NAMESPACES: Final = 20
"""Namespaces that are asked about one by one where a permission isn't held in all of them."""

_VERBS: Final = ("create", "patch", "delete")

CHANGED: Final = {
    "": ("configmaps", "limitranges", "resourcequotas", "serviceaccounts", "services"),
    "apps": ("daemonsets", "deployments", "statefulsets"),
    "networking.k8s.io": ("networkpolicies",),
    "policy": ("poddisruptionbudgets",),
}
"""Resources in namespaces that set-up and teardown of tenants change, by API group. Secrets and roles aren't among them."""

_EVERYWHERE: Final = {("", "namespaces"): _VERBS, ("", "nodes"): ("patch",)}
_OURS: Final = {("batch", "jobs"): ("create", "delete"), ("coordination.k8s.io", "leases"): ("create", "delete")}
"""In our own namespace: the dead-man and the lock of a drain."""


def reading(spec: ClusterSpec, calico: CalicoApi | None) -> Iterator[Permission]:
    """What it takes to see everything."""
    yield Permission(verb="list", resource="nodes")
    for namespace in dict.fromkeys((*spec.namespaces.values(), spec.monitoring)):
        for resource in ("pods", "events"):
            yield Permission(verb="list", resource=resource, namespace=namespace)
        yield Permission(verb="get", resource="pods/log", namespace=namespace)
    if calico is not None:
        group = calico.group_version.partition("/")[0]
        yield from (Permission(verb="list", resource=resource, group=group) for resource in KINDS.values())
        yield Permission(verb="list", resource="pods", namespace=spec.calico)
        yield Permission(verb="create", resource="pods/exec", namespace=spec.calico)
    if spec.prometheus:
        yield Permission(verb="get", resource="services/proxy", namespace=spec.prometheus.partition("/")[0])


def changing(calico: CalicoApi | None) -> Iterator[Permission]:
    """What it takes to change something, wherever that is: those with an empty namespace are about all of them."""
    for (group, resource), verbs in _EVERYWHERE.items():
        yield from (Permission(verb=verb, resource=resource, group=group) for verb in verbs)
    for group, resources in CHANGED.items():
        yield from (Permission(verb=verb, resource=resource, group=group) for resource in resources for verb in _VERBS)
    for (group, resource), verbs in _OURS.items():
        yield from (Permission(verb=verb, resource=resource, group=group, namespace=NAMESPACE) for verb in verbs)
    if calico is not None:
        group = calico.group_version.partition("/")[0]
        kinds = ("bgpconfigurations", "bgpfilters", "bgppeers")
        yield from (Permission(verb=v, resource=r, group=group) for r in kinds for v in _VERBS)
        yield from (Permission(verb=v, resource="caliconodestatuses", group=group) for v in ("create", "delete"))


async def denied(api: KubeApi, spec: ClusterSpec, calico: CalicoApi | None) -> tuple[Permission, ...]:
    """What we may not do. Raises KubeError."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def may(permission: Permission) -> bool:
        async with slots:
            return await api.may(permission)

    async def lacking(wanted: Iterable[Permission]) -> list[Permission]:
        asked = list(wanted)
        return [p for p, allowed in zip(asked, await asyncio.gather(*map(may, asked)), strict=True) if not allowed]

    missing = await lacking([*reading(spec, calico), *changing(calico)])
    spaces = [*dict.fromkeys((*spec.namespaces.values(), spec.monitoring))][:_NAMESPACES]
    found: list[Permission] = []
    for permission in missing:
        # Not in all namespaces may still be in ours.
        if not permission.namespace and permission.resource in CHANGED.get(permission.group, ()):
            found += await lacking(
                Permission(verb=permission.verb, resource=permission.resource, group=permission.group, namespace=ns)
                for ns in spaces
            )
        else:
            found.append(permission)
    return tuple(sorted(found))
