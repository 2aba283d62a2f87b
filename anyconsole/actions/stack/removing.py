"""Teardown of one cluster: what of each tenant's set is there and ours, in the order in which it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from anyconsole.actions.guards import Change
from anyconsole.actions.plan import Step
from anyconsole.actions.stack.one_cluster import OneCluster
from anyconsole.actions.stack.request import hosting, namespace_of, tenant_of
from anyconsole.drivers.kube import addresses, script
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.execute import named
from anyconsole.drivers.kube.objects import collections_in, key_secret
from anyconsole.drivers.kube.render import Object
from anyconsole.drivers.kube.sets import MADE, counted, is_ours, removal, strangers
from anyconsole.model import verdicts
from anyconsole.model.facts import Exported
from anyconsole.model.verdicts import Intent

__all__ = ["Removing"]

_ELSEWHERE: Final = ("/api/v1/namespaces/{}/pods", "/apis/batch/v1/namespaces/{}/jobs")
"""Collections of a namespace in which others may have something, besides those of our own kinds."""


class Removing(OneCluster):
    """Plans teardown."""

    async def step(self, set_id: str) -> Step | None:
        """Raises AnyconsoleError."""
        name = tenant_of(set_id)
        namespace = namespace_of(self._cluster, name)
        found = await self._ours(set_id)
        key, unseen = await self._key(set_id, name)
        found += key
        (space,) = await self._hands.find([f"/api/v1/namespaces/{namespace}"])
        others: list[str] = []
        if space is not None and is_ours(space, set_id) and MADE in (space["metadata"].get("annotations") or {}):
            others = await self._others(set_id, namespace, found)
        gone = removal(found, set_id, space, others)
        calico = self._hands.calico
        listing = addresses.Listed((), self._listed)
        if calico is not None:
            listing = addresses.withdraw(calico, self._listed, self._cidrs(set_id))
        about = [f"stays: {what}" for what in (*gone.stays, *unseen)]
        kept = set(self._cidrs(set_id)) & set(addresses.entries_of(listing.after)[0])
        about += [f"stays: {cidr} in BGPConfiguration default, which others listed" for cidr in sorted(kept)]
        services = [call for call in gone.calls if "/services/" in call.path]
        calls = [*services, *listing.calls, *(call for call in gone.calls if call not in services)]
        if not any(call.verb.changes for call in calls):
            self.notes += [f"{self._cluster.name}: {line}" for line in about]
            return None
        taken = len(addresses.entries_of(self._listed)[0]) - len(addresses.entries_of(listing.after)[0])
        self._listed = listing.after
        denied = await self._hands.denied(script.needed(calls))
        entries = f", {taken} addresses no longer announced" if taken else ""
        return self._step(
            set_id,
            calls,
            denied,
            title=f"{len(gone.gone)} objects deleted{entries}",
            diff="\n".join(f"- {what}" for what in gone.gone),
            about=about,
            changes=tuple(self._changes(name)),
        )

    async def _key(self, set_id: str, name: str) -> tuple[list[Object], list[str]]:
        """The Secret with the tenant's TSIG key, if it is there and ours; else what may stay of it."""
        secret = key_secret(self._store.inventory, self._cluster, self._store.inventory.tenant(name))
        if secret is None:
            return [], []
        try:
            (live,) = await self._hands.find([secret.path])
        except KubeError as error:
            if error.status != 403:
                raise
            return [], [f"{named(secret.path)}, if it is there: we may not look"] if secret.source else []
        if live is None or not is_ours(live, set_id):
            return [], [f"{named(secret.path)}, which somebody else made"] if live is not None else []
        # Only its metadata was asked for, and that is how the answer calls itself.
        return [{**live, "apiVersion": "v1", "kind": "Secret"}], []

    async def _others(self, set_id: str, namespace: str, ours: Sequence[Object]) -> list[str]:
        """What else is in a namespace, or may be."""
        keys = sum(obj["kind"] == "Secret" for obj in ours)
        others = counted(next((obj for obj in ours if obj["kind"] == "ResourceQuota"), None), {"secrets": keys})
        for collection in (*collections_in(namespace), *(path.format(namespace) for path in _ELSEWHERE)):
            try:
                others += strangers(await self._hands.listed(collection), set_id)
            except KubeError as error:
                if error.status != 403:
                    raise
                others.append(f"{collection.rpartition('/')[2]} that we may not list")
        return others

    def _changes(self, tenant: str) -> Iterator[Change]:
        for node in hosting(self._store.inventory, self._cluster, tenant):
            for speaker, session, owner, prefix in verdicts.node_announcements(self._store, node):
                if owner.name != tenant:
                    continue
                export = self._store.export(node.name, speaker.name, session.name, prefix)
                yield Change(
                    node=node.name,
                    speaker=speaker.name,
                    session=session.name,
                    peer=session.peer,
                    tenant=tenant,
                    prefix=prefix,
                    before=verdicts.intended(self._store, node.name, speaker.name, owner.number, session.number),
                    after=Intent.HARD,
                    exported=export.exported if export is not None else Exported.UNKNOWN,
                )
