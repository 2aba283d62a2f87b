"""What can be struck during a drain, in which way, at which boundary, and where the node must end when the console dies there."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from tests.e2e.struck import Boundary, Strike

__all__ = ["Case", "Kind", "boundaries", "confirmed_steps"]

_STEPS = ("applying", "applied", "verified", "confirming", "confirmed", "done")


class Kind(StrEnum):
    """What is struck, and how."""

    CONSOLE = "console killed"
    BOTH = "screen and engine killed"
    SCREEN = "screen killed"
    CTRL_C = "ctrl-c"
    HANG_UP = "hang-up"
    NODE_FROZEN = "node's sshd frozen"
    """Until the console has come to its end."""
    NODE_KILLED = "node's sshd killed"
    """With all its sessions; it is started again some seconds later."""
    JUMP_FROZEN = "jump's sshd frozen"
    JUMP_KILLED = "jump's sshd killed"

    @property
    def strike(self) -> Strike:
        """What the console does at its boundary."""
        return _STRIKES.get(self, Strike.TELL)

    @property
    def is_everybodys(self) -> bool:
        """True if it strikes all lanes at once."""
        return self in (Kind.JUMP_FROZEN, Kind.JUMP_KILLED)


_STRIKES = {Kind.CONSOLE: Strike.KILL, Kind.BOTH: Strike.KILL_BOTH, Kind.SCREEN: Strike.KILL_SCREEN}


class Case(NamedTuple):
    """One strike."""

    kind: Kind
    boundary: Boundary

    def __str__(self) -> str:
        return f"{self.kind} {self.boundary}"


def boundaries() -> list[Boundary]:
    """Every place at which a drain of two steps can be cut in two; what lies between two of them is the console's thoughts alone."""
    found = [Boundary("after", "opened")]
    for step in range(2):
        found += [Boundary(place, event, step) for event in _STEPS for place in ("before", "after")]
        found += [Boundary("during", event, step) for event in ("applied", "confirmed")]
    return [*found, Boundary("before", "closed"), Boundary("after", "closed")]


def confirmed_steps(boundary: Boundary) -> tuple[int, ...]:
    """How many steps may be in effect in the end, if the console dies at a boundary."""
    if boundary.event not in _STEPS:
        return (2,) if boundary.event == "closed" else (0,)
    is_confirmed = _STEPS.index(boundary.event) >= _STEPS.index("confirmed")
    if boundary.place == "during" and is_confirmed:
        return boundary.step, boundary.step + 1
    return (boundary.step + is_confirmed,)
