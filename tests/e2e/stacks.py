"""The cluster on which tenants are set up: the fake one, or the real one of ANYCONSOLE_TEST_KUBECONFIG, with a profile of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

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

_RBAC = "rbac.authorization.k8s.io"
_PEERS = ("/apis/crd.projectcalico.org/v1/bgppeers", "/apis/projectcalico.org/v3/bgppeers")
_TENANTS = {"de": ("192.0.2", "de"), "nic": ("198.51.100", "11c"), "enum": ("203.0.113", "e164")}
_numbers = itertools.count(1)


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

    def __init__(
        self, profile: Path, kubeconfig: Path, fake: VirtualCluster | None = None, *, has_sessions: bool = True
    ) -> None:
        self.profile = profile
        self.kubeconfig = kubeconfig
        self.fake = fake
        self.has_sessions = has_sessions
        self.made: list[str] = []

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
        return asyncio.run(self.asked(method, path, body, kind))

    async def asked(
        self, method: str, path: str, body: object = None, kind: str = "application/merge-patch+json"
    ) -> Object:
        """The same, where a loop runs already."""
        async with Kube(self.kubeconfig) as kube:
            sent = kind if method == "PATCH" else "application/json"
            return (await kube.ask(method, f"{path}?fieldManager=somebody", body, sent)).body

    def make(self, path: str, obj: Object) -> None:
        """Have somebody else make an object in a collection, which is removed at the end."""
        made = self.ask("POST", path, obj)
        assert "uid" in made.get("metadata", {}), made
        self.made.append(f"{path}/{made['metadata']['name']}")

    def user(self, name: str, *roles: str) -> Path:
        """The kubeconfig of a user with ClusterRoles of ours, which are there already.

        Of a user with a client certificate; on a real cluster of a service account with its token.
        """
        if self.fake is not None:
            return self.fake.user(name, *roles)
        space, account = "kube-system", f"{self.namespace('de')}-{name}"
        self.make(f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": account}})
        for role in roles:
            binding = {
                "metadata": {"name": f"{account}-{role}"},
                "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": space}],
            }
            self.make(f"/apis/{_RBAC}/v1/clusterrolebindings", binding)
        made = self.ask("POST", f"/api/v1/namespaces/{space}/serviceaccounts/{account}/token", {"spec": {}})
        return _with_token(self.kubeconfig, self.profile.with_name(f"{name}.kubeconfig"), made["status"]["token"])


@contextmanager
def real_stack(folder: Path) -> Iterator[Stack]:
    """The real cluster, with namespaces of its own. Skips where it isn't told enough to set a tenant up."""
    for name, what in _NEEDED.items():
        if not os.environ.get(name):
            pytest.skip(f"a real cluster needs {what}: {name}")
    nodes = asyncio.run(_nodes())
    if len(nodes) < 2:
        pytest.skip("a real cluster needs two nodes that take pods")
    path = folder / "virtual.toml"
    peers = asyncio.run(_peers())
    path.write_text(_profile(f"ac-e2e-{os.getpid()}-{next(_numbers)}", nodes[:2], peers))
    stack = Stack(path, Path(REAL), has_sessions=bool(peers))
    yield stack
    for left in (*stack.made, *(f"/api/v1/namespaces/{stack.namespace(tenant)}" for tenant in _TENANTS)):
        stack.ask("DELETE", left)


def _profile(prefix: str, nodes: list[str], peers: list[tuple[str, int]]) -> str:
    images = os.environ["ANYCONSOLE_TEST_NSD_IMAGE"]
    python = os.environ.get("ANYCONSOLE_TEST_PYTHON_IMAGE", "docker.io/library/python:3.13-slim")
    text = f'[profile]\nname = "virtual"\n[[site]]\nname = "ber"\n[[cluster]]\nname = "k3s"\nkubeconfig = "{REAL}"\n'
    text += "[cluster.namespaces]\n" + "".join(f'{name} = "{prefix}-{name}"\n' for name in _TENANTS)
    text += f'[stack]\npython = "{python}"\ncpu = "50m"\nmemory = "64Mi"\nimages = {{ nsd = "{images}" }}\n'
    for number, (name, (v4, v6)) in enumerate(_TENANTS.items(), start=1):
        text += f'[[tenant]]\nname = "{name}"\nnumber = {number}\nprefixes = ["{v4}.0/24", "2001:db8:{v6}::/48"]\n'
        text += f'addresses = ["{v4}.53", "2001:db8:{v6}::53"]\nzones = ["{name}.example"]\n'
        text += f'[[stack.tenant]]\ntenant = "{name}"\nprimaries = ["{os.environ["ANYCONSOLE_TEST_PRIMARY"]}"]\n'
    sessions = ""
    for number, asn in enumerate(dict.fromkeys(asn for _, asn in peers), start=1):
        text += f'[[interconnect]]\nname = "as{asn}"\nkind = "transit"\n[[interconnect.peer]]\nname = "as{asn}"\n'
        text += f"asn = {asn}\nnumbers = {{ ipv4 = {2 * number}, ipv6 = {2 * number + 1} }}\n"
    for address, asn in peers:
        family = "ipv6" if ":" in address else "ipv4"
        sessions += f'[[template.pods.speaker.session]]\nname = "{address}"\npeer = "as{asn}"\nfamily = "{family}"\n'
    text += '[template.pods]\ncluster = "k3s"\n'
    text += f'[[template.pods.speaker]]\nkind = "calico"\n{sessions}' if sessions else ""
    text += '[[template.pods.name_server]]\nkind = "nsd"\n'
    for number, node in enumerate(nodes, start=1):
        text += f'[[node]]\nname = "hv{number}"\nsite = "ber"\ntemplate = "pods"\naddress = "{node}"\n'
    return text


async def _peers() -> list[tuple[str, int]]:
    """Address and AS number of Calico's peers of all nodes."""
    async with Kube(Path(REAL)) as kube:
        found = [peer["spec"] for path in _PEERS for peer in (await kube.get(path)).body.get("items", ())]
    return [
        (spec["peerIP"], int(spec["asNumber"]))
        for spec in found
        if "peerIP" in spec and not spec.get("node") and spec.get("nodeSelector", "all()") == "all()"
    ]


def _with_token(kubeconfig: Path, path: Path, token: str) -> Path:
    """Another user's kubeconfig for the same server."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


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
