"""Waiting for the next attempt: failures in a row, the back-off after each, and the poke that ends a wait early."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from anyconsole.drivers.ssh.fault import Fault, delay

__all__ = ["Attempts"]

GOOD_AFTER: Final = 30.0


class Attempts:
    """The attempts of one link or tunnel. Times are the event loop's."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0
        self._up_since: float | None = None
        self._poked = asyncio.Event()

    def came_up(self, now: float) -> None:
        """The connection works."""
        self._up_since = now

    def failed(self, fault: Fault, now: float) -> float | None:
        """Seconds until the next attempt; None if only a poke starts one."""
        if self._up_since is not None and now - self._up_since >= GOOD_AFTER:
            self._failures = 0
        self._up_since = None
        wait = delay(fault, self._failures, self._rng)
        self._failures += 1
        return wait

    def poke(self) -> None:
        """End the wait now and forget past failures."""
        self._failures = 0
        self._poked.set()

    async def wait(self, seconds: float | None) -> bool:
        """Return after `seconds`, or at once after a poke; True if it was a poke."""
        try:
            async with asyncio.timeout(seconds):
                await self._poked.wait()
        except TimeoutError:
            return False
        finally:
            self._poked.clear()
        return True
