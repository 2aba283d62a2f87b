"""Drain and undrain, on paper: which announcements a scope means, and what each routing daemon would have to be told.

Soft de-prefers (RFC 8326), hard withdraws, serve is back to normal. BIRD's drain state is one include file with sets of (tenant number,
session number); FRR's is prefix lists that its route-maps consult, one pair per peer; both as docs/profiles.md describes the nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise

import msgspec

from anyconsole.actions.guards import Change
from anyconsole.actions.plan import Plan, Step
from anyconsole.errors import AnyconsoleError
from anyconsole.model import verdicts
from anyconsole.model.facts import Exported, SpeakerStatus
from anyconsole.model.inventory import Family, NodeSpec, SessionSpec, SpeakerSpec, Tenant, family_of
from anyconsole.model.store import FleetStore
from anyconsole.model.table import clean
from anyconsole.model.verdicts import Intent

__all__ = ["DrainRequest", "drain_file", "make_plan"]

Pair = tuple[int, int]

CONFIRM_SECONDS = 120
"""How long a daemon would keep an unconfirmed change before it goes back by itself."""


class DrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants: a level for every announcement in a scope. Empty means all."""

    level: Intent
    nodes: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()
    reason: str = ""
    ticket: str = ""
    operator: str = ""
    expires_at: float | None = None


def make_plan(store: FleetStore, request: DrainRequest, now: float) -> Plan:
    """The plan for a request. Announcements that are as wanted already are left alone.

    Raises:
        AnyconsoleError: The scope names something that the profile doesn't have, or means no announcement at all.
    """
    _check_names(store, request)
    steps, remarks, in_scope = [], [], 0
    for node in store.inventory.nodes:
        if not _is_in(node.name, request.nodes) or not _is_in(node.site, request.sites):
            continue
        for speaker in node.speakers:
            chosen = [
                c
                for c in verdicts.node_announcements(store, node)
                if c[0] is speaker and _wanted(request, c[1], c[2], c[3])
            ]
            in_scope += len(chosen)
            changes = tuple(_changes(store, node, chosen, request.level))
            status = store.speaker(node.name, speaker.name)
            if not changes:
                continue
            if status is None or status.drain_serial is None:
                remarks.append(
                    f"{node.name} {speaker.name}: its drain state is not known, so nothing can be planned there"
                )
                continue
            steps.append(_step(store, node, speaker, status, changes, request, now))
    if not in_scope:
        raise AnyconsoleError("this scope means no announcement: no session and prefix of the profile fit all of it")
    return Plan(
        title=_title(request),
        profile=store.inventory.name,
        made_at=now,
        reason=clean(request.reason),
        ticket=clean(request.ticket, 40),
        steps=tuple(steps),
        remarks=tuple(remarks),
    )


def _check_names(store: FleetStore, request: DrainRequest) -> None:
    fleet = store.inventory
    known: dict[str, tuple[Iterable[str], Collection[str]]] = {
        "node": (request.nodes, {n.name for n in fleet.nodes}),
        "site": (request.sites, {s.name for s in fleet.sites}),
        "tenant": (request.tenants, {t.name for t in fleet.tenants}),
        "peer": (
            request.peers,
            {p.name for i in fleet.interconnects for p in i.peers} | {i.name for i in fleet.interconnects},
        ),
    }
    for what, (wanted, names) in known.items():
        for name in wanted:
            if name not in names:
                raise AnyconsoleError(
                    f"there is no {what} {name!r} in profile {fleet.name}; there are {', '.join(sorted(names))}"
                )


def _wanted(request: DrainRequest, session: SessionSpec, tenant: Tenant, prefix: str) -> bool:
    return (
        _is_in(tenant.name, request.tenants)
        and _is_in(family_of(prefix), request.families)
        and _is_in(session.peer, request.peers)
    )


def _is_in(name: str, wanted: Collection[str]) -> bool:
    return not wanted or name in wanted


def _title(request: DrainRequest) -> str:
    verb = {Intent.SOFT: "drain soft", Intent.HARD: "drain hard", Intent.SERVE: "undrain"}[request.level]
    scopes = (("node", request.nodes), ("site", request.sites), ("tenant", request.tenants), ("peer", request.peers))
    scope = [f"{what} {'+'.join(names)}" for what, names in scopes if names] + [f"family {f}" for f in request.families]
    return f"{verb}: {', '.join(scope) or 'the whole fleet'}"


def _changes(
    store: FleetStore, node: NodeSpec, cells: Iterable[tuple[SpeakerSpec, SessionSpec, Tenant, str]], level: Intent
) -> Iterator[Change]:
    for speaker, session, tenant, prefix in cells:
        before = verdicts.intended(store, node.name, speaker.name, tenant.number, session.number)
        if before is level:
            continue
        export = store.export(node.name, speaker.name, session.name, prefix)
        yield Change(
            node=node.name,
            speaker=speaker.name,
            session=session.name,
            peer=session.peer,
            tenant=tenant.name,
            prefix=prefix,
            before=before,
            after=level,
            exported=export.exported if export else Exported.UNKNOWN,
        )


# --- what each daemon would be told


def _step(
    store: FleetStore,
    node: NodeSpec,
    speaker: SpeakerSpec,
    status: SpeakerStatus,
    changes: tuple[Change, ...],
    request: DrainRequest,
    now: float,
) -> Step:
    match speaker.kind:
        case "bird":
            return _bird_step(store, node, speaker, status, changes, request, now)
        case "frr":
            return _frr_step(node, speaker, changes)
        case kind:
            return Step(
                host=node.name,
                title=f"{kind}: not planned yet, tell the daemon by hand",
                changes=changes,
                proof="the peers' own view",
            )


def _bird_step(
    store: FleetStore,
    node: NodeSpec,
    speaker: SpeakerSpec,
    status: SpeakerStatus,
    changes: tuple[Change, ...],
    request: DrainRequest,
    now: float,
) -> Step:
    numbers = {t.name: t.number for t in store.inventory.tenants}
    sessions = {s.name: s.number for s in speaker.sessions}
    pairs = {(numbers[c.tenant], sessions[c.session]) for c in changes}
    hard = set(status.drain_hard) - pairs | (pairs if request.level is Intent.HARD else set())
    soft = set(status.drain_soft) - pairs | (pairs if request.level is Intent.SOFT else set())
    serial = max(int(now), (status.drain_serial or 0) + 1)
    folder = speaker.drain_file.rpartition("/")[0]
    stage = f"{folder}/drain.stage.conf"
    birdc = f"birdc -s {speaker.socket}"
    return Step(
        host=node.name,
        title=f"BIRD, {len(changes)} announcements, serial {status.drain_serial} -> {serial}",
        file=stage,
        content=drain_file(serial, _note(request, now), hard, soft),
        commands=(
            f"{birdc} configure check '\"{folder}/stage.conf\"'",
            f"{birdc} configure '\"{folder}/stage.conf\"' timeout {CONFIRM_SECONDS}",
            f"mv {stage} {speaker.drain_file}",
            f"{birdc} configure",
        ),
        undo=(
            f"before the file is moved: nothing, the daemon goes back by itself after {CONFIRM_SECONDS} s",
            "after that: anyconsole undrain, of the same scope",
        ),
        changes=changes,
        proof=f"`eval DRAIN_SERIAL` says {serial}, and each export is as planned",
    )


def drain_file(serial: int, note: str, hard: Iterable[Pair], soft: Iterable[Pair]) -> str:
    """The text of BIRD's drain include file. (0,0) is a dummy, so that a set is never empty (BIRD before 2.0.11)."""
    return (
        f"define DRAIN_SERIAL = {serial};\n"
        f'define DRAIN_NOTE   = "{note}";\n'
        f"define DRAIN_HARD   = [ {_set_text(hard)} ];\n"
        f"define DRAIN_SOFT   = [ {_set_text(soft)} ];\n"
    )


def _set_text(pairs: Iterable[Pair]) -> str:
    return ", ".join(["(0,0)", *(f"({tenant},{sessions})" for tenant, sessions in _ranges(pairs))])


def _ranges(pairs: Iterable[Pair]) -> Iterator[tuple[int, str]]:
    by_tenant: dict[int, list[int]] = {}
    for tenant, session in sorted(set(pairs) - {(0, 0)}):
        by_tenant.setdefault(tenant, []).append(session)
    for tenant, sessions in by_tenant.items():
        starts = [sessions[0], *(b for a, b in pairwise(sessions) if b != a + 1)]
        ends = [*(a for a, b in pairwise(sessions) if b != a + 1), sessions[-1]]
        yield from ((tenant, str(a) if a == b else f"{a}..{b}") for a, b in zip(starts, ends, strict=True))


def _note(request: DrainRequest, now: float) -> str:
    def stamp(at: float) -> str:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")

    words = [request.ticket, request.operator, stamp(now), request.reason]
    if request.expires_at is not None:
        words.append(f"exp={stamp(request.expires_at)}")
    text = " ".join(clean(w, 80) for w in words if w)
    return "".join(c for c in text if c.isascii() and c not in '"\\')[:200]


def _frr_step(node: NodeSpec, speaker: SpeakerSpec, changes: tuple[Change, ...]) -> Step:
    """Prefix lists AC-HARD-PEER and AC-SOFT-PEER; one that doesn't exist matches nothing, so serving is having none."""
    tell, undo = ["configure terminal"], ["configure terminal"]
    for change in changes:
        family = "ip" if family_of(change.prefix) is Family.IPV4 else "ipv6"
        for lines, intent, old in ((tell, change.after, change.before), (undo, change.before, change.after)):
            if old in (Intent.HARD, Intent.SOFT):
                lines.append(f"no {family} prefix-list AC-{old.upper()}-{change.peer.upper()} permit {change.prefix}")
            if intent in (Intent.HARD, Intent.SOFT):
                lines.append(f"{family} prefix-list AC-{intent.upper()}-{change.peer.upper()} permit {change.prefix}")
    clear = [f"clear bgp {family_of(c.prefix)} unicast {c.session} soft out" for c in changes]
    unique = list(dict.fromkeys(clear))
    return Step(
        host=node.name,
        title=f"FRR, {len(changes)} announcements",
        commands=tuple(_vtysh(speaker, [*dict.fromkeys(tell), "end", *unique])),
        undo=tuple(_vtysh(speaker, [*dict.fromkeys(undo), "end", *unique])),
        changes=changes,
        proof="the prefix lists and the advertised routes of each neighbour; then `write memory`, or it ends with the daemon",
    )


def _vtysh(speaker: SpeakerSpec, lines: Iterable[str]) -> Iterator[str]:
    folder = speaker.socket.rpartition("/")[0]
    yield f"vtysh --vty_socket {folder}" + "".join(f" -c '{line}'" for line in lines)
