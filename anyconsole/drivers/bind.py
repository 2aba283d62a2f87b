"""BIND 9, read through its statistics channel (JSON over HTTP on the node's loopback): version, zones, query counters.

Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from anyconsole.drivers.ask import CollectError, Get
from anyconsole.drivers.instance_rows import instance_row, rates_row, silent, zone_name
from anyconsole.drivers.parse_error import ParseError, printable
from anyconsole.drivers.process import process_row

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Batch, Collector, Spec, State

__all__ = ["COMMAND", "DAEMON", "collect", "parse_server", "parse_zones"]

DAEMON = "bind"
COMMAND = "named"

ZONES_EVERY = 3.0
"""Seconds between looks at the zones."""


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round over one BIND."""
    host, _, port = spec["control"].rpartition(":")
    if not host or not port.isdigit():
        raise CollectError(
            "control of BIND must be host:port of its statistics channel, not " + printable(spec["control"])
        )
    host = host.strip("[]")
    asks: Batch = [Get(host, int(port), "/json/v1/server")]
    if now - state.get("zones_at", -60.0) >= ZONES_EVERY - 0.05:
        asks.append(Get(host, int(port), "/json/v1/zones"))
    replies = yield asks
    for reply in replies:
        if reply.fault:
            return (yield from silent(spec, state, DAEMON, COMMAND, reply))
    version, boot, counters = parse_server(replies[0].data)
    if len(replies) > 1:
        state["zones"] = parse_zones(replies[1].data)
        state["zones_at"] = now
    process = yield from process_row(spec, state, COMMAND)
    serials = {z: state["zones"][z] for z in spec["zones"] if z in state["zones"]}
    missing = [z for z in spec["zones"] if z not in serials]
    detail = f"zone {missing[0]} is not loaded" if missing else ""
    row = instance_row(spec, DAEMON, process, running=True, version=version, serials=serials, detail=printable(detail))
    return [row, *rates_row(spec, state, counters, replies[0].at or now, boot)]


def _object(content: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ParseError(what + " of BIND is not JSON", content[-100:].decode("utf-8", "replace")) from None
    if not isinstance(value, dict):
        raise ParseError(what + " of BIND is not a JSON object", str(value))
    return value


def _numbers(value: object, what: str) -> dict[str, int]:
    if not isinstance(value, dict) or any(type(v) is not int or not 0 <= v < 1 << 64 for v in value.values()):
        raise ParseError(what + " of BIND are not counters", str(value))
    return value


def parse_server(content: bytes) -> tuple[str, str, dict[str, int]]:
    """`/json/v1/server`: version, time of start, counters in our names."""
    server = _object(content, "server statistics")
    version, boot = server.get("version"), server.get("boot-time")
    if not isinstance(version, str) or not isinstance(boot, str):
        raise ParseError("server statistics of BIND lack version or boot-time")
    opcodes, rcodes = _numbers(server.get("opcodes"), "opcodes"), _numbers(server.get("rcodes"), "rcodes")
    stats = _numbers(server.get("nsstats", {}), "nsstats")
    if "QUERY" not in opcodes:
        raise ParseError("server statistics of BIND count no queries")
    counters = {"total": opcodes["QUERY"]}
    for ours, theirs in (("ipv4", "Requestv4"), ("ipv6", "Requestv6"), ("udp", "QryUDP"), ("tcp", "QryTCP")):
        counters[ours] = stats.get(theirs, 0)  # BIND leaves out what is 0
    counters["withheld"] = stats.get("RateDropped", 0)
    counters.update(("rcode." + printable(n, 20), v) for n, v in rcodes.items() if not n.startswith("RESERVED"))
    return printable(version, 60), printable(boot, 40), counters


def parse_zones(content: bytes) -> dict[str, int]:
    """`/json/v1/zones`: serials of the loaded zones of class IN, built-in ones left out."""
    views = _object(content, "zones").get("views", {})
    if not isinstance(views, dict):
        raise ParseError("zones of BIND are not sorted by view", str(views))
    serials: dict[str, int] = {}
    for view in views.values():
        zones = view.get("zones", []) if isinstance(view, dict) else None
        if not isinstance(zones, list):
            raise ParseError("a view of BIND has no list of zones", str(view))
        for zone in zones:
            if not isinstance(zone, dict) or not isinstance(zone.get("name"), str):
                raise ParseError("not a zone of BIND", str(zone))
            serial = zone.get("serial")
            if zone.get("class") == "IN" and zone.get("type") != "builtin" and type(serial) is int and "loaded" in zone:
                if not 0 <= serial < 1 << 32:
                    raise ParseError("a zone of BIND has no serial number", str(serial)[:40])
                serials[zone_name(printable(zone["name"], 255))] = serial
    return serials
