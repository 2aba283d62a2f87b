"""A virtual cluster: the fake API server with two nodes and a stand-in for Calico, and the profile that knows it as hv1 and hv2.

    with VirtualCluster() as cluster:
        inventory = load_profile(str(cluster.profile(tmp_path / "virtual.toml")))
        cluster.serve(inventory)

The stand-in fills in every CalicoNodeStatus and answers birdcl in the calico-node pods by what the objects say at that moment.
`python -m tests.kube.virtual` builds one, prints its profile's path and stays until it is interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web

from anyconsole.drivers.kube.calico import CalicoApi
from anyconsole.drivers.kube.objects import calico_objects, cluster_objects, tenant_objects
from anyconsole.lab import Lab
from anyconsole.model.inventory import Inventory
from anyconsole.profile import load_profile
from tests.kube.apiserver import CRD_GROUP, ExecCall, FakeCluster
from tests.kube.apiserver.objects import Object, copy, now
from tests.kube.birds import Birds, is_ready
from tests.kube.dead_men import DeadMen

__all__ = ["KUBE", "PEERS", "QPS", "VirtualCluster"]

KUBE: Final = {"hv1": "node-1", "hv2": "node-2"}
"""What Kubernetes calls the nodes of the profile."""

PEERS: Final = {"ix1": (64611, "198.18.20.1", "2001:db8:20::1"), "transit": (64613, "198.18.21.1", "2001:db8:21::1")}
"""The route servers: AS number and addresses. The lab has peers of these names too."""

QPS: Final = 100.0
"""Queries per second that the stand-in for Prometheus tells of each ready name server."""

_ASN: Final = 64500
_SYSTEM: Final = "kube-system"
_RBAC: Final = "rbac.authorization.k8s.io"

_ALONE: Final = """\
[profile]
name = "virtual"
[[site]]
name = "fra"
[[interconnect]]
name = "ix1"
kind = "ixp"
  [[interconnect.peer]]
  name = "ix1"
  asn = 64611
  numbers = { ipv4 = 11, ipv6 = 12 }
[[interconnect]]
name = "transit"
kind = "transit"
  [[interconnect.peer]]
  name = "transit"
  asn = 64613
  numbers = { ipv4 = 31, ipv6 = 32 }
[[tenant]]
name = "de"
number = 1
prefixes = ["192.0.2.0/24", "2001:db8:de::/48"]
addresses = ["192.0.2.53", "2001:db8:de::53"]
zones = ["de.example"]
[[tenant]]
name = "nic"
number = 2
prefixes = ["198.51.100.0/24", "2001:db8:11c::/48"]
addresses = ["198.51.100.53", "2001:db8:11c::53"]
zones = ["nic.example"]
[[tenant]]
name = "enum"
number = 3
prefixes = ["203.0.113.0/24", "2001:db8:e164::/48"]
addresses = ["203.0.113.53", "2001:db8:e164::53"]
zones = ["enum.example"]
"""

_VIRTUAL: Final = """\
[[site]]
name = "ber"
region = "eu"
[stack]
images = { nsd = "registry.example.net/nsd:4.12.0" }
[[stack.tenant]]
tenant = "de"
primaries = ["198.18.8.1"]
[[stack.tenant]]
tenant = "nic"
primaries = ["198.18.8.1"]
[[stack.tenant]]
tenant = "enum"
primaries = ["198.18.8.1"]
[template.pods]
cluster = "k3s"
  [[template.pods.speaker]]
  kind = "calico"
    [[template.pods.speaker.session]]
    name = "198.18.20.1"
    peer = "ix1"
    family = "ipv4"
    [[template.pods.speaker.session]]
    name = "2001:db8:20::1"
    peer = "ix1"
    family = "ipv6"
    [[template.pods.speaker.session]]
    name = "198.18.21.1"
    peer = "transit"
    family = "ipv4"
    [[template.pods.speaker.session]]
    name = "2001:db8:21::1"
    peer = "transit"
    family = "ipv6"
  [[template.pods.name_server]]
  kind = "nsd"
[[node]]
name = "hv1"
site = "ber"
template = "pods"
address = "node-1"
[[node]]
name = "hv2"
site = "ber"
template = "pods"
address = "node-2"
"""


class VirtualCluster(FakeCluster):
    """A cluster of two nodes whose Calico tells of itself and announces what its objects say."""

    def __init__(self, version: str = "v3.32.1", calico_group: tuple[str, str] = CRD_GROUP) -> None:
        super().__init__(nodes=len(KUBE), calico_group=calico_group)
        self.calico_api = CalicoApi("/".join(calico_group))
        self.birds = Birds(self._all)
        self._version = version
        self._hung: set[str] = set()
        self._mute: set[str] = set()
        self._background: list[asyncio.Task[None]] = []
        self._prometheus: web.AppRunner | None = None
        self._prometheus_url = ""

    def up(self) -> Self:
        """Start it, with Calico's objects and pods in it."""
        super().up()
        for obj in _calico(self.calico_api.group_version, self._version):
            self.create(obj)
        self.scripts.execs.add(_SYSTEM, "calico-node-*", self._birdcl)
        self._await(self._begin)
        return self

    def down(self) -> None:
        """Stop it for good."""
        if self._prometheus is not None:
            self._await(self._prometheus.cleanup)
        super().down()

    # What is in it

    def profile(
        self,
        path: Path,
        *,
        lab: Lab | None = None,
        kubeconfig: Path | None = None,
        prometheus: bool = True,
        more: str = "",
    ) -> Path:
        """Write a profile with this cluster: alone, or beside the nodes of a lab.

        Args:
            path: Where to.
            lab: The lab whose nodes are in it too, with its sites, peers and tenants.
            kubeconfig: Another user's than the administrator's.
            prometheus: Whether queries per second are read in the cluster.
            more: TOML to add at the end.
        """
        cluster = f'[[cluster]]\nname = "k3s"\nkubeconfig = "{kubeconfig or self.kubeconfig}"\n'
        if prometheus:
            cluster += 'prometheus = "monitoring/prometheus:web"\nqps = "sum by (namespace, pod) (rate(queries[1m]))"\n'
        first = lab.profile_path.read_text() if lab is not None else _ALONE
        path.write_text("\n".join((first, cluster, _VIRTUAL, more)))
        return path

    def serve(self, inventory: Inventory, tenants: Iterable[str] = ()) -> None:
        """Have tenants set up, all of the profile by default, as somebody did it with its rendered objects; their pods soon are ready."""
        spec = inventory.clusters[0]
        for tenant in inventory.tenants:
            if not tenants or tenant.name in tenants:
                for obj in tenant_objects(inventory, spec, tenant):
                    self.create(obj)
        entries = calico_objects(inventory, spec, self.calico_api)[0]["spec"]["serviceExternalIPs"]
        self.change("bgpconfigurations", "", "default", lambda obj: obj["spec"].update(serviceExternalIPs=entries))

    def name_servers(self, namespace: str) -> dict[str, str]:
        """The name server pods of a namespace by the Kubernetes node they run on."""
        return {
            pod["spec"].get("nodeName", ""): pod["metadata"]["name"]
            for pod in self.objects("pods", namespace)
            if not pod["metadata"].get("deletionTimestamp")
        }

    # Users

    def make_roles(self, inventory: Inventory) -> None:
        """The roles as we ship them, and what else tenants share."""
        for obj in cluster_objects(inventory, inventory.clusters[0]):
            self.create(obj)

    def user(self, name: str, *roles: str) -> Path:
        """The kubeconfig of a user with ClusterRoles in the whole cluster (`anyconsole-reader`, `anyconsole-operator`)."""
        for role in roles:
            self.bind(name, role)
        return self.kubeconfig_for(name)

    def bind(self, user: str, role: str) -> None:
        """Give a user a ClusterRole in the whole cluster."""
        self.create(
            {
                "apiVersion": f"{_RBAC}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{user}-{role}"},
                "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": user}],
            }
        )

    def deny(self, role: str, resource: str) -> None:
        """Take a resource out of a ClusterRole: `deny("anyconsole-operator", "pods/exec")`."""

        def take_out(obj: Object) -> None:
            for rule in obj["rules"]:
                rule["resources"] = [r for r in rule["resources"] if r != resource]

        self.change("clusterroles", "", role, take_out)

    # Calico's troubles

    def hang_calico(self, node: str, is_hung: bool = True) -> None:
        """Let the calico-node of a Kubernetes node fall silent: its last words stay. Or wake it."""
        self.call(lambda: (self._hung.add if is_hung else self._hung.discard)(node))

    def mute_birds(self, node: str, is_mute: bool = True) -> None:
        """Let nobody ask the BIRDs of a Kubernetes node any more, or let them again. They go on announcing."""
        self.call(lambda: (self._mute.add if is_mute else self._mute.discard)(node))

    def set_session(self, node: str, peer: str, *, is_up: bool) -> None:
        """Lose the session of a Kubernetes node with a peer's address, or have it back."""
        self.call(lambda: (self.birds.down.discard if is_up else self.birds.down.add)((node, peer)))

    def label(self, node: str, key: str, value: str | None) -> None:
        """Label a Kubernetes node as with kubectl; None takes the label away."""

        def set_label(obj: Object) -> None:
            labels = obj["metadata"].setdefault("labels", {})
            if value is None:
                labels.pop(key, None)
            else:
                labels[key] = value

        self.change("nodes", "", node, set_label)

    # The stand-ins

    def _all(self, resource: str) -> Iterable[Object]:
        return [stored.obj for stored in self.store.all(self.api.catalogue.named(resource).key, "")]

    async def _begin(self) -> None:
        self._background = [asyncio.create_task(self._tell_statuses(), name="calico")]
        application = web.Application()
        application.router.add_get("/api/v1/query", self._query)
        self._prometheus = web.AppRunner(application, access_log=None)
        await self._prometheus.setup()
        site = web.TCPSite(self._prometheus, "127.0.0.1", 0)
        await site.start()
        self._prometheus_url = f"http://127.0.0.1:{self._prometheus.addresses[0][1]}"
        self.scripts.services["monitoring", "prometheus", "web"] = self._prometheus_url

    async def _tell_statuses(self) -> None:
        told: dict[str, float] = {}
        resource = self.api.catalogue.named("caliconodestatuses")
        while True:
            for status in list(self._all("caliconodestatuses")):
                uid, spec = status["metadata"]["uid"], status["spec"]
                due = told.get(uid, 0.0) + (spec.get("updatePeriodSeconds") or float("inf")) - 0.1
                if spec.get("node") in KUBE.values() and spec["node"] not in self._hung and time.monotonic() >= due:
                    told[uid] = time.monotonic()
                    self.api.write(resource, {**copy(status), "status": self.birds.status(spec["node"], now())})
            # A new one is filled in at once, the others each second at most.
            await asyncio.sleep(0.1)

    async def _birdcl(self, call: ExecCall) -> int:
        match call.argv:
            case ["sh", "-c", str(script), "sh", *asks] if "birdcl -v -r -s /var/run/calico/bird.ctl" in script:
                pod = next(p for p in self._all("pods") if p["metadata"]["name"] == call.pod)
                if pod["spec"]["nodeName"] in self._mute:
                    return 137
                await call.out(self.birds.answer(pod["spec"]["nodeName"], asks).encode())
                return 0
            case _:
                await call.err(b"sh: not found\n")
                return 127

    async def _query(self, request: web.Request) -> web.Response:
        at = time.time()
        query = request.query["query"]
        asks_for_time = query.startswith("timestamp(")
        result = [
            {
                "metric": {"namespace": p["metadata"]["namespace"], "pod": p["metadata"]["name"]},
                "value": [at, str(at if asks_for_time else QPS if self._is_preferred(p) else 0.0)],
            }
            for p in self._all("pods")
            if (p["metadata"].get("labels") or {}).get("anyconsole.io/component") == "name-server" and is_ready(p)
        ]
        if "queries[1m]" not in query:
            result = []  # it scrapes no exporter
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})

    def _is_preferred(self, pod: Object) -> bool:
        """Whether queries come to a pod: its node announces an address of its namespace to some peer, and not as the last resort."""
        node, namespace = pod["spec"].get("nodeName", ""), pod["metadata"]["namespace"]
        services = (s for s in self._all("services") if s["metadata"]["namespace"] == namespace)
        addresses = [address for service in services for address in service["spec"].get("externalIPs") or ()]
        routes = (self.birds.route(node, peer, a) for peer in self.birds.sessions(node) for a in addresses)
        return any(route is not None and "65535:0" not in route.communities for route in routes)


def _calico(group_version: str, version: str) -> list[Object]:
    """Calico's own objects."""

    def obj(kind: str, name: str, **spec: Any) -> Object:  # noqa: ANN401 - any JSON
        return {"apiVersion": group_version, "kind": kind, "metadata": {"name": name}, "spec": spec}

    labels = {"k8s-app": "calico-node"}
    container = {"name": "calico-node", "image": f"docker.io/calico/node:{version}"}
    template = {"metadata": {"labels": labels}, "spec": {"hostNetwork": True, "containers": [container]}}
    return [
        obj("ClusterInformation", "default", calicoVersion=version, clusterType="k8s,bgp"),
        obj("BGPConfiguration", "default", asNumber=_ASN, nodeToNodeMeshEnabled=False),
        obj("IPPool", "default", cidr="10.42.0.0/16", natOutgoing=True),
        *(
            obj("BGPPeer", f"{name}-v{4 if address is v4 else 6}", nodeSelector="all()", peerIP=address, asNumber=asn)
            for name, (asn, v4, v6) in PEERS.items()
            for address in (v4, v6)
        ),
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "calico-node", "namespace": _SYSTEM},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
    ]


def main() -> None:
    """Build one and stay."""
    parser = argparse.ArgumentParser(prog="python -m tests.kube.virtual", description=__doc__)
    parser.add_argument("--lab", metavar="NAME", help="beside the nodes of this lab, which is up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="virtual-cluster-") as directory, VirtualCluster() as cluster:
        path = cluster.profile(Path(directory) / "virtual.toml", lab=Lab(options.lab) if options.lab else None)
        inventory = load_profile(str(path))
        cluster.make_roles(inventory)
        cluster.serve(inventory)
        DeadMen(cluster, Path(directory))
        print(path, flush=True)
        try:
            wait: Callable[[], str] = sys.stdin.read
            wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
