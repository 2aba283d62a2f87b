"""Whether what is there of a tenant is as set-up would make it now: its pods, and the objects that it made. Pure.

Pods are watched anyway, objects are read by `set_reading`. What set-up didn't make is nobody's business here.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from anyconsole.drivers.kube.diff import Departure, departures
from anyconsole.drivers.kube.objects import HASH, SET_LABEL, key_secret, named, tenant_objects
from anyconsole.drivers.kube.render import Object, RenderError
from anyconsole.drivers.kube.values import WORD, Json, part, parts, text
from anyconsole.drivers.ssh.fault import plain
from anyconsole.model.inventory import ClusterSpec, Inventory, Tenant

__all__ = ["Template", "difference_of", "drift_of", "objects_of", "templates_of"]

_CONFIGURATION: Final = "anyconsole.io/configuration"
_KIND: Final = "app.kubernetes.io/name"
_LONGEST: Final = 100
_SAID: Final = ("image", "command", "args")
"""What of a container is compared, besides its environment. Resources aren't: others may size a pod."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A pod as set-up renders it: its set, what its configuration hashes to ("" if that isn't known), and its containers."""

    set_id: str
    configuration: str
    containers: dict[str, dict[str, Any]]


def objects_of(inventory: Inventory, cluster: ClusterSpec, tenant: Tenant) -> tuple[Object, ...]:
    """The objects that a tenant is to have in a cluster, the namespace first; none if set-up couldn't be planned.

    A key is read from its source for set-up only: its Secret isn't among them, and the hashes that it is part of are left out.
    """
    try:
        objects = tenant_objects(inventory, cluster, tenant)
    except RenderError:
        return ()
    secret = key_secret(inventory, cluster, tenant)
    if secret is None or not secret.source:
        return objects
    return tuple(_without_hashes(obj) if obj["kind"] == "Deployment" else obj for obj in objects)


def difference_of(obj: Object, live: Object | None) -> str:
    """How an object of a set differs in a cluster, in words; "" if it doesn't. Never raises, whatever `live` holds."""
    kind, namespace, name = named(obj)
    if live is None:
        return f"no {kind} {name} of its set in {namespace}"
    fields = departures(obj, live)
    more = f" (+{len(fields) - 1} more)" if len(fields) > 1 else ""
    where = f"{namespace}/{name}" if namespace else name
    return f"{kind} {where}: {_departure(fields[0])}{more}" if fields else ""


def templates_of(inventory: Inventory, cluster: ClusterSpec, tenant: Tenant) -> dict[str, Template]:
    """The pods that a tenant is to have in a cluster, by the kind of their name server; none if set-up couldn't be planned."""
    found = {}
    for obj in objects_of(inventory, cluster, tenant):
        if obj["kind"] == "Deployment":
            pod = obj["spec"]["template"]
            labels = part(part(pod, "metadata"), "labels")
            found[text(labels, _KIND)] = Template(
                set_id=text(labels, SET_LABEL),
                configuration=text(part(part(pod, "metadata"), "annotations"), _CONFIGURATION),
                containers=_containers(pod["spec"]),
            )
    return found


def drift_of(pod: object, templates: dict[str, Template]) -> str:
    """How a Pod object differs from its template, in words; "" if it doesn't, or set-up didn't make it. Never raises."""
    meta = part(pod, "metadata")
    labels = part(meta, "labels")
    template = templates.get(text(labels, _KIND))
    if template is None or text(labels, SET_LABEL) != template.set_id:
        return ""
    found = _containers(part(pod, "spec"))
    for name, wanted in template.containers.items():
        if name not in found:
            return f"it has no container {name}"
        for field, value in wanted.items():
            if found[name].get(field) != value:
                return f"{field} of {name} is {_words(found[name].get(field))}, not {_words(value)}"
    configuration = text(part(meta, "annotations"), _CONFIGURATION, WORD)
    if template.configuration and configuration != template.configuration:
        return f"its configuration is {configuration or 'not named'}, not {template.configuration}"
    return ""


def _containers(spec: Json) -> dict[str, dict[str, Any]]:
    return {
        text(container, "name"): {
            **{field: container[field] for field in _SAID if field in container},
            **{f"env {text(env, 'name')}": env["value"] for env in parts(container, "env") if "value" in env},
        }
        for kind in ("initContainers", "containers")
        for container in parts(spec, kind)
    }


def _without_hashes(deployment: Object) -> Object:
    template = deployment["spec"]["template"]
    bare = {**deployment["spec"], "template": {**template, "metadata": _less(template["metadata"], _CONFIGURATION)}}
    return {**deployment, "metadata": _less(deployment["metadata"], HASH), "spec": bare}


def _less(metadata: Json, annotation: str) -> Json:
    left = {key: value for key, value in metadata["annotations"].items() if key != annotation}
    # Without any there is nothing that must be as it was rendered.
    return {**metadata, "annotations": left} if left else {k: v for k, v in metadata.items() if k != "annotations"}


def _departure(field: Departure) -> str:
    name, was, wanted = field
    if all(map(_is_short, (was, wanted))):
        return f"{name} is {_words(was)}, not {_words(wanted)}"
    return f"{name} is not set" if was is None else f"{name} differs from what set-up makes"


def _is_short(value: object) -> bool:
    """Whether a value is as good as its words."""
    words = value if isinstance(value, list) else [value]
    return (
        all(
            word is None or isinstance(word, bool | int | float) or (isinstance(word, str) and word.isprintable())
            for word in words
        )
        and len(_words(value)) < _LONGEST
    )


def _words(value: object) -> str:
    told = " ".join(map(str, value)) if isinstance(value, list) else "not set" if value is None else str(value)
    return plain(told, _LONGEST)
