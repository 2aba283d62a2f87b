"""Pods: one row per pod of every namespace that is watched, in the words of `kubectl get pods -A -o wide`.

What may not be listed, and a cluster of which nothing is known, is a row that says so: it must not look as if nothing were there. So is a
workload that lacks pods, for no row of a pod can tell that there should be one.
"""

from __future__ import annotations

import math

from msgspec import structs

from anyconsole.model.cluster_state import NO_PERMISSION, denied_of, is_done
from anyconsole.model.facts import Key, LinkState
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.metrics import Workload, workload_section
from anyconsole.model.pod_verdict import pod_verdict
from anyconsole.model.pods import Permission, Pod
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Cell, Column, Glyphs, Level, Row, View, human_duration, number, verdict_cell
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views.cells import age_cell, reason_cell, share_cell, text_cell

__all__ = ["denied_cell", "denied_words", "out_of_reach", "pods_view", "restarts_cell"]

_RECENTLY = 600.0
"""Seconds for which a restart is a warning: afterwards it is history."""


def restarts_cell(count: int, last: float | None, now: float) -> Cell:
    """How often containers were started again, and how long ago the last time."""
    if not count or last is None:
        return Cell(str(count), value=count, order=count)
    ago = now - last
    return Cell(f"{count} ({human_duration(ago)} ago)", Level.WARN if ago < _RECENTLY else Level.NONE, count, count)


def denied_cell(glyphs: Glyphs) -> Cell:
    """The status of what may not be listed."""
    return Cell(f"{glyphs.warn} {NO_PERMISSION}", Level.WARN, NO_PERMISSION, Verdict.DEGRADED.rank)


def denied_words(store: FleetStore, cluster: str, denied: tuple[Permission, ...]) -> str:
    """Which permission is missing, and to whom."""
    known = store.cluster(cluster)
    who = known.user if known is not None and known.user else "this login"
    return f"{who} may not {', '.join(map(str, denied))}" if denied else ""


def out_of_reach(store: FleetStore, cluster: str) -> str:
    """Why nothing can be seen of a cluster; "" while it can."""
    link = store.link(cluster)
    if link is None:
        return "not connected yet"
    if link.state is LinkState.LIVE:
        return ""
    return link.detail.removeprefix(f"{cluster}: ") or link.error or str(link.state)


def _in_order(store: FleetStore, cluster: ClusterSpec) -> list[Pod]:
    """Pods of the tenants first, as the profile has them, then of monitoring, then others."""
    first = [ns for t in store.inventory.tenants if (ns := cluster.namespaces.get(t.name))]
    place = {ns: i for i, ns in enumerate((*first, cluster.monitoring))}
    return sorted(store.pods(cluster.name), key=lambda pod: place.get(pod.namespace, len(place)))


def _keys(store: FleetStore) -> list[Key]:
    keys: list[Key] = []
    for cluster in store.inventory.clusters:
        pods = _in_order(store, cluster)
        if not pods and out_of_reach(store, cluster.name):
            keys.append(("cluster", cluster.name))
        shown = {"", *cluster.namespaces.values(), cluster.monitoring}
        denied = [p for p in denied_of(store.cluster(cluster.name), "pods") if p.namespace in shown]
        keys += dict.fromkeys(("denied", cluster.name, permission.namespace) for permission in denied)
        keys += [pod.key for pod in pods]
        unseen = {permission.namespace for permission in denied}
        keys += [w.key for w in store.workloads(cluster.name) if w.wanted != w.available or unseen & {"", w.namespace}]
    return keys


def _cells(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> tuple[Verdict, tuple[Cell, ...]]:
    pod = store.pod(*key[1:]) if key[0] == Pod.kind else None
    if pod is None:
        return _without_pod(store, key, now, glyphs)
    found = pod_verdict(store, pod, now)
    ready, count = pod.ready
    fresh = found.verdict is not Verdict.STALE
    created = now - pod.created_at
    return found.verdict, (
        text_cell(pod.namespace),
        text_cell(pod.name),
        share_cell(ready if fresh else None, count, on_purpose=is_done(pod)),
        structs.replace(verdict_cell(found.verdict, glyphs, text_cell(found.words).text), value=found.words or "STALE"),
        restarts_cell(pod.restarts, pod.restarted_at, now),
        Cell(human_duration(created), value=round(created, 1), order=created),
        text_cell(pod.host),
        structs.replace(text_cell(" ".join(pod.addresses)), value=list(pod.addresses), order=" ".join(pod.addresses)),
        age_cell(found.age, store.max_age(pod.section)),
        reason_cell(found.verdict, found.reason)
        if found.reason or not pod.drift
        else text_cell(f"not as set up: {pod.drift}", Level.WARN),
    )


def _without_pod(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> tuple[Verdict, tuple[Cell, ...]]:
    """A row that is about no pod: why none is shown, or none any more."""
    namespace = key[2] if len(key) > 2 else ""
    verdict, reason = Verdict.UNKNOWN, out_of_reach(store, key[1])
    status = verdict_cell(Verdict.UNKNOWN, glyphs, "not seen")
    if key[0] == "denied":
        permissions = tuple(p for p in denied_of(store.cluster(key[1]), "pods") if p.namespace == namespace)
        verdict, status, reason = Verdict.DEGRADED, denied_cell(glyphs), denied_words(store, key[1], permissions)
        namespace = namespace or "(all)"
    elif key[0] == Workload.kind:
        return _workload(store, key, now, glyphs)
    elif key[0] == Pod.kind:
        status, reason = verdict_cell(Verdict.UNKNOWN, glyphs, "gone"), ""
    empty = Cell("")
    name = key[3] if len(key) > 3 else f"({key[1]})" if key[0] == "cluster" else ""
    words = text_cell(namespace), text_cell(name)
    return verdict, (
        *words,
        empty,
        status,
        number(None),
        number(None),
        empty,
        empty,
        empty,
        reason_cell(verdict, reason),
    )


def _workload(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> tuple[Verdict, tuple[Cell, ...]]:
    """A workload that lacks pods, or whose pods we may not list: as kube-state-metrics counts them."""
    known, empty = store.get(key), Cell("")
    verdict, words, reason, age, share = Verdict.UNKNOWN, "gone", "", math.inf, number(None)
    if isinstance(known, Workload):
        age = store.age(known, now)
        share = share_cell(known.available if store.is_fresh(known, now) else None, known.wanted)
        short = known.wanted - known.available
        verdict, words = (
            (Verdict.DEGRADED if known.available else Verdict.DOWN, "incomplete")
            if short > 0
            else (Verdict.SERVING, "complete")
        )
        reason = (
            f"{short} of {known.wanted} pods are not available, by kube-state-metrics"
            if short > 0
            else "by kube-state-metrics"
        )
        if not store.is_fresh(known, now):
            verdict, words = Verdict.STALE, ""
    return verdict, (
        text_cell(key[2]),
        text_cell(key[3]),
        share,
        structs.replace(verdict_cell(verdict, glyphs, words), value=words or "STALE"),
        number(None),
        number(None),
        empty,
        empty,
        age_cell(age, store.max_age(workload_section(""))),
        reason_cell(verdict, reason),
    )


def pods_view(store: FleetStore) -> View:
    """Pods, with the cluster each is in where the profile has several."""
    several = len(store.inventory.clusters) > 1

    def row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
        verdict, cells = _cells(store, key, now, glyphs)
        return Row(key, (text_cell(key[1]), *cells) if several else cells, verdict.rank)

    columns = (
        Column(id="namespace", title="NAMESPACE", width=9),
        Column(id="name", title="NAME", width=16),
        Column(id="ready", title="READY", width=5, right=True),
        Column(id="status", title="STATUS", width=9),
        Column(id="restarts", title="RESTARTS", width=8, right=True),
        Column(id="pod_age", title="AGE", width=5, right=True),
        Column(id="host", title="NODE", width=4),
        Column(id="addresses", title="IP", width=9),
        Column(id="seen_age", title="SEEN", width=4, right=True),
        Column(id="reason", title="WHY", width=10, room=10),
    )
    return View(
        name="pods",
        title="Pods",
        columns=(Column(id="cluster", title="CLUSTER", width=7), *columns) if several else columns,
        keys=_keys,
        row=row,
        listed=Pod.kind,
        lead=(lambda key: key[1:]) if several else (lambda key: key[2:]),
    )
