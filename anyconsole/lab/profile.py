"""The profile of a lab: what the console has to know about it, written from the topology the lab was built from."""

from __future__ import annotations

from anyconsole.lab import gobgp, state
from anyconsole.lab.accounts import OPERATOR
from anyconsole.lab.metrics import QPS_QUERY
from anyconsole.lab.nameservers import chroot_of, instance
from anyconsole.lab.paths import LabPaths
from anyconsole.lab.topology import (
    CLIENTS,
    PEERS,
    PROMETHEUS,
    ROUTERS,
    TENANTS,
    Node,
    sessions_of,
    sources,
    unicast,
)

__all__ = ["profile_text"]

_MOST_QPS = 60_000
_SPEAKERS = {
    "bird": {"socket": "/run/bird/bird.ctl", "drain_file": "/etc/bird/drain.conf", "log": "/var/log/bird.log"},
    "frr": {"socket": "/var/run/frr/bgpd.vty", "log": "/var/log/frr/frr.log"},
    "gobgp": {"socket": gobgp.SOCKET, "drain_file": gobgp.DRAIN_FILE, "log": gobgp.LOG},
}
_SITES = {"fra": ("eu", "Frankfurt"), "ams": ("eu", "Amsterdam"), "lon": ("eu", "London"), "sin": ("ap", "Singapore")}


def profile_text(paths: LabPaths) -> str:
    """The lab's profile as TOML."""
    nodes = state.nodes(paths)
    blocks = [
        f"# Written by `anyconsole lab up --name {paths.name}`; gone after `lab down`.",
        _table("profile", name="lab" if paths.name == "default" else f"lab {paths.name}", colour="#5fd7ff", read_only=True),
        _table(
            "ssh", config_file=str(paths.ssh_config), known_hosts=[str(paths.known_hosts)],
            identity_files=[str(paths.client_key)], user=OPERATOR, jump=["jump"],
        ),
        _table("guards", hold=20, settle=3, patience=10),
        *(_table("[site]", name=n, region=region, description=text) for n, (region, text) in _SITES.items()),
        *(_interconnects()),
        *(
            _table(
                "[tenant]", name=t.name, number=t.number, prefixes=[t.prefix4, t.prefix6], addresses=[t.address4, t.address6],
                zones=[t.zone], min_sites=2,
            )
            for t in TENANTS
        ),
        *(_node(n) for n in nodes),
        *(_table("[vantage]", name=c.name, address=c.name, region=c.region) for c in CLIENTS),
        *(_table("[looking_glass]", name=r.name, peer=r.peer, address=r.name, socket="/run/bird/bird.ctl") for r in ROUTERS),
        *(
            _table(
                "[generator]", name=f"gen{number}", address=c.name, region=c.region, max_qps=_MOST_QPS, processes=1,
                sources=[str(s.ip) for s in sources(c)],
            )
            for number, c in enumerate(CLIENTS, start=1)
        ),
        *(
            _table(
                "[load.target]", name=f"{t.name}.{n.name}", node=n.name, tenant=t.name, addresses=list(unicast(n, t)), **{"class": "lab"},
                max_qps=_MOST_QPS, max_seconds=600, identity=[f"{t.name}.{n.name}"],
            )
            for n in nodes for t in TENANTS
        ),
        _table("prometheus", url=f"http://{PROMETHEUS}:9090", via="jump", qps=QPS_QUERY),
    ]  # fmt: skip
    return "\n".join(blocks)


def _interconnects() -> list[str]:
    blocks = []
    for p in PEERS:
        blocks.append(_table("[interconnect]", name=p.name, kind=p.kind, description=p.description))
        extra = {"community": p.community} if p.community else {}
        peer = _table(
            "[interconnect.peer]", name=p.name, asn=p.asn, soft=list(p.soft), honours_gshut=p.honours_gshut, **extra
        )
        blocks.append(f"{peer}numbers = {{ ipv4 = {p.number4}, ipv6 = {p.number6} }}\n")
    return blocks


def _node(spec: Node) -> str:
    blocks = [
        _table("[node]", name=spec.name, site=spec.site, address=spec.name, stack="bare"),
        _table("[node.speaker]", kind=spec.speaker, **_SPEAKERS[spec.speaker]),
        *(_table("[node.speaker.session]", name=s.name, peer=s.peer.name, family=s.family) for s in sessions_of(spec)),
    ]  # fmt: skip
    made = instance(spec, TENANTS[0])
    chroot = chroot_of(TENANTS[0]).replace(TENANTS[0].name, "{tenant}")
    blocks.append(
        _table("[node.name_server]", kind=spec.name_server, chroot=chroot, user="ns-{tenant}", **made.profile)
    )
    return "\n".join(blocks)


def _table(header: str, **values: str | int | bool | list[str]) -> str:
    return f"[{header}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: str | int | bool | list[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
