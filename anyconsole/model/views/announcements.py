"""Announcements: the three truths, one row per prefix x session."""

from __future__ import annotations

from msgspec import structs

from anyconsole.model import verdicts
from anyconsole.model.facts import Exported, Key
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
    answers = {None: "unknown", True: "yes", False: "NO"}[cell.answering]
    return Row(
        key,
        (
            text_cell(cell.node),
            text_cell(cell.tenant),
            text_cell(cell.prefix),
            structs.replace(text_cell(session.title), value=session.name),
            verdict_cell(cell.verdict, glyphs),
            Cell(str(cell.intent), value=str(cell.intent)),
            Cell(str(cell.exported), value=str(cell.exported)),
            Cell(answers, Level.CRIT if cell.answering is False else Level.NONE, cell.answering),
            age_cell(cell.age, store.inventory.poll.stale),
            text_cell(attributes),
            reason_cell(cell.verdict, cell.reason),
        ),
        cell.verdict.rank,
    )


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
        Column(id="age", title="AGE", width=5, right=True),
        Column(id="attributes", title="ATTRIBUTES", width=16),
        Column(id="reason", title="WHY", width=20),
    ),
    keys=_announcement_keys,
    row=_announcement_row,
)
