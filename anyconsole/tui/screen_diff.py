"""Terminal output reduced to the cells that differ: a model of what the terminal shows, fed with what Textual writes.

Textual repaints whole lines with all their attributes. `ScreenDiff` reads that stream, keeps what each cell shows and in which style,
and lets through only what changes the picture. Whatever it does not know it passes on untouched, after bringing the terminal to the
state the stream counts on; if that may have moved anything, the model is dropped, and all is sent until the cursor is placed again.
"""

from __future__ import annotations

import re

from rich.cells import get_character_cell_size

__all__ = ["ScreenDiff"]

_TOKENS = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|\x1b\[(?P<private>[<=>?]?)(?P<params>[0-9;:]*)(?P<final>[ -/]*[@-~])"
    r"|(?P<osc>\x1b\][^\x07\x1b]*(?:\x07|\x1b\\))"
    r"|(?P<newline>\n)|(?P<return>\r)|(?P<bell>\x07)|(?P<other>.)",
    re.DOTALL,
)
_PLACE = frozenset({"H", "f"})
_ALTERNATE = frozenset({"47", "1047", "1049"})
_HARMLESS = frozenset({"h", "l", "c", "n", "u", "m", "q", "$p"})
"""Final bytes of private sequences that draw nothing: modes, queries, key protocols."""

_KEEPS_PEN = frozenset("ABCDEFGHJKLMPSTX@`adefghr")
"""Final bytes of sequences that move or erase, but leave colours and attributes as they are."""

_TAIL = ""
"""What the second cell of a wide character holds."""

_BRIDGE = 5
"""Equal cells between two changed ones that are cheaper to write again than to jump over."""

_UNKNOWN = -1


class _Line:
    """What one line of the terminal shows; None is unknown."""

    __slots__ = ("chars", "pens")

    def __init__(self, width: int) -> None:
        self.chars: list[str | None] = [None] * width
        self.pens: list[str | None] = [None] * width


class ScreenDiff:
    """A filter for one terminal of a known size. `feed` takes what is to be written and returns what must be sent."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._lines: dict[int, _Line] = {}
        # Where the stream is, and what it writes with: parameters of SGR since the last reset, and a hyperlink.
        self._y = self._x = 0
        self._sgr = self._link = ""
        self._knows_pen = True
        self._lost = True
        # Where the terminal is, because that is what was sent last.
        self._sent_y = self._sent_x = _UNKNOWN
        self._sent_sgr: str | None = None
        self._sent_link = ""

    def resize(self, width: int, height: int) -> None:
        """The terminal has another size now; nothing is known about what it shows."""
        self.width, self.height = width, height
        self.forget()

    def forget(self) -> None:
        """Nothing is known about what the terminal shows: all cells are sent when they are written next."""
        self._lines.clear()
        self._sent_y = self._sent_x = _UNKNOWN
        self._sent_sgr = None

    def feed(self, data: str) -> str:
        """What must be sent so that the terminal shows what it would show after `data`."""
        out: list[str] = []
        for token in _TOKENS.finditer(data):
            kind = token.lastgroup
            if kind == "text":
                if self._lost:
                    out.append(token[0])
                else:
                    self._text(out, token[0])
            elif kind == "final":
                self._sequence(out, token[0], token["private"], token["params"], token["final"])
            elif kind == "osc" and token[0].startswith("\x1b]8;"):
                self._hyperlink(out, token[0])
            elif kind in {"osc", "bell"}:
                out.append(token[0])
            elif kind == "newline" and not self._lost and self._y + 1 < self.height:
                self._y, self._x = self._y + 1, 0
            elif kind == "return" and not self._lost:
                self._x = 0
            else:
                self._pass_on(out, token[0])
        if not self._lost:
            self._catch_up(out)
        return "".join(out)

    def _sequence(self, out: list[str], whole: str, private: str, params: str, final: str) -> None:
        if final == "m" and not private:
            self._style(params)
            if self._lost:
                out.append(whole)
        elif final in _PLACE and not private and re.fullmatch(r"\d*(?:;\d*)?", params) and self._knows_pen:
            self._place(params)
        elif (private and final in _HARMLESS) or final == " q":
            if _ALTERNATE.intersection(params.split(";")):
                self._pass_on(out, whole)
            else:
                out.append(whole)
        else:
            self._pass_on(out, whole)

    def _style(self, params: str) -> None:
        first, _, rest = params.partition(";")
        if first in {"", "0"}:
            self._sgr, self._knows_pen = rest, True
        else:
            self._sgr = f"{self._sgr};{params}" if self._sgr else params

    def _place(self, params: str) -> None:
        row, _, column = params.partition(";")
        self._y = min(max(int(row or 1), 1), self.height) - 1
        self._x = min(max(int(column or 1), 1), self.width) - 1
        if self._lost:
            self._lost = False
            self._sent_y = self._sent_x = _UNKNOWN
            self._sent_sgr = None

    def _hyperlink(self, out: list[str], whole: str) -> None:
        self._link = "" if re.fullmatch(r"\x1b\]8;;(?:\x07|\x1b\\)", whole) else whole
        if self._lost:
            out.append(whole)
            self._sent_link = self._link

    def _pass_on(self, out: list[str], whole: str) -> None:
        """Something that may draw or move: the terminal must be where the stream is, and afterwards nothing is known."""
        if not self._lost:
            self._catch_up(out)
        out.append(whole)
        self._lines.clear()
        self._lost = True
        # A reset, or the return to a saved cursor, changes the pen as well: only a full style makes it known again.
        self._knows_pen &= not whole.startswith("\x1b") or whole[-1] in _KEEPS_PEN

    def _catch_up(self, out: list[str]) -> None:
        """Bring the terminal's cursor and pen to where the stream has them."""
        if self._x >= self.width and (self._sent_y, self._sent_x) != (self._y, self._x):
            self._write_last_cell(out)
        self._go(out, self._y, self._x)
        self._take_pen(out, self._sgr, self._link)

    def _write_last_cell(self, out: list[str]) -> None:
        """No sequence puts the cursor behind the last cell of a line; writing that cell does."""
        line = self._lines.get(self._y)
        if line is None or line.chars[-1] is None:
            return
        first = self.width - 2 if line.chars[-1] == _TAIL else self.width - 1
        char = line.chars[first]
        if char is None:
            return
        self._go(out, self._y, first)
        sgr, _, link = (line.pens[first] or "").partition("\x00")
        self._take_pen(out, sgr, link)
        out.append(char)
        self._sent_x = self.width

    def _go(self, out: list[str], y: int, x: int) -> None:
        if (self._sent_y, self._sent_x) == (y, x):
            return
        out.append(f"\x1b[{x + 1}G" if self._sent_y == y else f"\x1b[{y + 1};{x + 1}H")
        self._sent_y, self._sent_x = y, x

    def _take_pen(self, out: list[str], sgr: str, link: str) -> None:
        if link != self._sent_link:
            out.append(link or "\x1b]8;;\x1b\\")
            self._sent_link = link
        if sgr != self._sent_sgr:
            out.append(f"\x1b[0;{sgr}m" if sgr else "\x1b[m")
            self._sent_sgr = sgr

    def _text(self, out: list[str], text: str) -> None:
        cells = list(text) if text.isascii() else _cells(text)
        start, end = self._x, self._x + len(cells or ())
        if cells is None or end > self.width:
            self._pass_on(out, text)
            return
        line = self._lines.get(self._y)
        if line is None:
            line = self._lines[self._y] = _Line(self.width)
        pen = f"{self._sgr}\x00{self._link}" if self._link else self._sgr
        pens = [pen] * len(cells)
        if line.chars[start:end] != cells or line.pens[start:end] != pens:
            for first, last in _changed(line, start, cells, pen):
                self._go(out, self._y, start + first)
                self._take_pen(out, self._sgr, self._link)
                out.append("".join(cells[first:last]))
                # Terminals disagree about the width of what is not ordinary; so where the cursor is now is not relied on.
                self._sent_x = _UNKNOWN if _TAIL in cells[first:last] else start + last
                self._sent_y = self._y if self._sent_x != _UNKNOWN else _UNKNOWN
            _split_wide(line, start, end)
            line.chars[start:end], line.pens[start:end] = cells, pens
        self._x = end


def _changed(line: _Line, start: int, cells: list[str], pen: str) -> list[tuple[int, int]]:
    """Ranges of `cells` that differ from what is shown, wide characters whole, with small gaps bridged."""
    chars, pens = line.chars, line.pens
    ranges: list[list[int]] = []
    for index, char in enumerate(cells):
        if chars[start + index] != char or pens[start + index] != pen:
            first = index - 1 if char == _TAIL else index
            last = index + 2 if index + 1 < len(cells) and cells[index + 1] == _TAIL else index + 1
            if ranges and first - ranges[-1][1] <= _BRIDGE:
                ranges[-1][1] = max(last, ranges[-1][1])
            else:
                ranges.append([first, last])
    return [(first, last) for first, last in ranges]


def _split_wide(line: _Line, start: int, end: int) -> None:
    """A wide character that loses one of its halves to other text: what a terminal shows in the other half is not known."""
    if start and line.chars[start] == _TAIL:
        line.chars[start - 1] = None
    if end < len(line.chars) and line.chars[end] == _TAIL:
        line.chars[end] = None


def _cells(text: str) -> list[str] | None:
    """One entry a cell, combining marks with their base; None if terminals disagree about how wide this text is."""
    cells: list[str] = []
    for char in text:
        width = get_character_cell_size(char)
        if width == 1:
            cells.append(char)
        elif width == 2:
            cells += (char, _TAIL)
        elif char in "\u200d\ufe0f" or not cells or cells[-1] == _TAIL:
            return None
        else:
            cells[-1] += char
    return cells
