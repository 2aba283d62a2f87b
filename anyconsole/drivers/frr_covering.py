"""What FRR's bgpd advertises that covers an address, on any of its sessions.

It reads what a session is sent as a whole, so only where that is no full table. Standard library only: this module travels to the nodes.
"""

# ruff: noqa: B905  -- travels to nodes with Python 3.7
from __future__ import annotations

from typing import TYPE_CHECKING

from anyconsole.drivers.ask import CollectError, Talk
from anyconsole.drivers.covering import DEADLINE, MOST_ROUTES, covering_row, covers, is_due
from anyconsole.drivers.frr_reply import parse_advertised, parse_summary
from anyconsole.drivers.parse_error import printable
from anyconsole.drivers.speaker_rows import not_running

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Collector, Spec, State

__all__ = ["DEADLINE", "collect"]


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round. See `anyconsole.drivers.ask` for the contract."""
    if not is_due(spec, state, now):
        return None
    (reply,) = yield [_ask(spec, "show bgp summary json")]
    addresses = spec["addresses"]
    if not_running(reply):
        state["looked_at"] = now
        return [covering_row(spec, address, []) for address in addresses]
    up = {key: peer for key, peer in parse_summary(reply.data)[2].items() if peer.state == "Established"}
    few = [key for key, peer in up.items() if peer.sent is not None and peer.sent <= MOST_ROUTES]
    asks = [_ask(spec, f"show bgp {f} unicast neighbors {n} advertised-routes json") for f, n in few]
    replies = (yield list(asks)) if asks else []
    sent: dict[tuple[str, str], list[str]] = {}
    for key, reply in zip(few, replies):
        if reply.fault:
            raise CollectError(reply.text or reply.fault)
        sent[key] = list(parse_advertised(reply.data)[1])
    rows = []
    for address in addresses:
        family = "ipv6" if ":" in address else "ipv4"
        routes = [f"{p} on {name}" for (f, name), ps in sent.items() if f == family for p in ps if covers(p, address)]
        many = [name for f, name in up if f == family and (f, name) not in sent]
        unknown = f"{many[0]} is sent too many routes to look through" if many else ""
        rows.append(covering_row(spec, address, routes, unknown))
    state["looked_at"] = now
    return rows


def _ask(spec: Spec, command: str) -> Talk:
    if not command.isprintable():
        raise CollectError(f"not a command for bgpd: {printable(command, 100)}")
    return Talk(spec["socket"], "frr", command.encode() + b"\0")
