"""What set-up made of the tenants of a cluster, beside their pods: read now and then, and compared with what it would make now.

One namespace after the other, a list per kind, from the API server's cache. Nothing is kept of what was read but how it differs; Secrets
are never asked for, and of what may not be listed nothing is said.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NoReturn

import msgspec

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.access import Object as Json
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.objects import SET_LABEL, collection_of, path_of, tenants_of
from anyconsole.drivers.kube.permissions import watching
from anyconsole.drivers.kube.render import Object
from anyconsole.drivers.kube.set_up import difference_of, objects_of
from anyconsole.drivers.kube.sets import COUNTER
from anyconsole.drivers.kube.values import part, parts, text
from anyconsole.drivers.kube.workloads import Emit
from anyconsole.model.inventory import ClusterSpec, Inventory, Tenant
from anyconsole.model.pods import SET_EVERY, Permission, TenantSet, set_section

__all__ = ["SetReading"]

_SPREAD: Final = 0.25
"""Of a round: namespaces that were read together at first are not for long."""
_SOON: Final = 1.0
"""Seconds after a change of ours: the next one may follow at once."""
_AGAIN, _PAUSE = 10.0, 1.0
"""Seconds until a read that failed is tried again, and until any other is."""
_MOST: Final = 1000
_CLOSED: Final = frozenset({403, 404, 405})
"""It may not be listed, or isn't served."""
_NAMESPACE: Final = re.compile(r"/namespaces/([^/?]+)")

_log = logging.getLogger(__name__)


class SetReading:
    """Looks again and again at what set-up made of the tenants of one cluster."""

    def __init__(self, inventory: Inventory, spec: ClusterSpec, api: KubeApi, emit: Emit) -> None:
        self._inventory = inventory
        self._spec = spec
        self._api = api
        self._emit = emit
        self._tenants = {
            spec.namespaces.get(tenant.name, tenant.name): tenant for tenant in tenants_of(inventory, spec)
        }
        self._due = dict.fromkeys(self._tenants, 0.0)
        self._hurried = asyncio.Event()
        self._rng = random.Random()  # noqa: S311 - spreads load, keeps no secret

    def hurry(self, paths: Iterable[str]) -> None:
        """Something was changed there: look soon."""
        for namespace in {match[1] for path in paths if (match := _NAMESPACE.search(path))} & self._due.keys():
            self._due[namespace] = time.monotonic() + _SOON
        self._hurried.set()

    async def run(self) -> NoReturn:
        """Read until cancelled. A server that refuses or fails is no exception: what isn't known grows old."""
        while True:
            namespace = min(self._due, key=self._due.__getitem__, default="")
            wait = self._due[namespace] - time.monotonic() if namespace else SET_EVERY
            if wait > 0:
                self._hurried.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._hurried.wait()
                continue
            self._due[namespace] = time.monotonic() + SET_EVERY * self._rng.uniform(1 - _SPREAD, 1)
            try:
                self._emit([await self._look(self._tenants[namespace])])
            except KubeError as error:
                _log.info("%s: what set-up made in %s is not known: %s", self._spec.name, namespace, error)
                self._due[namespace] = min(self._due[namespace], time.monotonic() + _AGAIN)
                await asyncio.sleep(_PAUSE)

    async def _look(self, tenant: Tenant) -> TenantSet:
        """How a tenant stands. Raises KubeError."""
        rendered = objects_of(self._inventory, self._spec, tenant)
        fact = TenantSet(
            node=self._spec.name, section=set_section(tenant.name), at=time.time(), tenant=tenant.name, is_set_up=None
        )
        if not rendered:
            return fact
        space, *others = rendered
        try:
            drift = [difference_of(space, await self._api.get(path_of(space), resourceVersion="0"))]
        except KubeError as error:
            if error.status == 404:
                return msgspec.structs.replace(fact, is_set_up=False)
            if error.status not in _CLOSED:
                raise
            drift = []
        collections: dict[str, list[Object]] = {}
        for obj in others:
            collections.setdefault(collection_of(obj), []).append(obj)
        there, unseen = False, list[Permission]()
        for collection, objects in collections.items():
            try:
                found = await self._listed(collection, objects[0])
            except KubeError as error:
                if error.status not in _CLOSED:
                    raise
                unseen.append(msgspec.structs.replace(watching(collection), verb="list"))
                continue
            there |= bool(found) and objects[0]["kind"] != COUNTER
            drift += [difference_of(obj, found.get(obj["metadata"]["name"])) for obj in objects]
        return msgspec.structs.replace(
            fact,
            is_set_up=True if there else None if unseen else False,
            drift=tuple(filter(None, drift)) if there else (),
            unseen=tuple(unseen),
        )

    async def _listed(self, collection: str, one: Object) -> dict[str, Json]:
        """What is in a collection of the set of one of its objects, by name. Raises KubeError."""
        selector = f"{SET_LABEL}={one['metadata']['labels'][SET_LABEL]}"
        answer = await self._api.get(collection, labelSelector=selector, resourceVersion="0")
        return {text(part(obj, "metadata"), "name"): obj for obj in parts(answer, "items", _MOST)}
