"""What the console knows of a collection stays true, whatever becomes of the server and the connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from anyconsole.drivers.kube import watch as watching
from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.watch import Batch, Name, Watch, WatchState
from anyconsole.drivers.ssh.fault import Fault
from anyconsole.model.inventory import ClusterSpec
from tests.drivers.kube.networks import OK, liar, no_tunnel
from tests.kube.apiserver import ApiError, FakeCluster
from tests.kube.apiserver import Fault as Failure
from tests.kube.client import Kube, Object, until

MAPS = "/api/v1/namespaces/{}/configmaps"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in tenths of its time."""
    monkeypatch.setattr(watching, "_BASE", 0.05)
    monkeypatch.setattr(watching, "_CEILING", 0.5)
    monkeypatch.setattr(watching, "_SLOW", 0.2)


class Mirror:
    """Holds what a watch tells, as the store does."""

    def __init__(self, api: KubeApi, path: str, **query: str) -> None:
        self.values: dict[Name, str] = {}
        self.batches: list[Batch[str]] = []
        self.states: list[WatchState] = []
        self.watch: Watch[str] = Watch(api, path, self.project, self.take, on_state=self.states.append, **query)

    def project(self, obj: Object) -> str | None:
        value = obj.get("data", {}).get("v", "")
        if value == "raise":
            raise KeyError(value)
        return None if value == "out" else str(value)

    def take(self, batch: Batch[str]) -> None:
        assert not set(batch.changed) & set(batch.gone)
        self.batches.append(batch)
        self.values.update(batch.changed)
        for name in batch.gone:
            del self.values[name]

    @property
    def names(self) -> dict[str, str]:
        """Without what the cluster itself puts into every namespace, which has no such value."""
        return {name: value for (_, name), value in self.values.items() if value}

    async def sees(self, **values: str) -> None:
        async def equal() -> bool:
            return self.names == values

        await until(equal, 10)

    async def is_in(self, condition: Callable[[WatchState], bool]) -> WatchState:
        async def met() -> bool:
            return condition(self.watch.state)

        await until(met, 10)
        return self.watch.state


@contextlib.asynccontextmanager
async def mirrored(api: KubeApi, path: str, **query: str) -> AsyncIterator[Mirror]:
    """A running watch, cancelled at the end as the engine would."""
    mirror = Mirror(api, path, **query)
    task = asyncio.create_task(mirror.watch.run())
    try:
        yield mirror
    finally:
        assert not task.done(), task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def put(kube: Kube, namespace: str, **values: str) -> None:
    for name, value in values.items():
        body: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": value}}
        if (await kube.create(MAPS.format(namespace), body)).code == 409:
            assert (await kube.patch(f"{MAPS.format(namespace)}/{name}", {"data": {"v": value}})).code == 200


async def remove(kube: Kube, namespace: str, *names: str) -> None:
    for name in names:
        await kube.delete(f"{MAPS.format(namespace)}/{name}")


@pytest.fixture
async def maps(kube: Kube, namespace: str) -> AsyncIterator[str]:
    """A namespace with two objects."""
    await put(kube, namespace, a="1", b="1")
    yield namespace
    for obj in (await kube.get(MAPS.format(namespace))).body["items"]:
        await remove(kube, namespace, obj["metadata"]["name"])


@pytest.fixture
def requests(misbehaving: FakeCluster) -> Callable[[], list[str]]:
    """What watches and lists of ConfigMaps were asked for."""
    misbehaving.call(misbehaving.server.requests.clear)

    def asked() -> list[str]:
        paths = [path for _, _, path in misbehaving.call(lambda: list(misbehaving.server.requests))]
        return [path for path in paths if "/configmaps?" in path and ("watch=" in path or "limit=" in path)]

    return asked


async def test_everything_is_told_once_and_then_each_change(api: KubeApi, kube: Kube, maps: str) -> None:
    async with mirrored(api, MAPS.format(maps)) as mirror:
        await mirror.sees(a="1", b="1")
        await mirror.is_in(lambda s: s.connected and s.synced)
        assert sum(batch.synced for batch in mirror.batches) == 1
        await put(kube, maps, a="2", c="1", d="raise", e="out")
        await remove(kube, maps, "b")
        await mirror.sees(a="2", c="1")
        await put(kube, maps, c="out", e="in")
        await mirror.sees(a="2", e="in")


async def test_only_what_is_selected_is_told(api: KubeApi, maps: str) -> None:
    async with mirrored(api, MAPS.format(maps), fieldSelector="metadata.name=b") as mirror:
        await mirror.sees(b="1")


@pytest.mark.parametrize("how", ["forbidden", "no progress"])
async def test_servers_without_initial_events_are_listed_by_pages(
    how: str, misbehaving: FakeCluster, api: KubeApi, kube: Kube, maps: str, monkeypatch: pytest.MonkeyPatch,
    requests: Callable[[], list[str]],
) -> None:  # fmt: skip
    monkeypatch.setattr(watching, "_PAGE", 1)
    misbehaving.serve_watch_list(how)
    async with mirrored(api, MAPS.format(maps)) as mirror:
        await mirror.sees(a="1", b="1")
        await put(kube, maps, c="1")
        await mirror.sees(a="1", b="1", c="1")
        assert all(not state.error for state in mirror.states)
        assert sum("limit=1" in path for path in requests()) >= 2
        misbehaving.stop()
        try:
            await mirror.is_in(lambda s: not s.connected)
        finally:
            misbehaving.start()
        misbehaving.compact()
        await remove(kube, maps, "a")
        await mirror.sees(b="1", c="1")


async def test_a_server_that_never_ends_its_initial_events_is_listed(
    api: KubeApi, maps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_SILENT", 0.2)
    monkeypatch.setattr(watching, "_ends_initial_events", lambda _: False)
    async with mirrored(api, MAPS.format(maps)) as mirror:
        await mirror.is_in(lambda s: s.synced)
        assert mirror.names == {"a": "1", "b": "1"}


async def test_a_cut_watch_goes_on_where_it_was(
    misbehaving: FakeCluster, api: KubeApi, kube: Kube, maps: str, requests: Callable[[], list[str]]
) -> None:
    async with mirrored(api, MAPS.format(maps)) as mirror:
        await mirror.is_in(lambda s: s.synced)
        for number in range(3):
            assert misbehaving.cut_watches("configmaps") == 1
            await put(kube, maps, a=f"cut {number}")
            await mirror.sees(a=f"cut {number}", b="1")
        initial = [path for path in requests() if "sendInitialEvents" in path]
        assert len(initial) == 1
        assert len([batch for batch in mirror.batches if ("b" in {n for _, n in batch.changed})]) == 1


async def test_what_went_while_the_server_forgot_is_told_gone(
    misbehaving: FakeCluster, api: KubeApi, kube: Kube, maps: str, requests: Callable[[], list[str]]
) -> None:
    async with mirrored(api, MAPS.format(maps)) as mirror:
        await mirror.is_in(lambda s: s.synced)
        misbehaving.fail(Failure(503, "ServiceUnavailable", "wait", times=2, verb="watch", plural="configmaps"))
        misbehaving.cut_watches("configmaps")
        await remove(kube, maps, "a")
        await put(kube, maps, c="1")
        misbehaving.compact()
        await mirror.sees(b="1", c="1")
        assert len([path for path in requests() if "sendInitialEvents" in path]) == 2
        assert [state.status for state in mirror.states if state.status] == [503, 503, 410]
        assert len([batch for batch in mirror.batches if ("b" in {n for _, n in batch.changed})]) == 1, (
            "b never changed"
        )
        misbehaving.fail_watches(ApiError(410, "Expired", "too old"), "configmaps")
        await put(kube, maps, b="2")
        await mirror.sees(b="2", c="1")


async def test_a_revision_that_the_server_does_not_know_yet_is_listed_anew(
    misbehaving: FakeCluster, api: KubeApi, maps: str, requests: Callable[[], list[str]]
) -> None:
    """As after etcd was restored from an older backup."""
    async with mirrored(api, MAPS.format(maps)) as mirror:
        await mirror.is_in(lambda s: s.synced)
        details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
        misbehaving.fail_watches(
            ApiError(504, "Timeout", "Too large resource version: 9, current: 1", details), "configmaps"
        )

        async def listed() -> bool:
            return len([path for path in requests() if "sendInitialEvents" in path]) == 2

        await until(listed, 10)


async def test_a_restarted_server_is_found_again(misbehaving: FakeCluster, api: KubeApi, kube: Kube, maps: str) -> None:
    async with mirrored(api, MAPS.format(maps)) as mirror:
        await mirror.is_in(lambda s: s.synced)
        misbehaving.stop()
        try:
            down = await mirror.is_in(lambda s: s.fault is Fault.REFUSED)
            assert "connection refused" in down.error
            assert down.retry_at > time.time() - 1
        finally:
            misbehaving.start()
        await put(kube, maps, a="after")
        await mirror.sees(a="after", b="1")
        up = await mirror.is_in(lambda s: s.connected)
        assert (up.error, up.synced) == ("", True)


async def test_a_connection_is_left_for_another_when_told_to(
    misbehaving: FakeCluster, api: KubeApi, kube: Kube, maps: str, requests: Callable[[], list[str]]
) -> None:
    """As when the server was silent for a while: nobody knows whether the old connection is still one."""
    async with mirrored(api, MAPS.format(maps)) as mirror:
        await mirror.is_in(lambda s: s.synced)
        before = len(requests())
        mirror.watch.hurry()

        async def again() -> bool:
            return len(requests()) == before + 1 and misbehaving.watches() > 0

        await until(again, 5)
        await put(kube, maps, a="2")
        await mirror.sees(a="2", b="1")
        assert "sendInitialEvents" not in requests()[-1]
        misbehaving.stop()
        try:
            await mirror.is_in(lambda s: s.fault is Fault.REFUSED)
        finally:
            misbehaving.start()
        mirror.watch.hurry()
        await mirror.is_in(lambda s: s.connected)


async def test_a_frozen_server_is_noticed(
    misbehaving: FakeCluster, api: KubeApi, kube: Kube, maps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_IDLE", 0.2)
    async with mirrored(api, MAPS.format(maps)) as mirror:
        await mirror.is_in(lambda s: s.synced)
        misbehaving.freeze()
        try:
            await mirror.is_in(lambda s: s.fault is Fault.TIMEOUT)
        finally:
            misbehaving.thaw()
        monkeypatch.setattr(watching, "_IDLE", 30.0)
        await put(kube, maps, a="thawed")
        await mirror.sees(a="thawed", b="1")


async def test_whoever_may_not_watch_is_told_so_until_he_may(misbehaving: FakeCluster, maps: str) -> None:
    user = f"watcher-of-{maps}"
    path = misbehaving.kubeconfig_for(user)
    spec = ClusterSpec(name="k3s", kubeconfig=str(path))
    async with KubeApi.open(spec, no_tunnel) as api, mirrored(api, MAPS.format(maps)) as mirror:
        denied = await mirror.is_in(lambda s: s.denied)
        assert f'User "{user}" cannot' in denied.error
        rbac = "rbac.authorization.k8s.io"
        meta = {"name": "watcher", "namespace": maps}
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]
        role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": rules}
        misbehaving.create(role)
        reference = {"apiGroup": rbac, "kind": "Role", "name": "watcher"}
        subjects = [{"apiGroup": rbac, "kind": "User", "name": user}]
        misbehaving.create(
            {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": subjects} | {"rules": None}
        )
        await mirror.sees(a="1", b="1")
        assert not mirror.watch.state.denied


async def test_a_resource_that_is_not_served_is_an_error_that_may_pass(api: KubeApi) -> None:
    async with mirrored(api, "/apis/none.example/v1/things") as mirror:
        state = await mirror.is_in(lambda s: bool(s.error))
        assert (state.status, state.denied, state.connected) == (404, False, False)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b'{"type":"ADDED","object":3}',
        b'{"type":"ADDED","object":{"metadata":3}}\n{"type":"WHAT","object":{}}',
        b'{"type":"ERROR","object":{"code":"x","message":[],"details":[]}}',
        b"\xff\xfe",
        b'{"type":"ADDED","object":' + b"[" * 5000,
    ],
)
async def test_a_server_that_lies_is_an_error_and_tried_again(line: bytes, tmp_path: Path) -> None:
    config = tmp_path / "config"
    async with liar(OK + line + b"\n") as port:
        config.write_text(
            f"{{current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], users: [{{name: u, user: {{}}}}],"
            f" clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]}}"
        )
        spec = ClusterSpec(name="k3s", kubeconfig=str(config))
        async with KubeApi.open(spec, no_tunnel) as api, mirrored(api, MAPS.format("x")) as mirror:
            state = await mirror.is_in(lambda s: bool(s.error))
            assert state.error.startswith("k3s: ")
            await mirror.is_in(lambda s: s.retry_at > state.retry_at)
            assert not mirror.values


async def test_a_long_list_leaves_the_loop_to_others(misbehaving: FakeCluster, api: KubeApi) -> None:
    """Forty objects of 5 ms each in one page: others have their turn all the while."""
    misbehaving.make_pods(40, namespaces=1)
    misbehaving.serve_watch_list("forbidden")
    turns = 0
    at: list[int] = []

    def slow(_: Object) -> int:
        time.sleep(0.005)
        at.append(turns)
        return 0

    watch: Watch[int] = Watch(api, "/api/v1/namespaces/load-00/pods", slow, lambda _: None)
    task = asyncio.create_task(watch.run())
    while not watch.state.synced:
        await asyncio.sleep(0)
        turns += 1
    task.cancel()
    assert len(set(at)) > 10


async def test_a_flood_of_events_is_told_in_few_batches(misbehaving: FakeCluster, api: KubeApi) -> None:
    misbehaving.make_pods(20, namespaces=1)
    counts: dict[Name, int] = {}
    batches = 0

    def take(batch: Batch[int]) -> None:
        nonlocal batches
        batches += 1
        counts.update(batch.changed)

    def restarts(pod: Object) -> int:
        return int(pod["status"]["containerStatuses"][0]["restartCount"])

    watch: Watch[int] = Watch(api, "/api/v1/namespaces/load-00/pods", restarts, take)
    task = asyncio.create_task(watch.run())

    async def synced() -> bool:
        return watch.state.synced

    async def latest() -> bool:
        return max(counts.values()) == 3000

    await until(synced)
    await asyncio.to_thread(misbehaving.change_pods, 3000)
    await until(latest)
    task.cancel()
    assert batches < 1000
