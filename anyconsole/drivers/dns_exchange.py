"""DNS on the node: asking service addresses by turns, at most one query a second each. The messages come ready-made from the engine.

Standard library only (dnspython stays with the engine, see `dnswire`): this module travels to the nodes.
"""

# ruff: noqa: B905  -- travels to nodes with Python 3.7
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyconsole.drivers.ask import Exchange
from anyconsole.drivers.parse_error import ParseError
from anyconsole.drivers.quantise import steady

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Collector, Reply, Row, Spec, State

__all__ = ["DEADLINE", "TIMEOUT", "collect", "soa_serial"]

TIMEOUT = 1.0
"""Seconds until a question counts as unanswered."""

DEADLINE = 1.2
"""Seconds a round may take: a question may take its whole second."""

_LATENCIES = 5

_ERRORS = {"timeout": "timeout", "absent": "refused"}


def collect(spec: Spec, state: State, now: float) -> Collector:
    """One round: each address is asked one of its questions when its turn has come; the other rows are what was seen last."""
    rows: dict[tuple[str, str], Row] = state.setdefault("rows", {})
    due: dict[str, float] = state.setdefault("due", {})
    turns: dict[str, int] = state.setdefault("turns", {})
    by_address: dict[str, list[dict[str, Any]]] = {}
    for question in spec["questions"]:
        by_address.setdefault(question["address"], []).append(question)
    period = max(1.0, float(spec["period"]))
    chosen = []
    for i, (address, questions) in enumerate(by_address.items()):
        # Spread the first round over a period, then keep the rhythm.
        at = due.setdefault(address, now + (i % 2) * min(1.0, period / 2))
        if now < at - 0.05:
            continue
        due[address] = max(at + period, now + 1.0)
        turn = turns[address] = turns.get(address, -1) + 1
        chosen.append(questions[turn % len(questions)])
    if not chosen:
        return None
    replies = yield [Exchange(q["address"], bytes.fromhex(q["wire"]), TIMEOUT) for q in chosen]
    for question, reply in zip(chosen, replies):
        rows[question["address"], question["zone"]] = _row(spec, state, question, reply)
    return list(rows.values())


def _row(spec: Spec, state: State, question: dict[str, Any], reply: Reply) -> Row:
    row: Row = {
        "kind": "answer",
        "section": spec["section"],
        "tenant": question["tenant"],
        "address": question["address"],
        "zone": question["zone"],
    }
    if reply.fault:
        row["error"] = _ERRORS.get(reply.fault, reply.text[:200] or reply.fault)
        return row
    row["reply"] = reply.data.hex()
    # The middle of the last few, in steps of a millisecond or a third: a busy node's own delays are not news.
    times: list[float] = state.setdefault("times", {}).setdefault(question["address"], [])
    times.append(reply.elapsed)
    del times[:-_LATENCIES]
    latency = round(sorted(times)[len(times) // 2], 4)
    row["latency"] = steady(state, "latency " + question["address"], latency, max(0.001, latency / 3))
    return row


def soa_serial(reply: bytes) -> int | None:
    """The serial of the first SOA in a reply's answer section, None if there is none.

    Raises:
        ParseError: not a DNS message, or cut off.
    """
    if len(reply) < 12:
        raise ParseError("DNS reply is shorter than a header", reply.hex())
    at = 12
    try:
        for _ in range(int.from_bytes(reply[4:6], "big")):
            at = _after_name(reply, at) + 4
        for _ in range(int.from_bytes(reply[6:8], "big")):
            at = _after_name(reply, at)
            kind, length = int.from_bytes(reply[at : at + 2], "big"), int.from_bytes(reply[at + 8 : at + 10], "big")
            if at + 10 + length > len(reply):
                raise IndexError
            if kind == 6:
                field = _after_name(reply, _after_name(reply, at + 10))
                if field + 20 > at + 10 + length:
                    raise IndexError
                return int.from_bytes(reply[field : field + 4], "big")
            at += 10 + length
    except IndexError:
        raise ParseError("DNS reply is cut off", reply[:32].hex()) from None
    return None


def _after_name(reply: bytes, at: int) -> int:
    while True:
        length = reply[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if length == 0:
            return at
