"""Pane 6: a load test as it goes on, that one key ends it, and the results of all before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from anyconsole.actions.load.files import runs_folder
from anyconsole.actions.run import Outcome, RunState
from anyconsole.engine.client import EngineError, EngineState
from anyconsole.model.load import Phase, Verdict
from anyconsole.model.load_view import GeneratorRow, InstanceRow, LoadState, LoadView, Point
from anyconsole.model.table import UNICODE
from anyconsole.tui.changing import READ_ONLY
from anyconsole.tui.load_text import load_lines
from anyconsole.tui.screens.load import LoadScreen
from anyconsole.tui.screens.load_sheet import LoadSheetScreen
from anyconsole.tui.widgets.loss_curve import row_of
from tests.actions.load_runs import header, write_search
from tests.fleet import NOW
from tests.tui.conftest import Console, console
from tests.tui.fake_client import FakeClient
from tests.tui.loads import fleet_to_test, load_run, load_view, over

SIZES = [(80, 24), (120, 40), (200, 50)]


@pytest.fixture(autouse=True)
def _own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def fleet_under_load(**fields: Any) -> FakeClient:  # noqa: ANN401 - of any type
    fleet = fleet_to_test()
    fleet.pass_time(41)
    fleet.tell(load_run(fleet), loads=[load_view(**fields)])
    return fleet


def asked(c: Console) -> list[tuple[str, dict[str, str]]]:
    return [(op, args) for op, args in c.fleet.asked if op != "plan"]


async def watching(c: Console) -> LoadScreen:
    await c.press("6")
    screen = c.app.screen
    assert isinstance(screen, LoadScreen)
    await c.pilot.pause()
    return screen


async def told(c: Console, view: LoadView) -> None:
    c.fleet.tell(loads=[view])
    await c.pilot.pause()


# --- what is shown


@pytest.mark.parametrize("glyphs", ["unicode", "ascii"])
@pytest.mark.parametrize("size", SIZES)
async def test_target_loss_verdicts_and_limits_are_in_sight_on_every_terminal(
    size: tuple[int, int], glyphs: str
) -> None:
    async with console(size, fleet=fleet_under_load(), glyphs=glyphs) as c:
        await watching(c)
        ok, bad, full, line = ("●", "✖", "█", "│") if glyphs == "unicode" else ("+", "X", "#", "|")
        assert c.line_with("target", "20 200 q/s", "vote 6", "1 s left", "cap 60 000")
        assert c.line_with("offered", "20 200", "sent 20 196", "answered 19 992", "lost 204", "late 12")
        assert c.line_with("loss", "0.84 %", full * 10, line, "within the goal of 1.0 %")
        assert c.line_with("best", "20 000 .. 20 402 q/s", "plateau 20 010")
        assert c.line_with("20 402 q/s", f"{bad}b {bad}b {bad}b {bad}b", "FAILED")
        assert c.line_with("20 200 q/s", f"{ok}o {ok}o {bad}b ?v {ok}o", "open")
        assert c.line_with("20 000 q/s", f"{ok}o {ok}o {ok}o {ok}o", "passed")
        assert c.line_with("p50 0.40", "p95 5.0", "p99 14", "max 18 ms")
        assert c.line_with("NOERROR 90.3 %", "NXDOMAIN 9.9 %", "SERVFAIL 0.0 %", "TC 0.0 %")
        assert c.line_with("gen1", "10 100", "41 %", "0.0 %", "256/4", "48 000", "0.2 s")
        assert c.line_with("de fra1", "20 031", "100 %", "0.71", "!40 %", "!164", "4/4 up")
        assert c.line_with("nic fra1", "neighbour")
        assert "x stop" in c.lines[-1]
        if size != (80, 24):
            assert c.line_with("loss by rate, 12 of 22 trials", f"{ok} ok", f"{bad} bad")
            assert c.line_with("1%" + line, "-----" if glyphs == "ascii" else "╌╌╌╌╌")
            assert c.line_with("offered 20.2k q/s", "answered 20k q/s")
        assert max(len(row) for row in c.lines) <= size[0]
        if glyphs == "ascii":
            assert not [ch for ch in c.text if not ch.isascii() and ch not in "▁▂▃▄▅▆▇█"]  # Textual's scrollbar


async def test_verdicts_are_coloured_as_well_as_signed() -> None:
    async with console((120, 40), fleet=fleet_under_load()) as c:
        await watching(c)
        votes = c.app.screen._compositor.render_strips()[c.lines.index(c.line_with("FAILED"))]
        other = c.app.screen._compositor.render_strips()[c.lines.index(c.line_with("passed"))]
        colour = {segment.text.strip(): segment.style.color for segment in (*votes, *other) if segment.style}
        assert colour["FAILED"] == colour["✖b"] != colour["●o"] == colour["passed"]


async def test_it_is_live_and_the_header_tells_of_it_on_every_pane() -> None:
    async with console((120, 40), fleet=fleet_under_load()) as c:
        for pane in "12345":
            await c.press(pane)
            assert "1 load test running (6)" in c.lines[1]
        await watching(c)
        view = load_view()
        worse = msgspec.structs.replace(view.seconds[-1], at=NOW + 41, sent=20_000, lost=700, loss=0.035)
        await told(c, msgspec.structs.replace(view, rate=20_402.0, seconds=(*view.seconds, worse)))
        assert c.line_with("target", "20 402 q/s")
        assert c.line_with("loss", "3.50 %", "]>", "OVER the goal")


async def test_what_is_not_known_is_a_dash_and_never_a_zero() -> None:
    view = load_view()
    bare = load_view(
        state=LoadState.PREPARING, seconds=(), points=(), grid=(), phase=None, rate=0.0, plateau=None, lower=None, upper=None,
        ends_at=None, words="takes the node for itself", generators=tuple(GeneratorRow(name=g.name) for g in view.generators),
        instances=tuple(InstanceRow(node=i.node, tenant=i.tenant) for i in view.instances),
    )  # fmt: skip
    async with console((120, 40), fleet=fleet_to_test()) as c:
        c.fleet.tell(load_run(c.fleet), loads=[bare])
        await watching(c)
        assert "preparing" in c.lines[2]
        assert c.line_with("now", "takes the node for itself")
        assert c.line_with("best", "not known yet")
        for label in ("target", "offered", "loss", "latency", "answers", "gen1", "de fra1"):
            line = c.line_with(label)
            assert "-" in line, label
            assert " 0 " not in line.replace("cap 60 000", ""), label


async def test_figures_that_stopped_coming_say_how_old_they_are() -> None:
    async with console((120, 40), fleet=fleet_under_load()) as c:
        await watching(c)
        assert "old" not in c.text
        c.fleet.now += 9
        c.app._each_second()
        await c.pilot.pause()
        assert c.line_with("figures 9s old")
        assert c.line_with("gen1", "9.2 s")
        c.fleet.become(EngineState.LOST, "killed")
        await c.pilot.pause()
        assert "ENGINE LOST" in c.lines[2]
        assert "generators fall silent" in c.lines[2]


async def test_words_of_hosts_are_plain_text() -> None:
    hostile = "[red]x[/]\x1b[31m\u202e\n" + "y" * 300
    view = load_view()
    view = msgspec.structs.replace(
        view,
        words=hostile,
        generators=tuple(msgspec.structs.replace(g, name=hostile, state=hostile) for g in view.generators),
        instances=tuple(msgspec.structs.replace(i, bgp=hostile, node=hostile) for i in view.instances),
        points=(
            *view.points,
            Point(phase=Phase.VOTE, rate=1.0, loss=0.0, answered=0.0, verdict=Verdict.VOID, void=hostile),
        ),
    )
    async with console((80, 24), fleet=fleet_to_test()) as c:
        c.fleet.tell(load_run(c.fleet), loads=[view])
        await watching(c)
        assert "[red]x[/]" in c.lines[2]
        assert "\x1b" not in c.text
        assert "\u202e" not in c.text
        assert max(len(line) for line in c.lines) <= 80


@pytest.mark.parametrize("width", [40, 80, 200])
def test_many_votes_and_hosts_do_not_push_the_loss_out_of_sight(width: int) -> None:
    view = load_view()
    many = msgspec.structs.replace(
        view,
        grid=tuple(
            msgspec.structs.replace(view.grid[1], rate=20_000 * 1.01**n, votes=view.grid[1].votes * 20)
            for n in range(40)
        ),
        generators=view.generators * 20,
    )
    lines = [line.text for line in load_lines(many, NOW + 41, UNICODE, width, 19)]
    assert next(n for n, line in enumerate(lines) if line.startswith("loss")) < 5
    assert sum(line.endswith("open") for line in lines) == 3
    assert len(max((line for line in lines if "open" in line), key=len)) <= max(width, 52)


def test_the_curve_keeps_the_goal_apart_from_what_is_above_and_below() -> None:
    for rows in (5, 10, 40):
        assert row_of(0.0, rows) < row_of(0.01, rows) < row_of(0.06, rows) < row_of(1.0, rows) == rows - 1
        assert row_of(0.5, rows, 0.03) == rows - 1


async def test_at_a_fixed_rate_loss_is_drawn_by_time() -> None:
    async with console((120, 40), fleet=fleet_under_load(purpose="fixed", phase=Phase.FIXED, grid=())) as c:
        await watching(c)
        assert c.line_with("loss", "lost 0.84 %", "offered 20.2k q/s")
        assert "loss by rate" not in c.text


async def test_the_charts_go_before_the_figures_do() -> None:
    async with console((120, 40), fleet=fleet_under_load()) as c:
        screen = await watching(c)
        assert screen.query_one("#load-charts").display
        await c.pilot.resize_terminal(120, 20)
        await c.pilot.pause()
        assert not screen.query_one("#load-charts").display
        assert c.line_with("loss", "0.84 %")
        await c.press("G")
        assert c.line_with("begun by alice@oncall1")


# --- what can be done


@pytest.mark.parametrize("where", ["watching", "results", "fleet"])
async def test_x_stops_at_once_and_asks_nobody(where: str) -> None:
    async with console(fleet=fleet_under_load()) as c:
        if where != "fleet":
            await watching(c)
        if where == "results":
            await c.press("escape")
            assert "Load tests[0]" in c.text
        await c.press("x")
        await c.pilot.pause(0.05)
        assert asked(c) == [("cancel", {"run": "r1"})]
        assert "generators fall silent" in c.message


async def test_stopping_is_possible_when_read_only_going_faster_is_not() -> None:
    async with console(fleet=fleet_under_load(can_adjust=True, purpose="fixed")) as c:
        await watching(c)
        c.fleet.armed_until = 0.0
        await c.press("plus")
        assert READ_ONLY in c.message
        await c.press("minus", "x")
        await c.pilot.pause(0.05)
        assert asked(c) == [("adjust", {"run": "r1", "factor": "0.9"}), ("cancel", {"run": "r1"})]


async def test_plus_and_minus_change_a_fixed_rate_by_a_tenth_and_say_what_it_became() -> None:
    async with console(fleet=fleet_under_load(can_adjust=True, purpose="fixed")) as c:
        await watching(c)
        await c.press("plus")
        await c.pilot.pause(0.05)
        assert asked(c) == [("adjust", {"run": "r1", "factor": "1.1"})]
        assert "goes on at 22k q/s" in c.message
        c.fleet.replies["adjust"] = refused
        await c.press("minus")
        await c.pilot.pause(0.05)
        assert "no load test runs now" in c.message


def refused(_: dict[str, str]) -> str:
    raise EngineError("no load test runs now")


async def test_the_rate_of_a_search_is_its_own() -> None:
    async with console(fleet=fleet_under_load()) as c:
        await watching(c)
        await c.press("plus", "minus")
        assert "only a load test at a fixed rate" in c.message
        assert not asked(c)


async def test_stray_keys_and_enter_do_nothing_and_leaving_stops_nothing() -> None:
    async with console(fleet=fleet_under_load()) as c:
        screen = await watching(c)
        await c.press("enter", "space", "a", "y", "D", "U", "L", "X", "0", "delete", "tab", "6")
        await c.pilot.click(offset=(40, 12))
        assert c.app.screen is screen
        for key in ("escape", "q", "1"):
            await c.press(key)
            assert "Load test de-fra1" not in c.text, key
            await watching(c)
        assert not asked(c)


@pytest.mark.parametrize("size", SIZES)
async def test_the_end_says_what_was_found_and_what_limited_it_until_it_is_dismissed(size: tuple[int, int]) -> None:
    async with console(size, fleet=fleet_under_load()) as c:
        await watching(c)
        c.fleet.now = NOW + 72
        c.fleet.tell(
            over(load_run(c.fleet)),
            loads=[
                load_view(
                    state=LoadState.ENDED, verdict="ok", limit="throttled in 40 % of its periods", ended_at=NOW + 72
                )
            ],
        )
        c.app._each_second()
        await c.pilot.pause()
        assert "ended: ok after 1m12s" in c.lines[2]
        assert c.line_with("OK: 20 000 .. 20 402 q/s")
        assert c.line_with("limit", "throttled in 40 % of its periods")
        assert c.line_with("loss", "0.84 %")
        assert "running" not in c.lines[1]
        await c.press("x")
        assert "no load test is running" in c.message
        await c.press("escape")
        assert "(W)" not in c.lines[1]


@pytest.mark.parametrize(
    ("outcome", "verdict", "words"),
    [
        (Outcome.DONE, "generator-limited", "GENERATOR-LIMITED: none"),
        (Outcome.STOPPED, "aborted", "STOPPED after 1m12s"),
        (Outcome.FAILED, "aborted", "FAILED after 1m12s"),
    ],
)
async def test_an_end_without_a_result_never_looks_like_one(outcome: Outcome, verdict: str, words: str) -> None:
    async with console((120, 40), fleet=fleet_under_load()) as c:
        screen = await watching(c)
        c.fleet.tell(
            over(load_run(c.fleet), outcome),
            loads=[
                load_view(
                    state=LoadState.ENDED, verdict=verdict, lower=None, upper=None, words="stopped by the operator"
                )
            ],
        )
        await c.pilot.pause()
        assert c.line_with(words)
        assert c.line_with("ended", verdict, "stopped by the operator")
        assert "ok" not in screen._end.classes


@pytest.mark.parametrize("state", [LoadState.PREPARING, LoadState.RUNNING])
async def test_a_test_that_was_cut_off_is_not_said_to_go_on_and_says_why(state: LoadState) -> None:
    async with console((120, 40), fleet=fleet_under_load(state=state)) as c:
        await watching(c)
        cut = msgspec.structs.replace(
            over(load_run(c.fleet), Outcome.FAILED), words="somebody else runs a load test there"
        )
        c.fleet.tell(cut)
        await c.pilot.pause()
        assert "ended: failed" in c.lines[2]
        assert "running" not in c.lines[1] + c.lines[2]
        assert c.line_with("FAILED after 1m12s")
        assert c.line_with("somebody else runs a load test there")


async def test_w_and_the_end_of_a_test_nobody_watched_lead_to_it() -> None:
    async with console(fleet=fleet_under_load()) as c:
        await c.press("W")
        assert isinstance(c.app.screen, LoadScreen)
        await c.press("escape")
        c.fleet.tell(over(load_run(c.fleet)), loads=[load_view(state=LoadState.ENDED, verdict="ok")])
        await c.pilot.pause()
        assert "DONE after 1m12s: load test" in c.message
        assert "done (W)" in c.lines[1]
        await c.press("6")
        assert "Load tests[0]" in c.text
        await c.press("W")
        assert "Load test de-fra1" in c.text


async def test_of_several_targets_the_one_that_is_tested_now_is_shown() -> None:
    fleet = fleet_to_test()
    run = load_run(fleet)
    plan = msgspec.structs.replace(run.plan, steps=run.plan.steps * 2)
    fleet.tell(
        msgspec.structs.replace(run, plan=plan, steps=run.steps * 2, state=RunState.CANCELLING),
        loads=[load_view(target="nic-ams1", began_at=NOW + 30), load_view(state=LoadState.ENDED, ended_at=NOW + 30)],
    )
    async with console((120, 40), fleet=fleet) as c:
        await watching(c)
        assert "Load test nic-ams1" in c.lines[2]
        assert "2 targets one after the other" in c.lines[2]
        assert "stopping" in c.lines[2]
        assert c.line_with("de-fra1: running, votes on 20 200 q/s")


# --- results


def results(fleet: FakeClient) -> Path:
    """Three searches of the fleet's, an hour apart."""
    folder = runs_folder(fleet.inventory)
    for number in range(3):
        at = NOW - 3600 * number
        write_search(folder, header(f"2026112{number}T185320-aaa{number}", at=at, pair_id=""), capacity=24_300 + number)
    return folder


async def read(c: Console) -> None:
    """Until the results are on the screen."""
    for _ in range(100):
        await c.pilot.pause(0.02)
        await c.settle(aged=True)
        if c.app.load_results.lines:
            return


@pytest.mark.parametrize("size", SIZES)
async def test_without_a_test_the_results_are_listed_with_their_intervals_newest_first(size: tuple[int, int]) -> None:
    fleet = fleet_to_test()
    results(fleet)
    async with console(size, fleet=fleet) as c:
        await c.press("6")
        await read(c)
        assert "Load tests[3]" in c.text
        assert [key[1][-4:] for key in c.pane.table.order] == ["aaa0", "aaa1", "aaa2"]
        assert c.line_with("11-23 18:53", "de@k3s-2", "● ok", "24 545..24 791", "cpu-quota")
        assert c.lines.index(c.line_with("11-23 18:53")) < c.lines.index(c.line_with("11-23 17:53"))


@pytest.mark.parametrize("key", ["enter", "d"])
async def test_enter_shows_the_sheet_of_a_result(key: str) -> None:
    fleet = fleet_to_test()
    results(fleet)
    async with console((120, 40), fleet=fleet) as c:
        await c.press("6")
        await read(c)
        await c.press(key)
        assert isinstance(c.app.screen, LoadSheetScreen)
        for _ in range(100):
            await c.pilot.pause(0.02)
            if "Limited by" in c.text:
                break
        assert c.line_with("Limited by", "cpu-quota")
        assert c.line_with("p50 / p95 / p99")
        assert "Conditions" in c.text
        await c.press("escape")
        assert "Load tests[3]" in c.text


async def test_a_result_that_went_away_says_so_and_no_result_says_how_to_get_one() -> None:
    fleet = fleet_to_test()
    async with console(fleet=fleet) as c:
        await c.press("6")
        for _ in range(50):
            await c.pilot.pause(0.02)
            await c.settle(aged=True)
            if "no load test yet" in c.text:
                break
        assert "no load test yet; L on a node" in c.text
        c.app.push_screen(LoadSheetScreen(c.app, "gone"))
        for _ in range(50):
            await c.pilot.pause(0.02)
            if "there is no load test" in c.lines[2]:
                break
        assert "there is no load test 'gone'" in c.lines[2]
