# ruff: noqa: INP001 - a script beside the pages it draws for
"""A running Textual app's screen as a PNG, cell by cell.

Textual's own SVG leaves braille to whatever font the viewer has, and charts come out sheared. Here every cell has its place, and braille,
blocks and lines are drawn by hand, so that a picture looks the same everywhere.

    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.pause()
        save_picture(app, Path("docs/fleet.png"))
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from textual.app import App

__all__ = ["draw_lines", "save_picture"]

CELL = (10, 21)
FONT_SIZE = 16
MARGIN = 12

_FONTS = (
    "/usr/share/fonts/truetype/jetbrains-mono/JetBrainsMono-{}.ttf",
    "/usr/share/fonts/truetype/dejavu/DejaVuSansMono{}.ttf",
)
_WIDE_FONTS = ("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc")

_Rgb: TypeAlias = tuple[int, int, int]

# What an ansi theme looks like in the picture: the colours of a common dark terminal.
_TERMINAL = TerminalTheme(
    (16, 18, 22),
    (208, 212, 218),
    [
        (16, 18, 22),
        (222, 92, 84),
        (120, 190, 110),
        (222, 184, 90),
        (100, 150, 220),
        (190, 130, 210),
        (90, 185, 190),
        (208, 212, 218),
    ],
    [
        (100, 106, 114),
        (240, 120, 110),
        (150, 215, 140),
        (240, 208, 120),
        (130, 175, 240),
        (212, 160, 230),
        (120, 210, 214),
        (240, 242, 245),
    ],
)

_BRAILLE = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
# Box drawing as strokes from the middle: left, right, up, down.
_STROKES = {
    "─": "lr", "│": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu", "├": "rud", "┤": "lud", "┬": "lrd", "┴": "lru", "┼": "lrud",
    "━": "LR", "┃": "UD", "╭": "rd", "╮": "ld", "╰": "ru", "╯": "lu",
}  # fmt: skip


def save_picture(app: App[Any], path: Path) -> None:
    """Write the app's present screen to a PNG file."""
    lines = app.screen._compositor.render_strips()
    draw_lines(lines, app.size.width).save(path, optimize=True)


def draw_lines(lines: Iterable[Iterable[Segment]], width: int) -> Image.Image:
    """Draw lines of styled text, `width` cells each."""
    grid = [list(line) for line in lines]
    cw, ch = CELL
    ground = _colours(grid[0][0].style if grid and grid[0] else None)[1]
    image = Image.new("RGB", (width * cw + 2 * MARGIN, len(grid) * ch + 2 * MARGIN), ground)
    pen = ImageDraw.Draw(image)
    for row, segments in enumerate(grid):
        column = 0
        for segment in segments:
            for char in segment.text:
                cells = cell_len(char)
                _draw_cell(pen, (MARGIN + column * cw, MARGIN + row * ch), char, cells, segment.style)
                column += cells
    return image


def _draw_cell(pen: ImageDraw.ImageDraw, at: tuple[int, int], char: str, cells: int, style: Style | None) -> None:
    colour, ground = _colours(style)
    x, y = at
    cw, ch = CELL[0] * max(1, cells), CELL[1]
    pen.rectangle((x, y, x + cw - 1, y + ch - 1), fill=ground)
    code = ord(char)
    if 0x2800 <= code <= 0x28FF:
        _draw_braille(pen, at, code - 0x2800, colour)
    elif 0x2581 <= code <= 0x2588:
        pen.rectangle((x, y + ch - round(ch * (code - 0x2580) / 8), x + cw - 1, y + ch - 1), fill=colour)
    elif 0x2589 <= code <= 0x258F:
        pen.rectangle((x, y, x + round(cw * (0x2590 - code) / 8) - 1, y + ch - 1), fill=colour)
    elif char == "▀":
        pen.rectangle((x, y, x + cw - 1, y + ch // 2 - 1), fill=colour)
    elif char == "▐":
        pen.rectangle((x + cw // 2, y, x + cw - 1, y + ch - 1), fill=colour)
    elif char == "▔":
        pen.rectangle((x, y, x + cw - 1, y + ch // 8), fill=colour)
    elif char in _STROKES:
        _draw_strokes(pen, at, _STROKES[char], colour)
    elif char != " ":
        bold = bool(style and style.bold)
        pen.text((x, y + ch - 5), char, font=_font(bold=bold, wide=cells == 2), fill=colour, anchor="ls")
    if style and style.underline:
        pen.line((x, y + ch - 2, x + cw - 1, y + ch - 2), fill=colour)


def _draw_braille(pen: ImageDraw.ImageDraw, at: tuple[int, int], dots: int, colour: _Rgb) -> None:
    step_x, step_y = CELL[0] / 2, CELL[1] / 4
    for bit, (column, row) in enumerate(_BRAILLE):
        if dots >> bit & 1:
            left, top = at[0] + column * step_x + 1, at[1] + row * step_y + 1
            pen.rounded_rectangle((left, top, left + step_x - 2, top + step_y - 2), 1, fill=colour)


def _draw_strokes(pen: ImageDraw.ImageDraw, at: tuple[int, int], strokes: str, colour: _Rgb) -> None:
    x, y = at
    mx, my = x + CELL[0] // 2, y + CELL[1] // 2
    ends = {"l": (x, my), "r": (x + CELL[0] - 1, my), "u": (mx, y), "d": (mx, y + CELL[1] - 1)}
    for stroke in strokes:
        pen.line((mx, my, *ends[stroke.lower()]), fill=colour, width=3 if stroke.isupper() else 1)


def _colours(style: Style | None) -> tuple[_Rgb, _Rgb]:
    """Colour and ground as a terminal would show them."""
    colour = _rgb(style.color if style else None, foreground=True)
    ground = _rgb(style.bgcolor if style else None, foreground=False)
    if style and style.reverse:
        colour, ground = ground, colour
    if style and style.dim:
        red, green, blue = ((a * 2 + b) // 3 for a, b in zip(colour, ground, strict=True))
        colour = (red, green, blue)
    return colour, ground


def _rgb(colour: RichColor | None, *, foreground: bool) -> _Rgb:
    if colour is None:
        red, green, blue = _TERMINAL.foreground_color if foreground else _TERMINAL.background_color
    else:
        red, green, blue = colour.get_truecolor(_TERMINAL, foreground=foreground)
    return red, green, blue


@cache
def _font(*, bold: bool, wide: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The first font that is installed; fonts-jetbrains-mono or fonts-dejavu-core, and for wide characters a CJK font."""
    styles = ("Bold", "-Bold") if bold else ("Regular", "")
    names = [font.format(style) for font, style in zip(_FONTS, styles, strict=True)]
    for name in [*(_WIDE_FONTS if wide else ()), *names]:
        if Path(name).exists():
            return ImageFont.truetype(name, FONT_SIZE)
    return ImageFont.load_default(FONT_SIZE)
