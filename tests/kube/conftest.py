"""The cluster that these tests run against: the fake one, or the real one that ANYCONSOLE_TEST_KUBECONFIG names.

No test looks at which it is. What a real cluster can't be made to do is behind `misbehaving`, which skips there and says why.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kube.apiserver import FakeCluster, run_here
from tests.kube.client import Kube, Object, until

REAL = os.environ.get("ANYCONSOLE_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("ANYCONSOLE_TEST_IMAGE", "")
"""An image with a shell that a real cluster can pull."""


@pytest.fixture(scope="session")
def _fake() -> Iterator[FakeCluster | None]:
    if REAL:
        yield None
        return
    with FakeCluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kubeconfig(_fake: FakeCluster | None) -> Path:
    """The administrator's kubeconfig of the cluster under test."""
    return _fake.kubeconfig if _fake else Path(REAL)


@pytest.fixture
async def kube(kubeconfig: Path) -> AsyncIterator[Kube]:
    """The administrator."""
    async with Kube(kubeconfig) as client:
        yield client


@pytest.fixture(scope="module")
def namespace(kubeconfig: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the module's own."""
    module = str(request.module.__name__).rpartition(".")[2].replace("_", "-")
    name = f"ac-{module}-{os.getpid()}"

    async def begin() -> None:
        async with Kube(kubeconfig) as client:
            await client.create(
                "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )

            async def has_account() -> bool:
                return (await client.get(f"/api/v1/namespaces/{name}/serviceaccounts/default")).code == 200

            await until(has_account)

    async def end() -> None:
        async with Kube(kubeconfig) as client:
            await client.delete(f"/api/v1/namespaces/{name}")

    asyncio.run(begin())
    yield name
    asyncio.run(end())


@pytest.fixture
def misbehaving(_fake: FakeCluster | None) -> Iterator[FakeCluster]:
    """A cluster that can be broken at will; whole again afterwards."""
    if _fake is None:
        pytest.skip("a real API server can't be made to misbehave on demand")
    yield _fake
    _fake.serve_watch_list("served")
    _fake.set_bookmarks(60)


@pytest.fixture
async def speaking_pod(_fake: FakeCluster | None, kube: Kube, namespace: str) -> str:
    """A running pod with a shell that has said one, two, three."""
    if _fake is None and not IMAGE:
        pytest.skip("a real cluster needs an image with a shell for this: ANYCONSOLE_TEST_IMAGE")
    name = "speaking"
    path = f"/api/v1/namespaces/{namespace}/pods"
    container: Object = {"name": "main", "image": IMAGE or "example.test/shell:1"}
    container["command"] = ["sh", "-c", "echo one; echo two; echo three; exec sleep 3600"]
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    if (await kube.get(f"{path}/{name}")).code == 404:
        if _fake is not None:
            _fake.scripts.execs.add(namespace, name, run_here)
            _fake.say(namespace, name, "main", "one", "two", "three")
        await kube.create(path, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})

    async def runs() -> bool:
        return bool((await kube.get(f"{path}/{name}")).body["status"]["phase"] == "Running")

    await until(runs, 120)
    return name
