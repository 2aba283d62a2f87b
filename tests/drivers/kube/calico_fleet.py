"""A cluster of two nodes with Calico on paper: its profile, and its objects as an API server serves them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anyconsole.drivers.kube.advertising import CalicoObjects, objects_of
from anyconsole.drivers.kube.calico import CalicoApi
from anyconsole.model.inventory import (
    ClusterSpec,
    Family,
    InstanceSpec,
    Interconnect,
    InterconnectKind,
    Inventory,
    NodeSpec,
    Peer,
    SessionSpec,
    Site,
    SoftRecipe,
    SpeakerSpec,
    Stack,
    Tenant,
)

Json = dict[str, Any]

V3 = CalicoApi("projectcalico.org/v3")
CRD = CalicoApi("crd.projectcalico.org/v1")

DE, NIC = 1, 2
IX1_V4, IX1_V6, TRANSIT_V4, TRANSIT_V6 = 11, 12, 31, 32
SESSIONS = (IX1_V4, IX1_V6, TRANSIT_V4, TRANSIT_V6)
EVERYTHING = tuple((tenant, session) for tenant in (DE, NIC) for session in SESSIONS)

ADDRESSES = {IX1_V4: "10.0.11.2", IX1_V6: "fd00:11::2", TRANSIT_V4: "10.0.12.2", TRANSIT_V6: "fd00:12::2"}

_IX1 = Peer(name="ix1", interconnect="fra", asn=64611, community="64611:80")


def inventory(transit: tuple[SoftRecipe, ...] = (SoftRecipe.GSHUT,), second: str = "") -> Inventory:
    """Two tenants on two nodes of one cluster, two peers, both families; `second` is another service address of de."""
    peers = (_IX1, Peer(name="transit", interconnect="fra", asn=64613, soft=transit))
    sessions = tuple(
        SessionSpec(
            name=ADDRESSES[number],
            peer="ix1" if number < 30 else "transit",
            family=Family.IPV6 if ":" in ADDRESSES[number] else Family.IPV4,
            number=number,
        )
        for number in SESSIONS
    )
    return Inventory(
        name="paper",
        sites=(Site(name="fra"),),
        interconnects=(Interconnect(name="fra", kind=InterconnectKind.IXP, peers=peers),),
        tenants=(
            Tenant(
                name="de",
                number=DE,
                prefixes=("192.0.2.0/24", "2001:db8:de::/48"),
                addresses=("192.0.2.53", "2001:db8:de::53", *([second] if second else [])),
                zones=("de.example",),
            ),
            Tenant(
                name="nic",
                number=NIC,
                prefixes=("198.51.100.0/24", "2001:db8:11c::/48"),
                addresses=("198.51.100.53", "2001:db8:11c::53"),
                zones=("nic.example",),
            ),
        ),
        clusters=(ClusterSpec(name="k3s"),),
        nodes=tuple(
            NodeSpec(
                name=name,
                site="fra",
                address=f"{name}.example.net",
                stack=Stack.VIRTUAL,
                cluster="k3s",
                speakers=(SpeakerSpec(name="calico", kind="calico", sessions=sessions),),
                instances=(InstanceSpec(tenant="de", kind="nsd"), InstanceSpec(tenant="nic", kind="nsd")),
            )
            for name in ("hv1", "hv2")
        ),
    )


def kube_node(name: str, labels: Json | None = None, annotations: Json | None = None) -> Json:
    return {
        "metadata": {
            "name": name,
            "resourceVersion": "17",
            "labels": {"kubernetes.io/hostname": name, "rack": "r1"} | (labels or {}),
            "annotations": {"projectcalico.org/ASNumber": "64500"} | (annotations or {}),
            "managedFields": [{}],
        },
        "status": {"images": [{}]},
    }


def calico_object(name: str, **spec: object) -> Json:
    return {"metadata": {"name": name, "resourceVersion": "23", "uid": "1"}, "spec": spec}


def bgp_peers(**spec: object) -> list[Json]:
    """The BGPPeers of all sessions, each with `spec`; by default for the nodes of one rack."""
    chosen = spec or {"nodeSelector": "rack == 'r1'"}
    return [
        calico_object(f"peer-{number}", peerIP=address, asNumber=64611 if number < 30 else 64613, **chosen)
        for number, address in ADDRESSES.items()
    ]


def objects(api: CalicoApi = V3, version: str = "v3.32.1", **lists: Iterable[Json]) -> CalicoObjects:
    """The objects of the cluster; `lists` replace whole kinds (node, peer, configuration, filter, pool)."""
    kinds = {"Node": "node", "BGPPeer": "peer", "BGPConfiguration": "configuration", "BGPFilter": "filter"}
    kinds |= {"IPPool": "pool"}
    found: dict[str, Iterable[Json]] = {
        "Node": [kube_node("hv1.example.net"), kube_node("hv2.example.net")],
        "BGPPeer": bgp_peers(),
        "BGPConfiguration": [calico_object("default", asNumber=64500)],
        "ClusterInformation": [calico_object("default", calicoVersion=version)],
    }
    return objects_of(api, found | {kind: lists[word] for kind, word in kinds.items() if word in lists})
