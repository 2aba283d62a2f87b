"""Monitoring: one row per component of a cluster's monitoring namespace, all its pods taken together."""

from __future__ import annotations

import math

from msgspec import structs

from anyconsole.model.cluster_state import denied_of, is_done
from anyconsole.model.facts import Key
from anyconsole.model.metrics import DnsProbe
from anyconsole.model.pod_verdict import PodVerdict, pod_verdict
from anyconsole.model.pods import Pod
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Cell, Column, Glyphs, Level, Row, View, number, verdict_cell
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views.cells import age_cell, reason_cell, share_cell, text_cell
from anyconsole.model.views.pods import denied_cell, denied_words, out_of_reach, restarts_cell

__all__ = ["COMPONENTS", "component_pods", "monitoring_view"]

COMPONENTS = ("prometheus", "node-exporter", "blackbox-exporter", "kube-state-metrics", "filebeat", "nginx")
"""What a monitoring namespace should have."""

_FAMILIES = ("prometheus-", "ingress-")
"""What their usual charts put before the name of a component."""


def component_pods(store: FleetStore, cluster: str, component: str) -> list[Pod]:
    """The pods of a component; those that ran to their end are none."""
    namespace = store.inventory.cluster(cluster).monitoring
    wanted = {component, *(family + component for family in _FAMILIES)}
    return [pod for pod in store.pods(cluster, namespace) if pod.app in wanted and not is_done(pod)]


def _keys(store: FleetStore) -> list[Key]:
    return [("monitoring", c.name, component) for c in store.inventory.clusters for component in COMPONENTS]


def _why_none(store: FleetStore, cluster: str, now: float, glyphs: Glyphs) -> tuple[Verdict, Cell, str, float]:
    """Why a component has no pod, and how old that knowledge is: nobody knows, we may not know, or there is none."""
    namespace = store.inventory.cluster(cluster).monitoring
    if denied := [p for p in denied_of(store.cluster(cluster), "pods") if p.namespace in ("", namespace)]:
        return Verdict.DEGRADED, denied_cell(glyphs), denied_words(store, cluster, tuple(denied)), math.inf
    section = f"pods:{namespace}"
    seen = store.section_seen_at(cluster, section)
    if seen is None:
        words = verdict_cell(Verdict.UNKNOWN, glyphs, "not seen")
        return Verdict.UNKNOWN, words, out_of_reach(store, cluster), math.inf
    age = max(0.0, now - seen)
    if age > store.max_age(section):
        return Verdict.STALE, verdict_cell(Verdict.STALE, glyphs), out_of_reach(store, cluster), age
    cell = Cell(f"{glyphs.unknown} absent", Level.STALE, "absent", Verdict.UNKNOWN.rank)
    return Verdict.UNKNOWN, cell, f"no pod of it in {namespace}", age


def _work(store: FleetStore, cluster: str, component: str, now: float) -> tuple[Verdict, str]:
    """What a component that runs does for us, as the cluster's Prometheus shows it; ("SERVING", "") where nobody can tell."""
    told = store.metrics(cluster)
    if told is None or not store.is_fresh(told, now):
        return Verdict.SERVING, ""
    if component == "prometheus":
        return (
            (Verdict.DEGRADED, told.error) if told.error else (Verdict.SERVING, f"{told.rates} instances with a rate")
        )
    if told.error or component not in ("blackbox-exporter", "kube-state-metrics"):
        return Verdict.SERVING, ""
    if component == "kube-state-metrics":
        counts = [w.available == w.wanted for w in store.workloads(cluster) if store.is_fresh(w, now)]
        words, none = "workloads complete", "Prometheus has no workload of ours"
    else:
        counts = [p.succeeded for p in store.of_node(cluster, DnsProbe) if store.is_fresh(p, now)]
        words, none = "DNS probes answered", "Prometheus has no DNS probe of a service address"
    return Verdict.SERVING, f"{sum(counts)} of {len(counts)} {words}" if counts else none


def _worst(found: list[PodVerdict]) -> PodVerdict:
    return min(found, key=lambda f: f.verdict.rank)


def _row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> tuple[Verdict, tuple[Cell, ...]]:
    cluster, component = key[1:]
    pods = component_pods(store, cluster, component)
    if not pods:
        verdict, status, reason, age = _why_none(store, cluster, now, glyphs)
        seen = age_cell(age, store.max_age("pods"))
        cells = status, number(None), number(None), Cell("", value=None), seen, reason_cell(verdict, reason)
        return verdict, (text_cell(component), *cells)
    found = [pod_verdict(store, pod, now) for pod in pods]
    worst = _worst(found)
    verdict, reason = worst.verdict, worst.reason
    if verdict is Verdict.SERVING:
        verdict, reason = _work(store, cluster, component, now)
    fresh = all(f.verdict is not Verdict.STALE for f in found)
    restarted = max((p.restarted_at for p in pods if p.restarted_at is not None), default=None)
    hosts = sorted({pod.host for pod in pods if pod.host})
    return verdict, (
        text_cell(component),
        structs.replace(verdict_cell(verdict, glyphs, text_cell(worst.words).text), value=worst.words or "STALE"),
        share_cell(sum(pod.is_ready for pod in pods) if fresh else None, len(pods)),
        restarts_cell(sum(pod.restarts for pod in pods), restarted, now),
        structs.replace(text_cell(" ".join(hosts)), value=hosts, order=" ".join(hosts)),
        age_cell(max(f.age for f in found), store.max_age(pods[0].section)),
        reason_cell(verdict, reason),
    )


def monitoring_view(store: FleetStore) -> View:
    """Components, with the cluster each is in where the profile has several."""
    several = len(store.inventory.clusters) > 1

    def row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
        verdict, cells = _row(store, key, now, glyphs)
        return Row(key, (text_cell(key[1]), *cells) if several else cells, verdict.rank)

    columns = (
        Column(id="component", title="COMPONENT", width=18),
        Column(id="status", title="STATUS", width=9),
        Column(id="ready", title="READY", width=5, right=True),
        Column(id="restarts", title="RESTARTS", width=8, right=True),
        Column(id="nodes", title="NODES", width=8),
        Column(id="seen_age", title="SEEN", width=4, right=True),
        Column(id="reason", title="WHY", width=20),
    )
    return View(
        name="monitoring",
        title="Monitoring",
        columns=(Column(id="cluster", title="CLUSTER", width=7), *columns) if several else columns,
        keys=_keys,
        row=row,
        lead=(lambda key: key[1:]) if several else (lambda key: key[2:]),
    )
