"""The views without a screen: printed once, streamed, or summed up for a monitoring system. The engine runs in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from anyconsole.engine.core import FleetEngine
from anyconsole.logs import log_to_file
from anyconsole.model import verdicts
from anyconsole.model.cluster_state import denied_of, may_not_see_node, may_not_see_pods, may_not_see_rates
from anyconsole.model.events import EVENT_COLUMNS, event_row
from anyconsole.model.facts import InstanceStatus, LinkState, SpeakerStatus
from anyconsole.model.inventory import ClusterSpec, Inventory, LookingGlass, NodeSpec
from anyconsole.model.report import document, render, row_value, summary
from anyconsole.model.store import FleetStore
from anyconsole.model.table import ASCII, UNICODE, Column, Glyphs, Row
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views import views

__all__ = ["check", "is_settled", "looked_at", "show"]

_SETTLED_LINKS = frozenset(
    {LinkState.DENIED, LinkState.UNTRUSTED, LinkState.KEY_CHANGED, LinkState.BACKOFF, LinkState.STALE}
)
_WATCH = 0.5


def show(inventory: Inventory, view: str, output: str, *, watch: bool, wait: float) -> int:
    """Print a view, or stream its changes; returns the exit code."""
    log_to_file("headless")
    return asyncio.run(_show(inventory, view, output, watch, wait))


def check(inventory: Inventory, wait: float) -> int:
    """Print the monitoring line; returns 0, 1, 2 or 3 as monitoring plugins do."""
    log_to_file("headless")
    return asyncio.run(_check(inventory, wait))


@contextlib.asynccontextmanager
async def _running(inventory: Inventory) -> AsyncIterator[FleetEngine]:
    engine = FleetEngine(inventory)
    task = asyncio.create_task(engine.run(), name="engine")
    try:
        yield engine
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def looked_at(inventory: Inventory, wait: float) -> AsyncIterator[FleetEngine]:
    """An engine that has told everything once, or has had `wait` seconds for it."""
    async with _running(inventory) as engine:
        await _settle(engine, wait)
        yield engine


async def _settle(engine: FleetEngine, wait: float) -> None:
    """Return when every host has told everything once, or is known to be out of reach; or after `wait` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait):
            while not is_settled(engine.store, time.time()):
                # That a namespace holds nothing is told by a beat, and those wake nobody.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_WATCH):
                        await engine.changed()


def is_settled(store: FleetStore, now: float) -> bool:
    """True when nothing more is to be expected of a first look."""
    fleet = store.inventory
    nodes = [n for n in fleet.nodes if not _is_out_of_reach(store, n.name)]
    vantages = [v for v in fleet.vantages if not _is_out_of_reach(store, v.name)]
    if not all(_has_looked(store, glass) for glass in fleet.looking_glasses):
        return False
    if not all(_is_out_of_reach(store, g.link) or _is_live(store, g.link) for g in fleet.generators):
        return False
    if not all(_has_told(store, c) for c in fleet.clusters):
        return False
    bare = [n for n in nodes if not n.cluster]
    virtual = [n for n in nodes if n.cluster and (c := store.cluster(n.cluster)) is not None and c.calico]
    if any(
        store.export(n.name, speaker.name, session.name, prefix) is None
        for n in virtual
        for speaker, session, _, prefix in verdicts.node_announcements(store, n)
    ):
        return False
    if any(verdicts.instance(store, n, i, now).verdict is Verdict.UNKNOWN for n in bare for i in n.instances):
        return False
    if any(
        status.running
        and store.qps(n.name, status.tenant, now) is None
        and not may_not_see_rates(store, n, status.tenant)
        for n in nodes
        if not n.cluster or fleet.cluster(n.cluster).prometheus
        for status in store.of_node(n.name, InstanceStatus)
    ):
        return False
    tested = {address for target in fleet.load.targets for address in target.addresses}
    speakers = [s for n in bare for s in store.of_node(n.name, SpeakerStatus)]
    if any(store.covering(s.node, s.speaker, address) is None for s in speakers for address in tested):
        return False
    asked = [(n.name, fleet.tenant(i.tenant)) for n in bare for i in n.instances] + [
        (v.name, t) for v in vantages for t in fleet.tenants
    ]
    return all(
        any(store.answer(name, address, zone) for zone in tenant.zones)
        for name, tenant in asked
        for address in tenant.addresses
    )


def _is_live(store: FleetStore, host: str) -> bool:
    link = store.link(host)
    return link is not None and link.state is LinkState.LIVE


def _has_looked(store: FleetStore, glass: LookingGlass) -> bool:
    """True if a looking glass has told its routes, or can't: it is out of reach, or its daemon is, as the link's detail says."""
    link = store.link(glass.name)
    blind = link is not None and link.state is LinkState.LIVE and bool(link.detail)
    return blind or bool(store.sections(glass.name).keys() - {"link"}) or _is_out_of_reach(store, glass.name)


def _has_told(store: FleetStore, cluster: ClusterSpec) -> bool:
    """True if a cluster has told of its nodes, of all pods that it lets us see and of what set-up made, or is out of reach."""
    if _is_out_of_reach(store, cluster.name):
        return True
    known = store.cluster(cluster.name)
    denied = {permission.namespace for permission in denied_of(known, "pods")}
    namespaces = {*cluster.namespaces.values(), cluster.monitoring} - denied
    pods_known = "" in denied or all(store.section_seen_at(cluster.name, f"pods:{ns}") for ns in namespaces)
    nodes = [n for n in store.inventory.nodes if n.cluster == cluster.name and not _is_out_of_reach(store, n.name)]
    # What isn't served or may not be listed is never told.
    kinds = ("nodes", "bgppeers", "bgpconfigurations", "bgpfilters")
    hosted = {i.tenant for n in store.inventory.nodes if n.cluster == cluster.name for i in n.instances}
    sets_known = all(store.tenant_set(cluster.name, tenant) is not None for tenant in hosted)
    is_closed = known is not None and (not known.calico or any(denied_of(known, kind) for kind in kinds))
    routing_known = is_closed or store.routing(cluster.name) is not None
    are_known = pods_known and sets_known and routing_known
    return known is not None and are_known and all(_is_told(store, n) for n in nodes)


def _is_told(store: FleetStore, node: NodeSpec) -> bool:
    """True if a node in a cluster is known with its instances, or we may not see them; what Calico exports there may never be known."""
    has_node = store.section_seen_at(node.name, "host") is not None or may_not_see_node(store, node)
    return bool(has_node) and all(
        store.instance(node.name, i.tenant) is not None or may_not_see_pods(store, node, i.tenant)
        for i in node.instances
    )


def _is_out_of_reach(store: FleetStore, name: str) -> bool:
    link = store.link(name)
    return link is not None and link.state in _SETTLED_LINKS


async def _show(inventory: Inventory, view: str, output: str, watch: bool, wait: float) -> int:
    async with looked_at(inventory, wait) as engine:
        engine.store.sample(time.time())
        if watch:
            await _watch(engine, view)
        else:
            columns, rows = _table(engine, view)
            sys.stdout.write(render(columns, rows, output, inventory.name, view, time.time()))
    return 0


def _table(engine: FleetEngine, view: str) -> tuple[tuple[Column, ...], list[Row]]:
    glyphs = _glyphs()
    if view == "events":
        numbered = enumerate(engine.events, start=engine.events_dropped)
        return EVENT_COLUMNS, [event_row(e, i, glyphs) for i, e in numbered][::-1]
    chosen = views(engine.store)[view]
    return chosen.columns, chosen.rows(engine.store, time.time(), glyphs)


async def _watch(engine: FleetEngine, view: str) -> None:
    """Print every row that changed as one line of JSON until interrupted. Ages alone are no change."""
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    while True:
        columns, rows = _table(engine, view)
        shown: dict[tuple[str, ...], dict[str, Any]] = {}
        for row in reversed(rows) if view == "events" else rows:
            value = row_value(columns, row)
            steady = {k: v for k, v in value.items() if k != "age" and not k.endswith("_age")}
            shown[row.key] = steady
            if last.get(row.key) != steady:
                line = document(engine.inventory.name, view, time.time(), row=value)
                print(json.dumps(line, ensure_ascii=False), flush=True)
        last = shown
        await asyncio.sleep(_WATCH)


def _glyphs() -> Glyphs:
    return UNICODE if (sys.stdout.encoding or "").lower().startswith("utf") else ASCII


async def _check(inventory: Inventory, wait: float) -> int:
    async with looked_at(inventory, wait) as engine:
        code, line = summary(engine.store, time.time())
    print(line)
    return code
