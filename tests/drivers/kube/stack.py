"""A profile with two nodes in a cluster, on which the tests of set-up, rendering and pods render their objects."""

from __future__ import annotations

from pathlib import Path

from anyconsole.model.inventory import Inventory
from anyconsole.profile.load import parse_profile

TEXT = """\
[profile]
name = "virtual"
[[site]]
name = "fra"
[[interconnect]]
name = "ix1"
kind = "ixp"
  [[interconnect.peer]]
  name = "rs1"
  asn = 64611
  numbers = { ipv4 = 11, ipv6 = 12 }
[[tenant]]
name = "de"
number = 1
prefixes = ["192.0.2.0/24", "2001:db8:de::/48"]
addresses = ["192.0.2.53", "2001:db8:de::53"]
zones = ["example.de", "4/25.2.0.192.in-addr.arpa"]
[[tenant]]
name = "nic"
number = 2
prefixes = ["198.51.100.0/24"]
addresses = ["198.51.100.53"]
zones = ["nic.example"]
[[tenant]]
name = "enum"
number = 3
prefixes = ["2001:db8:e164::/48"]
addresses = ["2001:db8:e164::53"]
zones = ["9.4.e164.example"]
[stack]
images = { nsd = "registry.example.net/nsd:4.12.0" }
exporters = { nsd = "registry.example.net/nsd-exporter:1.0", knot = "registry.example.net/knot-exporter:3.5" }
bgp_peers = true
  [stack.monitoring]
  prometheus = "quay.io/prometheus/prometheus:v3.5.0"
  node-exporter = "quay.io/prometheus/node-exporter:v1.9.1"
  blackbox-exporter = "quay.io/prometheus/blackbox-exporter:v0.27.0"
  kube-state-metrics = "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.16.0"
  filebeat = "docker.elastic.co/beats/filebeat:9.1.0"
  nginx = "docker.io/library/nginx:1.29"
  [[stack.tenant]]
  tenant = "de"
  primaries = ["198.18.8.1", "2001:db8:ffff:8::1"]
  tsig_secret = "tsig"
  [[stack.tenant]]
  tenant = "nic"
  primaries = ["198.18.8.1"]
  [[stack.tenant]]
  tenant = "enum"
  primaries = ["2001:db8:ffff:8::1"]
[[cluster]]
name = "k3s"
[template.pods]
cluster = "k3s"
  [[template.pods.speaker]]
  kind = "calico"
    [[template.pods.speaker.session]]
    name = "198.18.20.1"
    peer = "rs1"
    family = "ipv4"
    [[template.pods.speaker.session]]
    name = "2001:db8:20::1"
    peer = "rs1"
    family = "ipv6"
  [[template.pods.name_server]]
  kind = "nsd"
  tenants = ["de"]
  [[template.pods.name_server]]
  kind = "knot"
  tenants = ["nic"]
  [[template.pods.name_server]]
  kind = "bind"
  tenants = ["enum"]
[[node]]
name = "hv1"
site = "fra"
template = "pods"
address = "node-1"
[[node]]
name = "hv2"
site = "fra"
template = "pods"
address = "node-2"
"""


def fleet(*changes: tuple[str, str]) -> Inventory:
    """The profile, with pieces of its text replaced."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_profile(text, Path("virtual.toml"))
