"""The registry of actions: nothing on the screen has a key that is not in it, and no key means two things."""

from __future__ import annotations

from collections import Counter

import pytest
from textual.binding import Binding

from anyconsole.tui.actions import ACTIONS, LAYERS, Action, Context, actions_in, commands, key_label, mutating
from anyconsole.tui.app import ConsoleApp
from anyconsole.tui.bottom import Prompt
from anyconsole.tui.panes.table_pane import FleetTable
from anyconsole.tui.screens.choose import ChooseScreen
from anyconsole.tui.screens.describe import DescribeScreen
from anyconsole.tui.screens.dialog import ConfirmScreen
from anyconsole.tui.screens.help import HelpScreen, help_lines
from anyconsole.tui.screens.load import LoadScreen
from anyconsole.tui.screens.load_sheet import LoadSheetScreen
from anyconsole.tui.screens.main import MainScreen
from anyconsole.tui.screens.plan import PlanScreen
from anyconsole.tui.screens.question import QuestionScreen
from anyconsole.tui.screens.report import ReportScreen
from anyconsole.tui.screens.sources import LogScreen, RawScreen
from anyconsole.tui.screens.text import TextScreen
from anyconsole.tui.screens.watch import WatchScreen
from tests.tui.conftest import console

OWN_CLASSES = (
    ConsoleApp,
    MainScreen,
    FleetTable,
    TextScreen,
    DescribeScreen,
    HelpScreen,
    RawScreen,
    LogScreen,
    LoadScreen,
    LoadSheetScreen,
    ChooseScreen,
    ConfirmScreen,
    PlanScreen,
    QuestionScreen,
    ReportScreen,
    WatchScreen,
)


@pytest.mark.parametrize("owner", OWN_CLASSES)
def test_every_binding_comes_from_the_registry(owner: type[ConsoleApp]) -> None:
    known = {action.id: action for action in ACTIONS}
    for key, found in owner._merged_bindings.key_to_bindings.items():  # type: ignore[union-attr]
        for binding in found:
            assert binding.id in known, (owner, key, binding)
            assert key in known[binding.id].keys
            assert binding.action == known[binding.id].act


def test_the_prompt_adds_only_registered_keys_to_those_of_editing() -> None:
    assert {b.id for b in Prompt.BINDINGS if isinstance(b, Binding)} == {a.id for a in actions_in([Context.PROMPT])}


@pytest.mark.parametrize("layer", LAYERS)
def test_no_key_means_two_things_in_one_place(layer: tuple[Context, ...]) -> None:
    count = Counter(key for action in actions_in(layer) for key in action.keys)
    assert not [key for key, times in count.items() if times > 1]


def test_every_context_belongs_to_a_layer() -> None:
    assert {context for layer in LAYERS for context in layer} == set(Context)


def test_ids_and_commands_are_unique() -> None:
    assert len({a.id for a in ACTIONS}) == len(ACTIONS)
    named = [a.command for a in ACTIONS if a.command]
    assert len(set(named)) == len(named)


def test_what_changes_the_fleet_is_on_capitals_and_takes_no_argument_on_the_command_line() -> None:
    changing = [a for a in ACTIONS if a.mutates]
    assert {a.id for a in changing} == {"drain", "undrain", "setup", "teardown", "loadtest", "adopt", "revert"}
    assert all(key.isalpha() and key.isupper() for a in changing for key in a.keys)
    assert all(not a.argument and "(" not in a.act for a in changing)
    assert {action.keys for action in changing if action.id in {"setup", "teardown"}} == {("S",), ("T",)}


def test_an_action_that_changes_the_fleet_is_known_by_whatever_name_it_is_run() -> None:
    for entry in ACTIONS:
        for act in (entry.act, f"screen.{entry.act}"):
            found = mutating(act)
            assert (found is not None) is entry.mutates, act


def test_no_key_that_terminals_or_multiplexers_eat() -> None:
    eaten = {"ctrl+a", "ctrl+b", "ctrl+s", "ctrl+q", "ctrl+z", "ctrl+h", "ctrl+i", "ctrl+j", "ctrl+m"}
    assert not eaten & {key for a in ACTIONS for key in a.keys}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: a.id)
def test_help_lists_every_action_with_its_keys_and_command(action: Action) -> None:
    words = [
        *(key_label(key) for key in action.keys),
        action.explain,
        *([f":{action.command}"] if action.command else []),
    ]
    assert any(all(word in line.text for word in words) for line in help_lines(LAYERS[0]))


def test_help_narrows_to_what_is_typed() -> None:
    lines = [line.text for line in help_lines(LAYERS[0], "freeze")]
    assert any("Hold the view still" in line for line in lines)
    assert not any("catchment" in line for line in lines)


async def test_every_action_of_the_registry_can_be_run() -> None:
    def has(owner: type, act: str) -> bool:
        return hasattr(owner, "action_" + act.partition("(")[0])

    owners = {
        Context.APP: (ConsoleApp,), Context.MAIN: (MainScreen,), Context.TABLE: (FleetTable,), Context.TEXT: (TextScreen,),
        Context.SOURCES: (RawScreen, LogScreen), Context.LOG: (LogScreen,), Context.PROMPT: (Prompt,), Context.CHOICE: (ChooseScreen,),
        Context.FORM: (ConfirmScreen, PlanScreen, QuestionScreen), Context.WATCH: (WatchScreen,),
        Context.LOAD: (LoadScreen,),
    }  # fmt: skip
    for action in ACTIONS:
        for context in action.contexts:
            assert all(has(owner, action.act) for owner in owners[context]), action.id


async def test_hints_and_help_show_the_keys_of_the_registry() -> None:
    async with console((330, 50)) as c:
        hints = c.lines[-1]
        for action in actions_in([Context.MAIN]):
            if action.hint and not action.mutates:
                assert f"{key_label(action.keys[0])} {action.title.lower()}" in hints
        await c.press("question_mark")
        assert "Help" in c.lines[2]
        await c.press("slash")
        await c.type("vantage")
        assert "which node answers" in c.text
        assert "Hold the view still" not in c.text


# Without those that want an argument, and the shell, which wants the terminal.
@pytest.mark.parametrize(
    "command", sorted(c for c, action in commands().items() if not action.argument and action.id != "shell")
)
async def test_every_command_without_argument_runs(command: str) -> None:
    async with console() as c:
        await c.app.run_command(command)
        await c.pilot.pause()
        assert "no command" not in c.text
