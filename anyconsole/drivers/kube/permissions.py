"""What we do in a cluster, as permissions; and which of them we don't have there."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.calico import KINDS, CalicoApi
from anyconsole.drivers.kube.lock import NAMESPACE
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.pods import Permission

__all__ = ["CHANGED", "changing", "denied", "generating", "reading", "watching"]

_AT_ONCE: Final = 4
_NAMESPACES: Final = 20
"""Namespaces of tenants that are asked about; the rest will be like them."""

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
"""In our own namespace: the dead-man of a drain, generators, and the locks of drains and load tests."""


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


def watching(path: str) -> Permission:
    """What it takes to watch a collection: who may list it may not always."""
    match path.split("/")[1:]:
        case ["api", _, *rest]:
            group = ""
        case ["apis", group, _, *rest]:
            pass
        case _:
            raise ValueError(f"{path} is no collection")
    namespace = rest[1] if rest[0] == "namespaces" and len(rest) > 2 else ""
    return Permission(verb="watch", resource=rest[-1], group=group, namespace=namespace)


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


def generating(namespace: str) -> Iterator[Permission]:
    """What it takes to have load generators in a namespace."""
    yield from (
        Permission(verb=verb, resource="jobs", group="batch", namespace=namespace) for verb in ("create", "delete")
    )
    yield Permission(verb="list", resource="pods", namespace=namespace)
    yield Permission(verb="create", resource="pods/exec", namespace=namespace)


async def denied(
    api: KubeApi, spec: ClusterSpec, calico: CalicoApi | None, generators: Iterable[str] = ()
) -> tuple[Permission, ...]:
    """What we may not do; `generators` are the namespaces of load generators. Raises KubeError.

    What is in a namespace is looked up in the rules that are in force there, one question for all of it; what these don't tell, and what
    is in no namespace, is asked for one by one.
    """
    slots = asyncio.Semaphore(_AT_ONCE)

    async def may(permission: Permission) -> bool:
        async with slots:
            return await api.may(permission)

    async def lacking(namespace: str, wanted: list[Permission]) -> list[Permission]:
        left, is_all = wanted, False
        if namespace:
            async with slots:
                rules, is_all = await api.rules(namespace)
            left = [permission for permission in wanted if not any(_permits(rule, permission) for rule in rules)]
        if is_all:
            return left
        return [p for p, allowed in zip(left, await asyncio.gather(*map(may, left)), strict=True) if not allowed]

    spaces = [*dict.fromkeys((*spec.namespaces.values(), spec.monitoring))][:_NAMESPACES]
    asked: dict[str, list[Permission]] = defaultdict(list)
    load = [permission for namespace in dict.fromkeys(generators) for permission in generating(namespace)]
    for permission in dict.fromkeys((*reading(spec, calico), *changing(calico), *load)):
        is_of_tenants = not permission.namespace and permission.resource in CHANGED.get(permission.group, ())
        for namespace in spaces if is_of_tenants else [permission.namespace]:
            asked[namespace].append(msgspec.structs.replace(permission, namespace=namespace))
    found = await asyncio.gather(*(lacking(namespace, wanted) for namespace, wanted in asked.items()))
    return tuple(sorted(permission for permissions in found for permission in permissions))


def _permits(rule: object, permission: Permission) -> bool:
    """Whether a rule is about all objects of a kind, and permits this."""
    if not isinstance(rule, dict) or rule.get("resourceNames"):
        return False
    base, _, sub = permission.resource.partition("/")
    resources = {"*", permission.resource, f"*/{sub}"} if sub else {"*", base}
    wanted = (("verbs", {"*", permission.verb}), ("apiGroups", {"*", permission.group}), ("resources", resources))
    return all(isinstance(said := rule.get(key), list) and any(v in said for v in values) for key, values in wanted)
