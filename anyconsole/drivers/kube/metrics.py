"""What the Prometheus in a cluster has that concerns us: rates, DNS probes of blackbox-exporter, workloads by kube-state-metrics.

Metric and label names are those that the exporters document. What isn't there is no fact, never a zero.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Final, TypeAlias

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.promql import Sample, ask, moments
from anyconsole.drivers.kube.rates import Pods, read_rates
from anyconsole.drivers.kube.values import NAME, text
from anyconsole.drivers.prometheus import NAME as PROMETHEUS
from anyconsole.drivers.ssh.fault import SshError
from anyconsole.model.facts import QueryRates
from anyconsole.model.inventory import ClusterSpec, Inventory
from anyconsole.model.metrics import DnsProbe, Metrics, Workload, probe_section, workload_section

__all__ = ["probes_of", "read_metrics", "workload_query", "workloads_of"]

_Found: TypeAlias = Sequence[QueryRates | DnsProbe | Workload]

_SUCCESS: Final = "probe_success"
_ANSWERED: Final = "probe_dns_query_succeeded"
"""Only the DNS prober tells this one."""
_LATENCY: Final = "probe_duration_seconds"
_SERIAL: Final = "probe_dns_serial"
_PROBES: Final = f'{{__name__=~"{_SUCCESS}|{_ANSWERED}|{_LATENCY}|{_SERIAL}"}}'

_WANTED: Final = {
    "kube_deployment_spec_replicas": "deployment",
    "kube_statefulset_replicas": "statefulset",
    "kube_daemonset_status_desired_number_scheduled": "daemonset",
}
"""How many pods a workload wants, with the label that names it."""
_AVAILABLE: Final = {
    "kube_deployment_status_replicas_available": "deployment",
    "kube_statefulset_status_replicas_ready": "statefulset",
    "kube_daemonset_status_number_available": "daemonset",
}
_KINDS: Final = {"deployment": "Deployment", "statefulset": "StatefulSet", "daemonset": "DaemonSet"}

_TARGET: Final = re.compile(r"\[(?P<bracketed>[^\]]+)\](?::\d+)?|(?P<plain>[^:]+)(?::\d+)?|(?P<bare>.*)")


async def read_metrics(
    api: KubeApi, inventory: Inventory, spec: ClusterSpec, pods: Pods
) -> list[QueryRates | DnsProbe | Workload | Metrics]:
    """All of it, and how much that was. What one question fails for is told there, and doesn't keep the others from being asked."""

    async def rates() -> _Found:
        return await read_rates(api, inventory, spec, pods)

    async def probes() -> _Found:
        now = time.time()
        found = await ask(api, spec, _PROBES, "its DNS probes")
        return probes_of(found, await ask(api, spec, f"timestamp({_SUCCESS})", "its DNS probes"), inventory, spec, now)

    async def workloads() -> _Found:
        now = time.time()
        found = await ask(api, spec, workload_query(spec, {**_WANTED, **_AVAILABLE}), "its workloads")
        times = await ask(api, spec, workload_query(spec, _WANTED, "timestamp({})"), "its workloads")
        return workloads_of(found, times, spec, now)

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_answer(question)) for question in (rates, probes, workloads)]
    answers, errors = zip(*(task.result() for task in asked), strict=True)
    told = Metrics(
        node=spec.name,
        section=PROMETHEUS,
        at=time.time(),
        rates=len(answers[0]),
        probes=len(answers[1]),
        workloads=len(answers[2]),
        error="; ".join(dict.fromkeys(filter(None, errors))),
    )
    return [*(fact for answer in answers for fact in answer), told]


async def _answer(question: Callable[[], Awaitable[_Found]]) -> tuple[_Found, str]:
    """What a question gave, and why it gave nothing."""
    try:
        return await question(), ""
    except (KubeError, SshError) as error:
        return (), str(error)


def probes_of(
    samples: Iterable[Sample], times: Iterable[Sample], inventory: Inventory, spec: ClusterSpec, now: float
) -> list[DnsProbe]:
    """The DNS probes of the tenants' service addresses, by the address in the label `instance`; all others are somebody else's."""
    owners = {address: tenant.name for tenant in inventory.tenants for address in tenant.addresses}
    sampled = moments(times, now)
    series: dict[frozenset[tuple[str, str]], dict[str, float]] = defaultdict(dict)
    about: dict[str, dict[frozenset[tuple[str, str]], str]] = defaultdict(dict)
    for sample in samples:
        if (address := _address(str(sample.labels.get("instance", "")))) in owners and math.isfinite(sample.value):
            series[sample.series][text(sample.labels, "__name__")] = sample.value
            about[address][sample.series] = text(sample.labels, "zone", NAME)
    probes = []
    for address, zones in about.items():
        mine = [s for s in zones if {_SUCCESS, _ANSWERED} <= series[s].keys() and s in sampled]
        if not mine:
            continue
        told = [series[s] for s in mine]
        serials = {int(figures[_SERIAL]) for figures in told if _SERIAL in figures}
        names = {zones[s] for s in mine}
        probes.append(
            DnsProbe(
                node=spec.name,
                section=probe_section(address),
                at=min(sampled[s] for s in mine),
                tenant=owners[address],
                address=address,
                succeeded=all(figures[_SUCCESS] == 1 for figures in told),
                answered=all(figures[_ANSWERED] == 1 for figures in told),
                zone=names.pop() if len(names) == 1 else "",
                latency=max((figures[_LATENCY] for figures in told if _LATENCY in figures), default=None),
                serial=serials.pop() if len(serials) == 1 else None,
            )
        )
    return probes


def workload_query(spec: ClusterSpec, names: Iterable[str], form: str = "{}") -> str:
    """PromQL for series of kube-state-metrics about the tenants' namespaces and monitoring's.

    Where the scrape labels series with its own namespace, that of the workload is the label `exported_namespace`.
    """
    which = f'__name__=~"{"|".join(names)}"'
    spaces = "|".join(dict.fromkeys((*spec.namespaces.values(), spec.monitoring)))
    selectors = (
        f'{{{which},exported_namespace=~"{spaces}"}}',
        f'{{{which},exported_namespace="",namespace=~"{spaces}"}}',
    )
    return " or ".join(form.format(selector) for selector in selectors)


def workloads_of(samples: Iterable[Sample], times: Iterable[Sample], spec: ClusterSpec, now: float) -> list[Workload]:
    """The workloads of which both counts are known."""
    sampled = moments(times, now)
    wanted: dict[tuple[str, str, str], tuple[int, float]] = {}
    available: dict[tuple[str, str, str], int] = {}
    for sample in samples:
        metric = text(sample.labels, "__name__")
        label = _WANTED.get(metric) or _AVAILABLE.get(metric, "")
        where = (_namespace(sample.labels), label, text(sample.labels, label))
        if not label or not all(where) or not 0 <= sample.value < 1e6:
            continue
        if metric in _AVAILABLE:
            available[where] = int(sample.value)
        elif sample.series in sampled:
            wanted[where] = (int(sample.value), sampled[sample.series])
    return [
        Workload(
            node=spec.name,
            section=workload_section(f"{namespace}/{label}/{name}"),
            at=at,
            namespace=namespace,
            of=_KINDS[label],
            name=name,
            wanted=count,
            available=available[namespace, label, name],
        )
        for (namespace, label, name), (count, at) in wanted.items()
        if (namespace, label, name) in available
    ]


def _namespace(labels: Mapping[str, object]) -> str:
    return text(labels, "exported_namespace") or text(labels, "namespace")


def _address(target: str) -> str:
    """The address of a probe's target, with or without a port; "" if it is none."""
    match = _TARGET.fullmatch(target)
    try:
        return str(ip_address(next(filter(None, match.groups()), ""))) if match else ""
    except ValueError:
        return ""
