"""What the Prometheus in a cluster tells besides queries per second: frozen facts under the cluster's name.

Each has a section of its own, because each sample has a time of its own; "prometheus" is the asking itself.
"""

from __future__ import annotations

from typing import ClassVar, Final

from anyconsole.model.fact import Fact, Key
from anyconsole.model.inventory import Family

__all__ = ["ANSWERS", "SCRAPED_EVERY", "DnsProbe", "Metrics", "Workload", "probe_section", "workload_section"]

ANSWERS: Final = "answers"
"""What becomes of a DNS probe when all is well."""
SCRAPED_EVERY: Final = 60.0
"""Seconds between two samples of a series, as Prometheus does it unless told otherwise."""


def probe_section(address: str) -> str:
    """The section of the probe of an address."""
    return f"blackbox:{address}"


def workload_section(what: str) -> str:
    """The section of a workload."""
    return f"workload:{what}"


class Metrics(Fact, frozen=True, kw_only=True, tag="metrics"):
    """What of ours the Prometheus of a cluster had: instances with a rate, DNS probes, workloads. `error` says what it didn't answer."""

    kind: ClassVar[str] = "metrics"

    rates: int = 0
    probes: int = 0
    workloads: int = 0
    error: str = ""


class DnsProbe(Fact, frozen=True, kw_only=True, tag="dns_probe"):
    """What blackbox-exporter saw when it asked a service address over DNS from inside the cluster: the nearest instance, not each.

    `answered`: something came back; `succeeded`: it was what the probe expects. `latency` in seconds. `zone` is a label of the series,
    `serial` None where it isn't told or several probes of the address differ. Of several the worst counts.
    """

    kind: ClassVar[str] = "dns_probe"

    tenant: str
    address: str
    succeeded: bool
    answered: bool
    zone: str = ""
    latency: float | None = None
    serial: int | None = None

    @property
    def key(self) -> Key:
        """One per cluster and address."""
        return (self.kind, self.node, self.address)

    @property
    def family(self) -> Family:
        """Family of the address asked."""
        return Family.IPV6 if ":" in self.address else Family.IPV4

    @property
    def words(self) -> str:
        """What became of the question."""
        return ANSWERS if self.succeeded else "wrong answer" if self.answered else "no answer"


class Workload(Fact, frozen=True, kw_only=True, tag="workload"):
    """How many pods a workload (`of` Deployment, StatefulSet, DaemonSet) wants and has available, as kube-state-metrics counts them.

    A pod that nobody could make is in no list of pods: here it is missing.
    """

    kind: ClassVar[str] = "workload"

    namespace: str
    of: str
    name: str
    wanted: int
    available: int

    @property
    def key(self) -> Key:
        """One per cluster, namespace, kind and name."""
        return (self.kind, self.node, self.namespace, f"{self.of}/{self.name}")
