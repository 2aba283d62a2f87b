"""What the engine tells of changes that a console before it left open."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from anyconsole.actions.action import Standing
from anyconsole.actions.drain import DrainRequest, Level
from anyconsole.actions.drift import DriftRequest, Way
from anyconsole.actions.guards import asked
from anyconsole.actions.judge import judge
from anyconsole.actions.load.request import LoadRequest
from anyconsole.actions.plan import Plan, Step
from anyconsole.engine.changes import in_sequence
from anyconsole.engine.core import FleetEngine
from anyconsole.errors import AnyconsoleError
from tests.actions.load_targets import store_with
from tests.fleet import NOW

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


@pytest.mark.parametrize(
    ("action", "request_"),
    [
        ("drain", DrainRequest(level=Level.HARD, nodes=("fra1",), reason="x")),
        ("drift", DriftRequest(way=Way.REVERT, nodes=("fra1",), reason="x")),
        ("loadtest", LoadRequest(targets=("de-fra1",), reason="x")),
    ],
)
async def test_a_plan_that_a_screen_hands_back_is_taken_for_the_one_that_was_made(
    action: str, request_: msgspec.Struct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    engine = FleetEngine(store_with().inventory, clock=lambda: NOW)
    for fact in store_with():
        engine.take([fact])
    engine.changes.arm(60)
    text = await engine.ask("plan", {"action": action, "request": msgspec.json.encode(request_).decode()})
    shown = msgspec.json.decode(text, type=Plan)
    with pytest.raises(AnyconsoleError, match="plan again"):
        await engine.changes.start(msgspec.structs.replace(shown, title="something else"), {})
    if not shown.steps:
        with pytest.raises(AnyconsoleError, match="nothing to change"):
            await engine.changes.start(shown, {})
        return
    looked_at = asked(judge(engine.store, shown, NOW))
    if looked_at:
        with pytest.raises(AnyconsoleError, match="nobody has looked at it"):
            await engine.changes.start(shown, {})
    run = await engine.changes.start(shown, {}, looked_at)
    assert engine.changes.runner(run).run.acknowledged == looked_at
    assert engine.changes.runner(run).run.guards, "the journal has what the guards said of it"
    engine.changes.cancel_all()
    await engine.changes.wait(run)
