"""What a node's probe needs to know, taken from the profile: JSON-able, nothing secret in it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from anyconsole.drivers import bird, bird_covering, covering, frr, frr_covering, gobgp, gobgp_covering, looking_glass
from anyconsole.drivers.dnswire import soa_query
from anyconsole.drivers.plugins import name_server, speaker
from anyconsole.drivers.speaker_rows import announcements_of
from anyconsole.model.facts import COVERING_EVERY, covering_section
from anyconsole.model.inventory import (
    Bootstrap,
    Generator,
    Host,
    InstanceSpec,
    Inventory,
    LookingGlass,
    NodeSpec,
    SpeakerSpec,
    Tenant,
    Vantage,
)

__all__ = [
    "glass_config",
    "host_config",
    "probe_config",
    "quiet_config",
    "row_count",
    "section_names",
    "unprobed",
    "vantage_config",
]

_MIN_DNS_PERIOD = 1.5
"""Seconds. With a primary zone's serial asked for every 3 s beside it, an address is asked at most once a second from its node."""


_COVERING = {bird.DAEMON: bird_covering, frr.DAEMON: frr_covering, gobgp.DAEMON: gobgp_covering}


def host_config(inventory: Inventory, host: Host) -> dict[str, Any]:
    """The configuration of the probe on any host. Raises PluginError."""
    match host:
        case NodeSpec():
            return probe_config(inventory, host)
        case Vantage():
            return vantage_config(inventory, host)
        case LookingGlass():
            return glass_config(inventory, host)
        case Generator() | Bootstrap():
            return quiet_config(inventory, host.name)


def unprobed(config: dict[str, Any]) -> dict[str, Any]:
    """The same for where the probe can't run: there each of its many look-ups of what covers an address would go to the node and back."""
    why = "its node runs no probe, which alone looks that up"
    return config | {"covering": [c | {"module": covering.__name__, "why": why} for c in config["covering"]]}


def probe_config(inventory: Inventory, node: NodeSpec) -> dict[str, Any]:
    """The configuration of the probe on `node`: its speakers, instances, service addresses and DNS questions.

    Raises:
        PluginError: a speaker or name server of a kind nobody has a driver for.
    """
    tenants = _hosted(inventory, node)
    config = _base(inventory, node.name, [a for t in tenants for a in t.addresses], tenants)
    config["dns"]["period"] = max(_MIN_DNS_PERIOD, inventory.poll.dns)
    config["speakers"] = [_speaker(inventory, s, tenants) for s in node.speakers]
    if inventory.load.targets:
        config["covering"] = [_covering(inventory, s) for s in node.speakers]
    config["instances"] = [_instance(inventory, i) for i in node.instances]
    return config


def vantage_config(inventory: Inventory, vantage: Vantage) -> dict[str, Any]:
    """The configuration of the probe on a vantage point: its host, and the DNS questions about every tenant."""
    return _base(inventory, vantage.name, [], inventory.tenants)


def glass_config(inventory: Inventory, glass: LookingGlass) -> dict[str, Any]:
    """The configuration of the probe on a looking glass: the service prefixes in the table there, and nothing else."""
    config = _base(inventory, glass.name, [], [])
    config["host"] = None
    config["routes"] = {
        "section": "routes",
        "module": looking_glass.__name__,
        "socket": glass.socket,
        "community": inventory.peer(glass.peer).community,
        "prefixes": [prefix for tenant in inventory.tenants for prefix in tenant.prefixes],
    }
    return config


def quiet_config(inventory: Inventory, name: str) -> dict[str, Any]:
    """The configuration of the probe where only the host is looked at, which also keeps its link alive."""
    return _base(inventory, name, [], [])


def section_names(config: dict[str, Any]) -> frozenset[str]:
    """The sections a host is asked for."""
    if config["routes"]:
        return frozenset([config["routes"]["section"]])
    parts = (config["host"], config["dns"], *config["speakers"], *config["covering"], *config["instances"])
    return frozenset(part["section"] for part in parts)


def row_count(config: dict[str, Any]) -> int:
    """How many rows a host has to tell if it tells everything it is asked for."""
    if config["routes"]:
        return len(config["routes"]["prefixes"])
    speakers = sum(1 + len(s["sessions"]) + sum(1 for _ in announcements_of(s)) for s in config["speakers"])
    speakers += sum(len(c["addresses"]) for c in config["covering"])
    return 1 + speakers + 2 * len(config["instances"]) + len(config["dns"]["questions"])


def _base(inventory: Inventory, name: str, addresses: list[str], asked: Iterable[Tenant]) -> dict[str, Any]:
    spread = zlib.crc32(name.encode())
    return {
        "v": 1,
        "node": name,
        "hz": 1.0 / inventory.poll.probe,
        "phase": (spread % 1000) / 1000 * inventory.poll.probe,
        "key_every": 50 + spread % 21,
        "host": {"section": "host", "addresses": addresses},
        "speakers": [],
        "covering": [],
        "instances": [],
        "routes": None,
        "dns": {"section": "dns", "period": max(1.0, inventory.poll.dns), "questions": _questions(asked)},
    }


def _hosted(inventory: Inventory, node: NodeSpec) -> list[Tenant]:
    names = {i.tenant for i in node.instances}
    return [t for t in inventory.tenants if t.name in names]


def _questions(tenants: Iterable[Tenant]) -> list[dict[str, str]]:
    return [
        {"tenant": t.name, "address": a, "zone": z, "wire": soa_query(z).hex()}
        for t in tenants
        for a in t.addresses
        for z in t.zones
    ]


def _speaker(inventory: Inventory, spec: SpeakerSpec, tenants: Iterable[Tenant]) -> dict[str, Any]:
    sessions = []
    for session in spec.sessions:
        peer = inventory.peer(session.peer)
        sessions.append(
            {
                "name": session.name,
                "peer": peer.name,
                "asn": peer.asn,
                "family": str(session.family),
                "number": session.number,
                "community": peer.community,
            }
        )
    return {
        "section": spec.name,
        "speaker": spec.name,
        "module": speaker(spec.kind).__name__,
        "socket": spec.socket,
        "drain_file": spec.drain_file,
        "sessions": sessions,
        "tenants": [{"name": t.name, "number": t.number, "prefixes": list(t.prefixes)} for t in tenants],
    }


def _covering(inventory: Inventory, spec: SpeakerSpec) -> dict[str, Any]:
    """What tells which routes of a speaker cover addresses that may be load tested. `why` is for where nobody can ask it."""
    driver = _COVERING.get(speaker(spec.kind).DAEMON, covering)
    return {
        "section": covering_section(spec.name),
        "speaker": spec.name,
        "module": driver.__name__,
        "socket": spec.socket,
        "addresses": list(dict.fromkeys(a for target in inventory.load.targets for a in target.addresses)),
        "every": COVERING_EVERY,
        "why": f"nobody knows how to ask {spec.kind}",
    }


def _instance(inventory: Inventory, spec: InstanceSpec) -> dict[str, Any]:
    tenant = inventory.tenant(spec.tenant)
    zones = [z.rstrip(".").lower() or "." for z in tenant.zones]
    soa = {}
    if tenant.addresses:
        soa = {z: {"address": tenant.addresses[0], "wire": soa_query(z).hex()} for z in zones}
    return {
        "section": f"{spec.kind}:{spec.tenant}",
        "tenant": spec.tenant,
        "module": name_server(spec.kind).__name__,
        "control": spec.control,
        "chroot": spec.chroot,
        "pid_file": spec.pid_file,
        "zones": zones,
        "soa": soa,
    }
