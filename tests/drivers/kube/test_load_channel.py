"""A generator in a pod, reached over exec: it works there, and no way of losing the API server leaves load behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

import pytest

from anyconsole.drivers.kube import load_channel
from anyconsole.drivers.kube.access import KubeApi
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.load_channel import PodChannel
from anyconsole.drivers.load.bundle import bootstrap
from anyconsole.drivers.load.generator import Generator, Generators
from anyconsole.drivers.load.messages import Setup
from anyconsole.errors import LoadError
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.load import Order, Phase
from tests.drivers.kube.networks import Tunnel
from tests.drivers.load.test_load_channel import Sink
from tests.kube.apiserver import ExecCall, FakeCluster

QUERIES = "a.test A\nb.test AAAA\n"


class Relay(Tunnel):
    """A way to the API server that can stop carrying anything without closing anything."""

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__(cluster)
        self.thawed = asyncio.Event()
        self.thawed.set()

    def freeze(self) -> None:
        self.thawed.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", urlsplit(self.cluster.url).port)
        self.carried.append(writer)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await self.thawed.wait()
                sink.write(data)
        sink.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


@contextlib.asynccontextmanager
async def running(api: KubeApi, namespace: str, pod: str, sink: Sink) -> AsyncIterator[Generators]:
    setup = Setup(address="127.0.0.1", port=sink.port, max_rate=5000, max_seconds=60, timeout=0.2)
    made = []
    for name in ("gen-0", "gen-1"):
        channel = await PodChannel.open(api, namespace, pod, "main", "agent")
        made.append(Generator(name, channel, setup, QUERIES))
    async with Generators(made) as generators:
        yield generators


async def test_two_pods_send_what_they_are_told_together_and_a_halt_silences_them(
    api: KubeApi, namespace: str, speaking_pod: str, sink: Sink
) -> None:
    async with running(api, namespace, speaking_pod, sink) as generators:
        trial = await generators.trial(Order(phase=Phase.FIXED, rate=1000, seconds=0.5))
        assert trial.counts.sent == sink.look() == 500 - trial.counts.skipped
        assert set(trial.health) == {"gen-0", "gen-1"}
        task = asyncio.create_task(generators.trial(Order(phase=Phase.FIXED, rate=1000, seconds=30)))
        await sink.flowing()
        began = time.monotonic()
        generators.halt()
        assert await sink.silent_after(began) < 0.5
        assert (await task).void == "stopped"


async def test_a_program_hears_the_end_of_its_input_and_its_last_words_are_kept(
    api: KubeApi, namespace: str, speaking_pod: str
) -> None:
    channel = await PodChannel.open(api, namespace, speaking_pod, "main", "agent")
    channel.write(bootstrap("agent")[1])
    said = channel.lines()
    assert b'"hello"' in await anext(said)
    channel.close()
    assert [line async for line in said] == []
    channel = await PodChannel.open(api, namespace, speaking_pod, "main", "agent")
    channel.write(b"this is no program " * 5000)
    assert [line async for line in channel.lines()] == []
    assert "zlib.error" in channel.last_words
    assert "ended with status 1" in channel.last_words
    channel.write(b"nobody is there")


async def test_what_nobody_reads_is_not_kept(
    api: KubeApi, namespace: str, speaking_pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_channel, "MAX_UNSENT", 1000)
    channel = await PodChannel.open(api, namespace, speaking_pod, "main", "agent")
    for _ in range(11):
        channel.write(b"x" * 100)
    assert "doesn't read: 1100 bytes" in channel.last_words
    assert [line async for line in channel.lines()] == []


async def test_a_pod_that_is_not_there_is_said(api: KubeApi, namespace: str) -> None:
    with pytest.raises(KubeError, match='pods "nobody" not found'):
        await PodChannel.open(api, namespace, "nobody", "main", "agent")


@pytest.mark.measures
@pytest.mark.parametrize(
    ("lose", "within", "why"),
    [(Relay.cut, 1.0, "gen-[01]: lost: "), (Relay.freeze, 3.5, "gen-[01]: (lost: |nothing was heard)")],
)
async def test_pods_fall_silent_without_the_api_server(
    misbehaving: FakeCluster,
    namespace: str,
    speaking_pod: str,
    sink: Sink,
    lose: Callable[[Relay], None],
    within: float,
    why: str,
) -> None:
    relay = Relay(misbehaving)
    spec = ClusterSpec(name="k3s", kubeconfig=str(misbehaving.kubeconfig), jump=("relay",))
    async with KubeApi.open(spec, relay) as api, running(api, namespace, speaking_pod, sink) as generators:
        task = asyncio.create_task(generators.trial(Order(phase=Phase.FIXED, rate=1000, seconds=30)))
        await sink.flowing()
        began = time.monotonic()
        lose(relay)
        assert await sink.silent_after(began) < within
        with pytest.raises(LoadError, match=why):
            await task
        relay.thawed.set()


async def test_a_shell_without_python_says_so(
    misbehaving: FakeCluster, api: KubeApi, namespace: str, speaking_pod: str
) -> None:
    async def bare(call: ExecCall) -> int:
        assert call.argv[:2] == ["/bin/sh", "-c"]
        assert not call.tty
        await call.out(b'{"ev":"error","why":"no python3 of 3.8 or later"}\n')
        return 0

    misbehaving.scripts.execs.add(namespace, speaking_pod, bare)
    channel = await PodChannel.open(api, namespace, speaking_pod, "main", "agent")
    assert [line async for line in channel.lines()] == [b'{"ev":"error","why":"no python3 of 3.8 or later"}']
