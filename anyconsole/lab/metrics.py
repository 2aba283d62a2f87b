"""Prometheus inside the lab: what is scraped where, and the recording rule that the console reads queries per second from."""

from __future__ import annotations

import json

from anyconsole.lab.nameservers import chroot_of, instance
from anyconsole.lab.topology import TENANTS, Node

__all__ = ["QPS_QUERY", "collector_config", "prometheus_files"]

QPS_QUERY = "anycast:qps"
"""One series per instance, with the labels node and tenant."""

TEXTFILES = "/run/node-exporter"
NODE_EXPORTER_PORT = 9100
BIRD_EXPORTER_PORT = 9324


def collector_config(node: Node) -> str:
    """Configuration of collector.py on a node."""
    controls = {}
    for tenant in TENANTS:
        control = instance(node, tenant).profile["control"]
        controls[tenant.name] = control.replace("{chroot}", chroot_of(tenant)).replace(
            "{number:02}", f"{tenant.number:02}"
        )
    return json.dumps({"kind": node.name_server, "target": f"{TEXTFILES}/anycast.prom", "controls": controls})


def prometheus_files(nodes: tuple[Node, ...]) -> dict[str, str]:
    """Files of /etc/prometheus on the Prometheus host, which scrapes these nodes."""
    jobs = [
        _job("node", NODE_EXPORTER_PORT, nodes),
        _job("bird", BIRD_EXPORTER_PORT, [n for n in nodes if n.speaker == "bird"]),
    ]
    return {
        "prometheus.yml": "global:\n  scrape_interval: 2s\n  evaluation_interval: 2s\n"
        "rule_files: [/etc/prometheus/rules.yml]\nscrape_configs:\n" + "".join(jobs),
        "rules.yml": "groups:\n- name: anycast\n  interval: 2s\n  rules:\n"
        f"  - record: {QPS_QUERY}\n    expr: sum by (node, tenant) (rate(anycast_queries_total[10s]))\n",
    }


def _job(name: str, port: int, nodes: tuple[Node, ...] | list[Node]) -> str:
    lines = [f"- job_name: {name}", "  static_configs:"]
    for node in nodes:
        lines += [f"  - targets: ['{node.name}:{port}']", f"    labels: {{node: {node.name}, site: {node.site}}}"]
    return "\n".join(lines) + "\n"
