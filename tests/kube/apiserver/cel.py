"""The rules in Calico's schemas (x-kubernetes-validations, in CEL), each in Python: an API server refuses what breaks one.

A rule that isn't here is an error, so that schemas of a newer version bring none along unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.kube.apiserver.objects import Object, Value

__all__ = ["RULES", "broken"]


def _has(obj: Any, key: str) -> bool:  # noqa: ANN401 - any JSON
    """`has(self.key) && size(self.key) > 0`."""
    return bool(obj.get(key))


def _is_never(obj: Any, key: str) -> bool:  # noqa: ANN401
    return obj.get(key, "") in {"", "Never"}


def _uses(obj: Any, *uses: str) -> bool:  # noqa: ANN401
    return bool({*uses} & {*obj.get("allowedUses", ())})


RULES: dict[str, Callable[[Any], bool]] = {
    # BGPConfiguration
    "!has(self.nodeMeshPassword) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled == true": lambda s: (
        "nodeMeshPassword" not in s or s.get("nodeToNodeMeshEnabled", True)
    ),
    "!has(self.nodeMeshMaxRestartTime) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled == true": lambda s: (
        "nodeMeshMaxRestartTime" not in s or s.get("nodeToNodeMeshEnabled", True)
    ),
    # BGPFilter
    "(has(self.cidr) && size(self.cidr) > 0) == (has(self.matchOperator) && size(self.matchOperator) > 0)": lambda s: (
        _has(s, "cidr") == _has(s, "matchOperator")
    ),
    "!has(self.prefixLength) || (has(self.cidr) && size(self.cidr) > 0)": lambda s: (
        "prefixLength" not in s or _has(s, "cidr")
    ),
    "!has(self.operations) || size(self.operations) == 0 || self.action == 'Accept'": lambda s: (
        not _has(s, "operations") or s.get("action") == "Accept"
    ),
    # BGPPeer
    "(!has(self.node) || size(self.node) == 0) || (!has(self.nodeSelector) || size(self.nodeSelector) == 0)": lambda s: (
        not (_has(s, "node") and _has(s, "nodeSelector"))
    ),
    "(!has(self.peerIP) || size(self.peerIP) == 0) || (!has(self.peerSelector) || size(self.peerSelector) == 0)": lambda s: (
        not (_has(s, "peerIP") and _has(s, "peerSelector"))
    ),
    "(!has(self.peerSelector) || size(self.peerSelector) == 0) || !has(self.asNumber) || self.asNumber == 0": lambda s: (
        not (_has(s, "peerSelector") and s.get("asNumber"))
    ),
    "(!has(self.localWorkloadSelector) || size(self.localWorkloadSelector) == 0) || (!has(self.peerIP) || size(self.peerIP) == 0)": (
        lambda s: not (_has(s, "localWorkloadSelector") and _has(s, "peerIP"))
    ),
    (
        "(!has(self.localWorkloadSelector) || size(self.localWorkloadSelector) == 0)"
        " || (!has(self.peerSelector) || size(self.peerSelector) == 0)"
    ): lambda s: not (_has(s, "localWorkloadSelector") and _has(s, "peerSelector")),
    (
        "(!has(self.localWorkloadSelector) || size(self.localWorkloadSelector) == 0)"
        " || (has(self.asNumber) && self.asNumber != 0)"
    ): lambda s: not _has(s, "localWorkloadSelector") or bool(s.get("asNumber")),
    # IPPool
    (
        "!has(self.ipipMode) || !has(self.vxlanMode) || self.ipipMode == 'Never' || self.vxlanMode == 'Never'"
        " || size(self.ipipMode) == 0 || size(self.vxlanMode) == 0"
    ): lambda s: _is_never(s, "ipipMode") or _is_never(s, "vxlanMode"),
    (
        "!has(self.allowedUses) || !self.allowedUses.exists(u, u == 'LoadBalancer')"
        " || (!has(self.ipipMode) || size(self.ipipMode) == 0 || self.ipipMode == 'Never')"
        " && (!has(self.vxlanMode) || size(self.vxlanMode) == 0 || self.vxlanMode == 'Never')"
    ): lambda s: not _uses(s, "LoadBalancer") or (_is_never(s, "ipipMode") and _is_never(s, "vxlanMode")),
    (
        "!has(self.allowedUses) || !self.allowedUses.exists(u, u == 'LoadBalancer')"
        " || !self.allowedUses.exists(u, u == 'Workload' || u == 'Tunnel')"
    ): lambda s: not (_uses(s, "LoadBalancer") and _uses(s, "Workload", "Tunnel")),
    "!self.cidr.contains(':') || !has(self.ipipMode) || self.ipipMode == 'Never' || size(self.ipipMode) == 0": lambda s: (
        ":" not in s["cidr"] or _is_never(s, "ipipMode")
    ),
    # What may not change is for objects that are there already: nothing here makes or changes an IPPool.
    "self == oldSelf": lambda _: True,
}


def broken(schema: Object, value: Value) -> Iterator[str]:
    """The messages of the rules of a schema that a value breaks."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if not RULES[" ".join(rule["rule"].split())](value):
            yield str(rule.get("message", rule["rule"]))
