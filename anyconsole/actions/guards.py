"""Guards: named preconditions of a change, each with its verdict and the numbers behind it. Pure; judged on the store as it is now.

What is not known counts as unhealthy. A guard judges what the fleet would look like after the change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum

import msgspec

from anyconsole.model import verdicts
from anyconsole.model.facts import Exported
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Intent, Verdict

__all__ = ["Change", "GuardVerdict", "Outcome", "evaluate"]


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


def evaluate(store: FleetStore, changes: Sequence[Change], now: float) -> list[GuardVerdict]:
    """All guards on one set of changes, in the order in which they are shown."""
    rules: tuple[Callable[[FleetStore, Sequence[Change], float], GuardVerdict], ...] = (
        _last_announcer,
        _floor,
        _sites,
        _regions,
        _evidence,
        _pending,
        _drift,
        _answers,
        _capacity,
    )
    return [rule(store, changes, now) for rule in rules]


# --- the fleet after the change


def _serving_nodes(store: FleetStore, tenant: str, prefix: str, changes: Iterable[Change], now: float) -> set[str]:
    """Nodes that announce a prefix and answer on it, once the changes are made."""
    withdrawn = {(c.node, c.speaker, c.session) for c in changes if c.prefix == prefix and c.after is Intent.HARD}
    restored = {(c.node, c.speaker, c.session) for c in changes if c.prefix == prefix and c.after is not Intent.HARD}
    nodes = set()
    for spec in store.inventory.nodes:
        for cell in verdicts.announcements(store, spec, now, tenant):
            place = (cell.node, cell.speaker, cell.session)
            if cell.prefix != prefix or place in withdrawn or not cell.answering:
                continue
            sent = cell.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED)
            if sent or (place in restored and cell.verdict is Verdict.DRAINED):
                nodes.add(cell.node)
    return nodes


def _withdrawn_prefixes(changes: Iterable[Change]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((c.tenant, c.prefix) for c in changes if c.after is Intent.HARD))


def _hosting(store: FleetStore, tenant: str) -> int:
    return sum(i.tenant == tenant for n in store.inventory.nodes for i in n.instances)


# --- the rules


def _last_announcer(store: FleetStore, changes: Sequence[Change], now: float) -> GuardVerdict:
    lost = [p for t, p in _withdrawn_prefixes(changes) if not _serving_nodes(store, t, p, changes, now)]
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


def _floor(store: FleetStore, changes: Sequence[Change], now: float) -> GuardVerdict:
    limits = store.inventory.guards
    worst: tuple[int, int, str] | None = None
    for tenant, prefix in _withdrawn_prefixes(changes):
        floor = max(limits.min_nodes, math.ceil(limits.min_share * _hosting(store, tenant)))
        left = len(_serving_nodes(store, tenant, prefix, changes, now))
        if worst is None or left - floor < worst[0] - worst[1]:
            worst = (left, floor, prefix)
    if worst is None:
        return GuardVerdict(name="floor", outcome=Outcome.OK, numbers="nothing is withdrawn")
    left, floor, prefix = worst
    numbers = f"{prefix} would be served by {left} nodes, at least {floor} are wanted"
    return GuardVerdict(name="floor", outcome=Outcome.OK if left >= floor else Outcome.REFUSE, numbers=numbers)


def _sites(store: FleetStore, changes: Sequence[Change], now: float) -> GuardVerdict:
    short = []
    for tenant, prefix in _withdrawn_prefixes(changes):
        wanted = store.inventory.tenant(tenant).min_sites
        left = {store.inventory.node(n).site for n in _serving_nodes(store, tenant, prefix, changes, now)}
        if len(left) < wanted:
            short.append(f"{prefix} from {len(left)} sites, at least {wanted} are wanted")
    if short:
        return GuardVerdict(name="sites", outcome=Outcome.REFUSE, numbers="; ".join(short))
    return GuardVerdict(name="sites", outcome=Outcome.OK, numbers="every tenant keeps its least number of sites")


def _regions(store: FleetStore, changes: Sequence[Change], now: float) -> GuardVerdict:
    def regions(nodes: Iterable[str]) -> set[str]:
        return {r for n in nodes if (r := store.inventory.site(store.inventory.node(n).site).region)}

    lost = []
    for tenant, prefix in _withdrawn_prefixes(changes):
        before = regions(_serving_nodes(store, tenant, prefix, (), now))
        after = regions(_serving_nodes(store, tenant, prefix, changes, now))
        lost += [f"{prefix} leaves region {region}" for region in sorted(before - after)]
    if lost:
        return GuardVerdict(name="regions", outcome=Outcome.REFUSE, numbers="; ".join(lost))
    return GuardVerdict(name="regions", outcome=Outcome.OK, numbers="no prefix leaves a region")


def _evidence(store: FleetStore, changes: Sequence[Change], now: float) -> GuardVerdict:
    limit = store.inventory.guards.evidence_max_age
    old = []
    for name in dict.fromkeys(c.node for c in changes):
        seen = [store.section_seen_at(name, c.speaker) for c in changes if c.node == name]
        age = max((math.inf if at is None else now - at for at in seen), default=math.inf)
        if age > limit or not store.node_is_live(name):
            old.append(f"{name} was never seen" if math.isinf(age) else f"{name} was seen {age:.0f} s ago")
    if old:
        numbers = f"{', '.join(old)}; at most {limit:.0f} s are allowed"
        return GuardVerdict(name="evidence", outcome=Outcome.REFUSE, numbers=numbers, overridable=False)
    return GuardVerdict(
        name="evidence", outcome=Outcome.OK, numbers=f"every node concerned was seen within {limit:.0f} s"
    )


def _pending(store: FleetStore, changes: Sequence[Change], now: float) -> GuardVerdict:  # noqa: ARG001 - a rule's shape
    pending = []
    for node, speaker in dict.fromkeys((c.node, c.speaker) for c in changes):
        status = store.speaker(node, speaker)
        if status is not None and status.pending:
            pending.append(f"{node}: {status.pending}")
    if pending:
        return GuardVerdict(name="pending", outcome=Outcome.REFUSE, numbers="; ".join(pending), overridable=False)
    return GuardVerdict(name="pending", outcome=Outcome.OK, numbers="nobody else's change is unconfirmed there")


def _drift(store: FleetStore, changes: Sequence[Change], now: float) -> GuardVerdict:
    drifted = []
    for name in dict.fromkeys(c.node for c in changes):
        cells = verdicts.announcements(store, store.inventory.node(name), now)
        drifted += [f"{name} {c.session} {c.prefix}: {c.reason}" for c in cells if c.verdict is Verdict.DRIFT]
    if drifted:
        more = f" (+{len(drifted) - 1} more)" if len(drifted) > 1 else ""
        return GuardVerdict(name="drift", outcome=Outcome.REFUSE, numbers=drifted[0] + more)
    return GuardVerdict(name="drift", outcome=Outcome.OK, numbers="what is exported there is what is intended")


def _answers(store: FleetStore, changes: Sequence[Change], now: float) -> GuardVerdict:
    """What is put back must answer, or it would be put back as a black hole."""
    silent = []
    for node, tenant_name, prefix in dict.fromkeys(
        (c.node, c.tenant, c.prefix) for c in changes if c.after is Intent.SERVE
    ):
        tenant = store.inventory.tenant(tenant_name)
        answers, why = verdicts.answering(store, node, tenant, tenant.addresses_in(prefix), now)
        if not answers:
            silent.append(f"{node} {tenant_name}: {why}")
    if silent:
        return GuardVerdict(name="answers", outcome=Outcome.REFUSE, numbers="; ".join(silent))
    return GuardVerdict(
        name="answers", outcome=Outcome.OK, numbers="what would be put back answers, or nothing is put back"
    )


def _capacity(store: FleetStore, changes: Sequence[Change], now: float) -> GuardVerdict:
    """No capacity has been measured yet, so the load that moves is told and a human decides."""
    moved = 0.0
    for node, tenant in dict.fromkeys((c.node, c.tenant) for c in changes if c.after is not Intent.SERVE):
        rates = store.qps(node, tenant, now)
        moved += rates.qps if rates is not None else 0.0
    if not moved:
        return GuardVerdict(name="capacity", outcome=Outcome.OK, numbers="no load moves")
    limit = store.inventory.guards.max_load
    numbers = (
        f"up to {moved:.0f} q/s move to other nodes; what they can take was never measured (limit {limit:.0%} of it)"
    )
    return GuardVerdict(name="capacity", outcome=Outcome.ASK, numbers=numbers)
