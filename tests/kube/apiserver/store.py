"""The state of the cluster: objects under one global resourceVersion, and the log of what happened to them.

Like etcd, it knows nothing of kinds or rules. A watch reads the log; what was compacted away is gone (410).
"""

from __future__ import annotations

import bisect
import collections
from collections.abc import Callable

from tests.kube.apiserver.objects import Object, encode, meta, name_of, namespace_of

FIRST_REVISION = 1000
"""Where a fresh cluster's resourceVersions begin: 1 is already too old, as in a cluster that has lived."""


class Stored:
    """One revision of one object, with its JSON made at most once."""

    __slots__ = ("_encoded", "obj", "revision")

    def __init__(self, obj: Object, revision: int) -> None:
        self.obj = obj
        self.revision = revision
        self._encoded: bytes | None = None

    @property
    def encoded(self) -> bytes:
        """The object as JSON."""
        if self._encoded is None:
            self._encoded = encode(self.obj)
        return self._encoded

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (namespace_of(self.obj), name_of(self.obj))


class Change:
    """One entry of the log."""

    __slots__ = ("before", "kind", "revision", "stored")

    def __init__(self, kind: str, stored: Stored, before: Stored | None) -> None:
        self.kind = kind
        self.stored = stored
        self.before = before
        self.revision = stored.revision


class Store:
    """Objects by resource, namespace and name. One thread only."""

    def __init__(self, keep: int = 10_000) -> None:
        self.revision = FIRST_REVISION
        self.compacted = FIRST_REVISION
        """Watches from before this revision are refused."""
        self._keep = keep
        self._objects: dict[str, dict[tuple[str, str], Stored]] = collections.defaultdict(dict)
        self._log: dict[str, list[Change]] = collections.defaultdict(list)
        self._dependents: dict[str, set[tuple[str, str, str]]] = collections.defaultdict(set)
        self._logged = 0
        self._listeners: list[Callable[[str, Change], None]] = []

    def listen(self, listener: Callable[[str, Change], None]) -> None:
        """Call it with (resource key, change) after each change."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[str, Change], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    def get(self, resource: str, namespace: str, name: str) -> Stored | None:
        """The newest revision of one object."""
        return self._objects[resource].get((namespace, name))

    def all(self, resource: str, namespace: str = "") -> list[Stored]:
        """All objects of a resource, or those of one namespace, in etcd's order."""
        found = self._objects[resource]
        keys = sorted(key for key in found if not namespace or key[0] == namespace)
        return [found[key] for key in keys]

    def resources(self) -> list[str]:
        """The resources that have objects."""
        return [resource for resource, found in self._objects.items() if found]

    def dependents(self, uid: str) -> list[tuple[str, Stored]]:
        """The objects that name this uid as an owner, with their resources."""
        found = ((resource, self.get(resource, *key)) for resource, *key in sorted(self._dependents.get(uid, ())))
        return [(resource, stored) for resource, stored in found if stored is not None]

    def put(self, resource: str, obj: Object) -> Stored:
        """Write a new revision. The object must not be touched afterwards."""
        self.revision += 1
        meta(obj)["resourceVersion"] = str(self.revision)
        stored = Stored(obj, self.revision)
        before = self._objects[resource].get(stored.key)
        self._objects[resource][stored.key] = stored
        self._index(resource, before, stored)
        self._append(resource, Change("MODIFIED" if before else "ADDED", stored, before))
        return stored

    def remove(self, resource: str, namespace: str, name: str) -> Stored:
        """Delete for good. Returns the last revision, as the DELETED event carries it."""
        before = self._objects[resource].pop((namespace, name))
        self.revision += 1
        obj = {**before.obj, "metadata": {**before.obj["metadata"], "resourceVersion": str(self.revision)}}
        last = Stored(obj, self.revision)
        self._index(resource, before, None)
        self._append(resource, Change("DELETED", last, before))
        return last

    def since(self, resource: str, revision: int) -> list[Change]:
        """What happened to a resource after a revision."""
        log = self._log[resource]
        return log[bisect.bisect_right(log, revision, key=lambda change: change.revision) :]

    def compact(self) -> int:
        """Forget the whole log. Returns the revision from which watches can start."""
        for log in self._log.values():
            log.clear()
        self._logged = 0
        # Like etcd's compaction, a revision of its own: whoever holds an older one, even the newest before it, must list again.
        self.revision += 1
        self.compacted = self.revision
        return self.compacted

    def _index(self, resource: str, before: Stored | None, after: Stored | None) -> None:
        for stored, add in ((before, False), (after, True)):
            for reference in stored.obj["metadata"].get("ownerReferences", ()) if stored else ():
                entry = (resource, *stored.key) if stored else ("", "", "")
                (self._dependents[reference["uid"]].add if add else self._dependents[reference["uid"]].discard)(entry)

    def _append(self, resource: str, change: Change) -> None:
        self._log[resource].append(change)
        self._logged += 1
        if self._logged > self._keep * 5 // 4:
            self._trim()
        for listener in list(self._listeners):
            listener(resource, change)

    def _trim(self) -> None:
        """Keep the newest entries, whatever they are about."""
        revisions = sorted(change.revision for log in self._log.values() for change in log)
        self.compacted = revisions[-self._keep] - 1
        for resource, log in self._log.items():
            self._log[resource] = log[bisect.bisect_right(log, self.compacted, key=lambda change: change.revision) :]
        self._logged = self._keep
