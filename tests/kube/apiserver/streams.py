"""The subresources that are streams: exec and port-forward over WebSocket, logs, and the proxy to a Service."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import struct

import aiohttp
from aiohttp import web

from tests.kube.apiserver import errors
from tests.kube.apiserver.objects import Object, dig, encode, items, moment_of, name_of, namespace_of
from tests.kube.apiserver.scripts import ExecCall, Scripts

_EXEC_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_HOP_BY_HOP = {
    "authorization", "connection", "content-encoding", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding",
    "upgrade",
}  # fmt: skip


def container_of(pod: Object, wanted: str) -> str:
    """The container meant; a pod with one container needs no name.

    Raises:
        ApiError: 400.
    """
    names = [container["name"] for which in ("containers", "initContainers") for container in items(pod, "spec", which)]
    if wanted:
        if wanted not in names:
            raise errors.bad_request(f"container {wanted} is not valid for pod {name_of(pod)}")
        return wanted
    default = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    mains = [container["name"] for container in items(pod, "spec", "containers")]
    if default in mains:
        return str(default)
    if len(mains) > 1:
        words = f"a container name must be specified for pod {name_of(pod)}, choose one of: [{' '.join(mains)}]"
        raise errors.bad_request(words)
    return str(mains[0])


async def exec_in(request: web.Request, pod: Object, scripts: Scripts) -> web.StreamResponse:
    """Exec: channels 0 to 4 in one WebSocket, the outcome as a Status on channel 3.

    Raises:
        ApiError: 400 when it is no WebSocket, or nothing to run is named; 406 for who asks for JSON.
    """
    _accepts_anything(request)
    query = request.query
    argv = query.getall("command", [])
    if not argv:
        raise errors.bad_request("you must specify at least 1 command for the container")
    container = container_of(pod, query.get("container", ""))
    socket = web.WebSocketResponse(protocols=_EXEC_PROTOCOLS)
    if not socket.can_prepare(request).ok:
        raise errors.bad_request("Upgrade request required")
    await socket.prepare(request)

    async def send(channel: int, data: bytes) -> None:
        for start in range(0, len(data), 32768):
            await socket.send_bytes(bytes((channel,)) + data[start : start + 32768])

    call = ExecCall(namespace_of(pod), name_of(pod), container, argv, query.get("tty") in {"true", "1"}, send)
    hook = scripts.execs.find(call.namespace, call.pod)
    running = asyncio.create_task(_outcome(call, hook))
    receiving = asyncio.create_task(_receive(socket, call, running))
    try:
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await socket.send_bytes(b"\x03" + encode(await running))
    finally:
        receiving.cancel()
        await socket.close()
    return socket


async def forward(request: web.Request, pod: Object, scripts: Scripts) -> web.StreamResponse:
    """Port-forward: one WebSocket for one connection, two channels (data, error) for each port.

    Raises:
        ApiError: 400, or 403 for the protocol that the real server refuses here; 406 for who asks for JSON.
    """
    _accepts_anything(request)
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    if "v4.channel.k8s.io" not in offered:
        raise errors.ApiError(
            403, "Forbidden", f"unable to upgrade: protocols {offered!r} are not served for portforward"
        )
    asked = [int(port) for value in request.query.getall("ports", []) for port in value.split(",")]
    if not asked:
        raise errors.bad_request('query parameter "ports" is required')
    socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
    await socket.prepare(request)
    for index, port in enumerate(asked):
        for channel in (2 * index, 2 * index + 1):
            await socket.send_bytes(bytes((channel,)) + struct.pack("<H", port))
    behind = scripts.ports.find(namespace_of(pod), name_of(pod)) or {}
    writers: dict[int, asyncio.StreamWriter] = {}
    async with asyncio.TaskGroup() as pumps:
        running = []
        for index, port in enumerate(asked):
            try:
                reader, writer = await asyncio.open_connection(*behind[port])
            except (KeyError, OSError) as error:
                words = f"error forwarding port {port} to pod: {type(error).__name__}: connection refused"
                await socket.send_bytes(bytes((2 * index + 1,)) + words.encode())
                continue
            writers[2 * index] = writer
            running.append(pumps.create_task(_pump(reader, socket, 2 * index)))
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY and (writer_of := writers.get(message.data[0])):
                writer_of.write(message.data[1:])
                await writer_of.drain()
        for task in running:
            task.cancel()
    for writer in writers.values():
        writer.close()
    return socket


async def logs(request: web.Request, pod: Object, scripts: Scripts) -> web.StreamResponse:
    """A container's log, and with follow what it says from now on.

    Raises:
        ApiError: 400, in the kubelet's words, when there is no such log yet.
    """
    query = request.query
    container = container_of(pod, query.get("container", ""))
    previous, follow = (query.get(key) in {"true", "1"} for key in ("previous", "follow"))
    where = (namespace_of(pod), name_of(pod), container)
    if previous and not scripts.has_log(*where, True):
        raise errors.bad_request(f'previous terminated container "{container}" in pod "{where[1]}" not found')
    status = next((c for c in items(pod, "status", "containerStatuses") if c.get("name") == container), None)
    reason = dig(status, "state", "waiting", "reason")
    if reason in {"ContainerCreating", "PodInitializing", "ImagePullBackOff", "ErrImagePull"}:
        raise errors.bad_request(f'container "{container}" in pod "{where[1]}" is waiting to start: {reason}')
    log = scripts.log(*where, previous)
    lines = list(log.lines)
    said = len(lines)
    if tail := query.get("tailLines"):
        lines = lines[-int(tail) :] if int(tail) else []
    if since := query.get("sinceTime"):
        lines = [line for line in lines if moment_of(line[0]) >= moment_of(since)]
    elif seconds := query.get("sinceSeconds"):
        start = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=int(seconds))
        lines = [line for line in lines if moment_of(line[0]) >= start]
    stamped = query.get("timestamps") in {"true", "1"}
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    left = int(query.get("limitBytes") or 0) or 1 << 40
    with contextlib.suppress(ConnectionError):
        while True:
            block = b"".join(
                (f"{stamp} " if stamped else "").encode() + text.encode() + b"\n" for stamp, text in lines
            )[:left]
            left -= len(block)
            if block:
                await response.write(block)
            if not follow or left <= 0:
                break
            grown = log.grown
            if len(log.lines) == said:
                await grown.wait()
            lines, said = log.lines[said:], len(log.lines)
    return response


async def service(request: web.Request, namespace: str, target: str, path: str, scripts: Scripts) -> web.StreamResponse:
    """A request through the API server to what is behind a Service: `[scheme:]name[:port]`.

    Raises:
        ApiError: 503 when nothing is behind it.
    """
    parts = target.split(":")
    name, port = (parts[1], parts[2]) if len(parts) == 3 else (parts[0], parts[1] if len(parts) == 2 else "")
    behind = scripts.services.get((namespace, name, port))
    if behind is None:
        raise errors.ApiError(503, "ServiceUnavailable", f'no endpoints available for service "{target}"')
    headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
    url = f"{behind.rstrip('/')}/{path}" + (f"?{request.query_string}" if request.query_string else "")
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        try:
            async with session.request(
                request.method, url, headers=headers, data=await request.read(), allow_redirects=False
            ) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP - {"content-encoding"}}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
        except aiohttp.ClientError as error:
            raise errors.ApiError(503, "ServiceUnavailable", f"error trying to reach service: {error}") from error


async def _outcome(call: ExecCall, hook: object) -> Object:
    success: Object = {"metadata": {}, "status": "Success"}
    if not callable(hook):
        words = f'OCI runtime exec failed: exec failed: unable to start container process: exec: "{call.argv[0]}": not found'
        return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": words, "code": 500}
    code = await hook(call)
    if code == 0:
        return success
    causes = [{"reason": "ExitCode", "message": str(code)}]
    words = f"command terminated with non-zero exit code: exit status {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": words,
        "details": {"causes": causes},
    }


def _accepts_anything(request: web.Request) -> None:
    """A stream has no media type, so there is none to agree on."""
    if "*/*" not in request.headers.get("Accept", "*/*"):
        raise errors.ApiError(406, "NotAcceptable", "only the following media types are accepted: */*")


async def _receive(socket: web.WebSocketResponse, call: ExecCall, running: asyncio.Task[Object]) -> None:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == 0 and data:
            call.feed(data)
        elif channel == 4:
            size = json.loads(data)
            call.size = (size["Width"], size["Height"])
        elif channel == 0xFF and data[:1] == b"\x00":
            call.feed(b"")
    running.cancel()


async def _pump(reader: asyncio.StreamReader, socket: web.WebSocketResponse, channel: int) -> None:
    while data := await reader.read(32768):
        await socket.send_bytes(bytes((channel,)) + data)
    await socket.close()
