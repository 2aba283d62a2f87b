"""What gobgpd advertises that covers an address, on any of its sessions.

It reads what a session is sent as a whole, so only where that is no full table. Standard library only: this module travels to the nodes.
"""

# ruff: noqa: B905  -- travels to nodes with Python 3.7
from __future__ import annotations

from typing import TYPE_CHECKING

from anyconsole.drivers.ask import CollectError, Run
from anyconsole.drivers.covering import DEADLINE, MOST_ROUTES, covering_row, covers, is_due
from anyconsole.drivers.gobgp import gobgp, knock, parse_adj_out, parse_neighbors
from anyconsole.drivers.parse_error import printable

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Asking, Collector, Reply, Spec, State

__all__ = ["DEADLINE", "collect"]


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round. See `anyconsole.drivers.ask` for the contract."""
    if not is_due(spec, state, now):
        return None
    (reply,) = yield [gobgp(spec, "neighbor")]
    addresses = spec["addresses"]
    if reply.fault:
        (there,) = yield [knock(spec)]
        if there.fault != "absent":
            raise CollectError(reply.text or reply.fault)
        state["looked_at"] = now
        return [covering_row(spec, address, []) for address in addresses]
    neighbors = parse_neighbors(reply.data)
    rows = []
    for family in ("ipv4", "ipv6"):
        mine = [a for a in addresses if (":" in a) == (family == "ipv6")]
        up = [n for n, seen in neighbors.items() if seen.state == "Established" and family in seen.families and mine]
        few = [n for n in up if (neighbors[n].advertised or 0) <= MOST_ROUTES]
        sent: dict[str, list[str]] = yield from _sent(spec, few, family)
        many = [n for n in up if n not in sent]
        unknown = f"what {printable(many[0], 60)} is sent is not known" if many else ""
        for address in mine:
            routes = [f"{p} on {n}" for n, prefixes in sent.items() for p in prefixes if covers(p, address)]
            rows.append(covering_row(spec, address, routes, unknown))
    state["looked_at"] = now
    return rows


def _sent(spec: Spec, neighbors: list[str], family: str) -> Asking[dict[str, list[str]]]:
    """Generator: prefixes by neighbour, without those whose session went while it was asked."""
    asks: list[Run] = [gobgp(spec, "neighbor", n, "adj-out", "-a", family) for n in neighbors]
    replies: list[Reply] = (yield list(asks)) if asks else []
    return {n: list(parse_adj_out(r.data)) for n, r in zip(neighbors, replies) if not r.fault}
