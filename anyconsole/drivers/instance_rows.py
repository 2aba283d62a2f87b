"""Rows that all name servers' collectors share: the instance and its query rates.

Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyconsole.drivers.ask import FRESH, CollectError
from anyconsole.drivers.parse_error import printable
from anyconsole.drivers.process import process_row
from anyconsole.drivers.quantise import rates

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Asking, Reply, Row, Spec, State

__all__ = ["instance_row", "rates_row", "silent", "zone_name"]

_MAX_RCODES = 64
"""There are 24; a server that invents more must not cost us its node's whole report."""

_PROCESS = ("pid", "uptime", "rss", "chroot")


def instance_row(spec: Spec, daemon: str, process: dict[str, Any], *, running: bool, **fields: object) -> Row:
    """A row for the fact `InstanceStatus`."""
    row: Row = {
        "kind": "instance",
        "section": spec["section"],
        "tenant": spec["tenant"],
        "daemon": daemon,
        "running": running,
    }
    row.update((k, process[k]) for k in _PROCESS if k in process)
    row.update(fields)
    return row


def rates_row(spec: Spec, state: State, counters: dict[str, int], now: float, generation: object) -> list[Row]:
    """A row for the fact `QueryRates`, if there are two samples to take it from.

    `counters` has "total", and where the server tells "ipv4", "ipv6", "udp", "tcp", "rcode.NAME", and "withheld": queries that it
    deliberately left without any answer.
    """
    found = rates(state, counters, now, generation)
    if state.get(FRESH):
        state["counted"] = {"moment": now, "taken": counters["total"], "withheld": counters.get("withheld")}
    if found is None or "total" not in found:
        return []
    row: Row = {
        "kind": "rates",
        "section": spec["section"],
        "tenant": spec["tenant"],
        "source": "probe",
        "qps": found["total"],
        "rcodes": dict([(k[6:], v) for k, v in found.items() if k.startswith("rcode.") and counters[k]][:_MAX_RCODES]),
    }
    row.update((k, found[k]) for k in ("ipv4", "ipv6", "udp", "tcp") if k in found)
    if "counted" in state:
        row["counted"] = state["counted"]
    return [row]


def zone_name(text: str) -> str:
    """A zone's name as profiles write it: lower case, no final dot."""
    return text.rstrip(".").lower() or "."


def silent(spec: Spec, state: State, daemon: str, command: str, reply: Reply) -> Asking[list[Row] | None]:
    """Generator: the rows of an instance whose control channel gave no answer; `reply` is its fault.

    Raises:
        CollectError: there is a process, but it can't be asked; or nothing is known.
    """
    process = yield from process_row(spec, state, command)
    if process.get("stopped"):
        return [instance_row(spec, daemon, process, running=False, detail=f"process {process['pid']} is stopped")]
    if reply.fault != "absent" or process:
        raise CollectError(
            printable(reply.text or reply.fault) + (f" (process {process['pid']} runs)" if process else "")
        )
    state.clear()
    return [instance_row(spec, daemon, {}, running=False, detail=printable(reply.text))]
