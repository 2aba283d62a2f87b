"""A generator reached over SSH: it works there, and no way of losing the link leaves load behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncssh
import pytest

from anyconsole.drivers.load.generator import Generator, Generators
from anyconsole.drivers.load.messages import Setup
from anyconsole.drivers.ssh.load_channel import LoadChannel
from anyconsole.errors import LoadError
from anyconsole.model.load import Order, Phase
from tests.drivers.sshd import Servers, Sshd

pytestmark = [pytest.mark.lab, pytest.mark.measures]

QUERIES = "a.test A\nb.test AAAA\n"


class Sink:
    """A target that answers nothing and knows how many queries came."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])
        self.count = 0

    def look(self) -> int:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(512)
                self.count += 1
        return self.count

    def close(self) -> None:
        self._socket.close()

    async def flowing(self) -> None:
        before = self.look()
        async with asyncio.timeout(10):
            while self.look() < before + 100:
                await asyncio.sleep(0.01)

    async def silent_after(self, since: float) -> float:
        last, changed = self.look(), time.monotonic()
        while time.monotonic() - changed < 0.4:
            await asyncio.sleep(0.002)
            if self.look() != last:
                last, changed = self.count, time.monotonic()
        return changed - since


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    yield servers
    servers.stop()


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


@contextlib.asynccontextmanager
async def running(
    servers: Servers, host: Sshd, sink: Sink
) -> AsyncIterator[tuple[Generators, asyncssh.SSHClientConnection]]:
    async with asyncssh.connect(
        "127.0.0.1", host.port, username=servers.user, client_keys=[str(servers.client_key)],
        known_hosts=str(servers.known_hosts), config=None, agent_path=None,
    ) as connection:  # fmt: skip
        setup = Setup(address="127.0.0.1", port=sink.port, max_rate=5000, max_seconds=60, timeout=0.2)
        channel = await LoadChannel.open(connection)
        async with Generators([Generator("gen1", channel, setup, QUERIES)]) as generators:
            yield generators, connection
        connection.abort()


def cut(connection: asyncssh.SSHClientConnection, host: Sshd) -> None:
    del host
    connection.abort()


def kill_sshd(connection: asyncssh.SSHClientConnection, host: Sshd) -> None:
    del connection
    pids = [p for p in host.sessions() if b"sshd" in Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")[0]]
    assert host.process is not None
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


async def test_a_trial_over_ssh_tells_what_arrived_and_a_halt_silences_it(servers: Servers, sink: Sink) -> None:
    host = servers.add("gen1")
    async with running(servers, host, sink) as (generators, _):
        trial = await generators.trial(Order(phase=Phase.FIXED, rate=1000, seconds=0.5))
        assert trial.counts.sent == sink.look() == 500 - trial.counts.skipped
        assert trial.counts.loss == 1.0
        task = asyncio.create_task(generators.trial(Order(phase=Phase.FIXED, rate=1000, seconds=30)))
        await sink.flowing()
        began = time.monotonic()
        generators.halt()
        assert await sink.silent_after(began) < 0.5
        assert (await task).void == "stopped"
    assert not host.runs("decompress"), "nothing is left behind"


@pytest.mark.parametrize("lose", [cut, kill_sshd])
async def test_a_lost_link_silences_the_generator(
    servers: Servers, sink: Sink, lose: Callable[[asyncssh.SSHClientConnection, Sshd], None]
) -> None:
    host = servers.add("gen1")
    async with running(servers, host, sink) as (generators, connection):
        task = asyncio.create_task(generators.trial(Order(phase=Phase.FIXED, rate=1000, seconds=30)))
        await sink.flowing()
        began = time.monotonic()
        lose(connection, host)
        assert await sink.silent_after(began) < 1.0
        with pytest.raises(LoadError, match="load generator gen1: lost: "):
            await task


async def test_a_link_that_carries_nothing_any_more_silences_the_generator_by_its_missing_heartbeat(
    servers: Servers, sink: Sink
) -> None:
    host = servers.add("gen1")
    async with running(servers, host, sink) as (generators, _):
        task = asyncio.create_task(generators.trial(Order(phase=Phase.FIXED, rate=1000, seconds=30)))
        await sink.flowing()
        pid = host.sessions()[0]

        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        took = await sink.silent_after(began)
        os.kill(pid, signal.SIGCONT)
        assert 1.5 < took <= 3.5
        with pytest.raises(LoadError, match="load generator gen1: nothing was heard of it for 2 s"):
            await task
