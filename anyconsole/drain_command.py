"""`anyconsole drain` and `undrain`: the plan of a drain against the fleet as it is now, with every guard's answer.

Only planning is built: `--plan` is asked for so that nobody takes the command for more than it is, and nothing is ever changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from anyconsole.actions.drain import DrainRequest, make_plan
from anyconsole.actions.guards import Outcome, evaluate
from anyconsole.actions.plan import document, render
from anyconsole.errors import AnyconsoleError
from anyconsole.headless import looked_at
from anyconsole.logs import log_to_file
from anyconsole.model.inventory import Family, Inventory
from anyconsole.model.verdicts import Intent

__all__ = ["REFUSED", "UNSEEN", "run"]

REFUSED = 3
UNSEEN = 4


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Print the plan; returns 0, 3 if a guard refuses it, or 4 if the evidence is not enough to judge it."""
    if not args.plan:
        raise AnyconsoleError(f"{args.command} can only plan yet, and changes nothing: say --plan")
    log_to_file("headless")
    return asyncio.run(_plan(inventory, args))


def request_of(args: argparse.Namespace) -> DrainRequest:
    """What the command line asks for."""
    level = Intent.SERVE if args.command == "undrain" else Intent.HARD if args.hard else Intent.SOFT
    return DrainRequest(
        level=level,
        nodes=tuple(args.node),
        sites=tuple(args.site),
        tenants=tuple(args.tenant),
        peers=tuple(args.peer),
        families=tuple(Family(f"ipv{number}") for number in args.family),
        reason=args.reason,
        ticket=args.ticket,
    )


async def _plan(inventory: Inventory, args: argparse.Namespace) -> int:
    async with looked_at(inventory, args.wait) as engine:
        now = time.time()
        plan = make_plan(engine.store, request_of(args), now)
        guards = evaluate(engine.store, plan.changes, now)
    if args.output == "json":
        print(json.dumps(document(plan, guards), ensure_ascii=False, indent=2))
    else:
        sys.stdout.write(render(plan, guards))
    if any(g.name == "evidence" and g.refuses for g in guards):
        return UNSEEN
    return REFUSED if any(g.outcome is Outcome.REFUSE for g in guards) else 0
