"""Verdicts: what the facts mean. Pure functions of store and clock, each with the reason and the age of its evidence.

Three truths are kept apart per announcement (prefix x session): what is *intended* (drain state in the daemon's own memory), what is
*exported* (what the daemon sends), and whether the instance is *answering*. Their disagreements have names: BLACKHOLE, WASTED, DRIFT.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from anyconsole.model.cluster_state import (
    NO_PERMISSION,
    excluded_words,
    may_not_see_drains,
    may_not_see_node,
    may_not_see_pods,
    may_not_see_speaker,
    not_ready_words,
    not_set_up,
)
from anyconsole.model.drain_state import disabled_words, drain_words, expired_words, file_drift
from anyconsole.model.facts import (
    Chroot,
    Export,
    Exported,
    InstanceStatus,
    Link,
    LinkState,
    SessionState,
    SpeakerStatus,
)
from anyconsole.model.inventory import InstanceSpec, NodeSpec, SessionSpec, SpeakerSpec, Tenant, family_of
from anyconsole.model.peer_view import PEER_SETTLING, contradicts, peer_view
from anyconsole.model.store import FleetStore

__all__ = [
    "CLOCK_TOLERANCE",
    "AnnouncementVerdict", "InstanceVerdict", "Intent", "NodeVerdict", "TenantVerdict", "Verdict", "announcement", "announcements",
    "answering", "current_serial", "instance", "intended", "node", "node_announcements", "not_running", "tenant",
]  # fmt: skip

CLOCK_TOLERANCE = 2.0
"""Seconds by which a node's clock may differ from ours."""

_SETTLING = 4.0
"""Seconds that a speaker may take to announce on a session that came up, or Calico to do as its objects say, before it is called drift."""


class Verdict(StrEnum):
    """Worst first; the order is the order on the screen."""

    BLACKHOLE = "BLACKHOLE"
    DOWN = "DOWN"
    BELOW_FLOOR = "BELOW FLOOR"
    EXPIRED = "EXPIRED"
    WASTED = "WASTED"
    DRIFT = "DRIFT"
    OLD_ZONE = "ZONE DIFFERS"
    DEGRADED = "DEGRADED"
    UNTRUSTED = "UNTRUSTED"
    STALE = "STALE"
    UNKNOWN = "UNKNOWN"
    SOFT = "SOFT"
    DRAINED = "DRAINED"
    SERVING = "SERVING"

    @property
    def rank(self) -> int:
        """0 is worst."""
        return _RANK[self]


_RANK = {verdict: i for i, verdict in enumerate(Verdict)}


_NOT_KNOWN = frozenset({Verdict.UNKNOWN, Verdict.STALE})
"""Of announcements that may well be announced."""


class Intent(StrEnum):
    """What the operator wants of an announcement."""

    SERVE = "serve"
    SOFT = "soft"
    HARD = "hard"
    UNKNOWN = "unknown"


class AnnouncementVerdict(msgspec.Struct, frozen=True):
    """One cell of the announcement matrix. `age` is seconds since the evidence, infinite if there never was any."""

    node: str
    speaker: str
    session: str
    tenant: str
    prefix: str
    intent: Intent
    exported: Exported
    answering: bool | None
    verdict: Verdict
    reason: str
    age: float


class InstanceVerdict(msgspec.Struct, frozen=True):
    """A tenant's name server on a node, all its announcements taken together."""

    node: str
    tenant: str
    verdict: Verdict
    reason: str
    age: float
    announced: int
    sessions: int


class NodeVerdict(msgspec.Struct, frozen=True):
    """A node: its link, speakers, sessions and instances taken together."""

    node: str
    verdict: Verdict
    reason: str
    age: float


class TenantVerdict(msgspec.Struct, frozen=True):
    """A tenant over all nodes. `healthy` counts, by prefix, nodes that announce it and answer; sites likewise over all prefixes."""

    tenant: str
    verdict: Verdict
    reason: str
    healthy: dict[str, int]
    nodes: int
    sites: int


# --- what is intended, and who answers


def intended(store: FleetStore, node_name: str, speaker: str, tenant_number: int, session_number: int) -> Intent:
    """The drain state of one announcement as the daemon itself holds it."""
    status = store.speaker(node_name, speaker)
    if status is None or not status.running or status.drain_serial is None:
        return Intent.UNKNOWN
    pair = (tenant_number, session_number)
    if pair in status.drain_hard:
        return Intent.HARD
    return Intent.SOFT if pair in status.drain_soft else Intent.SERVE


def answering(
    store: FleetStore, node_name: str, tenant: Tenant, addresses: Iterable[str], now: float
) -> tuple[bool | None, str]:
    """Whether the instance answers, asked from its own node: (yes, no or not known, and the reason).

    A pod that isn't ready answers nobody; where nobody asks from the node, its readiness is the answer.
    """
    known = store.instance(node_name, tenant.name)
    status = known if store.is_fresh(known, now) else None
    if status is not None and not status.running:
        return False, not_running(status)
    if status is not None and status.is_ready is False:
        return False, "pod is not ready" + (f": {status.detail}" if status.detail else "")
    seen = 0
    for address in addresses:
        for zone in tenant.zones:
            answer = store.answer(node_name, address, zone)
            if answer is None or not store.is_fresh(answer, now):
                continue
            seen += 1
            if not answer.good:
                return False, f"{address} {answer.error or answer.rcode} for {zone}"
    is_ready = status is not None and status.is_ready is True
    return (True, "") if seen or is_ready else (None, "not asked yet")


def current_serial(store: FleetStore, zone: str, tenant: Tenant, now: float, besides: str = "") -> int | None:
    """The SOA serial that most instances have of a zone (the higher one if two are equally frequent); None if none is known.

    The instance of the node `besides` isn't counted.
    """

    def count() -> int | None:
        counts = Counter(
            status.serials[zone]
            for spec in store.inventory.nodes
            if spec.name != besides
            and (status := store.instance(spec.name, tenant.name)) is not None
            and store.is_fresh(status, now)
            and zone in status.serials
        )
        return max(counts, key=lambda serial: (counts[serial], serial), default=None)

    return store.once(now, ("serial", tenant.name, zone, besides), count)


def not_running(status: InstanceStatus | SpeakerStatus) -> str:
    """Which daemon is not running, and how that was seen."""
    return f"{status.daemon} is not running" + (f" ({status.detail})" if status.detail else "")


# --- announcements


def node_announcements(store: FleetStore, spec: NodeSpec) -> Iterator[tuple[SpeakerSpec, SessionSpec, Tenant, str]]:
    """Every announcement a node should have: its sessions x the prefixes, in the session's family, of the tenants it hosts."""
    hosted = {i.tenant for i in spec.instances}
    for speaker in spec.speakers:
        for session in speaker.sessions:
            for tenant in store.inventory.tenants:
                if tenant.name in hosted:
                    for prefix in tenant.prefixes:
                        if family_of(prefix) is session.family:
                            yield speaker, session, tenant, prefix


def announcements(
    store: FleetStore, spec: NodeSpec, now: float, tenant_name: str = ""
) -> tuple[AnnouncementVerdict, ...]:
    """Verdicts of a node's announcements, all or one tenant's."""

    def judge() -> dict[str, tuple[AnnouncementVerdict, ...]]:
        cells = tuple(
            announcement(store, spec.name, speaker, session, tenant, prefix, now)
            for speaker, session, tenant, prefix in node_announcements(store, spec)
        )
        return {"": cells, **{i.tenant: tuple(c for c in cells if c.tenant == i.tenant) for i in spec.instances}}

    return store.once(now, ("announcements", spec.name), judge).get(tenant_name, ())


def announcement(
    store: FleetStore,
    node_name: str,
    speaker: SpeakerSpec,
    session: SessionSpec,
    tenant: Tenant,
    prefix: str,
    now: float,
) -> AnnouncementVerdict:
    """The verdict of one announcement."""
    export = store.export(node_name, speaker.name, session.name, prefix)
    status = store.speaker(node_name, speaker.name)
    intent = intended(store, node_name, speaker.name, tenant.number, session.number)
    answers, why = answering(store, node_name, tenant, tenant.addresses_in(prefix), now)
    evidence = export or status
    age = store.age(evidence, now) if evidence is not None else math.inf

    def say(verdict: Verdict, reason: str, exported: Exported) -> AnnouncementVerdict:
        return AnnouncementVerdict(
            node_name, speaker.name, session.name, tenant.name, prefix, intent, exported, answers, verdict, reason, age
        )

    if status is None or not store.is_fresh(status, now):
        if denied := may_not_see_speaker(store, store.inventory.node(node_name)):
            return say(Verdict.UNKNOWN, denied, Exported.UNKNOWN)
        if status is None:
            return say(Verdict.UNKNOWN, "not seen yet", Exported.UNKNOWN)
        return say(Verdict.STALE, "no fresh evidence", Exported.UNKNOWN)
    if not status.running:
        return say(Verdict.DOWN, not_running(status), Exported.ABSENT)
    bgp = store.session(node_name, speaker.name, session.name)
    if bgp is None or not store.is_fresh(bgp, now):
        return say(Verdict.UNKNOWN, f"{session.title} not seen yet", Exported.UNKNOWN)
    if bgp.state is SessionState.ADMIN_DOWN:
        return say(Verdict.DRIFT, disabled_words(session, bgp), Exported.ABSENT)
    if bgp.state is not SessionState.ESTABLISHED:
        return say(Verdict.DOWN, _session_words(session, bgp.state, bgp.info), Exported.ABSENT)
    if export is None or export.exported is Exported.UNKNOWN or not store.is_fresh(export, now):
        return say(Verdict.UNKNOWN, (export.detail if export else "") or "export not seen yet", Exported.UNKNOWN)
    is_missed = export.exported is Exported.ABSENT and intent in (Intent.SERVE, Intent.SOFT)
    # There is nothing to announce, so that nothing is announced is nobody's doing.
    if is_missed and (absent := not_set_up(store, store.inventory.node(node_name), tenant.name, now)):
        return say(Verdict.DOWN, absent, export.exported)
    settling = now - bgp.at < _SETTLING and intent is Intent.SERVE and export.exported is Exported.ABSENT
    if settling:
        return say(Verdict.UNKNOWN, "session came up just now", export.exported)
    verdict, reason = _agreement(intent, export.exported, answers, why)
    if verdict is Verdict.DRIFT and _is_under_way(store, status, export, now):
        return say(Verdict.UNKNOWN, f"drain state changed just now, still {export.exported}", export.exported)
    if verdict is Verdict.UNKNOWN and intent is Intent.UNKNOWN:
        reason = may_not_see_drains(store, store.inventory.node(node_name)) or reason
    if verdict in (Verdict.DRAINED, Verdict.SOFT):
        if overdue := expired_words(status, now):
            return say(Verdict.EXPIRED, overdue, export.exported)
        reason = drain_words(intent, status, now)
    if verdict is Verdict.DRAINED and now - export.at > PEER_SETTLING:
        view = peer_view(store, node_name, speaker.name, session, prefix, now)
        if contradicts(export.exported, view):
            reason += f", but {session.peer} still has it ({view.words})"
    return say(verdict, reason, export.exported)


def _is_under_way(store: FleetStore, status: SpeakerStatus, export: Export, now: float) -> bool:
    """Whether a drain state is newer than what is exported can be: in a cluster it is written into objects, and Calico follows them."""
    is_new = now - status.at < _SETTLING or store.seen_at(export) < status.at
    return bool(store.inventory.node(status.node).cluster) and is_new


def _agreement(intent: Intent, exported: Exported, answers: bool | None, why: str) -> tuple[Verdict, str]:
    """The truth table over the three truths of one announcement whose session is up."""
    if exported is Exported.ABSENT:
        if intent is Intent.HARD:
            return Verdict.DRAINED, "drained hard"
        if intent is Intent.UNKNOWN:
            return Verdict.UNKNOWN, "absent, and the drain state is not known"
        return Verdict.DRIFT, f"intended {intent}, but not announced"
    if answers is False:
        return Verdict.BLACKHOLE, f"{why}, but {exported}"
    if intent is Intent.HARD:
        return Verdict.DRIFT, f"drained hard, but {exported}"
    if exported is Exported.DEPREFERRED:
        return (
            (Verdict.DRIFT, "depreferred, but not drained")
            if intent is Intent.SERVE
            else (Verdict.SOFT, "drained soft")
        )
    if intent is Intent.SOFT:
        return Verdict.DRIFT, "drained soft, but announced at full preference"
    return (Verdict.SERVING, "") if answers else (Verdict.UNKNOWN, f"announced, {why}")


def _session_words(session: SessionSpec, state: SessionState, info: str) -> str:
    return f"{session.title} {state}" + (f": {info}" if info and info != state else "")


# --- instances


def instance(store: FleetStore, spec: NodeSpec, instance_spec: InstanceSpec, now: float) -> InstanceVerdict:
    """The verdict of one instance."""
    return store.once(
        now, ("instance", spec.name, instance_spec.tenant), lambda: _judge_instance(store, spec, instance_spec, now)
    )


def _judge_instance(store: FleetStore, spec: NodeSpec, instance_spec: InstanceSpec, now: float) -> InstanceVerdict:
    tenant_spec = store.inventory.tenant(instance_spec.tenant)
    cells = announcements(store, spec, now, tenant_spec.name)
    announced = sum(c.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED) for c in cells)
    status = store.instance(spec.name, tenant_spec.name)
    age = store.age(status, now) if status is not None else math.inf

    def say(verdict: Verdict, reason: str) -> InstanceVerdict:
        return InstanceVerdict(spec.name, tenant_spec.name, verdict, reason, age, announced, len(cells))

    if status is None or not store.is_fresh(status, now):
        if denied := may_not_see_pods(store, spec, tenant_spec.name):
            return say(Verdict.UNKNOWN, denied)
        if status is None:
            return say(Verdict.UNKNOWN, "not seen yet")
        return say(Verdict.STALE, f"no evidence for {age:.0f} s")
    verdicts = {c.verdict for c in cells}
    if Verdict.BLACKHOLE in verdicts:
        return say(Verdict.BLACKHOLE, _first_reason(cells, Verdict.BLACKHOLE))
    if not status.running:
        return say(Verdict.DOWN, not_set_up(store, spec, tenant_spec.name, now) or not_running(status))
    answers, why = answering(store, spec.name, tenant_spec, tenant_spec.addresses, now)
    if answers is False:
        return say(Verdict.DOWN, why)
    if Verdict.EXPIRED in verdicts:
        return say(Verdict.EXPIRED, _first_reason(cells, Verdict.EXPIRED))
    if answers and cells and not announced and not _is_drained(cells) and verdicts.isdisjoint(_NOT_KNOWN):
        return say(Verdict.WASTED, _first_reason(cells, cells[0].verdict))
    if Verdict.DRIFT in verdicts:
        return say(Verdict.DRIFT, _first_reason(cells, Verdict.DRIFT))
    if difference := _zone_difference(store, tenant_spec, status, now):
        return say(Verdict.OLD_ZONE, difference)
    if status.chroot is Chroot.OUTSIDE:
        return say(Verdict.DEGRADED, "its process is not in its chroot")
    if down := sum(c.verdict is Verdict.DOWN for c in cells):
        return say(Verdict.DEGRADED, f"{_first_reason(cells, Verdict.DOWN)} ({down} of {len(cells)} announcements)")
    for verdict in (Verdict.STALE, Verdict.UNKNOWN):
        if verdict in verdicts:
            return say(verdict, _first_reason(cells, verdict))
    if answers is None:
        return say(Verdict.UNKNOWN, why)
    if cells and _is_drained(cells):
        return say(Verdict.DRAINED if not announced else Verdict.SOFT, next(c.reason for c in cells))
    drained = sum(c.verdict in (Verdict.DRAINED, Verdict.SOFT) for c in cells)
    return say(Verdict.SERVING, f"{drained} of {len(cells)} announcements drained" if drained else "")


def _is_drained(cells: Iterable[AnnouncementVerdict]) -> bool:
    return all(c.verdict in (Verdict.DRAINED, Verdict.SOFT) for c in cells)


def _first_reason(cells: Iterable[AnnouncementVerdict], verdict: Verdict) -> str:
    return next((c.reason for c in cells if c.verdict is verdict), "")


def _zone_difference(store: FleetStore, tenant_spec: Tenant, status: InstanceStatus, now: float) -> str:
    for zone in tenant_spec.zones:
        current = current_serial(store, zone, tenant_spec, now)
        mine = status.serials.get(zone)
        if current is not None and mine is not None and mine != current:
            return f"serial {mine}, the others {current} ({zone})"
        if mine is None and status.serials:
            return f"{zone} is not loaded"
    return ""


# --- nodes and tenants

_LINK_VERDICTS = {
    LinkState.UNTRUSTED: Verdict.UNTRUSTED,
    LinkState.KEY_CHANGED: Verdict.UNTRUSTED,
    LinkState.IDLE: Verdict.UNKNOWN,
}


def node(store: FleetStore, spec: NodeSpec, now: float) -> NodeVerdict:
    """The verdict of one node."""
    link = store.link(spec.name)
    # Who may not see its Node object goes by the cluster's own word.
    told_by = (spec.cluster, "api") if may_not_see_node(store, spec) else (spec.name, "host")
    seen = store.section_seen_at(*told_by)
    age = math.inf if seen is None else max(0.0, now - seen)

    def say(verdict: Verdict, reason: str) -> NodeVerdict:
        return NodeVerdict(spec.name, verdict, reason, age)

    if link is None:
        return say(Verdict.UNKNOWN, "not connected yet")
    if link.state is not LinkState.LIVE:
        unseen = seen is None and not link.error
        return say(_LINK_VERDICTS.get(link.state, Verdict.UNKNOWN if unseen else Verdict.STALE), _link_words(link))
    if spec.cluster and store.max_age("host") < age < math.inf:
        return say(Verdict.STALE, f"nothing heard for {age:.0f} s")
    reasons = _cluster_troubles(store, spec) if spec.cluster else []
    for speaker in spec.speakers:
        status = store.speaker(spec.name, speaker.name)
        if not store.is_fresh(status, now) and (denied := may_not_see_speaker(store, spec)):
            reasons.append((Verdict.UNKNOWN, denied))
        elif status is None:
            reasons.append((Verdict.UNKNOWN, f"{speaker.name} not seen yet"))
        elif not store.is_fresh(status, now):
            if store.max_age("host") < age < math.inf:
                return say(
                    Verdict.STALE, f"nothing heard for {age:.0f} s"
                )  # not the daemon's fault, and nothing else is known
            reasons.append((Verdict.STALE, f"{speaker.name} does not answer"))
        elif not status.running:
            reasons.append((Verdict.DOWN, not_running(status)))
        else:
            reasons.extend(_session_troubles(store, spec.name, speaker))
            if difference := file_drift(store, status):
                reasons.append((Verdict.DRIFT, difference))
            if status.pending:
                reasons.append((Verdict.DEGRADED, f"unconfirmed change: {status.pending}"))
    for instance_spec in spec.instances:
        seen_of = instance(store, spec, instance_spec, now)
        if _is_told(seen_of, reasons):
            continue
        if seen_of.verdict is Verdict.BLACKHOLE or not any(r[0] is Verdict.DOWN for r in reasons):
            reasons.append((seen_of.verdict, f"{seen_of.tenant}: {seen_of.reason}" if seen_of.reason else ""))
    if host := store.host(spec.name):
        reasons.extend(_host_troubles(store, spec, host.addresses, host.clock_offset))
    return say(*_sum_up(reasons, len(spec.instances)))


def _sum_up(reasons: list[tuple[Verdict, str]], instances: int) -> tuple[Verdict, str]:
    """The worst of what is to be said of a node with so many instances."""
    if not reasons:
        return Verdict.SERVING, ""
    first = min(reasons, key=lambda r: r[0].rank)
    same = [r for r in reasons if r[0] is first[0] and r[1]]
    if first[0] in (Verdict.DRAINED, Verdict.SOFT) and any(r[0] is Verdict.SERVING for r in reasons):
        return Verdict.SERVING, f"{len(same)} of {instances} tenants drained"
    more = f" (+{len(same) - 1} more)" if len(same) > 1 else ""
    return first[0], (same[0][1] + more) if same else ""


def _is_told(seen: InstanceVerdict, reasons: Iterable[tuple[Verdict, str]]) -> bool:
    """An instance that suffers only because a session is down, which the node's reasons name already, is no second trouble."""
    told = (Verdict.DEGRADED, Verdict.DRIFT)
    return seen.verdict in told and any(words and seen.reason.startswith(words) for _, words in reasons)


def _link_words(link: Link) -> str:
    """Why a node is out of reach: the driver's own words without the node's name, which stands beside them."""
    why = link.detail.removeprefix(f"{link.node}: ")
    state = (
        ""
        if link.state in (LinkState.STALE, LinkState.BACKOFF)
        else f"{link.state}: "
        if why or link.error
        else str(link.state)
    )
    return state + (why or link.error)


def _session_troubles(store: FleetStore, node_name: str, speaker: SpeakerSpec) -> list[tuple[Verdict, str]]:
    troubles = []
    for session in speaker.sessions:
        bgp = store.session(node_name, speaker.name, session.name)
        if bgp is not None and bgp.state is SessionState.ADMIN_DOWN:
            troubles.append((Verdict.DRIFT, disabled_words(session, bgp)))
        elif bgp is not None and bgp.state is not SessionState.ESTABLISHED:
            troubles.append((Verdict.DEGRADED, _session_words(session, bgp.state, bgp.info)))
    return troubles


def _host_troubles(
    store: FleetStore, spec: NodeSpec, held: tuple[str, ...], clock_offset: float
) -> list[tuple[Verdict, str]]:
    troubles = []
    wanted = {a for i in spec.instances for a in store.inventory.tenant(i.tenant).addresses}
    if missing := sorted(wanted - set(held)):
        troubles.append((Verdict.DEGRADED, f"service address {missing[0]} is not on the node"))
    if abs(clock_offset) > CLOCK_TOLERANCE:
        troubles.append((Verdict.DEGRADED, f"clock is off by {clock_offset:+.1f} s"))
    return troubles


def _cluster_troubles(store: FleetStore, spec: NodeSpec) -> list[tuple[Verdict, str]]:
    """What is wrong with the Kubernetes node; before all others, for a node that isn't ready explains its pods."""
    known, denied = store.cluster_node(spec.name), may_not_see_node(store, spec)
    if known is None or denied:  # what was seen while we still might is no news of now
        return [(Verdict.UNKNOWN, denied or f"Kubernetes node {spec.address} not seen yet")]
    troubles = [(Verdict.DOWN, not_ready_words(known)), (Verdict.DRIFT, excluded_words(store, known))]
    if known.is_ready is None:
        troubles.append((Verdict.STALE, "its kubelet has stopped telling of it"))
    elif known.is_ready:
        troubles += [(Verdict.DEGRADED, trouble) for trouble in known.troubles]
    if known.is_cordoned:
        troubles.append((Verdict.DEGRADED, "cordoned"))
    return [trouble for trouble in troubles if trouble[1]]


def tenant(store: FleetStore, tenant_spec: Tenant, now: float) -> TenantVerdict:
    """The verdict of one tenant over the whole fleet, against the floor of healthy announcing nodes and sites."""
    hosts = [(n, i) for n in store.inventory.nodes for i in n.instances if i.tenant == tenant_spec.name]
    healthy: dict[str, set[str]] = {prefix: set() for prefix in tenant_spec.prefixes}
    unseen: dict[str, set[str]] = {prefix: set() for prefix in tenant_spec.prefixes}
    denied = ""
    for spec, _ in hosts:
        for cell in announcements(store, spec, now, tenant_spec.name):
            if cell.verdict in (Verdict.SERVING, Verdict.SOFT) or (
                cell.verdict is Verdict.EXPIRED and cell.exported is Exported.DEPREFERRED
            ):
                healthy[cell.prefix].add(spec.name)
            elif cell.verdict is Verdict.UNKNOWN:
                unseen[cell.prefix].add(spec.name)
                denied = denied or (cell.reason if NO_PERMISSION in cell.reason else "")
    sites = min((len({store.inventory.node(n).site for n in names}) for names in healthy.values()), default=0)
    counts = {prefix: len(names) for prefix, names in healthy.items()}
    limits = store.inventory.guards
    floor = min(len(hosts), max(limits.min_nodes, math.ceil(limits.min_share * len(hosts))))
    verdicts = [instance(store, spec, i, now) for spec, i in hosts]
    denied = next((v.reason for v in verdicts if NO_PERMISSION in v.reason), denied)

    def not_seen(count: int) -> TenantVerdict:
        if drifted:
            return say(Verdict.DRIFT, drifted)
        words = f"{count} of {len(hosts)} nodes not seen"
        return say(Verdict.UNKNOWN, f"{words}; {denied}" if denied else f"{words} yet")

    def say(verdict: Verdict, reason: str) -> TenantVerdict:
        return TenantVerdict(tenant_spec.name, verdict, reason, counts, len(hosts), sites)

    drifted = _set_up_drift(store, tenant_spec.name, [spec for spec, _ in hosts], now)
    away = dict.fromkeys(not_set_up(store, spec, tenant_spec.name, now) for spec, _ in hosts)
    because = "".join(f"; {words}" for words in (*away, drifted) if words)
    for prefix, count in counts.items():
        waiting = len(unseen[prefix] - healthy[prefix])
        if count < floor <= count + waiting:
            return not_seen(waiting)
        if count == 0 and hosts and not waiting:
            return say(Verdict.DOWN, f"{prefix} is served by no node{because}")
        if count < floor:
            return say(
                Verdict.BELOW_FLOOR,
                f"{prefix} is served by {count} of {len(hosts)} nodes, the floor is {floor}{because}",
            )
    if sites < tenant_spec.min_sites:
        if waiting := len(set().union(*unseen.values()).difference(*healthy.values())):
            return not_seen(waiting)
        return say(Verdict.BELOW_FLOOR, f"served from {sites} sites, at least {tenant_spec.min_sites} are wanted")
    if drifted:
        return say(Verdict.DRIFT, drifted)
    troubled = [v for v in verdicts if v.verdict not in (Verdict.SERVING, Verdict.DRAINED, Verdict.SOFT)]
    if troubled:
        first = min(troubled, key=lambda v: v.verdict.rank)
        more = f" (+{len(troubled) - 1} more)" if len(troubled) > 1 else ""
        overall = Verdict.UNKNOWN if first.verdict is Verdict.UNKNOWN else Verdict.DEGRADED
        return say(overall, f"{first.node} {first.verdict}{more}")
    drained = sum(v.verdict in (Verdict.DRAINED, Verdict.SOFT) for v in verdicts)
    return say(Verdict.SERVING, f"{drained} of {len(hosts)} nodes drained" if drained else "")


def _set_up_drift(store: FleetStore, tenant_name: str, nodes: Sequence[NodeSpec], now: float) -> str:
    """How pods and objects of a tenant differ from what set-up would make, "" if they don't, or nobody can see it."""
    drifted = {
        spec.name: status.drift
        for spec in nodes
        if (status := store.instance(spec.name, tenant_name)) is not None
        and status.drift
        and store.is_fresh(status, now)
    }
    words = next(iter(drifted.values()), "")
    told = [f"pods are not as set up on {', '.join(drifted)}: {words}"] if drifted else []
    for cluster in dict.fromkeys(spec.cluster for spec in nodes if spec.cluster):
        known = store.tenant_set(cluster, tenant_name)
        if known is not None and store.is_fresh(known, now):
            told += [f"{cluster}: {line}" for line in known.drift]
    more = f" (+{len(told) - 1} more)" if len(told) > 1 else ""
    return told[0] + more if told else ""
