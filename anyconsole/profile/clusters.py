"""Clusters of a profile, and what is different for what is in one: no SSH, hence no login and no paths, and no speaker but Calico."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address

from anyconsole.model.inventory import ClusterSpec, Family, Peer, SoftRecipe, Stack, Tenant
from anyconsole.profile import values
from anyconsole.profile.placeholders import fill_text
from anyconsole.profile.read import Row, build
from anyconsole.profile.report import Report, inside, nearest
from anyconsole.profile.schema import ARRAYS
from anyconsole.profile.toml_text import shown

__all__ = ["CALICO", "check_calico", "check_calico_session", "check_pod", "place_in_cluster", "read_cluster"]

CALICO = "calico"

_OF_A_HOST = ("user", "jump")
_OF_A_DAEMON = ("socket", "drain_file", "log")
_OF_A_PROCESS = ("control", "chroot", "pid_file", "user", "log", "config")


def read_cluster(row: Row, tenants: Mapping[str, Tenant], report: Report) -> ClusterSpec:
    """The cluster of a row, with a namespace for each tenant.

    Args:
        row: What stands in the profile.
        tenants: All tenants by name.
        report: Takes what is wrong.
    """
    pattern = row.values.pop("namespace", "{tenant}")
    named: dict[str, str] = row.values.pop("namespaces", {})
    cluster = build(row, ARRAYS["cluster"], ClusterSpec, namespaces={})
    for name in sorted(named.keys() - tenants.keys()):
        at = inside(inside(row.where, "namespaces"), name)
        report.add(at, f"there is no such tenant, {nearest(name, tenants)}", named[name])
    taken = {cluster.monitoring: "that of monitoring", cluster.calico: "that of Calico"}
    namespaces: dict[str, str] = {}
    for tenant in tenants.values():
        if tenant.name in named:
            at, value = inside(inside(row.where, "namespaces"), tenant.name), named[tenant.name]
            namespace, says = value, ""
        else:
            at, value = inside(row.where, "namespace"), pattern
            namespace = fill_text(pattern, {"tenant": tenant.name, "number": tenant.number}, at, report)
            says = f'is {shown(namespace)} for tenant "{tenant.name}": '
        if problem := _wrong_namespace(namespace, taken):
            report.add(at, says + problem, value)
        taken.setdefault(namespace, f'that of tenant "{tenant.name}"')
        namespaces[tenant.name] = namespace
    if cluster.prometheus and not cluster.qps:
        report.add(inside(row.where, "qps"), "is missing: what is prometheus asked?")
    if cluster.qps and not cluster.prometheus:
        report.add(inside(row.where, "prometheus"), "is missing: where is qps asked?")
    return build(row, ARRAYS["cluster"], ClusterSpec, namespaces=namespaces)


def _wrong_namespace(namespace: str, taken: Mapping[str, str]) -> str:
    """Why a tenant can't have this namespace, "" if it can."""
    if namespace in taken:
        return f"is {taken[namespace]} too: each tenant has one of its own, see `namespace` and `namespaces`"
    if namespace.startswith("kube-"):
        return "is one of those that Kubernetes keeps for itself"
    try:
        values.namespace(namespace)
    except ValueError as error:
        return f"{error}; name another one in `namespaces`"
    return ""


def place_in_cluster(row: Row, name: str, at: Callable[[str], str], clusters: tuple[str, ...], report: Report) -> None:
    """Check the keys of a node that are different in a cluster, and make it virtual.

    Args:
        row: What was read of the node; is completed.
        name: The node's.
        at: Where a key of the node stands: in itself or in its template.
        clusters: The names of all clusters.
        report: Takes what is wrong.
    """
    cluster = row.values.get("cluster", "")
    if cluster and cluster not in clusters:
        report.add(at("cluster"), f"there is no such cluster, {nearest(cluster, clusters)}", cluster)
    if row.values.get("stack") is Stack.BARE:
        report.add(at("stack"), 'a node in a cluster is "virtual", and that by itself: leave it out', Stack.BARE)
    row.values["stack"] = Stack.VIRTUAL
    for key in _OF_A_HOST:
        # An empty one takes back what a template says.
        if value := row.values.pop(key, None):
            report.add(at(key), "there is no SSH to a node in a cluster; a [[cluster]] may have a jump chain", value)
    if "address" in row.values:
        where, address, says = at("address"), row.values["address"], ""
    else:
        where, address, says = at("name"), name, "without an `address` it is what Kubernetes calls the node: "
    try:
        values.or_empty(values.kube_node)(address)
    except ValueError as error:
        report.add(where, f"{says}{error}", address)


def check_calico(row: Row, report: Report) -> None:
    """Report what a speaker says that one in a cluster can't."""
    kind = row.values.get("kind", CALICO)
    if kind != CALICO:
        report.add(inside(row.where, "kind"), f'expected "{CALICO}", the only speaker of a node in a cluster', kind)
        return
    for key in _OF_A_DAEMON:
        if value := row.values.get(key):
            report.add(
                inside(row.where, key), "Calico has none: it is read and changed through the cluster's API", value
            )


def check_calico_session(where: str, address: str, family: Family, peer: Peer, report: Report) -> None:
    """Report what can't be right with a session of Calico, which is named by its peer's address and only carries that one's family."""
    try:
        version = ip_address(values.canonical_address(address)).version
    except ValueError:
        report.add(inside(where, "name"), "expected the peer's address: Calico's sessions have no names", address)
    else:
        if (version == 6) is not (family is Family.IPV6):
            problem = "Calico announces a family only to peers with an address of that family"
            report.add(inside(where, "family"), problem, family)
    if set(peer.soft) == {SoftRecipe.MED}:
        problem = (
            f'its only way to de-prefer is "{SoftRecipe.MED}", which Calico can\'t set: add gshut, community or prepend'
        )
        report.add(inside(where, "peer"), problem, peer.name)


def check_pod(row: Row, report: Report) -> None:
    """Report what a name server in a cluster says that only one on a host can."""
    for key in _OF_A_PROCESS:
        if value := row.values.get(key):
            report.add(
                inside(row.where, key), "a name server in a cluster is a pod: it has no login and no paths", value
            )
