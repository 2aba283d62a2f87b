"""What the facts mean: one fact is changed in a healthy fleet, and exactly the right rows change their verdict."""

from __future__ import annotations

import msgspec
import pytest

from anyconsole.model import verdicts
from anyconsole.model.drain_note import DrainNote, clock_words
from anyconsole.model.facts import Beat, Exported, LinkState, Observation, SessionState
from anyconsole.model.inventory import Family, SessionSpec
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Level, level_of
from anyconsole.model.verdicts import Intent, Verdict
from tests.fleet import NOW, SERIAL, healthy_store

P4 = "192.0.2.0/24"
EXPORT = ("export", "fra1", "bird", "ix1_v4", P4)
SPEAKER = ("speaker", "fra1", "bird")
SESSION = ("session", "fra1", "bird", "ix1_v4")
INSTANCE = ("instance", "fra1", "de")


def change(store: FleetStore, key: tuple[str, ...], **fields: object) -> None:
    fact = store.get(key)
    assert fact is not None, key
    store.apply([msgspec.structs.replace(fact, **fields)])


def silence(store: FleetStore, key: tuple[str, ...]) -> None:
    """The address answers nobody who asks from its own node."""
    change(store, key, rcode=None, serial=None, error="timeout")


def cell(store: FleetStore, now: float = NOW) -> verdicts.AnnouncementVerdict:
    spec = store.inventory.node("fra1")
    return next(c for c in verdicts.announcements(store, spec, now, "de") if (c.session, c.prefix) == ("ix1_v4", P4))


def all_verdicts(store: FleetStore, now: float = NOW) -> dict[tuple[str, ...], Verdict]:
    seen: dict[tuple[str, ...], Verdict] = {}
    for spec in store.inventory.nodes:
        seen["node", spec.name] = verdicts.node(store, spec, now).verdict
        for instance in spec.instances:
            seen["instance", spec.name, instance.tenant] = verdicts.instance(store, spec, instance, now).verdict
        for c in verdicts.announcements(store, spec, now):
            seen["announcement", spec.name, c.session, c.prefix] = c.verdict
    for tenant in store.inventory.tenants:
        seen["tenant", tenant.name] = verdicts.tenant(store, tenant, now).verdict
    return seen


def changed_by(
    store: FleetStore, before: dict[tuple[str, ...], Verdict], now: float = NOW
) -> dict[tuple[str, ...], Verdict]:
    return {k: v for k, v in all_verdicts(store, now).items() if before[k] is not v}


def test_a_healthy_fleet_serves_everywhere() -> None:
    store = healthy_store()
    assert set(all_verdicts(store).values()) == {Verdict.SERVING}


@pytest.mark.parametrize(
    ("hard", "soft", "exported", "answers", "verdict"),
    [
        (False, False, Exported.ANNOUNCED, True, Verdict.SERVING),
        (False, False, Exported.ANNOUNCED, False, Verdict.BLACKHOLE),
        (False, False, Exported.DEPREFERRED, True, Verdict.DRIFT),
        (False, False, Exported.ABSENT, True, Verdict.DRIFT),
        (False, True, Exported.DEPREFERRED, True, Verdict.SOFT),
        (False, True, Exported.DEPREFERRED, False, Verdict.BLACKHOLE),
        (False, True, Exported.ANNOUNCED, True, Verdict.DRIFT),
        (False, True, Exported.ABSENT, True, Verdict.DRIFT),
        (True, False, Exported.ABSENT, True, Verdict.DRAINED),
        (True, False, Exported.ABSENT, False, Verdict.DRAINED),
        (True, False, Exported.ANNOUNCED, True, Verdict.DRIFT),
        (True, False, Exported.ANNOUNCED, False, Verdict.BLACKHOLE),
        (True, False, Exported.DEPREFERRED, True, Verdict.DRIFT),
        (False, False, Exported.UNKNOWN, True, Verdict.UNKNOWN),
    ],
)
def test_three_truths_make_one_verdict(
    hard: bool, soft: bool, exported: Exported, answers: bool, verdict: Verdict
) -> None:
    store = healthy_store()
    change(store, SPEAKER, drain_hard=((1, 11),) if hard else (), drain_soft=((1, 11),) if soft else ())
    change(store, EXPORT, exported=exported)
    if not answers:
        silence(store, ("answer", "fra1", "192.0.2.53", "de.example"))
    assert cell(store).verdict is verdict
    assert (cell(store).verdict is Verdict.SERVING) == (cell(store).reason == "")


def test_a_stopped_name_server_is_a_blackhole_on_its_own_rows_only() -> None:
    store = healthy_store()
    before = all_verdicts(store)
    change(store, INSTANCE, running=False, detail="control socket: connection refused")
    changed = changed_by(store, before)
    assert changed.pop(("node", "fra1")) is Verdict.BLACKHOLE
    assert changed.pop(("instance", "fra1", "de")) is Verdict.BLACKHOLE
    assert changed.pop(("tenant", "de")) is Verdict.DEGRADED
    assert {k[:2] for k in changed} == {("announcement", "fra1")}
    assert {k[3] for k in changed} == {P4, "2001:db8:de::/48"}
    assert set(changed.values()) == {Verdict.BLACKHOLE}


def test_one_family_that_does_not_answer_is_a_blackhole_in_that_family_only() -> None:
    store = healthy_store()
    silence(store, ("answer", "fra1", "2001:db8:de::53", "de.example"))
    spec = store.inventory.node("fra1")
    by_prefix = {c.prefix: c.verdict for c in verdicts.announcements(store, spec, NOW, "de")}
    assert by_prefix == {P4: Verdict.SERVING, "2001:db8:de::/48": Verdict.BLACKHOLE}


def test_a_stopped_routing_daemon_wastes_the_instances_and_downs_the_node() -> None:
    store = healthy_store()
    before = all_verdicts(store)
    change(store, SPEAKER, running=False, detail="bird is not running")
    changed = changed_by(store, before)
    assert changed.pop(("node", "fra1")) is Verdict.DOWN
    for tenant in ("de", "nic", "enum"):
        assert changed.pop(("instance", "fra1", tenant)) is Verdict.WASTED
        assert changed.pop(("tenant", tenant)) is Verdict.DEGRADED
    assert {k[:2] for k in changed} == {("announcement", "fra1")}
    assert set(changed.values()) == {Verdict.DOWN}


def test_one_lost_session_degrades_and_says_which() -> None:
    store = healthy_store()
    change(store, SESSION, state=SessionState.ACTIVE, info="Connection refused")
    spec = store.inventory.node("fra1")
    node = verdicts.node(store, spec, NOW)
    assert (node.verdict, node.reason) == (Verdict.DEGRADED, "ix1_v4 Active: Connection refused")
    of_instance = verdicts.instance(store, spec, spec.instances[0], NOW)
    assert of_instance.reason == "ix1_v4 Active: Connection refused (1 of 4 announcements)"
    assert cell(store).verdict is Verdict.DOWN
    assert cell(store).exported is Exported.ABSENT


def test_a_node_that_fell_silent_is_stale_and_says_nothing_else() -> None:
    store = healthy_store()
    later = NOW + 30
    for spec in store.inventory.nodes[1:]:
        store.apply([msgspec.structs.replace(f, at=later) for f in store if f.node == spec.name])
    change(store, ("link", "fra1"), state=LinkState.STALE, detail="nothing for 30 s")
    seen = all_verdicts(store, later)
    assert seen["node", "fra1"] is Verdict.STALE
    assert {v for k, v in seen.items() if k[1] == "fra1"} == {Verdict.STALE}
    assert {v for k, v in seen.items() if k[0] in ("node", "instance") and k[1] != "fra1"} == {Verdict.SERVING}
    assert cell(store, later).exported is Exported.UNKNOWN
    assert cell(store, later).age == pytest.approx(30)


def test_an_older_zone_is_named_on_the_odd_one_out_only() -> None:
    store = healthy_store()
    before = all_verdicts(store)
    change(store, INSTANCE, serials={"de.example": SERIAL - 1})
    changed = changed_by(store, before)
    assert changed == {
        ("node", "fra1"): Verdict.OLD_ZONE,
        ("instance", "fra1", "de"): Verdict.OLD_ZONE,
        ("tenant", "de"): Verdict.DEGRADED,
    }


def test_a_node_drained_on_purpose_is_drained_not_down() -> None:
    store = healthy_store()
    pairs = tuple((t, s) for t in (1, 2, 3) for s in (11, 12, 31, 32))
    change(store, SPEAKER, drain_hard=pairs, drain_serial=7)
    for fact in list(store):
        if fact.key[:2] == ("export", "fra1"):
            change(store, fact.key, exported=Exported.ABSENT)
    spec = store.inventory.node("fra1")
    assert verdicts.node(store, spec, NOW).verdict is Verdict.DRAINED
    assert {verdicts.instance(store, spec, i, NOW).verdict for i in spec.instances} == {Verdict.DRAINED}
    assert verdicts.tenant(store, store.inventory.tenant("de"), NOW).verdict is Verdict.SERVING


def test_the_floor_counts_nodes_that_announce_and_answer_per_family() -> None:
    store = healthy_store()
    for name in ("fra1", "fra2", "ams1"):
        silence(store, ("answer", name, "2001:db8:de::53", "de.example"))
    verdict = verdicts.tenant(store, store.inventory.tenant("de"), NOW)
    assert verdict.verdict is Verdict.BELOW_FLOOR
    assert verdict.healthy == {P4: 5, "2001:db8:de::/48": 2}
    assert "2001:db8:de::/48" in verdict.reason


def test_a_tenant_that_no_node_serves_is_down() -> None:
    store = healthy_store()
    for spec in store.inventory.nodes:
        silence(store, ("answer", spec.name, "192.0.2.53", "de.example"))
    assert verdicts.tenant(store, store.inventory.tenant("de"), NOW).verdict is Verdict.DOWN


def test_nodes_that_were_not_seen_yet_are_no_alarm_but_nodes_that_fell_silent_are() -> None:
    whole = healthy_store()
    tenant = whole.inventory.tenant("de")
    starting = FleetStore(whole.inventory)
    starting.apply([f for f in whole if f.node == "fra1"])
    assert verdicts.tenant(starting, tenant, NOW).verdict is Verdict.UNKNOWN
    later = NOW + 30
    whole.apply([msgspec.structs.replace(f, at=later) for f in whole if f.node in ("fra1", "client1")])
    assert verdicts.tenant(whole, tenant, later).verdict is Verdict.BELOW_FLOOR


def test_a_tenant_is_not_down_before_its_second_family_was_asked() -> None:
    whole = healthy_store()
    store = FleetStore(whole.inventory)
    store.apply([f for f in whole if f.key[0] != "answer" or f.key[2] == "192.0.2.53"])
    for name in ("fra1", "fra2", "ams1"):
        change(store, ("session", name, "bird", "ix1_v4"), state=SessionState.ACTIVE)
    assert verdicts.tenant(store, store.inventory.tenant("de"), NOW).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("missing", [SPEAKER, SESSION, EXPORT])
def test_what_was_never_seen_is_unknown_never_serving(missing: tuple[str, ...]) -> None:
    whole = healthy_store()
    store = FleetStore(whole.inventory)
    store.apply([f for f in whole if f.key != missing])
    assert cell(store).verdict is Verdict.UNKNOWN


def test_unread_drain_state_is_unknown_intent() -> None:
    store = healthy_store()
    change(store, SPEAKER, drain_serial=None)
    assert cell(store).intent is Intent.UNKNOWN
    change(store, EXPORT, exported=Exported.ABSENT)
    assert cell(store).verdict is Verdict.UNKNOWN


def test_an_empty_store_is_unknown_everywhere() -> None:
    store = FleetStore(healthy_store().inventory)
    assert set(all_verdicts(store).values()) <= {Verdict.UNKNOWN}


@pytest.mark.parametrize(
    ("state", "verdict", "words"),
    [
        (LinkState.UNTRUSTED, Verdict.UNTRUSTED, f"{LinkState.UNTRUSTED}: because"),
        (LinkState.KEY_CHANGED, Verdict.UNTRUSTED, f"{LinkState.KEY_CHANGED}: because"),
        (LinkState.DENIED, Verdict.STALE, "denied: because"),
        (LinkState.BACKOFF, Verdict.STALE, "because"),
    ],
)
def test_a_link_that_is_not_up_says_why(state: LinkState, verdict: Verdict, words: str) -> None:
    store = healthy_store()
    change(store, ("link", "fra1"), state=state, error="why", detail="because")
    seen = verdicts.node(store, store.inventory.node("fra1"), NOW)
    assert seen.verdict is verdict
    assert seen.reason == words


def test_a_frozen_node_is_not_blamed_on_its_routing_daemon() -> None:
    store = healthy_store()
    later = NOW + store.inventory.poll.stale + 1
    change(store, ("link", "fra1"), at=later)
    seen = verdicts.node(store, store.inventory.node("fra1"), later)
    assert (seen.verdict, seen.reason) == (Verdict.STALE, "nothing heard for 4 s")


def test_a_session_named_by_an_address_says_which_peer_it_is() -> None:
    session = SessionSpec(name="198.19.23.2", peer="ix1", family=Family.IPV4, number=11)
    assert session.title == "ix1 198.19.23.2"
    assert msgspec.structs.replace(session, name="ix1_v4").title == "ix1_v4"


def test_every_observation_kind_has_its_own_key() -> None:
    store = healthy_store()
    kinds: dict[str, set[type[Observation]]] = {}
    for fact in store:
        kinds.setdefault(fact.key[0], set()).add(type(fact))
    assert all(len(types) == 1 for types in kinds.values())


def test_a_session_that_just_came_up_may_take_a_moment_to_announce() -> None:
    store = healthy_store()
    change(store, SESSION, at=NOW - 1, since="just now")
    change(store, EXPORT, exported=Exported.ABSENT)
    assert cell(store).verdict is Verdict.UNKNOWN
    store.apply([msgspec.structs.replace(f, at=NOW + 4) for f in store if f.node == "fra1" and f.key != SESSION])
    assert cell(store, NOW + 4).verdict is Verdict.DRIFT


# --- drains and who they are of

NOTE = DrainNote(operator="alice", ticket="CHG4711", reason="new rack", at=NOW - 3600, expires=NOW + 3600)


def drain(store: FleetStore, note: DrainNote, exported: Exported = Exported.ABSENT) -> None:
    """Tenant de is drained on all of fra1's sessions, hard unless it is still announced."""
    pairs = tuple((1, s) for s in (11, 12, 31, 32))
    field = "drain_hard" if exported is Exported.ABSENT else "drain_soft"
    change(store, SPEAKER, drain_serial=7, drain_note=note.text(), **{field: pairs})
    for fact in list(store):
        if fact.key[:2] == ("export", "fra1") and fact.key[4] in (P4, "2001:db8:de::/48"):
            change(store, fact.key, exported=exported)


def test_a_drain_says_whose_it_is_and_until_when() -> None:
    store = healthy_store()
    drain(store, NOTE)
    until = clock_words(NOW + 3600, NOW)
    assert cell(store).reason == f"drained hard by alice until {until}, CHG4711"
    spec = store.inventory.node("fra1")
    of_instance = verdicts.instance(store, spec, spec.instances[0], NOW)
    assert (of_instance.verdict, of_instance.reason) == (Verdict.DRAINED, cell(store).reason)


def test_a_drain_without_a_note_is_just_drained() -> None:
    store = healthy_store()
    drain(store, DrainNote())
    assert (cell(store).verdict, cell(store).reason) == (Verdict.DRAINED, "drained hard")


@pytest.mark.parametrize("exported", [Exported.ABSENT, Exported.DEPREFERRED])
def test_an_overdue_drain_turns_red_everywhere_and_is_never_taken_back_by_itself(exported: Exported) -> None:
    store = healthy_store()
    drain(store, msgspec.structs.replace(NOTE, expires=NOW - 60), exported)
    seen = all_verdicts(store)
    reason = f"drain expired {clock_words(NOW - 60, NOW)} UTC (alice, CHG4711)"
    assert (cell(store).verdict, cell(store).reason) == (Verdict.EXPIRED, reason)
    assert cell(store).intent is (Intent.HARD if exported is Exported.ABSENT else Intent.SOFT)
    assert seen["node", "fra1"] is Verdict.EXPIRED
    assert seen["instance", "fra1", "de"] is Verdict.EXPIRED
    assert seen["instance", "fra1", "nic"] is Verdict.SERVING
    assert seen["tenant", "de"] is Verdict.DEGRADED
    assert level_of(Verdict.EXPIRED) is Level.CRIT
    healthy = verdicts.tenant(store, store.inventory.tenant("de"), NOW).healthy[P4]
    assert healthy == (4 if exported is Exported.ABSENT else 5), "what is depreferred still serves"


def test_a_drain_turns_red_with_time_alone() -> None:
    store = healthy_store()
    drain(store, msgspec.structs.replace(NOTE, expires=NOW - NOW % 60))
    assert cell(store, NOW - NOW % 60).verdict is Verdict.DRAINED
    assert cell(store, NOW - NOW % 60 + 1).verdict is Verdict.EXPIRED


def test_a_note_that_expired_says_nothing_of_what_serves() -> None:
    store = healthy_store()
    change(store, SPEAKER, drain_note=msgspec.structs.replace(NOTE, expires=NOW - 60).text())
    assert set(all_verdicts(store).values()) == {Verdict.SERVING}


# --- what was done behind the console's back


def test_a_session_disabled_by_hand_is_drift_and_says_since_when() -> None:
    store = healthy_store()
    before = all_verdicts(store)
    change(store, SESSION, state=SessionState.ADMIN_DOWN, since="18:02:11.004", info="CHG9 (bob)")
    words = "ix1_v4 disabled by hand on the node since 18:02:11: CHG9 (bob)"
    assert (cell(store).verdict, cell(store).reason, cell(store).exported) == (Verdict.DRIFT, words, Exported.ABSENT)
    seen = verdicts.node(store, store.inventory.node("fra1"), NOW)
    assert (seen.verdict, seen.reason) == (Verdict.DRIFT, words), "the session once, not once more per tenant"
    changed = changed_by(store, before)
    assert {v for k, v in changed.items() if k[0] != "tenant"} == {Verdict.DRIFT}
    assert {k[2] for k in changed if k[0] == "announcement"} == {"ix1_v4"}


def node_of(store: FleetStore) -> tuple[Verdict, str]:
    seen = verdicts.node(store, store.inventory.node("fra1"), NOW)
    return seen.verdict, seen.reason


def test_a_drain_file_that_differs_from_the_daemon_for_two_looks_is_drift() -> None:
    store = healthy_store()
    change(store, SPEAKER, drain_serial=7, disk_serial=8, at=NOW)
    assert node_of(store)[0] is Verdict.SERVING, "the second between moving the file and `configure`"
    change(store, SPEAKER, at=NOW - 3, detail="changed 3 s ago, and seen again")
    store.apply([Beat(node="fra1", at=NOW, sections=("bird",))])
    assert node_of(store) == (Verdict.DRIFT, "drain file says serial 8, the daemon 7")
    assert cell(store).verdict is Verdict.SERVING, "what is announced is what is intended"


@pytest.mark.parametrize(
    "fields",
    [
        {"drain_serial": 7, "disk_serial": 7},
        {"drain_serial": 7, "disk_serial": None},
        {"drain_serial": None, "disk_serial": 7},
        {"drain_serial": 8, "disk_serial": 7, "pending": "unconfirmed, undo at 20:00:00"},
    ],
)
def test_a_drain_file_that_agrees_or_is_not_known_or_waits_to_be_written_is_no_drift(fields: dict[str, object]) -> None:
    store = healthy_store()
    change(store, SPEAKER, at=NOW - 60, **fields)
    store.apply([Beat(node="fra1", at=NOW, sections=("bird",))])
    assert node_of(store)[0] is not Verdict.DRIFT
