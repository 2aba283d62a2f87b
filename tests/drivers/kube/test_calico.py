"""Calico is found in whichever group a cluster serves it, and what it says of a node is told with the time it was true."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyconsole.drivers.kube.advertising import NodeDrain, drain_of
from anyconsole.drivers.kube.calico import (
    CalicoApi,
    calico_api,
    good_until,
    node_status_body,
    node_status_of,
)
from anyconsole.drivers.kube.selector import selects
from anyconsole.model.facts import SessionState, SessionStatus, SpeakerStatus
from tests.drivers.kube.calico_fleet import (
    CRD,
    DE,
    EVERYTHING,
    IX1_V4,
    NIC,
    TRANSIT_V4,
    V3,
    bgp_peers,
    calico_object,
    inventory,
    kube_node,
    objects,
)
from tests.drivers.kube.objects import assert_is_clean, falsified, falsified_once

FLEET = inventory()
HV1, HV2 = FLEET.nodes
UPDATED = datetime(2026, 11, 24, 4, 0, tzinfo=UTC).timestamp()

Json = dict[str, Any]


def node_status(**status: object) -> Json:
    bird = {
        "state": "Ready",
        "version": "v0.3.3+birdv1.6.8",
        "routerID": "10.0.21.1",
        "lastBootTime": "2026-11-20 08:00:00",
        "lastReconfigurationTime": "2026-11-23 16:57:17",
    }
    peers = [
        {"peerIP": "10.0.11.2", "type": "NodePeer", "state": "Established", "since": "16:57:19"},
        {"peerIP": "10.0.12.2", "type": "NodePeer", "state": "Active", "since": "03:12:00"},
        {"peerIP": "10.0.21.2", "type": "NodeMesh", "state": "Established", "since": "16:57:19"},
    ]
    peers6 = [
        {"peerIP": "FD00:0011:0::2", "type": "NodePeer", "state": "OpenConfirm", "since": "16:57:19"},
        {"peerIP": "fd00:12::2", "type": "NodePeer", "since": "16:57:19"},
    ]
    return {
        "metadata": {"name": "anyconsole.hv1.example.net"},
        "spec": {"node": HV1.address, "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 5},
        "status": {
            "lastUpdated": "2026-11-24T04:00:00Z",
            "agent": {"birdV4": bird, "birdV6": bird},
            "bgp": {"numberEstablishedV4": 2, "peersV4": peers, "peersV6": peers6},
        }
        | status,
    }


def facts(obj: object, at: float = UPDATED + 60) -> tuple[SpeakerStatus, dict[str, SessionStatus]]:
    speaker, *sessions = node_status_of(obj, HV1, at)
    assert isinstance(speaker, SpeakerStatus)
    return speaker, {s.session: s for s in sessions if isinstance(s, SessionStatus)}


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (["apps/v1", "crd.projectcalico.org/v1"], CRD),
        (["crd.projectcalico.org/v1", "projectcalico.org/v3"], V3),
        (["projectcalico.org/v3"], V3),
        (["apps/v1", "projectcalico.org/v4"], None),
    ],
)
def test_calico_is_found_in_the_group_that_is_served(served: list[str], expected: CalicoApi | None) -> None:
    groups = [{"name": s.partition("/")[0], "versions": [{"groupVersion": s}]} for s in served]
    assert calico_api({"kind": "APIGroupList", "groups": groups}) == expected
    assert calico_api({"groups": "nonsense"}) is None


def test_sessions_are_those_of_the_profile_in_the_words_of_the_state_machine() -> None:
    speaker, sessions = facts(node_status())
    assert (speaker.running, speaker.version, speaker.router_id) == (True, "v0.3.3+birdv1.6.8", "10.0.21.1")
    assert speaker.last_reconfigured == "2026-11-23 16:57:17"
    assert {name: s.state for name, s in sessions.items()} == {
        "10.0.11.2": SessionState.ESTABLISHED,
        "10.0.12.2": SessionState.ACTIVE,
        "fd00:11::2": SessionState.OPEN_CONFIRM,
        "fd00:12::2": SessionState.UNKNOWN,
    }
    assert "passive" in sessions["fd00:12::2"].info


def test_what_is_told_was_true_when_calico_looked_and_not_when_it_arrived() -> None:
    speaker, sessions = facts(node_status(), at=UPDATED + 3600)
    assert {speaker.at, *(s.at for s in sessions.values())} == {UPDATED}
    # A clock of the node's that runs ahead makes no evidence from the future.
    assert facts(node_status(), at=UPDATED - 5)[0].at == UPDATED - 5
    assert good_until(node_status()) == UPDATED + 11
    frozen = node_status()
    frozen["spec"]["updatePeriodSeconds"] = 0
    assert good_until(frozen) == 0


def test_a_bird_that_does_not_run_has_no_sessions() -> None:
    ready, not_ready = {"state": "Ready"}, {"state": "NotReady"}
    speaker, sessions = facts(node_status(agent={"birdV4": ready, "birdV6": not_ready}, bgp={}))
    assert (speaker.running, speaker.detail) == (True, "bird6 is not ready")
    assert sessions["fd00:11::2"].info == "bird6 is not running"
    assert sessions["10.0.11.2"].info == "Calico has no session with this peer"
    assert {s.state for s in sessions.values()} == {SessionState.ABSENT}
    assert facts(node_status(agent={"birdV4": not_ready, "birdV6": not_ready}, bgp={}))[0].running is False


def test_nothing_is_told_before_calico_filled_it_in_or_of_another_node() -> None:
    assert node_status_of(node_status(lastUpdated=None), HV1, UPDATED) == []
    assert node_status_of(node_status(), HV2, UPDATED) == []


def test_what_we_ask_calico_for_is_marked_as_ours() -> None:
    body = node_status_body(CRD, HV1, 60)
    assert body["apiVersion"] == "crd.projectcalico.org/v1"
    assert body["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "anyconsole"}
    assert body["spec"] == {"node": HV1.address, "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 10}


def test_the_drain_state_is_in_the_speakers_facts() -> None:
    drain = NodeDrain(hard=((DE, IX1_V4),), note="by=alice")
    speaker, *_ = node_status_of(node_status(), HV1, UPDATED, drain)
    assert isinstance(speaker, SpeakerStatus)
    assert (speaker.drain_hard, speaker.drain_note, bool(speaker.drain_serial)) == (((DE, IX1_V4),), "by=alice", True)
    assert facts(node_status())[0].drain_serial is None


EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"


@pytest.mark.parametrize(("value", "is_hard"), [("true", True), ("True", False), ("", False)])
def test_the_exclude_label_drains_a_node_only_with_the_very_value_that_calico_knows(value: str, is_hard: bool) -> None:
    world = objects(node=[kube_node(HV1.address, {EXCLUDE: value})])
    assert drain_of(world, FLEET, HV1).hard == (EVERYTHING if is_hard else ())


@pytest.mark.parametrize(
    ("rule", "hard"),
    [
        ({"action": "Reject"}, {DE, NIC}),
        ({"action": "Reject", "cidr": "192.0.2.0/24", "matchOperator": "Equal"}, set()),
        ({"action": "Reject", "cidr": "192.0.0.0/8", "matchOperator": "In"}, {DE}),
        ({"action": "Reject", "cidr": "192.0.2.0/24", "matchOperator": "NotIn"}, {NIC}),
        ({"action": "Reject", "cidr": "192.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 25}}, {DE}),
        ({"action": "Reject", "cidr": "192.0.2.53/32", "matchOperator": "In"}, {DE}),
        ({"action": "Reject", "cidr": "192.0.2.54/32", "matchOperator": "In"}, set()),
        ({"action": "Reject", "source": "RemotePeers"}, set()),
        ({"action": "Reject", "interface": "eth0"}, set()),
        ({"action": "Reject", "peerType": "iBGP"}, set()),
        ({"action": "Reject", "peerType": "eBGP"}, {DE, NIC}),
        ({"action": "Reject", "communities": {"values": ["64500:1"]}}, set()),
    ],
)
def test_whoevers_filter_rejects_a_tenant_has_drained_it(rule: Json, hard: set[int]) -> None:
    peers = bgp_peers(nodeSelector="rack in {'r1', 'r2'}", filters=["nobody-has-it", "theirs"])
    world = objects(peer=peers, filter=[calico_object("theirs", exportV4=[rule, {"action": "Accept"}])])
    expected = sorted((tenant, session) for tenant in hard for session in (IX1_V4, TRANSIT_V4))
    assert list(drain_of(world, FLEET, HV1).hard) == expected


def test_a_nodes_own_list_of_communities_replaces_that_of_the_cluster() -> None:
    soft = [{"cidr": "192.0.0.0/16", "communities": ["leaving"]}]
    default = calico_object("default", communities=[{"name": "leaving", "value": "65535:0"}], prefixAdvertisements=soft)
    assert drain_of(objects(configuration=[default]), FLEET, HV1).soft == ((DE, IX1_V4), (DE, TRANSIT_V4))
    own = calico_object(f"node.{HV1.address}", prefixAdvertisements=[])
    assert drain_of(objects(configuration=[default, own]), FLEET, HV1).soft == ()


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("all()", True),
        ("has(rack) && site in {\"ams\", 'fra'}", True),
        ("site not in {'ams'} && !(rack == 'r2' || rack starts with 'x')", True),
        ("site contains 'r' && rack ends with '1' && nothing != 'x'", True),
        ("!has(drain.anyconsole.io/tor-1)", False),
        ("rack == 'r1' || nonsense", False),
        ("((((", False),
    ],
)
def test_selectors_choose_as_in_calico(selector: str, chosen: bool) -> None:
    labels = {"rack": "r1", "site": "fra", "drain.anyconsole.io/tor-1": "hv1"}
    assert selects(selector, labels) is chosen


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab=!&|(){}'\", \tinhasll.", max_size=40))
def test_no_selector_breaks_anything(selector: str) -> None:
    assert selects(selector, {"a": "b"}) in (True, False)


@settings(max_examples=300, deadline=None)
@given(falsified([node_status()]))
def test_a_status_that_makes_no_sense_is_no_error(obj: object) -> None:
    good_until(obj)
    for fact in node_status_of(obj, HV1, UPDATED):
        assert_is_clean(fact)


def test_no_single_lie_in_a_status_is_an_error() -> None:
    for obj in falsified_once(node_status()):
        good_until(obj)
        for fact in node_status_of(obj, HV1, UPDATED):
            assert_is_clean(fact)
