"""However the console ends, nothing is left behind on either side; whatever ends beneath it, it says so and recovers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anyconsole.lab import Lab, control
from tests.e2e.leftovers import gone, logins, wait_until_gone
from tests.e2e.observe import Watcher, all_serving, wait_for_screen
from tests.terminal import Terminal, process_tree

pytestmark = pytest.mark.lab

OpenConsole = Callable[..., Terminal]


@pytest.fixture
def running(console: OpenConsole, lab: Lab) -> Terminal:
    """A console that watches all of the lab."""
    wait_until_gone(lambda: logins(lab))
    terminal = console()
    wait_for_screen(terminal, "fleet", all_serving(), time.monotonic() + 20)
    assert any("python3" in login for login in logins(lab)), "the probes run, so their end can be seen"
    return terminal


def engine_of(terminal: Terminal) -> int:
    """The engine of a console."""
    engines = [pid for pid in process_tree(terminal.pid)[1:] if b"anyconsole.engine" in _arguments(pid)]
    assert len(engines) == 1
    return engines[0]


def _arguments(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def written(terminal: Terminal) -> str:
    """All that was ever written to the terminal, without its escape sequences."""
    return re.sub(r"\x1b\[[0-9;:?<=>]*[ -/]*[@-~]", "", terminal.output.decode(errors="replace"))


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda terminal: terminal.send("q"), 0),
        (lambda terminal: terminal.send(":q\r"), 0),
        (lambda terminal: terminal.send("\x03\x03"), 0),
        (lambda terminal: os.kill(terminal.pid, signal.SIGTERM), 128 + signal.SIGTERM),
        (lambda terminal: os.kill(terminal.pid, signal.SIGHUP), 128 + signal.SIGHUP),
        (lambda terminal: terminal.hang_up(), 128 + signal.SIGHUP),
    ],
    ids=["q", ":q", "ctrl-c twice", "SIGTERM", "SIGHUP", "closed terminal"],
)
def test_console_that_ends_leaves_nothing_behind(
    running: Terminal, lab: Lab, end: Callable[[Terminal], None], status: int
) -> None:
    left_here = gone(process_tree(running.pid)[1:])
    end(running)
    assert running.exit_status(5) == status
    wait_until_gone(left_here, 5)
    wait_until_gone(lambda: logins(lab), 5)
    assert "Traceback" not in written(running)
    if status != 128 + signal.SIGHUP:
        assert b"\x1b[?1049l" in running.output, "the terminal is given back as it was"


def test_engine_ends_when_the_console_is_killed(running: Terminal, lab: Lab) -> None:
    left_here = gone(process_tree(running.pid)[1:])
    os.kill(running.pid, signal.SIGKILL)
    assert running.exit_status(5) == -signal.SIGKILL
    wait_until_gone(left_here, 5)
    wait_until_gone(lambda: logins(lab), 5)


def test_killed_engine_is_said_and_replaced(running: Terminal, lab: Lab) -> None:
    engine = engine_of(running)
    left_here = gone([engine])
    os.kill(engine, signal.SIGKILL)
    running.wait_for("ENGINE LOST.*SIGKILL", 15)
    running.wait_for("● live", 15)
    wait_for_screen(running, "fleet", all_serving(), time.monotonic() + 5)
    wait_until_gone(left_here, 1)
    assert engine_of(running) != engine
    running.send("2")
    running.wait_for(r"Tenants\[3\]", 15)
    assert "Traceback" not in written(running)
    running.send("q")
    assert running.exit_status(5) == 0
    wait_until_gone(lambda: logins(lab), 5)


@pytest.fixture
def jump_comes_back(lab: Lab) -> Iterator[None]:
    """The jump host's sshd runs again after the test."""
    yield
    control.start(lab.paths, "jump", ["sshd"])


@pytest.mark.usefixtures("jump_comes_back")
def test_killed_jump_host_makes_everything_stale_until_it_is_back(running: Terminal, lab: Lab) -> None:
    stale = dict.fromkeys(all_serving(), "STALE")
    control.stop(lab.paths, "jump", ["sshd"])
    control.signal_program(lab.paths, "jump", "/usr/sbin/sshd", signal.SIGKILL)
    wait_for_screen(running, "fleet", stale, time.monotonic() + 10)
    wait_for_screen(running, "health", stale, time.monotonic() + 5)
    running.wait_for(r"5 stale, oldest \d+s", 15)
    wait_until_gone(lambda: logins(lab), 15)  # nothing keeps running on nodes that lost their console
    control.start(lab.paths, "jump", ["sshd"])
    wait_for_screen(running, "fleet", all_serving(), time.monotonic() + 20)
    running.wait_for("● live", 15)
    assert "Traceback" not in written(running)


def test_interrupted_watch_ends_quietly_and_leaves_nothing_behind(lab: Lab, tmp_path: Path) -> None:
    wait_until_gone(lambda: logins(lab))
    with Watcher(lab, "fleet", tmp_path) as watcher:
        deadline = time.monotonic() + 15
        while len(watcher.statuses) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        code, said = watcher.interrupt()
    assert (code, said) == (130, "")
    wait_until_gone(lambda: logins(lab), 5)
