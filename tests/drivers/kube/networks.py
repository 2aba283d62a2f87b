"""What lies between the console and an API server: jump hosts and proxies; and servers that aren't what they say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from anyconsole.drivers.ssh.fault import Fault, SshError
from tests.kube.apiserver import FakeCluster

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


def no_tunnel(via: str, host: str, port: int) -> contextlib.AbstractAsyncContextManager[int]:
    """There is no jump host."""
    raise AssertionError((via, host, port))


class Tunnel:
    """A local port that leads to the API server, as a jump host's would."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.asked: list[tuple[str, str, int]] = []
        self.server: asyncio.Server | None = None
        self.carried: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        """What happens when the jump host goes away."""
        assert self.server is not None
        self.server.close()
        for writer in self.carried:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def __call__(self, via: str, host: str, port: int) -> AsyncIterator[int]:
        self.asked.append((via, host, port))
        if via == "broken":
            raise SshError(Fault.AUTH, "jump host broken: Permission denied")
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        try:
            yield self.server.sockets[0].getsockname()[1]
        finally:
            self.server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", urlsplit(self.cluster.url).port)
        self.carried.append(writer)
        await carry(reader, writer, *there)


async def carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


@contextlib.asynccontextmanager
async def liar(answer: bytes, repeat: bytes = b"") -> AsyncIterator[int]:
    """A server that answers whatever it likes, and goes on for as long as it is heard."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            while repeat:
                writer.write(repeat)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
