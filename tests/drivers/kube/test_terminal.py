"""What is run in pods and what they log comes back whole, with how it ended; what can't be run says why."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import tty
from collections.abc import AsyncIterator, Iterator

import pytest

from anyconsole.drivers.kube import terminal
from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.terminal import attach, execute, logs
from anyconsole.drivers.ssh.fault import Fault
from anyconsole.model.inventory import ClusterSpec
from tests.drivers.kube.networks import no_tunnel
from tests.kube.apiserver import ExecCall, FakeCluster


async def test_a_command_comes_back_whole(api: KubeApi, namespace: str, speaking_pod: str) -> None:
    script = "printf 'out\\n'; printf 'err\\n' >&2; exit 7"
    done = await execute(api, namespace, speaking_pod, "main", ["sh", "-c", script], 20)
    assert (done.exit_status, done.stdout, done.stderr, done.truncated) == (7, b"out\n", b"err\n", False)
    assert (await execute(api, namespace, speaking_pod, "", ["true"], 20)).exit_status == 0


async def test_words_reach_the_command_as_they_are(api: KubeApi, namespace: str, speaking_pod: str) -> None:
    odd = ["", " ", "a b", "$HOME", "ü&x=1?#%", "'\"\\"]
    done = await execute(api, namespace, speaking_pod, "main", ["printf", "%s\\n", *odd], 20)
    assert done.stdout.decode().split("\n")[:-1] == odd


async def test_what_is_sent_is_read_to_its_end(api: KubeApi, namespace: str, speaking_pod: str) -> None:
    sent = os.urandom(300_000)
    done = await execute(api, namespace, speaking_pod, "main", ["cat"], 20, stdin=sent)
    assert (done.exit_status, done.stdout) == (0, sent)


async def test_input_without_an_end_is_not_begun(
    api: KubeApi, namespace: str, speaking_pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_PROTOCOLS", ("none.channel.k8s.io", "v4.channel.k8s.io"))
    assert (await execute(api, namespace, speaking_pod, "main", ["sh", "-c", "exit 3"], 20)).exit_status == 3
    with pytest.raises(KubeError, match="can't end a command's input"):
        await execute(api, namespace, speaking_pod, "main", ["cat"], 20, stdin=b"x")


async def test_output_is_bounded(api: KubeApi, namespace: str, speaking_pod: str) -> None:
    done = await execute(api, namespace, speaking_pod, "main", ["head", "-c", "1500000", "/dev/zero"], 20)
    assert (len(done.stdout), done.truncated, done.exit_status) == (1 << 20, True, 0)


async def test_a_command_that_does_not_end_is_left(api: KubeApi, namespace: str, speaking_pod: str) -> None:
    with pytest.raises(KubeError, match=r"sleep was not finished in 0.3 s") as caught:
        await execute(api, namespace, speaking_pod, "main", ["sleep", "60"], 0.3)
    assert (caught.value.fault, caught.value.maybe_done) == (Fault.TIMEOUT, True)


async def test_a_lost_connection_is_no_success(misbehaving: FakeCluster, api: KubeApi, namespace: str) -> None:
    running = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hang(_: ExecCall) -> int:
        loop.call_soon_threadsafe(running.set)
        await asyncio.sleep(60)
        return 0

    misbehaving.scripts.execs.add(namespace, "hangs*", hang)
    pod(misbehaving, namespace, "hangs")
    task = asyncio.create_task(execute(api, namespace, "hangs", "main", ["x"], 20))
    await running.wait()
    await asyncio.to_thread(misbehaving.stop)
    try:
        with pytest.raises(KubeError, match="the connection ended before the command") as caught:
            await task
        assert caught.value.maybe_done
    finally:
        await asyncio.to_thread(misbehaving.start)


def pod(cluster: FakeCluster, namespace: str, name: str, **status: object) -> None:
    containers = [{"name": "main", "image": "example.test/x"}, {"name": "other", "image": "example.test/y"}]
    told = [{"name": c["name"], "image": c["image"], "ready": True, "state": {"running": {}}} for c in containers]
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"containers": containers, "nodeName": "elsewhere"},
            "status": {"phase": "Running", "containerStatuses": told} | status,
        }
    )


async def test_what_cannot_be_run_says_why(misbehaving: FakeCluster, api: KubeApi, namespace: str) -> None:
    waiting = {"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    pod(misbehaving, namespace, "two")
    pod(misbehaving, namespace, "crashing", containerStatuses=[waiting])

    async def why(name: str, container: str, *argv: str) -> str:
        with pytest.raises(KubeError) as caught:
            await execute(api, namespace, name, container, argv or ["true"], 20)
        return str(caught.value)

    assert 'pods "none" not found (404)' in await why("none", "")
    assert "there is no container x; there are main, other" in await why("two", "x")
    assert "it has several containers, name one: main, other" in await why("two", "")
    assert "not found" in await why("two", "main", "/nowhere")
    # A real kubelet refuses it; the fake would run nothing there either.
    assert "CrashLoopBackOff" in terminal._why_not(await api.get(f"/api/v1/namespaces/{namespace}/pods/crashing"), "")
    assert (
        terminal._why_not({"metadata": {}, "spec": {"containers": 3}, "status": {}}, "") == "the pod is on no node yet"
    )


async def test_whoever_may_not_is_told_which_permission(
    misbehaving: FakeCluster, namespace: str, speaking_pod: str
) -> None:
    path = misbehaving.kubeconfig_for("nobody")
    async with KubeApi.open(ClusterSpec(name="k3s", kubeconfig=str(path)), no_tunnel) as api:
        with pytest.raises(KubeError, match=f"k3s: no permission to create pods/exec in {namespace}") as caught:
            await execute(api, namespace, speaking_pod, "main", ["true"], 20)
        assert caught.value.status == 403


@pytest.fixture
def screen() -> Iterator[tuple[int, int]]:
    """A terminal's two ends: the keyboard and eyes of the user, and what we get of it."""
    user, ours = pty.openpty()
    resize(ours, 132, 43)
    yield user, ours
    os.close(user)
    os.close(ours)


def resize(fd: int, columns: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


async def test_a_shell_has_our_terminal(
    misbehaving: FakeCluster, api: KubeApi, namespace: str, screen: tuple[int, int]
) -> None:
    user, ours = screen

    async def shell(call: ExecCall) -> int:
        assert call.tty
        await call.out(b"$ ")
        while (typed := await call.read()) != b"exit\r":
            width, height = call.size or (0, 0)
            await call.out(b"%s in %dx%d|" % (typed, width, height))
        return 5

    misbehaving.scripts.execs.add(namespace, "shell", shell)
    pod(misbehaving, namespace, "shell")
    before = termios.tcgetattr(ours)
    task = asyncio.create_task(attach(api, namespace, "shell", "main", ["sh"], ours, ours))

    async def seen(what: bytes) -> None:
        text = b""
        while not text.endswith(what):
            text += await asyncio.to_thread(os.read, user, 1024)

    async with asyncio.timeout(10):
        await seen(b"$ ")
        assert not termios.tcgetattr(ours)[tty.LFLAG] & (termios.ECHO | termios.ICANON | termios.ISIG)
        os.write(user, b"\x03")
        await seen(b"\x03 in 132x43|")
        resize(ours, 80, 24)
        os.kill(os.getpid(), signal.SIGWINCH)
        # The size travels on the same connection, before what is typed after it.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.write(user, b"x")
        await seen(b"x in 80x24|")
        os.write(user, b"exit\r")
        assert await task == 5
    assert termios.tcgetattr(ours) == before


async def test_a_terminal_is_given_back_whatever_happens(
    misbehaving: FakeCluster, api: KubeApi, namespace: str, screen: tuple[int, int]
) -> None:
    user, ours = screen

    async def shell(call: ExecCall) -> int:
        await call.out(b"$ ")
        await call.read()
        return 0

    misbehaving.scripts.execs.add(namespace, "left", shell)
    pod(misbehaving, namespace, "left")
    before = termios.tcgetattr(ours)
    task = asyncio.create_task(attach(api, namespace, "left", "main", ["sh"], ours, ours))
    assert await asyncio.to_thread(os.read, user, 2) == b"$ "
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert termios.tcgetattr(ours) == before


async def read(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_logs_are_read(api: KubeApi, namespace: str, speaking_pod: str) -> None:
    assert await read(logs(api, namespace, speaking_pod, "main")) == b"one\ntwo\nthree\n"
    assert await read(logs(api, namespace, speaking_pod, tail=1)) == b"three\n"
    stamped = await read(logs(api, namespace, speaking_pod, tail=1, timestamps=True))
    assert stamped.endswith(b"Z three\n")


async def test_a_log_that_is_not_there_says_so(api: KubeApi, namespace: str, speaking_pod: str) -> None:
    with pytest.raises(KubeError, match="previous terminated container") as caught:
        await read(logs(api, namespace, speaking_pod, previous=True))
    assert caught.value.status == 400


async def test_a_log_of_before_a_restart_is_read(misbehaving: FakeCluster, api: KubeApi, namespace: str) -> None:
    pod(misbehaving, namespace, "restarted")
    misbehaving.say(namespace, "restarted", "other", "last words", previous=True)
    assert await read(logs(api, namespace, "restarted", "other", previous=True)) == b"last words\n"


async def test_a_log_is_followed_until_it_is_left(misbehaving: FakeCluster, api: KubeApi, namespace: str) -> None:
    pod(misbehaving, namespace, "followed")
    misbehaving.say(namespace, "followed", "main", "one")
    async with asyncio.timeout(10), contextlib.aclosing(logs(api, namespace, "followed", "main", follow=True)) as said:
        assert await anext(said) == b"one\n"
        misbehaving.say(namespace, "followed", "main", "two")
        assert await anext(said) == b"two\n"
