"""Live tables under an operator's hands: what the cursor is on, what is hidden, what is marked, what is copied."""

from __future__ import annotations

import json

import msgspec
import pytest

from anyconsole.model.facts import SessionState
from anyconsole.tui import object_actions
from anyconsole.tui.clipboard import Copied
from tests.fleet import NOW, inventory
from tests.tui.conftest import Console, console
from tests.tui.fake_client import FakeClient


async def filter_by(c: Console, text: str) -> None:
    await c.press("slash")
    await c.type(text)
    await c.press("enter")


async def test_the_cursor_keeps_its_node_when_another_one_gets_worse() -> None:
    async with console() as c:
        await c.press("j", "j")
        assert c.pane.key == ("node", "ams1")
        c.pane.table.hold_after_key = c.pane.table.resort_every = 0
        c.fleet.change(("instance", "sin1", "nic"), running=False)
        await c.settle()
        assert next(iter(c.pane.table.order)) == ("node", "sin1")
        assert c.pane.key == ("node", "ams1")
        assert "ams1" in next(line for line in c.lines if line.startswith("▌"))


async def test_rows_do_not_jump_right_after_a_key() -> None:
    async with console() as c:
        c.pane.table.resort_every = 0
        await c.press("j")
        c.fleet.change(("instance", "sin1", "nic"), running=False)
        await c.settle()
        assert list(c.pane.table.order)[-1] == ("node", "sin1")
        assert "BLACKHOLE" in c.line_with("sin1")


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("fra", {"fra1", "fra2"}),
        ("!fra", {"ams1", "lon1", "sin1"}),
        ("fra|lon", {"fra1", "fra2", "lon1"}),
        ("serving lon", {"lon1"}),
        ("[", set()),
    ],
)
async def test_filter_takes_words_expressions_and_their_opposite(text: str, nodes: set[str]) -> None:
    async with console() as c:
        await filter_by(c, text)
        assert {key[1] for key in c.pane.table.order} == nodes


async def test_the_filter_works_while_it_is_typed_and_escape_takes_it_back() -> None:
    async with console() as c:
        await c.press("slash")
        await c.type("ams")
        assert "Fleet[1 of 5] </ams>" in c.text
        await c.press("escape")
        assert "Fleet[5]" in c.text


async def test_only_troubled_rows() -> None:
    async with console() as c:
        c.fleet.change(("session", "lon1", "bird", "ix1_v4"), state=SessionState.ACTIVE)
        await c.settle()
        await c.press("exclamation_mark")
        assert [key[1] for key in c.pane.table.order] == ["lon1"]
        assert "Fleet[1 of 5] <troubled only>" in c.text
        await c.press("3")
        assert "BGP[20]" in c.text


async def test_a_healthy_fleet_has_no_troubled_rows_in_any_pane() -> None:
    async with console() as c:
        for key in ("1", "2", "m", "3", "m", "4", "5"):
            await c.press(key)
            await c.press("exclamation_mark")
            assert len(c.pane.table.order) == 0, c.text
            await c.press("exclamation_mark")


async def test_remote_text_is_never_markup_and_brings_no_control_characters() -> None:
    async with console((200, 50)) as c:
        c.fleet.change(
            ("session", "fra1", "bird", "ix1_v4"),
            state=SessionState.ACTIVE,
            info="[red]boo[/red] \x1b[31m\x07bell \x9b2J [/] [@click=app.quit]x[/]",
        )
        await c.press("3")
        assert "[red]boo[/red]" in c.text
        assert "[@click=app.quit]x[/]" in c.text
        await c.press("7")
        assert "[red]boo[/red]" in c.text
        await c.press("1", "d")
        assert "[red]boo[/red]" in c.text
        for line in c.lines:
            assert not [ch for ch in line if ord(ch) < 32 or 127 <= ord(ch) < 160]


async def test_hostile_names_of_a_profile_are_plain_too() -> None:
    fleet = msgspec.structs.replace(inventory(), name="[red]x\x1b[2J")
    async with console(fleet=FakeClient(fleet)) as c:
        assert "[RED]X" in c.lines[0]
        assert "\x1b" not in c.text


async def test_events_come_newest_first_and_lead_to_their_subject() -> None:
    async with console() as c:
        await c.press("7")
        c.fleet.change(("session", "lon1", "bird", "ix1_v4"), state=SessionState.ACTIVE, info="Connection refused")
        c.fleet.now += 5
        c.fleet.change(("instance", "ams1", "de"), running=False)
        await c.settle()
        whats = [line for line in c.lines if "18:53:" in line and "UTC" not in line]
        assert "18:53:25" in whats[0]
        assert "18:53:20" in whats[-1]
        await filter_by(c, "session")
        await c.press("enter")
        assert "Announcements(lon1 ix1_v4)[3]" in c.text


async def test_the_event_under_the_cursor_stays_when_new_ones_come() -> None:
    async with console() as c:
        c.fleet.change(("session", "lon1", "bird", "ix1_v4"), state=SessionState.ACTIVE)
        await c.press("7", "j")
        before = c.pane.key
        c.fleet.change(("instance", "ams1", "de"), running=False)
        await c.settle()
        assert c.pane.key == before
        await c.press("1", "7")
        assert c.pane.key == before


async def test_sorting_from_the_list() -> None:
    async with console() as c:
        await c.press("o")
        assert "Sort by" in c.text
        await c.press("down", "enter")
        assert [key[1] for key in c.pane.table.order] == ["ams1", "fra1", "fra2", "lon1", "sin1"]
        await c.press("O")
        assert next(key[1] for key in c.pane.table.order) == "sin1"


async def test_a_name_and_a_row_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []

    def copy_text(text: str, _: object) -> Copied:
        copied.append(text)
        return Copied("clipboard")

    monkeypatch.setattr(object_actions, "copy_text", copy_text)
    async with console() as c:
        await c.press("space", "space", "c")
        await c.pilot.pause(0.1)
        assert copied == ["fra1\nfra2"]
        assert "copied 2 name(s) to the clipboard" in c.message
        await c.press("escape", "C")
        await c.pilot.pause(0.1)
        row = json.loads(copied[-1])
        assert row["node"] == "ams1"
        assert row["status"] == "SERVING"
        assert row["qps"] == 36.0


async def test_looking_again_asks_the_node_of_the_row() -> None:
    fleet = FakeClient()
    fleet.answers["poke", "fra1"] = ""
    async with console(fleet=fleet) as c:
        await c.press("R")
        await c.pilot.pause(0.1)
        assert fleet.asked == [("poke", {"node": "fra1"})]
        assert "fra1 is asked now" in c.message


async def test_ages_grow_and_a_row_out_of_sight_goes_stale_too() -> None:
    fleet = FakeClient(inventory([f"n{i:03}" for i in range(60)]))
    async with console((80, 24), fleet=fleet) as c:
        c.pane.table.hold_after_key = c.pane.table.resort_every = 0
        fleet.pass_time(10, silent=("n055",))
        for _ in range(20):
            await c.settle(aged=True)
        assert "STALE" in c.line_with("n055") or "n055" not in c.text
        assert c.pane.source.rows["node", "n055"].cells[2].value != "SERVING"


async def test_charts_show_the_fleet_each_tenant_and_each_node_where_there_is_room() -> None:
    async with console((200, 50)) as c:
        for second in range(30):
            c.fleet.now = NOW + second
            c.fleet.store.sample(c.fleet.now)
        c.fleet.pass_time(0)
        await c.press("5")
        await c.pilot.pause(0.1)
        for title in ("fleet", "tenant de", "tenant nic", "tenant enum", "node fra1", "node sin1"):
            assert title in c.text
        assert "[15]" in c.text


async def test_a_small_terminal_shows_one_row_of_charts_and_m_changes_it() -> None:
    async with console((80, 24)) as c:
        await c.press("5")
        await c.pilot.pause(0.1)
        assert "tenant de" in c.text
        await c.press("m")
        await c.pilot.pause(0.1)
        assert "node fra1" in c.text
        await c.press("m")
        await c.pilot.pause(0.1)
        assert "node fra1" not in c.text
        assert "fra1" in c.text


async def test_keys_that_come_twice_choose_and_leave_only_once() -> None:
    async with console() as c:
        await c.press("o")
        listing = c.app.screen.query_one("OptionList")
        listing.action_select()  # type: ignore[attr-defined]
        listing.action_select()  # type: ignore[attr-defined]
        await c.pilot.pause(0.1)
        assert "Fleet[5]" in c.text
        await c.press("d")
        c.app.screen.action_close_text()  # type: ignore[attr-defined]
        c.app.main.action_describe()
        await c.pilot.pause(0.1)
        assert "node fra1" in c.text
