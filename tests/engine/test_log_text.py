"""Log text on its way to the screen: whole characters, wherever the chunks of the connection end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

import msgspec

from anyconsole.engine import frames
from anyconsole.engine.server import _Session


class _Writer:
    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    async def drain(self) -> None:
        """Nothing is ever in the way."""


class _Engine:
    async def follow(self, op: str, args: dict[str, str]) -> AsyncGenerator[bytes, None]:  # noqa: ARG002 - the engine's shape
        for byte in "Grüße, 雪\n".encode():
            yield bytes([byte])


async def test_a_character_split_between_two_chunks_arrives_whole() -> None:
    writer = _Writer()
    session = _Session(cast("Any", _Engine()), cast("Any", writer))
    await session._answer(1, "log", {})
    text, rest = "", writer.sent
    while rest:
        length = int.from_bytes(rest[:4], "big")
        text += msgspec.msgpack.decode(rest[4 : 4 + length], type=frames.Answer).text
        rest = rest[4 + length :]
    assert text == "Grüße, 雪\n"
