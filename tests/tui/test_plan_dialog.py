"""The plan dialog: nothing but a human who means it gets past it, and what is started is what was shown."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from textual import events

from anyconsole.actions.plan import Plan
from anyconsole.engine.client import EngineError
from anyconsole.model.facts import SessionState
from anyconsole.tui.screens import plan as plan_screen
from anyconsole.tui.screens.help import HelpScreen
from anyconsole.tui.screens.plan import PlanScreen
from anyconsole.tui.widgets import form
from anyconsole.tui.widgets.form import Push, Tick
from tests.tui.changes import engine_of_plans
from tests.tui.conftest import Console, console
from tests.tui.fake_client import FakeClient


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "HASTE", 0.0)
    monkeypatch.setattr(plan_screen, "_PAUSE", 0.01)


def armed_fleet(type_to_confirm: str = "") -> FakeClient:
    fleet = FakeClient()
    engine_of_plans(fleet, type_to_confirm=type_to_confirm)
    return fleet


def starts(c: Console) -> list[dict[str, str]]:
    return [args for op, args in c.fleet.asked if op == "start"]


def requests(c: Console) -> list[dict[str, object]]:
    return [json.loads(args["request"]) for op, args in c.fleet.asked if op == "plan"]


def dialog(c: Console) -> PlanScreen:
    screen = c.app.screen
    assert isinstance(screen, PlanScreen)
    return screen


async def planned(c: Console) -> None:
    """Until the plan on the screen is the present one."""
    for _ in range(100):
        await c.pilot.pause(0.02)
        if not (isinstance(c.app.screen, PlanScreen) and c.app.screen._is_planning):
            return


async def opened(c: Console, key: str = "D") -> PlanScreen:
    await c.press(key)
    await planned(c)
    return dialog(c)


async def filled(c: Console, reason: str = "line card") -> PlanScreen:
    """Open, and fill in everything that an ordinary drain wants."""
    screen = await opened(c)
    screen.query_one("#reason", form.Field).value = reason
    await c.pilot.pause()
    await planned(c)
    for tick in screen.query(Tick):
        if tick.parent is not None and tick.parent.display and not tick.is_ticked:
            tick.toggle()
    await c.pilot.pause()
    return screen


async def press_apply(c: Console) -> None:
    """By key, as an operator would."""
    c.app.screen.query_one("#apply").focus()
    await c.press("enter")
    await c.pilot.pause(0.05)


# --- the dialog is harmless


@pytest.mark.parametrize("key", ["D", "U"])
async def test_cancel_has_the_cursor_and_enter_only_closes(key: str) -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await opened(c, key)
        assert isinstance(screen.focused, Push)
        assert screen.focused.label == "Cancel"
        await c.press("enter")
        assert c.app.screen is c.app.main
        assert not starts(c)


async def test_escape_closes() -> None:
    async with console(fleet=armed_fleet()) as c:
        await opened(c)
        await c.press("escape")
        assert c.app.screen is c.app.main
        assert not starts(c)


async def test_no_single_key_applies() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        assert not screen.query_one("#apply").disabled
        screen.query_one("#first").focus()
        for key in (*"DUSTLaYyqxjG018", "space", "up", "down", "right", "delete"):
            await c.pilot.press(key)
            assert c.app.screen is screen, key
        assert not starts(c)


async def test_a_click_outside_does_nothing() -> None:
    async with console((200, 50), fleet=armed_fleet()) as c:
        screen = await filled(c)
        for offset in ((0, 0), (199, 49), (2, 25)):
            await c.pilot.click(offset=offset)
        assert c.app.screen is screen
        assert not starts(c)


async def test_what_is_typed_behind_a_tab_lands_in_the_next_field_however_fast_it_comes() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await opened(c)
        screen.query_one("#reason").focus()
        await c.pilot.pause()
        for key in ("a", "tab", "b"):
            c.app.post_message(events.Key(key, key if key != "tab" else None))
        await c.pilot.pause(0.05)
        assert [screen.query_one(field, form.Field).value for field in ("#reason", "#ticket")] == ["a", "b"]


async def test_enter_in_a_field_does_nothing() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        for field in ("#reason", "#ticket", "#level", "#span"):
            screen.query_one(field).focus()
            await c.press("enter")
        assert c.app.screen is screen
        assert not starts(c)


async def test_a_pasted_text_with_line_ends_does_not_apply() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        reason = screen.query_one("#reason", form.Field)
        for target in (reason, screen.query_one("#first")):
            target.focus()
            await c.pilot.pause()
            c.app.post_message(events.Paste(" first line\nsecond\n\n"))
            await c.pilot.pause()
        await planned(c)
        assert reason.value == "line card first line"
        assert c.app.screen is screen
        assert not starts(c)


async def test_tabs_and_returns_that_come_as_fast_as_a_paste_do_not_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "HASTE", 30.0)
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        for _ in range(8):
            await c.pilot.press("tab")
            if screen.focused is not screen.query_one("#first"):
                await c.pilot.press("enter")
        assert c.app.screen is screen
        assert not starts(c)


# --- what is shown is what is done


async def test_the_plan_that_is_shown_is_started_to_the_letter_and_watched() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        shown = screen._plan_text
        await press_apply(c)
        (start,) = starts(c)
        assert start["plan"] == shown
        plan = msgspec.json.decode(start["plan"], type=Plan)
        assert plan.reason == "line card"
        assert {change.node for change in plan.changes} == {"fra1"}
        assert json.loads(start["acknowledged"])["capacity"].startswith("up to 36 q/s")
        assert json.loads(start["overrides"]) == {}, "to have looked is no override"
        assert "drain soft-then-hard" in c.lines[2]
        assert "1 change running" in c.lines[1]


async def test_level_and_time_are_planned_anew() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await opened(c)
        assert requests(c)[-1] == {
            "nodes": ["fra1"],
            "level": "soft-then-hard",
            "reason": "",
            "ticket": "",
            "expires_at": None,
        }
        screen.query_one("#level").focus()
        await c.press("right", "right")
        await planned(c)
        assert requests(c)[-1]["level"] == "hard"
        assert "BIRD hard" in c.text or "hard" in screen._text.text
        screen.query_one("#span").focus()
        await c.press("right")
        await planned(c)
        assert requests(c)[-1]["expires_at"] == c.fleet.now + 7200


async def test_undrain_asks_for_service_and_for_nothing_else() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await opened(c, "U")
        assert requests(c)[-1]["level"] == "serve"
        assert not screen.query("#level")
        assert not screen.query("#span")
        assert "Undrain: node fra1" in c.text


async def test_while_it_is_planned_anew_nothing_can_be_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        monkeypatch.setattr(plan_screen, "_PAUSE", 60.0)
        screen.query_one("#reason").focus()
        await c.type("x")
        assert "planning" in c.text
        assert screen.query_one("#apply").disabled
        screen._start()
        await c.pilot.pause()
        assert not starts(c)


async def test_the_targets_stay_though_the_rows_move() -> None:
    async with console(fleet=armed_fleet()) as c:
        await c.press("j", "j")
        assert c.pane.key == ("node", "ams1")
        screen = await opened(c)
        c.fleet.change(("session", "sin1", "bird", "ix1_v4"), state=SessionState.ACTIVE)
        c.pane.table.rebuild()
        c.pane.table.action_move("home")
        await c.settle(aged=True)
        assert c.pane.key != ("node", "ams1")
        assert "Drain: node ams1" in c.text
        screen.query_one("#reason").focus()
        await c.type("why")
        await planned(c)
        assert requests(c)[-1]["nodes"] == ["ams1"]


async def test_marked_rows_are_meant_hidden_ones_too() -> None:
    async with console(fleet=armed_fleet()) as c:
        await c.press("space", "space", "slash")
        await c.type("sin")
        await c.press("enter")
        await opened(c)
        assert requests(c)[-1]["nodes"] == ["fra1", "fra2"]
        assert "2 nodes: fra1, fra2" in c.text


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (("2",), {"tenants": ["de"]}),
        (("3",), {"nodes": ["fra1"], "peers": ["ix1"], "families": ["ipv4"]}),
        (("3", "m"), {"cells": [["fra1", "ix1_v4", "192.0.2.0/24"]]}),
        (("4",), {"nodes": ["fra1"], "tenants": ["de"]}),
        (("1", "enter", "tab"), {"nodes": ["fra1"], "peers": ["ix1"], "families": ["ipv4"]}),
    ],
)
async def test_every_pane_drains_what_its_row_names(keys: tuple[str, ...], wanted: dict[str, object]) -> None:
    async with console(fleet=armed_fleet()) as c:
        await c.press(*keys)
        await opened(c)
        asked = {k: v for k, v in requests(c)[-1].items() if k not in ("level", "reason", "ticket", "expires_at")}
        assert asked == wanted


async def test_rows_that_announce_nothing_open_nothing() -> None:
    async with console(fleet=armed_fleet()) as c:
        await c.press("2", "m", "D")
        assert "name nothing that could be changed" in c.message
        assert not c.fleet.asked


# --- what has to be fulfilled


async def test_a_reason_is_wanted() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c, " ")
        assert "a reason is missing" in c.text
        assert screen.query_one("#apply").disabled


async def test_a_guard_that_asks_wants_its_tick() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        (tick,) = [t for t in screen.query(Tick) if t.parent is not None and t.parent.display]
        tick.focus()
        await c.press("space")
        assert "capacity asks" in c.text
        assert screen.query_one("#apply").disabled
        await c.press("space")
        assert not screen.query_one("#apply").disabled


async def test_the_numbers_of_the_guards_are_live() -> None:
    async with console((120, 40), fleet=armed_fleet()) as c:
        await opened(c)
        assert "up to 36 q/s move" in c.text
        c.fleet.change(("rates", "fra1", "de", "probe"), qps=5012.0)
        c.app._each_second()
        await c.pilot.pause()
        assert "up to 5036 q/s move" in c.text


async def test_a_guard_that_refuses_is_overridden_only_with_words() -> None:
    fleet = armed_fleet()
    async with console((120, 40), fleet=fleet) as c:
        fleet.change(("session", "fra1", "bird", "ix1_v4"), state=SessionState.ESTABLISHED)
        screen = await filled(c)
        # Three of five nodes stop answering: the floor is broken by a hard drain.
        for node in ("fra2", "ams1", "lon1"):
            fleet.change(("instance", node, "de"), running=False)
        screen.query_one("#level").focus()
        await c.press("right", "right")
        await planned(c)
        assert "REFUSES floor" in c.text
        assert screen.query_one("#apply").disabled
        for row in screen._troubled:
            if row.verdict is not None and row.verdict.refuses and row.verdict.overridable:
                row._reason.value = "told to"
        await c.pilot.pause()
        assert not screen.query_one("#apply").disabled, screen.lacks
        await press_apply(c)
        (start,) = starts(c)
        assert json.loads(start["overrides"])["floor"] == "told to"


async def test_the_last_announcer_is_drained_by_no_means() -> None:
    fleet = armed_fleet()
    async with console((120, 40), fleet=fleet) as c:
        for node in ("fra2", "ams1", "lon1", "sin1"):
            fleet.change(("instance", node, "de"), running=False)
        screen = await filled(c)
        screen.query_one("#level").focus()
        await c.press("right", "right")
        await planned(c)
        for field in screen.query(form.Field):
            field.value = "because"
        await planned(c)
        assert "last announcer refuses, and can't be overridden" in c.text
        assert screen.query_one("#apply").disabled
        await press_apply(c)
        assert not starts(c)


async def test_what_is_to_be_typed_must_match_exactly() -> None:
    async with console(fleet=armed_fleet("drain 5 nodes")) as c:
        screen = await filled(c)
        assert "type drain 5 nodes to confirm" in c.text
        typed = screen.query_one("#typed", form.Field)
        typed.focus()
        typed.value = "drain 5 node"
        await c.pilot.pause()
        assert screen.query_one("#apply").disabled
        await c.type("s")
        assert not screen.query_one("#apply").disabled
        await c.type(" ")
        assert screen.query_one("#apply").disabled


async def disarmed_by_time(c: Console) -> None:
    c.fleet.now = c.fleet.armed_until


async def disarmed_by_the_engine(c: Console) -> None:
    c.fleet.armed_until = 0.0


async def evidence_gone(c: Console) -> None:
    c.fleet.now += 60


@pytest.mark.parametrize("happens", [disarmed_by_time, disarmed_by_the_engine, evidence_gone])
async def test_everything_is_looked_at_again_at_the_very_last_moment(
    happens: Callable[[Console], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlanScreen, "tick", lambda _: None)  # it would have noticed by itself within a second
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        screen.query_one("#apply").focus()
        await happens(c)
        await c.press("enter")
        await c.pilot.pause(0.05)
        assert not starts(c)
        assert c.app.screen is screen


async def test_a_key_on_its_way_to_apply_leaves_nothing_when_apply_is_lost_at_that_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(form, "HASTE", 30.0)
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        screen.query_one("#apply").focus()
        await c.pilot.pause()
        await disarmed_by_the_engine(c)
        screen.tick()
        await c.pilot.pause()
        assert screen.focused is screen.query_one("#first")
        await c.press("enter")
        assert c.app.screen is screen, "what was typed in is still there"
        await c.press("escape")
        assert c.app.screen is not screen
        assert not starts(c)


async def test_time_that_runs_out_under_the_dialog_is_said_and_the_cursor_goes_to_cancel() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        screen.query_one("#apply").focus()
        await c.pilot.pause()
        c.fleet.pass_time(901)
        c.app._each_second()
        await c.pilot.pause()
        assert "read-only" in c.text
        assert screen.query_one("#apply").disabled
        assert screen.focused is screen.query_one("#first")


async def test_a_plan_that_cannot_be_made_says_why() -> None:
    fleet = armed_fleet()

    def refuse(_: dict[str, str]) -> str:
        raise EngineError("its drain state is not known")

    fleet.replies["plan"] = refuse
    async with console(fleet=fleet) as c:
        screen = await opened(c)
        assert "its drain state is not known" in c.text
        assert screen.query_one("#apply").disabled


async def test_a_refused_start_is_said_and_planned_anew() -> None:
    fleet = armed_fleet()

    def refuse(_: dict[str, str]) -> str:
        raise EngineError("fra1: bob's change is pending")

    fleet.replies["start"] = refuse
    async with console(fleet=fleet) as c:
        screen = await filled(c)
        count = len(requests(c))
        await press_apply(c)
        await planned(c)
        assert c.app.screen is screen
        assert "bob's change is pending" in c.text
        assert len(requests(c)) == count + 1


async def test_a_change_that_is_started_under_the_help_leaves_no_dialog_behind() -> None:
    async with console(fleet=armed_fleet()) as c:
        screen = await filled(c)
        c.app.push_screen(HelpScreen(c.app, screen.contexts))
        await c.pilot.pause()
        screen._start()
        await c.pilot.pause(0.05)
        await c.press("escape", "escape", "escape")
        assert c.app.screen is c.app.main
        assert len(starts(c)) == 1


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_buttons_and_what_is_missing_are_in_sight_on_every_terminal(size: tuple[int, int]) -> None:
    async with console(size, fleet=armed_fleet("ALL")) as c:
        await opened(c)
        assert "> Cancel <" in c.text
        assert "[ Apply ]" in c.text
        assert "a reason is missing" in c.text
        assert "ASKS    capacity" in c.text
        before = c.text
        await c.press(*["pagedown"] * 9)
        assert ("SCRIPT 1 revert" in c.text) or c.text == before
        assert "> Cancel <" in c.text


async def test_plain_ascii() -> None:
    async with console((80, 24), fleet=armed_fleet(), glyphs="ascii") as c:
        await filled(c)
        assert not [ch for ch in c.text if not ch.isascii() and ch not in "▁▂▃▄▅▆▇█"]  # Textual's scrollbar


async def test_drift_is_settled_by_a_plan_too() -> None:
    async with console(fleet=armed_fleet()) as c:
        for command, way in ((":revert", "revert"), (":adopt", "adopt")):
            await c.press("colon")
            await c.pilot.press(*command[1:], "enter")
            await planned(c)
            assert isinstance(c.app.screen, PlanScreen)
            assert requests(c)[-1] == {"way": way, "nodes": ["fra1"], "reason": "", "ticket": ""}
            await c.press("escape")
        assert starts(c) == []
