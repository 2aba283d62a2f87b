"""Load tests are found quickly and rightly, whatever happens to the index, and by however many consoles."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyconsole.actions.load.files import RunFile
from anyconsole.actions.load.index import LoadIndex, RunFilter
from anyconsole.actions.load.record import Result
from anyconsole.errors import LoadError
from tests.actions.load_runs import NOW, QUERIES, Clock, header, write_pair, write_search, write_soak


def ended(folder: Path, id_: str, at: float, verdict: str, lower: float | None = None, **about: str) -> Path:
    """A run of which only its end is told."""
    clock = Clock(at)
    with RunFile.create(folder, header(id_, at=at, **about), clock=clock) as file:  # type: ignore[arg-type]
        clock.now += 60
        file.end(Result(verdict=verdict, lower_qps=lower))
    return file.path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three searches and a soak run."""
    folder = tmp_path_factory.mktemp("loadtests")
    write_search(folder, header("a-1111", at=NOW))
    write_search(folder, header("a-2222", at=NOW + 600, kind="bare", node="ns-bm-4"), capacity=38_900)
    write_soak(folder, header("a-3333", at=NOW + 1200), seconds=3)
    ended(folder, "a-4444", NOW + 1800, "generator-limited")
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """The same, for one test alone."""
    return shutil.copytree(written, tmp_path / "loadtests")


def ids(index: LoadIndex, **chosen: str | float) -> list[str]:
    return [run.id for run in index.runs(RunFilter(**chosen))]  # type: ignore[arg-type]


def test_runs_are_listed_newest_first_with_what_they_found(folder: Path) -> None:
    runs = LoadIndex(folder).runs()
    assert [run.id for run in runs] == ["a-4444", "a-3333", "a-2222", "a-1111"]
    first = runs[-1]
    assert (first.target, first.node, first.tenant, first.kind, first.purpose) == (
        "de@k3s-2",
        "k3s-2",
        "de",
        "virtual",
        "search",
    )
    assert (first.verdict, first.limited_by, first.operator, first.pair_id) == (
        "ok",
        "cpu-quota",
        "alice@desk1",
        "7f3a",
    )
    assert (first.at, first.workload) == (NOW, QUERIES)
    assert first.lower == pytest.approx(20_202, rel=0.001)
    assert first.upper == pytest.approx(20_404, rel=0.001)
    assert first.seconds == pytest.approx(68, abs=1)
    assert [run.id for run in LoadIndex(folder).runs(limit=2)] == ["a-4444", "a-3333"]


def test_they_are_found_by_what_people_remember(folder: Path) -> None:
    index = LoadIndex(folder)
    assert ids(index, node="ns-bm-4") == ["a-2222"]
    assert ids(index, kind="virtual", purpose="search", verdict="ok") == ["a-1111"]
    assert ids(index, since=NOW + 600, until=NOW + 1200) == ["a-2222"]
    assert ids(index, operator="'; DROP TABLE run; --") == []
    assert [run.id for run in index.find("2222")] == ["a-2222"]
    assert index.find("222") == []
    assert [run.id for run in index.find("a-1111")] == ["a-1111"]


def test_an_empty_folder_has_no_runs_and_gets_no_index(tmp_path: Path) -> None:
    assert LoadIndex(tmp_path / "none").runs() == []
    assert not (tmp_path / "none").exists()


def test_new_changed_and_removed_files_are_noticed(folder: Path) -> None:
    index = LoadIndex(folder)
    before = {run.id: run for run in index.runs()}
    added = ended(folder, "b-5555", NOW + 2400, "ok", 100.0)
    Path(before["a-1111"].path).unlink()
    assert ids(index) == ["b-5555", "a-4444", "a-3333", "a-2222"]
    added.write_bytes(added.read_bytes()[:-50])
    assert index.find("5555")[0].verdict == "aborted"


def test_a_run_that_goes_on_is_listed_as_such_until_its_console_is_gone(folder: Path) -> None:
    index = LoadIndex(folder)
    file = RunFile.create(folder, header("b-6666", at=NOW + 3000))
    assert index.runs()[0].verdict == "running"
    file.close()  # as a crash does: no byte of the file changes
    assert index.runs()[0].verdict == "aborted"


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"this is no database" * 1000),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(3 * 4096)),
        lambda path: sqlite3.connect(path).executescript("DROP TABLE run; PRAGMA user_version = 99"),
        lambda path: sqlite3.connect(path).executescript("ALTER TABLE run RENAME COLUMN verdict TO judgement"),
    ],
    ids=["missing", "no database", "cut off", "zeroed", "of another version", "with another table"],
)
def test_an_index_of_no_use_is_made_anew_from_the_files(folder: Path, harm: object) -> None:
    index = LoadIndex(folder)
    before = index.runs()
    assert callable(harm)
    harm(index.path)
    assert index.runs() == before
    assert stat.S_IMODE(index.path.stat().st_mode) == 0o600


def test_files_that_are_no_load_test_are_passed_over(folder: Path) -> None:
    (folder / "2026" / "notes.jsonl").write_text("remember the milk\n")
    (folder / "2026" / "README").write_text("hello")
    assert len(LoadIndex(folder).runs()) == 4


def test_two_consoles_use_it_while_a_third_measures(folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from anyconsole.actions.load.index import LoadIndex\n"
        "index = LoadIndex(Path(sys.argv[1])); seen = 0\n"
        "while seen < 16: seen = len(index.runs())\n"
        "print(seen)"
    )
    index = LoadIndex(folder)
    with contextlib.ExitStack() as stack:
        readers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script, str(folder)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        for number in range(12):
            ended(folder, f"b-{number:04}", NOW + 3000 + number, "ok", 100.0)
            if number == 6:
                index.path.unlink(missing_ok=True)  # and somebody tidies up
            assert len(index.runs()) == 5 + number
        for reader in readers:
            assert reader.communicate(timeout=30) == ("16\n", "")
            assert reader.returncode == 0


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Another console is writing it, and doesn't come to an end."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        database.close()


def test_an_index_that_another_console_holds_is_told_and_left_alone(folder: Path) -> None:
    index = LoadIndex(folder, patience=0.2)
    before = index.runs()
    began_at = time.monotonic()
    with held(index.path), pytest.raises(LoadError, match=r"another console has held the index for 0\.2 s; try again"):
        index.runs()
    assert time.monotonic() - began_at < 5
    assert index.runs() == before


# --- what the drain guard asks


def test_the_capacity_of_a_node_is_its_newest_search_with_a_result(folder: Path) -> None:
    index = LoadIndex(folder)
    ended(folder, "b-0001", NOW + 4000, "ok", 21_000.0)
    for place, (verdict, about) in enumerate(
        (
            ("generator-limited", {}),
            ("aborted", {}),
            (">=cap", {}),
            ("ok", {"purpose": "fixed"}),
            ("ok", {"node": "elsewhere"}),
        )
    ):
        ended(folder, f"b-1{place:03}", NOW + 5000 + place, verdict, 9_000.0, **about)
    RunFile.create(folder, header("b-2222", at=NOW + 6000)).close()
    found = {(c.node, c.tenant): c for c in index.capacities(NOW + 7000)}
    capacity = found["k3s-2", "de"]
    assert (capacity.qps, capacity.measured_at) == (21_000, NOW + 4000)
    assert "b-0001" in capacity.how
    assert ("k3s-2", "nic") not in found


def test_the_capacity_says_when_and_how_it_was_measured(folder: Path) -> None:
    (capacity,) = [c for c in LoadIndex(folder).capacities(NOW) if (c.node, c.tenant) == ("ns-bm-4", "de")]
    assert capacity.measured_at == NOW + 600
    assert capacity.how == "load test a-2222, 0.56 % lost, limited by worker-cpu"


def test_a_comparison_is_found_by_its_pair(tmp_path: Path) -> None:
    write_pair(tmp_path, order="ABBA", pair_id="77aa")
    ended(tmp_path, "b-0001", NOW + 4000, "ok", 21_000.0)
    assert len(LoadIndex(tmp_path).runs(RunFilter(pair_id="77aa"))) == 4
