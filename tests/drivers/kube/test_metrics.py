"""DNS probes and workloads from a real Prometheus behind the API server's service proxy, with the age of its samples."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.metrics import probes_of, read_metrics, workload_query, workloads_of
from anyconsole.drivers.kube.objects import monitoring_objects
from anyconsole.drivers.kube.promql import Sample, proxy_path
from anyconsole.model.inventory import ClusterSpec, Inventory, Tenant
from anyconsole.model.metrics import DnsProbe, Metrics, Workload
from tests.drivers.kube.networks import no_tunnel
from tests.drivers.kube.stack import fleet
from tests.drivers.load.name_server import ZONE, serving
from tests.kube.apiserver import FakeCluster

NOW = 1_800_000_000.0
LOCAL = "127.0.0.1", "127.0.0.2"
SPEC = ClusterSpec(
    name="k3s", namespaces={"de": "de", "nic": "nic"}, prometheus="monitoring/prometheus:web", qps="anycast:qps"
)
INVENTORY = Inventory(
    name="t",
    clusters=(SPEC,),
    tenants=tuple(
        Tenant(name=name, number=number, prefixes=(), addresses=(address, f"2001:db8::{number}"), zones=(ZONE,))
        for number, (name, address) in enumerate(zip(("de", "nic"), LOCAL, strict=True), start=1)
    ),
)

STATE_METRICS = """\
kube_deployment_spec_replicas{namespace="de",deployment="ns-nsd"} 2
kube_deployment_status_replicas_available{namespace="de",deployment="ns-nsd"} 1
kube_deployment_spec_replicas{namespace="shop",deployment="web"} 9
kube_deployment_status_replicas_available{namespace="shop",deployment="web"} 0
kube_daemonset_status_desired_number_scheduled{namespace="monitoring",daemonset="node-exporter"} 2
kube_daemonset_status_number_available{namespace="monitoring",daemonset="node-exporter"} 2
kube_statefulset_replicas{namespace="monitoring",statefulset="prometheus"} 1
kube_statefulset_status_replicas_ready{namespace="monitoring",statefulset="prometheus"} 1
"""
"""As kube-state-metrics 2.16 words it; no Debian package has it."""


class Nowhere:
    """No pod is anywhere: rates are somebody else's test."""

    def on(self, namespace: str, pod: str) -> str:  # noqa: ARG002
        return ""

    def tenant_in(self, namespace: str) -> str:  # noqa: ARG002
        return ""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def running(folder: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    executable = shutil.which(program)
    assert executable, f"{program} is missing: scripts/install-debian"
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen([executable, *arguments], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def exposing(text: str) -> Iterator[int]:
    """A page of metrics."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def scraping(dns_port: int, blackbox: int, state: int) -> str:
    """What set-up gives Prometheus, with its targets here instead of in the cluster."""
    (made,) = [
        obj for obj in monitoring_objects(fleet(), fleet().clusters[0])
        if (obj["kind"], obj["metadata"]["name"]) == ("ConfigMap", "prometheus")
    ]  # fmt: skip
    config = yaml.safe_load(made["data"]["prometheus.yml"])
    pods, dns = config["scrape_configs"]
    config["global"]["scrape_interval"] = "500ms"
    static = {"targets": [f"127.0.0.1:{state}"], "labels": {"namespace": "monitoring", "pod": "kube-state-metrics-0"}}
    pods = {"job_name": pods["job_name"], "static_configs": [static]}
    dns["static_configs"] = [
        {**dns["static_configs"][0], "targets": [f"{address}:{dns_port}"]} for address in (*LOCAL, "127.0.0.3")
    ]
    dns["relabel_configs"][-1]["replacement"] = f"127.0.0.1:{blackbox}"
    dns["scrape_timeout"] = "400ms"
    return yaml.safe_dump({**config, "scrape_configs": [pods, dns]})


def probing() -> str:
    """What set-up gives blackbox-exporter, about the zone that is served here."""
    (made,) = [
        obj for obj in monitoring_objects(fleet(), fleet().clusters[0])
        if (obj["kind"], obj["metadata"]["name"]) == ("ConfigMap", "blackbox-exporter")
    ]  # fmt: skip
    return str(made["data"]["blackbox.yml"]).replace("example.de", ZONE)


@pytest.fixture
def monitored(tmp_path: Path) -> Iterator[ClusterSpec]:
    """A cluster whose Service monitoring/prometheus is a Prometheus that scrapes a blackbox-exporter which asks a name server."""
    web, blackbox = free_port(), free_port()
    with contextlib.ExitStack() as up:
        server = up.enter_context(serving(tmp_path))
        state = up.enter_context(exposing(STATE_METRICS))
        (tmp_path / "blackbox.yml").write_text(probing())
        (tmp_path / "prometheus.yml").write_text(scraping(server.port, blackbox, state))
        up.enter_context(
            running(
                tmp_path,
                "prometheus-blackbox-exporter",
                f"--config.file={tmp_path / 'blackbox.yml'}",
                f"--web.listen-address=127.0.0.1:{blackbox}",
            )
        )
        up.enter_context(
            running(
                tmp_path,
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{web}",
            )
        )
        cluster = up.enter_context(FakeCluster(nodes=1))
        cluster.scripts.services["monitoring", "prometheus", "web"] = f"http://127.0.0.1:{web}"
        yield msgspec.structs.replace(SPEC, kubeconfig=str(cluster.kubeconfig))


async def test_probes_and_workloads_come_from_a_real_prometheus_with_the_age_of_their_samples(
    monitored: ClusterSpec,
) -> None:
    async with KubeApi.open(monitored, no_tunnel) as api, asyncio.timeout(30):
        while True:
            *found, told = await read_metrics(api, INVENTORY, monitored, Nowhere())
            assert isinstance(told, Metrics)
            if told.probes == 2 and told.workloads == 3:
                break
            await asyncio.sleep(0.2)
    assert (told.error, told.rates) == ("", 0)
    probes = {fact.tenant: fact for fact in found if isinstance(fact, DnsProbe)}
    good, bad = probes["de"], probes["nic"]
    assert (good.address, good.succeeded, good.words, good.serial, good.zone) == (
        "127.0.0.1", True, "answers", 1, "example.de",
    )  # fmt: skip
    assert good.latency is not None
    assert 0 < good.latency < 0.4
    assert (bad.succeeded, bad.words, bad.serial) == (False, "no answer", None)
    # Sampled half a second ago at most, and never when it was asked for.
    assert all(0 < time.time() - probe.at < 5 for probe in probes.values())
    workloads = {(w.namespace, w.of, w.name): (w.wanted, w.available) for w in found if isinstance(w, Workload)}
    assert workloads == {
        ("de", "Deployment", "ns-nsd"): (2, 1),
        ("monitoring", "DaemonSet", "node-exporter"): (2, 2),
        ("monitoring", "StatefulSet", "prometheus"): (1, 1),
    }


async def test_a_prometheus_that_isnt_there_is_told_and_nothing_is_made_up() -> None:
    with FakeCluster(nodes=1) as cluster:
        spec = msgspec.structs.replace(SPEC, kubeconfig=str(cluster.kubeconfig))
        async with KubeApi.open(spec, no_tunnel) as api:
            (told,) = await read_metrics(api, INVENTORY, spec, Nowhere())
    assert isinstance(told, Metrics)
    assert "prometheus" in told.error
    assert (told.probes, told.workloads) == (0, 0)


def sample(name: str, value: float, **labels: str) -> Sample:
    return Sample({"__name__": name, **labels} if name else labels, NOW, value)


def probe(instance: str, *, success: float = 1, answered: float = 1, **labels: str) -> list[Sample]:
    figures = {"probe_success": success, "probe_dns_query_succeeded": answered, "probe_duration_seconds": 0.002}
    return [sample(name, value, instance=instance, **labels) for name, value in figures.items()]


def sampled(instance: str, ago: float = 10.0, **labels: str) -> Sample:
    return sample("", NOW - ago, instance=instance, **labels)


@pytest.mark.parametrize("instance", ["127.0.0.1:53", "127.0.0.1"])
def test_a_probe_is_told_by_the_address_it_asks(instance: str) -> None:
    (found,) = probes_of(probe(instance), [sampled(instance)], INVENTORY, SPEC, NOW + 100)
    assert (found.tenant, found.address, found.at, found.latency) == ("de", "127.0.0.1", NOW + 90, 0.002)


@pytest.mark.parametrize("instance", ["[2001:db8::2]:53", "2001:db8::2", "[2001:0db8:0::2]:853"])
def test_a_probe_of_an_ipv6_address_is_told_whatever_its_spelling(instance: str) -> None:
    (found,) = probes_of(probe(instance), [sampled(instance)], INVENTORY, SPEC, NOW)
    assert (found.tenant, found.address) == ("nic", "2001:db8::2")


def test_probes_of_others_and_of_other_kinds_say_nothing() -> None:
    ping = [s for s in probe("127.0.0.1") if s.labels["__name__"] != "probe_dns_query_succeeded"]
    strangers = [*probe("192.0.2.99:53"), *probe("ns.example.net:53"), *probe(""), *ping]
    assert probes_of(strangers, [sampled(str(s.labels["instance"])) for s in strangers], INVENTORY, SPEC, NOW) == []


def test_of_several_probes_of_an_address_the_worst_and_the_oldest_counts() -> None:
    where = "127.0.0.1:53"
    samples = [*probe(where, module="udp", zone="a"), *probe(where, success=0, module="tcp", zone="b")]
    times = [sampled(where, 3.0, module="udp", zone="a"), sampled(where, 40.0, module="tcp", zone="b")]
    (found,) = probes_of(samples, times, INVENTORY, SPEC, NOW)
    assert (found.succeeded, found.words, found.at, found.zone) == (False, "wrong answer", NOW - 40, "")


def test_a_sample_without_a_time_is_no_evidence() -> None:
    assert probes_of(probe("127.0.0.1"), [], INVENTORY, SPEC, NOW) == []
    wanted = sample("kube_deployment_spec_replicas", 2, namespace="de", deployment="ns")
    available = sample("kube_deployment_status_replicas_available", 2, namespace="de", deployment="ns")
    assert workloads_of([wanted, available], [], SPEC, NOW) == []
    assert workloads_of([wanted], [sample("", NOW, namespace="de", deployment="ns")], SPEC, NOW) == []


def test_a_namespace_that_the_scrape_renamed_is_the_workloads_own() -> None:
    labels = {"namespace": "monitoring", "exported_namespace": "de", "deployment": "ns"}
    samples = [
        sample("kube_deployment_spec_replicas", 2, **labels),
        sample("kube_deployment_status_replicas_available", 1, **labels),
    ]
    (found,) = workloads_of(samples, [sample("", NOW - 7, **labels)], SPEC, NOW)
    assert (found.namespace, found.wanted, found.available, found.at) == ("de", 2, 1, NOW - 7)
    assert workload_query(SPEC, ["a", "b"]).count('__name__=~"a|b"') == 2


LABELS = st.dictionaries(
    st.sampled_from(["__name__", "instance", "namespace", "exported_namespace", "deployment", "zone"]),
    st.sampled_from(["probe_success", "probe_dns_query_succeeded", "kube_deployment_spec_replicas", "127.0.0.1", "de"])
    | st.text("0.:[]eKd", max_size=8)
    | st.integers(),
)
SAMPLES = st.lists(st.builds(Sample, LABELS, st.floats(), st.floats()), max_size=6)


@given(SAMPLES, SAMPLES)
def test_whatever_series_say_they_are_read_or_left_alone(samples: list[Sample], times: list[Any]) -> None:
    for found in (*probes_of(samples, times, INVENTORY, SPEC, NOW), *workloads_of(samples, times, SPEC, NOW)):
        assert found.at <= NOW


def test_a_service_that_is_none_is_named() -> None:
    with pytest.raises(KubeError, match="expected NAMESPACE/SERVICE:PORT"):
        proxy_path("prometheus", "/")
