"""Read-only: whatever changes the fleet can't be reached by any way in, and arming is for a time."""

from __future__ import annotations

import math

import pytest

from anyconsole.tui.actions import ACTIONS, Action, key_label
from anyconsole.tui.changing import READ_ONLY, seconds_of
from tests.tui.changes import engine_of_plans
from tests.tui.conftest import Console, console
from tests.tui.fake_client import FakeClient

MUTATING = [action for action in ACTIONS if action.mutates]


def nothing_happened(c: Console) -> bool:
    return not c.fleet.asked and c.app.screen is c.app.main and READ_ONLY in c.message


def read_only_fleet() -> FakeClient:
    fleet = FakeClient()
    engine_of_plans(fleet, armed=0)
    return fleet


@pytest.mark.parametrize("action", MUTATING, ids=lambda a: a.id)
async def test_read_only_refuses_key_command_and_palette_of_every_action_that_mutates(action: Action) -> None:
    async with console(fleet=read_only_fleet()) as c:
        for pane in "1234":
            await c.press(pane)
            for key in action.keys:
                await c.press(key)
                assert nothing_happened(c), (pane, key)
                c.app.say("")
        await c.press("colon")
        await c.type(action.command)
        await c.press("enter")
        assert nothing_happened(c)
        c.app.say("")
        assert action.title not in [entry.title for entry in c.app.get_system_commands(c.app.screen)]
        c.app._run_from_palette(action)  # one that was opened while the console was still armed
        await c.pilot.pause()
        assert nothing_happened(c)
        c.app.say("")
        await c.app.run_action(f"screen.{action.act}")
        assert nothing_happened(c)


@pytest.mark.parametrize("action", MUTATING, ids=lambda a: a.id)
async def test_what_is_refused_is_not_offered(action: Action) -> None:
    words = f"{key_label(action.keys[0])} {action.title.lower()}" if action.keys else ""
    async with console((200, 50), fleet=read_only_fleet()) as c:
        assert not words or words not in c.lines[-1]
        await c.press("colon")
        await c.type(action.command[:2])
        assert action.command not in c.lines[-1]
        await c.press("escape", "question_mark", "slash")
        await c.type(action.explain[:12])
        assert "when armed" in c.text
        await c.press("escape", "escape")
        c.fleet.arm(60)
        await c.settle()
        assert words in c.lines[-1]
        assert action.title in [entry.title for entry in c.app.get_system_commands(c.app.screen)]


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_arming_counts_down_in_the_header_and_ends_by_itself(size: tuple[int, int]) -> None:
    async with console(size, fleet=read_only_fleet()) as c:
        calm = {s.style.bgcolor for s in c.app.screen._compositor.render_strips()[0] if s.style}
        assert "READ-ONLY" in c.lines[0]
        await c.press("colon")
        await c.type("arm 15m")
        await c.press("enter")
        await c.pilot.pause(0.1)
        assert c.fleet.asked == [("arm", {"seconds": "900"})]
        assert "ARMED 15:00" in c.lines[0]
        loud = {s.style.bgcolor for s in c.app.screen._compositor.render_strips()[0] if s.style}
        assert loud - calm
        c.fleet.pass_time(601)
        await c.settle()
        assert "ARMED 04:59" in c.lines[0]
        c.fleet.pass_time(299)
        await c.settle()
        assert "READ-ONLY" in c.lines[0]
        await c.press("D")
        assert READ_ONLY in c.message


async def test_disarm_ends_it_at_once() -> None:
    async with console(fleet=read_only_fleet()) as c:
        c.fleet.arm(900)
        await c.press("colon")
        await c.type("disarm")
        await c.press("enter")
        await c.pilot.pause(0.1)
        assert c.fleet.asked == [("arm", {"seconds": "0"})]
        assert "READ-ONLY" in c.lines[0]


async def test_a_profile_that_is_not_read_only_counts_nothing_down() -> None:
    async with console(fleet=read_only_fleet()) as c:
        c.fleet.armed_until = math.inf
        c.fleet.tell()
        await c.settle()
        assert " ARMED  " in c.lines[0]
        await c.press("D")
        assert "Drain: node fra1" in c.text


@pytest.mark.parametrize("text", ["", "15", "0m", "-5m", "15 m", "1e3s", "forever"])
async def test_arming_wants_a_time(text: str) -> None:
    async with console(fleet=read_only_fleet()) as c:
        await c.app.run_command(f"arm {text}")
        await c.pilot.pause()
        assert ":arm wants a time" in c.message
        assert not c.fleet.asked


def test_times() -> None:
    assert [seconds_of(text) for text in ("90s", "15m", "2h")] == [90, 900, 7200]
