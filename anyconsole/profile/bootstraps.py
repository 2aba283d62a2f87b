"""Bare hosts that become clusters: what must hold between a [[bootstrap]], its cluster and the fleet's addresses."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import combinations
from typing import Final

from anyconsole.model.bootstrap import OPERATOR_NAMESPACE, Bootstrap
from anyconsole.model.inventory import ClusterSpec, Family, Inventory, family_of
from anyconsole.profile.report import Report, element, inside, nearest
from anyconsole.profile.rules import owner_of, unique

__all__ = ["check_bootstraps"]

_NETWORKS: Final = ("cluster_cidr", "service_cidr")

_LENGTHS: Final = {
    ("cluster_cidr", Family.IPV4): (8, 24),
    ("cluster_cidr", Family.IPV6): (48, 64),
    ("service_cidr", Family.IPV4): (8, 28),
    ("service_cidr", Family.IPV6): (108, 124),
}
"""Kubernetes' own limits: a node gets a /24 and a /64 out of the pods' networks, of which 16 bits may be left to count nodes with;
services are counted with 20 bits at most."""


def check_bootstraps(inventory: Inventory, where: list[str], report: Report) -> None:
    """Report what can't be right with the hosts that become clusters.

    Args:
        inventory: All parts.
        where: Key paths of the inventory's bootstraps.
        report: Takes what is wrong.
    """
    placed = list(zip(where, inventory.bootstraps, strict=True))
    unique(placed, "cluster", lambda one: one.cluster, report)
    for at, one in placed:
        _check_cluster(inventory, at, one, report)
        _check_origin(at, one, report)
        for key in ("node_ips", *_NETWORKS):
            _check_families(inside(at, key), getattr(one, key), report)
        _check_networks(inventory, at, one, report)
        for index, address in enumerate(one.node_ips):
            if owner := owner_of(inventory, address):
                problem = f'is in the announced prefix {owner[1]} of tenant "{owner[0].name}": a node has addresses of its own'
                report.add(element(inside(at, "node_ips"), index), problem, address)


def _check_cluster(inventory: Inventory, at: str, one: Bootstrap, report: Report) -> None:
    known = {cluster.name: cluster for cluster in inventory.clusters}
    cluster: ClusterSpec | None = known.get(one.cluster)
    if cluster is None:
        if one.cluster:
            report.add(inside(at, "cluster"), f"there is no such cluster, {nearest(one.cluster, known)}", one.cluster)
        return
    if not cluster.kubeconfig:
        problem = "has no `kubeconfig` of its own in the profile: it is where the one of the new cluster is put"
        report.add(inside(at, "cluster"), problem, one.cluster)
    operator = next((name for name in one.calico if name.endswith("tigera-operator.yaml")), None)
    if operator and cluster.calico != OPERATOR_NAMESPACE:
        problem = f'Calico\'s operator puts it into "{OPERATOR_NAMESPACE}": that is to be `calico` of the cluster too'
        report.add(inside(at, "calico"), problem, operator)
    nodes = [node.name for node in inventory.nodes if node.cluster == one.cluster]
    if one.node and one.node not in nodes:
        report.add(
            inside(at, "node"), f"there is no such node in cluster {one.cluster}, {nearest(one.node, nodes)}", one.node
        )


def _check_origin(at: str, one: Bootstrap, report: Report) -> None:
    """Everything from the bundle, or everything from the vendors: half of it would fail in the middle."""
    if one.bundle and one.installer.startswith("https:"):
        report.add(
            inside(at, "installer"), "with a bundle nothing is fetched: expected a file of this machine", one.installer
        )
    if not one.calico:
        report.add(inside(at, "calico"), "expected at least one of Calico's manifests")
    for index, name in enumerate(one.calico):
        if one.bundle and "/" in name:
            report.add(element(inside(at, "calico"), index), "expected the name of a file in the bundle", name)
        if not one.bundle and "/" not in name:
            problem = "expected an address that the host can fetch: there is no `bundle` that it could be in"
            report.add(element(inside(at, "calico"), index), problem, name)
    files = [name.rpartition("/")[2] for name in one.calico]
    unique([(element(inside(at, "calico"), i), name) for i, name in enumerate(files)], "value", str, report)


def _check_families(at: str, items: tuple[str, ...], report: Report) -> None:
    if sorted(family_of(item) for item in items) != [Family.IPV4, Family.IPV6]:
        report.add(at, "expected two, one of IPv4 and one of IPv6, that of the preferred family first", list(items))


def _check_networks(inventory: Inventory, at: str, one: Bootstrap, report: Report) -> None:
    first = [family_of(items[0]) for items in (one.node_ips, one.cluster_cidr, one.service_cidr) if items]
    if len(set(first)) > 1:
        report.add(
            inside(at, "node_ips"),
            "must begin with the same family as cluster_cidr and service_cidr",
            list(one.node_ips),
        )
    placed: list[tuple[str, IPv4Network | IPv6Network]] = []
    for key in _NETWORKS:
        for index, text in enumerate(getattr(one, key)):
            where, network = element(inside(at, key), index), ip_network(text)
            low, high = _LENGTHS[key, family_of(text)]
            if not low <= network.prefixlen <= high:
                report.add(where, f"expected a network from /{low} to /{high}", text)
            placed.append((where, network))
            for tenant in inventory.tenants:
                if taken := next((p for p in tenant.prefixes if _overlap(network, ip_network(p))), None):
                    report.add(where, f'overlaps the announced prefix {taken} of tenant "{tenant.name}"', text)
            if inner := next((a for a in one.node_ips if ip_address(a) in network), None):
                report.add(where, f"holds {inner}, an address of the node", text)
    for (_, first_one), (where, other) in combinations(placed, 2):
        if _overlap(first_one, other):
            report.add(where, f"overlaps {first_one}", str(other))


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)
