"""`S` and `T`: nothing but a human who means it gets past the dialogs, and what is done is said to stay."""

from __future__ import annotations

import json

import msgspec
import pytest
from textual import events

from anyconsole.actions.guards import GuardVerdict, Outcome
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Run, StepRun, StepState
from anyconsole.model.facts import Key
from anyconsole.tui.screens import plan as plan_screen
from anyconsole.tui.screens.dialog import ConfirmScreen
from anyconsole.tui.screens.plan import PlanScreen
from anyconsole.tui.screens.watch import WatchScreen
from anyconsole.tui.targets import Wish, request_text, stack_targets_of
from anyconsole.tui.widgets import form
from anyconsole.tui.widgets.form import Push
from tests.fleet import CLUSTER, NOW, healthy_hybrid, hybrid
from tests.tui.changes import OPERATOR
from tests.tui.conftest import Console, console
from tests.tui.fake_client import FakeClient

STORE = healthy_hybrid()
USED = GuardVerdict(name="namespace", outcome=Outcome.REFUSE, numbers="de is there already")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "HASTE", 0.0)
    monkeypatch.setattr(plan_screen, "_PAUSE", 0.01)


def plan_of(args: dict[str, str]) -> Plan:
    request = json.loads(args["request"])
    steps = tuple(
        Step(
            host=CLUSTER, part=f"tenant-{tenant}", title=f"tenant {tenant}: 13 new", apply="APPLY /x\n", confirm="", revert="", hold=300,
            lasting=True, findings=(USED,) if request.get("force") else (),
        )
        for tenant in request["tenants"]
    )  # fmt: skip
    return Plan(
        action=args["action"], title=f"{args['action']} {', '.join(request['tenants'])}", profile="lab", made_at=NOW,
        reason=request["reason"], type_to_confirm=" ".join(request["tenants"]) if args["action"] == "teardown" else "", steps=steps,
    )  # fmt: skip


def run_of(plan: Plan, **fields: object) -> Run:
    first = StepRun(state=StepState.PERFORMING, began_at=NOW, words="3 of 13 calls: services/ac in de created")
    steps = (first, *(StepRun() for _ in plan.steps[1:]))
    return msgspec.structs.replace(Run(id="r1", plan=plan, operator=OPERATOR, began_at=NOW, steps=steps), **fields)


def armed() -> FakeClient:
    fleet = FakeClient(hybrid())

    def start(args: dict[str, str]) -> str:
        fleet.runs["r1"] = run_of(msgspec.json.decode(args["plan"], type=Plan))
        return "r1"

    fleet.replies |= {
        "plan": lambda args: msgspec.json.encode(plan_of(args)).decode(),
        "start": start,
        "cancel": lambda _: "",
    }
    fleet.armed_until = fleet.now + 900
    return fleet


def starts(c: Console) -> list[dict[str, str]]:
    return [args for op, args in c.fleet.asked if op == "start"]


async def planned(c: Console) -> PlanScreen:
    for _ in range(100):
        await c.pilot.pause(0.02)
        if isinstance(c.app.screen, PlanScreen) and not c.app.screen._is_planning:
            break
    assert isinstance(c.app.screen, PlanScreen)
    return c.app.screen


async def opened(c: Console, key: str) -> PlanScreen:
    """On the first tenant."""
    await c.press("2", "g", key)
    return await planned(c)


async def filled(c: Console, key: str) -> PlanScreen:
    screen = await opened(c, key)
    screen.query_one("#reason", form.Field).value = "a new customer"
    await c.pilot.pause()
    await planned(c)
    return screen


@pytest.mark.parametrize("key", ["S", "T"])
async def test_cancel_has_the_cursor_and_enter_or_escape_only_closes(key: str) -> None:
    async with console(fleet=armed()) as c:
        for leave in ("enter", "escape"):
            screen = await opened(c, key)
            assert isinstance(screen.focused, Push)
            assert screen.focused.label == "Cancel"
            await c.press(leave)
            assert c.app.screen is c.app.main
        assert not starts(c)


@pytest.mark.parametrize("key", ["S", "T"])
async def test_no_stray_key_click_or_paste_applies(key: str) -> None:
    async with console((200, 50), fleet=armed()) as c:
        screen = await filled(c, key)
        screen.query_one("#first").focus()
        for stray in (*"DUSTLayqG01", "space", "up", "down", "right", "delete"):
            await c.pilot.press(stray)
            assert c.app.screen is screen, stray
        await c.pilot.click(offset=(0, 0))
        c.app.post_message(events.Paste("yes\n\n\n"))
        await c.pilot.pause()
        for field in ("#reason", "#ticket"):
            screen.query_one(field).focus()
            await c.press("enter")
        assert c.app.screen is screen
        assert not starts(c)


async def test_a_set_up_is_started_as_it_is_shown_and_watched_without_a_promise_to_take_it_back() -> None:
    async with console((160, 50), fleet=armed()) as c:
        screen = await filled(c, "S")
        assert "Set up: " in c.text
        assert "lasts" in screen._text.text
        shown = screen._plan_text
        screen.query_one("#apply").focus()
        await c.press("enter")
        await c.pilot.pause(0.05)
        (start,) = starts(c)
        assert start["plan"] == shown
        assert isinstance(c.app.screen, WatchScreen)
        assert "3 of 13 calls" in c.text
        assert "takes it back" not in c.text
        await c.press("x")
        assert isinstance(c.app.screen_stack[-1], ConfirmScreen)
        assert "What was done stays" in " ".join(c.text.split())


async def test_a_teardown_wants_the_tenants_name_typed() -> None:
    async with console((160, 50), fleet=armed()) as c:
        screen = await filled(c, "T")
        plan = screen.plan
        assert plan is not None
        assert screen.query_one("#apply").disabled
        assert screen.lacks.startswith("live traffic refuses"), "it answers, and so it isn't torn down without a word"
        for row in screen._guards.values():
            if row.verdict is not None and row.verdict.refuses:
                row._reason.value = "it is a test"
        await c.pilot.pause()
        assert screen.lacks == f"type {plan.type_to_confirm} to confirm"
        screen.query_one("#typed", form.Field).value = plan.type_to_confirm
        await c.pilot.pause()
        assert not screen.query_one("#apply").disabled


async def test_fields_of_others_are_taken_only_if_somebody_says_so() -> None:
    async with console((160, 50), fleet=armed()) as c:
        screen = await filled(c, "S")
        requests = [json.loads(args["request"]) for op, args in c.fleet.asked if op == "plan"]
        assert requests[-1]["force"] is False
        screen.query_one("#force").focus()
        await c.press("right")
        screen = await planned(c)
        requests = [json.loads(args["request"]) for op, args in c.fleet.asked if op == "plan"]
        assert requests[-1]["force"] is True
        assert screen.lacks.startswith("namespace refuses"), "what planning found is judged on the screen too"


@pytest.mark.parametrize("key", ["S", "T"])
async def test_what_is_in_no_cluster_cant_be_set_up_or_torn_down(key: str) -> None:
    async with console() as c:
        c.fleet.armed_until = c.fleet.now + 900
        await c.press(key)
        assert c.app.screen is c.app.main
        assert "in a cluster" in c.message


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ([("tenant", "de")], (("k3s",), ("de",))),
        ([("instance", "hv1", "de"), ("instance", "hv2", "nic")], (("k3s",), ("de", "nic"))),
        ([("node", "hv1")], (("k3s",), ("de", "nic", "enum"))),
        ([("pod", "k3s", "nic", "ns.nic-1")], (("k3s",), ("nic",))),
        ([("node", "fra1")], None),
        ([("tenant", "de"), ("node", "fra1")], None),
        ([("event", "1")], None),
        ([], None),
    ],
)
def test_rows_mean_tenants_in_clusters(keys: list[Key], wanted: tuple[tuple[str, ...], tuple[str, ...]] | None) -> None:
    found = stack_targets_of(STORE, keys)
    assert (None if found is None else (found.clusters, found.tenants)) == wanted
    if found is not None:
        request = json.loads(request_text(Wish.TEAR_DOWN, found, reason="r"))
        assert (request["clusters"], request["tenants"]) == tuple(map(list, wanted or ()))
