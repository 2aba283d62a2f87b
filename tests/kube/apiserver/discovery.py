"""Discovery: which groups, versions and resources there are, and as much OpenAPI as clients need in order to trust the server."""

from __future__ import annotations

from tests.kube.apiserver.objects import Object
from tests.kube.apiserver.resources import Catalogue, Resource

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-06-10T00:00:00Z",
    "goVersion": "go1.26",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string"}}
    for name in ("dryRun", "fieldManager", "fieldValidation", "force")
]


def answer(catalogue: Catalogue, path: str) -> Object | None:
    """The document at a discovery path; None where there is none."""
    match path.strip("/").split("/"):
        case ["version"]:
            return dict(VERSION)
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = [_group(g, v) for g, v in catalogue.group_versions().items() if g]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group] if group in catalogue.group_versions():
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, catalogue.group_versions()[group])}
        case ["api", "v1"]:
            return _resources(catalogue, "", "v1")
        case ["apis", group, version] if version in catalogue.group_versions().get(group, ()):
            return _resources(catalogue, group, version)
        case ["openapi", "v3"]:
            return {
                "paths": {
                    _root(g, v): {"serverRelativeURL": f"/openapi/v3/{_root(g, v)}?hash=1"}
                    for g, v in _served(catalogue)
                }
            }
        case ["openapi", "v3", "api", "v1"]:
            return _openapi(catalogue, "", "v1")
        case ["openapi", "v3", "apis", group, version] if (group, version) in _served(catalogue):
            return _openapi(catalogue, group, version)
        case _:
            return None


def _served(catalogue: Catalogue) -> list[tuple[str, str]]:
    return [(group, version) for group, versions in catalogue.group_versions().items() for version in versions]


def _root(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _group(group: str, versions: list[str]) -> Object:
    named = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": named, "preferredVersion": named[0]}


def _resources(catalogue: Catalogue, group: str, version: str) -> Object:
    listed: list[Object] = []
    for resource in catalogue.all():
        if (resource.group, resource.version) != (group, version):
            continue
        entry: Object = {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "namespaced": resource.namespaced,
        }
        entry |= {"kind": resource.kind, "verbs": list(resource.verbs)}
        entry |= {"shortNames": list(resource.short)} if resource.short else {}
        entry |= {"categories": list(resource.categories)} if resource.categories else {}
        listed.append(entry)
        listed += [_subresource(resource, name) for name in resource.subresources]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": listed,
    }


_SUBRESOURCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "scale": ("Scale", "autoscaling/v1", ("get", "patch", "update")),
    "eviction": ("Eviction", "policy/v1", ("create",)),
    "token": ("TokenRequest", "authentication.k8s.io/v1", ("create",)),
    "exec": ("PodExecOptions", "", ("create", "get")),
    "attach": ("PodAttachOptions", "", ("create", "get")),
    "portforward": ("PodPortForwardOptions", "", ("create", "get")),
    "proxy": ("", "", ("create", "delete", "get", "patch", "update")),
    "log": ("", "", ("get",)),
}


def _subresource(resource: Resource, name: str) -> Object:
    kind, api_version, verbs = _SUBRESOURCES.get(name, (resource.kind, "", ("get", "patch", "update")))
    entry: Object = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
    entry |= {"kind": kind or resource.kind, "verbs": list(verbs)}
    if api_version:
        group, _, version = api_version.rpartition("/")
        entry |= {"group": group, "version": version}
    return entry


def _openapi(catalogue: Catalogue, group: str, version: str) -> Object:
    """Only what kubectl looks for before it sends a dry run or a strict write: that PATCH takes the parameters."""
    paths: Object = {}
    for resource in catalogue.all():
        if (resource.group, resource.version) == (group, version) and "patch" in resource.verbs:
            kind = {"group": group, "version": version, "kind": resource.kind}
            within = "/namespaces/{namespace}" if resource.namespaced else ""
            operation = {"parameters": _PARAMETERS, "responses": {}, "x-kubernetes-group-version-kind": kind}
            paths[f"/{_root(group, version)}{within}/{resource.plural}/{{name}}"] = {"patch": operation}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]}, "paths": paths}
