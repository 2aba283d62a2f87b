"""What the runner asks of an action (a drain, a load test, a set-up), and of what reaches hosts for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.plan import Step
from anyconsole.actions.run import Outcome, Proof
from anyconsole.errors import AnyconsoleError

__all__ = ["Action", "Gate", "Hands", "NotBegunError", "Said", "Standing"]


class Said(Protocol):
    """What a command on a host came to; `anyconsole.drivers.ssh.execute.Completed` is one."""

    @property
    def exit_status(self) -> int: ...  # noqa: D102

    @property
    def stdout(self) -> bytes: ...  # noqa: D102

    @property
    def stderr(self) -> bytes: ...  # noqa: D102


class Hands(Protocol):
    """How the runner touches and sees hosts."""

    async def execute(self, host: str, script: str, deadline: float) -> Said:
        """Run a script. Raises AnyconsoleError: then it may or may not have run."""

    async def look(self, hosts: Collection[str], deadline: float) -> set[str]:
        """Look at hosts anew; those whose state, read after this call began, is in the store."""


class Standing(StrEnum):
    """Where a host is with respect to a step."""

    BEFORE = "as before"
    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"
    OTHER = "changed by somebody else"
    UNKNOWN = "unknown"


class NotBegunError(AnyconsoleError):
    """A step that is performed could not begin: nothing was changed. `outcome` is what the run is called then."""

    def __init__(self, message: str, outcome: Outcome = Outcome.FAILED) -> None:
        super().__init__(message)
        self.outcome = outcome


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a step may begin. Where `ask` is not "", a human may decide: `choices` are (answer, meaning).

    The answer "go" begins the step, the `default` ends the run as it is, any other looks again.
    """

    is_open: bool
    words: str = ""
    ask: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    default: str = ""


class Action(Protocol):
    """What an action knows of its own steps. All of it is read from the store as it is now."""

    def witnesses(self, steps: Sequence[Step]) -> set[str]:
        """Hosts whose state decides whether the steps are safe."""

    def guards(
        self, steps: Sequence[Step], now: float, *, unconfirmed: bool = False, unseen: Collection[str] = ()
    ) -> list[GuardVerdict]:
        """All guards on the steps."""

    def gate(self, step: Step, now: float) -> Gate:
        """Whether the step may begin; called about once a second while it waits."""

    def proofs(self, step: Step, now: float) -> tuple[Proof, ...]:
        """The layers of verification, in order; `since` is left to the runner."""

    def standing(self, step: Step, now: float) -> Standing:
        """Where the step's host is."""

    async def perform(self, step: Step, say: Callable[[str], None]) -> str:
        """Do a step that has no `confirm`; returns how it ended. `say` shows what it is doing. Cancelled: ends it at once.

        Raises:
            NotBegunError: Nothing was changed.
            AnyconsoleError: It failed, or had to be ended.
        """

    async def inspect(self, step: Step) -> str:
        """What is there of a step that a console left open, where its host must be asked for it; "" where `standing` says it all.

        Raises AnyconsoleError.
        """
