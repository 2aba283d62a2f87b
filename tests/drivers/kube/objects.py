"""Objects as a Kubernetes 1.36 API server sends them, what a server that lies makes of them, and what may become of either."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final, TypeAlias, cast

import msgspec
from hypothesis import strategies as st

from anyconsole.model.fact import Fact

Object: TypeAlias = dict[str, Any]
Value: TypeAlias = Any
"""Any JSON value."""

NOW: Final = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def running(name: str, ready: bool = True, started_at: str = "2026-09-21T13:13:20Z", **fields: Value) -> Object:
    """The status of a container that runs."""
    return container(name, {"running": {"startedAt": started_at}}, ready=ready, started=True, **fields)


def waiting(name: str, reason: str, message: str = "", **fields: Value) -> Object:
    """The status of a container that doesn't run yet, or not again."""
    return container(name, {"waiting": {"reason": reason, "message": message}}, **fields)


def terminated(name: str, code: int, reason: str = "", **fields: Value) -> Object:
    """The status of a container that has ended."""
    return container(name, {"terminated": how(code, reason)}, **fields)


def how(code: int, reason: str = "", at: str = "2026-09-21T14:00:00Z", message: str = "", signal: int = 0) -> Object:
    """How a container ended."""
    told: Object = {"exitCode": code, "finishedAt": at, "startedAt": "2026-09-21T13:59:00Z"}
    return told | {k: v for k, v in (("reason", reason), ("message", message), ("signal", signal)) if v}


def container(name: str, state: Object, *, restarts: int = 0, last: Object | None = None, **fields: Value) -> Object:
    """The status of a container in any state."""
    status: Object = {
        "name": name, "image": f"docker.io/library/{name}:4.9.1", "imageID": f"docker.io/library/{name}@sha256:0f1e2d",
        "containerID": "containerd://5c7b8", "ready": False, "started": False, "restartCount": restarts, "state": state,
        "lastState": {"terminated": last} if last else {},
    }  # fmt: skip
    return status | fields


def pod(*statuses: Object, phase: str = "Running", ready: bool | None = None, **status: object) -> Object:
    """A pod of a Deployment, with these containers; `ready` None if it is as they are."""
    names = [s["name"] for s in statuses]
    is_ready = bool(statuses) and all(s.get("ready") for s in statuses) if ready is None else ready
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "ns-5c7b8d9f6-x2x4q", "generateName": "ns-5c7b8d9f6-", "namespace": "de", "resourceVersion": "4711",
            "uid": "0d2e6c9e-6a5e-4c1e-9a39-3f7d2a1b0c4d", "creationTimestamp": "2026-09-21T13:13:00Z",
            "labels": {"app.kubernetes.io/name": "ns", "pod-template-hash": "5c7b8d9f6"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "ns-5c7b8d9f6", "uid": "a1", "controller": True},
            ],
        },
        "spec": {
            "nodeName": "hv1",
            "containers": [{"name": name, "image": f"{name}:4.9.1", "ports": [{"containerPort": 53}]} for name in names],
            "readinessGates": [],
        },
        "status": {
            "phase": phase, "hostIP": "192.0.2.1", "podIP": "10.42.0.7", "podIPs": [{"ip": "10.42.0.7"}, {"ip": "fd00::7"}],
            "conditions": [
                {"type": "Initialized", "status": "True"}, {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True" if is_ready else "False", "reason": "" if is_ready else "ContainersNotReady"},
            ],
            "containerStatuses": list(statuses),
            **status,
        },
    }  # fmt: skip


def with_init(obj: Object, *statuses: Object, initialized: bool = False, sidecars: tuple[str, ...] = ()) -> Object:
    """The pod with init containers; those in `sidecars` stay."""
    found = copy.deepcopy(obj)
    found["spec"]["initContainers"] = [
        {"name": s["name"], "image": "x:1"} | ({"restartPolicy": "Always"} if s["name"] in sidecars else {})
        for s in statuses
    ]
    found["status"]["initContainerStatuses"] = list(statuses)
    found["status"]["conditions"][0]["status"] = str(initialized)
    return found


def changed(obj: Object, *path: str, to: object) -> Object:
    """The object with another value at `path`."""
    found = copy.deepcopy(obj)
    at = found
    for key in path[:-1]:
        at = at.setdefault(key, {})
    at[path[-1]] = to
    return found


_LIES: Final[tuple[object, ...]] = (
    None, True, 0, -1, 2**70, 0.5, "", "True", "\x1b[31mred\x1b[0m\r\n", "\u202egpj.exe", "\ud800", "x" * 100_000,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-09-21", [], [[]], ["a", None, {}], {}, {"name": ["a"]},
)  # fmt: skip


def falsified_once(original: Object) -> Iterator[object]:
    """The object with each of its values, at every depth, made into each of some that don't belong there."""
    yield from _LIES
    for path in _paths(original):
        for lie in _LIES:
            obj: Any = copy.deepcopy(original)
            at = obj
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = lie
            yield obj


def _paths(value: object) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, found in inside:
        yield (key,)
        yield from ((key, *path) for path in _paths(found))


_JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["\x1b[31mred\x1b[0m\r\n", "\u202egpj.exe", "\ud800", "x" * 100_000, "9999-99-99T99:99:99Z", "True"]
    )
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-09-21", "2026-09-21T13:00:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def falsified(draw: st.DrawFn, originals: list[Object]) -> object:
    """One of the objects with some of its values, at any depth, gone or made into something else, or lists grown."""
    obj: object = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 6))):
        at: object = obj
        while isinstance(at, (dict, list)) and at:
            key: Any = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            inside = cast("Any", at)[key]
            if isinstance(inside, (dict, list)) and inside and draw(st.integers(0, 3)):
                at = inside
                continue
            match draw(st.integers(0, 3)):
                case 0:
                    del cast("Any", at)[key]
                case 1 if isinstance(at, list):
                    at.extend([inside] * 300)
                case _:
                    cast("Any", at)[key] = draw(_JSON)
            break
    return obj if draw(st.integers(0, 30)) else draw(_JSON)


def assert_is_clean(fact: Fact) -> None:
    """A fact that may be stored and shown: of its own types, small, and nothing in it that a terminal would obey."""
    wire = msgspec.json.encode(fact)
    assert len(wire) < 200_000
    assert msgspec.json.decode(wire, type=type(fact)) == fact
    for value in _leaves(msgspec.to_builtins(fact)):
        if isinstance(value, str):
            assert value.isprintable()
            assert len(value) <= 700
        elif isinstance(value, int | float):
            assert abs(value) < 2**53


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from (leaf for pair in value.items() for part in pair for leaf in _leaves(part))
    elif isinstance(value, list | tuple):
        yield from (leaf for part in value for leaf in _leaves(part))
    else:
        yield value
