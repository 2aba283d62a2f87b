"""Calico's custom resources, in either of the two groups by which a cluster serves them: by Calico's own published schemas.

Those that this project neither reads nor writes are served too, and may hold anything.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import yaml

from tests.kube.apiserver import validation
from tests.kube.apiserver.objects import Object

__all__ = ["API_GROUP", "CRD_GROUP", "PUBLISHED", "definitions", "misfits", "published"]

CRD_GROUP = ("crd.projectcalico.org", "v1")
"""The group of the custom resources under Calico's own API server, and of clusters without one."""
API_GROUP = ("projectcalico.org", "v3")
"""The group of Calico's API server, and of native custom resources in newer versions."""
PUBLISHED = ("bgpconfigurations", "bgpfilters", "bgppeers", "caliconodestatuses", "clusterinformations", "ippools")
"""Those whose schemas are in tests/samples."""

_SAMPLES = Path(__file__).parents[2] / "samples"
_OTHERS = (
    ("felixconfigurations", "FelixConfiguration", "Cluster"),
    ("globalnetworkpolicies", "GlobalNetworkPolicy", "Cluster"),
    ("networkpolicies", "NetworkPolicy", "Namespaced"),
)


def definitions(group: str, version: str) -> list[Object]:
    """The CustomResourceDefinitions of one of the two groups."""
    return [published(group, plural) for plural in PUBLISHED] + [_other(group, version, *kind) for kind in _OTHERS]


def published(group: str, plural: str, calico: str = "3.32.1") -> Object:
    """A CustomResourceDefinition as a version of Calico publishes it."""
    return msgspec.json.decode(_read(group, plural, calico), type=Object)


def misfits(obj: Object, calico: str = "3.32.1") -> list[str]:
    """What of one of Calico's objects isn't as a version of Calico publishes it: fields, types, values, and rules."""
    group = obj["apiVersion"].partition("/")[0]
    plural = next(plural for plural in PUBLISHED if plural == f"{obj['kind'].lower()}s")
    (version,) = published(group, plural, calico)["spec"]["versions"]
    wrong = validation.violations(version["schema"]["openAPIV3Schema"], obj)
    return sorted(f"{field}: {words}" for field, words in wrong)


@cache
def _read(group: str, plural: str, calico: str) -> bytes:
    path = _SAMPLES / f"calico-{calico}" / f"{group}_{plural}.yaml"
    return msgspec.json.encode(yaml.load(path.read_text(), Loader=yaml.CSafeLoader))


def _other(group: str, version: str, plural: str, kind: str, scope: str) -> Object:
    anything: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [served],
        },
    }
