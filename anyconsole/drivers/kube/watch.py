"""What is in one collection of a cluster, and every change of it: list and watch, for as long as it takes.

Objects are projected as they arrive and forgotten at once; of each only its name and revision are kept. Initial events are asked for in the
watch itself (WatchList); a server that doesn't serve those is listed by pages. What a server forgot (410) is listed anew, and what is gone
by then is told as gone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final, Generic, NoReturn, TypeAlias, TypeVar

import msgspec

from anyconsole.drivers.kube.access import MAX_PAGE, KubeApi, Object
from anyconsole.drivers.kube.connection import Value
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.ssh.fault import Fault

__all__ = ["Batch", "Name", "Watch", "WatchState"]

T = TypeVar("T")
Item = TypeVar("Item")
Name: TypeAlias = tuple[str, str]
"""Namespace ("" for what has none) and name of an object."""

_PAGE: Final = 250
_SLICE: Final = 0.01
"""Seconds of work after which others get their turn."""
_MOST: Final = 200_000
_BASE, _CEILING = 0.5, 15.0
_SLOW: Final = 60.0
"""Seconds between attempts at what only an administrator can mend."""
_SETTLED: Final = 30.0
"""Seconds that a watch lasts when it isn't the kind that ends in 410 again and again."""
_IDLE: Final = 180.0
"""Seconds without a line after which a watch is given up. Healthy ones were seen to be silent for 120 s."""
_SILENT: Final = 30.0
"""Seconds without a line in which a server that understands WatchList would have sent something."""
_WATCH_LIST_REFUSED: Final = frozenset({400, 422})


class Batch(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What changed since the batch before, of each object the latest. `synced` says, once, that with it everything is told."""

    changed: dict[Name, T]
    gone: tuple[Name, ...]
    synced: bool = False


class WatchState(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with a watch since `since`. Times are epoch seconds; `retry_at` is 0 when it is connected or about to try."""

    connected: bool = False
    synced: bool = False
    status: int = 0
    error: str = ""
    fault: Fault | None = None
    since: float = 0.0
    retry_at: float = 0.0

    @property
    def denied(self) -> bool:
        """Whether we may not list or watch this (403)."""
        return self.status == 403


class _Event(msgspec.Struct, gc=False):
    type: str
    object: dict[str, Any]


class _Metadata(msgspec.Struct, gc=False, rename={"more": "continue", "revision": "resourceVersion"}):
    revision: str = ""
    more: str = ""


class _Page(msgspec.Struct, gc=False):
    metadata: _Metadata
    items: list[msgspec.Raw] | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_LIST: Final = msgspec.json.Decoder(_Page)
_BROKEN: Final = (msgspec.MsgspecError, ValueError, RecursionError)


class Watch(Generic[T]):
    """Keeps telling what is in a collection.

    Args:
        api: The cluster.
        path: Of the collection: "/api/v1/namespaces/NS/pods".
        project: What is kept of an object, None to leave it out. An object for which it raises is left out too. Items of a page have
            neither `kind` nor `apiVersion`.
        on_change: Told of changes, in the event loop; it must be quick.
        on_state: Told when the state is another.
        query: Selectors.
    """

    def __init__(
        self,
        api: KubeApi,
        path: str,
        project: Callable[[Object], T | None],
        on_change: Callable[[Batch[T]], None],
        *,
        on_state: Callable[[WatchState], None] = lambda _: None,
        **query: Value,
    ) -> None:
        self.state = WatchState()
        self._api = api
        self._path = path
        self._project = project
        self._on_change = on_change
        self._on_state = on_state
        self._query = query
        self._rng = random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._known: dict[Name, str] = {}
        self._position = ""
        """The revision from which to go on, "" where the collection must be listed."""
        self._by_pages = False
        self._failures = 0
        self._relists = 0
        self._changed: dict[Name, T] = {}
        self._gone: dict[Name, None] = {}
        self._round: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    @property
    def path(self) -> str:
        """Of the collection."""
        return self._path

    async def run(self) -> NoReturn:
        """Watch until cancelled. Whatever the server does is a state, not an exception."""
        while True:
            wait = await self._go()
            self._hurry.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    def hurry(self) -> None:
        """Connect again now, from where we are: somebody has reason to think that the connection is dead, or that the server is back."""
        self._hurry.set()
        if self._round is not None:
            self._round.cancel()

    async def _go(self) -> float:
        """One connection. Seconds to wait until the next."""
        self._round = asyncio.create_task(self._follow(), name=f"watch {self._api.name} {self._path}")
        try:
            await asyncio.wait({self._round})
        finally:
            ended, self._round = self._round, None
            if not ended.done():
                ended.cancel()
                await asyncio.gather(ended, return_exceptions=True)
            self._flush()
        if ended.cancelled():
            return 0.0
        match ended.exception():
            case None:
                # The server ended it: in its time, or because we were too slow. Nothing is lost, and nothing to be shown.
                return self._delay()
            case KubeError() as error:
                return self._failed(error)
            case BaseException() as error:
                raise error

    def _failed(self, error: KubeError) -> float:
        if error.is_expired:
            self._position = ""
            self._relists += 1
            wait = _backoff(self._relists, self._rng)
            self._show(connected=False, error=error, retry_at=time.time() + wait)
            return wait
        silent = self.state.connected and error.fault is Fault.TIMEOUT
        if not self._position and not self._by_pages and (silent or _serves_no_watch_list(error)):
            self._by_pages = True
            return 0.0
        # Only an administrator can mend these; but then nobody should have to restart the console.
        wait = _SLOW * self._rng.uniform(0.8, 1.2) if error.status in {401, 403, 404, 405} else self._delay()
        wait = max(wait, min(error.retry_after or 0.0, _SLOW))
        self._show(connected=False, error=error, retry_at=time.time() + wait)
        return wait

    def _delay(self) -> float:
        self._failures += 1
        return _backoff(self._failures, self._rng)

    async def _follow(self) -> None:
        """List if need be, and watch until the server ends it."""
        if not self._position and self._by_pages:
            await self._list()
        began = time.monotonic()
        try:
            await self._stream()
        finally:
            if time.monotonic() - began > _SETTLED:
                self._relists = 0

    async def _list(self) -> None:
        seen: set[Name] = set()
        more = ""
        while True:
            query = self._query | {"limit": _PAGE} | ({"continue_": more} if more else {})
            body = await self._api.read(self._path, query, most=MAX_PAGE, deadline=60.0)
            try:
                page = _LIST.decode(body)
            except _BROKEN:
                raise self._nonsense() from None
            if not more:
                self._show(connected=True)
            await self._work(page.items or (), lambda item: self._take_listed(item, seen))
            more = page.metadata.more
            if not more:
                break
        if not page.metadata.revision:
            raise self._nonsense()
        self._listed(seen, page.metadata.revision)

    async def _stream(self) -> None:
        query: dict[str, Value] = {**self._query, "watch": True, "allowWatchBookmarks": True}
        # So that many consoles don't come back at the same time.
        query["timeoutSeconds"] = self._rng.randint(240, 480)
        seen: set[Name] | None = None
        if self._position:
            query["resourceVersion"] = self._position
        else:
            query |= {"sendInitialEvents": True, "resourceVersionMatch": "NotOlderThan"}
            seen = set()

        def read(line: bytes) -> None:
            nonlocal seen
            try:
                event = _EVENT.decode(line)
            except _BROKEN:
                raise self._nonsense() from None
            seen = self._heed(event, seen)

        async with aclosing(self._api.blocks(self._path, query, silence=_IDLE)) as blocks:
            while (block := await self._next(blocks, None if seen is None else _SILENT)) is not None:
                if not self.state.connected:
                    self._show(connected=True)
                await self._work(block, read)

    async def _next(self, blocks: AsyncGenerator[list[bytes], None], patience: float | None) -> list[bytes] | None:
        try:
            async with asyncio.timeout(patience):
                return await anext(blocks, None)
        except TimeoutError:
            what = f"{self._api.name}: {self._path}: the server is silent instead of telling what is there"
            raise KubeError(what, fault=Fault.TIMEOUT) from None

    def _heed(self, event: _Event, seen: set[Name] | None) -> set[Name] | None:
        """One event. The names seen so far while everything is being told for the first time, None after that."""
        metadata = event.object.get("metadata")
        revision = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        match event.type:
            case "ERROR":
                raise self._api.told(event.object)
            case "BOOKMARK":
                if seen is not None and isinstance(metadata, dict) and _ends_initial_events(metadata):
                    self._listed(seen, str(revision or ""))
                    return None
            case "DELETED":
                self._drop(_name_of(event.object))
            case "ADDED" | "MODIFIED":
                self._take(event.object, seen)
            case _:
                raise self._nonsense()
        # From the middle of the initial events nothing can be resumed.
        if seen is None and isinstance(revision, str) and revision:
            self._position = revision
            self._failures = 0
        return seen

    def _take(self, obj: Object, seen: set[Name] | None) -> None:
        name = _name_of(obj)
        if name is None:
            return
        revision = str(obj["metadata"].get("resourceVersion") or "")
        if seen is not None:
            seen.add(name)
            if revision and self._known.get(name) == revision:
                return
        try:
            value = self._project(obj)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, msgspec.MsgspecError):
            value = None
        if value is None:
            self._drop(name)
            return
        if len(self._known) >= _MOST and name not in self._known:
            raise KubeError(f"{self._api.name}: {self._path} holds more than {_MOST} objects")
        self._known[name] = revision
        self._gone.pop(name, None)
        self._changed[name] = value

    def _take_listed(self, item: msgspec.Raw, seen: set[Name]) -> None:
        try:
            obj = _OBJECT.decode(item)
        except _BROKEN:
            return
        self._take(obj, seen)

    def _drop(self, name: Name | None) -> None:
        if name is not None and self._known.pop(name, None) is not None:
            self._changed.pop(name, None)
            self._gone[name] = None

    def _listed(self, seen: set[Name], position: str) -> None:
        """Everything that is there was told: what we knew besides is gone."""
        for name in self._known.keys() - seen:
            self._drop(name)
        self._position = position
        self._failures = 0
        is_first = not self.state.synced
        self._flush(synced=is_first)
        if is_first:
            self._show(connected=True, synced=True)

    async def _work(self, items: Iterable[Item], work: Callable[[Item], None]) -> None:
        """Work through items in slices, one watch of a cluster at a time: the slices of all of them in a row would be a pause too."""
        rest, is_done = iter(items), False
        while not is_done:
            async with self._api.turns:
                is_done, until = True, time.monotonic() + _SLICE
                for item in rest:
                    work(item)
                    if time.monotonic() >= until:
                        is_done = False
                        break
                self._flush()
            await asyncio.sleep(0)

    def _flush(self, *, synced: bool = False) -> None:
        if not (self._changed or self._gone or synced):
            return
        batch = Batch(changed=self._changed, gone=tuple(self._gone), synced=synced)
        self._changed, self._gone = {}, {}
        self._on_change(batch)

    def _show(
        self, *, connected: bool, synced: bool = False, error: KubeError | None = None, retry_at: float = 0.0
    ) -> None:
        before = self.state
        state = WatchState(
            connected=connected,
            synced=synced or before.synced,
            status=error.status if error else 0,
            error=str(error) if error else "",
            fault=error.fault if error else None,
            since=before.since if before.since and before.connected is connected else time.time(),
            retry_at=retry_at,
        )
        self.state = state
        if state != before:
            self._on_state(state)

    def _nonsense(self) -> KubeError:
        return KubeError(f"{self._api.name}: {self._path}: the server's answer is no list and no event")


def _name_of(obj: Object) -> Name | None:
    match obj.get("metadata"):
        case {"name": str(name), "namespace": str(namespace)}:
            return namespace, name
        case {"name": str(name)}:
            return "", name
        case _:
            return None


def _ends_initial_events(metadata: Object) -> bool:
    annotations = metadata.get("annotations")
    return isinstance(annotations, dict) and annotations.get("k8s.io/initial-events-end") == "true"


def _serves_no_watch_list(error: KubeError) -> bool:
    """Old servers refuse the question, servers on old storage say so in an event; those that never heard of it stay silent."""
    return error.status in _WATCH_LIST_REFUSED or "RequestWatchProgress" in str(error)


def _backoff(failures: int, rng: random.Random) -> float:
    upper = min(_CEILING, _BASE * 2.0 ** min(failures - 1, 16))
    return rng.uniform(0.5, 1.0) * upper
