"""The capability table of a comparison: what was measured, what the profile says, what is judgement, and what nobody measured. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from anyconsole.actions.load.compare import Comparison, Side
from anyconsole.actions.load.words import rate

__all__ = ["Capability", "Mark", "capabilities"]


class Mark(StrEnum):
    """Where a cell of the capability table comes from."""

    MEASURED = "measured"
    PROFILE = "as the profile says"
    JUDGEMENT = "judgement"
    NOT_MEASURED = "not measured"


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the capability table: what each side does, in words, and where that comes from."""

    name: str
    a: str
    b: str
    a_mark: Mark
    b_mark: Mark


# What nobody measures: words by kind of stack.
_JUDGEMENTS: Final = {
    "Administration": {
        "bare": "more work: each host is kept as itself",
        "virtual": "less work: the orchestrator keeps it",
    },
    "Portability": {
        "bare": "tied to its operating system",
        "virtual": "wherever the orchestrator runs",
    },
}


def capabilities(
    comparison: Comparison,
    *,
    tenants: tuple[int | None, int | None] = (None, None),
    setup_seconds: tuple[float | None, float | None] = (None, None),
) -> tuple[Capability, ...]:
    """Performance, administration, scalability, set-up and portability of both sides, each cell marked with where it comes from.

    Args:
        comparison: What the load tests say.
        tenants: How many tenants the node of each side is to carry, by the profile: how many it could carry nobody measured.
        setup_seconds: How long it took to set up a tenant on each side.
    """
    best = comparison.measure("best")
    sides = (comparison.a, comparison.b)
    return (
        _capability("Performance", *(f"{rate(s.median)} q/s" if s else None for s in (best.a, best.b))),
        _judgement("Administration", sides),
        _capability(
            "Scalability",
            *(f"{n} tenant{'' if n == 1 else 's'} on one node" if n else None for n in tenants),
            mark=Mark.PROFILE,
        ),
        _capability("Set-up", *(f"{s:.0f} s for a tenant" if s is not None else None for s in setup_seconds)),
        _judgement("Portability", sides),
    )


def _capability(name: str, a: str | None, b: str | None, *, mark: Mark = Mark.MEASURED) -> Capability:
    marks = [Mark.NOT_MEASURED if words is None else mark for words in (a, b)]
    return Capability(name=name, a=a or "", b=b or "", a_mark=marks[0], b_mark=marks[1])


def _judgement(name: str, sides: tuple[Side, Side]) -> Capability:
    a, b = (_JUDGEMENTS[name].get(side.kind, "") for side in sides)
    marks = [Mark.JUDGEMENT if words else Mark.NOT_MEASURED for words in (a, b)]
    return Capability(name=name, a=a, b=b, a_mark=marks[0], b_mark=marks[1])
