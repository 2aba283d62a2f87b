"""What the screen needs of the engine's client: `engine.client.EngineClient` has it, and so has the tests' scripted fleet."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from anyconsole.actions.journal_record import ChangeSummary
from anyconsole.actions.run import Run
from anyconsole.engine.client import EngineState
from anyconsole.model.events import Event
from anyconsole.model.inventory import Inventory
from anyconsole.model.load_view import LoadView
from anyconsole.model.store import ChangeSet, FleetStore

__all__ = ["FleetClient"]


class FleetClient(Protocol):
    """A replica of the fleet that is kept up to date by somebody else. See `EngineClient` for what each member promises."""

    inventory: Inventory
    store: FleetStore
    events: deque[Event]
    state: EngineState
    state_detail: str
    lag: float
    runs: dict[str, Run]
    loads: dict[tuple[str, str], LoadView]
    changes: Sequence[ChangeSummary]
    armed_until: float

    def listen(self, callback: Callable[[ChangeSet, Sequence[Event]], None]) -> None:
        """Call `callback` on the loop after each frame and each change of state."""

    async def run(self) -> None:
        """Keep the replica up to date until cancelled."""

    async def ask(self, op: str, **args: str) -> str:
        """Ask the engine. Raises AnyconsoleError.

        Of a node: raw (node, section), poke (node), shell (node). Of a cluster `node` is its name, and section and path are
        "pod/NAMESPACE/NAME" and "pod/NAMESPACE/NAME/CONTAINER": raw (node, section), poke (node), shell (node, path).
        Of changes: plan (action, request), start (plan, overrides, acknowledged), cancel (run), answer (run, question, answer),
        adjust (run, factor), arm (seconds), journal (change), acknowledge (change).
        """

    def follow(self, op: str, **args: str) -> AsyncIterator[str]:
        """Pieces of a stream: log (node, path), of a container with previous="true" that of its run before. Raises EngineError."""

    async def close(self) -> None:
        """End whatever `run` started."""
