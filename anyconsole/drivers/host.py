"""The host itself, from procfs and `ip`: load, cores, memory, uptime, and which service addresses it holds.

Standard library only: this module travels to the nodes. The clock's offset is worked out by the engine from the probe's timestamps.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from anyconsole.drivers.ask import CollectError, Read, Run
from anyconsole.drivers.parse_error import ParseError
from anyconsole.drivers.process import parse_uptime
from anyconsole.drivers.quantise import coarse_uptime, steady

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Batch, Collector, Spec, State

__all__ = [
    "ADDRESSES_EVERY",
    "collect",
    "parse_addresses",
    "parse_cores",
    "parse_loadavg",
    "parse_meminfo",
]

ADDRESSES_EVERY = 3.0
"""Seconds between looks at the loopback's addresses; each costs a process."""


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round over the host."""
    asks: Batch = [Read("/proc/loadavg", 256), Read("/proc/meminfo", 8192), Read("/proc/uptime", 64)]
    if "cores" not in state:
        asks.append(Read("/sys/devices/system/cpu/online", 1024))
    look = bool(spec["addresses"]) and now - state.get("looked", -60.0) >= ADDRESSES_EVERY - 0.05
    if look:
        asks.append(Run(("ip", "-o", "addr", "show", "dev", "lo")))
    replies = yield asks
    for reply in replies:
        if reply.fault:
            raise CollectError(reply.text or reply.fault)
    if "cores" not in state:
        state["cores"] = parse_cores(replies[3].data)
    if look:
        state["looked"] = now
        state["addresses"] = parse_addresses(replies[-1].data)
    total, available = parse_meminfo(replies[1].data)
    load = parse_loadavg(replies[0].data)
    held = state.get("addresses", set())
    return [
        {
            "kind": "host",
            "section": "host",
            "load1": steady(state, "load", load, max(0.1, load / 10)),
            "cores": state["cores"],
            "mem_total": total,
            "mem_available": int(steady(state, "mem", available, total / 100)),
            "uptime": coarse_uptime(parse_uptime(replies[2].data)),
            "addresses": [a for a in spec["addresses"] if ipaddress.ip_address(a) in held],
        }
    ]


def parse_loadavg(content: bytes) -> float:
    """The load of the last minute."""
    match = re.match(rb"([0-9]+\.[0-9]{2}) [0-9.]+ [0-9.]+ [0-9]+/[0-9]+ [0-9]+\n$", content)
    if match is None:
        raise ParseError("not /proc/loadavg", content.decode("ascii", "replace"))
    return float(match.group(1))


def parse_meminfo(content: bytes) -> tuple[int, int]:
    """Total and available memory in bytes."""
    found = {}
    for name in (b"MemTotal", b"MemAvailable"):
        match = re.search(rb"^" + name + rb":\s+([0-9]+) kB\n", content, re.MULTILINE)
        if match is None:
            raise ParseError("/proc/meminfo lacks " + name.decode(), content[:60].decode("ascii", "replace"))
        found[name] = int(match.group(1)) * 1024
    return found[b"MemTotal"], found[b"MemAvailable"]


def parse_cores(content: bytes) -> int:
    """Processors online, from a list such as `0-3,6`."""
    text = content.decode("ascii", "replace")
    if not re.match(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*\n$", text):
        raise ParseError("not a list of processors", text)
    cores = 0
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        cores += int(high or low) - int(low) + 1
    if cores < 1:
        raise ParseError("list of processors runs backwards", text)
    return cores


def parse_addresses(content: bytes) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Addresses in `ip -o addr show`."""
    text = content.decode("utf-8", "replace")
    if text and not text.endswith("\n"):
        raise ParseError("ip's output ends in the middle of a line", text[-200:].rsplit("\n", 1)[-1])
    found = set()
    for line in text.splitlines():
        match = re.match(r"[0-9]+: \S+\s+inet6? ([0-9a-fA-F.:]+)", line)
        if match is None:
            raise ParseError("not a line of ip -o addr", line)
        try:
            found.add(ipaddress.ip_address(match.group(1)))
        except ValueError:
            raise ParseError("not an address", line) from None
    return found
