"""What a Node object says of a virtual node: as a fact, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from anyconsole.drivers.kube.values import LINE, WORD, Json, condition, labels, part, parts, text
from anyconsole.model.pods import ClusterNode

__all__ = ["EXCLUDE_LABEL", "cluster_node_of"]

EXCLUDE_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
"""Keeps the addresses of load balancers from being announced by a node that has it."""

_PRESSURES: Final = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
_READY: Final = {"True": True, "False": False}


def cluster_node_of(obj: object, node: str, cluster: str, at: float) -> ClusterNode:
    """The fact that a Node object of `cluster` is about `node` of the profile. Never raises, whatever the object holds."""
    spec, status = part(obj, "spec"), part(obj, "status")
    return ClusterNode(
        node=node,
        section="host",
        at=at,
        cluster=cluster,
        is_ready=_READY.get(text(condition(status, "Ready"), "status", WORD)),
        is_cordoned=spec.get("unschedulable") is True,
        # Calico goes by the value, and it must be exactly this; the label alone takes nothing out.
        excluded=part(part(obj, "metadata"), "labels").get(EXCLUDE_LABEL) == "true",
        troubles=tuple(_troubles(status)),
        version=text(part(status, "nodeInfo"), "kubeletVersion", WORD),
        addresses=tuple(
            text(a, "address")
            for a in parts(status, "addresses")
            if a.get("type") == "InternalIP" and text(a, "address")
        ),
        labels=labels(obj),
        taints=tuple(_taint(taint) for taint in parts(spec, "taints")),
    )


def _troubles(status: Json) -> Iterator[str]:
    ready = condition(status, "Ready")
    if ready.get("status") != "True":
        # The other conditions of a node that stopped telling are unknown as well: said once, here.
        word = "NotReady" if ready.get("status") == "False" else "Ready unknown"
        yield _words(word, text(ready, "reason", WORD), text(ready, "message", LINE))
    for kind in _PRESSURES:
        found = condition(status, kind)
        if found.get("status") == "True":
            yield _words(kind, text(found, "message", LINE) or text(found, "reason", WORD))


def _words(*given: str) -> str:
    return ": ".join(word for word in given if word)


def _taint(taint: Json) -> str:
    value = text(taint, "value")
    return f"{text(taint, 'key')}{'=' if value else ''}{value}:{text(taint, 'effect', WORD)}"
