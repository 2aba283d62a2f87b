"""A scripted fleet in place of the engine: tests say what happens, and the screen is told as the engine would tell it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from anyconsole.actions.journal_record import ChangeSummary
from anyconsole.actions.run import Run
from anyconsole.engine.client import EngineError, EngineState
from anyconsole.model.events import Event, EventLog
from anyconsole.model.facts import Beat, Key, Observation
from anyconsole.model.inventory import Inventory
from anyconsole.model.load_view import LoadView
from anyconsole.model.store import ChangeSet, FleetStore, Update
from tests.fleet import NOW, healthy, inventory

__all__ = ["FakeClient"]


class FakeClient:
    """A client whose fleet serves, with a clock that stands still until it is moved."""

    def __init__(self, fleet: Inventory | None = None, *, empty: bool = False) -> None:
        self.inventory = fleet or inventory()
        self.store = FleetStore(self.inventory)
        self.events: deque[Event] = deque(maxlen=100)
        self.state = EngineState.STARTING
        self.state_detail = ""
        self.lag = 0.0
        self.now = NOW
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.runs: dict[str, Run] = {}
        self.loads: dict[tuple[str, str], LoadView] = {}
        self.changes: Sequence[ChangeSummary] = ()
        self.armed_until = 0.0
        self.replies: dict[str, Callable[[dict[str, str]], str]] = {}
        """What is asked by this name is answered by this; may raise."""
        self.answers: dict[tuple[str, ...], str] = {}
        self.log: asyncio.Queue[str | None] = asyncio.Queue()
        self.closed = 0
        self._listeners: list[Callable[[ChangeSet, Sequence[Event]], None]] = []
        self._log = EventLog()
        if not empty:
            self.state = EngineState.LIVE
            self.store.apply(healthy(self.inventory, self.now))
            self._log.observe(self.store, self._places, self.now)

    @property
    def _places(self) -> list[str]:
        return [*(n.name for n in self.inventory.nodes), *(c.name for c in self.inventory.clusters)]

    def clock(self) -> float:
        """The time on the screen."""
        return self.now

    # What happens

    def apply(self, *updates: Update) -> None:
        """Facts arrive in one frame, with the events they make."""
        changes = self.store.apply(updates)
        events = self._log.observe(self.store, self._places, self.now)
        self.events.extend(events)
        self._tell(changes, events)

    def change(self, key: Key, **fields: object) -> None:
        """One fact changes in some of its fields, now."""
        fact = self.store.get(key)
        assert fact is not None, key
        changed: Observation = msgspec.structs.replace(fact, at=self.now, **fields)
        self.apply(changed)

    def pass_time(self, seconds: float, *, silent: tuple[str, ...] = ()) -> None:
        """Time passes, and all sections of all hosts but the silent ones are seen again."""
        self.now += seconds
        hosts = {fact.node for fact in self.store} - set(silent)
        self.apply(*(Beat(node=h, at=self.now, sections=tuple(self.store.sections(h))) for h in sorted(hosts)))

    def tell(self, *runs: Run, changes: Sequence[ChangeSummary] | None = None, loads: Sequence[LoadView] = ()) -> None:
        """The engine tells of runs, of load tests, or of another journal."""
        self.runs |= {run.id: run for run in runs}
        self.loads |= {(view.run, view.target): view for view in loads}
        if changes is not None:
            self.changes = changes
        self._tell(ChangeSet(frozenset(), frozenset(), frozenset()), ())

    def arm(self, seconds: float) -> None:
        """The engine lifts read-only for so long."""
        self.armed_until = self.now + seconds if seconds else 0.0
        self.tell()

    def become(self, state: EngineState, detail: str = "") -> None:
        """The engine changes its state."""
        self.state, self.state_detail = state, detail
        self._tell(ChangeSet(frozenset(), frozenset(), frozenset()), ())

    def _tell(self, changes: ChangeSet, events: Sequence[Event]) -> None:
        for callback in self._listeners:
            callback(changes, events)

    # The client's side

    def listen(self, callback: Callable[[ChangeSet, Sequence[Event]], None]) -> None:
        self._listeners.append(callback)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def ask(self, op: str, **args: str) -> str:
        self.asked.append((op, args))
        if op in self.replies:
            return self.replies[op](args)
        answer = self.answers.get((op, *args.values()))
        if answer is None:
            raise EngineError(f"{op} {' '.join(args.values())}: no such thing")
        return answer

    async def follow(self, op: str, **args: str) -> AsyncIterator[str]:
        self.asked.append((op, args))
        while (chunk := await self.log.get()) is not None:
            yield chunk

    async def close(self) -> None:
        self.closed += 1
