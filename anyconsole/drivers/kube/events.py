"""What an Event object says: as a fact, and which of many are worth keeping. Pure.

Both shapes are read: core/v1, and events.k8s.io/v1 with its other names for the same things.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from anyconsole.drivers.kube.values import LINE, WORD, moment, number, part, text, told
from anyconsole.model.pods import ClusterEvent

__all__ = ["KEPT", "event_of", "latest"]

KEPT: Final = 200
"""Events of one namespace that are kept. A cluster forgets its own after an hour."""


def event_of(obj: object, cluster: str, at: float) -> ClusterEvent:
    """The fact of an Event object. Never raises, whatever the object holds.

    Count and time are kubectl's: those of the series if there is one. A time that isn't told is that of the object, or else `at`.
    """
    meta = part(obj, "metadata")
    about = part(obj, "involvedObject") or part(obj, "regarding")
    name = text(about, "name")
    kind = text(about, "kind", WORD)
    namespace = text(meta, "namespace")
    return ClusterEvent(
        node=cluster,
        section=f"events:{namespace}",
        at=at,
        namespace=namespace,
        name=text(meta, "name"),
        severity="Warning" if text(obj, "type", WORD) == "Warning" else "Normal",
        about=f"{kind}/{name}" if name else kind,
        reason=text(obj, "reason", WORD),
        message=text(obj, "message", LINE) or text(obj, "note", LINE),
        count=_count(obj),
        last_at=_last_at(obj) or moment(meta, "creationTimestamp") or at,
    )


def latest(events: Iterable[ClusterEvent], limit: int = KEPT) -> tuple[ClusterEvent, ...]:
    """The last `limit` of these, the newest first."""
    return tuple(heapq.nlargest(limit, events, key=lambda event: (event.last_at, event.name)))


def _count(obj: object) -> int:
    if told(obj, "series"):
        return max(1, number(part(obj, "series"), "count"))
    return max(1, number(obj, "count") or number(obj, "deprecatedCount"))


def _last_at(obj: object) -> float | None:
    times = (
        moment(part(obj, "series"), "lastObservedTime"),
        moment(obj, "lastTimestamp"),
        moment(obj, "deprecatedLastTimestamp"),
        moment(obj, "firstTimestamp"),
        moment(obj, "deprecatedFirstTimestamp"),
        moment(obj, "eventTime"),
    )
    return next((time for time in times if time is not None), None)
