"""A chart as SVG: text, self-contained, without a script, readable in print and by people who see no colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

import msgspec

from anyconsole.actions.load.chart import Axis, Curve, Figure, Marks, Panel

__all__ = ["COLOURS", "svg"]

COLOURS: Final = {
    "ink": "#24292f", "muted": "#5d6671", "grid": "#e4e7eb", "frame": "#b8bfc8", "band": "#f2d58a",
    "ok": "#00667a", "bad": "#b3123f", "void": "#8b949e", "a": "#0b5cad", "b": "#b4530a",
    "p50": "#7fb0dd", "p95": "#3b82c4", "p99": "#0b4a8a", "paper": "#ffffff",
}  # fmt: skip
"""What a role looks like. Signs and words tell the same."""

_WIDTH: Final = 960
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 38, 34, 46
"""Room around a panel's coordinate system: ticks, labels at the ends of curves, title and legend, axis."""
_HEIGHTS: Final = {1: 300, 2: 250}
"""Of a row, by how many panels are in it."""
_CHARACTER: Final = 6.1
"""Width of a character of the small text, on average."""


class _Frame(msgspec.Struct, frozen=True, kw_only=True):
    """Where a panel's coordinate system is, in pixels."""

    left: float
    top: float
    width: float
    height: float
    x_axis: Axis
    y_axis: Axis

    def x(self, value: float) -> float:
        return self.left + self.x_axis.place(value) * self.width

    def y(self, value: float) -> float:
        return self.top + (1 - self.y_axis.place(value)) * self.height

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height


def svg(figure: Figure) -> str:
    """The whole figure as one SVG document, with a newline at the end."""
    top = 46 + 18 * len(figure.subtitle)
    body: list[str] = []
    for row in figure.rows:
        height = _HEIGHTS.get(len(row), 250)
        width = (_WIDTH - 32) / len(row)
        for place, panel in enumerate(row):
            frame = _Frame(
                left=16 + place * width + _LEFT,
                top=top + _TOP,
                width=width - _LEFT - _RIGHT,
                height=height - _TOP - _BOTTOM,
                x_axis=panel.x,
                y_axis=panel.y,
            )
            body += _panel(panel, frame)
        top += height + 8
    head = [_text(16, 30, figure.title, size=18, weight=600)]
    head += [_text(16, 52 + 18 * i, line, "muted", size=12.5) for i, line in enumerate(figure.subtitle)]
    size = f'width="{_WIDTH}" height="{top + 8}" viewBox="0 0 {_WIDTH} {top + 8}"'
    font = "system-ui, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{font}">',
            f"<title>{_escaped(figure.title)}</title>",
            f'<rect width="100%" height="100%" fill="{COLOURS["paper"]}"/>',
            *head,
            *body,
            "</svg>\n",
        )
    )


def _panel(panel: Panel, frame: _Frame) -> Iterator[str]:
    yield _text(frame.left, frame.top - 14, panel.title, size=13.5, weight=600)
    yield from _legend(panel.marks, frame)
    yield from _bands(panel, frame)
    yield from _axes(panel, frame)
    if panel.is_empty:
        yield _text(
            (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2, "not measured", "muted", anchor="middle"
        )
    for curve in panel.curves:
        places = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in curve.points)
        yield f'<polyline points="{places}" fill="none" stroke="{COLOURS[curve.role]}" stroke-width="1.8" stroke-linejoin="round"/>'
    yield from _ends(panel.curves, frame)
    for marks in panel.marks:
        yield from (_sign(marks.sign, COLOURS[marks.role], frame.x(x), frame.y(y)) for x, y in marks.points)
    for limit in panel.limits:
        y = frame.y(limit.value)
        yield _line(frame.left, y, frame.right, y, "ink", width=1.2, dash="6 4")
        # At the left, where tests begin and curves are low; on paper, so that a curve below doesn't cross it out.
        yield _text(frame.left + 6, y - 5, limit.label, "ink", size=11.5, halo=True)
    for tag in panel.tags:
        yield _text(frame.x(tag.x), frame.top + 14, tag.text, "muted", size=11, anchor="middle", halo=True)


def _axes(panel: Panel, frame: _Frame) -> Iterator[str]:
    for value, words in panel.y.ticks:
        y = frame.y(value)
        yield _line(frame.left, y, frame.right, y, "grid")
        yield _text(frame.left - 7, y + 4, words, "muted", size=11, anchor="end")
    free_from = frame.left - 30
    for value, words in panel.x.ticks:
        x, half = frame.x(value), len(words) * _CHARACTER / 2
        yield _line(x, frame.bottom, x, frame.bottom + 4, "frame")
        if x - half >= free_from and x + half <= frame.right + _RIGHT:
            yield _text(x, frame.bottom + 17, words, "muted", size=11, anchor="middle")
            free_from = x + half + 8
    yield _line(frame.left, frame.bottom, frame.right, frame.bottom, "frame")
    yield _line(frame.left, frame.top, frame.left, frame.bottom, "frame")
    yield _text((frame.left + frame.right) / 2, frame.bottom + 35, panel.x.title, "muted", size=11.5, anchor="middle")
    widest = max((len(words) for _, words in panel.y.ticks), default=0)
    middle, x = (frame.top + frame.bottom) / 2, frame.left - 16 - widest * _CHARACTER
    yield _text(x, middle, panel.y.title, "muted", size=11.5, anchor="middle", turned=True)


def _bands(panel: Panel, frame: _Frame) -> Iterator[str]:
    for band in panel.bands:
        left, right = frame.x(band.low), frame.x(band.high)
        width = max(2.0, right - left)
        place = f'x="{left:.1f}" y="{frame.top:.1f}" width="{width:.1f}" height="{frame.height:.1f}"'
        yield f'<rect {place} fill="{COLOURS["band"]}" opacity="0.55"/>'
        if band.label:
            fits = right + 8 + len(band.label) * _CHARACTER < frame.right
            x, anchor = (right + 6, "start") if fits else (left - 6, "end")
            yield _text(x, frame.top + 14, band.label, "ink", size=11.5, anchor=anchor, halo=True)


def _ends(curves: Sequence[Curve], frame: _Frame) -> Iterator[str]:
    """The names of curves at their ends, apart from each other."""
    # Of curves that end together the last one is on top, as p99 is.
    named = [c for c in curves if c.points and c.label][::-1]
    ends = sorted(((frame.y(c.points[-1][1]), frame.x(c.points[-1][0]), c) for c in named), key=lambda end: end[0])
    lowest = frame.top
    for y, x, curve in ends:
        lowest = max(y + 4, lowest + 13)
        is_at_edge = x + 8 + len(curve.label) * _CHARACTER > frame.right + _RIGHT
        yield _text(
            x - 8 if is_at_edge else x + 7, lowest - (8 if is_at_edge else 0), curve.label, curve.role, size=11.5, weight=600,
            anchor="end" if is_at_edge else "start", halo=True,
        )  # fmt: skip


def _legend(marks: Iterable[Marks], frame: _Frame) -> Iterator[str]:
    x = frame.right
    for mark in reversed([m for m in marks if m.label and m.points]):
        x -= len(mark.label) * _CHARACTER
        yield _text(x, frame.top - 14, mark.label, "muted", size=11.5)
        yield _sign(mark.sign, COLOURS[mark.role], x - 11, frame.top - 18)
        x -= 30


def _sign(sign: str, colour: str, x: float, y: float) -> str:
    match sign:
        case "cross":
            path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
            return f'<path d="{path}" stroke="{colour}" stroke-width="2" stroke-linecap="round" fill="none"/>'
        case "diamond":
            path = f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"
            return f'<path d="{path}" stroke="{colour}" stroke-width="2" fill="{COLOURS["paper"]}"/>'
        case "ring":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" stroke="{colour}" stroke-width="1.6" fill="{COLOURS["paper"]}"/>'
        case _:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.85"/>'


def _line(x1: float, y1: float, x2: float, y2: float, role: str, *, width: float = 1, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{COLOURS[role]}" stroke-width="{width}"{dashed}/>'


def _text(
    x: float,
    y: float,
    words: str,
    role: str = "ink",
    *,
    size: float = 12,
    weight: int = 400,
    anchor: str = "start",
    halo: bool = False,
    turned: bool = False,
) -> str:
    about = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    about += f' stroke="{COLOURS["paper"]}" stroke-width="3" paint-order="stroke"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{COLOURS[role]}"{about}>'
        f"{_escaped(words)}</text>"
    )


def _escaped(words: str) -> str:
    """Any text within XML: its markup escaped, what XML has no place for left out."""
    return escape("".join(c for c in words if c.isprintable()))
