"""`anyconsole bootstrap`: what its arguments ask for. How it is carried out is `change_command`'s."""

from __future__ import annotations

import argparse

from anyconsole.actions.bootstrap.request import BootstrapRequest, boot_of
from anyconsole.change_command import run_plan
from anyconsole.model.inventory import Inventory

__all__ = ["run"]


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Plan and, unless `--plan` is said, carry it out; returns the exit code of `run_plan`. Raises AnyconsoleError."""
    boot = boot_of(inventory, args.cluster)
    request = BootstrapRequest(
        cluster=boot.cluster, within=round(args.within), reason=args.reason, ticket=args.ticket
    )  # fmt: skip
    return run_plan(inventory, args, args.command, request)
