"""Another engine than our own agent: which runs it may make, what the plan, the screen and the record say of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anyconsole.actions.load.answer import Ending, Progress
from anyconsole.actions.load.courses import Ramp
from anyconsole.actions.load.engines import ENGINES
from anyconsole.actions.load.files import RunFile, new_id, read_run
from anyconsole.actions.load.goal import course_of, goal_of
from anyconsole.actions.load.header import header_of
from anyconsole.actions.load.live import Live
from anyconsole.actions.load.request import LoadRequest, Purpose, make_plan, seconds_of
from anyconsole.actions.load.rig import setups_of
from anyconsole.actions.load.search import Search
from anyconsole.actions.plan import Plan
from anyconsole.drivers.load.messages import Hello
from anyconsole.drivers.load.query_set import QuerySet
from anyconsole.errors import AnyconsoleError
from anyconsole.model.inventory import Generator, LoadEngine
from anyconsole.model.load import Counts, Order, Phase, Transport, Trial
from anyconsole.model.load_view import GeneratorRow, LoadState, LoadView
from anyconsole.model.store import FleetStore
from tests.actions.load_targets import store_with, target
from tests.fleet import NOW


def store_of(*engines: LoadEngine, **fields: Any) -> FleetStore:  # noqa: ANN401 - of the generators
    store = store_with(generators=tuple(f"gen{n}" for n in range(1, len(engines) + 1)))
    generators = tuple(
        Generator(name=f"gen{n}", address=f"gen{n}", engine=engine, sources=("198.18.2.1", "198.18.2.2"), **fields)
        for n, engine in enumerate(engines, 1)
    )
    store.inventory = msgspec.structs.replace(store.inventory, generators=generators)
    return store


def plan_of(store: FleetStore, **asked: Any) -> Plan:  # noqa: ANN401 - fields of the request
    return make_plan(store, LoadRequest(operator="ops", **asked), NOW)


def test_tcp_and_dot_are_planned_where_dnsperf_asks_and_the_plan_says_so() -> None:
    store = store_of(LoadEngine.DNSPERF)
    (tcp,) = plan_of(store, protocol=Transport.TCP).steps
    (dot,) = plan_of(store, protocol=Transport.DOT).steps
    (udp,) = plan_of(store).steps
    assert tcp.title.endswith("198.18.1.1 port 53 over TCP")
    assert dot.title.endswith("198.18.1.1 port 853 over TLS")
    assert udp.title.endswith("198.18.1.1 port 53")
    assert "dnsperf under our load agent" in dot.apply
    assert "port 853 over TLS" in dot.apply
    told = setups_of(store, LoadRequest(protocol=Transport.DOT), target())["gen1"]
    assert (told.port, told.transport, told.flows) == (853, Transport.DOT, 50)
    three = setups_of(store_of(*[LoadEngine.DNSPERF] * 3), LoadRequest(protocol=Transport.TCP), target())
    assert [setup.flows for setup in three.values()] == [16, 16, 16], (
        "a server limits the connections of all of them together"
    )


def test_our_agent_is_not_asked_for_tcp_and_what_to_do_is_said() -> None:
    store = store_of(LoadEngine.AGENT, LoadEngine.AGENT)
    with pytest.raises(AnyconsoleError, match=r"tcp: only dnsperf asks over it, but gen1, gen2 .* --engine dnsperf"):
        plan_of(store, protocol=Transport.TCP)
    assert plan_of(store, protocol=Transport.TCP, engine=LoadEngine.DNSPERF).steps, "a run may say otherwise"


def test_engines_are_not_mixed_in_one_test() -> None:
    store = store_of(LoadEngine.AGENT, LoadEngine.DNSPERF)
    with pytest.raises(AnyconsoleError, match=r"need the same engine .gen1: agent; gen2: dnsperf.: choose"):
        plan_of(store)
    assert plan_of(store, generators=("gen2",)).steps
    assert plan_of(store, engine=LoadEngine.AGENT).steps


@pytest.mark.parametrize(
    "asked",
    [{"purpose": Purpose.FIXED, "rate": 100, "seconds": 3}, {"purpose": Purpose.SEARCH, "confirm": 2}],
)
def test_runs_too_short_for_dnsperf_are_refused_before_they_begin(asked: dict[str, Any]) -> None:
    with pytest.raises(AnyconsoleError, match="dnsperf says nothing of use in less than 4 s"):
        plan_of(store_of(LoadEngine.DNSPERF), **asked)
    assert plan_of(store_of(LoadEngine.AGENT), **asked).steps


def test_no_trial_of_dnsperf_is_too_short_or_primed() -> None:
    store = store_of(LoadEngine.DNSPERF)
    search = LoadRequest()
    goal = goal_of(store, search, target())
    course = course_of(search, goal)
    assert isinstance(course, Search)
    order = course.next()
    while isinstance(order, Order) and order.phase is not Phase.CONFIRM:
        assert order.seconds >= 4
        assert order.prime_seconds == 0
        order = course.next(answered(order, capacity=3000))
    assert isinstance(order, Order)
    assert order.rate == pytest.approx(3000 / 0.99, rel=0.02), "without seconds it is searched by whole trials"
    ours = store_of(LoadEngine.AGENT)
    assert seconds_of(store, search, target(max_seconds=5000)) > seconds_of(ours, search, target(max_seconds=5000))
    ramp = LoadRequest(purpose=Purpose.RAMP, rate=1000, seconds=60)
    steps = course_of(ramp, goal)
    assert isinstance(steps, Ramp)
    first = steps.next()
    assert isinstance(first, Order)
    assert first.seconds == 4


def answered(order: Order, capacity: float) -> Trial:
    sent = round(order.rate * order.seconds)
    good = min(sent, round(capacity * order.seconds))
    return Trial(order=order, began_at=NOW, counts=Counts(offered=sent, sent=sent, answered=good, rcodes={0: good}))


def header(store: FleetStore, engines: Sequence[str], **asked: Any) -> Any:  # noqa: ANN401 - rows are read as they are
    request = LoadRequest(**asked)
    proof = Trial(order=Order(phase=Phase.PROOF, rate=50), began_at=NOW, counts=Counts(identities={"de.fra1": 200}))
    return header_of(
        store,
        make_plan(store, request, NOW),
        request,
        target(),
        runid="r",
        change="c",
        goal=goal_of(store, request, target()),
        queries=QuerySet(lines=("a.de A",), source="zone de"),
        conditions=None,
        proof=proof,
        hosts={"gen1": Hello(agent=1, python="3.11", cores=2, kernel="6.1.0-28-amd64", cpu_model="AMD EPYC 7302P")},
        limits={},
        engines=engines,
        now=NOW,
    )


def test_the_record_says_what_the_generators_are() -> None:
    row = header(store_of(LoadEngine.AGENT), [""])
    (host,) = row.x.generators
    assert (host.host, host.kernel, host.cpu_model) == ("gen1", "6.1.0-28-amd64", "AMD EPYC 7302P")


def test_the_record_says_which_engine_asked_over_what() -> None:
    row = header(store_of(LoadEngine.DNSPERF), ["dnsperf 2.10"], protocol=Transport.DOT)
    assert (row.generator, row.generator_version) == ("dnsperf", "2.10")
    assert row.generator_params == ("flows=50", "protocol=dot")
    assert (row.x.workload.protocol, row.x.workload.edns, row.x.target.port) == ("dot", 4096, 853)
    assert row.x.generators[0].src_addrs == ("198.18.2.1",), "dnsperf asks from one address"
    ours = header(store_of(LoadEngine.AGENT), [""])
    assert (ours.generator, ours.x.workload.protocol, ours.x.target.port) == ("anyconsole", "udp", 53)


KXDPGUN: dict[str, Any] = {"dedicated": True, "interface": "eth1"}


def test_kxdpgun_is_planned_on_dedicated_hosts_alone_and_over_udp_alone() -> None:
    store = store_of(LoadEngine.KXDPGUN, **KXDPGUN)
    (step,) = plan_of(store).steps
    assert "kxdpgun under our load agent on interface eth1, over standard input" in step.apply
    assert "goal  at most 1.00% lost, latency not known, answers until 1 s after its last query" in step.about
    assert "from  gen1, 63536 flows" in step.about
    for protocol in (Transport.TCP, Transport.DOT):
        with pytest.raises(AnyconsoleError, match=f"{protocol}: only dnsperf asks over it, but gen1 asks with kxdpgun"):
            plan_of(store, protocol=protocol)
    with pytest.raises(AnyconsoleError, match="kxdpgun measures no latency: it can't keep a guard on p99"):
        plan_of(store, p99_guard=0.05)
    for shared in (store_of(LoadEngine.AGENT), store_of(LoadEngine.AGENT, interface="eth1")):
        with pytest.raises(
            AnyconsoleError, match="generator gen1: kxdpgun takes a network interface away from its host"
        ):
            plan_of(shared, engine=LoadEngine.KXDPGUN)
    assert plan_of(store_of(LoadEngine.AGENT, **KXDPGUN), engine=LoadEngine.KXDPGUN).steps


def test_kxdpgun_is_told_its_interface_and_what_that_must_not_carry() -> None:
    store = store_of(LoadEngine.KXDPGUN, **KXDPGUN)
    told = setups_of(store, LoadRequest(), target())["gen1"]
    assert told.interface == "eth1"
    tenant = store.inventory.tenant(target().tenant)
    assert {*tenant.prefixes, *tenant.addresses, *target().addresses} <= {*told.services}
    ours = setups_of(store, LoadRequest(engine=LoadEngine.AGENT), target())["gen1"]
    assert (ours.interface, ours.services) == ("", ())


def test_a_search_with_kxdpgun_looks_at_losses_alone_and_finds_the_rate() -> None:
    store = store_of(LoadEngine.KXDPGUN, **KXDPGUN)
    goal = goal_of(store, LoadRequest(), target())
    assert (goal.p99_guard, goal.prime_seconds, goal.trial_seconds) == (None, 0, 1)
    course = course_of(LoadRequest(), goal)
    order = course.next()
    while isinstance(order, Order):
        assert order.seconds >= 1
        order = course.next(answered(order, capacity=3000))
    assert order.ending is Ending.OK
    assert order.lower == pytest.approx(3000 / 0.99, rel=0.02)
    assert (order.p99, order.worst) == (None, None)


def test_what_kxdpgun_cannot_tell_is_not_known_in_the_record_and_on_screen(tmp_path: Path) -> None:
    store = store_of(LoadEngine.KXDPGUN, **KXDPGUN)
    row = header(store, ["kxdpgun 3.2.6"])
    assert (row.generator, row.generator_version) == ("kxdpgun", "3.2.6")
    assert (row.timeout, row.x.workload.edns, row.x.goal.p99_guard_ms) == (1.0, 1232, None)
    assert (row.x.generators[0].flows, row.x.generators[0].src_addrs) == (63536, ("198.18.2.1",))
    order = Order(phase=Phase.FIXED, rate=1000, seconds=2)
    trial = answered(order, capacity=900)
    with RunFile.create(
        tmp_path, msgspec.structs.replace(row, runid=new_id(NOW)), untold=ENGINES[LoadEngine.KXDPGUN].untold
    ) as file:
        file.periodic(NOW, trial.counts, seconds=2)
        file.trial(trial, trial.verdict(0.01))
    told = read_run(file.path)
    (second,), (written,) = told.seconds, told.trials
    assert (written.late, written.tc, written.p99, written.loss) == (None, None, None, 0.1)
    assert second.x is not None
    assert (second.x.late, second.x.tc) == (None, None)
    view = LoadView(
        run="r", target="de-fra1", node="fra1", tenant="de", address="198.18.1.1", purpose="fixed", state=LoadState.RUNNING,
        began_at=NOW, cap=20_000, goal=0.01,
    )  # fmt: skip
    live = Live(view, [GeneratorRow(name="gen1")], lambda *_: None, ENGINES[LoadEngine.KXDPGUN].untold)
    live.begin(order, NOW)
    live.ended(trial, Progress())
    (shown,) = live.view.seconds
    assert (shown.answered, shown.lost, shown.late, shown.truncated, shown.p99) == (900, 100, None, None, None)


def test_a_trial_without_seconds_is_shown_as_a_usual_second() -> None:
    view = LoadView(
        run="r", target="de-fra1", node="fra1", tenant="de", address="198.18.1.1", purpose="fixed", state=LoadState.PREPARING,
        began_at=NOW, cap=20_000, goal=0.01,
    )  # fmt: skip
    live = Live(view, [GeneratorRow(name="gen1")], lambda *_: pytest.fail("no second was told"))
    order = Order(phase=Phase.FIXED, rate=1000, seconds=10)
    live.begin(order, NOW)
    live.ended(
        Trial(order=order, began_at=NOW, counts=Counts(offered=10_000, sent=10_000, answered=9_800, rcodes={0: 9_800})),
        Progress(),
    )
    (second,) = live.view.seconds
    assert (second.offered, second.sent, second.answered, second.lost, second.rcodes) == (1000, 1000, 980, 20, {0: 980})
    assert second.loss == 0.02
    assert live.last.sent == 10_000, "guards look at all of it"
