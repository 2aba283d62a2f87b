"""Queries per second from Prometheus: honest about age, deaf to what the profile doesn't know, never in the event loop's way."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.drivers.prometheus import PrometheusDriver, PrometheusError, read_series
from anyconsole.drivers.ssh.fault import Fault, SshError
from anyconsole.model.facts import Link, LinkState, QueryRates
from anyconsole.model.inventory import Inventory, NodeSpec, PollSpec, PrometheusSpec, Tenant

Answer = Callable[[str], object]


def tenant(name: str, number: int) -> Tenant:
    return Tenant(name=name, number=number, prefixes=(), addresses=(), zones=())


def inventory(
    url: str = "http://127.0.0.1:9", via: str = "", qps: str = "anycast:qps", interval: float = 0.1
) -> Inventory:
    return Inventory(
        name="t",
        poll=PollSpec(prometheus=interval),
        nodes=(NodeSpec(name="fra1", site="fra", address="fra1"), NodeSpec(name="ams1", site="ams", address="ams1")),
        tenants=(tenant("de", 1), tenant("nic", 2)),
        prometheus=PrometheusSpec(url=url, qps=qps, via=via),
    )


INVENTORY = inventory()
SPEC = INVENTORY.prometheus or PrometheusSpec(url="", qps="")


def series(node: str, tenant: str, value: str, at: float = 1000.0) -> dict[str, object]:
    return {"metric": {"node": node, "tenant": tenant}, "value": [at, value]}


def test_a_sample_keeps_its_own_time_however_fresh_the_query_is() -> None:
    reading = read_series(
        [series("fra1", "de", "12.5", 1000.0)], [series("fra1", "de", "812.25", 1000.0)], INVENTORY, SPEC, 1000.0
    )
    assert reading.rates == (
        QueryRates(node="fra1", section="prometheus:de", at=812.25, tenant="de", source="prometheus", qps=12.5),
    )


def test_a_sample_is_never_younger_than_the_query() -> None:
    for sampled in ("99999", "NaN", "+Inf"):
        reading = read_series([series("fra1", "de", "1")], [series("fra1", "de", sampled)], INVENTORY, SPEC, 1000.0)
        assert reading.rates[0].at == 1000.0


def test_a_wrong_clock_of_prometheus_makes_no_sample_younger_or_older() -> None:
    for its_clock in (1000.0, 9000.0, 200.0):
        values = [series("fra1", "de", "1", its_clock)]
        times = [series("fra1", "de", str(its_clock - 40), its_clock)]
        assert read_series(values, times, INVENTORY, SPEC, 1000.0).rates[0].at == 960.0


@pytest.mark.parametrize("at", [10**400, 1e300, float("inf"), float("nan"), -1])
def test_a_time_that_is_none_is_refused_and_stops_nothing(at: float) -> None:
    with pytest.raises(PrometheusError):
        read_series([series("fra1", "de", "1", at)], [], INVENTORY, SPEC, 1000.0)


def test_series_of_strangers_and_numbers_that_are_none_are_counted_not_shown() -> None:
    values = [
        series("fra1", "de", "1"), series("fra9", "de", "1"), series("fra1", "com", "1"), series("ams1", "de", "NaN"),
        series("ams1", "nic", "+Inf"), series("fra1", "nic", "-1"), series("fra1", "de", "2"), {"metric": {}, "value": [1, "3"]},
    ]  # fmt: skip
    reading = read_series(values, [], INVENTORY, SPEC, 1000.0)
    assert [(r.node, r.tenant, r.qps) for r in reading.rates] == [("fra1", "de", 1.0)]
    assert reading.ignored == 7


@pytest.mark.parametrize("answer", [None, {}, "x", [1], [[1, "2"]], [{"metric": {}}], [{"metric": {}, "values": [[1, "2"]]}],
                                    [{"metric": {}, "value": [1, "x"]}], [{"metric": {}, "value": ["1", "1"]}]])  # fmt: skip
def test_what_is_no_instant_vector_is_refused_not_half_read(answer: object) -> None:
    with pytest.raises(PrometheusError):
        read_series(answer, [], INVENTORY, SPEC, 1000.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from(["metric", "value", "node"]),
    lambda c: (
        st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(["metric", "value", "node", "tenant"]), c, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_any_json_is_read_or_refused(values: object, times: object) -> None:
    said = ""
    try:
        read_series(values, times, INVENTORY, SPEC, 1000.0)
    except PrometheusError as error:
        said = str(error)
    assert len(said) < 300


class QuietServer(ThreadingHTTPServer):
    """Says nothing about clients that hang up: that is what some tests are about."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


class FakePrometheus:
    """An HTTP server in a thread; `answer` maps a query to a result, a status, or bytes."""

    def __init__(self) -> None:
        self.answer: Answer = lambda query: [
            series("fra1", "de", "700" if "timestamp" in query else "5.5", time.time())
        ]
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.threads: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query).get("query", [""])[0]
                outer.requests.append((query, dict(self.headers)))
                result = outer.answer(query)
                status = result if isinstance(result, int) else 200
                body = result if isinstance(result, bytes) else b"secret in body" if isinstance(result, int) else b""
                if not isinstance(result, int | bytes):
                    body = json.dumps(
                        {"status": "success", "data": {"resultType": "vector", "result": result}}
                    ).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def prometheus() -> Iterator[FakePrometheus]:
    fake = FakePrometheus()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


class Seen:
    def __init__(self) -> None:
        self.facts: list[QueryRates | Link] = []
        self._news = asyncio.Event()

    def emit(self, updates: Sequence[QueryRates | Link]) -> None:
        self.facts.extend(updates)
        self._news.set()

    @property
    def link(self) -> Link:
        return [f for f in self.facts if isinstance(f, Link)][-1]

    async def until(self, state: LinkState) -> Link:
        async with asyncio.timeout(8):
            while not any(isinstance(f, Link) for f in self.facts) or self.link.state is not state:
                self._news.clear()
                await self._news.wait()
        return self.link


@asynccontextmanager
async def no_tunnel(via: str, host: str, port: int) -> AsyncIterator[int]:
    assert not via, (host, port)
    yield 0


@asynccontextmanager
async def running(profile: Inventory, open_tunnel: object = no_tunnel) -> AsyncIterator[Seen]:
    seen = Seen()
    task = asyncio.create_task(PrometheusDriver(profile, seen.emit, open_tunnel).run())  # type: ignore[arg-type]
    try:
        yield seen
    finally:
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)


async def test_rates_arrive_with_a_live_link(prometheus: FakePrometheus) -> None:
    async with running(inventory(prometheus.url)) as seen:
        link = await seen.until(LinkState.LIVE)
        await asyncio.sleep(0.3)
    assert (link.node, link.section) == ("prometheus", "link")
    rates = [f for f in seen.facts if isinstance(f, QueryRates)]
    assert len(rates) >= 2
    assert rates[0].qps == 5.5
    assert rates[0].at == pytest.approx(700.0, abs=2)
    assert {q for q, _ in prometheus.requests} == {"anycast:qps", "timestamp(anycast:qps)"}


async def test_ignored_series_are_told_in_the_links_detail(prometheus: FakePrometheus) -> None:
    prometheus.answer = lambda _: [series("fra1", "de", "1"), series("xxx", "de", "1")]
    async with running(inventory(prometheus.url)) as seen:
        assert "1 series of unknown nodes or tenants ignored" in (await seen.until(LinkState.LIVE)).detail


async def test_nobody_listening_is_a_state_with_a_retry_and_it_recovers(
    prometheus: FakePrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anyconsole.drivers.prometheus.delay", lambda *_: 0.1)
    good = prometheus.answer
    prometheus.answer = lambda _: 503
    async with running(inventory(prometheus.url)) as seen:
        down = await seen.until(LinkState.BACKOFF)
        assert down.error == "probe"
        assert "503" in down.detail
        assert down.retry_at > down.at
        prometheus.answer = good
        await seen.until(LinkState.LIVE)
    async with running(inventory("http://127.0.0.1:9")) as seen:
        assert (await seen.until(LinkState.BACKOFF)).error == "refused"


async def test_a_hanging_prometheus_stops_neither_the_loop_nor_the_exit(
    prometheus: FakePrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anyconsole.drivers.prometheus.DEADLINE", 0.4)
    gate = threading.Event()

    def hang(_: str) -> list[object]:
        gate.wait(5)
        return []

    prometheus.answer = hang
    async with running(inventory(prometheus.url)) as seen:
        lag = 0.0
        for _ in range(20):
            began = time.monotonic()
            await asyncio.sleep(0.01)
            lag = max(lag, time.monotonic() - began)
        assert lag < 0.3
        assert (await seen.until(LinkState.BACKOFF)).error == "timeout"
    gate.set()


async def test_credentials_are_sent_and_never_shown(prometheus: FakePrometheus) -> None:
    url = f"http://viewer:s3cr%40t@127.0.0.1:{prometheus.port}"
    async with running(inventory(url)) as seen:
        await seen.until(LinkState.LIVE)
        prometheus.answer = lambda _: 401
        down = await seen.until(LinkState.BACKOFF)
    assert prometheus.requests[0][1]["Authorization"].startswith("Basic ")
    for fact in seen.facts:
        assert not isinstance(fact, Link) or not any(secret in fact.detail for secret in ("s3cr", "viewer:"))
    assert "401" in down.detail


async def test_a_redirect_is_not_followed(prometheus: FakePrometheus) -> None:
    prometheus.answer = lambda _: 302
    async with running(inventory(prometheus.url)) as seen:
        assert (await seen.until(LinkState.BACKOFF)).error == "probe"


async def test_an_endless_answer_is_cut_off(prometheus: FakePrometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyconsole.drivers.prometheus.MAX_ANSWER", 1 << 20)
    prometheus.answer = lambda _: b"x" * (3 << 20)
    async with running(inventory(prometheus.url)) as seen:
        assert "longer than 1 MiB" in (await seen.until(LinkState.BACKOFF)).detail


async def test_via_goes_through_the_tunnel_and_opens_a_new_one_after_its_loss(
    prometheus: FakePrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anyconsole.drivers.prometheus.delay", lambda *_: 0.1)
    opened: list[tuple[str, str, int]] = []
    ports = [prometheus.port, 9, prometheus.port]

    @asynccontextmanager
    async def open_tunnel(via: str, host: str, port: int) -> AsyncIterator[int]:
        opened.append((via, host, port))
        if len(opened) == 2:
            raise SshError(Fault.REFUSED, "jump is away")
        yield ports[min(len(opened), 3) - 1]

    async with running(inventory("http://prometheus.example:9090/path/", via="jump"), open_tunnel) as seen:
        await seen.until(LinkState.LIVE)
        prometheus.answer = lambda _: 500
        down = await seen.until(LinkState.BACKOFF)
        assert "through jump" in down.detail
        prometheus.answer = lambda _: [series("fra1", "de", "1")]
        await seen.until(LinkState.LIVE)
    assert opened[0] == ("jump", "prometheus.example", 9090)
    assert len(opened) >= 3
    assert prometheus.requests[0][1]["Host"] == "prometheus.example:9090"


async def test_a_url_that_is_none_is_explained() -> None:
    async with running(inventory("prometheus:9090")) as seen:
        assert "prometheus.url" in (await seen.until(LinkState.BACKOFF)).detail
