"""`anyconsole bootstrap`: what its arguments ask for. How it is carried out is `change_command`'s."""

from __future__ import annotations

import argparse

from anyconsole.actions.bootstrap.request import ACTION, BootstrapRequest, boot_of
from anyconsole.actions.stack.request import StackRequest, Way
from anyconsole.change_command import run_plan
from anyconsole.model.inventory import Inventory

__all__ = ["run"]


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Plan and, unless `--plan` is said, carry it out, with `--setup` the tenants too; returns the exit code of `run_plan`.

    Raises AnyconsoleError.
    """
    cluster = boot_of(inventory, args.cluster).cluster
    within = round(args.within)
    code = run_plan(
        inventory, args, ACTION, BootstrapRequest(cluster=cluster, within=within, reason=args.reason, ticket=args.ticket)
    )  # fmt: skip
    if code or args.plan or not args.setup:
        return code
    # What was overridden were guards of the first plan; the second one has its own.
    tenants = argparse.Namespace(**vars(args) | {"override": []})
    request = StackRequest(
        way=Way.SETUP, clusters=(cluster,), within=within, reason=args.reason, ticket=args.ticket
    )  # fmt: skip
    return run_plan(inventory, tenants, Way.SETUP, request)
