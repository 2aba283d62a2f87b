"""A drain on a node in a cluster takes the narrowest lever, harms nobody on the way, and leaves nothing behind when it is taken back."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.advertising import (
    CalicoObjects,
    Level,
    NodeDrain,
    cells_of,
    drain_of,
    effect_on,
    objects_of,
    peer_of,
    peers_of,
)
from anyconsole.drivers.kube.calico import EXCLUDE_LABEL, CalicoApi, calico_api, node_path
from anyconsole.drivers.kube.execute import carry_out
from anyconsole.drivers.kube.levers import Levers, applied, plan_levers
from anyconsole.drivers.kube.script import Call, Verb, render, unmet
from anyconsole.drivers.transaction import Ended
from anyconsole.model.inventory import ClusterSpec, SoftRecipe
from tests.drivers.kube.calico_fleet import (
    ADDRESSES,
    CRD,
    DE,
    EVERYTHING,
    IX1_V4,
    IX1_V6,
    NIC,
    SESSIONS,
    TRANSIT_V4,
    TRANSIT_V6,
    V3,
    bgp_peers,
    calico_object,
    inventory,
    kube_node,
    objects,
)
from tests.drivers.kube.objects import falsified
from tests.kube.apiserver import API_GROUP, CRD_GROUP, FakeCluster
from tests.kube.apiserver.calico import misfits

FLEET = inventory()
HV1, HV2 = FLEET.nodes
UNTOUCHED = NodeDrain()
NOTE = "by=alice ticket=CHG4711 at=2026-11-24T04:00Z why=disk"

Json = dict[str, Any]


def drained(hard: tuple[tuple[int, int], ...] = (), soft: tuple[tuple[int, int], ...] = ()) -> NodeDrain:
    return NodeDrain(hard=tuple(sorted(hard)), soft=tuple(sorted(soft)), note=NOTE if hard or soft else "")


def planned(world: CalicoObjects, wanted: NodeDrain, beside: NodeDrain = UNTOUCHED) -> tuple[Levers, CalicoObjects]:
    """A plan without anything refused, and the objects after it."""
    levers = plan_levers(world, FLEET, HV1, wanted)
    assert levers.refused == ()
    after = applied(world, levers.changes)
    fits(after)
    assert drain_of(after, FLEET, HV1) == wanted
    assert drain_of(after, FLEET, HV2) == beside
    return levers, after


SCHEMAS = {(3, 32): "3.32.1", (3, 28): "3.26.5"}
"""Published schemas by the version of Calico on paper; those of 3.26 are the oldest with BGPFilters."""


def fits(world: CalicoObjects) -> None:
    """Every object that a drain leaves is of Calico's own schemas."""
    assert world.calico is not None
    calico = SCHEMAS[world.calico]
    for kind in ("BGPFilter", "BGPPeer", "BGPConfiguration"):
        for name, obj in world.of(kind):
            # The older ones are published in one group only, for both.
            group = obj["apiVersion"] if calico == "3.32.1" else CRD.group_version
            assert misfits({**obj, "apiVersion": group}, calico) == [], (kind, name)


def titles(levers: Levers) -> list[str]:
    return [change.title.split("-")[0] for change in levers.changes]


def test_everything_hard_is_one_label_on_the_node() -> None:
    levers, after = planned(objects(), drained(hard=EVERYTHING))
    assert [change.patch for change in levers.changes] == [
        {
            "metadata": {
                "labels": {EXCLUDE_LABEL: "true"},
                "annotations": {"anyconsole.io/exclude-label-was": "", "anyconsole.io/drain": NOTE},
            }
        }
    ]
    assert levers.cautions
    assert after.found == objects().found | {("Node", HV1.address): after.found["Node", HV1.address]}


def test_a_tenant_soft_on_all_sessions_is_announced_with_graceful_shutdown_beside_what_it_was_announced_with() -> None:
    default = calico_object(
        "default",
        asNumber=64500,
        communities=[{"name": "region", "value": "64500:100"}],
        prefixAdvertisements=[
            {"cidr": "192.0.2.0/24", "communities": ["region", "64500:1"]},
            {"cidr": "2001:db8::/32", "communities": ["64500:6", "nobody-defined-it"]},
        ],
    )
    world = objects(version="v3.28.0", configuration=[default])
    levers, after = planned(world, drained(soft=tuple((DE, session) for session in SESSIONS)))
    assert titles(levers) == ["create BGPConfiguration node.hv1.example.net", "change Node hv1.example.net"]
    # The node's list replaces the default one, and resolves no name that only the default one defines.
    assert after.found["BGPConfiguration", f"node.{HV1.address}"]["spec"] == {
        "prefixAdvertisements": [
            {"cidr": "192.0.2.0/24", "communities": ["64500:100", "64500:1"]},
            {"cidr": "2001:db8::/32", "communities": ["64500:6"]},
            {"cidr": "192.0.2.0/24", "communities": ["65535:0"]},
            {"cidr": "2001:db8:de::/48", "communities": ["65535:0"]},
        ]
    }


def test_a_tenant_hard_towards_one_peer_moves_the_node_to_a_filtered_copy_with_one_switch() -> None:
    levers, after = planned(objects(version="v3.28.0"), drained(hard=((DE, IX1_V4),)))
    assert titles(levers) == [
        "create BGPFilter anyconsole",
        "create BGPPeer anyconsole",
        "change BGPPeer peer",
        "change Node hv1.example.net",
    ]
    (made,) = [obj for name, obj in after.of("BGPFilter")]
    assert made["spec"] == {"exportV4": [{"cidr": "192.0.2.0/24", "matchOperator": "In", "action": "Reject"}]}
    assert len(made["metadata"]["name"]) <= 45, "Calico cuts longer names for BIRD's functions"
    switch = f"drain.anyconsole.io/peer-{IX1_V4}"
    left = after.found["BGPPeer", f"peer-{IX1_V4}"]["spec"]
    assert left["nodeSelector"] == f"(rack == 'r1') && !has({switch})"
    filtered = after.found["BGPPeer", peer_of(after, HV1.address, ADDRESSES[IX1_V4]) or ""]["spec"]
    assert filtered["nodeSelector"] == f"(rack == 'r1') && {switch} == \"{HV1.address}\""
    assert filtered["filters"] == [made["metadata"]["name"]]
    # Until the last change nothing has happened: a console that dies on the way has drained nothing.
    assert drain_of(applied(objects(), levers.changes[:-1]), FLEET, HV1) == NodeDrain()


def test_what_rejects_comes_before_other_filters_and_what_accepts_behind_them() -> None:
    world = objects(peer=bgp_peers(node=HV1.address, filters=["theirs"]), filter=[calico_object("theirs")])
    _, after = planned(world, drained(hard=((DE, IX1_V4),), soft=((NIC, IX1_V4),)))
    first, theirs, last = after.found["BGPPeer", f"peer-{IX1_V4}"]["spec"]["filters"]
    assert (theirs, first[:15], last[:15]) == ("theirs", "anyconsole-hard", "anyconsole-soft")
    assert after.found["BGPFilter", last]["spec"]["exportV4"] == [
        {
            "cidr": route,
            "matchOperator": "Equal",
            "action": "Accept",
            "operations": [{"addCommunity": {"value": "65535:0"}}],
        }
        for route in ("198.51.100.0/24", "198.51.100.53/32")
    ]


def test_what_set_up_made_can_be_filtered_like_any_other_session_and_stays_when_it_is_undrained() -> None:
    ours = [
        peer | {"metadata": peer["metadata"] | {"labels": {"app.kubernetes.io/managed-by": "anyconsole"}}}
        for peer in bgp_peers(node=HV1.address)
    ]
    _, after = planned(objects(peer=ours), drained(hard=((DE, IX1_V4),)))
    assert applied(after, plan_levers(after, FLEET, HV1, NodeDrain()).changes).found == objects(peer=ours).found


def test_a_peer_is_depreferred_by_its_own_recipe() -> None:
    fleet = inventory(transit=(SoftRecipe.PREPEND,))
    levers = plan_levers(objects(), fleet, HV1, drained(soft=tuple((DE, session) for session in SESSIONS)))
    assert levers.refused == ()
    operations = {
        str(rule["operations"])
        for change in levers.changes
        if change.kind == "BGPFilter"
        for rules in (change.after or {})["spec"].values()
        for rule in rules
    }
    assert "{'prependASPath': {'prefix': [64500, 64500, 64500]}}" in str(operations)
    # The community of the whole node would mean nothing to that peer.
    assert "BGPConfiguration" not in {change.kind for change in levers.changes}


@pytest.mark.parametrize(
    ("version", "wanted", "why"),
    [
        ("v3.28.0", drained(soft=((DE, IX1_V4),)), "filters that set communities came with Calico 3.32, this is 3.28"),
        ("master", drained(soft=((DE, IX1_V4),)), "isn't known"),
        ("v3.25.1", drained(hard=((DE, IX1_V4),)), "BGPFilters came with Calico 3.26, this is 3.25"),
    ],
)
def test_what_a_version_of_calico_cannot_do_is_said_and_left_alone(version: str, wanted: NodeDrain, why: str) -> None:
    levers = plan_levers(objects(version=version), FLEET, HV1, wanted)
    assert [line for line in levers.refused if why in line and "de on ix1" in line]
    assert {change.kind for change in levers.changes} <= {"Node"}


def test_a_peer_for_all_nodes_is_not_split_as_that_would_restart_its_sessions_everywhere() -> None:
    for_all = [calico_object("tor", peerIP=ADDRESSES[IX1_V4], asNumber=64611)]
    levers = plan_levers(objects(peer=for_all), FLEET, HV1, drained(hard=((DE, IX1_V4),)))
    assert "restarted" in "".join(levers.refused)
    assert {change.kind for change in levers.changes} <= {"Node"}
    alone = objects(peer=for_all, node=[kube_node(HV1.address)])
    assert plan_levers(alone, FLEET, HV1, drained(hard=((DE, IX1_V4),))).refused == ()


def test_what_others_did_is_told_and_not_undone() -> None:
    excluded = objects(node=[kube_node(HV1.address, {EXCLUDE_LABEL: "true"}), kube_node(HV2.address)])
    levers = plan_levers(excluded, FLEET, HV1, NodeDrain())
    assert levers.changes == ()
    assert len(levers.refused) == len(EVERYTHING)
    assert "isn't ours" in levers.refused[0]
    # Drained by us as well and undrained again, it is still theirs.
    both = applied(excluded, plan_levers(excluded, FLEET, HV1, drained(hard=EVERYTHING)).changes)
    assert applied(both, plan_levers(both, FLEET, HV1, NodeDrain()).changes).found == excluded.found


def test_a_filter_that_accepts_first_keeps_a_tenant_from_being_soft_and_is_named() -> None:
    theirs = calico_object("theirs", exportV4=[{"cidr": "192.0.2.0/23", "matchOperator": "In", "action": "Accept"}])
    world = objects(peer=bgp_peers(nodeSelector="all()", filters=["theirs"]), filter=[theirs])
    levers = plan_levers(world, FLEET, HV1, drained(soft=((DE, IX1_V4),)))
    assert levers.refused == ("de on ix1 10.0.11.2 can't be soft: BGPFilter theirs decides before our lever does",)


def test_a_copy_follows_its_original_and_each_node_has_its_own() -> None:
    _, one = planned(objects(), drained(hard=((DE, IX1_V4),)))
    both = applied(one, plan_levers(one, FLEET, HV2, drained(hard=((NIC, IX1_V4),))).changes)
    assert session_names(both) == session_names(objects())
    assert drain_of(both, FLEET, HV1).hard == ((DE, IX1_V4),)
    assert drain_of(both, FLEET, HV2).hard == ((NIC, IX1_V4),)
    only_two = applied(both, plan_levers(both, FLEET, HV1, NodeDrain()).changes)
    assert drain_of(only_two, FLEET, HV2).hard == ((NIC, IX1_V4),)
    assert applied(only_two, plan_levers(only_two, FLEET, HV2, NodeDrain()).changes).found == objects().found
    edited = copy.deepcopy(one.found)
    edited["BGPPeer", f"peer-{IX1_V4}"]["spec"]["asNumber"] = 64999
    world = msgspec.structs.replace(one, found=edited)
    again = applied(world, plan_levers(world, FLEET, HV1, drained(hard=((DE, IX1_V4),))).changes)
    copied = peer_of(again, HV1.address, ADDRESSES[IX1_V4])
    assert again.found["BGPPeer", copied or ""]["spec"]["asNumber"] == 64999


def test_undraining_never_takes_away_annotations_that_came_meanwhile() -> None:
    _, after = planned(objects(node=[kube_node(HV1.address)]), drained(hard=EVERYTHING))
    bare = copy.deepcopy(after.found)
    bare["Node", HV1.address]["metadata"]["annotations"] = {"anyconsole.io/exclude-label-was": ""}
    world = msgspec.structs.replace(after, found=bare)
    (change,) = plan_levers(world, FLEET, HV1, NodeDrain()).changes
    assert change.patch["metadata"]["annotations"] == {"anyconsole.io/exclude-label-was": None}


LEVELS = st.fixed_dictionaries({pair: st.sampled_from(list(Level)) for pair in EVERYTHING})
PEERS = st.sampled_from([
    bgp_peers(),
    bgp_peers(nodeSelector="all()", filters=["theirs"]),
    bgp_peers(node=HV1.address) + [
        p | {"metadata": p["metadata"] | {"name": f"{p['metadata']['name']}-hv2"}} for p in bgp_peers(node=HV2.address)
    ],
])  # fmt: skip
OWN = calico_object(f"node.{HV1.address}", listenPort=179)
LISTED = calico_object(f"node.{HV1.address}", prefixAdvertisements=[{"cidr": "10.0.0.0/8", "communities": ["64500:9"]}])
EMPTY = calico_object(f"node.{HV1.address}")
CONFIGURATIONS = st.sampled_from([[], [calico_object("default", asNumber=64500)], [OWN], [LISTED], [EMPTY]])


BESIDE = st.sampled_from([NodeDrain(), drained(hard=tuple((DE, s) for s in SESSIONS), soft=((NIC, IX1_V4),))])
"""What is drained on the other node meanwhile."""


def level_drain(levels: dict[tuple[int, int], Level]) -> NodeDrain:
    return drained(
        tuple(p for p, level in levels.items() if level is Level.HARD),
        tuple(p for p, level in levels.items() if level is Level.SOFT),
    )


def all_levels(world: CalicoObjects) -> dict[str, list[Level]]:
    return {n.name: [effect_on(world, n.address, c).level for c in cells_of(FLEET, n)] for n in FLEET.nodes}


def session_names(world: CalicoObjects) -> list[list[str]]:
    """What Calico calls each session of each node: with another name it is another session. Two BGPPeers for it would be one too many."""
    specs = [
        [world.found["BGPPeer", name]["spec"] for name in peers_of(world, node.address, address)]
        for node in FLEET.nodes
        for address in ADDRESSES.values()
    ]
    return [["Node" if spec.get("node") or spec.get("nodeSelector") else "Global" for spec in found] for found in specs]


@settings(max_examples=60, deadline=None)
@given(LEVELS, LEVELS, PEERS, CONFIGURATIONS, st.sampled_from([V3, CRD]), BESIDE, st.integers(1, 30))
def test_any_state_leads_to_any_other_without_harm_on_the_way_and_back_exactly(
    first: dict[tuple[int, int], Level],
    second: dict[tuple[int, int], Level],
    peers: list[Json],
    configurations: list[Json],
    api: CalicoApi,
    beside: NodeDrain,
    broken_off: int,
) -> None:
    start = objects(api, peer=peers, configuration=configurations, filter=[calico_object("theirs")])
    start = applied(start, plan_levers(start, FLEET, HV2, beside).changes)
    _, world = planned(start, level_drain(first), beside)
    wanted = level_drain(second)
    levers, after = planned(world, wanted, beside)
    before, then, names = all_levels(world), all_levels(after), session_names(start)
    for place in range(len(levers.changes) + 1):
        now = applied(world, levers.changes[:place])
        levels = all_levels(now)
        assert session_names(now) == names
        assert levels["hv2"] == before["hv2"]
        for was, is_now, will in zip(before["hv1"], levels["hv1"], then["hv1"], strict=True):
            assert min(was, will) <= is_now <= max(was, will)
    half = applied(world, levers.changes[:broken_off])
    # Broken off anywhere, it can be taken back, as often as one likes, and no session goes down on the way.
    for _ in range(2):
        way = [half, *carried_out(half, levers.undo_calls())]
        assert all(session_names(now) == names for now in way)
        half = way[-1]
        assert half.found == world.found
    half = applied(world, levers.changes[:broken_off])
    # And an undrain clears up all the same.
    clearing = plan_levers(half, FLEET, HV1, NodeDrain()).changes
    assert all(session_names(applied(half, clearing[:place])) == names for place in range(len(clearing)))
    assert applied(half, clearing).found == start.found
    assert applied(after, levers.undo).found == world.found
    assert plan_levers(after, FLEET, HV1, wanted).changes == ()
    # Undrained, every object is as before the first drain, and none of ours is left.
    assert applied(after, plan_levers(after, FLEET, HV1, NodeDrain()).changes).found == start.found


def carried_out(world: CalicoObjects, calls: Iterable[Call]) -> Iterator[CalicoObjects]:
    """The objects after each call, by an API server in small."""
    found, skipped = dict(world.found), ""
    places = {change_path(world, *key): key for key in found}
    for call in calls:
        key = places.get(call.path)
        obj = found.get(key) if key is not None else None
        if call.verb is Verb.EXPECT:
            skipped = call.path if unmet(call.body or {}, obj) else ""
        elif skipped == call.path:
            skipped = ""
        elif call.verb is Verb.CREATE:
            assert call.body is not None
            made = (call.body["kind"], call.body["metadata"]["name"])
            places[f"{call.path}/{made[1]}"] = made
            found.setdefault(made, call.body)
        elif key is not None and obj is not None and call.verb is Verb.DELETE:
            del found[key]
        elif key is not None and obj is not None:
            found[key] = without_nothing(merged(obj, call.body or {}))
        yield msgspec.structs.replace(world, found=dict(found))


def change_path(world: CalicoObjects, kind: str, name: str) -> str:
    return node_path(name) if kind == "Node" else world.api.path(kind, name)


def merged(obj: Json, patch: Json) -> Json:
    """RFC 7396."""
    kept = {k: v for k, v in obj.items() if k not in patch}
    return kept | {
        k: merged(obj.get(k) or {}, v) if isinstance(v, dict) else v for k, v in patch.items() if v is not None
    }


def without_nothing(obj: Json) -> Json:
    """An object as we read it: without maps of metadata that hold nothing."""
    metadata = {k: v for k, v in obj["metadata"].items() if v != {}}
    return obj | {"metadata": metadata}


def listing(world: CalicoObjects) -> dict[str, list[Json]]:
    lists: dict[str, list[Json]] = {}
    for (kind, _), obj in world.found.items():
        lists.setdefault(kind, []).append(obj)
    return lists


_, DRAINED = planned(
    objects(filter=[calico_object("theirs")], peer=bgp_peers(nodeSelector="all()", filters=["theirs"])),
    drained(
        hard=((DE, IX1_V4), (NIC, TRANSIT_V6)),
        soft=((DE, TRANSIT_V4), (NIC, IX1_V4), (NIC, IX1_V6), (NIC, TRANSIT_V4)),
    ),
)


@settings(max_examples=150, deadline=None)
@given(falsified([listing(DRAINED)]))
def test_objects_that_make_no_sense_never_stop_a_plan(lists: object) -> None:
    kinds = lists.items() if isinstance(lists, dict) else ()
    world = objects_of(V3, {kind: found for kind, found in kinds if isinstance(found, list)})
    for wanted in (NodeDrain(), drained(hard=EVERYTHING), drained(hard=((DE, IX1_V4),), soft=((NIC, TRANSIT_V4),))):
        levers = plan_levers(world, FLEET, HV1, wanted)
        assert all(change.calls() for change in levers.changes)
        assert all(line.isprintable() and len(line) < 1000 for line in levers.refused)
        drain_of(applied(world, levers.changes), FLEET, HV1)


KINDS = ("BGPPeer", "BGPConfiguration", "BGPFilter", "IPPool", "ClusterInformation")


def no_tunnel(via: str, host: str, port: int) -> contextlib.AbstractAsyncContextManager[int]:
    raise AssertionError((via, host, port))


async def read(api: KubeApi, calico: CalicoApi) -> CalicoObjects:
    lists = {kind: (await api.get(calico.path(kind)))["items"] for kind in KINDS}
    return objects_of(calico, lists | {"Node": (await api.get(node_path()))["items"]})


@pytest.mark.parametrize("group", [API_GROUP, CRD_GROUP])
async def test_an_api_server_takes_a_drain_and_gives_back_what_was_there(
    group: tuple[str, str],
) -> None:
    with FakeCluster(calico_group=group) as cluster:
        for node in FLEET.nodes:
            cluster.add_node(node.address, labels={"rack": "r1"})
        for kind, made in [("BGPPeer", p) for p in bgp_peers()] + [
            ("ClusterInformation", calico_object("default", calicoVersion="v3.32.1"))
        ]:
            cluster.create({
                "apiVersion": "/".join(group), "kind": kind, "metadata": {"name": made["metadata"]["name"]}, "spec": made["spec"],
            })  # fmt: skip
        async with KubeApi.open(ClusterSpec(name="k3s", kubeconfig=str(cluster.kubeconfig)), no_tunnel) as opened:
            api: Any = opened
            calico = calico_api(await api.get("/apis"))
            assert calico == CalicoApi("/".join(group))
            world = await read(api, calico)
            wanted = drained(hard=((DE, IX1_V4), (DE, IX1_V6)), soft=((NIC, TRANSIT_V4), (DE, TRANSIT_V6)))
            script = render(
                call for change in plan_levers(world, FLEET, HV1, wanted).changes for call in change.calls()
            )
            done = await carry_out(api, script, 20)
            assert (done.exit_status, done.stderr) == (Ended.DONE, b""), done.stdout
            after = await read(api, calico)
            assert drain_of(after, FLEET, HV1) == wanted
            # Planned for objects that have changed since: refused, not overwritten.
            stale = plan_levers(world, FLEET, HV1, drained(hard=EVERYTHING)).changes
            late = await carry_out(api, render(call for change in stale for call in change.calls()), 20)
            assert late.exit_status == Ended.STALE
            undrain = render(
                c for change in plan_levers(after, FLEET, HV1, NodeDrain()).changes for c in change.calls()
            )
            assert (await carry_out(api, undrain, 20)).exit_status == Ended.DONE
            assert (await read(api, calico)).found == world.found
