"""The named error of every parser: what was being read and the line that made no sense.

Standard library only: it travels to the nodes in the probe.
"""

from __future__ import annotations

__all__ = ["ParseError", "printable"]


class ParseError(ValueError):
    """A daemon's words that could not be understood. `line` is the offending line, bounded and printable."""

    def __init__(self, what: str, line: str = "") -> None:
        self.what = what
        self.line = printable(line, 200)
        super().__init__(f"{what}: {self.line!r}" if self.line else what)


def printable(text: str, limit: int = 500) -> str:
    """`text` without control characters, at most `limit` characters long."""
    return "".join(c if c.isprintable() else " " for c in text[:limit]).strip()
