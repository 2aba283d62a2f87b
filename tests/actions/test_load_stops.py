"""What becomes of a load test that ends before its time or is told another rate: it is silent, and its record says what was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from anyconsole.actions.journal import journal_of
from anyconsole.actions.journal_record import JournalledChange
from anyconsole.actions.load import target_test
from anyconsole.actions.load.files import read_run, run_paths, runs_folder
from anyconsole.actions.load.record import Header, RunRecord, Summary
from anyconsole.actions.load.report import run_sheet
from anyconsole.actions.load.request import LoadRequest, Purpose
from anyconsole.actions.run import Run
from anyconsole.drivers.load import generator
from anyconsole.engine.changes import Changes
from anyconsole.errors import AnyconsoleError, JournalError
from anyconsole.model.store import FleetStore
from tests.actions.load_hands import NSID, PACE, LoadHosts
from tests.actions.load_targets import store_with, target
from tests.fleet import NOW

GENERATORS = ("gen1", "gen2", "gen3")
SECONDS, RATE = 500, 300.0


class Bench:
    """A fixed run of some minutes from three generators, as the engine makes it."""

    def __init__(self, store: FleetStore, queries: Path) -> None:
        self.hosts, self.store = LoadHosts(), store
        # A clock that stands still: what is known of the fleet stays fresh.
        self.changes = Changes(store, self.hosts, lambda _: "", lambda: None, lambda: NOW)
        self.changes.arm(600)
        self._queries = queries
        self.run_id = ""

    async def start(self) -> None:
        """Start it, and wait until all send."""
        request = LoadRequest(
            purpose=Purpose.FIXED,
            targets=("de-fra1",),
            rate=RATE,
            seconds=SECONDS,
            queries=str(self._queries),
            reason="x",
        )
        plan = await self.changes.plan("loadtest", msgspec.json.encode(request))
        self.run_id = await self.changes.start(plan, {"in service": "paper"}, {"neighbours": "looked at"})
        await self.until(lambda: self.is_under_load)

    @property
    def is_under_load(self) -> bool:
        """All send what was ordered."""
        agents = self.hosts.agents
        return len(agents) == len(GENERATORS) and all(
            a.orders and a.orders[0]["seconds"] == SECONDS for a in agents.values()
        )

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for it."""
        async with asyncio.timeout(20):
            while not is_so():
                assert self.run_id not in self.changes._runners or self.changes.is_running, self.changes.runner(
                    self.run_id
                ).run
                await asyncio.sleep(0.002)

    async def seconds(self, number: float) -> None:
        """Let so many of its seconds go by."""
        await asyncio.sleep(number * PACE)

    async def end(self) -> Run:
        """The run as it ended."""
        async with asyncio.timeout(20):
            return await self.changes.wait(self.run_id)

    @property
    def record(self) -> RunRecord:
        """Its record."""
        (path,) = run_paths(runs_folder(self.store.inventory))
        return read_run(path)

    @property
    def change(self) -> JournalledChange:
        """It in the journal."""
        return journal_of(self.store.inventory).change(self.run_id)

    @property
    def sent(self) -> int:
        """What all generators sent, as they know it themselves."""
        return sum(order["sent"] for agent in self.hosts.agents.values() for order in agent.orders)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(target_test, "GUARD_EVERY", PACE)
    monkeypatch.setattr(target_test, "LAST_WORDS", 0.0)
    queries = tmp_path / "queries"
    queries.write_text("a.de.example A\nb.de.example A\n")
    made = Bench(store_with(target(identity=(NSID,)), generators=GENERATORS), queries)
    yield made
    made.changes.cancel_all()
    if made.run_id:
        await made.changes.wait(made.run_id)


def events(record: RunRecord) -> list[tuple[str, float | None]]:
    return [(event.msg_type, event.x.rate) for event in record.events]


async def test_two_hundred_queries_from_as_many_ports_prove_where_packets_go(bench: Bench) -> None:
    """However many generators share them."""
    await bench.start()
    provers = bench.hosts.provers.values()
    assert len(provers) == len(GENERATORS)
    assert sum(prover.setup["flows"] for prover in provers) >= 200
    assert sum(order["sent"] for prover in provers for order in prover.orders) >= 200
    assert all(prover.setup["nsid_every"] == 1 for prover in provers)


async def test_what_was_measured_until_the_stop_key_is_on_the_sheet(bench: Bench) -> None:
    await bench.start()
    await bench.seconds(5)
    bench.changes.cancel_all()
    run = await bench.end()
    assert all(agent.is_silent for agent in bench.hosts.agents.values())
    assert run.outcome == "stopped"
    record = bench.record
    (trial,) = record.trials
    assert (trial.verdict, trial.why) == ("void", "stopped by the operator")
    assert 4 < trial.dur < SECONDS / 2, "the seconds that it ran, not those that were planned"
    assert trial.sent / trial.dur == pytest.approx(RATE, rel=0.02)
    assert record.summary is not None
    assert record.summary.queries == trial.sent == bench.sent
    assert sum(second.queries for second in record.seconds) == trial.sent
    assert (record.result.verdict, record.result.why, record.result.trials) == ("aborted", "stopped by the operator", 1)
    assert events(record) == [("start", None), ("phase", RATE), ("stop", None)]
    assert {event.x.who for event in record.events if event.msg_type in ("start", "stop")} == {run.operator.user}


def test_a_run_that_asked_nothing_tells_of_no_loss() -> None:
    result, *_ = run_sheet(RunRecord(header=Header(runid="r"), summary=Summary(runid="r"))).tables
    assert result.rows == ()


async def test_another_rate_is_a_trial_of_its_own_and_the_journal_says_so_first(bench: Bench) -> None:
    await bench.start()
    await bench.seconds(10)
    agents = bench.hosts.agents.values()
    rates = [await bench.changes.adjust(bench.run_id, factor) for factor in (1.1, 1.1, 0.5)]
    assert rates == pytest.approx([330, 363, 181.5])
    (one, two, three) = [r.fields for r in bench.change.records if r.kind == "adjusted"]
    assert (one["rate_before"], two["rate_before"], three["rate_before"]) == pytest.approx((300, 330, 363))
    assert (three["rate"], three["operator"]["user"]) == (
        pytest.approx(181.5),
        bench.changes.runner(bench.run_id).run.operator.user,
    )
    await bench.until(lambda: all(agent.orders[-1]["rate"] == pytest.approx(60.5) for agent in agents))
    await bench.seconds(3)
    bench.changes.cancel_all()
    await bench.end()
    record = bench.record
    *done, last = record.trials
    assert done[0].dur > 9
    for trial in (done[0], last):
        assert trial.sent / trial.dur == pytest.approx(trial.rate, rel=0.02)
    assert [trial.verdict for trial in record.trials] == [*["ok"] * len(done), "void"]
    assert (done[0].rate, last.rate) == pytest.approx((RATE, 181.5))
    left = SECONDS - sum(trial.dur for trial in done)
    assert all(agent.orders[-1]["seconds"] == pytest.approx(left) for agent in agents), "what is left of the time"
    assert record.summary is not None
    assert record.summary.queries == bench.sent
    assert [rate for kind, rate in events(record) if kind == "rate"] == pytest.approx(rates)


async def test_a_rate_that_can_not_be_journalled_is_not_raised_but_lowered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.start()
    agent = bench.hosts.agents["gen1"]

    def full(_journal: object, kind: str, **_fields: object) -> None:
        raise JournalError(f"{kind}: No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("anyconsole.actions.journal.ChangeJournal.record", full)
        with pytest.raises(JournalError):
            await bench.changes.adjust(bench.run_id, 1.1)
        await bench.seconds(2)
        assert len(agent.orders) == 1
        with pytest.raises(JournalError):
            await bench.changes.adjust(bench.run_id, 0.9)
    await bench.until(lambda: len(agent.orders) == 2)
    assert agent.orders[-1]["rate"] == pytest.approx(0.9 * RATE / 3)
    with pytest.raises(AnyconsoleError, match="no load test"):
        await bench.changes.adjust("another", 0.9)


async def test_a_guard_that_trips_while_the_rate_is_changed_ends_it(bench: Bench) -> None:
    """Nothing was sent yet at the new rate: no other trial may begin in its place."""
    await bench.start()
    bench.hosts.rcodes[2] = 50
    await bench.seconds(0.5)
    await bench.changes.adjust(bench.run_id, 0.9)
    run = await bench.end()
    assert run.outcome == "failed"
    begun = max(len(agent.orders) for agent in bench.hosts.agents.values())
    await bench.seconds(5)
    assert max(len(agent.orders) for agent in bench.hosts.agents.values()) == begun <= 2
    record = bench.record
    assert record.result.why.endswith("% of the answers are SERVFAIL")
    assert record.trials[-1].why == record.result.why
    assert events(record)[-1][0] == "guard"


async def test_generators_that_have_to_be_cut_off_do_not_hide_which_guard_tripped(bench: Bench) -> None:
    await bench.start()
    for agent in bench.hosts.agents.values():
        agent.obeys = False
    bench.hosts.rcodes[2] = 50
    run = await bench.end()
    assert all(agent.is_silent for agent in bench.hosts.agents.values())
    why = bench.record.result.why
    assert why.endswith("% of the answers are SERVFAIL")
    assert (run.outcome, run.words) == ("failed", f"stopped: {why}")


async def test_one_generator_that_is_not_heard_any_more_stops_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "_LOOK", 0.02)
    monkeypatch.setattr(generator, "SILENCE", 0.2)
    await bench.start()
    await bench.seconds(2)
    bench.hosts.agents["gen2"].is_deaf = True
    others = [bench.hosts.agents[name] for name in ("gen1", "gen3")]
    began = time.monotonic()
    await bench.until(lambda: all(agent.is_silent for agent in others))
    assert time.monotonic() - began < 1.0
    run = await bench.end()
    why = "load generator gen2: nothing was heard of it for 0.2 s"
    assert (run.outcome, run.words) == ("failed", why)
    record = bench.record
    (trial,) = record.trials
    assert (trial.verdict, trial.why) == ("void", why), "its loss is no stop that could be forgiven"
    assert (record.result.verdict, record.result.why) == ("aborted", why)
    assert events(record)[-1][0] == "abort"
