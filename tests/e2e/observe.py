"""Two witnesses of the same fleet: the console's screen and the command line's stream, both read into the same statuses.

A status has a place: `("fleet", node)`, `("health", node, tenant)`, `("bgp", node, session, "state" or tenant)`, and
`("announcements", node, session, prefix)`. Its value is the verdict's word.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from anyconsole.lab import Lab
from anyconsole.lab.topology import NODES, TENANTS, sessions_of
from anyconsole.model.verdicts import Verdict
from tests.terminal import Terminal

__all__ = [
    "VIEWS",
    "Statuses",
    "Watcher",
    "all_serving",
    "difference",
    "on_screen",
    "open_console",
    "open_profile",
    "run_headless",
    "run_profile",
    "wait_for_screen",
]

Statuses = dict[tuple[str, ...], str]

VIEWS = {"fleet": "1", "health": "4", "bgp": "3", "announcements": "3m"}
"""The views that hold statuses, and the keys that lead to them from any pane."""

_VERDICT = "|".join(Verdict)
_ROW = re.compile(rf"^\W*([a-z]+\d)\s+(\S+)\s+\S ({_VERDICT})\s", re.MULTILINE)
_ANNOUNCEMENT = re.compile(rf"^\W*([a-z]+\d)\s+\w+\s+(\S+/\d+)\s+(?:\w+ )?(\S+)\s+\S ({_VERDICT})\s", re.MULTILINE)
_SESSION = re.compile(
    r"^\W*([a-z]+\d)\s+(?:\w+ )?(\S+)\s+\w+\s+v[46]\s+\S (\w+(?: \w+)?)\s+" + r"\S (\w+)\s+" * len(TENANTS),
    re.MULTILINE,
)
_CELLS = {"ann": "SERVING", "drained": "DRAINED", "Established": "SERVING"}


def all_serving() -> Statuses:
    """The statuses of a lab in which nothing is wrong."""
    found: Statuses = {}
    for node in NODES:
        found["fleet", node.name] = "SERVING"
        for tenant in TENANTS:
            found["health", node.name, tenant.name] = "SERVING"
        for session in sessions_of(node):
            found["bgp", node.name, session.name, "state"] = "SERVING"
            for tenant in TENANTS:
                prefix = tenant.prefix4 if session.family == "ipv4" else tenant.prefix6
                found["bgp", node.name, session.name, tenant.name] = "SERVING"
                found["announcements", node.name, session.name, prefix] = "SERVING"
    return found


def difference(wanted: Statuses, seen: Statuses) -> str:
    """What is not as it should be, a line each; empty if all is. What was not seen at all doesn't count."""
    return "\n".join(
        f"  {' '.join(place)}: {status}, not {wanted.get(place, 'expected at all')}"
        for place, status in sorted(seen.items())
        if wanted.get(place) != status
    )


# --- the command line


class Watcher:
    """`anyconsole show VIEW --watch` in a process of its own, and the latest that it said about every row."""

    def __init__(self, lab: Lab, view: str, state: Path) -> None:
        self.view = view
        self.statuses: Statuses = {}
        self.changed: set[tuple[str, ...]] = set()
        """Places whose status became another one; the test empties it."""
        self.foreign: list[str] = []
        """Lines on standard output that are not of the documented shape."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "anyconsole", "--profile", str(lab.profile_path), "show", view, "--watch"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"XDG_STATE_HOME": str(state)},
        )
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate(timeout=5)

    def interrupt(self) -> tuple[int, str]:
        """End it as ctrl-c does. Returns its exit code and what it said on standard error."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(10)
        assert self._process.stderr is not None
        return code, self._process.stderr.read()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            try:
                said = json.loads(line)
                found = _json_statuses(self.view, said["row"])
            except (ValueError, KeyError):
                self.foreign.append(line)
            else:
                self.changed |= {p for p, status in found.items() if self.statuses.get(p, status) != status}
                self.statuses.update(found)


def _json_statuses(view: str, row: dict[str, Any]) -> Statuses:
    node = row["node"]
    match view:
        case "fleet":
            return {(view, node): row["status"]}
        case "health":
            return {(view, node, row["tenant"]): row["status"]}
        case "bgp":
            state = _CELLS.get(row["state"], row["state"] if row["state"] in ("STALE", "UNKNOWN") else "DOWN")
            cells = {"state": state, **{t.name: row[f"tenant.{t.name}"] for t in TENANTS}}
            return {(view, node, row["session"], name): value for name, value in cells.items()}
        case _:
            return {(view, node, row["session"], row["prefix"]): row["status"]}


def run_headless(lab: Lab, state: Path, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """`anyconsole --profile LAB ARGS` until its end; `state` takes its logs."""
    return run_profile(lab.profile_path, state, *args, timeout=timeout)


def run_profile(profile: Path, state: Path, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """The same with any profile."""
    return subprocess.run(
        [sys.executable, "-m", "anyconsole", "--profile", str(profile), *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"XDG_STATE_HOME": str(state)},
    )


# --- the screen


def open_console(lab: Lab, state: Path, *, columns: int = 200, rows: int = 50, **env: str | None) -> Terminal:
    """The console on a lab, in a terminal; `state` takes its logs."""
    return open_profile(lab.profile_path, state, columns=columns, rows=rows, **env)


def open_profile(profile: Path, state: Path, *, columns: int = 200, rows: int = 50, **env: str | None) -> Terminal:
    """The same with any profile."""
    return Terminal(
        [sys.executable, "-m", "anyconsole", "--profile", str(profile)],
        columns=columns,
        rows=rows,
        env={"XDG_STATE_HOME": str(state), **env},
    )


def on_screen(view: str, text: str) -> Statuses:
    """The statuses of the rows that are seen."""
    match view:
        case "fleet":
            return {(view, node): status for node, _, status in _ROW.findall(text)}
        case "health":
            return {(view, node, tenant): status for node, tenant, status in _ROW.findall(text)}
        case "bgp":
            found: Statuses = {}
            for node, session, state, *cells in _SESSION.findall(text):
                down = "DOWN" if state not in ("Established", "STALE", "UNKNOWN") else state
                found[view, node, session, "state"] = _CELLS.get(state, down)
                for tenant, cell in zip(TENANTS, cells, strict=True):
                    found[view, node, session, tenant.name] = _CELLS.get(cell, cell.upper())
            return found
        case _:
            return {(view, node, session, prefix): s for node, prefix, session, s in _ANNOUNCEMENT.findall(text)}


def wait_for_screen(terminal: Terminal, view: str, wanted: Statuses, deadline: float) -> None:
    """Go to a view and wait until all its rows that are seen say what is wanted, with every row that doesn't serve among them.

    Args:
        terminal: Shows the console, in any pane.
        view: One of VIEWS.
        wanted: Statuses of at least this view.
        deadline: On the monotonic clock.
    """
    for key in VIEWS[view]:
        terminal.send(key)
        time.sleep(0.05)
    troubled = {place for place, status in wanted.items() if place[0] == view and status != "SERVING"}
    least = troubled or {next(place for place in wanted if place[0] == view)}

    def is_so() -> bool:
        seen = on_screen(view, terminal.text())
        return least <= seen.keys() and not difference(wanted, seen)

    try:
        terminal.wait_until(is_so, max(0.0, deadline - time.monotonic()), f"{view} as it should be")
    except AssertionError as error:
        seen = on_screen(view, terminal.text())
        missing = _lines(least - seen.keys())
        raise AssertionError(f"{error}\nwrong:\n{difference(wanted, seen)}\nnot on the screen:\n{missing}") from None


def _lines(places: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"  {' '.join(place)}" for place in sorted(places))
