"""A small live screen for the tests of the output driver: a table and a chart that change when `t` is pressed.

F12 writes what Textual means to show, as a terminal stream, to the file named by LIVE_APP_DUMP. `L` sends everything anew.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from anyconsole.theme import VARIABLE_DEFAULTS, find_themes, load_theme
from anyconsole.tui.diff_driver import DiffDriver
from anyconsole.tui.widgets.braille_chart import BrailleChart, Series
from anyconsole.tui.widgets.line_table import Cell, Column, Level, LineTable, Row

LEVELS = ("ok", "warn", "crit", "drained", "stale", "")
WORDS = ("serving", "広告する", "naïve é", "[bold]x[/]", "ナノ秒", "e\u0301e\u0301", "", "●▲✖")


class LiveApp(App[None]):
    """A table of 100 rows over a chart."""

    CSS = "LineTable { height: 1fr; } BrailleChart { height: 8; } Input { height: 1; border: none; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "tick"), Binding("f12", "write_dump", priority=True), Binding("L", "repaint"), Binding("z", "suspend_process"),
        Binding("o", "lend"), Binding("q", "quit"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__(driver_class=DiffDriver, ansi_color=bool(os.environ.get("NO_COLOR")) or None)
        for path in find_themes(Path("/nonexistent")).values():
            self.register_theme(load_theme(path))
        self.theme = os.environ.get("LIVE_APP_THEME", "night")
        self.random = random.Random(7)
        self.table_rows: dict[str, Row] = {}
        self.values = [0.0]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLE_DEFAULTS)

    def compose(self) -> ComposeResult:
        yield LineTable(
            [
                Column("node", "NODE"),
                Column("word", "WORD", width=12),
                Column("qps", "QPS", width=8, right=True),
                Column("x", "X"),
            ]
        )
        yield BrailleChart("queries", unit="/s", limit=4000, seconds=1)
        field = Input()
        field.cursor_blink = False
        yield field

    def on_mount(self) -> None:
        for number in range(100):
            self.table_rows[f"node{number}"] = self._row(number)
        table = self.query_one(LineTable)
        table.set_rows(self.table_rows)
        table.focus()

    def action_tick(self) -> None:
        """Change a fifth of the rows and go on with the chart."""
        numbers = self.random.sample(range(100), 20)
        for number in numbers:
            self.table_rows[f"node{number}"] = self._row(number)
        self.query_one(LineTable).changed({f"node{number}" for number in numbers})
        self.values.append(abs(self.values[-1] + self.random.uniform(-900, 1000)))
        self.query_one(BrailleChart).show(Series(tuple(self.values), filled=True, end=len(self.values)))

    def action_write_dump(self) -> None:
        """Write the compositor's screen as a stream that paints it from scratch."""
        strips = self.screen._compositor.render_strips()
        stream = "".join(f"\x1b[{y};1H{strip.render(self.console)}" for y, strip in enumerate(strips, 1))
        path = Path(os.environ["LIVE_APP_DUMP"])
        path.with_suffix(".new").write_text(stream, encoding="utf-8")
        path.with_suffix(".new").rename(path)

    def action_repaint(self) -> None:
        """What Ctrl-L does in the console."""
        assert isinstance(self._driver, DiffDriver)
        self._driver.repaint()

    def action_lend(self) -> None:
        """Lend the terminal to another program that scribbles on it."""
        with self.suspend():
            os.write(1, b"\x1b[2J\x1b[5;5Hsomebody else was here")

    def _row(self, number: int) -> Row:
        level = self.random.choice(LEVELS)
        word = self.random.choice(WORDS)
        qps = self.random.randrange(100000)
        return (
            Cell(f"node{number}"),
            Cell(word, level),
            Cell(str(qps), Level.PLAIN, qps),
            Cell(self.random.choice(WORDS) * 3, Level.DIM),
        )


if __name__ == "__main__":
    LiveApp().run()
