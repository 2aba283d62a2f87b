"""`anyconsole drain` and `undrain`: what their arguments ask for. How it is carried out is `change_command`'s."""

from __future__ import annotations

import argparse
import time

from anyconsole.actions.drain import DrainRequest, Level
from anyconsole.change_command import run_plan
from anyconsole.model.inventory import Family, Inventory

__all__ = ["request_of", "run"]


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Plan and, unless `--plan` is said, carry it out; returns the exit code of `run_plan`. Raises AnyconsoleError."""
    return run_plan(inventory, args, "drain", request_of(args, time.time()))


def request_of(args: argparse.Namespace, now: float) -> DrainRequest:
    """What the command line asks for."""
    level = Level.SERVE
    if args.command == "drain":
        level = Level.HARD if args.hard else Level.SOFT if args.soft else Level.SOFT_THEN_HARD
    return DrainRequest(
        level=level,
        nodes=tuple(args.node),
        sites=tuple(args.site),
        tenants=tuple(args.tenant),
        peers=tuple(args.peer),
        interconnects=tuple(args.interconnect),
        families=tuple(Family(f"ipv{number}") for number in args.family),
        reason=args.reason,
        ticket=args.ticket,
        expires_at=now + args.lasts if args.command == "drain" and args.lasts else None,
    )
