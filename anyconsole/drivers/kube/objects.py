"""The objects that set-up makes in a cluster, in the order in which they are applied: those of a tenant, of all tenants, of monitoring.

Pure: from the profile and the templates. Every object carries owner labels, the set it belongs to, and a hash of what was rendered; what
has no owner label of ours isn't ours. TSIG keys are in none of them: `filled` puts one into its Secret as it is applied, and where the
profile names no source of a key, `key_secret` says what must be in the Secret that somebody else makes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from ipaddress import ip_address
from typing import Any, Final

import msgspec

from anyconsole.drivers.kube.calico import KINDS as CALICO_KINDS
from anyconsole.drivers.kube.calico import MANAGED_BY, OWNER, CalicoApi, speaker_of
from anyconsole.drivers.kube.daemons import DAEMONS, listening
from anyconsole.drivers.kube.render import Object, RenderError, render
from anyconsole.drivers.kube.script import Call, Verb
from anyconsole.drivers.tsig import TsigKey
from anyconsole.model.inventory import (
    ClusterSpec,
    Inventory,
    MonitoringPart,
    NameServerKind,
    NodeSpec,
    StackTenant,
    Tenant,
)

__all__ = [
    "HASH",
    "INSTANCE_LABEL",
    "KEY_HASH",
    "SET_LABEL",
    "TENANT_LABEL",
    "KeySecret",
    "calico_objects",
    "calls",
    "cluster_objects",
    "collection_of",
    "collections_in",
    "filled",
    "holds_key",
    "key_secret",
    "monitoring_objects",
    "named",
    "path_of",
    "tenant_objects",
    "tenants_of",
]

SET_LABEL: Final = "anyconsole.io/set"
"""Which set of objects one belongs to: "cluster", "calico", "monitoring", "tenant-de"."""
TENANT_LABEL: Final = "anyconsole.io/tenant"
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"
HASH: Final = "anyconsole.io/rendered"
"""The annotation with a hash of the object as it was rendered."""

KEY_HASH: Final = "anyconsole.io/key"
"""The annotation of a Secret of ours that tells the TSIG key in it from another."""

_KINDS: Final[Mapping[tuple[str, str], tuple[str, bool]]] = {
    ("v1", "Namespace"): ("namespaces", False),
    ("v1", "ResourceQuota"): ("resourcequotas", True),
    ("v1", "LimitRange"): ("limitranges", True),
    ("v1", "ServiceAccount"): ("serviceaccounts", True),
    ("v1", "ConfigMap"): ("configmaps", True),
    ("v1", "Service"): ("services", True),
    ("v1", "Secret"): ("secrets", True),
    ("networking.k8s.io/v1", "NetworkPolicy"): ("networkpolicies", True),
    ("policy/v1", "PodDisruptionBudget"): ("poddisruptionbudgets", True),
    ("apps/v1", "Deployment"): ("deployments", True),
    ("apps/v1", "DaemonSet"): ("daemonsets", True),
    ("apps/v1", "StatefulSet"): ("statefulsets", True),
    ("scheduling.k8s.io/v1", "PriorityClass"): ("priorityclasses", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): ("clusterroles", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): ("clusterrolebindings", False),
    ("rbac.authorization.k8s.io/v1", "Role"): ("roles", True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): ("rolebindings", True),
}
"""The kinds that are rendered: their names in paths, and whether they are in a namespace."""

_GOING: Final = ("services", "deployments", "daemonsets", "statefulsets", "poddisruptionbudgets")
"""What goes first when something is taken away: without its Service a tenant is announced no more."""

_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SIDE_CPU, _SIDE_MEMORY = 40, 128
"""What observer and exporter request beside the name server: thousandths of a core, and MiB."""


# Objects


def tenants_of(inventory: Inventory, cluster: ClusterSpec) -> tuple[Tenant, ...]:
    """The tenants that have a name server on a node of a cluster."""
    here = {instance.tenant for node in inventory.nodes if node.cluster == cluster.name for instance in node.instances}
    return tuple(tenant for tenant in inventory.tenants if tenant.name in here)


def tenant_objects(
    inventory: Inventory, cluster: ClusterSpec, tenant: Tenant, key_hash: str = ""
) -> tuple[Object, ...]:
    """A tenant on a cluster, the namespace first. Raises RenderError if the profile doesn't say enough.

    With the fingerprint of its TSIG key the Secret is among them, without what it holds; another key makes new pods.
    """
    stack = inventory.stack
    here = _nodes_by_kind(inventory, cluster, tenant)
    known = _stack_tenant(inventory, tenant)
    if not _LABEL_VALUE.fullmatch(tenant.name):
        raise RenderError(
            f"tenant {tenant.name}: begins or ends with what no Kubernetes label may, and is one in a cluster"
        )
    set_id = f"tenant-{tenant.name}"
    families = list(dict.fromkeys(_ip_family(address) for address in tenant.addresses))
    values: dict[str, Any] = {
        "namespace": cluster.namespaces.get(tenant.name, tenant.name),
        "tenant": tenant.name,
        "set": set_id,
        "monitoring": cluster.monitoring,
        "addresses": list(tenant.addresses),
        "addresses_text": " ".join(tenant.addresses),
        "zones_text": " ".join(_ascii(zone) for zone in tenant.zones),
        "zones": [{"name": _ascii(zone), "file": _ascii(zone).replace("/", "_") + ".zone"} for zone in tenant.zones],
        "primaries": [
            {"address": address, "cidr": _host_prefix(address), "number": number}
            for number, address in enumerate(known.primaries, start=1)
        ],
        "primaries_text": " ".join(known.primaries),
        "tsig": [known.tsig_secret] if known.tsig_secret else [],
        "secret": known.tsig_secret,
        "key_hash": key_hash,
        "ip_families": families,
        "ip_family_policy": "RequireDualStack" if len(families) == 2 else "SingleStack",
        "python_image": stack.python,
        "cpu": stack.cpu,
        "memory": stack.memory,
        "soa_lag": str(stack.soa_lag),
        "configure_program": _program("configure"),
        "observer_program": _program("observer"),
        # Each workload that is renewed has one pod that ends beside its successor.
        **_quota(stack.cpu, stack.memory, sum(len(nodes) for nodes in here.values()) + len(here)),
        **listening(known, tenant),
    }
    objects = [*render("namespace", values), *render("network-policies", values), *render("programs", values)]
    objects += render("key", values) if key_hash else []
    workloads: list[Object] = []
    for kind, nodes in here.items():
        config = render(kind, values | {"nodes_text": "".join(f"{n.address} {n.name}\n" for n in nodes)})
        objects += config
        workloads += render("name-server", values | _workload(inventory, kind, nodes, config, values))
    return _owned([*objects, *render("service", values), *workloads], set_id, tenant.name)


def cluster_objects(inventory: Inventory, cluster: ClusterSpec) -> tuple[Object, ...]:
    """What all tenants of a cluster share: namespace, priority, roles, and the account of the dead-man."""
    known = [inventory.stack.tenant(tenant.name) for tenant in tenants_of(inventory, cluster)]
    secrets = sorted({tenant.tsig_secret for tenant in known if tenant is not None and tenant.tsig_source})
    keys = render("key-role", {"secrets": secrets}) if secrets else []
    return _owned([*render("cluster", {}), *render("roles", {}), *keys], "cluster")


def calico_objects(inventory: Inventory, cluster: ClusterSpec, api: CalicoApi) -> tuple[Object, ...]:
    """What Calico has to know: the service addresses it may announce, and the sessions, if set-up is to make them.

    The first one, BGPConfiguration "default", is everybody's: it has no owner labels, and is changed by `addresses` only.
    """
    addresses = [_host_prefix(a) for tenant in tenants_of(inventory, cluster) for a in tenant.addresses]
    shared = render("calico", {"calico_version": api.group_version, "external_ips": addresses})
    peers: list[Object] = []
    for node in inventory.nodes if inventory.stack.bgp_peers else ():
        speaker = speaker_of(node) if node.cluster == cluster.name else None
        for session in speaker.sessions if speaker else ():
            peers += render(
                "bgp-peer",
                {
                    "calico_version": api.group_version,
                    "peer_name": f"anyconsole.{node.address}.{session.name.lower().replace(':', '-').strip('-')}",
                    "peer_node": node.address,
                    "peer_address": session.name,
                    "peer_asn": inventory.peer(session.peer).asn,
                },
            )
    return (*shared, *_owned(peers, "calico"))


def monitoring_objects(inventory: Inventory, cluster: ClusterSpec) -> tuple[Object, ...]:
    """Monitoring on a cluster: the parts for which an image is named; none if there is none."""
    images = inventory.stack.monitoring
    if not images:
        return ()
    tenants = tenants_of(inventory, cluster)
    values: dict[str, Any] = {
        "namespace": cluster.monitoring,
        "targets": [
            {"address": address, "bracketed": f"[{address}]" if ":" in address else address, "zone": _ascii(tenant.zones[0]),
             "module": f"dns_{tenant.name}", "tenant": tenant.name}
            for tenant in tenants if tenant.zones for address in tenant.addresses
        ],
        "modules": [
            {"name": f"dns_{tenant.name}", "zone": _ascii(tenant.zones[0])} for tenant in tenants if tenant.zones
        ],
        "namespaces": [cluster.namespaces.get(tenant.name, tenant.name) for tenant in tenants],
    }  # fmt: skip
    objects = render("monitoring", values)
    for part in MonitoringPart:
        if part in images:
            objects += render(part, values | {"image": images[part]})
    return _owned(objects, "monitoring")


# What is done with them


def named(obj: Object) -> tuple[str, str, str]:
    """Kind, namespace ("" if it is in none) and name."""
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace", ""), metadata["name"]


def path_of(obj: Object) -> str:
    """The path of an object in the API."""
    return f"{collection_of(obj)}/{obj['metadata']['name']}"


def collection_of(obj: Object) -> str:
    """The path of the collection that an object is in."""
    version, kind = obj["apiVersion"], obj["kind"]
    if kind in CALICO_KINDS:
        return CalicoApi(version).path(kind)
    plural, namespaced = _KINDS[version, kind]
    group = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    return f"{group}/namespaces/{obj['metadata']['namespace']}/{plural}" if namespaced else f"{group}/{plural}"


def calls(objects: Iterable[Object]) -> list[Call]:
    """The calls that apply objects which are ours."""
    return [Call(verb=Verb.APPLY, path=path_of(obj), body=obj) for obj in objects]


def collections_in(namespace: str) -> list[str]:
    """The collections of a tenant's or monitoring's namespace with objects of ours, in the order in which they are taken away."""
    # Roles aren't for tenants, and whoever sets those up may not look at them; nor may anybody list Secrets.
    wanted = [
        (key, plural)
        for key, (plural, namespaced) in _KINDS.items()
        if namespaced and "rbac" not in key[0] and key[1] != "Secret"
    ]
    wanted.sort(key=lambda kind: _GOING.index(kind[1]) if kind[1] in _GOING else len(_GOING))
    return [collection_of({"apiVersion": v, "kind": k, "metadata": {"namespace": namespace}}) for (v, k), _ in wanted]


def holds_key(obj: Object | None) -> bool:
    """Whether an object is a Secret that set-up makes of a TSIG key."""
    return obj is not None and obj.get("kind") == "Secret" and KEY_HASH in (obj["metadata"].get("annotations") or {})


def filled(call: Call, key: TsigKey) -> Call:
    """A call that applies the Secret of a key, with the key in it: to be sent, and to be kept nowhere. Others as they are."""
    if call.verb is not Verb.APPLY or call.body is None or not holds_key(call.body):
        return call
    return msgspec.structs.replace(call, body={**call.body, "data": key.data()})


class KeySecret(msgspec.Struct, frozen=True):
    """The Secret that must hold a tenant's TSIG key: its path, what to do if it is missing, and where set-up reads the key.

    Without a `source` somebody else makes it.
    """

    path: str
    advice: str
    source: str = ""


def key_secret(inventory: Inventory, cluster: ClusterSpec, tenant: Tenant) -> KeySecret | None:
    """The Secret with the TSIG key of a tenant, None if it has none.

    That one which somebody else makes is missing is told by the events of the pods that wait for it: our roles let nobody look.
    """
    known = inventory.stack.tenant(tenant.name)
    if known is None or not known.tsig_secret:
        return None
    namespace, name = cluster.namespaces.get(tenant.name, tenant.name), known.tsig_secret
    advice = (
        f"the Secret {name} in {namespace} is missing, the pods wait for it: kubectl -n {namespace} create secret generic {name} "
        "--from-literal=name=KEY-NAME --from-literal=algorithm=hmac-sha256 --from-file=secret=FILE"
    )
    return KeySecret(f"/api/v1/namespaces/{namespace}/secrets/{name}", advice, known.tsig_source)


# Values


def _nodes_by_kind(inventory: Inventory, cluster: ClusterSpec, tenant: Tenant) -> dict[NameServerKind, list[NodeSpec]]:
    here: dict[NameServerKind, list[NodeSpec]] = {}
    for node in inventory.nodes:
        kinds = {i.kind for i in node.instances if i.tenant == tenant.name} if node.cluster == cluster.name else set()
        for kind in sorted(kinds):
            if kind not in list(NameServerKind):
                raise RenderError(f"node {node.name}: there is no template for name servers of kind {kind}")
            here.setdefault(NameServerKind(kind), []).append(node)
    if not here:
        raise RenderError(f"tenant {tenant.name} has no name server on a node of cluster {cluster.name}")
    return dict(sorted(here.items()))


def _stack_tenant(inventory: Inventory, tenant: Tenant) -> StackTenant:
    known = inventory.stack.tenant(tenant.name)
    if known is None:
        raise RenderError(f"tenant {tenant.name} has no primaries: the profile needs a [[stack.tenant]] for it")
    return known


def _workload(
    inventory: Inventory, kind: NameServerKind, nodes: list[NodeSpec], config: list[Object], values: dict[str, Any]
) -> dict[str, Any]:
    stack, daemon = inventory.stack, DAEMONS[kind]
    if kind not in stack.images:
        raise RenderError(f'there is no image for name servers of kind {kind}: stack.images = {{ {kind} = "..." }}')
    exporter = stack.exporters.get(kind, "")
    # The nodes' names aren't part of it: a node more is no reason to restart the others.
    effective = [config[0]["data"][daemon.config], values["configure_program"], values["observer_program"]]
    effective += filter(None, [values["key_hash"]])
    return {
        "kind": str(kind),
        "replicas": len(nodes),
        "nodes": [node.address for node in nodes],
        "image": stack.images[kind],
        "command": list(daemon.command),
        "config_file": daemon.config,
        "exporter": [{"image": exporter, "args": list(daemon.exporter), "port": daemon.exporter_port}]
        if exporter
        else [],
        "configuration_hash": _hash(effective),
    }


def _quota(cpu: str, memory: str, pods: int) -> dict[str, str]:
    """Room for so many pods."""
    millis = int(cpu[:-1]) if cpu.endswith("m") else int(cpu) * 1000
    mebis = int(memory[:-2]) * (1024 if memory.endswith("Gi") else 1)
    return {
        "quota_pods": str(pods),
        "quota_cpu": f"{(millis + _SIDE_CPU) * pods}m",
        "quota_memory": f"{(mebis + _SIDE_MEMORY) * pods}Mi",
    }


def _owned(objects: Iterable[Object], set_id: str, tenant: str = "") -> tuple[Object, ...]:
    """The objects with the labels that say whose they are, and the hash of what was rendered."""
    owner = {MANAGED_BY: OWNER, SET_LABEL: set_id}
    if tenant:
        owner |= {INSTANCE_LABEL: tenant, TENANT_LABEL: tenant}
    owned = []
    for obj in objects:
        metadata = obj["metadata"]
        labels = {**metadata.get("labels", {}), **owner}
        annotations = {**metadata.get("annotations", {}), HASH: _hash(obj)}
        owned.append({**obj, "metadata": {**metadata, "labels": labels, "annotations": annotations}})
    return tuple(owned)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _program(name: str) -> str:
    return (files("anyconsole.drivers.kube") / f"{name}.py").read_text(encoding="utf-8")


def _ascii(zone: str) -> str:
    """A zone's name as it is written in configurations: without the last dot, but for the root."""
    return zone.rstrip(".") or "."


def _host_prefix(address: str) -> str:
    return f"{address}/{ip_address(address).max_prefixlen}"


def _ip_family(address: str) -> str:
    return f"IPv{ip_address(address).version}"
