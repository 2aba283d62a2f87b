"""How requests get to an API server: signed in, through proxy or tunnel, over TLS with the right name, and what went wrong if they don't.

Credentials that end are fetched anew, a tunnel that is gone is opened anew. Nothing is sent twice that might have been done already.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import yarl
from multidict import CIMultiDict

from anyconsole import __version__
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.kubeconfig import Login, sign_in
from anyconsole.drivers.prometheus import OpenTunnel
from anyconsole.drivers.ssh.fault import Fault, SshError, plain
from anyconsole.model.inventory import ClusterSpec

__all__ = ["MAX_LINE", "Connection", "Query", "Value", "idle", "within"]

Value: TypeAlias = str | int | bool | Sequence[str]
"""Of a query: several are sent as the same parameter several times."""
Query: TypeAlias = Mapping[str, Value]
"""Parameters by name. Python's own words get an underscore: `continue_`."""

MAX_LINE: Final = 4 << 20
_HANDSHAKE: Final = 30.0
_CONNECT: Final = 10.0
_EARLY: Final = 30.0
"""Seconds before credentials end that new ones are fetched."""
_SIGN_IN_PAUSES: Final = (10.0, 320.0)
"""Seconds from one sign-in to the next, the longer the more of them were in vain: a plugin may open a browser each time."""


class Connection:
    """The way to one API server. What comes back is aiohttp's, what is raised is KubeError.

    Attributes:
        login: How we are signed in now.
    """

    def __init__(self, spec: ClusterSpec, open_tunnel: OpenTunnel, login: Login) -> None:
        self.login = login
        self._spec = spec
        self._open_tunnel = open_tunnel
        self._signed_in = float("-inf")
        self._pause = _SIGN_IN_PAUSES[0]
        self._signing_in = asyncio.Lock()
        self._session = _new_session(login)
        self._retired: list[aiohttp.ClientSession] = []
        self._tunnel: AsyncExitStack | None = None
        self._port = 0
        self._opening = asyncio.Lock()

    async def request(
        self,
        method: str,
        path: str,
        query: Query,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
        data: bytes | None = None,
        content_type: str = "",
        accept: str = "",
    ) -> aiohttp.ClientResponse:
        """Send a request; an answer that refuses it is an answer too. Its body isn't read yet, and it must be closed."""
        login = await self._current_login()
        while True:
            base, headers = await self._route(login)
            if data is not None:
                headers["Content-Type"] = content_type
            if accept:
                headers["Accept"] = accept
            try:
                answer = await self._session.request(
                    method,
                    _url(base, path, query),
                    data=data,
                    headers=headers,
                    timeout=timeout,
                    proxy=self._proxy(login),
                    server_hostname=login.server_name,
                    # Credentials go to the server that the kubeconfig names, and to no other.
                    allow_redirects=False,
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                await self._give_up_tunnel(error)
                raise self.failure(error, sent=method != "GET") from None
            if answer.status != 401 or not await self._sign_in_anew(login):
                return answer
            # The connection goes with the certificate that it was opened with.
            answer.close()
            login = self.login

    async def websocket(
        self, path: str, query: Query, protocols: Iterable[str], heartbeat: float | None
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket. A refused one has a status but no reason, for the handshake has no body."""
        login = await self._current_login()
        while True:
            base, headers = await self._route(login)
            # What comes over a WebSocket has no media type: whoever asks for JSON is refused with 406.
            headers["Accept"] = "*/*"
            try:
                async with asyncio.timeout(_HANDSHAKE):
                    return await self._session.ws_connect(
                        _url(base, path, query),
                        protocols=protocols,
                        headers=headers,
                        proxy=self._proxy(login),
                        server_hostname=login.server_name,
                        heartbeat=heartbeat,
                        max_msg_size=MAX_LINE,
                    )
            except aiohttp.WSServerHandshakeError as error:
                if error.status == 401 and await self._sign_in_anew(login):
                    login = self.login
                    continue
                raise KubeError(f"{self._spec.name}: no WebSocket ({error.status})", status=error.status) from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                await self._give_up_tunnel(error)
                raise self.failure(error, sent=False) from None

    def failure(self, error: Exception, *, sent: bool) -> KubeError:
        """What happened to a request that got no answer, in words."""
        where = f"{self._spec.name}: {_without_user(self.login.server)}"
        if self._spec.jump:
            where += f" through {','.join(self._spec.jump)}"
        elif self.login.proxy:
            where += f" through proxy {_without_user(self.login.proxy)}"
        fault, words = _fault(error)
        if fault is Fault.NEGOTIATION:
            words += f" ({self.login.origin})"
        text = self.login.scrub(f"{where}: {words}")
        never_sent = isinstance(error, _NEVER_SENT)
        return KubeError(text, fault=fault, maybe_done=sent and not never_sent)

    async def tunnel(self) -> int:
        """The local port that leads through the jump hosts to the API server, opened if need be; 0 without any. Raises KubeError."""
        return await self._tunnel_to(self.login.server) if self._spec.jump else 0

    async def close(self) -> None:
        """Close everything."""
        for session in (self._session, *self._retired):
            await session.close()
        if self._tunnel is not None:
            await self._tunnel.aclose()

    async def _current_login(self) -> Login:
        login = self.login
        if login.expires is not None and time.time() > login.expires - _EARLY:
            await self._sign_in_anew(login)
        return self.login

    async def _sign_in_anew(self, used: Login) -> bool:
        """Fetch credentials again. Whether there are others now than those that were used; never tried often."""
        async with self._signing_in:
            if self.login is not used:
                return True
            now = time.monotonic()
            if now - self._signed_in < self._pause:
                return False
            self._signed_in = now
            self._pause = min(2 * self._pause, _SIGN_IN_PAUSES[1])
            fresh = await sign_in(self._spec)
            changed = (fresh.authorization, fresh.identity) != (used.authorization, used.identity)
            if fresh.identity != used.identity or fresh.server != used.server:
                # Streams that run on the old one end in their own time; requests take the new one.
                self._retired.append(self._session)
                self._session = _new_session(fresh)
                if len(self._retired) > 4:
                    await self._retired.pop(0).close()
            if changed:
                self._pause = _SIGN_IN_PAUSES[0]
            fresh.secrets |= used.secrets
            self.login = fresh
            return changed

    async def _route(self, login: Login) -> tuple[str, CIMultiDict[str]]:
        """Where to send a request to, and its headers."""
        headers = CIMultiDict({"User-Agent": f"anyconsole/{__version__}", "Accept": "application/json"})
        if authorization := login.current_authorization():
            headers["Authorization"] = authorization
        for header, value in login.headers:
            headers.add(header, value)
        if not self._spec.jump:
            return login.server, headers
        where = urlsplit(login.server)
        headers["Host"] = where.netloc
        return f"{where.scheme}://127.0.0.1:{await self._tunnel_to(login.server)}{where.path}", headers

    async def _tunnel_to(self, server: str) -> int:
        where = urlsplit(server)
        async with self._opening:
            if not self._port:
                via, port = ",".join(self._spec.jump), where.port or (443 if where.scheme == "https" else 80)
                tunnel = AsyncExitStack()
                try:
                    self._port = await tunnel.enter_async_context(self._open_tunnel(via, where.hostname or "", port))
                except SshError as error:
                    raise KubeError(f"{self._spec.name}: {error}", fault=error.fault) from None
                self._tunnel = tunnel
            return self._port

    async def _give_up_tunnel(self, error: Exception) -> None:
        """Nobody listens where the tunnel was: the next request opens another."""
        if not isinstance(error, _LOST_TUNNEL):
            return
        async with self._opening:
            if self._tunnel is not None:
                tunnel, self._tunnel, self._port = self._tunnel, None, 0
                await tunnel.aclose()

    def _proxy(self, login: Login) -> str | None:
        return None if self._spec.jump else login.proxy


def _new_session(login: Login) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        ssl=login.context if login.context is not None else True,
        # Each watch holds a connection: any limit would one day let requests wait for ever.
        limit=0,
        socket_factory=_socket,
    )
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=256 << 10, middlewares=(_once,)
    )


class _UnansweredError(aiohttp.ClientError):
    """The connection was lost before an answer came."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send PUT and DELETE once: by itself, aiohttp sends them again if the connection is lost, and what was done is then a conflict."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if request.method == "GET" or isinstance(error, _NEVER_SENT):
            raise
        raise _UnansweredError from error


def within(deadline: float) -> aiohttp.ClientTimeout:
    """A request and its answer, whole, in so many seconds."""
    return aiohttp.ClientTimeout(total=deadline, sock_connect=_CONNECT)


def idle(seconds: float | None) -> aiohttp.ClientTimeout:
    """An answer without an end, given up after so many seconds without a byte."""
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=seconds)


def _url(base: str, path: str, query: Query) -> yarl.URL:
    """A URL whose path is taken as it is: names in it can't lead elsewhere."""
    if not path.startswith("/") or {"", ".", ".."} & set(path[1:].split("/")):
        raise KubeError(f"{plain(path, 80)} is no path of the API")
    pairs = []
    for key, value in query.items():
        values = [_said(value)] if isinstance(value, str | int) else value
        pairs += [(key.rstrip("_"), one) for one in values]
    return yarl.URL(base + quote(path, safe="/:") + (f"?{urlencode(pairs)}" if pairs else ""), encoded=True)


def _said(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket that notices within 35 s that nobody is there any more: a quiet watch sends nothing by which it could."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made


_NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    ValueError,
)
_LOST_TUNNEL: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ServerDisconnectedError,
    ConnectionResetError,
    _UnansweredError,
)
_UNREACHABLE: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL})


def _fault(error: Exception) -> tuple[Fault, str]:
    """The word and the words for a request that got no answer."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            cause = getattr(error, "certificate_error", error)
            return (
                Fault.NEGOTIATION,
                f"its certificate isn't trusted: {getattr(cause, 'verify_message', None) or cause}",
            )
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Fault.NEGOTIATION, f"no TLS with it: {error}"
        case aiohttp.ClientHttpProxyError():
            return Fault.REFUSED, f"the proxy refuses: {error.status} {error.message}"
        case aiohttp.ClientConnectorDNSError():
            return Fault.UNREACHABLE, "its name is not known"
        case aiohttp.ClientConnectorError() if error.os_error.errno == errno.ECONNREFUSED:
            return Fault.REFUSED, "connection refused"
        case aiohttp.ClientConnectorError() if error.os_error.errno in _UNREACHABLE:
            return Fault.UNREACHABLE, str(error.os_error.strerror)
        case aiohttp.ConnectionTimeoutError():
            return Fault.TIMEOUT, "no connection in time"
        case TimeoutError():
            return Fault.TIMEOUT, "no answer in time"
        case aiohttp.InvalidURL() | ValueError():
            return Fault.PROBE, "the request can't be made"
        case _UnansweredError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | ConnectionError():
            return Fault.LOST, "the connection was lost"
        case _:
            return Fault.RESET, str(error) or type(error).__name__


def _without_user(url: str) -> str:
    where = urlsplit(url)
    return where._replace(netloc=where.netloc.rpartition("@")[2]).geturl()
