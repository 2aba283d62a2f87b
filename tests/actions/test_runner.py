"""The runner against scripted hosts: whatever fails, and wherever it is cut, nothing stays half done and the journal tells it.

Hosts are scripted here because every failure at every moment is wanted; the same runner meets real daemons in tests/e2e.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec
import pytest

from anyconsole.actions import runner as runner_module
from anyconsole.actions.action import Gate, NotBegunError, Standing
from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.guards import Outcome as GuardOutcome
from anyconsole.actions.journal import Journal
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Operator, Outcome, Proof, Run, RunState, StepState
from anyconsole.actions.runner import Runner
from anyconsole.drivers.transaction import Ended
from anyconsole.errors import AnyconsoleError, JournalError


class Said(msgspec.Struct, frozen=True):
    exit_status: int = 0
    stdout: bytes = b"done\n"
    stderr: bytes = b""


class Node:
    """A host with one number that is applied unconfirmed, confirmed, or taken back; `script` is called before every command."""

    def __init__(self) -> None:
        self.standing: dict[str, Standing] = {}
        self.ran: list[str] = []
        self.before: Callable[[str], Said | None] = lambda _: None
        self.after: Callable[[str], None] = lambda _: None
        self.blind: set[str] = set()

    async def execute(self, host: str, script: str, deadline: float) -> Said:  # noqa: ARG002
        self.ran.append(f"{host} {script}")
        if (said := self.before(f"{host} {script}")) is not None:
            return said
        wanted = {"apply": Standing.UNCONFIRMED, "confirm": Standing.CONFIRMED, "revert": Standing.BEFORE}
        self.standing[host] = wanted[script.split(maxsplit=1)[0]]
        self.after(f"{host} {script}")
        return Said()

    async def look(self, hosts: Collection[str], deadline: float) -> set[str]:  # noqa: ARG002
        return set(hosts) - self.blind


class Scripted:
    """An action whose guards, gate and proofs are what the test says."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.verdicts: Callable[[bool, Collection[str]], list[GuardVerdict]] = lambda _u, _s: []
        self.gates: list[Gate] = []
        self.met: Callable[[Step], bool | None] = lambda _: True
        self.performed: list[str] = []
        self.may_end = asyncio.Event()
        self.fault: Exception | None = None

    def witnesses(self, steps: Sequence[Step]) -> set[str]:
        return {step.host for step in steps} | {"other"}

    def guards(
        self, steps: Sequence[Step], now: float, *, unconfirmed: bool = False, unseen: Collection[str] = ()
    ) -> list[GuardVerdict]:
        assert steps
        assert now > 0
        return self.verdicts(unconfirmed, unseen)

    async def perform(self, step: Step, say: Callable[[str], None]) -> str:
        say("at it")
        self.performed.append(step.host)
        if self.fault is not None:
            raise self.fault
        await self.may_end.wait()
        return "it is over"

    def gate(self, step: Step, now: float) -> Gate:  # noqa: ARG002
        return self.gates.pop(0) if self.gates else Gate(is_open=True)

    def proofs(self, step: Step, now: float) -> tuple[Proof, ...]:  # noqa: ARG002
        return (Proof(layer="daemon", met=self.met(step), words="as planned", required=True),)

    async def inspect(self, step: Step) -> str:
        return f"{step.host} was asked"

    def standing(self, step: Step, now: float) -> Standing:  # noqa: ARG002
        return self.node.standing.get(step.host, Standing.BEFORE)


REFUSAL = GuardVerdict(name="floor", outcome=GuardOutcome.REFUSE, numbers="1 node left, 2 are wanted")


def step(host: str, number: int = 1) -> Step:
    return Step(
        host=host,
        title=f"step {number}",
        apply=f"apply {number}",
        confirm=f"confirm {number}",
        revert=f"revert {number}",
        hold=30,
    )


class Bench:
    """A runner on scripted hosts with a real journal."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder)
        self.node = Node()
        self.action = Scripted(self.node)
        self.seen: list[Run] = []

    def runner(
        self,
        *hosts: str,
        parallel: int = 1,
        overrides: dict[str, str] | None = None,
        leaves: bool = True,
        in_order: bool = False,
    ) -> Runner:
        steps = tuple(step(h, i) for i, h in enumerate(hosts, start=1))
        if not leaves:
            steps = tuple(msgspec.structs.replace(s, confirm="", revert="") for s in steps)
        plan = Plan(action="test", title="a test", profile="paper", made_at=1.0, reason="to see", steps=steps)
        plan = msgspec.structs.replace(plan, in_order=in_order)
        run = Run(id="", plan=plan, operator=Operator(user="op", host="here"), began_at=1.0, overrides=overrides or {})
        change = self.journal.open_change(run)
        run = msgspec.structs.replace(run, id=change.id)
        return Runner(run, self.action, self.node, change, self.seen.append, parallel=parallel)

    def events(self) -> list[str]:
        (change,) = self.journal.changes()
        return [str(r.fields.get("event", r.kind)) for r in change.records]

    @property
    def outcome(self) -> str:
        (change,) = self.journal.changes()
        return change.outcome


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(runner_module, "TICK", 0.01)
    monkeypatch.setattr(runner_module, "LINGER", 0.05)
    return Bench(tmp_path / "journal")


async def test_a_step_is_journalled_before_and_after_each_of_its_commands(bench: Bench) -> None:
    run = await bench.runner("fra1").carry_out()
    assert (run.outcome, run.state) == (Outcome.DONE, RunState.ENDED)
    assert bench.node.ran == ["fra1 apply 1", "fra1 confirm 1"]
    assert bench.events() == [
        "opened", "applying", "applied", "verified", "confirming", "confirmed", "done", "closed",
    ]  # fmt: skip
    assert bench.outcome == "done"


async def test_a_refused_guard_touches_nothing(bench: Bench) -> None:
    bench.action.verdicts = lambda _u, _s: [REFUSAL]
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.REFUSED
    assert bench.node.ran == []
    assert run.outcome.exit_code == 3


async def test_an_override_lets_it_pass_and_is_in_the_journal(bench: Bench) -> None:
    bench.action.verdicts = lambda _u, _s: [REFUSAL]
    run = await bench.runner("fra1", overrides={"floor": "the rack burns"}).carry_out()
    assert run.outcome is Outcome.DONE
    (change,) = bench.journal.changes()
    assert change.overrides == {"floor": "the rack burns"}


async def test_what_was_only_looked_at_overrides_no_refusal(bench: Bench) -> None:
    runner = bench.runner("fra1")
    runner.run = msgspec.structs.replace(runner.run, acknowledged={"floor": "2 nodes left"})
    bench.action.verdicts = lambda _u, _s: [REFUSAL]
    assert (await runner.carry_out()).outcome is Outcome.REFUSED
    assert bench.node.ran == []


async def test_what_can_not_be_overridden_is_refused_whatever_is_typed(bench: Bench) -> None:
    bench.action.verdicts = lambda _u, _s: [msgspec.structs.replace(REFUSAL, overridable=False)]
    run = await bench.runner("fra1", overrides={"floor": "the rack burns"}).carry_out()
    assert run.outcome is Outcome.REFUSED
    assert bench.node.ran == []


async def test_a_fleet_that_changed_meanwhile_is_never_confirmed(bench: Bench) -> None:
    bench.action.verdicts = lambda unconfirmed, _s: [REFUSAL] if unconfirmed else []
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.CONFLICT
    assert bench.node.ran == ["fra1 apply 1", "fra1 revert 1"]
    assert bench.node.standing["fra1"] is Standing.BEFORE


async def test_guards_are_told_which_hosts_could_not_be_seen(bench: Bench) -> None:
    told: list[Collection[str]] = []
    bench.node.blind = {"other"}

    def verdicts(_unconfirmed: bool, unseen: Collection[str]) -> list[GuardVerdict]:
        told.append(unseen)
        return []

    bench.action.verdicts = verdicts
    await bench.runner("fra1").carry_out()
    assert told == [{"other"}, {"other"}]


async def test_what_is_not_proved_in_time_is_taken_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "MARGIN", 29.9)
    bench.action.met = lambda _: False
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.ROLLED_BACK
    assert bench.node.ran[-1] == "fra1 revert 1"
    assert run.steps[0].state is StepState.REVERTED


@pytest.mark.parametrize("moment", ["applying", "verifying"])
async def test_cancel_takes_back_what_is_unconfirmed(bench: Bench, moment: str) -> None:
    runner = bench.runner("fra1", "ams1")
    if moment == "applying":
        bench.node.after = lambda _: runner.cancel()
    else:
        bench.action.met = lambda _: runner.cancel()
    run = await runner.carry_out()
    assert run.outcome is Outcome.ROLLED_BACK
    assert bench.node.ran == ["fra1 apply 1", "fra1 revert 1"]
    assert [s.state for s in run.steps] == [StepState.REVERTED, StepState.SKIPPED]


async def test_cancel_after_a_confirmed_step_leaves_it_and_begins_no_other(bench: Bench) -> None:
    runner = bench.runner("fra1", "ams1")
    bench.node.after = lambda command: runner.cancel() if "confirm" in command else None
    run = await runner.carry_out()
    assert run.outcome is Outcome.STOPPED
    assert bench.node.standing == {"fra1": Standing.CONFIRMED}


@pytest.mark.parametrize(
    ("refused", "outcome"),
    [
        (["floor"], Outcome.REFUSED),
        (["floor", "pending"], Outcome.CONFLICT),
        (["evidence", "pending"], Outcome.NO_EVIDENCE),  # pending is our own last step, seen before the node was lost
    ],
)
async def test_a_refusal_is_called_by_what_is_known(bench: Bench, refused: list[str], outcome: Outcome) -> None:
    bench.action.verdicts = lambda _unconfirmed, _unseen: [msgspec.structs.replace(REFUSAL, name=n) for n in refused]
    assert (await bench.runner("fra1").carry_out()).outcome is outcome
    assert bench.node.ran == []


async def test_the_first_host_is_a_canary_and_the_first_failure_stops_the_rest(bench: Bench) -> None:
    bench.node.before = lambda command: Said(int(Ended.BAD_CONFIG), b"BIRD refuses it\n") if "fra1" in command else None
    run = await bench.runner("fra1", "ams1", "sin1", parallel=3).carry_out()
    assert run.outcome is Outcome.FAILED
    assert run.words == "BIRD refuses it"
    assert bench.node.ran == ["fra1 apply 1"]


async def test_hosts_after_the_canary_go_in_parallel_if_asked(bench: Bench) -> None:
    most = 0
    at_work: set[str] = set()

    async def execute(host: str, script: str, deadline: float) -> Said:
        nonlocal most
        at_work.add(host)
        most = max(most, len(at_work))
        await asyncio.sleep(0.02)
        at_work.discard(host)
        return await Node.execute(bench.node, host, script, deadline)

    bench.node.execute = execute  # type: ignore[method-assign]
    run = await bench.runner("fra1", "ams1", "sin1", "lon1", parallel=2).carry_out()
    assert run.outcome is Outcome.DONE
    assert most == 2
    assert bench.node.ran[:2] == ["fra1 apply 1", "fra1 confirm 1"]


async def test_a_host_that_waits_at_its_gate_does_not_begin_after_another_failed(bench: Bench) -> None:
    """fra1 goes first; then ams1 fails while sin1 still waits for its traffic to leave."""
    closed = Gate(is_open=False, words="traffic")
    gates = {"sin1": [closed]}
    bench.action.gate = lambda step, now: (gates.get(step.host) or [Gate(is_open=True)]).pop(0)  # type: ignore[method-assign] # noqa: ARG005
    bench.node.before = lambda ran: Said(int(Ended.BAD_CONFIG)) if ran.startswith("ams1") else None
    run = await bench.runner("fra1", "ams1", "sin1", parallel=2).carry_out()
    assert [s.state for s in run.steps] == [StepState.DONE, StepState.FAILED, StepState.SKIPPED]
    assert not any(ran.startswith("sin1") for ran in bench.node.ran)


async def test_a_cancelled_change_says_so_when_it_happens(bench: Bench) -> None:
    runner = bench.runner("fra1")
    bench.node.after = lambda _: runner.cancel()
    await runner.carry_out()
    assert bench.events().index("cancelled") < bench.events().index("closed")


async def test_steps_in_order_go_from_host_to_host_and_back_whatever_may_be_parallel(bench: Bench) -> None:
    bench.action.may_end.set()
    ended = await bench.runner("a", "b", "b", "a", parallel=4, leaves=False, in_order=True).carry_out()
    assert ended.outcome is Outcome.DONE
    assert bench.action.performed == ["a", "b", "b", "a"]


@pytest.mark.parametrize("ended", [Ended.LOCKED, Ended.STALE, Ended.PENDING])
async def test_another_operator_is_a_conflict(bench: Bench, ended: Ended) -> None:
    bench.node.before = lambda _: Said(int(ended), b"somebody else is at it\n")
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.CONFLICT
    assert run.outcome.exit_code == 5


async def test_a_daemon_that_did_not_do_as_told_is_taken_back(bench: Bench) -> None:
    bench.node.before = lambda command: (
        Said(int(Ended.REFUSED), b"serial 4 after all\n") if "apply" in command else None
    )
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.ROLLED_BACK
    assert bench.node.ran == ["fra1 apply 1", "fra1 revert 1"]


async def test_hosts_that_share_what_is_changed_are_never_done_in_parallel(bench: Bench) -> None:
    runner = bench.runner("fra1", "hv1", "hv2", "hv1", parallel=3)
    steps = tuple(
        msgspec.structs.replace(s, lane="k3s" if s.host.startswith("hv") else "") for s in runner.run.plan.steps
    )
    runner.run = msgspec.structs.replace(runner.run, plan=msgspec.structs.replace(runner.run.plan, steps=steps))
    assert (await runner.carry_out()).outcome is Outcome.DONE
    assert bench.node.ran[2:] == [
        f"hv{n} {verb} {i}" for i, n in ((2, 1), (3, 2), (4, 1)) for verb in ("apply", "confirm")
    ]


# --- lost in the middle


def losing(bench: Bench, word: str, standing: Standing) -> None:
    """The connection is lost once, when the command called `word` is sent; the host is then at `standing`."""
    lost: list[str] = []

    def before(command: str) -> Said | None:
        if word in command and not lost:
            lost.append(command)
            bench.node.standing["fra1"] = standing
            raise AnyconsoleError("connection lost")
        return None

    bench.node.before = before


async def test_lost_before_it_was_applied_nothing_changed(bench: Bench) -> None:
    losing(bench, "apply", Standing.BEFORE)
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.ROLLED_BACK
    assert bench.node.ran == ["fra1 apply 1"]


async def test_lost_after_it_was_applied_it_goes_on(bench: Bench) -> None:
    losing(bench, "apply", Standing.UNCONFIRMED)
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.DONE
    assert bench.node.standing["fra1"] is Standing.CONFIRMED


async def test_lost_while_confirming_it_asks_the_node_and_confirms_once_more(bench: Bench) -> None:
    losing(bench, "confirm", Standing.UNCONFIRMED)
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.DONE
    assert bench.node.ran == ["fra1 apply 1", "fra1 confirm 1", "fra1 confirm 1"]


async def test_lost_while_confirming_a_confirmed_node_is_believed(bench: Bench) -> None:
    losing(bench, "confirm", Standing.CONFIRMED)
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.DONE
    assert bench.node.ran == ["fra1 apply 1", "fra1 confirm 1"]


async def test_a_node_that_stays_lost_is_unknown_and_not_called_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "GRACE", -29.5)
    bench.node.blind = {"fra1"}
    losing(bench, "confirm", Standing.UNCONFIRMED)
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.UNKNOWN
    assert run.steps[0].state is StepState.UNKNOWN


# --- the journal can't be written


def failing_journal(monkeypatch: pytest.MonkeyPatch, runner: Runner, event: str) -> None:
    journal = runner._journal
    write = journal.record

    def write_or_fail(kind: str, **fields: object) -> None:
        if fields.get("event") == event:
            raise JournalError("journal: no space left on device")
        write(kind, **fields)

    monkeypatch.setattr(journal, "record", write_or_fail)


async def test_without_a_journal_nothing_begins(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = bench.runner("fra1")
    failing_journal(monkeypatch, runner, "applying")
    run = await runner.carry_out()
    assert run.outcome is Outcome.FAILED
    assert "no space left" in run.words
    assert bench.node.ran == []


async def test_without_a_journal_nothing_is_confirmed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = bench.runner("fra1")
    failing_journal(monkeypatch, runner, "confirming")
    run = await runner.carry_out()
    assert run.outcome is Outcome.ROLLED_BACK
    assert bench.node.ran == ["fra1 apply 1", "fra1 revert 1"]


@pytest.mark.parametrize("event", ["applied", "verified", "confirmed", "done"])
async def test_what_has_happened_is_not_undone_by_a_full_disk_but_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    runner = bench.runner("fra1")
    failing_journal(monkeypatch, runner, event)
    run = await runner.carry_out()
    assert run.outcome is Outcome.DONE
    assert "journal is not complete" in run.words


async def test_the_stopwatch_of_a_step_runs_while_the_next_one_waits(bench: Bench) -> None:
    """Traffic leaves after a soft step is confirmed, while the hard one waits for just that."""
    looks: list[str] = []

    def proofs(step: Step, now: float) -> tuple[Proof, ...]:  # noqa: ARG001
        looks.append(step.title)
        has_left = len(looks) > 3
        return (
            Proof(layer="daemon", met=True, words="as planned", required=True),
            Proof(layer="traffic", met=has_left, words="0 q/s" if has_left else "12 q/s"),
        )

    bench.action.proofs = proofs  # type: ignore[method-assign]
    closed = Gate(is_open=False, words="12 q/s are left")
    bench.action.gates = [Gate(is_open=True), closed, closed, closed]
    run = await bench.runner("fra1", "fra1").carry_out()
    assert run.outcome is Outcome.DONE
    assert run.steps[0].timings["traffic"] > 1.0
    (change,) = bench.journal.changes()
    (watched,) = [r for r in change.records if r.fields.get("event") == "watched"]
    assert watched.fields["timings"]["traffic"] == run.steps[0].timings["traffic"]


# --- questions

ASKS = Gate(
    is_open=False,
    words="12 q/s are left",
    ask="12 q/s are left. Withdraw all the same?",
    choices=(("stay", "end here"), ("wait", "wait on"), ("go", "withdraw now")),
    default="stay",
)


async def answered(bench: Bench, answer: str) -> Run:
    bench.action.gates = [ASKS]
    runner = bench.runner("fra1")
    task = asyncio.create_task(runner.carry_out())
    while runner.run.question is None:
        await asyncio.sleep(0.01)
    assert runner.run.state is RunState.ASKING
    with pytest.raises(AnyconsoleError):
        runner.answer(runner.run.question.id, "nonsense")
    runner.answer(runner.run.question.id, answer)
    return await task


async def test_a_question_stops_or_goes_on_as_answered(bench: Bench) -> None:
    assert (await answered(bench, "go")).outcome is Outcome.DONE


async def test_staying_ends_it_without_touching_the_host(bench: Bench) -> None:
    assert (await answered(bench, "stay")).outcome is Outcome.STOPPED
    assert bench.node.ran == []


async def test_nobody_there_means_what_is_safe(bench: Bench) -> None:
    bench.action.gates = [ASKS]
    runner = bench.runner("fra1")
    runner.is_unattended = True
    assert (await runner.carry_out()).outcome is Outcome.STOPPED
    assert bench.node.ran == []


async def test_a_fault_of_ours_is_told_and_closes_the_journal(bench: Bench) -> None:
    def broken(_step: Step) -> bool:
        raise RuntimeError("boom")

    bench.action.met = broken
    run = await bench.runner("fra1").carry_out()
    assert run.outcome is Outcome.UNKNOWN
    assert "boom" in run.words
    assert bench.outcome == "unknown"


# --- the clock of this machine is set in the middle


async def test_a_clock_that_jumps_forward_takes_back_what_can_not_be_trusted_any_more(bench: Bench) -> None:
    runner = bench.runner("fra1")
    real, by = runner._clock, 0.0
    runner._clock = lambda: real() + by

    def jump(command: str) -> None:
        nonlocal by
        by = 3600.0 if "apply" in command else by

    bench.node.after = jump
    run = await runner.carry_out()
    assert run.outcome is Outcome.ROLLED_BACK
    assert bench.node.ran == ["fra1 apply 1", "fra1 revert 1"]


async def test_a_clock_that_jumps_back_can_not_make_a_reverted_change_look_confirmed(bench: Bench) -> None:
    runner = bench.runner("fra1")
    real, by = runner._clock, 0.0
    runner._clock = lambda: real() + by

    def jump(command: str) -> None:
        nonlocal by
        by = -3600.0 if "apply" in command else by

    def taken_back_by_the_node(command: str) -> Said | None:
        if "confirm" not in command:
            return None
        bench.node.standing["fra1"] = Standing.BEFORE
        return Said(int(Ended.NOT_PENDING), b"taken back already\n")

    bench.node.after = jump
    bench.node.before = taken_back_by_the_node
    run = await runner.carry_out()
    assert run.outcome is Outcome.ROLLED_BACK
    assert bench.node.standing["fra1"] is Standing.BEFORE


# --- steps that leave nothing behind


async def test_what_leaves_nothing_behind_is_performed_by_its_action_after_the_guards(bench: Bench) -> None:
    bench.action.may_end.set()
    run = await bench.runner("gen1", leaves=False).carry_out()
    assert (run.outcome, run.words) == (Outcome.DONE, "it is over")
    assert bench.events() == ["opened", "applying", "done", "closed"]
    assert bench.node.ran == []


async def test_it_is_not_performed_if_a_guard_refuses(bench: Bench) -> None:
    bench.action.verdicts = lambda _u, _s: [REFUSAL]
    assert (await bench.runner("gen1", leaves=False).carry_out()).outcome is Outcome.REFUSED
    assert bench.action.performed == []


@pytest.mark.parametrize("end", [Runner.cancel, Runner.leave])
async def test_it_ends_at_once_when_cancelled_or_when_nobody_is_there_any_more(
    bench: Bench, end: Callable[[Runner], None]
) -> None:
    runner = bench.runner("gen1", "gen2", leaves=False)
    task = asyncio.create_task(runner.carry_out())
    while not bench.action.performed:
        await asyncio.sleep(0.01)
    end(runner)
    run = await asyncio.wait_for(task, 2)
    assert run.outcome is Outcome.STOPPED
    assert [s.state for s in run.steps] == [StepState.CANCELLED, StepState.SKIPPED]
    assert bench.action.performed == ["gen1"]
    assert bench.outcome == "stopped"


async def test_a_change_that_stays_goes_on_when_nobody_is_there(bench: Bench) -> None:
    runner = bench.runner("fra1")
    runner.leave()
    assert (await runner.carry_out()).outcome is Outcome.DONE


async def test_what_fails_while_it_is_performed_is_told_and_ends_the_run(bench: Bench) -> None:
    bench.action.fault = AnyconsoleError("gen1 is gone")
    run = await bench.runner("gen1", "gen2", leaves=False).carry_out()
    assert (run.outcome, run.words) == (Outcome.FAILED, "gen1 is gone")
    assert bench.action.performed == ["gen1"]


def lasting(bench: Bench, *hosts: str, hold: int = 30) -> Runner:
    """A runner whose steps stay as far as they get."""
    runner = bench.runner(*hosts, leaves=False)
    steps = tuple(msgspec.structs.replace(s, lasting=True, hold=hold) for s in runner.run.plan.steps)
    runner.run = msgspec.structs.replace(runner.run, plan=msgspec.structs.replace(runner.run.plan, steps=steps))
    return runner


async def test_what_is_lasting_is_done_when_it_is_proved_and_says_how_long_that_took(bench: Bench) -> None:
    bench.action.may_end.set()
    run = await lasting(bench, "k3s").carry_out()
    assert (run.outcome, run.words) == (Outcome.DONE, "1 of 1 steps done and proved")
    assert set(run.steps[0].timings) == {"daemon", "from confirmation"}
    assert bench.node.ran == []


async def test_what_is_lasting_goes_on_when_nobody_is_there(bench: Bench) -> None:
    runner = lasting(bench, "k3s")
    runner.leave()
    bench.action.may_end.set()
    assert (await runner.carry_out()).outcome is Outcome.DONE


async def test_what_is_lasting_and_not_proved_in_time_stays_and_is_said_to(bench: Bench) -> None:
    bench.action.met = lambda _: False
    run = await lasting(bench, "k3s", "other", hold=0).carry_out()
    assert run.outcome is Outcome.STOPPED
    assert "daemon: as planned; what of it was done stays (at it)" in run.words
    assert [s.state for s in run.steps] == [StepState.FAILED, StepState.SKIPPED]


async def test_what_is_lasting_says_what_stays_when_it_is_cancelled_or_fails(bench: Bench) -> None:
    runner = lasting(bench, "k3s")
    task = asyncio.create_task(runner.carry_out())
    while not bench.action.performed:
        await asyncio.sleep(0.01)
    runner.cancel()
    run = await asyncio.wait_for(task, 2)
    assert (run.outcome, run.words) == (Outcome.STOPPED, "cancelled; what of it was done stays (at it)")


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        (AnyconsoleError("no more room"), Outcome.STOPPED, "no more room; what of it was done stays (at it)"),
        (NotBegunError("it changed", Outcome.CONFLICT), Outcome.CONFLICT, "it changed"),
        (RuntimeError("oops"), Outcome.UNKNOWN, "fault in the console: RuntimeError: oops"),
    ],
)
async def test_a_lasting_step_that_fails_tells_whether_it_had_begun(
    bench: Bench, fault: Exception, outcome: Outcome, words: str
) -> None:
    bench.action.fault = fault
    run = await lasting(bench, "k3s").carry_out()
    assert (run.outcome, run.words) == (outcome, words)
