"""What a screen does about load tests, without the screen: a process with an engine of its own, told what to do line by line.

    python -m tests.e2e.load_screen PROFILE TARGET RATE

`start` starts a fixed run and says its id once it is under way, `cancel` is the stop key; at the end of the run its outcome is said.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import msgspec

from anyconsole.actions.guards import asked
from anyconsole.actions.judge import judge
from anyconsole.actions.load.request import LoadRequest, Purpose
from anyconsole.actions.plan import Plan
from anyconsole.actions.run import RunState
from anyconsole.engine.client import EngineClient, EngineState
from anyconsole.model.facts import LinkState
from anyconsole.model.load_view import LoadState
from anyconsole.profile import load_profile

PATIENCE = 40.0


async def _until(client: EngineClient, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, client.state_detail
        await asyncio.sleep(0.05)


async def _start(client: EngineClient, target: str, rate: float) -> str:
    request = LoadRequest(purpose=Purpose.FIXED, targets=(target,), rate=rate, seconds=60, flows=48, reason="a stop")
    await client.ask("arm", seconds="900")
    plan = await client.ask("plan", action="loadtest", request=msgspec.json.encode(request).decode())
    looked_at = asked(judge(client.store, msgspec.json.decode(plan, type=Plan), time.time()))
    run = await client.ask(
        "start",
        plan=plan,
        overrides='{"in service": "a lab"}',
        acknowledged=msgspec.json.encode(looked_at).decode(),
    )
    await _until(client, lambda: _is_running(client, run, target))
    return run


def _is_running(client: EngineClient, run: str, target: str) -> bool:
    view = client.loads.get((run, target))
    return view is not None and view.state is LoadState.RUNNING


def _is_seen(client: EngineClient, target: str) -> bool:
    store = client.store
    tenant, _, host = target.partition(".")
    link = store.link("gen1")
    addresses = next(t.addresses for t in store.inventory.load.targets if t.name == target)
    speakers = [(node.name, speaker.name) for node in store.inventory.nodes for speaker in node.speakers]
    return (
        link is not None
        and link.state is LinkState.LIVE
        and store.instance(host, tenant) is not None
        and all(store.covering(*speaker, address) for speaker in speakers for address in addresses)
    )


async def main(profile: str, target: str, rate: str) -> None:
    """Do as told until the input ends."""
    client = EngineClient(load_profile(profile))
    running = asyncio.create_task(client.run())
    await _until(client, lambda: client.state is EngineState.LIVE and _is_seen(client, target))
    run = ""
    while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
        match word:
            case "start":
                run = await _start(client, target, float(rate))
                print(run, flush=True)
            case "cancel":
                await client.ask("cancel", run=run)
                await _until(client, lambda ended=run: client.runs[ended].state is RunState.ENDED)  # type: ignore[misc]
                print(client.runs[run].outcome, flush=True)
    running.cancel()
    await asyncio.wait((running,))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
