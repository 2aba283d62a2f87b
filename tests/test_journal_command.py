"""`anyconsole journal` as its user meets it: a real process, far from any node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anyconsole.actions.journal import Journal
from tests.actions.journalled import NOW, ended, run


class Ticks:
    """A clock on which every look takes a minute."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        self.now += 60
        return self.now


def anyconsole(*args: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ANYCONSOLE")}
    return subprocess.run(
        [sys.executable, "-m", "anyconsole", "--profile", "prod.example", "journal", *args],
        capture_output=True, text=True, timeout=60, check=False,
        env={**clean, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), **env},
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with three changes: done, open, done."""
    home = tmp_path_factory.mktemp("home")
    journal = Journal(home / "state" / "anyconsole" / "journal" / "prod", clock=Ticks())
    for id_, reason, is_closed in (
        ("a-1111", "first", True),
        ("a-2222", "crashed", False),
        ("a-3333", "größer ✓", True),
    ):
        begun = run(id_, reason=reason)
        change = journal.open_change(begun)
        change.record("step", step=0, host="fra1", event="applied", exit_status=0, output="reconfigured\n")
        change.close(ended(begun)) if is_closed else change.release(remove=False)
    return home


def test_the_newest_change_comes_first(home: Path) -> None:
    done = anyconsole("show", home=home)
    assert (done.returncode, done.stderr) == (0, "")
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["CHANGE", "UTC", "TOOK", "STATE", "WHO", "TICKET", "WHAT", "WHY"]
    assert [line.split()[0] for line in lines] == ["a-3333", "a-2222", "a-1111"]
    assert lines[2].split()[1:6] == ["2026-11-23", "18:55", "2m00s", "done", "alice@desk1"]
    assert anyconsole("show", "--limit", "1", home=home).stdout.splitlines()[1:] == lines[:1]


def test_what_a_crash_left_open_can_be_listed_alone(home: Path) -> None:
    done = anyconsole("show", "--open", home=home)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["a-2222"]


def test_the_end_of_an_id_is_enough_to_read_the_whole_report(home: Path) -> None:
    done = anyconsole("show", "2222", home=home)
    assert done.returncode == 0
    assert "| Outcome | **open**" in done.stdout
    assert "```\nreconfigured\n```" in done.stdout


def test_an_export_is_the_last_change_as_markdown_or_json(home: Path) -> None:
    assert "| Why | größer ✓ |" in anyconsole("export", home=home).stdout
    exported = json.loads(anyconsole("export", "a-1111", "--output", "json", home=home).stdout)
    assert exported["version"] == 1
    assert (exported["change"]["id"], exported["change"]["outcome"], exported["change"]["reason"]) == (
        "a-1111",
        "done",
        "first",
    )
    assert [r["kind"] for r in exported["change"]["records"]] == ["opened", "step", "closed"]
    assert exported["change"]["plan"]["steps"][0]["apply"] == "echo apply\n"


def test_a_terminal_without_unicode_gets_a_report_too(home: Path) -> None:
    done = anyconsole("export", "--output", "json", home=home, PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["change"]["reason"] == "größer ✓"
    assert anyconsole("export", home=home, PYTHONIOENCODING="ascii").returncode == 0


@pytest.mark.parametrize("args", [("show", "nope"), ("export", "nope")])
def test_an_unknown_change_is_one_clear_line_and_exit_code_2(args: tuple[str, ...], home: Path) -> None:
    done = anyconsole(*args, home=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("anyconsole: there is no change 'nope' in ")
    assert "a-3333, a-2222, a-1111" in done.stderr


def test_an_empty_journal_says_so(tmp_path: Path) -> None:
    done = anyconsole("show", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "has no change" in done.stderr
    assert anyconsole("export", home=tmp_path).returncode == 2


def test_unreadable_lines_are_told_beside_the_list(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "anyconsole" / "journal" / "prod"
    folder.mkdir(parents=True)
    (folder / "2026-10.jsonl").write_bytes(b"torn\n{}\n")
    done = anyconsole("show", home=tmp_path)
    assert done.returncode == 0
    assert f"anyconsole: 2 unreadable lines in {folder}/2026-10.jsonl" in done.stderr.splitlines()


def test_a_limit_that_is_no_number_is_refused_in_plain_words(home: Path) -> None:
    done = anyconsole("show", "--limit", "-1", home=home)
    assert done.returncode == 2
    assert "at least 1" in done.stderr
