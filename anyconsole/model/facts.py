"""What was observed: frozen facts, each with the section that saw it and the time it was true.

Times are seconds since the epoch on the engine's clock. A fact is replaced by the next one with the same `key`; between two facts a
`Beat` says that its section was looked at again and nothing had changed, so age of evidence is known without repeating the fact.
A section is one source on one node: a speaker ("bird"), an instance ("nsd:de"), "host", "dns" (asked from there), "prometheus:de",
or "routes" on a looking glass.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, TypeAlias

import msgspec

from anyconsole.model.fact import Fact, Key
from anyconsole.model.inventory import Family
from anyconsole.model.metrics import DnsProbe, Metrics, Workload
from anyconsole.model.pods import Cluster, ClusterEvent, ClusterNode, Pod, RoutingConfig, TenantSet

__all__ = [
    "COVERING_EVERY", "Answer", "Beat", "Chroot", "Counted", "Covering", "Export", "Exported", "Fact", "Gone", "HostHealth",
    "InstanceStatus", "Key", "Link", "LinkState", "Observation", "PeerPath", "PeerRoute", "QueryRates", "SessionState", "SessionStatus",
    "SpeakerStatus", "covering_section",
]  # fmt: skip


class LinkState(StrEnum):
    """What our connection to a node is doing."""

    IDLE = "idle"
    CONNECTING = "connecting"
    STARTING = "starting"
    LIVE = "live"
    STALE = "stale"
    BACKOFF = "backoff"
    DENIED = "denied"
    UNTRUSTED = "untrusted"
    KEY_CHANGED = "key-changed"


class SessionState(StrEnum):
    """States of the BGP finite state machine (RFC 4271, 8.2.2) and the ways in which a session is kept down."""

    ESTABLISHED = "Established"
    OPEN_CONFIRM = "OpenConfirm"
    OPEN_SENT = "OpenSent"
    ACTIVE = "Active"
    CONNECT = "Connect"
    IDLE = "Idle"
    PASSIVE = "Passive"
    ADMIN_DOWN = "Admin down"
    PEER_ADMIN_DOWN = "Peer admin down"
    LIMIT = "Limit hit"
    ABSENT = "Absent"
    UNKNOWN = "Unknown"


class Exported(StrEnum):
    """What a speaker sends for one prefix on one session."""

    ANNOUNCED = "announced"
    DEPREFERRED = "depreferred"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Chroot(StrEnum):
    """Whether a name server's process was seen inside its chroot."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    UNKNOWN = "unknown"


class Link(Fact, frozen=True, kw_only=True, tag="link"):
    """Our connection to a host: node, vantage point or looking glass.

    `since` is when `state` began; `error` is a word of the SSH error table.
    """

    kind: ClassVar[str] = "link"

    state: LinkState
    since: float
    error: str = ""
    detail: str = ""
    fingerprint: str = ""
    retry_at: float = 0.0
    probe: str = ""


class HostHealth(Fact, frozen=True, kw_only=True, tag="host"):
    """A node's host. Memory in bytes, `clock_offset` in seconds (node minus engine), `addresses` are service addresses it holds."""

    kind: ClassVar[str] = "host"

    load1: float
    cores: int
    mem_total: int
    mem_available: int
    uptime: float
    clock_offset: float
    addresses: tuple[str, ...] = ()


class SpeakerStatus(Fact, frozen=True, kw_only=True, tag="speaker"):
    """A routing daemon and its drain state as it is in the daemon's own memory.

    `drain_hard` and `drain_soft` are (tenant number, session number) pairs; `drain_serial` is None where it could not be read.
    `disk_serial`, `disk_hard`, `disk_soft` and `disk_note` are what the drain file on the node says, None where there is none or it may
    not be read, or understood; `disk_fault` says why if it is missing or is no drain file any more. `pending` is the text of
    an unconfirmed reconfiguration, "" if there is none.
    """

    kind: ClassVar[str] = "speaker"

    speaker: str
    daemon: str
    running: bool
    version: str = ""
    router_id: str = ""
    detail: str = ""
    last_reconfigured: str = ""
    pending: str = ""
    drain_serial: int | None = None
    disk_serial: int | None = None
    drain_note: str = ""
    drain_hard: tuple[tuple[int, int], ...] = ()
    drain_soft: tuple[tuple[int, int], ...] = ()
    disk_note: str = ""
    disk_hard: tuple[tuple[int, int], ...] | None = None
    disk_soft: tuple[tuple[int, int], ...] | None = None
    disk_fault: str = ""

    @property
    def key(self) -> Key:
        """One per speaker of a node."""
        return (self.kind, self.node, self.speaker)


class SessionStatus(Fact, frozen=True, kw_only=True, tag="session"):
    """A BGP session. `since` is the daemon's own words; counts are None where the daemon doesn't tell.

    `local` is our address on the session, by which the peer's routes are told to be ours; "" where it isn't known.
    """

    kind: ClassVar[str] = "session"

    speaker: str
    session: str
    state: SessionState
    since: str = ""
    info: str = ""
    neighbor: str = ""
    local: str = ""
    neighbor_as: int | None = None
    imported: int | None = None
    exported: int | None = None

    @property
    def key(self) -> Key:
        """One per session of a node's speaker."""
        return (self.kind, self.node, self.speaker, self.session)


class Export(Fact, frozen=True, kw_only=True, tag="export"):
    """What a speaker sends for one prefix on one session, and the attributes that make it preferred or not."""

    kind: ClassVar[str] = "export"

    speaker: str
    session: str
    prefix: str
    exported: Exported
    communities: tuple[str, ...] = ()
    as_path: tuple[int, ...] = ()
    med: int | None = None
    detail: str = ""

    @property
    def key(self) -> Key:
        """One per announcement: prefix x session."""
        return (self.kind, self.node, self.speaker, self.session, self.prefix)


COVERING_EVERY = 10.0
"""Seconds between looks at what covers the addresses of load tests; a look that somebody waits for is made at once."""


def covering_section(speaker: str) -> str:
    """The section that sees what a speaker sends that covers addresses."""
    return f"{speaker}:covering"


class Covering(Fact, frozen=True, kw_only=True, tag="covering"):
    """What a speaker sends that covers an address which the profile lets be load tested, on any session, as "PREFIX on SESSION".

    `unknown` says why there may be more, "" if there isn't.
    """

    kind: ClassVar[str] = "covering"

    speaker: str
    address: str
    routes: tuple[str, ...] = ()
    unknown: str = ""

    @property
    def key(self) -> Key:
        """One per speaker of a node and address."""
        return (self.kind, self.node, self.speaker, self.address)


class InstanceStatus(Fact, frozen=True, kw_only=True, tag="instance"):
    """A tenant's name server process. `serials` by zone, `rss` in bytes, `uptime` in seconds; None where not known.

    `is_ready` is what an observer beside it says, which asks it over DNS (a pod's readiness); None where there is no observer. `drift` says
    how its pod differs from what set-up would make, "" if it doesn't. `is_absent`: it has no pod in all of its cluster.
    """

    kind: ClassVar[str] = "instance"

    tenant: str
    daemon: str
    running: bool
    version: str = ""
    pid: int | None = None
    uptime: float | None = None
    rss: int | None = None
    chroot: Chroot = Chroot.UNKNOWN
    serials: dict[str, int] = msgspec.field(default_factory=dict)
    is_ready: bool | None = None
    detail: str = ""
    drift: str = ""
    is_absent: bool = False

    @property
    def key(self) -> Key:
        """One per tenant and node."""
        return (self.kind, self.node, self.tenant)


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """An instance's own counters as they stood at `moment` (seconds of its node's monotonic clock), when somebody last looked on purpose.

    `taken` are the queries that it took in, `withheld` those that it deliberately left without any answer; None where it doesn't tell.
    """

    moment: float
    taken: int
    withheld: int | None = None


class QueryRates(Fact, frozen=True, kw_only=True, tag="rates"):
    """Queries per second of an instance, from its own counters (`source` "probe") or from Prometheus. None where not told.

    `counted` stays as it was until the next look: a count of each round would be a change in each round.
    """

    kind: ClassVar[str] = "rates"

    tenant: str
    source: str
    qps: float
    ipv4: float | None = None
    ipv6: float | None = None
    udp: float | None = None
    tcp: float | None = None
    rcodes: dict[str, float] = msgspec.field(default_factory=dict)
    counted: Counted | None = None

    @property
    def key(self) -> Key:
        """One per source, tenant and node."""
        return (self.kind, self.node, self.tenant, self.source)


class Answer(Fact, frozen=True, kw_only=True, tag="answer"):
    """What a service address answered to a SOA query sent from `node` (a node: inside; a vantage point: outside).

    `latency` in seconds; `rcode` and `serial` are None and `error` says why where no usable answer came.
    """

    kind: ClassVar[str] = "answer"

    tenant: str
    address: str
    zone: str
    rcode: str | None = None
    serial: int | None = None
    latency: float | None = None
    nsid: str = ""
    error: str = ""

    @property
    def key(self) -> Key:
        """One per asking host, address and zone."""
        return (self.kind, self.node, self.address, self.zone)

    @property
    def family(self) -> Family:
        """Family of the address asked."""
        return Family.IPV6 if ":" in self.address else Family.IPV4

    @property
    def good(self) -> bool:
        """True if it answered authoritatively enough to serve: NOERROR with a SOA serial."""
        return self.rcode == "NOERROR" and self.serial is not None


class PeerPath(msgspec.Struct, frozen=True, kw_only=True):
    """One path for a prefix in a peer's table.

    `source` is the neighbour it came from; `depreferred` says what makes it less preferred than others, "" if nothing does.
    """

    protocol: str
    source: str = ""
    next_hop: str = ""
    local_pref: int | None = None
    as_path: tuple[int, ...] = ()
    communities: tuple[str, ...] = ()
    best: bool = False
    depreferred: str = ""

    def __str__(self) -> str:
        origin = [f"from {self.source}"] if self.source else []
        return " ".join([self.protocol, *origin, self.attributes])

    @property
    def attributes(self) -> str:
        """What makes a router prefer it or not, in words."""
        words = [f"LP {self.local_pref}"] if self.local_pref is not None else []
        words += ["best"] if self.best else []
        words += [f"as-path {' '.join(map(str, self.as_path))}"] if self.as_path else []
        return " ".join([*words, *self.communities])


class PeerRoute(Fact, frozen=True, kw_only=True, tag="peer_route"):
    """All paths that a looking glass (`node`) has for a prefix: none if the prefix isn't in its table. `more` were left out."""

    kind: ClassVar[str] = "peer_route"

    prefix: str
    paths: tuple[PeerPath, ...] = ()
    more: int = 0

    @property
    def key(self) -> Key:
        """One per looking glass and prefix."""
        return (self.kind, self.node, self.prefix)


class Capacity(Fact, frozen=True, kw_only=True, tag="capacity"):
    """What an instance was measured to answer (queries/s), when (epoch seconds) and how. It never goes stale: its age is told."""

    kind: ClassVar[str] = "capacity"

    tenant: str
    qps: float
    measured_at: float
    how: str = ""

    @property
    def key(self) -> Key:
        """One per tenant and node."""
        return (self.kind, self.node, self.tenant)


Observation: TypeAlias = (
    Link
    | HostHealth
    | SpeakerStatus
    | SessionStatus
    | Export
    | Covering
    | InstanceStatus
    | QueryRates
    | Answer
    | PeerRoute
    | Capacity
    | Cluster
    | ClusterNode
    | ClusterEvent
    | Pod
    | RoutingConfig
    | TenantSet
    | Metrics
    | DnsProbe
    | Workload
)


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    """Sections of a node were looked at again at `at`: their facts are still true."""

    node: str
    at: float
    sections: tuple[str, ...]


class Gone(msgspec.Struct, frozen=True, kw_only=True, tag="gone"):
    """The thing a fact was about no longer exists (a session removed from the daemon)."""

    key: Key
