"""BGP: one row per session with a column per tenant, which is the announcement matrix."""

from __future__ import annotations

from msgspec import structs

from anyconsole.model import verdicts
from anyconsole.model.cluster_state import NO_PERMISSION, may_not_see_speaker
from anyconsole.model.drain_state import disabled_words
from anyconsole.model.facts import Key, SessionState
from anyconsole.model.inventory import SessionSpec, SpeakerSpec, Tenant, family_of
from anyconsole.model.store import FleetStore
from anyconsole.model.table import (
    Cell,
    Column,
    Glyphs,
    Level,
    Row,
    View,
    duration,
    number,
    verdict_cell,
)
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views.cells import reason_cell, text_cell


def _session_keys(store: FleetStore) -> list[Key]:
    return [
        ("session", n.name, sp.name, s.name) for n in store.inventory.nodes for sp in n.speakers for s in sp.sessions
    ]


def _session_of(store: FleetStore, key: Key) -> tuple[SpeakerSpec, SessionSpec]:
    for speaker in store.inventory.node(key[1]).speakers:
        for session in speaker.sessions:
            if (speaker.name, session.name) == key[2:4]:
                return speaker, session
    raise KeyError(key)


_CELL_WORDS = {
    Verdict.SERVING: "ann",
    Verdict.EXPIRED: "expired",
    Verdict.SOFT: "soft",
    Verdict.DRAINED: "drained",
    Verdict.DOWN: "down",
    Verdict.STALE: "stale",
    Verdict.UNKNOWN: "unknown",
}


def _matrix_cell(store: FleetStore, key: Key, tenant: Tenant, now: float, glyphs: Glyphs) -> Cell:
    speaker, session = _session_of(store, key)
    hosted = any(i.tenant == tenant.name for i in store.inventory.node(key[1]).instances)
    prefixes = [p for p in tenant.prefixes if family_of(p) is session.family] if hosted else []
    cells = [verdicts.announcement(store, key[1], speaker, session, tenant, prefix, now) for prefix in prefixes]
    if not cells:
        return Cell("-", Level.STALE)
    worst = min(cells, key=lambda c: c.verdict.rank)
    return verdict_cell(worst.verdict, glyphs, _CELL_WORDS.get(worst.verdict, ""))


def _state_cell(verdict: Verdict, words: str, glyphs: Glyphs) -> Cell:
    """The state of the session in the daemon's words; in JSON too, while it is known."""
    return structs.replace(verdict_cell(verdict, glyphs, words), value=words or str(verdict))


def _why_unknown(store: FleetStore, key: Key, now: float) -> str:
    """Why it isn't known what is announced on a session that is up; "" if it is."""
    cells = verdicts.announcements(store, store.inventory.node(key[1]), now)
    mine = (c for c in cells if (c.speaker, c.session) == key[2:4] and c.verdict is Verdict.UNKNOWN)
    return next((c.reason for c in mine), "")


def _session_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    speaker, session = _session_of(store, key)
    status = store.session(key[1], speaker.name, session.name)
    daemon = store.speaker(key[1], speaker.name)
    if daemon is not None and store.is_fresh(daemon, now) and not daemon.running:
        verdict, words, why = Verdict.DOWN, "DAEMON DOWN", verdicts.not_running(daemon)
    elif not store.is_fresh(status, now) and (denied := may_not_see_speaker(store, store.inventory.node(key[1]))):
        verdict, words, why = Verdict.UNKNOWN, NO_PERMISSION, denied
    elif status is None:
        verdict, words, why = Verdict.UNKNOWN, "", "not seen yet"
    elif not store.is_fresh(status, now):
        verdict, words, why = Verdict.STALE, "", f"was {status.state} {duration(store.age(status, now))} ago"
    elif status.state is SessionState.ESTABLISHED:
        verdict, words, why = Verdict.SERVING, str(status.state), status.info if status.info != status.state else ""
    elif status.state is SessionState.ADMIN_DOWN:
        verdict, words, why = Verdict.DRIFT, str(status.state), disabled_words(session, status)
    else:
        verdict, words, why = Verdict.DOWN, str(status.state), status.info
    why = why or _why_unknown(store, key, now)
    shown = status if verdict in (Verdict.SERVING, Verdict.DRIFT, Verdict.DOWN) else None
    cells = [_matrix_cell(store, key, tenant, now, glyphs) for tenant in store.inventory.tenants]
    rank = min([verdict.rank, *(Verdict(c.value).rank for c in cells if isinstance(c.value, str))])
    return Row(
        key,
        (
            text_cell(key[1]),
            structs.replace(text_cell(session.title), value=session.name),
            text_cell(session.peer),
            Cell(session.family[2:], value=str(session.family)),
            _state_cell(verdict, words, glyphs),
            *cells,
            text_cell(shown.since.partition(".")[0] if shown else ""),
            number(shown.imported if shown else None),
            number(shown.exported if shown else None),
            Cell(str(session.number), value=session.number, order=session.number),
            reason_cell(verdict, why),
        ),
        rank,
    )


def bgp_view(store: FleetStore) -> View:
    """Sessions with a column per tenant of this profile."""
    tenants = (Column(id=f"tenant.{t.name}", title=t.name, width=7) for t in store.inventory.tenants)
    return View(
        name="bgp",
        title="BGP",
        columns=(
            Column(id="node", title="NODE", width=6),
            Column(id="session", title="SESSION", width=10),
            Column(id="peer", title="PEER", width=7),
            Column(id="family", title="AF", width=3),
            Column(id="state", title="STATE", width=13),
            *tenants,
            Column(id="since", title="SINCE", width=12),
            Column(id="imported", title="IMP", width=4, right=True),
            Column(id="exported", title="EXP", width=4, right=True),
            Column(id="number", title="NO", width=3, right=True),
            Column(id="info", title="WHY", width=20),
        ),
        keys=_session_keys,
        row=_session_row,
    )
