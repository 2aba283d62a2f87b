"""Drain and undrain from the screen, by keys, on the real network: what the operator sees from `:arm` to the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anyconsole.lab import Lab
from tests.e2e.drains import apply_on_screen, plan_on_screen, put_back, records, running_serial
from tests.terminal import ENTER, ESCAPE, Terminal

pytestmark = pytest.mark.lab


def test_a_node_is_drained_and_undrained_by_keys(lab: Lab, tmp_path: Path, console: Callable[..., Terminal]) -> None:
    with put_back(lab, "fra1"):
        terminal = console()
        terminal.wait_for("● live", 20)
        plan_on_screen(terminal, "D", "fra1", reason="new disks", ticket="CHG4711")
        apply_on_screen(terminal)
        terminal.wait_for("running, 1 of 2 steps done", 30)
        terminal.wait_for("ended: done", 60)
        terminal.send(ESCAPE)
        terminal.wait_for(r"fra1 .*DRAINED", 10)
        plan_on_screen(terminal, "U", "fra1", reason="disks are in")
        apply_on_screen(terminal)
        terminal.wait_for("undrain: node fra1   ended: done", 60)
        terminal.send(ESCAPE)
        terminal.wait_gone("ended: done", 15)
        terminal.send("8")
        terminal.wait_for(r"(?s)Journal\[2\].*undrain: node fra1.*CHG4711", 10)
        assert [r.outcome for r in records(tmp_path) if r.kind == "closed"] == ["done", "done"]


def test_a_read_only_console_opens_no_plan(lab: Lab, tmp_path: Path, console: Callable[..., Terminal]) -> None:
    before = running_serial(lab, "fra1")
    terminal = console()
    terminal.wait_for("● live", 20)
    terminal.send("1gD")
    terminal.wait_for("read-only", 15)
    terminal.send(f":drain{ENTER}")
    terminal.wait_for("read-only", 15)
    assert "Drain:" not in terminal.text()
    assert running_serial(lab, "fra1") == before
    assert records(tmp_path) == []
