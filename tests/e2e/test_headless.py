"""The fleet without a screen: every view in every format on standard output and nothing else there, and exit codes to rely on."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anyconsole.lab import Lab
from tests.e2e.observe import run_headless

pytestmark = pytest.mark.lab

Check = Callable[..., subprocess.CompletedProcess[str]]

ROWS = {
    "fleet": 5,
    "tenants": 3,
    "bgp": 20,
    "announcements": 60,
    "catchment": 18,
    "health": 15,
    "qps": 15,
    "drains": 0,
    "events": 0,
}
OTHER_FORMATS = {"fleet": "table", "announcements": "csv", "bgp": "markdown"}
"""Every view in every format is printed in tests/model/test_report.py; here it is enough that the formats work on a real fleet."""


@pytest.fixture(scope="module")
def printed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """Every view as JSON and some in another format, asked for side by side to save time."""
    state = tmp_path_factory.mktemp("state")
    end = time.monotonic() + 30
    while (
        seen := run_headless(lab, state, "check")
    ).returncode:  # rows are in the order of their troubles: there must be none
        assert time.monotonic() < end, seen.stdout
    wanted = [(view, "json") for view in ROWS]
    wanted += list(OTHER_FORMATS.items())
    with ThreadPoolExecutor(max_workers=4) as pool:
        done = pool.map(lambda what: run_headless(lab, state, "show", what[0], "--output", what[1]), wanted)
        found = dict(zip(wanted, done, strict=True))
    assert {what: (run.returncode, run.stderr) for what, run in found.items()} == dict.fromkeys(wanted, (0, ""))
    return {what: run.stdout for what, run in found.items()}


@pytest.mark.parametrize("view", ROWS)
def test_json_has_the_documented_shape(printed: dict[tuple[str, str], str], lab: Lab, view: str) -> None:
    said = json.loads(printed[view, "json"])
    assert said["version"] == 1
    assert said["view"] == view
    assert said["profile"] == f"lab {lab.name}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["at"])
    assert len(said["rows"]) == ROWS[view]
    documented = _documented_fields(view)
    for row in said["rows"]:
        assert [re.sub(r"tenant\.\w+", "tenant.NAME", name) for name in row] == documented


def _documented_fields(view: str) -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    rows = dict(re.findall(r"^\| (\w+) \| [^|]+ \| (.*) \|$", page, re.MULTILINE))
    fields = rows["health" if rows[view] == "the same" else view]
    names = re.sub(r" \([^)]*\)", "", fields).split(", ")
    tenants = names.index("tenant.NAME") if "tenant.NAME" in names else None
    return names if tenants is None else [*names[:tenants], *["tenant.NAME"] * 3, *names[tenants + 1 :]]


def _names(printed: dict[tuple[str, str], str], view: str) -> list[str]:
    return [row["node"] for row in json.loads(printed[view, "json"])["rows"]]


def test_table_has_a_line_per_row_under_its_headings(printed: dict[tuple[str, str], str]) -> None:
    header, *lines = printed["fleet", "table"].splitlines()
    assert header.split()[:4] == ["NODE", "SITE", "STATUS", "QPS"]
    assert [line.split()[0] for line in lines] == _names(printed, "fleet")
    assert all("● SERVING" in line for line in lines)


def test_csv_can_be_read_back(printed: dict[tuple[str, str], str]) -> None:
    rows = list(csv.DictReader(io.StringIO(printed["announcements", "csv"])))
    assert [row["node"] for row in rows] == _names(printed, "announcements")
    assert {(row["status"], row["exported"], row["answering"]) for row in rows} == {("SERVING", "announced", "yes")}


def test_markdown_is_a_table(printed: dict[tuple[str, str], str]) -> None:
    header, ruler, *lines = printed["bgp", "markdown"].splitlines()
    assert set(ruler) == set("|-: ")
    assert {line.count("|") for line in (ruler, *lines)} == {header.count("|")}
    assert [line.split("|")[1].strip() for line in lines] == _names(printed, "bgp")


def test_numbers_are_numbers(printed: dict[tuple[str, str], str]) -> None:
    rates = [row["qps"] for row in json.loads(printed["fleet", "json"])["rows"]]
    assert all(isinstance(rate, float) and rate > 0 for rate in rates)
    assert all(row["pid"] > 0 and row["rss"] > 1 << 20 for row in json.loads(printed["health", "json"])["rows"])


def test_vantage_points_land_on_different_nodes(printed: dict[tuple[str, str], str]) -> None:
    landed = {(row["vantage"], row["answered_by"]) for row in json.loads(printed["catchment", "json"])["rows"]}
    assert len({vantage for vantage, _ in landed}) == 3
    assert len({node for _, node in landed}) > 1


# --- for monitoring systems


@pytest.fixture
def check(lab: Lab, tmp_path: Path) -> Iterator[Check]:
    """Runs `check` with more arguments; the lab is healed afterwards."""
    yield lambda *args: run_headless(lab, tmp_path, "check", *args)
    if lab.heal():
        lab.wait_until_well()


PERFDATA = re.compile(
    r"nodes_ok=(\d);;;0;5 qps=([\d.]+);;;0 'de_nodes'=(\d);;;0;5 'nic_nodes'=(\d);;;0;5 'enum_nodes'=(\d);;;0;5"
)


def test_check_of_a_healthy_lab_is_ok(check: Check) -> None:
    done = check()
    assert (done.returncode, done.stderr) == (0, "")
    words, _, perfdata = done.stdout.rstrip("\n").partition(" | ")
    assert words == "ANYCAST OK - 5 of 5 nodes serve 3 tenants"
    found = PERFDATA.fullmatch(perfdata)
    assert found is not None
    assert found.group(1, 3, 4, 5) == ("5", "5", "5", "5")
    assert float(found[2]) > 50


@pytest.mark.parametrize(
    ("kind", "host", "argument", "code", "words"),
    [
        ("session", "sin1", "ix2_v6", 1, "ANYCAST WARNING - .*sin1 DRIFT: ix2_v6 disabled by hand on the node since "),
        ("nameserver", "fra1", "de", 2, "ANYCAST CRITICAL - fra1 BLACKHOLE: de: "),
    ],
)
def test_check_of_a_broken_lab_says_what_is_wrong(
    check: Check, lab: Lab, kind: str, host: str, argument: str, code: int, words: str
) -> None:
    lab.break_(kind, host, argument)
    done = check()
    assert (done.returncode, done.stderr) == (code, "")
    assert len(done.stdout.splitlines()) == 1
    assert re.match(words, done.stdout)
    assert done.stdout.count("|") == 1
    assert PERFDATA.fullmatch(done.stdout.rstrip("\n").partition(" | ")[2])


def test_check_that_reaches_nobody_is_unknown(check: Check, lab: Lab) -> None:
    lab.break_("sshd", "jump")
    done = check("--wait", "2")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith("ANYCAST UNKNOWN - ")


# --- streaming


def test_watch_begins_with_every_row_and_a_closed_pipe_ends_it_quietly(lab: Lab, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "anyconsole", "--profile", str(lab.profile_path), "show", "qps", "--watch"]
    env = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = [json.loads(process.stdout.readline()) for _ in range(ROWS["qps"])]
        assert len({(said["row"]["node"], said["row"]["tenant"]) for said in first}) == ROWS["qps"]
        assert {said["version"] for said in first} == {1}
        changed = json.loads(process.stdout.readline())  # rates live, so it goes on
        assert changed["at"] > first[-1]["at"]
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_events_of_a_fault_and_of_its_end_are_streamed_in_order(lab: Lab, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "anyconsole", "--profile", str(lab.profile_path), "show", "events", "--watch"]
    env = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            time.sleep(8)  # nothing is to be said about a healthy lab: there is no other sign that all of it was seen
            lab.break_("nameserver", "ams1", "enum")
            events = []
            for line in process.stdout:
                events.append(json.loads(line)["row"])
                if events[-1]["subject"] == ["ams1"] and events[-1]["after"] == "BLACKHOLE":
                    lab.heal()
                if events[-1]["subject"] == ["ams1"] and events[-1]["after"] == "SERVING":
                    break
        finally:
            process.kill()
            lab.heal()
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    node = [(event["before"], event["after"]) for event in events if event["subject"] == ["ams1"]]
    assert (node[0], node[-1][1]) == (("SERVING", "BLACKHOLE"), "SERVING")
    assert all(after == before for (_, after), (before, _) in itertools.pairwise(node))
    assert {event["subject"][0] for event in events if event["what"] in ("node", "instance", "session")} == {"ams1"}
