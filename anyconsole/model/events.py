"""Events: what changed its state, and when. Derived by comparing verdicts; nothing reports an event by itself.

The first sight of something healthy is not an event; the first sight of trouble is. Of pods only failing, recovering and restarting are
events: coming and going is what pods do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from anyconsole.model import verdicts
from anyconsole.model.facts import Key, LinkState, SessionState, SessionStatus
from anyconsole.model.inventory import SessionSpec
from anyconsole.model.metrics import ANSWERS
from anyconsole.model.pod_verdict import pod_verdict
from anyconsole.model.pods import Pod
from anyconsole.model.store import FleetStore
from anyconsole.model.table import UNICODE, Cell, Column, Glyphs, Level, Row, clean, clock, level_of
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views import catchment
from anyconsole.model.views.containers import last_end

__all__ = ["EVENT_COLUMNS", "Event", "EventLog", "event_row"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One change of state. `subject` is a view key; `before` is empty when the thing is seen for the first time."""

    at: float
    level: Level
    subject: Key
    what: str
    before: str
    after: str
    reason: str = ""


_ON_THE_WAY = frozenset({LinkState.IDLE, LinkState.CONNECTING, LinkState.STARTING})


class EventLog:
    """Remembers the last state of everything and turns differences into events."""

    def __init__(self) -> None:
        self._last: dict[Key, tuple[str, Level]] = {}
        self._pods: dict[str, dict[Key, Pod]] = {}

    def observe(self, store: FleetStore, nodes: Iterable[str], now: float) -> list[Event]:
        """Events of the given nodes and clusters and of all tenants since the last call."""
        names = tuple(nodes)
        known = {n.name for n in store.inventory.nodes}
        events = [event for name in names if name in known for event in self._node_events(store, name, now)]
        clusters = {c.name for c in store.inventory.clusters}
        events += [event for name in names if name in clusters for event in self._cluster_events(store, name, now)]
        events.extend(self._tenant_events(store, now))
        return events

    def _node_events(self, store: FleetStore, name: str, now: float) -> Iterator[Event]:
        spec = store.inventory.node(name)
        verdict = verdicts.node(store, spec, now)
        yield from self._compare(("node", name), "node", verdict.verdict, verdict.reason, now)
        if verdict.verdict in (Verdict.STALE, Verdict.UNTRUSTED):
            return  # one event says it; its parts are unknown, not changed
        for instance_spec in spec.instances:
            seen = verdicts.instance(store, spec, instance_spec, now)
            if seen.verdict is not Verdict.STALE:
                yield from self._compare(("instance", name, seen.tenant), "instance", seen.verdict, seen.reason, now)
        for speaker in spec.speakers:
            status = store.speaker(name, speaker.name)
            if status is None or not store.is_fresh(status, now) or not status.running:
                continue
            key: Key
            for session in speaker.sessions:
                bgp = store.session(name, speaker.name, session.name)
                if bgp is not None and store.is_fresh(bgp, now):
                    up = bgp.state is SessionState.ESTABLISHED
                    key = ("session", name, speaker.name, session.name)
                    yield from self._change(
                        key,
                        "session",
                        str(bgp.state),
                        Level.OK if up else Level.CRIT,
                        _session_reason(session, bgp),
                        now,
                    )
            if status.drain_serial is not None:
                key = ("drain", name, speaker.name)
                words = f"{len(status.drain_hard)} hard, {len(status.drain_soft)} soft (serial {status.drain_serial})"
                drained = bool(status.drain_hard or status.drain_soft)
                yield from self._change(
                    key, "drain", words, Level.DRAINED if drained else Level.OK, status.drain_note, now
                )

    def _cluster_events(self, store: FleetStore, name: str, now: float) -> Iterator[Event]:
        link = store.link(name)
        if link is not None and link.state not in _ON_THE_WAY:
            level = Level.OK if link.state is LinkState.LIVE else Level.WARN
            yield from self._change(("cluster", name), "cluster", str(link.state), level, link.detail, now)
        before = self._pods.get(name, {})
        pods = self._pods[name] = {pod.key: pod for pod in store.pods(name)}
        for key in before.keys() - pods.keys():
            self._last.pop(key, None)
        for key, pod in pods.items():
            if before.get(key) is not pod:
                yield from self._pod_events(store, pod, before.get(key), now)

    def _pod_events(self, store: FleetStore, pod: Pod, before: Pod | None, now: float) -> Iterator[Event]:
        fails = self._last.get(pod.key, ("", Level.OK))[1] is Level.CRIT
        found = pod_verdict(store, pod, now)
        if found.verdict in (Verdict.DOWN, Verdict.SERVING):
            yield from self._change(pod.key, "pod", found.words, level_of(found.verdict), found.reason, now)
            fails |= found.verdict is Verdict.DOWN
        if before is not None and pod.uid == before.uid and pod.restarts > before.restarts and not fails:
            last = max(pod.containers, key=lambda c: c.last_finished_at or 0.0, default=None)
            why = f"{last.name}: {last_end(last)}" if last is not None and last_end(last) else ""
            words = tuple(f"{count} restarts" for count in (before.restarts, pod.restarts))
            yield Event(
                at=now,
                level=Level.WARN,
                subject=pod.key,
                what="pod",
                before=words[0],
                after=words[1],
                reason=clean(why),
            )

    def _tenant_events(self, store: FleetStore, now: float) -> Iterator[Event]:
        for spec in store.inventory.tenants:
            verdict = verdicts.tenant(store, spec, now)
            yield from self._compare(("tenant", spec.name), "tenant", verdict.verdict, verdict.reason, now)
            for vantage, landed in catchment(store, spec, now).items():
                known = landed == ANSWERS or any(landed == n.name for n in store.inventory.nodes)
                level = Level.OK if known else Level.WARN
                yield from self._change(("catchment", vantage, spec.name), "catchment", landed, level, "", now)

    def _compare(self, key: Key, what: str, verdict: Verdict, reason: str, now: float) -> Iterator[Event]:
        if verdict is not Verdict.UNKNOWN:  # not knowing yet is no change of state
            yield from self._change(key, what, str(verdict), level_of(verdict), reason, now)

    def _change(self, key: Key, what: str, state: str, level: Level, reason: str, now: float) -> Iterator[Event]:
        before = self._last.get(key)
        self._last[key] = (state, level)
        if (before is None and level is Level.OK) or (before is not None and before[0] == state):
            return
        yield Event(
            at=now,
            level=level,
            subject=key,
            what=what,
            before=before[0] if before else "",
            after=state,
            reason=clean(reason),
        )


def _session_reason(session: SessionSpec, status: SessionStatus) -> str:
    """What the daemon said of it, and which peer that is, where the session is named by an address."""
    peer = session.peer if session.title != session.name else ""
    return ": ".join(filter(None, (peer, status.info)))


EVENT_COLUMNS = (
    Column(id="at", title="UTC", width=8),
    Column(id="what", title="WHAT", width=9),
    Column(id="subject", title="WHO", width=16),
    Column(id="before", title="BEFORE", width=12),
    Column(id="after", title="NOW", width=16),
    Column(id="reason", title="WHY", width=20),
)


def event_row(event: Event, index: int, glyphs: Glyphs = UNICODE) -> Row:
    """An event as a line; `index` counts up with time and makes the key, so the newest comes first."""
    sign = {
        Level.OK: glyphs.ok,
        Level.WARN: glyphs.warn,
        Level.CRIT: glyphs.crit,
        Level.DRAINED: glyphs.drained,
        Level.STALE: glyphs.stale,
        Level.NONE: glyphs.unknown,
    }[event.level]
    return Row(
        ("event", str(index)),
        (
            Cell(clock(event.at), value=event.at, order=event.at),
            Cell(event.what, value=event.what),
            Cell(clean(" ".join(event.subject[1:])), value=list(event.subject[1:])),
            Cell(clean(event.before), Level.STALE, event.before),
            Cell(f"{sign} {clean(event.after)}", event.level, event.after),
            Cell(clean(event.reason), value=event.reason),
        ),
        -index,
    )
