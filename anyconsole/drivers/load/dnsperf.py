"""dnsperf as a fallback and a cross-check, and for TCP and DoT: its command line with flags that are fixed, and what its report means.

It is a closed loop: a query that is lost keeps one of `-q` places until it times out, so it can't hold its rate while packets are lost,
and a large `-q` makes it begin slowly and repay that with a burst. With these flags it is right to 0.4 points up to 8 % of loss in
trials of four seconds or more; beyond it says "too much", and no number. It never tells of truncated answers, nor when what was sent.
Versions 2.10 (Debian 12) and 2.14 (Debian 13).
"""

from __future__ import annotations

import math
import re
from enum import StrEnum

import msgspec

from anyconsole.drivers.parse_error import ParseError
from anyconsole.model.load import Counts, Latency, Order, Trial, bin_of

__all__ = [
    "MIN_SECONDS",
    "TOO_MUCH",
    "Report",
    "Transport",
    "command",
    "parse_interval",
    "parse_report",
    "parse_version",
    "trial_of",
]

MIN_SECONDS = 4.0
"""Shorter trials say nothing: it begins slowly."""

TOO_MUCH = 0.08
"""Loss above this is not a number that may be quoted."""

_SHORT, _OVERLOADED = 0.03, 0.03
_MAX_REPORT = 16 << 20
_FLOWS = {"udp": 200, "tcp": 50, "dot": 50}  # NSD lets 100 TCP connections in and closes idle ones for more
_BUFFER_KIB = 4096
_MIN_IN_FLIGHT, _IN_FLIGHT_SECONDS, _MAX_IN_FLIGHT = 200, 0.03, 65535
_GRACE = 5.0
_DETAILED = (2, 14)
# From 2.12 on it steps in whole microseconds: 70,000/s of one thread go out as 71,400.
_RATE_PER_THREAD = 40_000
_RCODES = {
    name: number
    for number, name in enumerate(
        (
            "NOERROR",
            "FORMERR",
            "SERVFAIL",
            "NXDOMAIN",
            "NOTIMP",
            "REFUSED",
            "YXDOMAIN",
            "YXRRSET",
            "NXRRSET",
            "NOTAUTH",
            "NOTZONE",
        )
    )
}


class Transport(StrEnum):
    """What the queries travel in, by dnsperf's names."""

    UDP = "udp"
    TCP = "tcp"
    DOT = "dot"


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
    """Arguments that carry out an order and end by themselves, report included.

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
    threads = max(1, math.ceil(order.rate / _RATE_PER_THREAD)) if version >= (2, 12) else 1
    # Room for what is in flight while all goes well, and for the losses worth measuring; it grows with the patience.
    in_flight = max(_MIN_IN_FLIGHT, order.rate * _IN_FLIGHT_SECONDS * timeout / 0.25)
    extra = []
    if port is not None:
        extra += ["-p", str(port)]
    if source:
        extra += ["-a", source]
    if transport is not Transport.UDP:
        extra += ["-m", transport.value]
    if edns or dnssec:
        extra.append("-D" if dnssec else "-e")
    if version >= _DETAILED:
        extra += ["-O", "latency-histogram"]
    return [
        # INT makes it report; a wedged one ignores that.
        *("timeout", "-s", "INT", "-k", "1", f"{order.seconds + timeout + _GRACE:g}"),
        *("stdbuf", "-oL", "dnsperf", "-s", address, "-d", queries, *extra),
        *("-l", f"{order.seconds:g}", "-Q", str(max(1, round(order.rate)))),
        *("-q", str(min(_MAX_IN_FLIGHT, round(in_flight))), "-t", f"{timeout:g}", "-c", str(_FLOWS[transport]), "-T", str(threads)),
        # Never suppress=unexpected: 2.10 then counts late answers as completed, and may never end.
        *("-b", str(_BUFFER_KIB), "-S", "1", "-W", "-O", "suppress=timeouts"),
    ]  # fmt: skip


def parse_version(text: str) -> tuple[int, int]:
    """Version that any output of dnsperf names, `dnsperf -h` for one. Raises ParseError."""
    match = re.search(r"^Version ([0-9]{1,4})\.([0-9]{1,4})\b", text[:_MAX_REPORT], re.MULTILINE)
    if match is None:
        raise ParseError("no version of dnsperf", text)
    return int(match[1]), int(match[2])


def parse_interval(line: str) -> float | None:
    """Answers per second in the last second, of a line that dnsperf prints while it runs; None for any other line."""
    match = re.fullmatch(r"[0-9]{1,12}\.[0-9]{6}: ([0-9]{1,12}\.[0-9]{6})\s*", line)
    return float(match[1]) if match else None


def parse_report(text: str) -> Report:
    """The whole output of a run, live lines and warnings included.

    Raises:
        ParseError: it has no report at its end, or one that can't be understood.
    """
    if len(text) > _MAX_REPORT:
        raise ParseError(f"dnsperf said {len(text)} characters")
    before, found, report = text.rpartition("\nStatistics:\n")
    if not found or "Interval Statistics:" in report:
        raise ParseError("no report of dnsperf", text[-200:])
    sent = _number(report, "Queries sent")
    completed, lost = _number(report, "Queries completed"), _number(report, "Queries lost")
    interrupted = _number(report, "Queries interrupted", 0)
    rcodes = _rcodes(_field(report, "Response codes"))
    times = re.match(
        r"([0-9.]{1,20}) \(min ([0-9.]{1,20}), max ([0-9.]{1,20})\)", _field(report, "Average Latency (s)")
    )
    if completed + lost + interrupted > sent or sum(rcodes.values()) != completed or times is None:
        raise ParseError(
            "dnsperf's report does not add up", f"{sent} sent, {completed}, {lost}, {interrupted}, {rcodes}"
        )
    ended = re.search(r"^\[Status\] Testing complete \(([a-z ]{1,40})\)$", before, re.MULTILINE)
    return Report(
        version=parse_version(before),
        sent=sent,
        completed=completed,
        lost=lost,
        interrupted=interrupted,
        unexpected=len(re.findall(r"^Warning: received a response with an unexpected ", before, re.MULTILINE)),
        rcodes=rcodes,
        ran=_seconds(_field(report, "Run time (s)")),
        average=_seconds(times[1]),
        minimum=_seconds(times[2]),
        maximum=_seconds(times[3]),
        ended=ended[1] if ended else "",
        latency=_histogram(report),
    )


def trial_of(report: Report, order: Order, began_at: float) -> Trial:
    """What a run means. It is void where dnsperf didn't do what it was ordered to, unless that was because of the losses."""
    offered = round(order.rate * order.seconds)
    counts = Counts(
        offered=offered,
        sent=report.sent,
        answered=report.completed,
        late=min(report.unexpected, report.lost),
        stray=max(0, report.unexpected - report.lost),
        skipped=max(0, offered - report.sent),
        rcodes=report.rcodes,
        latency=report.latency,
    )
    void = ""
    if report.interrupted:
        void = f"dnsperf was stopped with {report.interrupted} of {report.sent} queries in the air"
    elif order.seconds < MIN_SECONDS:
        void = f"dnsperf says nothing of use in less than {MIN_SECONDS:g} s"
    elif counts.short > _SHORT and counts.loss <= _OVERLOADED:
        void = f"dnsperf sent {1 - counts.short:.0%} of what it was to send"
    return Trial(order=order, began_at=began_at, counts=counts, void=void)


def _field(report: str, name: str) -> str:
    match = re.search(rf"^  {re.escape(name)}:[ \t]+([^\n]{{0,500}})$", report, re.MULTILINE)
    if match is None:
        raise ParseError(f"dnsperf's report lacks {name!r}", report[:200])
    return match[1]


def _number(report: str, name: str, absent: int | None = None) -> int:
    if absent is not None and f"  {name}:" not in report:
        return absent
    value = _field(report, name)
    match = re.fullmatch(r"([0-9]{1,15})(?: \([0-9.]{1,8}%\))?", value)
    if match is None:
        raise ParseError(f"not a number: {name}", value)
    return int(match[1])


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}\.[0-9]{6}", text):
        raise ParseError("not seconds", text)
    return float(text)


def _rcodes(text: str) -> dict[int, int]:
    """Of "NOERROR 4530 (90.55%), NXDOMAIN 473 (9.45%)"; nothing if nothing was answered."""
    rcodes: dict[int, int] = {}
    for part in text.split(", ") if text.strip() else []:
        match = re.fullmatch(r"([A-Z]{1,20}|(?:reserved|RESERVED)?[0-9]{1,4}) ([0-9]{1,15}) \([0-9.]{1,8}%\)", part)
        number = None if match is None else _RCODES.get(match[1], _unnamed(match[1]))
        if match is None or number is None:
            raise ParseError("not a response code of dnsperf", part)
        rcodes[number] = rcodes.get(number, 0) + int(match[2])
    return rcodes


def _unnamed(word: str) -> int | None:
    digits = word.lower().removeprefix("reserved")
    return int(digits) if digits.isdigit() else None


def _histogram(report: str) -> Latency:
    """Lines "0.000024 - 0.000024:  75" into our bins, each by its middle."""
    bins: dict[int, int] = {}
    for low, high, count in re.findall(
        r"^  ([0-9]{1,9}\.[0-9]{6}) - ([0-9]{1,9}\.[0-9]{6}):  ([0-9]{1,15})$", report, re.MULTILINE
    ):
        index = bin_of((float(low) + float(high)) * 1e6 / 2)
        bins[index] = bins.get(index, 0) + int(count)
    return Latency(bins=bins)
