"""Questions to the Prometheus in a cluster, through the API server's service proxy, with the credentials of everything else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.model.inventory import ClusterSpec

__all__ = ["Sample", "ask", "moments", "proxy_path"]

_SERVICE: Final = re.compile(r"(?P<namespace>[^/]+)/(?P<name>[^:]+):(?P<port>.+)")
_MOST: Final = 100_000
"""Series of one answer that are read."""


class Sample(msgspec.Struct, frozen=True):
    """One series of an instant vector: its labels, when it was asked for on Prometheus' clock, and its value (not finite: none)."""

    labels: Mapping[str, Any]
    at: float
    value: float

    @property
    def series(self) -> frozenset[tuple[str, str]]:
        """What tells it from other series, besides the metric's name."""
        return frozenset((key, str(value)) for key, value in self.labels.items() if key != "__name__")


def proxy_path(service: str, path: str) -> str:
    """The path of a Service "NAMESPACE/NAME:PORT" through the API server. Raises KubeError."""
    match = _SERVICE.fullmatch(service)
    if match is None:
        raise KubeError(f"cluster.prometheus = {service!r}: expected NAMESPACE/SERVICE:PORT")
    return f"/api/v1/namespaces/{match['namespace']}/services/http:{match['name']}:{match['port']}/proxy{path}"


async def ask(api: KubeApi, spec: ClusterSpec, query: str, what: str) -> list[Sample]:
    """The instant vector of a query, which errors call `what`. Raises KubeError."""
    answer = await api.get(proxy_path(spec.prometheus, "/api/v1/query"), query=query)
    found = []
    match answer:
        case {"status": "success", "data": {"result": list() as series}}:
            for one in series[:_MOST]:
                match one:
                    case {"metric": Mapping() as metric, "value": [int() | float() as at, str() as text]}:
                        found.append(Sample(metric, float(at), _number(text)))
                    case _:
                        raise KubeError(f"{spec.name}: {what} must give one sample for each series")
        case _:
            raise KubeError(f"{spec.name}: Prometheus gave no answer to {what}")
    return found


def moments(times: Iterable[Sample], now: float) -> dict[frozenset[tuple[str, str]], float]:
    """When each series of a `timestamp()` was sampled, on our clock: counted back from `now`, when it was asked. Never in the future."""
    return {sample.series: now - max(0.0, sample.at - sample.value) for sample in times if sample.value > 0}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
