"""Guards in words: the same line wherever a verdict is shown."""

from __future__ import annotations

from anyconsole.actions.guards import GuardVerdict, Outcome
from anyconsole.model.table import Glyphs, Level

__all__ = ["guard_level", "guard_parts", "guard_words"]

_LEVELS = {Outcome.OK: Level.OK, Outcome.ASK: Level.WARN, Outcome.REFUSE: Level.CRIT}
_WORDS = {Outcome.OK: "ok", Outcome.ASK: "ASKS", Outcome.REFUSE: "REFUSES"}


def guard_level(guard: GuardVerdict) -> Level:
    """How a verdict is painted."""
    return _LEVELS[guard.outcome]


def guard_words(guard: GuardVerdict, glyphs: Glyphs) -> str:
    """One verdict in one line."""
    return " ".join(guard_parts(guard, glyphs))


def guard_parts(guard: GuardVerdict, glyphs: Glyphs) -> tuple[str, str]:
    """One verdict: sign, word and name, always as wide; and the numbers behind it."""
    sign = {Outcome.OK: glyphs.ok, Outcome.ASK: glyphs.warn, Outcome.REFUSE: glyphs.crit}[guard.outcome]
    final = "; this can't be overridden" if guard.refuses and not guard.overridable else ""
    return f"{sign} {_WORDS[guard.outcome]:<8}{guard.name:<14}", f"{guard.numbers}{final}"
