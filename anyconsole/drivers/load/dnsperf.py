"""dnsperf as a fallback and a cross-check, and for TCP and DoT: its command line with flags that are fixed, and what its report means.

It is a closed loop: a query that is lost keeps one of `-q` places until it times out, so it can't hold its rate while packets are lost,
and a large `-q` makes it begin slowly and repay that with a burst. With these flags it is right to 0.4 points up to 8 % of loss in
trials of four seconds or more; beyond it says "too much", and no number. It never tells of truncated answers, nor when what was sent.
Versions 2.10 (Debian 12) and 2.14 (Debian 13).
"""

from __future__ import annotations

from typing import Final

import msgspec

from anyconsole.drivers.load import dnsperf_agent
from anyconsole.drivers.load.tool_agent import GarbledError
from anyconsole.drivers.parse_error import ParseError
from anyconsole.model.load import Counts, Latency, Order, Transport, Trial

__all__ = [
    "EDNS_SIZE",
    "MIN_SECONDS",
    "TOO_MUCH",
    "Report",
    "Transport",
    "command",
    "flows_of",
    "parse_interval",
    "parse_report",
    "parse_version",
    "trial_of",
]

MIN_SECONDS: Final = dnsperf_agent.MIN_SECONDS
"""Shorter trials say nothing: it begins slowly."""

EDNS_SIZE: Final = dnsperf_agent.EDNS_SIZE
"""The payload size that it offers."""

TOO_MUCH: Final = 0.08
"""Loss above this is not a number that may be quoted."""

_MAX_REPORT = 16 << 20
_GRACE = 5.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What dnsperf says at its end. Times are seconds; `latency` is there if it was asked for a histogram (2.14).

    `interrupted` are the queries it doesn't know the fate of because it was stopped; `unexpected` the answers that it no longer waited
    for; `ended` is "time limit" unless something else ended it.
    """

    version: tuple[int, int]
    sent: int
    completed: int
    lost: int
    interrupted: int
    unexpected: int
    rcodes: dict[int, int]
    ran: float
    average: float
    minimum: float
    maximum: float
    ended: str
    latency: Latency = Latency()


def flows_of(flows: int, transport: Transport, generators: int = 1) -> int:
    """How many sockets each of several opens if so many are wanted of all: a server limits the connections of all of them together."""
    most = dnsperf_agent.FLOWS[transport]
    if transport is not Transport.UDP:
        return max(1, min(flows, most) // generators)
    return min(max(1, flows // generators), most)


def command(
    order: Order,
    *,
    address: str,
    queries: str,
    version: tuple[int, int],
    port: int | None = None,
    transport: Transport = Transport.UDP,
    timeout: float = 0.25,
    source: str = "",
    edns: bool = False,
    dnssec: bool = False,
) -> list[str]:
    """Arguments that carry out an order without an agent and end by themselves, report included.

    Args:
        order: Its prime is ignored: dnsperf can't.
        address: Target.
        queries: Path of the query file on the generator's host.
        version: Of dnsperf there (`parse_version`).
        port: None is the transport's own.
        transport: What the queries travel in.
        timeout: Seconds for an answer; 0.25 is for targets inside a site, across sites it is two round trips and 0.2.
        source: Own address, "" for whatever the host chooses.
        edns: Whether queries carry EDNS.
        dnssec: Whether they ask for signatures, which implies EDNS.
    """
    return [
        # INT makes it report; a wedged one ignores that.
        *("timeout", "-s", "INT", "-k", "1", f"{order.seconds + timeout + _GRACE:g}"),
        *dnsperf_agent.arguments(
            order.rate, order.seconds, address=address, queries=queries, version=version, port=port, transport=transport,
            timeout=timeout, source=source, edns=edns, dnssec=dnssec,
        ),
    ]  # fmt: skip


def parse_version(text: str) -> tuple[int, int]:
    """Version that any output of dnsperf names, `dnsperf -h` for one. Raises ParseError."""
    try:
        return dnsperf_agent.version_of(text[:_MAX_REPORT])
    except GarbledError as error:
        raise ParseError(*error.args) from error


def parse_interval(line: str) -> float | None:
    """Answers per second in the last second, of a line that dnsperf prints while it runs; None for any other line."""
    return dnsperf_agent.answered_of(line)


def parse_report(text: str) -> Report:
    """The whole output of a run, live lines and warnings included.

    Raises:
        ParseError: it has no report at its end, or one that can't be understood.
    """
    if len(text) > _MAX_REPORT:
        raise ParseError(f"dnsperf said {len(text)} characters")
    try:
        report = dnsperf_agent.report_of(text)
    except GarbledError as error:
        raise ParseError(*error.args) from error
    return msgspec.convert({"version": parse_version(text), **report}, Report)


def trial_of(report: Report, order: Order, began_at: float) -> Trial:
    """What a run means. It is void where dnsperf didn't do what it was ordered to, unless that was because of the losses."""
    told = {**msgspec.structs.asdict(report), "latency": {"bins": report.latency.bins}}
    return Trial(
        order=order,
        began_at=began_at,
        counts=msgspec.convert(dnsperf_agent.counts_of(told, order.rate, order.seconds), Counts),
        void=dnsperf_agent.void_of(told, order.rate, order.seconds),
    )
