"""What the engine tells of changes that a console before it left open."""

from __future__ import annotations

import pytest

from anyconsole.actions.plan import Step
from anyconsole.actions.runner import Standing
from anyconsole.engine.changes import in_sequence

BEFORE, UNCONFIRMED, CONFIRMED = Standing.BEFORE, Standing.UNCONFIRMED, Standing.CONFIRMED
OTHER, UNKNOWN = Standing.OTHER, Standing.UNKNOWN


def step(host: str, number: int) -> Step:
    return Step(
        host=host,
        part="bird",
        title="",
        apply="",
        confirm="",
        revert="",
        hold=1,
        serial=number,
        serial_before=number - 1,
    )


@pytest.mark.parametrize(
    ("each_by_itself", "together"),
    [
        ((BEFORE, OTHER, OTHER), (BEFORE, BEFORE, BEFORE)),
        ((UNCONFIRMED, BEFORE, OTHER), (UNCONFIRMED, BEFORE, BEFORE)),
        ((CONFIRMED, BEFORE, OTHER), (CONFIRMED, BEFORE, BEFORE)),
        ((OTHER, UNCONFIRMED, BEFORE), (CONFIRMED, UNCONFIRMED, BEFORE)),
        ((OTHER, OTHER, CONFIRMED), (CONFIRMED, CONFIRMED, CONFIRMED)),
        ((OTHER, OTHER, OTHER), (OTHER, OTHER, OTHER)),
        ((UNKNOWN, UNKNOWN, UNKNOWN), (UNKNOWN, UNKNOWN, UNKNOWN)),
    ],
)
def test_only_what_somebody_else_did_is_called_so(
    each_by_itself: tuple[Standing, ...], together: tuple[Standing, ...]
) -> None:
    steps = [step("fra1", number) for number in (1, 2, 3)]
    assert in_sequence(steps, each_by_itself) == list(together)


def test_what_one_host_tells_says_nothing_of_another() -> None:
    assert in_sequence([step("fra1", 1), step("ams1", 2)], [CONFIRMED, OTHER]) == [CONFIRMED, OTHER]
