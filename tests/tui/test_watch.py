"""Watching a change: what is shown of it, that leaving stops nothing, and that aborting and answering are choices."""

from __future__ import annotations

import msgspec
import pytest

from anyconsole.actions.run import Outcome, Question, Run, RunState, StepRun, StepState
from anyconsole.engine.client import EngineState
from anyconsole.model.table import UNICODE
from anyconsole.tui.screens.dialog import ConfirmScreen
from anyconsole.tui.screens.question import QuestionScreen
from anyconsole.tui.screens.watch import WatchScreen
from anyconsole.tui.traffic import baseline, traffic
from anyconsole.tui.watch_text import watch_lines
from anyconsole.tui.widgets import form
from tests.tui.changes import engine_of_plans, plan_for, run_of
from tests.tui.conftest import Console, console
from tests.tui.fake_client import FakeClient


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "HASTE", 0.0)


def fleet_with_run() -> tuple[FakeClient, Run]:
    fleet = FakeClient()
    engine_of_plans(fleet)
    request = {"level": "soft", "nodes": ["fra1", "fra2"], "tenants": ["de"], "reason": "line card", "ticket": "OPS-9"}
    return fleet, run_of(plan_for(fleet.store, request))


def asking(run: Run, now: float) -> Run:
    question = Question(
        id=7, text="fra1 still gets 3 q/s. Withdraw all the same?", default="keep soft", until=now + 290,
        choices=(("withdraw", "some queries are lost"), ("keep soft", "nothing is withdrawn"), ("take back", "serve again")),
    )  # fmt: skip
    return msgspec.structs.replace(run, state=RunState.ASKING, question=question)


def ended(run: Run, outcome: Outcome, now: float) -> Run:
    steps = tuple(
        StepRun(state=StepState.DONE, began_at=run.began_at, ended_at=now, timings={"peers": 1.25}) for _ in run.steps
    )
    return msgspec.structs.replace(
        run, state=RunState.ENDED, outcome=outcome, ended_at=now, steps=steps, words="the last query came after 9.8 s"
    )


def asked(c: Console) -> list[tuple[str, dict[str, str]]]:
    return [(op, args) for op, args in c.fleet.asked if op != "plan"]


async def watching(c: Console, run: Run) -> None:
    c.fleet.tell(run)
    await c.press("W")
    assert WatchScreen in map(type, c.app.screen_stack)


def on_top(c: Console) -> type:
    return type(c.app.screen)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_steps_layers_countdown_and_queries_are_in_sight(size: tuple[int, int]) -> None:
    fleet, run = fleet_with_run()
    async with console(size, fleet=fleet) as c:
        for _ in range(5):
            c.app.client.store.sample(c.fleet.now)
        c.fleet.tell(run)
        for node, qps in (("fra1", 1.0), ("ams1", 30.0)):
            c.fleet.change(("rates", node, "de", "probe"), qps=qps)
        for _ in range(3):
            c.fleet.pass_time(10)
            c.app.client.store.sample(c.fleet.now)
        await watching(c, run)
        assert c.line_with("verifying", "1. fra1")
        assert c.line_with("unconfirmed", "takes it back by itself in 1m30s")
        assert c.line_with("● seen", "required", "daemon", "after 0.4 s")
        assert c.line_with("▲ not yet", "required", "peers", "2 of 6 paths")
        assert c.line_with("unknown", "catchment")
        assert c.line_with("waiting", "2. fra2")
        assert c.line_with("13.0 q/s at fra1, fra2 (de); 24.0 before, 54% of it now")
        assert c.line_with("elsewhere", "ams1 +18.0")
        assert c.line_with("at fra1, fra2  13 q/s", "more elsewhere  18 q/s")


async def test_it_is_live() -> None:
    fleet, run = fleet_with_run()
    async with console(fleet=fleet) as c:
        await watching(c, run)
        c.fleet.tell(msgspec.structs.replace(run, steps=(StepRun(state=StepState.DONE), run.steps[0])))
        await c.pilot.pause()
        assert c.line_with("● done", "1. fra1")
        assert c.line_with("verifying", "2. fra2")


@pytest.mark.parametrize("key", ["escape", "q", "1"])
async def test_leaving_never_stops_the_change(key: str) -> None:
    fleet, run = fleet_with_run()
    async with console(fleet=fleet) as c:
        await watching(c, run)
        await c.press(key)
        assert c.app.screen is c.app.main
        assert not asked(c)
        assert "1 change running (W)" in c.lines[1]


async def test_stray_keys_neither_abort_nor_answer() -> None:
    fleet, run = fleet_with_run()
    async with console(fleet=fleet) as c:
        await watching(c, run)
        screen = c.app.screen
        await c.press("enter", "space", "a", "y", "D", "U", "X", "0", "delete", "tab")
        assert c.app.screen is screen
        await c.pilot.click(offset=(40, 12))
        assert not asked(c)


async def test_abort_asks_first_and_the_harmless_button_has_the_cursor() -> None:
    fleet, run = fleet_with_run()
    async with console(fleet=fleet) as c:
        await watching(c, run)
        for way_out in ("enter", "escape"):
            await c.press("x")
            assert on_top(c) is ConfirmScreen
            assert "> Go on <" in c.text
            assert "is taken back" in c.text
            await c.press("y", "x", "space")
            await c.pilot.click(offset=(1, 1))
            await c.press(way_out)
            assert on_top(c) is WatchScreen
        assert not asked(c)
        await c.press("x", "tab", "enter")
        await c.pilot.pause(0.05)
        assert asked(c) == [("cancel", {"run": "r1"})]


async def test_a_question_offers_what_is_safe_first_and_each_answer_is_a_choice() -> None:
    fleet, run = fleet_with_run()
    async with console((80, 24), fleet=fleet) as c:
        await watching(c, run)
        c.fleet.tell(asking(run, c.fleet.now))
        await c.pilot.pause()
        assert on_top(c) is QuestionScreen
        assert "> leave open <" in c.text
        assert "some queries are lost" in c.text
        assert "in 4m50s" in c.text
        await c.press("w", "t", "space", "1")
        c.fleet.pass_time(10)
        c.app._each_second()
        await c.pilot.pause()
        assert "in 4m40s" in c.text
        await c.press("escape")
        assert not asked(c)
        assert "1 change ASKS (W)" in c.lines[1]
        await c.press("enter", "tab", "tab", "enter")
        await c.pilot.pause(0.05)
        assert asked(c) == [("answer", {"run": "r1", "question": "7", "answer": "withdraw"})]


async def test_enter_on_an_untouched_question_answers_nothing_and_the_safe_answer_is_next() -> None:
    fleet, run = fleet_with_run()
    async with console(fleet=fleet) as c:
        await watching(c, asking(run, fleet.now))
        await c.pilot.pause()
        await c.press("enter")
        await c.pilot.pause(0.05)
        assert asked(c) == []
        assert on_top(c) is WatchScreen
        await c.press("enter", "tab", "enter")
        await c.pilot.pause(0.05)
        assert asked(c) == [("answer", {"run": "r1", "question": "7", "answer": "keep soft"})]


async def test_a_question_whose_time_is_up_goes_by_itself() -> None:
    fleet, run = fleet_with_run()
    async with console(fleet=fleet) as c:
        await watching(c, asking(run, fleet.now))
        await c.pilot.pause()
        assert on_top(c) is QuestionScreen
        c.fleet.tell(run)
        c.app._each_second()
        await c.pilot.pause()
        assert on_top(c) is WatchScreen
        assert not asked(c)


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.ROLLED_BACK, Outcome.UNKNOWN])
async def test_the_result_stays_until_it_is_dismissed(outcome: Outcome) -> None:
    fleet, run = fleet_with_run()
    async with console((80, 24), fleet=fleet) as c:
        await watching(c, run)
        c.fleet.now += 92
        c.fleet.tell(ended(run, outcome, c.fleet.now))
        for _ in range(3):
            c.app._each_second()
        await c.pilot.pause()
        assert c.line_with(f"{outcome.upper()} after 1m32s")
        assert c.line_with("the last query came after 9.8 s")
        assert c.line_with("to undo it: anyconsole undrain --node fra1")
        assert c.line_with("peers 1.2 s")
        await c.press("x")
        assert "nothing to abort" in c.message
        await c.press("escape")
        assert c.app.screen is c.app.main
        assert "(W)" not in c.lines[1]


async def test_a_result_that_nobody_watched_is_said_and_waits() -> None:
    fleet, run = fleet_with_run()
    async with console(fleet=fleet) as c:
        c.fleet.tell(run)
        c.fleet.tell(ended(run, Outcome.ROLLED_BACK, c.fleet.now + 5))
        await c.pilot.pause()
        assert "ROLLED BACK after 5s: drain soft (W)" in c.message
        assert "rolled back (W)" in c.lines[1]
        await c.press("W")
        assert c.line_with("ROLLED BACK after 5s")
        await c.press("escape")
        assert "rolled back" not in c.lines[1]


async def test_several_changes_are_chosen_from() -> None:
    fleet, run = fleet_with_run()
    async with console(fleet=fleet) as c:
        c.fleet.tell(run, msgspec.structs.replace(run, id="r2"))
        await c.pilot.pause()
        assert "2 changes running (W)" in c.lines[1]
        await c.press("W", "down", "enter")
        assert isinstance(c.app.screen, WatchScreen)
        assert c.app.screen.run_id == "r2"


async def test_a_lost_engine_is_said_where_the_change_is_watched() -> None:
    fleet, run = fleet_with_run()
    async with console((120, 30), fleet=fleet) as c:
        await watching(c, run)
        c.fleet.become(EngineState.LOST, "killed")
        await c.pilot.pause()
        assert "take back by themselves" in c.lines[2]


async def test_w_without_any_change_says_so() -> None:
    async with console() as c:
        await c.press("W")
        assert "nothing has been changed" in c.message


def test_long_runs_say_how_many_steps_wait_instead_of_listing_them() -> None:
    fleet, run = fleet_with_run()
    plan = msgspec.structs.replace(run.plan, steps=run.plan.steps * 20)
    run = run_of(plan)
    lines = watch_lines(run, traffic(fleet.store, plan, baseline(fleet.store, plan)), fleet.now, UNICODE, 76)
    assert any("35 more that wait" in line.text for line in lines)
    assert max(len(line.text) for line in lines) <= 76


async def test_a_second_that_passes_before_the_screen_is_there_ends_no_console() -> None:
    fleet, run = fleet_with_run()
    async with console(fleet=fleet) as c:
        c.fleet.tell(run)
        screen = WatchScreen(c.app, run.id)
        c.app.push_screen(screen)
        assert (screen in c.app.screen_stack, screen.is_there) == (True, False)
        c.app._each_second()
        screen.news()
        await c.pilot.pause()
        assert run.plan.title in c.text
