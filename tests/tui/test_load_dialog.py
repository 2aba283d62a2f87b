"""`L`: only what the profile lists can be load tested, only on purpose, and what is started is what was filled in."""

from __future__ import annotations

import json

import msgspec
import pytest

from anyconsole.actions.plan import Plan
from anyconsole.model.inventory import TargetClass
from anyconsole.tui.changing import READ_ONLY
from anyconsole.tui.screens import plan as plan_screen
from anyconsole.tui.screens.load import LoadScreen
from anyconsole.tui.screens.plan import PlanScreen
from anyconsole.tui.screens.plan_form import rate_of, span_of
from anyconsole.tui.widgets import form
from anyconsole.tui.widgets.form import Tick
from tests.actions.load_targets import target
from tests.tui.conftest import Console, console
from tests.tui.loads import fleet_to_test


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "HASTE", 0.0)
    monkeypatch.setattr(plan_screen, "_PAUSE", 0.01)


def starts(c: Console) -> list[dict[str, str]]:
    return [args for op, args in c.fleet.asked if op == "start"]


def asked(c: Console) -> dict[str, object]:
    """The last request for a plan, without what was left empty."""
    last = [json.loads(args["request"]) for op, args in c.fleet.asked if op == "plan"][-1]
    return {name: value for name, value in last.items() if value}


async def planned(c: Console) -> None:
    for _ in range(100):
        await c.pilot.pause(0.02)
        if not (isinstance(c.app.screen, PlanScreen) and c.app.screen._is_planning):
            return


async def opened(c: Console) -> PlanScreen:
    await c.press("L")
    await planned(c)
    screen = c.app.screen
    assert isinstance(screen, PlanScreen)
    return screen


async def agreed(c: Console, screen: PlanScreen) -> None:
    """All that stands between a load test and its start: a reason, words for what refuses, ticks for what asks."""
    for row in screen._guards.values():
        row._reason.value = "it is the lab"
    screen.query_one("#reason", form.Field).value = "how much is it"
    await planned(c)
    for tick in screen.query(Tick):
        if tick.parent is not None and tick.parent.display and not tick.is_ticked:
            tick.toggle()
    await c.pilot.pause()


@pytest.mark.parametrize(
    ("keys", "targets"),
    [
        ((), ["de-fra1"]),
        (("2",), ["de-fra1"]),
        (("2", "j"), ["nic-ams1"]),
        (("4",), ["de-fra1"]),
        (("1", "enter"), ["de-fra1"]),
        (("space", "j", "space"), ["de-fra1", "nic-ams1"]),
        (("3", "m"), ["de-fra1"]),
    ],
    ids=["node", "tenant", "other tenant", "instance", "instance of a node", "marks", "announcement"],
)
async def test_l_means_the_targets_of_the_rows(keys: tuple[str, ...], targets: list[str]) -> None:
    async with console(fleet=fleet_to_test()) as c:
        await c.press(*keys)
        await opened(c)
        assert asked(c) == {"targets": targets, "purpose": "search"}
        assert f"Load test: {', '.join(targets)}" in c.text


async def test_what_the_profile_does_not_list_is_no_target() -> None:
    async with console(fleet=fleet_to_test()) as c:
        await c.press("j", "L")
        assert "nothing here is listed as a target of load tests" in c.message
        await c.press("2", "m", "L")
        assert "name nothing that could be load tested" in c.message
        await c.press("6", "L")
        await c.app.run_command("loadtest")
        assert not c.fleet.asked


async def test_it_is_out_of_reach_while_read_only() -> None:
    async with console(fleet=fleet_to_test(armed=0)) as c:
        await c.press("L")
        assert READ_ONLY in c.message
        await c.app.run_command("loadtest")
        assert c.app.screen is c.app.main
        assert not c.fleet.asked


@pytest.mark.parametrize("key", ["enter", "escape"])
async def test_an_untouched_dialog_only_closes(key: str) -> None:
    async with console(fleet=fleet_to_test()) as c:
        await opened(c)
        await c.press(key)
        assert c.app.screen is c.app.main
        assert not starts(c)


async def test_no_stray_key_begins_it_even_when_all_is_filled_in() -> None:
    async with console(fleet=fleet_to_test()) as c:
        screen = await opened(c)
        await agreed(c, screen)
        assert not screen.query_one("#apply").disabled
        screen.query_one("#first").focus()
        for key in (*"DULSTayxqj6+-", "space", "up", "right", "delete"):
            await c.pilot.press({"+": "plus", "-": "minus"}.get(key, key))
            assert c.app.screen is screen, key
        for field in ("#purpose", "#generators", "#reason", "#ticket"):
            screen.query_one(field).focus()
            await c.press("enter")
        assert c.app.screen is screen
        assert not starts(c)


async def test_the_plan_that_is_shown_is_begun_and_watched_in_pane_6() -> None:
    async with console(fleet=fleet_to_test()) as c:
        screen = await opened(c)
        await agreed(c, screen)
        screen.query_one("#apply").focus()
        shown = screen._plan_text
        await c.press("enter")
        await c.pilot.pause(0.05)
        (start,) = starts(c)
        assert start["plan"] == shown
        plan = msgspec.json.decode(start["plan"], type=Plan)
        assert (plan.action, plan.reason, [step.part for step in plan.steps]) == (
            "loadtest",
            "how much is it",
            ["de-fra1"],
        )
        assert "in service" in json.loads(start["overrides"])
        assert isinstance(c.app.screen, LoadScreen)
        assert "1 load test running (6)" in c.lines[1]


async def test_rate_and_time_are_asked_where_they_are_needed() -> None:
    async with console((120, 40), fleet=fleet_to_test()) as c:
        screen = await opened(c)
        assert not screen.query_one("#rate").parent.display  # type: ignore[union-attr]
        screen.query_one("#purpose").focus()
        await c.press("right")
        await planned(c)
        assert "at what rate?" in c.text
        assert screen.query_one("#apply").disabled
        screen.query_one("#rate", form.Field).value = "12k"
        screen.query_one("#seconds", form.Field).value = "2m"
        screen.query_one("#generators").focus()
        await c.press("right", "right")
        await planned(c)
        assert asked(c) == {
            "targets": ["de-fra1"], "purpose": "fixed", "rate": 12_000.0, "seconds": 120.0, "generators": ["gen2"],
        }  # fmt: skip
        assert "fixed run at 12,000 q/s" in screen._text.text
        screen.query_one("#seconds", form.Field).value = "soon"
        await planned(c)
        assert "for how long?" in c.text


async def test_a_rate_above_what_the_target_allows_is_refused() -> None:
    async with console((120, 40), fleet=fleet_to_test()) as c:
        screen = await opened(c)
        screen.query_one("#purpose").focus()
        await c.press("right")
        screen.query_one("#rate", form.Field).value = "20001"
        await planned(c)
        await agreed(c, screen)
        assert c.line_with("REFUSES", "caps", "20,001 q/s asked for")
        assert screen.query_one("#apply").disabled


async def test_a_production_target_wants_more_than_the_screen_can_give() -> None:
    fleet = fleet_to_test(target(class_=TargetClass.PROD))
    async with console((120, 40), fleet=fleet) as c:
        screen = await opened(c)
        await agreed(c, screen)
        screen.query_one("#typed", form.Field).value = "de-fra1"
        await c.pilot.pause()
        assert c.line_with("REFUSES", "production", "--force-prod")
        assert screen.query_one("#apply").disabled


async def test_a_generator_that_is_lost_meanwhile_ends_the_wish() -> None:
    async with console((120, 40), fleet=fleet_to_test()) as c:
        screen = await opened(c)
        await agreed(c, screen)
        assert not screen.query_one("#apply").disabled
        screen.query_one("#apply").focus()
        c.fleet.change(("link", "gen2"), state="failed")
        await c.press("enter")
        await c.pilot.pause(0.05)
        assert c.line_with("REFUSES", "generators", "gen2")
        assert not starts(c)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_form_guards_and_buttons_are_in_sight(size: tuple[int, int]) -> None:
    async with console(size, fleet=fleet_to_test()) as c:
        await opened(c)
        assert c.line_with("purpose", "● search", "○ fixed", "○ ramp", "○ soak")
        assert c.line_with("from", "● all", "○ gen1", "○ gen2")
        assert c.line_with("REFUSES", "in service")
        assert "a reason is missing" in c.text
        assert c.line_with("> Cancel <", "[ Apply ]")


async def test_plain_ascii_and_names_that_mean_to_be_markup() -> None:
    hostile = "[red]x[/]\x1b[31m\u202e"
    fleet = fleet_to_test(target(name=hostile), generators=("gen1", "[b]gen\u202e2"))
    async with console((80, 24), fleet=fleet, glyphs="ascii") as c:
        await opened(c)
        assert "[red]x[/]" in c.text
        assert c.line_with("(*) all", "[b]gen2")
        assert not [ch for ch in c.text if not ch.isascii() and ch not in "▁▂▃▄▅▆▇█"]  # Textual's scrollbar


@pytest.mark.parametrize("text", ["20000", "20 000", "20,000", "20k", "20 K", "0.02M"])
def test_rates_as_people_write_them(text: str) -> None:
    assert rate_of(text) == 20_000


@pytest.mark.parametrize("text", ["", "-5", "1e9", "k", "20 q/s", "20kk", "٣"])
def test_what_is_no_rate(text: str) -> None:
    assert rate_of(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), ("90s", 90), ("10m", 600), ("1h", 3600), ("", None), ("1d", None), ("-1", None)]
)
def test_times_as_people_write_them(text: str, seconds: float | None) -> None:
    assert span_of(text) == seconds
