"""kxdpgun (Knot DNS) as a load agent: its flags and its report, for `tool_agent`, with which it is pushed to a generator's host.

Standard library only, Python 3.8 or later. It makes more than a hundred thousand queries/s of a core, by taking a network interface away
from the kernel (XDP): answers to UDP ports from 2000 on reach nobody else while it runs. What it loads there stays when it has ended, so it
is taken away after each run; if this program is killed, a process of its own that waits for that does it. It needs root.

It counts answers, up to a second after its last query, without matching them to queries, and measures no time: late answers, strays in
place of lost ones, truncated answers and latency aren't known. Versions 3.2 (Debian 12) to 3.4.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import time
from typing import Any, List, NoReturn  # noqa: UP035

from anyconsole.drivers.load.tool_agent import Child, GarbledError, Line, Refused, Tool, run

PORTS = 65535 - 2000 + 1
"""Every query has another source port, of so many."""

WAIT = 1.0
"""Seconds for which it waits for answers after its last query."""

# From its start to its first query, besides 20 ms a thread. Until then it forgets every request to stop, but for a kill.
_START_UP, _PER_THREAD, _START_UP_MARGIN = 1.0, 0.02, 0.3
_STOP_AGAIN, _MOST_STOPS = 0.03, 70
_DEADLINE = 5.0
_BATCH_FROM, _BATCH = 100_000, 10
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


# --- the command line


def arguments(
    rate: float, seconds: float, *, address: str, queries: str, interface: str, port: int = 53, source: str = ""
) -> list[str]:
    """What runs a trial that ends by itself. `queries` is a path."""
    # It sends a batch more than it is told; one at a time it paces itself better, and does up to a hundred thousand a second.
    batch = _BATCH if rate >= _BATCH_FROM else 1
    return [
        *("stdbuf", "-oL", "kxdpgun", "-i", queries, "-I", interface, *(("-l", source) if source else ())),
        *("-t", f"{seconds:g}", "-Q", str(max(1, int(rate))), "-b", str(batch), "-p", str(port), address),
    ]


def queries_of(text: str, *, edns: bool, dnssec: bool) -> str:
    """Lines "name TYPE" as it reads them: whether they carry EDNS (1232 bytes) is said in each."""
    flag = " D" if dnssec else " E" if edns else ""
    return "".join(f"{line.strip()}{flag}\n" for line in text.split("\n") if line.strip())


# --- the report


def version_of(text: str) -> str:
    """Version of "kxdpgun (Knot DNS), version 3.2.6". Raises GarbledError."""
    match = re.search(r"^kxdpgun \(Knot DNS\), version ([0-9][0-9A-Za-z.~+-]{0,30})", text, re.MULTILINE)
    if match is None:
        raise GarbledError("no version of kxdpgun", text[:200])
    return match[1]


def threads_of(line: str) -> int | None:
    """How many threads make the queries, of the line that it says when it has the interface; None for any other line."""
    match = re.match(r"using interface \S{1,20}, XDP threads ([0-9]{1,4}),", line)
    return int(match[1]) if match else None


def report_of(text: str) -> Line:
    """What it says at its end; of several reports (SIGUSR1 asks for one) the last. Raises GarbledError."""
    before, found, report = text.rpartition("\ntotal queries:")
    counts = re.match(
        r"[ ]+([0-9]{1,15}) \(([0-9]{1,15}) pps\)(?: \([0-9.]{1,12}%\))?\n"
        r"(?:total replies:[ ]+([0-9]{1,15}) \([0-9]{1,15} pps\) \([0-9.]{1,12}%\)\n)?",
        report,
    )
    ended = re.search(r"^duration: ([0-9]{1,6}(?:\.[0-9]{1,6})?) s$", report, re.MULTILINE)
    if not found or ended is None or counts is None:
        raise GarbledError("no report of kxdpgun", text[-200:])
    rcodes: dict[int, int] = {}
    for name, count in re.findall(r"^responded (\S{1,20}):[ ]+([0-9]{1,15})$", report, re.MULTILINE):
        if name == "unknown":  # it has no name for them
            continue
        if name not in _RCODES:
            raise GarbledError("not a response code of kxdpgun", name)
        rcodes[_RCODES[name]] = rcodes.get(_RCODES[name], 0) + int(count)
    sent, pace = int(counts[1]), int(counts[2])
    threads = next((n for n in map(threads_of, before.split("\n")) if n), 1)
    return {
        "sent": sent,
        "replies": int(counts[3] or 0),
        "rcodes": rcodes,
        # 3.2 cuts its seconds off; what it sent a second is exact.
        "ran": sent / pace if pace else float(ended[1]),
        "threads": threads,
    }


def counts_of(report: Line, rate: float, seconds: float) -> Line:
    """A report as counts of a trial at `rate`, by the names of the protocol. More answers than queries are strays."""
    sent, offered = report["sent"], round(rate * seconds)
    counts = {
        "offered": offered,
        "sent": sent,
        "answered": min(report["replies"], sent),
        "stray": max(0, report["replies"] - sent),
        "skipped": max(0, offered - sent),
        "rcodes": report["rcodes"],
    }
    return {key: value for key, value in counts.items() if value}


def void_of(report: Line, rate: float, seconds: float) -> str:
    """Why a run says nothing about its target, "" if it does."""
    achieved = report["sent"] / (rate * seconds)
    if achieved < 1 - _SHORT or report["sent"] > rate * seconds * (1 + _SHORT) + _BATCH * report["threads"]:
        return f"kxdpgun sent {achieved:.0%} of what it was to send"
    return ""


# --- the interface


def refusal_of(
    address: str, source: str, interface: str, services: list[str], link: Line, route: Line, links: dict[str, Line]
) -> str:
    """Why kxdpgun may not have the interface, "" if it may.

    Args:
        address: Target.
        source: Own address, "" for whatever the host chooses.
        interface: Its name.
        services: Prefixes that name servers answer from.
        link: The interface, as `ip -j addr show` tells it.
        route: The way to the target, as `ip -j route get` tells it.
        links: All interfaces by name, as `ip -j addr show` tells them.
    """
    if "xdp" in link:
        program = link["xdp"].get("prog", {}).get("name", "?")
        return (
            f"interface {interface} has an XDP program already ({program}): if nobody needs it, "
            f"take it away with: ip link set dev {interface} xdp off"
        )
    own = [ipaddress.ip_address(entry["local"]) for entry in link.get("addr_info", ())]
    # A bond's port has no addresses of its own: its master's are taken away with it.
    own += [ipaddress.ip_address(e["local"]) for e in links.get(link.get("master", ""), {}).get("addr_info", ())]
    for prefix in map(ipaddress.ip_network, services):
        for mine in own:
            if mine.version == prefix.version and mine in prefix:
                return f"interface {interface} carries {mine}, a service address: kxdpgun would take its queries away"
    if source and ipaddress.ip_address(source) not in own:
        return f"source address {source} is not on interface {interface}: its answers would not reach kxdpgun"
    if route.get("dev") not in (interface, link.get("master", interface)):
        return f"{address} is reached through {route.get('dev', 'no interface')}, not through {interface}"
    return ""


def _ip(*words: str) -> List[Any]:  # noqa: UP006
    done = subprocess.run(
        ["ip", "-j", *words], check=False, timeout=_DEADLINE,
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        raise Refused(f"ip {' '.join(words)}: {done.stderr.decode('utf-8', 'replace').strip()[:200]}")
    told: List[Any] = json.loads(done.stdout or b"[]")  # noqa: UP006
    return told


def give_back(interface: str) -> None:
    """Take kxdpgun's program from the interface; nothing happens if there is none. Raises OSError, SubprocessError."""
    subprocess.run(
        ["ip", "link", "set", "dev", interface, "xdp", "off"], check=True, timeout=_DEADLINE,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


class Guardian:
    """A process that gives an interface back if this one and its kxdpgun end without having done so.

    It knows by a pipe that both hold open; what was written last tells whether there is anything to do.
    """

    def __init__(self, interface: str) -> None:
        read, self.fd = os.pipe()
        if os.fork() == 0:
            # Whatever happens in here, this copy of the agent must not go on as one.
            try:
                self._keep(read, interface)
            finally:
                os._exit(0)
        os.close(read)

    def _keep(self, read: int, interface: str) -> None:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        os.close(self.fd)
        # Whoever waits for the agent waits for these.
        for standard in (0, 1, 2):
            os.close(standard)
            os.open(os.devnull, os.O_RDWR)
        is_taken = False
        while True:
            told = os.read(read, 64)
            if not told:
                break
            is_taken = told.endswith(b"t")
        if is_taken:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                give_back(interface)

    def tell(self, *, is_taken: bool) -> None:
        """Say whether the interface would have to be given back from now on."""
        os.write(self.fd, b"t" if is_taken else b"f")


# --- for the agent


class KxdpgunRun(Child):
    """One kxdpgun."""

    def __init__(self, argv: list[str], queries: int, inherited: int) -> None:
        super().__init__(argv, queries, (inherited,))
        self._obeys_from: float | None = None
        self._stops = 0
        self._stop_at = 0.0

    def hear(self, line: str) -> float:
        """See `Child`."""
        threads = threads_of(line)
        if threads:
            self._obeys_from = time.monotonic() + _START_UP + threads * _PER_THREAD + _START_UP_MARGIN
        return super().hear(line)

    def end(self) -> None:
        """See `Child`. Before it has begun nothing but a kill stops it; later it is asked again, in case it had not begun after all."""
        now = time.monotonic()
        if self._obeys_from is None or now < self._obeys_from or self._stops > _MOST_STOPS:
            self.kill()
        elif now >= self._stop_at:
            self.send(signal.SIGINT)
            self._stops += 1
            self._stop_at = now + _STOP_AGAIN

    def outcome(self, rate: float, seconds: float, elapsed: float, *, is_stopped: bool) -> Line:
        """See `Child`."""
        report = report_of("\n".join(self.lines))
        ran = min(seconds, report["ran"]) if is_stopped else seconds
        return {
            "counts": counts_of(report, rate, ran),
            "void": "" if is_stopped else void_of(report, rate, seconds),
            "processes": report["threads"],
            # Not the seconds before and after, in which it sends nothing.
            "elapsed": min(elapsed, report["ran"]),
        }


class Kxdpgun(Tool):
    """kxdpgun, over UDP."""

    name = "kxdpgun"
    version = ["kxdpgun", "-V"]  # noqa: RUF012
    flows = {"udp": PORTS}  # noqa: RUF012

    def __init__(self) -> None:
        self._interface = ""
        self._guardian: Guardian | None = None
        self._lock: socket.socket | None = None

    def greet(self, said: str) -> str:
        """See `Tool`."""
        if os.geteuid() != 0:
            raise GarbledError("it needs root: log in as root here (user of the [[generator]])")
        return version_of(said)

    def prepare(self, config: Line) -> None:
        """See `Tool`: the interface has to be one that is nobody else's."""
        interface = config["interface"]
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", interface):
            raise Refused(f"{interface!r} is not the name of an interface")
        self._take(interface)
        self._check(interface, config)
        self._interface = interface
        self._guardian = Guardian(interface)

    def _take(self, interface: str) -> None:
        """Be the only one of us that uses it: a second kxdpgun there would take the first one's answers."""
        self._lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._lock.bind(f"\0anyconsole-xdp-{interface}")
        except OSError as error:
            raise Refused(f"another load test has interface {interface}") from error

    def _check(self, interface: str, config: Line) -> None:
        links = {link["ifname"]: link for link in _ip("addr", "show")}
        if interface not in links:
            raise Refused(f"there is no interface {interface} here")
        way = ["route", "get", config["address"], *(("from", config["source"]) if config["source"] else ())]
        (route,) = _ip(*way)
        why = refusal_of(
            config["address"], config["source"], interface, list(config["services"]), links[interface], route, links
        )
        if why:
            raise Refused(why)

    def queries(self, config: Line) -> str:
        """See `Tool`."""
        return queries_of(config["queries"], edns=bool(config["bufsize"]), dnssec=bool(config["dnssec"]))

    def patience(self, config: Line) -> float:  # noqa: ARG002
        """See `Tool`. It waits as long for answers whatever it is told."""
        return _START_UP + WAIT

    def start(self, rate: float, seconds: float, config: Line, queries: int) -> Child:
        """See `Tool`."""
        assert self._guardian is not None  # noqa: S101
        self._check(self._interface, config)
        argv = arguments(
            rate,
            seconds,
            address=config["address"],
            queries="/dev/stdin",
            interface=self._interface,
            port=config["port"],
            source=config["source"],
        )
        self._guardian.tell(is_taken=True)
        return KxdpgunRun(argv, queries, self._guardian.fd)

    def clean_up(self) -> None:
        """See `Tool`."""
        assert self._guardian is not None  # noqa: S101
        give_back(self._interface)
        self._guardian.tell(is_taken=False)


def main() -> NoReturn:
    """Run; kxdpgun ends with us, and the interface is given back."""
    # Where ip and kxdpgun are; not everybody's PATH has it.
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    run(Kxdpgun())
