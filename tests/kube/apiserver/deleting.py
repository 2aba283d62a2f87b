"""What follows a deletion: dependents go after their owners, a namespace takes everything in it along."""

from __future__ import annotations

import asyncio

from tests.kube.apiserver import errors
from tests.kube.apiserver.api import Api, Delete, Place
from tests.kube.apiserver.objects import copy, dig, items, now
from tests.kube.apiserver.resources import Resource
from tests.kube.apiserver.store import Change, Stored

_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"
Key = tuple[str, str, str]
"""Resource key, namespace, name."""


class Collector:
    """The garbage collector and the namespace controller: always there, as in any cluster."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._alive: dict[str, Key] = {}
        self._gone: set[str] = set()
        self._ending: set[Key] = set()
        self._ownerless: set[Key] = set()
        self._scheduled = False
        api.store.listen(self._note)

    def _note(self, resource: str, change: Change) -> None:
        obj = change.stored.obj
        metadata = obj["metadata"]
        uid, key = metadata["uid"], (resource, *change.stored.key)
        if change.kind == "DELETED":
            self._alive.pop(uid, None)
            self._gone.add(uid)
            owners = (self._alive.get(reference["uid"]) for reference in metadata.get("ownerReferences") or ())
            self._ending |= {owner for owner in owners if owner}
            self._ending.add(("namespaces", "", key[1]))
        else:
            self._alive[uid] = key
            if metadata.get("deletionTimestamp"):
                self._ending.add(key)
            elif change.kind == "ADDED" and metadata.get("ownerReferences"):
                self._ownerless.add(key)
            else:
                return
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        gone, self._gone = self._gone, set()
        ending, self._ending = self._ending, set()
        ownerless, self._ownerless = self._ownerless, set()
        for uid in gone:
            for resource, stored in self._api.store.dependents(uid):
                self._delete_unless_owned(resource, stored)
        for key in ownerless:
            if orphan := self._api.store.get(*key):
                self._delete_unless_owned(key[0], orphan)
        for key in ending:
            found = self._api.store.get(*key)
            if found is not None and found.obj["metadata"].get("deletionTimestamp"):
                self._finish(self._resource(key[0]), found)

    def _resource(self, key: str) -> Resource:
        return self._api.catalogue.named(key)

    def _delete_unless_owned(self, resource: str, stored: Stored) -> None:
        owners = items(stored.obj, "metadata", "ownerReferences")
        if any(reference["uid"] in self._alive for reference in owners):
            return
        self._delete(Place(self._resource(resource), *stored.key), Delete())

    def _delete(self, place: Place, how: Delete) -> None:
        try:
            self._api.delete(place, how)
        except errors.ApiError as error:
            if error.code != 404:
                raise

    def _finish(self, resource: Resource, stored: Stored) -> None:
        finalizers = items(stored.obj, "metadata", "finalizers")
        if resource.plural == "namespaces":
            self._end_namespace(resource, stored)
        elif _ORPHAN in finalizers:
            uid = stored.obj["metadata"]["uid"]
            for key, dependent in self._api.store.dependents(uid):
                orphan = copy(dependent.obj)
                owners = [r for r in orphan["metadata"].pop("ownerReferences") if r["uid"] != uid]
                orphan["metadata"] |= {"ownerReferences": owners} if owners else {}
                self._api.write(self._resource(key), orphan)
            self._release(resource, stored, _ORPHAN)
        elif _FOREGROUND in finalizers:
            blocking = self._api.store.dependents(stored.obj["metadata"]["uid"])
            for key, dependent in blocking:
                if not dependent.obj["metadata"].get("deletionTimestamp"):
                    self._delete(Place(self._resource(key), *dependent.key), Delete("Foreground"))
            if not self._api.store.dependents(stored.obj["metadata"]["uid"]):
                self._release(resource, stored, _FOREGROUND)

    def _release(self, resource: Resource, stored: Stored, finalizer: str) -> None:
        freed = copy(stored.obj)
        freed["metadata"]["finalizers"].remove(finalizer)
        if not freed["metadata"]["finalizers"]:
            del freed["metadata"]["finalizers"]
        self._api.write(resource, freed)

    def _end_namespace(self, resource: Resource, stored: Stored) -> None:
        name = stored.key[1]
        for key in self._api.store.resources():
            for content in self._api.store.all(key, name):
                if not content.obj["metadata"].get("deletionTimestamp"):
                    self._delete(Place(self._resource(key), *content.key), Delete())
        left = [(key, content) for key in self._api.store.resources() for content in self._api.store.all(key, name)]
        ended = copy(stored.obj)
        if not left:
            ended["spec"]["finalizers"] = []
        else:
            held = sorted({f for _, content in left for f in items(content.obj, "metadata", "finalizers")})
            ended["status"]["conditions"] = _remaining(
                sorted(key for key, _ in left), held, dig(stored.obj, "status", "conditions")
            )
        self._api.write(resource, ended)


def _remaining(resources: list[str], finalizers: list[str], before: object) -> list[dict[str, str]]:
    said = [
        ("NamespaceContentRemaining", "SomeResourcesRemain", "Some resources are remaining: " + ", ".join(resources))
    ]
    if finalizers:
        words = "Some content in the namespace has finalizers remaining: " + ", ".join(finalizers)
        said.append(("NamespaceFinalizersRemaining", "SomeFinalizersRemain", words))
    conditions = [{"type": kind, "status": "True", "reason": reason, "message": words} for kind, reason, words in said]
    old = (
        [{k: v for k, v in c.items() if k != "lastTransitionTime"} for c in before] if isinstance(before, list) else []
    )
    # The same words again are no change, or writing them would call the controller for ever.
    return (
        before
        if isinstance(before, list) and old == conditions
        else [c | {"lastTransitionTime": now()} for c in conditions]
    )
