"""What a fresh cluster holds: its namespaces, the roles that everybody has, nodes when they are wanted, Calico's resources."""

from __future__ import annotations

from tests.kube.apiserver import calico
from tests.kube.apiserver.api import Api, How, Place
from tests.kube.apiserver.objects import Object, now

_MANAGER = How("kube-apiserver")
_RBAC = "rbac.authorization.k8s.io/v1"


def seed(api: Api, calico_group: tuple[str, str] | None) -> None:
    """Fill an empty store."""
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        api.create(Place(api.catalogue.named("namespaces")), {"metadata": {"name": name}}, _MANAGER)
    for name, rules in _ROLES.items():
        role = {"apiVersion": _RBAC, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
        api.create(Place(api.catalogue.named("clusterroles")), role, _MANAGER)
    for name, subject in (
        ("cluster-admin", "system:masters"),
        ("system:basic-user", "system:authenticated"),
        ("system:discovery", "system:authenticated"),
        ("system:public-info-viewer", "system:unauthenticated"),
    ):
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": subject}],
        }
        api.create(Place(api.catalogue.named("clusterrolebindings")), binding, _MANAGER)
    for definition in calico.definitions(*calico_group) if calico_group else ():
        api.create(Place(api.catalogue.named("customresourcedefinitions")), definition, _MANAGER)


def add_node(api: Api, name: str, addresses: tuple[str, ...], labels: dict[str, str]) -> Object:
    """A ready node."""
    known = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    node = {"metadata": {"name": name, "labels": known | labels}, "spec": {}}
    place = Place(api.catalogue.named("nodes"), name=name)
    created = api.create(place, node, _MANAGER)
    status: Object = {
        "addresses": [{"type": "InternalIP", "address": a} for a in addresses] + [{"type": "Hostname", "address": name}]
    }
    status["conditions"] = [
        _condition(kind, kind == "Ready") for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    ]
    status["nodeInfo"] = {
        "kubeletVersion": "v1.36.2",
        "containerRuntimeVersion": "containerd://2.1.0",
        "osImage": "Debian GNU/Linux 12",
    }
    capacity = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    status |= {"capacity": capacity, "allocatable": capacity}
    return api.write(place.resource, {**created, "metadata": dict(created["metadata"]), "status": status})


def with_node_ready(node: Object, ready: bool) -> Object:
    """The node, ready or out of reach."""
    kept = [c for c in node["status"]["conditions"] if c["type"] != "Ready"]
    status = {**node["status"], "conditions": [*kept, _condition("Ready", ready, "" if ready else "NodeStatusUnknown")]}
    return {**node, "metadata": dict(node["metadata"]), "status": status}


def _condition(kind: str, true: bool, reason: str = "") -> Object:
    told: Object = {"type": kind, "status": "True" if true else ("Unknown" if reason else "False")}
    return told | {
        "lastHeartbeatTime": now(),
        "lastTransitionTime": now(),
        "reason": reason or f"Kubelet{kind}",
        "message": "",
    }


_ROLES: dict[str, list[Object]] = {
    "cluster-admin": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
    "system:basic-user": [
        {
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            "verbs": ["create"],
        },
        {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
    ],
    "system:discovery": [
        {
            "nonResourceURLs": [
                "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version",
            ],
            "verbs": ["get"],
        },
    ],
    "system:public-info-viewer": [{"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version"], "verbs": ["get"]}],
}  # fmt: skip
