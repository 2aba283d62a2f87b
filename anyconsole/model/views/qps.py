"""Queries per second: one row per instance."""

from __future__ import annotations

import math

from anyconsole.model.cluster_state import NO_PERMISSION, may_not_see_rates
from anyconsole.model.facts import Key
from anyconsole.model.store import FleetStore
from anyconsole.model.table import (
    Cell,
    Column,
    Glyphs,
    Level,
    Row,
    View,
    clean,
    rate,
)
from anyconsole.model.views.cells import age_cell, text_cell
from anyconsole.model.views.health import instance_keys


def _qps_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    node, tenant = key[1:]
    shown = store.qps(node, tenant, now)
    own = store.rates(node, tenant, "probe")
    theirs = store.rates(node, tenant, "prometheus")
    counted = own if own is not None and store.is_fresh(own, now) else None
    is_seen = theirs is not None and store.is_fresh(theirs, now) and store.sees_prometheus(node, now)
    scraped = theirs if is_seen else None
    series = store.series(node, tenant)[-20:]
    evidence = shown or own or theirs
    age = store.age(evidence, now) if evidence else math.inf
    level = Level.STALE if shown is None else Level.NONE
    unseen = NO_PERMISSION if may_not_see_rates(store, store.inventory.node(node), tenant) else "none"
    wrong = (counted.rcodes.get("SERVFAIL", 0.0) if counted else 0.0) > 0
    rcodes = {k: round(v, 1) for k, v in sorted(counted.rcodes.items(), key=lambda kv: -kv[1])} if counted else {}
    return Row(
        key,
        (
            text_cell(node),
            text_cell(tenant),
            rate(shown.qps if shown else None),
            Cell(spark(series, glyphs), level, None),
            *(rate(getattr(counted, name)) if counted else rate(None) for name in ("ipv4", "ipv6", "udp", "tcp")),
            rate(scraped.qps if scraped else None),
            age_cell(store.age(theirs, now) if theirs else math.inf, store.max_age("prometheus")),
            Cell(shown.source if shown else unseen, level, shown.source if shown else None),
            age_cell(age, store.max_age(shown.section) if shown else 0.0),
            Cell(
                " ".join(f"{clean(k, 12)} {v:.0f}" for k, v in rcodes.items()),
                Level.WARN if wrong else Level.NONE,
                rcodes,
            ),
        ),
        0,
    )


_HEADROOM = 1.6
"""A steady rate fills about five eighths of a line, so that lines stay apart and a peak has room."""


def spark(values: tuple[float, ...], glyphs: Glyphs) -> str:
    """A series as one line of text, scaled to its own maximum with headroom; a space where nothing was known."""
    top = max((v for v in values if not math.isnan(v)), default=0.0) * _HEADROOM
    steps = glyphs.spark
    if top <= 0:
        return "".join(steps[0] if math.isnan(v) else steps[1] for v in values)
    return "".join(
        steps[0] if math.isnan(v) else steps[max(1, min(len(steps) - 1, math.ceil(v / top * (len(steps) - 1))))]
        for v in values
    )


QPS = View(
    name="qps",
    title="Queries per second",
    columns=(
        Column(id="node", title="NODE", width=6),
        Column(id="tenant", title="TENANT", width=6),
        Column(id="qps", title="QPS", width=6, right=True),
        Column(id="last", title="LAST 20 s", width=20),
        Column(id="ipv4", title="V4", width=6, right=True),
        Column(id="ipv6", title="V6", width=6, right=True),
        Column(id="udp", title="UDP", width=6, right=True),
        Column(id="tcp", title="TCP", width=6, right=True),
        Column(id="prometheus", title="PROM", width=6, right=True),
        Column(id="prometheus_age", title="P.AGE", width=5, right=True),
        Column(id="source", title="SOURCE", width=10),
        Column(id="age", title="AGE", width=5, right=True),
        Column(id="rcodes", title="RCODES", width=20),
    ),
    keys=instance_keys,
    row=_qps_row,
)
