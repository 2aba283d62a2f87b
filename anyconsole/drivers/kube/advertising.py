"""What Calico announces from a node and how, by its objects: the five levers of a drain, whoever pulled them, read as a drain state.

Follows confd of Calico 3.28 to 3.32: the label that excludes a node, the filters of the BGPPeer that makes a session, and the communities
of BGPConfiguration. Health of services is not looked at: this is what is meant to be announced. Pure, and total: objects that make no
sense are as if they weren't there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple, TypeAlias

import msgspec

from anyconsole.drivers.export_verdict import GRACEFUL_SHUTDOWN
from anyconsole.drivers.kube.calico import EXCLUDE_LABEL, MANAGED_BY, OWNER, CalicoApi, canonical, speaker_of
from anyconsole.drivers.kube.selector import selects
from anyconsole.drivers.kube.values import LINE, Json, part, text
from anyconsole.model.drain_note import MAX_NOTE
from anyconsole.model.inventory import Inventory, NodeSpec, Peer, SessionSpec, Tenant, family_of

__all__ = [
    "NOTE",
    "PENDING",
    "SERIAL",
    "CalicoObjects",
    "Cell",
    "Effect",
    "Level",
    "NodeDrain",
    "ObjectKey",
    "advertised_with",
    "cells_of",
    "drain_of",
    "effect_on",
    "is_ours",
    "is_within",
    "labels_of",
    "listed",
    "local_as",
    "network",
    "objects_of",
    "peer_of",
    "peers_of",
]

NOTE: Final = "anyconsole.io/drain"
"""The annotation of a Node that says who drained it and why (see `model.drain_note`)."""

SERIAL: Final = "anyconsole.io/drain-serial"
"""The annotation of a Node with the serial of its drain state. It stays when nothing is drained any more."""

PENDING: Final = "anyconsole.io/drain-unconfirmed"
"""The annotation of a Node whose drain state waits to be confirmed: whose change that is. Only one can be."""

ObjectKey: TypeAlias = tuple[str, str]
"""An object by its kind and name: none of these kinds is in a namespace."""

_DEFAULTS: Final[Mapping[str, Json]] = {
    "BGPConfiguration": {"logSeverityScreen": "Info", "serviceLoadBalancerAggregation": "Enabled"},
}
"""What Calico's schemas (3.32) put into an object that doesn't say it; older ones read nothing as the same."""

_AS_NUMBER: Final = "projectcalico.org/ASNumber"
_DEFAULT_AS: Final = 64512
_SERIAL_TEXT: Final = re.compile(r"[0-9]{1,15}")


class CalicoObjects(msgspec.Struct, frozen=True):
    """The objects that a drain state is made of, by kind and name, without what the API server adds (status, managed fields).

    `calico` is Calico's version, None if that isn't known.
    """

    api: CalicoApi
    found: dict[ObjectKey, Json]
    calico: tuple[int, int] | None = None

    def of(self, kind: str) -> Iterator[tuple[str, Json]]:
        """The objects of a kind with their names, by name."""
        return ((name, self.found[known, name]) for known, name in sorted(self.found) if known == kind)

    def get(self, kind: str, name: str) -> Json | None:
        """One object."""
        return self.found.get((kind, name))


def objects_of(api: CalicoApi, lists: Mapping[str, Iterable[object]]) -> CalicoObjects:
    """The objects by kind as they were parsed: Node, BGPPeer, BGPConfiguration, BGPFilter, IPPool, ClusterInformation."""
    found = {}
    for kind, members in lists.items():
        for obj in members:
            metadata = part(obj, "metadata")
            name = text(metadata, "name")
            if not name:
                continue
            kept = {key: strings for key in ("labels", "annotations") if (strings := _strings(part(metadata, key)))}
            found[kind, name] = {
                "apiVersion": "v1" if kind == "Node" else api.group_version,
                "kind": kind,
                "metadata": {"name": name} | kept,
            } | ({} if kind == "Node" else {"spec": _without_defaults(kind, part(obj, "spec"))})
    about = part(found.get(("ClusterInformation", "default")), "spec")
    return CalicoObjects(api, found, _version(text(about, "calicoVersion")))


def _without_defaults(kind: str, spec: Json) -> Json:
    """A spec without what the API server put into it because nobody said anything; else an object of ours would never be empty again."""
    given = _DEFAULTS.get(kind, {})
    return {key: value for key, value in spec.items() if key not in given or given[key] != value}


def _strings(found: Json) -> dict[str, str]:
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _version(words: str) -> tuple[int, int] | None:
    numbers = words.removeprefix("v").split(".")
    if len(numbers) < 2 or not all(n.isascii() and n.isdigit() and len(n) < 6 for n in numbers[:2]):
        return None
    return int(numbers[0]), int(numbers[1])


def is_ours(obj: Json | None) -> bool:
    """Whether we made an object."""
    return obj is not None and labels_of(obj).get(MANAGED_BY) == OWNER


def labels_of(obj: Json | None) -> dict[str, str]:
    """All labels of an object, as they are."""
    return _strings(part(part(obj, "metadata"), "labels"))


def listed(obj: object, key: str) -> list[object]:
    """The list at `key`, an empty one if there is none."""
    found = obj.get(key) if isinstance(obj, dict) else None
    return found if isinstance(found, list) else []


def network(cidr: object) -> IPv4Network | IPv6Network | None:
    """A prefix, or an address as a prefix; None if it is neither."""
    try:
        return ip_network(cidr, strict=False) if isinstance(cidr, str) else None
    except ValueError:
        return None


class Level(IntEnum):
    """How far an announcement is drained."""

    SERVE = 0
    SOFT = 1
    HARD = 2


class Effect(NamedTuple):
    """What becomes of a route on a session, and which object does that."""

    level: Level
    cause: str = ""


class Cell(NamedTuple):
    """A tenant on a session, and its prefixes of that family. What is drained is a number of these."""

    tenant: Tenant
    session: SessionSpec
    peer: Peer
    prefixes: tuple[str, ...]

    def addresses(self, prefix: str) -> tuple[str, ...]:
        """The tenant's service addresses inside a prefix, as prefixes: what Calico announces of it. The border routers aggregate."""
        return tuple(str(ip_network(address)) for address in self.tenant.addresses_in(prefix))

    @property
    def announced(self) -> tuple[str, ...]:
        """What Calico announces: service addresses, and a prefix itself where the profile knows no address in it."""
        return tuple(route for prefix in self.prefixes for route in self.addresses(prefix) or (prefix,))

    @property
    def routes(self) -> tuple[str, ...]:
        """All that may be announced of it: prefixes and the service addresses inside them."""
        return tuple(dict.fromkeys(r for prefix in self.prefixes for r in (prefix, *self.addresses(prefix))))

    @property
    def pair(self) -> tuple[int, int]:
        """As drain sets name it."""
        return self.tenant.number, self.session.number

    @property
    def title(self) -> str:
        """As people name it."""
        return f"{self.tenant.name} on {self.session.title}"


def cells_of(inventory: Inventory, node: NodeSpec) -> list[Cell]:
    """What a node announces by its profile."""
    speaker = speaker_of(node)
    hosted = {instance.tenant for instance in node.instances}
    cells = []
    for session in speaker.sessions if speaker is not None else ():
        for tenant in inventory.tenants:
            prefixes = tuple(p for p in tenant.prefixes if family_of(p) == session.family)
            if tenant.name in hosted and prefixes:
                cells.append(Cell(tenant, session, inventory.peer(session.peer), prefixes))
    return cells


class NodeDrain(msgspec.Struct, frozen=True, kw_only=True):
    """The drain state of a node as pairs (tenant number, session number); `note` is who and why, as it is written there.

    `serial` is that of the last change of ours, None if there was none; `pending` is the text of a change that isn't confirmed.
    """

    hard: tuple[tuple[int, int], ...] = ()
    soft: tuple[tuple[int, int], ...] = ()
    note: str = ""
    serial: int | None = None
    pending: str = ""


def drain_of(objects: CalicoObjects, inventory: Inventory, node: NodeSpec) -> NodeDrain:
    """The drain state of a node. What is hard isn't soft too; a cell counts by its least drained route."""
    pairs: dict[Level, list[tuple[int, int]]] = {level: [] for level in Level}
    for cell in cells_of(inventory, node):
        pairs[effect_on(objects, node.address, cell).level].append(cell.pair)
    annotations = part(part(objects.get("Node", node.address), "metadata"), "annotations")
    serial = text(annotations, SERIAL)
    return NodeDrain(
        hard=tuple(sorted(pairs[Level.HARD])),
        soft=tuple(sorted(pairs[Level.SOFT])),
        note=text(annotations, NOTE, MAX_NOTE),
        serial=int(serial) if _SERIAL_TEXT.fullmatch(serial) else None,
        pending=text(annotations, PENDING, LINE),
    )


def effect_on(objects: CalicoObjects, node: str, cell: Cell) -> Effect:
    """What becomes of a cell on a Kubernetes node."""
    return min((_effect(objects, node, cell, route) for route in cell.announced), key=lambda effect: effect.level)


def _effect(objects: CalicoObjects, node: str, cell: Cell, prefix: str) -> Effect:
    if labels_of(objects.get("Node", node)).get(EXCLUDE_LABEL) == "true":
        return Effect(Level.HARD, f"label {EXCLUDE_LABEL} of node {node}")
    route = ip_network(prefix)
    made_by = peer_of(objects, node, cell.session.name)
    spec = part(objects.get("BGPPeer", made_by or ""), "spec")
    asn = local_as(objects, node, spec)
    for name in listed(spec, "filters"):
        rules = listed(part(objects.get("BGPFilter", str(name)), "spec"), f"exportV{route.version}")
        rule = next((rule for rule in rules if _applies(rule, route, is_ibgp=_as_of(spec) == asn)), None)
        if rule is not None:  # the first that applies decides, and ends all filters
            return _decision(rule, cell.peer, asn, f"BGPFilter {name}")
    said_by, lists = advertised_with(objects, node)
    communities = {c for cidr, added in lists for c in added if is_within(route, cidr)}
    if communities & {GRACEFUL_SHUTDOWN, cell.peer.community or GRACEFUL_SHUTDOWN}:
        return Effect(Level.SOFT, f"BGPConfiguration {said_by}")
    return Effect(Level.SERVE)


def peer_of(objects: CalicoObjects, node: str, address: str) -> str | None:
    """The name of the BGPPeer that makes a node's session with an address; None if none does (the mesh, a `peerSelector`)."""
    return next(iter(peers_of(objects, node, address)), None)


def peers_of(objects: CalicoObjects, node: str, address: str) -> list[str]:
    """All BGPPeers that would make that session, those for all nodes first: they go before those for some.

    Of several of a kind Calico takes any, which need not be the first.
    """
    wanted = canonical(address)
    everywhere: list[str] = []
    some: list[str] = []
    for name, obj in objects.of("BGPPeer"):
        spec = part(obj, "spec")
        if not wanted or spec.get("peerSelector") or spec.get("localWorkloadSelector"):
            continue
        if _peer_address(spec.get("peerIP")) != wanted:
            continue
        if spec.get("nodeSelector"):
            known = objects.get("Node", node)
            some += [name] if known is not None and selects(spec["nodeSelector"], labels_of(known)) else []
        elif spec.get("node"):
            some += [name] if spec["node"] == node else []
        else:
            everywhere.append(name)
    return everywhere + some


def _peer_address(said: object) -> str:
    """The address of "192.0.2.1", "192.0.2.1:179", "2001:db8::1" or "[2001:db8::1]:179"."""
    if not isinstance(said, str):
        return ""
    if said.startswith("["):
        return canonical(said[1:].partition("]")[0])
    return canonical(said.partition(":")[0] if said.count(":") == 1 else said)


def local_as(objects: CalicoObjects, node: str, spec: Json) -> int:
    """A node's AS number on sessions that a BGPPeer makes."""
    annotations = part(part(objects.get("Node", node), "metadata"), "annotations")
    default = part(objects.get("BGPConfiguration", "default"), "spec")
    said = (_asn(spec.get("localASNumber")), _asn(annotations.get(_AS_NUMBER)), _asn(default.get("asNumber")))
    return next((asn for asn in said if asn), _DEFAULT_AS)


def _as_of(spec: Json) -> int:
    return _asn(spec.get("asNumber")) or _DEFAULT_AS


def _asn(said: object) -> int:
    """An AS number as a number, or as text in asplain or asdot (RFC 5396); 0 if it is none."""
    halves = str(said).split(".")
    if (
        isinstance(said, bool)
        or len(halves) > 2
        or not all(h.isascii() and h.isdigit() and len(h) <= 10 for h in halves)
    ):
        return 0
    high, low = (int(halves[0]), int(halves[1])) if len(halves) == 2 else (0, int(halves[0]))
    return high << 16 | low


def _applies(rule: object, route: IPv4Network | IPv6Network, *, is_ibgp: bool) -> bool:
    """Whether an export rule is about a service prefix: local, without communities or AS path as yet, on no interface."""
    if not isinstance(rule, dict) or rule.get("action") not in ("Accept", "Reject"):
        return False
    if any(rule.get(key) for key in ("source", "interface", "communities", "asPathPrefix", "priority")):
        return False
    if rule.get("peerType") and rule["peerType"] != ("iBGP" if is_ibgp else "eBGP"):
        return False
    if not rule.get("cidr"):
        return True
    cidr = network(rule["cidr"])
    if cidr is None:
        return False
    lengths = part(rule, "prefixLength")
    inside = is_within(route, cidr) and _int(lengths, "min", 0) <= route.prefixlen <= _int(lengths, "max", 128)
    return {"In": inside, "NotIn": not inside, "Equal": route == cidr, "NotEqual": route != cidr}.get(
        str(rule.get("matchOperator")), False
    )


def _int(obj: Json, key: str, default: int) -> int:
    found = obj.get(key)
    return found if type(found) is int else default


def _decision(rule: object, peer: Peer, asn: int, cause: str) -> Effect:
    if isinstance(rule, dict) and rule.get("action") == "Reject":
        return Effect(Level.HARD, cause)
    for operation in listed(rule, "operations"):
        added = part(operation, "addCommunity").get("value")
        if added == GRACEFUL_SHUTDOWN or (peer.community and added == peer.community):
            return Effect(Level.SOFT, cause)
        if asn in map(_asn, listed(part(operation, "prependASPath"), "prefix")):
            return Effect(Level.SOFT, cause)
    return Effect(Level.SERVE, cause)


Advertised: TypeAlias = list[tuple[IPv4Network | IPv6Network, tuple[str, ...]]]


def advertised_with(objects: CalicoObjects, node: str) -> tuple[str, Advertised]:
    """The communities that prefixes are announced with from a node, and the BGPConfiguration that says so.

    The list of the node's own configuration replaces that of the default one, whole.
    """
    own = f"node.{node}"
    for name in (own, "default"):
        spec = part(objects.get("BGPConfiguration", name), "spec")
        if isinstance(spec.get("prefixAdvertisements"), list):
            return name, _advertised(spec)
    return "default", []


def _advertised(spec: Json) -> Advertised:
    named = {str(c.get("name")): c.get("value") for c in listed(spec, "communities") if isinstance(c, dict)}
    found: Advertised = []
    for entry in listed(spec, "prefixAdvertisements"):
        cidr = network(entry.get("cidr")) if isinstance(entry, dict) else None
        if cidr is None:
            continue
        said = (str(community) for community in listed(entry, "communities"))
        resolved = (community if ":" in community else named.get(community) for community in said)
        found.append((cidr, tuple(dict.fromkeys(c for c in resolved if isinstance(c, str)))))
    return found


def is_within(route: IPv4Network | IPv6Network, cidr: IPv4Network | IPv6Network) -> bool:
    """Whether a prefix is `cidr` or inside it."""
    return (
        route.version == cidr.version
        and route.prefixlen >= cidr.prefixlen
        and int(route.network_address) & int(cidr.netmask) == int(cidr.network_address)
    )
