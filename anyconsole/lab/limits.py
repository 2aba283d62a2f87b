"""A limit of known size in front of a node's name servers, for load tests to find: a token bucket of the kernel's packet filter.

Only queries to the unicast addresses count and are dropped: what everybody sees of the service stays as it is. The bucket holds 50 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyconsole.errors import LabError
from anyconsole.lab.topology import NODES, TENANTS, Node, Tenant, node, unicast

if TYPE_CHECKING:
    from anyconsole.lab.lab import Lab

__all__ = ["limit", "unlimit"]

_BUCKET = 0.05
_MOST = 10_000_000


def limit(lab: Lab, host: str, rate: int, tenant: str) -> None:
    """Let each name server of `host`, or that of `tenant` alone, get at most `rate` queries a second, of both families. Raises LabError."""
    here = _node(host)
    if not 1 <= rate <= _MOST:
        raise LabError(f"a limit is 1 to {_MOST} queries a second, not {rate}")
    _filter(lab, host, "".join(_removal(t) + _table(here, t, rate) for t in _tenants(tenant)))


def unlimit(lab: Lab, host: str, tenant: str) -> None:
    """Take the limits of `host`, or that of `tenant` alone, away. Raises LabError."""
    _node(host)
    _filter(lab, host, "".join(_removal(t) for t in _tenants(tenant)))


def _table(here: Node, tenant: Tenant, rate: int) -> str:
    own4, own6 = unicast(here, tenant)
    burst = max(1, round(rate * _BUCKET))
    return f"""\
table inet limit_{tenant.name} {{
  chain bucket {{ limit rate over {rate}/second burst {burst} packets counter drop; }}
  chain input {{
    type filter hook input priority 0;
    ip daddr {own4} udp dport 53 jump bucket
    ip6 daddr {own6} udp dport 53 jump bucket
  }}
}}
"""


def _removal(tenant: Tenant) -> str:
    # Added first, because only what is there can be deleted.
    return f"add table inet limit_{tenant.name}\ndelete table inet limit_{tenant.name}\n"


def _filter(lab: Lab, host: str, rules: str) -> None:
    done = lab.run(host, ["nft", rules])
    if done.returncode != 0:
        raise LabError(f"nft on {host} failed: {done.stderr.strip()[:300]}")


def _node(host: str) -> Node:
    here = node(host)
    if here is None:
        raise LabError(f"{host} is no node, it has no name servers: choose one of {', '.join(n.name for n in NODES)}")
    return here


def _tenants(name: str) -> tuple[Tenant, ...]:
    found = tuple(t for t in TENANTS if name in {"", t.name})
    if not found:
        raise LabError(f"{name!r} is no tenant: {', '.join(t.name for t in TENANTS)}")
    return found
