"""The cluster that tests use: an API server in a thread of its own, with kubeconfigs for its users and handles for its scripts."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import yaml
from aiohttp import web

from tests.kube.apiserver import calico, load, seeding
from tests.kube.apiserver.api import Api, How, Place
from tests.kube.apiserver.controllers import Controllers
from tests.kube.apiserver.deleting import Collector
from tests.kube.apiserver.errors import ApiError
from tests.kube.apiserver.kubelet import Kubelet, restarted
from tests.kube.apiserver.objects import Object, copy, dig
from tests.kube.apiserver.pki import Authority
from tests.kube.apiserver.rbac import Authorizer
from tests.kube.apiserver.resources import Catalogue
from tests.kube.apiserver.reviews import Tokens, service_account
from tests.kube.apiserver.scripts import JobRun, Scripts
from tests.kube.apiserver.server import Fault, Server
from tests.kube.apiserver.store import Store
from tests.kube.apiserver.watching import WatchCutError, Watching

T = TypeVar("T")
_TIMEOUT = 60.0


class FakeCluster:
    """A Kubernetes API on a port of the loopback address, from `up` to `down` (or as a context manager).

    With nodes it also has a kubelet and controllers, so that what is applied comes to life; without, objects just lie there.
    """

    def __init__(
        self, nodes: int = 0, calico_group: tuple[str, str] | None = calico.CRD_GROUP, keep_events: int = 10_000
    ) -> None:
        self._nodes = nodes
        self._calico_group = calico_group
        self.scripts = Scripts()
        """Hooks for exec, logs, ports, Services, Jobs and the lives of pods."""
        self.store = Store(keep_events)
        self.api = Api(self.store, Catalogue())
        """The objects themselves. Only to be touched through `call`."""
        self.tokens = Tokens()
        self._watching = Watching(self.store)
        self.server = Server(self.api, Authorizer(self.store), self.tokens, self._watching, self.scripts)
        self._directory = tempfile.TemporaryDirectory(prefix="fake-cluster-")
        self.directory = Path(self._directory.name)
        self._authority = Authority(self.directory)
        self._kubelet = Kubelet(self.api, self.scripts, self._job_run)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="fake-cluster", daemon=True)
        self._runner: web.AppRunner | None = None
        self._controlling: asyncio.Task[None] | None = None
        self._port = 0
        self.kubeconfig = self.directory / "kubeconfig"
        """The administrator's."""

    def __enter__(self) -> Self:
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def ca_file(self) -> Path:
        """The certificate that its clients trust."""
        return self._authority.ca_file

    def up(self) -> Self:
        """Start it."""
        self._thread.start()
        self._await(self._set_up)
        self.kubeconfig = self.kubeconfig_for("kubernetes-admin", ("system:masters",))
        return self

    def down(self) -> None:
        """Stop it for good and remove its files."""
        self._await(self._tear_down)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT)
        self._loop.close()
        self._directory.cleanup()

    def kubeconfig_for(self, user: str, groups: tuple[str, ...] = ()) -> Path:
        """A kubeconfig with a client certificate for a user."""
        certificate, key = self._authority.issue_client(user, groups)
        return self._write_kubeconfig(user, {"client-certificate": str(certificate), "client-key": str(key)})

    def kubeconfig_for_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a bearer token for a service account."""
        token = self.tokens.issue(service_account(namespace, name))
        return self._write_kubeconfig(f"{namespace}-{name}", {"token": token})

    def call(self, function: Callable[[], T]) -> T:
        """Run a function where the store may be touched: in the server's thread."""

        async def run() -> T:
            return function()

        return self._await(run)

    def create(self, obj: Object, with_status: bool = True) -> Object:
        """Create an object as the cluster itself would; its status is kept."""
        resource = self.api.catalogue.of_kind(obj["apiVersion"], obj["kind"])
        if resource is None:
            raise KeyError(obj["kind"])
        place = Place(resource, str(dig(obj, "metadata", "namespace") or ""))

        def create() -> Object:
            created = self.api.create(place, obj, How("test"))
            if not with_status or "status" not in obj:
                return created
            return self.api.write(resource, {**copy(created), "status": obj["status"]})

        return self.call(create)

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """An object by the resource's name (pods, deployments, bgppeers), None when it isn't there."""

        def get() -> Object | None:
            stored = self.store.get(self.api.catalogue.named(resource).key, namespace, name)
            return stored.obj if stored else None

        return self.call(get)

    def objects(self, resource: str, namespace: str = "") -> list[Object]:
        """All objects of a resource."""
        return self.call(lambda: [s.obj for s in self.store.all(self.api.catalogue.named(resource).key, namespace)])

    def change(self, resource: str, namespace: str, name: str, change: Callable[[Object], None]) -> Object:
        """Change anything of an object, its status too, as if a controller had."""

        def write() -> Object:
            found = self.api.catalogue.named(resource)
            obj = copy(self.api.get(Place(found, namespace, name)))
            change(obj)
            return self.api.write(found, obj)

        return self.call(write)

    def add_node(self, name: str, addresses: tuple[str, ...] = (), labels: dict[str, str] | None = None) -> Object:
        """One more node."""
        return self.call(lambda: seeding.add_node(self.api, name, addresses, labels or {}))

    def set_node_ready(self, name: str, ready: bool) -> None:
        """Lose a node and the readiness of its pods, or have it back."""
        resource = self.api.catalogue.named("nodes")

        def set_ready() -> None:
            self.api.write(resource, seeding.with_node_ready(self.api.get(Place(resource, name=name)), ready))
            for stored in self.store.all("pods"):
                if dig(stored.obj, "spec", "nodeName") == name:
                    self._kubelet.hold_ready(stored.obj, None if ready else False)
                    self._kubelet.step(stored.obj)

        self.call(set_ready)

    def hold_ready(self, namespace: str, pod: str, ready: bool | None) -> None:
        """Keep a pod ready or unready against its script; None to let it be."""

        def hold() -> None:
            found = self.api.get(Place(self.api.catalogue.named("pods"), namespace, pod))
            self._kubelet.hold_ready(found, ready)
            self._kubelet.step(found)

        self.call(hold)

    def crash(
        self,
        namespace: str,
        pod: str,
        container: str,
        exit_code: int = 1,
        reason: str = "Error",
        back_off: bool = False,
    ) -> None:
        """Let a container end and be restarted, or wait in back-off."""
        resource = self.api.catalogue.named("pods")

        def crash() -> None:
            found = self.api.get(Place(resource, namespace, pod))
            self.api.write(resource, restarted(found, container, exit_code, reason, back_off))

        self.call(crash)

    def say(self, namespace: str, pod: str, container: str, *lines: str, previous: bool = False) -> None:
        """Lines of a container's log, or of the log from before its last restart."""
        self.call(lambda: self.scripts.log(namespace, pod, container, previous).add(*lines))

    # What goes wrong with API servers.

    def compact(self) -> None:
        """Forget the past: older revisions and continue tokens answer 410 from now on."""

        def compact() -> None:
            self.store.compact()
            self.server.lists.forget_pages()

        self.call(compact)

    def cut_watches(self, plural: str = "") -> int:
        """Break the connections of all watches, or of one resource's. Returns how many there were."""
        return self.call(lambda: self._watching.end(WatchCutError(), plural))

    def fail_watches(self, error: ApiError, plural: str = "") -> int:
        """Send an ERROR event to watches and end them. Returns how many there were."""
        return self.call(lambda: self._watching.end(error.status(), plural))

    def watches(self) -> int:
        """How many watches are open."""
        return self.call(lambda: self._watching.count)

    def serve_watch_list(self, how: str) -> None:
        """How initial events are served: "served", "forbidden" (an old server: 422) or "no progress" (old storage: an ERROR event)."""
        self._watching.watch_list = how

    def set_bookmarks(self, every: float) -> None:
        """How many seconds lie between bookmarks."""
        self._watching.bookmark_every = every

    def fail(self, fault: Fault) -> None:
        """Answer the next requests of a kind with an error."""
        self.call(lambda: self.server.faults.append(fault))

    def freeze(self) -> None:
        """Take connections, answer nothing."""
        self.call(self._watching.thawed.clear)

    def thaw(self) -> None:
        """Answer again."""
        self.call(self._watching.thawed.set)

    def stop(self) -> None:
        """Go away: connections break, nobody listens. State is kept."""
        self._await(self._stop_listening)

    def start(self) -> None:
        """Come back on the same port."""
        self._await(self._listen)

    # Load.

    def make_pods(self, count: int, namespaces: int = 10, nodes: int = 50) -> None:
        """Thousands of running pods of real size."""
        self._await(lambda: load.make_pods(self.api, count, namespaces, nodes))

    def change_pods(self, events: int, rate: float | None = None) -> float:
        """That many watch events, at a rate a second or as fast as can be. Returns the seconds it took."""
        return self._await(lambda: load.change_pods(self.api, events, rate), timeout=600)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _await(self, function: Callable[[], Awaitable[T]], timeout: float = _TIMEOUT) -> T:
        async def run() -> T:
            return await function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout)

    async def _set_up(self) -> None:
        Collector(self.api)
        seeding.seed(self.api, self._calico_group)
        for number in range(1, self._nodes + 1):
            seeding.add_node(self.api, f"node-{number}", (f"192.0.2.{number}", f"2001:db8::{number}"), {})
        if self._nodes:
            self._controlling = asyncio.create_task(Controllers(self.api, self._kubelet).run())
        self._server_files = self._authority.issue_server()
        await self._listen()

    async def _listen(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca_file))
        context.load_cert_chain(*self._server_files)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._runner = web.AppRunner(
            self.server.application(),
            access_log=None,
            shutdown_timeout=0.1,
            handler_cancellation=True,
            auto_decompress=True,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=context, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _stop_listening(self) -> None:
        if self._runner is not None:
            self._watching.end(WatchCutError())
            await self._runner.cleanup()
            self._runner = None

    async def _tear_down(self) -> None:
        await self._kubelet.stop()
        if self._controlling is not None:
            self._controlling.cancel()
            await asyncio.gather(self._controlling, return_exceptions=True)
        self._watching.thawed.set()
        await self._stop_listening()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _job_run(self, pod: Object, container: Object) -> JobRun:
        account = service_account(pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"])
        return JobRun(pod, container, self.tokens.issue(account), self.url, str(self.ca_file))

    def _write_kubeconfig(self, user: str, credentials: dict[str, str]) -> Path:
        stem = user.replace(":", "-").replace("/", "-")
        path = self.directory / f"{stem}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": user}}],
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path
