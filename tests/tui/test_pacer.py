"""Painting is paced: touches are merged, hidden views cost nothing, and a slow paint is followed by a long rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from textual.app import App, ComposeResult
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from anyconsole.tui.pacer import Pacer


class View:
    """As much of a widget as a pacer needs."""

    def __init__(self) -> None:
        self.is_on_screen = True
        self.later: list[Callable[[], None]] = []

    def call_after_refresh(self, callback: Callable[..., None], *args: float) -> None:
        self.later.append(partial(callback, *args))


class Bench:
    """A pacer with a clock and a CPU meter that are set by hand."""

    def __init__(self, cost: float = 0.0, fps: float = 4.0) -> None:
        self.now, self.cpu, self.cost, self.paints = 100.0, 0.0, cost, 0
        self.view = View()
        self.pacer = Pacer(
            cast("Widget", self.view), self.paint, fps=fps, clock=lambda: self.now, spent=lambda: self.cpu
        )

    def paint(self) -> None:
        self.paints += 1
        self.cpu += self.cost

    def run(self, seconds: float, *, touched: bool = True, step: float = 0.05) -> int:
        before = self.paints
        for _ in range(round(seconds / step)):
            self.now += step
            if touched:
                self.pacer.touch()
            self.pacer.tick()
        return self.paints - before


def test_many_touches_are_painted_at_most_so_many_times_a_second() -> None:
    assert 36 <= Bench().run(10) <= 45


def test_nothing_new_is_not_painted() -> None:
    bench = Bench()
    bench.run(1)
    assert bench.run(10, touched=False) <= 1


def test_dear_painting_takes_at_most_a_tenth_of_a_core() -> None:
    bench = Bench(cost=0.1)
    bench.run(20)
    assert bench.cpu <= 20 / 10 + 0.1


def test_however_dear_it_is_painted_every_two_seconds() -> None:
    assert Bench(cost=5.0).run(20) >= 9


def test_what_the_compositor_spends_afterwards_counts_too() -> None:
    bench = Bench()
    bench.pacer.tick()
    bench.cpu += 0.1
    bench.view.later.pop()()
    assert bench.run(0.95) == 0
    assert bench.run(0.2) == 1


def test_hidden_view_costs_nothing_and_is_painted_when_it_is_shown_again() -> None:
    bench = Bench()
    bench.view.is_on_screen = False
    assert bench.run(10) == 0
    bench.view.is_on_screen = True
    assert bench.run(0.3, touched=False) == 1


def test_user_who_waits_is_served_at_once() -> None:
    bench = Bench(cost=1.0)
    bench.run(1)
    before = bench.paints
    bench.pacer.hurry()
    assert bench.paints == before + 1


async def test_only_the_visible_of_two_panes_is_painted_in_a_real_app() -> None:
    painted: list[str] = []

    class PanesApp(App[None]):
        def compose(self) -> ComposeResult:
            with ContentSwitcher(initial="one"):
                yield Static("1", id="one")
                yield Static("2", id="two")

        def on_mount(self) -> None:
            for name in ("one", "two"):
                Pacer(self.query_one(f"#{name}"), partial(painted.append, name), fps=50).start()

    app = PanesApp()
    async with app.run_test() as pilot:
        await pilot.pause(0.2)
        assert set(painted) == {"one"}
        app.query_one(ContentSwitcher).current = "two"
        await pilot.pause(0.2)
        assert set(painted) == {"one", "two"}
