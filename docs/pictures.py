# ruff: noqa: INP001 - a script beside the pages it draws for
"""Makes the pictures of the README and of these pages: the real console, driven by keys, on a lab of its own with a few things broken.

    .venv/bin/python -m docs.pictures [--seconds 75] [--output docs]

It needs root, like every lab, and takes about two minutes, most of which the charts need to fill.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from rich.segment import Segment
from rich.style import Style

from anyconsole.lab import Lab
from docs.picture import draw_lines
from tests.e2e.drains import apply_on_screen, plan_on_screen
from tests.terminal import ENTER, ESCAPE, ScreenCell, Terminal

_SIZE = (150, 38)
_BREAKS = (("nameserver", "sin1", "enum"), ("session", "ams1", "ix1_v4"), ("serial", "fra2", "nic"))

_PICTURES = {
    "fleet": ("1g", r"Fleet\[5\]"),
    "tenants": ("2", r"Tenants\[3\]"),
    "catchment": ("m", r"Catchment\[18\]"),
    "bgp": ("3", r"BGP\[20\]"),
    "announcements": ("m", r"Announcements\[60\]"),
    "health": ("4", r"Health\[15\]"),
    "qps": ("5", r"Queries per second\[15\]"),
    "events": ("7", r"Events\[\d+\]"),
    "node": (f"1g{ENTER}", r"(?s)Health\(\w+\).*BGP\(\w+\)"),
    "describe": ("d", r"(?s)instance \w+ \w+.*running"),
    "help": (ESCAPE, r"Health\("),
}
"""What is shown, how one gets there from the one before, and how one knows that it is there."""

_THEMES = ("day", "colour-blind", "ansi", "night")


def main() -> int:
    """Build the lab, watch it, break things, and write a picture of every pane and of every theme."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75.0, help="how long the charts fill (default: 75)")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="where the PNG files go (default: docs)")
    args = parser.parse_args()
    lab = Lab("demo")
    lab.up(lambda line: print(line, file=sys.stderr))
    try:
        with tempfile.TemporaryDirectory() as state:
            argv = [sys.executable, "-m", "anyconsole", "--profile", str(lab.profile_path)]
            with Terminal(argv, columns=_SIZE[0], rows=_SIZE[1], env={"XDG_STATE_HOME": state}) as terminal:
                terminal.wait_for("● live", 20)
                time.sleep(args.seconds * 0.5)
                _drain(terminal, args.output)
                time.sleep(args.seconds * 0.2)
                for broken in _BREAKS:
                    lab.break_(*broken)
                time.sleep(max(5.0, args.seconds * 0.3))
                _take_all(terminal, args.output)
    finally:
        lab.down()
    return 0


def _drain(terminal: Terminal, folder: Path) -> None:
    """Drain a node as an operator would, and take the plan, the change on its way, its end, and the journal."""
    plan_on_screen(terminal, "D", "fra1", reason="new disks", ticket="CHG4711")
    _take(terminal, folder / "plan.png")
    apply_on_screen(terminal)
    terminal.wait_for("running, 1 of 2 steps done", 20)
    _take(terminal, folder / "change.png")
    terminal.wait_for("ended: done", 60)
    _take(terminal, folder / "done.png")
    terminal.send(ESCAPE)
    terminal.wait_gone("ended: done", 5)
    terminal.send("8")
    terminal.wait_for(r"Journal\[1\]", 5)
    _take(terminal, folder / "journal.png")


def _take_all(terminal: Terminal, folder: Path) -> None:
    for name, (keys, pattern) in _PICTURES.items():
        terminal.send(keys)
        terminal.wait_for(pattern, 5)
        if name == "help":
            terminal.send("?")
            terminal.wait_for("All nodes, the worst first", 5)
        _take(terminal, folder / f"{name}.png")
    terminal.send(ESCAPE)
    terminal.wait_gone("All nodes, the worst first", 5)
    for theme in _THEMES:
        terminal.send(f":theme {theme}{ENTER}")
        time.sleep(0.5)
        terminal.send("1")
        _take(terminal, folder / f"theme-{theme}.png")


def _take(terminal: Terminal, path: Path) -> None:
    time.sleep(1.2)  # until the next second has been painted too
    cells = terminal.cells()
    draw_lines([_segments(line) for line in cells], len(cells[0])).save(path, optimize=True)
    print(path, file=sys.stderr)


def _segments(line: list[ScreenCell]) -> Iterator[Segment]:
    for style, cells in groupby(line, key=lambda cell: cell[1:]):
        colour, ground, bold, italic, underlined, reverse = style
        yield Segment(
            "".join(cell.text for cell in cells),
            Style(
                color=_colour(colour), bgcolor=_colour(ground), bold=bold, italic=italic, underline=underlined,
                reverse=reverse,
            ),
        )  # fmt: skip


_NAMES = {"brown": "yellow", "brightbrown": "bright_yellow"}
"""pyte's names of the terminal's sixteen colours, where they are not rich's."""


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    if len(name) == 6 and all(digit in "0123456789abcdef" for digit in name):
        return f"#{name}"
    return _NAMES.get(name, name.replace("bright", "bright_", 1))


if __name__ == "__main__":
    sys.exit(main())
