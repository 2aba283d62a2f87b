"""Drains: what is drained now, on which node, by whom, until when and why: one row per speaker and level."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from anyconsole.model import verdicts
from anyconsole.model.cluster_state import may_not_see_drains
from anyconsole.model.drain_note import DrainNote, clock_words
from anyconsole.model.drain_state import note_of
from anyconsole.model.facts import Key
from anyconsole.model.inventory import SessionSpec
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Cell, Column, Glyphs, Level, Row, View, number, verdict_cell
from anyconsole.model.verdicts import AnnouncementVerdict, Intent, Verdict
from anyconsole.model.views.cells import text_cell
from anyconsole.model.views.pods import denied_cell

__all__ = ["DRAINS", "scope_words"]

_LEVELS = (Intent.HARD, Intent.SOFT)


def scope_words(sessions: Iterable[SessionSpec], tenants: Iterable[str], drained: dict[str, set[str]]) -> str:
    """A scope in words: "de, nic on ix1 (both families); enum on transit1 v4".

    Args:
        sessions: All sessions of the speaker.
        tenants: All tenants of the node.
        drained: The drained tenants by session.
    """
    sessions, tenants = tuple(sessions), tuple(tenants)
    groups: dict[tuple[str, ...], list[SessionSpec]] = {}
    for session in sessions:
        if chosen := tuple(t for t in tenants if t in drained.get(session.name, ())):
            groups.setdefault(chosen, []).append(session)
    return "; ".join(
        f"{'all tenants' if chosen == tenants else ', '.join(chosen)} on {_session_words(sessions, on)}"
        for chosen, on in groups.items()
    )


def _session_words(sessions: tuple[SessionSpec, ...], chosen: list[SessionSpec]) -> str:
    if len(chosen) == len(sessions):
        return "all sessions"
    both, single = [], []
    for peer in dict.fromkeys(s.peer for s in chosen):
        families = {s.family for s in chosen if s.peer == peer}
        if len(families) > 1:
            both.append(peer)
        else:
            single += [f"{peer} {family[2:]}" for family in families]
    return ", ".join(([f"{', '.join(both)} (both families)"] if both else []) + single)


def _drained(store: FleetStore, node: str, speaker: str, level: str, now: float) -> list[AnnouncementVerdict]:
    cells = verdicts.announcements(store, store.inventory.node(node), now)
    return [c for c in cells if (c.speaker, c.intent) == (speaker, level)]


def _drain_keys(store: FleetStore) -> list[Key]:
    keys: list[Key] = []
    for spec in store.inventory.nodes:
        found = {
            (speaker.name, verdicts.intended(store, spec.name, speaker.name, tenant.number, session.number))
            for speaker, session, tenant, _ in verdicts.node_announcements(store, spec)
        }
        keys += [
            ("drain", spec.name, sp.name, str(level))
            for sp in spec.speakers
            for level in _LEVELS
            if (sp.name, level) in found
        ]
        if may_not_see_drains(store, spec):
            keys += [("drain", spec.name, sp.name, str(Intent.UNKNOWN)) for sp in spec.speakers]
    return keys


def _drain_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    _, node, speaker, level = key
    spec = store.inventory.node(node)
    if level == Intent.UNKNOWN:
        denied = denied_cell(glyphs)
        unseen = (Cell(""), Cell(""), *(_time_cell(None, now) for _ in range(2)), Cell(""), number(None))
        why = text_cell(may_not_see_drains(store, spec), denied.level)
        return Row(key, (text_cell(node), denied, Cell(level, value=level), *unseen, why), Verdict.DEGRADED.rank)
    sessions = next(s.sessions for s in spec.speakers if s.name == speaker)
    cells = _drained(store, node, speaker, level, now)
    by_session: dict[str, set[str]] = {}
    for cell in cells:
        by_session.setdefault(cell.session, set()).add(cell.tenant)
    hosted = {i.tenant for i in spec.instances}
    tenants = [t.name for t in store.inventory.tenants if t.name in hosted]
    status = store.speaker(node, speaker)
    note = (note_of(status) if status is not None else None) or DrainNote(reason=status.drain_note if status else "")
    verdict = min((c.verdict for c in cells), key=lambda v: v.rank, default=Verdict.UNKNOWN)
    return Row(
        key,
        (
            text_cell(node),
            verdict_cell(verdict, glyphs),
            Cell(level, value=level),
            text_cell(scope_words(sessions, tenants, by_session)),
            text_cell(note.operator),
            _time_cell(note.at, now),
            _time_cell(note.expires, now, Level.CRIT if note.is_expired(now) else Level.NONE),
            text_cell(note.ticket),
            Cell(str(len(cells)), value=len(cells), order=len(cells)),
            text_cell(note.reason),
        ),
        verdict.rank,
    )


def _time_cell(at: float | None, now: float, level: Level = Level.NONE) -> Cell:
    if at is None:
        return Cell("-", Level.STALE)
    value = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Cell(clock_words(at, now), level, value, at)


DRAINS = View(
    name="drains",
    title="Drains",
    columns=(
        Column(id="node", title="NODE", width=6),
        Column(id="status", title="STATUS", width=13),
        Column(id="level", title="LEVEL", width=5),
        Column(id="scope", title="SCOPE", width=24),
        Column(id="by", title="BY", width=8),
        Column(id="since", title="SINCE", width=5),
        Column(id="until", title="UNTIL", width=5),
        Column(id="ticket", title="TICKET", width=8),
        Column(id="announcements", title="ANN", width=4, right=True),
        Column(id="reason", title="WHY", width=20),
    ),
    keys=_drain_keys,
    row=_drain_row,
)
