"""Carries out a plan: gate, guards, journal, apply unconfirmed, prove, look at the fleet again, confirm; else take it back.

A step that leaves nothing behind has nothing to confirm: its action performs it, from the guards' word until it is over. So is one that
is lasting, until all is proved: nothing takes it back, so it is said what of it was done.

It knows nothing of drains: what must be waited for, guarded and proved is the `Action`'s to say, hosts are reached through `Hands`.
Whatever fails, the host takes back by itself what was not confirmed; nothing here has to succeed for that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from anyconsole.actions.action import Action, Gate, Hands, NotBegunError, Standing
from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.journal import ChangeJournal
from anyconsole.actions.plan import Step
from anyconsole.actions.run import Outcome, Question, Run, RunState, StepRun, StepState
from anyconsole.drivers.transaction import Ended
from anyconsole.errors import AnyconsoleError, JournalError

__all__ = ["COMMAND_DEADLINE", "Runner", "refusal_outcome"]

_log = logging.getLogger(__name__)

COMMAND_DEADLINE = 20.0
"""Seconds one script may take; they are made of commands that take milliseconds."""

LOOK_DEADLINE = 5.0
"""Seconds in which every host concerned must have been looked at afresh; one that can't counts as serving nothing."""

MARGIN = 4.0
"""Seconds before the host takes a change back in which it is no longer confirmed."""

LINGER = 5.0
"""Seconds after a confirmation in which layers that are not required may still be met, for the stopwatch."""

GRACE = 15.0
"""Seconds beyond `hold` in which a host that was lost is still hoped to say what became of it."""

ASK_SECONDS = 300.0
"""Seconds a question waits for its answer."""

TICK = 0.25


class _Stopped(Exception):  # noqa: N818 - a way out of a step, told apart by its fields
    """A step came to its end without being done."""

    def __init__(self, state: StepState, words: str, outcome: Outcome) -> None:
        super().__init__(words)
        self.state = state
        self.words = words
        self.outcome = outcome


class _ScriptError(Exception):
    """A script ended with a status of its own and says why."""

    def __init__(self, ended: Ended, words: str) -> None:
        super().__init__(words)
        self.ended = ended

    @property
    def outcome(self) -> Outcome:
        return Outcome.CONFLICT if self.ended.is_conflict else Outcome.FAILED


class Runner:
    """One run of one plan. `run` is its newest value; `on_change` is called with every new one."""

    def __init__(
        self,
        run: Run,
        action: Action,
        hands: Hands,
        journal: ChangeJournal,
        on_change: Callable[[Run], None],
        *,
        parallel: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        steps = run.steps or tuple(StepRun() for _ in run.plan.steps)
        self.run = msgspec.structs.replace(run, steps=steps)
        self._action = action
        self._hands = hands
        self._journal = journal
        self._on_change = on_change
        self._parallel = max(1, parallel)
        self._clock = clock
        self._cancelled = asyncio.Event()
        self._failure: _Stopped | None = None
        self._questions = 0
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._asking = asyncio.Lock()
        self._unwritten = ""
        self.is_unattended = False
        """Nobody is there to answer: questions get their default."""

    # --- from outside

    def leave(self) -> None:
        """Nobody is there any more: questions get their default, and what leaves nothing behind ends at once."""
        self.is_unattended = True
        if not any(step.confirm or step.lasting for step in self.run.plan.steps):
            self.cancel()

    def cancel(self) -> None:
        """Take back what is unconfirmed and begin nothing more. What is confirmed stays."""
        if self.run.state is not RunState.ENDED and not self._cancelled.is_set():
            self._cancelled.set()
            self._show(state=RunState.CANCELLING)

    def answer(self, question: int, answer: str) -> None:
        """Answer the question that is shown. Raises AnyconsoleError if it isn't, or has no such choice."""
        shown = self.run.question
        if shown is None or shown.id != question or question not in self._answers:
            raise AnyconsoleError("this question is no longer asked")
        if answer not in {choice for choice, _ in shown.choices}:
            raise AnyconsoleError(f"{answer!r} is none of {', '.join(choice for choice, _ in shown.choices)}")
        if not self._answers[question].done():
            self._answers[question].set_result(answer)

    async def carry_out(self) -> Run:
        """Do it; returns the run as it ended. Never raises for what hosts do."""
        telling = asyncio.create_task(self._tell_cancelled(), name=f"run {self.run.id} cancelled")
        try:
            await self._lanes()
        except Exception as error:  # noqa: BLE001 - a fault of ours: what is unconfirmed reverts by itself, and it must be told
            _log.exception("run %s", self.run.id)
            self._failure = _Stopped(
                StepState.UNKNOWN, f"fault in the console: {type(error).__name__}: {error}", Outcome.UNKNOWN
            )
        for i, step in enumerate(self.run.steps):
            if step.state is StepState.WAITING:
                self._set(i, StepState.SKIPPED)
        if not self._was_cancelled:
            telling.cancel()
        await asyncio.wait({telling})
        outcome, words = self._result()
        self._show(state=RunState.ENDED, outcome=outcome, words=words, ended_at=self._clock(), question=None)
        try:
            await asyncio.to_thread(self._journal.close, self.run)
        except JournalError as error:
            self._unwritten = str(error)
        if self._unwritten:
            self._show(words=f"{words}. The journal is not complete: {self._unwritten}")
        return self.run

    async def _tell_cancelled(self) -> None:
        await self._cancelled.wait()
        try:
            words = "nobody is there any more" if self.is_unattended else ""
            await asyncio.to_thread(lambda: self._journal.record("cancelled", words=words))
        except JournalError as error:
            _log.error("run %s, cancelled: %s", self.run.id, error)
            self._unwritten = str(error)

    def _result(self) -> tuple[Outcome, str]:
        states = [step.state for step in self.run.steps]
        done = states.count(StepState.DONE)
        if self._failure is None and done == len(states):
            if any(step.confirm for step in self.run.plan.steps):
                return Outcome.DONE, f"{done} of {done} steps done and confirmed"
            if any(step.lasting for step in self.run.plan.steps):
                return Outcome.DONE, f"{done} of {done} steps done and proved"
            return Outcome.DONE, "; ".join(step.words for step in self.run.steps)
        failure = self._failure or _Stopped(StepState.SKIPPED, "cancelled", Outcome.STOPPED)
        outcome = failure.outcome
        if outcome in (Outcome.FAILED, Outcome.ROLLED_BACK, Outcome.STOPPED):
            if done:
                outcome = Outcome.STOPPED
            elif StepState.REVERTED in states:
                outcome = Outcome.ROLLED_BACK
        stays = f"; {done} of {len(states)} steps are done and stay" if done else ""
        return outcome, failure.words + stays

    @property
    def _was_cancelled(self) -> bool:
        return self._cancelled.is_set()

    # --- the order of things

    async def _lanes(self) -> None:
        """One host (or cluster) at a time, the first alone as canary; the others up to `parallel` at once. A plan in order is one lane."""
        plan = self.run.plan
        lanes: dict[str, list[int]] = {}
        for i, step in enumerate(plan.steps):
            lanes.setdefault("" if plan.in_order else step.place, []).append(i)
        canary, *others = lanes.values()
        await self._lane(canary)
        slots = asyncio.Semaphore(self._parallel)

        async def one(lane: list[int]) -> None:
            async with slots:
                await self._lane(lane)

        async with asyncio.TaskGroup() as tasks:
            for lane in others:
                tasks.create_task(one(lane))

    async def _lane(self, indexes: Sequence[int]) -> None:
        for place, i in enumerate(indexes):
            if self._failure is not None or self._was_cancelled:
                return
            try:
                await self._step(i, indexes[place - 1] if place else None)
            except _Stopped as stopped:
                self._set(i, stopped.state, words=stopped.words, ended_at=self._clock(), reverts_at=None)
                self._fail(stopped)
                return

    def _fail(self, stopped: _Stopped) -> None:
        """The first failure is the one that counts."""
        self._failure = self._failure or stopped

    async def _step(self, i: int, before: int | None) -> None:
        step = self.run.plan.steps[i]
        await self._wait_for_gate(i, step, before)
        self._set(i, StepState.CHECKING)
        guards = await self._guards([step])
        self._show(guards=tuple(guards))
        self._refuse_or_go_on(i, guards)
        self._stop_if_over()
        try:
            await self._must_note(i, "applying", script=step.apply, guards=guards)
        except JournalError as error:
            raise _Stopped(StepState.FAILED, f"not begun: {error}", Outcome.FAILED) from error
        began = self._clock()
        if not step.confirm:
            await self._perform(i, step, began)
            return
        self._set(i, StepState.APPLYING, began_at=began, reverts_at=began + step.hold)
        try:
            lost = await self._command(i, "applied", step.apply)
        except _ScriptError as failed:
            if failed.ended is Ended.REFUSED:  # the daemon was told, and what it made of it is not sure
                await self._take_back(i, step, str(failed), Outcome.ROLLED_BACK, began)
            raise _Stopped(StepState.FAILED, str(failed), failed.outcome) from None
        if lost:
            await self._recover(i, step, lost, began)
            if self.run.steps[i].state is StepState.DONE:
                return
        await self._verify(i, step, began)
        await self._confirm(i, step, began)

    # --- before

    async def _wait_for_gate(self, i: int, step: Step, before: int | None) -> None:
        """Until the gate is open. What the host's step before is still to bring about (its traffic leaves) is timed meanwhile."""
        while not (gate := self._action.gate(step, self._clock())).is_open:
            self._set(i, StepState.WAITING, words=gate.words)
            self._time_on(before)
            if gate.ask:
                answer = await self._ask(gate)
                await self._note(i, "answered", words=f"{gate.ask} - {answer}")
                if answer == "go":
                    return
                if answer == gate.default:
                    raise _Stopped(StepState.SKIPPED, f"{gate.ask} - {answer}", Outcome.STOPPED)
            self._stop_if_over()
            await self._until(self._cancelled.wait(), 1.0)
        self._stop_if_over()
        if before is not None and self._time_on(before):
            then = self.run.steps[before]
            await self._note(before, "watched", proofs=then.proofs, timings=then.timings)

    def _time_on(self, i: int | None) -> bool:
        """Look at the layers of a step that is done and goes on having effects; returns whether there was any."""
        began = self.run.steps[i].began_at if i is not None else None
        if i is None or began is None:
            return False
        self._prove(i, self.run.plan.steps[i], began)
        return True

    def _stop_if_over(self) -> None:
        """Raises _Stopped once nothing more is to be begun."""
        if self._was_cancelled:
            raise _Stopped(StepState.SKIPPED, "cancelled before it began", Outcome.STOPPED)
        if self._failure is not None:
            raise _Stopped(StepState.SKIPPED, "not begun, as another step failed", Outcome.STOPPED)

    async def _ask(self, gate: Gate) -> str:
        """Ask a human; the default after a while, when cancelled, or when nobody is there."""
        if self.is_unattended:
            return gate.default
        async with self._asking:
            self._questions += 1
            number = self._questions
            question = Question(
                id=number, text=gate.ask, choices=gate.choices, default=gate.default, until=self._clock() + ASK_SECONDS
            )
            answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._answers[number] = answer
            self._show(state=RunState.ASKING, question=question)
            try:
                while not answer.done() and self._is_heard(question):
                    await asyncio.wait({answer}, timeout=TICK)
            finally:
                del self._answers[number]
                self._show(state=RunState.CANCELLING if self._was_cancelled else RunState.RUNNING, question=None)
            return answer.result() if answer.done() else gate.default

    def _is_heard(self, question: Question) -> bool:
        return not self._was_cancelled and not self.is_unattended and self._clock() < question.until

    async def _guards(self, steps: Sequence[Step], *, unconfirmed: bool = False) -> list[GuardVerdict]:
        witnesses = self._action.witnesses(steps)
        seen = await self._hands.look(witnesses, LOOK_DEADLINE)
        return self._action.guards(steps, self._clock(), unconfirmed=unconfirmed, unseen=witnesses - seen)

    def _refusals(self, guards: Sequence[GuardVerdict]) -> list[GuardVerdict]:
        return [g for g in guards if g.refuses and not (g.overridable and self.run.overrides.get(g.name))]

    def _refuse_or_go_on(self, i: int, guards: Sequence[GuardVerdict]) -> None:
        refused = self._refusals(guards)
        if refused:
            words = "; ".join(f"{g.name}: {g.numbers}" for g in refused)
            self._set(i, StepState.REFUSED, words=words)
            raise _Stopped(StepState.REFUSED, words, refusal_outcome(refused))

    # --- instead of all that follows

    async def _perform(self, i: int, step: Step, began: float) -> None:
        """Let the action do it, until it is over or cancelled; what lasts is proved meanwhile, and has `hold` seconds for it."""
        self._set(i, StepState.PERFORMING, began_at=began)
        performing = asyncio.create_task(
            self._action.perform(step, lambda words: self._set(i, StepState.PERFORMING, words=words)),
            name=f"perform {step.title}",
        )
        cancelled = asyncio.create_task(self._cancelled.wait(), name="cancelled")
        is_late = False
        try:
            while not (performing.done() or cancelled.done() or is_late):
                tick = TICK if step.lasting else None
                await asyncio.wait((performing, cancelled), timeout=tick, return_when=asyncio.FIRST_COMPLETED)
                is_late = step.lasting and not self._prove(i, step, began) and self._clock() > began + step.hold
        finally:
            cancelled.cancel()
            performing.cancel()  # of no effect where it is over
        await asyncio.wait((performing,))
        done = self.run.steps[i]
        stays = f"; what of it was done stays ({done.words or 'nothing'})" if step.lasting else ""
        if performing.cancelled() and not is_late:
            await self._note(i, "ended", words=f"cancelled{stays}")
            raise _Stopped(StepState.CANCELLED, f"cancelled{stays}", Outcome.STOPPED)
        error = None if performing.cancelled() else performing.exception()
        if isinstance(error, NotBegunError):
            await self._note(i, "failed", words=str(error))
            raise _Stopped(StepState.FAILED, str(error), error.outcome)
        if isinstance(error, AnyconsoleError):
            await self._note(i, "failed", words=f"{error}{stays}")
            raise _Stopped(StepState.FAILED, f"{error}{stays}", Outcome.STOPPED if step.lasting else Outcome.FAILED)
        words = "" if performing.cancelled() else performing.result()
        missing = [f"{p.layer}: {p.words}" for p in done.proofs if p.required and not p.met]
        if step.lasting and missing:
            words = f"not proved within {self._clock() - began:.0f} s: {'; '.join(missing)}{stays}"
            await self._note(i, "failed", words=words, proofs=done.proofs, timings=done.timings)
            raise _Stopped(StepState.FAILED, words, Outcome.STOPPED)
        if step.lasting:
            timings = {**done.timings, "from confirmation": round(self._clock() - self.run.began_at, 2)}
            done = msgspec.structs.replace(done, timings=timings)
        self._set(i, StepState.DONE, words=words, ended_at=self._clock(), timings=done.timings)
        await self._note(i, "done", words=words, proofs=done.proofs, timings=done.timings)

    # --- in between

    async def _verify(self, i: int, step: Step, began: float) -> None:
        """Wait until every required layer is met; else take it back."""
        self._set(i, StepState.VERIFYING)
        deadline = began + step.hold - MARGIN
        while not self._prove(i, step, began):
            if self._was_cancelled:
                await self._take_back(i, step, "cancelled", Outcome.ROLLED_BACK, began)
            if self._clock() > deadline:
                missing = [p.words for p in self.run.steps[i].proofs if p.required and not p.met]
                await self._take_back(i, step, f"not proved in time: {'; '.join(missing)}", Outcome.ROLLED_BACK, began)
            await self._until(self._cancelled.wait(), TICK)
        guards = await self._guards([step], unconfirmed=True)
        self._show(guards=tuple(guards))
        if self._was_cancelled:
            await self._take_back(i, step, "cancelled", Outcome.ROLLED_BACK, began)
        if refused := self._refusals(guards):
            words = "; ".join(f"{g.name}: {g.numbers}" for g in refused)
            # The same guards agreed a moment ago: the fleet changed meanwhile, or can't be seen any more.
            outcome = Outcome.NO_EVIDENCE if refusal_outcome(refused) is Outcome.NO_EVIDENCE else Outcome.CONFLICT
            await self._take_back(i, step, f"the fleet changed meanwhile: {words}", outcome, began)
        proved = self.run.steps[i]
        await self._note(i, "verified", guards=guards, proofs=proved.proofs, timings=proved.timings)

    def _prove(self, i: int, step: Step, began: float) -> bool:
        """Look at the layers; returns whether all that are required are met."""
        now = self._clock()
        before = self.run.steps[i]
        old = {p.layer: p for p in before.proofs}
        proofs, timings = [], dict(before.timings)
        for proof in self._action.proofs(step, now):
            was = old.get(proof.layer)
            since = was.since if was is not None and was.met is proof.met else now
            proofs.append(msgspec.structs.replace(proof, since=since))
            if proof.met:
                timings.setdefault(proof.layer, round(now - began, 2))
            else:
                timings.pop(proof.layer, None)
        self._set(i, before.state, proofs=tuple(proofs), timings=timings)
        return all(p.met for p in proofs if p.required)

    async def _confirm(self, i: int, step: Step, began: float) -> None:
        if self._clock() > began + step.hold - MARGIN:
            await self._take_back(i, step, "proved too late to be confirmed safely", Outcome.ROLLED_BACK, began)
        try:
            await self._must_note(i, "confirming", script=step.confirm)
        except JournalError as error:
            await self._take_back(i, step, str(error), Outcome.ROLLED_BACK, began)
        self._set(i, StepState.CONFIRMING)
        try:
            lost = await self._command(i, "confirmed", step.confirm)
        except _ScriptError as failed:
            await self._take_back(i, step, str(failed), failed.outcome, began)
        else:
            if lost:
                await self._recover(i, step, lost, began)
                if self.run.steps[i].state is not StepState.DONE:
                    await self._confirm(i, step, began)
                    return
        self._set(i, StepState.DONE, reverts_at=None)
        is_last = all(later.host != step.host for later in self.run.plan.steps[i + 1 :])
        end = self._clock() + (LINGER if is_last else 0.0)
        while not self._was_cancelled and self._clock() < end:
            self._prove(i, step, began)
            if all(p.met is not False for p in self.run.steps[i].proofs):
                break
            await self._until(self._cancelled.wait(), TICK)
        self._set(i, StepState.DONE, ended_at=self._clock())
        done = self.run.steps[i]
        await self._note(i, "done", proofs=done.proofs, timings=done.timings)

    async def _take_back(self, i: int, step: Step, why: str, outcome: Outcome, began: float) -> None:
        """Revert what is unconfirmed. Always raises _Stopped."""
        self._set(i, StepState.REVERTING, words=why)
        await self._note(i, "reverting", words=why, script=step.revert)
        try:
            lost = await self._command(i, "reverted", step.revert)
        except _ScriptError as failed:
            lost = f"taking it back: {failed}"
        if lost:
            why = f"{why}; {lost}"
            await self._recover(i, step, why, began, wanted=Standing.BEFORE)
            raise _Stopped(StepState.DONE, f"{why}; but it is confirmed on {step.host}", Outcome.STOPPED)
        raise _Stopped(StepState.REVERTED, why, outcome)

    # --- commands and what becomes of them

    async def _command(self, i: int, event: str, script: str) -> str:
        """Run a script; returns "" or why it isn't known whether it ran. Raises _ScriptError if it says why it didn't."""
        host = self.run.plan.steps[i].host
        try:
            said = await self._hands.execute(host, script, COMMAND_DEADLINE)
        except AnyconsoleError as error:
            await self._note(i, "lost", words=str(error))
            return str(error)
        output = said.stdout.decode("utf-8", "replace") + said.stderr.decode("utf-8", "replace")
        words = _last_line(said.stdout) or _last_line(said.stderr) or f"exit status {said.exit_status}"
        await self._note(i, event if said.exit_status == 0 else "failed", exit_status=said.exit_status, output=output)
        self._set(i, self.run.steps[i].state, words=words)
        if said.exit_status == 0:
            return ""
        try:
            ended = Ended(said.exit_status)
        except ValueError:
            # 127, 137 and the like: the shell itself failed, so how far it came is not known.
            return f"{host}: exit status {said.exit_status}: {words}"
        raise _ScriptError(ended, words)

    async def _recover(self, i: int, step: Step, why: str, began: float, wanted: Standing = Standing.CONFIRMED) -> None:
        """The host was lost in the middle: find out where it stands, until it has taken back by itself what was not confirmed.

        Returns if the step may go on (it is unconfirmed still, or done). Raises _Stopped otherwise.
        """
        self._set(i, self.run.steps[i].state, words=f"{why}; looking where it stands")
        end = began + step.hold + GRACE
        standing = Standing.UNKNOWN
        while self._clock() < end:
            seen = await self._hands.look({step.host}, LOOK_DEADLINE)
            standing = self._action.standing(step, self._clock()) if step.host in seen else Standing.UNKNOWN
            await self._note(i, "found", words=str(standing))
            if standing is Standing.CONFIRMED:
                self._set(i, StepState.DONE, reverts_at=None, ended_at=self._clock())
                return
            if standing is Standing.UNCONFIRMED and wanted is Standing.CONFIRMED and not self._was_cancelled:
                if self._clock() < began + step.hold - MARGIN:
                    return
            elif standing is Standing.BEFORE:
                raise _Stopped(StepState.REVERTED, f"{why}; {step.host} is as before", Outcome.ROLLED_BACK)
            elif standing is Standing.OTHER:
                raise _Stopped(StepState.FAILED, f"{why}; {step.host} was changed by somebody else", Outcome.CONFLICT)
            await asyncio.sleep(1.0)
        unless = "Unless the confirmation reached it, it" if self.run.steps[i].state is StepState.CONFIRMING else "It"
        words = f"{why}; {step.host} can't be asked. {unless} has taken the change back by itself by now"
        raise _Stopped(StepState.UNKNOWN, words, Outcome.UNKNOWN)

    # --- telling

    async def _must_note(self, i: int, event: str, **fields: object) -> None:
        """Write to the journal. Raises JournalError: then what was about to be done must not be done."""
        host = self.run.plan.steps[i].host
        await asyncio.to_thread(lambda: self._journal.record("step", step=i, host=host, event=event, **fields))

    async def _note(self, i: int, event: str, **fields: object) -> None:
        """Write to the journal what has happened already; that it can't be written is told at the end, and changes nothing."""
        try:
            await self._must_note(i, event, **fields)
        except JournalError as error:
            _log.error("run %s, %s: %s", self.run.id, event, error)
            self._unwritten = str(error)

    def _set(self, i: int, state: StepState, **fields: object) -> None:
        steps = list(self.run.steps)
        steps[i] = msgspec.structs.replace(steps[i], state=state, **fields)
        self._show(steps=tuple(steps))

    def _show(self, **fields: object) -> None:
        new = msgspec.structs.replace(self.run, **fields)
        if new != self.run:
            self.run = new
            self._on_change(new)

    async def _until(self, thing: Coroutine[Any, Any, Any] | Awaitable[Any], seconds: float) -> bool:
        """True if `thing` happened within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await thing
        except TimeoutError:
            return False
        return True


def refusal_outcome(refused: Sequence[GuardVerdict]) -> Outcome:
    """What a refusal is called: too little evidence, somebody else's change, or just a guard's no."""
    names = {g.name for g in refused}
    # What else is refused then is told by old evidence: what is pending may be our own last step.
    if "evidence" in names:
        return Outcome.NO_EVIDENCE
    return Outcome.CONFLICT if "pending" in names else Outcome.REFUSED


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]
