"""Hosts without Python are polled over SSH channels: same asks, same words for what went wrong, same facts."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from anyconsole.drivers.ask import Exchange, Get, Read, Run, Talk
from anyconsole.drivers.probe.config import vantage_config
from anyconsole.drivers.probe.stream import FactTracker, Update
from anyconsole.drivers.ssh.execute import run_command
from anyconsole.drivers.ssh.fault import Lost, SshError
from anyconsole.drivers.ssh.feed import HostFeed, ProbeFeed
from anyconsole.drivers.ssh.node_transport import NodeTransport
from anyconsole.drivers.ssh.poll_feed import PollFeed
from anyconsole.model.facts import Beat, HostHealth
from anyconsole.model.inventory import Inventory, PollSpec, Tenant, Vantage
from tests.drivers.sshd import Servers, Sshd

pytestmark = pytest.mark.lab


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    servers = Servers(tmp_path)
    yield servers.add("node")
    servers.stop()


@asynccontextmanager
async def connected(server: Sshd) -> AsyncIterator[asyncssh.SSHClientConnection]:
    key = asyncssh.read_private_key(str(server.folder.parent / "id"))
    host_key = asyncssh.import_public_key(server.public)
    async with asyncssh.connect(
        "127.0.0.1", server.port, config=[], client_keys=[key], agent_path=None, known_hosts=([host_key], [], [])
    ) as connection:
        yield connection


class Bird:
    """Speaks just enough of BIRD's protocol, and counts its connections."""

    def __init__(self, greeting: bytes = b"0016 Access restricted\n") -> None:
        self.connections = 0
        self._greeting = greeting
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        writer.write(b"0001 BIRD ready.\n")
        while line := await reader.readline():
            writer.write(self._greeting if line == b"restrict\n" else b"1000-said " + line + b"0000 \n")
        writer.close()

    def drop(self) -> None:
        for writer in self._writers:
            writer.close()


async def test_a_control_socket_is_restricted_first_and_kept_between_requests(server: Sshd, tmp_path: Path) -> None:
    bird = Bird()
    listener = await asyncio.start_unix_server(bird.serve, tmp_path / "ctl")
    async with connected(server) as connection:
        transport = NodeTransport(connection)
        ask = Talk(str(tmp_path / "ctl"), "bird", b"show status\n")
        replies = await transport.answer([ask, ask], 5)
        assert [r.data for r in replies] == [b"1000-said show status\n0000 \n"] * 2
        await transport.answer([ask], 5)
        assert bird.connections == 1
        bird.drop()
        await asyncio.sleep(0.2)
        assert (await transport.answer([ask], 5))[0].fault == ""
        assert bird.connections == 2
    listener.close()


async def test_a_socket_that_does_not_restrict_itself_is_not_used(server: Sshd, tmp_path: Path) -> None:
    listener = await asyncio.start_unix_server(Bird(b"9001 no\n").serve, tmp_path / "ctl")
    async with connected(server) as connection:
        reply = (await NodeTransport(connection).answer([Talk(str(tmp_path / "ctl"), "bird", b"show status\n")], 5))[0]
        assert reply.fault == "failed"
        assert "refused" in reply.text
    listener.close()


async def test_a_daemon_that_is_not_there_is_absent(server: Sshd, tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    async with connected(server) as connection:
        asks = [Talk(str(tmp_path / name), "bird", b"x\n") for name in ("missing", "dead")]
        assert [r.fault for r in await NodeTransport(connection).answer([*asks], 5)] == ["absent", "absent"]


async def test_a_silent_daemon_is_a_timeout_and_its_connection_is_not_used_again(server: Sshd, tmp_path: Path) -> None:
    connections = 0

    async def silent(_r: asyncio.StreamReader, _w: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1

    listener = await asyncio.start_unix_server(silent, tmp_path / "ctl")
    async with connected(server) as connection:
        transport = NodeTransport(connection)
        ask = Talk(str(tmp_path / "ctl"), "bird", b"x\n")
        assert (await transport.answer([ask], 0.3))[0].fault == "timeout"
        assert (await transport.answer([ask], 0.3))[0].fault == "timeout"
        assert connections == 2
    listener.close()


async def test_files_and_commands_answer_with_their_words(server: Sshd, tmp_path: Path) -> None:
    odd = tmp_path / "a 'file'; with $HOME"
    odd.write_bytes(b"content" * 100)
    async with connected(server) as connection:
        files = await NodeTransport(connection).answer(
            [Read("/proc/loadavg"), Read(str(odd), 7), Read(str(tmp_path / "missing"))], 5
        )
        runs = await NodeTransport(connection).answer(
            [Run(("printf", "%s", "a b; $X")), Run(("false",)), Run(("no-such-command",))], 5
        )
        late = await NodeTransport(connection).answer([Run(("sleep", "5"))], 0.4)
    assert files[0].data.count(b" ") == 4
    assert files[1].data == b"content"
    assert runs[0].data == b"a b; $X"
    assert [r.fault for r in (files[2], *runs[1:], *late)] == ["absent", "failed", "absent", "timeout"]


async def test_http_on_the_nodes_loopback(server: Sshd) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1]
        status = b"200 OK" if path == b"/stats" else b"404 Not Found"
        writer.write(b"HTTP/1.0 " + status + b"\r\nA: b\r\n\r\nbody")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with connected(server) as connection:
        good, missing = await NodeTransport(connection).answer(
            [Get("127.0.0.1", port, "/stats"), Get("127.0.0.1", port, "/x")], 5
        )
        assert good.data == b"body"
        assert missing.fault == "failed"
        assert "404" in missing.text
        listener.close()
        await listener.wait_closed()
        assert (await NodeTransport(connection).answer([Get("127.0.0.1", port, "/stats")], 5))[0].fault == "absent"


async def test_dns_goes_over_tcp_with_a_fresh_id(server: Sshd) -> None:
    idents: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        idents.append(message[:2])
        answer = message[:2] + b"answer to " + message[2:]
        writer.write(len(answer).to_bytes(2, "big") + answer)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    ask = Exchange("127.0.0.1", b"\0\0question", 1.0, port)
    async with connected(server) as connection:
        replies = await NodeTransport(connection).answer([ask] * 4, 5)
    assert {r.data for r in replies} == {b"\0\0answer to question"}
    assert all(0 < r.elapsed < 2 for r in replies)
    assert len(set(idents)) > 1
    listener.close()


async def test_what_was_asked_of_a_frozen_host_leaves_no_channel_open_and_never_runs(
    server: Sshd, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    listener = await asyncio.start_unix_server(Bird().serve, tmp_path / "bird.ctl")
    async with connected(server) as connection:
        await run_command(connection, ["true"], 5)
        server.freeze()
        for _ in range(12):  # sshd opens ten sessions
            with pytest.raises(SshError):
                await run_command(connection, ["touch", str(late)], 0.05)
        for ask in (Talk(str(tmp_path / "bird.ctl"), "bird", b"x\n"), Get("127.0.0.1", server.port, "/")):
            assert (await NodeTransport(connection).answer([ask], 0.05))[0].fault == "timeout"
        server.thaw()
        async with asyncio.timeout(5):
            while connection._channels:
                await asyncio.sleep(0.05)
        assert (await run_command(connection, ["echo", "hi"], 5)).stdout == b"hi\n"
    assert not late.exists()
    listener.close()


async def test_a_lost_connection_is_lost_and_not_an_answer(server: Sshd) -> None:
    async with connected(server) as connection:
        connection.abort()
        with pytest.raises(Lost):
            await NodeTransport(connection).answer([Read("/proc/loadavg")], 1)


async def test_a_host_without_python_is_polled_and_says_so(server: Sshd) -> None:
    config = vantage_config(Inventory(name="t"), Vantage(name="c1", address="c1"))
    heard: list[Update] = []
    came = asyncio.Event()

    def received(updates: Sequence[Update]) -> None:
        heard.extend(updates)
        if any(isinstance(u, HostHealth) for u in heard):
            came.set()

    async with connected(server) as connection:
        tracker = FactTracker("c1")
        probe = ProbeFeed(
            "c1", connection, """echo '{"h":0,"error":"no python3 of 3.7 or later"}'""", b"", received, tracker
        )
        feed = HostFeed(probe, lambda: PollFeed("c1", connection, config, received, tracker))
        task = asyncio.create_task(feed.run())
        await asyncio.wait_for(came.wait(), 10)
        assert feed.kind == "poll"
        health = next(u for u in heard if isinstance(u, HostHealth))
        assert health.cores >= 1
        assert abs(health.clock_offset) < 1.5
        assert "/proc/loadavg" in await feed.raw("host")
        with pytest.raises(SshError, match="no section"):
            await feed.raw("bird")
        connection.abort()
        with pytest.raises((SshError, OSError, asyncssh.Error)):
            await asyncio.wait_for(task, 5)


async def test_a_section_that_is_not_due_is_neither_looked_at_nor_an_error(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anyconsole.drivers.ssh.poll_feed.PERIOD", 0.2)
    tenant = Tenant(name="de", number=1, prefixes=(), addresses=("127.0.0.1",), zones=("example.de",))
    fleet = Inventory(name="t", tenants=(tenant,), poll=PollSpec(probe=0.2, dns=60.0))
    config = vantage_config(fleet, Vantage(name="c1", address="c1"))
    heard: list[Update] = []
    async with connected(server) as connection:
        feed = PollFeed("c1", connection, config, heard.extend, FactTracker("c1"))
        task = asyncio.create_task(feed.run())
        async with asyncio.timeout(10):
            while sum(isinstance(u, Beat) and u.sections == ("host",) for u in heard) < 4:
                await asyncio.sleep(0.05)
        task.cancel()
        assert feed.errors == {}
        assert sum(isinstance(u, Beat) and u.sections == ("dns",) for u in heard) == 1


async def test_a_look_at_a_polled_host_is_a_round_that_began_after_it_was_asked_for(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anyconsole.drivers.ssh.poll_feed.PERIOD", 60.0)
    config = vantage_config(Inventory(name="t"), Vantage(name="c1", address="c1"))
    heard: list[tuple[float, Update]] = []
    first = asyncio.Event()

    def received(updates: Sequence[Update]) -> None:
        heard.extend((time.monotonic(), u) for u in updates)
        if heard:
            first.set()

    async with connected(server) as connection:
        feed = PollFeed("c1", connection, config, received, FactTracker("c1"))
        task = asyncio.create_task(feed.run())
        await asyncio.wait_for(first.wait(), 10)
        for _ in range(3):
            asked = time.monotonic()
            assert await asyncio.wait_for(feed.look(), 10) == {"host"}
            beats = [at for at, u in heard if isinstance(u, Beat)]
            assert asked < beats[-1] <= time.monotonic()
        looking = asyncio.create_task(feed.look())
        await asyncio.sleep(0)
        connection.abort()
        with pytest.raises(SshError):
            await asyncio.wait_for(looking, 5)
        with pytest.raises((SshError, OSError, asyncssh.Error)):
            await asyncio.wait_for(task, 5)
