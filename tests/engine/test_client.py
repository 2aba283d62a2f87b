"""The engine as the screen sees it: a real child process that is started, lost, brought back and closed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from anyconsole.engine.client import EngineClient, EngineError, EngineState
from anyconsole.model.facts import LinkState
from anyconsole.model.inventory import SshSpec
from tests.fleet import inventory


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EngineClient]:
    """A running client whose fleet is out of reach: every address refuses at once."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = tmp_path / "ssh_config"
    config.write_text("Host *\n  HostName 127.0.0.1\n  Port 9\n", encoding="utf-8")
    fleet = msgspec.structs.replace(
        inventory(["fra1", "ams1"]), ssh=SshSpec(config_file=str(config), user="ops"), vantages=()
    )
    started = EngineClient(fleet)
    task = asyncio.create_task(started.run())
    yield started
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def is_running(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()


async def test_facts_arrive_and_unreachable_is_a_state_not_an_exit(client: EngineClient) -> None:
    await until(lambda: client.state is EngineState.LIVE)
    await until(lambda: (link := client.store.link("fra1")) is not None and link.state is LinkState.BACKOFF)
    link = client.store.link("fra1")
    assert link is not None
    assert link.error == "refused"
    assert is_running(client.pid)


async def test_a_killed_engine_is_said_to_be_lost_and_comes_back(client: EngineClient) -> None:
    states: list[EngineState] = []
    client.listen(lambda _changes, _events: states.append(client.state))
    await until(lambda: client.state is EngineState.LIVE)
    first = client.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: client.state is EngineState.LOST)
    assert "SIGKILL" in client.state_detail
    await until(lambda: client.state is EngineState.LIVE)
    assert client.pid != first
    assert not is_running(first)


async def test_close_leaves_no_process(client: EngineClient) -> None:
    await until(lambda: client.state is EngineState.LIVE)
    pid = client.pid
    await client.close()
    assert not is_running(pid)


async def test_an_engine_whose_screen_vanished_exits_by_itself(client: EngineClient) -> None:
    await until(lambda: client.state is EngineState.LIVE)
    pid = client.pid
    assert client._writer is not None
    client._writer.transport.abort()  # what the kernel does when the screen's process is killed
    await until(lambda: not is_running(pid), 5)


async def test_the_engine_is_in_its_own_session_so_the_terminal_cannot_kill_it(client: EngineClient) -> None:
    await until(lambda: client.state is EngineState.LIVE)
    assert client.pid is not None
    assert os.getsid(client.pid) == client.pid


async def test_a_question_that_fails_says_so(client: EngineClient) -> None:
    await until(lambda: client.state is EngineState.LIVE)
    with pytest.raises(EngineError, match="nonsense"):
        await client.ask("nonsense")
    with pytest.raises(EngineError):
        await client.ask("raw", node="fra1", section="bird")


async def test_the_shell_is_the_users_own_ssh(client: EngineClient) -> None:
    await until(lambda: client.state is EngineState.LIVE)
    argv = await client.shell_argv("fra1")
    assert argv[0] == "ssh"
    assert "fra1" in argv[-1]


async def test_a_machine_without_a_process_left_is_said_so_and_tried_again(
    client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen

    def none_left(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    await until(lambda: client.state is EngineState.LIVE)
    monkeypatch.setattr("subprocess.Popen", none_left)
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    await until(lambda: "can't be started (Resource" in client.state_detail)
    monkeypatch.setattr("subprocess.Popen", real)
    await until(lambda: client.state is EngineState.LIVE)
