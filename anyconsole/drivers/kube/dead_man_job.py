"""The Job that takes a change back unless it is confirmed: the program `dead_man`, and what it has to know."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import msgspec

from anyconsole.drivers.kube.calico import MANAGED_BY, OWNER
from anyconsole.drivers.kube.script import Call
from anyconsole.drivers.kube.values import Json

__all__ = ["ASKED", "GOING", "PACE", "SHORTEST", "Watched", "job"]

ASKED: Final = "asked back"
GOING: Final = "going back"

SHORTEST: Final = 30
"""The shortest time to watch, in seconds: longer than a script is ever let run, so that nothing is pulled behind the dead-man's back."""

PACE: Final = 1.0
"""Seconds between two looks of the dead-man at its change."""

_LONGEST: Final = 120_000
"""Bytes of a variable of a process: the kernel takes 128 KiB."""

_KEPT: Final = 600
"""Seconds that a Job which has ended, and its log, are kept."""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """The change that a dead-man watches over.

    Args:
        token: Whose it is, the lock too.
        mark: The annotation of the Node that says what is unconfirmed.
        node: The path of the Node.
        lease: The path of the lock.
        hold: Seconds until it is taken back.
        undo: What takes it back, as often as it is carried out.
        before: Annotations of the Node as they are to be in the moment in which all is as before.
        after: Annotations of the Node from when the change begins.
    """

    token: str
    mark: str
    node: str
    lease: str
    hold: int
    undo: tuple[Call, ...]
    before: dict[str, Any]
    after: dict[str, Any]


def job(name: str, namespace: str, kube: str, image: str, watched: Watched) -> Json:
    """The Job. Raises ValueError if it is too much for one.

    Args:
        name: Its name.
        namespace: Its namespace.
        kube: The node that is drained: it runs on another one if there is any.
        image: Has a Python.
        watched: What it watches over.
    """
    fields = ("verb", "path", "body")
    change = {name: getattr(watched, name) for name in ("token", "mark", "node", "lease", "hold", "before", "after")}
    change |= {"asked": ASKED, "going": GOING, "pace": PACE}
    change |= {"undo": [{field: getattr(call, field) for field in fields} for call in watched.undo]}
    told = _text(change)
    if len(told.encode()) > _LONGEST:
        raise ValueError(
            "what would have to be taken back is too much for one change: choose fewer tenants or sessions"
        )
    labels = {MANAGED_BY: OWNER, "anyconsole.io/component": "dead-man"}
    elsewhere = {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [kube]}]}
    affinity = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": elsewhere}]}
    container = {
        "name": "dead-man",
        "image": image,
        "command": ["python3", "-I", "-c", _program()],
        "env": [
            {"name": "CHANGE", "value": told},
            {"name": "ACCOUNT", "value": "/var/run/secrets/kubernetes.io/serviceaccount"},
        ],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "restartPolicy": "OnFailure",
        "serviceAccountName": "dead-man",
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "affinity": {"nodeAffinity": affinity},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            # Whatever ends it before its time, another one goes on.
            "backoffLimit": 1000,
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _text(change: Json) -> str:
    """For people too; without dollar signs, for one could be the beginning of a reference to a variable."""
    return msgspec.json.format(msgspec.json.encode(change), indent=1).decode().replace("$", "\\u0024") + "\n"


def _program() -> str:
    return (files("anyconsole.drivers.kube") / "dead_man.py").read_text(encoding="utf-8")
