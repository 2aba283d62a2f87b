"""Settling drift, on paper: what was changed behind the console's back is adopted or reverted, by the steps that drains are made of.

Drift is settled where it can be told apart: BIRD's drain file against its memory, and sessions disabled by hand in BIRD, FRR or GoBGP.
What a changed filter does to an export is told and left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from anyconsole.actions.drain import cell_changes, estimate, state_of
from anyconsole.actions.guards import Change, Repair
from anyconsole.actions.journal_record import Estimates
from anyconsole.actions.plan import Plan, Step
from anyconsole.drivers import bird_transaction, frr_transaction, gobgp_transaction
from anyconsole.drivers.transaction import CellChange, DrainState, Transaction
from anyconsole.errors import AnyconsoleError
from anyconsole.model import verdicts
from anyconsole.model.drain_note import DrainNote, parse_note
from anyconsole.model.drain_state import disabled_words, file_difference
from anyconsole.model.facts import Exported, SessionState, SpeakerStatus
from anyconsole.model.inventory import NodeSpec, SessionSpec, SpeakerSpec
from anyconsole.model.store import FleetStore
from anyconsole.model.table import clean
from anyconsole.model.verdicts import AnnouncementVerdict, Intent, Verdict

__all__ = ["DriftRequest", "Way", "make_plan"]

Pair = tuple[int, int]


class Way(StrEnum):
    """What is to become of drift. ADOPT: what is announced now is wanted. REVERT: what was intended takes effect again."""

    ADOPT = "adopt"
    REVERT = "revert"


class DriftRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants of the drift on some nodes, or on all if none is named."""

    way: Way
    nodes: tuple[str, ...] = ()
    reason: str = ""
    ticket: str = ""
    operator: str = ""


def make_plan(store: FleetStore, request: DriftRequest, now: float, estimates: Estimates | None = None) -> Plan:
    """The plan that settles the drift there is. Without drift it has no steps.

    Args:
        store: The fleet as it is.
        request: What is wanted.
        now: Epoch seconds.
        estimates: How long stages took at each site before, from the journal.

    Raises:
        AnyconsoleError: A node that isn't there, or drift that the console can't settle: with what is known, and what to type.
    """
    fleet = store.inventory
    names = [n.name for n in fleet.nodes]
    if unknown := [name for name in request.nodes if name not in names]:
        raise AnyconsoleError(f"there is no node {unknown[0]!r} in profile {fleet.name}; there are {', '.join(names)}")
    steps: list[Step] = []
    missing: list[str] = []
    beyond: list[str] = []
    for node in fleet.nodes:
        if request.nodes and node.name not in request.nodes:
            continue
        for speaker in node.speakers:
            found = _found(store, node, speaker, now)
            if found is None:
                if request.nodes:
                    missing.append(
                        f"{node.name} {speaker.name}: what it does is not known, so nothing can be planned there"
                    )
            elif words := _beyond(found, request):
                beyond.append(f"{node.name} {speaker.name}: {words}")
            elif found.file or found.disabled:
                steps += _steps(found, request, now, estimates or {})
    if beyond:
        raise AnyconsoleError("\n".join(beyond))
    hosts = list(dict.fromkeys(step.host for step in steps))
    takes_out = any(c.after is Intent.HARD and c.exported is not Exported.ABSENT for s in steps for c in s.changes)
    return Plan(
        action="drift",
        title=f"{request.way} drift: {'+'.join(request.nodes or hosts) or 'the whole fleet'}",
        profile=fleet.name,
        made_at=now,
        reason=clean(request.reason),
        ticket=clean(request.ticket, 40),
        request=msgspec.to_builtins(request),
        type_to_confirm=fleet.name if len(hosts) > 1 else hosts[0] if hosts and takes_out else "",
        steps=tuple(steps),
        missing=tuple(missing),
    )


# --- what there is


class _Found(msgspec.Struct, frozen=True):
    """One speaker, and in which ways it drifted: its drain file, sessions disabled by hand, exports that are not as intended."""

    store: FleetStore
    node: NodeSpec
    speaker: SpeakerSpec
    status: SpeakerStatus
    file: str
    disabled: tuple[SessionSpec, ...]
    disabled_words: tuple[str, ...]
    exports: tuple[str, ...]


def _found(store: FleetStore, node: NodeSpec, speaker: SpeakerSpec, now: float) -> _Found | None:
    """None if it is not known how things are there."""
    status = store.speaker(node.name, speaker.name)
    if status is None or not store.is_fresh(status, now) or status.drain_serial is None:
        return None
    states = [(s, store.session(node.name, speaker.name, s.name)) for s in speaker.sessions]
    disabled = [(s, b) for s, b in states if b is not None and b.state is SessionState.ADMIN_DOWN]
    names = {s.name for s, _ in disabled}
    return _Found(
        store=store,
        node=node,
        speaker=speaker,
        status=status,
        file=file_difference(store, status),
        disabled=tuple(s for s, _ in disabled),
        disabled_words=tuple(disabled_words(s, b) for s, b in disabled),
        exports=tuple(
            f"{c.session} {c.prefix}: {c.reason if c.verdict is Verdict.DRIFT else 'intended serve, but not announced'}"
            for c in verdicts.announcements(store, node, now)
            if c.speaker == speaker.name and c.session not in names and _is_unlike(c)
        ),
    )


def _is_unlike(cell: AnnouncementVerdict) -> bool:
    """True if an export isn't as intended. A console that just began can't tell that its session came up long ago; to refuse is safe."""
    is_young = cell.verdict is Verdict.UNKNOWN and cell.intent is Intent.SERVE and cell.exported is Exported.ABSENT
    return cell.verdict is Verdict.DRIFT or is_young


def _beyond(found: _Found, request: DriftRequest) -> str:
    """Why the console can't settle what it found, with what to do instead; "" if it can, or if there is nothing."""
    if found.speaker.kind != "bird" and (words := _beyond_lists(found, request)):
        return words
    if found.exports and not (found.file or found.disabled):
        more = f" (+{len(found.exports) - 1} more)" if len(found.exports) > 1 else ""
        return (
            f"{found.exports[0]}{more}. The drain state and the sessions are as intended, so the configuration around them was changed: "
            f"look at the export filter and the routes. The console does not repair filters"
        )
    if request.way is Way.REVERT and found.file:
        why = found.status.disk_fault
        if not why and None in (found.status.disk_hard, found.status.disk_soft):
            why = f"its drain sets are written in a way that the console does not understand (serial {found.status.disk_serial})"
        if why:
            return f"the drain file says nothing that could take effect again: {why}. Adopt what the daemon does, or mend the file"
    return ""


def _beyond_lists(found: _Found, request: DriftRequest) -> str:
    """The same where drains are prefix lists, one for a peer and family."""
    kind = found.speaker.kind
    if found.disabled:
        if kind not in ("frr", "gobgp"):
            return f"{found.disabled_words[0]}. The console does not know how to enable it in {kind}"
        others = [s for s in _partners(found) if s not in found.disabled]
        if others and request.way is Way.ADOPT:
            return (
                f"{found.disabled_words[0]}. Its announcements share a prefix list with those of {others[0].title}, which is not "
                f"disabled and would be withdrawn too. Revert it, or disable both"
            )
    elif kind == "frr" and not found.exports and found.node.name in request.nodes:
        conf = found.speaker.drain_file or frr_transaction.SAVED
        command = "vtysh -c 'write memory'"
        if request.way is Way.REVERT:
            command = f"/usr/lib/frr/frr-reload.py --test {conf}, and with --reload if what it shows is wanted"
        return (
            f"no drift is seen there. Whether {conf} says what FRR runs is only compared by a change, before it begins; "
            f"if one said that they differ, type on {found.node.name}: {command}"
        )
    return ""


def _partners(found: _Found) -> tuple[SessionSpec, ...]:
    """The sessions whose announcements can only be drained together with those of the disabled ones, which are among them."""
    if found.speaker.kind == "bird":
        return found.disabled
    ends = {(s.peer, s.family) for s in found.disabled}
    return tuple(s for s in found.speaker.sessions if (s.peer, s.family) in ends)


# --- what to do


def _steps(found: _Found, request: DriftRequest, now: float, estimates: Estimates) -> Iterator[Step]:
    """Steps of one speaker: to low preference first, whatever is withdrawn or put back; what comes up announces nothing else at first."""
    before = state_of(found.status)
    target = _target(found, request.way, before)
    is_first = True
    for stage, intents in _stages(found, request.way, before, target).items():
        changes = tuple(_changes(found, before, intents, _pairs(found, found.disabled) if is_first else set()))
        if not changes and not (is_first and (found.disabled or stage is Intent.HARD)):
            continue
        after = _state_after(found, request, before, target, intents, now)
        yield _step(found, request, stage, changes, before, after, estimates, is_first=is_first)
        before, is_first = after, False


def _intents(state: DrainState, pairs: Collection[Pair]) -> dict[Pair, Intent]:
    return {p: Intent.HARD if p in state.hard else Intent.SOFT if p in state.soft else Intent.SERVE for p in pairs}


def _pairs(found: _Found, sessions: Collection[SessionSpec]) -> set[Pair]:
    numbers = {found.store.inventory.tenant(i.tenant).number for i in found.node.instances}
    return {(tenant, session.number) for session in sessions for tenant in numbers}


def _target(found: _Found, way: Way, before: DrainState) -> DrainState:
    """What the sets are to be in the end."""
    if way is Way.ADOPT:
        silent = _pairs(found, found.disabled)
        return msgspec.structs.replace(before, hard=before.hard | silent, soft=before.soft - silent)
    if not found.file:
        return before
    status = found.status
    hard = frozenset(status.disk_hard or ())
    return DrainState(
        serial=before.serial, note=status.disk_note, hard=hard, soft=frozenset(status.disk_soft or ()) - hard
    )


def _stages(found: _Found, way: Way, before: DrainState, target: DrainState) -> Mapping[Intent, Mapping[Pair, Intent]]:
    """The intents of every announcement after each stage: soft, then what serves, then what is withdrawn."""
    pairs = _pairs(found, found.speaker.sessions) | before.hard | before.soft | target.hard | target.soft
    now, wanted, silent = _intents(before, pairs), _intents(target, pairs), _pairs(found, _partners(found))

    def soft(pair: Pair) -> Intent:
        if pair in silent:  # what it was doesn't matter: nothing is announced there
            return Intent.HARD if wanted[pair] is Intent.HARD else Intent.SOFT
        if wanted[pair] is Intent.SOFT or {now[pair], wanted[pair]} == {Intent.HARD, Intent.SERVE}:
            return Intent.SOFT
        return now[pair]

    first = {pair: soft(pair) for pair in pairs}
    second = {p: wanted[p] if wanted[p] is Intent.SERVE else i for p, i in first.items()}
    if way is Way.ADOPT:
        return {Intent.HARD: wanted}
    return {Intent.SOFT: first, Intent.SERVE: second, Intent.HARD: wanted}


def _changes(
    found: _Found, before: DrainState, intents: Mapping[Pair, Intent], raised: Collection[Pair]
) -> Iterator[Change]:
    """What changes. On a session that comes up, an announcement that is to be soft is one although its intent was soft before."""
    was = _intents(before, intents.keys())
    for speaker, session, tenant, prefix in verdicts.node_announcements(found.store, found.node):
        pair = (tenant.number, session.number)
        is_raised = pair in raised and intents[pair] is Intent.SOFT
        if speaker is not found.speaker or (was[pair] is intents[pair] and not is_raised):
            continue
        export = found.store.export(found.node.name, speaker.name, session.name, prefix)
        yield Change(
            node=found.node.name,
            speaker=speaker.name,
            session=session.name,
            peer=session.peer,
            tenant=tenant.name,
            prefix=prefix,
            before=was[pair],
            after=intents[pair],
            exported=export.exported if export else Exported.UNKNOWN,
        )


def _state_after(
    found: _Found,
    request: DriftRequest,
    before: DrainState,
    target: DrainState,
    intents: Mapping[Pair, Intent],
    now: float,
) -> DrainState:
    hard = frozenset(p for p, i in intents.items() if i is Intent.HARD)
    soft = frozenset(p for p, i in intents.items() if i is Intent.SOFT)
    serial = max(int(now), before.serial + 1)
    while serial in (found.status.disk_serial, found.status.drain_serial):
        serial += 1
    older = parse_note(target.note)
    note = DrainNote(
        operator=request.operator,
        ticket=request.ticket,
        reason=f"{'adopted' if request.way is Way.ADOPT else 'reverted'}: {request.reason}".rstrip(": "),
        at=now,
        expires=older.expires if older is not None and (hard or soft) else None,
    )
    return DrainState(serial=serial, note=note.text(), hard=hard, soft=soft)


def _step(
    found: _Found,
    request: DriftRequest,
    stage: Intent,
    changes: tuple[Change, ...],
    before: DrainState,
    after: DrainState,
    estimates: Estimates,
    *,
    is_first: bool,
) -> Step:
    node, speaker, limits = found.node, found.speaker, found.store.inventory.guards
    disabled = tuple(s.name for s in found.disabled) if is_first else ()
    disk = None
    if is_first and found.file:
        disk = bird_transaction.NO_SERIAL if found.status.disk_serial is None else found.status.disk_serial
    try:
        told = _transaction(speaker, before, after, cell_changes(speaker, changes), limits.hold, disk, disabled)
    except ValueError as error:
        raise AnyconsoleError(f"{node.name} {speaker.name}: {error}") from error
    went = {(c.session, c.prefix) for c in changes if c.before is Intent.SOFT}
    waits_for = ""
    if not is_first and went and stage is Intent.HARD:
        waits_for = (
            f"{node.name}'s own queries for {', '.join(sorted({c.tenant for c in changes}))} under "
            f"{limits.residual:.0%} of before, and at least {limits.settle:g} s since it went soft"
        )
    elif not is_first and stage is Intent.SERVE:
        waits_for = "the canary: answers are good at low preference, for at least 3 s"
    return Step(
        host=node.name,
        part=speaker.name,
        title=f"{speaker.name}: {_what(found, request.way, changes, is_first=is_first)}, serial {before.serial} -> {after.serial}",
        apply=told.apply,
        confirm=told.confirm,
        revert=told.revert,
        hold=told.hold,
        diff=told.diff,
        estimate=estimate(estimates, node.site, stage) if changes else "",
        serial=after.serial,
        serial_before=before.serial,
        waits_for=waits_for,
        undo=_undo(speaker, disabled, told.hold),
        changes=changes,
        repair=Repair(node=node.name, speaker=speaker.name, file=bool(found.file), sessions=disabled)
        if is_first
        else None,
        proof=(
            *(f"daemon: {name} is Established" for name in disabled),
            f"daemon: its drain serial is {after.serial}, and each export is as planned",
            *(("peers: their looking glasses say the same, where the profile names one",) if changes else ()),
        ),
    )


def _transaction(
    speaker: SpeakerSpec,
    before: DrainState,
    after: DrainState,
    cells: Sequence[CellChange],
    hold: int,
    disk: int | None,
    disabled: Sequence[str],
) -> Transaction:
    if speaker.kind == "bird":
        return bird_transaction.transaction(speaker, before, after, cells, hold, disk=disk, disabled=disabled)
    if speaker.kind == "frr":
        return frr_transaction.transaction(speaker, before, after, cells, hold, disabled=disabled)
    if speaker.kind == "gobgp":
        return gobgp_transaction.transaction(speaker, before, after, cells, hold, disabled=disabled)
    raise ValueError(f"drift of {speaker.kind} can't be settled from here")


def _what(found: _Found, way: Way, changes: tuple[Change, ...], *, is_first: bool) -> str:
    """What was found and what becomes of it, in words."""
    words = []
    if is_first and found.file:
        words.append(
            f"{found.file}: "
            + ("what it runs is written there" if way is Way.ADOPT else "the file's drains take effect")
        )
    if is_first and found.disabled:
        end = "comes up without announcing" if way is Way.ADOPT else "comes up at low preference"
        words += [f"{told}: {end}" for told in found.disabled_words]
    counts = {stage: sum(c.after is stage for c in changes) for stage in Intent}
    words += [f"{count} announcements {stage}" for stage, count in counts.items() if count]
    return "; ".join(words if changes else [*words, "no announcement changes"])


def _undo(speaker: SpeakerSpec, disabled: tuple[str, ...], hold: int) -> tuple[str, ...]:
    back = f"until it is confirmed: by itself after {hold} s"
    names = ", ".join(disabled)
    if disabled and speaker.kind == "bird":
        back += f"; {names} comes up with that too, and is disabled again 2 s later"
    elif disabled:
        back += f"; {names} is disabled again before anything else"
    return back, "after that: anyconsole drain or undrain"
