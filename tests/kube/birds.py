"""What a node's BIRDs would announce by the objects of a cluster, and what birdcl shows of it: Calico in small, for tests.

A model of its own, written from Calico's documentation: nothing of the console's reading of those objects is used here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

Object = dict[str, Any]
Network = IPv4Network | IPv6Network

_EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"
_TOKEN = re.compile(r"\s*(\|\||&&|==|!=|!|\(|\)|\{|\}|,|'[^']*'|\"[^\"]*\"|[\w./-]+)")
_SINCE = "2026-11-24 04:00:00"


class Route(NamedTuple):
    """A prefix as it is sent to a peer."""

    communities: tuple[str, ...]
    path: tuple[int, ...]


class Birds:
    """The BIRDs of all nodes.

    Args:
        objects: All objects of a resource, by its name.
    """

    def __init__(self, objects: Callable[[str], Iterable[Object]]) -> None:
        self._objects = objects
        self.down: set[tuple[str, str]] = set()
        """(node, peer's address) of sessions that are not established."""

    def sessions(self, node: str) -> dict[str, Object]:
        """The BGPPeers of a node, by the peer's address; of two for one address the first by name."""
        labels = self._node(node)["metadata"].get("labels") or {}
        found: dict[str, Object] = {}
        for peer in sorted(self._objects("bgppeers"), key=_name):
            spec = peer["spec"]
            if spec.get("node", node) == node and selects(spec.get("nodeSelector") or "all()", labels):
                found.setdefault(str(ip_address(spec["peerIP"])), peer)
        return found

    def route(self, node: str, peer: str, prefix: str) -> Route | None:
        """What is sent of a prefix to a peer, None if nothing is."""
        session, wanted = self.sessions(node).get(peer), ip_network(prefix)
        if session is None or (node, peer) in self.down or wanted not in self.table(node):
            return None
        own = int(self._configuration("default").get("asNumber") or 64512)
        communities, path = [*self._communities(node, wanted)], [own]
        for rule in self._rules(session, wanted):
            if not _fits(rule, wanted):
                continue
            if rule["action"] == "Reject":
                return None
            for operation in rule.get("operations") or ():
                if added := operation.get("addCommunity"):
                    communities.append(added["value"])
                if prepended := operation.get("prependASPath"):
                    path = [*map(int, prepended["prefix"]), *path]
            break
        return Route(tuple(communities), tuple(path))

    def table(self, node: str) -> set[Network]:
        """What there is to announce on a node: addresses of Services with a ready pod there, and no prefix around them."""
        if (self._node(node)["metadata"].get("labels") or {}).get(_EXCLUDE) == "true":
            return set()
        allowed = [ip_network(e["cidr"]) for e in self._configuration("default").get("serviceExternalIPs") or ()]
        return {
            address
            for service in self._objects("services")
            for address in map(ip_network, service["spec"].get("externalIPs") or ())
            if any(_is_within(address, cidr) for cidr in allowed) and self._serves(node, service)
        }

    def _serves(self, node: str, service: Object) -> bool:
        wanted = service["spec"].get("selector") or {}
        is_local = service["spec"].get("externalTrafficPolicy") == "Local"
        return any(
            wanted.items() <= (pod["metadata"].get("labels") or {}).items()
            and (pod["spec"].get("nodeName") == node or not is_local)
            and is_ready(pod)
            for pod in self._objects("pods")
            if wanted and pod["metadata"]["namespace"] == service["metadata"]["namespace"]
        )

    def _communities(self, node: str, wanted: Network) -> Iterator[str]:
        own = self._configuration(f"node.{node}")
        spec = own if "prefixAdvertisements" in own else self._configuration("default")
        named = {c["name"]: c["value"] for c in spec.get("communities") or ()}
        for entry in spec.get("prefixAdvertisements") or ():
            if _is_within(wanted, ip_network(entry["cidr"])):
                yield from (named.get(c, c) for c in entry.get("communities") or ())

    def _rules(self, session: Object, wanted: Network) -> Iterator[Object]:
        filters = {_name(f): f["spec"] for f in self._objects("bgpfilters")}
        for name in session["spec"].get("filters") or ():
            yield from filters.get(name, {}).get(f"exportV{wanted.version}") or ()

    def _node(self, name: str) -> Object:
        return next(node for node in self._objects("nodes") if _name(node) == name)

    def _configuration(self, name: str) -> Object:
        return next((c["spec"] for c in self._objects("bgpconfigurations") if _name(c) == name), {})

    # What birdcl shows

    def answer(self, node: str, asks: Iterable[str]) -> str:
        """The output of the console's questions: "4 show protocols", "6 show route PREFIX export PROTOCOL all"."""
        return "".join(self._answered(node, ask) for ask in asks)

    def _answered(self, node: str, ask: str) -> str:
        version, _, command = ask.partition(" ")
        peers = {a: p for a, p in self.sessions(node).items() if ip_address(a).version == int(version)}
        names = {protocol_name(address, peer): address for address, peer in peers.items()}
        match command.split():
            case ["show", "protocols"]:
                said, code = self._protocols(node, names), 0
            case ["show", "route", prefix, "export", name, "all"] if name in names:
                said, code = self._routes(node, names[name], prefix)
            case _:
                said, code = ["9001 syntax error, unexpected CF_SYM_UNDEFINED"], 1
        lines = ["", f"@@ ask {ask}", "0001 BIRD 1.6.8 ready.", "0016 Access restricted", *said, ""]
        return "\n".join([*lines, f"@@ end {code}", ""])

    def _protocols(self, node: str, names: Mapping[str, str]) -> list[str]:
        said = [
            "2002-name     proto    table    state  since       info",
            "1002-static1  Static   master   up     04:34:43    ",
        ]
        for name, address in names.items():
            if (node, address) in self.down:
                said.append(
                    f"     {name} BGP      master   start  04:34:43    Active        Socket: Connection refused"
                )
            else:
                said.append(f"     {name} BGP      master   up     04:34:47    Established   ")
        return said

    def _routes(self, node: str, peer: str, prefix: str) -> tuple[list[str], int]:
        if (node, peer) in self.down or ip_network(prefix) not in self.table(node):
            return ["8001 Network not in table"], 1
        route = self.route(node, peer, prefix)
        if route is None:
            return [], 0
        shown = [
            f"1007-{prefix}       blackhole [static1 04:34:43] * (200)",
            "1008-\tType: static unicast univ",
            "1012-\tBGP.origin: IGP",
            f"     \tBGP.as_path: {' '.join(map(str, route.path))}",
            "     \tBGP.local_pref: 100",
        ]
        if route.communities:
            pairs = " ".join(f"({c.replace(':', ',')})" for c in route.communities)
            shown.append(f"     \tBGP.community: {pairs}")
        return shown, 0

    def status(self, node: str, now: str) -> Object:
        """What Calico would write into the status of a CalicoNodeStatus about a node."""
        sessions = self.sessions(node)
        agent = {
            f"birdV{version}": {
                "state": "Ready", "version": "v0.3.3+birdv1.6.8", "routerID": "192.0.2.1", "lastBootTime": _SINCE,
                "lastReconfigurationTime": _SINCE,
            }
            for version in (4, 6)
        }  # fmt: skip
        bgp: Object = {}
        for version in (4, 6):
            peers = [
                {
                    "peerIP": address,
                    "type": "NodePeer" if _of_some(peer) else "GlobalPeer",
                    "state": "Active" if (node, address) in self.down else "Established",
                    "since": "04:34:47",
                }
                for address, peer in sessions.items()
                if ip_address(address).version == version
            ]
            up = sum(peer["state"] == "Established" for peer in peers)
            bgp |= {f"peersV{version}": peers, f"numberEstablishedV{version}": up}
            bgp[f"numberNotEstablishedV{version}"] = len(peers) - up
        return {"agent": agent, "bgp": bgp, "routes": {}, "lastUpdated": now}


def protocol_name(address: str, peer: Object) -> str:
    """What Calico's template calls the protocol of a peer."""
    return ("Node_" if _of_some(peer) else "Global_") + re.sub(r"[.:]", "_", address)


def is_ready(pod: Object) -> bool:
    """Whether its Ready condition is true, and it isn't ending."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a Calico selector fits; of the language what sessions are chosen with."""
    tokens = _TOKEN.findall(selector)

    def either() -> bool:
        found = both()
        while tokens[:1] == ["||"]:
            tokens.pop(0)
            found = both() or found
        return found

    def both() -> bool:
        found = one()
        while tokens[:1] == ["&&"]:
            tokens.pop(0)
            found = one() and found
        return found

    def one() -> bool:
        word = tokens.pop(0)
        if word == "!":
            return not one()
        if word == "(":
            found = either()
            tokens.pop(0)
            return found
        if word in ("all", "has") and tokens[:1] == ["("]:
            inside = tokens[1 : tokens.index(")")]
            del tokens[: len(inside) + 2]
            return word == "all" or inside[0] in labels
        operator = tokens.pop(0)
        if operator in ("==", "!="):
            return (labels.get(word) == tokens.pop(0)[1:-1]) is (operator == "==")
        is_negated = operator == "not"
        del tokens[: 2 if is_negated else 1]
        values = []
        while (value := tokens.pop(0)) != "}":
            values.append(value[1:-1])
        return (labels.get(word) in values) is not is_negated

    return either()


def _of_some(peer: Object) -> bool:
    return bool(peer["spec"].get("node") or peer["spec"].get("nodeSelector"))


def _fits(rule: Object, route: Network) -> bool:
    if rule.get("interface") or rule.get("source") or rule.get("peerType") == "iBGP":
        return False
    if "cidr" not in rule:
        return True
    cidr = ip_network(rule["cidr"])
    match rule.get("matchOperator"):
        case "Equal":
            return route == cidr
        case "NotEqual":
            return route != cidr
        case "In":
            return _is_within(route, cidr)
        case _:
            return not _is_within(route, cidr)


def _is_within(route: Network, cidr: Network) -> bool:
    return (
        route.version == cidr.version
        and route.prefixlen >= cidr.prefixlen
        and (int(route.network_address) & int(cidr.netmask)) == int(cidr.network_address)
    )


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])
