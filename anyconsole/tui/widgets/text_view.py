"""A long text that scrolls, grows at its end and can be searched; painted line by line, never as markup."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from anyconsole.tui.plain_text import plain
from anyconsole.tui.widgets.cells import Level

__all__ = ["Line", "TextView"]

_SIDEWAYS = 8


class Line(NamedTuple):
    """One line of text with the level it is painted in. `spans` (start, end, level) are painted in levels of their own."""

    text: str
    level: str = Level.PLAIN
    bold: bool = False
    spans: tuple[tuple[int, int, str], ...] = ()

    @classmethod
    def of(cls, *pieces: str | tuple[str, str], level: str = Level.PLAIN) -> Line:
        """A line of pieces, each plain or with a level of its own. Their text is made plain here, for spans count characters."""
        text, spans = "", []
        for piece in pieces:
            words, own = (piece, "") if isinstance(piece, str) else piece
            words = plain(words)
            if own:
                spans.append((len(text), len(text) + len(words), own))
            text += words
        return cls(text, level, spans=tuple(spans))


class TextView(ScrollView, can_focus=True):
    """Lines of text. With `follow` the end stays in sight while the text grows."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"text-view--match", *(f"text-view--{level}" for level in Level if level)}

    DEFAULT_CSS = """
    TextView {
        background: $surface; color: $foreground; height: 1fr; padding-left: 1;
        overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1;
        & > .text-view--match { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
        & > .text-view--ok { color: $success; }
        & > .text-view--warn { color: $warning; }
        & > .text-view--crit { color: $error; text-style: bold; }
        & > .text-view--drained { color: $drained; }
        & > .text-view--stale { color: $stale; }
        & > .text-view--dim { color: $stale; }
        & > .text-view--accent { color: $accent; }
    }
    """

    def __init__(self, *, limit: int = 20_000, id: str | None = None) -> None:  # noqa: A002 - Textual's own name for it
        """Make an empty text of at most `limit` lines; older ones are dropped."""
        super().__init__(id=id)
        self.follow = False
        """Keep the end in sight when lines are added; moving up ends it, moving to the end begins it again."""
        self.can_follow = False
        self._lines: deque[Line] = deque(maxlen=limit)
        self._pattern: re.Pattern[str] | None = None
        self._at = -1
        self._shift = 0

    @property
    def lines(self) -> Sequence[Line]:
        """The text."""
        return self._lines

    @property
    def text(self) -> str:
        """The text, to be copied."""
        return "\n".join(line.text for line in self._lines)

    def show(self, lines: Iterable[Line]) -> None:
        """Replace the text where it differs; the place that is being read stays."""
        new = [line._replace(text=plain(line.text)) for line in lines]
        old = list(self._lines)
        self._lines.clear()
        self._lines.extend(new)
        if len(old) != len(new):
            self._resize()
            self.refresh()
            return
        top = self.scroll_offset.y
        regions = [
            Region(0, y - top, self.outer_size.width, 1)
            for y in range(top, min(top + self.size.height, len(new)))
            if old[y] != new[y]
        ]
        if regions:
            self.refresh(*regions)

    def append(self, lines: Iterable[Line]) -> None:
        """Add lines at the end."""
        self._lines.extend(line._replace(text=plain(line.text)) for line in lines)
        self._resize()
        if self.follow:
            self.scroll_end(animate=False, immediate=True, force=True, x_axis=False)
        self.refresh()

    def clear(self) -> None:
        """Remove all lines."""
        self._lines.clear()
        self._resize()
        self.scroll_to(y=0, animate=False)
        self.refresh()

    # Searching

    def search(self, text: str) -> int:
        """Highlight what matches (a regular expression, or literal if it isn't one); returns how many lines do."""
        self._pattern = None
        self._at = -1
        if text:
            try:
                self._pattern = re.compile(text, re.IGNORECASE)
            except re.error:
                self._pattern = re.compile(re.escape(text), re.IGNORECASE)
        self.refresh()
        return len(self._matches())

    @property
    def is_searched(self) -> bool:
        """True while something is highlighted."""
        return self._pattern is not None

    def next_match(self, step: int) -> tuple[int, int]:
        """Go to the next (1) or previous (-1) line that matches; returns (which, of how many), (0, 0) without any."""
        matches = self._matches()
        if not matches:
            return 0, 0
        if step > 0:
            position = next((m for m in matches if m > self._at), matches[0])
        else:
            position = next((m for m in reversed(matches) if m < self._at), matches[-1])
        self._at = position
        self.follow = False
        if not self.scroll_offset.y <= position < self.scroll_offset.y + self.size.height:
            self.scroll_to(y=max(0, position - self.size.height // 3), animate=False)
        self.refresh()
        return matches.index(position) + 1, len(matches)

    def _matches(self) -> list[int]:
        if self._pattern is None:
            return []
        return [i for i, line in enumerate(self._lines) if self._pattern.search(line.text)]

    # Moving

    def move(self, where: str) -> None:
        """Scroll: up, down, page_up, page_down, half_up, half_down, home, end, left, right."""
        if where in ("left", "right"):
            self._shift = max(0, self._shift + (_SIDEWAYS if where == "right" else -_SIDEWAYS))
            self.refresh()
            return
        page = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        steps = {
            "up": -1,
            "down": 1,
            "page_up": -page,
            "page_down": page,
            "half_up": -(page // 2),
            "half_down": page // 2,
        }
        y = {"home": 0, "end": self._last_top}.get(where, top + steps.get(where, 0))
        y = max(0, min(y, self._last_top))
        self.follow = self.can_follow and y == self._last_top and where in ("end", "down", "page_down", "half_down")
        self.scroll_to(y=y, animate=False, force=True)

    @property
    def _last_top(self) -> int:
        return max(0, len(self._lines) - self.size.height)

    # Painting

    def _resize(self) -> None:
        self.virtual_size = Size(0, len(self._lines))

    def on_resize(self) -> None:
        """Stay at the end while following."""
        if self.follow:
            self.scroll_end(animate=False, immediate=True, force=True, x_axis=False)

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width, position = self.scrollable_content_region.width, self.scroll_offset.y + y
        if position >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line = self._lines[position]
        style = self._style(line)
        strip = Strip(self._segments(line, style, position == self._at))
        if self._shift:
            strip = strip.crop(self._shift)
        return strip.adjust_cell_length(width, self.rich_style)

    def _style(self, line: Line) -> Style:
        style = self._level_style(line.level)
        return style + Style(bold=True) if line.bold else style

    def _level_style(self, level: str) -> Style:
        return self.get_component_rich_style(f"text-view--{level}") if level else self.rich_style

    def _segments(self, line: Line, style: Style, is_current: bool) -> list[Segment]:
        text = line.text
        if self._pattern is None:
            segments, end = [], 0
            for start, stop, level in line.spans:
                segments += [Segment(text[end:start], style), Segment(text[start:stop], self._level_style(level))]
                end = stop
            return [*segments, Segment(text[end:], style)]
        match = self.get_component_rich_style("text-view--match")
        if not is_current:
            match = style + Style(reverse=True)
        segments, end = [], 0
        for found in self._pattern.finditer(text):
            if found.start() == found.end():
                continue
            segments += [Segment(text[end : found.start()], style), Segment(found.group(), match)]
            end = found.end()
        return [*segments, Segment(text[end:], style)]
