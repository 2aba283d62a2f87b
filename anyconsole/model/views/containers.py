"""What is behind a pod: its containers, one row each, and the events that are about it."""

from __future__ import annotations

import math

from msgspec import structs

from anyconsole.model.cluster_state import denied_of
from anyconsole.model.facts import Key
from anyconsole.model.pods import ClusterEvent, Container, ContainerState, Permission, Pod
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Cell, Column, Glyphs, Level, Row, View, human_duration, number, verdict_cell
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views.cells import age_cell, text_cell
from anyconsole.model.views.pods import denied_cell, denied_words, restarts_cell

__all__ = ["DENIED_EVENTS", "container_verdict", "containers_view", "last_end", "pod_events_view"]

_STARTING = frozenset({"ContainerCreating", "PodInitializing"})


def last_end(container: Container) -> str:
    """How it ended the time before: "OOMKilled (137)"; "" if it never did."""
    code = "" if container.last_exit_code is None else f"({container.last_exit_code})"
    return " ".join(filter(None, (container.last_reason, code)))


def container_verdict(container: Container) -> Verdict:
    """Whether a container does what it is there for; an init container that ended well has done it."""
    match container.state:
        case ContainerState.RUNNING:
            is_under_way = container.init and not container.sidecar
            return Verdict.SERVING if container.ready or is_under_way else Verdict.DEGRADED
        case ContainerState.TERMINATED:
            return Verdict.SERVING if container.exit_code == 0 else Verdict.DOWN
        case ContainerState.WAITING:
            return Verdict.DEGRADED if container.reason in _STARTING or not container.reason else Verdict.DOWN
        case _:
            return Verdict.UNKNOWN


def _container_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    pod = store.pod(*key[1:4])
    found = [c for c in pod.containers if c.name == key[4]] if pod is not None else []
    if pod is None or not found:
        gone = (Cell(""), verdict_cell(Verdict.UNKNOWN, glyphs, "gone"), Cell(""), number(None), Cell(""), Cell(""))
        return Row(key, (text_cell(key[4]), *gone, number(None), Cell("")), Verdict.UNKNOWN.rank)
    container, fresh = found[0], store.is_fresh(pod, now)
    verdict = container_verdict(container) if fresh else Verdict.STALE
    words = container.reason if container.state is not ContainerState.RUNNING else ""
    status = verdict_cell(verdict, glyphs, text_cell(words or str(container.state)).text if fresh else "")
    kind = "sidecar" if container.sidecar else "init" if container.init else "container"
    is_running = container.state is ContainerState.RUNNING and fresh
    running = now - container.started_at if is_running and container.started_at is not None else None
    ended = last_end(container)
    if ended and container.last_finished_at is not None:
        ended += f" {human_duration(now - container.last_finished_at)} ago"
    return Row(
        key,
        (
            text_cell(container.name),
            Cell(kind, value=kind),
            structs.replace(status, value=words or str(container.state)) if fresh else status,
            Cell(
                "yes" if container.ready else "no",
                Level.NONE if container.ready or verdict is Verdict.SERVING or not fresh else Level.WARN,
                container.ready,
            ),
            restarts_cell(container.restarts, container.last_finished_at, now),
            number(None) if running is None else Cell(human_duration(running), value=round(running, 1), order=running),
            text_cell(ended, Level.WARN if ended and container.last_exit_code else Level.NONE),
            age_cell(store.age(pod, now), store.max_age(pod.section)),
            text_cell(container.image),
            text_cell(container.message),
        ),
        verdict.rank,
    )


def containers_view(cluster: str, namespace: str, pod: str) -> View:
    """The containers of one pod, in its own order within the same state."""

    def keys(store: FleetStore) -> list[Key]:
        known = store.pod(cluster, namespace, pod)
        return [("container", *known.key[1:], c.name) for c in known.containers] if known is not None else []

    return View(
        name="containers",
        title="Containers",
        columns=(
            Column(id="container", title="CONTAINER", width=9),
            Column(id="kind", title="KIND", width=9),
            Column(id="status", title="STATUS", width=9),
            Column(id="ready", title="READY", width=5),
            Column(id="restarts", title="RESTARTS", width=8, right=True),
            Column(id="uptime", title="UP", width=5, right=True),
            Column(id="last_end", title="LAST END", width=9),
            Column(id="seen_age", title="SEEN", width=4, right=True),
            Column(id="image", title="IMAGE", width=16),
            Column(id="reason", title="WHY", width=20),
        ),
        keys=keys,
        row=_container_row,
        listed=Pod.kind,
        lead=lambda key: key[4:],
    )


DENIED_EVENTS = "denied_events"
"""The key of the row that says that events may not be listed."""


_FIRST = -(1 << 40)
"""The rank of that row: before the latest event."""


def _denied_events(store: FleetStore, cluster: str, namespace: str) -> tuple[Permission, ...]:
    return denied_of(store.cluster(cluster), "events", namespace)


def _event_row(store: FleetStore, key: Key, now: float, glyphs: Glyphs) -> Row:
    event = store.get(key)
    if key[0] == DENIED_EVENTS:
        words = denied_words(store, key[1], _denied_events(store, *key[1:]))
        unseen = (number(None), denied_cell(glyphs), Cell(""), number(None))
        return Row(key, (*unseen, text_cell(words, Level.WARN)), _FIRST)
    if not isinstance(event, ClusterEvent):
        return Row(key, (Cell("gone", Level.STALE), *(Cell("") for _ in range(4))), 1)
    is_warning = event.severity != "Normal"
    sign, level = (glyphs.warn, Level.WARN) if is_warning else (glyphs.ok, Level.NONE)
    ago = max(0.0, now - event.last_at)
    return Row(
        key,
        (
            Cell(human_duration(ago), Level.NONE if store.is_fresh(event, now) else Level.STALE, round(ago, 1), ago),
            Cell(f"{sign} {text_cell(event.severity).text}", level, event.severity),
            text_cell(event.reason, level),
            Cell(str(event.count), value=event.count, order=event.count),
            text_cell(event.message, level),
        ),
        -math.floor(event.last_at),
    )


def pod_events_view(cluster: str, namespace: str, pod: str) -> View:
    """Events about one pod, the latest first; with no pod those of the whole namespace."""
    about = f"Pod/{pod}"

    def keys(store: FleetStore) -> list[Key]:
        denied: list[Key] = [(DENIED_EVENTS, cluster, namespace)] if _denied_events(store, cluster, namespace) else []
        return denied + [e.key for e in store.cluster_events(cluster, namespace) if not pod or e.about == about]

    return View(
        name="pod_events",
        title="Events of the pod",
        columns=(
            Column(id="last_age", title="LAST", width=5, right=True),
            Column(id="severity", title="TYPE", width=9),
            Column(id="event", title="REASON", width=12),
            Column(id="count", title="COUNT", width=5, right=True),
            Column(id="reason", title="MESSAGE", width=20),
        ),
        keys=keys,
        row=_event_row,
        listed=ClusterEvent.kind,
        lead=lambda key: (),  # noqa: ARG005 - nothing of an event is in its key that a cell shows
    )
