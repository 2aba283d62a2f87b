"""Drain and undrain, on paper: which announcements a scope means, and what each routing daemon has to be told, in which order.

Soft de-prefers (RFC 8326), hard withdraws, serve is back to normal. A drain goes soft first and hard once the traffic has left; an undrain
goes soft first as a canary. Each stage of a speaker is one step: a transaction that its node takes back by itself unless it is confirmed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from anyconsole.actions.cluster_drain import CannotDrainError, ClusterDrains
from anyconsole.actions.guards import Change
from anyconsole.actions.journal_record import Estimates
from anyconsole.actions.plan import Plan, Step
from anyconsole.drivers import bird_transaction, frr_transaction, gobgp_transaction
from anyconsole.drivers.transaction import CellChange, DrainState, Transaction
from anyconsole.errors import AnyconsoleError
from anyconsole.model import verdicts
from anyconsole.model.cluster_state import may_not_see_drains, may_not_see_speaker
from anyconsole.model.drain_note import DrainNote, parse_note
from anyconsole.model.facts import Exported, SpeakerStatus
from anyconsole.model.inventory import Family, Interconnect, NodeSpec, SessionSpec, SpeakerSpec, Tenant, family_of
from anyconsole.model.store import FleetStore
from anyconsole.model.table import clean
from anyconsole.model.verdicts import Intent

__all__ = ["DrainRequest", "Level", "cell_changes", "estimate", "make_plan", "state_of"]

_TRANSACTIONS: dict[str, Callable[[SpeakerSpec, DrainState, DrainState, Sequence[CellChange], int], Transaction]] = {
    "bird": bird_transaction.transaction,
    "frr": frr_transaction.transaction,
    "gobgp": gobgp_transaction.transaction,
}

_Cell = tuple[SpeakerSpec, SessionSpec, Tenant, str]


class Level(StrEnum):
    """What somebody wants of the announcements in a scope."""

    SOFT_THEN_HARD = "soft-then-hard"
    SOFT = "soft"
    HARD = "hard"
    SERVE = "serve"

    @property
    def stages(self) -> tuple[Intent, ...]:
        """The intents to go through; the last is where it ends."""
        return _STAGES[self]


_STAGES = {
    Level.SOFT_THEN_HARD: (Intent.SOFT, Intent.HARD),
    Level.SOFT: (Intent.SOFT,),
    Level.HARD: (Intent.HARD,),
    Level.SERVE: (Intent.SOFT, Intent.SERVE),
}

_VERBS = {
    Level.SOFT_THEN_HARD: "drain",
    Level.SOFT: "drain soft",
    Level.HARD: "drain hard",
    Level.SERVE: "undrain",
}


class DrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants: a level for every announcement in a scope. An empty part of the scope means all.

    `cells` are single announcements as (node, session, prefix). `expires_at` is epoch seconds: then the drain is overdue.
    """

    level: Level
    nodes: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    interconnects: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()
    cells: tuple[tuple[str, str, str], ...] = ()
    reason: str = ""
    ticket: str = ""
    operator: str = ""
    expires_at: float | None = None


def make_plan(store: FleetStore, request: DrainRequest, now: float, estimates: Estimates | None = None) -> Plan:
    """The plan for a request. Announcements that are as wanted already are left alone.

    Args:
        store: The fleet as it is.
        request: What is wanted.
        now: Epoch seconds.
        estimates: How long it took at each site before, from the journal.

    Raises:
        AnyconsoleError: The scope names something that the profile doesn't have, or means no announcement at all.
    """
    _check_names(store, request)
    asked = _Asked(store, request, now, estimates or {}, ClusterDrains(store))
    steps: list[Step] = []
    scope: list[tuple[NodeSpec, Tenant]] = []
    for node in store.inventory.nodes:
        if not _is_in(node.name, request.nodes) or not _is_in(node.site, request.sites):
            continue
        cells = [c for c in verdicts.node_announcements(store, node) if _is_wanted(store, request, node, c)]
        scope += [(node, cell[2]) for cell in cells]
        steps += _node_steps(asked, node, cells)
    if not scope:
        raise AnyconsoleError("this scope means no announcement: no session and prefix of the profile fit all of it")
    return Plan(
        action="drain",
        title=_title(request),
        profile=store.inventory.name,
        made_at=now,
        reason=clean(request.reason),
        ticket=clean(request.ticket, 40),
        request=msgspec.json.decode(msgspec.json.encode(request)),  # as JSON has it: a plan that comes back is the same
        type_to_confirm=_type_to_confirm(store, request, steps, scope),
        steps=tuple(steps),
        missing=tuple(dict.fromkeys(asked.missing)),
    )


# --- the scope


def _check_names(store: FleetStore, request: DrainRequest) -> None:
    fleet = store.inventory
    sessions = {(n.name, s.name) for n in fleet.nodes for d in n.speakers for s in d.sessions}
    known: dict[str, tuple[Iterable[str], Collection[str]]] = {
        "node": (request.nodes, {n.name for n in fleet.nodes}),
        "site": (request.sites, {s.name for s in fleet.sites}),
        "tenant": (request.tenants, {t.name for t in fleet.tenants}),
        "peer": (request.peers, {p.name for i in fleet.interconnects for p in i.peers}),
        "interconnect": (request.interconnects, {i.name for i in fleet.interconnects}),
        "session": ((f"{n} {s}" for n, s, _ in request.cells), {" ".join(pair) for pair in sessions}),
        "prefix": ((p for _, _, p in request.cells), {p for t in fleet.tenants for p in t.prefixes}),
    }
    for what, (wanted, names) in known.items():
        for name in wanted:
            if name not in names:
                raise AnyconsoleError(
                    f"there is no {what} {name!r} in profile {fleet.name}; there are {', '.join(sorted(names))}"
                )


def _is_wanted(store: FleetStore, request: DrainRequest, node: NodeSpec, cell: _Cell) -> bool:
    _, session, tenant, prefix = cell
    return (
        _is_in(tenant.name, request.tenants)
        and _is_in(family_of(prefix), request.families)
        and _is_in(session.peer, request.peers)
        and (not request.interconnects or _interconnect(store, session).name in request.interconnects)
        and (not request.cells or (node.name, session.name, prefix) in request.cells)
    )


def _interconnect(store: FleetStore, session: SessionSpec) -> Interconnect:
    name = store.inventory.peer(session.peer).interconnect
    return next(i for i in store.inventory.interconnects if i.name == name)


def _is_in(name: str, wanted: Collection[str]) -> bool:
    return not wanted or name in wanted


def _title(request: DrainRequest) -> str:
    scopes = (
        ("node", request.nodes),
        ("site", request.sites),
        ("tenant", request.tenants),
        ("peer", request.peers),
        ("interconnect", request.interconnects),
    )
    words = [f"{what} {'+'.join(names)}" for what, names in scopes if names]
    words += [f"family {f}" for f in request.families]
    if request.cells:
        nodes = "+".join(dict.fromkeys(node for node, _, _ in request.cells))
        words.append(f"{len(request.cells)} chosen announcements on {nodes}")
    return f"{_VERBS[request.level]}: {', '.join(words) or 'the whole fleet'}"


def _type_to_confirm(
    store: FleetStore, request: DrainRequest, steps: Iterable[Step], scope: Iterable[tuple[NodeSpec, Tenant]]
) -> str:
    """What must be typed for a scope that is wider than one tenant on one node, or one session."""
    hosts = list(dict.fromkeys(step.host for step in steps))
    tenants = {tenant.name for _, tenant in scope}
    if len(hosts) > 1:
        if len(request.sites) == 1:
            return request.sites[0]
        if len(tenants) == 1 and len(store.inventory.tenants) > 1:
            return tenants.pop()
        named = request.interconnects or request.peers
        return named[0] if len(named) == 1 else store.inventory.name
    if not hosts or request.level is Level.SERVE:
        return ""
    is_narrow = bool(request.tenants or request.peers or request.interconnects)
    if request.cells:  # marked one by one, they may still be the whole node
        chosen = {(session, prefix) for node, session, prefix in request.cells if node == hosts[0]}
        whole = {(s.name, p) for _, s, _, p in verdicts.node_announcements(store, store.inventory.node(hosts[0]))}
        is_narrow = is_narrow or chosen < whole
    return "" if is_narrow else hosts[0]


# --- the steps


class _Asked(msgspec.Struct, frozen=True):
    """What every step of one plan is made from."""

    store: FleetStore
    request: DrainRequest
    now: float
    estimates: Estimates
    clusters: ClusterDrains
    missing: list[str] = []


def _node_steps(asked: _Asked, node: NodeSpec, cells: Iterable[_Cell]) -> list[Step]:
    """Steps of one node: first every speaker's first stage, then every speaker's second."""
    by_speaker: dict[str, list[_Cell]] = {}
    for cell in cells:
        by_speaker.setdefault(cell[0].name, []).append(cell)
    states: dict[str, DrainState] = {}
    for name in list(by_speaker):
        status = asked.store.speaker(node.name, name)
        if status is None or status.drain_serial is None:
            denied = may_not_see_drains(asked.store, node) or may_not_see_speaker(asked.store, node)
            why = f" ({denied})" if denied else ""
            words = f"{node.name} {name}: its drain state is not known{why}, so nothing can be planned there"
            asked.missing.append(words)
            del by_speaker[name]
        else:
            states[name] = state_of(status)
    steps: list[Step] = []
    unplanned: set[str] = set()
    for stage in asked.request.level.stages:
        for name, chosen in by_speaker.items():
            before = states[name]
            changes = tuple(_changes(asked.store, node, chosen, before, stage, asked.request.level))
            if changes and name not in unplanned:
                numbers = {(c.tenant, c.session) for c in changes}
                pairs = {(t.number, s.number) for _, s, t, _ in chosen if (t.name, s.name) in numbers}
                after = _state_after(before, pairs, stage, asked.request, asked.now)
                try:
                    steps.append(_step(asked, node, chosen[0][0], changes, before, after, is_later=bool(steps)))
                except CannotDrainError as cannot:
                    # An undrain whose canary can't be had serves at once; its step says so.
                    if stage is not Intent.SOFT or asked.request.level is not Level.SERVE:
                        asked.missing.extend(cannot.reasons)
                        unplanned.add(name)
                    continue
                states[name] = after
    return steps


def state_of(status: SpeakerStatus) -> DrainState:
    """The drain state that a speaker runs."""
    return DrainState(
        serial=status.drain_serial or 0,
        note=status.drain_note,
        hard=frozenset(status.drain_hard),
        soft=frozenset(status.drain_soft),
    )


def _state_after(
    before: DrainState, pairs: set[tuple[int, int]], stage: Intent, request: DrainRequest, now: float
) -> DrainState:
    hard = before.hard - pairs | (pairs if stage is Intent.HARD else set())
    soft = before.soft - pairs | (pairs if stage is Intent.SOFT else set())
    return DrainState(
        serial=max(int(now), before.serial + 1),
        note=_note(before, hard | soft, pairs, request, now),
        hard=hard,
        soft=soft,
    )


def _note(
    before: DrainState, left: frozenset[tuple[int, int]], pairs: set[tuple[int, int]], request: DrainRequest, now: float
) -> str:
    """The node keeps one note: of the latest change, with the earliest expiry of what stays drained, and whose that is if another's."""
    expiries = [request.expires_at] if request.level is not Level.SERVE else []
    older, reason = parse_note(before.note), request.reason
    if older is not None and left - pairs:
        expiries.append(older.expires)
        if (older.operator, older.ticket) != (request.operator, request.ticket):
            whose = " ".join(filter(None, (older.operator, older.ticket)))
            reason = f"{reason}; the rest by {whose}: {older.reason}"
    note = DrainNote(
        operator=request.operator,
        ticket=request.ticket,
        reason=reason,
        at=now,
        expires=min((e for e in expiries if e is not None), default=None) if left else None,
    )
    return note.text()


def _changes(
    store: FleetStore, node: NodeSpec, cells: Iterable[_Cell], before: DrainState, stage: Intent, level: Level
) -> Iterator[Change]:
    for speaker, session, tenant, prefix in cells:
        pair = (tenant.number, session.number)
        intent = Intent.HARD if pair in before.hard else Intent.SOFT if pair in before.soft else Intent.SERVE
        if intent is stage or _is_detour(intent, stage, level):
            continue
        export = store.export(node.name, speaker.name, session.name, prefix)
        yield Change(
            node=node.name,
            speaker=speaker.name,
            session=session.name,
            peer=session.peer,
            tenant=tenant.name,
            prefix=prefix,
            before=intent,
            after=stage,
            exported=export.exported if export else Exported.UNKNOWN,
        )


def _is_detour(intent: Intent, stage: Intent, level: Level) -> bool:
    """The soft stage in between is for what serves and is to be withdrawn, or is withdrawn and is to serve; not for the others."""
    if stage is not Intent.SOFT:
        return False
    return (level is Level.SOFT_THEN_HARD and intent is Intent.HARD) or (
        level is Level.SERVE and intent is Intent.SERVE
    )


def _step(
    asked: _Asked,
    node: NodeSpec,
    speaker: SpeakerSpec,
    changes: tuple[Change, ...],
    before: DrainState,
    after: DrainState,
    *,
    is_later: bool,
) -> Step:
    level = asked.request.level
    limits = asked.store.inventory.guards
    cells = cell_changes(speaker, changes)
    about: tuple[str, ...] = ()
    try:
        if speaker.kind == "calico":
            told, about = asked.clusters.transaction(node, before, after, limits.hold)
        else:
            told = _TRANSACTIONS[speaker.kind](speaker, before, after, cells, limits.hold)
    except (KeyError, ValueError) as error:
        why = f"drains of {speaker.kind} are not known" if isinstance(error, KeyError) else str(error)
        raise AnyconsoleError(f"{node.name} {speaker.name}: {why}") from error
    stage = changes[0].after
    waits_for = ""
    if stage is Intent.HARD and level is Level.SOFT_THEN_HARD and is_later:
        waits_for = (
            f"{node.name}'s own queries for {', '.join(sorted({c.tenant for c in changes}))} under "
            f"{limits.residual:.0%} of before, and at least {limits.settle:g} s since it went soft"
        )
    elif stage is Intent.SERVE and is_later:
        waits_for = "the canary: answers are good at low preference, for at least 3 s"
    elif stage is Intent.SERVE and any(c.before is Intent.HARD for c in changes):
        about += ("it serves at once: the canary at low preference can't be had there",)
    return Step(
        host=node.name,
        part=speaker.name,
        title=f"{speaker.name}: {len(changes)} announcements {stage}, serial {before.serial} -> {after.serial}",
        apply=told.apply,
        confirm=told.confirm,
        revert=told.revert,
        hold=told.hold,
        diff=told.diff,
        about=about,
        lane=node.cluster,
        estimate=estimate(asked.estimates, node.site, stage),
        serial=after.serial,
        serial_before=before.serial,
        waits_for=waits_for,
        undo=(_undo_command(asked.request),),
        changes=changes,
        proof=(
            f"daemon: its drain serial is {after.serial}, and each export is as planned",
            "peers: their looking glasses say the same, where the profile names one",
            "catchment and traffic: shown, and waited for before anything is withdrawn",
        ),
    )


def cell_changes(speaker: SpeakerSpec, changes: Iterable[Change]) -> list[CellChange]:
    """Changes of a speaker as its driver is told of them."""
    sessions = {s.name: s for s in speaker.sessions}
    return [
        CellChange(
            session=c.session,
            peer=c.peer,
            family=sessions[c.session].family,
            prefix=c.prefix,
            before=str(c.before),
            after=str(c.after),
        )
        for c in changes
    ]


def estimate(estimates: Estimates, site: str, stage: Intent) -> str:
    """How long a stage took at a site before, in words; "" if it never did."""
    layers = estimates.get((site, str(stage)), {})
    told = [f"{layer} {known.median:.1f} s (at worst {known.worst:.1f} s)" for layer, known in layers.items()]
    count = max((known.count for known in layers.values()), default=0)
    return f"{', '.join(told)}: the last {count} times at {site}" if told else ""


def _undo_command(request: DrainRequest) -> str:
    """The command line that takes the whole request back. Single announcements are chosen on the screen."""
    words = ["drain" if request.level is Level.SERVE else "undrain"]
    for option in ("node", "site", "tenant", "peer", "interconnect"):
        words += [f"--{option} {shlex.quote(name)}" for name in getattr(request, f"{option}s")]
    words += [f"--family {family[-1]}" for family in request.families]
    chosen = " (of the chosen announcements: mark them, U)" if request.cells else ""
    return f"anyconsole {' '.join(words)} --reason ...{chosen}"
