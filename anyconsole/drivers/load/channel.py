"""A way to a program of load tests on a host. What it says is heard as a stranger's: only so much, and nothing but what was agreed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from anyconsole.drivers.load.messages import MessageError

__all__ = ["Channel", "listen"]

log = logging.getLogger(__name__)


class Channel(Protocol):
    """A way to a program that was started with `bootstrap`'s command: bytes in, lines out."""

    @property
    def last_words(self) -> str:
        """Why it ended, or what came on standard error; "" if nothing is known."""

    def write(self, data: bytes) -> None:
        """Send, without waiting. To a channel that has ended: nothing happens."""

    def lines(self) -> AsyncIterator[bytes]:
        """What the program says, until it or the channel ends. Raises MessageError if a line is too long."""

    def close(self) -> None:
        """End the program's input."""

    def abort(self) -> None:
        """Let go of program and channel at once."""


async def listen(channel: Channel, hear: Callable[[bytes], None], most: int, who: str) -> str:
    """Hear every line until the program ends; why it is of no more use. Never raises but to be cancelled.

    Args:
        channel: The way to it. It is let go of if the program says too much, or what `hear` can't take.
        hear: Takes a line. Raises MessageError for what no such program says.
        most: Lines a second.
        who: The program, for the log.
    """
    clock = asyncio.get_running_loop().time
    since, count = clock(), 0
    try:
        async for line in channel.lines():
            count += 1
            if (now := clock()) - since >= 1:
                since, count = now, 0
            if count > most:
                raise MessageError(f"more than {most} lines in a second")
            hear(line)
    except MessageError as error:
        channel.abort()
        return f"dropped, {error}"
    except Exception as error:  # a surprise must end this program, not leave it running unheard
        log.exception("%s: not understood", who)
        channel.abort()
        return f"dropped, {error!r}"
    return f"lost: {channel.last_words or 'it ended'}"
