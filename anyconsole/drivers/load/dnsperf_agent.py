"""dnsperf as a load agent: its flags and its report, for `tool_agent`, with which it is pushed to a generator's host.

Standard library only, Python 3.8 or later. dnsperf must be installed there, 2.10 or later. Its ticks only have the answers that its live
lines tell.
"""

from __future__ import annotations

import math
import re
from typing import NoReturn

from anyconsole.drivers.load.tool_agent import Child, GarbledError, Line, Tool, run

MIN_SECONDS = 4.0
"""Shorter trials say nothing: dnsperf begins slowly."""

FLOWS = {"udp": 200, "tcp": 50, "dot": 50}
"""Sockets at most. NSD lets 100 TCP connections in and closes idle ones for more."""

EDNS_SIZE = 4096
"""The payload size that dnsperf offers with -e; it can't be told another."""

_SHORT, _OVERLOADED = 0.03, 0.03
_BUFFER_KIB = 4096
_MIN_IN_FLIGHT, _IN_FLIGHT_SECONDS, _MAX_IN_FLIGHT = 200, 0.03, 65535
_DETAILED = (2, 14)
# From 2.12 on it steps in whole microseconds: 70,000/s of one thread go out as 71,400.
_RATE_PER_THREAD = 40_000
_UNEXPECTED = "Warning: received a response with an unexpected "
_INTERVAL = re.compile(r"[0-9]{1,12}\.[0-9]{6}: ([0-9]{1,12}\.[0-9]{6})\s*")
_RCODES = (
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
)  # fmt: skip
_LOG_RATIO = math.log(1.03)


# --- the command line


def arguments(
    rate: float,
    seconds: float,
    *,
    address: str,
    queries: str,
    version: tuple[int, int],
    port: int | None = None,
    transport: str = "udp",
    timeout: float = 0.25,
    source: str = "",
    flows: int = 256,
    edns: bool = False,
    dnssec: bool = False,
) -> list[str]:
    """What runs a trial that ends by itself. `queries` is a path; a `port` of None is the transport's own."""
    # Room for what is in flight while all goes well, and for the losses worth measuring; it grows with the patience.
    in_flight = max(_MIN_IN_FLIGHT, rate * _IN_FLIGHT_SECONDS * timeout / 0.25)
    extra = []
    if port is not None:
        extra += ["-p", str(port)]
    if source:
        extra += ["-a", source]
    if transport != "udp":
        extra += ["-m", str(transport)]
    if edns or dnssec:
        extra.append("-D" if dnssec else "-e")
    if version >= _DETAILED:
        extra += ["-O", "latency-histogram"]
    threads = threads_of(rate, version)
    sockets = max(threads, min(flows, FLOWS[transport]))
    return [
        *("stdbuf", "-oL", "dnsperf", "-s", address, "-d", queries, *extra),
        *("-l", f"{seconds:g}", "-Q", str(max(1, int(rate)))),
        *("-q", str(min(_MAX_IN_FLIGHT, round(in_flight))), "-t", f"{timeout:g}", "-c", str(sockets), "-T", str(threads)),
        # Never suppress=unexpected: 2.10 then counts late answers as completed, and may never end.
        *("-b", str(_BUFFER_KIB), "-S", "1", "-W", "-O", "suppress=timeouts"),
    ]  # fmt: skip


def threads_of(rate: float, version: tuple[int, int]) -> int:
    """How many threads make a rate."""
    return max(1, math.ceil(rate / _RATE_PER_THREAD)) if version >= (2, 12) else 1


# --- the report


def version_of(text: str) -> tuple[int, int]:
    """Version that any output of dnsperf names. Raises GarbledError."""
    match = re.search(r"^Version ([0-9]{1,4})\.([0-9]{1,4})\b", text, re.MULTILINE)
    if match is None:
        raise GarbledError("no version of dnsperf", text[:200])
    return int(match[1]), int(match[2])


def answered_of(line: str) -> float | None:
    """Answers per second in the last second, of a line that dnsperf prints while it runs; None for any other line."""
    match = _INTERVAL.fullmatch(line)
    return float(match[1]) if match else None


def report_of(text: str) -> Line:
    """What dnsperf says at its end, live lines and warnings before it included; times in seconds. Raises GarbledError."""
    before, found, report = text.rpartition("\nStatistics:\n")
    if not found or "Interval Statistics:" in report:
        raise GarbledError("no report of dnsperf", text[-200:])
    sent = _number(report, "Queries sent")
    completed, lost = _number(report, "Queries completed"), _number(report, "Queries lost")
    interrupted = _number(report, "Queries interrupted", 0)
    rcodes = _rcodes(_field(report, "Response codes"))
    number = r"([0-9.]{1,20})"
    times = re.match(rf"{number} \(min {number}, max {number}\)", _field(report, "Average Latency (s)"))
    if completed + lost + interrupted > sent or sum(rcodes.values()) != completed or times is None:
        raise GarbledError(
            "dnsperf's report does not add up", f"{sent} sent, {completed}, {lost}, {interrupted}, {rcodes}"
        )
    ended = re.search(r"^\[Status\] Testing complete \(([a-z ]{1,40})\)$", before, re.MULTILINE)
    return {
        "sent": sent,
        "completed": completed,
        "lost": lost,
        "interrupted": interrupted,
        "unexpected": len(re.findall(rf"^{_UNEXPECTED}", before, re.MULTILINE)),
        "rcodes": rcodes,
        "ran": _seconds(_field(report, "Run time (s)")),
        "average": _seconds(times[1]),
        "minimum": _seconds(times[2]),
        "maximum": _seconds(times[3]),
        "ended": ended[1] if ended else "",
        "latency": {"bins": _histogram(report)},
    }


def counts_of(report: Line, rate: float, seconds: float) -> Line:
    """A report as counts of a trial at `rate`, by the names of the protocol. What nobody knows the fate of isn't among them."""
    sent, lost, offered = report["sent"] - report["interrupted"], report["lost"], round(rate * seconds)
    counts = {
        "offered": offered,
        "sent": sent,
        "answered": report["completed"],
        "late": min(report["unexpected"], lost),
        "stray": max(0, report["unexpected"] - lost),
        # A lost query holds its place: what losses kept it from sending says something about the target, not about dnsperf.
        "skipped": 0 if _loss(report) > _OVERLOADED else max(0, offered - report["sent"]),
        "rcodes": report["rcodes"],
        "latency": report["latency"],
    }
    return {key: value for key, value in counts.items() if value and value != {"bins": {}}}


def void_of(report: Line, rate: float, seconds: float) -> str:
    """Why a run says nothing about its target, "" if it does."""
    if report["interrupted"]:
        return "dnsperf was stopped with {interrupted} of {sent} queries in the air".format(**report)
    if seconds < MIN_SECONDS:
        return f"dnsperf says nothing of use in less than {MIN_SECONDS:g} s"
    achieved = report["sent"] / (rate * seconds)
    if achieved < 1 - _SHORT and _loss(report) <= _OVERLOADED:
        return f"dnsperf sent {achieved:.0%} of what it was to send"
    return ""


def _loss(report: Line) -> float:
    good = report["completed"] - report["rcodes"].get(2, 0) - report["rcodes"].get(5, 0)
    return 1 - good / report["sent"] if report["sent"] else 0.0


def _field(report: str, name: str) -> str:
    match = re.search(rf"^  {re.escape(name)}:[ \t]+([^\n]{{0,500}})$", report, re.MULTILINE)
    if match is None:
        raise GarbledError(f"dnsperf's report lacks {name!r}", report[:200])
    return match[1]


def _number(report: str, name: str, absent: int | None = None) -> int:
    if absent is not None and f"  {name}:" not in report:
        return absent
    value = _field(report, name)
    match = re.fullmatch(r"([0-9]{1,15})(?: \([0-9.]{1,8}%\))?", value)
    if match is None:
        raise GarbledError(f"not a number: {name}", value)
    return int(match[1])


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}\.[0-9]{6}", text):
        raise GarbledError("not seconds", text)
    return float(text)


def _rcodes(text: str) -> dict[int, int]:
    """Of "NOERROR 4530 (90.55%), NXDOMAIN 473 (9.45%)"; nothing if nothing was answered."""
    rcodes: dict[int, int] = {}
    for part in text.split(", ") if text.strip() else []:
        match = re.fullmatch(r"([A-Z]{1,20}|(?:reserved|RESERVED)?([0-9]{1,4})) ([0-9]{1,15}) \([0-9.]{1,8}%\)", part)
        if match is None or (match[2] is None and match[1] not in _RCODES):
            raise GarbledError("not a response code of dnsperf", part)
        number = _RCODES.index(match[1]) if match[2] is None else int(match[2])
        rcodes[number] = rcodes.get(number, 0) + int(match[3])
    return rcodes


def _histogram(report: str) -> dict[int, int]:
    """Lines "0.000024 - 0.000024:  75" as latency bins of the protocol, each by its middle."""
    bins: dict[int, int] = {}
    lines = re.findall(r"^  ([0-9]{1,9}\.[0-9]{6}) - ([0-9]{1,9}\.[0-9]{6}):  ([0-9]{1,15})$", report, re.MULTILINE)
    for low, high, count in lines:
        microseconds = (float(low) + float(high)) * 1e6 / 2
        index = int(math.log(microseconds) / _LOG_RATIO) if microseconds >= 1 else 0
        bins[index] = bins.get(index, 0) + int(count)
    return bins


# --- for the agent


class DnsperfRun(Child):
    """One dnsperf."""

    def __init__(self, argv: list[str], queries: int, version: tuple[int, int]) -> None:
        super().__init__(argv, queries)
        self._version = version
        self._unexpected = 0

    def hear(self, line: str) -> float:
        """See `Child`. Its warnings are many: they are counted, not kept."""
        answered = answered_of(line)
        if answered is not None:
            return answered
        if line.startswith(_UNEXPECTED):
            self._unexpected += 1
            return 0.0
        return super().hear(line)

    def outcome(self, rate: float, seconds: float, elapsed: float, *, is_stopped: bool) -> Line:
        """See `Child`."""
        report = report_of("\n".join(self.lines))
        report["unexpected"] += self._unexpected
        return {
            "counts": counts_of(report, rate, min(seconds, elapsed) if is_stopped else seconds),
            "void": "" if is_stopped else void_of(report, rate, seconds),
            "processes": threads_of(rate, self._version),
        }


class Dnsperf(Tool):
    """dnsperf, over UDP, TCP and DoT."""

    name = "dnsperf"
    version = ["dnsperf", "-h"]  # noqa: RUF012
    flows = FLOWS

    def __init__(self) -> None:
        self._version = (0, 0)

    def greet(self, said: str) -> str:
        """See `Tool`."""
        self._version = version_of(said)
        return "{}.{}".format(*self._version)

    def start(self, rate: float, seconds: float, config: Line, queries: int) -> Child:
        """See `Tool`."""
        argv = arguments(
            rate,
            seconds,
            address=config["address"],
            queries="/dev/stdin",
            version=self._version,
            port=config["port"],
            transport=config["transport"],
            timeout=config["timeout"],
            source=config["source"],
            flows=int(config["flows"]),
            edns=bool(config["bufsize"]),
            dnssec=bool(config["dnssec"]),
        )
        return DnsperfRun(argv, queries, self._version)


def main() -> NoReturn:
    """Run; dnsperf ends with us."""
    run(Dnsperf())
