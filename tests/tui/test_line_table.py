"""What an operator sees of a live table, and that as little as possible is painted for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from anyconsole.theme import VARIABLE_DEFAULTS, find_themes, load_theme
from anyconsole.tui.plain_text import fit, plain
from anyconsole.tui.widgets.cells import ColumnWidths, full_width, next_shift, sort_value, spans
from anyconsole.tui.widgets.line_table import Cell, Column, Key, Level, LineTable, Row

COLUMNS = (
    Column("node", "NODE"),
    Column("state", "STATE", width=8),
    Column("qps", "QPS", width=7, right=True, descending=True),
    Column("note", "NOTE"),
)


class TableApp(App[None]):
    """One table, all messages kept."""

    def __init__(self, columns: tuple[Column, ...] = COLUMNS, *, ascii_only: bool = False) -> None:
        super().__init__()
        self.table = LineTable(columns, ascii_only=ascii_only)
        self.messages: list[object] = []
        for path in find_themes(Path("/nonexistent")).values():
            self.register_theme(load_theme(path))
        self.theme = "night"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLE_DEFAULTS)

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.table.focus()

    def on_line_table_cursor_moved(self, event: LineTable.CursorMoved) -> None:
        self.messages.append(("cursor", event.key))

    def on_line_table_selected(self, event: LineTable.Selected) -> None:
        self.messages.append(("selected", event.key))

    def on_line_table_marks_changed(self, event: LineTable.MarksChanged) -> None:
        self.messages.append(("marks", event.marks))


def row(name: str, state: str = "ok", qps: float = 0.0, note: str = "") -> Row:
    level = Level(state) if state in set(Level) else Level.PLAIN
    return (Cell(name), Cell(state, level), Cell(f"{qps:.0f}", sort=qps), Cell(note))


def fleet(count: int) -> dict[Key, Row]:
    return {f"k{i}": row(f"node{i}", qps=i * 10) for i in range(count)}


@asynccontextmanager
async def shown(
    rows: dict[Key, Row],
    *,
    size: tuple[int, int] = (60, 11),
    columns: tuple[Column, ...] = COLUMNS,
    ascii_only: bool = False,
) -> AsyncIterator[tuple[TableApp, Pilot[None]]]:
    app = TableApp(columns, ascii_only=ascii_only)
    async with app.run_test(size=size) as pilot:
        app.table.set_rows(rows)
        await pilot.pause()
        yield app, pilot


def screen(app: TableApp) -> list[str]:
    """The table's lines as on screen, from the compositor and not from the widget."""
    app.screen.refresh()
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips][: app.table.size.height]


def names(app: TableApp) -> list[str]:
    return [line[2:].split(" ")[0] for line in screen(app)[1:] if line.strip()]


@contextmanager
def repaints(app: TableApp) -> Iterator[list[Region]]:
    """The regions that the table asks to be painted; an empty region stands for all of it."""
    found: list[Region] = []
    original = app.table._set_dirty

    def note(*regions: Region) -> None:
        found.extend(regions or [Region()])
        original(*regions)

    app.table._set_dirty = note  # type: ignore[method-assign]
    yield found
    app.table._set_dirty = original  # type: ignore[method-assign]


# Painting


async def test_rows_show_all_cells_with_the_cursor_marked_by_a_bar() -> None:
    async with shown({"a": row("fra1", "ok", 1200, "fine"), "b": row("ams1", "crit", 3)}) as (app, _):
        assert screen(app)[:3] == [
            "  NODE  STATE        QPS NOTE",
            "▌ fra1  ok          1200 fine",
            "  ams1  crit           3",
        ]


async def test_changed_cell_repaints_only_its_own_cells() -> None:
    rows = fleet(5)
    async with shown(rows) as (app, pilot):
        rows["k2"] = row("node2", "warn", 20)
        with repaints(app) as regions:
            app.table.changed({"k2"})
        assert regions == [Region(8, 3, 8, 1)]
        await pilot.pause()
        assert screen(app)[3] == "  node2 warn          20"


async def test_equal_rows_repaint_nothing() -> None:
    rows = fleet(5)
    async with shown(rows) as (app, _):
        with repaints(app) as regions:
            app.table.show_rows(fleet(5))
        assert regions == []


async def test_changes_off_screen_cost_nothing_and_are_there_when_scrolled_to() -> None:
    rows = fleet(100)
    async with shown(rows) as (app, pilot):
        await pilot.press("G", "g")  # the last rows were painted once and are remembered
        rows["k99"] = row("node99", "crit", 1)
        with repaints(app) as regions:
            app.table.changed({"k99"})
        assert regions == []
        await pilot.press("G")
        assert "crit" in screen(app)[-1]


async def test_stale_line_is_never_shown_even_if_nobody_told_of_the_change() -> None:
    rows = fleet(100)
    async with shown(rows) as (app, pilot):
        rows["k50"] = row("node50", "warn")
        await pilot.press("G")
        app.table.move_to("k50")
        await pilot.pause()
        assert any("node50 warn" in " ".join(line.split()) for line in screen(app))


async def test_row_that_vanished_before_the_rebuild_is_blank_and_does_not_crash() -> None:
    rows = fleet(3)
    async with shown(rows) as (app, pilot):
        del rows["k1"]
        app.table.changed({"k1"})
        app.table.refresh()
        await pilot.pause()
        assert names(app) == ["node0", "node2"]


async def test_theme_change_repaints_lines_in_the_new_colours() -> None:
    async with shown({"a": row("fra1"), "b": row("ams1", "crit")}) as (app, pilot):

        def colour_of_crit() -> str:
            strip = app.table.render_line(2)
            return next(str(s.style.color) for s in strip if s.style and s.text.startswith("crit"))

        before = colour_of_crit()
        app.theme = "day"
        await pilot.pause()
        assert before != colour_of_crit()


async def test_cursor_is_visible_without_any_colour() -> None:
    async with shown(fleet(3)) as (app, pilot):
        app.theme = "ansi"
        await pilot.pause()
        style = next(s.style for s in app.table.render_line(1) if s.text.strip())
        assert style is not None
        assert style.reverse
        assert style.bold
        assert screen(app)[1].startswith("▌")


async def test_a_reversed_cursor_makes_no_coloured_blocks() -> None:
    rows: dict[Key, Row] = {"x": (Cell("fra1"), Cell("DOWN", Level.CRIT), Cell("1", Level.STALE))}
    columns = (Column("a", "A"), Column("b", "B"), Column("c", "C"))
    async with shown(rows, columns=columns) as (app, pilot):
        app.theme = "ansi"
        await pilot.pause()
        styles = {s.style for s in app.table.render_line(1) if s.style}
        assert {(style.color.name if style.color else None) for style in styles} <= {None, "default"}
        assert all(style.reverse for style in styles)


async def test_ascii_terminals_get_ascii_only() -> None:
    columns = (Column("a", "A", width=4), Column("b", "B", width=6), Column("c", "C", width=30))
    rows: dict[Key, Row] = {"x": (Cell("averylongname"), Cell("b"), Cell("c"))}
    async with shown(rows, size=(20, 5), columns=columns, ascii_only=True) as (app, pilot):
        await pilot.press("space", "right")
        app.table.sort_by("a")
        await pilot.pause()
        assert "".join(screen(app)).isascii()
        assert screen(app)[1].startswith(">*ave~")


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[red", "\\[x]", "[@click=app.quit]y[/]"])
async def test_remote_markup_is_shown_as_it_is(text: str) -> None:
    async with shown({"a": row("fra1", note=text)}) as (app, _):
        assert screen(app)[1].endswith(text)


async def test_remote_control_characters_never_reach_the_terminal() -> None:
    evil = "a\x1b[2Jb\x9b31mc\u202ed\u200be\x07\nf\u2066g"
    async with shown({"a": row(evil, note=evil)}) as (app, _):
        assert "a[2Jb31mcde fg" in screen(app)[1]


async def test_wide_characters_keep_columns_in_line() -> None:
    async with shown({"a": row("広告する", "ok", 5), "b": row("plain", "ok", 6)}) as (app, _):
        lines = screen(app)
        assert cell_len(lines[1][: lines[1].index(" ok")]) == cell_len(lines[2][: lines[2].index(" ok")])


async def test_empty_table_says_why() -> None:
    async with shown({}) as (app, pilot):
        app.table.empty = "the engine is starting"
        await pilot.pause()
        assert screen(app)[2] == "  the engine is starting"
        app.table.set_rows(fleet(3))
        app.table.set_filter(lambda *_: False, "no rows match /zzz/")
        await pilot.pause()
        assert screen(app)[2] == "  no rows match /zzz/"


# Cursor


async def test_cursor_follows_its_key_and_stays_on_its_line_when_the_order_changes() -> None:
    rows = fleet(100)
    async with shown(rows) as (app, pilot):
        app.table.move_to("k40")
        await pilot.press("k", "k")
        line = next(y for y, text in enumerate(screen(app)) if text.startswith("▌"))
        app.table.sort_by("qps", reverse=True)
        await pilot.pause()
        assert app.table.cursor_key == "k38"
        assert screen(app)[line].startswith("▌ node38")


async def test_cursor_goes_to_the_neighbour_when_its_row_vanishes() -> None:
    rows = fleet(5)
    async with shown(rows) as (app, pilot):
        await pilot.press("j", "j")
        del rows["k2"]
        app.table.rebuild()
        await pilot.pause()
        assert app.table.cursor_key == "k3"
        assert app.messages[-1] == ("cursor", "k3")


async def test_worst_rows_come_into_view_as_long_as_nobody_has_moved() -> None:
    rows = fleet(100)
    async with shown(rows) as (app, pilot):
        app.table.set_rows(rows, lambda key, _: -int(key[1:]))
        await pilot.pause()
        assert names(app)[0] == "node99"
        assert app.table.scroll_offset.y == 0


async def test_the_head_of_the_list_is_in_sight_again_for_who_never_left_it() -> None:
    rows = fleet(100)
    async with shown(rows) as (app, pilot):
        app.table.move_to("k40", at_home=True)
        await pilot.resize_terminal(70, 12)
        await pilot.pause()
        assert app.table.cursor_key == "k0"
        app.table.move_to("k40")
        await pilot.resize_terminal(70, 10)
        await pilot.pause()
        assert app.table.cursor_key == "k40"


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("j", "k1"), ("j down k", "k1"), ("G", "k99"), ("end home", "k0"), ("G g", "k0"),
        ("pagedown", "k9"), ("pagedown pageup", "k0"), ("ctrl+d", "k4"), ("ctrl+d ctrl+d ctrl+u", "k4"), ("k", "k0"), ("G j", "k99"),
        ("pagedown pagedown", "k18"),
    ],
)  # fmt: skip
async def test_keys_move_the_cursor_as_fingers_expect(keys: str, key: str) -> None:
    async with shown(fleet(100)) as (app, pilot):
        await pilot.press(*keys.split())
        assert app.table.cursor_key == key
        assert app.messages[-1] == ("cursor", key)
        assert any(line.startswith(f"▌ node{key[1:]}") for line in screen(app))


async def test_cursor_stays_in_sight_when_the_window_shrinks() -> None:
    async with shown(fleet(100), size=(60, 30)) as (app, pilot):
        app.table.move_to("k25")
        await pilot.resize_terminal(60, 10)
        await pilot.pause()
        assert any(line.startswith("▌ node25") for line in screen(app))


async def test_enter_and_double_click_select_the_row_under_the_cursor() -> None:
    async with shown(fleet(5)) as (app, pilot):
        await pilot.press("j", "enter")
        assert app.messages[-1] == ("selected", "k1")
        await pilot.click(LineTable, offset=(5, 4), times=2)
        await pilot.pause()
        assert app.messages[-1] == ("selected", "k3")


async def test_rows_do_not_jump_right_after_a_key_press() -> None:
    rows = fleet(5)
    async with shown(rows) as (app, pilot):
        app.table.sort_by("qps", reverse=True)
        app.table.resort_every = 0.0
        await pilot.press("j")
        app.table.show_rows({**rows, "k0": row("node0", qps=999)})
        await pilot.pause()
        assert names(app)[0] == "node4"
        app.table.hold_after_key = 0.0
        app.table.show_rows(dict(app.table.rows))
        await pilot.pause()
        assert names(app)[0] == "node0"


# Marks


async def test_space_marks_and_goes_on_and_marks_stay_with_their_rows() -> None:
    rows = fleet(5)
    async with shown(rows) as (app, pilot):
        await pilot.press("space", "j", "space")
        assert app.table.marks == {"k0", "k2"}
        app.table.sort_by("qps", reverse=True)
        await pilot.pause()
        assert [line[1] for line in screen(app)[1:6]] == [" ", " ", "◆", " ", "◆"]
        assert app.table.targets == ("k2", "k0")


async def test_range_marks_follow_the_cursor_both_ways_and_escape_takes_them_back() -> None:
    async with shown(fleet(20)) as (app, pilot):
        await pilot.press("j", "j", "v", "j", "j")
        assert app.table.marks == {"k2", "k3", "k4"}
        await pilot.press("k", "k", "k")
        assert app.table.marks == {"k1", "k2"}
        assert app.table.escape()
        assert app.table.marks == frozenset()
        assert not app.table.escape()


async def test_range_ends_with_v_and_keeps_its_marks() -> None:
    async with shown(fleet(20)) as (app, pilot):
        await pilot.press("v", "j", "v", "j", "j")
        assert app.table.marks == {"k0", "k1"}


async def test_marks_of_vanished_rows_are_dropped_and_hidden_ones_counted() -> None:
    rows = fleet(5)
    async with shown(rows) as (app, pilot):
        app.table.set_marks(["k1", "k2", "k3", "unknown"])
        app.table.set_filter(lambda key, _: key == "k3", "3")
        assert app.table.hidden_marks == 2
        assert app.table.targets[0] == "k3"
        del rows["k1"]
        app.table.rebuild()
        await pilot.pause()
        assert app.table.marks == {"k2", "k3"}
        assert app.messages[-1] == ("marks", frozenset({"k2", "k3"}))


async def test_range_never_marks_rows_that_vanished_meanwhile() -> None:
    rows = fleet(5)
    async with shown(rows) as (app, pilot):
        app.table.set_marks(["k4"])
        await pilot.press("v", "j")
        del rows["k4"]
        app.table.rebuild()
        await pilot.press("j")
        assert app.table.marks == {"k0", "k1", "k2"}
        app.table.escape()
        assert app.table.marks == frozenset()


async def test_without_marks_the_row_under_the_cursor_is_the_target() -> None:
    async with shown(fleet(3)) as (app, pilot):
        await pilot.press("j")
        assert app.table.targets == ("k1",)
        app.table.set_rows({})
        assert not app.table.targets


# Sorting


async def test_heading_click_sorts_then_inverts_then_restores_the_own_order() -> None:
    rows: dict[Key, Row] = {"a": row("fra10", qps=5), "b": row("fra2", qps=100), "c": row("ams1", qps=20)}
    async with shown(rows) as (app, pilot):
        await pilot.click(LineTable, offset=(3, 0))
        assert names(app) == ["ams1", "fra2", "fra10"]
        assert "NODE▲" in screen(app)[0]
        await pilot.click(LineTable, offset=(3, 0))
        assert names(app) == ["fra10", "fra2", "ams1"]
        await pilot.click(LineTable, offset=(3, 0))
        assert names(app) == ["fra10", "fra2", "ams1"]
        assert app.table.sort is None
        await pilot.click(LineTable, offset=(20, 0))
        assert names(app) == ["fra2", "ams1", "fra10"]


async def test_sort_keys_walk_over_the_columns_and_invert() -> None:
    async with shown(fleet(3)) as (app, pilot):
        await pilot.press("greater_than_sign", "greater_than_sign", "greater_than_sign")
        assert app.table.sort == ("qps", True)
        await pilot.press("I")
        assert app.table.sort == ("qps", False)
        await pilot.press("less_than_sign", "less_than_sign", "less_than_sign")
        assert app.table.sort is None


async def test_rows_without_a_value_sort_last_in_both_directions() -> None:
    rows: dict[Key, Row] = {
        "none": (Cell("a"), Cell(""), Cell("?", sort=float("nan")), Cell("")),
        "low": row("b", qps=1),
        "high": row("c", qps=2),
    }
    async with shown(rows) as (app, _):
        app.table.sort_by("qps")
        assert list(app.table.order) == ["low", "high", "none"]
        app.table.sort_by("qps", reverse=True)
        assert list(app.table.order) == ["high", "low", "none"]


async def test_unknown_sort_column_is_an_error() -> None:
    async with shown(fleet(1)) as (app, _):
        with pytest.raises(KeyError):
            app.table.sort_by("nonsense")


@given(st.lists(st.one_of(st.floats(), st.integers(), st.text(), st.none())))
def test_any_mixture_of_sort_values_has_an_order(values: list[float | str | None]) -> None:
    keys = [sort_value(Cell(str(v), sort=v)) for v in values]
    known = [key for key in keys if key is not None]
    assert len(sorted(known)) == len(known)


# Widths


async def test_columns_grow_with_their_content_and_never_shrink() -> None:
    rows: dict[Key, Row] = {"a": row("fra1")}
    async with shown(rows) as (app, pilot):
        rows["a"] = row("frankfurt-main-1")
        app.table.changed({"a"})
        await pilot.pause()
        assert "frankfurt-main-1 ok" in screen(app)[1]
        rows["a"] = row("x")
        app.table.changed({"a"})
        await pilot.pause()
        assert screen(app)[1].index("ok") == 2 + 16 + 1


async def test_narrow_screen_scrolls_by_columns_behind_the_first_one() -> None:
    columns = tuple(Column(c, c.upper() * 8, width=8) for c in "abcdef")
    rows: dict[Key, Row] = {"x": tuple(Cell(c * 8) for c in "abcdef")}
    async with shown(rows, size=(32, 6), columns=columns) as (app, pilot):
        assert screen(app)[1] == "▌ aaaaaaaa bbbbbbbb cccccccc ddd"
        assert screen(app)[0].endswith("▸")
        await pilot.press("right")
        assert screen(app)[1] == "▌ aaaaaaaa cccccccc dddddddd eee"
        await pilot.press("right", "right", "right", "right")
        assert screen(app)[1] == "▌ aaaaaaaa eeeeeeee ffffffff"
        assert "◂" in screen(app)[0]
        await pilot.press("left", "left", "left", "left")
        assert screen(app)[1].startswith("▌ aaaaaaaa bbbbbbbb")


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 120), st.integers(0, 10))
def test_every_column_can_be_scrolled_into_sight(widths: list[int], screen_width: int, presses: int) -> None:
    shift = 0
    for _ in range(presses):
        further = next_shift(widths, screen_width, shift, 1)
        assert further >= shift
        shift = further
    for _ in range(len(widths) + presses):
        shift = next_shift(widths, screen_width, shift, 1)
    assert shift == 0 or full_width(widths) - shift <= screen_width
    assert all(left <= right for left, right in spans(widths, screen_width, shift)[1:])
    for _ in range(len(widths) + presses):
        shift = next_shift(widths, screen_width, shift, -1)
    assert shift == 0


def test_last_column_takes_the_rest() -> None:
    widths = ColumnWidths((Column("a", "A", width=5), Column("b", "B")))
    assert widths.fitted(40) == [5, 40 - 2 - 5 - 1]


@given(st.text(), st.integers(0, 40), st.booleans())
def test_fitted_text_has_exactly_its_width_whatever_it_holds(text: str, width: int, right: bool) -> None:
    fitted = fit(text, width, right=right)
    assert cell_len(fitted) == width
    assert all(c.isprintable() for c in fitted)


@given(st.text())
def test_plain_text_is_printable_and_plain_text_stays_as_it_is(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    assert all(c.isprintable() for c in once)


# Cost


async def test_ten_thousand_rows_sort_filter_and_scroll_within_their_budget() -> None:
    rows = fleet(10_000)
    async with shown(rows, size=(200, 50)) as (app, pilot):
        begun = time.process_time()
        app.table.sort_by("qps", reverse=True)
        app.table.set_filter(lambda _, r: "9" in r[0].text, "9")
        await pilot.press("G", "g", "pagedown")
        for turn in range(10):
            rows[f"k{turn}99"] = row(f"node{turn}99", "warn", turn)
            app.table.changed({f"k{turn}99"})
            await pilot.pause()
        assert len(app.table._painter._painted) <= 1000
        assert time.process_time() - begun < 2.0
