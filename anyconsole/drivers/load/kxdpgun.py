"""kxdpgun (Knot DNS): more than a hundred thousand queries/s of a core, on hosts that do nothing else. Its command line and its report.

It takes an interface away from the kernel's own stack (XDP), and what it loads there stays when it has ended: `clean_up` must follow,
whatever became of it. It needs root. It counts answers without matching them to queries and measures no time, so its trials have
neither late answers nor latency.
"""

from __future__ import annotations

import math
import re

import msgspec

from anyconsole.drivers.parse_error import ParseError
from anyconsole.errors import LoadError
from anyconsole.model.inventory import Generator
from anyconsole.model.load import Counts, Order, Trial

__all__ = ["Report", "clean_up", "command", "parse_report", "trial_of"]

_MAX_REPORT = 1 << 20
_GRACE = 5
_SHORT = 0.03
_RCODES = {
    name: number
    for number, name in enumerate(
        (
            "NOERROR",
            "FORMERR",
            "SERVFAIL",
            "NXDOMAIN",
            "NOTIMPL",
            "REFUSED",
            "YXDOMAIN",
            "YXRRSET",
            "NXRRSET",
            "NOTAUTH",
            "NOTZONE",
        )
    )
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What kxdpgun says at its end; `replies` are answers of any age, whoever they were for."""

    sent: int
    replies: int
    rcodes: dict[int, int]
    seconds: int


def command(order: Order, generator: Generator, *, address: str, queries: str, port: int = 53) -> list[str]:
    """Arguments that carry out an order, in whole seconds, and end by themselves.

    Raises:
        LoadError: the profile doesn't declare the generator dedicated and say which interface is to be used.
    """
    if not (generator.dedicated and generator.interface):
        raise LoadError(
            f"generator {generator.name}: kxdpgun takes an interface away from the host: "
            "set dedicated = true and interface in the profile if it has nothing else to do"
        )
    seconds = math.ceil(order.seconds)
    return [
        *("timeout", "-s", "INT", "-k", "1", str(seconds + _GRACE)),
        *("kxdpgun", "-i", queries, "-I", generator.interface, "-t", str(seconds), "-Q", str(max(1, round(order.rate)))),
        *("-p", str(port), address),
    ]  # fmt: skip


def clean_up(generator: Generator) -> list[str]:
    """Arguments that give the interface back to the kernel."""
    return ["ip", "link", "set", "dev", generator.interface, "xdp", "off"]


def parse_report(text: str) -> Report:
    """The whole output of a run; of several reports in it (SIGUSR1 asks for one) the last.

    Raises:
        ParseError: it has no report at its end, or one that can't be understood.
    """
    if len(text) > _MAX_REPORT:
        raise ParseError(f"kxdpgun said {len(text)} characters")
    _, found, report = text.rpartition("\ntotal queries:")
    ended = re.search(r"^duration: ([0-9]{1,6}) s$", report, re.MULTILINE)
    counts = re.match(
        r"[ ]+([0-9]{1,15}) \([0-9]{1,15} pps\)\n(?:total replies:[ ]+([0-9]{1,15}) \([0-9]{1,15} pps\) \([0-9]{1,15}%\)\n)?",
        report,
    )
    if not found or ended is None or counts is None:
        raise ParseError("no report of kxdpgun", text[-200:])
    rcodes: dict[int, int] = {}
    for name, count in re.findall(r"^responded (\S{1,20}):[ ]+([0-9]{1,15})$", report, re.MULTILINE):
        number = _RCODES.get(name, int(name) if name.isascii() and name.isdigit() and len(name) < 5 else None)
        if number is None:
            raise ParseError("not a response code of kxdpgun", name)
        rcodes[number] = rcodes.get(number, 0) + int(count)
    return Report(sent=int(counts[1]), replies=int(counts[2] or 0), rcodes=rcodes, seconds=int(ended[1]))


def trial_of(report: Report, order: Order, began_at: float) -> Trial:
    """What a run means: more answers than queries are strays, and it is void where less was sent than ordered."""
    offered = round(order.rate * math.ceil(order.seconds))
    counts = Counts(
        offered=offered,
        sent=report.sent,
        answered=min(report.replies, report.sent),
        stray=max(0, report.replies - report.sent),
        skipped=max(0, offered - report.sent),
        rcodes=report.rcodes,
    )
    ran = msgspec.structs.replace(order, seconds=float(math.ceil(order.seconds)))
    void = f"kxdpgun sent {1 - counts.short:.0%} of what it was to send" if counts.short > _SHORT else ""
    return Trial(order=ran, began_at=began_at, counts=counts, void=void)
