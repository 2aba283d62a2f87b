"""The plainest client there is: requests and watches as they are on the wire, with the credentials of a kubeconfig."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

Object: TypeAlias = dict[str, Any]

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
_PATIENCE = 30.0


class Answer(NamedTuple):
    """An HTTP answer: its code, and the object it carries."""

    code: int
    body: Object

    @property
    def reason(self) -> str:
        """The reason of a refusal."""
        return str(self.body.get("reason"))


class Kube:
    """One user's connection to one API server."""

    def __init__(self, kubeconfig: Path, anonymous: bool = False) -> None:
        self._kubeconfig = kubeconfig
        self._anonymous = anonymous

    def anonymous(self) -> Kube:
        """Another one at the same server, that brings no credentials but those of each request."""
        return Kube(self._kubeconfig, anonymous=True)

    async def __aenter__(self) -> Self:
        settings = kubernetes_client.Configuration()
        await kubernetes_config.load_kube_config(str(self._kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if settings.cert_file and not self._anonymous:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        token = await settings.get_api_key_with_prefix("BearerToken")
        self._url = settings.host
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            headers={"Authorization": token} if token and not self._anonymous else {},
            read_bufsize=2 << 20,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(
        self, method: str, path: str, body: object = None, content_type: str = "application/json", **headers: str
    ) -> Answer:
        """One request with a JSON answer."""
        raw = None if body is None else json.dumps(body)
        sent = {"Content-Type": content_type, **headers}
        async with self._session.request(
            method, self._url + path, data=raw, headers=sent, timeout=aiohttp.ClientTimeout(_PATIENCE)
        ) as got:
            text = await got.read()
            return Answer(got.status, json.loads(text) if text[:1] == b"{" else {"text": text.decode()})

    async def get(self, path: str, **headers: str) -> Answer:
        """GET."""
        return await self.ask("GET", path, **headers)

    async def create(self, path: str, obj: Object) -> Answer:
        """POST."""
        return await self.ask("POST", path, obj)

    async def replace(self, path: str, obj: Object) -> Answer:
        """PUT."""
        return await self.ask("PUT", path, obj)

    async def patch(self, path: str, patch: object, kind: str = MERGE) -> Answer:
        """PATCH, a merge patch unless said otherwise."""
        return await self.ask("PATCH", path, patch, kind)

    async def apply(self, path: str, obj: Object, manager: str, **options: str) -> Answer:
        """A server-side apply."""
        query = "&".join(f"{key}={value}" for key, value in {"fieldManager": manager, **options}.items())
        return await self.ask("PATCH", f"{path}?{query}", obj, APPLY)

    async def delete(self, path: str, options: Object | None = None) -> Answer:
        """DELETE."""
        return await self.ask("DELETE", path, options)

    @contextlib.asynccontextmanager
    async def watch(self, path: str, query: str, **headers: str) -> AsyncIterator[AsyncIterator[Object]]:
        """An open watch and its events, until the server ends it."""
        patience = aiohttp.ClientTimeout(total=None, sock_read=_PATIENCE)
        async with self._session.get(
            f"{self._url}{path}?watch=true&{query}", headers=headers, timeout=patience
        ) as stream:
            assert stream.status == 200, await stream.text()
            yield (json.loads(line) async for line in stream.content)

    async def events(self, path: str, query: str, **headers: str) -> list[Object]:
        """Everything that a watch says until it ends."""
        async with self.watch(path, query, **headers) as stream:
            return [event async for event in stream]

    def websocket(
        self, path: str, *protocols: str, accept: str = "*/*"
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
        """A WebSocket: exec, port-forward."""
        return self._session.ws_connect(self._url + path, protocols=protocols, headers={"Accept": accept})

    @contextlib.asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of an answer as it comes: a log that is followed."""
        async with self._session.get(
            self._url + path, timeout=aiohttp.ClientTimeout(total=None, sock_read=_PATIENCE)
        ) as got:
            assert got.status == 200, await got.text()
            yield got.content


async def until(question: Callable[[], Awaitable[bool]], patience: float = _PATIENCE) -> None:
    """Wait for what a cluster does in its own time."""
    async with asyncio.timeout(patience):
        while not await question():
            await asyncio.sleep(0.02)
