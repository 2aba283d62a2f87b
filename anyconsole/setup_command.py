"""`anyconsole setup` and `teardown`: what their arguments ask for. How it is carried out is `change_command`'s."""

from __future__ import annotations

import argparse

from anyconsole.actions.stack.request import StackRequest, Way
from anyconsole.change_command import run_plan
from anyconsole.errors import AnyconsoleError
from anyconsole.model.inventory import Inventory

__all__ = ["request_of", "run"]


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Plan and, unless `--plan` is said, carry it out; returns the exit code of `run_plan`. Raises AnyconsoleError."""
    return run_plan(inventory, args, args.command, request_of(args))


def request_of(args: argparse.Namespace) -> StackRequest:
    """What the command line asks for. Raises AnyconsoleError for a teardown that names no tenant."""
    way = Way(args.command)
    if way is Way.TEARDOWN and not args.tenant:
        raise AnyconsoleError(
            "teardown of what? Say --tenant NAME, once for each: all of them is never meant by saying nothing"
        )
    return StackRequest(
        way=way,
        clusters=tuple(args.cluster),
        tenants=tuple(args.tenant),
        force=way is Way.SETUP and args.force_conflicts,
        within=round(args.within),
        reason=args.reason,
        ticket=args.ticket,
    )
