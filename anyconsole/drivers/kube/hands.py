"""What set-up and teardown ask and do in one cluster. Every question is small and has a deadline; nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from anyconsole.drivers.kube.access import KubeApi, Object
from anyconsole.drivers.kube.calico import CalicoApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.execute import Preview, carry_out, preview
from anyconsole.drivers.kube.objects import filled
from anyconsole.drivers.kube.script import Call
from anyconsole.drivers.kube.terminal import execute
from anyconsole.drivers.ssh.execute import Completed
from anyconsole.drivers.tsig import TsigKey
from anyconsole.model.pods import Permission

__all__ = ["ClusterHands"]

_DEADLINE: Final = 12.0
_AT_ONCE: Final = 8

_A = TypeVar("_A")
_R = TypeVar("_R")


class ClusterHands:
    """One cluster's API, as set-up and teardown use it.

    Attributes:
        calico: Where Calico's objects are served, None if there is no Calico.
    """

    def __init__(
        self, api: KubeApi, calico: CalicoApi | None, changed: Callable[[Iterable[str]], None] = lambda _: None
    ) -> None:
        self._api = api
        self._changed = changed
        self.calico = calico

    async def find(self, paths: Iterable[str]) -> list[Object | None]:
        """Objects as they are, None for what isn't there. Raises KubeError."""
        return await _each(self._found, paths)

    async def listed(self, collection: str, selector: str = "") -> list[Object]:
        """The objects of a collection; with a selector those whose labels fit. Raises KubeError."""
        query = {"labelSelector": selector} if selector else {}
        answer = await self._api.get(collection, **query)
        # Members of a list don't say what they are; the list does.
        of = {"apiVersion": answer.get("apiVersion"), "kind": str(answer.get("kind", "")).removesuffix("List")}
        return [of | item for item in answer.get("items") or () if isinstance(item, dict)]

    async def listed_in(self, collections: Iterable[str], selector: str = "") -> list[Object]:
        """The objects of several collections, one collection after the other. Raises KubeError."""

        async def one(collection: str) -> list[Object]:
            return await self.listed(collection, selector)

        return [obj for found in await _each(one, collections) for obj in found]

    async def preview(self, calls: Sequence[Call]) -> list[Preview]:
        """What each call would change (dry run). Raises KubeError."""

        async def one(call: Call) -> Preview:
            return await preview(self._api, call, _DEADLINE)

        return await _each(one, calls)

    async def denied(self, permissions: Iterable[Permission]) -> tuple[Permission, ...]:
        """Those of them that we don't have. Raises KubeError."""
        asked = list(dict.fromkeys(permissions))
        return tuple(p for p, may in zip(asked, await _each(self._api.may, asked), strict=True) if not may)

    async def carry_out(self, calls: Sequence[Call], deadline: float) -> Completed:
        """Carry out calls. Raises KubeError: the last of them may or may not have been."""
        try:
            return await carry_out(self._api, calls, deadline)
        finally:
            self._changed([call.path for call in calls if call.verb.changes])

    async def apply_key(self, calls: Sequence[Call], key: TsigKey, deadline: float) -> Completed:
        """Carry out calls, the one that applies the Secret of a key with the key in it. Nobody hears of it. Raises KubeError."""
        try:
            said = await self.carry_out([filled(call, key) for call in calls], deadline)
        except KubeError as error:
            raise KubeError(key.scrub(str(error)), fault=error.fault, maybe_done=error.maybe_done) from None
        return msgspec.structs.replace(said, stdout=key.scrub(said.stdout.decode("utf-8", "replace")).encode())

    async def run(self, namespace: str, pod: str, container: str, argv: Sequence[str], deadline: float) -> Completed:
        """Run a command in a container. Raises KubeError."""
        return await execute(self._api, namespace, pod, container, argv, deadline)

    async def _found(self, path: str) -> Object | None:
        try:
            return await self._api.get(path)
        except KubeError as error:
            if error.status != 404:
                raise
            return None


async def _each(function: Callable[[_A], Awaitable[_R]], given: Iterable[_A]) -> list[_R]:
    """The answers in the order of the questions, a few asked at a time. Raises what the first that failed did."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(argument: _A) -> _R:
        async with slots:
            return await function(argument)

    return await asyncio.gather(*(one(argument) for argument in given))
