"""Whether the pods of a tenant are as set-up would make them now. Pure.

Pods are watched anyway; Services, ConfigMaps, quotas and policies aren't: what was changed in those alone only `setup --plan` tells.
A pod that set-up didn't make is nobody's business here.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from anyconsole.drivers.kube.objects import SET_LABEL, tenant_objects
from anyconsole.drivers.kube.render import RenderError
from anyconsole.drivers.kube.values import WORD, Json, part, parts, text
from anyconsole.drivers.ssh.fault import plain
from anyconsole.model.inventory import ClusterSpec, Inventory, Tenant

__all__ = ["Template", "drift_of", "templates_of"]

_CONFIGURATION: Final = "anyconsole.io/configuration"
_KIND: Final = "app.kubernetes.io/name"
_LONGEST: Final = 100
_SAID: Final = ("image", "command", "args")
"""What of a container is compared, besides its environment. Resources aren't: others may size a pod."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A pod as set-up renders it: its set, what its configuration hashes to, and its containers."""

    set_id: str
    configuration: str
    containers: dict[str, dict[str, Any]]


def templates_of(inventory: Inventory, cluster: ClusterSpec, tenant: Tenant) -> dict[str, Template]:
    """The pods that a tenant is to have in a cluster, by the kind of their name server; none if set-up couldn't be planned."""
    try:
        objects = tenant_objects(inventory, cluster, tenant)
    except RenderError:
        return {}
    found = {}
    for obj in objects:
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
    if configuration != template.configuration:
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


def _words(value: object) -> str:
    told = " ".join(map(str, value)) if isinstance(value, list) else "not set" if value is None else str(value)
    return plain(told, _LONGEST)
