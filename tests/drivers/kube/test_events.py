"""An event reads the same in both of its shapes, and a flood of them leaves the newest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from anyconsole.drivers.kube.events import KEPT, event_of, latest
from anyconsole.model.pods import ClusterEvent
from tests.drivers.kube.objects import NOW, Object, assert_is_clean, changed, falsified, falsified_once

CORE: Object = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "ns-5c7b8.17d3", "namespace": "de", "creationTimestamp": "2026-09-21T14:00:00Z"},
    "involvedObject": {"kind": "Pod", "namespace": "de", "name": "ns-5c7b8", "fieldPath": "spec.containers{nsd}"},
    "type": "Warning",
    "reason": "BackOff",
    "message": "Back-off restarting failed container nsd\n",
    "count": 7,
    "firstTimestamp": "2026-09-21T14:00:00Z",
    "lastTimestamp": "2026-09-21T14:10:00Z",
    "eventTime": None,
}
GROUP: Object = {
    "apiVersion": "events.k8s.io/v1",
    "kind": "Event",
    "metadata": {"name": "ns-5c7b8.17d3", "namespace": "de", "creationTimestamp": "2026-09-21T14:00:00Z"},
    "regarding": {"kind": "Pod", "namespace": "de", "name": "ns-5c7b8"},
    "type": "Warning",
    "reason": "BackOff",
    "note": "Back-off restarting failed container nsd",
    "eventTime": "2026-09-21T14:00:00.000000Z",
    "series": {"count": 7, "lastObservedTime": "2026-09-21T14:10:00.000000Z"},
}
OLD_IN_GROUP: Object = GROUP | {
    "eventTime": None, "series": None, "deprecatedCount": 7, "deprecatedLastTimestamp": "2026-09-21T14:10:00Z",
}  # fmt: skip


def read(obj: object) -> ClusterEvent:
    return event_of(obj, "k3s", NOW)


def test_both_shapes_of_an_event_say_the_same() -> None:
    found = read(CORE)
    assert found.key == ("cluster_event", "k3s", "de", "ns-5c7b8.17d3")
    assert (found.section, found.severity, found.about, found.reason) == (
        "events:de",
        "Warning",
        "Pod/ns-5c7b8",
        "BackOff",
    )
    assert found.message == "Back-off restarting failed container nsd"
    assert (found.count, NOW - found.last_at) == (7, 200)
    assert read(GROUP) == read(OLD_IN_GROUP) == found


@pytest.mark.parametrize(
    ("fields", "count", "last"),
    [
        ({"series": {"count": 9, "lastObservedTime": "2026-09-21T14:12:20.000000Z"}}, 9, 60),
        ({"lastTimestamp": None}, 7, 800),
        # Go's zero time, which some controllers send, is none.
        ({"lastTimestamp": "0001-01-01T00:00:00Z"}, 7, 800),
        ({"count": None, "lastTimestamp": None, "firstTimestamp": None, "eventTime": "2026-09-21T14:13:10.5Z"}, 1, 9.5),
        ({"count": 0, "lastTimestamp": None, "firstTimestamp": None}, 1, 800),
    ],
)
def test_count_and_time_are_those_that_kubectl_prints(fields: Object, count: int, last: float) -> None:
    found = read(CORE | fields)
    assert (found.count, NOW - found.last_at) == (count, last)


def test_an_event_without_any_time_is_one_of_now() -> None:
    bare = changed(CORE, "metadata", "creationTimestamp", to=None)
    assert read(bare | {"lastTimestamp": None, "firstTimestamp": None}).last_at == NOW


def test_of_a_flood_the_newest_are_kept() -> None:
    flood = [
        read(
            changed(CORE, "metadata", "name", to=f"e{n:04}")
            | {"lastTimestamp": f"2026-09-21T13:{n // 60:02}:{n % 60:02}Z"}
        )
        for n in range(1000)
    ]
    kept = latest(flood[::2] + flood[1::2])
    assert [event.name for event in kept] == [f"e{n:04}" for n in range(999, 999 - KEPT, -1)]


@pytest.mark.parametrize("original", [CORE, GROUP, OLD_IN_GROUP])
def test_no_single_value_of_an_event_breaks_anything(original: Object) -> None:
    for lie in falsified_once(original):
        found = read(lie)
        assert_is_clean(found)
        assert found.count >= 1


@settings(max_examples=100, deadline=None)
@given(falsified([CORE, GROUP, OLD_IN_GROUP]))
def test_a_server_that_lies_about_events_breaks_nothing(lie: object) -> None:
    assert_is_clean(read(lie))
