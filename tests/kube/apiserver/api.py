"""The verbs that write: create, update, patch, apply and delete, on objects and their status and scale.

Takes objects and answers with objects; HTTP is elsewhere. Order as in the real server: admission, defaults, ownership, schema, store.
"""

from __future__ import annotations

import msgspec

from tests.kube.apiserver import admission, apply, defaults, errors, patches, validation
from tests.kube.apiserver.objects import Object, copy, dig, meta, name_of, name_suffix, new_uid, now
from tests.kube.apiserver.resources import Catalogue, Resource
from tests.kube.apiserver.store import Store

_DEFINITIONS = "customresourcedefinitions"
_WITHOUT_GENERATION = {"namespaces", "nodes", "services"}
_KEPT = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "name",
    "namespace",
)


class Place(msgspec.Struct, frozen=True):
    """What a request is about."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class How(msgspec.Struct, frozen=True):
    """How a write is meant."""

    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    strict: bool = False
    """Whether fields that the schema doesn't know are refused rather than dropped."""


class Delete(msgspec.Struct, frozen=True):
    """How a deletion is meant."""

    propagation: str = "Background"
    grace: int | None = None
    uid: str = ""
    revision: str = ""
    dry_run: bool = False


class Api:
    """One cluster's objects under the rules of Kubernetes."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self.store = store
        self.catalogue = catalogue
        self.graceful = False
        """Whether a kubelet is there to stop a deleted pod within its grace period; without one it is gone at once."""
        self._addresses = defaults.Addresses()

    def get(self, place: Place) -> Object:
        """One object.

        Raises:
            ApiError: 404.
        """
        found = self.store.get(place.resource.key, place.namespace, place.name)
        if found is None:
            raise errors.not_found(place.resource.plural, place.resource.group, place.name)
        return found.obj

    def create(self, place: Place, obj: Object, how: How) -> Object:
        """A new object.

        Raises:
            ApiError: 409 when it exists, 4xx when it may not.
        """
        obj = self._identified(place, copy(obj))
        if meta(obj).get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        return self._create(place, obj, how, how.manager)

    def replace(self, place: Place, obj: Object, how: How) -> Object:
        """An update (PUT).

        Raises:
            ApiError: 409 when the object isn't any more what the writer read.
        """
        live = self.get(place)
        new = self._identified(place, copy(obj))
        return self._update(place, live, new, how, how.manager)

    def patch(self, place: Place, media_type: str, patch: Object, how: How) -> tuple[Object, bool]:
        """One of the four patches. Returns the object, and whether an apply created it.

        Raises:
            ApiError: 404, 409, 415, 422.
        """
        resource = place.resource
        stored = self.store.get(resource.key, place.namespace, place.name)
        if media_type == patches.APPLY:
            return self._apply(place, stored.obj if stored else None, self._identified(place, patch), how)
        live = self.get(place)
        match media_type:
            case patches.MERGE:
                new = patches.merge(live, patch)
            case patches.JSON:
                new = patches.json_patch(live, patch)
            case patches.STRATEGIC if not resource.is_custom:
                new = patches.strategic(resource, live, patch)
            case _:
                accepted = (patches.JSON, patches.MERGE, patches.APPLY)
                raise errors.unsupported_media_type(media_type, accepted)
        return self._update(place, live, self._identified(place, copy(new)), how, how.manager), False

    def scale(self, place: Place) -> Object:
        """The Scale of a workload."""
        live = self.get(place)
        labels = dig(live, "spec", "selector", "matchLabels") or {}
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {
                k: live["metadata"][k] for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            },
            "spec": {"replicas": dig(live, "spec", "replicas") or 0},
            "status": {
                "replicas": dig(live, "status", "replicas") or 0,
                "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
            },
        }

    def rescale(self, place: Place, scale: Object, how: How) -> Object:
        """Write a Scale."""
        live = self.get(place)
        new = copy(live)
        new["spec"]["replicas"] = dig(scale, "spec", "replicas") or 0
        if revision := dig(scale, "metadata", "resourceVersion"):
            new["metadata"]["resourceVersion"] = revision
        self._update(msgspec.structs.replace(place, subresource=""), live, new, how, how.manager)
        return self.scale(place)

    def delete(self, place: Place, how: Delete) -> Object:
        """Delete, or mark as being deleted while finalizers or a kubelet hold it. Returns what the client gets.

        Raises:
            ApiError: 404, or 409 when a precondition doesn't hold.
        """
        live = self.get(place)
        for what, wanted in (("uid", how.uid), ("resourceVersion", how.revision)):
            have = live["metadata"].get(what)
            if wanted and have != wanted:
                why = f"Precondition failed: {what.replace('uid', 'UID')} in precondition: {wanted}, in object meta: {have}"
                raise errors.conflict(place.resource.plural, place.resource.group, place.name, why)
        marked = self._marked(place, live, how)
        if how.dry_run:
            return _deleted(place, live)
        if _is_held(marked):
            return marked if marked == live else self.store.put(place.resource.key, marked).obj
        self._remove(place)
        return _deleted(place, live)

    def write(self, resource: Resource, obj: Object) -> Object:
        """A controller's own write, past admission and ownership; no event when nothing changed."""
        before = self.store.get(resource.key, str(obj["metadata"].get("namespace") or ""), name_of(obj))
        if before is not None and before.obj == obj:
            return obj
        if obj["metadata"].get("deletionTimestamp") and not _is_held(obj):
            self._remove(Place(resource, str(obj["metadata"].get("namespace") or ""), name_of(obj)))
            return obj
        return self.store.put(resource.key, obj).obj

    def _apply(self, place: Place, live: Object | None, config: Object, how: How) -> tuple[Object, bool]:
        if not how.manager:
            raise errors.bad_request(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
            )
        if live is None and place.subresource:
            raise errors.not_found(place.resource.plural, place.resource.group, place.name)
        if live is None and meta(config).get("resourceVersion"):
            raise errors.conflict(
                place.resource.plural,
                place.resource.group,
                place.name,
                "StorageError: invalid object, it does not exist",
            )
        merged = apply.apply(place.resource, live, config, how.manager, how.force, place.subresource)
        if live is None:
            return self._create(place, merged, how, None), True
        merged["metadata"].setdefault("resourceVersion", live["metadata"]["resourceVersion"])
        return self._update(place, live, merged, how, None), False

    def _create(self, place: Place, obj: Object, how: How, manager: str | None) -> Object:
        resource, metadata = place.resource, meta(obj)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + name_suffix()
        name = name_of(obj)
        if name and self.store.get(resource.key, place.namespace, name) is not None:
            raise errors.already_exists(resource.plural, resource.group, name)
        metadata |= {"uid": new_uid(), "creationTimestamp": now()}
        for gone in ("generation", "deletionTimestamp", "deletionGracePeriodSeconds"):
            metadata.pop(gone, None)
        if resource.plural not in _WITHOUT_GENERATION and "spec" in obj:
            metadata["generation"] = 1
        if "status" in resource.subresources:
            obj.pop("status", None)
        self._prepare(resource, obj, None, how)
        admission.admit_create(self.store, resource, place.namespace, obj)
        if manager is not None:
            apply.track_update(resource, None, obj, manager)
        validation.check(resource, obj, None)
        if how.dry_run:
            return obj
        stored = self.store.put(resource.key, obj).obj
        if resource.plural == _DEFINITIONS:
            self.catalogue.define(stored)
        if resource.plural == "namespaces":
            self._furnish(name)
        return stored

    def _update(self, place: Place, live: Object, new: Object, how: How, manager: str | None) -> Object:
        resource = place.resource
        metadata, was = meta(new), live["metadata"]
        if metadata.get("uid", was["uid"]) != was["uid"]:
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {was['uid']}"
            raise errors.conflict(resource.plural, resource.group, place.name, why)
        if metadata.get("resourceVersion", was["resourceVersion"]) != was["resourceVersion"]:
            raise errors.conflict(resource.plural, resource.group, place.name)
        metadata.pop("selfLink", None)
        metadata["resourceVersion"] = was["resourceVersion"]
        for key in _KEPT:
            metadata.pop(key, None)
            if key in was:
                metadata[key] = was[key]
        new = self._within_subresource(place, live, new)
        self._prepare(resource, new, live, how)
        if manager is not None:
            apply.track_update(resource, live, new, manager, place.subresource)
        validation.check(resource, new, live)
        if "generation" in was and _substance(new) != _substance(live):
            new["metadata"]["generation"] = was["generation"] + 1
        if new == live or how.dry_run:
            return new
        if new["metadata"].get("deletionTimestamp") and not _is_held(new):
            # What held it is gone: it ends with this write, and watchers see only the end.
            self._remove(place)
            return new
        stored = self.store.put(resource.key, new).obj
        if resource.plural == _DEFINITIONS:
            self.catalogue.define(stored)
        return stored

    def _within_subresource(self, place: Place, live: Object, new: Object) -> Object:
        """A write to an object leaves its status alone, a write to its status everything else."""
        if "status" not in place.resource.subresources:
            return new
        if place.subresource == "status":
            managed = {k: v for k, v in new["metadata"].items() if k == "managedFields"}
            metadata = {k: v for k, v in live["metadata"].items() if k != "managedFields"} | managed
            kept = {k: v for k, v in live.items() if k != "status"} | {"metadata": metadata}
            return copy(kept | ({"status": new["status"]} if "status" in new else {}))
        new.pop("status", None)
        return new | ({"status": live["status"]} if "status" in live else {})

    def _prepare(self, resource: Resource, obj: Object, live: Object | None, how: How) -> None:
        if resource.is_custom:
            unknown = validation.prune(resource.schema or {}, obj)
            validation.fill_in(resource.schema or {}, obj)
            if unknown and how.strict:
                words = ", ".join(f'unknown field "{field}"' for field in unknown)
                raise errors.bad_request(
                    f'{resource.kind} in version "{resource.version}" cannot be handled: strict decoding error: {words}'
                )
        defaults.fill(resource, obj, live, self._addresses)

    def _identified(self, place: Place, obj: Object) -> Object:
        """The object with its kind and place; refused when it names others."""
        resource = place.resource
        given = (obj.get("apiVersion") or resource.api_version, obj.get("kind") or resource.kind)
        if given != (resource.api_version, resource.kind):
            words = f"the API version in the data ({given[0]}, {given[1]}) does not match the expected API version"
            raise errors.bad_request(f"{words} ({resource.api_version}, {resource.kind})")
        metadata = dict(obj.get("metadata") or {})
        if metadata.get("namespace", place.namespace) != place.namespace:
            words = "the namespace of the provided object does not match the namespace sent on the request"
            raise errors.bad_request(words)
        if place.name and metadata.get("name", place.name) != place.name:
            words = f"the name of the object ({metadata['name']}) does not match the name on the URL ({place.name})"
            raise errors.bad_request(words)
        if place.name:
            metadata["name"] = place.name
        if place.namespace:
            metadata["namespace"] = place.namespace
        metadata = {key: value for key, value in metadata.items() if value is not None}
        rest = {key: value for key, value in obj.items() if key not in {"apiVersion", "kind", "metadata"}}
        return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **rest}

    def _marked(self, place: Place, live: Object, how: Delete) -> Object:
        marked = copy(live)
        metadata = marked["metadata"]
        finalizers = metadata.get("finalizers") or []
        wanted = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(how.propagation)
        if wanted and wanted not in finalizers:
            finalizers = [*finalizers, wanted]
        grace = 0
        if place.resource.plural == "pods" and self.graceful and dig(live, "spec", "nodeName"):
            grace = how.grace if how.grace is not None else dig(live, "spec", "terminationGracePeriodSeconds") or 0
        metadata.setdefault("deletionTimestamp", now())
        metadata["deletionGracePeriodSeconds"] = min(grace, metadata.get("deletionGracePeriodSeconds", grace))
        if finalizers:
            metadata["finalizers"] = finalizers
        if place.resource.plural == "namespaces":
            marked["status"] = {**(marked.get("status") or {}), "phase": "Terminating"}
        return marked

    def _remove(self, place: Place) -> None:
        last = self.store.remove(place.resource.key, place.namespace, place.name)
        if place.resource.plural == _DEFINITIONS:
            for served in [r for r in self.catalogue.all() if f"{r.plural}.{r.group}" == name_of(last.obj)]:
                for stored in self.store.all(served.key):
                    self.store.remove(served.key, *stored.key)
            self.catalogue.undefine(name_of(last.obj))

    def _furnish(self, namespace: str) -> None:
        """What every namespace has from the start."""
        for plural, obj in (
            ("serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": "default"}}),
            ("configmaps", {"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}}),
        ):
            place = Place(self.catalogue.named(plural), namespace)
            self.create(place, {"apiVersion": "v1", **obj}, How("kube-controller-manager"))


def _substance(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in {"metadata", "status"}}


def _is_held(obj: Object) -> bool:
    """Whether a deleted object has to stay for now."""
    if obj["metadata"].get("finalizers") or obj["metadata"].get("deletionGracePeriodSeconds"):
        return True
    return obj["kind"] == "Namespace" and bool(dig(obj, "spec", "finalizers"))


def _deleted(place: Place, obj: Object) -> Object:
    details = {"name": place.name, "kind": place.resource.plural, "uid": obj["metadata"]["uid"]}
    details |= {"group": place.resource.group} if place.resource.group else {}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
