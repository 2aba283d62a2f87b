"""The engine's core: what drivers say reaches the screen, bounded and with its true age."""

from __future__ import annotations

from anyconsole.engine.core import FleetEngine
from anyconsole.model.events import Event
from anyconsole.model.facts import Beat
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Level
from tests.fleet import NOW, healthy, inventory


class Machine:
    """A machine whose clock can be set, and one inside it that can't."""

    def __init__(self) -> None:
        self.wall = NOW
        self.boot = 5000.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds


def test_a_dead_section_stays_dead_and_a_live_one_live_when_the_clock_is_set_back() -> None:
    machine = Machine()
    engine = FleetEngine(inventory(), lambda: machine.wall, lambda: machine.boot)
    replica = FleetStore(engine.inventory)
    engine.take(healthy(engine.inventory))
    replica.apply(engine.drain()[0])
    machine.passes(10)
    machine.wall -= 3600
    engine.take([Beat(node="fra1", at=machine.wall, sections=("bird",))])
    replica.apply(engine.drain()[0])
    for store in (engine.store, replica):
        dead, live = store.instance("fra1", "de"), store.session("fra1", "bird", "ix1_v4")
        assert dead is not None
        assert live is not None
        assert store.age(dead, machine.wall) == 10
        assert not store.is_fresh(dead, machine.wall)
        assert store.age(live, machine.wall) == 0


def test_a_laptop_that_slept_sees_how_old_everything_is() -> None:
    machine = Machine()
    engine = FleetEngine(inventory(), lambda: machine.wall, lambda: machine.boot)
    engine.take(healthy(engine.inventory))
    machine.passes(8 * 3600)
    engine.take([])
    host = engine.store.host("fra1")
    assert host is not None
    assert engine.store.age(host, machine.wall) == 8 * 3600


def test_a_screen_that_reads_nothing_for_a_week_costs_no_memory() -> None:
    engine = FleetEngine(inventory())
    event = Event(at=NOW, level=Level.OK, subject=("node", "fra1"), what="node", before="", after="SERVING")
    for _ in range(30):
        engine._add_events([event] * 1000)
    assert len(engine.drain()[1]) == 10_000
    assert (len(engine.events), engine.events_dropped) == (10_000, 20_000), "an event keeps its number"
