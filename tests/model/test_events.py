"""Events are differences of verdicts: one cause, one line per row that changed, and nothing for what was fine all along."""

from __future__ import annotations

import msgspec

from anyconsole.model.drain_note import DrainNote
from anyconsole.model.events import EventLog, event_row
from anyconsole.model.facts import Exported, Gone, Link, LinkState
from anyconsole.model.metrics import DnsProbe
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Level
from tests.fleet import CLUSTER, NOW, container, healthy, healthy_hybrid, healthy_store, inventory, pod

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


def test_a_dns_probe_that_fails_is_an_event_and_one_that_grows_old_is_none() -> None:
    store = healthy_hybrid()
    log = watched(store)
    probe = DnsProbe(
        node=CLUSTER, section="blackbox:192.0.2.53", at=NOW, tenant="de", address="192.0.2.53", succeeded=True, answered=True
    )  # fmt: skip
    store.apply([probe])
    assert log.observe(store, [], NOW) == []
    store.apply([msgspec.structs.replace(probe, at=NOW + 1, succeeded=False, answered=False)])
    (event,) = log.observe(store, [], NOW + 1)
    assert (event.subject, event.before, event.after) == (("catchment", f"{CLUSTER}/v4", "de"), "answers", "no answer")
    assert event.level is Level.WARN
    assert not [e for e in log.observe(store, [], NOW + 400) if e.subject == event.subject]
    store.apply([msgspec.structs.replace(probe, at=NOW + 401)])
    (event,) = [e for e in log.observe(store, [], NOW + 401) if e.subject == event.subject]
    assert (event.after, event.level) == ("answers", Level.OK)


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


# --- clusters


def test_a_pod_that_fails_and_recovers_is_told_and_its_coming_and_going_is_not() -> None:
    store, log = healthy_hybrid(), EventLog()
    assert log.observe(store, [CLUSTER], NOW) == []
    ac = pod("de", "ac-1")

    def seen(**fields: object) -> list[tuple[str, str, str]]:
        store.apply([msgspec.structs.replace(ac, **fields)])
        return [(e.before, e.after, e.reason) for e in log.observe(store, [CLUSTER], NOW)]

    assert seen(status="Pending", is_ready=False) == []
    assert seen(status="ContainerCreating", is_ready=False) == []
    assert seen() == []
    assert seen(status="CrashLoopBackOff", is_ready=False, trouble="ac: OOMKilled (137)", restarts=1) == [
        ("Running", "CrashLoopBackOff", "ac: OOMKilled (137)")
    ]
    assert seen(status="Running", is_ready=False, restarts=2) == [], "a pod that is known to fail tells no restart"
    assert seen(restarts=2) == [("CrashLoopBackOff", "Running", "")]
    assert seen(status="Terminating", is_ready=False, restarts=2) == []
    store.apply([Gone(key=ac.key)])
    assert log.observe(store, [CLUSTER], NOW) == []


def test_a_restart_of_a_pod_that_seemed_well_is_told_with_how_it_ended() -> None:
    store, log = healthy_hybrid(), EventLog()
    log.observe(store, [CLUSTER], NOW)
    before = store.pods(CLUSTER, "de")[-1]
    nsd = container("nsd", restarts=1, last_reason="OOMKilled", last_exit_code=137, last_finished_at=NOW)
    store.apply([msgspec.structs.replace(before, restarts=1, containers=(container("observer"), nsd))])
    (event,) = log.observe(store, [CLUSTER], NOW)
    assert (event.before, event.after, event.reason) == ("0 restarts", "1 restarts", "nsd: OOMKilled (137)")
    assert event_row(event, 1).cells[2].text == f"k3s de {before.name}"


def test_a_lost_cluster_is_one_event_and_its_pods_are_none() -> None:
    store, log = healthy_hybrid(), EventLog()
    log.observe(store, [CLUSTER], NOW)
    link = Link(
        node=CLUSTER, section="link", at=NOW, state=LinkState.BACKOFF, since=NOW, detail="k3s: connection refused"
    )
    store.apply([link])
    (event,) = [e for e in log.observe(store, [CLUSTER], NOW + 60) if e.what in ("cluster", "pod")]
    assert (event.what, event.before, event.after, event.reason) == (
        "cluster",
        "live",
        "backoff",
        "k3s: connection refused",
    )
    store.apply([msgspec.structs.replace(link, state=LinkState.CONNECTING)])
    assert log.observe(store, [CLUSTER], NOW + 61) == []
