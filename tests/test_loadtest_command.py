"""`anyconsole loadtest` as its user meets it: a real process, far from any node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from anyconsole import cli
from anyconsole.actions.load.files import read_run
from tests.actions.load_runs import NOW, header, write_pair, write_soak


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def anyconsole(*args: str, home: Path, **env: str) -> Done:
    """Run it as a process of its own, which takes a third of a second."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ANYCONSOLE")}
    done = subprocess.run(
        [sys.executable, "-m", "anyconsole", "--profile", "prod.example", "loadtest", *args],
        capture_output=True, text=True, timeout=60, check=False,
        env={**clean, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), **env},
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def loadtest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run it in this process."""

    def run(*args: str, home: Path) -> Done:
        monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
        try:
            code = cli.main(["--profile", "prod.example", "loadtest", *args])
        except SystemExit as end:
            code = int(str(end.code))
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a pair of two searches each, and a soak run after them."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "state" / "anyconsole" / "loadtests" / "prod"
    write_pair(folder, order="ABBA")
    write_soak(folder, header("20261124-080000-5041", at=NOW + 40_000, pair_id=""), seconds=5)
    return home


def test_the_newest_load_test_comes_first(home: Path) -> None:
    done = anyconsole("list", home=home)
    assert (done.returncode, done.stderr) == (0, "")
    titles, *lines = done.stdout.splitlines()
    assert titles.split()[:6] == ["RUN", "UTC", "TOOK", "TARGET", "KIND", "PURPOSE"]
    assert [line.split()[0][-4:] for line in lines] == ["5041", "a003", "b002", "b001", "a000"]
    assert "24 170  24 412" in lines[1]


def test_a_list_can_be_filtered_and_fed_to_programs(home: Path, loadtest: Callable[..., Done]) -> None:
    rows = json.loads(loadtest("list", "--kind", "bare", "--limit", "1", "--output", "json", home=home).stdout)["rows"]
    assert [(row["target"], row["limited_by"], round(row["lower"])) for row in rows] == [
        ("de@ns-bm-4", "worker-cpu", 39_830)
    ]
    nothing = loadtest("list", "--node", "nowhere", home=home)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no such load test" in nothing.stderr


def test_the_end_of_an_id_is_enough_to_read_the_whole_sheet(home: Path, loadtest: Callable[..., Done]) -> None:
    done = loadtest("show", "a003", home=home)
    assert done.returncode == 0
    assert done.stdout.startswith("Search: de@k3s-2\nok: 24 170 queries/s, most seconds lost no more than 1.0 %")
    assert "Soak: de@k3s-2" in loadtest("show", home=home).stdout


def test_a_pair_is_compared_virtual_against_bare(home: Path, loadtest: Callable[..., Done]) -> None:
    done = loadtest("compare", "--pair", "7f3a", home=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == [
        "de@k3s-2 against de@ns-bm-4",
        "2 pairs, at <= 1.0 % loss, p99 <= 50 ms, pair 7f3a",
    ]
    assert "Performance     24 392 q/s (measured)" in done.stdout
    same = loadtest("compare", "a000,a003", "b001,b002", home=home)
    assert same.stdout == done.stdout


def test_what_cannot_be_compared_gets_no_ratio_and_exit_code_1(home: Path, loadtest: Callable[..., Done]) -> None:
    done = loadtest("compare", "a000", "5041", home=home)
    assert done.returncode == 1
    assert "No ratio: purpose differs: search against soak." in done.stdout


def test_charts_and_records_go_into_files(home: Path, tmp_path: Path, loadtest: Callable[..., Done]) -> None:
    chart, record = tmp_path / "search.svg", tmp_path / "search.jsonl"
    assert loadtest("export", "a000", "--output", "svg", "--file", str(chart), home=home).returncode == 0
    assert "24 613 .. 24 859" in chart.read_text()
    assert loadtest("export", "a000", "--output", "jsonl", "--file", str(record), home=home).returncode == 0
    assert read_run(record).id == "20261123-000000-a000"
    assert "A / B: 0.6" in loadtest("export", "a000", "--against", "b001", "--output", "svg", home=home).stdout
    # The copy can be read wherever it is, like another tool's file.
    assert loadtest("show", str(record), home=home).stdout == loadtest("show", "a000", home=home).stdout


def test_a_terminal_without_unicode_gets_a_report_too(home: Path) -> None:
    done = anyconsole("export", "a000", "--output", "svg", home=home, PYTHONIOENCODING="ascii")
    assert (done.returncode, "Search: de@k3s-2" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("show", "nope"), "there is no load test 'nope' in "),
        (("show", "no/such/file.jsonl"), "no/such/file.jsonl: the load test can't be read: No such file"),
        (("compare", "a000"), "compare what? Say A and B, each one or more runs joined by commas, or --pair ID"),
        (("compare", "a000", "b001,a000"), "20261123-000000-a000: on both sides"),
        (
            ("compare", "--pair", "none"),
            "pair 'none': two targets are needed, but there are 0 finished runs by that name",
        ),
        (("export", "--output", "svg", "--file", "/no/such/folder/x.svg"), "/no/such/folder/x.svg: can't be written"),
        (("export", "a000", "--against", "b001", "--output", "jsonl"), "a comparison has no rows of its own"),
        (("list", "--since", "yesterday"), "'yesterday': must be a day, as 2026-11-23"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    args: tuple[str, ...], words: str, home: Path, loadtest: Callable[..., Done]
) -> None:
    done = loadtest(*args, home=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]


def test_nothing_measured_yet_says_so(tmp_path: Path, loadtest: Callable[..., Done]) -> None:
    done = loadtest("list", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no load test of prod" in done.stderr
    assert loadtest("show", home=tmp_path).returncode == 2


def test_neither_the_screen_nor_transports_nor_matplotlib_are_loaded_for_a_chart(home: Path) -> None:
    """Everything that is heavy stays out of the way of somebody who only reads results."""
    script = (
        "import sys; from anyconsole import cli\n"
        "code = cli.main(['--profile', 'prod.example', 'loadtest', 'export', 'a000', '--output', 'svg', '--file', '/dev/null'])\n"
        "print(code, sorted({'textual', 'asyncssh', 'matplotlib', 'numpy', 'requests', 'dns'} & sys.modules.keys()))"
    )
    env = {**os.environ, "XDG_STATE_HOME": str(home / "state")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=env
    )
    assert done.stdout == "0 []\n"
