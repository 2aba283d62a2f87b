"""Carries out a script of API calls on one cluster, and says what became of each call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.objects import holds_key
from anyconsole.drivers.kube.script import Call, Verb, parse, unmet
from anyconsole.drivers.ssh.execute import Completed
from anyconsole.drivers.transaction import Ended

__all__ = ["FIELD_MANAGER", "Preview", "Sender", "carry_out", "named", "preview"]

FIELD_MANAGER: Final = "anyconsole"
"""Who owns what we apply (server-side apply)."""

_METHODS: Final = {
    Verb.APPLY: ("PATCH", "application/apply-patch+yaml"),
    Verb.MERGE: ("PATCH", "application/merge-patch+json"),
    Verb.CREATE: ("POST", "application/json"),
    Verb.REPLACE: ("PUT", "application/json"),
    Verb.DELETE: ("DELETE", "application/json"),
}

_TRIES: Final = 8
_AWAIT: Final = 12.0
"""Seconds for which an AWAIT waits."""

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
    api: Sender,
    text: str | Sequence[Call],
    deadline: float,
    *,
    dry_run: bool = False,
    say: Callable[[str], None] | None = None,
) -> Completed:
    """Carry out a script, or its calls. What it says on standard output is a line for each call; its exit status is one of `Ended`.

    A call that is refused ends it. REFUSED says that calls before it changed something; otherwise nothing was changed, and the status
    says why. With `dry_run` the API server does everything but store it.

    Raises:
        ScriptError: It is no script.
        KubeError: The API server couldn't be asked, or not in time: the last call may or may not have been carried out.
    """
    lines: list[str] = []
    query = {"dryRun": "All"} if dry_run else {}
    calls = parse(text) if isinstance(text, str) else text
    held = _Held()
    try:
        async with asyncio.timeout(deadline):
            for call in calls:
                lines.append(await held.line(api, call, query))
                if say is not None:
                    say(lines[-1])
    except TimeoutError:
        raise KubeError(
            f"{len(lines)} of {len(calls)} calls were carried out in {deadline:g} s", maybe_done=True
        ) from None
    except _RefusedError as refused:
        has_changed = not dry_run and any(call.verb.changes for call in calls[: len(lines)])
        is_taken = refused.status == 409 and calls[len(lines)].verb is Verb.CREATE
        lines.append(str(refused))
        ended = Ended.LOCKED if is_taken else _ENDED.get(refused.status, Ended.BAD_CONFIG)
        ended = Ended.REFUSED if has_changed else ended
        return _completed(ended, lines)
    return _completed(Ended.DONE, lines)


class _RefusedError(Exception):
    """The API server won't do it, and said why."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status


class _Held:
    """What the last call expected of an object, and the version of it that had that."""

    def __init__(self) -> None:
        self._expect: Call | None = None
        self._version = ""
        self._skipped = ""

    async def line(self, api: Sender, call: Call, query: dict[str, str]) -> str:
        """Carry out one call; one that follows an EXPECT of its object only where that still holds. Raises KubeError, or _RefusedError."""
        expect, self._expect = self._expect, None
        skipped, self._skipped = self._skipped, ""
        if call.verb is Verb.EXPECT:
            try:
                self._version = await _expect(api, call)
            except _RefusedError as refused:
                if not call.else_skip or refused.status not in (404, 409):
                    raise
                self._skipped = call.path
                return f"{refused}: nothing to do there"
            self._expect = call
            return f"{named(call.path)} is as expected"
        if skipped == call.path:
            return f"{named(call.path)} is left as it is"
        if call.verb is Verb.AWAIT:
            return await _await(api, call)
        if expect is None or expect.path != call.path or call.verb not in (Verb.MERGE, Verb.DELETE):
            return await _line(api, call, query)
        for _ in range(_TRIES):
            try:
                return await _line(api, _versioned(call, self._version), query)
            except _RefusedError as refused:
                if refused.status not in (409, 412):
                    raise
            # Somebody changed the object, which needn't be what matters here.
            self._version = await _expect(api, expect)
        raise _RefusedError(f"{named(call.path)}: it changes all the time, {_TRIES} times just now", 409)


def _versioned(call: Call, version: str) -> Call:
    body = call.body or {}
    if call.verb is Verb.DELETE:
        body = body | {"preconditions": {"resourceVersion": version}}
    else:
        body = body | {"metadata": (body.get("metadata") or {}) | {"resourceVersion": version}}
    return msgspec.structs.replace(call, body=body)


async def _expect(api: Sender, call: Call) -> str:
    """The version of an object that is as expected. Raises KubeError, or _RefusedError."""
    name = named(call.path)
    try:
        found = await api.get(call.path)
    except KubeError as error:
        if not _is_refusal(error):
            raise
        raise _RefusedError(f"{name}: {error}", error.status) from error
    if words := unmet(call.body or {}, found):
        raise _RefusedError(f"{name}: {words}", 409)
    return _meta(found, "resourceVersion")


async def _await(api: Sender, call: Call) -> str:
    """Wait until an object is as expected. Raises KubeError, or _RefusedError."""
    why = named(call.path)
    try:
        async with asyncio.timeout(_AWAIT):
            while True:
                try:
                    await _expect(api, call)
                except _RefusedError as refused:
                    if refused.status not in (404, 409):
                        raise
                    why = str(refused)
                else:
                    return f"{named(call.path)} is as awaited"
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise _RefusedError(f"{why}, after {_AWAIT:g} s", 409) from None


async def _line(api: Sender, call: Call, query: dict[str, str]) -> str:
    """Carry out one call; returns what became of it. Raises KubeError, or _RefusedError."""
    name = named(call.path)
    try:
        return f"{name} {await _carry_out(api, call, query)}"
    except KubeError as error:
        if not _is_refusal(error):
            raise
        raise _RefusedError(f"{name}: {error}", error.status) from error


def _is_refusal(error: KubeError) -> bool:
    """Whether the API server decided; a server that is too busy to didn't."""
    return 400 <= error.status < 500 and error.status != 429


_ENDED: Final = {401: Ended.CANNOT_WRITE, 403: Ended.CANNOT_WRITE, 409: Ended.STALE, 412: Ended.STALE, 404: Ended.STALE}


def _completed(ended: Ended, lines: list[str]) -> Completed:
    return Completed(exit_status=int(ended), stdout=("\n".join(lines) + "\n").encode(), stderr=b"")


async def _carry_out(api: Sender, call: Call, query: dict[str, str]) -> str:
    """One call, and what it did. Raises KubeError."""
    method, content_type = _METHODS[call.verb]
    query = query | _force(call)
    before = ""
    if call.verb is Verb.APPLY and holds_key(call.body) and "data" not in (call.body or {}):
        raise _RefusedError(f"{named(call.path)}: without its key it would be emptied", 422)
    if call.verb is Verb.DELETE:
        try:
            await api.send(method, call.path, call.body, content_type=content_type, **query)
        except KubeError as error:
            if error.status == 404 and call.if_exists:
                return "is gone already"
            raise
        return "deleted"
    if call.verb is Verb.CREATE:
        try:
            made = await api.send(
                method, call.path, call.body, content_type=content_type, fieldManager=FIELD_MANAGER, **query
            )
        except KubeError as error:
            if error.status == 409 and call.unless_exists:
                return "is there already"
            raise
        return f"{_meta(made, 'name')} created".strip()
    try:
        before = _meta(await api.get(call.path), "resourceVersion")
    except KubeError as error:
        if error.status == 404 and call.if_exists:
            return "is gone already"
        if error.status != 404 or call.verb is not Verb.APPLY:
            raise
    try:
        after = await api.send(
            method, call.path, call.body, content_type=content_type, fieldManager=FIELD_MANAGER, **query
        )
    except KubeError as error:
        if error.status == 404 and call.if_exists:
            return "is gone already"
        raise
    if not before:
        return "created"
    return "unchanged" if _meta(after, "resourceVersion") == before else "configured"


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a call would do: the object as it is (None: there is none), and as it would be.

    `problem` says why it wouldn't, "" if it would; `status` is the HTTP status of that, 0 if it has none.
    """

    call: Call
    live: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    problem: str = ""
    status: int = 0


async def preview(api: Sender, call: Call, deadline: float) -> Preview:
    """What a call would do, as the API server says (dry run); nothing is stored.

    One whose namespace isn't there yet can't be tried: its problem says so. Raises KubeError if the API server couldn't be asked.
    """
    try:
        async with asyncio.timeout(deadline):
            return await _preview(api, call)
    except TimeoutError:
        raise KubeError(f"{named(call.path)}: no preview in {deadline:g} s") from None


async def _preview(api: Sender, call: Call) -> Preview:
    live = None
    try:
        if call.verb is not Verb.CREATE:
            live = await api.get(call.path)
    except KubeError as error:
        if error.status != 404:
            raise
    if not call.verb.changes:
        return Preview(call=call, live=live, after=live, problem=unmet(call.body or {}, live))
    if call.verb is Verb.DELETE:
        return Preview(call=call, live=live)
    method, content_type = _METHODS[call.verb]
    try:
        after = await api.send(
            method,
            call.path,
            call.body,
            content_type=content_type,
            fieldManager=FIELD_MANAGER,
            dryRun="All",
            **_force(call),
        )
    except KubeError as error:
        if not _is_refusal(error):
            raise
        return Preview(call=call, live=live, problem=str(error), status=error.status)
    return Preview(call=call, live=live, after=after)


def _force(call: Call) -> dict[str, str]:
    return {"force": "true"} if call.force else {}


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
