"""The fleet as it is meant to be: what a profile says after it was read, checked and its placeholders were filled in.

Everything here is a frozen value. `anyconsole.profile` makes it from TOML; drivers, engine and screen only read it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property, lru_cache
from ipaddress import ip_address, ip_network
from typing import TypeAlias

import msgspec

from anyconsole.model.bootstrap import Bootstrap

__all__ = [
    "Bootstrap", "ClusterSpec", "Family", "Generator", "GuardLimits", "Host", "InstanceSpec", "Interconnect", "InterconnectKind",
    "Inventory", "LoadEngine", "LoadSpec", "LoadTarget", "LookingGlass", "MonitoringPart", "NameServerKind", "NodeSpec", "Peer",
    "PollSpec", "PrometheusSpec", "QueryKind", "SessionSpec", "Site", "SoftRecipe", "SpeakerSpec", "SshSpec", "Stack", "StackSpec",
    "StackTenant", "TargetClass", "Tenant", "Vantage", "family_of",
]  # fmt: skip


class Family(StrEnum):
    """A BGP address family (AFI); SAFI is always unicast here."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"


class Stack(StrEnum):
    """The two kinds of anycast stack."""

    BARE = "bare"
    VIRTUAL = "virtual"


class InterconnectKind(StrEnum):
    """How a site meets its neighbours."""

    IXP = "ixp"
    TRANSIT = "transit"
    PNI = "pni"


class SoftRecipe(StrEnum):
    """One way to de-prefer an announcement towards a peer (RFC 8326 first, prepending last)."""

    GSHUT = "gshut"
    COMMUNITY = "community"
    PREPEND = "prepend"
    MED = "med"


class LoadEngine(StrEnum):
    """What makes the queries of a load test on a generator."""

    AGENT = "agent"
    DNSPERF = "dnsperf"
    KXDPGUN = "kxdpgun"


class TargetClass(StrEnum):
    """How much harm a load test of a target can do, which decides what is asked for before it may begin."""

    LAB = "lab"
    CANARY = "canary"
    PROD = "prod"


class QueryKind(StrEnum):
    """The kinds of queries that are mixed from a zone. NXDOMAIN asks for names that aren't there."""

    A = "A"
    AAAA = "AAAA"
    NXDOMAIN = "NXDOMAIN"


class NameServerKind(StrEnum):
    """The name servers that set-up can make in a cluster."""

    NSD = "nsd"
    KNOT = "knot"
    BIND = "bind"


class MonitoringPart(StrEnum):
    """What set-up can make for monitoring in a cluster, each where an image is named for it."""

    PROMETHEUS = "prometheus"
    NODE_EXPORTER = "node-exporter"
    BLACKBOX_EXPORTER = "blackbox-exporter"
    KUBE_STATE_METRICS = "kube-state-metrics"
    FILEBEAT = "filebeat"
    NGINX = "nginx"


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A location (PoP) with nodes."""

    name: str
    region: str = ""
    description: str = ""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A neighbouring network at an interconnect. `numbers` are its session numbers in the drain sets, by family."""

    name: str
    interconnect: str
    asn: int
    numbers: dict[Family, int] = {}
    soft: tuple[SoftRecipe, ...] = (SoftRecipe.GSHUT,)
    community: str = ""
    honours_gshut: bool | None = None


class Interconnect(msgspec.Struct, frozen=True, kw_only=True):
    """An IXP, a transit or a private peering."""

    name: str
    kind: InterconnectKind
    description: str = ""
    peers: tuple[Peer, ...] = ()


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A customer of the stack. `number` is its number in the drain sets and never changes."""

    name: str
    number: int
    prefixes: tuple[str, ...]
    addresses: tuple[str, ...]
    zones: tuple[str, ...]
    min_sites: int = 1

    def addresses_in(self, prefix: str) -> tuple[str, ...]:
        """The service addresses that live in `prefix`."""
        return _addresses_in(self.addresses, prefix)


class SessionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One BGP session as the speaker knows it. `name` is BIRD's protocol name, or the neighbour's address for others."""

    name: str
    peer: str
    family: Family
    number: int

    @property
    def title(self) -> str:
        """Its name for people: an address alone doesn't tell which peer that is."""
        return self.name if self.peer in self.name else f"{self.peer} {self.name}"


class SpeakerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A routing daemon. `socket` is its control socket (BIRD), vty socket (FRR) or API target (GoBGP); Calico has none."""

    name: str
    kind: str
    socket: str = ""
    drain_file: str = ""
    log: str = ""
    sessions: tuple[SessionSpec, ...] = ()


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The name server of one tenant on one node. Paths are the node's; `control` is a socket path, or host:port for BIND.

    In a cluster it is the tenant's pod on that node, and has no paths.
    """

    tenant: str
    kind: str
    control: str = ""
    chroot: str = ""
    pid_file: str = ""
    user: str = ""
    log: str = ""
    config: str = ""


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One host of the fleet. One in a `cluster` has no SSH link: it is known by its Kubernetes name, `address`, through the API."""

    name: str
    site: str
    address: str
    stack: Stack = Stack.BARE
    cluster: str = ""
    user: str = ""
    jump: tuple[str, ...] | None = None
    speakers: tuple[SpeakerSpec, ...] = ()
    instances: tuple[InstanceSpec, ...] = ()


class Vantage(msgspec.Struct, frozen=True, kw_only=True):
    """A host outside the nodes from which the service addresses are asked: it sees the catchment."""

    name: str
    address: str
    region: str = ""
    user: str = ""
    jump: tuple[str, ...] | None = None


class LookingGlass(msgspec.Struct, frozen=True, kw_only=True):
    """A host on which the table of a peer's network may be read: a router, route server or route collector. Never written to.

    `socket` is the control socket of the daemon there (`kind`). A peer may have several.
    """

    name: str
    peer: str
    address: str
    socket: str
    kind: str = "bird"
    user: str = ""
    jump: tuple[str, ...] | None = None


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """A host that makes the queries of load tests, at most `max_qps` a second.

    `sources` are its addresses to ask from, of both families; none is "whatever the host chooses". 0 `processes` is "by its cores".
    A `dedicated` one does nothing else: kxdpgun may take its `interface`, which carries no service address.

    One in a `cluster` is so many pods of a Job (`replicas`) that is made for each test, on nodes with the labels `node_selector`. Each is a
    generator with a `max_qps` of its own, and gets a core for each of its `processes`. `image` "" is the stack's `python`.
    """

    name: str
    address: str
    region: str = ""
    user: str = ""
    jump: tuple[str, ...] | None = None
    engine: LoadEngine = LoadEngine.AGENT
    max_qps: int = 50000
    processes: int = 0
    sources: tuple[str, ...] = ()
    dedicated: bool = False
    interface: str = ""
    cluster: str = ""
    namespace: str = "anyconsole"
    image: str = ""
    replicas: int = 1
    node_selector: dict[str, str] = {}

    @property
    def link(self) -> str:
        """Whose connection leads to it: its cluster's, or its own."""
        return self.cluster or self.name

    @property
    def members(self) -> tuple[Generator, ...]:
        """The generators that it stands for: itself, or its pods, NAME-0 and so on."""
        if not self.cluster:
            return (self,)
        return tuple(
            msgspec.structs.replace(self, name=f"{self.name}-{i}", replicas=1, processes=self.processes or 1)
            for i in range(self.replicas)
        )


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A Kubernetes cluster, reached by what a kubeconfig says ("" is $KUBECONFIG, else ~/.kube/config; "" is its current context).

    `jump` is the chain of hosts that reaches its API server, the outermost first; none is directly. `namespaces` are those of the tenants,
    by tenant; each has its own. `calico` is where calico-node's pods live. `prometheus` is a Service in the cluster, "NAMESPACE/NAME:PORT"
    (port by name or number), read through the API server; `qps` is PromQL with one series per pod, which the two labels name.
    """

    name: str
    kubeconfig: str = ""
    context: str = ""
    jump: tuple[str, ...] = ()
    namespaces: dict[str, str] = {}
    monitoring: str = "monitoring"
    calico: str = "kube-system"
    prometheus: str = ""
    qps: str = ""
    namespace_label: str = "namespace"
    pod_label: str = "pod"


class StackTenant(msgspec.Struct, frozen=True, kw_only=True):
    """Where the pods of a tenant get its zones: from its `primaries`, signed with the TSIG key in a Secret of its namespace.

    The Secret has the keys `name`, `algorithm` and `secret`; "" is unsigned. Set-up makes it of what `tsig_command` prints or the variable
    `tsig_env` of the environment holds, [ALGORITHM:]NAME:SECRET; without either it is somebody else's. It is never read from a cluster.
    """

    tenant: str
    primaries: tuple[str, ...]
    tsig_secret: str = ""
    tsig_command: str = ""
    tsig_env: str = ""

    @property
    def tsig_source(self) -> str:
        """Where set-up reads the key, in words; "" if it doesn't."""
        return f"`{self.tsig_command}`" if self.tsig_command else f"${self.tsig_env}" if self.tsig_env else ""


class StackSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What set-up makes in clusters, the same in all of them. Images are references; what has none isn't made.

    `images` and `exporters` are by kind of name server, the vendors' own where they publish one (NLnet Labs doesn't); `python` runs the
    observer. `cpu` and `memory` are for one name server. `soa_lag` is seconds that a zone may be older than at its primaries before the pod
    stops being ready, 0 is for ever. `bgp_peers`: set-up makes a BGPPeer for each session of the profile.
    """

    images: dict[NameServerKind, str] = msgspec.field(
        default_factory=lambda: {
            NameServerKind.KNOT: "docker.io/cznic/knot:latest",
            NameServerKind.BIND: "docker.io/internetsystemsconsortium/bind9:9.20",
        }
    )
    exporters: dict[NameServerKind, str] = msgspec.field(
        default_factory=lambda: {NameServerKind.BIND: "quay.io/prometheuscommunity/bind-exporter:v0.8.0"}
    )
    python: str = "docker.io/library/python:3.13-slim"
    monitoring: dict[MonitoringPart, str] = {}
    cpu: str = "500m"
    memory: str = "512Mi"
    soa_lag: int = 86400
    bgp_peers: bool = False
    tenants: tuple[StackTenant, ...] = ()

    def tenant(self, name: str) -> StackTenant | None:
        """What is said of a tenant, None if nothing is."""
        return next((tenant for tenant in self.tenants if tenant.tenant == name), None)


Host: TypeAlias = NodeSpec | Vantage | LookingGlass | Generator | Bootstrap
"""Whatever has an SSH link."""


class SshSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults of every SSH connection. Empty fields are left to the user's own ssh configuration (`ssh -G`)."""

    user: str = ""
    jump: tuple[str, ...] = ()
    config_file: str = ""
    known_hosts: tuple[str, ...] = ()
    identity_files: tuple[str, ...] = ()
    connect_timeout: float = 15.0


class PollSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How often is looked, in seconds, and how old evidence may get before it is called stale or the link is dropped."""

    probe: float = 1.0
    dns: float = 2.0
    prometheus: float = 5.0
    stale: float = 3.0
    drop: float = 8.0


class PrometheusSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where queries per second are read. `via` names the jump host its address is reached through ("" = directly).

    `qps` is PromQL that returns one series per instance; the two labels name its node and its tenant.
    """

    url: str
    qps: str
    node_label: str = "node"
    tenant_label: str = "tenant"
    via: str = ""


class GuardLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that every change is checked against, and its paces.

    `hold` is seconds until a node takes back what was not confirmed. What goes hard after soft waits until the node answers less than
    `residual` (a share) of the queries it answered before, `settle` seconds at least; after `patience` seconds a human is asked.
    """

    min_nodes: int = 2
    min_share: float = 0.5
    min_per_region: int = 1
    max_load: float = 0.7
    evidence_max_age: float = 30.0
    hold: int = 120
    settle: float = 180.0
    residual: float = 0.05
    patience: float = 600.0


class LoadTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One instance that may be load tested, at addresses that are its alone. What isn't listed as a target never is one.

    `users` are the operators who may do so; nobody named is everybody. `identity` are the NSIDs it must answer with; none is "one that
    names the node, and the tenant where the node has several". Queries are for names under `zone`, to `port` (UDP and TCP) or `dot_port`:
    those of the file `queries`, "" for names of the zone as it is transferred from there.
    """

    name: str
    node: str
    tenant: str
    addresses: tuple[str, ...]
    class_: TargetClass = msgspec.field(name="class")
    max_qps: int
    max_seconds: int
    port: int = 53
    dot_port: int = 853
    users: tuple[str, ...] = ()
    zone: str = ""
    queries: str = ""
    identity: tuple[str, ...] = ()


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What load tests may do to whom, and what counts as a good answer.

    An answer counts within `timeout` seconds. The best rate loses at most `loss` of its queries, is told to `width`, and its p99 stays
    under `p99_guard_ms`. `mix` are the shares of queries from the zone of a target.
    """

    timeout: float = 0.5
    loss: float = 0.01
    width: float = 0.01
    p99_guard_ms: float = 50.0
    second_pair_of_eyes: bool = True
    mix: dict[QueryKind, float] = msgspec.field(
        default_factory=lambda: {QueryKind.A: 0.75, QueryKind.AAAA: 0.15, QueryKind.NXDOMAIN: 0.1}
    )
    targets: tuple[LoadTarget, ...] = ()


class Inventory(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A whole profile. Host, site and tenant names are unique; order is the profile's.

    `read_only` is how a console starts; `is_locked` says that it can't be armed either (`--read-only`).
    """

    name: str
    colour: str = ""
    read_only: bool = True
    is_locked: bool = False
    syslog: bool = False
    path: str = ""
    ssh: SshSpec = SshSpec()
    poll: PollSpec = PollSpec()
    guards: GuardLimits = GuardLimits()
    sites: tuple[Site, ...] = ()
    interconnects: tuple[Interconnect, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    clusters: tuple[ClusterSpec, ...] = ()
    nodes: tuple[NodeSpec, ...] = ()
    vantages: tuple[Vantage, ...] = ()
    looking_glasses: tuple[LookingGlass, ...] = ()
    generators: tuple[Generator, ...] = ()
    bootstraps: tuple[Bootstrap, ...] = ()
    load: LoadSpec = LoadSpec()
    stack: StackSpec = StackSpec()
    prometheus: PrometheusSpec | None = None

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host with an SSH link: what is in no cluster of nodes, vantage points, looking glasses and generators; what becomes one."""
        bare = (n for n in self.nodes if not n.cluster)
        generators = (g for g in self.generators if not g.cluster)
        return (*bare, *self.vantages, *self.looking_glasses, *generators, *self.bootstraps)

    def node(self, name: str) -> NodeSpec:
        """The node called `name`. Raises KeyError."""
        return self._nodes[name]

    def cluster(self, name: str) -> ClusterSpec:
        """The cluster called `name`. Raises KeyError."""
        return self._clusters[name]

    def tenant(self, name: str) -> Tenant:
        """The tenant called `name`. Raises KeyError."""
        return self._tenants[name]

    def site(self, name: str) -> Site:
        """The site called `name`. Raises KeyError."""
        return self._sites[name]

    def peer(self, name: str) -> Peer:
        """The peer called `name`. Raises KeyError."""
        return self._peers[name]

    @cached_property
    def _nodes(self) -> dict[str, NodeSpec]:
        return {n.name: n for n in self.nodes}

    @cached_property
    def _clusters(self) -> dict[str, ClusterSpec]:
        return {c.name: c for c in self.clusters}

    @cached_property
    def _sites(self) -> dict[str, Site]:
        return {s.name: s for s in self.sites}

    @cached_property
    def _tenants(self) -> dict[str, Tenant]:
        return {t.name: t for t in self.tenants}

    @cached_property
    def _peers(self) -> dict[str, Peer]:
        return {p.name: p for i in self.interconnects for p in i.peers}


@lru_cache(maxsize=65536)
def family_of(text: str) -> Family:
    """The family of an address or a prefix in text. Raises ValueError."""
    return Family.IPV6 if ip_network(text, strict=False).version == 6 else Family.IPV4


@lru_cache(maxsize=65536)
def _addresses_in(addresses: tuple[str, ...], prefix: str) -> tuple[str, ...]:
    network = ip_network(prefix)
    return tuple(a for a in addresses if ip_address(a) in network)
