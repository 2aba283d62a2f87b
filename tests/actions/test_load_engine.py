"""Another engine than our own agent: which runs it may make, what the plan, the screen and the record say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from anyconsole.actions.load.answer import Progress
from anyconsole.actions.load.courses import Ramp
from anyconsole.actions.load.header import header_of
from anyconsole.actions.load.live import Live
from anyconsole.actions.load.request import LoadRequest, Purpose, make_plan, seconds_of
from anyconsole.actions.load.rig import setups_of
from anyconsole.actions.load.search import Search
from anyconsole.actions.load.testing import course_of, goal_of
from anyconsole.actions.plan import Plan
from anyconsole.drivers.load.query_set import QuerySet
from anyconsole.errors import AnyconsoleError
from anyconsole.model.inventory import Generator, LoadEngine
from anyconsole.model.load import Counts, Order, Phase, Transport, Trial
from anyconsole.model.load_view import GeneratorRow, LoadState, LoadView
from anyconsole.model.store import FleetStore
from tests.actions.load_targets import store_with, target
from tests.fleet import NOW


def store_of(*engines: LoadEngine) -> FleetStore:
    store = store_with(generators=tuple(f"gen{n}" for n in range(1, len(engines) + 1)))
    generators = tuple(
        Generator(name=f"gen{n}", address=f"gen{n}", engine=engine, sources=("198.18.2.1", "198.18.2.2"))
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
        limits={},
        engines=engines,
        now=NOW,
    )


def test_the_record_says_which_engine_asked_over_what() -> None:
    row = header(store_of(LoadEngine.DNSPERF), ["dnsperf 2.10"], protocol=Transport.DOT)
    assert (row.generator, row.generator_version) == ("dnsperf", "2.10")
    assert row.generator_params == ("flows=50", "protocol=dot")
    assert (row.x.workload.protocol, row.x.workload.edns, row.x.target.port) == ("dot", 4096, 853)
    assert row.x.generators[0].src_addrs == ("198.18.2.1",), "dnsperf asks from one address"
    ours = header(store_of(LoadEngine.AGENT), [""])
    assert (ours.generator, ours.x.workload.protocol, ours.x.target.port) == ("anyconsole", "udp", 53)


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
