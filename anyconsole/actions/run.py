"""A run: what became of a plan so far, as one value that is shown, journalled and printed alike. It knows nothing of drains."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.plan import Plan

__all__ = ["Operator", "Outcome", "Proof", "Question", "Run", "RunState", "StepRun", "StepState"]


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Who does it: the user of the console's machine, that machine, and the comment of the SSH key that logs in to the nodes."""

    user: str
    host: str
    key: str = ""


class StepState(StrEnum):
    """Where a step is. APPLYING to CONFIRMING are the time in which the node would take it back by itself.

    PERFORMING is what a step does that leaves nothing behind, or that is lasting.
    """

    WAITING = "waiting"
    CHECKING = "checking guards"
    APPLYING = "applying"
    VERIFYING = "verifying"
    CONFIRMING = "confirming"
    PERFORMING = "running"
    DONE = "done"
    REVERTING = "taking back"
    REVERTED = "taken back"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "not begun"
    UNKNOWN = "unknown"


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of verification: is it seen, in words, and since when (epoch seconds).

    `met` is None while it is not known. Without a `required` one the change is not confirmed; the others are shown.
    """

    layer: str
    met: bool | None
    words: str
    required: bool = False
    since: float | None = None


class StepRun(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one step. Times are epoch seconds; `reverts_at` is when the node takes it back unless it is confirmed."""

    state: StepState = StepState.WAITING
    words: str = ""
    began_at: float | None = None
    ended_at: float | None = None
    reverts_at: float | None = None
    proofs: tuple[Proof, ...] = ()
    timings: dict[str, float] = {}
    """Convergence stopwatch: seconds from the command until each layer was met."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """The run waits for a human. `choices` are (answer, what it means); at `until` it goes on as if `default` had been said."""

    id: int
    text: str
    choices: tuple[tuple[str, str], ...]
    default: str
    until: float


class RunState(StrEnum):
    """What a run is doing as a whole."""

    RUNNING = "running"
    ASKING = "asking"
    CANCELLING = "cancelling"
    ENDED = "ended"


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    """Nothing was changed."""
    ROLLED_BACK = "rolled back"
    STOPPED = "stopped"
    """Some steps are done and stay; the others were not begun or taken back."""
    REFUSED = "refused"
    NO_EVIDENCE = "evidence insufficient"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"
    """The node could not be asked; the words say what it does by itself."""

    @property
    def exit_code(self) -> int:
        """What the command line returns."""
        return _EXIT_CODES.get(self, 1)


_EXIT_CODES = {Outcome.DONE: 0, Outcome.REFUSED: 3, Outcome.NO_EVIDENCE: 4, Outcome.CONFLICT: 5}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A plan being carried out, or carried out. `steps` are in the order of the plan's."""

    id: str
    plan: Plan
    operator: Operator
    began_at: float
    guards: tuple[GuardVerdict, ...] = ()
    overrides: dict[str, str] = {}
    acknowledged: dict[str, str] = {}
    """What guards asked, and a human has looked at. It overrides nothing: a guard that refuses later still refuses."""
    state: RunState = RunState.RUNNING
    steps: tuple[StepRun, ...] = ()
    question: Question | None = None
    outcome: Outcome | None = None
    words: str = ""
    ended_at: float | None = None
