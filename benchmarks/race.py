"""Two consoles that drain the two last nodes of a prefix at the same moment: how often neither, one, or (never) both of them do it.

    python -m benchmarks.race [--runs N]

Each run has two engines of their own, as two consoles have, which begin within half a second of each other in random order.
The floor is overridden on both; the guard "last announcer", evaluated anew on the fresh fleet between apply and confirm, is what is raced.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from anyconsole.actions import runner
from anyconsole.actions.drain import DrainRequest, Level
from anyconsole.actions.guards import asked
from anyconsole.actions.judge import judge
from anyconsole.actions.run import Outcome, Run
from anyconsole.engine.core import FleetEngine
from anyconsole.headless import looked_at
from anyconsole.lab import Lab
from anyconsole.lab.topology import NODES
from anyconsole.profile import load_profile

__all__ = ["race"]

TENANT = "enum"
LAST = ("fra1", "sin1")
_OVERRIDES = dict.fromkeys(("floor", "sites", "regions"), "the race")
_SPREAD = 0.5


async def race(lab: Lab, runs: int, seed: int = 1) -> Counter[str]:
    """Race `runs` times; returns how often "both", "one" or "neither" were drained. The lab's tenant serves as before afterwards."""
    rng = random.Random(seed)
    runner.LINGER = 0.0  # the stopwatch's last seconds decide nothing
    others = [n.name for n in NODES if n.name not in LAST]
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(_console(lab)) for _ in range(2)]
        for node in others:
            await _change(first, node, Level.HARD)
        results: Counter[str] = Counter()
        try:
            for _ in range(runs):
                delays = (0.0, rng.uniform(0, _SPREAD))
                consoles = rng.sample([first, second], 2)
                ended = await asyncio.gather(
                    *(_change(c, n, Level.HARD, d) for c, n, d in zip(consoles, LAST, delays, strict=True))
                )
                done = [run for run in ended if run is not None and run.outcome is Outcome.DONE]
                results[("neither", "one", "both")[len(done)]] += 1
                for node in LAST:
                    await _change(first, node, Level.SERVE)
        finally:
            for node in (*others, *LAST):
                await _change(first, node, Level.SERVE)
    return results


@asynccontextmanager
async def _console(lab: Lab) -> AsyncIterator[FleetEngine]:
    inventory = load_profile(str(lab.profile_path))
    # What is raced are the guards, not the traffic: nobody waits for it to leave.
    guards = msgspec.structs.replace(inventory.guards, hold=10, settle=0.1)
    async with looked_at(msgspec.structs.replace(inventory, guards=guards), 20) as engine:
        engine.changes.arm(12 * 3600)
        yield engine


async def _change(engine: FleetEngine, node: str, level: Level, delay: float = 0.0) -> Run | None:
    """Drain or undrain one node's tenant; None if there is nothing to do."""
    await asyncio.sleep(delay)
    request = DrainRequest(level=level, nodes=(node,), tenants=(TENANT,), reason="the race")
    plan = await engine.changes.plan("drain", msgspec.json.encode(request))
    if not plan.steps:
        return None
    looked_at = asked(judge(engine.store, plan, time.time()))
    return await engine.changes.wait(await engine.changes.start(plan, _OVERRIDES, looked_at))


def _main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args(arguments).runs
    lab = Lab(f"race{os.getpid()}")
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state
        lab.up()
        try:
            began = time.monotonic()
            results = asyncio.run(race(lab, runs))
        finally:
            lab.down()
    print(
        f"{runs} races in {time.monotonic() - began:.0f} s: "
        + ", ".join(f"{results[k]} {k}" for k in ("one", "neither", "both"))
    )
    return 1 if results["both"] else 0


if __name__ == "__main__":
    sys.exit(_main())
