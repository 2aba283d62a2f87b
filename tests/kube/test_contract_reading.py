"""The contract, part two: what this project relies on when it reads: discovery, lists, pages, tables and watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.kube.apiserver import ApiError, FakeCluster, Fault
from tests.kube.client import Kube, Object, until
from tests.kube.test_contract import config_map

WATCH_LIST = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.fixture
async def maps(kube: Kube, namespace: str) -> str:
    """The path of ConfigMaps, with one called "a" and one "b" there."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in ("a", "b"):
        await kube.create(path, config_map(name, labels={"app": name}))
    return path


def names(found: Object) -> list[str]:
    return [item["metadata"]["name"] for item in found["items"]]


def seen(events: list[Object]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


async def revision_of(kube: Kube, path: str) -> str:
    return str((await kube.get(f"{path}?limit=1")).body["metadata"]["resourceVersion"])


async def test_discovery_says_which_groups_and_resources_are_served(kube: Kube) -> None:
    groups = {group["name"]: group for group in (await kube.get("/apis")).body["groups"]}
    assert {
        "apps",
        "batch",
        "policy",
        "networking.k8s.io",
        "rbac.authorization.k8s.io",
        "coordination.k8s.io",
    } <= groups.keys()
    resources = {r["name"]: r for r in (await kube.get("/apis/apps/v1")).body["resources"]}
    assert {"deployments", "deployments/scale", "deployments/status", "daemonsets"} <= resources.keys()
    assert resources["deployments"]["namespaced"]
    assert int((await kube.get("/version")).body["minor"].rstrip("+")) >= 28


async def test_one_of_calicos_groups_is_found_by_discovery(kube: Kube) -> None:
    served = [group["name"] for group in (await kube.get("/apis")).body["groups"]]
    calico = {"crd.projectcalico.org": "v1", "projectcalico.org": "v3"}
    found = [group for group in calico if group in served]
    if not found:
        pytest.skip("this cluster has no Calico")
    resources = (await kube.get(f"/apis/{found[0]}/{calico[found[0]]}")).body["resources"]
    assert {"bgppeers", "bgpconfigurations", "bgpfilters", "caliconodestatuses"} <= {r["name"] for r in resources}


async def test_a_list_selects_by_label(kube: Kube, maps: str) -> None:
    assert names((await kube.get(f"{maps}?labelSelector=app%3Db")).body) == ["b"]
    assert names((await kube.get(f"{maps}?labelSelector=app%20in%20(a,b),app!%3Da")).body) == ["b"]


async def test_a_list_selects_by_field(kube: Kube, maps: str) -> None:
    assert names((await kube.get(f"{maps}?fieldSelector=metadata.name%3Db")).body) == ["b"]
    assert (await kube.get(f"{maps}?fieldSelector=data.k%3D1")).code == 400


async def test_a_list_names_its_kind_and_its_items_do_not(kube: Kube, maps: str) -> None:
    found = (await kube.get(maps)).body
    assert found["kind"] == "ConfigMapList"
    assert not any("kind" in item for item in found["items"])


async def test_a_long_list_comes_in_pages(kube: Kube, maps: str) -> None:
    first = (await kube.get(f"{maps}?limit=1")).body
    token = first["metadata"]["continue"]
    second = (await kube.get(f"{maps}?limit=500&continue={token}")).body
    assert len(first["items"]) == 1
    assert set(names(first)).isdisjoint(names(second))
    assert sorted(names(first) + names(second)) == sorted(names((await kube.get(maps)).body))
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_pages_show_one_moment_whatever_happens_between_them(kube: Kube, maps: str) -> None:
    first = (await kube.get(f"{maps}?limit=1")).body
    await kube.create(maps, config_map("zz-later"))
    second = (await kube.get(f"{maps}?continue={first['metadata']['continue']}")).body
    await kube.delete(f"{maps}/zz-later")
    assert "zz-later" not in names(second)


async def test_a_page_that_is_asked_for_too_late_is_gone(kube: Kube, maps: str, misbehaving: FakeCluster) -> None:
    token = (await kube.get(f"{maps}?limit=1")).body["metadata"]["continue"]
    misbehaving.compact()
    late = await kube.get(f"{maps}?limit=1&continue={token}")
    assert (late.code, late.reason) == (410, "Expired")


async def test_a_table_has_the_columns_that_kubectl_shows(kube: Kube, speaking_pod: str, namespace: str) -> None:
    table = (await kube.get(f"/api/v1/namespaces/{namespace}/pods", Accept=TABLE)).body
    assert table["kind"] == "Table"
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns[:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    row = next(row for row in table["rows"] if row["cells"][0] == speaking_pod)
    assert row["cells"][2] == "Running"
    assert row["object"]["metadata"]["name"] == speaking_pod


async def test_only_metadata_is_sent_when_only_that_is_asked_for(kube: Kube, maps: str) -> None:
    found = (await kube.get(maps, Accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")).body
    assert found["kind"] == "PartialObjectMetadataList"
    assert {"a", "b"} <= set(names(found))
    assert not any("data" in item for item in found["items"])


async def test_a_watch_goes_on_where_a_list_ended(kube: Kube, maps: str) -> None:
    revision = await revision_of(kube, maps)
    await kube.patch(f"{maps}/b", {"data": {"k": "w"}})
    assert seen(await kube.events(maps, f"resourceVersion={revision}&timeoutSeconds=1")) == [("MODIFIED", "b")]


async def test_a_watch_says_what_happens_while_it_is_open(kube: Kube, maps: str) -> None:
    revision = await revision_of(kube, maps)
    async with kube.watch(maps, f"resourceVersion={revision}&timeoutSeconds=20") as events:
        await kube.create(maps, config_map("live"))
        assert seen([await anext(events)]) == [("ADDED", "live")]
        await kube.delete(f"{maps}/live")
        last = await anext(events)
        assert seen([last]) == [("DELETED", "live")]
        assert int(last["object"]["metadata"]["resourceVersion"]) > int(revision)


async def test_a_watch_with_a_selector_sees_objects_come_into_it_and_leave_it(kube: Kube, maps: str) -> None:
    revision = await revision_of(kube, maps)
    await kube.create(maps, config_map("moving", labels={"app": "no"}))
    await kube.patch(f"{maps}/moving", {"metadata": {"labels": {"app": "yes"}}})
    await kube.patch(f"{maps}/moving", {"data": {"k": "2"}})
    await kube.patch(f"{maps}/moving", {"metadata": {"labels": {"app": "no"}}})
    await kube.delete(f"{maps}/moving")
    events = await kube.events(maps, f"resourceVersion={revision}&labelSelector=app%3Dyes&timeoutSeconds=1")
    assert seen(events) == [("ADDED", "moving"), ("MODIFIED", "moving"), ("DELETED", "moving")]


async def test_a_watch_ends_when_its_time_is_over(kube: Kube, maps: str) -> None:
    start = time.monotonic()
    await kube.events(maps, "resourceVersion=0&timeoutSeconds=1")
    assert 0.5 < time.monotonic() - start < 4


async def test_a_watch_from_too_long_ago_is_gone(kube: Kube, maps: str) -> None:
    events = await kube.events(maps, "resourceVersion=1&timeoutSeconds=5")
    assert [(event["type"], event["object"]["code"]) for event in events] == [("ERROR", 410)]


async def test_a_watch_can_begin_with_all_there_is_and_says_when_that_is_through(kube: Kube, maps: str) -> None:
    async with kube.watch(maps, f"{WATCH_LIST}&timeoutSeconds=20") as events:
        initial = [event async for event in to_the_bookmark(events)]
        assert {("ADDED", "a"), ("ADDED", "b")} <= set(seen(initial[:-1]))
        revision = int(initial[-1]["object"]["metadata"]["resourceVersion"])
        assert all(int(event["object"]["metadata"]["resourceVersion"]) <= revision for event in initial)
        await kube.patch(f"{maps}/a", {"data": {"k": "after"}})
        assert seen([await anext(events)]) == [("MODIFIED", "a")]


async def to_the_bookmark(events: AsyncIterator[Object]) -> AsyncIterator[Object]:
    async for event in events:
        yield event
        if "k8s.io/initial-events-end" in (event["object"]["metadata"].get("annotations") or {}):
            return


async def test_initial_events_are_only_sent_to_who_asks_for_them_rightly(kube: Kube, maps: str) -> None:
    refused = await kube.get(f"{maps}?watch=true&sendInitialEvents=true")
    assert (refused.code, refused.reason) == (422, "Invalid")


async def test_a_watch_in_tables_says_the_columns_once(kube: Kube, maps: str) -> None:
    events = await kube.events(maps, "resourceVersion=0&timeoutSeconds=1", Accept=TABLE)
    assert events[0]["object"]["kind"] == "Table"
    assert events[0]["object"]["columnDefinitions"]
    assert not any(event["object"].get("columnDefinitions") for event in events[1:])
    assert {"a", "b"} <= {event["object"]["rows"][0]["cells"][0] for event in events}


async def test_a_quiet_watch_is_told_how_far_it_is(kube: Kube, maps: str, misbehaving: FakeCluster) -> None:
    misbehaving.set_bookmarks(0.1)
    async with kube.watch(maps, f"{WATCH_LIST}&timeoutSeconds=20") as events:
        last = [event async for event in to_the_bookmark(events)][-1]
        # Something happens elsewhere: this watch hears nothing of it but the revision.
        await kube.create("/api/v1/namespaces/default/configmaps", config_map("elsewhere"))
        await kube.delete("/api/v1/namespaces/default/configmaps/elsewhere")
        async for event in events:
            assert event["type"] == "BOOKMARK"
            if int(event["object"]["metadata"]["resourceVersion"]) > int(last["object"]["metadata"]["resourceVersion"]):
                break


async def test_a_watch_whose_past_is_compacted_is_gone(kube: Kube, maps: str, misbehaving: FakeCluster) -> None:
    revision = await revision_of(kube, maps)
    misbehaving.compact()
    events = await kube.events(maps, f"resourceVersion={revision}&timeoutSeconds=5")
    assert [event["object"]["code"] for event in events] == [410]
    assert await kube.events(maps, f"resourceVersion={await revision_of(kube, maps)}&timeoutSeconds=1") == []


async def test_a_watch_can_break_at_any_time_and_go_on_from_where_it_was(
    kube: Kube, maps: str, misbehaving: FakeCluster
) -> None:
    revision = await revision_of(kube, maps)
    async with kube.watch(maps, f"resourceVersion={revision}&timeoutSeconds=20") as events:
        await kube.patch(f"{maps}/a", {"data": {"k": "before"}})
        revision = (await anext(events))["object"]["metadata"]["resourceVersion"]
        assert await asyncio.to_thread(misbehaving.cut_watches) == 1
        with pytest.raises(aiohttp.ClientPayloadError):
            await anext(events)
    await kube.patch(f"{maps}/a", {"data": {"k": "missed"}})
    assert seen(await kube.events(maps, f"resourceVersion={revision}&timeoutSeconds=1")) == [("MODIFIED", "a")]


async def test_an_error_can_come_in_the_middle_of_a_watch(kube: Kube, maps: str, misbehaving: FakeCluster) -> None:
    async with kube.watch(maps, f"{WATCH_LIST}&timeoutSeconds=20") as events:
        assert len([event async for event in to_the_bookmark(events)]) > 1
        await asyncio.to_thread(misbehaving.fail_watches, ApiError(500, "InternalError", "etcdserver: leader changed"))
        error = await anext(events)
        assert (error["type"], error["object"]["message"]) == ("ERROR", "etcdserver: leader changed")


async def test_an_old_server_refuses_initial_events(kube: Kube, maps: str, misbehaving: FakeCluster) -> None:
    misbehaving.serve_watch_list("forbidden")
    refused = await kube.get(f"{maps}?watch=true&{WATCH_LIST}")
    assert refused.code == 422
    assert "sendInitialEvents is forbidden" in refused.body["message"]


async def test_an_old_storage_refuses_initial_events_inside_the_stream(
    kube: Kube, maps: str, misbehaving: FakeCluster
) -> None:
    misbehaving.serve_watch_list("no progress")
    events = await kube.events(maps, f"{WATCH_LIST}&timeoutSeconds=5")
    assert [event["type"] for event in events] == ["ERROR"]
    assert "RequestWatchProgress" in events[0]["object"]["message"]


async def test_a_busy_server_says_when_to_come_back(kube: Kube, maps: str, misbehaving: FakeCluster) -> None:
    misbehaving.fail(
        Fault(429, "TooManyRequests", "too many requests", times=1, verb="list", plural="configmaps", retry_after=1)
    )
    busy = await kube.get(maps)
    assert (busy.code, busy.body["details"]["retryAfterSeconds"]) == (429, 1)
    assert (await kube.get(maps)).code == 200


async def test_a_server_that_comes_back_remembers_everything(kube: Kube, maps: str, misbehaving: FakeCluster) -> None:
    revision = await revision_of(kube, maps)
    await asyncio.to_thread(misbehaving.stop)
    with pytest.raises(aiohttp.ClientError):
        await kube.get(maps)
    await asyncio.to_thread(misbehaving.start)

    async def answers() -> bool:
        try:
            return (await kube.get(maps)).code == 200
        except OSError:
            return False

    await until(answers)
    await kube.patch(f"{maps}/a", {"data": {"k": "back"}})
    assert seen(await kube.events(maps, f"resourceVersion={revision}&timeoutSeconds=1")) == [("MODIFIED", "a")]


async def test_a_server_that_hangs_answers_once_it_can(kube: Kube, maps: str, misbehaving: FakeCluster) -> None:
    misbehaving.freeze()
    asked = asyncio.create_task(kube.get(maps))
    done, _ = await asyncio.wait([asked], timeout=0.2)
    misbehaving.thaw()
    assert not done
    assert (await asked).code == 200
