"""What tests of drains share: running them from the command line, and what the real daemons say afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from anyconsole.lab import Lab
from tests.e2e.observe import run_headless
from tests.terminal import ENTER, Terminal, TerminalTimeoutError

__all__ = [
    "apply_on_screen",
    "change",
    "drain_conf",
    "go_to_first",
    "plan_on_screen",
    "put_back",
    "records",
    "running_serial",
    "settle",
]


def change(lab: Lab, state: Path, *args: str, status: int = 0, timeout: float = 90) -> dict[str, Any]:
    """`anyconsole drain|undrain …  --yes --output json`, which must end with `status`; returns the document."""
    done = run_headless(lab, state, *args, "--yes", "--output", "json", timeout=timeout)
    assert done.returncode == status, (done.returncode, done.stderr[-3000:], done.stdout[-1500:])
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def running_serial(lab: Lab, host: str) -> int:
    """The drain serial in BIRD's own memory."""
    said = lab.run(host, ["birdc", "eval", "DRAIN_SERIAL"]).stdout
    return int(said.split()[-1])


def drain_conf(lab: Lab, host: str) -> str:
    """The drain file on disk."""
    text: str = lab.run(host, ["cat", "/etc/bird/drain.conf"]).stdout
    return text


@contextmanager
def put_back(lab: Lab, *hosts: str) -> Iterator[None]:
    """The hosts' drain state is afterwards to the letter what it was before."""
    kept = {host: drain_conf(lab, host) for host in hosts}
    try:
        yield
    finally:
        for host, text in kept.items():
            write = f"cat > /etc/bird/drain.conf <<'EOT'\n{text}EOT\nrm -f /etc/bird/drain.stage.conf; birdc configure"
            done = lab.run(host, ["sh", "-c", write])
            assert done.returncode == 0, done.stdout


class _Line(msgspec.Struct):
    kind: str
    id: str
    event: str = ""
    outcome: str = ""
    host: str = ""
    words: str = ""


def records(state: Path) -> list[_Line]:
    """All records of all journals below a state folder, in order."""
    lines = []
    for file in sorted(state.rglob("journal/*/*.jsonl")):
        lines += [msgspec.json.decode(line, type=_Line, strict=False) for line in file.read_bytes().splitlines()]
    return lines


# --- on the screen


def plan_on_screen(terminal: Terminal, key: str, node: str, *, reason: str, ticket: str = "") -> None:
    """Arm the console, open the plan of `node`, the first in the fleet, with D or U, and fill in all that it asks for, up to Apply."""
    terminal.send(f":arm 15m{ENTER}")
    terminal.wait_for("ARMED", 15)
    settle(terminal)  # until the line is closed: what comes sooner is typed into it
    go_to_first(terminal, "1", node)
    terminal.send(key)
    verb = "Drain" if key == "D" else "Undrain"
    terminal.wait_for(f"{verb}: node {node}", 15)
    terminal.wait_for("PLAN", 10)
    terminal.wait_for("clock ", 15)  # the last of the guards: a tick is one of the fields
    if key == "D":
        terminal.wait_for(r"up to \d+ q/s move", 10)
    fields = 3 if key == "D" else 1  # level and duration come first, where there is a choice
    typed = ["\t" * fields + reason, f"\t{ticket}"]
    if key == "D":
        typed += [f"\t{node}", "\t", " "]  # its name, and a tick at what nobody knows
    for text in typed:
        terminal.send(text)
        settle(terminal)
    terminal.wait_for("tab to Apply", 10)


def go_to_first(terminal: Terminal, pane: str, row: str) -> None:
    """Put the cursor on a row that comes first in a pane, once it does: what a test before broke goes first until it is well again."""
    deadline = time.monotonic() + 30
    while True:
        terminal.send(f"{pane}g")
        try:
            terminal.wait_for(rf"NODE .*\n.*▌ {row}\b", 2)
        except TerminalTimeoutError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def settle(terminal: Terminal) -> None:
    """Until the screen is silent for a moment; live numbers may never let that of a busy machine fall silent."""
    with suppress(TerminalTimeoutError):
        terminal.wait_quiet(0.3, 15)


def apply_on_screen(terminal: Terminal) -> None:
    """From the last field of a plan to Apply, and press it."""
    for _ in range(20):  # fields in a round; a busy machine may show where the cursor is only when it has gone on
        if "> Apply <" in terminal.text():
            break
        terminal.send("\t")
        with suppress(TerminalTimeoutError):
            terminal.wait_for("> Apply <", 1)
    terminal.wait_for("> Apply <", 15)
    time.sleep(0.5)  # a button that has only just got the cursor takes no key
    terminal.send(ENTER)
