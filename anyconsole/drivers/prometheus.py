"""Queries per second of every instance as the profile's Prometheus knows them, with the age of its samples.

`prometheus-api-client` blocks, so it is imported and used in threads of its own, never on the event loop.
"""

from __future__ import annotations

import asyncio
import io
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from anyconsole.drivers.ssh.fault import Fault, SshError, delay, plain
from anyconsole.model.facts import Link, LinkState, QueryRates
from anyconsole.model.inventory import Inventory, PrometheusSpec

if TYPE_CHECKING:
    import requests
    from requests.adapters import HTTPAdapter

__all__ = ["OpenTunnel", "PrometheusDriver", "Reading", "read_series"]

OpenTunnel: TypeAlias = Callable[[str, str, int], AbstractAsyncContextManager[int]]
"""`open_tunnel(via, host, port)`: a local port that leads there over a jump host."""

NAME: Final = "prometheus"
DEADLINE: Final = 8.0
MAX_ANSWER: Final = 16 << 20
T = TypeVar("T")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at Prometheus gave: rates, and how many series were about no node or tenant of the profile."""

    rates: tuple[QueryRates, ...] = ()
    ignored: int = 0


class PrometheusError(SshError):
    """Prometheus answered with something else than rates."""

    def __init__(self, detail: str) -> None:
        super().__init__(Fault.PROBE, detail)


class PrometheusDriver:
    """Asks the profile's Prometheus at its interval and emits `QueryRates`, and a `Link` fact about itself."""

    def __init__(
        self, inventory: Inventory, emit: Callable[[Sequence[QueryRates | Link]], None], open_tunnel: OpenTunnel
    ) -> None:
        if inventory.prometheus is None:
            raise ValueError("the profile has no Prometheus")
        self._inventory = inventory
        self._spec: PrometheusSpec = inventory.prometheus
        self._emit = emit
        self._open_tunnel = open_tunnel
        self._rng = random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._failures = 0
        self._fact: Link | None = None
        self._hung: asyncio.Future[Any] | None = None

    async def run(self) -> None:
        """Ask until cancelled. A Prometheus that can't be reached is a state, not an exception."""
        self._show(LinkState.CONNECTING)
        while True:
            try:
                await self._watch()
            except SshError as error:
                wait = delay(error.fault, self._failures, self._rng)
                self._failures += 1
                # What waits for the operator on a node's link is worth a look now and then here: somebody may mend the jump host.
                wait = max(self._inventory.poll.prometheus, 30.0 if wait is None else wait)
                self._show(LinkState.BACKOFF, error.fault, self._scrub(str(error)), time.time() + wait)
                await asyncio.sleep(wait)

    async def _watch(self) -> None:
        """Ask at the interval, over one tunnel if there is one, until something fails. Always raises SshError."""
        where = urlsplit(self._spec.url)
        if where.scheme not in {"http", "https"} or not where.hostname:
            raise PrometheusError("the profile's prometheus.url is not http://host:port or https://host:port")
        async with AsyncExitStack() as stack:
            local_port = 0
            if self._spec.via:
                port = where.port or (443 if where.scheme == "https" else 80)
                local_port = await stack.enter_async_context(self._open_tunnel(self._spec.via, where.hostname, port))
            while True:
                began = time.monotonic()
                reading = await self._look(local_port)
                self._failures = 0
                ignored = f", {reading.ignored} series of unknown nodes or tenants ignored" if reading.ignored else ""
                self._show(LinkState.LIVE, detail=f"{len(reading.rates)} instances{ignored}")
                if reading.rates:
                    self._emit(reading.rates)
                await asyncio.sleep(max(0.1, self._inventory.poll.prometheus - (time.monotonic() - began)))

    async def _look(self, local_port: int) -> Reading:
        if self._hung is not None and not self._hung.done():
            raise SshError(Fault.TIMEOUT, f"{self._place}: still waiting for an earlier answer")
        spec = self._spec
        asked = time.time()
        future = self._hung = _in_thread(lambda: _query(spec, local_port))
        try:
            async with asyncio.timeout(DEADLINE):
                values, times = await asyncio.shield(future)
        except TimeoutError:
            raise SshError(Fault.TIMEOUT, f"{self._place}: no answer in {DEADLINE:.0f} s") from None
        except SshError as error:
            raise SshError(error.fault, f"{self._place}: {error}") from None
        return read_series(values, times, self._inventory, spec, asked)

    @property
    def _place(self) -> str:
        via = f" through {self._spec.via}" if self._spec.via else ""
        return f"Prometheus {_without_credentials(self._spec.url)}{via}"

    def _scrub(self, text: str) -> str:
        where = urlsplit(self._spec.url)
        for secret in {where.password, unquote(where.password or "")} - {None, ""}:
            text = text.replace(str(secret), "***")
        return text

    def _show(self, state: LinkState, error: str = "", detail: str = "", retry_at: float = 0.0) -> None:
        old = self._fact
        now = time.time()
        if old is not None and (old.state, old.detail, old.retry_at) == (state, detail, retry_at):
            return
        since = old.since if old is not None and old.state is state else now
        self._fact = Link(
            node=NAME,
            section="link",
            at=now,
            state=state,
            since=since,
            error=str(error),
            detail=detail,
            retry_at=retry_at,
        )
        self._emit([self._fact])


def read_series(values: object, times: object, inventory: Inventory, spec: PrometheusSpec, now: float) -> Reading:
    """Turn two instant vectors into rates: the values, and the times of the samples behind them.

    An instant query stamps its result with the time of the query, however old the sample is; `timestamp()` of the same expression tells
    the sample's own time if the expression is a plain series, and so a Prometheus that lost its target doesn't look fresh. Only the
    difference of the two is used, counted back from `now`, when it was asked on our clock: its own clock need not be right.

    Raises:
        PrometheusError: The answer is no instant vector.
    """
    nodes = {node.name for node in inventory.nodes}
    tenants = {tenant.name for tenant in inventory.tenants}
    sampled = {labels: value for labels, _, value in _vector(times, spec) if math.isfinite(value)}
    rates: dict[tuple[str, str], QueryRates] = {}
    ignored = 0
    for labels, at, value in _vector(values, spec):
        node, tenant = labels
        if node not in nodes or tenant not in tenants or labels in rates or not math.isfinite(value) or value < 0:
            ignored += 1
            continue
        rates[labels] = QueryRates(
            node=node,
            # A section of its own: the samples of another tenant say nothing about how old this one is.
            section=f"{NAME}:{tenant}",
            at=now - max(0.0, at - sampled.get(labels, at)),
            tenant=tenant,
            source=NAME,
            qps=value,
        )
    return Reading(rates=tuple(rates.values()), ignored=ignored)


def _vector(answer: object, spec: PrometheusSpec) -> list[tuple[tuple[str, str], float, float]]:
    """((node, tenant), time, value) of each series."""
    if not isinstance(answer, list):
        raise PrometheusError("the answer is no instant vector")
    found = []
    for series in answer:
        match series:
            case {"metric": Mapping() as metric, "value": [int() | float() as at, str() as text]} if 0 <= at < 1e11:
                try:
                    value = float(text)
                except ValueError:
                    raise PrometheusError(f"{text[:40]!r} is no sample value") from None
                labels = (str(metric.get(spec.node_label, "")), str(metric.get(spec.tenant_label, "")))
                found.append((labels, float(at), value))
            case _:
                raise PrometheusError(
                    f"prometheus.qps must give one sample per instance, it gave {plain(repr(series), 80)}"
                )
    return found


def _query(spec: PrometheusSpec, local_port: int) -> tuple[object, object]:
    """Both queries, blocking. Runs in a thread, which alone pays for the imports. Raises SshError."""
    import requests  # noqa: PLC0415
    from prometheus_api_client import PrometheusConnect  # noqa: PLC0415
    from prometheus_api_client.exceptions import PrometheusApiClientException  # noqa: PLC0415

    where = urlsplit(spec.url)
    auth = (unquote(where.username), unquote(where.password or "")) if where.username else None
    session = _session(through_tunnel=bool(local_port))
    url, headers = _without_credentials(spec.url), None
    if local_port:
        url = urlunsplit((where.scheme, f"127.0.0.1:{local_port}", where.path, "", ""))
        headers = {"Host": urlsplit(_without_credentials(spec.url)).netloc}
    url = url.rstrip("/")
    try:
        with PrometheusConnect(
            url=url, headers=headers, auth=auth, session=session, timeout=DEADLINE, retry=0
        ) as client:
            if local_port and where.scheme == "https":
                session.mount(url, _named_adapter(where.hostname or ""))
            values = client.custom_query(spec.qps)
            times = client.custom_query(f"timestamp({spec.qps})")
    except requests.Timeout as error:
        raise SshError(Fault.TIMEOUT, "no answer in time") from error
    except requests.ConnectionError as error:
        text = plain(str(error))
        refused = "refused" in text or "Connection aborted" in text
        raise SshError(Fault.REFUSED if refused else Fault.UNREACHABLE, text) from error
    except (requests.RequestException, PrometheusApiClientException, ValueError, LookupError, TypeError) as error:
        raise PrometheusError(plain(str(error)) or type(error).__name__) from error
    return values, times


def _session(*, through_tunnel: bool) -> requests.Session:
    import requests  # noqa: PLC0415

    session = requests.Session()
    session.stream = True
    # A redirect would leave the tunnel, and take the credentials with it.
    session.max_redirects = 0
    # Neither a proxy of the environment nor ~/.netrc has anything to do with a forwarded port.
    session.trust_env = not through_tunnel
    session.hooks["response"] = [_bounded]
    return session


def _named_adapter(host: str) -> HTTPAdapter:
    """TLS through a forwarded port: the certificate must be the real host's, not 127.0.0.1's."""
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    class Named(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - urllib3's business
            super().init_poolmanager(*args, **kwargs, server_hostname=host, assert_hostname=host)

    return Named(max_retries=0)


def _bounded(response: requests.Response, **_: object) -> requests.Response:
    """The same response with its body read, unless it is larger than any fleet's answer."""
    import requests  # noqa: PLC0415

    body = bytearray()
    for chunk in response.iter_content(65536):
        body += chunk
        if len(body) > MAX_ANSWER:
            response.close()
            raise requests.RequestException(f"the answer is longer than {MAX_ANSWER >> 20} MiB")
    copy = requests.Response()
    copy.status_code = response.status_code
    copy.headers = response.headers
    copy.url = response.url
    copy.encoding = response.encoding
    copy.raw = io.BytesIO(bytes(body))
    return copy


def _without_credentials(url: str) -> str:
    where = urlsplit(url)
    return urlunsplit((where.scheme, where.netloc.rpartition("@")[2], where.path, "", ""))


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` in a daemon thread: unlike an executor's, it can't hold up our exit when its peer hangs."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
            future.exception()  # somebody may have stopped waiting
        else:
            future.set_result(cast("T", result))

    def body() -> None:
        result, failure = None, None
        try:
            result = work()
        except SshError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - handed on to the loop
            failure = PrometheusError(plain(repr(error)))
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            # The loop was closed meanwhile: nobody is interested any more.
            return

    threading.Thread(target=body, name=NAME, daemon=True).start()
    return future
