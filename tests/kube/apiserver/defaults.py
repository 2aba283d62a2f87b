"""What the API server fills in: the defaults of types, and the cluster addresses of Services.

Only what clients can see and trip over: a diff after an apply, a key of a list that nobody wrote, a status that isn't there yet.
"""

from __future__ import annotations

import base64
import ipaddress
import itertools

from tests.kube.apiserver.list_types import KEY_DEFAULTS
from tests.kube.apiserver.objects import Object, dig, items, meta, name_of
from tests.kube.apiserver.resources import Resource

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_POD_SPEC: Object = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "terminationGracePeriodSeconds": 30,
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
_SPEC: dict[str, Object] = {
    "deployments": {"replicas": 1, "strategy": _ROLLING, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    "replicasets": {"replicas": 1},
    "statefulsets": {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "serviceName": "",
        "revisionHistoryLimit": 10,
    },
    "daemonsets": {
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "revisionHistoryLimit": 10,
    },
    "jobs": {"backoffLimit": 6, "completions": 1, "parallelism": 1, "completionMode": "NonIndexed", "suspend": False},
    "cronjobs": {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    },
    "services": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
    "customresourcedefinitions": {"conversion": {"strategy": "None"}},
}


class Addresses:
    """Hands out the cluster's Service addresses and node ports."""

    def __init__(self) -> None:
        self._v4 = ipaddress.ip_network("10.43.0.0/16").hosts()
        self._v6 = (ipaddress.ip_address("fd00:43::") + n for n in itertools.count(1))
        self._ports = itertools.count(30000)

    def next(self, family: str) -> str:
        """The next free address of IPv4 or IPv6."""
        return str(next(self._v4) if family == "IPv4" else next(self._v6))

    def next_port(self) -> int:
        """The next free node port."""
        return next(self._ports)


def fill(resource: Resource, obj: Object, live: Object | None, addresses: Addresses) -> None:
    """Fill an object in before it is validated and stored."""
    if resource.is_custom:
        fill_schema(resource.schema or {}, obj)
        return
    spec = obj.get("spec")
    if isinstance(spec, dict):
        _default(spec, _SPEC.get(resource.plural, {}))
    match resource.plural:
        case "namespaces":
            meta(obj).setdefault("labels", {})["kubernetes.io/metadata.name"] = name_of(obj)
            _default(obj.setdefault("spec", {}), {"finalizers": ["kubernetes"]})
            obj.setdefault("status", {"phase": "Active"})
        case "pods":
            _pod(obj)
        case "services":
            _service(obj, live, addresses)
        case "secrets":
            obj.setdefault("type", "Opaque")
            for key, text in (obj.pop("stringData", None) or {}).items():
                obj.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()
        case "jobs":
            _job(obj)
        case "rolebindings" | "clusterrolebindings":
            _default(obj.get("roleRef") or {}, {"apiGroup": "rbac.authorization.k8s.io"})
            for subject in obj.get("subjects") or ():
                _default(
                    subject,
                    {"apiGroup": "rbac.authorization.k8s.io"} if subject.get("kind") != "ServiceAccount" else {},
                )
        case "networkpolicies" if isinstance(spec, dict):
            _default(spec, {"policyTypes": ["Ingress", *(["Egress"] if "egress" in spec else [])]})
        case "priorityclasses":
            obj.setdefault("preemptionPolicy", "PreemptLowerPriority")
        case "customresourcedefinitions":
            _definition(obj)
        case _:
            pass
    for path in (("spec", "template", "spec"), ("spec", "jobTemplate", "spec", "template", "spec")):
        if isinstance(template := dig(obj, *path), dict):
            _pod_spec(template)


def fill_schema(schema: Object, value: Object) -> None:
    """The defaults that a custom resource's schema declares."""
    for key, inner in (schema.get("properties") or {}).items():
        if key not in value and "default" in inner:
            value[key] = inner["default"]
        if isinstance(value.get(key), dict):
            fill_schema(inner, value[key])
        for item in value[key] if isinstance(value.get(key), list) else ():
            if isinstance(item, dict):
                fill_schema(inner.get("items") or {}, item)


def _default(target: Object, values: Object) -> None:
    for key, value in values.items():
        target.setdefault(key, dict(value) if isinstance(value, dict) else value)


def _pod(pod: Object) -> None:
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return
    _pod_spec(spec)
    _default(
        spec, {"serviceAccountName": "default", "enableServiceLinks": True, "preemptionPolicy": "PreemptLowerPriority"}
    )
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    resources = [container.get("resources") or {} for container in items(spec, "containers")]
    if all(r.get("limits") and r.get("requests", r["limits"]) == r["limits"] for r in resources):
        quality = "Guaranteed"
    else:
        quality = "Burstable" if any(r.get("limits") or r.get("requests") for r in resources) else "BestEffort"
    _default(pod.setdefault("status", {}), {"phase": "Pending", "qosClass": quality})


def _pod_spec(spec: Object) -> None:
    _default(spec, _POD_SPEC)
    for container in itertools.chain(items(spec, "containers"), items(spec, "initContainers")):
        image = str(container.get("image") or "")
        tag = image.rpartition("/")[2].partition(":")[2]
        pull = "Always" if tag in {"", "latest"} and "@" not in image else "IfNotPresent"
        _default(container, {"imagePullPolicy": pull, "resources": {}})
        _default(container, {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"})
        for port in container.get("ports") or ():
            _default(port, KEY_DEFAULTS)
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            if probe in container:
                _default(container[probe], _PROBE)
        for variable in container.get("env") or ():
            if reference := dig(variable, "valueFrom", "fieldRef"):
                _default(reference, {"apiVersion": "v1"})
    for volume in items(spec, "volumes"):
        for kind in ("configMap", "secret", "projected"):
            if isinstance(volume.get(kind), dict):
                _default(volume[kind], {"defaultMode": 420})


def _service(service: Object, live: Object | None, addresses: Addresses) -> None:
    spec = service.get("spec")
    if not isinstance(spec, dict) or spec.get("type") == "ExternalName":
        return
    outward = spec["type"] in {"NodePort", "LoadBalancer"}
    for port in spec.get("ports") or ():
        _default(port, {"protocol": "TCP", "targetPort": port.get("port")})
    if live:
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"):
            if key in live.get("spec", {}):
                spec.setdefault(key, live["spec"][key])
    if outward:
        _default(spec, {"externalTrafficPolicy": "Cluster"})
        _default(spec, {"allocateLoadBalancerNodePorts": True} if spec["type"] == "LoadBalancer" else {})
        known = {(p.get("port"), p.get("protocol")): p.get("nodePort") for p in items(live, "spec", "ports")}
        for port in spec.get("ports") or () if spec.get("allocateLoadBalancerNodePorts", True) else ():
            port.setdefault("nodePort", known.get((port.get("port"), port["protocol"])) or addresses.next_port())
        if (
            spec["externalTrafficPolicy"] == "Local"
            and spec["type"] == "LoadBalancer"
            and "healthCheckNodePort" not in spec
        ):
            spec["healthCheckNodePort"] = addresses.next_port()
        service.setdefault("status", {"loadBalancer": {}})
    _default(spec, {"ipFamilyPolicy": "SingleStack"})
    wanted = ["IPv4"] if spec["ipFamilyPolicy"] == "SingleStack" else ["IPv4", "IPv6"]
    families = spec.setdefault("ipFamilies", wanted)
    if spec["ipFamilyPolicy"] != "SingleStack" and len(families) == 1:
        families.append("IPv6" if families[0] == "IPv4" else "IPv4")
    if spec.get("clusterIP") == "None":
        spec["clusterIPs"] = ["None"]
    elif len(spec.get("clusterIPs") or ()) < len(families):
        given = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
        spec["clusterIPs"] = given + [addresses.next(family) for family in families[len(given) :]]
        spec["clusterIP"] = spec["clusterIPs"][0]


def _job(job: Object) -> None:
    spec = job.get("spec")
    uid = dig(job, "metadata", "uid")
    if not isinstance(spec, dict) or not uid or spec.get("manualSelector"):
        return
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    labels = meta(spec.setdefault("template", {})).setdefault("labels", {})
    labels |= {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name_of(job)}
    labels |= {"controller-uid": uid, "job-name": name_of(job)}


def _definition(definition: Object) -> None:
    spec = definition.get("spec") or {}
    names = spec.get("names") or {}
    _default(names, {"singular": str(names.get("kind", "")).lower(), "listKind": f"{names.get('kind')}List"})
    served = [
        {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": "",
            "lastTransitionTime": dig(definition, "metadata", "creationTimestamp"),
        }
        for kind, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))
    ]
    stored = [version["name"] for version in spec.get("versions") or () if version.get("storage")]
    definition.setdefault("status", {"conditions": served, "acceptedNames": names, "storedVersions": stored})
