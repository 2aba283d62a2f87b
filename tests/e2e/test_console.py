"""The console in a real terminal on real daemons: what it shows is true, what it paints arrives, and every pane can be reached."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anyconsole.lab import Lab
from anyconsole.lab.topology import NODES, TENANTS
from tests.e2e.observe import all_serving, difference, on_screen, open_console, wait_for_screen
from tests.terminal import ENTER, ESCAPE, Emulator, Terminal

pytestmark = pytest.mark.lab

OpenConsole = Callable[..., Terminal]
Show = Callable[[str], list[dict[str, object]]]

SIZES = ((80, 24), (200, 50))


@pytest.fixture
def show(lab: Lab, tmp_path: Path) -> Show:
    """The rows of `show VIEW --output json`."""

    def rows(view: str) -> list[dict[str, object]]:
        done = subprocess.run(
            [sys.executable, "-m", "anyconsole", "--profile", str(lab.profile_path), "show", view, "--output", "json"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
        )
        found: list[dict[str, object]] = json.loads(done.stdout)["rows"]
        return found

    return rows


@pytest.fixture(scope="module")
def wide(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One console for the tests that only walk through it; each begins at home."""
    with open_console(lab, tmp_path_factory.mktemp("state")) as terminal:
        wait_for_screen(terminal, "fleet", all_serving(), time.monotonic() + 20)
        yield terminal
        assert "Traceback" not in terminal.text()


@pytest.fixture
def home(wide: Terminal) -> Terminal:
    """That console, back in the fleet pane without filter."""
    wide.send(ESCAPE)
    wide.wait_quiet(0.1)
    for _ in range(6):
        if re.search(r"^ Fleet\[5\]", wide.text(), re.MULTILINE):
            break
        wide.send(ESCAPE)
        time.sleep(0.3)
    wide.wait_for(r"^ Fleet\[5\]")
    return wide


def qps_in_header(terminal: Terminal) -> float | None:
    """The fleet's queries per second as the header says them."""
    found = re.search(r"([\d.]+)(k?) q/s", terminal.text())
    return float(found[1]) * (1000 if found[2] else 1) if found else None


# --- it comes up, and is true


def test_first_frame_is_there_before_any_connection(lab: Lab, tmp_path: Path) -> None:
    nowhere = re.sub(r'(config_file = )".*"', r'\1"/dev/null"', lab.profile_path.read_text())
    profile = tmp_path / "nowhere.toml"
    profile.write_text(nowhere.replace('jump = ["jump"]', 'jump = ["192.0.2.1"]'))
    argv = [sys.executable, "-m", "anyconsole", "--profile", str(profile)]
    with Terminal(argv, columns=100, rows=30, env={"XDG_STATE_HOME": str(tmp_path)}) as terminal:
        terminal.wait_for(r"(?s)READ-ONLY.*Fleet\[5\].*fra1.*UNKNOWN.*sin1.*UNKNOWN.*help", 15)


@pytest.mark.measures
def test_within_ten_seconds_of_the_first_frame_all_of_the_lab_is_live(console: OpenConsole) -> None:
    terminal = console()
    terminal.wait_for("READ-ONLY")
    deadline = time.monotonic() + 10
    for view in ("fleet", "health", "bgp", "announcements"):
        wait_for_screen(terminal, view, all_serving(), deadline)
    terminal.wait_for("● live", deadline - time.monotonic())
    terminal.wait_until(lambda: (qps_in_header(terminal) or 0) > 50, deadline - time.monotonic(), "live queries")
    terminal.send("3")
    terminal.wait_for(r"BGP\[20\]")
    terminal.wait_until(lambda: terminal.text().count("● Established") == 20, 2, "a line for each session")
    assert len(re.findall(r" v4 ", terminal.text())) == len(re.findall(r" v6 ", terminal.text())) == 10


def test_command_line_says_the_same_as_the_screen(home: Terminal, show: Show) -> None:
    with ThreadPoolExecutor() as pool:
        fleet, sessions, tenants, announcements = pool.map(show, ("fleet", "bgp", "tenants", "announcements"))
    assert [row["node"] for row in fleet] == [node.name for node in NODES]
    assert {row["status"] for row in (*fleet, *tenants, *announcements)} == {"SERVING"}
    assert [row["tenant"] for row in tenants] == [tenant.name for tenant in TENANTS]
    assert len(sessions) == 20
    assert {row["state"] for row in sessions} == {"Established"}
    assert {row["family"] for row in sessions} == {"ipv4", "ipv6"}
    assert len(announcements) == 60
    assert not difference(
        on_screen("fleet", home.text()), {("fleet", str(row["node"])): str(row["status"]) for row in fleet}
    )
    told = sum(float(str(row["qps"])) for row in fleet)
    shown = qps_in_header(home)
    assert shown is not None
    assert shown == pytest.approx(told, rel=0.3)


def test_queries_per_second_live(home: Terminal) -> None:
    seen: set[tuple[str, ...]] = set()
    deadline = time.monotonic() + 8
    while len(seen) < 3 and time.monotonic() < deadline:
        seen.add(tuple(re.findall(r"SERVING\s+([\d.]+)", home.text())))
        time.sleep(0.25)
    assert len(seen) >= 3


# --- keys in, screen out


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("2", r"(?s)Tenants\[3\].*de +● SERVING.*5/5 +5/5.*client1/v4→fra1"),
        ("3", r"(?s)BGP\[20\].*lon1 +\w+ 198\.19\..*● Established ● ann +● ann +● ann"),
        ("4", r"(?s)Health\[15\].*ams1 +nic +● SERVING +knot .* inside .*sin1 +de +● SERVING +bind "),
        ("5", r"(?s)tenant enum +[\d.]+ q/s.*node sin1.*⣿.*Queries per second\[15\].*fra1 +de +[\d.]+"),
        ("7", r"Events\[\d+\]"),
        ("1", r"(?s)Fleet\[5\].*lon1 +lon +● SERVING.*frr\+nsd"),
    ],
)
def test_digit_opens_its_pane(home: Terminal, key: str, pattern: str) -> None:
    home.send(key)
    home.wait_for(pattern, 15)


def test_enter_drills_down_and_escape_comes_back(home: Terminal) -> None:
    home.send("G" + ENTER)
    home.wait_for(r"(?s)Health\(sin1\)\[3\].*fleet > sin1.*BGP\(sin1\)\[4\]", 15)
    home.send(ENTER)
    home.wait_for(r"Announcements\(.*fleet > sin1 > ", 15)
    home.send(ESCAPE)
    home.wait_for(r"Health\(sin1\)\[3\]", 15)
    home.send(ESCAPE)
    home.wait_for(r"^ Fleet\[5\]", 15)
    home.wait_for(r"^▌ sin1", 15)


def test_describe_and_raw_show_what_the_daemons_said(home: Terminal) -> None:
    home.send("g3")
    home.wait_for(r"BGP\[20\]", 15)
    home.send("d")
    home.wait_for(r"(?s)session fra1 bird ix1_v4.*neighbor as +64611", 15)
    home.send(ESCAPE)
    home.wait_for(r"BGP\[20\]", 15)
    home.send("y")
    home.wait_for(r"(?s)BIRD 2.*ix1_v4 +BGP +--- +up", 15)
    home.send(ESCAPE)
    home.wait_for(r"BGP\[20\]", 15)


def test_filter_that_comes_in_one_piece_narrows_the_table(home: Terminal) -> None:
    home.send("4")
    home.wait_for(r"Health\[15\]", 15)
    home.send("/knot")
    home.wait_for(r"Health\[3 of 15\]", 15)
    assert {place[1] for place in on_screen("health", home.text())} == {"ams1"}
    home.send(ESCAPE)
    home.wait_for(r"Health\[15\]", 15)


def test_help_explains_every_pane_and_closes(home: Terminal) -> None:
    home.send("?")
    home.wait_for(r"(?s)Help.*All nodes, the worst first.*Sessions, with a column per tenant", 15)
    home.send(ESCAPE)
    home.wait_for(r"^ Fleet\[5\]", 15)


def test_log_follows_a_daemon_on_its_node(home: Terminal) -> None:
    home.send("gl")
    home.wait_for(r"(?s)bird.*Started|Started|Reconfig|State changed|started", 15)
    home.send(ESCAPE)
    home.wait_for(r"^ Fleet\[5\]", 15)


# --- what is painted arrives


def painted(terminal: Terminal, folder: Path, name: str) -> bool:
    """True if the terminal shows exactly what the console meant to paint, in text, colours and attributes.

    The console goes on living meanwhile, so a picture is compared with everything that was on the terminal until the next second.
    """
    dump = folder / f"{name}.ans"
    terminal.send(f":dump {dump}{ENTER}")
    deadline = time.monotonic() + 5
    wanted: Emulator | None = None
    compared = 0
    while time.monotonic() < deadline and compared < 40:
        cells = terminal.cells()
        if wanted is None:
            if not dump.exists() or not dump.read_text().endswith("\n"):
                continue
            size = terminal.emulator.screen
            wanted = Emulator(size.columns, size.lines)
            lines = dump.read_text().splitlines()
            assert len(lines) == size.lines
            wanted.feed("".join(f"\x1b[{y};1H{line}" for y, line in enumerate(lines, 1)))
        if wanted.cells() == cells:
            return True
        compared += 1
    return False


def assert_painted(terminal: Terminal, folder: Path) -> None:
    tries = 12
    assert any(painted(terminal, folder, f"screen{time.monotonic_ns()}") for _ in range(tries)), terminal.text()


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_terminal_shows_what_was_meant_in_every_pane(
    console: OpenConsole, tmp_path: Path, columns: int, rows: int
) -> None:
    terminal = console(columns=columns, rows=rows)
    terminal.wait_for("● live", 30)
    for key in ("1", "2", "3", "m", "4", "5", "7"):
        terminal.send(key)
        time.sleep(0.3)
        assert_painted(terminal, tmp_path)


def test_resized_terminal_is_painted_anew(console: OpenConsole, tmp_path: Path) -> None:
    terminal = console(columns=200, rows=50)
    terminal.wait_for("● live", 30)
    for columns, rows in ((80, 24), (132, 40)):
        terminal.resize(columns, rows)
        time.sleep(1.0)
        terminal.wait_for(r"(?s)Fleet\[5\].*sin1.*● SERVING", 15)
        assert_painted(terminal, tmp_path)
        lines = terminal.text().splitlines()
        assert len(lines) == rows
        assert "enter open" in lines[-1]


def test_works_inside_tmux(lab: Lab, tmp_path: Path) -> None:
    server = tmp_path / "tmux"
    command = shlex.join([sys.executable, "-m", "anyconsole", "--profile", str(lab.profile_path)])
    env = {"TERM": "xterm-256color", "XDG_STATE_HOME": str(tmp_path), "TMUX": None}
    argv = ["tmux", "-S", str(server), "-f", "/dev/null", "new-session", command, ";", "set", "-g", "status", "off"]
    try:
        with Terminal(argv, columns=120, rows=40, env=env) as terminal:
            terminal.wait_for(r"(?s)● live.*Fleet\[5\]", 30)
            wait_for_screen(terminal, "health", all_serving(), time.monotonic() + 5)
            terminal.resize(90, 30)
            terminal.send("3")
            terminal.wait_for(r"(?s)BGP\[20\].*● Established", 15)
            terminal.send("q")
            assert terminal.exit_status() == 0
    finally:
        subprocess.run(["tmux", "-S", str(server), "kill-server"], capture_output=True, timeout=5, check=False)
