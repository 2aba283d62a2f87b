"""The Jobs of generators in clusters, for as long as a load test lasts: in the journal before they are made, deleted however it ends.

A Job's name is fixed: that another one has it already is told by the API server, and is how two tests never share their generators.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from anyconsole.actions.action import Said
from anyconsole.actions.load.rig import LoadHands
from anyconsole.drivers.kube.generator_job import GeneratorJob
from anyconsole.drivers.ssh.fault import plain
from anyconsole.drivers.transaction import Ended
from anyconsole.errors import AnyconsoleError, JournalError, LoadError

__all__ = ["Note", "jobs_made"]

CALL_DEADLINE: Final = 10.0
"""Seconds that making or deleting a Job may take."""

START_DEADLINE: Final = 120.0
"""Seconds in which all pods run: nodes may have to fetch the image first."""

_log = logging.getLogger(__name__)


class Note(Protocol):
    """How the journal is told; blocks until it is on the disk."""

    def __call__(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - whatever has a form in JSON
        """Write one record. Raises JournalError."""


@asynccontextmanager
async def jobs_made(
    hands: LoadHands, jobs: Sequence[GeneratorJob], note: Note, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Jobs whose pods run while the context lasts. `say` is told what is waited for.

    Raises:
        AnyconsoleError: One can't be made, somebody else has it, or its pods don't run in time. Then there is none.
    """
    if not jobs:
        yield
        return
    say("makes the Jobs of its generators")
    # What was sent is waited for: a Job that is made after it was deleted would stay.
    making = [asyncio.create_task(_make(hands, job, note), name=f"make {job.generator.name}") for job in jobs]
    try:
        made = await asyncio.shield(asyncio.gather(*making, return_exceptions=True))
        if failed := next((one for one in made if isinstance(one, BaseException)), None):
            raise failed
        say("waits for the pods of its generators")
        await hands.await_generators([pod.name for job in jobs for pod in job.generator.members], START_DEADLINE)
        yield
    finally:
        await asyncio.shield(_end(hands, jobs, making, note))


async def _make(hands: LoadHands, job: GeneratorJob, note: Note) -> None:
    """Make one. Raises AnyconsoleError."""
    cluster, name = job.generator.cluster, f"Job {job.generator.namespace}/load-{job.generator.name}"
    await asyncio.to_thread(note, "generators", event="making", host=cluster, script=job.begin)
    said = await hands.execute(cluster, job.begin, CALL_DEADLINE)
    if said.exit_status == Ended.LOCKED:
        hint = "one that is there is somebody else's load test, or was left behind and ends by itself"
        raise LoadError(f"{cluster}: {name} can't be made: {_words(said)}; {hint}")
    if said.exit_status != Ended.DONE:
        raise LoadError(f"{cluster}: {name} can't be made: {_words(said)}")


async def _end(
    hands: LoadHands, jobs: Sequence[GeneratorJob], making: Sequence[asyncio.Task[None]], note: Note
) -> None:
    """Delete those that are ours. Never raises: Kubernetes ends what is left."""
    await asyncio.wait(making)
    await asyncio.gather(*(_delete(hands, job, note) for job in jobs))


async def _delete(hands: LoadHands, job: GeneratorJob, note: Note) -> None:
    """Delete one, unless it is somebody else's or was never made: the script tells."""
    cluster, fields = job.generator.cluster, {"host": job.generator.cluster, "script": job.end}
    try:
        said = await hands.execute(cluster, job.end, CALL_DEADLINE)
        event, output = "deleted" if said.exit_status == Ended.DONE else "not deleted", _words(said)
    except AnyconsoleError as error:
        event, output = "left", f"{error}; Kubernetes ends it {job.seconds} s after it was made"
    if event != "deleted":
        _log.warning("generators %s: %s: %s", job.generator.name, event, output)
    try:
        await asyncio.to_thread(note, "generators", event=event, output=output, **fields)
    except JournalError as error:
        _log.error("generators %s, %s: %s", job.generator.name, event, error)


def _words(said: Said) -> str:
    """What a script said at last."""
    return plain(said.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2])
