"""dnsperf as a load agent: the same protocol as `agent.py`, each trial made by a dnsperf of its own. Its flags and its report live here.

One file, standard library only, Python 3.8 or later: it is pushed to a generator's host, which must have dnsperf (2.10 or later).
The child runs in a process group of its own, dies with this process whatever ends it, is ended at once when our input ends, and is
interrupted when a stop is told or no command came for three seconds.

What dnsperf can't do: change its rate, prime, tell truncated answers or identities, or say what was sent when. So a trial is one piece
(`whole`): its counts come with its end, no `second` is told, and ticks only have the answers that its live lines tell.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import math
import os
import platform
import re
import resource
import select
import signal
import socket
import subprocess
import time
from collections import deque
from typing import Any, Dict, NoReturn  # noqa: UP035

VERSION = 1

HEARTBEAT = 3.0
IDLE = 30.0
TICKS = 0.2

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
_MAX_RATE, _MAX_SECONDS, _MAX_TIMEOUT = 1e7, 86400.0, 10.0
_MAX_LINE, _MAX_SAID, _MAX_REPORT_LINES, _MAX_UNTOLD = 64 << 20, 1 << 16, 4000, 1 << 20
_OVERDUE = 2.0
_LADDER = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_RUNG = 1.0
_PR_SET_PDEATHSIG = 1
_UNEXPECTED = "Warning: received a response with an unexpected "
_INTERVAL = re.compile(r"[0-9]{1,12}\.[0-9]{6}: ([0-9]{1,12}\.[0-9]{6})\s*")
_RCODES = (
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
)  # fmt: skip
_LOG_RATIO = math.log(1.03)

# Evaluated when the program starts, so in the words of Python 3.8.
Line = Dict[str, Any]  # noqa: UP006


class Refused(Exception):  # noqa: N818 - what the agent says to a command that it doesn't carry out
    """A command that isn't carried out; the message says why."""


class GarbledError(ValueError):
    """Something that dnsperf never says: what is wrong, and the words themselves."""


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


# --- one dnsperf


class Child:
    """One dnsperf and what it says. `end` sends it the next signal of the ladder."""

    def __init__(self, argv: list[str], queries: int) -> None:
        libc, parent = ctypes.CDLL(None), os.getpid()

        def tie() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        # It reads the queries by opening its standard input anew, so that each one begins at their beginning.
        self._process = subprocess.Popen(
            argv,
            stdin=queries,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=tie,  # noqa: PLW1509 - there is but this one thread
        )
        assert self._process.stdout is not None  # noqa: S101
        self.fd = self._process.stdout.fileno()
        self._unread = b""
        self._lines: deque[str] = deque(maxlen=_MAX_REPORT_LINES)
        self._unexpected = 0
        self._signals = 0
        self._next_at = 0.0

    def read(self) -> list[float] | None:
        """Answers per second that it told of; None at its end."""
        data = os.read(self.fd, 65536)
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._unread = self._unread[:_MAX_SAID]
        rates = []
        for line in lines:
            text = line.decode("utf-8", "replace")
            rate = answered_of(text)
            if rate is not None:
                rates.append(rate)
            elif text.startswith(_UNEXPECTED):
                self._unexpected += 1
            else:
                self._lines.append(text)
        return rates if data else None

    def end(self) -> None:
        """Interrupt it; told again, it ends it the harder the longer that was ago."""
        now = time.monotonic()
        if self._signals < len(_LADDER) and now >= self._next_at:
            self._send(_LADDER[self._signals])
            self._signals += 1
            self._next_at = now + _RUNG

    def kill(self) -> None:
        """End it at once."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def reap(self) -> float:
        """Its CPU seconds, when it has ended."""
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = status
        self._process.stdout.close()  # type: ignore[union-attr]
        return usage.ru_utime + usage.ru_stime

    def report(self) -> Line:
        """What it said at its end. Raises GarbledError."""
        report = report_of("\n".join(self._lines))
        report["unexpected"] += self._unexpected
        return report

    @property
    def last_words(self) -> str:
        """The last line that isn't empty."""
        return next((line.strip()[:200] for line in reversed(self._lines) if line.strip()), "nothing")


# --- the process that talks


class Agent:
    """Reads commands, runs dnsperf, tells what it said."""

    def __init__(self) -> None:
        os.set_blocking(1, False)
        self._version = (0, 0)
        self._unread = b""
        self._out = b""
        self._heard = time.monotonic()
        self._config: Line = {}
        self._queries = -1
        self._seconds_left = 0.0
        self._child: Child | None = None
        self._order: Line = {}
        self._began = self._tick_at = self._cpu = 0.0
        self._answered = 0.0
        self._stopped = ""
        self._overdue = ""
        self._quit = False

    def run(self) -> None:
        """Until there is no more input, or nobody who sends it."""
        try:
            self._greet()
            while not (self._quit and not self._out):
                fds = [0] if self._child is None else [0, self._child.fd]
                for fd in select.select(fds, [], [], 0.05 if self._child or self._out else 1.0)[0]:
                    if fd:
                        self._listen()
                    elif not self._read():
                        return
                if time.monotonic() - self._heard > IDLE:
                    return
                self._watch()
                self._flush()
        finally:
            if self._child is not None:
                self._child.kill()

    def _greet(self) -> None:
        try:
            done = subprocess.run(
                ["dnsperf", "-h"], check=False, timeout=10,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self._version = version_of(done.stdout.decode("utf-8", "replace"))
        except (OSError, subprocess.SubprocessError, GarbledError) as error:
            self._fail(f"no dnsperf can be run here: {error}")
            return
        cores = len(os.sched_getaffinity(0))
        engine = "dnsperf {}.{}".format(*self._version)
        self._tell(
            {"ev": "hello", "agent": VERSION, "python": platform.python_version(), "cores": cores, "engine": engine}
        )

    def _read(self) -> bool:
        data = os.read(0, 65536)
        if not data:
            return False
        self._heard = time.monotonic()
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(line)
        return len(self._unread) <= _MAX_LINE

    # --- commands

    def _obey(self, line: bytes) -> None:
        try:
            command = json.loads(line)
            operation = {"prepare": self._prepare, "trial": self._trial, "rate": self._change_rate, "hb": self._pass,
                         "stop": self._stop, "quit": self._end}[command["op"]]  # fmt: skip
            operation(command)
        except (Refused, OSError, subprocess.SubprocessError) as error:
            self._tell({"ev": "error", "why": str(error)})
        except (ValueError, KeyError, TypeError) as error:
            self._tell({"ev": "error", "why": f"not understood: {error!r}"})

    def _prepare(self, config: Line) -> None:
        if self._config:
            raise Refused("target and limits are set once")
        bounds = {"max_rate": _MAX_RATE, "max_seconds": _MAX_SECONDS, "timeout": _MAX_TIMEOUT, "port": 65535}
        for name, most in bounds.items():
            if not 0 < config[name] <= most:
                raise Refused(f"{name} must be above zero and at most {most:g}")
        if config["transport"] not in FLOWS:
            raise Refused("transport {!r} is none of {}".format(config["transport"], ", ".join(FLOWS)))
        if not config["queries"].strip():
            raise Refused("the query set is empty")
        address = ipaddress.ip_address(config["address"])
        # It can ask from one address only.
        source = str(ipaddress.ip_address(config["sources"][0])) if config["sources"] else ""
        if source:
            with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind((source, 0))
                except OSError as error:
                    raise Refused(f"source address {source}: {error.strerror}") from error
        self._queries = os.memfd_create("queries")
        with open(self._queries, "wb", closefd=False) as file:
            file.write(config["queries"].encode())
        self._seconds_left = config["max_seconds"]
        self._config = {**config, "address": str(address), "source": source, "port": int(config["port"]), "queries": ""}
        flows = min(int(config["flows"]), FLOWS[config["transport"]])
        self._tell({"ev": "ready", "batched": False, "flows": flows, "processes": 1})

    def _trial(self, order: Line) -> None:
        if not self._config or self._child is not None:
            raise Refused("nothing was prepared" if self._child is None else "a trial is running")
        rate, seconds, config = order["rate"], order["seconds"], self._config
        if not (rate > 0 and seconds > 0):
            raise Refused("rate and seconds must be above zero")
        if not rate <= config["max_rate"]:
            raise Refused("{:g} queries/s are more than the {:g} allowed".format(rate, config["max_rate"]))
        if not seconds <= self._seconds_left:
            raise Refused(
                "only {:g} s are left of the {:g} s allowed".format(self._seconds_left, config["max_seconds"])
            )
        self._seconds_left -= seconds
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
        self._cpu, self._began = own_cpu(), time.monotonic()
        self._child = Child(argv, self._queries)
        self._order, self._stopped, self._overdue, self._answered = order, "", "", 0.0
        self._tick_at = self._began + TICKS

    def _change_rate(self, _: Line) -> None:
        raise Refused("dnsperf keeps the rate that it began with")

    def _pass(self, _: Line) -> None:
        pass

    def _stop(self, _: Line) -> None:
        if self._child is not None:
            self._stopped = self._stopped or "stop"
            self._child.end()

    def _end(self, _: Line) -> None:
        self._quit = True

    # --- the running trial

    def _watch(self) -> None:
        """End a trial that nobody wants any more, or that should have ended; tell a tick."""
        if self._child is None:
            return
        now = time.monotonic()
        if now - self._heard > HEARTBEAT:
            self._stopped = self._stopped or "heartbeat"
        if now - self._began > self._order["seconds"] + self._config["timeout"] + _OVERDUE:
            self._overdue = "dnsperf did not end in time"
        if self._stopped or self._overdue:
            self._child.end()
        if now >= self._tick_at:
            self._tick_at = now + TICKS
            answered, self._answered = int(self._answered), 0.0
            counts = {"answered": answered} if answered else {}
            self._tell({"ev": "tick", "trial": self._order["number"], "at": now - self._began, "counts": counts})

    def _listen(self) -> None:
        child = self._child
        if child is None:
            return
        rates = child.read()
        if rates is not None:
            self._answered += sum(rates)
            return
        cpu, elapsed = child.reap(), time.monotonic() - self._began
        self._child = None
        self._quit = self._quit or self._stopped == "heartbeat"
        told: Line = {
            "ev": "trial",
            "trial": self._order["number"],
            "whole": True,
            "cpu": cpu + own_cpu() - self._cpu,
            "elapsed": elapsed,
            "processes": threads_of(self._order["rate"], self._version),
            "stopped": self._stopped,
            "counts": {},
        }
        rate, seconds = self._order["rate"], self._order["seconds"]
        try:
            report = child.report()
        except GarbledError:
            # A dnsperf that was ended the hard way says nothing; that it was is all there is to say.
            if not (self._stopped or self._overdue):
                self._tell({"ev": "error", "why": f"dnsperf ended without a report: {child.last_words}"})
                return
            told["void"] = self._overdue
        else:
            told["counts"] = counts_of(report, rate, min(seconds, elapsed) if self._stopped else seconds)
            told["void"] = self._overdue or void_of(report, rate, seconds)
        self._tell(told)

    # --- answers

    def _fail(self, why: str) -> None:
        self._tell({"ev": "error", "why": why})
        self._quit = True

    def _tell(self, line: Line) -> None:
        """One line to the engine. If it doesn't read, ticks are dropped first; in the end there is no point in going on."""
        if self._out and line["ev"] == "tick":
            return
        self._out += json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if len(self._out) > _MAX_UNTOLD:
            self._quit, self._out = True, b""
        self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._out:
                self._out = self._out[os.write(1, self._out) :]


def own_cpu() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> NoReturn:
    """Run; dnsperf ends with us."""
    with contextlib.suppress(BrokenPipeError):
        Agent().run()
    os._exit(0)
