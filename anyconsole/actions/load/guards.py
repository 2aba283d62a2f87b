"""Guards of load tests: what must hold before the first query is sent, and what stops a test once it runs. Pure.

Default deny (loadtest.md, 6.4): only what the profile lists is ever a target, and what the fleet announces never is, unless it is marked
`lab` and this node sends it to nobody. What isn't known counts against the test.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address, ip_network

import msgspec

from anyconsole.actions.guards import GuardVerdict, Outcome
from anyconsole.actions.load.permitted import asked_for, denied_words
from anyconsole.actions.load.request import (
    LoadRequest,
    Purpose,
    address_of,
    asked_of,
    cap_of,
    entries_of,
    jobs_of,
    lock_of,
    seconds_of,
    targets_of,
)  # fmt: skip
from anyconsole.actions.plan import Plan
from anyconsole.model import verdicts
from anyconsole.model.facts import Exported, LinkState
from anyconsole.model.inventory import LoadTarget, TargetClass
from anyconsole.model.store import FleetStore
from anyconsole.model.views.catchment import node_of_nsid

__all__ = ["Baseline", "baseline_of", "evaluate", "moves", "strangers", "trip"]

PROD_SHARE = 0.1
"""Share of its real rate that a production target may be asked besides."""

PROD_RATE = 1000.0
"""Queries/s that a production target may be asked where its real rate isn't known."""

SERVFAIL_LIMIT = 0.01
IDLE_LIMIT = 0.05
"""Share of CPU time that a node shared with other tenants keeps idle."""

RESTARTED = 1.0
"""Seconds by which a name server's start has to have moved to be another one."""

TAKEN_LIMIT = 0.2
"""Share of a node's CPU time from which on a test has a part in it that nothing is left."""


def evaluate(store: FleetStore, plan: Plan, now: float) -> list[GuardVerdict]:
    """All guards on the targets of a load test's plan, in the order in which they are shown. Raises AnyconsoleError for a strange plan."""
    request = asked_of(plan)
    targets = targets_of(store, request)
    rules = (
        _permitted, _permissions, _caps, _announced, _in_service, _neighbours, _evidence, _pending, _generators, _production,
    )  # fmt: skip
    return [_worst([rule(store, request, target, now) for target in targets]) for rule in rules]


def _worst(guards: Sequence[GuardVerdict]) -> GuardVerdict:
    order = (Outcome.REFUSE, Outcome.ASK, Outcome.OK)
    return min(guards, key=lambda g: (order.index(g.outcome), g.overridable))


def _ok(name: str, numbers: str) -> GuardVerdict:
    return GuardVerdict(name=name, outcome=Outcome.OK, numbers=numbers)


def _refused(name: str, numbers: str, *, overridable: bool = False) -> GuardVerdict:
    return GuardVerdict(name=name, outcome=Outcome.REFUSE, numbers=numbers, overridable=overridable)


def _permitted(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:  # noqa: ARG001
    if target.users and request.operator not in target.users:
        return _refused(
            "permitted", f"{target.name} may be tested by {', '.join(target.users)}, not by {request.operator}"
        )
    who = ", ".join(target.users) or "anyone"
    return _ok("permitted", f"{target.name} is listed as {target.class_}, for {who}")


def _permissions(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:
    asked = asked_for(lock_of(store, request, target, now), jobs_of(store, request, target, now))
    if words := denied_words(store, asked):
        return _refused("permissions", "; ".join(words))
    return _ok(
        "permissions",
        f"all that is done in {', '.join(asked)} is permitted" if asked else "nothing is done in a cluster",
    )


def _caps(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:  # noqa: ARG001
    cap, seconds = cap_of(store, request, target), seconds_of(store, request, target)
    if request.rate > cap:
        return _refused("caps", f"{request.rate:,.0f} q/s asked for, {target.name} and its generators allow {cap:,.0f}")
    if seconds > target.max_seconds:
        return _refused("caps", f"{seconds:,.0f} s asked for, {target.name} allows {target.max_seconds:,}")
    return _ok("caps", f"at most {cap:,.0f} q/s for {seconds:,.0f} s")


def _announced(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:
    """Whatever any managed node announces is refused: its queries would land at real instances, anywhere.

    Its daemons are asked, for they may announce more than the profile knows of; where one can't be asked a human has to know.
    """
    address = address_of(target, request.family)
    prefixes = [p for t in store.inventory.tenants for p in t.prefixes if ip_address(address) in ip_network(p)]
    covering = prefixes[0] if prefixes else ""
    senders = [
        f"{node.name} on {cell.session} ({cell.exported})"
        for node in store.inventory.nodes
        for cell in verdicts.announcements(store, node, now)
        if cell.prefix in prefixes and cell.exported is not Exported.ABSENT
    ]
    sent, unknown, oldest = _covered(store, address, now)
    if not prefixes:  # of a prefix of the profile its cluster tells
        unknown += _unasked(store, target)
    if senders or sent:
        told = [*senders, *(words for words in sent if not senders)]
        more = " ..." if len(told) > 3 else ""
        where = f"is in {covering}: announced by" if senders else "is announced, though not as the profile says, by"
        return _refused("announced", f"{address} {where} {', '.join(told[:3])}{more}")
    if prefixes and target.class_ is not TargetClass.LAB:
        return _refused("announced", f"{address} is in {covering}: class {target.class_}")
    if unknown:
        words = (
            f"whether {address} is announced is not known: {'; '.join(unknown[:3])}{' ...' if len(unknown) > 3 else ''}"
        )
        return _refused("announced", words, overridable=True)
    clusters = sorted({node.cluster for node in store.inventory.nodes if node.cluster})
    unasked = f"; the speakers of {', '.join(clusters)} are asked for the profile's prefixes alone" if clusters else ""
    asked = f"no daemon sends anything that covers it ({oldest:.0f} s ago){unasked}"
    if prefixes:
        return _ok("announced", f"{address} is in {covering}, which nobody announces now; {asked}")
    return _ok("announced", f"{address} is in no prefix that this fleet announces; {asked}")


def _covered(store: FleetStore, address: str, now: float) -> tuple[list[str], list[str], float]:
    """What daemons send that covers an address, which of them didn't tell, and the greatest age of what they told (seconds)."""
    sent, unknown, oldest = [], [], 0.0
    for node in store.inventory.nodes:
        for speaker in [] if node.cluster else node.speakers:
            fact = store.covering(node.name, speaker.name, address)
            where = f"{speaker.name} on {node.name}"
            if fact is not None:
                sent += [f"{node.name}: {route}" for route in fact.routes]
            if fact is None or not store.is_fresh(fact, now):
                unknown.append(
                    f"{where} didn't tell" if fact is None else f"{where} told {store.age(fact, now):.0f} s ago"
                )
            elif fact.unknown:
                unknown.append(f"{where}: {fact.unknown}")
            oldest = max(oldest, store.age(fact, now) if fact is not None else 0.0)
    return sent, unknown, oldest


def _unasked(store: FleetStore, target: LoadTarget) -> list[str]:
    """Speakers of the target's cluster: they may announce its services and pods, and are asked for the profile's prefixes alone."""
    cluster = store.inventory.node(target.node).cluster
    return [
        f"{speaker.name} on {node.name} is asked for the profile's prefixes alone"
        for node in store.inventory.nodes
        if cluster and node.cluster == cluster
        for speaker in node.speakers
    ]


def _sent(store: FleetStore, target: LoadTarget, now: float) -> tuple[list[str], list[str]]:
    """Sessions on which the target's node announces its tenant, and those of which it isn't known."""
    cells = verdicts.announcements(store, store.inventory.node(target.node), now, target.tenant)
    sent = [c.session for c in cells if c.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED)]
    return sorted(set(sent)), sorted({c.session for c in cells if c.exported is Exported.UNKNOWN})


def _in_service(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:  # noqa: ARG001
    """An instance that is announced serves people: what fills it is felt by them."""
    sent, unknown = _sent(store, target, now)
    rates = store.qps(target.node, target.tenant, now)
    answers = f"answers {rates.qps:.0f} q/s now" if rates is not None else "answers an unknown rate now"
    where = f"{target.tenant} on {target.node}"
    if sent:
        return _refused(
            "in service", f"{where} is announced on {', '.join(sent)} and {answers}: drain it first", overridable=True
        )
    if unknown:
        return _refused(
            "in service", f"whether {where} is announced on {', '.join(unknown)} is not known", overridable=True
        )
    return _ok("in service", f"{where} is announced nowhere and {answers}")


def _neighbours(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:
    """Tenants that share the node share its CPU: the test stops as soon as one of them stops answering."""
    served = []
    for tenant in _others(store, target):
        cells = verdicts.announcements(store, store.inventory.node(target.node), now, tenant)
        if any(c.exported is not Exported.ABSENT for c in cells):
            served.append(tenant)
    if not served:
        return _ok("neighbours", f"nobody else is served from {target.node}")
    if request.purpose is Purpose.SEARCH and target.class_ is TargetClass.PROD:
        return _refused("neighbours", f"{', '.join(served)} are served from {target.node} too")
    return GuardVerdict(
        name="neighbours",
        outcome=Outcome.ASK,
        numbers=f"{', '.join(served)} are served from {target.node} too: the test stops when one of them doesn't answer",
    )


def _others(store: FleetStore, target: LoadTarget) -> list[str]:
    return [i.tenant for i in store.inventory.node(target.node).instances if i.tenant != target.tenant]


def _evidence(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:  # noqa: ARG001
    status = store.instance(target.node, target.tenant)
    if status is None or not store.is_fresh(status, now):
        return _refused("evidence", f"{target.tenant} on {target.node} can't be seen")
    if not status.running:
        return _refused("evidence", f"{target.tenant} on {target.node} isn't running")
    if status.is_ready is False:
        return _refused("evidence", f"{target.tenant} on {target.node} isn't ready")
    return _ok("evidence", f"{target.node} was seen {store.age(status, now):.0f} s ago")


def _pending(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:  # noqa: ARG001
    for speaker in store.inventory.node(target.node).speakers:
        status = store.speaker(target.node, speaker.name)
        if status is not None and status.pending:
            return _refused("pending", f"somebody's change of {target.node} is unconfirmed: {status.pending}")
    if (cluster := store.inventory.node(target.node).cluster) and (routing := store.routing(cluster)) and routing.lock:
        return _refused("pending", f"somebody's change in {cluster} is unconfirmed: {routing.lock}")
    return _ok("pending", f"nobody's change of {target.node} is pending")


def _generators(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:  # noqa: ARG001
    wanted = entries_of(store, request)
    absent = []
    for generator in wanted:
        link = store.link(generator.link)
        if link is None or link.state is not LinkState.LIVE:
            where = f" (its cluster {generator.cluster})" if generator.cluster else ""
            absent.append(f"{generator.name}{where}")
    if absent:
        return _refused("generators", f"{', '.join(absent)} can't be reached")
    hosts = [g for g in wanted if not g.cluster]
    pods = [f"{g.replicas} pods to be made in {g.cluster}" for g in wanted if g.cluster]
    return _ok("generators", ", ".join((*([f"{len(hosts)} connected"] if hosts else []), *pods)))


def _production(store: FleetStore, request: LoadRequest, target: LoadTarget, now: float) -> GuardVerdict:
    """A production target wants force: a fixed rate, a time window, and (unless the profile says otherwise) somebody else's name."""
    name = "production"
    if target.class_ is not TargetClass.PROD:
        return _ok(name, f"{target.name} is no production target")
    rates = store.qps(target.node, target.tenant, now)
    most = PROD_SHARE * rates.qps if rates is not None else PROD_RATE
    if not request.force:
        return _refused(name, f"{target.name} is a production target: it wants --force-prod, a window and a fixed rate")
    if request.purpose is not Purpose.FIXED:
        return _refused(name, "a production target is never searched: only a fixed rate can be had")
    if request.rate > most:
        return _refused(name, f"{request.rate:,.0f} q/s is more than the {most:,.0f} that {target.name} may be asked")
    if not now < request.window_until:
        return _refused(name, "no time window is given, or it is over")
    if store.inventory.load.second_pair_of_eyes and request.second in ("", request.operator):
        return _refused(name, "a second pair of eyes is wanted: --second NAME of somebody else")
    return _ok(name, f"{request.rate:,.0f} of at most {most:,.0f} q/s, seen by {request.second or 'nobody else'}")


def strangers(store: FleetStore, target: LoadTarget, identities: Collection[str]) -> list[str]:
    """NSIDs that are not the target's: then packets go elsewhere. An answer without one ("") is a stranger too."""
    if target.identity:
        return sorted(name or "(no NSID)" for name in set(identities) - set(target.identity))
    return sorted(name or "(no NSID)" for name in set(identities) if not _is_own(store, target, name))


def _is_own(store: FleetStore, target: LoadTarget, name: str) -> bool:
    """True for an NSID that names the target's node, and its tenant too where the node has others: one that all share proves nothing."""
    if node_of_nsid(store, name) != target.node:
        return False
    return not _others(store, target) or target.tenant in name.replace("-", ".").split(".")


# --- while it runs


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What was true of the target's node when the test began: (speaker, session) -> state, announcement -> what is sent."""

    sessions: dict[tuple[str, str], str]
    exports: dict[tuple[str, str, str], str]
    answering: frozenset[str] = frozenset()
    """Tenants beside it that answered."""
    started_at: float | None = None
    """When its name server was started, if it is in a cluster; None if that isn't known."""


def baseline_of(store: FleetStore, target: LoadTarget, now: float) -> Baseline:
    """The baseline as of now."""
    spec = store.inventory.node(target.node)
    sessions = {}
    for speaker in spec.speakers:
        for session in speaker.sessions:
            status = store.session(target.node, speaker.name, session.name)
            sessions[speaker.name, session.name] = str(status.state) if status is not None else "unknown"
    exports = {(c.speaker, c.session, c.prefix): str(c.exported) for c in verdicts.announcements(store, spec, now)}
    answering = frozenset(t for t in _others(store, target) if _answers(store, target, t, now))
    return Baseline(sessions=sessions, exports=exports, answering=answering, started_at=_started_at(store, target))


def _started_at(store: FleetStore, target: LoadTarget) -> float | None:
    status = store.instance(target.node, target.tenant)
    if not store.inventory.node(target.node).cluster or status is None or status.uptime is None:
        return None
    return status.at - status.uptime


def moves(target: LoadTarget, before: Baseline, after: Baseline) -> Iterator[str]:
    """What of its node's BGP is another than it was: that moves packets elsewhere."""
    for (speaker, session), state in before.sessions.items():
        if (is_now := after.sessions[speaker, session]) != state:
            yield f"BGP session {session} of {target.node} is {is_now}, it was {state}"
    for cell, sent in before.exports.items():
        _, session, prefix = cell
        is_now = after.exports.get(cell, "unknown")
        if is_now not in (sent, str(Exported.UNKNOWN)):
            yield f"{prefix} on {session} of {target.node} is {is_now}, it was {sent}"


def _answers(store: FleetStore, target: LoadTarget, tenant: str, now: float) -> bool | None:
    spec = store.inventory.tenant(tenant)
    return verdicts.answering(store, target.node, spec, spec.addresses, now)[0]


def trip(
    store: FleetStore,
    target: LoadTarget,
    before: Baseline,
    now: float,
    *,
    identities: Collection[str] = (),
    servfail: float | None = None,
    idle: float | None = None,
    taken: float | None = None,
) -> str:
    """Why a running test must stop now, "" if it needn't. Called every second.

    Args:
        store: The fleet as it is known.
        target: What is under load.
        before: How its node was when it began.
        now: Epoch seconds.
        identities: NSIDs that answered meanwhile.
        servfail: Share of answers that were SERVFAIL in the last second; None if there were none.
        idle: Share of the node's CPU time that was idle for three seconds; None if it isn't known.
        taken: Share of it that went to the instance under test, and to the network more than usual; None if it isn't known.
    """
    return next(_trips(store, target, before, now, identities, servfail, idle, taken), "")


def _unseen(store: FleetStore, target: LoadTarget, now: float) -> str:
    """What a running test has to see of its node and doesn't; "" if it sees all of it."""
    if not store.is_fresh(store.instance(target.node, target.tenant), now):
        return f"{target.tenant} on {target.node}"
    for speaker in store.inventory.node(target.node).speakers:
        if not store.is_fresh(store.speaker(target.node, speaker.name), now):
            return f"{speaker.name} on {target.node}"
    return ""


def _trips(
    store: FleetStore,
    target: LoadTarget,
    before: Baseline,
    now: float,
    identities: Collection[str],
    servfail: float | None,
    idle: float | None,
    taken: float | None,
) -> Iterator[str]:
    if unseen := _unseen(store, target, now):
        yield f"{unseen} can't be seen any more, so nothing of this can be watched"
        return
    status = store.instance(target.node, target.tenant)
    if status is not None and (not status.running or status.is_ready is False):
        why = f": {status.detail}" if status.detail else ""
        yield f"{target.tenant} on {target.node} {'is not ready' if status.running else 'does not run any more'}{why}"
    started_at = _started_at(store, target)
    if started_at is not None and before.started_at is not None and abs(started_at - before.started_at) > RESTARTED:
        yield f"{target.tenant} on {target.node} was restarted, or its pod replaced"
    yield from moves(target, before, baseline_of(store, target, now))
    for tenant in sorted(before.answering):
        if _answers(store, target, tenant, now) is False:
            yield f"{tenant} on {target.node} doesn't answer any more"
    if wrong := strangers(store, target, identities):
        yield f"{', '.join(wrong)} answered, which is no instance of {target.name}: packets go elsewhere"
    if servfail is not None and servfail > SERVFAIL_LIMIT:
        yield f"{servfail:.1%} of the answers are SERVFAIL"
    if idle is not None and idle < IDLE_LIMIT and before.answering and (taken is None or taken >= TAKEN_LIMIT):
        part = "" if taken is None else f", {taken:.0%} goes to the test"
        yield f"{target.node} has {idle:.0%} of its CPU time left{part}, and {', '.join(sorted(before.answering))} need it too"
