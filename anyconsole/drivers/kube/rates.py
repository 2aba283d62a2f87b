"""Queries per second of a cluster's instances, from the Prometheus in it, through the API server's service proxy."""

from __future__ import annotations

import time
from typing import Protocol

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.promql import ask
from anyconsole.drivers.prometheus import read_series
from anyconsole.model.facts import QueryRates
from anyconsole.model.inventory import ClusterSpec, Inventory, PrometheusSpec

__all__ = ["Pods", "read_rates"]


class Pods(Protocol):
    """Where pods run, and for whom; `workloads.Workloads` knows."""

    def on(self, namespace: str, pod: str) -> str:
        """The node of the profile, "" if it is none."""

    def tenant_in(self, namespace: str) -> str:
        """The tenant, "" if it is none's."""


async def read_rates(api: KubeApi, inventory: Inventory, spec: ClusterSpec, pods: Pods) -> tuple[QueryRates, ...]:
    """The rates of all instances it knows: those of several pods of an instance (a roll-over) together.

    Raises:
        KubeError: The proxy or Prometheus refused, or can't be reached.
        SshError: What Prometheus answered are no rates.
    """
    asked = time.time()
    values = await _vector(api, spec, spec.qps, pods)
    times = await _vector(api, spec, f"timestamp({spec.qps})", pods)
    summed: dict[tuple[str, str], list[float]] = {}
    oldest: dict[tuple[str, str], tuple[float, float]] = {}
    for where, at, value in values:
        summed.setdefault(where, [at, 0.0])[1] += value
    for where, at, value in times:
        if where not in oldest or value < oldest[where][1]:
            oldest[where] = (at, value)
    about = PrometheusSpec(url="", qps=spec.qps)
    reading = read_series(
        [_series(where, at, value) for where, (at, value) in summed.items()],
        [_series(where, at, value) for where, (at, value) in oldest.items()],
        inventory,
        about,
        asked,
    )
    return reading.rates


def _series(where: tuple[str, str], at: float, value: float) -> dict[str, object]:
    return {"metric": {"node": where[0], "tenant": where[1]}, "value": [at, repr(value)]}


async def _vector(
    api: KubeApi, spec: ClusterSpec, query: str, pods: Pods
) -> list[tuple[tuple[str, str], float, float]]:
    """((node, tenant), time, value) of each series that is about a pod of ours. Raises KubeError."""
    found = []
    for sample in await ask(api, spec, query, "cluster.qps"):
        namespace = str(sample.labels.get(spec.namespace_label, ""))
        node = pods.on(namespace, str(sample.labels.get(spec.pod_label, "")))
        if node and (tenant := pods.tenant_in(namespace)):
            found.append(((node, tenant), sample.at, sample.value))
    return found
