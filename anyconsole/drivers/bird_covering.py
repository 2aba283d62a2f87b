"""What BIRD exports that covers an address, on any of its BGP sessions: from the most specific route that it has to less specific ones.

Each question is about one address or prefix, never an unfiltered table. Standard library only: this module travels to the nodes.
"""

# ruff: noqa: B905  -- travels to nodes with Python 3.7
from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from anyconsole.drivers.ask import CollectError, Talk
from anyconsole.drivers.bird_reply import BirdRefusedError, parse_first_network, parse_protocols, session_state
from anyconsole.drivers.covering import DEADLINE, covering_row, is_due
from anyconsole.drivers.parse_error import printable
from anyconsole.drivers.speaker_rows import not_running

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Asking, Collector, Reply, Spec, State

    Ways = list[tuple[str, str, str]]
    """(session, address, what of it is still to be looked up)."""

__all__ = ["DEADLINE", "collect"]

MOST_STEPS = 8
"""Routes of a table that may cover an address, one inside the other, until it is given up."""


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round. See `anyconsole.drivers.ask` for the contract."""
    if not is_due(spec, state, now):
        return None
    (reply,) = yield [_ask(spec, "show protocols")]
    addresses = spec["addresses"]
    if not_running(reply):
        state["looked_at"] = now
        return [covering_row(spec, address, []) for address in addresses]
    sessions = [
        p.name for p in parse_protocols(reply.data) if p.proto == "BGP" and session_state(p)[0] == "Established"
    ]
    found: dict[str, list[str]] = {address: [] for address in addresses}
    ways = [(session, address, address) for session in sessions for address in addresses]
    unknown: dict[str, str] = {}
    for _ in range(MOST_STEPS):
        if ways:
            ways = yield from _step(spec, ways, found, unknown)
    for session, address, prefix in ways:
        unknown[address] = f"what covers {prefix} on {session} was not looked up to its end"
    state["looked_at"] = now
    return [covering_row(spec, a, found[a], unknown.get(a, "")) for a in addresses]


def _ask(spec: Spec, command: str) -> Talk:
    if not command.isprintable():
        raise CollectError(f"not a command for BIRD: {printable(command, 100)}")
    return Talk(spec["socket"], "bird", command.encode() + b"\n")


def _step(spec: Spec, ways: Ways, found: dict[str, list[str]], unknown: dict[str, str]) -> Asking[Ways]:
    """Generator: looks up the most specific route of each way; returns those that go on with a less specific one."""
    hidden: Ways = []
    further: Ways = []
    replies = yield [_ask(spec, f"show route for {prefix} export {session}") for session, _, prefix in ways]
    for way, reply in zip(ways, replies):
        network = _network(reply)
        if network:
            found[way[1]].append(f"{network} on {way[0]}")
        elif network is not None:
            hidden.append(way)
    # Not exported there: rejected by its filter, or it came from there, which only the table itself tells.
    for question in ("show route for {1} noexport {0}", "show route for {1}"):
        if not hidden:
            break
        replies = yield [_ask(spec, question.format(session, prefix)) for session, _, prefix in hidden]
        left: Ways = []
        for way, reply in zip(hidden, replies):
            network = _network(reply)
            if not network:
                left.append(way)
            else:
                further += [(way[0], way[1], parent) for parent in _parents(network)]
        hidden = left
    for session, address, prefix in hidden:
        unknown[address] = f"BIRD didn't tell which route of it covers {prefix} on {session}"
    return further


def _network(reply: Reply) -> str | None:
    """The network that a look-up showed: "" if it is there but not shown, None if there is none, or no session for its family."""
    if reply.fault:
        raise CollectError(reply.text or reply.fault)
    try:
        return parse_first_network(reply.data)
    except BirdRefusedError as refusal:
        # No route at all; a session that carries no such family, or is down by now (1.6 says 8005).
        if refusal.code in (8001, 8005) or (refusal.code == 9001 and refusal.text.startswith("No valid tables")):
            return None
        raise CollectError(f"BIRD: {printable(str(refusal))}") from None


def _parents(network: str) -> list[str]:
    """The next larger network, none of all."""
    whole = ip_network(network, strict=False)
    return [str(whole.supernet())] if whole.prefixlen else []
