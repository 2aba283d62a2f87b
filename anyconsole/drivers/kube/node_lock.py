"""The lock of a node in a cluster while it is under load: a Lease of a fixed name, so that creating it is the lock. Pure.

Kubernetes removes no Lease: one that has expired is removed by whoever comes next.
"""

from __future__ import annotations

from typing import Final

import msgspec

from anyconsole.drivers.kube.render import Object, render
from anyconsole.drivers.kube.script import Call, Verb
from anyconsole.drivers.kube.script import render as render_script
from anyconsole.model.inventory import NodeSpec

__all__ = ["NAMESPACE", "NodeLock", "freeing", "node_lock"]

NAMESPACE: Final = "anyconsole"
"""Our own namespace in each cluster."""

_LEASES: Final = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


class NodeLock(msgspec.Struct, frozen=True, kw_only=True):
    """The lock of one node for one load test, and the scripts that take it and give it back.

    `end` deletes it only where it is this test's. `seconds` after it was taken it has expired.
    """

    node: str
    cluster: str
    path: str
    seconds: int
    begin: str
    end: str


def node_lock(node: NodeSpec, *, seconds: int, test: str) -> NodeLock:
    """The lock of a node in a cluster. Raises RenderError.

    Args:
        node: The node under test.
        seconds: Until it expires.
        test: Names the load test that has it: no two at any time are called the same.
    """
    name = f"load-test.{node.address}"
    path = f"{_LEASES}/{name}"
    (lease,) = render("node-lock", {"name": name, "namespace": NAMESPACE, "test": test, "seconds": seconds})
    return NodeLock(
        node=node.name,
        cluster=node.cluster,
        path=path,
        seconds=seconds,
        begin=render_script([Call(verb=Verb.CREATE, path=_LEASES, body=lease)]),
        end=_removing(path, {"spec": {"holderIdentity": test}}),
    )


def freeing(lock: NodeLock, uid: str) -> str:
    """The script that removes the Lease of this uid, which was found in the lock's place, and no other."""
    return _removing(lock.path, {"metadata": {"uid": uid}})


def _removing(path: str, that: Object) -> str:
    return render_script(
        [Call(verb=Verb.EXPECT, path=path, body=that), Call(verb=Verb.DELETE, path=path, if_exists=True)]
    )
