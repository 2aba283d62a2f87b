"""Pictures in docs/ show what a terminal shows, braille in its place."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from rich.segment import Segment
from rich.style import Style


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("picture", Path(__file__).parents[1] / "docs" / "picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_dots_blocks_and_reverse_are_drawn_where_the_cell_is(picture: ModuleType) -> None:
    white, black = (255, 255, 255), (0, 0, 0)
    style = Style.parse("#ffffff on #000000")
    image = picture.draw_lines([[Segment("⠁▄", style), Segment(" ", style + Style(reverse=True))]], 3)
    (width, height), margin = picture.CELL, picture.MARGIN

    def cell(column: int, x: float, y: float) -> object:
        return image.getpixel((margin + column * width + int(x * width), margin + int(y * height)))

    assert image.size == (3 * width + 2 * margin, height + 2 * margin)
    assert cell(0, 0.2, 0.1) == white
    assert cell(0, 0.7, 0.1) == black
    assert cell(0, 0.2, 0.6) == black
    assert cell(1, 0.5, 0.3) == black
    assert cell(1, 0.5, 0.7) == white
    assert cell(2, 0.5, 0.5) == white
