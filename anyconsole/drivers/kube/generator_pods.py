"""The pods of a load generator's Job: which they are, and whether all of them run."""

from __future__ import annotations

import asyncio
from typing import Final

from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.generator_job import GENERATOR_LABEL, job_path, pods_path
from anyconsole.drivers.kube.pod_status import is_being_deleted
from anyconsole.drivers.kube.pod_trouble import trouble_of
from anyconsole.drivers.kube.values import WORD, Json, condition, part, parts, text
from anyconsole.drivers.ssh.fault import Fault
from anyconsole.model.inventory import Generator

__all__ = ["running", "until_running"]

_LOOK: Final = 0.25
"""Seconds between two looks at pods that are being started."""


_MOST: Final = 1000
"""Pods that are looked at: those of the test before may be among them."""


class _NotYetError(KubeError):
    """Pods that are being started: a little later it may be different."""


async def running(api: KubeApi, generator: Generator) -> list[str]:
    """The names of its pods, always in the same order. Raises KubeError unless all of them run."""
    job = await api.get(job_path(generator))
    listed = await api.get(pods_path(generator), labelSelector=f"{GENERATOR_LABEL}={generator.name}")
    uid = text(part(job, "metadata"), "uid")
    pods = [pod for pod in parts(listed, "items", _MOST) if _is_of(pod, uid)]
    failed = condition(part(job, "status"), "Failed")
    if failed.get("status") == "True":
        why = text(failed, "message") or text(failed, "reason", WORD)
        raise KubeError(f"{api.name}: the Job load-{generator.name} failed: {why}{_troubles(pods)}")
    names = sorted(text(part(p, "metadata"), "name") for p in pods if part(p, "status").get("phase") == "Running")
    if len(names) < generator.replicas:
        words = f"{len(names)} of {generator.replicas} pods of load-{generator.name} run{_troubles(pods)}"
        raise _NotYetError(f"{api.name}: {words}", fault=Fault.TIMEOUT)
    return names


async def until_running(api: KubeApi, generator: Generator, deadline: float) -> None:
    """Wait until all of its pods run. Raises KubeError, saying what keeps them."""
    why: KubeError | None = None
    try:
        async with asyncio.timeout(deadline):
            while True:
                try:
                    await running(api, generator)
                except _NotYetError as error:
                    why = error
                else:
                    return
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        words = str(why) if why is not None else f"{api.name}: no answer about the pods of load-{generator.name}"
        raise KubeError(f"{words}, after {deadline:g} s", fault=Fault.TIMEOUT) from None


def _is_of(pod: Json, job: str) -> bool:
    """Whether a pod is one of this Job and stays so: those of the test before may be on their way out."""
    owners = (text(owner, "uid") for owner in parts(part(pod, "metadata"), "ownerReferences"))
    return job in owners and not is_being_deleted(part(pod, "metadata"))


def _troubles(pods: list[Json]) -> str:
    told = (
        trouble_of(part(p, "metadata"), part(p, "spec"), part(p, "status"))
        for p in pods
        if part(p, "status").get("phase") != "Running"
    )
    words = "; ".join(dict.fromkeys(filter(None, told)))
    return f": {words}" if words else ""
