"""Remote text made safe to show: no control characters, no direction overrides, nothing whose width terminals disagree about."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

__all__ = ["fit", "plain", "some"]

_VARIATION_SELECTORS = frozenset([*map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0))])


def plain(text: str, limit: int = 4096) -> str:
    """`text` in one line without control, format, private and unassigned characters; white space becomes a space.

    Args:
        text: Anything, trusted or not.
        limit: Characters that are kept at most.
    """
    text = text[:limit]
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        [c if c.isprintable() else " " if c.isspace() else "" for c in text if c not in _VARIATION_SELECTORS]
    )


def some(names: Iterable[str], count: int = 3) -> str:
    """The first few names, and how many more there are."""
    known = list(names)
    more = len(known) - count
    return ", ".join(known[:count]) + (f" and {more} more" if more > 0 else "")


def fit(text: str, width: int, *, right: bool = False, ellipsis: str = "…") -> str:
    """`text`, made plain, in exactly `width` terminal cells; what is cut off is shown by `ellipsis` (one cell)."""
    if width <= 0:
        return ""
    text = plain(text)
    cells = len(text) if text.isascii() else cell_len(text)
    if cells > width:
        return set_cell_size(text, width - 1) + ellipsis
    padding = " " * (width - cells)
    return padding + text if right else text + padding
