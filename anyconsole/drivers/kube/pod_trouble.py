"""Why a pod isn't ready, in one line: what an operator would look for first in `kubectl describe pod`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from anyconsole.drivers.kube.pod_status import ended, is_being_deleted, sidecars_of
from anyconsole.drivers.kube.values import LINE, WORD, Json, condition, number, part, parts, text, texts, told
from anyconsole.drivers.ssh.fault import plain

__all__ = ["trouble_of"]

_USUAL: Final = frozenset({"", "PodInitializing", "ContainerCreating"})
"""What containers wait for in every pod's life."""


def trouble_of(meta: Json, spec: Json, status: Json) -> str:
    """Why a pod that isn't ready is not, the most useful first; "" for one that has done its work."""
    if text(status, "phase", WORD) == "Succeeded":
        return ""
    return plain(next(_reasons(meta, spec, status), ""), LINE)


def _reasons(meta: Json, spec: Json, status: Json) -> Iterator[str]:
    if reason := text(status, "reason", WORD):
        yield _words(reason, text(status, "message", LINE))
    scheduled = condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        yield _words(text(scheduled, "reason", WORD) or "not scheduled", text(scheduled, "message", LINE), _gates(spec))
    if is_being_deleted(meta):
        keepers = ", ".join(texts(meta, "finalizers"))
        yield "being deleted" + (f", kept by finalizers {keepers}" if keepers else "")
    containers = _concerned(spec, status)
    yield from _waiting(containers, usual=False)
    yield from _terminated(containers)
    yield from _unready(containers)
    yield from _waiting(containers, usual=True)
    yield from _unmet(spec, status)
    ready = condition(status, "Ready")
    if ready:
        yield _words(text(ready, "reason", WORD) or "not ready", text(ready, "message", LINE))
    yield f"{text(status, 'phase', WORD) or 'nothing'} is all that is told"


def _words(*given: str) -> str:
    return ": ".join(word for word in given if word)


def _gates(spec: Json) -> str:
    return ", ".join(text(gate, "name") for gate in parts(spec, "schedulingGates"))


def _concerned(spec: Json, status: Json) -> list[Json]:
    """The statuses of the containers that may keep it from being ready: not the init containers that are done."""
    sidecars = sidecars_of(spec)
    first = [
        s
        for s in parts(status, "initContainerStatuses")
        if text(s, "name") in sidecars or not _is_done(part(s, "state"))
    ]
    return first + parts(status, "containerStatuses")


def _is_done(state: Json) -> bool:
    return told(state, "terminated") and not number(part(state, "terminated"), "exitCode")


def _waiting(containers: list[Json], *, usual: bool) -> Iterator[str]:
    for container in containers:
        waiting = part(part(container, "state"), "waiting")
        reason, message = text(waiting, "reason", WORD), text(waiting, "message", LINE)
        if not told(part(container, "state"), "waiting") or (reason in _USUAL and not message) is not usual:
            continue
        last, last_words = _last(container)
        # What it said when it died says more than that the kubelet backs off.
        yield f"{_words(text(container, 'name'), reason or 'waiting')}{last}{_after(last_words or message)}"


def _terminated(containers: list[Json]) -> Iterator[str]:
    for container in containers:
        if told(part(container, "state"), "terminated"):
            terminated = part(part(container, "state"), "terminated")
            message = text(terminated, "message", LINE)
            yield f"{_words(text(container, 'name'), _how(terminated))}{_after(message)}"


def _unready(containers: list[Json]) -> Iterator[str]:
    unready = [c for c in containers if told(part(c, "state"), "running") and c.get("ready") is not True]
    for container in unready:
        last, last_words = _last(container)
        if last:
            yield f"{text(container, 'name')}: not ready{last}{_after(last_words)}"
    if unready:
        yield "not ready: " + ", ".join(text(c, "name") for c in unready)


def _unmet(spec: Json, status: Json) -> Iterator[str]:
    wanted = [text(gate, "conditionType") for gate in parts(spec, "readinessGates")]
    unmet = [kind for kind in wanted if condition(status, kind).get("status") != "True"]
    if unmet:
        yield "waits for readiness gate " + ", ".join(unmet)


def _how(terminated: Json) -> str:
    reason = text(terminated, "reason", WORD)
    return f"{reason} (exit code {number(terminated, 'exitCode')})" if reason else ended(terminated)


def _last(container: Json) -> tuple[str, str]:
    """How it ended the time before and what it said then, "" if it never did."""
    if not told(part(container, "lastState"), "terminated"):
        return "", ""
    last = part(part(container, "lastState"), "terminated")
    return f", last {_how(last)}", text(last, "message", LINE)


def _after(message: str) -> str:
    return f": {message}" if message else ""
