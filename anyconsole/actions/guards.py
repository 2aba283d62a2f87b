"""Guards: named preconditions of a change, each with its verdict and the numbers behind it. Pure; judged on the store as it is now.

What is not known counts as unhealthy. A guard judges what the fleet would look like after the change.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

import msgspec

from anyconsole.model import verdicts
from anyconsole.model.cluster_state import not_set_up
from anyconsole.model.drain_state import disabled_words, file_drift
from anyconsole.model.facts import Exported, SessionState
from anyconsole.model.inventory import NodeSpec
from anyconsole.model.store import FleetStore
from anyconsole.model.table import duration
from anyconsole.model.verdicts import Intent, Verdict

__all__ = ["Change", "GuardVerdict", "Outcome", "Repair", "asked", "evaluate"]


class Outcome(StrEnum):
    """What a guard says. ASK: the numbers are not known, a human must decide."""

    OK = "ok"
    REFUSE = "refuse"
    ASK = "ask"


class GuardVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One guard's answer. Only an overridable refusal can be overridden, with a typed reason."""

    name: str
    outcome: Outcome
    numbers: str
    overridable: bool = True

    @property
    def refuses(self) -> bool:
        """True if the change must not go on as it is."""
        return self.outcome is Outcome.REFUSE


def asked(guards: Iterable[GuardVerdict]) -> dict[str, str]:
    """The numbers that a human has to look at, by the guard that asks."""
    return {g.name: g.numbers for g in guards if g.outcome is Outcome.ASK}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One announcement whose intent changes. `exported` is what the daemon sends now."""

    node: str
    speaker: str
    session: str
    peer: str
    tenant: str
    prefix: str
    before: Intent
    after: Intent
    exported: Exported


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """Drift of one speaker that a change settles, whether or not an announcement changes with it.

    `file` is true if daemon and drain file agree afterwards. `sessions` were disabled by hand, and come up with the change.
    """

    node: str
    speaker: str
    file: bool = False
    sessions: tuple[str, ...] = ()


def evaluate(
    store: FleetStore,
    changes: Sequence[Change],
    now: float,
    *,
    repairs: Collection[Repair] = (),
    unconfirmed: bool = False,
    unseen: Collection[str] = (),
) -> list[GuardVerdict]:
    """All guards on one set of changes, in the order in which they are shown.

    Args:
        store: The fleet as it is known.
        changes: What would change, or has been changed and is not confirmed yet.
        now: Epoch seconds.
        repairs: Drift that is settled with them.
        unconfirmed: The changes are applied and wait to be confirmed: only what could be lost by confirming is judged.
        unseen: Nodes that could not be looked at afresh; they count as serving nothing.
    """
    places = tuple(dict.fromkeys([(c.node, c.speaker) for c in changes] + [(r.node, r.speaker) for r in repairs]))
    fleet = _Fleet(store, now, frozenset(unseen), frozenset(places))
    verdicts_ = [rule(fleet, changes) for rule in (_last_announcer, _floor, _sites, _regions)]
    verdicts_.append(_evidence(store, places, now))
    if not unconfirmed:
        raised = {(r.node, r.speaker, session) for r in repairs for session in r.sessions}
        restored = [c for c in changes if _is_restored(c, raised)]
        verdicts_ += [
            _pending(store, places),
            _drift(store, places, repairs, now),
            _answers(store, restored, now),
            _sessions(store, restored, raised, now),
            _serials(store, restored, now),
            _clock(store, places, now),
            _capacity(fleet, changes),
        ]
    return verdicts_


_Place = tuple[str, str]


class _Fleet(msgspec.Struct, frozen=True):
    """The fleet as guards count it: what nobody could look at, or what somebody else may still take back, serves nothing."""

    store: FleetStore
    now: float
    unseen: frozenset[str]
    ours: frozenset[tuple[str, str]]

    def counts(self, spec: NodeSpec) -> bool:
        """True if what the node announces can be relied on."""
        if spec.name in self.unseen:
            return False
        for speaker in spec.speakers:
            status = self.store.speaker(spec.name, speaker.name)
            if status is not None and status.pending and (spec.name, speaker.name) not in self.ours:
                return False
        return True


# --- the fleet after the change


def _serving_nodes(fleet: _Fleet, tenant: str, prefix: str, changes: Iterable[Change]) -> set[str]:
    """Nodes that announce a prefix and answer on it, once the changes are made."""
    store, now = fleet.store, fleet.now
    withdrawn = {(c.node, c.speaker, c.session) for c in changes if c.prefix == prefix and c.after is Intent.HARD}
    restored = {(c.node, c.speaker, c.session) for c in changes if c.prefix == prefix and c.after is not Intent.HARD}
    nodes = set()
    for spec in store.inventory.nodes:
        if not fleet.counts(spec):
            continue
        for cell in verdicts.announcements(store, spec, now, tenant):
            place = (cell.node, cell.speaker, cell.session)
            if cell.prefix != prefix or place in withdrawn or not cell.answering:
                continue
            sent = cell.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED)
            if sent or (place in restored and cell.verdict in (Verdict.DRAINED, Verdict.EXPIRED)):
                nodes.add(cell.node)
    return nodes


def _withdrawn_prefixes(changes: Iterable[Change]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((c.tenant, c.prefix) for c in changes if c.after is Intent.HARD))


def _hosting(store: FleetStore, tenant: str) -> int:
    return sum(i.tenant == tenant for n in store.inventory.nodes for i in n.instances)


# --- the rules


def _last_announcer(fleet: _Fleet, changes: Sequence[Change]) -> GuardVerdict:
    lost = [p for t, p in _withdrawn_prefixes(changes) if not _serving_nodes(fleet, t, p, changes)]
    if lost:
        return GuardVerdict(
            name="last announcer",
            outcome=Outcome.REFUSE,
            numbers=f"nobody would serve {', '.join(lost)}",
            overridable=False,
        )
    return GuardVerdict(
        name="last announcer", outcome=Outcome.OK, numbers="every prefix stays announced by a node that answers"
    )


def _floor(fleet: _Fleet, changes: Sequence[Change]) -> GuardVerdict:
    store = fleet.store
    limits = store.inventory.guards
    worst: tuple[int, int, str] | None = None
    for tenant, prefix in _withdrawn_prefixes(changes):
        floor = max(limits.min_nodes, math.ceil(limits.min_share * _hosting(store, tenant)))
        left = len(_serving_nodes(fleet, tenant, prefix, changes))
        if worst is None or left - floor < worst[0] - worst[1]:
            worst = (left, floor, prefix)
    if worst is None:
        return GuardVerdict(name="floor", outcome=Outcome.OK, numbers="nothing is withdrawn")
    left, floor, prefix = worst
    numbers = f"{prefix} would be served by {left} nodes, at least {floor} are wanted"
    return GuardVerdict(name="floor", outcome=Outcome.OK if left >= floor else Outcome.REFUSE, numbers=numbers)


def _sites(fleet: _Fleet, changes: Sequence[Change]) -> GuardVerdict:
    store = fleet.store
    short = []
    for tenant, prefix in _withdrawn_prefixes(changes):
        wanted = store.inventory.tenant(tenant).min_sites
        left = {store.inventory.node(n).site for n in _serving_nodes(fleet, tenant, prefix, changes)}
        if len(left) < wanted:
            short.append(f"{prefix} from {len(left)} sites, at least {wanted} are wanted")
    if short:
        return GuardVerdict(name="sites", outcome=Outcome.REFUSE, numbers="; ".join(short))
    return GuardVerdict(name="sites", outcome=Outcome.OK, numbers="every tenant keeps its least number of sites")


def _regions(fleet: _Fleet, changes: Sequence[Change]) -> GuardVerdict:
    store, least = fleet.store, fleet.store.inventory.guards.min_per_region

    def regions(nodes: Iterable[str]) -> Counter[str]:
        return Counter(r for n in nodes if (r := store.inventory.site(store.inventory.node(n).site).region))

    lost = []
    for tenant, prefix in _withdrawn_prefixes(changes):
        before = regions(_serving_nodes(fleet, tenant, prefix, ()))
        after = regions(_serving_nodes(fleet, tenant, prefix, changes))
        for region in sorted(before):
            if after[region] < min(least, before[region]):
                left = f"is left on {after[region]} nodes in" if after[region] else "leaves"
                lost.append(f"{prefix} {left} region {region}, at least {least} are wanted")
    if lost:
        return GuardVerdict(name="regions", outcome=Outcome.REFUSE, numbers="; ".join(lost))
    return GuardVerdict(name="regions", outcome=Outcome.OK, numbers=f"every region keeps its {least}, or what it had")


def _evidence(store: FleetStore, places: Collection[_Place], now: float) -> GuardVerdict:
    limit = store.inventory.guards.evidence_max_age
    old = []
    for name in dict.fromkeys(node for node, _ in places):
        seen = [store.section_seen_at(name, speaker) for node, speaker in places if node == name]
        age = max((math.inf if at is None else now - at for at in seen), default=math.inf)
        if age > limit or not store.node_is_live(name):
            old.append(f"{name} was never seen" if math.isinf(age) else f"{name} was seen {age:.0f} s ago")
    if old:
        numbers = f"{', '.join(old)}; at most {limit:.0f} s are allowed"
        return GuardVerdict(name="evidence", outcome=Outcome.REFUSE, numbers=numbers, overridable=False)
    return GuardVerdict(
        name="evidence", outcome=Outcome.OK, numbers=f"every node concerned was seen within {limit:.0f} s"
    )


def _pending(store: FleetStore, places: Collection[_Place]) -> GuardVerdict:
    pending = []
    for node, speaker in places:
        status = store.speaker(node, speaker)
        if status is not None and status.pending:
            pending.append(f"{node}: {status.pending}")
    for cluster in dict.fromkeys(store.inventory.node(node).cluster for node, _ in places):
        routing = store.routing(cluster) if cluster else None
        if routing is not None and routing.lock:  # its nodes share what routing is made of
            pending.append(f"{cluster}: {routing.lock} has an unconfirmed change there")
    if pending:
        return GuardVerdict(name="pending", outcome=Outcome.REFUSE, numbers="; ".join(pending), overridable=False)
    return GuardVerdict(name="pending", outcome=Outcome.OK, numbers="nobody else's change is unconfirmed there")


_UNDONE = "; this change ends with a plain `configure`, which enables it again: it would silently undo that"


def _drift(store: FleetStore, places: Collection[_Place], repairs: Collection[Repair], now: float) -> GuardVerdict:
    """Drift would be overwritten, or blamed on this change; what the change itself settles is no obstacle, nor who isn't set up there."""
    files = {(r.node, r.speaker) for r in repairs if r.file}
    absent: dict[str, None] = {}
    settled = {(r.node, r.speaker, session) for r in repairs for session in r.sessions}
    drifted = []
    for name in dict.fromkeys(node for node, _ in places):
        spec = store.inventory.node(name)
        disabled = set()
        for speaker in spec.speakers:
            if (name, speaker.name) not in places:
                continue
            status = store.speaker(name, speaker.name)
            is_settled = (name, speaker.name) in files
            if status is not None and not is_settled and (difference := file_drift(store, status)):
                drifted.append(f"{name}: {difference}")
            for session in speaker.sessions:
                bgp = store.session(name, speaker.name, session.name)
                if bgp is None or bgp.state is not SessionState.ADMIN_DOWN:
                    continue
                disabled.add((speaker.name, session.name))
                if (name, speaker.name, session.name) not in settled:
                    drifted.append(f"{name} {disabled_words(session, bgp)}{_UNDONE if speaker.kind == 'bird' else ''}")
        for instance in spec.instances:
            if words := not_set_up(store, spec, instance.tenant, now):
                absent[f"; {instance.tenant} is {words}"] = None
        cells = verdicts.announcements(store, spec, now)
        drifted += [
            f"{name} {c.session} {c.prefix}: {c.reason}"
            for c in cells
            if c.verdict is Verdict.DRIFT and (c.speaker, c.session) not in disabled
        ]
    if drifted:
        more = f" (+{len(drifted) - 1} more)" if len(drifted) > 1 else ""
        return GuardVerdict(name="drift", outcome=Outcome.REFUSE, numbers=drifted[0] + more)
    numbers = f"what is configured and exported there is what is intended{''.join(absent)}"
    return GuardVerdict(name="drift", outcome=Outcome.OK, numbers=numbers)


def _is_restored(change: Change, raised: Collection[tuple[str, str, str]]) -> bool:
    """True for what is announced again, or at full preference again. `raised` are sessions that come up with the change."""
    if change.after is Intent.SERVE:
        return True
    is_raised = (change.node, change.speaker, change.session) in raised
    return change.after is Intent.SOFT and (change.before is Intent.HARD or is_raised)


def _answers(store: FleetStore, restored: Sequence[Change], now: float) -> GuardVerdict:
    """What is put back must answer on the node, in every family, or it would be put back as a black hole."""
    silent = []
    for node, tenant_name, prefix in dict.fromkeys((c.node, c.tenant, c.prefix) for c in restored):
        tenant = store.inventory.tenant(tenant_name)
        answers, why = verdicts.answering(store, node, tenant, tenant.addresses_in(prefix), now)
        if not answers:
            silent.append(f"{node} {tenant_name}: {why}")
    if silent:
        return GuardVerdict(name="answers", outcome=Outcome.REFUSE, numbers="; ".join(silent))
    return GuardVerdict(
        name="answers", outcome=Outcome.OK, numbers="what would be put back answers, or nothing is put back"
    )


def _sessions(
    store: FleetStore, restored: Sequence[Change], raised: Collection[tuple[str, str, str]], now: float
) -> GuardVerdict:
    """What is put back needs its session, unless the change itself brings it up."""
    down = []
    for place in dict.fromkeys((c.node, c.speaker, c.session) for c in restored):
        if place in raised:
            continue
        node, speaker, session = place
        status = store.session(node, speaker, session)
        if status is None or not store.is_fresh(status, now) or status.state is not SessionState.ESTABLISHED:
            down.append(f"{node} {session} {status.state if status is not None else 'not seen'}")
    if down:
        return GuardVerdict(name="sessions", outcome=Outcome.REFUSE, numbers="; ".join(down))
    return GuardVerdict(
        name="sessions", outcome=Outcome.OK, numbers="every session is up on which something would be put back"
    )


def _serials(store: FleetStore, restored: Sequence[Change], now: float) -> GuardVerdict:
    """What is put back must have the zones that the other instances have."""
    old, alone = [], []
    for node, tenant_name in dict.fromkeys((c.node, c.tenant) for c in restored):
        tenant = store.inventory.tenant(tenant_name)
        status = store.instance(node, tenant_name)
        if status is not None and status.is_ready and store.is_fresh(status, now):
            continue  # its observer compares its zones with the primaries'
        for zone in tenant.zones:
            mine = status.serials.get(zone) if status is not None and store.is_fresh(status, now) else None
            others = verdicts.current_serial(store, zone, tenant, now, besides=node)
            if mine is None or (others is not None and mine != others):
                told = "unknown" if mine is None else mine
                old.append(f"{node} {zone} serial {told}, the others {'unknown' if others is None else others}")
            elif others is None:
                alone.append(f"{node} {zone} {mine}")
    if old:
        return GuardVerdict(name="serials", outcome=Outcome.REFUSE, numbers="; ".join(old))
    if alone:
        numbers = f"nobody else's serial is known to compare with: {', '.join(alone)}"
        return GuardVerdict(name="serials", outcome=Outcome.ASK, numbers=numbers)
    return GuardVerdict(
        name="serials", outcome=Outcome.OK, numbers="what would be put back has the zones that the others have"
    )


def _clock(store: FleetStore, places: Collection[_Place], now: float) -> GuardVerdict:
    """A node whose clock is wrong serves expired signatures and lets unconfirmed changes expire at the wrong time."""
    wrong, unseen = [], []
    nodes = [node for node in dict.fromkeys(node for node, _ in places) if not store.inventory.node(node).cluster]
    if places and not nodes:
        words = "nodes in clusters tell no time; what takes a change back there counts seconds"
        return GuardVerdict(name="clock", outcome=Outcome.OK, numbers=words)
    for node in nodes:
        host = store.host(node)
        if host is None or not store.is_fresh(host, now):
            unseen.append(node)
        elif abs(host.clock_offset) > verdicts.CLOCK_TOLERANCE:
            wrong.append(f"{node} is off by {host.clock_offset:+.1f} s")
    if wrong:
        numbers = f"{'; '.join(wrong)}; at most {verdicts.CLOCK_TOLERANCE:g} s are allowed"
        return GuardVerdict(name="clock", outcome=Outcome.REFUSE, numbers=numbers)
    if unseen:
        return GuardVerdict(name="clock", outcome=Outcome.ASK, numbers=f"the clock of {', '.join(unseen)} isn't seen")
    return GuardVerdict(name="clock", outcome=Outcome.OK, numbers="the clocks of the nodes concerned are right")


def _capacity(fleet: _Fleet, changes: Sequence[Change]) -> GuardVerdict:
    """Worst case: all the load that a tenant's nodes lose lands on one of those that remain."""
    store, now = fleet.store, fleet.now
    leaving = [c for c in changes if c.after is not Intent.SERVE and c.before is not Intent.HARD]
    moved: dict[str, float] = {}
    uncounted: list[str] = []
    for node, tenant in dict.fromkeys((c.node, c.tenant) for c in leaving):
        rates = store.qps(node, tenant, now)
        moved[tenant] = moved.get(tenant, 0.0) + (rates.qps if rates is not None else 0.0)
        uncounted += [f"{tenant} on {node}"] if rates is None else []
    if uncounted:
        some = f"{', '.join(uncounted[:3])}{' ...' if len(uncounted) > 3 else ''}"
        return GuardVerdict(name="capacity", outcome=Outcome.ASK, numbers=f"how much moves is not known: {some}")
    if not any(moved.values()):
        return GuardVerdict(name="capacity", outcome=Outcome.OK, numbers="no load moves")
    loads: list[tuple[float, str]] = []
    unknown: list[str] = []
    for tenant, rate in moved.items():
        prefixes = {c.prefix for c in leaving if c.tenant == tenant}
        others = set[str]().union(*(_serving_nodes(fleet, tenant, p, changes) for p in prefixes))
        for node in sorted(others - {c.node for c in leaving if c.tenant == tenant}):
            capacity, rates = store.capacity(node, tenant), store.qps(node, tenant, now)
            if capacity is None or rates is None:
                unknown.append(f"{tenant} on {node}")
                continue
            load = (rates.qps + rate) / capacity.qps
            how = f"{capacity.how}, {duration(now - capacity.measured_at)} ago"
            words = f"{rates.qps + rate:,.0f} q/s are {load:.0%} of what {tenant} on {node} can take ({how})"
            loads.append((load, words))
    limit = store.inventory.guards.max_load
    told = f"up to {sum(moved.values()):.0f} q/s move to other nodes"
    worst, words = max(loads, default=(0.0, ""))
    if worst > limit:
        numbers = f"{told}; worst case: {words}, {limit:.0%} are allowed"
        return GuardVerdict(name="capacity", outcome=Outcome.REFUSE, numbers=numbers)
    if unknown or not loads:
        some = f" ({', '.join(unknown[:3])}{' ...' if len(unknown) > 3 else ''})" if unknown else ""
        where = f"; worst case where it was: {words}" if words else ""
        numbers = f"{told}; what they can take was never measured{some}, {limit:.0%} of it are allowed{where}"
        return GuardVerdict(name="capacity", outcome=Outcome.ASK, numbers=numbers)
    return GuardVerdict(name="capacity", outcome=Outcome.OK, numbers=f"{told}; worst case: {words}")
