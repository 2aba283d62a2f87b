"""Watches: the log of changes as a stream of lines, with initial events, bookmarks and every way in which such a stream ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from aiohttp import web

from tests.kube.apiserver import errors
from tests.kube.apiserver.objects import Object, encode
from tests.kube.apiserver.reading import Form, selection, shown
from tests.kube.apiserver.resources import Resource
from tests.kube.apiserver.selectors import Matcher
from tests.kube.apiserver.store import Change, Store, Stored

_INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}
_NO_WATCH_LIST = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
_NO_PROGRESS = "etcd server version is too old: RequestWatchProgress is not supported"


class WatchCutError(Exception):
    """The test ends this stream."""


class Watch:
    """One open watch."""

    def __init__(self, resource: Resource, namespace: str, selects: Matcher | None, form: Form) -> None:
        self.resource = resource
        self.namespace = namespace
        self.selects = selects
        self.form = form
        self.position = 0
        self.woken = asyncio.Event()
        self.ending: Object | WatchCutError | None = None
        """What ends it: a Status to send as ERROR, or a cut of the connection."""
        self._said_columns = False

    def line(self, change: Change) -> bytes | None:
        """What this watch shows of a change; None if nothing."""
        stored, before = change.stored, change.before
        if self.namespace and stored.key[0] != self.namespace:
            return None
        kind = change.kind
        if self.selects is not None:
            # An object that begins or ends to match comes and goes, whatever really happened to it.
            now, then = self.selects(stored.obj), before is not None and self.selects(before.obj)
            if kind == "DELETED":
                now = then
            if not now and not then:
                return None
            if kind == "MODIFIED" and now != then:
                kind = "ADDED" if now else "DELETED"
        return self.event(kind, stored)

    def event(self, kind: str, stored: Stored) -> bytes:
        """One line."""
        if not self.form.name:
            return b'{"type":"%s","object":%s}\n' % (kind.encode(), stored.encoded)
        with_columns, self._said_columns = not self._said_columns, True
        return encode({"type": kind, "object": shown(self.resource, stored.obj, self.form, with_columns)}) + b"\n"

    def bookmark(self, revision: int, annotations: Object | None = None) -> bytes:
        """A line that says only how far the watch is."""
        metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        metadata |= {"annotations": annotations} if annotations else {}
        obj: Object = {"kind": self.resource.kind, "apiVersion": self.resource.api_version, "metadata": metadata}
        if self.form.name == "Table":
            obj = {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "columnDefinitions": None,
                "rows": [],
            }
        return encode({"type": "BOOKMARK", "object": obj}) + b"\n"


class Watching:
    """All open watches of a server, and how it serves them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: list[Watch] = []
        self.watch_list = "served"
        """Or "forbidden" (feature off: 422), or "no progress" (old storage: 200, then ERROR)."""
        self.bookmark_every = 60.0
        self.thawed = asyncio.Event()
        self.thawed.set()
        store.listen(self._wake)

    @property
    def count(self) -> int:
        """How many watches are open."""
        return len(self._open)

    def end(self, with_what: Object | WatchCutError, plural: str = "") -> int:
        """End all watches, or those of one resource. Returns how many."""
        chosen = [watch for watch in self._open if plural in {"", watch.resource.plural}]
        for watch in chosen:
            watch.ending = with_what
            watch.woken.set()
        return len(chosen)

    async def serve(
        self, request: web.Request, resource: Resource, namespace: str, query: Mapping[str, str], form: Form
    ) -> web.StreamResponse:
        """Answer one watch until it ends.

        Raises:
            ApiError: 422 when initial events are asked for in a way that this server doesn't serve.
        """
        initial = query.get("sendInitialEvents") == "true"
        self._check(query, initial)
        watch = Watch(resource, namespace, selection(resource, query), form)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._open.append(watch)
        try:
            await self._run(response, watch, query, initial)
        except WatchCutError:
            if request.transport:
                request.transport.abort()
        except ConnectionError:
            pass
        finally:
            self._open.remove(watch)
        return response

    def _check(self, query: Mapping[str, str], initial: bool) -> None:
        if "sendInitialEvents" not in query:
            return
        if self.watch_list == "forbidden":
            raise errors.ApiError(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {_NO_WATCH_LIST}')
        if initial and query.get("resourceVersionMatch") != "NotOlderThan":
            words = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise errors.ApiError(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {words}')

    async def _run(self, response: web.StreamResponse, watch: Watch, query: Mapping[str, str], initial: bool) -> None:
        bookmarks = query.get("allowWatchBookmarks") in {"true", "1"}
        asked = query.get("resourceVersion") or ""
        if initial and self.watch_list == "no progress":
            await response.write(_error(errors.ApiError(500, "InternalError", _NO_PROGRESS).status()))
            return
        if asked not in {"", "0"} and not initial:
            watch.position = int(asked)
            if watch.position < self._store.compacted:
                words = f"too old resource version: {asked} ({self._store.compacted})"
                await response.write(_error(errors.ApiError(410, "Expired", words).status()))
                return
        else:
            await self._send_existing(response, watch, initial and bookmarks)
        loop = asyncio.get_running_loop()
        ends = loop.time() + float(query.get("timeoutSeconds") or 1800)
        marks = loop.time() + self.bookmark_every
        watch.woken.set()
        while loop.time() < ends:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(ends, marks) if bookmarks else ends):
                    await watch.woken.wait()
            await self.thawed.wait()
            if watch.woken.is_set():
                if not await self._send_changes(response, watch):
                    return
            elif bookmarks:
                await response.write(watch.bookmark(self._store.revision))
                marks = loop.time() + self.bookmark_every

    async def _send_existing(self, response: web.StreamResponse, watch: Watch, with_bookmark: bool) -> None:
        revision = watch.position = self._store.revision
        lines: list[bytes] = []
        for stored in self._store.all(watch.resource.key, watch.namespace):
            if watch.selects is None or watch.selects(stored.obj):
                lines.append(watch.event("ADDED", stored))
            if len(lines) >= 200:
                await response.write(b"".join(lines))
                lines.clear()
        if with_bookmark:
            lines.append(watch.bookmark(revision, _INITIAL_EVENTS_END))
        await response.write(b"".join(lines))

    async def _send_changes(self, response: web.StreamResponse, watch: Watch) -> bool:
        """Whether the watch goes on after this."""
        if isinstance(watch.ending, WatchCutError):
            raise watch.ending
        if watch.position < self._store.compacted and watch.position:
            # Too slow: the log has gone on without it. The real server ends such a watch without a word.
            return False
        watch.woken.clear()
        changes = self._store.since(watch.resource.key, watch.position)
        watch.position = self._store.revision
        for start in range(0, len(changes), 500):
            lines = (watch.line(change) for change in changes[start : start + 500])
            if block := b"".join(line for line in lines if line):
                await response.write(block)
        if watch.ending is not None:
            await response.write(_error(watch.ending))
        return watch.ending is None

    def _wake(self, resource: str, change: Change) -> None:
        for watch in self._open:
            if watch.resource.key == resource:
                if not watch.woken.is_set():
                    # Nothing was pending, so it knows everything before this change, even what isn't kept any more.
                    watch.position = max(watch.position, change.revision - 1)
                watch.woken.set()


def _error(status: Object) -> bytes:
    return encode({"type": "ERROR", "object": status}) + b"\n"
