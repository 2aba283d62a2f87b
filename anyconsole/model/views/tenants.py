"""Tenants: one row per tenant over the whole fleet."""

from __future__ import annotations

from anyconsole.model import verdicts
from anyconsole.model.facts import Key
from anyconsole.model.inventory import Family, family_of
from anyconsole.model.store import FleetStore
from anyconsole.model.table import (
    Cell,
    Column,
    Glyphs,
    Level,
    Row,
    View,
    rate,
    verdict_cell,
)
from anyconsole.model.views.catchment import catchment
from anyconsole.model.views.cells import reason_cell, share_cell, text_cell


def _tenant_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    spec = store.inventory.tenant(key[1])
    verdict = verdicts.tenant(store, spec, now)
    rates = [r.qps for n in store.inventory.nodes if (r := store.qps(n.name, spec.name, now)) is not None]
    by_family = {
        family: min((c for p, c in verdict.healthy.items() if family_of(p) is family), default=None)
        for family in Family
    }
    serials = {z: s for z in spec.zones if (s := verdicts.current_serial(store, z, spec, now)) is not None}
    landed = catchment(store, spec, now)
    return Row(
        key,
        (
            text_cell(spec.name),
            verdict_cell(verdict.verdict, glyphs),
            rate(sum(rates) if rates else None),
            *(
                Cell("-", Level.STALE) if (count := by_family[f]) is None else share_cell(count, verdict.nodes)
                for f in (Family.IPV4, Family.IPV6)
            ),
            Cell(
                f"{verdict.sites}/{spec.min_sites}",
                Level.NONE if verdict.sites >= spec.min_sites else Level.CRIT,
                verdict.sites,
            ),
            Cell(" ".join(map(str, serials.values())) or "-", Level.NONE if serials else Level.STALE, serials),
            Cell(" ".join(spec.zones), value=list(spec.zones)),
            Cell(" ".join(f"{v}{glyphs.arrow}{n}" for v, n in landed.items()), value=landed),
            reason_cell(verdict.verdict, verdict.reason),
        ),
        verdict.verdict.rank,
    )


TENANTS = View(
    name="tenants",
    title="Tenants",
    columns=(
        Column(id="tenant", title="TENANT", width=6),
        Column(id="status", title="STATUS", width=13),
        Column(id="qps", title="QPS", width=6, right=True),
        Column(id="healthy_ipv4", title="V4", width=4, right=True),
        Column(id="healthy_ipv6", title="V6", width=4, right=True),
        Column(id="sites", title="SITES", width=5, right=True),
        Column(id="serials", title="SERIAL", width=10),
        Column(id="zones", title="ZONES", width=10),
        Column(id="catchment", title="CATCHMENT", width=20),
        Column(id="reason", title="WHY", width=20),
    ),
    keys=lambda store: [("tenant", t.name) for t in store.inventory.tenants],
    row=_tenant_row,
)
