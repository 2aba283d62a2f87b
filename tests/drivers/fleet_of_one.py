"""A small inventory with every kind of speaker and name server."""

from __future__ import annotations

from anyconsole.model.inventory import (
    Family,
    InstanceSpec,
    Interconnect,
    InterconnectKind,
    Inventory,
    LookingGlass,
    NodeSpec,
    Peer,
    SessionSpec,
    Site,
    SpeakerSpec,
    Tenant,
    Vantage,
)

__all__ = ["INVENTORY", "NODE"]


def _sessions(v4: str, v6: str) -> tuple[SessionSpec, ...]:
    return (
        SessionSpec(name=v4, peer="ix1", family=Family.IPV4, number=11),
        SessionSpec(name=v6, peer="ix1", family=Family.IPV6, number=12),
    )


NODE = NodeSpec(
    name="fra1",
    site="fra",
    address="fra1",
    speakers=(
        SpeakerSpec(name="bird", kind="bird", socket="/run/bird/bird.ctl", sessions=_sessions("ix1_v4", "ix1_v6")),
        SpeakerSpec(
            name="frr", kind="frr", socket="/run/frr/bgpd.vty", sessions=_sessions("10.0.11.2", "fd00:0:11::2")
        ),
        SpeakerSpec(
            name="gobgp", kind="gobgp", socket="unix:///run/gobgp.sock", sessions=_sessions("10.0.11.2", "fd00:0:11::2")
        ),
    ),
    instances=(
        InstanceSpec(tenant="de", kind="nsd", control="/srv/de/nsd.ctl", chroot="/srv/de", pid_file="/srv/de/nsd.pid"),
        InstanceSpec(
            tenant="nic", kind="knot", control="/srv/nic/knot.sock", chroot="/srv/nic", pid_file="/srv/nic/k.pid"
        ),
        InstanceSpec(
            tenant="enum", kind="bind", control="127.0.0.1:8003", chroot="/srv/enum", pid_file="/srv/enum/n.pid"
        ),
    ),
)

INVENTORY = Inventory(
    name="one",
    sites=(Site(name="fra"),),
    interconnects=(
        Interconnect(
            name="ix1",
            kind=InterconnectKind.IXP,
            peers=(
                Peer(
                    name="ix1",
                    interconnect="ix1",
                    asn=64611,
                    numbers={Family.IPV4: 11, Family.IPV6: 12},
                    community="64611:70",
                ),
            ),
        ),
    ),
    tenants=(
        Tenant(
            name="de",
            number=1,
            prefixes=("192.0.2.0/24", "2001:db8:de::/48"),
            addresses=("192.0.2.53", "2001:db8:de::53"),
            zones=("example.de",),
        ),
        Tenant(
            name="nic", number=2, prefixes=("198.51.100.0/24",), addresses=("198.51.100.53",), zones=("Example.DE.",)
        ),
        Tenant(name="enum", number=3, prefixes=("203.0.113.0/24",), addresses=("203.0.113.53",), zones=("example.de",)),
        Tenant(
            name="elsewhere", number=4, prefixes=("198.18.0.0/24",), addresses=("198.18.0.53",), zones=("example.org",)
        ),
    ),
    nodes=(NODE,),
    vantages=(Vantage(name="client1", address="client1"),),
    looking_glasses=(LookingGlass(name="rs1", peer="ix1", address="rs1", socket="/run/bird/bird.ctl"),),
)
