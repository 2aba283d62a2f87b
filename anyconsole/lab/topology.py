"""What the lab is made of: hosts, links, addresses, tenants and routing policy. Pure values; nothing here touches the system.

All hosts of one lab hang on a management bridge behind `jump`; nodes, routers and clients are joined by point-to-point links:

    client1 -- transit == transit2 -- ix1 -- client2          fra1: ix1 transit      lon1: ix2 transit2
                            |                                 fra2: ix1 transit2     sin1: ix2 transit2
                           ix2 -- client3                     ams1: ix1 ix2

`transit` and `transit2` are one network (AS64613, iBGP). It honours GRACEFUL_SHUTDOWN, and because fra1's path has the highest
LOCAL_PREF in it, transit2 hides its own paths to fra2, lon1 and sin1: the case RFC 8326 was written for.
`ix2` honours a community of its own instead, `ix1` nothing at all: three kinds of neighbours for drains to deal with.

Every name server also listens on a unicast address of its own node, for load tests: no prefix of it is ever announced by a node, the
routers know it by static routes. A client has a few addresses more on its link, to send load tests from.

Addresses come from documentation and benchmarking prefixes only (RFC 2544, RFC 5737, RFC 3849), AS numbers are private.
"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

import msgspec

__all__ = [
    "CLIENTS", "HOSTS", "LINKS", "MY_AS", "NODES", "PEERS", "PROMETHEUS", "ROUTERS", "SPEAKERS", "TENANTS", "Client", "Link", "Node",
    "Peer", "Router", "Session", "Tenant", "ends_of", "management", "node", "router", "sessions_of", "sources", "static_routes",
    "unicast", "unicast_networks", "uplink",
]  # fmt: skip

MY_AS = 64500
"""The anycast cloud's own AS."""

PROMETHEUS = "prometheus"
"""The host that runs Prometheus."""

SPEAKERS = ("bird", "frr", "gobgp")
"""Routing daemons that a node can run."""


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A customer: what is announced, what answers, and its zone. `number` is its number in the drain sets."""

    name: str
    number: int
    zone: str
    prefix4: str
    prefix6: str
    address4: str
    address6: str
    signed: bool = False

    @property
    def user(self) -> str:
        """The user its name servers run as, on every node."""
        return f"ns-{self.name}"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A neighbouring network, with its session numbers in the drain sets and how it can be asked to de-prefer a path."""

    name: str
    kind: str
    asn: int
    number4: int
    number6: int
    description: str
    soft: tuple[str, ...]
    community: str = ""
    honours_gshut: bool = False


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """A router of a neighbouring network. `preferences` are its nodes per tenant, best first; "" is every other tenant."""

    name: str
    peer: str
    top: int
    preferences: dict[str, tuple[str, ...]]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the anycast cloud. `speaker` is one of SPEAKERS, `name_server` nsd, knot or bind."""

    name: str
    site: str
    region: str
    description: str
    speaker: str
    name_server: str


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A vantage point outside the nodes. `rate` is its background load in queries/s per tenant and family."""

    name: str
    router: str
    region: str
    rate: int


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A point-to-point link; each end's interface is called like the host at the other end."""

    number: int
    a: str
    b: str

    def interface4(self, host: str) -> IPv4Interface:
        """IPv4 address of `host` on this link."""
        return IPv4Interface(f"198.19.{16 + self.number}.{self._side(host)}/29")

    def interface6(self, host: str) -> IPv6Interface:
        """IPv6 address of `host` on this link."""
        return IPv6Interface(f"2001:db8:ff00:{self.number:x}::{self._side(host)}/64")

    def other(self, host: str) -> str:
        """The host at the other end."""
        return self.b if host == self.a else self.a

    def _side(self, host: str) -> int:
        return (self.a, self.b).index(host) + 1


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One BGP session of a node. `name` is BIRD's protocol name, or the neighbour's address on FRR and GoBGP."""

    name: str
    peer: Peer
    router: str
    family: str
    number: int
    neighbor: str
    local: str


TENANTS = (
    Tenant(name="de", number=1, zone="de.example", prefix4="192.0.2.0/24", prefix6="2001:db8:de::/48",
           address4="192.0.2.53", address6="2001:db8:de::53", signed=True),
    Tenant(name="nic", number=2, zone="nic.example", prefix4="198.51.100.0/24", prefix6="2001:db8:11c::/48",
           address4="198.51.100.53", address6="2001:db8:11c::53"),
    Tenant(name="enum", number=3, zone="enum.example", prefix4="203.0.113.0/24", prefix6="2001:db8:e164::/48",
           address4="203.0.113.53", address6="2001:db8:e164::53"),
)  # fmt: skip

PEERS = (
    Peer(name="ix1", kind="ixp", asn=64611, number4=11, number6=12, description="IX One, Frankfurt and Amsterdam",
         soft=("prepend",)),
    Peer(name="ix2", kind="ixp", asn=64612, number4=21, number6=22, description="IX Two, Amsterdam, London and Singapore",
         soft=("community",), community="64612:80"),
    Peer(name="transit", kind="transit", asn=64613, number4=31, number6=32, description="Transit, two routers",
         soft=("gshut",), honours_gshut=True),
)  # fmt: skip

ROUTERS = (
    Router(name="ix1", peer="ix1", top=200, preferences={"": ("ams1", "fra2", "fra1"), "enum": ("fra2", "ams1", "fra1")}),
    Router(name="ix2", peer="ix2", top=200, preferences={"": ("sin1", "lon1", "ams1"), "enum": ("lon1", "sin1", "ams1")}),
    Router(name="transit", peer="transit", top=200, preferences={"": ("fra1",)}),
    Router(name="transit2", peer="transit", top=150, preferences={"": ("fra2", "lon1", "sin1")}),
)  # fmt: skip

NODES = (
    Node(name="fra1", site="fra", region="eu", description="Frankfurt", speaker="bird", name_server="nsd"),
    Node(name="fra2", site="fra", region="eu", description="Frankfurt", speaker="bird", name_server="nsd"),
    Node(name="ams1", site="ams", region="eu", description="Amsterdam", speaker="bird", name_server="knot"),
    Node(name="lon1", site="lon", region="eu", description="London", speaker="frr", name_server="nsd"),
    Node(name="sin1", site="sin", region="ap", description="Singapore", speaker="bird", name_server="bind"),
)

CLIENTS = (
    Client(name="client1", router="transit", region="eu", rate=12),
    Client(name="client2", router="ix1", region="eu", rate=8),
    Client(name="client3", router="ix2", region="ap", rate=5),
)

HOSTS = (
    "jump", *(n.name for n in NODES), *(r.name for r in ROUTERS), *(c.name for c in CLIENTS), PROMETHEUS,
)  # fmt: skip
"""Every host of a lab. Names have no hyphen, so that namespace names of different labs can never be confused."""

LINKS = tuple(
    Link(number=number, a=a, b=b)
    for number, (a, b) in enumerate(
        (
            ("fra1", "ix1"), ("fra1", "transit"), ("fra2", "ix1"), ("fra2", "transit2"), ("ams1", "ix1"), ("ams1", "ix2"),
            ("lon1", "ix2"), ("lon1", "transit2"), ("sin1", "ix2"), ("sin1", "transit2"),
            ("transit", "transit2"), ("ix1", "transit2"), ("ix2", "transit2"),
            *((client.name, client.router) for client in CLIENTS),
        ),
        start=1,
    )
)  # fmt: skip


def management(host: str) -> tuple[IPv4Interface, IPv6Interface]:
    """Addresses of `host` on the management network behind jump."""
    number = HOSTS.index(host) + 1
    return IPv4Interface(f"198.19.0.{number}/24"), IPv6Interface(f"2001:db8:ffff::{number:x}/64")


def uplink(index: int) -> tuple[IPv4Interface, IPv4Interface]:
    """The link between the machine and `jump` of the lab with this index: the machine's address, jump's address."""
    return IPv4Interface(f"198.18.{index}.1/30"), IPv4Interface(f"198.18.{index}.2/30")


def ends_of(host: str) -> tuple[Link, ...]:
    """The links of a host."""
    return tuple(link for link in LINKS if host in {link.a, link.b})


def node(name: str) -> Node | None:
    """The node called `name`, None if that host is no node."""
    return next((n for n in NODES if n.name == name), None)


def router(name: str) -> Router | None:
    """The router called `name`, None if that host is no router."""
    return next((r for r in ROUTERS if r.name == name), None)


def peer(name: str) -> Peer:
    """The neighbouring network called `name`."""
    return next(p for p in PEERS if p.name == name)


def unicast_networks(spec: Node) -> tuple[IPv4Network, IPv6Network]:
    """The networks of a node's unicast addresses."""
    number = [n.name for n in NODES].index(spec.name) + 1
    return IPv4Network(f"198.19.{64 + number}.0/24"), IPv6Network(f"2001:db8:ff01:{number:x}::/64")


def unicast(spec: Node, tenant: Tenant) -> tuple[str, str]:
    """The addresses at which only this node's name server of the tenant answers."""
    networks = unicast_networks(spec)
    return str(networks[0][tenant.number]), str(networks[1][tenant.number])


def sources(client: Client) -> tuple[IPv4Interface | IPv6Interface, ...]:
    """The addresses of a client that load tests are sent from: what it always has first, then those it has for that alone."""
    (link,) = ends_of(client.name)
    own = (link.interface4(client.name), link.interface6(client.name))
    more = [type(first)(f"{first.network[number]}/{first.network.prefixlen}") for first in own for number in (3, 4, 5)]
    return (*own, *more)


def static_routes(host: str) -> dict[str, list[Node]]:
    """The nodes whose unicast addresses a router reaches through each of its neighbours: the shortest way, nodes are no routers."""
    routes: dict[str, list[Node]] = {}
    for target in NODES:
        near, seen = [target.name], {target.name}
        while near:
            # Away from the node, ring by ring: whoever is met first is the neighbour on a shortest way.
            ring = [(link.other(met), met) for met in near for link in ends_of(met) if link.other(met) not in seen]
            if found := next((met for far, met in ring if far == host), None):
                routes.setdefault(found, []).append(target)
                break
            near = list(dict.fromkeys(far for far, _ in ring if router(far) is not None))
            seen.update(near)
    return routes


def sessions_of(spec: Node) -> tuple[Session, ...]:
    """The BGP sessions of a node, IPv4 before IPv6, in the order of its links."""
    sessions = []
    for link in ends_of(spec.name):
        far = router(link.other(spec.name))
        if far is None:
            continue
        network = peer(far.peer)
        for family, near_ip, far_ip, number in (
            ("ipv4", link.interface4(spec.name).ip, link.interface4(far.name).ip, network.number4),
            ("ipv6", link.interface6(spec.name).ip, link.interface6(far.name).ip, network.number6),
        ):
            name = f"{network.name}_v{family[-1]}" if spec.speaker == "bird" else str(far_ip)
            sessions.append(
                Session(name=name, peer=network, router=far.name, family=family, number=number,
                        neighbor=str(far_ip), local=str(near_ip))
            )  # fmt: skip
    return tuple(sessions)
