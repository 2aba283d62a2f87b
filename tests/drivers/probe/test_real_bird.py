"""The probe's transport and the BIRD collector against a real BIRD (Debian's), without any network of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyconsole.drivers import bird
from anyconsole.drivers.ask import CollectError, Row, State, Talk
from anyconsole.drivers.probe.transport import Transport, run_round

pytestmark = pytest.mark.lab

CONFIG = """
router id 192.0.2.1;
include "drain.conf";
protocol device { }
protocol static svc4 { ipv4; route 192.0.2.0/24 blackhole; }
protocol bgp ix1_v4 {
  disabled; multihop;
  local 127.0.0.1 port 17901 as 64500; neighbor 127.0.0.2 port 17902 as 64611;
  ipv4 { import all; export all; };
}
"""

DRAIN = """
define DRAIN_SERIAL = %d;
define DRAIN_NOTE = "CHG1 op1 exp=2026-11-23T20:00Z";
define DRAIN_HARD = [ (0,0), %s ];
define DRAIN_SOFT = [ (0,0), (3,21..22) ];
"""


class RealBird:
    """A BIRD of our own in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("bird", path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert program is not None, "BIRD is not installed: run `make lab` or install Debian's bird2"
        self.socket = str(folder / "bird.ctl")
        self.drain = folder / "drain.conf"
        self.drain.write_text(DRAIN % (12, "(1,11..12)"))
        (folder / "bird.conf").write_text(CONFIG)
        command = [program, "-f", "-c", str(folder / "bird.conf"), "-s", self.socket, "-P", str(folder / "pid")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 5
        while subprocess.run(
            ["birdc", "-s", self.socket, "show", "status"], capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline, "BIRD did not start"
            assert self.process.poll() is None, "BIRD refused its configuration"
            time.sleep(0.02)

    def configure(self) -> None:
        subprocess.run(["birdc", "-s", self.socket, "configure"], check=True, stdout=subprocess.DEVNULL, timeout=5)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RealBird]:
    running = RealBird(tmp_path)
    yield running
    running.process.send_signal(signal.SIGCONT)
    running.process.kill()
    running.process.wait(5)


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport()
    yield made
    made.close()


def look(daemon: RealBird, transport: Transport, state: State, seconds: float = 1.0) -> list[Row]:
    spec = {
        "section": "bird",
        "speaker": "bird",
        "socket": daemon.socket,
        "sessions": [{"name": "ix1_v4", "peer": "ix1", "family": "ipv4", "number": 11}],
        "tenants": [{"name": "de", "number": 1, "prefixes": ["192.0.2.0/24"]}],
    }
    rows = run_round(bird.collect(spec, state, time.monotonic()), transport, time.monotonic() + seconds)
    assert rows is not None
    return rows


def test_drain_state_is_read_from_the_running_daemon_and_follows_a_change(
    daemon: RealBird, transport: Transport
) -> None:
    state: State = {}
    speaker = look(daemon, transport, state)[0]
    assert (speaker["drain_serial"], speaker["drain_note"]) == (12, "CHG1 op1 exp=2026-11-23T20:00Z")
    assert (speaker["drain_hard"], speaker["drain_soft"]) == ([(1, 11), (1, 12)], [(3, 21), (3, 22)])
    daemon.drain.write_text(DRAIN % (13, ", ".join(f"({t},{s})" for t in range(1, 40) for s in (11, 13, 15))))
    daemon.configure()
    speaker = look(daemon, transport, state)[0]
    # The set is now too long for BIRD to print: it is asked about the node's own cells.
    assert (speaker["drain_serial"], speaker["drain_hard"]) == (13, [(1, 11)])


def test_our_connection_can_read_and_nothing_else(daemon: RealBird, transport: Transport) -> None:
    for command in (b"configure\n", b"enable ix1_v4\n", b"disable svc4\n", b"down\n"):
        (reply,) = transport.answer([Talk(daemon.socket, "bird", command)], time.monotonic() + 1)
        assert reply.data == b"8007 Access denied\n", command
    assert daemon.process.poll() is None


def test_frozen_daemon_is_an_error_and_restarting_it_needs_nobody(
    daemon: RealBird, transport: Transport, tmp_path: Path
) -> None:
    state: State = {}
    look(daemon, transport, state)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(CollectError, match="no answer in time"):
        look(daemon, transport, state, seconds=0.2)
    assert time.monotonic() - began < 1
    daemon.process.send_signal(signal.SIGCONT)
    assert look(daemon, transport, state)[0]["running"] is True
    daemon.process.kill()
    daemon.process.wait(5)
    assert look(daemon, transport, state)[0]["running"] is False
    again = RealBird(tmp_path)
    try:
        assert look(again, transport, state)[0]["running"] is True
    finally:
        again.process.kill()
        again.process.wait(5)
