"""Locks that are Leases: that of a cluster, held by whoever has an unconfirmed change there, and those of nodes under load, as found."""

from __future__ import annotations

import math
from typing import Any, Final, Protocol

import msgspec

from anyconsole.drivers.kube.calico import MANAGED_BY, OWNER
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.node_lock import NAMESPACE
from anyconsole.drivers.kube.values import LINE, NAME, Json, moment, part, text

__all__ = ["LEASE_PATH", "NAMESPACE", "Lock", "found_node_lock", "lease", "read_lock"]

LEASE_PATH: Final = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/unconfirmed-change"

_ACCOUNT_PATH: Final = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/dead-man"
_SECONDS: Final = 60
"""How long the lock lasts after the dead-man last renewed it, or after it was taken if there never was one."""

_TOLERANCE: Final = 30.0
"""Seconds by which our clock and the cluster's may differ before a lock is called expired that isn't."""


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """How the lock was found. `holder` and `uid` are "" where nobody holds it, `has_account` None if that isn't known or doesn't matter."""

    has_account: bool | None = None
    holder: str = ""
    uid: str = ""
    expires_at: float = math.inf


class _Reader(Protocol):
    async def get(self, path: str) -> dict[str, Any]: ...


async def read_lock(api: _Reader) -> Lock:
    """The lock as it is now. Raises KubeError."""
    account = await _found(api, _ACCOUNT_PATH)
    held = await _found(api, LEASE_PATH)
    has_account = None if account is None else bool(account)
    if not held:
        return Lock(has_account=has_account)
    spec, metadata = part(held, "spec"), part(held, "metadata")
    since = moment(spec, "renewTime") or moment(metadata, "creationTimestamp")
    seconds = spec.get("leaseDurationSeconds")
    lasts = seconds if type(seconds) is int and 0 < seconds < 86400 else _SECONDS
    return Lock(
        has_account=has_account,
        holder=text(spec, "holderIdentity", LINE) or "somebody",
        uid=text(metadata, "uid", NAME),
        expires_at=math.inf if since is None else since + lasts + _TOLERANCE,
    )


async def _found(api: _Reader, path: str) -> Json | None:
    """An object, an empty one if there is none, None if we may not see that. Raises KubeError."""
    try:
        return await api.get(path)
    except KubeError as error:
        if error.status not in (403, 404):
            raise
        return {} if error.status == 404 else None


def found_node_lock(held: Json) -> Lock:
    """The lock of a node under load that a Lease is. One that doesn't say when it expires never does."""
    spec, metadata = part(held, "spec"), part(held, "metadata")
    since, seconds = moment(metadata, "creationTimestamp"), spec.get("leaseDurationSeconds")
    expires_at = math.inf
    if since is not None and type(seconds) is int and seconds > 0:
        expires_at = since + seconds + _TOLERANCE
    return Lock(
        holder=text(spec, "holderIdentity", LINE) or "somebody",
        uid=text(metadata, "uid", NAME),
        expires_at=expires_at,
    )


def lease(holder: str) -> Json:
    """The lock, to be taken."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE_PATH.rpartition("/")[2], "namespace": NAMESPACE, "labels": {MANAGED_BY: OWNER}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": _SECONDS},
    }
