"""Knot DNS, read through its control socket in its own binary protocol (libknot/control): version, zones, mod-stats counters.

Each question is a line in Knot's log at level info, so what rarely changes is asked rarely. Query rates need `mod-stats` with
`request-protocol: on`. Standard library only: this module travels to the nodes.
"""

# ruff: noqa: B905  -- travels to nodes with Python 3.7
from __future__ import annotations

import re
from typing import TYPE_CHECKING

from anyconsole.drivers.ask import CollectError, Talk
from anyconsole.drivers.instance_rows import instance_row, rates_row, silent, zone_name
from anyconsole.drivers.parse_error import ParseError, printable
from anyconsole.drivers.process import process_row

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Collector, Spec, State

__all__ = ["COMMAND", "DAEMON", "collect", "counters_of", "parse_units", "request", "serials_of", "version_of"]

DAEMON = "knot"
COMMAND = "knotd"

SLOW = 30.0
"""Seconds between questions for the version."""

ZONES_EVERY = 3.0
"""Seconds between looks at the zones' serials."""

_CMD, _ERROR, _SECTION, _ITEM, _ID, _ZONE, _TYPE, _DATA = 0, 2, 3, 4, 5, 6, 9, 10
_END_UNIT, _DATA_UNIT, _EXTRA_UNIT, _BLOCK_UNIT = 0, 1, 2, 3


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round over one Knot DNS."""
    asks = {"stats": request("stats")}
    if now - state.get("zones_at", -60.0) >= ZONES_EVERY - 0.05:
        asks["zones"] = request("zone-status")
    if now - state.get("slow_at", -60.0) >= SLOW - 0.05:
        asks["version"] = request("status", kind="version")
    replies = yield [Talk(spec["control"], "knot", data) for data in asks.values()]
    for reply in replies:
        if reply.fault:
            return (yield from silent(spec, state, DAEMON, COMMAND, reply))
    answers = dict(zip(asks, replies))
    counters = counters_of(parse_units(answers["stats"].data))
    if "zones" in answers:
        state["zones"] = serials_of(parse_units(answers["zones"].data))
        state["zones_at"] = now
    if "version" in answers:
        state["version"] = version_of(parse_units(answers["version"].data))
        state["slow_at"] = now
    process = yield from process_row(spec, state, COMMAND, answers["stats"].pid)
    serials = {z: state["zones"][z] for z in spec["zones"] if state["zones"].get(z) is not None}
    bad = [z for z in spec["zones"] if z not in serials]
    detail = ""
    if bad:
        detail = "zone {} is {}".format(bad[0], "not loaded" if bad[0] in state["zones"] else "not configured")
    elif counters is None:
        detail = "no query counters: mod-stats with request-protocol is not on"
    row = instance_row(
        spec, DAEMON, process, running=True, version=state["version"], serials=serials, detail=printable(detail)
    )
    if counters is None:
        return [row]
    return [row, *rates_row(spec, state, counters, answers["stats"].at or now, process.get("started"))]


def request(command: str, kind: str = "") -> bytes:
    """A control message: one data unit, the end of the block, and the end of the conversation."""
    message = bytes([_DATA_UNIT]) + _item(_CMD, command)
    if kind:
        message += _item(_TYPE, kind)
    return message + bytes([_BLOCK_UNIT, _END_UNIT])


def _item(index: int, text: str) -> bytes:
    data = text.encode()
    return bytes([16 + index]) + len(data).to_bytes(2, "big") + data


def parse_units(reply: bytes) -> list[dict[int, str]]:
    """A whole reply as units of {item index: text}; an "extra" unit inherits what it doesn't repeat from nobody: Knot repeats all.

    Raises:
        CollectError: Knot reported an error.
        ParseError: the reply is not whole or not Knot's protocol.
    """
    units: list[dict[int, str]] = []
    at = 0
    while at < len(reply):
        kind = reply[at]
        at += 1
        if kind in (_END_UNIT, _BLOCK_UNIT):
            if at != len(reply):
                raise ParseError("Knot's reply goes on after its end", reply[at : at + 40].hex())
            return units
        if kind in (_DATA_UNIT, _EXTRA_UNIT):
            units.append({})
            continue
        if not 16 <= kind < 28 or not units or at + 2 > len(reply):
            raise ParseError("not Knot's control protocol", reply[max(0, at - 20) : at + 20].hex())
        length = int.from_bytes(reply[at : at + 2], "big")
        at += 2 + length
        if at > len(reply):
            break
        text = reply[at - length : at].decode("utf-8", "replace")
        if kind == 16 + _ERROR:
            raise CollectError("knot: " + printable(text))
        units[-1][kind - 16] = text
    raise ParseError("Knot's reply is not whole", reply[-20:].hex())


def version_of(units: list[dict[int, str]]) -> str:
    """Of `status version`."""
    text = units[0].get(_DATA, "") if units else ""
    match = re.match(r"Version: (\S+)$", text)
    if match is None:
        raise ParseError("Knot tells no version", text)
    return printable(match.group(1), 40)


def serials_of(units: list[dict[int, str]]) -> dict[str, int | None]:
    """Of `zone-status`: every zone with its serial, None if it isn't loaded."""
    zones: dict[str, int | None] = {}
    for unit in units:
        if _ZONE not in unit or _TYPE not in unit or _DATA not in unit:
            raise ParseError("Knot's zone status lacks zone, type or value", str(unit))
        zone = zone_name(printable(unit[_ZONE], 255))
        zones.setdefault(zone, None)
        if unit[_TYPE] == "serial" and unit[_DATA] not in ("-", "none"):
            if not re.match(r"[0-9]{1,10}$", unit[_DATA]):
                raise ParseError("not a serial", unit[_DATA])
            zones[zone] = int(unit[_DATA])
    return zones


def counters_of(units: list[dict[int, str]]) -> dict[str, int] | None:
    """Of `stats`: the counters in our names, None if Knot doesn't count by protocol. A protocol never used is not in Knot's list."""
    counters = {"total": 0, "ipv4": 0, "ipv6": 0, "udp": 0, "tcp": 0}
    counted = False
    for unit in units:
        if not {_SECTION, _ITEM, _DATA} <= set(unit) or not re.match(r"[0-9]{1,20}$", unit[_DATA]):
            raise ParseError("not a counter of Knot", str(unit))
        value, name = int(unit[_DATA]), unit.get(_ID, "")
        if (unit[_SECTION], unit[_ITEM]) == (
            "mod-rrl",
            "dropped",
        ):  # there if the module is global; a zone's own isn't told
            counters["withheld"] = value
        if unit[_SECTION] != "mod-stats":
            continue
        counted = True
        if unit[_ITEM] == "request-protocol":
            # udp4, udp6, tcp4, tcp6, quic4, tls6, and with XDP udp4-xdp ...
            match = re.match(r"(udp|tcp|quic|tls)([46])", name)
            if match is None:
                continue
            counters["total"] += value
            counters["ipv" + match.group(2)] += value
            counters["udp" if match.group(1) in ("udp", "quic") else "tcp"] += value
        elif unit[_ITEM] == "response-code":
            counters["rcode." + printable(name, 20)] = value
    return counters if counted else None
