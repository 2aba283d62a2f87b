"""All that is known about one object, as lines of text: every fact with the section that saw it and the age of its evidence."""

from __future__ import annotations

from collections.abc import Iterator

from anyconsole.model import verdicts
from anyconsole.model.cluster_state import NO_PERMISSION, denied_to_see
from anyconsole.model.facts import (
    Answer,
    Capacity,
    Covering,
    Export,
    HostHealth,
    InstanceStatus,
    Key,
    Link,
    Observation,
    PeerPath,
    PeerRoute,
    QueryRates,
    SessionStatus,
    SpeakerStatus,
)
from anyconsole.model.inventory import Inventory, SessionSpec, family_of
from anyconsole.model.metrics import DnsProbe, Metrics, Workload
from anyconsole.model.pods import (
    Cluster,
    ClusterEvent,
    ClusterNode,
    Container,
    ContainerState,
    Permission,
    Pod,
    RoutingConfig,
    TenantSet,
)
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Glyphs, Level, View, clean, clock, duration, human_duration, size
from anyconsole.model.views.containers import last_end
from anyconsole.tui.pod_sources import pods_behind
from anyconsole.tui.scope import Scope, node_of, scope_of
from anyconsole.tui.widgets.text_view import Line

__all__ = ["describe", "facts_about"]

_KINDS = (
    Link,
    HostHealth,
    ClusterNode,
    SpeakerStatus,
    SessionStatus,
    InstanceStatus,
    TenantSet,
    Answer,
    DnsProbe,
    QueryRates,
    Capacity,
    Export,
    Covering,
    PeerRoute,
)
_OMITTED = frozenset({"node", "section", "at", "is_absent"})
_SIZES = frozenset({"mem_total", "mem_available", "rss"})
_SPANS = frozenset({"uptime"})
_TIMES = frozenset({"since", "retry_at", "measured_at"})
_AGES = frozenset({"created_at", "restarted_at", "last_at"})
"""Times of which only the distance to now says something: they are days ago."""


def describe(store: FleetStore, view: View | None, key: Key, now: float, glyphs: Glyphs) -> list[Line]:
    """The object's row in words, then every fact about it, section by section."""
    lines: list[Line] = []
    if view is not None:
        row = view.row(store, key, now, glyphs)
        lines += [
            Line(f"{column.title.lower():<20}{cell.text}", cell.level)
            for column, cell in zip(view.columns, row.cells, strict=True)
            if cell.text
        ]
        lines.append(Line(""))
    lines += _denied_lines(store, key)
    lines += _intent_lines(store, key, now)
    count = 0
    for fact in facts_about(store, key):
        count += 1
        lines += _fact_lines(store, fact, now)
    if not count:
        lines.append(Line("no fact has been seen about this yet", Level.STALE))
    return lines


def _denied_lines(store: FleetStore, key: Key) -> list[Line]:
    """What we may not see of the cluster that the object is in."""
    place = node_of(store.inventory, key)
    cluster = next((node.cluster for node in store.inventory.nodes if node.name == place), place)
    denied = denied_to_see(store.cluster(cluster))
    lines = [Line(f"{NO_PERMISSION:<20}{permission}", Level.STALE) for permission in denied]
    return [*lines, Line("")] if lines else []


def facts_about(store: FleetStore, key: Key) -> Iterator[Observation]:
    """Facts that say something about the object a view key names, in the order in which they are read."""
    inventory = store.inventory
    if key[0] == "catchment" and len(key) == 4:
        told = store.answer(*key[1:]) if key[3] else store.dns_probe(*key[1:3])
        if told is not None:
            yield told
        return
    scope = scope_of(inventory, key)
    if scope.cluster:
        yield from _facts_in_cluster(store, key, scope)
        return
    askers = [scope.node] if scope.node else [*(n.name for n in inventory.nodes), *(v.name for v in inventory.vantages)]
    askers += [cluster.name for cluster in inventory.clusters if scope.tenant and not scope.node]
    askers += [glass.name for glass in inventory.looking_glasses if glass.peer in _peers_of(inventory, scope)]
    for asker in askers:
        for kind in _KINDS:
            for fact in store.of_node(asker, kind):
                if _is_about(inventory, fact, scope):
                    yield fact
    if key[0] == "instance":
        yield from pods_behind(store, key)


def _facts_in_cluster(store: FleetStore, key: Key, scope: Scope) -> Iterator[Observation]:
    """A pod, or the pods of a component, with their events; else the cluster itself."""
    pods = pods_behind(store, key)
    if key[0] == ClusterEvent.kind and isinstance(event := store.get(key), ClusterEvent):
        yield event
    elif not pods:
        yield from (f for f in (store.link(scope.cluster), store.cluster(scope.cluster)) if f is not None)
    if key[0] == "monitoring":
        yield from _told_by(store, *key[1:])
    if key[0] == Workload.kind and (workload := store.get(key)) is not None:
        yield workload
    yield from pods
    about = {(pod.namespace, f"Pod/{pod.name}") for pod in pods}
    events = [e for e in store.cluster_events(scope.cluster, scope.namespace) if (e.namespace, e.about) in about]
    yield from sorted((e for e in events if e.key != key), key=lambda e: -e.last_at)


def _told_by(store: FleetStore, cluster: str, component: str) -> Iterator[Observation]:
    """What the console knows by a component of monitoring."""
    if component == "prometheus" and (metrics := store.metrics(cluster)) is not None:
        yield metrics
    if component == "blackbox-exporter":
        yield from store.of_node(cluster, DnsProbe)
    if component == "kube-state-metrics":
        yield from store.workloads(cluster)


def _is_about(inventory: Inventory, fact: Observation, scope: Scope) -> bool:
    match fact:
        case Link() | HostHealth() | ClusterNode():
            return not scope.tenant and not scope.session
        case SpeakerStatus(node=node, speaker=speaker):
            if scope.session:
                return any(s.name == scope.session for s in _sessions_of(inventory, node, speaker))
            return not scope.tenant
        case SessionStatus(session=session):
            return session == scope.session if scope.session else not scope.tenant
        case (
            InstanceStatus(tenant=tenant)
            | TenantSet(tenant=tenant)
            | QueryRates(tenant=tenant)
            | Capacity(tenant=tenant)
        ):
            return tenant == scope.tenant if scope.tenant else not scope.session
        case Answer(tenant=tenant, address=address) | DnsProbe(tenant=tenant, address=address):
            if scope.prefix:
                return tenant == scope.tenant and family_of(address) is family_of(scope.prefix)
            return tenant == scope.tenant if scope.tenant else not scope.session
        case PeerRoute(prefix=prefix):
            return prefix == scope.prefix
        case Export(session=session, prefix=prefix):
            if scope.prefix:
                return (session, prefix) == (scope.session, scope.prefix)
            if scope.session:
                return session == scope.session
            return not scope.tenant or (bool(scope.node) and prefix in inventory.tenant(scope.tenant).prefixes)
        case Covering():
            return not scope.tenant and not scope.session
        case Pod() | Cluster() | ClusterEvent() | RoutingConfig() | Metrics() | Workload():
            return False  # they are told with what is in their cluster


def _peers_of(inventory: Inventory, scope: Scope) -> set[str]:
    """The peer whose view says something about an announcement."""
    if not scope.node or not scope.prefix:
        return set()
    speakers = inventory.node(scope.node).speakers
    return {s.peer for speaker in speakers for s in speaker.sessions if s.name == scope.session}


def _sessions_of(inventory: Inventory, node: str, speaker: str) -> Iterator[SessionSpec]:
    for spec in inventory.nodes:
        if spec.name == node:
            for one in spec.speakers:
                if one.name == speaker:
                    yield from one.sessions


def _intent_lines(store: FleetStore, key: Key, now: float) -> list[Line]:
    """The three truths of each announcement of a session, an instance or the announcement itself."""
    scope = scope_of(store.inventory, key)
    if not scope.node or not (scope.session or scope.tenant):
        return []
    cells = [
        c
        for c in verdicts.announcements(store, store.inventory.node(scope.node), now, scope.tenant)
        if scope.session in ("", c.session) and scope.prefix in ("", c.prefix)
    ]
    width = max([18, *(len(c.prefix) + 1 for c in cells)])
    head = f"{'announcements':<{width + 2}}{'intended':<10}{'exported':<13}{'answering':<11}verdict"
    lines = [Line(head, Level.NONE, bold=True)]
    for c in cells:
        answers = {None: "unknown", True: "yes", False: "NO"}[c.answering]
        lines.append(
            Line(
                f"  {c.prefix:<{width}}{c.intent:<10}{c.exported:<13}{answers:<11}{c.verdict} {c.session} {clean(c.reason)}"
            )
        )
    return [*lines, Line("")]


def _fact_lines(store: FleetStore, fact: Observation, now: float) -> list[Line]:
    fresh = store.is_fresh(fact, now)
    title = f"{fact.kind} {' '.join(clean(word, 80) for word in fact.key[1:])}"
    age = f"{duration(store.age(fact, now))} ago, by {clean(fact.section, 40)}"
    lines = [Line(f"{title}  ({age}{'' if fresh else ', STALE'})", Level.NONE if fresh else Level.STALE, bold=True)]
    about = frozenset(fact.key[1:])
    for name in fact.__struct_fields__:
        value = getattr(fact, name)
        if name in _OMITTED or value in ("", None, (), {}) or (isinstance(value, str) and value in about):
            continue
        if name == "chroot" and fact.section.startswith("pod:"):
            continue  # it has a container instead
        if name in _AGES and isinstance(value, float):
            texts = [f"{human_duration(now - value)} ago ({clock(value)} UTC)"]
        elif name == "drift" and isinstance(value, tuple):
            texts = list(value)
        else:
            texts = _items(value, now) or [_words(name, value)]
        level = Level.NONE if fresh else Level.STALE
        lines += [Line(f"  {name.replace('_', ' '):<18}{clean(text)}", level) for text in texts]
    return [*lines, Line("")]


def _items(value: object, now: float) -> list[str]:
    """A line per item of a tuple of things that have several parts; none for all else."""
    if not isinstance(value, tuple):
        return []
    return [
        _container_words(item, now) if isinstance(item, Container) else str(item)
        for item in value
        if isinstance(item, Container | PeerPath | Permission)
    ]


def _container_words(container: Container, now: float) -> str:
    kind = "sidecar" if container.sidecar else "init" if container.init else ""
    state = " ".join(filter(None, (str(container.state), container.reason)))
    if container.exit_code is not None:
        state += f" ({container.exit_code})"
    began = container.started_at if container.state is ContainerState.RUNNING else None
    since = f"for {human_duration(now - began)}" if began is not None else ""
    ready = "" if container.init and not container.sidecar else "ready" if container.ready else "not ready"
    restarts = f"{container.restarts} restarts" if container.restarts else ""
    ended = f"last ended {last_end(container)}" if last_end(container) else ""
    if ended and container.last_finished_at is not None:
        ended += f" {human_duration(now - container.last_finished_at)} ago"
    words = (f"{state} {since}".strip(), ready, restarts, ended, container.message, container.image)
    return f"{container.name}{f' ({kind})' if kind else ''}: {', '.join(filter(None, words))}"


def _words(name: str, value: object) -> str:
    if name in _SIZES and isinstance(value, int):
        return size(value).text
    if name in _SPANS and isinstance(value, float):
        return duration(value)
    if name in _TIMES and isinstance(value, float):
        return clock(value) if value else "-"
    if isinstance(value, dict):
        return clean(", ".join(f"{k} {_words('', v)}" for k, v in value.items()))
    if isinstance(value, tuple):
        return clean(" ".join(f"{v[0]}/{v[1]}" if isinstance(v, tuple) else str(v) for v in value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return clean(str(value))
