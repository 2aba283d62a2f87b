"""The fleet: one row per node, the home of the console."""

from __future__ import annotations

from anyconsole.model import verdicts
from anyconsole.model.facts import Exported, Key, SessionState
from anyconsole.model.store import FleetStore
from anyconsole.model.table import (
    Cell,
    Column,
    Glyphs,
    Level,
    Row,
    View,
    number,
    rate,
    size,
    verdict_cell,
)
from anyconsole.model.verdicts import Intent, Verdict
from anyconsole.model.views.cells import age_cell, reason_cell, share_cell, text_cell


def _node_keys(store: FleetStore) -> list[Key]:
    return [("node", n.name) for n in store.inventory.nodes]


def _node_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    spec = store.inventory.node(key[1])
    verdict = verdicts.node(store, spec, now)
    unknown = verdict.verdict in (Verdict.STALE, Verdict.UNKNOWN, Verdict.UNTRUSTED)
    sessions = [store.session(spec.name, sp.name, s.name) for sp in spec.speakers for s in sp.sessions]
    up = sum(s is not None and s.state is SessionState.ESTABLISHED and store.is_fresh(s, now) for s in sessions)
    processes = [store.instance(spec.name, i.tenant) for i in spec.instances]
    running = sum(p is not None and p.running and store.is_fresh(p, now) for p in processes)
    cells = verdicts.announcements(store, spec, now)
    sent = sum(c.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED) for c in cells)
    is_unseen = not sent and any(c.exported is Exported.UNKNOWN for c in cells)
    drained = sum(c.intent in (Intent.HARD, Intent.SOFT) for c in cells)
    host = store.host(spec.name)
    known = host if store.is_fresh(host, now) else None
    rates = [r.qps for x in spec.instances if (r := store.qps(spec.name, x.tenant, now)) is not None]
    kinds = "+".join(dict.fromkeys([s.kind for s in spec.speakers] + [i.kind for i in spec.instances]))
    stack = f"{spec.cluster} {kinds}".strip()
    drain = Cell(f"{drained}/{len(cells)}", Level.DRAINED, drained, drained) if drained else Cell("", value=0, order=0)
    return Row(
        key,
        (
            text_cell(spec.name),
            text_cell(spec.site),
            verdict_cell(verdict.verdict, glyphs),
            rate(sum(rates) if rates else None),
            share_cell(None if unknown else up, len(sessions)),
            share_cell(None if unknown else running, len(processes)),
            share_cell(None if unknown or is_unseen else sent, len(cells), on_purpose=drained > 0),
            drain,
            number(known.load1 if known else None, 2),
            size(known.mem_available if known else None),
            age_cell(verdict.age, store.inventory.poll.stale),
            text_cell(stack),
            reason_cell(verdict.verdict, verdict.reason),
        ),
        verdict.verdict.rank,
    )


FLEET = View(
    name="fleet",
    title="Fleet",
    columns=(
        Column(id="node", title="NODE", width=6),
        Column(id="site", title="SITE", width=4),
        Column(id="status", title="STATUS", width=13),
        Column(id="qps", title="QPS", width=6, right=True),
        Column(id="sessions", title="BGP", width=4, right=True),
        Column(id="instances", title="INST", width=4, right=True),
        Column(id="announced", title="ANN", width=5, right=True),
        Column(id="drained", title="DRAIN", width=5, right=True),
        Column(id="load", title="LOAD", width=5, right=True),
        Column(id="mem_available", title="MEM", width=4, right=True),
        Column(id="age", title="AGE", width=5, right=True),
        Column(id="stack", title="STACK", width=8),
        Column(id="reason", title="WHY", width=20),
    ),
    keys=_node_keys,
    row=_node_row,
)
