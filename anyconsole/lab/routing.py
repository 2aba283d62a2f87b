"""Configuration of the routing daemons: BIRD on nodes and routers, FRR on one node.

A node's exports are decided by the drain include file and the numbers of tenants and sessions; nothing else is ever exported.
"""

from __future__ import annotations

from anyconsole.lab.topology import (
    CLIENTS,
    MY_AS,
    ROUTERS,
    TENANTS,
    Link,
    Node,
    Router,
    Session,
    ends_of,
    management,
    node,
    peer,
    sessions_of,
)

__all__ = ["bird_node_files", "bird_router_files", "frr_node_files"]

_TIMERS = "hold time 9; keepalive time 3; connect retry time 1; connect delay time 1; error wait time 1, 3;"
_PEERING_PREFERENCE = 50

DRAIN_CONF = """\
# written by anyconsole; (0,0) is no announcement
define DRAIN_SERIAL = 0;
define DRAIN_NOTE = "";
define DRAIN_HARD = [ (0,0) ];
define DRAIN_SOFT = [ (0,0) ];
"""


def bird_node_files(spec: Node) -> dict[str, str]:
    """Files of /etc/bird on a node."""
    return {
        "bird.conf": 'include "drain.conf";\ninclude "main.conf";\n',
        "stage.conf": 'include "drain.stage.conf";\ninclude "main.conf";\n',
        "drain.conf": DRAIN_CONF,
        "main.conf": _node_main(spec),
    }


def _node_main(spec: Node) -> str:
    sessions = sessions_of(spec)
    parts = [
        _bird_head(spec.name),
        f"define MYAS = {MY_AS};",
        "define GSHUT = (65535, 0);",
        "attribute int ac_tenant;",
        "",
        "protocol static svc4 { ipv4;",
        *(f"  route {t.prefix4} blackhole {{ ac_tenant = {t.number}; }};" for t in TENANTS),
        "}",
        "protocol static svc6 { ipv6;",
        *(f"  route {t.prefix6} blackhole {{ ac_tenant = {t.number}; }};" for t in TENANTS),
        "}",
        "",
        "# The one export decision: tenant number and session number against the sets of drain.conf.",
        "function ac_export(int sn)",
        "int t;",
        "{",
        "  if !defined(ac_tenant) then return false;",
        "  t = ac_tenant;",
        "  if (t, sn) ~ DRAIN_HARD then return false;",
        "  if (t, sn) ~ DRAIN_SOFT then {",
        "    bgp_community.add(GSHUT);",
        *_bird_own_communities(sessions),
        "    bgp_med = 4294967294;",
        "    bgp_path.prepend(MYAS); bgp_path.prepend(MYAS); bgp_path.prepend(MYAS);",
        "  }",
        "  return true;",
        "}",
        "",
    ]
    parts += [
        f'protocol bgp {s.name} {{ description "{s.peer.name} {s.family}"; local {s.local} as MYAS; '
        f"neighbor {s.neighbor} as {s.peer.asn}; direct; check link yes; {_TIMERS} "
        f"{s.family} {{ import all; export where ac_export({s.number}); next hop self; }}; }}"
        for s in sessions
    ]
    return "\n".join(parts) + "\n"


def _bird_own_communities(sessions: tuple[Session, ...]) -> list[str]:
    return [
        f"    if sn = {s.number} then bgp_community.add(({s.peer.community.replace(':', ', ')}));"
        for s in sessions
        if s.peer.community
    ]


def _bird_head(host: str) -> str:
    return "\n".join(
        (
            'log "/var/log/bird.log" { info, remote, warning, error, auth, fatal, bug };',
            f"router id {management(host)[0].ip};",
            "debug protocols { states };",
            "timeformat protocol iso long ms;",
            "protocol device { scan time 2; }",
            "protocol kernel kernel4 { ipv4 { import none; export where source = RTS_BGP; }; }",
            "protocol kernel kernel6 { ipv6 { import none; export where source = RTS_BGP; }; }",
        )
    )


def bird_router_files(spec: Router) -> dict[str, str]:
    """Files of /etc/bird on a router: LOCAL_PREF by node and tenant, its own way to honour a soft drain."""
    network = peer(spec.peer)
    parts = [_bird_head(spec.name)]
    clients = [c.name for c in CLIENTS if c.router == spec.name]
    if clients:
        names = ", ".join(f'"{name}"' for name in clients)
        parts.append(f"protocol direct clients {{ ipv4; ipv6; interface {names}; }}")
    for link in ends_of(spec.name):
        far = link.other(spec.name)
        if (here := node(far)) is not None:
            parts.append(_preference_function(spec, here))
            parts += _router_sessions(spec, link, far, MY_AS, f"import where from_{far}();")
        elif (other := next((r for r in ROUTERS if r.name == far), None)) is not None:
            internal = other.peer == spec.peer
            policy = "import all;" if internal else "import where from_peering();"
            parts += _router_sessions(spec, link, far, peer(other.peer).asn, policy)
    peering = f"function from_peering() {{ bgp_local_pref = {_PEERING_PREFERENCE}; return true; }}"
    parts.insert(1, peering)
    parts.insert(1, f"define MYAS = {network.asn};")
    return {"bird.conf": "\n".join(parts) + "\n"}


def _preference_function(spec: Router, here: Node) -> str:
    network = peer(spec.peer)
    lines = [f"function from_{here.name}() {{", f"  bgp_local_pref = {_preference(spec, '', here.name)};"]
    for tenant in TENANTS:
        if tenant.name in spec.preferences:
            exception = _preference(spec, tenant.name, here.name)
            lines += [f"  if net = {p} then bgp_local_pref = {exception};" for p in (tenant.prefix4, tenant.prefix6)]
    if network.community:
        asn, value = network.community.split(":")
        lines.append(f"  if ({asn}, {value}) ~ bgp_community then bgp_local_pref = {value};")
    if network.honours_gshut:
        lines.append("  if (65535, 0) ~ bgp_community then bgp_local_pref = 0;")
    return "\n".join([*lines, "  return true;", "}"])


def _preference(spec: Router, tenant: str, here: str) -> int:
    return spec.top - 10 * spec.preferences[tenant].index(here)


def _router_sessions(spec: Router, link: Link, far: str, asn: int, policy: str) -> list[str]:
    pairs = (
        ("ipv4", link.interface4(spec.name).ip, link.interface4(far).ip),
        ("ipv6", link.interface6(spec.name).ip, link.interface6(far).ip),
    )
    return [
        f"protocol bgp {far}_v{family[-1]} {{ local {near} as MYAS; neighbor {remote} as {asn}; direct; check link yes; "
        f"{_TIMERS} {family} {{ {policy} export all; next hop self; }}; }}"
        for family, near, remote in pairs
    ]


def frr_node_files(spec: Node) -> dict[str, str]:
    """Files of /etc/frr on a node. A drain is a prefix-list AC-HARD-<PEER> or AC-SOFT-<PEER>; without one nothing is drained."""
    sessions = sessions_of(spec)
    lines = [
        "frr version 8.4.4", "frr defaults traditional", f"hostname {spec.name}", "log file /var/log/frr/frr.log",
        "service integrated-vtysh-config",
    ]  # fmt: skip
    for position, tenant in enumerate(TENANTS, start=1):
        lines.append(f"ip prefix-list AC-ALL4 seq {position * 10} permit {tenant.prefix4}")
        lines.append(f"ipv6 prefix-list AC-ALL6 seq {position * 10} permit {tenant.prefix6}")
    for network in {s.peer.name: s.peer for s in sessions}.values():
        lines += _frr_route_map(network.name.upper(), network.community)
    lines += [
        f"router bgp {MY_AS}", f" bgp router-id {management(spec.name)[0].ip}", " no bgp ebgp-requires-policy",
        " no bgp network import-check", " no bgp default ipv4-unicast",
    ]  # fmt: skip
    for s in sessions:
        lines += [
            f" neighbor {s.neighbor} remote-as {s.peer.asn}", f" neighbor {s.neighbor} description {s.peer.name} {s.family}",
            f" neighbor {s.neighbor} timers 3 9", f" neighbor {s.neighbor} timers connect 1",
            f" neighbor {s.neighbor} advertisement-interval 0",
        ]  # fmt: skip
    for family in ("ipv4", "ipv6"):
        lines.append(f" address-family {family} unicast")
        lines += [f"  network {t.prefix4 if family == 'ipv4' else t.prefix6}" for t in TENANTS]
        for s in sessions:
            if s.family == family:
                lines += [
                    f"  neighbor {s.neighbor} activate", f"  neighbor {s.neighbor} soft-reconfiguration inbound",
                    f"  neighbor {s.neighbor} route-map {s.peer.name.upper()}-OUT out",
                ]  # fmt: skip
        lines.append(" exit-address-family")
    return {
        "frr.conf": "\n".join(["bgp route-map delay-timer 1", *lines, "exit"]) + "\n",
        "vtysh.conf": "service integrated-vtysh-config\n",
    }


def _frr_route_map(name: str, community: str) -> list[str]:
    lines = []
    for offset, word in enumerate(("ip", "ipv6")):
        lines += [
            f"route-map {name}-OUT deny {10 + offset}",
            f" match {word} address prefix-list AC-HARD-{name}",
            "exit",
        ]
    for offset, word in enumerate(("ip", "ipv6")):
        lines += [
            f"route-map {name}-OUT permit {20 + offset}", f" match {word} address prefix-list AC-SOFT-{name}",
            f" set community graceful-shutdown {community}".rstrip() + " additive",
            f" set as-path prepend {MY_AS} {MY_AS} {MY_AS}", " set metric 4294967294", "exit",
        ]  # fmt: skip
    for offset, word in enumerate(("ip", "ipv6")):
        lines += [
            f"route-map {name}-OUT permit {30 + offset}", f" match {word} address prefix-list AC-ALL{'46'[offset]}", "exit",
        ]  # fmt: skip
    return lines
