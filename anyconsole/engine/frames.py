"""Frames between screen and engine: msgpack values, each behind its length (4 bytes, big endian), over one stream socket."""

from __future__ import annotations

import asyncio
import struct
from typing import TypeAlias

import msgspec

from anyconsole.actions.journal_record import ChangeSummary
from anyconsole.actions.run import Run
from anyconsole.model.events import Event
from anyconsole.model.inventory import Inventory
from anyconsole.model.load_view import LoadView
from anyconsole.model.store import Update

__all__ = [
    "MAX_FRAME",
    "Answer",
    "Ask",
    "Bye",
    "Cancel",
    "Delta",
    "FrameError",
    "FromEngine",
    "Hello",
    "Ready",
    "ToEngine",
    "read",
    "write",
]

MAX_FRAME = 64 << 20
"""Longest frame in bytes; both ends are ours, so more is a fault."""

_LENGTH = struct.Struct(">I")


class FrameError(Exception):
    """The stream does not hold a frame: both ends are ours, so this is a fault of ours."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The screen's first frame: the fleet to watch."""

    inventory: Inventory


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """A question or a stream to open; every `Answer` to it carries its id."""

    id: int
    op: str
    args: dict[str, str]


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """The answer to question `id` is no longer wanted."""

    id: int


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """Finish and exit."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The engine's first frame."""

    pid: int
    version: str


class Delta(msgspec.Struct, frozen=True, tag="delta"):
    """What changed since the last delta. `lag` is how late the engine's loop ran, in seconds.

    `armed_until` is epoch seconds, 0 for read-only; `changes` are the journal's summaries, None if there is nothing new.
    """

    at: float
    updates: list[Update]
    events: list[Event]
    lag: float = 0.0
    runs: list[Run] = []
    changes: list[ChangeSummary] | None = None
    armed_until: float = 0.0
    loads: list[LoadView] = []


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """A piece of the answer to an `Ask`; `done` ends it, `error` says why it ended badly."""

    id: int
    text: str = ""
    done: bool = False
    error: str = ""


ToEngine: TypeAlias = Hello | Ask | Cancel | Bye
FromEngine: TypeAlias = Ready | Delta | Answer

_encoder = msgspec.msgpack.Encoder()


def write(writer: asyncio.StreamWriter, frame: ToEngine | FromEngine) -> int:
    """Put a frame into the writer's buffer; returns its size in bytes."""
    body = _encoder.encode(frame)
    writer.write(_LENGTH.pack(len(body)) + body)
    return len(body)


async def read(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame's body; None at a clean end of the stream. Raises FrameError if the stream breaks inside a frame."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MAX_FRAME:
            raise FrameError(f"a frame of {length} bytes")
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise FrameError("the stream ended inside a frame") from error
    except ConnectionError:
        return None
