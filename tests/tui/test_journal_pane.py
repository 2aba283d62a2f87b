"""Pane 8: what was changed from here, and that nobody overlooks a change that was never ended."""

from __future__ import annotations

import pytest

from anyconsole.engine.client import EngineError
from tests.tui.changes import engine_of_plans, summary
from tests.tui.conftest import console
from tests.tui.fake_client import FakeClient


def fleet_with_journal(*states: str) -> FakeClient:
    fleet = FakeClient()
    engine_of_plans(fleet)
    fleet.changes = tuple(summary(number, state) for number, state in enumerate(states))
    fleet.replies["journal"] = lambda args: f"# Change {args['change']}\n\n| step | [red]outcome[/] |\n"
    return fleet


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_open_changes_come_first_then_the_newest(size: tuple[int, int]) -> None:
    async with console(size, fleet=fleet_with_journal("running", "done", "open", "rolled back")) as c:
        await c.press("8")
        assert "Journal[4]" in c.text
        assert [key[1] for key in c.pane.table.order] == ["c2", "c0", "c1", "c3"]
        assert c.line_with("✖ OPEN", "drain hard: node fra2", "replace a line card")
        assert c.line_with("11-23 18:53", "→ running")
        if size[0] == 200:
            assert c.line_with("● done", "alice@oncall1", "1m14s", "OPS-1")


async def test_an_open_change_is_said_at_the_start_and_stays_in_the_header() -> None:
    async with console(fleet=fleet_with_journal("done", "open")) as c:
        assert "open change from 17:53: drain hard: node fra1 (8)" in c.message
        assert "1 open change (8)" in c.lines[1]
        c.fleet.tell(changes=[summary(1, "found")])
        await c.settle()
        assert "open change" not in c.lines[1]


async def test_a_journal_that_comes_later_is_said_too_and_only_once() -> None:
    async with console(fleet=fleet_with_journal()) as c:
        c.fleet.tell(changes=[summary(1, "open")])
        await c.pilot.pause()
        assert "open change from 17:53" in c.message
        c.app.say("")
        c.fleet.tell(changes=[summary(0), summary(1, "open")])
        await c.pilot.pause()
        assert "open change" not in c.message


@pytest.mark.parametrize("key", ["enter", "d"])
async def test_enter_shows_the_report_as_it_is(key: str) -> None:
    async with console(fleet=fleet_with_journal("done")) as c:
        await c.press("8", key)
        await c.pilot.pause(0.05)
        assert ("journal", {"change": "c0"}) in c.fleet.asked
        assert "# Change c0" in c.text
        assert "[red]outcome[/]" in c.text
        await c.press("escape")
        assert "Journal[1]" in c.text


async def test_a_report_that_cannot_be_read_says_why() -> None:
    fleet = fleet_with_journal("done")

    def refuse(_: dict[str, str]) -> str:
        raise EngineError("the journal is not readable")

    fleet.replies["journal"] = refuse
    async with console(fleet=fleet) as c:
        await c.press("8", "enter")
        await c.pilot.pause(0.05)
        assert "not readable" in c.lines[2]


async def test_acknowledge_is_about_the_open_change_under_the_cursor() -> None:
    async with console(fleet=fleet_with_journal("open", "open", "done")) as c:
        await c.app.run_command("acknowledge")
        assert "no open change is under the cursor" in c.message
        await c.press("8", "j")
        await c.app.run_command("acknowledge")
        await c.pilot.pause(0.05)
        assert c.fleet.asked == [("acknowledge", {"change": "c1"})]


async def test_acknowledge_needs_no_cursor_if_one_change_is_open() -> None:
    async with console(fleet=fleet_with_journal("open", "done")) as c:
        await c.app.run_command("acknowledge")
        await c.pilot.pause(0.05)
        assert c.fleet.asked == [("acknowledge", {"change": "c0"})]


async def test_draining_a_line_of_the_journal_makes_no_sense() -> None:
    async with console(fleet=fleet_with_journal("done")) as c:
        await c.press("8", "D")
        assert "name nothing that could be changed" in c.message
