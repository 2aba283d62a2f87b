"""A plan's commands are exact: run by hand on the real daemons, word for word, they do what the plan says, and the console sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anyconsole.lab import Lab
from tests.e2e.observe import run_headless

pytestmark = pytest.mark.lab


def planned(lab: Lab, state: Path, *args: str, status: int = 0) -> dict[str, Any]:
    done = run_headless(lab, state, *args, "--plan", "--output", "json")
    assert done.returncode == status, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def carry_out(lab: Lab, plan: dict[str, Any]) -> None:
    """What an operator without the console would do: write the file, type the commands."""
    for step in plan["plan"]["steps"]:
        if step["file"]:
            write = f"cat > {step['file']} <<'EOT'\n{step['content']}EOT\n"
            assert lab.run(step["host"], ["sh", "-c", write], 10).returncode == 0
        for command in step["commands"]:
            done = lab.run(step["host"], ["sh", "-c", command], 10)
            assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.fixture
def untouched(lab: Lab) -> Iterator[Lab]:
    """The lab, with BIRD's drain state put back to the letter afterwards: a drain leaves its serial and its note behind."""
    kept = lab.run("fra1", ["cat", "/etc/bird/drain.conf"]).stdout
    yield lab
    restore = f"cat > /etc/bird/drain.conf <<'EOT'\n{kept}EOT\nrm -f /etc/bird/drain.stage.conf; birdc configure"
    assert lab.run("fra1", ["sh", "-c", restore]).returncode == 0


def statuses(lab: Lab, state: Path, node: str, tenant: str) -> set[tuple[str, str, str]]:
    done = run_headless(lab, state, "show", "announcements", "--output", "json")
    rows = json.loads(done.stdout)["rows"]
    return {(r["status"], r["intended"], r["exported"]) for r in rows if (r["node"], r["tenant"]) == (node, tenant)}


def wait_for(lab: Lab, state: Path, node: str, tenant: str, wanted: set[tuple[str, str, str]]) -> None:
    end = time.monotonic() + 15
    while (seen := statuses(lab, state, node, tenant)) != wanted:
        assert time.monotonic() < end, seen


@pytest.mark.parametrize("node", ["fra1", "lon1"])
@pytest.mark.parametrize(
    ("level", "wanted"), [("--soft", {("SOFT", "soft", "depreferred")}), ("--hard", {("DRAINED", "hard", "absent")})]
)
def test_a_plan_carried_out_by_hand_drains_and_undrains(
    untouched: Lab, tmp_path: Path, node: str, level: str, wanted: set[tuple[str, str, str]]
) -> None:
    lab = untouched
    scope = ("--node", node, "--tenant", "nic")
    carry_out(lab, planned(lab, tmp_path, "drain", *scope, level, "--reason", 'a "quoted" one; $(id)'))
    try:
        wait_for(lab, tmp_path, node, "nic", wanted)
        assert statuses(lab, tmp_path, node, "de") == {("SERVING", "serve", "announced")}
    finally:
        carry_out(lab, planned(lab, tmp_path, "undrain", *scope))
    wait_for(lab, tmp_path, node, "nic", {("SERVING", "serve", "announced")})


def test_a_plan_that_would_lose_a_prefix_is_refused(lab: Lab, tmp_path: Path) -> None:
    document = planned(lab, tmp_path, "drain", "--tenant", "de", "--hard", status=3)
    refused = {g["name"]: g for g in document["guards"] if g["outcome"] == "refuse"}
    assert not refused["last announcer"]["overridable"]
    assert len(document["plan"]["steps"]) == 5


def test_drain_without_plan_changes_nothing_and_says_so(lab: Lab, tmp_path: Path) -> None:
    done = run_headless(lab, tmp_path, "drain", "--node", "fra1")
    assert done.returncode == 2
    assert "--plan" in done.stderr
