"""The cluster on which tenants are set up: the fake one, or the real one of ANYCONSOLE_TEST_KUBECONFIG, with a profile of it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from anyconsole import cli
from anyconsole.model.inventory import Inventory
from anyconsole.profile import load_profile
from tests.kube.client import Kube, Object
from tests.kube.virtual import VirtualCluster

__all__ = ["REAL", "Said", "Stack", "real_stack"]

REAL = os.environ.get("ANYCONSOLE_TEST_KUBECONFIG", "")
_NEEDED = {
    "ANYCONSOLE_TEST_NSD_IMAGE": "an image of NSD",
    "ANYCONSOLE_TEST_PRIMARY": "the address of a primary that gives anyone the zones de.example, nic.example and enum.example",
}
"""What a real cluster has to be told besides; ANYCONSOLE_TEST_PYTHON_IMAGE is there where the vendor's own can't be pulled."""


class Said(NamedTuple):
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # noqa: ANN401 - any JSON
        """Its standard output as JSON."""
        return json.loads(self.out)


class Stack:
    """A profile with one cluster, k3s, and commands on it."""

    def __init__(self, profile: Path, kubeconfig: Path, fake: VirtualCluster | None = None) -> None:
        self.profile = profile
        self.kubeconfig = kubeconfig
        self.fake = fake

    @property
    def inventory(self) -> Inventory:
        """The profile, read."""
        return load_profile(str(self.profile))

    def namespace(self, tenant: str) -> str:
        """Where a tenant is."""
        return self.inventory.cluster("k3s").namespaces.get(tenant, tenant)

    def run(self, capsys: pytest.CaptureFixture[str], *words: str) -> Said:
        """A command of the console, as it is typed."""
        capsys.readouterr()
        code = cli.main(["--profile", str(self.profile), *words])
        return Said(code, *capsys.readouterr())

    def ask(self, method: str, path: str, body: object = None, kind: str = "application/merge-patch+json") -> Object:
        """Somebody else's request; its answer."""

        async def ask() -> Object:
            async with Kube(self.kubeconfig) as kube:
                return (await kube.ask(method, f"{path}?fieldManager=somebody", body, kind)).body

        return asyncio.run(ask())


def real_stack(folder: Path) -> Stack:
    """The real cluster. Skips where it isn't told enough to set a tenant up."""
    for name, what in _NEEDED.items():
        if not os.environ.get(name):
            pytest.skip(f"a real cluster needs {what}: {name}")
    nodes = asyncio.run(_nodes())
    if len(nodes) < 2:
        pytest.skip("a real cluster needs two nodes that take pods")
    path = folder / "virtual.toml"
    path.write_text(_profile(nodes[:2]))
    return Stack(path, Path(REAL))


def _profile(nodes: list[str]) -> str:
    images = os.environ["ANYCONSOLE_TEST_NSD_IMAGE"]
    python = os.environ.get("ANYCONSOLE_TEST_PYTHON_IMAGE", "docker.io/library/python:3.13-slim")
    numbers = {"de": ("192.0.2", "de"), "nic": ("198.51.100", "11c"), "enum": ("203.0.113", "e164")}
    text = f'[profile]\nname = "virtual"\n[[site]]\nname = "ber"\n[[cluster]]\nname = "k3s"\nkubeconfig = "{REAL}"\n'
    text += "[cluster.namespaces]\n" + "".join(f'{name} = "ac-e2e-{name}-{os.getpid()}"\n' for name in numbers)
    text += f'[stack]\npython = "{python}"\ncpu = "50m"\nmemory = "64Mi"\nimages = {{ nsd = "{images}" }}\n'
    for number, (name, (v4, v6)) in enumerate(numbers.items(), start=1):
        text += f'[[tenant]]\nname = "{name}"\nnumber = {number}\nprefixes = ["{v4}.0/24", "2001:db8:{v6}::/48"]\n'
        text += f'addresses = ["{v4}.53", "2001:db8:{v6}::53"]\nzones = ["{name}.example"]\n'
        text += f'[[stack.tenant]]\ntenant = "{name}"\nprimaries = ["{os.environ["ANYCONSOLE_TEST_PRIMARY"]}"]\n'
    text += '[template.pods]\ncluster = "k3s"\n[[template.pods.name_server]]\nkind = "nsd"\n'
    for number, node in enumerate(nodes, start=1):
        text += f'[[node]]\nname = "hv{number}"\nsite = "ber"\ntemplate = "pods"\naddress = "{node}"\n'
    return text


async def _nodes() -> list[str]:
    """The nodes that take pods."""
    async with Kube(Path(REAL)) as kube:
        found = (await kube.get("/api/v1/nodes")).body["items"]
    return [
        node["metadata"]["name"]
        for node in found
        if not node["spec"].get("unschedulable")
        and not any(t["effect"] == "NoSchedule" for t in node["spec"].get("taints", ()))
    ]
