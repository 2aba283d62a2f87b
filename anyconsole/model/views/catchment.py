"""Catchment: which node answers which vantage point."""

from __future__ import annotations

import math

import msgspec

from anyconsole.model.facts import Key
from anyconsole.model.inventory import Tenant
from anyconsole.model.store import FleetStore
from anyconsole.model.table import (
    Cell,
    Column,
    Glyphs,
    Row,
    View,
    clean,
    number,
    verdict_cell,
)
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views.cells import age_cell, text_cell


def catchment(store: FleetStore, tenant: Tenant, now: float) -> dict[str, str]:
    """Which node answered each vantage point, by "vantage/family": the node part of the NSID, or what went wrong."""
    seen: dict[str, str] = {}
    for vantage in store.inventory.vantages:
        for address in tenant.addresses:
            for zone in tenant.zones:
                answer = store.answer(vantage.name, address, zone)
                if answer is None:
                    continue
                if not store.is_fresh(answer, now):
                    words = "?"
                elif answer.good:
                    words = node_of_nsid(store, answer.nsid)
                else:
                    words = clean(answer.error or answer.rcode or "no answer", 40)
                seen[f"{vantage.name}/{answer.family[2:]}"] = words
    return seen


def node_of_nsid(store: FleetStore, nsid: str) -> str:
    """The node an NSID names: the one whose name is a label of it; else the NSID itself, or "no NSID"."""
    labels = nsid.replace("-", ".").split(".")
    return next(
        (n.name for n in store.inventory.nodes if n.name in labels or n.name == nsid), clean(nsid, 40) or "no NSID"
    )


def _catchment_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    vantage, address, zone = key[1:]
    tenant = next(t for t in store.inventory.tenants if address in t.addresses)
    answer = store.answer(vantage, address, zone)
    if answer is None:
        verdict, words = Verdict.UNKNOWN, "not asked yet"
    elif not store.is_fresh(answer, now):
        verdict, words = Verdict.STALE, ""
    elif answer.good:
        verdict, words = Verdict.SERVING, node_of_nsid(store, answer.nsid)
    else:
        verdict, words = Verdict.DOWN, clean(answer.error or answer.rcode or "no answer", 30)
    good = answer if verdict is Verdict.SERVING else None
    return Row(
        key,
        (
            text_cell(vantage),
            text_cell(tenant.name),
            text_cell(address),
            msgspec.structs.replace(verdict_cell(verdict, glyphs, words), value=words if good else None),
            text_cell(good.nsid if good else ""),
            Cell(f"{(good.latency or 0) * 1000:.1f}ms", value=round((good.latency or 0) * 1000, 2))
            if good
            else number(None),
            number(good.serial if good else None),
            text_cell(zone),
            age_cell(store.age(answer, now) if answer else math.inf, store.max_age("dns")),
        ),
        verdict.rank,
    )


CATCHMENT = View(
    name="catchment",
    title="Catchment",
    columns=(
        Column(id="vantage", title="VANTAGE", width=8),
        Column(id="tenant", title="TENANT", width=6),
        Column(id="address", title="ADDRESS", width=16),
        Column(id="answered_by", title="ANSWERED BY", width=16),
        Column(id="nsid", title="NSID", width=10),
        Column(id="latency_ms", title="LATENCY", width=8, right=True),
        Column(id="serial", title="SERIAL", width=10, right=True),
        Column(id="zone", title="ZONE", width=12),
        Column(id="age", title="AGE", width=5, right=True),
    ),
    keys=lambda store: [
        ("catchment", v.name, a, z)
        for v in store.inventory.vantages
        for t in store.inventory.tenants
        for a in t.addresses
        for z in t.zones
    ],
    row=_catchment_row,
)
