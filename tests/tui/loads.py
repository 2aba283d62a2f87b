"""Load tests for the tests of the screen: a fleet that may be tested, and what the engine tells of a test on its way."""

from __future__ import annotations

from typing import Any

import msgspec

from anyconsole.actions.load.request import LoadRequest, make_plan
from anyconsole.actions.run import Outcome, Run, RunState, StepRun, StepState
from anyconsole.model.facts import Link, LinkState
from anyconsole.model.inventory import Generator, LoadSpec, LoadTarget
from anyconsole.model.load import Phase, Verdict
from anyconsole.model.load_view import GeneratorRow, GridPoint, InstanceRow, LoadSecond, LoadState, LoadView, Point
from tests.actions.load_targets import target
from tests.fleet import NOW, inventory
from tests.tui.changes import OPERATOR, engine_of_plans
from tests.tui.fake_client import FakeClient

__all__ = ["fleet_to_test", "load_run", "load_view", "over"]


def fleet_to_test(
    *targets: LoadTarget, generators: tuple[str, ...] = ("gen1", "gen2"), armed: float = 900.0
) -> FakeClient:
    """A fleet with a lab target on fra1, and two generators; its engine plans load tests as the real one does."""
    fleet = msgspec.structs.replace(
        inventory(),
        load=LoadSpec(targets=targets or (target(), target(name="nic-ams1", node="ams1", tenant="nic"))),
        generators=tuple(Generator(name=name, address=name) for name in generators),
    )
    client = FakeClient(fleet)
    client.apply(*(Link(node=g, section="link", at=NOW, state=LinkState.LIVE, since=NOW) for g in generators))
    engine_of_plans(client, armed=armed)
    of_drains = client.replies["plan"]

    def plan(args: dict[str, str]) -> str:
        if args["action"] != "loadtest":
            return of_drains(args)
        request = msgspec.json.decode(args["request"], type=LoadRequest)
        return msgspec.json.encode(make_plan(client.store, request, client.now)).decode()

    def start(_: dict[str, str]) -> str:
        client.runs["r1"] = load_run(client)
        return "r1"

    client.replies |= {"plan": plan, "start": start, "adjust": lambda args: str(20_000 * float(args["factor"]))}
    return client


def load_run(fleet: FakeClient, **fields: Any) -> Run:  # noqa: ANN401 - of any type
    """A run of one load test that is being carried out."""
    request = LoadRequest(targets=("de-fra1",), reason="CHG-7: how much is it", ticket="CHG-7")
    plan = make_plan(fleet.store, request, NOW)
    step = StepRun(state=StepState.PERFORMING, began_at=NOW, words="votes on 20 200 q/s")
    run = Run(id="r1", plan=plan, operator=OPERATOR, began_at=NOW, steps=(step,))
    return msgspec.structs.replace(run, **fields)


def over(run: Run, outcome: Outcome = Outcome.DONE, seconds: float = 72.0) -> Run:
    """The same run, ended."""
    state = StepState.DONE if outcome is Outcome.DONE else StepState.CANCELLED
    step = msgspec.structs.replace(run.steps[0], state=state, ended_at=NOW + seconds)
    return msgspec.structs.replace(
        run, state=RunState.ENDED, outcome=outcome, ended_at=NOW + seconds, steps=(step,), words="cancelled"
    )


def load_view(**fields: Any) -> LoadView:  # noqa: ANN401 - of any type
    """A search in the middle of its votes, with everything known that can be."""
    now = NOW + 41
    climbed = [(Phase.CLIMB, 1250 * 2**n, 0.0) for n in range(5)] + [(Phase.CLIMB, 40_000, 0.497)] * 2
    pushed = [(Phase.PLATEAU, 21_700 + 40 * n, 0.07 + 0.002 * n) for n in range(4)]
    voted = [(Phase.VOTE, 20_200, 0.0082)] * 3 + [(Phase.VOTE, 20_402, 0.0181)] * 4 + [(Phase.VOTE, 20_000, 0.0007)] * 4
    points = [
        Point(
            phase=phase, rate=rate, loss=loss, answered=rate * (1 - loss), p99=0.0137,
            verdict=Verdict.VOID if index == 9 else Verdict.BAD if loss > 0.01 else Verdict.OK,
        )
        for index, (phase, rate, loss) in enumerate([*climbed, *pushed, *voted])
    ]  # fmt: skip
    seconds = [
        LoadSecond(
            at=now - 40 + n, target=20_200, offered=20_200 - n % 3, sent=20_196, answered=20_196 - 165 - n, lost=165 + n, late=12,
            truncated=0, loss=(165 + n % 7) / 20_196, p50=0.0004, p95=0.005, p99=0.0137, worst=0.018,
            rcodes={0: 18_046, 3: 1_985, 2: 0},
        )
        for n in range(40)
    ]  # fmt: skip
    ok, bad, void = Verdict.OK, Verdict.BAD, Verdict.VOID
    usual: dict[str, Any] = {
        "run": "r1", "target": "de-fra1", "node": "fra1", "tenant": "de", "address": "198.18.1.1", "purpose": "search",
        "state": LoadState.RUNNING, "began_at": NOW, "cap": 60_000.0, "goal": 0.01, "record": "20261123T185320-ab3f",
        "phase": Phase.VOTE, "rate": 20_200.0, "words": "votes on 20 200 q/s", "ends_at": now + 0.6, "plateau": 20_010.0,
        "lower": 20_000.0, "upper": 20_402.0, "seconds": tuple(seconds), "points": tuple(points),
        "grid": (
            GridPoint(rate=20_000, votes=(ok,) * 4, passed=True), GridPoint(rate=20_200, votes=(ok, ok, bad, void, ok)),
            GridPoint(rate=20_402, votes=(bad,) * 4, passed=False),
        ),
        "generators": tuple(
            GeneratorRow(
                name=name, state="asks", sent=10_100, busy=0.41, short=0.0, receive_errors=0, flows=256, sources=4, limit=48_000,
                heard_at=now - 0.2,
            )
            for name in ("gen1", "gen2")
        ),
        "instances": (
            InstanceRow(
                node="fra1", tenant="de", identity="de.fra1", share=1.0, served=20_031, busy=0.71, throttled=0.4, drops=164, bgp="4/4 up"
            ),
            InstanceRow(node="fra1", tenant="nic", served=12, bgp="4/4 up", is_target=False),
        ),
    }  # fmt: skip
    return LoadView(**usual | fields)
