"""The console as a whole: what an operator sees first, how they get about, and how it ends."""

from __future__ import annotations

import msgspec
import pytest

from anyconsole.engine.client import EngineState
from anyconsole.model.facts import LinkState, SessionState
from anyconsole.tui.app import ConsoleApp
from tests.fleet import inventory
from tests.tui.conftest import console
from tests.tui.fake_client import FakeClient


async def test_the_first_frame_is_there_before_the_engine_is() -> None:
    async with console(fleet=FakeClient(empty=True)) as c:
        assert "starting" in c.lines[0]
        assert "fra1" in c.text
        assert "UNKNOWN" in c.line_with("fra1")


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_name_and_status_of_every_node_are_in_sight(size: tuple[int, int]) -> None:
    async with console(size) as c:
        for node in c.fleet.inventory.nodes:
            assert "● SERVING" in c.line_with(node.name)


async def test_header_says_which_fleet_and_that_it_cannot_be_changed() -> None:
    async with console((80, 24)) as c:
        assert "PAPER" in c.lines[0]
        assert "READ-ONLY" in c.lines[0]
        assert "18:53:20 UTC" in c.lines[0]
        assert "● live" in c.lines[0]
        assert "● 5 SERVING" in c.lines[1]
        assert "180 q/s" in c.lines[1]


async def test_a_production_profile_colours_the_whole_line() -> None:
    fleet = FakeClient(msgspec.structs.replace(inventory(), name="prod", colour="#ff0000"))
    async with console(fleet=fleet) as c:
        first = c.app.screen._compositor.render_strips()[0]
        grounds = {
            s.style.bgcolor.name
            for s in first
            if s.style is not None and s.style.bgcolor is not None and s.text.strip()
        }
        assert "#ff0000" in grounds
        assert len(grounds) <= 2  # the profile's colour, and the badge that reverses it


async def test_a_lost_engine_is_said_and_does_not_end_the_console() -> None:
    async with console() as c:
        c.fleet.become(EngineState.LOST, "the engine was ended by SIGKILL, restarting in 3 s")
        await c.settle()
        assert "ENGINE LOST" in c.lines[0]
        assert "restarting in 3 s" in c.lines[0]
        c.fleet.become(EngineState.LIVE)
        await c.settle()
        assert "live" in c.lines[0]
        assert "the engine is back" in c.message


async def test_a_silent_node_goes_stale_while_the_others_stay() -> None:
    async with console() as c:
        c.fleet.pass_time(8, silent=("sin1",))
        await c.settle(aged=True)
        assert "SERVING" not in c.line_with("sin1 ")
        assert "SERVING" in c.line_with("fra1 ")
        assert "1 stale, oldest 8s" in c.lines[0]


async def test_the_verdict_follows_the_fact() -> None:
    async with console() as c:
        c.fleet.change(("instance", "ams1", "de"), running=False, detail="no process")
        await c.settle()
        assert "✖ BLACKHOLE" in c.line_with("ams1")
        assert "✖ 1 BLACKHOLE" in c.lines[1]
        c.fleet.change(("instance", "ams1", "de"), running=True, detail="")
        await c.settle()
        assert "● SERVING" in c.line_with("ams1")


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("1", "Fleet[5]"),
        ("2", "Tenants[3]"),
        ("3", "BGP[20]"),
        ("4", "Health[15]"),
        ("5", "[15]"),
        ("6", "Load tests[0]"),
        ("7", "Events[0]"),
        ("8", "Journal[0]"),
    ],
)
async def test_digits_open_panes(key: str, title: str) -> None:
    async with console() as c:
        await c.press(key)
        assert title in c.text


async def test_going_into_a_node_and_back_restores_cursor_filter_and_sort() -> None:
    async with console() as c:
        await c.press("slash")
        await c.type("fra")
        await c.press("enter", "greater_than_sign", "j")
        assert c.pane.key == ("node", "fra2")
        await c.press("enter")
        assert "Health(fra2)[3]" in c.text
        assert "BGP(fra2)[4]" in c.text
        assert "fleet > fra2" in c.text
        await c.press("escape")
        assert c.pane.key == ("node", "fra2")
        assert "Fleet[2 of 5] </fra>" in c.text
        assert c.pane.table.sort == ("node", False)


async def test_drilling_ends_at_the_announcements_and_then_at_the_facts() -> None:
    async with console() as c:
        await c.press("enter", "tab", "enter")
        assert "Announcements(fra1 ix1_v4)[3]" in c.text
        await c.press("enter")
        assert "announcement fra1 bird ix1_v4 192.0.2.0/24" in c.text
        await c.press("escape", "escape", "escape")
        assert "Fleet[5]" in c.text


async def test_tenant_leads_to_its_instances_and_catchment() -> None:
    async with console() as c:
        await c.press("2", "enter")
        assert "Health(de)[5]" in c.text
        assert "Catchment(de)[2]" in c.text


async def test_escape_clears_the_filter_then_the_marks_then_goes_back() -> None:
    async with console() as c:
        await c.press("enter", "space", "slash")
        await c.type("nic")
        await c.press("enter")
        assert "1 marked, 1 hidden" in c.text
        await c.press("escape")
        assert "Health(fra1)[3]" in c.text
        assert "1 marked" in c.text
        await c.press("escape")
        assert "marked" not in c.text
        await c.press("escape")
        assert "Fleet[5]" in c.text


async def test_m_shows_the_other_half_of_a_pane() -> None:
    async with console() as c:
        await c.press("3", "m")
        assert "Announcements[60]" in c.text
        await c.press("m")
        assert "BGP[20]" in c.text
        await c.press("2", "m")
        assert "Catchment[6]" in c.text


@pytest.mark.parametrize(
    ("size", "nodes", "extras"),
    [((80, 24), 5, True), ((80, 24), 9, False), ((80, 20), 5, False), ((120, 30), 9, True), ((200, 50), 40, True)],
)
async def test_room_that_a_small_fleet_leaves_is_used(size: tuple[int, int], nodes: int, extras: bool) -> None:
    fleet = FakeClient(inventory(f"{'fra' if i % 2 else 'ams'}{i}" for i in range(nodes)))
    async with console(size, fleet=fleet) as c:
        assert ("Tenants[3]" in c.text and "Events[0]" in c.text) is extras
        if size[1] < 36:
            assert all(c.line_with(f" {n.name} ") for n in fleet.inventory.nodes)
            assert not extras or all(c.line_with(t.name, "SERVING") for t in fleet.inventory.tenants)


async def test_extra_tables_come_and_go_with_the_size_of_the_terminal() -> None:
    async with console((80, 20)) as c:
        await c.press("tab")
        assert "Tenants[3]" not in c.text
        await c.pilot.resize_terminal(80, 24)
        await c.pilot.pause()
        await c.press("tab")
        assert c.pane.view_name == "tenants"
        await c.pilot.resize_terminal(80, 20)
        await c.pilot.pause()
        assert c.pane.view_name == "fleet"
        assert "Tenants[3]" not in c.text


async def test_the_newest_events_are_in_sight_on_every_visit() -> None:
    async with console((120, 14)) as c:
        await c.press("7", "1")
        for _ in range(12):
            c.fleet.change(("session", "lon1", "bird", "ix1_v4"), state=SessionState.ACTIVE)
            await c.press("7", "1")
            c.fleet.now += 60
            c.fleet.change(("session", "lon1", "bird", "ix1_v4"), state=SessionState.ESTABLISHED)
        await c.press("7")
        newest = str(max(int(key[1]) for key in c.pane.source.rows))
        assert next(iter(c.pane.table.order)) == ("event", newest)
        assert c.pane.table.scroll_offset.y == 0


async def test_a_frozen_view_does_not_move_and_data_keeps_coming() -> None:
    async with console() as c:
        await c.press("Z")
        c.fleet.change(("session", "lon1", "bird", "ix1_v4"), state=SessionState.ACTIVE)
        c.fleet.pass_time(2)
        await c.settle(aged=True)
        assert "FROZEN" in c.lines[1]
        assert "● SERVING" in c.line_with("lon1")
        assert "▲ 1 DEGRADED" in c.lines[1]
        await c.press("Z")
        await c.settle(aged=True)
        assert "▲ DEGRADED" in c.line_with("lon1")
        assert "FROZEN" not in c.text


async def test_a_changed_host_key_is_shown_as_untrusted() -> None:
    async with console() as c:
        c.fleet.change(
            ("link", "sin1"), state=LinkState.KEY_CHANGED, error="host key changed", fingerprint="SHA256:abc"
        )
        await c.settle()
        assert "UNTRUSTED" in c.line_with("sin1")


async def test_commands_go_places() -> None:
    async with console() as c:
        await c.press("colon")
        await c.type("node ams1")
        await c.press("enter")
        assert "Health(ams1)[3]" in c.text
        await c.press("colon")
        await c.type("events")
        await c.press("enter")
        assert "Events[" in c.text


async def test_an_unknown_command_names_the_nearest() -> None:
    async with console() as c:
        await c.press("colon")
        await c.type("heath")
        await c.press("enter")
        assert "did you mean :health?" in c.message


async def test_tab_completes_a_command_and_up_brings_it_back() -> None:
    async with console() as c:
        await c.press("colon")
        await c.type("ten")
        assert "tenants" in c.lines[-1]
        await c.type("ant n")
        await c.press("tab", "enter")
        assert "Health(nic)[5]" in c.text
        await c.press("colon", "up")
        assert ": tenant nic" in c.lines[-2] or ":tenant nic" in c.lines[-2]


async def test_the_theme_can_be_changed_and_an_unknown_one_is_refused() -> None:
    async with console() as c:
        await c.press("colon")
        await c.type("theme day")
        await c.press("enter")
        assert c.app.theme == "day"
        await c.press("colon")
        await c.type("theme dai")
        await c.press("enter")
        assert "did you mean day?" in c.message


async def test_q_quits_in_a_pane_and_goes_back_from_deeper() -> None:
    async with console() as c:
        await c.press("enter", "q")
        assert "Fleet[5]" in c.text
        await c.press("q")
    assert c.app.return_value == 0
    assert c.fleet.closed


async def test_ctrl_c_asks_for_a_second_press() -> None:
    async with console() as c:
        await c.press("ctrl+c")
        assert "again within 2 seconds" in c.message
        assert c.app.is_running
        await c.press("ctrl+c")
    assert c.app.return_value == 0


async def test_a_closed_terminal_ends_with_the_code_of_sighup() -> None:
    async with console() as c:
        c.app.terminal_lost()
    assert c.app.return_code == 129
    assert c.fleet.closed


async def test_an_engine_that_cannot_run_is_shown_and_is_not_the_end() -> None:
    class Broken(FakeClient):
        async def run(self) -> None:
            raise OSError("no such program")

    async with console(fleet=Broken()) as c:
        await c.settle()
        assert "ENGINE LOST" in c.lines[0]
        assert "no such program" in c.lines[0]


async def test_glyphs_can_be_plain_ascii() -> None:
    fleet = FakeClient()
    async with console(fleet=fleet, glyphs="ascii") as c:
        for keys in ("enter", "1", "2", "3", "5", "7"):
            await c.press(keys)
            c.fleet.store.sample(c.fleet.now)
            await c.settle(aged=True)
            assert c.text.isascii(), [ch for ch in c.text if not ch.isascii()]


async def test_resizing_keeps_the_cursor_and_brings_columns() -> None:
    async with console((80, 24)) as c:
        await c.press("j", "j")
        assert "STACK" not in c.text
        assert "more columns" in c.text
        await c.pilot.resize_terminal(200, 50)
        await c.pilot.pause()
        assert "STACK" in c.text
        assert c.pane.key == ("node", "ams1")


async def test_wide_shows_all_columns_of_a_narrow_terminal() -> None:
    async with console((80, 24)) as c:
        await c.press("w", *["right"] * 9)
        assert "STACK" in c.text
        assert "fra1" in c.text


async def test_the_palette_runs_what_the_registry_has() -> None:
    async with console() as c:
        await c.press("ctrl+p")
        await c.type("tenants")
        await c.pilot.pause(0.3)
        await c.press("down", "enter")
        await c.pilot.pause(0.3)
        assert "Tenants[3]" in c.text


async def test_all_panes_survive_every_theme() -> None:
    async with console((80, 24)) as c:
        for theme in c.app.theme_names:
            c.app.use_theme(theme)
            for key in "1234578":
                await c.press(key)
    assert isinstance(c.app, ConsoleApp)
