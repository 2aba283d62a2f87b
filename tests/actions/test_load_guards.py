"""A load test is refused wherever it could be felt outside, says why with numbers, and stops itself when something moves."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import pytest

from anyconsole.actions.guards import GuardVerdict, Outcome
from anyconsole.actions.judge import judge
from anyconsole.actions.load.guards import Baseline, baseline_of, strangers, trip
from anyconsole.actions.load.request import LoadRequest, Purpose, make_plan, request_of
from anyconsole.actions.plan import Plan, render
from anyconsole.errors import AnyconsoleError
from anyconsole.model.facts import Beat, Exported, Gone, LinkState, SessionState
from anyconsole.model.inventory import ClusterSpec, Generator, LoadTarget, TargetClass
from anyconsole.model.pods import Cluster, Permission
from anyconsole.model.store import FleetStore
from tests.actions.load_targets import drained_store, hybrid_store, store_with, target
from tests.fleet import CLUSTER, NOW, healthy_store, hybrid


def judged(store: FleetStore, **asked: Any) -> dict[str, GuardVerdict]:  # noqa: ANN401 - fields of the request
    plan = make_plan(store, LoadRequest(**{"operator": "ops", **asked}), NOW)
    return {guard.name: guard for guard in judge(store, plan, NOW)}


def refused(store: FleetStore, **asked: Any) -> set[str]:  # noqa: ANN401
    return {name for name, guard in judged(store, **asked).items() if guard.refuses}


def change(store: FleetStore, key: tuple[str, ...], **fields: object) -> None:
    fact = store.get(key)
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, **fields)])


# --- before


def test_a_drained_lab_instance_may_be_searched() -> None:
    assert refused(drained_store()) == set()


def test_an_instance_in_service_is_refused_unless_somebody_says_why() -> None:
    guards = judged(store_with())
    assert guards["in service"].refuses
    assert guards["in service"].overridable
    assert "drain it first" in guards["in service"].numbers
    assert "12 q/s" in guards["in service"].numbers


@pytest.mark.parametrize("class_", list(TargetClass))
def test_what_any_node_announces_is_refused_and_that_is_final(class_: TargetClass) -> None:
    guards = judged(drained_store(target(addresses=("192.0.2.53",), class_=class_)))
    assert guards["announced"].refuses, "fra2 and the others still announce it"
    assert not guards["announced"].overridable
    assert "fra2" in guards["announced"].numbers


def test_an_announced_address_that_nobody_announces_now_may_be_tested_in_a_lab_only() -> None:
    def silenced(lab: LoadTarget) -> FleetStore:
        store = store_with(lab)
        for fact in list(store):
            if fact.kind == "export":
                store.apply([msgspec.structs.replace(fact, exported=Exported.ABSENT)])
        return store

    assert "announced" not in refused(silenced(target(addresses=("192.0.2.53",))))
    assert "announced" in refused(silenced(target(addresses=("192.0.2.53",), class_=TargetClass.CANARY)))


COVERING = ("covering", "ams1", "bird", "198.18.1.1")


def test_what_a_daemon_announces_is_refused_though_the_profile_knows_nothing_of_it() -> None:
    store = drained_store()
    assert "no daemon sends anything that covers it (0 s ago)" in judged(store)["announced"].numbers
    change(store, COVERING, routes=("198.18.0.0/15 on rogue",))
    guard = judged(store)["announced"]
    assert guard.refuses
    assert not guard.overridable
    assert "ams1: 198.18.0.0/15 on rogue" in guard.numbers


def test_a_daemon_that_did_not_tell_what_it_announces_refuses_unless_somebody_knows_better() -> None:
    store = drained_store()
    change(store, COVERING, unknown="198.18.0.1 is sent too many routes to look through")
    guard = judged(store)["announced"]
    assert (guard.refuses, guard.overridable) == (True, True)
    assert "bird on ams1: 198.18.0.1 is sent too many routes" in guard.numbers
    store = drained_store()
    store.apply([Gone(key=COVERING)])
    assert "bird on ams1 didn't tell" in judged(store)["announced"].numbers
    store = drained_store()
    store.apply([Beat(node="ams1", at=NOW - 60, sections=("bird:covering",))])
    assert "bird on ams1 told 60 s ago" in judged(store)["announced"].numbers


def test_speakers_of_a_cluster_are_said_not_to_be_asked() -> None:
    store = healthy_store(msgspec.structs.replace(hybrid(), load=store_with().inventory.load))
    (cluster,) = {node.cluster for node in store.inventory.nodes if node.cluster}
    asked = LoadRequest(operator="ops", targets=("de-fra1",))
    generators = store_with().inventory.generators
    store.inventory = msgspec.structs.replace(store.inventory, generators=generators)
    guard = next(g for g in judge(store, make_plan(store, asked, NOW), NOW) if g.name == "announced")
    assert f"the speakers of {cluster} are asked for the profile's prefixes alone" in guard.numbers


def in_cluster(store: FleetStore) -> dict[str, GuardVerdict]:
    return judged(store, queries="/queries")


def test_a_target_in_a_cluster_is_judged_by_what_its_cluster_tells() -> None:
    guards = in_cluster(hybrid_store())
    assert "de on hv1 is announced on " in guards["in service"].numbers
    assert "answers 9 q/s now" in guards["in service"].numbers, "as its Prometheus says"
    assert guards["neighbours"].outcome is Outcome.ASK
    assert {name for name, guard in guards.items() if guard.refuses} == {"announced", "in service"}
    store = hybrid_store()
    for fact in list(store):
        if fact.kind == "export" and fact.node == "hv1":
            store.apply([msgspec.structs.replace(fact, exported=Exported.ABSENT)])
    guards = in_cluster(store)
    assert "de on hv1 is announced nowhere" in guards["in service"].numbers
    assert {name for name, guard in guards.items() if guard.refuses} == {"announced"}


def test_whether_a_cluster_announces_the_address_of_its_target_is_not_known_and_wants_a_reason() -> None:
    guard = in_cluster(hybrid_store())["announced"]
    assert guard.refuses
    assert guard.overridable
    assert "not known: calico on hv1 is asked for the profile's prefixes alone; calico on hv2 is" in guard.numbers


@pytest.mark.parametrize(
    ("key", "fields", "name"),
    [
        (("instance", "hv1", "de"), {"is_ready": False}, "evidence"),
        (("instance", "hv1", "de"), {"running": False}, "evidence"),
        (("routing", "k3s"), {"lock": "bob's"}, "pending"),
        (("speaker", "hv1", "calico"), {"pending": "bob's"}, "pending"),
    ],
)
def test_a_pod_that_is_not_well_or_a_cluster_that_is_being_changed_refuses_it(
    key: tuple[str, ...], fields: dict[str, object], name: str
) -> None:
    store = hybrid_store()
    change(store, key, **fields)
    guard = in_cluster(store)[name]
    assert guard.refuses
    assert not guard.overridable


def test_a_cluster_that_tells_nothing_any_more_refuses_it() -> None:
    store = hybrid_store()
    plan = make_plan(store, LoadRequest(operator="ops", queries="/queries"), NOW)
    guards = {guard.name: guard for guard in judge(store, plan, NOW + 600)}
    assert guards["evidence"].refuses
    assert "whether de on hv1 is announced on " in guards["in service"].numbers
    assert guards["in service"].refuses
    assert guards["announced"].refuses


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"is_ready": False, "detail": "observer: no answer"}, "de on hv1 is not ready: observer: no answer"),
        ({"running": False}, "de on hv1 does not run any more"),
        ({"uptime": 2.0}, "de on hv1 was restarted, or its pod replaced"),
    ],
)
def test_a_pod_that_suffers_stops_the_test(fields: dict[str, object], why: str) -> None:
    store = hybrid_store()
    (lab,) = store.inventory.load.targets
    before = baseline_of(store, lab, NOW)
    assert trip(store, lab, before, NOW) == ""
    change(store, ("instance", "hv1", "de"), **fields)
    assert trip(store, lab, before, NOW) == why


def test_a_target_in_a_cluster_wants_a_file_of_queries_and_its_plan_shows_the_lock() -> None:
    store = hybrid_store()
    with pytest.raises(AnyconsoleError, match=r"de-hv1: no zone can be transferred .* give --queries FILE"):
        make_plan(store, LoadRequest(operator="ops"), NOW)
    (step,) = make_plan(store, LoadRequest(operator="ops", queries="/queries"), NOW).steps
    assert "asks  /queries" in step.about
    store = hybrid_store(target(name="de-hv1", node="hv1", queries="/of the profile"))
    for asked, file in (("", "/of the profile"), ("/said", "/said")):
        (step,) = make_plan(store, LoadRequest(operator="ops", queries=asked), NOW).steps
        assert f"asks  {file}" in step.about
    assert step.apply.startswith("k3s: hold hv1\nCREATE /apis/coordination.k8s.io/v1/namespaces/anyconsole/leases\n")
    assert "leaseDurationSeconds: 1200\n" in step.apply
    assert "leases/load-test.hv1 if-exists" in step.apply
    assert not any("what its name server counts" in words for words in step.proof)


def test_what_a_cluster_does_not_permit_is_named_before_anything_is_made_there() -> None:
    store = hybrid_store()
    cluster = {"group": "coordination.k8s.io", "resource": "leases", "namespace": "anyconsole"}
    denied = tuple(Permission(verb=verb, **cluster) for verb in ("create", "delete"))
    assert judged(store, queries="/queries")["permissions"].numbers == "all that is done in k3s is permitted"
    change(store, ("cluster", CLUSTER), denied=(*denied, Permission(verb="patch", resource="nodes")))
    guard = judged(store, queries="/queries")["permissions"]
    assert (guard.refuses, guard.overridable) == (True, False)
    assert guard.numbers == (
        "k3s: no permission for ops: create leases.coordination.k8s.io in anyconsole,"
        " delete leases.coordination.k8s.io in anyconsole"
    )
    with pytest.raises(AnyconsoleError, match=r"k3s: no permission for ops: create leases.*; de-hv1: no zone"):
        make_plan(store, LoadRequest(operator="ops"), NOW)
    store.apply([Gone(key=("cluster", CLUSTER))])
    assert "not known" in judged(store, queries="/queries")["permissions"].numbers


def test_generators_that_may_not_be_spoken_with_are_not_made() -> None:
    pods = Generator(name="pods", address="pods", cluster=CLUSTER, namespace="load")
    store = store_with(generators=(), pods=(pods,), clusters=(ClusterSpec(name=CLUSTER),))
    may_not = Permission(verb="create", resource="pods/exec", namespace="load")
    store.apply([Cluster(node=CLUSTER, section="api", at=NOW, user="bob", denied=(may_not,))])
    guard = judged(store)["permissions"]
    assert guard.numbers == "k3s: no permission for bob: create pods/exec in load"
    assert judged(store_with())["permissions"].numbers == "nothing is done in a cluster"


def test_what_is_not_known_to_be_withdrawn_counts_as_announced() -> None:
    store = drained_store()
    for fact in list(store):
        if fact.kind == "export" and fact.node == "fra1":
            store.apply([msgspec.structs.replace(fact, exported=Exported.UNKNOWN)])
    assert "in service" in refused(store)


def test_caps_of_target_and_generators_are_never_exceeded() -> None:
    store = drained_store()
    assert "20,000 q/s" in judged(store)["caps"].numbers
    assert "caps" in refused(store, purpose=Purpose.FIXED, rate=20_001)
    assert "caps" in refused(store, purpose=Purpose.FIXED, rate=10, seconds=601)
    assert "caps" not in refused(store, purpose=Purpose.FIXED, rate=20_000, seconds=600)


def test_only_whom_the_profile_names_may_test() -> None:
    store = drained_store(target(users=("alice",)))
    assert "permitted" in refused(store)
    assert "permitted" not in refused(store, operator="alice")
    assert not judged(store)["permitted"].overridable


def test_a_generator_that_is_gone_or_a_change_that_is_pending_refuses_it() -> None:
    store = drained_store()
    change(store, ("link", "gen1"), state=LinkState.BACKOFF)
    assert make_plan(store, LoadRequest(), NOW).missing
    store = drained_store()
    change(store, ("speaker", "fra1", "bird"), pending="configured by somebody")
    assert "pending" in refused(store)


def test_a_name_server_that_is_down_or_unseen_is_not_tested() -> None:
    store = drained_store()
    change(store, ("instance", "fra1", "de"), running=False)
    assert "evidence" in refused(store)


class TestProduction:
    """A production target wants force, a window, a low fixed rate and a second pair of eyes."""

    store = drained_store(target(class_=TargetClass.PROD))
    fixed: ClassVar[dict[str, Any]] = {
        "purpose": Purpose.FIXED,
        "rate": 1.0,
        "force": True,
        "window_until": NOW + 60,
        "second": "bob",
    }

    def test_with_all_of_it(self) -> None:
        assert "production" not in refused(self.store, **self.fixed)

    @pytest.mark.parametrize(
        "but",
        [
            {"force": False},
            {"purpose": Purpose.SEARCH},
            {"rate": 100.0},
            {"window_until": NOW - 1},
            {"second": ""},
            {"second": "ops"},
        ],
        ids=lambda but: next(iter(but)),
    )
    def test_but_not_without(self, but: dict[str, Any]) -> None:
        assert "production" in refused(self.store, **self.fixed | but)
        assert not judged(self.store, **self.fixed | but)["production"].overridable

    def test_its_name_has_to_be_typed(self) -> None:
        plan = make_plan(self.store, LoadRequest(**self.fixed), NOW)
        assert plan.type_to_confirm == "de-fra1"


# --- the plan


def test_the_plan_says_who_asks_whom_how_fast_and_who_may_feel_it() -> None:
    store = drained_store()
    plan = make_plan(store, LoadRequest(reason="capacity"), NOW)
    text = render(plan, judge(store, plan, NOW))
    for words in (
        "gen1$ python3",
        "198.18.1.1",
        "20,000 q/s",
        "neighbours there: nic, enum",
        "ends  by itself 3 s after",
    ):
        assert words in text
    assert "SCRIPT 1 confirm" not in text


def test_a_longer_confirmation_is_in_the_time_that_is_asked_for() -> None:
    store = drained_store(target(max_seconds=1_000))
    short, usual = (judged(store, confirm=seconds)["caps"].numbers.rpartition("for ")[2] for seconds in (5.0, 30.0))
    assert (short, usual) == ("200 s", "300 s")
    with pytest.raises(AnyconsoleError, match="confirm 0"):
        make_plan(store, LoadRequest(confirm=0), NOW)


def test_nothing_that_is_not_listed_is_ever_a_target() -> None:
    with pytest.raises(AnyconsoleError, match=r"\[\[load.target\]\]"):
        make_plan(store_with(), LoadRequest(nodes=("fra2",)), NOW)
    with pytest.raises(AnyconsoleError, match="there are de-fra1"):
        make_plan(store_with(), LoadRequest(targets=("de-fra2",)), NOW)


@pytest.mark.parametrize(
    "asked",
    [
        {"purpose": Purpose.FIXED},
        {"loss": 1.0},
        {"width": 0.0},
        {"flows": 0},
        {"seconds": -1.0},
        {"generators": ("gen2",)},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_what_makes_no_sense_is_said_at_once(asked: dict[str, Any]) -> None:
    with pytest.raises(AnyconsoleError):
        make_plan(store_with(), LoadRequest(**asked), NOW)


def test_several_targets_are_one_after_the_other_and_have_to_be_typed() -> None:
    store = store_with(target(), target(name="nic-fra1", tenant="nic"))
    plan = make_plan(store, LoadRequest(nodes=("fra1",)), NOW)
    assert [step.part for step in plan.steps] == ["de-fra1", "nic-fra1"]
    assert plan.type_to_confirm


@pytest.mark.parametrize(
    ("nsid", "stranger"),
    [("de.fra1", False), ("fra1-de", False), ("nic.fra1", True), ("fra1", True), ("de.fra2", True), ("", True)],
)
def test_without_an_identity_only_the_tenants_own_name_on_the_node_is_the_target(nsid: str, stranger: bool) -> None:
    assert bool(strangers(store_with(), target(), [nsid])) is stranger
    assert strangers(store_with(target()), target(identity=("fra1",)), ["fra1"]) == [], (
        "what the profile says is believed"
    )


# --- while it runs


@pytest.fixture
def running() -> tuple[FleetStore, Baseline]:
    store = drained_store()
    return store, baseline_of(store, target(), NOW)


def test_nothing_moved_nothing_stops(running: tuple[FleetStore, Baseline]) -> None:
    store, before = running
    assert trip(store, target(), before, NOW, identities=["de.fra1"], servfail=0.001, idle=0.2) == ""


def test_a_session_or_an_export_that_changes_stops_it(running: tuple[FleetStore, Baseline]) -> None:
    store, before = running
    change(store, ("session", "fra1", "bird", "ix1_v4"), state=SessionState.IDLE)
    assert "ix1_v4 of fra1 is Idle, it was Established" in trip(store, target(), before, NOW)


def test_an_export_that_comes_back_stops_it(running: tuple[FleetStore, Baseline]) -> None:
    store, before = running
    change(store, ("export", "fra1", "bird", "ix1_v4", "192.0.2.0/24"), exported=Exported.ANNOUNCED)
    assert "192.0.2.0/24" in trip(store, target(), before, NOW)


def test_a_neighbour_that_stops_answering_stops_it(running: tuple[FleetStore, Baseline]) -> None:
    store, before = running
    assert before.answering == {"nic", "enum"}
    change(store, ("answer", "fra1", "198.51.100.53", "nic.example"), rcode=None, serial=None, error="timeout")
    assert "nic on fra1 doesn't answer" in trip(store, target(), before, NOW)


def test_an_answer_from_elsewhere_stops_it(running: tuple[FleetStore, Baseline]) -> None:
    store, before = running
    assert "de.fra2 answered" in trip(store, target(), before, NOW, identities=["de.fra1", "de.fra2"])
    assert "(no NSID)" in trip(store, target(), before, NOW, identities=[""])
    named = target(identity=("ns1.example",))
    assert trip(store, named, before, NOW, identities=["ns1.example"]) == ""
    assert "de.fra1" in trip(store, named, before, NOW, identities=["de.fra1"])


def test_failures_and_a_starving_node_stop_it(running: tuple[FleetStore, Baseline]) -> None:
    store, before = running
    assert "SERVFAIL" in trip(store, target(), before, NOW, servfail=0.02)
    assert "CPU" in trip(store, target(), before, NOW, idle=0.04)
    assert "60% goes to the test" in trip(store, target(), before, NOW, idle=0.04, taken=0.6)
    assert trip(store, target(), before, NOW, idle=0.0, taken=0.01) == "", "others keep the node busy"
    alone = msgspec.structs.replace(before, answering=frozenset())
    assert trip(store, target(), alone, NOW, idle=0.0) == "", "nobody else needs it"


def test_a_node_that_can_not_be_seen_any_more_stops_it(running: tuple[FleetStore, Baseline]) -> None:
    store, before = running
    assert "can't be seen any more" in trip(store, target(), before, NOW + 60)


# --- two in turns


def two(**second: Any) -> FleetStore:  # noqa: ANN401 - of a target
    return store_with(target(), target(name="de-fra2", node="fra2", addresses=("198.18.1.2",), **second))


def test_two_targets_are_tested_a_b_b_a_each_run_with_the_number_of_its_turn() -> None:
    plan = make_plan(two(), LoadRequest(targets=("de-fra2", "de-fra1"), rounds=4, pair="7f3a"), NOW)
    plan = msgspec.json.decode(msgspec.json.encode(plan), type=Plan)
    assert [step.host for step in plan.steps] == ["fra2", "fra1", "fra1", "fra2"] * 2
    assert plan.in_order
    assert [request_of(plan, step).repeat for step in plan.steps] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert plan.steps[2].title.endswith("port 53, turn 2 of 4 in pair 7f3a")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"targets": ("de-fra1",)}, "name both"),
        ({"targets": ("de-fra1", "de-fra1")}, "name both"),
        ({"targets": ("de-fra1", "de-fra2"), "pair": ""}, "id of their pair"),
        ({"targets": ("de-fra1", "de-fra2"), "rounds": 21}, "rounds 21"),
    ],
)
def test_what_can_not_be_compared_in_turns_is_not_planned(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(AnyconsoleError, match=why):
        make_plan(two(), LoadRequest(**dict[str, Any](rounds=2, pair="7f3a") | asked), NOW)


def test_two_that_are_compared_are_asked_the_same() -> None:
    store, asked = two(queries="/other"), LoadRequest(targets=("de-fra1", "de-fra2"), rounds=2, pair="7f3a")
    with pytest.raises(AnyconsoleError, match="asked different things"):
        make_plan(store, asked, NOW)
    assert make_plan(store, msgspec.structs.replace(asked, queries="/same"), NOW).steps
