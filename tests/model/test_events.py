"""Events are differences of verdicts: one cause, one line per row that changed, and nothing for what was fine all along."""

from __future__ import annotations

import msgspec

from anyconsole.model.drain_note import DrainNote
from anyconsole.model.events import EventLog, event_row
from anyconsole.model.facts import Exported, Link, LinkState
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Level
from tests.fleet import NOW, healthy, healthy_store, inventory

NAMES = ["fra1", "fra2", "ams1", "lon1", "sin1"]


def watched(store: FleetStore) -> EventLog:
    log = EventLog()
    assert log.observe(store, NAMES, NOW) == []
    return log


def test_a_healthy_first_look_raises_nothing() -> None:
    watched(healthy_store())


def test_trouble_seen_at_first_sight_is_an_event() -> None:
    store = healthy_store()
    fact = store.instance("fra1", "de")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, running=False, detail="nsd is not running")])
    events = EventLog().observe(store, NAMES, NOW)
    assert {(e.what, e.before, e.after) for e in events} == {
        ("node", "", "BLACKHOLE"),
        ("instance", "", "BLACKHOLE"),
        ("tenant", "", "DEGRADED"),
    }


def test_a_change_is_told_once_with_before_after_and_why() -> None:
    store = healthy_store()
    log = watched(store)
    fact = store.instance("fra1", "de")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, running=False, detail="nsd is not running")])
    (event,) = [e for e in log.observe(store, NAMES, NOW) if e.what == "instance"]
    assert (event.subject, event.before, event.after, event.level) == (
        ("instance", "fra1", "de"),
        "SERVING",
        "BLACKHOLE",
        Level.CRIT,
    )
    assert "nsd is not running" in event.reason
    assert log.observe(store, NAMES, NOW) == []
    store.apply([fact])
    assert {e.after for e in log.observe(store, NAMES, NOW)} == {"SERVING"}


def test_a_silent_node_is_one_event_not_one_for_each_of_its_parts() -> None:
    store = healthy_store()
    log = watched(store)
    later = NOW + 20
    store.apply(
        [
            msgspec.structs.replace(f, at=later)
            for f in healthy(store.inventory, later)
            if getattr(f, "node", "") != "fra1"
        ]
    )
    store.apply(
        [Link(node="fra1", section="link", at=later, state=LinkState.STALE, since=later, detail="nothing for 20 s")]
    )
    events = log.observe(store, NAMES, later)
    assert [(e.what, e.subject[1], e.after) for e in events if e.subject[1] == "fra1"] == [("node", "fra1", "STALE")]
    assert {e.what for e in events} <= {"node", "tenant"}


def test_a_moved_catchment_says_from_where_to_where() -> None:
    store = healthy_store()
    log = watched(store)
    answer = store.answer("client1", "192.0.2.53", "de.example")
    assert answer is not None
    store.apply([msgspec.structs.replace(answer, nsid="de.ams1")])
    (event,) = log.observe(store, [], NOW)
    assert (event.what, event.before, event.after) == ("catchment", "fra1", "ams1")


def test_remote_text_in_an_event_is_one_clean_line() -> None:
    store = FleetStore(inventory())
    store.apply(healthy(store.inventory))
    fact = store.session("fra1", "bird", "ix1_v4")
    assert fact is not None
    log = watched(store)
    store.apply([msgspec.structs.replace(fact, info="\x1b[31mevil\x07\nline\u202e", state=type(fact.state)("Active"))])
    for i, event in enumerate(log.observe(store, NAMES, NOW)):
        for cell in event_row(event, i).cells:
            assert cell.text.isprintable()


def test_a_drain_that_becomes_overdue_is_an_event_that_says_whose_it_is() -> None:
    store = healthy_store()
    speaker = store.speaker("fra1", "bird")
    export = store.export("fra1", "bird", "ix1_v4", "192.0.2.0/24")
    assert speaker is not None
    assert export is not None
    expires = NOW - NOW % 60
    note = DrainNote(operator="alice", ticket="CHG4711", expires=expires).text()
    store.apply(
        [
            msgspec.structs.replace(speaker, drain_hard=((1, 11),), drain_serial=7, drain_note=note),
            msgspec.structs.replace(export, exported=Exported.ABSENT),
        ]
    )
    log = EventLog()
    log.observe(store, NAMES, expires)
    events = log.observe(store, NAMES, expires + 1)
    assert {(e.what, e.after, e.level) for e in events} >= {
        ("node", "EXPIRED", Level.CRIT),
        ("instance", "EXPIRED", Level.CRIT),
    }
    assert all("alice, CHG4711" in e.reason for e in events if e.what in ("node", "instance"))
    assert log.observe(store, NAMES, expires + 2) == []
