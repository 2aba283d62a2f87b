"""The one registry of what an operator can do: bindings, key hints, help, palette and `:` commands are all read from here.

An action is data. `act` is the Textual action it runs; `mutates` is for actions that change the fleet, so that a read-only console can
refuse, hide and explain them without knowing which they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from textual.binding import Binding

__all__ = [
    "ACTIONS", "Action", "Context", "Group", "action", "actions_in", "bindings", "commands", "key_label", "mutating",
]  # fmt: skip


class Context(StrEnum):
    """Where keys are live. What is active together is listed in `LAYERS`."""

    APP = "everywhere"
    MAIN = "main screen"
    TABLE = "tables"
    TEXT = "text screens"
    SOURCES = "raw output and logs"
    LOG = "logs"
    PROMPT = "filter and command line"
    CHOICE = "lists to choose from"
    FORM = "dialogs"
    WATCH = "watching a change"
    LOAD = "watching a load test"


LAYERS: tuple[tuple[Context, ...], ...] = (
    (Context.TABLE, Context.MAIN, Context.APP),
    (Context.TEXT, Context.APP),
    (Context.TEXT, Context.SOURCES, Context.APP),
    (Context.TEXT, Context.SOURCES, Context.LOG, Context.APP),
    (Context.PROMPT, Context.APP),
    (Context.CHOICE, Context.APP),
    (Context.FORM, Context.APP),
    (Context.TEXT, Context.WATCH, Context.APP),
    (Context.TEXT, Context.LOAD, Context.APP),
)
"""Contexts whose keys are live at the same time; within one layer no key may mean two things."""


class Group(StrEnum):
    """Chapters of the help."""

    PANES = "Panes"
    LOOK = "Look closer"
    CHANGE = "Change the fleet"
    VIEW = "Arrange the view"
    MOVE = "Move"
    CONSOLE = "The console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing an operator can do.

    Attributes:
        id: Its name in code, tests and key maps; never changes.
        title: Two or three words, for hints and palette.
        explain: One sentence for the help.
        group: Its chapter of the help.
        act: The Textual action it runs.
        keys: Textual's names of its keys; the first is the one that is shown.
        contexts: Where the keys are live.
        command: Its name after `:`, "" if it has none.
        argument: What the command takes: "", "node", "tenant", "theme", "filter", "sort", "file" or "time".
        hint: Its place among the key hints, lower is earlier; 0 is not shown.
        mutates: It changes the fleet; such an action takes no argument, it asks in a dialog.
        priority: Its keys work even where text is typed.
    """

    id: str
    title: str
    explain: str
    group: Group
    act: str
    keys: tuple[str, ...] = ()
    contexts: tuple[Context, ...] = (Context.MAIN,)
    command: str = ""
    argument: str = ""
    hint: int = 0
    mutates: bool = False
    priority: bool = False


_MAIN = (Context.MAIN,)
_TABLE = (Context.TABLE,)
_TEXT = (Context.TEXT,)
_ANYWHERE = (Context.APP,)
_FORM = (Context.FORM,)


def _pane(number: str, name: str, explain: str, title: str = "") -> Action:
    return Action(
        id=f"pane_{name}",
        title=title or name.capitalize(),
        explain=explain,
        group=Group.PANES,
        act=f"pane('{name}')",
        keys=(number,),
        contexts=(Context.MAIN, Context.TEXT),
        command=name,
    )


ACTIONS: tuple[Action, ...] = (
    _pane("1", "fleet", "All nodes, the worst first: the home pane."),
    _pane("2", "tenants", "What each tenant gets from the whole fleet; m shows which node answers each vantage point."),
    _pane("3", "bgp", "Sessions, with a column per tenant: who is told what; m lists every announcement.", "BGP"),
    _pane("4", "health", "Every name server instance with chroot, zones and answers; m: pods, monitoring."),
    _pane("5", "qps", "Queries per second, as charts and per instance; m changes the charts.", "QPS"),
    _pane("6", "load", "The load test that runs, live; without one the results of all, newest first.", "Load tests"),
    _pane("7", "events", "What changed its state, newest first; enter goes to what it is about."),
    _pane("8", "journal", "Every change that was begun from here, newest first; enter shows its report."),
    *(
        Action(id=f"pane_{name}", title=name.capitalize(), explain=explain, group=Group.PANES, act=f"pane('{name}')", command=name)
        for name, explain in (
            ("pods", "The pods of all clusters, the worst first; enter shows the containers and events of one."),
            ("monitoring", "What watches the clusters: Prometheus, exporters and log shippers, one row each."),
        )
    ),
    Action(
        id="node", title="Go to node", explain="Instances and sessions of one node.", group=Group.PANES, act="command('node ')",
        command="node", argument="node",
    ),
    Action(
        id="tenant", title="Go to tenant", explain="Instances and catchment of one tenant.", group=Group.PANES,
        act="command('tenant ')", command="tenant", argument="tenant",
    ),
    Action(
        id="open", title="Open", explain="Go into what is under the cursor.", group=Group.LOOK, act="select", keys=("enter",),
        contexts=_TABLE, hint=1,
    ),
    Action(
        id="back", title="Back", explain="Clear the filter, else the marks, else go back.", group=Group.LOOK,
        act="back", keys=("escape", "backspace"), command="back", hint=9,
    ),
    Action(
        id="drain", title="Drain", explain="Take the marked rows, or the one under the cursor, out of service; shows the plan first.",
        group=Group.CHANGE, act="drain", keys=("D",), command="drain", hint=2, mutates=True,
    ),
    Action(
        id="undrain", title="Undrain", explain="Put these rows back to normal; shows the plan first.",
        group=Group.CHANGE, act="undrain", keys=("U",), command="undrain", hint=2, mutates=True,
    ),
    Action(
        id="setup", title="Set up", explain="Set these tenants up in their cluster, or mend what drifted there; shows the plan first.",
        group=Group.CHANGE, act="setup", keys=("S",), command="setup", hint=2, mutates=True,
    ),
    Action(
        id="teardown", title="Tear down", explain="Take these tenants out of their cluster for good; shows the plan first.",
        group=Group.CHANGE, act="teardown", keys=("T",), command="teardown", hint=2, mutates=True,
    ),
    Action(
        id="loadtest", title="Load test", explain="Find out how many queries it answers; shows the plan first.",
        group=Group.CHANGE, act="loadtest", keys=("L",), command="loadtest", hint=2, mutates=True,
    ),
    Action(
        id="adopt", title="Adopt drift", explain="What this node was told by hand becomes what is intended; shows the plan first.",
        group=Group.CHANGE, act="adopt", command="adopt", mutates=True,
    ),
    Action(
        id="revert", title="Revert drift", explain="What was intended on this node takes effect again; shows the plan first.",
        group=Group.CHANGE, act="revert", command="revert", mutates=True,
    ),
    Action(
        id="arm", title="Arm", explain="Lift read-only for a time, such as 15m; the header counts it down.", group=Group.CHANGE,
        act="command('arm ')", command="arm", argument="time",
    ),
    Action(
        id="disarm", title="Disarm", explain="Read-only again, at once.", group=Group.CHANGE, act="disarm", command="disarm",
    ),
    Action(
        id="changes", title="Watch the change", explain="The change that is running, or the result of the last one.",
        group=Group.CHANGE, act="changes", keys=("W",), contexts=(Context.MAIN, Context.TEXT), command="changes",
    ),
    Action(
        id="acknowledge", title="Acknowledge", explain="In the journal: the open change under the cursor was looked at and settled.",
        group=Group.CHANGE, act="acknowledge", command="acknowledge",
    ),
    Action(
        id="describe", title="Describe", explain="All facts about it, each with its age; live.", group=Group.LOOK, act="describe",
        keys=("d",), command="describe", hint=4,
    ),
    Action(
        id="raw", title="Raw", explain="What the daemon itself last said, unparsed; the YAML of a pod.", group=Group.LOOK, act="raw",
        keys=("y",), command="raw", hint=5,
    ),
    Action(
        id="logs", title="Logs", explain="Follow its log: a file on the node, or a container's.", group=Group.LOOK,
        act="logs", keys=("l",), command="logs", hint=6,
    ),
    Action(
        id="shell", title="Shell", explain="Your own ssh to the node, or a shell in the container; the console waits behind it.",
        group=Group.LOOK, act="shell",
        keys=("s",), command="shell", hint=7,
    ),
    Action(
        id="refresh", title="Look again", explain="Ask the node now instead of at its next turn.", group=Group.LOOK, act="refresh_node",
        keys=("R",), command="refresh", hint=16,
    ),
    Action(
        id="copy", title="Copy name", explain="Copy the name under the cursor (or of the marked rows) to your terminal's clipboard.",
        group=Group.LOOK, act="copy_name", keys=("c",), command="copy", hint=17,
    ),
    Action(
        id="copy_json", title="Copy as JSON", explain="Copy the row under the cursor (or the marked rows) as JSON.", group=Group.LOOK,
        act="copy_json", keys=("C",), command="copy-json",
    ),
    Action(
        id="other_view", title="Other view", explain="The pane's other half: announcements, catchment, pods, other charts.",
        group=Group.VIEW, act="other_view", keys=("m",), command="toggle", hint=8,
    ),
    Action(
        id="filter", title="Filter", explain="Only rows that contain this; a regular expression works, a leading ! inverts.",
        group=Group.VIEW, act="filter", keys=("slash",), command="filter", argument="filter", hint=3,
    ),
    Action(
        id="unhealthy", title="Troubled only", explain="Hide what is serving; press again to show all.", group=Group.VIEW,
        act="unhealthy", keys=("exclamation_mark",), command="troubled", hint=10,
    ),
    Action(
        id="sort", title="Sort", explain="Choose the column to sort by; a click on a heading does the same.", group=Group.VIEW,
        act="sort", keys=("o",), command="sort", argument="sort", hint=11,
    ),
    Action(
        id="sort_invert", title="Turn order", explain="The other direction of the sorted column.", group=Group.VIEW, act="invert_sort",
        keys=("O", "I"), contexts=_TABLE,
    ),
    Action(
        id="sort_left", title="Sort one left", explain="Sort by the column to the left.", group=Group.VIEW, act="sort_column(-1)",
        keys=("less_than_sign",), contexts=_TABLE,
    ),
    Action(
        id="sort_right", title="Sort one right", explain="Sort by the column to the right.", group=Group.VIEW, act="sort_column(1)",
        keys=("greater_than_sign",), contexts=_TABLE,
    ),
    Action(
        id="wide", title="All columns", explain="Show the columns that a narrow terminal leaves out; left and right scroll them.",
        group=Group.VIEW, act="wide", keys=("w",), command="wide",
    ),
    Action(
        id="freeze", title="Freeze", explain="Hold the view still; data keeps coming in. Leaving the view ends it.", group=Group.VIEW,
        act="freeze", keys=("Z",), command="freeze", hint=12,
    ),
    Action(
        id="mark", title="Mark", explain="Mark or unmark the row.", group=Group.VIEW, act="mark", keys=("space",), contexts=_TABLE, hint=15,
    ),
    Action(
        id="range", title="Mark a range", explain="Mark from here to wherever the cursor goes.", group=Group.VIEW, act="range",
        keys=("v",), contexts=_TABLE,
    ),
    Action(
        id="next_table", title="Next table", explain="To the other table of this pane.", group=Group.MOVE, act="next_table",
        keys=("tab",), hint=14,
    ),
    Action(
        id="previous_table", title="Previous table", explain="To the other table of this pane, the other way round.",
        group=Group.MOVE, act="previous_table", keys=("shift+tab",),
    ),
    Action(
        id="last_place", title="Last place", explain="Where you were before; again, and you are back.", group=Group.MOVE,
        act="last_place", keys=("minus",), command="last",
    ),
    *(
        Action(
            id=f"row_{where}", title=title, explain=f"{title}.", group=Group.MOVE, act=f"move('{where}')", keys=keys, contexts=_TABLE,
        )
        for where, title, keys in (
            ("up", "Row up", ("up", "k")), ("down", "Row down", ("down", "j")), ("page_up", "Page up", ("pageup",)),
            ("page_down", "Page down", ("pagedown",)), ("half_up", "Half a page up", ("ctrl+u",)),
            ("half_down", "Half a page down", ("ctrl+d",)), ("home", "First row", ("home", "g")), ("end", "Last row", ("end", "G")),
        )
    ),
    Action(
        id="left", title="Columns left", explain="Scroll the columns back; the first stays.", group=Group.MOVE, act="sideways(-1)",
        keys=("left",), contexts=_TABLE,
    ),
    Action(
        id="right", title="Columns right", explain="Scroll the columns; the first stays.", group=Group.MOVE, act="sideways(1)",
        keys=("right",), contexts=_TABLE,
    ),
    *(
        Action(
            id=f"text_{where}", title=title, explain=f"{title}.", group=Group.MOVE, act=f"scroll('{where}')", keys=keys, contexts=_TEXT,
        )
        for where, title, keys in (
            ("up", "Line up", ("up", "k")), ("down", "Line down", ("down", "j")), ("page_up", "Page up", ("pageup",)),
            ("page_down", "Page down", ("pagedown", "space")), ("half_up", "Half a page up", ("ctrl+u",)),
            ("half_down", "Half a page down", ("ctrl+d",)), ("home", "To the top", ("home", "g")), ("end", "To the end", ("end", "G")),
            ("left", "Text left", ("left",)), ("right", "Text right", ("right",)),
        )
    ),
    Action(
        id="text_close", title="Close", explain="Clear the search, else back to where you were.", group=Group.LOOK, act="close_text",
        keys=("escape", "q"), contexts=_TEXT, hint=1,
    ),
    Action(
        id="text_search", title="Search", explain="Find in the text; in the help, show only what matches.", group=Group.LOOK,
        act="search", keys=("slash",), contexts=_TEXT, hint=2,
    ),
    Action(
        id="text_next", title="Next match", explain="To the next match of the search.", group=Group.LOOK, act="next_match(1)",
        keys=("n",), contexts=_TEXT, hint=3,
    ),
    Action(
        id="text_previous", title="Previous match", explain="To the match before.", group=Group.LOOK, act="next_match(-1)",
        keys=("N",), contexts=_TEXT,
    ),
    Action(
        id="text_copy", title="Copy text", explain="Copy the whole text to your terminal's clipboard.", group=Group.LOOK,
        act="copy_text", keys=("c",), contexts=_TEXT, hint=9,
    ),
    Action(
        id="source_next", title="Next source", explain="The next section, log or container.", group=Group.LOOK, act="source(1)",
        keys=("right_square_bracket", "tab"), contexts=(Context.SOURCES,), hint=4,
    ),
    Action(
        id="source_previous", title="Previous source", explain="The section, log or container before.", group=Group.LOOK, act="source(-1)",
        keys=("left_square_bracket", "shift+tab"), contexts=(Context.SOURCES,), hint=5,
    ),
    Action(
        id="source_again", title="Ask again", explain="Ask the node anew.", group=Group.LOOK, act="ask_again", keys=("R",),
        contexts=(Context.SOURCES,), hint=6,
    ),
    Action(
        id="log_pause", title="Pause", explain="Hold the log still; lines keep coming in.", group=Group.LOOK, act="pause",
        keys=("Z",), contexts=(Context.LOG,), hint=8,
    ),
    Action(
        id="log_previous", title="Previous run", group=Group.LOOK,
        explain="What the container said before it was last restarted; again, and what it says now.",
        act="previous", keys=("p",), contexts=(Context.LOG,), hint=7,
    ),
    Action(
        id="prompt_leave", title="Leave", explain="Leave the line as if it had not been opened.", group=Group.CONSOLE,
        act="leave", keys=("escape",), contexts=(Context.PROMPT,), hint=2,
    ),
    Action(
        id="prompt_accept", title="Accept", explain="Keep the filter, run the command.", group=Group.CONSOLE, act="accept",
        keys=("enter",), contexts=(Context.PROMPT,), hint=1,
    ),
    Action(
        id="prompt_complete", title="Complete", explain="Complete what was typed.", group=Group.CONSOLE, act="complete",
        keys=("tab",), contexts=(Context.PROMPT,), hint=3,
    ),
    Action(
        id="prompt_older", title="Older", explain="The line typed before.", group=Group.CONSOLE, act="history(-1)", keys=("up",),
        contexts=(Context.PROMPT,), hint=4,
    ),
    Action(
        id="prompt_newer", title="Newer", explain="The line typed after.", group=Group.CONSOLE, act="history(1)", keys=("down",),
        contexts=(Context.PROMPT,), hint=5,
    ),
    Action(
        id="choice_leave", title="Leave", explain="Leave the list without choosing.", group=Group.CONSOLE, act="leave",
        keys=("escape", "q"), contexts=(Context.CHOICE,), hint=2,
    ),
    Action(
        id="form_leave", title="Cancel", explain="Leave the dialog; nothing is done.", group=Group.CONSOLE, act="leave",
        keys=("escape",), contexts=_FORM, hint=1,
    ),
    Action(
        id="form_press", title="Press", explain="Press the button that has the cursor; nothing elsewhere.", group=Group.CONSOLE,
        act="press", keys=("enter",), contexts=_FORM, hint=4,
    ),
    Action(
        id="form_tick", title="Tick", explain="Tick what has the cursor.", group=Group.CONSOLE, act="tick", keys=("space",),
        contexts=_FORM, hint=5,
    ),
    *(
        Action(
            id=f"form_{where}", title=title, explain=explain, group=Group.MOVE, act=act, keys=keys, contexts=_FORM, hint=hint,
        )
        for where, title, explain, act, keys, hint in (
            ("next", "Next field", "To the next field or button.", "next_field", ("tab",), 2),
            ("previous", "Field before", "To the field or button before.", "previous_field", ("shift+tab",), 0),
            ("left", "Choice before", "The choice to the left.", "choose(-1)", ("left",), 0),
            ("right", "Next choice", "The choice to the right.", "choose(1)", ("right",), 3),
            ("up", "Up", "Scroll the dialog up.", "scroll_body(-1)", ("up",), 0),
            ("down", "Down", "Scroll the dialog down.", "scroll_body(1)", ("down",), 0),
            ("page_up", "Page up", "Scroll the dialog a page up.", "scroll_body(-10)", ("pageup",), 0),
            ("page_down", "Page down", "Scroll the dialog a page down.", "scroll_body(10)", ("pagedown",), 0),
        )
    ),
    Action(
        id="watch_abort", title="Abort", explain="Take back what is not confirmed yet, and begin nothing more; asks first.",
        group=Group.CHANGE, act="abort", keys=("x",), contexts=(Context.WATCH,), hint=1,
    ),
    Action(
        id="watch_answer", title="Answer", explain="Answer the question of the change.", group=Group.CHANGE, act="answer",
        keys=("enter",), contexts=(Context.WATCH,), hint=1,
    ),
    Action(
        id="load_stop", title="Stop", explain="Stop the load test that runs, at once and without a question: its generators fall silent.",
        group=Group.CHANGE, act="load_stop", keys=("x",), contexts=(Context.LOAD,), hint=1,
    ),
    Action(
        id="stop", title="Stop load test", explain="Stop whatever load test runs, at once and without a question.", group=Group.CHANGE,
        act="load_stop", keys=("x",), command="stop",
    ),
    Action(
        id="load_faster", title="Faster", explain="A load test at a fixed rate goes on 10 % faster, under its cap.", group=Group.CHANGE,
        act="load_adjust(1)", keys=("plus",), contexts=(Context.LOAD,), hint=1,
    ),
    Action(
        id="load_slower", title="Slower", explain="A load test at a fixed rate goes on 10 % slower.", group=Group.CHANGE,
        act="load_adjust(-1)", keys=("minus",), contexts=(Context.LOAD,), hint=1,
    ),
    Action(
        id="load_sheet", title="Result sheet", explain="All of the load test: conditions, trials, what limited it.", group=Group.LOOK,
        act="load_sheet", keys=("enter",), contexts=(Context.LOAD,), hint=2,
    ),
    Action(
        id="command", title="Command", explain="Type a command; tab completes.", group=Group.CONSOLE, act="command('')",
        keys=("colon",), hint=13,
    ),
    Action(
        id="palette", title="Palette", explain="Find a command by any of its words.", group=Group.CONSOLE, act="command_palette",
        keys=("ctrl+p",), contexts=_ANYWHERE, hint=0,
    ),
    Action(
        id="help", title="Help", explain="All keys and commands of this place.", group=Group.CONSOLE, act="help",
        keys=("question_mark", "f1"), contexts=_ANYWHERE, command="help", hint=2,
    ),
    Action(
        id="theme", title="Theme", explain="Change the colours.", group=Group.CONSOLE, act="theme", contexts=_ANYWHERE,
        command="theme", argument="theme",
    ),
    Action(
        id="redraw", title="Redraw", explain="Paint the whole screen again.", group=Group.CONSOLE, act="redraw", keys=("ctrl+l",),
        contexts=_ANYWHERE, command="redraw",
    ),
    Action(
        id="dump", title="Write the screen",
        explain="Write what is shown to a new file, for a bug report; with its colours if it ends in .ans.",
        group=Group.CONSOLE, act="command('dump ')", command="dump", argument="file",
    ),
    Action(
        id="quit", title="Quit", explain="In a pane: leave the console. Deeper: go back.", group=Group.CONSOLE, act="quit_or_back",
        keys=("q",), hint=19,
    ),
    Action(
        id="quit_now", title="Quit", explain="Leave the console.", group=Group.CONSOLE, act="quit", contexts=_ANYWHERE, command="q",
    ),
    Action(
        id="interrupt", title="Interrupt", explain="Leave the console; asks for a second press within two seconds.",
        group=Group.CONSOLE, act="interrupt", keys=("ctrl+c",), contexts=_ANYWHERE, priority=True,
    ),
)  # fmt: skip

_BY_ID = {entry.id: entry for entry in ACTIONS}

_MUTATING = {entry.act.partition("(")[0]: entry for entry in ACTIONS if entry.mutates}

_KEY_LABELS = {
    "slash": "/", "colon": ":", "question_mark": "?", "exclamation_mark": "!", "escape": "esc", "less_than_sign": "<",
    "greater_than_sign": ">", "left_square_bracket": "[", "right_square_bracket": "]", "minus": "-", "pageup": "pgup",
    "pagedown": "pgdn", "backspace": "bksp", "f1": "F1", "plus": "+",
}  # fmt: skip


def action(name: str) -> Action:
    """The action with this id. Raises KeyError."""
    return _BY_ID[name]


def actions_in(contexts: Iterable[Context]) -> list[Action]:
    """Actions whose keys are live in any of these contexts, in the registry's order."""
    wanted = set(contexts)
    return [entry for entry in ACTIONS if wanted.intersection(entry.contexts)]


def bindings(context: Context) -> list[Binding]:
    """Textual bindings of one context."""
    return [
        Binding(",".join(entry.keys), entry.act, entry.title, show=False, priority=entry.priority, id=entry.id)
        for entry in ACTIONS
        if entry.keys and context in entry.contexts
    ]


def commands() -> dict[str, Action]:
    """What can be typed after `:`, by name."""
    return {entry.command: entry for entry in ACTIONS if entry.command}


def mutating(act: str) -> Action | None:
    """The action that changes the fleet and is run by this Textual action; None for all others."""
    name = act.partition("(")[0].rpartition(".")[2]
    return _MUTATING.get(name)


def key_label(key: str) -> str:
    """A key as an operator would write it."""
    return _KEY_LABELS.get(key, key)
