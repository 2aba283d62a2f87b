"""Charts of queries per second: the whole fleet, each tenant, each node; as many as the terminal has room for, the busiest first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from anyconsole.model.store import FleetStore
from anyconsole.model.table import Glyphs
from anyconsole.tui.widgets.braille_chart import BrailleChart, Series
from anyconsole.tui.widgets.braille_chart import Glyphs as ChartGlyphs

__all__ = ["QpsCharts"]

_LEAST_WIDTH = 20
_TALL = 40
"""Lines from which on both rows of charts fit above the table."""


class _ChartRow(Horizontal):
    """Charts side by side; which ones is decided when they are shown."""

    DEFAULT_CSS = "_ChartRow { height: 1fr; & > BrailleChart { margin: 0 1; } }"


class QpsCharts(Vertical):
    """Two rows of charts on a tall terminal (tenants, nodes); one on a small one, `toggle` changes which."""

    DEFAULT_CSS = "QpsCharts { height: 8; &.tall { height: 20; } &.none { display: none; } }"

    def __init__(self, store: FleetStore, glyphs: Glyphs, clock: Callable[[], float]) -> None:
        super().__init__()
        self._store = store
        self._clock = clock
        self._glyphs = ChartGlyphs.ASCII if glyphs.ok.isascii() else ChartGlyphs.BRAILLE
        self._choice = 0
        self._shown: tuple[tuple[tuple[str, str], ...], ...] = ()
        self._charts: dict[tuple[str, str], BrailleChart] = {}

    def compose(self) -> ComposeResult:
        """Rows come with the first `paint`."""
        yield from ()

    @property
    def words(self) -> str:
        """What `toggle` has chosen."""
        return ("tenants", "nodes", "no charts")[self._choice]

    def toggle(self) -> None:
        """Tenants, nodes, none; on a tall terminal both or none."""
        self._choice = (self._choice + 1) % 3
        self.paint()

    def paint(self) -> None:
        """Lay out for the present size, and show the present series."""
        wanted = tuple(tuple(self._fitting(row)) for row in self._rows())
        self.set_class(self._choice == 2, "none")
        self.set_class(len(wanted) > 1, "tall")
        if wanted != self._shown:
            self._shown = wanted
            self._lay_out()
        end = int(self._clock())
        for (kind, name), chart in self._charts.items():
            values = self._store.summed_series(**({} if kind == "fleet" else {kind: name}))
            chart.show(Series(values, filled=True, end=end))

    def on_resize(self) -> None:
        """Another number of charts may fit."""
        self.paint()

    def _rows(self) -> Iterator[list[tuple[str, str]]]:
        inventory = self._store.inventory
        fleet = [("fleet", "all")]
        tenants = fleet + self._busiest("tenant", [t.name for t in inventory.tenants])
        nodes = self._busiest("node", [n.name for n in inventory.nodes])
        if self.app.size.height >= _TALL:
            yield tenants
            yield nodes
        elif self._choice == 0:
            yield tenants
        else:
            yield fleet + nodes

    def _busiest(self, kind: str, names: list[str]) -> list[tuple[str, str]]:
        room = max(1, self.app.size.width // _LEAST_WIDTH)
        if len(names) > room:
            names = sorted(names, key=lambda name: -self._latest(kind, name))
        return [(kind, name) for name in names]

    def _latest(self, kind: str, name: str) -> float:
        values = [v for v in self._store.summed_series(**{kind: name})[-10:] if not math.isnan(v)]
        return round(sum(values) / len(values), -1) if values else 0.0

    def _fitting(self, row: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return row[: max(1, self.app.size.width // _LEAST_WIDTH)]

    def _lay_out(self) -> None:
        self.remove_children()
        self._charts = {}
        for row in self._shown:
            charts = []
            for kind, name in row:
                title = "fleet" if kind == "fleet" else f"{kind} {name}"
                self._charts[kind, name] = BrailleChart(title, unit=" q/s", seconds=1.0, glyphs=self._glyphs)
                charts.append(self._charts[kind, name])
            self.mount(_ChartRow(*charts))
