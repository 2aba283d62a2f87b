"""Reconciling what stands before pods: a Service's endpoints and outside addresses, a budget's allowance."""

from __future__ import annotations

import json
import math

from tests.kube.apiserver.api import Api, How, Place
from tests.kube.apiserver.kubelet import is_ready
from tests.kube.apiserver.objects import Object, copy, dig, items, name_of, namespace_of, owner_reference
from tests.kube.apiserver.selectors import label_object

_MANAGER = How("kube-controller-manager")
_CALICO_ADDRESSES = "projectcalico.org/loadBalancerIPs"


def service(api: Api, obj: Object) -> float | None:
    """One EndpointSlice for each family, and the addresses by which a load balancer would answer."""
    _give_addresses(api, obj)
    selector = dig(obj, "spec", "selector")
    if not selector:
        return None
    selects = label_object({"matchLabels": selector})
    pods = [stored.obj for stored in api.store.all("pods", namespace_of(obj)) if selects(stored.obj)]
    for family in dig(obj, "spec", "ipFamilies") or ("IPv4",):
        _write_slice(api, obj, family, pods)
    return None


def budget(api: Api, obj: Object) -> float | None:
    """How many pods may be evicted now."""
    selects = label_object(dig(obj, "spec", "selector"))
    pods = [stored.obj for stored in api.store.all("pods", namespace_of(obj)) if selects(stored.obj)]
    healthy = sum(1 for pod in pods if is_ready(pod) and not pod["metadata"].get("deletionTimestamp"))
    least, most = dig(obj, "spec", "minAvailable"), dig(obj, "spec", "maxUnavailable")
    desired = (
        _share(least, len(pods)) if least is not None else len(pods) - _share(1 if most is None else most, len(pods))
    )
    changed = copy(obj)
    changed["status"] = {
        "currentHealthy": healthy,
        "desiredHealthy": max(0, desired),
        "disruptionsAllowed": max(0, healthy - max(0, desired)),
        "expectedPods": len(pods),
        "observedGeneration": obj["metadata"]["generation"],
    }
    api.write(api.catalogue.named("poddisruptionbudgets"), changed)
    return None


def _share(value: int | str, whole: int) -> int:
    return value if isinstance(value, int) else math.ceil(int(value.rstrip("%")) * whole / 100)


def _give_addresses(api: Api, obj: Object) -> None:
    if dig(obj, "spec", "type") != "LoadBalancer":
        return
    annotated = (obj["metadata"].get("annotations") or {}).get(_CALICO_ADDRESSES)
    wanted = json.loads(annotated) if annotated else [dig(obj, "spec", "loadBalancerIP")]
    given = [{"ip": ip, "ipMode": "VIP"} for ip in wanted if ip]
    if given and items(obj, "status", "loadBalancer", "ingress") != given:
        changed = copy(obj)
        changed.setdefault("status", {})["loadBalancer"] = {"ingress": given}
        api.write(api.catalogue.named("services"), changed)


def _write_slice(api: Api, obj: Object, family: str, pods: list[Object]) -> None:
    resource = api.catalogue.named("endpointslices")
    name = f"{name_of(obj)}-{family.lower()}"
    endpoints = []
    for pod in pods:
        addresses = [
            entry["ip"] for entry in items(pod, "status", "podIPs") if (":" in entry["ip"]) == (family == "IPv6")
        ]
        if not addresses or dig(pod, "status", "phase") != "Running":
            continue
        ending = bool(pod["metadata"].get("deletionTimestamp"))
        ready = is_ready(pod)
        endpoints.append(
            {
                "addresses": addresses,
                "conditions": {"ready": ready and not ending, "serving": ready, "terminating": ending},
                "nodeName": pod["spec"]["nodeName"],
                "targetRef": {
                    "kind": "Pod",
                    "name": name_of(pod),
                    "namespace": namespace_of(pod),
                    "uid": pod["metadata"]["uid"],
                },
            }
        )
    ports = [
        {"name": p.get("name", ""), "port": p.get("targetPort"), "protocol": p["protocol"]}
        for p in items(obj, "spec", "ports")
    ]
    content = {"addressType": family, "endpoints": endpoints, "ports": ports}
    before = api.store.get(resource.key, namespace_of(obj), name)
    if before is not None:
        api.write(resource, {**copy(before.obj), **content})
        return
    metadata = {
        "name": name,
        "labels": {
            "kubernetes.io/service-name": name_of(obj),
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        },
        "ownerReferences": [owner_reference(obj)],
    }
    api.create(Place(resource, namespace_of(obj)), {"metadata": metadata, **content}, _MANAGER)
