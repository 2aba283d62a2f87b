"""Queries per second of a cluster's instances, from the Prometheus in it, through the API server's service proxy."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Final, Protocol

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.prometheus import read_series
from anyconsole.model.facts import QueryRates
from anyconsole.model.inventory import ClusterSpec, Inventory, PrometheusSpec

__all__ = ["Pods", "proxy_path", "read_rates"]

_SERVICE: Final = re.compile(r"(?P<namespace>[^/]+)/(?P<name>[^:]+):(?P<port>.+)")
_DEADLINE: Final = 8.0
_MOST: Final = 16 << 20


class Pods(Protocol):
    """Where pods run, and for whom; `workloads.Workloads` knows."""

    def on(self, namespace: str, pod: str) -> str:
        """The node of the profile, "" if it is none."""

    def tenant_in(self, namespace: str) -> str:
        """The tenant, "" if it is none's."""


def proxy_path(service: str, path: str) -> str:
    """The path of a Service "NAMESPACE/NAME:PORT" through the API server."""
    match = _SERVICE.fullmatch(service)
    if match is None:
        raise KubeError(f"cluster.prometheus = {service!r}: expected NAMESPACE/SERVICE:PORT")
    return f"/api/v1/namespaces/{match['namespace']}/services/http:{match['name']}:{match['port']}/proxy{path}"


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
    path = proxy_path(spec.prometheus, "/api/v1/query")
    answer = await api.get(path, query=query)
    found = []
    match answer:
        case {"status": "success", "data": {"result": list() as series}}:
            for one in series[:100_000]:
                match one:
                    case {"metric": Mapping() as metric, "value": [int() | float() as at, str() as text]}:
                        namespace = str(metric.get(spec.namespace_label, ""))
                        node = pods.on(namespace, str(metric.get(spec.pod_label, "")))
                        if node and (tenant := pods.tenant_in(namespace)):
                            found.append(((node, tenant), float(at), _number(text)))
                    case _:
                        raise KubeError(f"{spec.name}: cluster.qps must give one sample for each pod")
        case _:
            raise KubeError(f"{spec.name}: Prometheus gave no answer to cluster.qps")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
