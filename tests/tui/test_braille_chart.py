"""A chart tells the truth in few cells: spikes survive, gaps are gaps, and only lines that changed are painted."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.geometry import Region

from anyconsole.theme import VARIABLE_DEFAULTS
from anyconsole.tui.widgets.braille_chart import BrailleChart, Glyphs, Series, si, sparkline
from anyconsole.tui.widgets.plot import LIMIT, draw, nice

VALUES = st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1e6)), max_size=300)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.5, "0.5"), (9.99, "9.99"), (9.996, "10"), (950, "950"), (999.6, "1k"), (1234, "1.23k"), (48_000, "48k"),
        (999_600, "1M"), (1.5e6, "1.5M"), (2.5e12, "2.5T"), (-1234, "-1.23k"),
    ],
)  # fmt: skip
def test_numbers_are_short_and_exact_to_three_digits(value: float, text: str) -> None:
    assert si(value) == text


@given(st.floats(1e-9, 1e15))
def test_axis_ends_at_a_round_number_that_holds_the_value(value: float) -> None:
    top = nice(value)
    assert value <= top * 1.0000001
    assert top <= value * 2.0001
    assert any(
        math.isclose(top / 10 ** math.floor(math.log10(top * 1.0000001)), m, rel_tol=1e-6)
        for m in (1, 1.5, 2, 3, 5, 7.5)
    )


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_axis_of_nothing_is_one(value: float) -> None:
    assert nice(value) == 1.0


def drawn(
    series: list[Series],
    width: int,
    height: int,
    top: float,
    glyphs: Glyphs = Glyphs.BRAILLE,
    limit: float | None = None,
) -> list[str]:
    return [text for text, _ in draw(series, width, height, top, glyphs, limit).rows]


def test_line_and_area_look_as_drawn_by_hand() -> None:
    ramp = [float(v) for v in range(8)]
    assert drawn([Series(ramp)], 4, 2, 7) == ["  ⡠⠊", "⡠⠊  "]
    assert drawn([Series(ramp, filled=True)], 4, 2, 7) == ["  ⣠⣾", "⣠⣾⣿⣿"]
    assert drawn([Series([0, 4, 8, 12, 15], filled=True)], 5, 2, 15, Glyphs.BLOCK) == ["  ▁▅█", "▁▅███"]
    assert drawn([Series([0, 1, 2, 3, 4, 5], filled=True)], 6, 2, 5, Glyphs.ASCII) == ["   .:#", ".:####"]


def test_newest_value_is_at_the_right_edge() -> None:
    assert drawn([Series([7.0])], 4, 1, 7) == ["   ⠈"]


def test_spike_of_one_second_survives_in_ten_minutes() -> None:
    values = [1.0] * 600
    values[317] = 100.0
    rows = drawn([Series(values, filled=True)], 20, 4, 100)
    assert rows[0].strip()


def test_unknown_values_are_a_gap_and_not_zero() -> None:
    row = drawn([Series([1, None, math.nan, 1], filled=True)], 2, 1, 1)[0]
    assert row == "⡇⢸"
    assert sparkline([1, None, 1], 3) == "█ █"


def test_buckets_stay_still_while_time_passes() -> None:
    values = [float((i * 7919) % 100) for i in range(1000)]
    plots = [drawn([Series(values[: n + 1][-200:], end=n)], 20, 4, 100) for n in range(400, 421)]
    settled = [[row[:-1] for row in plot] for plot in plots]  # the newest bucket still fills
    assert sum(a != b for a, b in pairwise(settled)) == 20 // 5


def test_limit_is_a_dotted_line_and_what_is_above_it_has_another_owner() -> None:
    plot = draw([Series([2.0, 9.0], filled=True)], 10, 10, 10, Glyphs.BLOCK, 5)
    owners = [owner for _, owner in plot.rows]
    assert LIMIT in owners[4] or LIMIT in owners[5]
    assert owners[0][9] == -1 or owners[1][9] == -1
    assert owners[9][9] == 1
    assert owners[9][8] == 1


def test_later_series_lie_over_earlier_ones() -> None:
    plot = draw([Series([1.0] * 4, filled=True), Series([1.0] * 4)], 2, 1, 1, Glyphs.BRAILLE)
    assert plot.rows[0][1] == (2, 2)


@given(VALUES, st.integers(0, 60), st.integers(1, 12), st.sampled_from(Glyphs), st.booleans(), st.integers(0, 10**6))
def test_any_values_fill_exactly_the_cells_they_have(
    values: list[float | None], width: int, height: int, glyphs: Glyphs, filled: bool, end: int
) -> None:
    known = [v for v in values if v is not None and math.isfinite(v)]
    plot = draw([Series(values, filled=filled, end=end)], width, height, nice(max(known, default=0)), glyphs, 10)
    assert len(plot.rows) == height
    assert all(len(text) == width == len(owners) for text, owners in plot.rows)
    assert all(text.isascii() for text, _ in plot.rows) or glyphs is not Glyphs.ASCII


@given(VALUES, st.integers(0, 60), st.sampled_from(Glyphs))
def test_sparkline_has_exactly_its_width(values: list[float | None], width: int, glyphs: Glyphs) -> None:
    assert len(sparkline(values, width, glyphs)) == width


def test_sparkline_heights_follow_the_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 3, 3, 0], 2, Glyphs.BRAILLE) == "⣸⣇"
    assert sparkline([0, 7], 2, Glyphs.ASCII) == "_@"
    assert sparkline([7], 3, top=14) == "  ▅"
    assert sparkline([], 3) == "   "


class ChartApp(App[None]):
    def __init__(self, chart: BrailleChart) -> None:
        super().__init__()
        self.chart = chart

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLE_DEFAULTS)

    def compose(self) -> ComposeResult:
        yield self.chart

    def lines(self) -> list[str]:
        return [self.chart.render_line(y).text.rstrip() for y in range(self.chart.size.height)]


async def test_chart_tells_title_current_value_scale_and_time() -> None:
    app = ChartApp(BrailleChart("queries [de]", unit=" q/s", seconds=1))
    async with app.run_test(size=(40, 8)) as pilot:
        app.chart.show(Series([1000.0 * i for i in range(60)], filled=True))
        await pilot.pause()
        lines = app.lines()
    assert lines[0] == "queries [de]  59k q/s"
    assert lines[1].startswith("  75k│")
    assert lines[6].startswith("    0│")
    assert lines[7] == "      -68s" + "now".rjust(30)


async def test_several_series_are_named_in_the_title_with_their_values() -> None:
    app = ChartApp(BrailleChart("load"))
    async with app.run_test(size=(50, 5)) as pilot:
        app.chart.show(Series([1.0, 200.0], name="sent"), Series([1.0, None], name="answered"))
        await pilot.pause()
        assert app.lines()[0] == "load  sent 200  answered ?"


async def test_new_value_repaints_only_the_lines_it_changes() -> None:
    app = ChartApp(BrailleChart("x"))
    async with app.run_test(size=(40, 10)) as pilot:
        app.chart.show(Series([1.0, 10.0, 1.0, 1.0]))
        await pilot.pause()
        regions: list[Region] = []
        app.chart.refresh = lambda *r, **_: regions.extend(r)  # type: ignore[method-assign, assignment]
        app.chart.show(Series([1.0, 10.0, 1.0, 1.0]))
        assert regions == []
        app.chart.show(Series([1.0, 10.0, 1.0, 2.0]))
        assert 0 < len(regions) <= 3
        assert all(region.height == 1 for region in regions)


async def test_axis_does_not_flicker_between_two_scales() -> None:
    app = ChartApp(BrailleChart("x"))
    async with app.run_test(size=(40, 10)):
        tops = []
        for value in (101.0, 99.0, 101.0, 99.0, 60.0):
            app.chart.show(Series([value]))
            tops.append(app.lines()[1][:6])
        assert tops == ["  150│"] * 5
        app.chart.show(Series([20.0]))
        assert app.lines()[1].startswith("   20│")


@pytest.mark.parametrize("size", [(1, 1), (5, 2), (10, 1), (10, 2), (200, 3)])
async def test_tiny_charts_show_what_fits(size: tuple[int, int]) -> None:
    app = ChartApp(BrailleChart("a long title", seconds=1))
    async with app.run_test(size=size) as pilot:
        app.chart.show(Series([1.0, 2.0]))
        await pilot.pause()
        assert all(app.chart.render_line(y).cell_length == size[0] for y in range(size[1]))


async def test_long_title_is_cut_and_never_the_value() -> None:
    app = ChartApp(BrailleChart("queries of a tenant with a long name"))
    async with app.run_test(size=(20, 3)):
        app.chart.show(Series([1234.0]))
        assert app.lines()[0] == "queries of a…  1.23k"


async def test_title_from_remote_text_can_do_no_harm() -> None:
    app = ChartApp(BrailleChart("\x1b[2J[red]広告"))
    async with app.run_test(size=(20, 3)):
        app.chart.show(Series([1.0]))
        assert app.lines()[0] == "[2J[red]広告  1"
