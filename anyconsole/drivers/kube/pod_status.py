"""A pod in one word, its restarts and the last of them, as `kubectl get pods` prints them. Pure.

The rules are those of the API server's printer (printPod in pkg/printers/internalversion/printers.go), in its order; they are in no API.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from anyconsole.drivers.kube.values import WORD, Json, condition, moment, number, part, parts, text, told

__all__ = ["Standing", "ended", "is_being_deleted", "sidecars_of", "standing_of"]

_OVER: Final = frozenset({"Succeeded", "Failed"})


class Standing(NamedTuple):
    """The columns STATUS and RESTARTS. `restarted_at` is None if it never was."""

    word: str
    restarts: int
    restarted_at: float | None


def standing_of(meta: Json, spec: Json, status: Json) -> Standing:
    """What kubectl prints of a pod with this metadata, spec and status."""
    phase = text(status, "phase", WORD)
    word = text(status, "reason", WORD) or phase
    if any(
        c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in parts(status, "conditions")
    ):
        word = "SchedulingGated"
    containers, sidecars = parts(status, "containerStatuses"), sidecars_of(spec)
    initial, looked_at = _initialising(spec, status, sidecars)
    word = initial or word
    counted = looked_at
    if not initial or condition(status, "Initialized").get("status") == "True":
        counted = [c for c in looked_at if text(c, "name") in sidecars] + containers
        word = _of_containers(word, containers, status)
    if is_being_deleted(meta):
        if text(status, "reason", WORD) == "NodeLost":
            word = "Unknown"
        elif phase not in _OVER:
            word = "Terminating"
    restarts = sum(max(0, number(c, "restartCount")) for c in counted)
    return Standing(word or "Unknown", restarts, _last(counted) if restarts else None)


def sidecars_of(spec: Json) -> frozenset[str]:
    """The names of the init containers that stay beside the others."""
    return frozenset(text(c, "name") for c in parts(spec, "initContainers") if c.get("restartPolicy") == "Always")


def is_being_deleted(meta: Json) -> bool:
    """Whether the pod is being deleted."""
    return isinstance(meta.get("deletionTimestamp"), str)


def ended(terminated: Json) -> str:
    """How a container ended, in a word: the reason, else the signal or the exit code."""
    if reason := text(terminated, "reason", WORD):
        return reason
    signal = number(terminated, "signal")
    return f"Signal:{signal}" if signal else f"ExitCode:{number(terminated, 'exitCode')}"


def _initialising(spec: Json, status: Json, sidecars: frozenset[str]) -> tuple[str, list[Json]]:
    """The word while init containers aren't done, "" once they are; and those that were looked at, up to the one it waits for."""
    statuses = parts(status, "initContainerStatuses")
    for place, container in enumerate(statuses):
        state = part(container, "state")
        terminated, waiting = part(state, "terminated"), text(part(state, "waiting"), "reason", WORD)
        if told(state, "terminated") and not number(terminated, "exitCode"):
            continue
        if text(container, "name") in sidecars and container.get("started") is True:
            continue
        if told(state, "terminated"):
            word = ended(terminated)
        elif waiting and waiting != "PodInitializing":
            word = waiting
        else:
            word = f"{place}/{len(parts(spec, 'initContainers'))}"
        return f"Init:{word}", statuses[: place + 1]
    return "", statuses


def _of_containers(word: str, containers: list[Json], status: Json) -> str:
    runs = False
    # From the last to the first: the first that has something to say has the last word.
    for container in reversed(containers):
        state = part(container, "state")
        if waiting := text(part(state, "waiting"), "reason", WORD):
            word = waiting
        elif told(state, "terminated"):
            word = ended(part(state, "terminated"))
        elif container.get("ready") is True and told(state, "running"):
            runs = True
    if word == "Completed" and runs:
        return "Running" if condition(status, "Ready").get("status") == "True" else "NotReady"
    return word


def _last(containers: Iterable[Json]) -> float | None:
    times = (moment(part(part(c, "lastState"), "terminated"), "finishedAt") for c in containers)
    return max((time for time in times if time is not None), default=None)
