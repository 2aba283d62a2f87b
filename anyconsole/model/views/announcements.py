"""Announcements: the three truths and what has arrived at the peer, one row per prefix x session."""

from __future__ import annotations

from msgspec import structs

from anyconsole.model import verdicts
from anyconsole.model.cluster_state import NO_PERMISSION, may_not_ask, may_not_see_drains, may_not_see_speaker
from anyconsole.model.facts import Export, Exported, Key
from anyconsole.model.peer_view import PEER_SETTLING, PeerView, contradicts, peer_view
from anyconsole.model.store import FleetStore
from anyconsole.model.table import (
    Cell,
    Column,
    Glyphs,
    Level,
    Row,
    View,
    verdict_cell,
)
from anyconsole.model.verdicts import Intent
from anyconsole.model.views.cells import age_cell, reason_cell, text_cell


def _announcement_keys(store: FleetStore) -> list[Key]:
    return [
        ("announcement", n.name, sp.name, s.name, p)
        for n in store.inventory.nodes
        for sp, s, _, p in verdicts.node_announcements(store, n)
    ]


def _announcement_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    spec = store.inventory.node(key[1])
    speaker, session, tenant, prefix = next(
        (sp, s, t, p) for sp, s, t, p in verdicts.node_announcements(store, spec) if (sp.name, s.name, p) == key[2:]
    )
    cell = verdicts.announcement(store, spec.name, speaker, session, tenant, prefix, now)
    export = store.export(*key[1:])
    attributes = ""
    if export is not None and cell.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED):
        attributes = " ".join(
            [*export.communities, *([f"med {export.med}"] if export.med else []), *_prepended(export.as_path)]
        )
    arrived = peer_view(store, spec.name, speaker.name, session, prefix, now)
    answers = {None: "unknown", True: "yes", False: "NO"}[cell.answering]
    return Row(
        key,
        (
            text_cell(cell.node),
            text_cell(cell.tenant),
            text_cell(cell.prefix),
            structs.replace(text_cell(session.title), value=session.name),
            verdict_cell(cell.verdict, glyphs),
            _known_cell(cell.intent, may_not_see_drains(store, spec)),
            _known_cell(cell.exported, may_not_ask(store, spec) or may_not_see_speaker(store, spec)),
            Cell(answers, Level.CRIT if cell.answering is False else Level.NONE, cell.answering),
            _peer_cell(arrived, export, cell.exported, now),
            age_cell(cell.age, store.inventory.poll.stale),
            age_cell(arrived.age, store.inventory.poll.stale),
            text_cell(attributes),
            text_cell(arrived.words, Level.STALE if arrived.seen is Exported.UNKNOWN else Level.NONE),
            reason_cell(cell.verdict, cell.reason),
        ),
        cell.verdict.rank,
    )


def _known_cell(word: Intent | Exported, denied: str) -> Cell:
    """One of the truths; where it isn't known because we may not see it, that is said."""
    is_denied = bool(denied) and word in (Intent.UNKNOWN, Exported.UNKNOWN)
    return Cell(NO_PERMISSION if is_denied else str(word), value=str(word))


def _peer_cell(arrived: PeerView, export: Export | None, exported: Exported, now: float) -> Cell:
    """What the peer has; a warning if that is something else than is sent, once it has had time to arrive."""
    settled = export is not None and now - export.at > PEER_SETTLING
    level = Level.WARN if settled and contradicts(exported, arrived) else Level.NONE
    return Cell(str(arrived.seen), Level.STALE if arrived.seen is Exported.UNKNOWN else level, str(arrived.seen))


def _prepended(path: tuple[int, ...]) -> list[str]:
    return [f"as-path {' '.join(map(str, path))}"] if path else []


ANNOUNCEMENTS = View(
    name="announcements",
    title="Announcements",
    columns=(
        Column(id="node", title="NODE", width=6),
        Column(id="tenant", title="TENANT", width=6),
        Column(id="prefix", title="PREFIX", width=18),
        Column(id="session", title="SESSION", width=10),
        Column(id="status", title="STATUS", width=13),
        Column(id="intended", title="INTENDED", width=8),
        Column(id="exported", title="EXPORTED", width=11),
        Column(id="answering", title="ANSWERS", width=7),
        Column(id="at_peer", title="AT PEER", width=11),
        Column(id="age", title="AGE", width=5, right=True),
        Column(id="at_peer_age", title="PEER AGE", width=8, right=True),
        Column(id="attributes", title="ATTRIBUTES", width=16),
        Column(id="seen_by", title="SEEN BY", width=16),
        Column(id="reason", title="WHY", width=20),
    ),
    keys=_announcement_keys,
    row=_announcement_row,
)
