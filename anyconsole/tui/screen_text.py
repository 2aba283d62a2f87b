"""What the console shows at this moment, as text for a file: what a bug report needs, and what tests hold a terminal against."""

from __future__ import annotations

from typing import Any

from textual.screen import Screen

__all__ = ["screen_text"]


def screen_text(screen: Screen[Any], *, colours: bool = False) -> str:
    """The lines of a screen, each with a newline.

    Args:
        screen: The screen that is shown.
        colours: Keep colours and attributes, as escape sequences that `cat` shows in a terminal. Without them blanks at the ends go too.
    """
    # Textual has no public way to the composed picture.
    strips = screen._compositor.render_strips()
    if colours:
        return "".join(f"{strip.render(screen.app.console)}\n" for strip in strips)
    return "".join("".join(segment.text for segment in strip).rstrip() + "\n" for strip in strips)
