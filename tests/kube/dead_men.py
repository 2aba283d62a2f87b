"""Dead-men of a virtual cluster, run for real: each Job's pod is a process with the credentials of its ServiceAccount, and no others."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.kube.apiserver import FakeCluster, JobRun

__all__ = ["DeadMen"]


class DeadMen:
    """Runs them from now on.

    Attributes:
        said: What they logged, all of them.
    """

    def __init__(self, cluster: FakeCluster, folder: Path) -> None:
        self.said: list[str] = []
        self._folder = folder
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._count = 0
        cluster.scripts.jobs.add("anyconsole", "dead-man-*", self._run)

    async def _run(self, job: JobRun) -> int:
        self._count += 1
        account = _mounted(self._folder / f"account-{self._count}", job)
        server = urlsplit(job.server)
        env = {variable["name"]: variable["value"] for variable in job.container["env"]}
        env |= {"ACCOUNT": str(account), "PATH": os.environ["PATH"]}
        env |= {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
        name = job.pod["metadata"]["name"]
        argv = [sys.executable, *job.container["command"][1:]]
        process = await asyncio.create_subprocess_exec(*argv, env=env, stderr=asyncio.subprocess.PIPE)
        self._processes[name] = process
        try:
            assert process.stderr is not None
            async for line in process.stderr:
                self.said.append(line.decode().rstrip("\n"))
            return await process.wait()
        finally:
            if process.returncode is None:  # its pod is deleted
                process.terminate()
                await process.wait()
            del self._processes[name]

    def kill(self) -> int:
        """Kill all that run, as a node that dies would; how many there were. Their Jobs start others."""
        running = list(self._processes.values())
        for process in running:
            process.kill()
        return len(running)

    @property
    def running(self) -> int:
        """How many run now."""
        return len(self._processes)


def _mounted(account: Path, job: JobRun) -> Path:
    """The folder that the kubelet mounts for an account."""
    account.mkdir()
    (account / "token").write_text(job.token)
    (account / "ca.crt").symlink_to(job.ca_file)
    return account
