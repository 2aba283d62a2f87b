"""A load agent that has another program make the queries: the same protocol as `agent.py`, each trial a run of that program.

It is pushed to a generator's host together with `dnsperf_agent` or `kxdpgun_agent`, which know the program's flags and its report.
Standard library only, Python 3.8 or later. The program runs in a process group of its own, dies with this process whatever ends it, is
ended at once when our input ends, and is interrupted when a stop is told or no command came for three seconds.

Such programs can't change their rate, prime, tell truncated answers or identities, or say what was sent when. So a trial is one piece
(`whole`): its counts come with its end, and no `second` is told.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import platform
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

_MAX_RATE, _MAX_SECONDS, _MAX_TIMEOUT = 1e7, 86400.0, 10.0
_MAX_LINE, _MAX_SAID, _MAX_REPORT_LINES, _MAX_UNTOLD = 64 << 20, 1 << 16, 4000, 1 << 20
_OVERDUE = 2.0
_LADDER = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_RUNG = 1.0
_PR_SET_PDEATHSIG = 1

# Evaluated when the program starts, so in the words of Python 3.8.
Line = Dict[str, Any]  # noqa: UP006


class Refused(Exception):  # noqa: N818 - what the agent says to a command that it doesn't carry out
    """A command that isn't carried out; the message says why."""


class GarbledError(ValueError):
    """Something that the program never says: what is wrong, and the words themselves."""


# --- the program


class Child:
    """One run of the program and what it says. `end` sends it the next signal of the ladder."""

    def __init__(self, argv: list[str], queries: int, inherited: tuple[int, ...] = ()) -> None:
        """`queries` is the file that it opens as its standard input; `inherited` are descriptors that stay open in it."""
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
            pass_fds=inherited,
            preexec_fn=tie,  # noqa: PLW1509 - there is but this one thread
        )
        assert self._process.stdout is not None  # noqa: S101
        self.fd = self._process.stdout.fileno()
        self.lines: deque[str] = deque(maxlen=_MAX_REPORT_LINES)
        self._unread = b""
        self._signals = 0
        self._next_at = 0.0

    def read(self) -> float | None:
        """Answers that it told of just now; None at its end."""
        data = os.read(self.fd, 65536)
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._unread = self._unread[:_MAX_SAID]
        answers = sum(self.hear(line.decode("utf-8", "replace")) for line in lines)
        return answers if data else None

    def hear(self, line: str) -> float:
        """Take a line of its output; the answers that it tells of, if it is such a line."""
        self.lines.append(line)
        return 0.0

    def end(self) -> None:
        """Interrupt it; told again, it ends it the harder the longer that was ago."""
        now = time.monotonic()
        if self._signals < len(_LADDER) and now >= self._next_at:
            self.send(_LADDER[self._signals])
            self._signals += 1
            self._next_at = now + _RUNG

    def kill(self) -> None:
        """End it at once."""
        self.send(signal.SIGKILL)

    def send(self, number: int) -> None:
        """Send it a signal, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def reap(self) -> float:
        """Its CPU seconds, when it has ended."""
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = status
        self._process.stdout.close()  # type: ignore[union-attr]
        return usage.ru_utime + usage.ru_stime

    def outcome(self, rate: float, seconds: float, elapsed: float, *, is_stopped: bool) -> Line:
        """What its trial came to, by the names of the protocol: `counts`, `void`, `processes`, and `elapsed` if that was another time.

        Raises:
            GarbledError: It said no report.
        """
        raise NotImplementedError

    @property
    def last_words(self) -> str:
        """The last line that isn't empty."""
        return next((line.strip()[:200] for line in reversed(self.lines) if line.strip()), "nothing")


class Tool:
    """A program that makes queries: what it is asked, and what it leaves behind."""

    name = ""
    version: list[str] = []  # noqa: RUF012 - never changed
    """Arguments that make it tell its version."""
    flows: Dict[str, int] = {}  # noqa: RUF012, UP006
    """The transports that it knows, with the sockets that it opens at most."""

    def greet(self, said: str) -> str:
        """Its version, of what it said to that. Raises GarbledError."""
        raise NotImplementedError

    def prepare(self, config: Line) -> None:
        """Look whether it can do here what it will be told. `config` has its "source", "" for none. Raises Refused."""

    def queries(self, config: Line) -> str:
        """The queries as it reads them."""
        return str(config["queries"])

    def patience(self, config: Line) -> float:
        """Seconds that a run takes besides its trial when all goes well."""
        return float(config["timeout"])

    def start(self, rate: float, seconds: float, config: Line, queries: int) -> Child:
        """Begin a trial that ends by itself. Raises Refused, OSError."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """Take away what a run left behind; it has ended. Raises OSError, SubprocessError."""


# --- the process that talks


class Agent:
    """Reads commands, runs the program, tells what it said."""

    def __init__(self, tool: Tool) -> None:
        os.set_blocking(1, False)
        self._tool = tool
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
                self._child.reap()
                self._clean_up()

    def _greet(self) -> None:
        try:
            done = subprocess.run(
                self._tool.version, check=False, timeout=10,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            version = self._tool.greet(done.stdout.decode("utf-8", "replace"))
        except (OSError, subprocess.SubprocessError, GarbledError) as error:
            self._fail(f"no {self._tool.name} can be run here: {error}")
            return
        cores = len(os.sched_getaffinity(0))
        engine = f"{self._tool.name} {version}"
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
            operation = {"prepare": self._prepare, "trial": self._trial, "hb": self._pass, "stop": self._stop,
                         "quit": self._end}[command["op"]]  # fmt: skip
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
        if config["transport"] not in self._tool.flows:
            known = ", ".join(self._tool.flows)
            raise Refused(
                "transport {!r} is none that {} knows: {}".format(config["transport"], self._tool.name, known)
            )
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
        told = {**config, "address": str(address), "source": source, "port": int(config["port"])}
        self._tool.prepare(told)
        self._queries = os.memfd_create("queries")
        with open(self._queries, "wb", closefd=False) as file:
            file.write(self._tool.queries(told).encode())
        self._seconds_left = config["max_seconds"]
        self._config = {**told, "queries": ""}
        flows = min(int(config["flows"]), self._tool.flows[config["transport"]])
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
        self._cpu, self._began = own_cpu(), time.monotonic()
        self._child = self._tool.start(rate, seconds, config, self._queries)
        self._order, self._stopped, self._overdue, self._answered = order, "", "", 0.0
        self._tick_at = self._began + TICKS

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
        if now - self._began > self._order["seconds"] + self._tool.patience(self._config) + _OVERDUE:
            self._overdue = f"{self._tool.name} did not end in time"
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
        answers = child.read()
        if answers is not None:
            self._answered += answers
            return
        cpu, elapsed = child.reap(), time.monotonic() - self._began
        self._child = None
        self._quit = self._quit or self._stopped == "heartbeat"
        left = self._clean_up()
        told: Line = {
            "ev": "trial",
            "trial": self._order["number"],
            "whole": True,
            "cpu": cpu + own_cpu() - self._cpu,
            "elapsed": elapsed,
            "processes": 1,
            "stopped": self._stopped,
            "counts": {},
        }
        try:
            outcome = child.outcome(
                self._order["rate"], self._order["seconds"], elapsed, is_stopped=bool(self._stopped)
            )
            told.update(outcome, void=self._overdue or outcome["void"])
        except GarbledError:
            # A program that was ended the hard way says nothing; that it was is all there is to say.
            if not (self._stopped or self._overdue):
                self._tell({"ev": "error", "why": f"{self._tool.name} ended without a report: {child.last_words}"})
                return
            told["void"] = self._overdue
        told["ran"] = min(told["elapsed"], self._order["seconds"]) if self._stopped else self._order["seconds"]
        # What was stopped early hasn't been used up.
        self._seconds_left += self._order["seconds"] - told["ran"]
        if left:
            self._fail(left)
            return
        self._tell(told)

    def _clean_up(self) -> str:
        """Why something of the run is left behind, "" if nothing is."""
        try:
            self._tool.clean_up()
        except (OSError, subprocess.SubprocessError) as error:
            return f"what {self._tool.name} left behind could not be taken away: {error}"
        return ""

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


def run(tool: Tool) -> NoReturn:
    """Run; the program ends with us."""
    with contextlib.suppress(BrokenPipeError):
        Agent(tool).run()
    os._exit(0)
