"""The clusters of a profile: what they and their nodes say goes to `emit` as it arrives; everything one can ask of them is asked here.

It is to clusters what `drivers.ssh.fleet` is to hosts. A cluster that lies, hangs or floods costs the others nothing.
"""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec

from anyconsole.drivers.kube.access import Object
from anyconsole.drivers.kube.calico import node_path, node_status_name
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.execute import carry_out
from anyconsole.drivers.kube.generator_job import CONTAINER
from anyconsole.drivers.kube.generator_pods import running, until_running
from anyconsole.drivers.kube.hands import ClusterHands
from anyconsole.drivers.kube.link import ClusterLink
from anyconsole.drivers.kube.load_channel import PodChannel
from anyconsole.drivers.kube.terminal import logs
from anyconsole.drivers.kube.workloads import Emit
from anyconsole.drivers.load.pod_counters import READING
from anyconsole.drivers.prometheus import OpenTunnel
from anyconsole.drivers.ssh.execute import Completed
from anyconsole.model.inventory import Inventory, NodeSpec

__all__ = ["KubeFleet"]

_TAIL: Final = 500
"""Lines of a log that are shown of what was before."""

_FIRST_LOOK: Final = 30.0
_MASKED: Final = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)
"""Names of environment variables whose values are nobody's business on a screen."""


class KubeFleet:
    """The clusters of one profile."""

    def __init__(self, inventory: Inventory, emit: Emit, open_tunnel: OpenTunnel) -> None:
        self._links = {spec.name: ClusterLink(inventory, spec, emit, open_tunnel) for spec in inventory.clusters}
        self._nodes = {node.name: node for node in inventory.nodes if node.cluster}
        self._pods = {
            pod.name: (generator, number)
            for generator in inventory.generators
            if generator.cluster
            for number, pod in enumerate(generator.members)
        }

    def knows(self, name: str) -> bool:
        """True for a cluster, and for a node in one."""
        return name in self._links or name in self._nodes

    def generates(self, name: str) -> bool:
        """True for a load generator that is a pod."""
        return name in self._pods

    async def run(self) -> None:
        """Watch all clusters until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for link in self._links.values():
                tasks.create_task(link.run(), name=f"cluster {link.spec.name}")
            tasks.create_task(self._freeze_after_first_look(), name="clusters' first look")

    async def _freeze_after_first_look(self) -> None:
        """Take what thousands of pods brought along out of the collector's sight: a full collection stops the loop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK):
                for link in self._links.values():
                    await link.settled.wait()
        gc.collect(1)  # what is young: a full collection is the pause that this spares
        gc.freeze()

    def poke(self, name: str) -> None:
        """Try to reach a cluster, or that of a node, now. Raises KubeError if there is no such."""
        self._link(name).poke()

    async def look(self, nodes: Collection[str], deadline: float) -> set[str]:
        """Read nodes in clusters, and their routing, anew; those that were read, and have been emitted, when it returns."""
        seen: set[str] = set()

        async def look_at(link: ClusterLink, mine: list[NodeSpec]) -> None:
            with suppress(TimeoutError, KubeError):
                async with asyncio.timeout(deadline):
                    await link.routing.look(mine)
                seen.update(node.name for node in mine)

        async with asyncio.TaskGroup() as tasks:
            for link in self._links.values():
                mine = [n for n in self._nodes.values() if n.cluster == link.spec.name and n.name in nodes]
                if mine:
                    tasks.create_task(look_at(link, mine), name=f"look {link.spec.name}")
        return seen

    async def execute(self, name: str, script: str, deadline: float) -> Completed:
        """Carry out a script of API calls on a cluster, or on that of a node.

        Raises:
            ScriptError: It is no such script.
            KubeError: The cluster can't be asked; a call may or may not have been carried out.
        """
        return await carry_out(self._link(name).api, script, deadline)

    def hands(self, name: str) -> ClusterHands:
        """What set-up and teardown ask and do in a cluster. Raises KubeError while it isn't connected."""
        link = self._link(name)
        return ClusterHands(link.api, link.calico, link.changed)

    async def await_generators(self, names: Collection[str], deadline: float) -> None:
        """Wait until the pods of load generators run. Raises KubeError, saying which doesn't and why."""
        generators = {generator.name: generator for generator, _ in (self._pods[name] for name in names)}
        try:
            async with asyncio.TaskGroup() as tasks:
                for generator in generators.values():
                    api = self._link(generator.cluster).api
                    tasks.create_task(until_running(api, generator, deadline), name=f"pods of {generator.name}")
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def open_channel(self, name: str, program: str) -> PodChannel:
        """Start one of the programs of load tests in the pod of a generator. Raises KubeError."""
        generator, number = self._pods[name]
        api = self._link(generator.cluster).api
        pods = await running(api, generator)
        return await PodChannel.open(api, generator.namespace, pods[number], CONTAINER, program)

    async def open_reader(self, node: str, tenant: str) -> PodChannel:
        """Have the container of a tenant's name server show its counters (`pod_counters.READING`). Raises KubeError."""
        link = self._link(node)
        namespace, pod, container = link.workloads.name_server(self._nodes[node], tenant)
        return await PodChannel.run(link.api, namespace, pod, container, READING, "counters")

    async def raw(self, name: str, section: str) -> str:
        """An object as YAML. Of a cluster: "pod/NAMESPACE/NAME" or "api"; of a node in one: "host" or "calico". Raises KubeError."""
        link = self._link(name)
        match section.split("/"):
            case ["pod", namespace, pod]:
                obj = await link.api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
            case ["api"]:
                obj = await link.api.get("/version")
            case ["host"] if name in self._nodes:
                obj = await link.api.get(node_path(self._nodes[name].address))
            case [_] if name in self._nodes and link.calico is not None:
                obj = await link.api.get(link.calico.path("CalicoNodeStatus", node_status_name(self._nodes[name])))
            case _:
                raise KubeError(f"{name}: there is nothing to show of {section!r}")
        return _yaml(obj)

    async def log(self, name: str, path: str, *, previous: bool = False) -> AsyncGenerator[bytes, None]:
        """What a container logs, "pod/NAMESPACE/NAME/CONTAINER": the last lines and what follows. Raises KubeError."""
        namespace, pod, container = _place(name, path)
        told = logs(self._link(name).api, namespace, pod, container, follow=not previous, previous=previous, tail=_TAIL)
        async with aclosing(told) as chunks:
            async for chunk in chunks:
                yield chunk

    async def shell(self, name: str, path: str) -> list[str]:
        """The command that opens a shell in a container. Behind jump hosts it goes through the tunnel of this process. Raises KubeError."""
        link = self._link(name)
        place = _place(name, path)
        port = await link.api.tunnel() if link.spec.jump else 0
        spec = msgspec.json.encode(link.spec).decode()
        return [sys.executable, "-m", "anyconsole.drivers.kube.shell", spec, str(port), *place]

    def _link(self, name: str) -> ClusterLink:
        cluster = self._nodes[name].cluster if name in self._nodes else name
        if (link := self._links.get(cluster)) is None:
            raise KubeError(f"{name}: no such cluster")
        return link


def _place(name: str, path: str) -> tuple[str, str, str]:
    match path.split("/"):
        case ["pod", namespace, pod, *container] if len(container) < 2:
            return namespace, pod, "".join(container)
        case _:
            raise KubeError(f"{name}: {path!r} is no container")


def _yaml(obj: Object) -> str:
    import yaml  # noqa: PLC0415 - only who looks at an object pays for it

    return yaml.safe_dump(_shown(obj), sort_keys=False, allow_unicode=False, width=200)


def _shown(obj: Any) -> Any:  # noqa: ANN401 - any JSON
    """An object without its book-keeping, and with what looks like a secret masked."""
    match obj:
        case {"name": str(name), "value": str()} if _MASKED.search(name):
            return {**obj, "value": "***"}
        case dict():
            kept = {k: _shown(v) for k, v in obj.items() if k not in ("managedFields", "data", "stringData")}
            annotations = kept.get("annotations")
            if isinstance(annotations, dict):
                annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
            return kept
        case list():
            return [_shown(item) for item in obj]
        case _:
            return obj
