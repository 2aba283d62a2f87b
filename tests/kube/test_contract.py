"""The contract, part one: what this project relies on when it writes to a Kubernetes API.

Runs against the fake API server, and unchanged against the cluster that ANYCONSOLE_TEST_KUBECONFIG names.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.kube.client import JSON, STRATEGIC, Kube, Object, until


@pytest.fixture
def maps(namespace: str) -> str:
    """The path of the namespace's ConfigMaps."""
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config_map(name: str, data: dict[str, str] | None = None, **metadata: object) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data or {"k": "1"}}


def deployment(name: str, replicas: int = 0, image: str = "example.test/i:1") -> Object:
    containers = [{"name": container, "image": image} for container in ("x", "y")]
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


async def test_a_created_object_has_an_identity_and_a_revision(kube: Kube, maps: str) -> None:
    made = await kube.create(maps, config_map("identity"))
    assert made.code == 201
    assert {"uid", "resourceVersion", "creationTimestamp"} <= made.body["metadata"].keys()


async def test_creating_twice_is_told_apart_from_other_conflicts(kube: Kube, maps: str) -> None:
    await kube.create(maps, config_map("twice"))
    again = await kube.create(maps, config_map("twice"))
    assert (again.code, again.reason) == (409, "AlreadyExists")


async def test_what_is_missing_is_said_in_a_status_object(kube: Kube, maps: str) -> None:
    missing = await kube.get(f"{maps}/nowhere")
    assert (missing.code, missing.reason, missing.body["kind"]) == (404, "NotFound", "Status")
    assert missing.body["details"]["name"] == "nowhere"


async def test_a_generated_name_begins_as_asked(kube: Kube, maps: str) -> None:
    made = await kube.create(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "gen-"}})
    assert made.code == 201
    assert made.body["metadata"]["name"].startswith("gen-")
    assert len(made.body["metadata"]["name"]) > 4


async def test_nothing_is_created_in_a_namespace_that_is_not_there(kube: Kube) -> None:
    refused = await kube.create("/api/v1/namespaces/ac-nowhere/configmaps", config_map("lost"))
    assert (refused.code, refused.reason) == (404, "NotFound")


async def test_a_merge_patch_removes_what_is_null(kube: Kube, maps: str) -> None:
    await kube.create(maps, config_map("merged", {"k": "1", "l": "x"}))
    patched = await kube.patch(f"{maps}/merged", {"data": {"k": "2", "l": None}})
    assert patched.body["data"] == {"k": "2"}


async def test_a_json_patch_changes_one_field(kube: Kube, maps: str) -> None:
    await kube.create(maps, config_map("pointed"))
    patched = await kube.patch(f"{maps}/pointed", [{"op": "replace", "path": "/data/k", "value": "3"}], JSON)
    assert (patched.code, patched.body["data"]) == (200, {"k": "3"})


async def test_a_json_patch_whose_test_fails_changes_nothing(kube: Kube, maps: str) -> None:
    await kube.create(maps, config_map("tested"))
    operations = [
        {"op": "replace", "path": "/data/k", "value": "9"},
        {"op": "test", "path": "/data/k", "value": "never"},
    ]
    assert (await kube.patch(f"{maps}/tested", operations, JSON)).code == 422
    assert (await kube.get(f"{maps}/tested")).body["data"] == {"k": "1"}


async def test_a_strategic_merge_patch_finds_containers_by_name(kube: Kube, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await kube.create(path, deployment("strategic"))
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "y", "image": "example.test/i:2"}]}}}}
    patched = await kube.patch(f"{path}/strategic", patch, STRATEGIC)
    images = {c["name"]: c["image"] for c in patched.body["spec"]["template"]["spec"]["containers"]}
    assert images == {"x": "example.test/i:1", "y": "example.test/i:2"}


async def test_an_update_of_what_has_changed_meanwhile_is_refused(kube: Kube, maps: str) -> None:
    read = (await kube.create(maps, config_map("raced"))).body
    await kube.patch(f"{maps}/raced", {"data": {"k": "theirs"}})
    late = await kube.replace(f"{maps}/raced", read | {"data": {"k": "mine"}})
    assert (late.code, late.reason) == (409, "Conflict")


async def test_a_patch_can_be_made_to_depend_on_what_was_read(kube: Kube, maps: str) -> None:
    revision = (await kube.create(maps, config_map("compared"))).body["metadata"]["resourceVersion"]
    first = await kube.patch(f"{maps}/compared", {"metadata": {"resourceVersion": revision}, "data": {"k": "2"}})
    second = await kube.patch(f"{maps}/compared", {"metadata": {"resourceVersion": revision}, "data": {"k": "3"}})
    assert (first.code, second.code) == (200, 409)


async def test_an_update_replaces_the_whole_object(kube: Kube, maps: str) -> None:
    read = (await kube.create(maps, config_map("replaced"))).body
    del read["data"]
    assert "data" not in (await kube.replace(f"{maps}/replaced", read)).body


async def test_a_write_that_changes_nothing_makes_no_revision(kube: Kube, maps: str) -> None:
    made = await kube.create(maps, config_map("same"))
    again = await kube.patch(f"{maps}/same", {"data": {"k": "1"}})
    assert again.body["metadata"]["resourceVersion"] == made.body["metadata"]["resourceVersion"]


async def test_only_a_changed_spec_makes_a_generation(kube: Kube, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    assert (await kube.create(path, deployment("generations"))).body["metadata"]["generation"] == 1
    labelled = await kube.patch(f"{path}/generations", {"metadata": {"labels": {"a": "b"}}})
    assert labelled.body["metadata"]["generation"] == 1
    changed = await kube.patch(f"{path}/generations", {"spec": {"paused": True}})
    assert changed.body["metadata"]["generation"] == 2


async def test_a_dry_run_says_what_would_be_and_changes_nothing(kube: Kube, maps: str) -> None:
    await kube.apply(f"{maps}/dry", config_map("dry"), "m1")
    would = await kube.apply(f"{maps}/dry", config_map("dry", {"k": "2"}), "m2", dryRun="All", force="true")
    assert would.body["data"] == {"k": "2"}
    assert (await kube.get(f"{maps}/dry")).body["data"] == {"k": "1"}
    assert (await kube.ask("DELETE", f"{maps}/dry?dryRun=All")).code == 200
    assert (await kube.get(f"{maps}/dry")).code == 200


async def test_apply_creates_and_owns_its_fields(kube: Kube, maps: str) -> None:
    made = await kube.apply(f"{maps}/owned", config_map("owned"), "m1")
    entry = made.body["metadata"]["managedFields"][0]
    assert made.code == 201
    assert (entry["manager"], entry["operation"]) == ("m1", "Apply")
    assert entry["fieldsV1"] == {"f:data": {"f:k": {}}}


async def test_applying_the_same_again_changes_nothing(kube: Kube, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/again"
    first = await kube.apply(path, deployment("again"), "m1")
    # The deployment controller writes its status in between.
    await until_settled(kube, path)
    before = (await kube.get(path)).body["metadata"]
    second = await kube.apply(path, deployment("again"), "m1")
    assert (first.code, second.code) == (201, 200)
    assert second.body["metadata"]["resourceVersion"] == before["resourceVersion"]
    assert second.body["metadata"]["managedFields"] == before["managedFields"]


async def until_settled(kube: Kube, path: str) -> None:
    async def is_settled() -> bool:
        found = (await kube.get(path)).body
        progress = {c["type"] for c in found.get("status", {}).get("conditions", ())}
        return (
            found["metadata"]["generation"] == found.get("status", {}).get("observedGeneration")
            and "Available" in progress
        )

    await until(is_settled)


async def test_apply_names_the_owner_of_a_field_that_it_would_take(kube: Kube, maps: str) -> None:
    await kube.apply(f"{maps}/contested", config_map("contested"), "m1")
    refused = await kube.apply(f"{maps}/contested", config_map("contested", {"k": "2"}), "m2")
    assert (refused.code, refused.reason) == (409, "Conflict")
    cause = refused.body["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.k")
    assert 'conflict with "m1"' in cause["message"]


async def test_apply_names_who_changed_a_field_by_hand(kube: Kube, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/by-hand"
    await kube.apply(path, deployment("by-hand"), "m1")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "y", "image": "example.test/i:9"}]}}}}
    await kube.patch(f"{path}?fieldManager=somebody", patch, STRATEGIC)
    refused = await kube.apply(path, deployment("by-hand"), "m1")
    cause = refused.body["details"]["causes"][0]
    assert cause["field"] == '.spec.template.spec.containers[name="y"].image'
    assert 'conflict with "somebody"' in cause["message"]
    assert "using apps/v1" in cause["message"]


async def test_a_forced_apply_takes_the_field_and_its_ownership(kube: Kube, maps: str) -> None:
    await kube.apply(f"{maps}/forced", config_map("forced"), "m1")
    taken = await kube.apply(f"{maps}/forced", config_map("forced", {"k": "2"}), "m2", force="true")
    assert taken.body["data"] == {"k": "2"}
    assert [entry["manager"] for entry in taken.body["metadata"]["managedFields"]] == ["m2"]


async def test_two_managers_share_an_object_field_by_field(kube: Kube, maps: str) -> None:
    await kube.apply(f"{maps}/shared", config_map("shared", {"k": "1"}), "m1")
    shared = await kube.apply(f"{maps}/shared", config_map("shared", {"l": "2"}), "m2")
    assert shared.body["data"] == {"k": "1", "l": "2"}


async def test_what_is_applied_no_longer_goes_away(kube: Kube, maps: str) -> None:
    await kube.apply(f"{maps}/less", config_map("less", {"k": "1", "l": "2"}), "m1")
    await kube.patch(f"{maps}/less?fieldManager=somebody", {"data": {"theirs": "3"}})
    less = await kube.apply(f"{maps}/less", config_map("less", {"k": "1"}), "m1")
    assert less.body["data"] == {"k": "1", "theirs": "3"}


async def test_a_container_that_is_applied_no_longer_goes_away(kube: Kube, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/fewer"
    await kube.apply(path, deployment("fewer"), "m1")
    wanted = deployment("fewer")
    wanted["spec"]["template"]["spec"]["containers"].pop()
    fewer = await kube.apply(path, wanted, "m1")
    assert [c["name"] for c in fewer.body["spec"]["template"]["spec"]["containers"]] == ["x"]


async def test_the_status_is_written_by_its_subresource_alone(kube: Kube, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"nodeName": "nope", "containers": [{"name": "c", "image": "example.test/i:1"}]}
    await kube.create(pods, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "status"}, "spec": spec})
    ignored = await kube.patch(f"{pods}/status", {"status": {"phase": "Failed"}})
    assert ignored.body["status"].get("phase") != "Failed"
    await kube.patch(f"{pods}/status/status", {"status": {"message": "told"}})
    assert (await kube.get(f"{pods}/status")).body["status"]["message"] == "told"
    await kube.ask("DELETE", f"{pods}/status?gracePeriodSeconds=0")


async def test_scaling_changes_the_replicas(kube: Kube, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await kube.create(path, deployment("scaled"))
    assert (await kube.get(f"{path}/scaled/scale")).body["spec"].get("replicas", 0) == 0
    scaled = await kube.patch(f"{path}/scaled/scale", {"spec": {"replicas": 1}})
    assert (scaled.code, scaled.body["kind"]) == (200, "Scale")
    assert (await kube.get(f"{path}/scaled")).body["spec"]["replicas"] == 1
    await kube.delete(f"{path}/scaled")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"spec": {"selector": {"matchLabels": {"app": "other"}}}}, "spec.selector"),
        ({"spec": {"template": {"metadata": {"labels": {"app": "other"}}}}}, "spec.template.metadata.labels"),
    ],
)
async def test_what_can_never_work_is_refused_with_its_field(
    kube: Kube, namespace: str, change: Object, field: str
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await kube.create(path, deployment("wrong"))
    refused = await kube.patch(f"{path}/wrong", change)
    assert (refused.code, refused.reason) == (422, "Invalid")
    assert field in {cause["field"] for cause in refused.body["details"]["causes"]}


async def test_a_custom_resource_is_held_to_its_schema(kube: Kube) -> None:
    peers, version = await calico(kube, "bgppeers")
    peer = {
        "apiVersion": version,
        "kind": "BGPPeer",
        "metadata": {"name": "ac-wrong"},
        "spec": {"peerIP": "192.0.2.1", "asNumber": "x"},
    }
    assert (await kube.create(peers, peer)).code == 422


async def test_a_custom_resource_is_applied_like_any_other(kube: Kube) -> None:
    filters, version = await calico(kube, "bgpfilters")
    rule = {"action": "Reject", "cidr": "192.0.2.0/24", "matchOperator": "In"}
    bgp_filter: Object = {
        "apiVersion": version,
        "kind": "BGPFilter",
        "metadata": {"name": "ac-contract"},
        "spec": {"exportV4": [rule]},
    }
    try:
        assert (await kube.apply(f"{filters}/ac-contract", bgp_filter, "m1")).code == 201
        bgp_filter["spec"] = {"exportV4": []}
        emptied = await kube.apply(f"{filters}/ac-contract", bgp_filter, "m1")
        assert emptied.body["spec"] == {"exportV4": []}
        refused = await kube.patch(f"{filters}/ac-contract", {"spec": {}}, STRATEGIC)
        assert refused.code == 415
    finally:
        await kube.delete(f"{filters}/ac-contract")


async def calico(kube: Kube, plural: str) -> tuple[str, str]:
    """The path of one of Calico's resources and its apiVersion, in the group that this cluster serves."""
    for version in ("crd.projectcalico.org/v1", "projectcalico.org/v3"):
        served = await kube.get(f"/apis/{version}")
        if served.code == 200 and plural in {resource["name"] for resource in served.body["resources"]}:
            return f"/apis/{version}/{plural}", version
    pytest.skip("Calico's resources aren't served here")


async def test_finalizers_hold_what_is_deleted(kube: Kube, maps: str) -> None:
    await kube.create(maps, config_map("held", finalizers=["anyconsole.test/hold"]))
    await kube.delete(f"{maps}/held")
    assert (await kube.get(f"{maps}/held")).body["metadata"]["deletionTimestamp"]
    await kube.patch(f"{maps}/held", {"metadata": {"finalizers": None}})
    assert (await kube.get(f"{maps}/held")).code == 404


async def test_a_deletion_can_be_bound_to_one_life_of_an_object(kube: Kube, maps: str) -> None:
    await kube.create(maps, config_map("reborn"))
    refused = await kube.delete(f"{maps}/reborn", {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}})
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert (await kube.get(f"{maps}/reborn")).code == 200


async def test_a_whole_selection_is_deleted_at_once(kube: Kube, maps: str) -> None:
    await kube.create(maps, config_map("swept", labels={"sweep": "yes"}))
    await kube.create(maps, config_map("unswept"))
    await kube.ask("DELETE", f"{maps}?labelSelector=sweep%3Dyes")
    assert ((await kube.get(f"{maps}/swept")).code, (await kube.get(f"{maps}/unswept")).code) == (404, 200)


async def test_dependents_go_after_their_owner(kube: Kube, maps: str) -> None:
    owner = (await kube.create(maps, config_map("owner"))).body["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    for name in ("background", "kept"):
        await kube.create(maps, config_map(name, ownerReferences=[reference]))
    await kube.patch(f"{maps}/kept", {"metadata": {"ownerReferences": None}})
    await kube.delete(f"{maps}/owner", {"propagationPolicy": "Background"})
    await until(lambda: is_gone(kube, f"{maps}/background"))
    assert (await kube.get(f"{maps}/kept")).code == 200


async def test_an_owner_that_is_deleted_in_the_foreground_goes_last(kube: Kube, maps: str) -> None:
    owner = (await kube.create(maps, config_map("front"))).body["metadata"]
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "front",
        "uid": owner["uid"],
        "blockOwnerDeletion": True,
    }
    held = config_map("behind", ownerReferences=[reference], finalizers=["anyconsole.test/hold"])
    await kube.create(maps, held)
    await kube.delete(f"{maps}/front", {"propagationPolicy": "Foreground"})

    async def is_marked() -> bool:
        return "deletionTimestamp" in (await kube.get(f"{maps}/behind")).body["metadata"]

    await until(is_marked)
    assert (await kube.get(f"{maps}/front")).body["metadata"]["finalizers"] == ["foregroundDeletion"]
    await kube.patch(f"{maps}/behind", {"metadata": {"finalizers": None}})
    await until(lambda: is_gone(kube, f"{maps}/front"))


async def is_gone(kube: Kube, path: str) -> bool:
    return (await kube.get(path)).code == 404


async def test_a_deleted_namespace_takes_everything_along_and_takes_nothing_in(kube: Kube, namespace: str) -> None:
    home = f"/api/v1/namespaces/{namespace}-brief"
    await kube.create(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{namespace}-brief"}}
    )
    await kube.create(f"{home}/configmaps", config_map("held", finalizers=["anyconsole.test/hold"]))
    await kube.create(f"{home}/configmaps", config_map("free"))
    await kube.delete(home)
    await until(lambda: is_gone(kube, f"{home}/configmaps/free"))
    assert (await kube.get(home)).body["status"]["phase"] == "Terminating"
    late = await kube.create(f"{home}/configmaps", config_map("late"))
    assert (late.code, late.reason) == (403, "Forbidden")
    await kube.patch(f"{home}/configmaps/held", {"metadata": {"finalizers": None}})
    await until(lambda: is_gone(kube, home))


async def test_of_two_writers_of_a_lease_one_wins(kube: Kube, namespace: str) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "lock"},
        "spec": {"holderIdentity": ""},
    }
    read = (await kube.create(leases, lease)).body
    attempts = [kube.replace(f"{leases}/lock", read | {"spec": {"holderIdentity": who}}) for who in ("a", "b")]
    assert sorted(answer.code for answer in await asyncio.gather(*attempts)) == [200, 409]
