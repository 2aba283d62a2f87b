"""Parsers of what FRR's bgpd says on its vty socket. Total: a value or a ParseError.

Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any, NamedTuple

from anyconsole.drivers.drain_lists import ListEntry, list_entry
from anyconsole.drivers.parse_error import ParseError, printable

__all__ = [
    "AdvertisedRoute", "Carrier", "FrrRefusedError", "PeerSummary", "parse_advertised", "parse_carrier", "parse_local_address",
    "parse_neighbor", "parse_prefix_lists", "parse_route_communities", "parse_summary", "parse_version", "reply_json", "reply_text",
    "same_address",
]  # fmt: skip


class FrrRefusedError(ParseError):
    """bgpd answered with a status that is not success, or in words where JSON was asked for."""


class PeerSummary(NamedTuple):
    """A neighbour in `show bgp summary json`. `since` is epoch seconds, 0 if it never was up."""

    state: str
    info: str
    since: int
    asn: int | None
    received: int | None
    sent: int | None


class AdvertisedRoute(NamedTuple):
    """A route in `... advertised-routes json`; the path is shown before the own AS is added."""

    as_path: list[int]
    med: int | None


class Carrier(NamedTuple):
    """What the description of prefix list AC-STATE says. `until` is when an unconfirmed change is undone (epoch seconds), 0 if none is."""

    serial: int
    until: int
    note: str


def reply_text(reply: bytes) -> str:
    """The text of a whole reply. Raises FrrRefusedError if its status is not success, ParseError if it is not whole."""
    if len(reply) < 4 or reply[-4:-1] != b"\0\0\0":
        raise ParseError("bgpd's reply is not whole", reply[-60:].decode("utf-8", "replace"))
    text = reply[:-4].decode("utf-8", "replace")
    if reply[-1] != 0:
        raise FrrRefusedError(f"bgpd refused (status {reply[-1]})", text)
    return text


def reply_json(reply: bytes) -> dict[str, Any]:
    """The JSON object of a reply; {} if bgpd says nothing at all."""
    text = reply_text(reply).strip()
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if text.startswith("%"):
            raise FrrRefusedError("bgpd has nothing to show", text) from None
        raise ParseError("bgpd's reply is not JSON", text[-100:]) from None
    if not isinstance(value, dict):
        raise ParseError("bgpd's reply is not a JSON object", text)
    return value


def parse_version(reply: bytes) -> str:
    """`show version`."""
    text = reply_text(reply)
    match = re.match(r"FRRouting (\S+)", text.lstrip())
    if match is None:
        raise ParseError("no version of FRR", text[:100])
    return printable(match.group(1), 40)


_STATES = {
    "Established": "Established",
    "OpenConfirm": "OpenConfirm",
    "OpenSent": "OpenSent",
    "Active": "Active",
    "Connect": "Connect",
    "Idle": "Idle",
    "Clearing": "Idle",
    "Deleted": "Idle",
    "Idle (Admin)": "Admin down",
    "Idle (PfxCt)": "Limit hit",
}


def parse_summary(reply: bytes) -> tuple[str, int | None, dict[tuple[str, str], PeerSummary]]:
    """`show bgp summary json`: router ID, own AS, and neighbours by (family, address as FRR writes it)."""
    router_id, own_as = "", None
    peers: dict[tuple[str, str], PeerSummary] = {}
    for afi, part in reply_json(reply).items():
        if not isinstance(part, dict):
            raise ParseError("part of bgpd's summary is not an object", afi)
        family = {"ipv4Unicast": "ipv4", "ipv6Unicast": "ipv6"}.get(afi)
        if family is None:
            continue
        router_id = printable(str(part.get("routerId", router_id)), 40)
        own_as = _number(part, "as") or own_as
        neighbours = part.get("peers", {})
        if not isinstance(neighbours, dict):
            raise ParseError("peers of bgpd's summary are not an object", afi)
        for address, peer in neighbours.items():
            peers[family, address] = _peer(address, peer)
    return router_id, own_as, peers


def _peer(address: str, peer: object) -> PeerSummary:
    if not isinstance(peer, dict) or not isinstance(peer.get("state"), str):
        raise ParseError("a neighbour of bgpd has no state", address)
    word = peer["state"]
    state = _STATES.get(word, "Unknown")
    if state == "Active" and peer.get("peerState") == "Passive":
        state = "Passive"
    info = "" if state == word else printable(word, 60)
    ever = (_number(peer, "connectionsEstablished") or 0) > 0
    return PeerSummary(
        state,
        info,
        (_number(peer, "peerUptimeEstablishedEpoch") or 0) if ever else 0,
        _number(peer, "remoteAs"),
        _number(peer, "pfxRcd"),
        _number(peer, "pfxSnt"),
    )


def _number(part: dict[str, Any], name: str) -> int | None:
    value = part.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ParseError("not a number: " + name, str(value))
    return value


def parse_neighbor(reply: bytes) -> tuple[str, bool]:
    """`show bgp neighbors X json`: why the session was last reset, and whether the peer shut it down administratively."""
    for neighbour in reply_json(reply).values():
        if isinstance(neighbour, dict):
            reset = printable(str(neighbour.get("lastResetDueTo", "")), 100)
            notice = printable(str(neighbour.get("lastNotificationReason", "")), 150)
            received = "Notification received" in reset
            return (notice if received and notice else reset), received and "Administrative Shutdown" in notice
    return "", False


def parse_local_address(reply: bytes) -> str:
    """`show bgp neighbors X json`: our own address on the session, "" while there is no connection."""
    for neighbour in reply_json(reply).values():
        if isinstance(neighbour, dict):
            return same_address(printable(str(neighbour.get("hostLocal", "")), 60))
    return ""


def parse_advertised(reply: bytes) -> tuple[int | None, dict[str, AdvertisedRoute]]:
    """`show bgp AFI unicast neighbors X advertised-routes json`: own AS, and routes by prefix."""
    value = reply_json(reply)
    routes: dict[str, AdvertisedRoute] = {}
    found = value.get("advertisedRoutes", {})
    if not isinstance(found, dict):
        raise ParseError("advertised routes are not an object", str(found))
    for prefix, route in found.items():
        if not isinstance(route, dict) or not isinstance(route.get("path", ""), str):
            raise ParseError("not an advertised route", prefix)
        path = route.get("path", "")
        if re.search(r"[^0-9 (){},]", path):
            raise ParseError("not an AS path", path)
        routes[prefix] = AdvertisedRoute(
            [int(a) for a in re.findall("[0-9]{1,10}", path)[:64]], _number(route, "metric")
        )
    return _number(value, "localAS"), routes


_WELL_KNOWN = {
    "graceful-shutdown": "65535:0",
    "no-export": "65535:65281",
    "no-advertise": "65535:65282",
    "local-AS": "65535:65283",
    "blackhole": "65535:666",
    "no-peer": "65535:65284",
}


def parse_route_communities(reply: bytes) -> list[str]:
    """`show bgp AFI unicast PREFIX json`: communities of the best path, e.g. what `bgp graceful-shutdown` puts on all of them."""
    paths = reply_json(reply).get("paths", [])
    if not isinstance(paths, list):
        raise ParseError("paths of a prefix are not a list", str(paths))
    for path in paths:
        best = path.get("bestpath") if isinstance(path, dict) else None
        if isinstance(best, dict) and best.get("overall"):
            community = path.get("community", {})
            words = community.get("string", "") if isinstance(community, dict) else None
            if not isinstance(words, str):
                raise ParseError("not communities", str(community))
            return [_WELL_KNOWN.get(w, printable(w, 40)) for w in words.split()[:64]]
    return []


def parse_prefix_lists(reply: bytes) -> dict[str, list[ListEntry]]:
    """`show ip prefix-list json` or `show ipv6 prefix-list json`: entries by list, in order."""
    lists: dict[str, list[ListEntry]] = {}
    for daemon, named in reply_json(reply).items():
        if not isinstance(named, dict):
            raise ParseError("prefix lists are not an object", daemon)
        for name, found in named.items():
            entries = found.get("entries", []) if isinstance(found, dict) else None
            if not isinstance(entries, list):
                raise ParseError("a prefix list has no entries", name)
            for entry in entries:
                if not isinstance(entry, dict) or entry.get("type") not in ("permit", "deny"):
                    raise ParseError("not an entry of a prefix list", str(entry))
                lists.setdefault(name, []).append(
                    list_entry(
                        entry.get("prefix"),
                        permit=entry["type"] == "permit",
                        low=entry.get("minimumPrefixLen"),
                        high=entry.get("maximumPrefixLen"),
                    )
                )
    return lists


def parse_carrier(reply: bytes) -> Carrier | None:
    """`show ip prefix-list json`: what AC-STATE carries; None if there is none, or it is not of a console's making."""
    for named in reply_json(reply).values():
        found = named.get("AC-STATE") if isinstance(named, dict) else None
        words = found.get("description") if isinstance(found, dict) else None
        match = (
            re.match(r"serial=([0-9]{1,10}) until=([0-9]{1,10}) note=(.*)", words) if isinstance(words, str) else None
        )
        if match is not None:
            return Carrier(int(match.group(1)), int(match.group(2)), printable(match.group(3), 300))
    return None


def same_address(text: str) -> str:
    """An address or interface name in the one form it is compared in."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text
