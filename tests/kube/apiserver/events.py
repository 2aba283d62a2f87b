"""The events by which controllers tell people what they do."""

from __future__ import annotations

from tests.kube.apiserver import errors
from tests.kube.apiserver.api import Api, How, Place
from tests.kube.apiserver.objects import Object, name_of, name_suffix, namespace_of, now


def emit(api: Api, about: Object, reason: str, message: str, kind: str = "Normal", component: str = "kubelet") -> None:
    """Record an Event about an object. In a namespace that is ending there are none, as in a real one."""
    event = {
        "metadata": {"name": f"{name_of(about)}.{name_suffix(16)}"},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": name_of(about),
            "namespace": namespace_of(about),
            "uid": about["metadata"]["uid"],
        },
        "reason": reason,
        "message": message,
        "type": kind,
        "count": 1,
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "source": {"component": component},
        "reportingComponent": component,
    }
    place = Place(api.catalogue.named("events"), namespace_of(about) or "default")
    try:
        api.create(place, event, How(component))
    except errors.ApiError as error:
        if error.code not in {403, 404}:
            raise
