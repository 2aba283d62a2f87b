"""Set-up of one cluster: each set rendered from the profile, against what is there; only what differs becomes a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.plan import Step
from anyconsole.actions.stack.one_cluster import OneCluster, permission_words, refused
from anyconsole.actions.stack.request import hosting, tenant_of
from anyconsole.drivers.kube import addresses, script
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.lacking import lacking
from anyconsole.drivers.kube.objects import (
    calico_objects,
    cluster_objects,
    holds_key,
    key_secret,
    monitoring_objects,
    path_of,
    tenant_objects,
)
from anyconsole.drivers.kube.render import Object
from anyconsole.drivers.kube.script import Call, Verb
from anyconsole.drivers.kube.sets import Addition, addition, apply, with_origin
from anyconsole.drivers.tsig import TsigError, read_key
from anyconsole.model.inventory import Tenant
from anyconsole.model.pods import Permission

__all__ = ["Adding"]

_PRIORITY: Final = "/apis/scheduling.k8s.io/v1/priorityclasses/anyconsole-name-server"
"""Without it the API server takes no pod of a tenant: of what tenants share, only this can't be left out."""


class Adding(OneCluster):
    """Plans set-up."""

    def sets(self, tenants: Sequence[Tenant]) -> Iterator[str]:
        """What tenants share first."""
        yield "cluster"
        if self._hands.calico is not None and self._store.inventory.stack.bgp_peers:
            yield "calico"
        if self._store.inventory.stack.monitoring:
            yield "monitoring"
        yield from super().sets(tenants)

    async def step(self, set_id: str) -> Step | None:
        """Raises AnyconsoleError."""
        try:
            key_hash = await self._key_hash(tenant_of(set_id))
        except TsigError as error:
            return self._step(
                set_id, [], (), title="its TSIG key is missing", findings=_finding("tsig", [str(error)], "no key")
            )
        rendered = self._rendered(set_id, key_hash)
        calls = apply(rendered)
        listing = self._announced(set_id)
        reads = [Call(verb=Verb.EXPECT, path=call.path) for call in calls]
        denied = await self._hands.denied(script.needed([*calls, *reads, *listing.calls]))
        if blind := lacking(reads, denied):
            if not tenant_of(set_id) and await self._has_priority(set_id, denied):
                self._leave(set_id, len(calls), f"not permitted: {permission_words(blind)}")
                return None
            return self._step(set_id, [*calls, *listing.calls], denied, title="what is there may not be read")
        spaces = [obj for obj in rendered if obj["kind"] == "Namespace"]
        lives = await self._hands.find([path_of(obj) for obj in spaces])
        made = {path_of(obj): with_origin(obj, live) for obj, live in zip(spaces, lives, strict=True)}
        rendered = [made.get(path_of(obj), obj) for obj in rendered]
        previews = await self._hands.preview(apply(rendered))
        contested = {p.call.path: p.problem for p in previews if p.status == 409} if self._request.force else {}
        if contested:
            previews = await self._hands.preview(apply(rendered, contested))
        told = addition(previews, denied, contested)
        wanted = [*self._noted(set_id, told.calls), *listing.calls]
        missing = lacking(wanted, denied)
        lacks_priority = any(p.call.path == _PRIORITY and p.live is None for p in previews)
        if (missing or told.rejected) and not (tenant_of(set_id) or lacks_priority):
            count = sum(call.verb is Verb.APPLY for call in wanted) + len(told.rejected)
            self._leave(set_id, count, f"not permitted: {permission_words(missing)}" if missing else told.rejected[0])
            return None
        if left := await self._left_over(set_id, rendered):
            self.notes.append(f"{self._cluster.name}: no part of {set_id} any more, but left there: {', '.join(left)}")
        if not wanted and not (told.foreign or told.rejected or told.contested):
            return None
        self._listed = listing.after
        return self._added(set_id, told, wanted, listing, denied)

    async def _key_hash(self, name: str) -> str:
        """The fingerprint of a tenant's TSIG key; "" if it has none, or somebody else makes its Secret. Raises TsigError."""
        known = self._store.inventory.stack.tenant(name)
        secret = key_secret(self._store.inventory, self._cluster, self._store.inventory.tenant(name)) if name else None
        if known is None or secret is None or not secret.source:
            return ""
        return (await read_key(known)).fingerprint(secret.path)

    def _noted(self, set_id: str, calls: Sequence[Call]) -> list[Call]:
        """The calls, and beside that of a key where it comes from."""
        known = self._store.inventory.stack.tenant(tenant_of(set_id))
        note = f"the key is read from {known.tsig_source} when this is carried out" if known is not None else ""
        is_key = [call.verb is Verb.APPLY and holds_key(call.body) for call in calls]
        return [
            msgspec.structs.replace(call, note=note) if noted else call
            for call, noted in zip(calls, is_key, strict=True)
        ]

    def _rendered(self, set_id: str, key_hash: str) -> list[Object]:
        inventory, cluster, calico = self._store.inventory, self._cluster, self._hands.calico
        match set_id:
            case "cluster":
                return list(cluster_objects(inventory, cluster))
            case "calico" if calico is not None:
                return list(calico_objects(inventory, cluster, calico)[1:])
            case "monitoring":
                return list(monitoring_objects(inventory, cluster))
            case _:
                return list(tenant_objects(inventory, cluster, inventory.tenant(tenant_of(set_id)), key_hash))

    def _announced(self, set_id: str) -> addresses.Listed:
        """The entries of a tenant's addresses: the last thing, for without a name server there is nothing to announce."""
        if not tenant_of(set_id) or self._hands.calico is None:
            return addresses.Listed((), self._listed)
        return addresses.announce(self._hands.calico, self._listed, self._cidrs(set_id))

    async def _has_priority(self, set_id: str, denied: Sequence[Permission]) -> bool:
        """Whether what a tenant can't do without is there, if this set is what makes it."""
        read = Call(verb=Verb.EXPECT, path=_PRIORITY)
        return set_id != "cluster" or (not lacking([read], denied) and await self._hands.find([_PRIORITY]) != [None])

    def _leave(self, set_id: str, count: int, why: str) -> None:
        """Leave out a set that tenants can do without: an administrator has to apply it."""
        self.notes.append(
            f"{self._cluster.name}: up to {count} objects of the set {set_id} are left as they are ({why}); "
            f"an administrator applies them: anyconsole render --cluster {self._cluster.name} --set {set_id}"
        )

    async def _left_over(self, set_id: str, rendered: Sequence[Object]) -> list[str]:
        """Objects of a tenant's set that are no part of it any more. Teardown takes them too; set-up leaves them running."""
        if not tenant_of(set_id):
            return []
        paths = {path_of(obj) for obj in rendered}
        try:
            found = await self._ours(set_id)
        except KubeError as error:
            if error.status != 403:
                raise
            return []
        return [f"{obj['kind']} {obj['metadata']['name']}" for obj in found if path_of(obj) not in paths]

    def _added(
        self,
        set_id: str,
        told: Addition,
        calls: Sequence[Call],
        listing: addresses.Listed,
        denied: Sequence[Permission],
    ) -> Step:
        changed = sum(call.verb is Verb.APPLY for call in told.calls) - told.created
        counts = [f"{told.created} new", f"{changed} changed", f"{told.unchanged} as they are"]
        about = [f"{name} is there already and isn't ours; it would be used" for name in told.used]
        tenant = tenant_of(set_id)
        if tenant:
            inventory = self._store.inventory
            about.append(f"pods on {', '.join(n.name for n in hosting(inventory, self._cluster, tenant))}")
            if secret := key_secret(inventory, self._cluster, inventory.tenant(tenant)):
                made = (
                    f"is made of what {secret.source} holds when it is applied" if secret.source else "is made by you"
                )
                about.append(f"needs {secret.path}, which {made}, and never read there")
        if listing.calls:
            about.append(f"lets Calico announce {', '.join(self._cidrs(set_id))}")
        findings = [
            *_finding("foreign", told.foreign, "there, and not ours"),
            *_finding(
                "namespace",
                told.used,
                "there already, and not ours: quota and isolation would be put on all in it",
                may=True,
            ),
            *_finding(
                "conflicts",
                told.contested,
                "taken by force" if self._request.force else "managed by somebody else (--force-conflicts takes it)",
                may=self._request.force,
            ),
            *_finding("api server", told.rejected, "not taken"),
            *_finding("restarts", told.restarted, "replaced", may=True),
        ]
        diff = [told.diff] if told.diff else []
        if listing.calls:
            diff.append("bgpconfigurations/default\n" + "\n".join(f"  + {cidr}" for cidr in self._cidrs(set_id)))
        return self._step(
            set_id, calls, denied, title=", ".join(counts), diff="\n".join(diff), about=about, findings=findings
        )  # fmt: skip


def _finding(name: str, found: Sequence[str], words: str, *, may: bool = False) -> list[GuardVerdict]:
    return [refused(name, f"{'; '.join(found)}: {words}", may=may)] if found else []
