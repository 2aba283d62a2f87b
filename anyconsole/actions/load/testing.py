"""Load tests as an action: what the runner asks of it, one test for each target of the plan."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from anyconsole.actions.action import Gate, Standing
from anyconsole.actions.guards import GuardVerdict, Outcome
from anyconsole.actions.load import guards as load_guards
from anyconsole.actions.load.files import runs_folder
from anyconsole.actions.load.jobs import Note
from anyconsole.actions.load.request import asked_of, request_of, targets_of
from anyconsole.actions.load.rig import LoadHands
from anyconsole.actions.load.selftest import SelfTests
from anyconsole.actions.load.target_test import TargetTest
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Proof
from anyconsole.errors import AnyconsoleError, JournalError
from anyconsole.model.load_view import LoadView
from anyconsole.model.store import FleetStore

__all__ = ["LoadTesting"]


class LoadTesting:
    """The action of one load test's plan."""

    def __init__(
        self,
        store: FleetStore,
        plan: Plan,
        hands: LoadHands,
        on_view: Callable[[LoadView], None],
        *,
        change: str = "",
        clock: Callable[[], float] = time.time,
        self_tests: SelfTests | None = None,
        note: Note | None = None,
    ) -> None:
        """`self_tests` are those of the session; without them each generator is tested anew. `note` writes to the change's journal."""
        self._note = note or _no_journal
        self._store = store
        self._plan = plan
        self._change = change
        self._request = asked_of(plan)
        self._hands = hands
        self._on_view = on_view
        self._clock = clock
        self._self_tests = self_tests or SelfTests(clock)
        self._test: TargetTest | None = None

    def adjusted(self, factor: float) -> tuple[float, float]:
        """The rate of the fixed run that runs, and what `factor` makes of it, under its cap. Raises AnyconsoleError."""
        return self._running().adjusted(factor)

    def adjust(self, rate: float) -> None:
        """Go on with a fixed run at a rate that `adjusted` told. Raises AnyconsoleError."""
        self._running().adjust(rate)

    def _running(self) -> TargetTest:
        if self._test is None:
            raise AnyconsoleError("no load test runs now")
        return self._test

    # --- what the runner asks

    def witnesses(self, steps: Sequence[Step]) -> set[str]:
        """The nodes under test."""
        return {step.host for step in steps}

    def guards(
        self, steps: Sequence[Step], now: float, *, unconfirmed: bool = False, unseen: Collection[str] = ()
    ) -> list[GuardVerdict]:
        """The guards of `guards`, on these steps' targets."""
        assert not unconfirmed  # noqa: S101 - a load test leaves nothing to be confirmed
        request = msgspec.structs.replace(self._request, targets=tuple(step.part for step in steps))
        plan = msgspec.structs.replace(self._plan, request=msgspec.to_builtins(request))
        verdicts = load_guards.evaluate(self._store, plan, now)
        if blind := sorted(set(unseen)):
            words = f"{', '.join(blind)} can't be seen"
            verdicts.append(GuardVerdict(name="evidence", outcome=Outcome.REFUSE, numbers=words, overridable=False))
        return verdicts

    def gate(self, step: Step, now: float) -> Gate:  # noqa: ARG002
        """Nothing has to be waited for."""
        return Gate(is_open=True)

    def proofs(self, step: Step, now: float) -> tuple[Proof, ...]:  # noqa: ARG002
        """Nothing is left that would have to be proved."""
        return ()

    def standing(self, step: Step, now: float) -> Standing:  # noqa: ARG002
        """A load test changes nothing: whatever became of it, its node is as it was."""
        return Standing.BEFORE

    async def inspect(self, step: Step) -> str:  # noqa: ARG002
        """Nothing of it is left anywhere."""
        return ""

    async def perform(self, step: Step, say: Callable[[str], None]) -> str:
        """Test one target; returns its result in words. Raises AnyconsoleError."""
        target = next(t for t in targets_of(self._store, self._request) if t.name == step.part)
        self._test = TargetTest(
            self._store,
            self._plan,
            request_of(self._plan, step),
            target,
            self._hands,
            self._on_view,
            say,
            change=self._change,
            clock=self._clock,
            self_tests=self._self_tests,
            note=self._note,
        )
        try:
            return await self._test.carry_out(await asyncio.to_thread(runs_folder, self._store.inventory))
        finally:
            self._test = None


def _no_journal(kind: str, **_: Any) -> None:  # noqa: ANN401 - as in Note
    raise JournalError(f"this load test has no journal: {kind} can't be written to it")
