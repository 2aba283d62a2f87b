"""The responder that agents test themselves against: answers this host alone, and ends with whoever started it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib.resources
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.local_channel import LocalChannel
from tests.drivers.sshd import children_of

QUERY = b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01"
ANSWER = b"\x81" + QUERY[1:]


@contextlib.asynccontextmanager
async def responder(**order: object) -> AsyncIterator[tuple[LocalChannel, int]]:
    channel = await LocalChannel.open(program="responder")
    started: list[int] = []
    try:
        channel.write(bootstrap("responder")[1] + json.dumps({"family": 4, "processes": 1, **order}).encode() + b"\n")
        async with asyncio.timeout(10):
            word, port = (await anext(channel.lines())).split()
        assert word == b"ready"
        started = children_of(channel.process.pid)
        yield channel, int(port)
    finally:
        channel.abort()
        await channel.process.wait()
        await gone(started)


async def gone(pids: list[int]) -> None:
    """Until none of the processes runs any more, whoever inherited them."""
    async with asyncio.timeout(5):
        while any(is_running(pid) for pid in pids):
            await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def client(port: int, source: str = "127.0.0.1") -> socket.socket:
    asking = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
    asking.settimeout(3)
    asking.bind((source, 0))
    asking.connect(("::1" if ":" in source else "127.0.0.1", port))
    return asking


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("family", "source"), [(4, "127.0.0.1"), (6, "::1")])
async def test_every_query_is_answered_with_itself_and_nothing_else_is(family: int, source: str, plain: bool) -> None:
    async with responder(family=family, plain=plain) as (_, port):
        with client(port, source) as asking:
            # Two responders that answered answers would never stop talking to each other.
            for nonsense in (b"\0\0" + ANSWER, b"\0\0short", b""):
                asking.send(nonsense)
                asking.send(b"\0\1" + QUERY)
                assert asking.recv(512) == b"\0\1" + ANSWER
            for number in range(40):
                asking.send(b"\1%c" % number + QUERY)
            assert [asking.recv(512) for _ in range(40)] == [b"\1%c" % number + ANSWER for number in range(40)]


def own_address() -> str:
    """An address of this host that isn't loopback; asks the routing table, sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no address but loopback")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("plain", [False, True])
async def test_nobody_but_loopback_is_answered(plain: bool) -> None:
    async with responder(plain=plain) as (_, port):
        with client(port, own_address()) as outside, client(port) as inside:
            outside.send(b"\0\1" + QUERY)
            inside.send(b"\0\2" + QUERY)
            assert inside.recv(512) == b"\0\2" + ANSWER
            outside.settimeout(0.1)
            with pytest.raises(TimeoutError):
                outside.recv(512)


async def test_several_processes_share_the_port_and_all_end_with_the_input() -> None:
    async with responder(processes=2) as (channel, port):
        workers = children_of(channel.process.pid)
        assert len(workers) == 2
        with contextlib.ExitStack() as clients:
            asking = [clients.enter_context(client(port)) for _ in range(64)]
            for number, one in enumerate(asking):
                one.send(b"\0%c" % number + QUERY)
            assert [one.recv(512) for one in asking] == [b"\0%c" % number + ANSWER for number in range(64)]
        channel.close()
        assert await asyncio.wait_for(channel.process.wait(), 5) == 0
        await gone(workers)


async def test_a_responder_whose_first_process_is_killed_leaves_nothing_behind() -> None:
    async with responder(processes=2) as (channel, _):
        workers = children_of(channel.process.pid)
        assert len(workers) == 2
        os.kill(channel.process.pid, signal.SIGKILL)
        await gone(workers)


@pytest.mark.parametrize("order", [b"nonsense\n", b"{}\n", b"[]\n"])
async def test_an_order_that_is_none_is_told(order: bytes) -> None:
    channel = await LocalChannel.open(program="responder")
    channel.write(bootstrap("responder")[1] + order)
    async with asyncio.timeout(10):
        assert (await anext(channel.lines())).startswith(b"error not understood: ")
        await channel.process.wait()


def test_it_is_one_file_of_python_3_8_and_the_standard_library() -> None:
    source = importlib.resources.files("anyconsole.drivers.load").joinpath("responder.py").read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names
    assert "from __future__ import annotations" in source
