"""The fleet store: the one place that holds what is known, with one writer.

`apply` takes what drivers emitted and returns the keys that really changed; nothing else mutates it. Engine and screen each hold one: the
screen's is a replica fed by the engine's frames. Bounded: one fact per key, keys bounded by inventory plus a cap for what a node or a
cluster adds.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

import msgspec

from anyconsole.model.facts import (
    COVERING_EVERY,
    Answer,
    Beat,
    Capacity,
    Covering,
    Export,
    Gone,
    HostHealth,
    InstanceStatus,
    Key,
    Link,
    LinkState,
    Observation,
    PeerRoute,
    QueryRates,
    SessionStatus,
    SpeakerStatus,
    covering_section,
)
from anyconsole.model.inventory import Inventory
from anyconsole.model.metrics import SCRAPED_EVERY, DnsProbe, Metrics, Workload, probe_section, workload_section
from anyconsole.model.pods import (
    SET_EVERY,
    Cluster,
    ClusterEvent,
    ClusterNode,
    Pod,
    RoutingConfig,
    TenantSet,
    set_section,
)

__all__ = ["MAX_FACTS_PER_CLUSTER", "MAX_FACTS_PER_NODE", "SERIES_LENGTH", "ChangeSet", "FleetStore", "Update"]

Update: TypeAlias = Observation | Beat | Gone

MAX_FACTS_PER_NODE = 5000
"""A node that reports more distinct things than this is lying; the surplus is dropped and counted."""

MAX_FACTS_PER_CLUSTER = 20_000
"""The same for a cluster: its pods and their events."""

SERIES_LENGTH = 300
"""Samples kept per series; at one a second, five minutes."""

_F = TypeVar("_F", bound=Observation)
_V = TypeVar("_V")


class ChangeSet(msgspec.Struct, frozen=True):
    """What one `apply` changed: facts by key (new or other value), facts that went, nodes whose evidence got fresher."""

    changed: frozenset[Key]
    gone: frozenset[Key]
    beaten: frozenset[str]

    @property
    def nodes(self) -> frozenset[str]:
        """Nodes with at least one changed or vanished fact."""
        return frozenset(key[1] for key in self.changed | self.gone)


class FleetStore:
    """Latest fact per key, freshness per (node, section), and short query-rate series."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.refused = 0
        self._facts: dict[Key, Observation] = {}
        self._keys: dict[str, dict[str, set[Key]]] = {}
        self._sorted: dict[tuple[str, str], list[Key]] = {}
        self._limits = dict.fromkeys((c.name for c in inventory.clusters), MAX_FACTS_PER_CLUSTER)
        self._fresh: dict[str, dict[str, float]] = {}
        self._series: dict[tuple[str, str], deque[float]] = {}
        self._scraped_in = {
            node.name: node.cluster
            for node in inventory.nodes
            if node.cluster and inventory.cluster(node.cluster).prometheus
        }
        self._memo: dict[tuple[str, ...], Any] = {}
        self._memo_at = math.nan

    def apply(self, updates: Iterable[Update]) -> ChangeSet:
        """Take facts, beats and removals in order; equal facts only make the evidence fresher."""
        self._memo_at = math.nan
        changed: set[Key] = set()
        gone: set[Key] = set()
        beaten: set[str] = set()
        for update in updates:
            if isinstance(update, Beat):
                beaten.add(update.node)
                # Not the later of both: a beat may also correct a time that was told before the clock was set back.
                self._fresh.setdefault(update.node, {}).update(dict.fromkeys(update.sections, update.at))
            elif isinstance(update, Gone):
                if self._facts.pop(update.key, None) is not None:
                    self._unlist(update.key)
                    gone.add(update.key)
                    changed.discard(update.key)
            elif self._put(update):
                changed.add(update.key)
                gone.discard(update.key)
            else:
                beaten.add(update.node)
        return ChangeSet(frozenset(changed), frozenset(gone), frozenset(beaten))

    def forget(self) -> ChangeSet:
        """Drop every fact and its freshness, keep the series: whoever fed this store starts anew."""
        gone = frozenset(self._facts)
        self._facts, self._keys, self._sorted, self._fresh, self._memo_at = {}, {}, {}, {}, math.nan
        return ChangeSet(frozenset(), gone, frozenset())

    def clock_was_set(self, by: float) -> frozenset[str]:
        """The clock was set by `by` seconds: all evidence keeps its age. Returns the nodes with evidence."""
        self._fresh = {node: {s: at + by for s, at in sections.items()} for node, sections in self._fresh.items()}
        self._memo_at = math.nan
        return frozenset(self._fresh)

    def _put(self, fact: Observation) -> bool:
        key = fact.key
        old = self._facts.get(key)
        self._freshen(fact.node, fact.section, fact.at)
        if old is None:
            by_kind = self._keys.setdefault(fact.node, {})
            if sum(map(len, by_kind.values())) >= self._limits.get(fact.node, MAX_FACTS_PER_NODE):
                self.refused += 1
                return False
            by_kind.setdefault(key[0], set()).add(key)
            self._sorted.pop((fact.node, key[0]), None)
        elif msgspec.structs.replace(old, at=fact.at) == fact:
            return False
        self._facts[key] = fact
        return True

    def _unlist(self, key: Key) -> None:
        self._keys[key[1]][key[0]].discard(key)
        self._sorted.pop((key[1], key[0]), None)

    def _keys_of(self, node: str, kind: str) -> list[Key]:
        """Keys of one kind of a node's facts in their order, sorted once until one comes or goes."""
        found = self._sorted.get((node, kind))
        if found is None:
            found = self._sorted[node, kind] = sorted(self._keys.get(node, {}).get(kind, ()))
        return found

    def _freshen(self, node: str, section: str, at: float) -> None:
        sections = self._fresh.setdefault(node, {})
        if at > sections.get(section, -math.inf):
            sections[section] = at

    # --- reading

    def __iter__(self) -> Iterator[Observation]:
        return iter(self._facts.values())

    def get(self, key: Key) -> Observation | None:
        """The fact with this key."""
        return self._facts.get(key)

    def of_node(self, node: str, kind: type[_F]) -> list[_F]:
        """All facts of one kind that one node reported, in key order."""
        return [f for f in map(self._facts.__getitem__, self._keys_of(node, kind.kind)) if isinstance(f, kind)]

    def _in_namespace(self, cluster: str, kind: type[_F], namespace: str) -> list[_F]:
        if not namespace:
            return self.of_node(cluster, kind)
        keys = self._keys_of(cluster, kind.kind)
        first = bisect_left(keys, (kind.kind, cluster, namespace))
        last = bisect_right(keys, namespace, first, key=lambda key: key[2])
        return [f for f in map(self._facts.__getitem__, keys[first:last]) if isinstance(f, kind)]

    def link(self, node: str) -> Link | None:
        """Our connection to a node, a cluster, a vantage point, a looking glass, or Prometheus."""
        return self._typed(Link, (Link.kind, node))

    def host(self, node: str) -> HostHealth | None:
        """The node's host."""
        return self._typed(HostHealth, (HostHealth.kind, node))

    def speaker(self, node: str, speaker: str) -> SpeakerStatus | None:
        """A routing daemon."""
        return self._typed(SpeakerStatus, (SpeakerStatus.kind, node, speaker))

    def session(self, node: str, speaker: str, session: str) -> SessionStatus | None:
        """A BGP session."""
        return self._typed(SessionStatus, (SessionStatus.kind, node, speaker, session))

    def export(self, node: str, speaker: str, session: str, prefix: str) -> Export | None:
        """What is sent for a prefix on a session."""
        return self._typed(Export, (Export.kind, node, speaker, session, prefix))

    def covering(self, node: str, speaker: str, address: str) -> Covering | None:
        """What a speaker sends that covers an address of a load test."""
        return self._typed(Covering, (Covering.kind, node, speaker, address))

    def instance(self, node: str, tenant: str) -> InstanceStatus | None:
        """A tenant's name server process."""
        return self._typed(InstanceStatus, (InstanceStatus.kind, node, tenant))

    def rates(self, node: str, tenant: str, source: str) -> QueryRates | None:
        """Query rates of an instance from one source."""
        return self._typed(QueryRates, (QueryRates.kind, node, tenant, source))

    def answer(self, asker: str, address: str, zone: str) -> Answer | None:
        """What `address` answered `asker` about `zone`."""
        return self._typed(Answer, (Answer.kind, asker, address, zone))

    def peer_route(self, glass: str, prefix: str) -> PeerRoute | None:
        """What a looking glass has for `prefix`."""
        return self._typed(PeerRoute, (PeerRoute.kind, glass, prefix))

    def capacity(self, node: str, tenant: str) -> Capacity | None:
        """What an instance was measured to answer, None if it never was."""
        return self._typed(Capacity, (Capacity.kind, node, tenant))

    def cluster(self, name: str) -> Cluster | None:
        """A Kubernetes cluster as a whole."""
        return self._typed(Cluster, (Cluster.kind, name))

    def routing(self, cluster: str) -> RoutingConfig | None:
        """What the announcements of a cluster are configured by."""
        return self._typed(RoutingConfig, (RoutingConfig.kind, cluster))

    def tenant_set(self, cluster: str, tenant: str) -> TenantSet | None:
        """What set-up made of a tenant in a cluster."""
        return self._typed(TenantSet, (TenantSet.kind, cluster, tenant))

    def cluster_node(self, node: str) -> ClusterNode | None:
        """The Node object behind a node of the profile."""
        return self._typed(ClusterNode, (ClusterNode.kind, node))

    def pod(self, cluster: str, namespace: str, name: str) -> Pod | None:
        """One pod."""
        return self._typed(Pod, (Pod.kind, cluster, namespace, name))

    def pods(self, cluster: str, namespace: str = "") -> list[Pod]:
        """Pods of a cluster, or of one of its namespaces, by namespace and name."""
        return self._in_namespace(cluster, Pod, namespace)

    def cluster_events(self, cluster: str, namespace: str = "") -> list[ClusterEvent]:
        """Events of a cluster, or of one of its namespaces, by namespace and name."""
        return self._in_namespace(cluster, ClusterEvent, namespace)

    def metrics(self, cluster: str) -> Metrics | None:
        """What the Prometheus in a cluster had when it was asked last."""
        return self._typed(Metrics, (Metrics.kind, cluster))

    def dns_probe(self, cluster: str, address: str) -> DnsProbe | None:
        """What `address` answered the blackbox-exporter in a cluster."""
        return self._typed(DnsProbe, (DnsProbe.kind, cluster, address))

    def workloads(self, cluster: str) -> list[Workload]:
        """Workloads of a cluster, by namespace, kind and name."""
        return self.of_node(cluster, Workload)

    def _typed(self, kind: type[_F], key: Key) -> _F | None:
        fact = self._facts.get(key)
        return fact if isinstance(fact, kind) else None

    # --- age of evidence

    def seen_at(self, fact: Observation) -> float:
        """When the fact was last known to be true (epoch seconds)."""
        return self._fresh.get(fact.node, {}).get(fact.section, fact.at)

    def section_seen_at(self, node: str, section: str) -> float | None:
        """When a section of a node was last looked at; None if never."""
        return self._fresh.get(node, {}).get(section)

    def sections(self, node: str) -> dict[str, float]:
        """All sections of a node with the time they were last looked at."""
        return dict(self._fresh.get(node, {}))

    def age(self, fact: Observation, now: float) -> float:
        """Seconds since the fact was last known to be true."""
        return max(0.0, now - self.seen_at(fact))

    def is_fresh(self, fact: Observation | None, now: float) -> bool:
        """True if there is a fact and its evidence is young enough for its section's rhythm."""
        return fact is not None and self.age(fact, now) <= self.max_age(fact.section)

    def max_age(self, section: str) -> float:
        """Seconds after which evidence of this section is stale: the profile's `stale`, plus two rounds of the slower rhythms."""
        poll = self.inventory.poll
        if section == "link":  # our own knowledge of our own connection does not age
            return math.inf
        if section in (
            "dns",
            "calico",
            "exports",
        ):  # Calico tells of itself, and is asked, in the rhythm of the DNS questions
            return poll.stale + 2 * poll.dns
        if section.endswith(covering_section("")):
            return poll.stale + 2 * COVERING_EVERY
        if section.startswith((probe_section(""), workload_section(""))):
            return poll.stale + 2 * SCRAPED_EVERY
        if section.startswith(set_section("")):
            return poll.stale + 2 * SET_EVERY
        if section.startswith("prometheus"):
            return poll.stale + 6 * poll.prometheus
        return poll.stale

    def node_is_live(self, node: str) -> bool:
        """True while our connection to the node is up and its evidence flows."""
        link = self.link(node)
        return link is not None and link.state is LinkState.LIVE

    def once(self, now: float, key: tuple[str, ...], compute: Callable[[], _V]) -> _V:
        """`compute()`, done once for the same `now` and unchanged facts: for figures over the whole fleet that many rows need."""
        if now != self._memo_at:
            self._memo, self._memo_at = {}, now
        if key not in self._memo:
            self._memo[key] = compute()
        value: _V = self._memo[key]
        return value

    # --- query rates

    def qps(self, node: str, tenant: str, now: float) -> QueryRates | None:
        """The freshest trustworthy rates of an instance: its own counters first, else Prometheus; None if neither is fresh.

        An instance that is known not to run has no rate, whatever Prometheus still remembers; nor has one that is only seen by a
        Prometheus in a cluster which is out of sight.
        """
        status = self.instance(node, tenant)
        if status is not None and not status.running and self.is_fresh(status, now):
            return None
        for source in ("probe", "prometheus"):
            if source == "prometheus" and not self.sees_prometheus(node, now):
                continue
            rates = self.rates(node, tenant, source)
            if rates is not None and self.is_fresh(rates, now):
                return rates
        return None

    def sees_prometheus(self, node: str, now: float) -> bool:
        """False while the cluster in which the node's rates are scraped doesn't answer."""
        cluster = self._scraped_in.get(node)
        seen = self.section_seen_at(cluster, "api") if cluster else now
        return seen is not None and now - seen <= self.max_age("api")

    def sample(self, now: float) -> None:
        """Append every instance's present rate to its series (NaN where it is not known). Call once a second."""
        for node in self.inventory.nodes:
            for instance in node.instances:
                rates = self.qps(node.name, instance.tenant, now)
                series = self._series.setdefault((node.name, instance.tenant), deque(maxlen=SERIES_LENGTH))
                series.append(rates.qps if rates is not None else math.nan)

    def series(self, node: str, tenant: str) -> tuple[float, ...]:
        """Samples of an instance's queries per second, oldest first; NaN is a second in which it wasn't known."""
        return tuple(self._series.get((node, tenant), ()))

    def summed_series(self, *, node: str = "", tenant: str = "") -> tuple[float, ...]:
        """Series of all instances of a node and/or tenant added up, right-aligned; a second is NaN only if no instance knew."""
        chosen = [s for (n, t), s in self._series.items() if node in ("", n) and tenant in ("", t)]
        length = max(map(len, chosen), default=0)
        total = [math.nan] * length
        for samples in chosen:
            for i, value in enumerate(samples, start=length - len(samples)):
                if not math.isnan(value):
                    total[i] = value + (0.0 if math.isnan(total[i]) else total[i])
        return tuple(total)
