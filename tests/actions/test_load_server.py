"""The server's side of a load test: its counters become rows, seconds and the limit, and what isn't known stays unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from anyconsole.actions.load.answer import Answer, Ending
from anyconsole.actions.load.limit import Cause
from anyconsole.actions.load.server import Look, Server
from anyconsole.errors import LoadError
from anyconsole.model.facts import Counted, SessionState, SessionStatus
from anyconsole.model.load import Counts, Latency, Order, Phase, Trial, bin_of
from anyconsole.model.load_counters import (
    Core,
    HostConditions,
    HostCounters,
    InstanceConditions,
    InstanceCounters,
    NodeConditions,
    NodeCounters,
    Task,
    Throttling,
    UdpCounters,
    UdpSocket,
)
from anyconsole.model.store import FleetStore
from tests.actions.load_targets import store_with, target
from tests.fleet import NOW

QUIET_UDP = UdpCounters(
    in_datagrams=0, no_ports=0, in_errors=0, receive_buffer_errors=0, out_datagrams=0, send_buffer_errors=0
)
QUIET = InstanceCounters(
    pid=10,
    started=1,
    cpu=0.0,
    tasks=(Task(11, "server 1", 0.0, 0.0), Task(12, "server 2", 0.0, 0.0), Task(10, "xfrd", 0.0, 0.0)),
    throttling=Throttling(group="/", periods=0, throttled=0, seconds=0.0),
    sockets=(UdpSocket(1, "198.18.1.1", 53, 0, 0),),
    udp=QUIET_UDP,
)


def instance(**fields: Any) -> InstanceCounters:  # noqa: ANN401 - fields of it
    return msgspec.structs.replace(QUIET, **fields)


def sample(clock: float, de: InstanceCounters | None = None, cores: tuple[Core, ...] = ()) -> NodeCounters:
    host = HostCounters(load1=0.5, cores=cores or None)
    return NodeCounters(at=NOW, clock=clock, cost=0.0, host=host, instances={"de": de or QUIET})


class Told:
    """A watcher that tells these samples, one for each question; None is one that doesn't answer."""

    def __init__(self, *samples: NodeCounters | None, workers: int | None = 2, rrl: str | None = "off") -> None:
        self.error: LoadError | None = None
        self._samples = list(samples)
        self._instance = InstanceConditions(workers=workers, rrl=rrl)

    async def start(self) -> NodeConditions:
        return NodeConditions(host=HostConditions(), instances={"de": self._instance})

    async def sample(self) -> NodeCounters:
        if (told := self._samples.pop(0)) is None:
            raise LoadError("no sample within 3 s")
        return told


def trial(
    rate: float = 10_000, lost: int = 0, *, phase: Phase = Phase.VOTE, p99: float = 0.001, void: str = ""
) -> Trial:
    sent = round(rate)
    latency = Latency(bins={bin_of(p99 * 1e6): sent - lost})
    counts = Counts(offered=sent, sent=sent, answered=sent - lost, latency=latency)
    return Trial(order=Order(phase=phase, rate=rate), began_at=NOW, counts=counts, void=void)


def counting(store: FleetStore, *counted: Counted | None) -> Look:
    """A look that finds these counters, one after the other; None finds none."""
    left = iter(counted)

    async def look() -> None:
        rates = store.rates("fra1", "de", "probe")
        assert rates is not None
        if (found := next(left)) is not None:
            store.apply([msgspec.structs.replace(rates, counted=found)])

    return look


async def served(
    *trials: Trial, told: Told, p99_guard: float | None = 0.05, counted: Sequence[Counted | None] = ()
) -> Server:
    """A server that these trials were run against, with two samples of `told` (and two of `counted`) around each."""
    store = store_with()
    look = counting(store, *counted) if counted else None
    server = Server(store, target(), 0.01, p99_guard, look=look)
    watching: Any = told
    await server.watch(watching)
    for one in trials:
        await server.begin(NOW)
        await server.ended(one, NOW)
    return server


OK = Answer(ending=Ending.OK, why="")


# --- the limit


async def test_a_worker_is_measured_by_the_time_that_there_was_load() -> None:
    """Readings lie further apart than the load lasted: a worker that had no rest in a vote of a second was full all the same."""
    full = instance(
        cpu=1.0,
        tasks=(Task(21, "server 1", 0.93, 0.05), Task(22, "server 2", 0.02, 0.0), Task(10, "xfrd", 0.0, 0.0)),
        udp=msgspec.structs.replace(QUIET_UDP, in_datagrams=9_000, receive_buffer_errors=1_000),
    )
    server = await served(trial(lost=1_000), told=Told(sample(0.0), sample(1.9, full)))
    limit = server.limit(OK)
    assert limit is not None
    assert limit.cause is Cause.FLOW_SKEW, "and NSD's servers are the same two after they were forked anew"
    assert "server 1 was at work for 98%" in limit.words
    assert "xfrd" not in limit.words, "what doesn't answer queries isn't idle, it has nothing to do with them"


async def test_the_lowest_rate_that_failed_speaks_of_the_limit_and_the_climb_last() -> None:
    dropped = instance(udp=msgspec.structs.replace(QUIET_UDP, receive_buffer_errors=200))
    server = await served(
        trial(20_000, 9_000, phase=Phase.CLIMB), trial(10_000, 0), trial(10_100, 200),
        told=Told(sample(0), sample(1), sample(2), sample(3), sample(4), sample(5, dropped)),
    )  # fmt: skip
    limit = server.limit(OK)
    assert limit is not None
    assert (limit.cause, limit.evidence["lost"]) == (Cause.SOCKET_BUFFER, 200)


async def test_what_only_was_slow_has_a_limit_too() -> None:
    """A quota behind a deep buffer loses nothing: 11,000 q/s at 0 %, with 74 ms."""
    held = instance(throttling=Throttling(group="/de", periods=12, throttled=11, seconds=0.9))
    told = Told(sample(0), sample(1.5), sample(2), sample(3.5, held))
    server = await served(trial(5_000), trial(11_000, p99=0.074), told=told)
    limit = server.limit(OK)
    assert limit is not None
    assert limit.cause is Cause.CPU_QUOTA


async def test_a_rate_that_passed_and_was_fast_has_no_limit() -> None:
    server = await served(trial(5_000), told=Told(sample(0), sample(1.5)))
    assert server.limit(OK) is None
    assert server.limit(Answer(ending=Ending.ABORTED, why="stopped")) is None


async def test_what_the_name_server_took_in_and_nobody_got_was_lost_on_the_way_back() -> None:
    taken = (Counted(moment=1.0, taken=50, withheld=7), Counted(moment=3.0, taken=10_075, withheld=7))
    arrived = instance(udp=msgspec.structs.replace(QUIET_UDP, in_datagrams=10_001))
    server = await served(trial(lost=1_000), told=Told(sample(0), sample(1.5, arrived)), counted=taken)
    limit = server.limit(OK)
    assert limit is not None
    assert (limit.cause, limit.evidence["served"]) == (Cause.RETURN_PATH, 10_001)


async def test_what_the_name_server_withheld_without_a_word_is_its_rate_limit() -> None:
    counted = (Counted(moment=1.0, taken=0, withheld=0), Counted(moment=3.0, taken=10_000, withheld=990))
    told = Told(sample(0), sample(1.5), rrl="ratelimit 200, slip 0")
    server = await served(trial(lost=1_000), told=told, counted=counted)
    limit = server.limit(OK)
    assert limit is not None
    assert (limit.cause, limit.evidence["withheld"]) == (Cause.RATE_LIMIT, 990)


async def test_queries_of_others_are_not_taken_for_the_tests() -> None:
    """Of 10,000 asked 9,000 arrived; the 12 a second that it serves anyway are no part of them, nor 1,200 in 100 s."""
    counted = (Counted(moment=0.0, taken=0, withheld=0), Counted(moment=100.0, taken=10_200, withheld=0))
    server = await served(trial(lost=1_000), told=Told(sample(0), sample(1.5)), counted=counted)
    limit = server.limit(OK)
    assert limit is not None
    assert (limit.cause, limit.evidence["served"]) == (Cause.PATH, 9_000)


@pytest.mark.parametrize("after", [None, Counted(moment=1.0, taken=50, withheld=0)], ids=["none", "an old one"])
async def test_counters_that_were_not_read_after_the_trial_say_nothing_of_it(after: Counted | None) -> None:
    before = Counted(moment=1.0, taken=50, withheld=0)
    server = await served(trial(lost=1_000), told=Told(sample(0), sample(1.5)), counted=(before, after))
    limit = server.limit(OK)
    assert limit is not None
    assert "served" not in limit.evidence


async def test_a_test_that_a_moved_route_ended_says_so() -> None:
    store = store_with()
    server = Server(store, target(), 0.01)
    await server.begin(NOW)
    session = next(s for s in store.of_node("fra1", SessionStatus))
    store.apply([msgspec.structs.replace(session, state=SessionState.IDLE)])
    await server.ended(trial(lost=1_000), NOW)
    limit = server.limit(Answer(ending=Ending.ABORTED, why="a session is Idle"))
    assert limit is not None
    assert limit.cause is Cause.CATCHMENT_MOVED


async def test_answers_of_another_instance_are_no_result_of_this_one() -> None:
    one = trial(lost=1_000)
    elsewhere = msgspec.structs.replace(
        one, counts=msgspec.structs.replace(one.counts, identities={"de.fra1": 90, "de.fra2": 10})
    )
    server = await served(elsewhere, told=Told(sample(0), sample(1.5)))
    limit = server.limit(OK)
    assert limit is not None
    assert (limit.cause, limit.evidence["share"]) == (Cause.CATCHMENT_MOVED, 0.9)


async def test_a_watcher_that_is_lost_costs_the_explanation_and_not_the_test() -> None:
    server = await served(trial(lost=1_000), told=Told(None, None))
    limit = server.limit(OK)
    assert limit is not None
    assert limit.cause is Cause.UNKNOWN
    assert "not known: queries served, UDP receive errors, CPU throttling" in limit.words
    assert server.cpu_per_million() is None
    assert server.noise is None


async def test_a_rate_limit_is_read_from_the_configuration() -> None:
    truncated = Counts(offered=3_000, sent=3_000, answered=3_000, truncated=1_500)
    one = msgspec.structs.replace(trial(3_000), counts=truncated)
    server = await served(one, told=Told(sample(0), sample(1), rrl="ratelimit 200 (default)"))
    limit = server.limit(OK)
    assert limit is not None
    assert limit.cause is Cause.RATE_LIMIT
    assert "200 q/s per client" in limit.words


async def test_cpu_for_a_million_queries_counts_sound_trials_of_the_same_process_only() -> None:
    busy, another = instance(cpu=0.1), instance(pid=99, cpu=50.0)
    told = Told(
        sample(0), sample(1, busy), sample(2, busy), sample(3, another), sample(4), sample(5, instance(cpu=9.0))
    )
    server = await served(trial(10_000), trial(10_000), trial(10_000, void="skipped"), told=told)
    assert server.cpu_per_million() == pytest.approx(10.0)


# --- while it runs


def cores(idle: float, softirq: float = 0.0, steal: float = 0.0, total: float = 6.0) -> tuple[Core, ...]:
    return (Core(total, idle, steal, softirq),)


def sampled(*samples: NodeCounters) -> Server:
    server = Server(store_with(), target(), 0.01)
    for one in samples:
        server.sampled("fra1", one)
    return server


def test_idle_time_is_that_of_the_last_seconds_and_unknown_before() -> None:
    begin = sample(0, cores=cores(0.0, total=0.0))
    assert sampled(begin, sample(1, cores=cores(0.5, total=2.0))).idle is None
    server = sampled(begin, *(sample(n, cores=cores(0.06 * n, total=2.0 * n)) for n in range(1, 8)))
    assert server.idle == pytest.approx(0.03)


def test_what_a_test_takes_is_its_instances_cpu_and_the_networks() -> None:
    begin = sample(0, instance(cpu=1.0), cores(0.0, total=0.0))
    end = sample(3, instance(cpu=2.5), cores(0.1, softirq=0.9, total=6.0))
    assert sampled(begin, end).taken == pytest.approx(0.4)
    assert sampled(begin, sample(3, instance(pid=99, cpu=0.1), cores(0.1))).taken is None


async def test_what_the_network_took_before_there_was_load_is_not_the_tests() -> None:
    server = sampled(*(sample(n, QUIET, cores(0.0, softirq=0.6 * n, total=2.0 * n)) for n in range(4)))
    await server.begin(NOW)
    for n in range(4, 9):
        server.sampled("fra1", sample(n, instance(cpu=0.2 * (n - 3)), cores(0.0, softirq=0.6 * n, total=2.0 * n)))
    assert server.taken == pytest.approx(0.1)


def test_an_instance_is_a_row_with_its_share_its_drops_and_its_neighbours() -> None:
    held = instance(
        cpu=1.4,
        throttling=Throttling(group="/de", periods=20, throttled=8, seconds=1.0),
        sockets=(UdpSocket(1, "198.18.1.1", 53, 0, 164),),
    )
    server = sampled(sample(0), sample(2, held))
    rows = server.rows({"de.fra1": 90, "de.fra2": 10}, NOW)
    (own,) = (row for row in rows if row.is_target)
    assert (own.tenant, own.identity, own.share) == ("de", "de.fra1", 0.9)
    assert (own.busy, own.throttled, own.drops) == (0.7, 0.4, 82)
    others = [row for row in rows if not row.is_target]
    assert others
    assert all(row.busy is None and row.share is None for row in others), "nobody told of them"
    seconds = server.seconds(NOW, {"de.fra1": 3, "de.fra2": 1})
    assert (seconds["de"].rcvbuf_err, seconds["de"].share) == (82, 0.75)
    assert all(second.share is None for tenant, second in seconds.items() if tenant != "de")
    assert server.seconds(NOW)["de"].share is None, "nothing told who answered"


def test_counters_that_began_anew_are_no_negative_load() -> None:
    server = sampled(sample(0, instance(cpu=50.0)), sample(1, instance(pid=99, cpu=0.5)))
    (own,) = (row for row in server.rows({}, NOW) if row.is_target)
    assert (own.busy, own.throttled, own.drops) == (None, None, None)


def test_the_noise_of_a_host_is_what_was_stolen_from_it() -> None:
    server = sampled(sample(0, cores=cores(0.0, total=0.0)), sample(9, cores=cores(1.0, steal=1.5, total=6.0)))
    assert server.noise is not None
    assert (server.noise.steal, server.noise.loadavg) == (0.25, 0.5)


def test_nothing_is_known_of_a_server_that_nobody_watches() -> None:
    server = Server(store_with(), target(), 0.01)
    assert server.trouble == "not watched"
    assert (server.idle, server.taken) == (None, None)
