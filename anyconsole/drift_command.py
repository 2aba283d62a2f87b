"""`anyconsole drift adopt` and `drift revert`: what their arguments ask for. How it is carried out is `change_command`'s."""

from __future__ import annotations

import argparse

from anyconsole.actions.drift import DriftRequest, Way
from anyconsole.change_command import run_plan
from anyconsole.model.inventory import Inventory

__all__ = ["request_of", "run"]


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Plan and, unless `--plan` is said, carry it out; returns the exit code of `run_plan`. Raises AnyconsoleError."""
    return run_plan(inventory, args, "drift", request_of(args))


def request_of(args: argparse.Namespace) -> DriftRequest:
    """What the command line asks for."""
    return DriftRequest(way=Way(args.way), nodes=tuple(args.node), reason=args.reason, ticket=args.ticket)
