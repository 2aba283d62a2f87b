"""Drain and undrain on the real network, with queries all the while: not one of them is lost, and no session flaps."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anyconsole.actions import runner
from anyconsole.lab import Lab
from anyconsole.lab.queries import QueryLoad
from anyconsole.lab.uptimes import flapped, uptimes
from benchmarks.race import race
from tests.e2e.drains import change, drain_conf, put_back, records, running_serial
from tests.e2e.long import LONG
from tests.e2e.observe import run_headless

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("scope", "tenant"),
    [
        (("--node", "fra1"), "nic"),
        pytest.param(("--interconnect", "transit", "--parallel", "3"), "de", marks=LONG),
        (("--node", "lon1"), "enum"),
    ],
    ids=["node", "interconnect", "frr"],
)
def test_drain_and_undrain_lose_no_query_and_flap_no_session(
    breakable_lab: Lab, tmp_path: Path, scope: tuple[str, ...], tenant: str
) -> None:
    lab = breakable_lab
    with put_back(lab, "fra1", "fra2", "sin1"):
        up = uptimes(lab)
        with QueryLoad(lab, tenant=tenant, rate=200, clients=("client1", "client3")) as load:
            drained = change(lab, tmp_path, "drain", *scope, "--reason", "zero loss", "--residual", "go")
            undrained = change(lab, tmp_path, "undrain", *scope, "--reason", "zero loss")
        assert load.result.lost == 0, str(load.result)
        assert load.result.failed == 0, str(load.result)
        assert flapped(up, uptimes(lab)) == []
        assert [d["run"]["outcome"] for d in (drained, undrained)] == ["done", "done"]
        for document in (drained, undrained):
            for step in document["run"]["steps"]:
                assert all(p["met"] for p in step["proofs"] if p["required"]), step
                assert any(p["layer"] == "peers" and p["met"] for p in step["proofs"]), step


def test_what_is_drained_is_told_to_every_console_with_who_why_and_until_when(lab: Lab, tmp_path: Path) -> None:
    with put_back(lab, "fra1"):
        change(
            lab, tmp_path, "drain", "--node", "fra1", "--tenant", "nic", "--soft", "--for", "2h", "--ticket", "CHG7",
            "--reason", 'a "quoted" one; $(id)',
        )  # fmt: skip
        done = run_headless(lab, tmp_path, "drains", "--output", "json")
        (row,) = json.loads(done.stdout)["rows"]
        assert row["node"] == "fra1"
        assert row["ticket"] == "CHG7"
        assert "nic" in row["scope"]
        note = drain_conf(lab, "fra1")
        assert "ticket=CHG7" in note
        assert "exp=" in note
        assert [r.event for r in records(tmp_path) if r.kind == "step"] == [
            "applying", "applied", "verified", "confirming", "confirmed", "done",
        ]  # fmt: skip


# --- exit codes


def test_a_plan_that_would_lose_a_prefix_is_refused(lab: Lab, tmp_path: Path) -> None:
    document = change(lab, tmp_path, "drain", "--tenant", "de", "--hard", "--reason", "no", status=3)
    refused = {g["name"]: g for g in document["guards"] if g["outcome"] == "refuse"}
    assert not refused["last announcer"]["overridable"]
    assert records(tmp_path) == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("drain", "--node", "fra1", "--yes"), "--reason"),
        (("drain", "--node", "fra1", "--reason", "x"), "--yes"),
        (("drain", "--node", "fra9", "--reason", "x", "--yes"), "there is no node 'fra9'"),
        (("drain", "--tenant", "de", "--hard", "--reason", "x", "--yes", "--override", "last announcer=x"), "can't be"),
        (("drain", "--node", "fra1", "--reason", "x", "--yes", "--override", "weather=x"), "no guard 'weather'"),
    ],
)
def test_a_mistake_changes_nothing_and_says_what_to_do(
    lab: Lab, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    before = running_serial(lab, "fra1")
    done = run_headless(lab, tmp_path, *args)
    assert done.returncode == 2
    assert said in done.stderr
    assert running_serial(lab, "fra1") == before


@pytest.mark.parametrize(
    "command",
    [
        ("drain", "--node", "fra1"),
        ("undrain", "--node", "fra1"),
        ("drift", "adopt"),
        ("drift", "revert"),
        ("loadtest", "run", "--target", "de.fra1"),
    ],
    ids=" ".join,
)
def test_a_read_only_console_changes_nothing(lab: Lab, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run_headless(lab, tmp_path, "--read-only", *command, "--reason", "x", "--yes")
    assert done.returncode == 2
    assert "read-only" in done.stderr
    assert records(tmp_path) == []


def test_a_drain_file_that_can_not_be_written_is_said_and_nothing_changes(breakable_lab: Lab, tmp_path: Path) -> None:
    lab = breakable_lab
    folder = "/etc/bird"
    before = running_serial(lab, "fra1"), drain_conf(lab, "fra1")
    mode = lab.run("fra1", ["stat", "-c", "%a", folder]).stdout.strip()
    assert lab.run("fra1", ["chmod", "0555", folder]).returncode == 0
    try:
        scope = ("drain", "--node", "fra1", "--tenant", "nic", "--soft", "--reason", "no way")
        document = change(lab, tmp_path, *scope, status=1)
    finally:
        assert lab.run("fra1", ["chmod", mode, folder]).returncode == 0
    assert document["run"]["outcome"] == "failed"
    assert "ermission denied" in document["run"]["words"], document["run"]["words"]
    assert (running_serial(lab, "fra1"), drain_conf(lab, "fra1")) == before


def test_what_was_left_open_is_told_before_the_next_change(lab: Lab, tmp_path: Path) -> None:
    with put_back(lab, "fra1"):
        scope = ("drain", "--node", "fra1", "--tenant", "nic", "--soft", "--reason", "first")
        change(lab, tmp_path, *scope)
        journal = next(tmp_path.rglob("journal/*/*.jsonl"))
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(line for line in lines if '"kind":"closed"' not in line.replace('": "', '":"')))
        told = run_headless(lab, tmp_path, "undrain", "--node", "fra1", "--tenant", "nic", "--plan").stderr
        assert "open change from" in told
        assert "confirmed" in told, "what the node says of it now"


def test_evidence_that_is_missing_is_no_ground_to_act(breakable_lab: Lab, tmp_path: Path) -> None:
    breakable_lab.break_("sshd", "ams1")
    args = ("drain", "--node", "ams1", "--tenant", "de", "--reason", "x", "--yes", "--wait", "4", "--output", "json")
    done = run_headless(breakable_lab, tmp_path, *args)
    assert done.returncode == 4, done.stderr
    assert records(tmp_path) == []


def test_an_override_is_journalled_with_its_reason(lab: Lab, tmp_path: Path) -> None:
    with put_back(lab, "fra1", "fra2", "ams1"):
        site = ("--site", "fra", "--tenant", "enum", "--hard", "--parallel", "2")
        change(lab, tmp_path, "drain", *site, "--reason", "first")
        third = ("drain", "--node", "ams1", "--tenant", "enum", "--hard", "--reason", "third")
        document = change(lab, tmp_path / "other", *third, status=3)
        assert [g["name"] for g in document["guards"] if g["outcome"] == "refuse"] == ["floor"]
        change(lab, tmp_path / "other", *third, "--override", "floor=the building burns")
        shown = run_headless(lab, tmp_path / "other", "journal", "export", "--output", "json")
        assert json.loads(shown.stdout)["change"]["overrides"] == {"floor": "the building burns"}


# --- several consoles


@LONG
def test_two_consoles_never_drain_the_two_last_nodes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark runs a hundred of these."""
    monkeypatch.setattr(runner, "LINGER", runner.LINGER)  # the race sets it
    with put_back(lab, "fra1", "fra2", "ams1", "sin1"):
        assert asyncio.run(race(lab, 1))["both"] == 0


def test_of_five_consoles_on_one_node_exactly_one_wins(lab: Lab, tmp_path: Path) -> None:
    with put_back(lab, "fra2"):
        args = ("drain", "--node", "fra2", "--tenant", "de", "--soft", "--reason", "race", "--yes", "--output", "json")
        with ThreadPoolExecutor(5) as pool:
            done = list(pool.map(lambda i: run_headless(lab, tmp_path / str(i), *args, timeout=60), range(5)))
        codes = sorted(d.returncode for d in done)
        # A console that looks once the winner is done finds nothing left to do, which is no failure either.
        winners = [d for d in done if d.returncode == 0 and json.loads(d.stdout).get("run")]
        assert len(winners) == 1, [(d.returncode, d.stderr[-300:]) for d in done]
        # One that got too little of a busy machine says that it hasn't seen enough, and touches nothing.
        assert set(codes) <= {0, 4, 5}, [(d.returncode, d.stderr[-300:]) for d in done]
        assert running_serial(lab, "fra2") == json.loads(winners[0].stdout)["plan"]["steps"][0]["serial"]
