"""Everything that is wrong with a profile, collected, so that an operator repairs a file once and not error by error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from anyconsole.errors import ProfileError
from anyconsole.profile.toml_text import shown, toml_key

__all__ = ["Report", "element", "inside", "nearest"]

_UNSET: Final = object()


def inside(where: str, key: str) -> str:
    """The key path of `key` in the table at `where` ("" is the file itself)."""
    quoted = toml_key(key) if len(key) <= 60 else shown(key)
    return f"{where}.{quoted}" if where else quoted


def element(where: str, index: int, name: object = None) -> str:
    """The key path of an element of the list at `where`, counted from 0, with its name where it has one."""
    return f"{where}[{index}] {shown(name)}" if isinstance(name, str) else f"{where}[{index}]"


def nearest(word: str, valid: Iterable[str]) -> str:
    """What to try instead of `word`: the nearest valid word, or all there are."""
    # Only a profile with a mistake in it pays for this import.
    from difflib import get_close_matches  # noqa: PLC0415

    words = list(valid)
    close = get_close_matches(word[:60], words, n=1, cutoff=0.5)
    if close:
        return f'did you mean "{close[0]}"?'
    if not words:
        return "there are none"
    return "known: " + ", ".join(words[:24]) + (", ..." if len(words) > 24 else "")


class Report:
    """Collects problems; the first one of each key path is kept, as what follows is mostly its echo."""

    def __init__(self, file: str, origins: Mapping[str, str] | None = None) -> None:
        """Start without problems.

        Args:
            file: What the profile is called in messages.
            origins: Which file an included key ("ssh") or a key of an included section ("ssh.user") came from.
        """
        self._file = file
        self._origins = origins or {}
        self._lines: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, where: str, problem: str, value: object = _UNSET) -> None:
        """Note that the key path `where`, with `value` if it has one, has `problem`."""
        assigned = "" if value is _UNSET else f" = {shown(value)}"
        self._lines.setdefault(where, f"{self._file_of(where)}: {where}{assigned}: {problem}")

    def raise_if_any(self) -> None:
        """Raise a ProfileError that tells all problems, one a line, if there are any."""
        if self._lines:
            raise ProfileError("\n".join(self._lines.values()))

    def _file_of(self, where: str) -> str:
        keys = re.split(r"[.\[]", where, maxsplit=2)
        return self._origins.get(".".join(keys[:2])) or self._origins.get(keys[0]) or self._file
