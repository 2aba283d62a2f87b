"""The profile of a lab: what the console has to know about it, written from the topology the lab was built from."""

from __future__ import annotations

from anyconsole.lab.accounts import OPERATOR
from anyconsole.lab.metrics import QPS_QUERY
from anyconsole.lab.nameservers import chroot_of, instance
from anyconsole.lab.paths import LabPaths
from anyconsole.lab.topology import CLIENTS, NODES, PEERS, PROMETHEUS, ROUTERS, TENANTS, Node, sessions_of

__all__ = ["profile_text"]

_SITES = {"fra": ("eu", "Frankfurt"), "ams": ("eu", "Amsterdam"), "lon": ("eu", "London"), "sin": ("ap", "Singapore")}


def profile_text(paths: LabPaths) -> str:
    """The lab's profile as TOML."""
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
        *(_node(n) for n in NODES),
        *(_table("[vantage]", name=c.name, address=c.name, region=c.region) for c in CLIENTS),
        *(_table("[looking_glass]", name=r.name, peer=r.peer, address=r.name, socket="/run/bird/bird.ctl") for r in ROUTERS),
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
    bird = spec.speaker == "bird"
    blocks = [
        _table("[node]", name=spec.name, site=spec.site, address=spec.name, stack="bare"),
        _table("[node.speaker]", kind="bird", socket="/run/bird/bird.ctl", drain_file="/etc/bird/drain.conf", log="/var/log/bird.log")
        if bird
        else _table("[node.speaker]", kind="frr", socket="/var/run/frr/bgpd.vty", log="/var/log/frr/frr.log"),
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
