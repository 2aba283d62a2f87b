"""Two stacks are compared fairly, or not at all: a ratio only where both were asked the same, and only as sure as the pairs are."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from anyconsole.actions.load.capabilities import Mark, capabilities
from anyconsole.actions.load.chart import Axis, Curve, Figure, Marks, Panel, loss_axis, rate_axis, seconds_axis
from anyconsole.actions.load.chart_png import png
from anyconsole.actions.load.chart_svg import svg
from anyconsole.actions.load.compare import Comparison, compare
from anyconsole.actions.load.files import read_run
from anyconsole.actions.load.plot import comparison_figure, run_figure
from anyconsole.actions.load.record import Conditions, RunRecord
from anyconsole.actions.load.report import (
    comparison_csv,
    comparison_document,
    comparison_sheet,
    run_csv,
    run_document,
    run_sheet,
)
from anyconsole.actions.load.sheet import markdown, text
from anyconsole.errors import AnyconsoleError
from tests.actions.load_runs import header, write_pair, write_soak

Sides = tuple[list[RunRecord], list[RunRecord]]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    """Four virtual and four bare searches in the order A B B A A B B A; the virtual one answers 0.62 of the bare one."""
    a, b = write_pair(tmp_path_factory.mktemp("loadtests"))
    return [read_run(path) for path in a], [read_run(path) for path in b]


@pytest.fixture(scope="module")
def comparison(sides: Sides) -> Comparison:
    return compare(*sides)


def changed(run: RunRecord, change: Callable[[Conditions], Conditions]) -> RunRecord:
    return msgspec.structs.replace(run, header=msgspec.structs.replace(run.header, x=change(run.header.x)))


def with_result(run: RunRecord, **result: object) -> RunRecord:
    assert run.summary is not None
    x = msgspec.structs.replace(run.summary.x, result=msgspec.structs.replace(run.result, **result))
    return msgspec.structs.replace(run, summary=msgspec.structs.replace(run.summary, x=x))


# --- the ratio


def test_neighbours_make_the_ratio_with_its_range(comparison: Comparison) -> None:
    assert (comparison.pairs, comparison.refused, comparison.remarks) == (4, (), ())
    ratio = comparison.measure("best").ratio
    assert ratio is not None
    assert ratio.low <= 0.62 <= ratio.high
    assert ratio.shows
    assert ratio.words == "0.61 (0.61 .. 0.63), 4 pairs"


def test_the_order_in_which_sides_are_named_turns_the_ratio_round(sides: Sides, comparison: Comparison) -> None:
    there, back = comparison.measure("best").ratio, compare(sides[1], sides[0]).measure("best").ratio
    assert there is not None
    assert back is not None
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low))


def test_every_measure_of_the_sheet_is_there(comparison: Comparison) -> None:
    measured = {m.id for m in comparison.measures if m.words or (m.a is not None and m.b is not None)}
    assert measured == {
        "best", "limit", "sustained", "p50", "p95", "p99", "p99_half", "plateau", "cpu", "per_core", "shares",
    }  # fmt: skip
    per_core = comparison.measure("per_core")
    assert per_core.a is not None
    assert per_core.b is not None
    assert per_core.a.median == pytest.approx(24_200 / 1.5, rel=0.01)
    assert per_core.b.median == pytest.approx(39_500 / 3, rel=0.01)
    half = comparison.measure("p99_half")
    best = comparison.measure("p99")
    assert half.a is not None
    assert best.a is not None
    assert half.a.median < best.a.median / 5
    assert comparison.measure("limit").words == ("cpu-quota", "worker-cpu")


def test_a_difference_smaller_than_the_noise_is_not_shown(tmp_path: Path) -> None:
    a, b = write_pair(tmp_path, ratio=1.0)
    ratio = compare([read_run(p) for p in a], [read_run(p) for p in b]).measure("best").ratio
    assert ratio is not None
    assert not ratio.shows
    assert ratio.words.startswith("no difference shown: ")


def test_a_difference_within_one_bin_of_the_histogram_is_not_shown(sides: Sides) -> None:
    a = [with_result(run, p99=0.010) for run in sides[0]]
    b = [with_result(run, p99=0.0102) for run in sides[1]]
    ratio = compare(a, b).measure("p99").ratio
    assert ratio is not None
    assert ratio.high < 1
    assert not ratio.shows


def test_one_pair_has_no_range_and_proves_nothing(sides: Sides) -> None:
    one = compare(sides[0][:1], sides[1][:1])
    ratio = one.measure("best").ratio
    assert ratio is not None
    assert (ratio.words, ratio.shows) == ("0.63 (one pair: no range)", False)
    assert "one pair says nothing" in one.remarks[-1]


def test_runs_that_were_not_in_turn_are_told(sides: Sides) -> None:
    early, late = sides[0][:2], sides[1][2:]  # A A, and long after B B
    assert compare(early, late).pairs == 1
    assert (
        compare(early, late).remarks[0]
        == "A: 1 of 2 runs have no neighbour of the other side; run them in the order A B B A"
    )


def test_numbered_runs_are_paired_by_their_numbers(sides: Sides) -> None:
    def numbered(runs: list[RunRecord], numbers: list[int]) -> list[RunRecord]:
        return [
            changed(run, lambda x, n=n: msgspec.structs.replace(x, repeat=n))  # type: ignore[misc]
            for run, n in zip(runs, numbers, strict=True)
        ]

    a, b = numbered(sides[0], [1, 2, 3, 4]), numbered(sides[1], [4, 3, 2, 1])
    ratio = compare(a, b).measure("best").ratio
    wanted = [(x.result.lower_qps or 0) / (y.result.lower_qps or 1) for x, y in zip(a, reversed(b), strict=True)]
    assert ratio is not None
    assert (ratio.pairs, ratio.low, ratio.high) == (4, min(wanted), max(wanted))


def test_what_is_no_result_is_left_out_and_named(sides: Sides) -> None:
    cut = msgspec.structs.replace(sides[0][0], summary=None, state="aborted")
    limited = with_result(sides[1][0], verdict="generator-limited")
    found = compare([cut, *sides[0][1:]], [limited, *sides[1][1:]])
    assert (len(found.a.results), len(found.b.results), found.refused) == (3, 3, ())
    assert found.remarks[0] == f"A: {cut.id} is left out: aborted is no result that can be compared"
    assert compare([cut], sides[1]).refused == ("A has no usable result",)


# --- no ratio

CHANGES: dict[str, Callable[[Conditions], Conditions]] = {
    "query set": lambda x: msgspec.structs.replace(
        x, workload=msgspec.structs.replace(x.workload, file_sha256="00" * 32)
    ),
    "protocol": lambda x: msgspec.structs.replace(x, workload=msgspec.structs.replace(x.workload, protocol="tcp")),
    "EDNS": lambda x: msgspec.structs.replace(x, workload=msgspec.structs.replace(x.workload, do=True)),
    "flows": lambda x: msgspec.structs.replace(x, generators=(msgspec.structs.replace(x.generators[0], flows=1),)),
    "goal": lambda x: msgspec.structs.replace(x, goal=msgspec.structs.replace(x.goal, loss=0.02)),
    "generator": lambda x: msgspec.structs.replace(
        x, generators=(msgspec.structs.replace(x.generators[0], host="gen-2"),)
    ),
    "purpose": lambda x: msgspec.structs.replace(x, purpose="fixed"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_ratio_is_refused_by_name_where_a_condition_differs(name: str, sides: Sides) -> None:
    found = compare(sides[0], [changed(run, CHANGES[name]) for run in sides[1]])
    assert any(reason.startswith(f"{name} differs: ") for reason in found.refused)
    assert [m.id for m in found.measures if m.ratio is not None] == []
    assert f"No ratio: {name} differs: " in text(comparison_sheet(found))
    # One run alone that was asked otherwise spoils its side just as well.
    assert compare(sides[0], [changed(sides[1][0], CHANGES[name]), *sides[1][1:]]).refused


def test_a_ratio_is_refused_where_the_timeout_differs(sides: Sides) -> None:
    b = [msgspec.structs.replace(run, header=msgspec.structs.replace(run.header, timeout=5.0)) for run in sides[1]]
    assert compare(sides[0], b).refused == ("timeout differs: 0.5 s against 5 s",)


def test_a_ratio_is_refused_where_a_condition_is_not_known(sides: Sides) -> None:
    unknown = [[changed(run, lambda _: Conditions(purpose="search")) for run in side] for side in sides]
    assert compare(*unknown).refused == (
        "query set isn't known",
        "flows isn't known",
        "generator isn't known",
    )


def test_what_is_compared_may_differ_and_is_always_printed(comparison: Comparison) -> None:
    assert {c.name for c in comparison.conditions if c.differs} == {"kind", "CPU limit", "configuration", "path"}
    sheet = text(comparison_sheet(comparison))
    assert "  CPU limit      1.5 cores    none" in sheet


# --- the capability table


def test_the_capability_table_says_what_was_measured_and_what_is_judgement(comparison: Comparison) -> None:
    table = {c.name: c for c in capabilities(comparison, tenants=(3, None), setup_seconds=(212.0, None))}
    assert list(table) == ["Performance", "Administration", "Scalability", "Set-up", "Portability"]
    assert (table["Performance"].a, table["Performance"].a_mark) == ("24 201 q/s", Mark.MEASURED)
    assert (table["Scalability"].a, table["Scalability"].a_mark) == ("3 tenants on one node", Mark.PROFILE), (
        "nobody counted how many it could carry"
    )
    assert (table["Set-up"].a, table["Set-up"].a_mark) == ("212 s for a tenant", Mark.MEASURED)
    assert {table[name].b_mark for name in ("Scalability", "Set-up")} == {Mark.NOT_MEASURED}
    assert {table[name].a_mark for name in ("Administration", "Portability")} == {Mark.JUDGEMENT}
    assert table["Portability"].a != table["Portability"].b
    printed = text(comparison_sheet(comparison, list(table.values())))
    assert "24 201 q/s (measured)" in printed
    assert "wherever the orchestrator runs (judgement)" in printed


# --- reports


def test_the_comparison_is_on_one_sheet(comparison: Comparison) -> None:
    lines = text(comparison_sheet(comparison)).splitlines()
    assert lines[:2] == ["de@k3s-2 against de@ns-bm-4", "4 pairs, at <= 1.0 % loss, p99 <= 50 ms, pair 7f3a"]
    best = next(line for line in lines if line.startswith("  best rate "))
    assert best.split("  ")[-1] == "0.61 (0.61 .. 0.63), 4 pairs"
    assert "24 201/s [24 169 .. 24 613]" in best


def test_a_run_is_on_one_sheet_with_interval_limit_and_conditions(sides: Sides) -> None:
    sheet = text(run_sheet(sides[0][0]))
    assert sheet.startswith(
        "Search: de@k3s-2\nok: 24 613 queries/s, most seconds lost no more than 1.0 %; 24 859/s is too much\n"
    )
    for words in (
        "Limited by       cpu-quota; the quota stopped it; throttled periods 9 of 10",
        "Instance   de-k3s-2, NSD 4.6.1, 3 workers, 1.5 cores, receive buffer 1024 KiB, rate limits off",
        "Generator  gen-1, AMD EPYC 7302P",
        "the generator skipped 10.0 %",
    ):
        assert words in sheet


def test_a_fixed_run_that_lost_too_much_is_not_called_ok(sides: Sides) -> None:
    run = sides[0][0]
    assert run.summary is not None
    fixed = msgspec.structs.replace(run.conditions, purpose="fixed")
    lost = msgspec.structs.replace(run.result, lower_qps=None, upper_qps=16_000.0, loss_at_lower=0.15)
    summary = msgspec.structs.replace(run.summary, x=msgspec.structs.replace(run.summary.x, result=lost))
    failed = msgspec.structs.replace(run, header=msgspec.structs.replace(run.header, x=fixed), summary=summary)
    assert "over the goal: 15.00 % lost, 1.0 % allowed" in text(run_sheet(failed))


def test_an_aborted_run_claims_no_result(sides: Sides) -> None:
    cut = msgspec.structs.replace(sides[0][0], summary=None, state="aborted")
    sheet = text(run_sheet(cut))
    assert "Cut off: its console died or was killed before it ended, 26 trials so far. That is no result." in sheet
    assert "most seconds lost" not in sheet


def test_a_long_run_that_lost_more_than_the_votes_is_told(sides: Sides) -> None:
    long = sides[0][0].result.sustained
    assert long is not None
    hiccups = with_result(sides[0][0], sustained=msgspec.structs.replace(long, loss=0.0259))
    assert "2.59 % lost (above the goal: hiccups that the votes forgave)" in text(run_sheet(hiccups))
    assert "above the goal" not in text(run_sheet(sides[0][0]))


def test_a_search_that_its_generators_stopped_says_so_before_its_rate(sides: Sides) -> None:
    stopped = with_result(sides[0][0], verdict="generator-limited", why="too many trials are void", upper_qps=None)
    line = text(run_sheet(stopped)).splitlines()[1]
    assert line.startswith("generator-limited: too many trials are void; 24 613 queries/s")
    assert "generator-limited: 24 613 or more queries/s" in drawn(run_figure(stopped))


def test_what_hosts_said_stays_text_in_markdown_and_in_a_spreadsheet(sides: Sides) -> None:
    evil = changed(sides[0][0], lambda x: msgspec.structs.replace(x, reason="<script>|*\x1b[31m", operator="=cmd()"))
    report = markdown(run_sheet(evil))
    assert "| Why | \\<script\\>\\|\\* \\[31m |" in report
    assert "\x1b" not in report + text(run_sheet(evil))
    trials = tuple(msgspec.structs.replace(t, why="=1+1") for t in evil.trials)
    assert ",'=1+1," in run_csv(msgspec.structs.replace(evil, trials=trials))


def test_programs_get_the_same_figures(sides: Sides, comparison: Comparison) -> None:
    document = comparison_document(comparison, capabilities(comparison))["comparison"]
    best = document["measures"][0]
    assert (best["id"], best["ratio"]["shows_difference"], best["ratio"]["pairs"]) == ("best", True, 4)
    assert document["a"]["curve"]["100"] < 0.01 < document["a"]["curve"]["106"]
    assert len(document["b"]["runs"]) == 4
    assert document["conditions"][0] == {
        "name": "purpose",
        "a": "search",
        "b": "search",
        "forbids": True,
        "mixed": False,
    }
    header_line, first, *_ = comparison_csv(comparison).splitlines()
    assert header_line.startswith("measure,unit,a_median,a_low,a_high,a_count,b_median")
    assert first.split(",")[0] == "best"
    assert run_document(sides[0][0])["loadtest"]["header"]["x"]["target"]["node"] == "k3s-2"
    assert len(run_csv(sides[0][0]).splitlines()) == 27


# --- charts


def drawn(figure: Figure) -> str:
    """All words of a chart, once it is sure to be well-formed."""
    return " ".join("".join(ET.fromstring(svg(figure)).itertext()).split())  # noqa: S314 - it is ours


def test_a_search_is_drawn_with_its_votes_its_interval_and_the_limit(sides: Sides) -> None:
    figure = run_figure(sides[0][0])
    (loss,), (votes, latency) = figure.rows
    assert [(m.label, len(m.points)) for m in loss.marks] == [
        ("passed", 13),
        ("failed", 11),
        ("void", 1),
        ("sustained", 1),
    ]
    assert [tag.text for tag in votes.tags] == ["4:0", "3:0", "0:5"]
    assert [curve.label for curve in latency.curves] == ["p50", "p95", "p99"]
    words = drawn(figure)
    for expected in ("1.0 % allowed", "24 613 .. 24 859", "limited by cpu-quota", "p99 50 ms allowed"):
        assert expected in words


def test_a_soak_run_is_drawn_over_time_and_its_bad_second_is_marked(tmp_path: Path) -> None:
    figure = run_figure(read_run(write_soak(tmp_path, header("a-1"))))
    (loss,), _ = figure.rows
    assert [at for at, _ in loss.marks[0].points] == [77.0]
    assert "second above it" in drawn(figure)


def test_two_sets_are_drawn_over_each_other(comparison: Comparison) -> None:
    words = drawn(comparison_figure(comparison))
    assert "A / B: 0.61 (0.61 .. 0.63), 4 pairs" in words
    assert "of the own best rate" in words


def test_a_run_without_a_trial_is_drawn_as_not_measured(sides: Sides) -> None:
    bare = msgspec.structs.replace(sides[0][0], trials=(), seconds=(), summary=None, state="aborted")
    assert "not measured" in drawn(run_figure(bare))
    assert "no result" in drawn(comparison_figure(compare([bare], sides[1])))


def test_words_of_others_are_no_markup_in_a_chart(sides: Sides) -> None:
    evil = changed(
        sides[0][0],
        lambda x: msgspec.structs.replace(x, target=msgspec.structs.replace(x.target, name='<script a="&">\x00')),
    )
    assert "Search: <script" in drawn(run_figure(evil))


def test_zero_loss_has_a_place_on_the_axis_and_one_per_cent_is_in_its_middle() -> None:
    axis = loss_axis([0.0, 0.5])
    assert axis.place(0.0) == 0
    assert 0.3 < axis.place(0.01) < 0.6
    assert axis.place(7.0) == 1
    for made in (rate_axis([0.0]), rate_axis([]), seconds_axis([]), rate_axis([1000, 1010]), rate_axis([10, 1e6])):
        assert len(made.ticks) >= 1
        assert all(made.low <= value <= made.high for value, _ in made.ticks)


def test_a_png_needs_matplotlib_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    axis = Axis(title="x", low=0, high=1, ticks=((0.5, "half"),))
    panel = Panel(
        title="$t",
        x=axis,
        y=axis,
        curves=(Curve(points=((0, 0), (1, 1)), label="$"),),
        marks=(Marks(points=(), role="ok"),),
    )
    figure = Figure(title="t", rows=((panel,),))
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(AnyconsoleError, match=r"pip install 'anyconsole\[plot\]'; an SVG needs nothing"):
        png(figure)


def test_a_png_is_drawn_where_matplotlib_is_installed(sides: Sides) -> None:
    pytest.importorskip("matplotlib")
    assert png(run_figure(sides[0][0])).startswith(b"\x89PNG")
