"""Carries out a script of API calls on one cluster, and says what became of each call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.script import Call, Verb, parse
from anyconsole.drivers.ssh.execute import Completed
from anyconsole.drivers.transaction import Ended

__all__ = ["FIELD_MANAGER", "Sender", "carry_out"]

FIELD_MANAGER: Final = "anyconsole"
"""Who owns what we apply (server-side apply)."""

_METHODS: Final = {
    Verb.APPLY: ("PATCH", "application/apply-patch+yaml"),
    Verb.MERGE: ("PATCH", "application/merge-patch+json"),
    Verb.CREATE: ("POST", "application/json"),
    Verb.REPLACE: ("PUT", "application/json"),
    Verb.DELETE: ("DELETE", "application/json"),
}

_GROUP: Final = re.compile(r"/apis/(?P<group>[^/]+)/[^/]+/")


class Sender(Protocol):
    """The part of `access.KubeApi` that is used here."""

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """An object. Raises KubeError."""

    async def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, content_type: str = ..., **query: str
    ) -> dict[str, Any]:
        """Change something. Raises KubeError."""


async def carry_out(
    api: Sender, text: str, deadline: float, *, dry_run: bool = False, say: Callable[[str], None] | None = None
) -> Completed:
    """Carry out a script. What it says on standard output is a line for each call; its exit status is one of `Ended`.

    A call that is refused ends it. REFUSED says that calls before it were carried out; otherwise nothing was changed, and the status
    says why. With `dry_run` the API server does everything but store it.

    Raises:
        ScriptError: It is no script.
        KubeError: The API server couldn't be asked, or not in time: the last call may or may not have been carried out.
    """
    lines: list[str] = []
    query = {"dryRun": "All"} if dry_run else {}
    calls = parse(text)
    try:
        async with asyncio.timeout(deadline):
            for call in calls:
                lines.append(await _line(api, call, query))
                if say is not None:
                    say(lines[-1])
    except TimeoutError:
        raise KubeError(
            f"{len(lines)} of {len(calls)} calls were carried out in {deadline:g} s", maybe_done=True
        ) from None
    except _RefusedError as refused:
        lines.append(str(refused))
        ended = Ended.REFUSED if len(lines) > 1 else _ENDED.get(refused.status, Ended.BAD_CONFIG)
        return _completed(ended, lines)
    return _completed(Ended.DONE, lines)


class _RefusedError(Exception):
    """The API server won't do it, and said why."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status


async def _line(api: Sender, call: Call, query: dict[str, str]) -> str:
    """Carry out one call; returns what became of it. Raises KubeError, or _RefusedError."""
    name = named(call.path)
    try:
        return f"{name} {await _carry_out(api, call, query)}"
    except KubeError as error:
        if not error.status or error.status >= 500:
            raise
        raise _RefusedError(f"{name}: {error}", error.status) from error


_ENDED: Final = {401: Ended.CANNOT_WRITE, 403: Ended.CANNOT_WRITE, 409: Ended.STALE, 412: Ended.STALE, 404: Ended.STALE}


def _completed(ended: Ended, lines: list[str]) -> Completed:
    return Completed(exit_status=int(ended), stdout=("\n".join(lines) + "\n").encode(), stderr=b"")


async def _carry_out(api: Sender, call: Call, query: dict[str, str]) -> str:
    """One call, and what it did. Raises KubeError."""
    method, content_type = _METHODS[call.verb]
    before = ""
    if call.verb is Verb.DELETE:
        try:
            await api.send(method, call.path, call.body, content_type=content_type, **query)
        except KubeError as error:
            if error.status == 404 and call.if_exists:
                return "is gone already"
            raise
        return "deleted"
    if call.verb is Verb.CREATE:
        made = await api.send(
            method, call.path, call.body, content_type=content_type, fieldManager=FIELD_MANAGER, **query
        )
        return f"{_meta(made, 'name')} created".strip()
    try:
        before = _meta(await api.get(call.path), "resourceVersion")
    except KubeError as error:
        if error.status == 404 and call.if_exists:
            return "is gone already"
        if error.status != 404 or call.verb is not Verb.APPLY:
            raise
    after = await api.send(method, call.path, call.body, content_type=content_type, fieldManager=FIELD_MANAGER, **query)
    if not before:
        return "created"
    return "unchanged" if _meta(after, "resourceVersion") == before else "configured"


def _meta(obj: dict[str, Any], key: str) -> str:
    metadata = obj.get("metadata")
    return str(metadata.get(key, "")) if isinstance(metadata, dict) else ""


def named(path: str) -> str:
    """The object of a path as kubectl words it: deployments.apps/ns in de."""
    plain = urlsplit(path).path
    group = match["group"] if (match := _GROUP.match(plain)) else ""
    parts = re.sub(r"^/(api|apis/[^/]+)/[^/]+/", "", plain).split("/")
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    kind = f"{parts[0]}.{group}" if group else parts[0]
    where = f" in {namespace}" if namespace else ""
    return "/".join([kind, *parts[1:]]) + where
