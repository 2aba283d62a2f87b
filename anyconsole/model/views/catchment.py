"""Catchment: which node answers which vantage point, and whether service addresses answer the DNS probes inside clusters."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from anyconsole.model.facts import Key
from anyconsole.model.inventory import ClusterSpec, Tenant
from anyconsole.model.metrics import ANSWERS, probe_section
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
    """Which node answered each vantage point, by "vantage/family": the node part of the NSID, or what went wrong.

    Of the DNS probes in a cluster, by "cluster/family", it is only known that they were answered: `ANSWERS`, or the worst there is.
    """
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
    for cluster in store.inventory.clusters:
        for address in tenant.addresses:
            probe = store.dns_probe(cluster.name, address)
            if probe is not None and store.is_fresh(probe, now):
                where = f"{cluster.name}/{probe.family[2:]}"
                if seen.get(where, ANSWERS) == ANSWERS:
                    seen[where] = probe.words
    return seen


def node_of_nsid(store: FleetStore, nsid: str) -> str:
    """The node an NSID names: the one whose name is a label of it; else the NSID itself, or "no NSID"."""
    labels = nsid.replace("-", ".").split(".")
    return next(
        (n.name for n in store.inventory.nodes if n.name in labels or n.name == nsid), clean(nsid, 40) or "no NSID"
    )


def _catchment_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    vantage, address, zone = key[1:]
    if not zone:
        return _probe_row(store, key, now, glyphs)
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
            _latency_cell((good.latency or 0.0) if good else None),
            number(good.serial if good else None),
            text_cell(zone),
            age_cell(store.age(answer, now) if answer else math.inf, store.max_age("dns")),
        ),
        verdict.rank,
    )


def _probe_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    """A DNS probe inside a cluster: it tells no NSID."""
    cluster, address = key[1:3]
    tenant = next(t for t in store.inventory.tenants if address in t.addresses)
    probe = store.dns_probe(cluster, address)
    if probe is None:
        verdict, words = Verdict.UNKNOWN, "no DNS probe in Prometheus"
    elif not store.is_fresh(probe, now):
        verdict, words = Verdict.STALE, ""
    else:
        verdict, words = Verdict.SERVING if probe.succeeded else Verdict.DOWN, f"DNS probe: {probe.words}"
    good = probe if verdict is Verdict.SERVING else None
    said = probe.words if probe and verdict in (Verdict.SERVING, Verdict.DOWN) else None
    return Row(
        key,
        (
            text_cell(cluster),
            text_cell(tenant.name),
            text_cell(address),
            msgspec.structs.replace(verdict_cell(verdict, glyphs, words), value=said),
            text_cell(""),
            _latency_cell(good.latency if good else None),
            number(good.serial if good else None),
            text_cell(probe.zone if probe else ""),
            age_cell(store.age(probe, now) if probe else math.inf, store.max_age(probe_section(address))),
        ),
        verdict.rank,
    )


def _latency_cell(seconds: float | None) -> Cell:
    return number(None) if seconds is None else Cell(f"{seconds * 1000:.1f}ms", value=round(seconds * 1000, 2))


def _probed(store: FleetStore, cluster: ClusterSpec) -> Iterator[Key]:
    """A row for each service address that a cluster carries, where its Prometheus is asked."""
    here = {i.tenant for n in store.inventory.nodes if n.cluster == cluster.name for i in n.instances}
    for tenant in store.inventory.tenants if cluster.prometheus else ():
        if tenant.name in here:
            yield from (("catchment", cluster.name, address, "") for address in tenant.addresses)


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
    keys=lambda store: (
        [
            ("catchment", v.name, a, z)
            for v in store.inventory.vantages
            for t in store.inventory.tenants
            for a in t.addresses
            for z in t.zones
        ]
        + [key for c in store.inventory.clusters for key in _probed(store, c)]
    ),
    row=_catchment_row,
)
