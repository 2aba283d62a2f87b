"""A chart as PNG, drawn by matplotlib, which is optional: it is loaded when a PNG is wanted, and nobody misses it before."""

from __future__ import annotations

import importlib
import io
from typing import Any, Final

from anyconsole.actions.load.chart import Figure, Panel
from anyconsole.actions.load.chart_svg import COLOURS
from anyconsole.errors import AnyconsoleError

__all__ = ["png"]

_DPI: Final = 150
_SIGNS: Final = {"dot": "o", "cross": "x", "ring": "o", "diamond": "D"}


def png(figure: Figure) -> bytes:
    """The figure as a PNG.

    Raises:
        AnyconsoleError: matplotlib isn't installed.
    """
    try:
        module = importlib.import_module("matplotlib.figure")
        importlib.import_module("matplotlib.backends.backend_agg")
    except ImportError as error:
        raise AnyconsoleError(
            "a PNG needs matplotlib, which isn't installed: pip install 'anyconsole[plot]'; an SVG needs nothing"
        ) from error
    widest = max(len(row) for row in figure.rows)
    canvas: Any = module.Figure(figsize=(9.6, 0.7 + 2.9 * len(figure.rows)), dpi=_DPI, layout="constrained")
    canvas.suptitle(
        _plain("\n".join((figure.title, *figure.subtitle))), x=0.01, ha="left", fontsize=10, color=COLOURS["ink"]
    )
    grid = canvas.add_gridspec(len(figure.rows), widest)
    for place, row in enumerate(figure.rows):
        for column, panel in enumerate(row):
            span = grid[place, :] if len(row) == 1 else grid[place, column]
            _draw(canvas.add_subplot(span), panel)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Any, panel: Panel) -> None:  # noqa: ANN401 - matplotlib is only there when it is wanted
    x, y = panel.x.place, panel.y.place
    axes.set_title(_plain(panel.title), loc="left", fontsize=9, fontweight="bold", color=COLOURS["ink"])
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xticks([x(v) for v, _ in panel.x.ticks], [_plain(words) for _, words in panel.x.ticks], fontsize=7)
    axes.set_yticks([y(v) for v, _ in panel.y.ticks], [_plain(words) for _, words in panel.y.ticks], fontsize=7)
    axes.set_xlabel(_plain(panel.x.title), fontsize=8, color=COLOURS["muted"])
    axes.set_ylabel(_plain(panel.y.title), fontsize=8, color=COLOURS["muted"])
    axes.grid(axis="y", color=COLOURS["grid"])
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for band in panel.bands:
        axes.axvspan(
            x(band.low), max(x(band.high), x(band.low) + 0.002), color=COLOURS["band"], alpha=0.55, linewidth=0
        )
        axes.text(x(band.high) + 0.008, 0.95, _plain(band.label), fontsize=7, va="top", color=COLOURS["ink"])
    for curve in panel.curves:
        line = {"color": COLOURS[curve.role], "linewidth": 1.3}
        axes.plot([x(a) for a, _ in curve.points], [y(b) for _, b in curve.points], **line)
        if curve.label and curve.points:
            end = (x(curve.points[-1][0]), y(curve.points[-1][1]))
            axes.annotate(_plain(curve.label), end, (4, 0), textcoords="offset points", fontsize=7, color=line["color"])
    for marks in panel.marks:
        axes.plot(
            [x(a) for a, _ in marks.points], [y(b) for _, b in marks.points], _SIGNS.get(marks.sign, "o"),
            color=COLOURS[marks.role], markersize=6 if marks.sign == "diamond" else 4, linestyle="none", clip_on=False,
            markerfacecolor=COLOURS["paper"] if marks.sign in ("ring", "diamond") else COLOURS[marks.role],
            label=_plain(marks.label) if marks.label and marks.points else None,
        )  # fmt: skip
    for limit in panel.limits:
        axes.axhline(y(limit.value), color=COLOURS["ink"], linewidth=0.9, linestyle="--")
        axes.text(0.008, y(limit.value) + 0.015, _plain(limit.label), fontsize=7, color=COLOURS["ink"])
    for tag in panel.tags:
        axes.text(x(tag.x), 0.95, _plain(tag.text), fontsize=7, ha="center", color=COLOURS["muted"])
    if panel.is_empty:
        axes.text(0.5, 0.5, "not measured", ha="center", color=COLOURS["muted"])
    if any(marks.label and marks.points for marks in panel.marks):
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=7, frameon=False, borderaxespad=0)


def _plain(words: str) -> str:
    """Text that is text: a dollar would begin a formula."""
    return words.replace("$", r"\$")
