"""Health: one row per instance, a tenant's name server on a node.

In a cluster that is a pod: instead of a chroot it has its container, and its readiness stands for answers that nobody asks for from there.
"""

from __future__ import annotations

from anyconsole.model import verdicts
from anyconsole.model.facts import Chroot, Exported, InstanceStatus, Key
from anyconsole.model.inventory import Family, NodeSpec, Tenant, family_of
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
    number,
    size,
    verdict_cell,
)
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views.cells import age_cell, reason_cell, share_cell, text_cell


def instance_keys(store: FleetStore) -> list[Key]:
    """A key per instance, in the profile's order."""
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
                return text_cell(answer.error or answer.rcode or "no answer", Level.CRIT)
            slowest = max(slowest or 0.0, answer.latency or 0.0)
    if slowest is None:
        return _readiness_cell(store, node, tenant, now)
    return Cell(f"{slowest * 1000:.1f}ms", Level.OK, round(slowest * 1000, 2), slowest)


def _readiness_cell(store: FleetStore, node: str, tenant: Tenant, now: float) -> Cell:
    """What the observer in a pod says of its answers; no latency in any case."""
    status = store.instance(node, tenant.name)
    if status is None or status.is_ready is None or not store.is_fresh(status, now):
        return Cell("-", Level.STALE)
    return Cell("ready", Level.OK, None) if status.is_ready else Cell("unready", Level.CRIT, None)


def _chroot_cell(spec: NodeSpec, known: InstanceStatus | None) -> Cell:
    """Whether its process is where it belongs."""
    if spec.cluster:
        return Cell("pod", Level.NONE if known is not None and known.running else Level.STALE, "pod")
    chroot = known.chroot if known and known.running else Chroot.UNKNOWN
    level = {Chroot.INSIDE: Level.OK, Chroot.OUTSIDE: Level.CRIT, Chroot.UNKNOWN: Level.STALE}[chroot]
    return Cell(str(chroot), level, str(chroot))


def _uptime(store: FleetStore, spec: NodeSpec, known: InstanceStatus | None) -> float | None:
    """Seconds it has run. A pod's was told once, and has grown since; it moves in steps, as that of a process does."""
    if known is None or known.uptime is None or not spec.cluster:
        return known.uptime if known is not None else None
    seconds = int(known.uptime + store.seen_at(known) - known.at)
    step = 10 if seconds < 600 else 60
    return float(seconds // step * step)


def _health_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    spec = store.inventory.node(key[1])
    instance_spec = next(i for i in spec.instances if i.tenant == key[2])
    tenant = store.inventory.tenant(key[2])
    verdict = verdicts.instance(store, spec, instance_spec, now)
    status = store.instance(*key[1:])
    known = status if store.is_fresh(status, now) else None
    serials = known.serials if known else {}
    cells = verdicts.announcements(store, spec, now, tenant.name)
    is_unseen = verdict.verdict in (Verdict.STALE, Verdict.UNKNOWN) or Exported.UNKNOWN in {c.exported for c in cells}
    uptime = _uptime(store, spec, known)
    process = f"{instance_spec.kind} {clean(known.version, 20) if known else ''}".strip()
    return Row(
        key,
        (
            text_cell(spec.name),
            text_cell(tenant.name),
            verdict_cell(verdict.verdict, glyphs),
            Cell(process, value=process),
            _chroot_cell(spec, known),
            number(known.pid if known else None),
            Cell(duration(uptime), value=uptime),
            size(known.rss if known else None),
            _inside_cell(store, spec.name, tenant, Family.IPV4, now),
            _inside_cell(store, spec.name, tenant, Family.IPV6, now),
            Cell(" ".join(map(str, serials.values())) or "-", Level.NONE if serials else Level.STALE, dict(serials)),
            share_cell(
                None if is_unseen and not verdict.announced else verdict.announced,
                verdict.sessions,
                on_purpose=verdict.verdict in (Verdict.DRAINED, Verdict.SOFT),
            ),
            age_cell(verdict.age, store.inventory.poll.stale),
            reason_cell(verdict.verdict, verdict.reason),
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
    keys=instance_keys,
    row=_health_row,
)
