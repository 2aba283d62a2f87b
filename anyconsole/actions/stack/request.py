"""Set-up and teardown as somebody wants them: which tenants on which clusters. Light: the screen knows it too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from anyconsole.actions.plan import Plan
from anyconsole.errors import AnyconsoleError
from anyconsole.model.inventory import ClusterSpec, Inventory, NodeSpec, Tenant

if TYPE_CHECKING:
    from anyconsole.drivers.kube.calico import CalicoApi
    from anyconsole.drivers.kube.execute import Preview
    from anyconsole.drivers.kube.script import Call
    from anyconsole.drivers.ssh.execute import Completed
    from anyconsole.drivers.tsig import TsigKey
    from anyconsole.model.pods import Permission

__all__ = [
    "WITHIN", "FindCluster", "InCluster", "StackRequest", "Way", "asked_of", "hosting", "namespace_of", "scope_of", "tenant_of",
    "tenants_in",
]  # fmt: skip

WITHIN = 300
"""Seconds in which everything has to be proved: images may have to be pulled."""

_TENANT = "tenant-"


class Way(StrEnum):
    """What is to become of tenants on clusters; the names of the actions."""

    SETUP = "setup"
    TEARDOWN = "teardown"


class StackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants. An empty part of the scope means all.

    `force`: fields of ours that somebody else manages are taken from them. `within` is seconds until everything must be proved.
    """

    way: Way = Way.SETUP
    clusters: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    force: bool = False
    within: int = WITHIN
    reason: str = ""
    ticket: str = ""
    operator: str = ""


class InCluster(Protocol):
    """What is asked and done in one cluster; `anyconsole.drivers.kube.hands.ClusterHands` is it. All of it raises AnyconsoleError."""

    calico: CalicoApi | None

    async def find(self, paths: Iterable[str]) -> list[dict[str, Any] | None]: ...  # noqa: D102
    async def listed(self, collection: str, selector: str = "") -> list[dict[str, Any]]: ...  # noqa: D102
    async def listed_in(self, collections: Iterable[str], selector: str = "") -> list[dict[str, Any]]: ...  # noqa: D102
    async def preview(self, calls: Sequence[Call]) -> list[Preview]: ...  # noqa: D102
    async def denied(self, permissions: Iterable[Permission]) -> tuple[Permission, ...]: ...  # noqa: D102
    async def carry_out(self, calls: Sequence[Call], deadline: float) -> Completed: ...  # noqa: D102
    async def apply_key(self, calls: Sequence[Call], key: TsigKey, deadline: float) -> Completed: ...  # noqa: D102
    async def run(  # noqa: D102
        self, namespace: str, pod: str, container: str, argv: Sequence[str], deadline: float
    ) -> Completed: ...


FindCluster: TypeAlias = Callable[[str], InCluster]


def asked_of(plan: Plan) -> StackRequest:
    """The request that a plan was made from. Raises AnyconsoleError if it can't be read."""
    try:
        return msgspec.convert(plan.request, StackRequest)
    except msgspec.ValidationError as error:
        raise AnyconsoleError(f"the request of this {plan.action} can't be read: {error}") from error


def scope_of(inventory: Inventory, request: StackRequest) -> list[tuple[ClusterSpec, list[Tenant]]]:
    """The tenants that are meant, by cluster. Raises AnyconsoleError for names that nothing is called, and where none is left."""
    if not inventory.clusters:
        raise AnyconsoleError(f"profile {inventory.name} has no [[cluster]]: {request.way} is for tenants on clusters")
    for what, wanted, known in (
        ("cluster", request.clusters, [c.name for c in inventory.clusters]),
        ("tenant", request.tenants, [t.name for t in inventory.tenants]),
    ):
        if unknown := [name for name in wanted if name not in known]:
            raise AnyconsoleError(
                f"there is no {what} {unknown[0]!r} in profile {inventory.name}; there are {', '.join(known)}"
            )
    clusters = [c for c in inventory.clusters if not request.clusters or c.name in request.clusters]
    found = [
        (c, [t for t in tenants_in(inventory, c) if not request.tenants or t.name in request.tenants]) for c in clusters
    ]
    found = [(cluster, tenants) for cluster, tenants in found if tenants]
    if absent := set(request.tenants) - {t.name for _, tenants in found for t in tenants}:
        raise AnyconsoleError(f"{', '.join(sorted(absent))}: no name server of it is on a node of {_words(clusters)}")
    if not found:
        raise AnyconsoleError(f"no tenant has a name server on a node of {_words(clusters)}")
    return found


def tenants_in(inventory: Inventory, cluster: ClusterSpec) -> Iterator[Tenant]:
    """The tenants with a name server on a node of a cluster."""
    return (tenant for tenant in inventory.tenants if hosting(inventory, cluster, tenant.name))


def hosting(inventory: Inventory, cluster: ClusterSpec, tenant: str) -> list[NodeSpec]:
    """The nodes of a cluster that have a name server of a tenant."""
    return [n for n in inventory.nodes if n.cluster == cluster.name and any(i.tenant == tenant for i in n.instances)]


def namespace_of(cluster: ClusterSpec, tenant: str) -> str:
    """The namespace of a tenant."""
    return cluster.namespaces.get(tenant, tenant)


def tenant_of(set_id: str) -> str:
    """The tenant whose set this is, "" if it is nobody's."""
    return set_id.removeprefix(_TENANT) if set_id.startswith(_TENANT) else ""


def _words(clusters: Iterable[ClusterSpec]) -> str:
    return ", ".join(cluster.name for cluster in clusters)
