"""The views: fleet, tenants, BGP, announcements, health and queries, as tables over the store.

Screen and command line show these same rows. A view derives everything from facts and verdicts at the moment it is asked.
"""

from __future__ import annotations

import math

from anyconsole.model import verdicts
from anyconsole.model.facts import Chroot, Exported, Key, SessionState
from anyconsole.model.inventory import Family, SessionSpec, SpeakerSpec, Tenant, family_of
from anyconsole.model.store import FleetStore
from anyconsole.model.table import (
    Cell,
    Column,
    Glyphs,
    Level,
    Row,
    View,
    clean,
    duration,
    level_of,
    number,
    rate,
    size,
    verdict_cell,
)
from anyconsole.model.verdicts import Intent, Verdict

__all__ = [
    "ANNOUNCEMENTS",
    "CATCHMENT",
    "FLEET",
    "HEALTH",
    "QPS",
    "TENANTS",
    "bgp_view",
    "catchment",
    "node_of_nsid",
    "spark",
    "views",
]


def _age_cell(seconds: float, limit: float) -> Cell:
    stale = seconds > limit
    known = None if math.isinf(seconds) else round(seconds, 1)
    return Cell(duration(seconds), Level.STALE if stale else Level.NONE, known, seconds)


def _share(have: int, want: int) -> Cell:
    level = Level.NONE if have == want else Level.WARN if have else Level.CRIT
    return Cell(f"{have}/{want}", level, have, have - want)


def _text(text: str, level: Level = Level.NONE) -> Cell:
    cleaned = clean(text)
    return Cell(cleaned, level, cleaned)


# --- fleet


def _node_keys(store: FleetStore) -> list[Key]:
    return [("node", n.name) for n in store.inventory.nodes]


def _node_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    spec = store.inventory.node(key[1])
    verdict = verdicts.node(store, spec, now)
    sessions = [s for sp in spec.speakers for s in sp.sessions]
    up = sum(
        (b := store.session(spec.name, sp.name, s.name)) is not None
        and b.state is SessionState.ESTABLISHED
        and store.is_fresh(b, now)
        for sp in spec.speakers
        for s in sp.sessions
    )
    running = sum(
        (i := store.instance(spec.name, x.tenant)) is not None and i.running and store.is_fresh(i, now)
        for x in spec.instances
    )
    cells = verdicts.announcements(store, spec, now)
    sent = sum(c.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED) for c in cells)
    drained = sum(c.intent in (Intent.HARD, Intent.SOFT) for c in cells)
    host = store.host(spec.name)
    known = host if store.is_fresh(host, now) else None
    rates = [r.qps for x in spec.instances if (r := store.qps(spec.name, x.tenant, now)) is not None]
    kinds = "+".join(dict.fromkeys([s.kind for s in spec.speakers] + [i.kind for i in spec.instances]))
    drain = Cell(f"{drained}/{len(cells)}", Level.DRAINED, drained, drained) if drained else Cell("", value=0, order=0)
    return Row(
        key,
        (
            _text(spec.name),
            _text(spec.site),
            verdict_cell(verdict.verdict, glyphs),
            rate(sum(rates) if rates else None),
            _share(up, len(sessions)),
            _share(running, len(spec.instances)),
            _share(sent, len(cells)) if not drained else Cell(f"{sent}/{len(cells)}", value=sent, order=sent),
            drain,
            number(known.load1 if known else None, 2),
            size(known.mem_available if known else None),
            _age_cell(verdict.age, store.inventory.poll.stale),
            _text(kinds),
            _text(verdict.reason, level_of(verdict.verdict) if verdict.verdict is not Verdict.SERVING else Level.NONE),
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


# --- tenants


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
            _text(spec.name),
            verdict_cell(verdict.verdict, glyphs),
            rate(sum(rates) if rates else None),
            *(
                Cell("-", Level.STALE) if (count := by_family[f]) is None else _share(count, verdict.nodes)
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
            _text(verdict.reason, level_of(verdict.verdict) if verdict.verdict is not Verdict.SERVING else Level.NONE),
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


# --- BGP: sessions, with a column per tenant: the announcement matrix


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
    Verdict.SOFT: "soft",
    Verdict.DRAINED: "drained",
    Verdict.DOWN: "down",
    Verdict.STALE: "stale",
    Verdict.UNKNOWN: "unknown",
}


def _matrix_cell(store: FleetStore, key: Key, tenant: Tenant, now: float, glyphs: Glyphs) -> Cell:
    speaker, session = _session_of(store, key)
    spec = store.inventory.node(key[1])
    cells = [
        verdicts.announcement(store, spec.name, speaker, session, tenant, prefix, now)
        for sp, s, t, prefix in verdicts.node_announcements(store, spec)
        if sp is speaker and s is session and t is tenant
    ]
    if not cells:
        return Cell("-", Level.STALE)
    worst = min(cells, key=lambda c: c.verdict.rank)
    return verdict_cell(worst.verdict, glyphs, _CELL_WORDS.get(worst.verdict, ""))


def _session_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    speaker, session = _session_of(store, key)
    status = store.session(key[1], speaker.name, session.name)
    daemon = store.speaker(key[1], speaker.name)
    if daemon is not None and store.is_fresh(daemon, now) and not daemon.running:
        verdict, words, why = Verdict.DOWN, "DAEMON DOWN", daemon.detail
    elif status is None:
        verdict, words, why = Verdict.UNKNOWN, "", "not seen yet"
    elif not store.is_fresh(status, now):
        verdict, words, why = Verdict.STALE, "", f"was {status.state} {duration(store.age(status, now))} ago"
    elif status.state is SessionState.ESTABLISHED:
        verdict, words, why = Verdict.SERVING, str(status.state), status.info if status.info != status.state else ""
    else:
        verdict, words, why = Verdict.DOWN, str(status.state), status.info
    shown = status if verdict in (Verdict.SERVING, Verdict.DOWN) else None
    cells = [_matrix_cell(store, key, tenant, now, glyphs) for tenant in store.inventory.tenants]
    rank = min([verdict.rank, *(Verdict(c.value).rank for c in cells if isinstance(c.value, str))])
    return Row(
        key,
        (
            _text(key[1]),
            _text(session.name),
            _text(session.peer),
            Cell(session.family[2:], value=str(session.family)),
            verdict_cell(verdict, glyphs, words),
            *cells,
            _text(shown.since if shown else ""),
            number(shown.imported if shown else None),
            number(shown.exported if shown else None),
            Cell(str(session.number), value=session.number, order=session.number),
            _text(why, level_of(verdict) if verdict is not Verdict.SERVING else Level.NONE),
        ),
        rank,
    )


def bgp_view(store: FleetStore) -> View:
    """Sessions with a column per tenant of this profile."""
    tenants = (Column(id=f"tenant.{t.name}", title=t.name, width=11) for t in store.inventory.tenants)
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


# --- announcements: the three truths, one row per prefix x session


def _announcement_keys(store: FleetStore) -> list[Key]:
    return [
        ("announcement", n.name, sp.name, s.name, p)
        for n in store.inventory.nodes
        for sp, s, _, p in verdicts.node_announcements(store, n)
    ]


def _announcement_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    spec = store.inventory.node(key[1])
    cell = next(
        verdicts.announcement(store, spec.name, sp, s, t, p, now)
        for sp, s, t, p in verdicts.node_announcements(store, spec)
        if (sp.name, s.name, p) == key[2:]
    )
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
            _text(cell.node),
            _text(cell.tenant),
            _text(cell.prefix),
            _text(cell.session),
            verdict_cell(cell.verdict, glyphs),
            Cell(str(cell.intent), value=str(cell.intent)),
            Cell(str(cell.exported), value=str(cell.exported)),
            Cell(answers, Level.CRIT if cell.answering is False else Level.NONE, cell.answering),
            _age_cell(cell.age, store.inventory.poll.stale),
            _text(attributes),
            _text(cell.reason, level_of(cell.verdict) if cell.verdict is not Verdict.SERVING else Level.NONE),
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


# --- health: one row per instance


def _instance_keys(store: FleetStore) -> list[Key]:
    return [("instance", n.name, i.tenant) for n in store.inventory.nodes for i in n.instances]


def _inside_cell(store: FleetStore, node: str, tenant: Tenant, family: Family, now: float) -> Cell:
    """Latency of the slowest fresh good answer of a family asked from the node itself, or what went wrong."""
    slowest: float | None = None
    for address in tenant.addresses:
        if family_of(address) is not family:
            continue
        for zone in tenant.zones:
            answer = store.answer(node, address, zone)
            if answer is None or not store.is_fresh(answer, now):
                continue
            if not answer.good:
                return _text(answer.error or answer.rcode or "no answer", Level.CRIT)
            slowest = max(slowest or 0.0, answer.latency or 0.0)
    if slowest is None:
        return Cell("-", Level.STALE)
    return Cell(f"{slowest * 1000:.1f}ms", Level.OK, round(slowest * 1000, 2), slowest)


def _health_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    spec = store.inventory.node(key[1])
    instance_spec = next(i for i in spec.instances if i.tenant == key[2])
    tenant = store.inventory.tenant(key[2])
    verdict = verdicts.instance(store, spec, instance_spec, now)
    status = store.instance(*key[1:])
    known = status if store.is_fresh(status, now) else None
    chroot = known.chroot if known and known.running else Chroot.UNKNOWN
    chroot_level = {Chroot.INSIDE: Level.OK, Chroot.OUTSIDE: Level.CRIT, Chroot.UNKNOWN: Level.STALE}[chroot]
    serials = known.serials if known else {}
    process = f"{instance_spec.kind} {clean(known.version, 20) if known else ''}".strip()
    return Row(
        key,
        (
            _text(spec.name),
            _text(tenant.name),
            verdict_cell(verdict.verdict, glyphs),
            Cell(process, value=process),
            Cell(str(chroot), chroot_level, str(chroot)),
            number(known.pid if known else None),
            Cell(duration(known.uptime if known else None), value=known.uptime if known else None),
            size(known.rss if known else None),
            _inside_cell(store, spec.name, tenant, Family.IPV4, now),
            _inside_cell(store, spec.name, tenant, Family.IPV6, now),
            Cell(" ".join(map(str, serials.values())) or "-", Level.NONE if serials else Level.STALE, dict(serials)),
            _share(verdict.announced, verdict.sessions),
            _age_cell(verdict.age, store.inventory.poll.stale),
            _text(verdict.reason, level_of(verdict.verdict) if verdict.verdict is not Verdict.SERVING else Level.NONE),
        ),
        verdict.verdict.rank,
    )


HEALTH = View(
    name="health",
    title="Health",
    columns=(
        Column(id="node", title="NODE", width=6),
        Column(id="tenant", title="TENANT", width=6),
        Column(id="status", title="STATUS", width=13),
        Column(id="process", title="PROCESS", width=12),
        Column(id="chroot", title="CHROOT", width=7),
        Column(id="pid", title="PID", width=6, right=True),
        Column(id="uptime", title="UP", width=6, right=True),
        Column(id="rss", title="RSS", width=5, right=True),
        Column(id="inside_ipv4_ms", title="V4", width=7, right=True),
        Column(id="inside_ipv6_ms", title="V6", width=7, right=True),
        Column(id="serials", title="SERIAL", width=10),
        Column(id="announced", title="ANN", width=5, right=True),
        Column(id="age", title="AGE", width=5, right=True),
        Column(id="reason", title="WHY", width=20),
    ),
    keys=_instance_keys,
    row=_health_row,
)


# --- queries per second


def _qps_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    node, tenant = key[1:]
    shown = store.qps(node, tenant, now)
    own = store.rates(node, tenant, "probe")
    theirs = store.rates(node, tenant, "prometheus")
    counted = own if own is not None and store.is_fresh(own, now) else None
    scraped = theirs if theirs is not None and store.is_fresh(theirs, now) else None
    series = store.series(node, tenant)[-20:]
    evidence = shown or own or theirs
    age = store.age(evidence, now) if evidence else math.inf
    level = Level.STALE if shown is None else Level.NONE
    wrong = (counted.rcodes.get("SERVFAIL", 0.0) if counted else 0.0) > 0
    rcodes = {k: round(v, 1) for k, v in sorted(counted.rcodes.items(), key=lambda kv: -kv[1])} if counted else {}
    return Row(
        key,
        (
            _text(node),
            _text(tenant),
            rate(shown.qps if shown else None),
            Cell(spark(series, glyphs), level, None),
            *(rate(getattr(counted, name)) if counted else rate(None) for name in ("ipv4", "ipv6", "udp", "tcp")),
            rate(scraped.qps if scraped else None),
            _age_cell(store.age(theirs, now) if theirs else math.inf, store.max_age("prometheus")),
            Cell(shown.source if shown else "none", level, shown.source if shown else None),
            _age_cell(age, store.inventory.poll.stale),
            Cell(
                " ".join(f"{clean(k, 12)} {v:.0f}" for k, v in rcodes.items()),
                Level.WARN if wrong else Level.NONE,
                rcodes,
            ),
        ),
        0,
    )


def spark(values: tuple[float, ...], glyphs: Glyphs) -> str:
    """A series as one line of text, scaled to its own maximum; a space where nothing was known."""
    top = max((v for v in values if not math.isnan(v)), default=0.0)
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
    keys=_instance_keys,
    row=_qps_row,
)


# --- catchment: what each vantage point gets


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
            _text(vantage),
            _text(tenant.name),
            _text(address),
            verdict_cell(verdict, glyphs, words),
            _text(good.nsid if good else ""),
            Cell(f"{(good.latency or 0) * 1000:.1f}ms", value=round((good.latency or 0) * 1000, 2))
            if good
            else number(None),
            number(good.serial if good else None),
            _text(zone),
            _age_cell(store.age(answer, now) if answer else math.inf, store.max_age("dns")),
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


def views(store: FleetStore) -> dict[str, View]:
    """All views by name, in the order of the panes."""
    return {v.name: v for v in (FLEET, TENANTS, bgp_view(store), ANNOUNCEMENTS, CATCHMENT, HEALTH, QPS)}
