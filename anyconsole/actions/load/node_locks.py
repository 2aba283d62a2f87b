"""The node in a cluster that is ours alone to test: in the journal before it is taken, given back however the load test ends."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from anyconsole.actions.action import Said
from anyconsole.actions.load.jobs import Note
from anyconsole.actions.load.rig import LoadHands
from anyconsole.drivers.kube.lock import found_node_lock
from anyconsole.drivers.kube.node_lock import NodeLock, freeing
from anyconsole.drivers.ssh.fault import plain
from anyconsole.drivers.transaction import Ended
from anyconsole.errors import AnyconsoleError, JournalError, LoadError

__all__ = ["node_locked"]

CALL_DEADLINE: Final = 10.0
"""Seconds that taking it or giving it back may take."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def node_locked(
    hands: LoadHands, lock: NodeLock | None, note: Note, clock: Callable[[], float]
) -> AsyncIterator[None]:
    """A node in a cluster that is ours alone while the context lasts; without a lock nothing is done.

    Raises:
        AnyconsoleError: Somebody else has it, or it can't be had. Then we don't have it.
    """
    if lock is None:
        yield
        return
    # What was sent is waited for: a Lease that is made after it was deleted would stay.
    taking = asyncio.create_task(_take(hands, lock, note, clock), name=f"hold {lock.node}")
    try:
        await asyncio.shield(taking)
        yield
    finally:
        await asyncio.shield(_give_back(hands, lock, taking, note))


async def _take(hands: LoadHands, lock: NodeLock, note: Note, clock: Callable[[], float]) -> None:
    """Take it, from somebody whose time is over too. Raises AnyconsoleError."""
    said = await _make(hands, lock, note)
    if said.exit_status == Ended.LOCKED:
        await _free(hands, lock, note, clock())
        said = await _make(hands, lock, note)
    if said.exit_status != Ended.DONE:
        raise LoadError(f"{lock.node}: can't be held for a load test: {_words(said)}")


async def _free(hands: LoadHands, lock: NodeLock, note: Note, now: float) -> None:
    """Remove a lock that has expired. Raises AnyconsoleError if it hasn't."""
    (held,) = await hands.in_cluster(lock.cluster).find([lock.path])
    if held is None:
        return
    found = found_node_lock(held)
    if not found.uid or now < found.expires_at:
        left = f"{found.expires_at - now:,.0f} s" if math.isfinite(found.expires_at) else "no known time"
        raise LoadError(
            f"{lock.node}: somebody else runs a load test there: {found.holder}; its lock expires in {left}"
        )
    script = freeing(lock, found.uid)
    await asyncio.to_thread(note, "hold", event="freeing", host=lock.cluster, script=script)
    said = await hands.execute(lock.cluster, script, CALL_DEADLINE)
    if said.exit_status != Ended.DONE:
        raise LoadError(f"{lock.node}: its expired lock can't be removed: {_words(said)}")


async def _make(hands: LoadHands, lock: NodeLock, note: Note) -> Said:
    await asyncio.to_thread(note, "hold", event="taking", host=lock.cluster, script=lock.begin)
    return await hands.execute(lock.cluster, lock.begin, CALL_DEADLINE)


async def _give_back(hands: LoadHands, lock: NodeLock, taking: asyncio.Task[None], note: Note) -> None:
    """Delete it, unless it is somebody else's or was never made: the script tells. Never raises: it expires."""
    await asyncio.wait([taking])
    try:
        said = await hands.execute(lock.cluster, lock.end, CALL_DEADLINE)
        event, output = "given back" if said.exit_status == Ended.DONE else "not given back", _words(said)
    except AnyconsoleError as error:
        event, output = "left", f"{error}; it expires {lock.seconds} s after it was taken"
    if event != "given back":
        _log.warning("hold of %s: %s: %s", lock.node, event, output)
    try:
        await asyncio.to_thread(note, "hold", event=event, host=lock.cluster, script=lock.end, output=output)
    except JournalError as error:
        _log.error("hold of %s, %s: %s", lock.node, event, error)


def _words(said: Said) -> str:
    """What a script said at last."""
    return plain(said.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2])
