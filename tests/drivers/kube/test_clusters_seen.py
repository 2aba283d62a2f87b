"""A whole virtual stack, seen through the API server: what is told, what goes stale and what comes back, and what we may not see."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.fleet import KubeFleet
from anyconsole.drivers.load.pod_watching import PodWatching
from anyconsole.drivers.prometheus import OpenTunnel
from anyconsole.headless import is_settled
from anyconsole.model import verdicts
from anyconsole.model.cluster_state import denied_to_see, may_not_see_drains
from anyconsole.model.facts import Exported, LinkState
from anyconsole.model.inventory import Inventory
from anyconsole.model.store import FleetStore, Update
from anyconsole.model.verdicts import Verdict
from anyconsole.profile import load_profile
from tests.drivers.kube.networks import Tunnel, no_tunnel
from tests.kube.apiserver.scripts import ExecCall, run_here
from tests.kube.apiserver.server import Fault
from tests.kube.virtual import VirtualCluster
from tests.terminal import ENTER, Terminal

_EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualCluster]:
    """Two nodes, three tenants."""
    with VirtualCluster() as made:
        inventory = load_profile(str(made.profile(tmp_path_factory.mktemp("virtual") / "virtual.toml")))
        made.make_roles(inventory)
        made.serve(inventory)
        yield made


class Seen:
    """The fleet as it is seen."""

    def __init__(self, inventory: Inventory, open_tunnel: OpenTunnel) -> None:
        self.inventory = inventory
        self.store = FleetStore(inventory)
        self.fleet = KubeFleet(inventory, self._take, open_tunnel)

    def _take(self, updates: Sequence[Update]) -> None:
        self.store.apply(updates)

    def verdict(self, node: str) -> Verdict:
        return verdicts.node(self.store, self.inventory.node(node), time.time()).verdict

    def words(self, node: str) -> str:
        return verdicts.node(self.store, self.inventory.node(node), time.time()).reason

    def exported(self, node: str) -> set[Exported]:
        return {cell.exported for cell in verdicts.announcements(self.store, self.inventory.node(node), time.time())}

    async def until(self, true: Callable[[], bool], seconds: float = 15.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, [
                (n.name, self.verdict(n.name), self.words(n.name)) for n in self.inventory.nodes
            ]
            await asyncio.sleep(0.05)

    async def until_serving(self) -> None:
        await self.until(lambda: all(self.verdict(n.name) is Verdict.SERVING for n in self.inventory.nodes))


@asynccontextmanager
async def watching(
    cluster: VirtualCluster, folder: Path, kubeconfig: Path | None = None, through: OpenTunnel | None = None
) -> AsyncIterator[Seen]:
    path = cluster.profile(folder / "virtual.toml", kubeconfig=kubeconfig)
    if through is not None:
        path.write_text(path.read_text().replace("kubeconfig =", 'jump = ["outer", "inner"]\nkubeconfig ='))
    seen = Seen(load_profile(str(path)), through or no_tunnel)
    task = asyncio.create_task(seen.fleet.run())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_virtual_stack_serves_as_a_bare_one_does(cluster: VirtualCluster, tmp_path: Path) -> None:
    async with watching(cluster, tmp_path) as seen:
        await seen.until_serving()
        assert {len(seen.store.pods("k3s", namespace)) for namespace in ("de", "nic", "enum")} == {2}
        await seen.until(lambda: seen.store.qps("hv1", "de", time.time()) is not None)
        assert seen.exported("hv1") == {Exported.ANNOUNCED}
        assert cluster.objects("caliconodestatuses")
    assert not cluster.objects("caliconodestatuses"), "what was made in order to see is removed"


async def test_a_hanging_api_server_makes_its_rows_stale_and_comes_back_without_a_restart(
    cluster: VirtualCluster, tmp_path: Path
) -> None:
    async with watching(cluster, tmp_path) as seen:
        await seen.until_serving()
        cluster.freeze()
        try:
            await seen.until(lambda: seen.verdict("hv1") is Verdict.STALE)
        finally:
            cluster.thaw()
        await seen.until_serving()
        cluster.stop()
        try:
            await seen.until(lambda: (link := seen.store.link("hv2")) is not None and link.state is LinkState.BACKOFF)
        finally:
            cluster.start()
        await seen.until_serving()


async def test_an_api_server_that_lost_its_storage_is_not_believed_though_it_still_tells_its_version(
    cluster: VirtualCluster, tmp_path: Path
) -> None:
    async with watching(cluster, tmp_path) as seen:
        await seen.until_serving()
        cluster.fail(Fault(500, "InternalError", "etcd failed", 1_000, plural="readyz"))
        try:
            await seen.until(lambda: seen.verdict("hv1") is Verdict.STALE)
            assert "etcd failed (500)" in seen.words("hv1")
        finally:
            cluster.call(cluster.server.faults.clear)
        await seen.until_serving()


async def test_who_may_not_ask_whether_the_server_is_ready_sees_the_cluster_all_the_same(
    cluster: VirtualCluster, tmp_path: Path
) -> None:
    cluster.fail(Fault(403, "Forbidden", "not for you", 1_000, plural="readyz"))
    try:
        async with watching(cluster, tmp_path) as seen:
            await seen.until_serving()
    finally:
        cluster.call(cluster.server.faults.clear)


async def test_a_calico_that_hangs_is_not_believed_while_pods_still_are(
    cluster: VirtualCluster, tmp_path: Path
) -> None:
    async with watching(cluster, tmp_path) as seen:
        await seen.until_serving()
        cluster.hang_calico("node-1")
        try:
            await seen.until(lambda: seen.verdict("hv1") is Verdict.STALE, 25)
            assert "calico does not answer" in seen.words("hv1")
            status = seen.store.instance("hv1", "de")
            assert seen.store.is_fresh(status, time.time())
            assert seen.verdict("hv2") is Verdict.SERVING
        finally:
            cluster.hang_calico("node-1", is_hung=False)
        await seen.until_serving()


async def test_what_was_withdrawn_by_hand_is_seen(cluster: VirtualCluster, tmp_path: Path) -> None:
    async with watching(cluster, tmp_path) as seen:
        await seen.until_serving()
        cluster.label("node-1", _EXCLUDE, "true")
        try:
            await seen.until(lambda: seen.exported("hv1") == {Exported.ABSENT})
            await seen.until(lambda: seen.verdict("hv1") is not Verdict.SERVING)
        finally:
            cluster.label("node-1", _EXCLUDE, None)
        await seen.until_serving()


async def test_a_pod_that_fails_is_no_instance_that_serves(cluster: VirtualCluster, tmp_path: Path) -> None:
    async with watching(cluster, tmp_path) as seen:
        await seen.until_serving()
        pod = cluster.name_servers("nic")["node-2"]
        cluster.hold_ready("nic", pod, False)
        try:
            await seen.until(lambda: seen.verdict("hv2") is not Verdict.SERVING)
            assert "nic" in seen.words("hv2")
            assert seen.verdict("hv1") is Verdict.SERVING
        finally:
            cluster.hold_ready("nic", pod, None)
        await seen.until_serving()


async def test_a_reader_sees_everything_and_is_told_what_it_may_not_do(cluster: VirtualCluster, tmp_path: Path) -> None:
    reader = cluster.user("alice", "anyconsole-reader")
    async with watching(cluster, tmp_path, reader) as seen:
        await seen.until(lambda: seen.store.cluster("k3s") is not None)
        told = seen.store.cluster("k3s")
        assert told is not None
        words = {str(permission) for permission in told.denied}
        assert "patch nodes in all namespaces" in words
        assert "create deployments.apps in de" in words
        assert not [word for word in words if word.startswith(("list", "get"))]
        await seen.until(lambda: bool(seen.store.pods("k3s", "de")))


def bind(
    cluster: VirtualCluster, user: str, role: str, resources: dict[str, list[str]], verbs: list[str], *spaces: str
) -> None:
    """Permit a user verbs on resources by API group, in namespaces or everywhere."""
    api = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [group], "resources": names, "verbs": verbs} for group, names in resources.items()]
    cluster.create({"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": rules})
    if not spaces:
        cluster.bind(user, role)
    for space in spaces:
        cluster.create(
            {
                "apiVersion": f"{api}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": f"{user}-{role}", "namespace": space},
                "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
            }
        )


async def test_what_a_role_does_not_let_us_see_is_told_as_that_and_nothing_waits_for_it(
    cluster: VirtualCluster, tmp_path: Path
) -> None:
    """Neither nodes nor events nor filters, pods in some namespaces only, and to list peers but not to watch them."""
    group = "crd.projectcalico.org"
    reading = ["get", "list", "watch"]
    bind(cluster, "carol", "sees-pods", {"": ["pods"]}, reading, "nic", "enum", "kube-system")
    bind(cluster, "carol", "lists-peers", {group: ["bgppeers"]}, ["get", "list"])
    rest = ["bgpconfigurations", "ippools", "clusterinformations", "caliconodestatuses"]
    bind(cluster, "carol", "sees-calico", {group: rest}, [*reading, "create", "delete"])
    async with watching(cluster, tmp_path, cluster.user("carol")) as seen:
        wanted = {
            "list nodes in all namespaces",
            "list pods in de",
            "list events in nic",
            f"list bgpfilters.{group} in all namespaces",
            f"watch bgppeers.{group} in all namespaces",
            "create pods/exec in kube-system",
        }
        await seen.until(lambda: wanted <= {str(p) for p in denied_to_see(seen.store.cluster("k3s"))})
        assert "watch nodes in all namespaces" not in {str(p) for p in denied_to_see(seen.store.cluster("k3s"))}
        await seen.until(
            lambda: seen.store.speaker("hv1", "calico") is not None and is_settled(seen.store, time.time())
        )
        spec = seen.inventory.node("hv1")
        assert seen.words("hv1").startswith("no permission: list nodes in all namespaces (+")
        assert seen.verdict("hv1") is Verdict.UNKNOWN
        of_de, of_nic = (verdicts.instance(seen.store, spec, i, time.time()) for i in spec.instances[:2])
        assert of_de.reason == "no permission: list pods in de"
        assert "no permission to create pods/exec in kube-system" in of_nic.reason
        assert may_not_see_drains(seen.store, spec) == "no permission: list nodes in all namespaces"
        assert not [name for name in dict(seen.store.sections("hv1")) if name == "host"]


async def test_without_exec_exports_are_unknown_for_a_reason(cluster: VirtualCluster, tmp_path: Path) -> None:
    nobody = cluster.user("bob", "view")
    async with watching(cluster, tmp_path, nobody) as seen:
        await seen.until(lambda: seen.store.cluster("k3s") is not None)
        denied = seen.store.cluster("k3s")
        assert denied is not None
        assert any(permission.resource == "pods/exec" for permission in denied.denied)
        assert seen.exported("hv1") <= {Exported.UNKNOWN}


async def test_the_counters_of_a_name_server_are_shown_by_its_own_container(
    cluster: VirtualCluster, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    async def here(call: ExecCall) -> int:
        asked.append((call.pod, call.container))
        return await run_here(call)

    cluster.scripts.execs.add("de", "ns-nsd-*", here)
    async with watching(cluster, tmp_path) as seen:
        await seen.until_serving()
        channel = await seen.fleet.open_reader("hv2", "de")
        pods = PodWatching("hv2", {"de": channel, "nic": "not asked"}, {})
        try:
            conditions = await pods.start()
            sample = await pods.sample()
        finally:
            await pods.stop()
        assert asked == [(cluster.name_servers("de")["node-2"], "nsd")]
        assert conditions.host.cores == os.cpu_count()
        assert sample.host.cores
        assert sample.instances["nic"].unknown == {"cpu": "nic: not asked"}
        with pytest.raises(KubeError, match="no name server of xy runs on hv2"):
            await seen.fleet.open_reader("hv2", "xy")


async def test_an_object_is_shown_without_what_looks_like_a_secret(cluster: VirtualCluster, tmp_path: Path) -> None:
    async with watching(cluster, tmp_path) as seen:
        await seen.until_serving()
        pod = cluster.name_servers("de")["node-1"]
        shown = await seen.fleet.raw("k3s", f"pod/de/{pod}")
        assert f"name: {pod}" in shown
        assert "managedFields" not in shown
        assert await seen.fleet.look(["hv1", "hv2"], 5.0) == {"hv1", "hv2"}
        assert (await seen.fleet.shell("k3s", f"pod/de/{pod}/nsd"))[-4:] == ["0", "de", pod, "nsd"]


async def test_a_shell_goes_through_the_jump_hosts_as_everything_else_does(
    cluster: VirtualCluster, tmp_path: Path
) -> None:
    async def shell(call: ExecCall) -> int:
        assert call.tty
        await call.out(f"{call.pod}$ ".encode())
        while b"\r" not in await call.read():
            continue
        return 5

    hidden = tmp_path / "hidden.kubeconfig"
    hidden.write_text(cluster.kubeconfig.read_text().replace(cluster.url, "https://kubernetes.default.svc:6443"))
    tunnel = Tunnel(cluster)
    pod = cluster.name_servers("de")["node-1"]
    cluster.scripts.execs.add("de", pod, shell)
    async with watching(cluster, tmp_path, hidden, tunnel) as seen:
        await seen.until_serving()
        argv = await seen.fleet.shell("k3s", f"pod/de/{pod}/nsd")
        with Terminal(argv) as terminal:
            await asyncio.to_thread(terminal.wait_for, rf"^{pod}\$", 20)
            terminal.send(ENTER)
            assert await asyncio.to_thread(terminal.exit_status, 10) == 5
    assert tunnel.asked == [("outer,inner", "kubernetes.default.svc", 6443)], "the engine's own tunnel, and no other"


async def test_a_shell_whose_tunnel_is_gone_says_so(cluster: VirtualCluster, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden.kubeconfig"
    hidden.write_text(cluster.kubeconfig.read_text().replace(cluster.url, "https://kubernetes.default.svc:6443"))
    tunnel = Tunnel(cluster)
    async with watching(cluster, tmp_path, hidden, tunnel) as seen:
        await seen.until_serving()
        argv = await seen.fleet.shell("k3s", "pod/de/ns/nsd")
        tunnel.cut()
        with Terminal(argv, columns=200) as terminal:
            await asyncio.to_thread(
                terminal.wait_for,
                r"k3s: https://kubernetes\.default\.svc:6443 through outer,inner: connection refused",
                20,
            )
