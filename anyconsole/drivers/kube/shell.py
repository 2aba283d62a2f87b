"""`python -m anyconsole.drivers.kube.shell SPEC PORT NAMESPACE POD CONTAINER`: a shell in a container. The screen starts it.

PORT is where the engine's tunnel through the jump hosts is; 0 without any. It lasts as long as the engine and its way there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.terminal import attach
from anyconsole.model.inventory import ClusterSpec

__all__ = ["main"]

_SHELL: Final = ("sh", "-c", "command -v bash >/dev/null && exec bash || exec sh")


async def _run(spec: ClusterSpec, port: int, namespace: str, pod: str, container: str) -> int:
    @asynccontextmanager
    async def tunnel(*_: object) -> AsyncIterator[int]:
        yield port

    async with KubeApi.open(spec, tunnel) as api:
        return await attach(api, namespace, pod, container, list(_SHELL), sys.stdin.fileno(), sys.stdout.fileno())


def main(argv: Sequence[str]) -> int:
    """Open the shell; returns its exit status."""
    spec, port, namespace, pod, container = argv
    try:
        return asyncio.run(_run(msgspec.json.decode(spec, type=ClusterSpec), int(port), namespace, pod, container))
    except KubeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
