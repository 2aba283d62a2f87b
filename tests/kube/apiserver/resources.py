"""Which resources are served: the built-in ones, and those that CustomResourceDefinitions in the store add."""

from __future__ import annotations

import msgspec

from tests.kube.apiserver.objects import Object, dig

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Resource(msgspec.Struct, frozen=True):
    """One resource: how it is called, where it lives, what it can do."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    schema: Object | None = None
    """The OpenAPI schema of a custom resource; None for the built-in ones."""
    columns: tuple[tuple[str, str, str], ...] = ()
    """Printer columns of a custom resource: name, type, JSON path."""

    @property
    def key(self) -> str:
        """Where its objects are stored: versions of one resource share them."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """As objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def is_custom(self) -> bool:
        """Whether a CustomResourceDefinition made it."""
        return self.schema is not None


def _core(
    plural: str, kind: str, namespaced: bool = True, short: str = "", subresources: str = "", categories: str = ""
) -> Resource:
    return _of("", plural, kind, namespaced, short, subresources, categories)


def _of(
    group: str,
    plural: str,
    kind: str,
    namespaced: bool = True,
    short: str = "",
    subresources: str = "",
    categories: str = "",
) -> Resource:
    names = (tuple(short.split()), tuple(subresources.split()), tuple(categories.split()))
    return Resource(group, "v1", plural, kind, namespaced, *names)


def _review(group: str, plural: str, kind: str, namespaced: bool = False) -> Resource:
    return Resource(group, "v1", plural, kind, namespaced, verbs=("create",))


_POD = "attach binding ephemeralcontainers eviction exec log portforward proxy resize status"
_RBAC = "rbac.authorization.k8s.io"
_REVIEWS = "authorization.k8s.io"

BUILT_IN: tuple[Resource, ...] = (
    _core("namespaces", "Namespace", namespaced=False, short="ns", subresources="finalize status"),
    _core("nodes", "Node", namespaced=False, short="no", subresources="proxy status"),
    _core("pods", "Pod", short="po", subresources=_POD, categories="all"),
    _core("services", "Service", short="svc", subresources="proxy status", categories="all"),
    _core("endpoints", "Endpoints", short="ep"),
    _core("configmaps", "ConfigMap", short="cm"),
    _core("secrets", "Secret"),
    _core("serviceaccounts", "ServiceAccount", short="sa", subresources="token"),
    _core("events", "Event", short="ev"),
    _core("resourcequotas", "ResourceQuota", short="quota", subresources="status"),
    _core("limitranges", "LimitRange", short="limits"),
    _core("persistentvolumes", "PersistentVolume", namespaced=False, short="pv", subresources="status"),
    _core("persistentvolumeclaims", "PersistentVolumeClaim", short="pvc", subresources="status"),
    _of("apps", "deployments", "Deployment", short="deploy", subresources="scale status", categories="all"),
    _of("apps", "daemonsets", "DaemonSet", short="ds", subresources="status", categories="all"),
    _of("apps", "replicasets", "ReplicaSet", short="rs", subresources="scale status", categories="all"),
    _of("apps", "statefulsets", "StatefulSet", short="sts", subresources="scale status", categories="all"),
    _of("apps", "controllerrevisions", "ControllerRevision"),
    _of("batch", "jobs", "Job", subresources="status", categories="all"),
    _of("batch", "cronjobs", "CronJob", short="cj", subresources="status", categories="all"),
    _of("policy", "poddisruptionbudgets", "PodDisruptionBudget", short="pdb", subresources="status"),
    _of("networking.k8s.io", "networkpolicies", "NetworkPolicy", short="netpol"),
    _of("networking.k8s.io", "ingresses", "Ingress", short="ing", subresources="status"),
    _of(_RBAC, "clusterroles", "ClusterRole", namespaced=False),
    _of(_RBAC, "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    _of(_RBAC, "roles", "Role"),
    _of(_RBAC, "rolebindings", "RoleBinding"),
    _of("scheduling.k8s.io", "priorityclasses", "PriorityClass", namespaced=False, short="pc"),
    _of("coordination.k8s.io", "leases", "Lease"),
    _of("discovery.k8s.io", "endpointslices", "EndpointSlice"),
    _of(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        short="crd",
        subresources="status",
    ),
    _review(_REVIEWS, "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review(_REVIEWS, "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review(_REVIEWS, "subjectaccessreviews", "SubjectAccessReview"),
    _review(_REVIEWS, "localsubjectaccessreviews", "LocalSubjectAccessReview", namespaced=True),
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
)


def custom(definition: Object) -> list[Resource]:
    """The resources that a CustomResourceDefinition adds, one for each version it serves."""
    spec = definition["spec"]
    names = spec["names"]
    found = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        columns = tuple((c["name"], c["type"], c["jsonPath"]) for c in version.get("additionalPrinterColumns", ()))
        found.append(
            Resource(
                group=spec["group"],
                version=version["name"],
                plural=names["plural"],
                kind=names["kind"],
                namespaced=spec["scope"] == "Namespaced",
                short=tuple(names.get("shortNames", ())),
                subresources=tuple(sorted(version.get("subresources") or {})),
                categories=tuple(names.get("categories", ())),
                schema=dig(version, "schema", "openAPIV3Schema") or {"type": "object"},
                columns=columns,
            )
        )
    return found


class Catalogue:
    """Every resource now served, found by path or by kind."""

    def __init__(self) -> None:
        self._custom: dict[str, list[Resource]] = {}
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str], Resource] = {}
        self._rebuild()

    def define(self, definition: Object) -> None:
        """Serve what a CustomResourceDefinition says."""
        self._custom[definition["metadata"]["name"]] = custom(definition)
        self._rebuild()

    def undefine(self, name: str) -> None:
        """Serve it no longer."""
        self._custom.pop(name, None)
        self._rebuild()

    def _rebuild(self) -> None:
        everything = [*BUILT_IN, *(r for some in self._custom.values() for r in some)]
        self._by_path = {(r.group, r.version, r.plural): r for r in everything}
        self._by_kind = {(r.api_version, r.kind): r for r in everything}

    def all(self) -> list[Resource]:
        """Everything served, the built-in ones first."""
        return list(self._by_path.values())

    def at(self, group: str, version: str, plural: str) -> Resource | None:
        """By path."""
        return self._by_path.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """By what an object says of itself."""
        return self._by_kind.get((api_version, kind))

    def named(self, name: str) -> Resource:
        """By plural name, with or without group: pods, deployments.apps. A test's own mistake is a KeyError."""
        for resource in self._by_path.values():
            if name in {resource.plural, resource.key}:
                return resource
        raise KeyError(name)

    def group_versions(self) -> dict[str, list[str]]:
        """The groups and the versions of each, core ("") among them."""
        groups: dict[str, list[str]] = {}
        for group, version, _ in self._by_path:
            if version not in groups.setdefault(group, []):
                groups[group].append(version)
        return groups
