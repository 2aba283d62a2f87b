"""Load tests end to end, on a lab of their own: what is found is true, and compared, and who may be tested."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from anyconsole.actions.load.record import RunRecord
from anyconsole.lab import Lab
from anyconsole.lab.queries import QueryLoad
from tests.e2e.drains import change, put_back
from tests.e2e.loads import (
    IN_SERVICE,
    arguments,
    load_test,
    measured,
    measured_drained,
    records_of,
)
from tests.e2e.observe import run_headless

pytestmark = [pytest.mark.lab, pytest.mark.measures, pytest.mark.timeout(240)]

LIMIT = 2000
OTHER_LIMIT = 1500


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    built = Lab(f"l{os.getpid()}")
    try:
        built.up()
        yield built
    finally:
        built.down()


# --- a measurement


class Measured(NamedTuple):
    """Two searches, one of a drained node, and what was asked of the others meanwhile."""

    state: Path
    drained: RunRecord
    other: RunRecord
    asked_otherwise: RunRecord
    clients: QueryLoad


@pytest.fixture(scope="module")
def searches(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """fra1 (NSD) is drained of `de` and searched from three generators; then ams1 (Knot), which is in service."""
    state = tmp_path_factory.mktemp("searches")
    lab.limit("fra1", LIMIT, "de")
    lab.limit("ams1", OTHER_LIMIT, "de")
    search = ("--cap", "8000", "--rate", "500", "--confirm", "5")
    short = ("--purpose", "fixed", "--rate", "500", "--seconds", "1")
    queries = state / "queries"
    queries.write_text("".join(f"name{number}.de.example A\n" for number in range(2000)))
    try:
        with put_back(lab, "fra1"), QueryLoad(lab, rate=50) as clients:
            change(lab, state, "drain", "--node", "fra1", "--tenant", "de", "--hard", "--reason", "measure it")
            drained = measured_drained(lab, state / "fra1", "de.fra1", *search)
            other = measured(lab, state / "ams1", "de.ams1", *search)
            otherwise = measured(lab, state / "lon1", "de.lon1", *short, "--queries", str(queries))
        yield Measured(state, drained, other, otherwise, clients)
    finally:
        lab.unlimit("fra1")
        lab.unlimit("ams1")


def test_a_drained_node_is_measured_to_two_percent_and_nobody_feels_it(searches: Measured) -> None:
    result, true = searches.drained.result, LIMIT / 0.99
    assert result.verdict == "ok", result.why
    assert result.lower_qps is not None
    assert result.upper_qps is not None
    assert 0.98 * true <= result.lower_qps <= 1.02 * true
    assert result.lower_qps < result.upper_qps <= 1.011 * result.lower_qps
    assert result.limit is not None
    assert result.limit.cause == "path", result.limit
    x = searches.drained.conditions
    assert [g.host for g in x.generators] == ["gen1", "gen2", "gen3"]
    assert all(g.selftest_max_qps for g in x.generators)
    assert x.target.instance[0].identity == "de.fra1", "proved before the first real second"
    assert searches.clients.result.lost == 0, str(searches.clients.result)
    assert searches.clients.result.failed == 0, str(searches.clients.result)


def test_the_sheet_of_a_search_has_interval_limit_and_conditions_and_the_journal_tells_of_it(
    lab: Lab, searches: Measured
) -> None:
    state = next(p for p in (searches.state / "fra1").iterdir() if searches.drained in records_of(p))
    sheet = run_headless(lab, state, "loadtest", "show").stdout
    lower = f"{searches.drained.result.lower_qps:,.0f}".replace(",", " ")
    for said in (
        f"{lower} queries/s",
        "/s is too much",
        "Limited by",
        "path",
        "nsd 4",
        "gen3, ",
        ", 85 flows",
        "198.19.65.1",
    ):
        assert said in sheet, sheet
    journal = json.loads(run_headless(lab, state, "journal", "export", "--output", "json").stdout)["change"]
    assert (journal["plan"]["action"], journal["outcome"]) == ("loadtest", "done")
    assert searches.drained.conditions.change == journal["id"]
    assert journal["overrides"] == {}, "it was drained: no guard stood in the way"
    (in_service,) = (guard for guard in journal["guards"] if guard["name"] == "in service")
    assert in_service["outcome"] == "ok"


def test_two_results_compare_with_interval_limit_and_what_differs(lab: Lab, searches: Measured) -> None:
    files = [str(_file_of(searches.state, run)) for run in (searches.drained, searches.other)]
    done = run_headless(lab, searches.state, "loadtest", "compare", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    what_differs = done.stdout.split("What differs")[1].split("What doesn't")[0]
    for said in ("nsd 4", "knot 3", "fra1", "ams1"):
        assert said in what_differs, done.stdout
    document = json.loads(run_headless(lab, searches.state, "loadtest", "compare", *files, "--output", "json").stdout)
    measures = {measure["id"]: measure for measure in document["comparison"]["measures"]}
    assert measures["best"]["ratio"]["median"] == pytest.approx(LIMIT / OTHER_LIMIT, rel=0.04)
    assert "path" in done.stdout.split("limited by")[1].splitlines()[0]


def test_a_ratio_is_refused_when_other_queries_were_asked(lab: Lab, searches: Measured) -> None:
    files = [str(_file_of(searches.state, run)) for run in (searches.other, searches.asked_otherwise)]
    done = run_headless(lab, searches.state, "loadtest", "compare", *files)
    assert done.returncode == 1, done.stdout
    assert "query set differs" in done.stdout, done.stdout


def test_a_drain_is_planned_with_the_measured_capacity(lab: Lab, searches: Measured) -> None:
    state = next(p for p in (searches.state / "ams1").iterdir() if searches.other in records_of(p))
    plan = run_headless(lab, state, "drain", "--node", "fra2", "--tenant", "de", "--plan").stdout
    told = next(line for line in plan.splitlines() if "capacity: " in line)
    assert re.search(r"of what de on ams1 can take \(.*ago\)", told), plan
    assert "lon1" in told, "where it was never measured"


def _file_of(state: Path, run: RunRecord) -> Path:
    return next(state.rglob(f"{run.id}.jsonl"))


def test_two_targets_are_measured_in_turns_and_compared_as_one_change(lab: Lab, tmp_path: Path) -> None:
    short = ("--rounds", "2", "--purpose", "fixed", "--rate", "300", "--seconds", "1", "--reason", "which", "--yes")
    done = run_headless(lab, tmp_path, "loadtest", "pair", "de.ams1", "de.fra1", *short, *IN_SERVICE, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    turns = [(run.conditions.target.name, run.conditions.repeat) for run in records_of(tmp_path)]
    assert turns == [("de.ams1", 1), ("de.fra1", 1), ("de.fra1", 2), ("de.ams1", 2)]
    assert len({run.conditions.change for run in records_of(tmp_path)}) == 1
    assert "2 pairs" in done.stdout, done.stdout
    assert "de 100" in done.stdout.split("instance spread")[1].splitlines()[0], done.stdout


# --- who may be tested


def test_what_the_fleet_announces_is_never_tested_and_what_serves_only_for_a_reason(lab: Lab, tmp_path: Path) -> None:
    profile = tmp_path / "announced.toml"
    own, service = '"198.19.65.1", "2001:db8:ff01:1::1"', '"192.0.2.53"'
    text = lab.profile_path.read_text()
    assert text.count(own) == 1
    profile.write_text(text.replace(own, service))
    short = ("--purpose", "fixed", "--rate", "100", "--seconds", "1")
    forced = (*arguments("de.fra1", *short), "--override", "announced=I must")
    unknown = tmp_path / "unknown.toml"
    narrower = text.replace('"198.51.100.0/24"', '"198.51.100.0/25"').replace(own, '"198.51.100.200"')
    assert narrower.count("198.51.100.200") == 1
    unknown.write_text(narrower)
    with ThreadPoolExecutor() as pool:
        beyond = pool.submit(load_test, lab, tmp_path, "de.fra1", *short, *IN_SERVICE, status=3, profile=str(unknown))
        told = pool.submit(load_test, lab, tmp_path, "de.fra1", *short, *IN_SERVICE, status=3, profile=str(profile))
        mistaken = pool.submit(run_headless, lab, tmp_path, "--profile", str(profile), *forced)
        serving = load_test(lab, tmp_path, "de.fra2", *short, status=3)
    (refused,) = (g for g in told.result()["guards"] if g["outcome"] == "refuse" and g["name"] == "announced")
    assert not refused["overridable"]
    assert "192.0.2.0/24" in refused["numbers"]
    (rogue,) = (g for g in beyond.result()["guards"] if g["outcome"] == "refuse" and g["name"] == "announced")
    assert not rogue["overridable"]
    assert "though not as the profile says, by" in rogue["numbers"]
    assert re.search(r"\w+: 198.51.100.0/24 on \w+", rogue["numbers"]), rogue
    assert mistaken.result().returncode == 2
    assert "can't be overridden" in mistaken.result().stderr
    assert [g["name"] for g in serving["guards"] if g["outcome"] == "refuse"] == ["in service"]
    assert records_of(tmp_path) == []
