"""Links against real OpenSSH servers: what the operator sees when hosts, keys and jump hosts misbehave."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from anyconsole.drivers.probe.stream import FactTracker, Update
from anyconsole.drivers.ssh import fault
from anyconsole.drivers.ssh.argv import shell_argv
from anyconsole.drivers.ssh.fault import Fault, Lost, SshError
from anyconsole.drivers.ssh.feed import Feed, ProbeFeed, Received
from anyconsole.drivers.ssh.fleet import SshFleet
from anyconsole.model.facts import Beat, Gone, Link, LinkState
from anyconsole.model.inventory import Host, Inventory, NodeSpec, PollSpec, SshSpec
from tests.drivers.sshd import Servers, keygen

pytestmark = pytest.mark.lab

TICKING = r"""
import os, time, select, json
print('{"h":1,"python":"3.11"}', flush=True)
n = 0
while 1:
    if select.select([0], [], [], 0.2)[0] and not os.read(0, 65536): break
    print(json.dumps({"s": n, "t": time.time(), "f": [], "ok": ["host"]}), flush=True)
    n += 1
"""
FAILING = r"""
import os, time, select, json
print('{"h":1,"python":"3.11"}', flush=True)
n = 0
while 1:
    if select.select([0], [], [], 0.2)[0] and not os.read(0, 65536): break
    seen = {"f": [], "ok": ["host"]} if n < 3 else {"err": {"host": "no answer"}}
    print(json.dumps({"s": n, "t": time.time(), **seen}), flush=True)
    n += 1
"""
LONELY = r"""
import os, time, select, json
print('{"h":1,"python":"3.11"}', flush=True)
n, heard = 0, time.monotonic()
while time.monotonic() - heard < 1.5:
    if select.select([0], [], [], 0.2)[0]:
        if not os.read(0, 65536): break
        heard = time.monotonic()
    print(json.dumps({"s": n, "t": time.time(), "f": [], "ok": ["host"]}), flush=True)
    n += 1
"""
FLOOD = "import os\nos.write(1, b'{\"h\":1}\\n')\nwhile 1: os.write(1, b'x' * 60 + b'\\n' * 100)"
FLOOD_ONE_LINE = "import os\nos.write(1, b'{\"h\":1}\\n')\nwhile 1: os.write(1, b'x' * 65536)"


def fast(
    nodes: Sequence[str],
    servers: Servers,
    *,
    jump: tuple[str, ...] = ("jump",),
    stale: float = 1.0,
    drop: float = 2.0,
    connect_timeout: float = 4.0,
) -> Inventory:
    """A profile that looks five times a second."""
    return Inventory(
        name="test",
        ssh=SshSpec(config_file=str(servers.ssh_config), connect_timeout=connect_timeout, jump=jump),
        poll=PollSpec(probe=0.2, stale=stale, drop=drop),
        nodes=tuple(NodeSpec(name=n, site="s", address=n) for n in nodes),
    )


class Seen:
    """What a fleet emitted, and a way to wait for it."""

    def __init__(self) -> None:
        self.links: dict[str, list[Link]] = {}
        self.beats: dict[str, int] = {}
        self.kinds: set[str] = set()
        self._news = asyncio.Event()

    def emit(self, updates: Sequence[Update]) -> None:
        for update in updates:
            match update:
                case Link():
                    self.links.setdefault(update.node, []).append(update)
                case Beat():
                    self.beats[update.node] = self.beats.get(update.node, 0) + 1
                case Gone():
                    pass
                case _:
                    self.kinds.add(update.kind)
        self._news.set()

    def state(self, node: str) -> LinkState:
        return self.links[node][-1].state

    async def until(self, node: str, *states: LinkState, within: float = 10.0) -> Link:
        async def wait() -> Link:
            while not (self.links.get(node) and self.state(node) in states):
                self._news.clear()
                await self._news.wait()
            return self.links[node][-1]

        try:
            return await asyncio.wait_for(wait(), within)
        except TimeoutError:
            raise AssertionError(f"{node} never became {states}: {self.links.get(node)}") from None


def script(program: str) -> Callable[[object, asyncssh.SSHClientConnection, Received], Feed]:
    def start(host: Host, connection: asyncssh.SSHClientConnection, received: Received) -> Feed:
        return ProbeFeed(
            host.name, connection, f"exec python3 -ISuc {shlex.quote(program)}", b"", received, FactTracker(host.name)
        )

    return start  # type: ignore[return-value]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    yield servers
    servers.stop()


@asynccontextmanager
async def running(inventory: Inventory, program: str = TICKING) -> AsyncIterator[tuple[SshFleet, Seen]]:
    seen = Seen()
    fleet = SshFleet(inventory, seen.emit, script(program))
    task = asyncio.create_task(fleet.run())
    try:
        yield fleet, seen
    finally:
        began = time.monotonic()
        await fleet.close()
        assert time.monotonic() - began < 1.0, "closing must wait for nobody"
        assert task.done()
        if not task.cancelled() and (error := task.exception()):
            raise error


async def test_nodes_are_reached_and_heard_through_one_login_at_the_jump(servers: Servers) -> None:
    jump = servers.add("jump")
    for name in ("fra1", "fra2", "ams1"):
        servers.add(name)
    async with running(fast(["fra1", "fra2", "ams1"], servers)) as (_, seen):
        for name in ("fra1", "fra2", "ams1"):
            live = await seen.until(name, LinkState.LIVE)
            assert live.probe == "python"
        await asyncio.sleep(0.6)
        assert all(seen.beats[name] >= 2 for name in ("fra1", "fra2", "ams1"))
    assert jump.logged("Accepted publickey") == 1


async def test_an_unknown_host_key_is_shown_with_fingerprint_and_accepted_only_after_the_file_says_so(
    servers: Servers,
) -> None:
    servers.add("jump")
    stranger = servers.add("fra1", known=False)
    async with running(fast(["fra1"], servers)) as (_, seen):
        shown = await seen.until("fra1", LinkState.UNTRUSTED)
        key = asyncssh.read_public_key(str(stranger.key) + ".pub")
        assert shown.error == "hostkey_unknown"
        assert shown.fingerprint == key.get_fingerprint()
        assert "ssh-ed25519" in shown.detail
        assert str(servers.known_hosts) in shown.detail
        await asyncio.sleep(3)
        assert stranger.logged("Connection from") == 1, "no retry storm"
        with servers.known_hosts.open("a") as file:
            file.write(stranger.known)
        await seen.until("fra1", LinkState.LIVE)


async def test_a_changed_host_key_is_told_apart_from_an_unknown_one(servers: Servers) -> None:
    servers.add("jump")
    node = servers.add("fra1", start=False)
    node.new_host_key()
    node.start()
    async with running(fast(["fra1"], servers)) as (_, seen):
        shown = await seen.until("fra1", LinkState.KEY_CHANGED)
        assert shown.error == "hostkey_changed"
        assert "CHANGED" in shown.detail
        assert f"{servers.known_hosts}:2" in shown.detail
        assert f"ssh-keygen -R '[127.0.0.1]:{node.port}'" in shown.detail
        assert shown.retry_at == 0


async def test_a_changed_key_of_the_jump_host_keeps_everybody_out_and_says_so(servers: Servers) -> None:
    jump = servers.add("jump", start=False)
    node = servers.add("fra1")
    jump.new_host_key()
    jump.start()
    async with running(fast(["fra1"], servers)) as (_, seen):
        shown = await seen.until("fra1", LinkState.KEY_CHANGED)
        assert "waiting for jump host" in shown.detail
        assert node.logged("Connection from") == 0, "nobody got past the jump"


async def test_a_denied_login_is_tried_exactly_once_until_the_key_changes(servers: Servers, tmp_path: Path) -> None:
    servers.add("jump")
    allowed = servers.authorized.read_text()
    only_jump = tmp_path / "nobody"
    only_jump.write_text("")
    node = servers.add("fra1", start=False)
    node.config.write_text(node.config.read_text().replace(str(servers.authorized), str(only_jump)))
    node.start()
    async with running(fast(["fra1"], servers)) as (_, seen):
        shown = await seen.until("fra1", LinkState.DENIED)
        assert shown.error == "auth"
        assert "1 key offered" in shown.detail
        await asyncio.sleep(3)
        assert node.logged("Connection from") == 1
        only_jump.write_text(allowed)
        os.utime(servers.client_key)
        await seen.until("fra1", LinkState.LIVE)
        assert node.logged("Connection from") == 2


async def test_a_refused_connection_backs_off_and_a_poke_ends_the_wait(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = fault.Retry(floor=30, base=30, ceiling=30)
    monkeypatch.setitem(fault.POLICY, Fault.REFUSED, slow)
    servers.add("jump")
    node = servers.add("fra1", start=False)
    async with running(fast(["fra1"], servers)) as (fleet, seen):
        shown = await seen.until("fra1", LinkState.BACKOFF)
        assert shown.error == "refused"
        assert "through jump" in shown.detail
        assert shown.retry_at > time.time() + 20
        node.start()
        fleet.poke("fra1")
        await seen.until("fra1", LinkState.LIVE, within=3)


async def test_a_frozen_node_is_shown_and_dropped_in_time_and_delays_nobody(servers: Servers) -> None:
    servers.add("jump")
    frozen = servers.add("fra1")
    servers.add("ams1")
    inventory = fast(["fra1", "ams1"], servers, stale=1.0, drop=2.0)
    async with running(inventory) as (fleet, seen):
        await seen.until("fra1", LinkState.LIVE)
        await seen.until("ams1", LinkState.LIVE)
        frozen.freeze()
        try:
            began = time.monotonic()
            stale = await seen.until("fra1", LinkState.STALE, within=3)
            assert "nothing heard" in stale.detail
            dropped = await seen.until("fra1", LinkState.BACKOFF, within=4)
            assert time.monotonic() - began < 4
            assert dropped.error == "timeout"
            assert (await fleet.execute("ams1", ["true"], 2)).exit_status == 0
            with pytest.raises(SshError, match="fra1 is not connected"):
                await fleet.execute("fra1", ["true"], 2)
            assert {fact.state for fact in seen.links["ams1"]} <= {
                LinkState.IDLE, LinkState.CONNECTING, LinkState.STARTING, LinkState.LIVE,
            }  # fmt: skip
            before = seen.beats["ams1"]
            await asyncio.sleep(1)
            assert seen.beats["ams1"] > before
        finally:
            frozen.thaw()
        await seen.until("fra1", LinkState.LIVE, within=10)


async def test_closing_with_a_frozen_node_is_quick(servers: Servers) -> None:
    servers.add("jump")
    frozen = servers.add("fra1")
    async with running(fast(["fra1"], servers)) as (_, seen):
        await seen.until("fra1", LinkState.LIVE)
        frozen.freeze()
    frozen.thaw()


async def test_when_the_jump_dies_its_nodes_wait_for_it_and_come_back(servers: Servers) -> None:
    jump = servers.add("jump")
    names = [f"n{i}" for i in range(4)]
    for name in names:
        servers.add(name)
    async with running(fast(names, servers)) as (_, seen):
        for name in names:
            await seen.until(name, LinkState.LIVE)
        jump.stop()
        for name in names:
            shown = await seen.until(name, LinkState.BACKOFF, within=2)
            assert "jump" in shown.detail
        await asyncio.sleep(1)
        assert all("waiting for jump host" in seen.links[name][-1].detail for name in names)
        jump.start()
        for name in names:
            await seen.until(name, LinkState.LIVE, within=15)


async def test_nodes_behind_a_dead_jump_follow_the_configuration_to_another_one(servers: Servers) -> None:
    jump = servers.add("jump")
    spare = servers.add("spare")
    servers.add("fra1")
    jump.stop()
    async with running(fast(["fra1"], servers)) as (_, seen):
        assert "jump" in (await seen.until("fra1", LinkState.BACKOFF)).detail
        jump.port = spare.port
        servers.configure()
        await seen.until("fra1", LinkState.LIVE, within=15)
        assert spare.logged("Accepted publickey") == 1
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert sum(name.startswith("tunnel") for name in names) == 1, "nobody knocks at the old one any more"


async def test_a_killed_session_is_noticed_at_once_and_replaced(servers: Servers) -> None:
    servers.add("jump")
    node = servers.add("fra1")
    async with running(fast(["fra1"], servers)) as (fleet, seen):
        await seen.until("fra1", LinkState.LIVE)
        waiting = asyncio.create_task(fleet.execute("fra1", ["sleep", "30"], 20))
        await asyncio.sleep(0.3)
        node.kill_sessions()
        with pytest.raises(Lost):
            await waiting
        lost = await seen.until("fra1", LinkState.BACKOFF, within=2)
        assert lost.error == "lost"
        await seen.until("fra1", LinkState.LIVE, within=5)


@pytest.mark.parametrize("program", [FLOOD, FLOOD_ONE_LINE])
async def test_a_flood_drops_its_own_link_with_a_clear_word(servers: Servers, program: str) -> None:
    servers.add("jump")
    servers.add("fra1")
    async with running(fast(["fra1"], servers), program) as (_, seen):
        shown = await seen.until("fra1", LinkState.BACKOFF, within=10)
        assert shown.error == "probe"
        assert len(shown.detail) < 500
        assert shown.retry_at >= shown.at + 1.5


async def test_a_probe_that_ends_says_its_last_words(servers: Servers) -> None:
    servers.add("jump")
    servers.add("fra1")
    program = "import sys\nsys.exit('no bird here \\x1b[31m')"
    async with running(fast(["fra1"], servers), program) as (_, seen):
        shown = await seen.until("fra1", LinkState.BACKOFF)
        assert shown.error == "probe"
        assert "no bird here" in shown.detail
        assert "\x1b" not in shown.detail


async def test_sshd_that_drops_logins_is_left_alone_for_long(servers: Servers) -> None:
    port_holder = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = port_holder.sockets[0].getsockname()[1]
    servers.configure(f"Host drop\n  HostName 127.0.0.1\n  Port {port}\n")
    async with running(fast(["drop"], servers, jump=())) as (_, seen):
        shown = await seen.until("drop", LinkState.BACKOFF)
        assert shown.error == "reset"
        assert "MaxStartups" in shown.detail
        assert shown.retry_at >= shown.at + 4.5
    port_holder.close()


async def test_cancelled_handshakes_leave_no_descriptors_and_no_tasks(servers: Servers) -> None:
    jump = servers.add("jump")
    frozen = servers.add("fra1")
    frozen.freeze()
    loop_fds = open_files()
    tasks = len(asyncio.all_tasks())
    for stage in (0.05, 0.2, 0.4, 0.8):
        async with running(fast(["fra1"], servers, connect_timeout=30.0)):
            await asyncio.sleep(stage)
    await asyncio.sleep(0.3)
    assert len(asyncio.all_tasks()) == tasks
    assert open_files() <= loop_fds
    frozen.thaw()
    assert jump.process is not None


async def test_forty_frozen_hosts_do_not_keep_a_good_one_waiting(servers: Servers) -> None:
    silent = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    good = servers.add("good")
    dead = [f"dead{i}" for i in range(40)]
    servers.configure("".join(f"Host {n}\n  HostName 127.0.0.1\n  Port {port}\n" for n in dead))
    async with running(fast([*dead, "good"], servers, jump=(), connect_timeout=15.0)) as (_, seen):
        await seen.until("good", LinkState.LIVE, within=6)
    silent.close()
    assert good.logged("Accepted publickey") == 1


async def test_what_is_sent_piece_by_piece_arrives_whole_and_waits_for_its_reader(servers: Servers) -> None:
    servers.add("jump")
    servers.add("fra1")
    asked = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(64):
            asked += 1
            yield bytes(1 << 18)

    async with running(fast(["fra1"], servers)) as (fleet, seen):
        await seen.until("fra1", LinkState.LIVE)
        done = await fleet.execute("fra1", ["wc", "-c"], 20, pieces())
        assert (done.stdout.strip(), asked) == (str(64 << 18).encode(), 64)
        asked = 0
        with pytest.raises(SshError) as late:
            await fleet.execute("fra1", ["sleep", "20"], 1.0, pieces())
        assert late.value.fault is Fault.TIMEOUT
        assert asked < 64, "whoever doesn't read isn't sent all of it"
        done = await fleet.execute("fra1", ["sh", "-c", "head -c 10 >/dev/null; exit 7"], 20, pieces())
        assert done.exit_status == 7, "its own status, not that it stopped reading"


async def test_commands_keep_their_words_and_their_output_is_bounded(servers: Servers) -> None:
    servers.add("jump")
    servers.add("fra1")
    async with running(fast(["fra1"], servers)) as (fleet, seen):
        await seen.until("fra1", LinkState.LIVE)
        done = await fleet.execute("fra1", ["printf", "%s|", "a b", "$HOME", "; rm -rf x", "*"], 5)
        assert done.stdout == b"a b|$HOME|; rm -rf x|*|"
        done = await fleet.execute("fra1", ["cat"], 5, b"given")
        assert done.stdout == b"given"
        done = await fleet.execute("fra1", ["head", "-c", "3000000", "/dev/zero"], 10)
        assert done.truncated
        assert len(done.stdout) == 1 << 20
        assert (await fleet.execute("fra1", ["false"], 5)).exit_status == 1
        with pytest.raises(SshError) as late:
            await fleet.execute("fra1", ["sleep", "20"], 0.4)
        assert late.value.fault is Fault.TIMEOUT
        with pytest.raises(SshError, match="no such host"):
            await fleet.execute("nowhere", ["true"], 1)


async def test_a_log_is_followed_and_its_tail_ends_on_the_node_with_the_reader(
    servers: Servers, tmp_path: Path
) -> None:
    servers.add("jump")
    node = servers.add("fra1")
    log = tmp_path / "a log; with 'odd' name"
    log.write_text("one\n")
    async with running(fast(["fra1"], servers)) as (fleet, seen):
        await seen.until("fra1", LinkState.LIVE)
        lines = fleet.tail("fra1", str(log))
        assert await anext(lines) == b"one\n"
        with log.open("a") as file:
            file.write("two\n")
        assert await asyncio.wait_for(anext(lines), 5) == b"two\n"
        assert node.runs("tail")
        await lines.aclose()
        for _ in range(30):
            await asyncio.sleep(0.1)
            if not node.runs("tail"):
                break
        else:
            pytest.fail("tail still runs on the node")


async def test_a_slow_log_reader_slows_the_node_and_not_our_memory(servers: Servers, tmp_path: Path) -> None:
    servers.add("jump")
    servers.add("fra1")
    big = tmp_path / "big"
    big.write_bytes((b"x" * 99_999 + b"\n") * 200)
    async with running(fast(["fra1"], servers)) as (fleet, seen):
        await seen.until("fra1", LinkState.LIVE)
        size = 0
        async for chunk in fleet.tail("fra1", str(big)):
            assert len(chunk) <= 3 * 65536
            size += len(chunk)
            await asyncio.sleep(0.005)
            if size >= 2_000_000:
                break
        assert seen.state("fra1") is LinkState.LIVE


async def test_the_shell_key_reaches_the_node_over_the_same_chain(servers: Servers, tmp_path: Path) -> None:
    servers.add("jump")
    node = servers.add("fra1")
    servers.ssh_config.write_text(
        f"Host jump\n  HostName 127.0.0.1\n  Port {servers.all['jump'].port}\n"
        f"Host fra1\n  HostName 127.0.0.1\n  Port {node.port}\nHost *\n  GlobalKnownHostsFile /dev/null\n  IdentitiesOnly yes\n"
    )
    key = tmp_path / "an id with 100% space"
    key.write_bytes(servers.client_key.read_bytes())
    key.chmod(0o600)
    inventory = Inventory(
        name="test",
        ssh=SshSpec(
            config_file=str(servers.ssh_config), user=servers.user, jump=("jump",),
            known_hosts=(str(servers.known_hosts),), identity_files=(str(key),),
        ),
        nodes=(NodeSpec(name="fra1", site="s", address="fra1"),),
    )  # fmt: skip
    argv = shell_argv(inventory, "fra1")
    process = await asyncio.create_subprocess_exec(
        *argv[:-2],
        "-o",
        "BatchMode=yes",
        *argv[-2:],
        "echo",
        "arrived",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 10)
    assert out == b"arrived\n", err
    assert servers.all["jump"].logged("Accepted publickey") == 1


async def test_a_forwarded_port_leads_through_the_jump_and_comes_back_after_its_loss(servers: Servers) -> None:
    jump = servers.add("jump")

    async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    inner = await asyncio.start_server(hello, "127.0.0.1", 0)
    port = inner.sockets[0].getsockname()[1]

    async def ask(local: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        data = await reader.read()
        writer.close()
        return data

    async with running(fast([], servers)) as (fleet, _):
        await asyncio.sleep(0.1)
        async with fleet.open_tunnel("jump", "127.0.0.1", port) as local:
            assert await ask(local) == b"hello"
            jump.stop()
            await asyncio.sleep(0.3)
            with pytest.raises(ConnectionRefusedError):
                await ask(local)
        jump.start()
        for _ in range(50):
            try:
                async with fleet.open_tunnel("jump", "127.0.0.1", port) as local:
                    assert await ask(local) == b"hello"
                    break
            except SshError:
                await asyncio.sleep(0.2)
        else:
            pytest.fail("the tunnel never came back")
    inner.close()


async def test_the_real_probe_reports_over_the_link_and_shows_what_it_heard(servers: Servers) -> None:
    servers.add("jump")
    servers.add("fra1")
    seen = Seen()
    fleet = SshFleet(fast(["fra1"], servers), seen.emit)
    task = asyncio.create_task(fleet.run())
    try:
        assert (await seen.until("fra1", LinkState.LIVE)).probe == "python"
        async with asyncio.timeout(5):
            while "host" not in seen.kinds:
                await asyncio.sleep(0.05)
        assert "MemAvailable" in await fleet.raw("fra1", "host")
        both = await asyncio.gather(fleet.raw("fra1", "host"), fleet.raw("fra1", "nothing"))
        assert "loadavg" in both[0]
        assert "no such section" in both[1]
    finally:
        await fleet.close()
    assert task.cancelled()
    with pytest.raises(SshError):
        await fleet.raw("fra1", "host")


async def test_our_own_sleep_is_not_taken_for_the_nodes_silence(servers: Servers) -> None:
    servers.add("jump")
    servers.add("fra1")
    async with running(fast(["fra1"], servers, stale=1.0, drop=2.0)) as (_, seen):
        await seen.until("fra1", LinkState.LIVE)
        time.sleep(3)  # noqa: ASYNC251 - as after a suspended laptop or ctrl-z
        await asyncio.sleep(1.2)
        assert [fact.state for fact in seen.links["fra1"]][-1] is LinkState.LIVE
        assert LinkState.BACKOFF not in {fact.state for fact in seen.links["fra1"]}


async def test_a_node_whose_every_section_fails_keeps_its_connection_and_says_why(servers: Servers) -> None:
    servers.add("jump")
    servers.add("fra1")
    async with running(fast(["fra1"], servers), FAILING) as (_, seen):
        await seen.until("fra1", LinkState.LIVE)
        await asyncio.sleep(4)
        assert {f.state for f in seen.links["fra1"]}.isdisjoint({LinkState.STALE, LinkState.BACKOFF})
        assert seen.links["fra1"][-1].detail == "host: no answer"


async def test_a_clock_set_back_leaves_no_probe_unheard(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    servers.add("jump")
    servers.add("fra1")
    monkeypatch.setattr("anyconsole.drivers.probe.stream.PING_EVERY", 0.3)
    async with running(fast(["fra1"], servers), LONELY) as (_, seen):
        await seen.until("fra1", LinkState.LIVE)
        real = time.time
        monkeypatch.setattr("time.time", lambda: real() - 3600)
        await asyncio.sleep(3)
        assert LinkState.BACKOFF not in {f.state for f in seen.links["fra1"]}


async def test_a_host_certificate_is_trusted_through_its_authority_and_only_for_its_names(
    servers: Servers, tmp_path: Path
) -> None:
    authority = keygen(tmp_path / "ca")
    good = servers.add("fra1", known=False, start=False)
    bad = servers.add("ams1", known=False, start=False)
    for server, principal in ((good, "fra1.example"), (bad, "other.example")):
        process = await asyncio.create_subprocess_exec(
            "ssh-keygen", "-q", "-s", str(authority), "-I", server.name, "-h", "-n", principal, str(server.key) + ".pub"
        )
        assert await process.wait() == 0
        with server.config.open("a") as file:
            file.write(f"HostCertificate {server.key}-cert.pub\n")
        server.start()
    public = authority.with_suffix(".pub").read_text()
    servers.known_hosts.write_text(f"@cert-authority *.example {public}")
    servers.configure("Host fra1\n  HostKeyAlias fra1.example\nHost ams1\n  HostKeyAlias ams1.example\n")
    async with running(fast(["fra1", "ams1"], servers, jump=())) as (_, seen):
        await seen.until("fra1", LinkState.LIVE)
        shown = await seen.until("ams1", LinkState.UNTRUSTED)
        assert "certificate" in shown.detail


async def test_a_proxy_command_of_the_users_configuration_works_whatever_it_says_on_stderr(servers: Servers) -> None:
    jump = servers.add("jump")
    servers.add("fra1")
    command = f"sh -c 'echo noise >&2; exec ssh -F {servers.ssh_config} -W %%h:%%p jump' # 31.41592"
    servers.configure(f"Host fra1\n  ProxyCommand {command.replace('%%', '%')}\n")
    # An empty chain in the profile leaves the way to the user's configuration.
    async with running(fast(["fra1"], servers, jump=())) as (_, seen):
        await seen.until("fra1", LinkState.LIVE)
    assert jump.logged("Accepted publickey") == 1
    for _ in range(30):
        await asyncio.sleep(0.1)
        if not jump.sessions():
            break
    else:
        pytest.fail("the proxy command was left running")


async def test_a_proxy_command_that_hangs_or_fails_is_a_fault_of_its_host_alone(servers: Servers) -> None:
    servers.add("fra1")
    servers.configure("Host hangs\n  ProxyCommand sleep 27.1828\nHost fails\n  ProxyCommand no-such-program %h\n")
    async with running(fast(["fra1", "hangs", "fails"], servers, jump=(), connect_timeout=0.8)) as (_, seen):
        assert (await seen.until("fails", LinkState.BACKOFF)).error == "reset"
        assert (await seen.until("hangs", LinkState.BACKOFF)).error == "timeout"
        await seen.until("fra1", LinkState.LIVE)
    await asyncio.sleep(0.2)
    assert not Servers.any_process("27.1828")


async def test_logs_that_are_open_never_make_a_command_wait_for_ever(servers: Servers, tmp_path: Path) -> None:
    servers.add("jump")
    servers.add("fra1")
    log = tmp_path / "log"
    log.write_text("x\n")
    async with running(fast(["fra1"], servers)) as (fleet, seen):
        await seen.until("fra1", LinkState.LIVE)
        tails = [fleet.tail("fra1", str(log)) for _ in range(4)]
        for tail in tails:
            await anext(tail)
        with pytest.raises(SshError, match="close one"):
            await fleet.execute("fra1", ["true"], 0.3)
        await tails[0].aclose()
        assert (await fleet.execute("fra1", ["true"], 5)).exit_status == 0
        for tail in tails:
            await tail.aclose()


async def test_no_secret_and_no_control_character_reaches_an_error_text(servers: Servers, tmp_path: Path) -> None:
    servers.add("jump")
    servers.add("fra1", start=False)
    locked = keygen(tmp_path / "locked", "-N", "passphrase-secret")
    servers.configure(f"Host *\n  IdentityFile {locked}\n")
    async with running(fast(["fra1"], servers)) as (_, seen):
        await seen.until("fra1", LinkState.BACKOFF)
        private = servers.client_key.read_text().splitlines()[1]
        for fact in seen.links["fra1"]:
            assert "passphrase-secret" not in fact.detail
            assert private not in fact.detail
            assert fact.detail.isprintable() or not fact.detail


async def test_a_login_by_certificate_alone_works_and_names_its_key(servers: Servers, tmp_path: Path) -> None:
    authority = keygen(tmp_path / "ca")
    sign = [
        "ssh-keygen",
        "-q",
        "-s",
        str(authority),
        "-I",
        "alice",
        "-n",
        servers.user,
        str(servers.client_key) + ".pub",
    ]
    done = await asyncio.create_subprocess_exec(*sign)
    assert await done.wait() == 0
    servers.add("jump")
    node = servers.add("fra1", start=False)
    nobody = tmp_path / "nobody"
    nobody.write_text("")
    config = node.config.read_text().replace(str(servers.authorized), str(nobody))
    node.config.write_text(f"{config}TrustedUserCAKeys {authority}.pub\n")
    node.start()
    comment = servers.client_key.with_suffix(".pub").read_text().split()[2]
    async with running(fast(["fra1"], servers)) as (fleet, seen):
        await seen.until("fra1", LinkState.LIVE)
        assert fleet.operator_key("fra1") == comment
    assert node.logged("Accepted publickey") == 1
