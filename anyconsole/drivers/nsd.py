"""NSD, read through its unix control socket (`nsd-control`'s protocol without TLS): state, zones, query counters.

Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from anyconsole.drivers.ask import CollectError, Exchange, Talk
from anyconsole.drivers.dns_exchange import soa_serial
from anyconsole.drivers.instance_rows import instance_row, rates_row, silent, zone_name
from anyconsole.drivers.parse_error import ParseError, printable
from anyconsole.drivers.process import process_row

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Asking, Collector, Reply, Spec, State

__all__ = ["COMMAND", "DAEMON", "collect", "parse_number", "parse_stats", "parse_status", "parse_zones"]

DAEMON = "nsd"
COMMAND = "nsd"

SLOW = 5.0
"""Seconds between looks at what rarely changes: version and the list of zones."""

SERIAL_EVERY = 3.0
"""Seconds between SOA questions. NSD tells the serial of a secondary zone, but not of a primary one: that has to be asked for."""


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round over one NSD."""
    slow = now - state.get("slow_at", -60.0) >= SLOW - 0.05
    commands = ["stats_noreset"] + (["status", "zonestatus", "serverpid"] if slow else [])
    replies = yield [Talk(spec["control"], "nsd", b"NSDCT1 " + c.encode() + b"\n") for c in commands]
    for reply in replies:
        if reply.fault:
            return (yield from silent(spec, state, DAEMON, COMMAND, reply))
    stats = parse_stats(replies[0].data)
    if slow:
        state["version"] = parse_status(replies[1].data)
        state["zones"] = parse_zones(replies[2].data)
        state["server"] = parse_number(replies[3].data)
        state["slow_at"] = now
    process = yield from process_row(spec, state, COMMAND, state["server"])
    yield from _ask_serial(spec, state, now)
    zones: dict[str, int | None] = state["zones"]
    asked: dict[str, int] = state.setdefault("asked", {})
    serials = {z: asked.get(z, zones[z]) for z in spec["zones"] if asked.get(z, zones.get(z)) is not None}
    missing = [z for z in spec["zones"] if z not in zones]
    detail = f"zone {missing[0]} is not configured" if missing else ""
    row = instance_row(
        spec, DAEMON, process, running=True, version=state["version"], serials=serials, detail=printable(detail)
    )
    return [row, *rates_row(spec, state, _counters(stats), replies[0].at or now, process.get("started"))]


def _ask_serial(spec: Spec, state: State, now: float) -> Asking[None]:
    """Generator: asks the instance's own address for the SOA of one zone whose serial the control socket doesn't tell."""
    asked: dict[str, int] = state.setdefault("asked", {})
    zones = state["zones"]
    unknown = [z for z in spec["zones"] if z in zones and zones[z] is None and z in spec["soa"]]
    for zone in [z for z in asked if z not in unknown]:
        del asked[zone]
    if not unknown or now - state.get("asked_at", -60.0) < SERIAL_EVERY - 0.05:
        return
    state["asked_at"] = now
    turn = state["turn"] = state.get("turn", -1) + 1
    zone = unknown[turn % len(unknown)]
    question = spec["soa"][zone]
    replies: list[Reply] = yield [Exchange(question["address"], bytes.fromhex(question["wire"]), 0.4)]
    serial = None if replies[0].fault else soa_serial(replies[0].data)
    misses = state.setdefault("misses", {})
    misses[zone] = 0 if serial is not None else misses.get(zone, 0) + 1
    if serial is not None:
        asked[zone] = serial
    elif misses[zone] >= 3:  # a lost packet is no news; three are
        asked.pop(zone, None)


def _counters(stats: dict[str, int]) -> dict[str, int]:
    def total(*names: str) -> int:
        return sum(stats.get("num." + n, 0) for n in names)

    counters = {
        "total": stats["num.queries"],
        "ipv4": total("udp", "tcp", "tls"),
        "ipv6": total("udp6", "tcp6", "tls6"),
        "udp": total("udp", "udp6"),
        "tcp": total("tcp", "tcp6", "tls", "tls6"),
    }
    if "num.dropped" in stats:
        counters["withheld"] = stats["num.dropped"]
    counters.update(("rcode." + n[10:], v) for n, v in stats.items() if n.startswith("num.rcode."))
    return counters


def _lines(reply: bytes) -> list[str]:
    text = reply.decode("utf-8", "replace")
    if not text.endswith("\n"):
        raise ParseError("NSD's reply ends in the middle of a line", text[-200:].rsplit("\n", 1)[-1])
    lines = text.splitlines()
    if lines[0].startswith("error"):
        raise CollectError("nsd: " + printable(lines[0]))
    return lines


def parse_stats(reply: bytes) -> dict[str, int]:
    """`stats_noreset`: the whole-numbered counters."""
    counters = {}
    names = set()
    for line in _lines(reply):
        match = re.match(r"([A-Za-z0-9_.-]{1,64})=([0-9]{1,20})(\.[0-9]+)?$", line)
        if match is None:
            raise ParseError("not a counter of NSD", line)
        names.add(match.group(1))
        if match.group(3) is None:
            counters[match.group(1)] = int(match.group(2))
    # The last lines; without them the reply is cut off, and a total without its parts would be believed.
    if "num.queries" not in counters or "zone.slave" not in names:
        raise ParseError("NSD's statistics are not whole")
    return counters


def parse_status(reply: bytes) -> str:
    """`status`: the version."""
    lines = _lines(reply)
    match = re.match(r"version: (\S+)$", lines[0])
    if match is None or not any(line.startswith("verbosity:") for line in lines):
        raise ParseError("status of NSD lacks a line", lines[0])
    return printable(match.group(1), 40)


def parse_zones(reply: bytes) -> dict[str, int | None]:
    """`zonestatus`: every zone with the serial it serves, None where NSD doesn't tell (primary zones)."""
    zones: dict[str, int | None] = {}
    zone = ""
    states = 0
    if not reply:
        return zones  # no zones at all
    for line in _lines(reply):
        if line.startswith("zone:"):
            zone = zone_name(printable(line[5:], 255))
            if not zone or states != len(zones):
                raise ParseError("zonestatus of NSD is out of order", line)
            zones[zone] = None
        elif not zone or line[:1] != "\t" or ": " not in line:
            raise ParseError("not a line of NSD's zonestatus", line)
        else:
            key, _, value = line.strip().partition(": ")
            states += key == "state"
            match = re.match(r'"?([0-9]{1,10})\b', value)
            if key in ("served-serial", "serial") and match is not None:
                zones[zone] = int(match.group(1))
    if states != len(zones):
        raise ParseError("zonestatus of NSD is not whole")
    return zones


def parse_number(reply: bytes) -> int:
    """`serverpid`: the process id of the serving process; 0 if NSD has none to tell."""
    lines = _lines(reply)
    if not re.match(r"[0-9]{1,10}$", lines[0]):
        raise ParseError("not a process id", lines[0])
    return int(lines[0])
