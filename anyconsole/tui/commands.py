"""The `:` line: what was typed becomes an action and its argument, or the nearest thing that would be one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from anyconsole.tui.actions import Action, commands

__all__ = ["Command", "UnknownCommandError", "complete", "parse"]

Choices = Mapping[str, Callable[[], Sequence[str]]]
"""What an argument can be, by the kind of argument."""


class UnknownCommandError(Exception):
    """There is no such command, or not with this argument; the message names the nearest."""


class Command(msgspec.Struct, frozen=True):
    """An action and its argument."""

    action: Action
    argument: str = ""


_ALIASES = {
    "quit": "q",
    "exit": "q",
    "h": "help",
    "nodes": "fleet",
    "sessions": "bgp",
    "instances": "health",
    "po": "pods",
    "loadtests": "load",
}


def parse(text: str, choices: Choices) -> Command:
    """Read a command line. Raises UnknownCommandError."""
    name, _, argument = text.strip().partition(" ")
    argument = argument.strip()
    known = commands()
    name = _ALIASES.get(name, name)
    if name not in known:
        raise UnknownCommandError(f"no command :{name}{_nearest(name, [*known, *_ALIASES], ':')}")
    action = known[name]
    if not action.argument:
        if argument:
            raise UnknownCommandError(f":{name} takes nothing after it")
        return Command(action)
    if action.argument in choices:
        allowed = choices[action.argument]()
        if not argument:
            raise UnknownCommandError(f":{name} wants one of {', '.join(allowed[:12])}")
        if argument not in allowed:
            raise UnknownCommandError(f"no {action.argument} {argument!r}{_nearest(argument, allowed)}")
    return Command(action, argument)


def complete(text: str, choices: Choices, *, armed: bool = True) -> list[str]:
    """Whole lines that `text` could become, the likeliest first; without what changes the fleet unless that is possible (`armed`)."""
    name, space, argument = text.partition(" ")
    known = {command: action for command, action in commands().items() if armed or not action.mutates}
    if not space:
        return sorted(command for command in known if command.startswith(name))
    action = known.get(name)
    if action is None or action.argument not in choices:
        return []
    return [f"{name} {choice}" for choice in choices[action.argument]() if choice.startswith(argument)]


def _nearest(word: str, known: Sequence[str], sign: str = "") -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"; did you mean {sign}{close[0]}?" if close else ""
