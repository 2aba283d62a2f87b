"""One cluster that plans are made for: what its sets share, and how a set becomes a step."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Final

from anyconsole.actions.guards import Change, GuardVerdict, Outcome
from anyconsole.actions.plan import Step
from anyconsole.actions.stack.request import InCluster, StackRequest, Way, namespace_of, tenant_of
from anyconsole.drivers.kube import script
from anyconsole.drivers.kube.addresses import cidrs_of
from anyconsole.drivers.kube.lacking import lacking
from anyconsole.drivers.kube.objects import SET_LABEL, collections_in
from anyconsole.drivers.kube.render import Object
from anyconsole.drivers.kube.script import Call
from anyconsole.drivers.kube.sets import ours_in
from anyconsole.model.inventory import ClusterSpec, Tenant
from anyconsole.model.pods import Permission
from anyconsole.model.store import FleetStore

__all__ = ["OneCluster", "permission_words", "refused"]

_NAMED: Final = 4

_PROOF: Final = {
    Way.SETUP: (
        "workloads: every pod is of this configuration, and ready: its observer gets answers on each service address, over UDP and TCP",
        "announced: each session that is up is told of the tenant, where the exports can be seen",
        "serials, vantages, catchment: shown, where they can be asked",
    ),
    Way.TEARDOWN: (
        "objects: nothing of it is left",
        "entries: its addresses are no longer listed for Calico",
        "routes: no session is told of it any more, where the exports can be seen",
    ),
}
_PROOF_SHARED: Final = (
    "objects: each is as it was rendered",
    "workloads: every pod is of this configuration, and ready",
)


class OneCluster(ABC):
    """Plans the sets of one cluster, one after the other. `notes` are worth knowing and keep nothing from being done."""

    def __init__(self, store: FleetStore, hands: InCluster, request: StackRequest, cluster: ClusterSpec) -> None:
        self.notes: list[str] = []
        self._store = store
        self._hands = hands
        self._request = request
        self._cluster = cluster
        self._listed: Object | None = None
        """BGPConfiguration "default" as it is once the steps planned so far are done."""

    async def look(self) -> None:
        """Read what all sets share. Raises AnyconsoleError."""
        if self._hands.calico is None:
            self.notes.append(f"{self._cluster.name} has no Calico: nothing there announces the service addresses")
        else:
            (self._listed,) = await self._hands.find([self._hands.calico.path("BGPConfiguration", "default")])

    def sets(self, tenants: Sequence[Tenant]) -> Iterator[str]:
        """The sets that are meant, in their order."""
        yield from (f"tenant-{tenant.name}" for tenant in tenants)

    @abstractmethod
    async def step(self, set_id: str) -> Step | None:
        """The step of a set, None if it is as wanted. Raises AnyconsoleError."""

    def _cidrs(self, set_id: str) -> list[str]:
        return cidrs_of(self._store.inventory.tenant(tenant_of(set_id)).addresses)

    async def _ours(self, set_id: str) -> list[Object]:
        namespace = namespace_of(self._cluster, tenant_of(set_id))
        return ours_in(await self._hands.listed_in(collections_in(namespace), f"{SET_LABEL}={set_id}"), set_id)

    def _step(
        self,
        set_id: str,
        calls: Sequence[Call],
        denied: Sequence[Permission],
        *,
        title: str,
        diff: str = "",
        about: Sequence[str] = (),
        findings: Sequence[GuardVerdict] = (),
        changes: tuple[Change, ...] = (),
    ) -> Step:
        missing = lacking(calls, denied)
        found = list(findings)
        if missing:
            found.append(refused("permissions", f"{self._cluster.name}: not permitted: {permission_words(missing)}"))
        tenant = tenant_of(set_id)
        is_setup = self._request.way is Way.SETUP
        back = Way.TEARDOWN if is_setup else Way.SETUP
        return Step(
            host=self._cluster.name,
            part=set_id,
            title=f"{set_id}: {title}",
            apply=script.render(calls),
            confirm="",
            revert="",
            hold=self._request.within,
            lasting=True,
            diff=diff,
            about=tuple(about),
            findings=tuple(found),
            changes=changes,
            undo=(f"anyconsole {back} --cluster {shlex.quote(self._cluster.name)} --tenant {tenant} --reason ...",)
            if tenant
            else (),
            proof=_PROOF[self._request.way] if tenant else _PROOF_SHARED,
        )


def refused(name: str, numbers: str, *, may: bool = False) -> GuardVerdict:
    """What planning found, as a refusal; `may` be overridden."""
    return GuardVerdict(name=name, outcome=Outcome.REFUSE, numbers=numbers, overridable=may)


def permission_words(missing: Sequence[Permission]) -> str:
    """Permissions in a line."""
    more = f" (+{len(missing) - _NAMED} more)" if len(missing) > _NAMED else ""
    return ", ".join(map(str, missing[:_NAMED])) + more
