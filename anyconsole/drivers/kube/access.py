"""One cluster's API: requests, watches and WebSockets as plain JSON, each with a deadline, a bound and one kind of error.

It knows nothing of what is asked: paths and objects are the callers'. How requests get there is `connection`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeAlias

import aiohttp
import msgspec

from anyconsole.drivers.kube.connection import MAX_LINE, Connection, Query, Value, idle, within
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.kubeconfig import sign_in
from anyconsole.drivers.prometheus import OpenTunnel
from anyconsole.drivers.ssh.fault import plain
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.pods import Permission

__all__ = ["MAX_LINE", "MAX_OBJECT", "MAX_PAGE", "KubeApi", "Object", "Query", "Value"]

Object: TypeAlias = dict[str, Any]

MAX_OBJECT: Final = 16 << 20
MAX_PAGE: Final = 128 << 20
_MAX_REFUSAL: Final = 65536

_SECRETS: Final = re.compile(r"/secrets(?:/[^/]+)?/?\Z")
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""All that is ever asked of Secrets: what they hold stays in the cluster."""
_DEADLINE: Final = 30.0


class KubeApi:
    """The API of one cluster, between `open` and the end of its context.

    Attributes:
        name: The cluster's name in the profile.
        turns: Held by the watch that works through what it was told.
    """

    def __init__(self, name: str, connection: Connection, deadline: float) -> None:
        self.name = name
        self.turns = asyncio.Lock()
        self._connection = connection
        self._deadline = deadline

    @classmethod
    @asynccontextmanager
    async def open(
        cls, spec: ClusterSpec, open_tunnel: OpenTunnel, deadline: float = _DEADLINE
    ) -> AsyncIterator[KubeApi]:
        """Read the kubeconfig of a cluster; nothing is connected yet.

        Args:
            spec: The cluster.
            open_tunnel: Gives a local port that leads through `spec.jump`, written as `ssh -J` has it (comma, outermost first).
            deadline: Seconds that a request and its answer may take; streams have none.

        Raises:
            KubeError: The kubeconfig can't be used.
        """
        connection = Connection(spec, open_tunnel, await sign_in(spec))
        try:
            yield cls(spec.name, connection, deadline)
        finally:
            await connection.close()

    @property
    def server(self) -> str:
        """Where the API server is, as the kubeconfig says."""
        return self._connection.login.server

    async def tunnel(self) -> int:
        """The local port that leads through jump hosts to the API server, 0 without any: for a process of ours. Raises KubeError."""
        return await self._connection.tunnel()

    async def get(self, path: str, **query: Value) -> Object:
        """One object, or whatever else is small. A query's `continue` is written `continue_`. Raises KubeError."""
        return self._object(await self.read(path, query))

    async def text(self, path: str, **query: Value) -> str:
        """The body of an answer as text. Raises KubeError."""
        return (await self.read(path, query)).decode("utf-8", "replace")

    async def read(self, path: str, query: Query, *, most: int = MAX_OBJECT, deadline: float | None = None) -> bytes:
        """The body of an answer to GET, undecoded, if it isn't longer than `most`; with a deadline of its own. Raises KubeError."""
        async with self._answer("GET", path, query, within(deadline or self._deadline)) as answer:
            return await self._body(answer, most)

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        **query: Value,
    ) -> Object:
        """A request that changes something: POST, PUT, PATCH, DELETE. It is sent once.

        Raises:
            KubeError: `maybe_done` says whether the change may have been made all the same.
        """
        data = None if body is None else msgspec.json.encode(body)
        async with self._answer(method, path, query, within(self._deadline), data, content_type) as answer:
            return self._object(await self._body(answer, MAX_OBJECT) or b"{}")

    async def lines(self, path: str, **query: Value) -> AsyncGenerator[Object, None]:
        """The events of a watch, until the server ends it. Raises KubeError."""
        async with aclosing(self.blocks(path, query)) as blocks:
            async for block in blocks:
                for line in block:
                    yield self._object(line)

    async def blocks(self, path: str, query: Query, *, silence: float = 180.0) -> AsyncGenerator[list[bytes], None]:
        """The undecoded lines of a watch as they arrive together; first none, when the server has agreed.

        Raises KubeError, also when no byte came for `silence` seconds.
        """
        async with self._answer("GET", path, query, idle(silence)) as answer:
            yield []
            held = bytearray()
            async for chunk in answer.content.iter_any():
                begins = len(held)
                held += chunk
                end = held.rfind(b"\n", begins)
                if end >= 0:
                    block = bytes(memoryview(held)[:end]).split(b"\n")
                    del held[: end + 1]
                    if max(map(len, block)) > MAX_LINE:
                        raise self._too_long(MAX_LINE)
                    yield block
                if len(held) > MAX_LINE:
                    raise self._too_long(MAX_LINE)

    async def chunks(self, path: str, query: Query) -> AsyncGenerator[bytes, None]:
        """The body of an answer as it comes, without an end: a log that is followed. Raises KubeError."""
        async with self._answer("GET", path, query, idle(None)) as answer:
            async for chunk in answer.content.iter_any():
                yield chunk

    @asynccontextmanager
    async def socket(
        self, path: str, query: Query, protocols: Iterable[str], *, heartbeat: float | None = None
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket. Raises KubeError; a refused one has a status but no reason, for the handshake has no body."""
        connection = await self._connection.websocket(path, query, protocols, heartbeat)
        async with connection:
            yield connection

    async def may(self, permission: Permission) -> bool:
        """Whether we may do something here. Raises KubeError."""
        resource, _, subresource = permission.resource.partition("/")
        attributes = {
            "verb": permission.verb,
            "group": permission.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": permission.namespace,
            "name": permission.name,
        }
        answer = await self._review(
            "authorization.k8s.io", "SelfSubjectAccessReview", {"resourceAttributes": attributes}
        )
        return isinstance(status := answer.get("status"), dict) and status.get("allowed") is True

    async def rules(self, namespace: str) -> tuple[list[object], bool]:
        """What we may do in a namespace as rules, and whether these are all that are in force there. Raises KubeError."""
        match await self._review("authorization.k8s.io", "SelfSubjectRulesReview", {"namespace": namespace}):
            case {"status": {"resourceRules": list() as rules, **more}}:
                return rules[:10_000], more.get("incomplete") is False
            case _:
                return [], False

    async def whoami(self) -> str:
        """Who we are to the server; before Kubernetes 1.28, who the kubeconfig says. Raises KubeError."""
        try:
            answer = await self._review("authentication.k8s.io", "SelfSubjectReview", {})
        except KubeError as error:
            if error.status not in {403, 404}:
                raise
            return plain(self._connection.login.user, 200)
        match answer:
            case {"status": {"userInfo": {"username": str(name)}}}:
                return plain(name, 200)
            case _:
                return plain(self._connection.login.user, 200)

    async def _review(self, group: str, kind: str, spec: Object) -> Object:
        body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
        return await self.send("POST", f"/apis/{group}/v1/{kind.lower()}s", body)

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Query,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
        data: bytes | None = None,
        content_type: str = "",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that says yes, its body not read yet. Closed at the end; the connection of one that was read is used again."""
        accept = _METADATA if _SECRETS.search(path) else ""
        answer = await self._connection.request(method, path, query, timeout, data, content_type, accept)
        try:
            if answer.status >= 300:
                raise await self._refusal(answer)
            yield answer
        except (aiohttp.ClientError, OSError) as error:
            # TimeoutError is an OSError.
            raise self._connection.failure(error, sent=method != "GET") from None
        finally:
            answer.close()

    async def _body(self, answer: aiohttp.ClientResponse, most: int) -> bytes:
        parts = []
        size = 0
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            if size > most:
                raise self._too_long(most)
            parts.append(chunk)
        return b"".join(parts)

    def _object(self, body: bytes) -> Object:
        try:
            decoded = msgspec.json.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict):
            raise KubeError(
                f"{self.name}: the answer is no JSON object: {plain(self._connection.login.scrub(_beginning(body)), 80)}"
            )
        return decoded

    async def _refusal(self, answer: aiohttp.ClientResponse) -> KubeError:
        """What a server says when it says no."""
        body = b""
        with contextlib.suppress(aiohttp.ClientError, OSError, KubeError):
            body = await self._body(answer, _MAX_REFUSAL)
        try:
            status = msgspec.json.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            status = None
        wait = answer.headers.get("Retry-After", "")
        retry_after = float(wait) if wait.isascii() and wait.isdigit() else None
        if not isinstance(status, dict) or status.get("kind") != "Status":
            status = {"message": f"{answer.reason}: {_beginning(body)}" if body else answer.reason}
        return self.told(status, answer.status, retry_after)

    def told(self, status: Object, code: int = 0, retry_after: float | None = None) -> KubeError:
        """A Status object (of an answer, a watch or an exec) as an error."""
        told = status.get("code")
        code = code or (told if isinstance(told, int) and 0 < told < 1000 else 500)
        details = status.get("details")
        details = details if isinstance(details, dict) else {}
        seconds = details.get("retryAfterSeconds")
        if retry_after is None and isinstance(seconds, int | float):
            retry_after = float(seconds)
        listed = details.get("causes")
        causes = (
            tuple(plain(str(c.get("reason")), 80) for c in listed[:20] if isinstance(c, dict))
            if isinstance(listed, list)
            else ()
        )
        message = plain(self._connection.login.scrub(str(status.get("message") or "no reason given")), 450)
        if code == 401:
            message = f"the credentials were not accepted; sign in again ({self._connection.login.origin})"
        return KubeError(
            f"{self.name}: {message} ({code})",
            status=code,
            reason=str(status.get("reason") or ""),
            retry_after=None if retry_after is None else min(max(retry_after, 0.0), 3600.0),
            causes=causes,
        )

    def _too_long(self, most: int) -> KubeError:
        return KubeError(f"{self.name}: the answer is longer than {most >> 20} MiB")


def _beginning(body: bytes) -> str:
    return body[:400].decode("utf-8", "replace")
