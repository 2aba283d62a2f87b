"""What tests of load tests share: running them from the command line, what they leave behind, and what a node hears of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from anyconsole.actions.load.files import read_run
from anyconsole.actions.load.record import RunRecord
from anyconsole.lab import Lab
from anyconsole.lab.network import in_namespace
from anyconsole.lab.topology import CLIENTS, TENANTS, node, sources, unicast
from tests.e2e.observe import run_headless
from tests.terminal import Terminal, process_tree

__all__ = [
    "IN_SERVICE",
    "Heard",
    "LoadConsole",
    "LoadScreen",
    "answers_lost",
    "arguments",
    "costly_answers",
    "load_test",
    "measured",
    "measured_drained",
    "records_of",
]

IN_SERVICE = ("--override", "in service=a lab")
"""Go on although the instance serves somebody."""

PATIENCE = 40.0
QUIET = 1.0
"""Seconds without a query that count as silence: at the rates that are asked here a hundred would have come."""

_ETH_P_IP = 0x0800
_SO_TIMESTAMPNS = 35
_OUTGOING = 4
_LATELY = 0.5
_PROVING = 150
"""Queries a second that are more than those that prove where packets go."""
_RULES = 4000
_SAYS_NOTHING = ("void", "aborted", "generator-limited")
_SENDERS = {
    interface.ip.packed: f"gen{number}" for number, client in enumerate(CLIENTS, 1) for interface in sources(client)
}


def arguments(target: str, *more: str) -> tuple[str, ...]:
    """The command line of a load test."""
    return ("loadtest", "run", "--target", target, "--reason", "capacity", "--ticket", "CHG-7", "--yes", *more)


def load_test(lab: Lab, state: Path, target: str, *more: str, status: int = 0, profile: str = "") -> dict[str, Any]:
    """A load test from the command line, which must end with `status`; returns its document."""
    chosen = ("--profile", profile) if profile else ()
    argv = (*chosen, *arguments(target, *more), "--output", "json")
    done = run_headless(lab, state, *argv, timeout=150)
    assert done.returncode == status, (done.returncode, done.stderr[-3000:], done.stdout[-3000:])
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def records_of(state: Path) -> list[RunRecord]:
    """What was recorded below a state folder, the oldest first."""
    return [read_run(path) for path in sorted(state.rglob("loadtests/*/*/*.jsonl"))]


def measured(lab: Lab, state: Path, target: str, *more: str) -> RunRecord:
    """The record of a load test of an instance in service that says something about it; once more if this machine was too busy."""
    return measured_drained(lab, state, target, *more, *IN_SERVICE)


def measured_drained(lab: Lab, state: Path, target: str, *more: str) -> RunRecord:
    """The same of an instance that nobody is sent to: no guard is overridden."""
    record = _measured(lab, state / "first", target, more)
    return _measured(lab, state / "again", target, more) if record.result.verdict in _SAYS_NOTHING else record


def _measured(lab: Lab, state: Path, target: str, more: Sequence[str]) -> RunRecord:
    done = run_headless(lab, state, *arguments(target, *more), timeout=150)
    records = records_of(state)
    assert records, (done.returncode, done.stderr[-2000:], done.stdout[-2000:])
    return records[-1]


class LoadConsole:
    """A load test from the command line in a terminal of its own; at the end of the context both are gone."""

    def __init__(self, lab: Lab, state: Path, target: str, *more: str) -> None:
        argv = [sys.executable, "-m", "anyconsole", "--profile", str(lab.profile_path), *arguments(target, *more)]
        self._terminal = Terminal(argv, columns=200, env={"XDG_STATE_HOME": str(state)})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._terminal.close()

    @property
    def said(self) -> str:
        """Everything that it said."""
        return self._terminal.output.decode(errors="replace")

    def wait_for_load(self, heard: Heard) -> None:
        """Until its queries arrive, more of them than those that prove where packets go. Raises AssertionError."""
        heard.wait_for_load(lambda: self.said)

    def strike(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self._terminal.pid, number)

    def hang_up(self) -> None:
        """Close its terminal."""
        self._terminal.hang_up()

    def wait(self) -> int:
        """Its exit status."""
        return self._terminal.exit_status(PATIENCE)


class LoadScreen:
    """What a screen does, in a process of its own, with an engine in another; `load_screen.py` is its program."""

    def __init__(self, lab: Lab, state: Path, target: str, rate: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.load_screen", str(lab.profile_path), target, str(rate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"XDG_STATE_HOME": str(state)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate(timeout=5)

    def say(self, word: str) -> str:
        """Tell it what to do; returns what it says then."""
        there, back = cast("IO[str]", self.process.stdin), cast("IO[str]", self.process.stdout)
        there.write(f"{word}\n")
        there.flush()
        return back.readline().strip()

    def start(self, heard: Heard) -> None:
        """Start a load test, and wait until its queries arrive."""
        assert self.say("start"), "it did not start; standard error says why"
        heard.wait_for_load(lambda: "no load came")

    @property
    def engine(self) -> int:
        """The process id of its engine."""
        (pid,) = (
            pid
            for pid in process_tree(self.process.pid)
            if b"anyconsole.engine" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        )
        return pid


class Heard:
    """Queries to an instance's own IPv4 address as they arrive at its node, each with the kernel's time of it, by generator."""

    def __init__(self, lab: Lab, host: str, tenant: str, *, generators: int = 1) -> None:
        """`generators` is how many are waited for."""
        spec = node(host)
        assert spec is not None
        self._address = socket.inet_aton(unicast(spec, next(t for t in TENANTS if t.name == tenant))[0])
        self._socket: socket.socket = in_namespace(lab.paths.namespace(host), _listening)
        self._generators = generators
        self._count = 0
        self._last: dict[str, float] = {}
        self._ends = False
        self._thread = threading.Thread(target=self._listen, name=f"heard on {host}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ends = True
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._ends:
            try:
                data, told, _, sender = self._socket.recvmsg(40, 64)
            except TimeoutError:
                continue
            if sender[2] == _OUTGOING or data[9] != socket.IPPROTO_UDP or data[16:20] != self._address:
                continue
            (at,) = (struct.unpack("=qq", value) for _, kind, value in told if kind == _SO_TIMESTAMPNS)
            self._last[_SENDERS.get(data[12:16], "somebody else")] = at[0] + at[1] / 1e9
            self._count += 1

    def rate(self, seconds: float = 0.25) -> float:
        """Queries a second, from now on for so long."""
        before = self._count
        time.sleep(seconds)
        return (self._count - before) / seconds

    def wait_for_load(self, said: Callable[[], str]) -> None:
        """Until queries of all generators arrive, more than prove where packets go. Raises AssertionError, with what was `said`."""
        end = time.monotonic() + PATIENCE
        while self.rate() < _PROVING or len(self._loading()) < self._generators:
            assert time.monotonic() < end, said()

    def _loading(self) -> list[str]:
        return [name for name, last in self._last.items() if time.time() - last < _LATELY]

    def silent_after(self, moment: float, within: float) -> float:
        """Seconds from a moment (epoch) to the last query, once none comes any more. Raises AssertionError if they go on."""
        return max(self.each_silent_after(moment, within).values())

    def each_silent_after(self, moment: float, within: float) -> dict[str, float]:
        """Seconds from a moment (epoch) to the last query of each generator. Raises AssertionError if they go on."""
        while time.time() - max(moment, *self._last.values()) < QUIET:
            after = {name: round(last - moment, 1) for name, last in self._last.items()}
            assert max(after.values()) < within + QUIET, f"still queries: {after}"
            time.sleep(0.05)
        return {name: last - moment for name, last in self._last.items()}


def _listening() -> socket.socket:
    listening = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    listening.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    listening.settimeout(0.1)
    return listening


@contextmanager
def answers_lost(lab: Lab, router: str, host: str, tenant: str) -> Iterator[None]:
    """A router on the way back loses every tenth answer of an instance."""
    spec = node(host)
    assert spec is not None
    own4, _ = unicast(spec, next(t for t in TENANTS if t.name == tenant))
    chain = "type filter hook forward priority 0"
    rules = f"ip saddr {own4} udp sport 53 numgen inc mod 10 0 counter drop"
    command = lab.enter_command(router, ["nft", "-f", "-"])
    table = f"table inet back {{ chain forward {{ {chain}; {rules}; }}\n}}"
    subprocess.run(command, input=table, text=True, check=True, capture_output=True, timeout=20)
    try:
        yield
    finally:
        lab.run(router, ["nft", "delete", "table", "inet", "back"])


@contextmanager
def costly_answers(lab: Lab, host: str, tenant: str) -> Iterator[None]:
    """Each answer of an instance costs its worker some 50 us more: a long chain of the packet filter, in the worker's own time."""
    spec = node(host)
    assert spec is not None
    own4, _ = unicast(spec, next(t for t in TENANTS if t.name == tenant))
    rules = "\n".join(f"udp dport {number % 1000 + 1} counter" for number in range(_RULES))
    table = (
        f"table inet costly {{ chain answers {{\n{rules}\n}}\n"
        f"chain output {{ type filter hook output priority 0; ip saddr {own4} udp sport 53 jump answers; }}\n}}"
    )
    command = lab.enter_command(host, ["nft", "-f", "-"])
    subprocess.run(command, input=table, text=True, check=True, capture_output=True, timeout=20)
    try:
        yield
    finally:
        lab.run(host, ["nft", "delete", "table", "inet", "costly"])
