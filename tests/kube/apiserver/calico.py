"""Calico's custom resources, in either of the two groups by which a cluster serves them.

The schemas say what this project reads and writes, in Calico's words and types; they are not Calico's own files.
"""

from __future__ import annotations

import msgspec

from tests.kube.apiserver.objects import Object

CRD_GROUP = ("crd.projectcalico.org", "v1")
"""The group of the custom resources under Calico's own API server, and of clusters without one."""
API_GROUP = ("projectcalico.org", "v3")
"""The group of Calico's API server, and of native custom resources in newer versions."""

_STRING: Object = {"type": "string"}
_BOOLEAN: Object = {"type": "boolean"}
_NUMBER: Object = {"type": "integer", "format": "int32"}
_ASN: Object = {"type": "integer", "format": "int32", "minimum": 0, "maximum": 4294967295}
_ANYTHING: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _object(required: tuple[str, ...] = (), /, **properties: Object) -> Object:
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


def _list(of: Object) -> Object:
    return {"type": "array", "items": of}


def _one_of(*choices: str) -> Object:
    return {"type": "string", "enum": list(choices)}


_CIDRS = _list(_object(cidr=_STRING))
_SECRET = _object(
    secretKeyRef=_object(("key",), name=_STRING, key=_STRING, optional=_BOOLEAN) | {"x-kubernetes-map-type": "atomic"}
)
_FILTER_RULE = _object(
    ("action",),
    action=_STRING,
    cidr=_STRING,
    interface=_STRING,
    matchOperator=_STRING,
    source=_STRING,
    prefixLength=_object(min=_NUMBER, max=_NUMBER),
    operations=_list(_ANYTHING),
)
_BGP_PEER = _object(
    asNumber=_ASN,
    peerIP=_STRING,
    node=_STRING,
    nodeSelector=_STRING,
    peerSelector=_STRING,
    keepOriginalNextHop=_BOOLEAN,
    password=_SECRET,
    sourceAddress=_one_of("UseNodeIP", "None"),
    maxRestartTime=_STRING,
    numAllowedLocalASNumbers=_NUMBER,
    ttlSecurity=_NUMBER,
    reachableBy=_STRING,
    filters=_list(_STRING),
    localASNumber=_ASN,
    localWorkloadSelector=_STRING,
    nextHopMode=_STRING,
)
_BGP_CONFIGURATION = _object(
    asNumber=_ASN,
    logSeverityScreen=_STRING,
    nodeToNodeMeshEnabled=_BOOLEAN,
    nodeMeshPassword=_SECRET,
    nodeMeshMaxRestartTime=_STRING,
    listenPort={"type": "integer", "minimum": 1, "maximum": 65535},
    bindMode=_STRING,
    communities=_list(_object(name=_STRING, value={"type": "string", "pattern": r"^(\d+):(\d+)$|^(\d+):(\d+):(\d+)$"})),
    ignoredInterfaces=_list(_STRING),
    prefixAdvertisements=_list(_object(cidr=_STRING, communities=_list(_STRING))),
    serviceClusterIPs=_CIDRS,
    serviceExternalIPs=_CIDRS,
    serviceLoadBalancerIPs=_CIDRS,
    serviceLoadBalancerAggregation=_one_of("Enabled", "Disabled"),
)
_IP_POOL = _object(
    ("cidr",),
    cidr=_STRING,
    blockSize=_NUMBER,
    ipipMode=_STRING,
    vxlanMode=_STRING,
    natOutgoing=_BOOLEAN,
    disabled=_BOOLEAN,
    disableBGPExport=_BOOLEAN,
    nodeSelector=_STRING,
    allowedUses=_list(_STRING),
    assignmentMode=_STRING,
)
_NODE_STATUS = _object(
    classes=_list(_one_of("Agent", "BGP", "Routes")),
    node=_STRING,
    updatePeriodSeconds={"type": "integer", "minimum": 0},
)

# plural, kind, spec, namespaced, has a status
_KINDS: tuple[tuple[str, str, Object, bool, bool], ...] = (
    ("bgppeers", "BGPPeer", _BGP_PEER, False, False),
    ("bgpconfigurations", "BGPConfiguration", _BGP_CONFIGURATION, False, False),
    (
        "bgpfilters",
        "BGPFilter",
        _object(
            **{f"{direction}V{family}": _list(_FILTER_RULE) for direction in ("export", "import") for family in (4, 6)}
        ),
        False,
        False,
    ),
    ("ippools", "IPPool", _IP_POOL, False, False),
    ("caliconodestatuses", "CalicoNodeStatus", _NODE_STATUS, False, True),
    ("felixconfigurations", "FelixConfiguration", _ANYTHING, False, False),
    ("clusterinformations", "ClusterInformation", _ANYTHING, False, False),
    ("globalnetworkpolicies", "GlobalNetworkPolicy", _ANYTHING, False, False),
    ("networkpolicies", "NetworkPolicy", _ANYTHING, True, False),
)


def definitions(group: str, version: str) -> list[Object]:
    """The CustomResourceDefinitions of one of the two groups."""
    return [_definition(group, version, *kind) for kind in _KINDS]


def _definition(
    group: str, version: str, plural: str, kind: str, spec: Object, namespaced: bool, has_status: bool
) -> Object:
    schema = _object(apiVersion=_STRING, kind=_STRING, metadata={"type": "object"}, spec=spec)
    if has_status:
        schema["properties"]["status"] = _ANYTHING
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    served |= {"subresources": {"status": {}}} if has_status else {}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [served],
        },
    }
    # The parts are shared between kinds; stored objects share nothing.
    return msgspec.json.decode(msgspec.json.encode(definition), type=Object)
