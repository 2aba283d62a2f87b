"""Load for measurements: thousands of pods of real size, and watch events about them as fast as watchers can take them."""

from __future__ import annotations

import asyncio
import gc
import time

from tests.kube.apiserver.api import Api, How, Place
from tests.kube.apiserver.errors import ApiError
from tests.kube.apiserver.fields import flatten, to_v1
from tests.kube.apiserver.objects import Object, encode, new_uid, now

_BYTES_A_POD = 9_900
"""As measured on a real cluster; about half of it is managedFields."""
_BATCH = 200
_CONTAINERS = ("nsd", "observer", "exporter")


async def make_pods(api: Api, count: int, namespaces: int = 10, nodes: int = 50) -> None:
    """Create running pods of three containers, spread over namespaces and nodes."""
    if not count:
        return
    gc.disable()
    place = Place(api.catalogue.named("namespaces"))
    for number in range(namespaces):
        try:
            api.create(place, {"metadata": {"name": f"load-{number:02}"}}, How("load"))
        except ApiError as error:
            if error.code != 409:
                raise
    pods = api.catalogue.named("pods")
    spec, status, managed = _parts(api)
    for number in range(count):
        api.write(pods, _pod(number, namespaces, nodes, spec, status, managed))
        if number % _BATCH == 0:
            await asyncio.sleep(0)
    gc.enable()
    gc.freeze()


async def change_pods(api: Api, events: int, rate: float | None = None) -> float:
    """Change one pod after the other: a restart count, as a crashing container would. Returns the seconds it took."""
    pods = api.catalogue.named("pods")
    keys = [stored.key for stored in api.store.all("pods")]
    start = time.monotonic()
    for number in range(events):
        stored = api.store.get("pods", *keys[number % len(keys)])
        if stored is not None:
            api.write(pods, _restarted(stored.obj, number))
        if number % _BATCH == _BATCH - 1:
            ahead = (number + 1) / rate - (time.monotonic() - start) if rate else 0
            # Even without a rate the watchers' turn: what they don't take in time they would lose.
            await asyncio.sleep(max(0.0, ahead))
    return time.monotonic() - start


def _restarted(pod: Object, number: int) -> Object:
    """Everything that doesn't change is shared with the revision before: nothing in the store is ever changed in place."""
    first, *others = pod["status"]["containerStatuses"]
    return {
        **pod,
        "metadata": dict(pod["metadata"]),
        "status": {**pod["status"], "containerStatuses": [{**first, "restartCount": number + 1}, *others]},
    }


def _parts(api: Api) -> tuple[Object, Object, list[Object]]:
    """What all the pods share, padded so that each has the size of a real one."""
    env = [{"name": f"SETTING_{n:02}", "value": f"value-of-setting-{n:02}"} for n in range(12)]
    containers = [
        {
            "name": name,
            "image": f"example.test/anycast/{name}:1.0.{n}",
            "imagePullPolicy": "IfNotPresent",
            "env": env,
            "ports": [{"name": f"port-{n}", "containerPort": 53 + n, "protocol": "UDP"}],
            "resources": {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
            "terminationMessagePath": "/dev/termination-log",
            "volumeMounts": [{"name": "zones", "mountPath": "/zones"}],
        }
        for n, name in enumerate(_CONTAINERS)
    ]
    spec: Object = {"containers": containers, "volumes": [{"name": "zones", "emptyDir": {}}], "restartPolicy": "Always"}
    spec |= {"serviceAccountName": "default", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst"}
    stamp = now()
    conditions = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    status: Object = {
        "phase": "Running",
        "qosClass": "Burstable",
        "startTime": stamp,
        "conditions": [{"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": stamp} for kind in conditions],
        "containerStatuses": [
            {
                "name": name, "image": f"example.test/anycast/{name}:1.0", "imageID": f"example.test/anycast/{name}@sha256:{'0' * 64}",
                "containerID": f"containerd://{'0' * 64}", "ready": True, "started": True, "restartCount": 0, "lastState": {},
                "state": {"running": {"startedAt": stamp}},
            }
            for name in _CONTAINERS
        ],
    }  # fmt: skip
    owned = to_v1(set(flatten(api.catalogue.named("pods"), {"spec": spec, "status": status})))
    entry = {
        "manager": "kubelet",
        "operation": "Update",
        "apiVersion": "v1",
        "time": stamp,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned,
    }
    missing = _BYTES_A_POD - len(encode({"spec": spec, "status": status, "managedFields": [entry]})) - 700
    filler: Object = {
        "manager": "padding",
        "operation": "Update",
        "apiVersion": "v1",
        "time": stamp,
        "fieldsType": "FieldsV1",
    }
    filler["fieldsV1"] = {f"f:padding-{n:04}": {} for n in range(max(0, missing) // 20)}
    return spec, status, [entry, filler]


def _pod(number: int, namespaces: int, nodes: int, spec: Object, status: Object, managed: list[Object]) -> Object:
    address = f"10.42.{number >> 8 & 255}.{number & 255}"
    node = f"load-node-{number % nodes:03}"
    uid = new_uid()
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"ns-{number:05}",
            "namespace": f"load-{number % namespaces:02}",
            "uid": uid,
            "creationTimestamp": now(),
            "labels": {
                "app": "nameserver",
                "tenant": f"tenant-{number % namespaces}",
                "pod-template-hash": "5d4f8c7b9",
            },
            "managedFields": managed,
        },
        "spec": spec | {"nodeName": node},
        "status": status | {"podIP": address, "podIPs": [{"ip": address}], "hostIP": f"192.0.2.{number % nodes}"},
    }
