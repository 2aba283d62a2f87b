"""The small parts: handshake slots, retries, shared tunnels, and a process that is quiet and has enough descriptors."""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import subprocess
import sys
from collections.abc import Coroutine

import pytest

from anyconsole.drivers.ssh.dial import PATIENCE, Slots
from anyconsole.drivers.ssh.fault import Fault
from anyconsole.drivers.ssh.process import DaemonThreads, quiet_libraries, raise_file_limit
from anyconsole.drivers.ssh.resolve import Endpoint
from anyconsole.drivers.ssh.retry import GOOD_AFTER, Attempts
from anyconsole.drivers.ssh.tunnels import MEMBERS, Tunnels


async def test_a_slow_handshake_gives_its_slot_to_the_next() -> None:
    slots = Slots(2)
    order: list[str] = []

    async def handshake(name: str, seconds: float) -> None:
        async with slots.hold():
            order.append(name)
            await asyncio.sleep(seconds)

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for name in ("frozen1", "frozen2"):
            tasks.create_task(handshake(name, 2 * PATIENCE))
        await asyncio.sleep(0)
        await asyncio.wait_for(handshake("good", 0), 1.5 * PATIENCE)
        assert loop.time() - began < 1.5 * PATIENCE
    assert order == ["frozen1", "frozen2", "good"]
    # Each slot came back exactly once.
    assert slots._free._value == 2


def test_failures_in_a_row_wait_longer_and_a_good_while_forgets_them() -> None:
    class Top(random.Random):
        def uniform(self, a: float, b: float) -> float:  # noqa: ARG002
            return b

    attempts = Attempts(Top())
    assert [attempts.failed(Fault.REFUSED, t) for t in (0, 1, 2, 3)] == [0.5, 1.0, 2.0, 4.0]
    attempts.came_up(10)
    assert attempts.failed(Fault.LOST, 10 + GOOD_AFTER - 1) == 8.0, "a link that flaps is no good link"
    attempts.came_up(100)
    assert attempts.failed(Fault.LOST, 100 + GOOD_AFTER) == 0.5
    attempts.poke()
    assert attempts.failed(Fault.LOST, 200) == 0.5


async def test_a_poke_ends_a_wait_that_would_last_for_ever() -> None:
    attempts = Attempts(random.Random(1))
    waiting = asyncio.create_task(attempts.wait(None))
    await asyncio.sleep(0)
    attempts.poke()
    assert await asyncio.wait_for(waiting, 1) is True
    assert await attempts.wait(0.01) is False


class _NeverRuns:
    def create_task(self, coroutine: object, name: str) -> None:  # noqa: ARG002
        coroutine.close()  # type: ignore[attr-defined]


async def test_one_tunnel_carries_two_hundred_hosts_and_a_chain_is_built_of_shared_hops() -> None:
    edge, jump = Endpoint(name="edge", host="edge"), Endpoint(name="jump", host="jump")
    tunnels = Tunnels(None, _NeverRuns(), random.Random(1), lambda: None)  # type: ignore[arg-type]
    joined = [tunnels.join((edge, jump), f"n{i}") for i in range(MEMBERS + 1)]
    assert joined[0] is joined[MEMBERS - 1]
    assert joined[MEMBERS] is not joined[0]
    assert tunnels.join((edge, jump), "n0") is joined[0]
    assert [t.endpoint.name for t in tunnels.all()].count("edge") == 1
    tunnels.leave(joined[0], "n0")
    assert tunnels.join((edge, jump), "late") is joined[0], "a place that became free is taken"


async def test_a_tunnel_ends_with_its_last_host_and_so_do_those_it_goes_through() -> None:
    edge, jump = Endpoint(name="edge", host="edge"), Endpoint(name="jump", host="jump")
    running: set[asyncio.Task[None]] = set()

    class Tasks:
        def create_task(self, coroutine: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
            coroutine.close()
            task = asyncio.create_task(asyncio.sleep(30), name=name)
            running.add(task)
            return task

    tunnels = Tunnels(None, Tasks(), random.Random(1), lambda: None)  # type: ignore[arg-type]
    tunnel = tunnels.join((edge, jump), "n0")
    assert tunnels.join((edge, jump), "n1") is tunnel
    tunnels.leave(tunnel, "n0")
    assert len(tunnels.all()) == 2
    tunnels.leave(tunnel, "n1")
    assert tunnels.all() == []
    await asyncio.wait(running, timeout=1)
    assert all(task.cancelled() for task in running)


def test_descriptors_are_raised_to_what_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        assert raise_file_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("logger", ["asyncssh", "py.warnings", "urllib3"])
def test_libraries_do_not_write_on_the_screen(logger: str) -> None:
    code = (
        "import logging, warnings\n"
        "from anyconsole.drivers.ssh.process import DaemonThreads, quiet_libraries\n"
        "quiet_libraries()\n"
        f"logging.getLogger({logger!r}).warning('noise')\n"
        "import asyncssh, anyconsole.drivers.ssh.fleet\n"
        "warnings.warn_explicit('noise', UserWarning, 'f', 1, module='cryptography.hazmat')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)
    assert done.stderr == b""


def test_a_log_file_of_the_application_still_hears_of_errors() -> None:
    quiet_libraries()
    assert logging.getLogger("asyncssh").isEnabledFor(logging.ERROR)


_QUITS = """
import asyncio, socket, time
from anyconsole.drivers.ssh.process import DaemonThreads

socket.getaddrinfo = lambda *_, **__: time.sleep(60)

async def main():
    loop = asyncio.get_running_loop()
    loop.set_default_executor(DaemonThreads(2))
    assert await asyncio.to_thread(pow, 2, 3) == 8
    try:
        async with asyncio.timeout(0.2):
            await asyncio.gather(*(loop.getaddrinfo("jump", 22) for _ in range(5)))
    except TimeoutError:
        print("timeout")

asyncio.run(main())
"""


def test_a_silent_dns_does_not_keep_us_from_quitting() -> None:
    done = subprocess.run([sys.executable, "-c", _QUITS], capture_output=True, text=True, timeout=10, check=True)
    assert (done.stdout, done.stderr) == ("timeout\n", "")


async def test_what_a_thread_raises_reaches_whoever_waits() -> None:
    asyncio.get_running_loop().set_default_executor(DaemonThreads(1))
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(divmod, 1, 0)
