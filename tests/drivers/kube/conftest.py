"""The cluster of these tests is the one of tests/kube: the fake, or the real one that ANYCONSOLE_TEST_KUBECONFIG names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import yaml

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.model.inventory import ClusterSpec
from tests.drivers.kube.networks import no_tunnel
from tests.kube.client import Object
from tests.kube.conftest import _fake, kube, kubeconfig, misbehaving, namespace, speaking_pod

__all__ = ["_fake", "kube", "kubeconfig", "misbehaving", "namespace", "speaking_pod"]


@pytest.fixture
async def api(kubeconfig: Path) -> AsyncIterator[KubeApi]:
    """The administrator's API."""
    async with KubeApi.open(ClusterSpec(name="k3s", kubeconfig=str(kubeconfig)), no_tunnel) as api:
        yield api


@pytest.fixture
def altered(kubeconfig: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the administrator's kubeconfig with other settings of its cluster, or with another user."""

    def write(name: str = "altered", user: Object | None = None, **cluster: object) -> Path:
        config = yaml.safe_load(kubeconfig.read_text())
        config["clusters"][0]["cluster"] |= {key.replace("_", "-"): value for key, value in cluster.items()}
        if user is not None:
            config["users"][0]["user"] = user
        path = tmp_path / name
        path.write_text(yaml.safe_dump(config))
        return path

    return write
