"""`python -m anyconsole.drivers.kube.shell SPEC NAMESPACE POD CONTAINER`: a shell in a container, started by the screen, never by hand."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import msgspec

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.terminal import attach
from anyconsole.model.inventory import ClusterSpec

__all__ = ["main"]

_SHELL: Final = ("sh", "-c", "command -v bash >/dev/null && exec bash || exec sh")


def _no_tunnel(via: str, host: str, port: int) -> AbstractAsyncContextManager[int]:
    raise KubeError(f"no shell through a jump chain ({via} to {host}:{port})")


async def _run(spec: ClusterSpec, namespace: str, pod: str, container: str) -> int:
    async with KubeApi.open(spec, _no_tunnel) as api:
        return await attach(api, namespace, pod, container, list(_SHELL), sys.stdin.fileno(), sys.stdout.fileno())


def main(argv: Sequence[str]) -> int:
    """Open the shell; returns its exit status."""
    spec, namespace, pod, container = argv
    try:
        return asyncio.run(_run(msgspec.json.decode(spec, type=ClusterSpec), namespace, pod, container))
    except KubeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
