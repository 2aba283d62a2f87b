"""Settling drift, on paper: what was changed by hand is kept or undone, softly, and nothing else on the node is touched."""

from __future__ import annotations

import msgspec
import pytest

from anyconsole.actions.drift import DriftRequest, Way, make_plan
from anyconsole.actions.guards import evaluate
from anyconsole.actions.plan import Plan, Step, render
from anyconsole.errors import AnyconsoleError
from anyconsole.model.drain_note import DrainNote, parse_note
from anyconsole.model.facts import Export, Exported, SessionState
from anyconsole.model.store import FleetStore
from tests.fleet import NOW, healthy_hybrid, healthy_store, inventory

SPEAKER = ("speaker", "fra1", "bird")
HARD, SOFT = "define DRAIN_HARD   = ", "define DRAIN_SOFT   = "


def change(store: FleetStore, key: tuple[str, ...], **fields: object) -> None:
    fact = store.get(key)
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, **fields)])


def disable(store: FleetStore, session: str = "ix1_v4") -> None:
    """What BIRD tells after `birdc disable`."""
    change(store, ("session", "fra1", "bird", session), state=SessionState.ADMIN_DOWN, since="18:02:11")
    for key in [f.key for f in store if f.key[:4] == ("export", "fra1", "bird", session)]:
        change(store, key, exported=Exported.ABSENT)


def edited(**fields: object) -> FleetStore:
    """fra1 runs serial 7 without drains, its drain file says something else."""
    store = healthy_store()
    said = {"drain_serial": 7, "disk_serial": 9, "disk_hard": (), "disk_soft": ()} | fields
    change(store, SPEAKER, at=NOW - 60, **said)
    store.apply([msgspec.structs.replace(f, at=NOW) for f in list(store) if f.node == "fra1" and f.key != SPEAKER])
    return store


def plan(store: FleetStore, way: Way, *nodes: str) -> Plan:
    return make_plan(store, DriftRequest(way=way, nodes=nodes, reason="why", operator="alice"), NOW)


def written(step: Step) -> list[str]:
    """The drain file as it will be."""
    text = step.apply.split("<<'END'\n")[1]
    return [line for line in text.splitlines()[:4] if line.startswith("define DRAIN_")]


def levels(plan_: Plan) -> list[set[tuple[str, str]]]:
    return [{(str(c.before), str(c.after)) for c in step.changes} for step in plan_.steps]


def refused(store: FleetStore, plan_: Plan) -> set[str]:
    return {g.name for g in evaluate(store, plan_.changes, NOW, repairs=plan_.repairs) if g.refuses}


@pytest.mark.parametrize("way", list(Way))
def test_without_drift_there_is_nothing_to_do(way: Way) -> None:
    assert plan(healthy_store(), way).steps == ()


# --- the drain file


def test_adopting_writes_what_the_daemon_runs_and_who_said_so() -> None:
    expires = NOW + 7200
    store = edited(drain_hard=((2, 11),), drain_note=DrainNote(operator="bob", expires=expires).text())
    change(store, ("export", "fra1", "bird", "ix1_v4", "198.51.100.0/24"), exported=Exported.ABSENT)
    adopted = plan(store, Way.ADOPT)
    (step,) = adopted.steps
    serial, note, hard, _ = written(step)
    assert str(step.serial) in serial
    assert step.serial not in (7, 9)
    said = parse_note(note.split('"')[1])
    assert said is not None
    assert (said.operator, said.reason) == ("alice", "adopted: why")
    assert said.expires == pytest.approx(expires, abs=60), "bob's drain still ends when it was to end"
    assert hard == HARD + "[ (0,0), (2,11) ];"
    assert step.changes == ()
    assert "on_disk=9" in step.apply
    assert refused(store, adopted) == set()


def test_reverting_withdraws_and_restores_by_way_of_low_preference() -> None:
    store = edited(drain_hard=((1, 11),), disk_hard=((2, 11),), disk_soft=((3, 12),))
    change(store, ("export", "fra1", "bird", "ix1_v4", "192.0.2.0/24"), exported=Exported.ABSENT)
    reverted = plan(store, Way.REVERT)
    assert levels(reverted) == [
        {("hard", "soft"), ("serve", "soft")},
        {("soft", "serve")},
        {("soft", "hard")},
    ]
    soft, serve, hard = reverted.steps
    assert written(soft)[2:] == [HARD + "[ (0,0) ];", SOFT + "[ (0,0), (1,11), (2,11), (3,12) ];"]
    assert written(hard)[2:] == [HARD + "[ (0,0), (2,11) ];", SOFT + "[ (0,0), (3,12) ];"]
    assert "canary" in serve.waits_for
    assert "own queries for nic" in hard.waits_for
    assert [s.repair is not None for s in reverted.steps] == [True, False, False]
    assert "on_disk=9" in soft.apply
    assert f"on_disk={soft.serial}" in serve.apply
    assert refused(store, reverted) == set()


def test_a_file_that_withdraws_the_last_announcer_is_refused_for_good() -> None:
    everything = tuple((1, s) for s in (11, 12, 31, 32))
    store = edited(disk_hard=everything)
    for name in ("fra2", "ams1", "lon1", "sin1"):
        change(store, ("instance", name, "de"), running=False)
    guards = evaluate(store, (p := plan(store, Way.REVERT)).changes, NOW, repairs=p.repairs)
    last = next(g for g in guards if g.name == "last announcer")
    assert (last.refuses, last.overridable) == (True, False)
    assert p.type_to_confirm == "fra1"


@pytest.mark.parametrize(
    "fields",
    [
        {"disk_serial": None, "disk_hard": None, "disk_soft": None, "disk_fault": "read it: No such file"},
        {"disk_hard": None},
    ],
)
def test_a_file_that_is_not_understood_can_be_written_over_but_not_reverted_to(fields: dict[str, object]) -> None:
    store = edited(**fields)
    with pytest.raises(AnyconsoleError, match="Adopt what the daemon does, or mend the file"):
        plan(store, Way.REVERT)
    assert len(plan(store, Way.ADOPT).steps) == 1


def test_sets_that_differ_are_drift_even_under_one_serial() -> None:
    store = edited(disk_serial=7, disk_soft=((1, 11),))
    assert "both with serial 7" in plan(store, Way.ADOPT).steps[0].title
    assert plan(edited(disk_serial=7, disk_soft=((9, 11),)), Way.ADOPT).steps == (), "no tenant here has number 9"


# --- a session that was disabled


def test_a_disabled_session_that_is_adopted_comes_up_without_announcing() -> None:
    store = healthy_store()
    disable(store)
    adopted = plan(store, Way.ADOPT)
    (step,) = adopted.steps
    assert written(step)[2] == HARD + "[ (0,0), (1,11), (2,11), (3,11) ];"
    assert levels(adopted) == [{("serve", "hard")}]
    assert {c.session for c in step.changes} == {"ix1_v4"}
    assert "ix1_v4 disabled by hand on the node since 18:02:11: comes up without announcing" in step.title
    assert "is disabled again" in step.undo[0]
    assert refused(store, adopted) == set()
    assert adopted.type_to_confirm == "", "nothing is announced there that could be lost"


def test_a_disabled_session_that_is_reverted_comes_up_as_a_canary_and_then_serves() -> None:
    store = healthy_store()
    change(store, SPEAKER, drain_serial=5, drain_hard=((3, 11),))
    disable(store)
    reverted = plan(store, Way.REVERT, "fra1")
    canary, serve = reverted.steps
    assert levels(reverted) == [{("serve", "soft")}, {("soft", "serve")}]
    assert written(canary)[2:] == [HARD + "[ (0,0), (3,11) ];", SOFT + "[ (0,0), (1,11), (2,11) ];"]
    assert written(serve)[2:] == [HARD + "[ (0,0), (3,11) ];", SOFT + "[ (0,0) ];"]
    assert "disabled=ix1_v4" in canary.apply
    assert "disabled=''" in serve.apply
    assert "daemon: ix1_v4 is Established" in canary.proof
    assert refused(store, reverted) == set()


def test_a_session_does_not_come_up_to_announce_what_does_not_answer() -> None:
    store = healthy_store()
    disable(store)
    change(store, ("instance", "fra1", "de"), running=False)
    assert "answers" in refused(store, plan(store, Way.REVERT))
    assert "answers" not in refused(store, plan(store, Way.ADOPT))


def test_what_comes_up_soft_is_judged_as_what_is_announced_again() -> None:
    store = healthy_store()
    change(store, SPEAKER, drain_serial=5, drain_soft=((1, 11), (2, 11), (3, 11)))
    disable(store)
    change(store, ("instance", "fra1", "de"), running=False)
    reverted = plan(store, Way.REVERT)
    assert levels(reverted) == [{("soft", "soft")}]
    assert "answers" in refused(store, reverted)


def test_a_session_that_is_down_for_another_reason_is_still_missed() -> None:
    store = edited(drain_hard=((1, 12),))
    change(store, ("session", "fra1", "bird", "ix1_v6"), state=SessionState.ACTIVE)
    assert "sessions" in refused(store, plan(store, Way.REVERT))


def test_both_kinds_of_drift_on_a_node_are_settled_by_one_change() -> None:
    store = edited(disk_hard=((1, 11),))
    disable(store)
    reverted = plan(store, Way.REVERT)
    assert written(reverted.steps[0])[2] == HARD + "[ (0,0), (1,11) ];", "what is to be withdrawn never comes up"
    assert written(reverted.steps[-1])[2:] == [HARD + "[ (0,0), (1,11) ];", SOFT + "[ (0,0) ];"]
    assert refused(store, reverted) == set()


# --- what it leaves alone


def test_other_drift_on_the_node_still_stands_in_the_way() -> None:
    store = healthy_store()
    disable(store)
    change(store, ("export", "fra1", "bird", "transit_v4", "192.0.2.0/24"), exported=Exported.ABSENT)
    assert refused(store, plan(store, Way.ADOPT)) == {"drift"}


def test_a_changed_filter_is_told_and_not_repaired() -> None:
    store = healthy_store()
    change(store, ("export", "fra1", "bird", "transit_v4", "192.0.2.0/24"), exported=Exported.ABSENT)
    with pytest.raises(
        AnyconsoleError, match=r"fra1 bird: transit_v4 192.0.2.0/24: intended serve.*does not repair filters"
    ):
        plan(store, Way.REVERT)
    assert plan(store, Way.REVERT, "fra2").steps == ()


def lists_store(kind: str = "frr", *twins: str) -> FleetStore:
    """fra1 runs a daemon whose drains are prefix lists; `twins` are sessions with the peer of the first one."""
    fleet = inventory()
    first = fleet.nodes[0]
    sessions = tuple(
        msgspec.structs.replace(s, peer="ix1", family=first.speakers[0].sessions[0].family) if s.name in twins else s
        for s in first.speakers[0].sessions
    )
    drain_file = "" if kind == "frr" else "/var/lib/gobgp/drain.sets"
    speaker = msgspec.structs.replace(first.speakers[0], kind=kind, drain_file=drain_file, sessions=sessions)
    nodes = (msgspec.structs.replace(first, speakers=(speaker,)), *fleet.nodes[1:])
    return healthy_store(msgspec.structs.replace(fleet, nodes=nodes))


@pytest.mark.parametrize("kind", ["frr", "gobgp"])
def test_a_session_disabled_in_frr_or_gobgp_is_settled_in_the_same_words(kind: str) -> None:
    store = lists_store(kind)
    disable(store)
    adopted, reverted = plan(store, Way.ADOPT), plan(store, Way.REVERT)
    assert (levels(adopted), levels(reverted)) == (
        [{("serve", "hard")}],
        [{("serve", "soft")}, {("soft", "serve")}],
    )
    assert "ix1_v4 disabled by hand on the node since 18:02:11: comes up without announcing" in adopted.steps[0].title
    assert "comes up at low preference" in reverted.steps[0].title
    assert "ix1_v4 is disabled again before anything else" in adopted.steps[0].undo[0]
    name = "raised=ix1_v4" if kind == "frr" else "disabled=ix1_v4"
    assert [name in step.apply for step in (*adopted.steps, *reverted.steps)] == [True, True, False]
    assert refused(store, adopted) == refused(store, reverted) == set()


def test_what_becomes_of_a_shutdown_that_was_saved_is_in_the_plan() -> None:
    store = lists_store()
    disable(store)
    adopted = plan(store, Way.ADOPT)
    text = render(adopted, ())
    assert (
        "what FRR runs, and /etc/frr/frr.conf when it is confirmed (a shutdown that was saved goes there too)" in text
    )
    assert "-neighbor ix1_v4 shutdown" in text
    assert "+ip prefix-list AC-HARD-IX1 permit 192.0.2.0/24" in text


@pytest.mark.parametrize("kind", ["frr", "gobgp"])
def test_a_session_that_shares_its_lists_with_one_that_serves_is_not_adopted_at_its_cost(kind: str) -> None:
    store = lists_store(kind, "transit_v4")
    disable(store)
    with pytest.raises(AnyconsoleError, match="share a prefix list with those of ix1 transit_v4"):
        plan(store, Way.ADOPT)
    soft, serve = plan(store, Way.REVERT).steps
    assert {c.session for c in soft.changes} == {c.session for c in serve.changes} == {"ix1_v4", "transit_v4"}


def test_a_daemon_whose_drains_are_not_known_is_left_alone() -> None:
    store = lists_store("openbgpd")
    disable(store)
    with pytest.raises(AnyconsoleError, match="does not know how to enable it in openbgpd"):
        plan(store, Way.REVERT)


def test_what_frr_has_not_saved_is_only_spoken_of_when_asked() -> None:
    assert plan(lists_store(), Way.ADOPT).steps == ()
    with pytest.raises(AnyconsoleError, match="write memory"):
        plan(lists_store(), Way.ADOPT, "fra1")


def test_a_node_that_is_not_known_is_named_not_guessed() -> None:
    store = healthy_store()
    change(store, SPEAKER, drain_serial=None)
    assert "fra1" in plan(store, Way.ADOPT, "fra1").missing[0]
    with pytest.raises(AnyconsoleError, match="no node 'fra9'"):
        plan(store, Way.ADOPT, "fra9")


def test_the_plan_says_what_is_known_before_what_is_done() -> None:
    store = edited()
    adopted = plan(store, Way.ADOPT)
    text = render(adopted, evaluate(store, adopted.changes, NOW, repairs=adopted.repairs))
    assert text.startswith("PLAN  adopt drift: fra1")
    assert (
        "bird: drain file says serial 9, the daemon 7: what it runs is written there; no announcement changes" in text
    )


def test_drift_in_a_cluster_is_told_and_never_settled_with_another_daemons_words() -> None:
    store = healthy_hybrid()
    withdrawn = next(f for f in store if isinstance(f, Export) and f.node == "hv1")
    store.apply([msgspec.structs.replace(withdrawn, exported=Exported.ABSENT)])
    with pytest.raises(AnyconsoleError, match="does not repair filters"):
        plan(store, Way.REVERT)
    change(store, ("session", "hv1", "calico", withdrawn.session), state=SessionState.ADMIN_DOWN)
    with pytest.raises(AnyconsoleError, match="does not know how to enable it in calico"):
        plan(store, Way.REVERT)
