"""The store: latest wins, freshness is kept apart from change, and a lying node is bounded."""

from __future__ import annotations

import math

import msgspec
import pytest

from anyconsole.model.facts import Beat, Gone, SessionState, SessionStatus
from anyconsole.model.pods import Pod
from anyconsole.model.store import MAX_FACTS_PER_CLUSTER, MAX_FACTS_PER_NODE, SERIES_LENGTH, FleetStore, Update
from tests.fleet import CLUSTER, NOW, healthy, healthy_hybrid, healthy_store, hybrid, inventory, pod


def test_an_equal_fact_is_fresher_evidence_but_no_change() -> None:
    store = healthy_store()
    fact = store.session("fra1", "bird", "ix1_v4")
    assert fact is not None
    changes = store.apply([msgspec.structs.replace(fact, at=NOW + 5)])
    assert not changes.changed
    assert changes.beaten == {"fra1"}
    assert store.age(fact, NOW + 6) == 1


def test_a_beat_freshens_only_the_sections_it_names() -> None:
    store = healthy_store()
    store.apply([Beat(node="fra1", at=NOW + 10, sections=("bird",))])
    assert store.is_fresh(store.session("fra1", "bird", "ix1_v4"), NOW + 11)
    assert not store.is_fresh(store.instance("fra1", "de"), NOW + 11)
    assert not store.is_fresh(store.session("fra2", "bird", "ix1_v4"), NOW + 11)


def test_a_late_fact_never_makes_its_section_older() -> None:
    store = healthy_store()
    fact = store.session("fra1", "bird", "ix1_v4")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, at=NOW - 100, info="late")])
    assert store.section_seen_at("fra1", "bird") == NOW


@pytest.mark.parametrize("by", [-3600.0, 3600.0])
def test_evidence_keeps_its_age_when_the_clock_is_set(by: float) -> None:
    store = healthy_store()
    replica = FleetStore(store.inventory)
    replica.apply(list(store))
    nodes = store.clock_was_set(by)
    replica.apply(Beat(node=n, at=at, sections=(s,)) for n in nodes for s, at in store.sections(n).items())
    for each in (store, replica):
        fact = each.session("fra1", "bird", "ix1_v4")
        assert fact is not None
        assert each.age(fact, NOW + by + 2) == 2
        assert each.is_fresh(fact, NOW + by + 2)
        assert not each.is_fresh(fact, NOW + by + 60)
        each.apply([Beat(node="fra1", at=NOW + by + 60, sections=("bird",))])
        assert each.is_fresh(fact, NOW + by + 61)


def test_what_is_gone_is_gone_until_it_is_seen_again() -> None:
    store = healthy_store()
    fact = store.session("fra1", "bird", "ix1_v4")
    assert fact is not None
    assert store.apply([Gone(key=fact.key)]).gone == {fact.key}
    assert store.get(fact.key) is None
    assert store.apply([Gone(key=fact.key)]).gone == frozenset()
    assert store.apply([fact]).changed == {fact.key}


def test_a_node_that_invents_sessions_is_bounded_and_counted() -> None:
    store = FleetStore(inventory())
    flood = [
        SessionStatus(node="fra1", section="bird", at=NOW, speaker="bird", session=f"s{i}", state=SessionState.IDLE)
        for i in range(MAX_FACTS_PER_NODE + 50)
    ]
    store.apply(flood)
    store.apply([f for f in healthy(store.inventory) if getattr(f, "node", "") == "fra2"])
    assert len(store.of_node("fra1", SessionStatus)) == MAX_FACTS_PER_NODE
    assert store.refused == 50
    assert store.host("fra2") is not None


def test_a_replica_fed_by_frames_equals_the_original() -> None:
    store = healthy_store()
    replica = FleetStore(store.inventory)
    replica.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(list(store)), type=list[Update]))
    assert {f.key: f for f in replica} == {f.key: f for f in store}


def test_series_say_unknown_where_nothing_was_known_and_stay_short() -> None:
    store = healthy_store()
    store.sample(NOW)
    store.sample(NOW + 100)
    assert store.series("fra1", "de")[0] == 12.0
    assert math.isnan(store.series("fra1", "de")[1])
    assert store.summed_series(tenant="de")[0] == 60.0
    assert store.summed_series(node="fra1")[0] == 36.0
    for i in range(SERIES_LENGTH + 10):
        store.sample(NOW + i)
    assert len(store.series("fra1", "de")) == SERIES_LENGTH


def test_prometheus_stands_in_when_the_own_counters_are_silent() -> None:
    store = healthy_store()
    own = store.rates("fra1", "de", "probe")
    assert own is not None
    scraped = msgspec.structs.replace(own, source="prometheus", section="prometheus", qps=99.0, at=NOW + 20)
    store.apply([scraped])
    fresh = store.qps("fra1", "de", NOW + 1)
    late = store.qps("fra1", "de", NOW + 21)
    assert fresh is not None
    assert late is not None
    assert (fresh.source, late.source) == ("probe", "prometheus")


def test_a_replica_whose_engine_was_replaced_starts_anew_but_keeps_its_charts() -> None:
    store = healthy_store()
    store.sample(NOW)
    assert store.forget().gone
    assert list(store) == []
    assert store.section_seen_at("fra1", "bird") is None
    assert store.series("fra1", "de") == (12.0,)


def test_a_cluster_may_have_more_to_tell_than_a_node_and_is_bounded_too() -> None:
    store = FleetStore(hybrid())
    store.apply([pod("de", f"p{i}") for i in range(MAX_FACTS_PER_CLUSTER + 50)])
    assert len(store.pods(CLUSTER)) == MAX_FACTS_PER_CLUSTER
    assert store.refused == 50
    assert len(store.pods("no such cluster")) == 0


def test_pods_are_told_by_namespace_in_order_and_only_while_they_are_there() -> None:
    store = FleetStore(hybrid())
    store.apply([pod("de", "b"), pod("denic", "a"), pod("nic", "a"), pod("de", "a")])
    assert [p.name for p in store.pods(CLUSTER, "de")] == ["a", "b"]
    assert [(p.namespace, p.name) for p in store.pods(CLUSTER)] == [
        ("de", "a"),
        ("de", "b"),
        ("denic", "a"),
        ("nic", "a"),
    ]
    store.apply([Gone(key=pod("de", "a").key), pod("de", "c")])
    assert [p.name for p in store.pods(CLUSTER, "de")] == ["b", "c"]
    assert store.of_node(CLUSTER, Pod) == store.pods(CLUSTER)
    store.forget()
    assert store.pods(CLUSTER) == []


def test_what_a_cluster_says_reaches_a_replica_whole() -> None:
    store = healthy_hybrid()
    replica = FleetStore(store.inventory)
    replica.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(list(store)), type=list[Update]))
    assert replica.pods(CLUSTER) == store.pods(CLUSTER)
    assert replica.cluster(CLUSTER) == store.cluster(CLUSTER)
    assert replica.cluster_node("hv1") == store.cluster_node("hv1")
    assert replica.cluster_events(CLUSTER) == store.cluster_events(CLUSTER) != []
