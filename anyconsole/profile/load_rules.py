"""What must hold for the targets of load tests: each is an instance of the fleet at addresses of its own. Default deny begins here."""

from __future__ import annotations

import math

from anyconsole.model.inventory import Inventory, LoadTarget, TargetClass
from anyconsole.profile.report import Report, element, inside, nearest
from anyconsole.profile.rules import owner_of, unique

__all__ = ["check_load"]


def check_load(inventory: Inventory, targets: list[str], report: Report) -> None:
    """Report what can't be right in the section [load].

    Args:
        inventory: All parts.
        targets: Key paths of the inventory's targets.
        report: Takes what is wrong.
    """
    placed = list(zip(targets, inventory.load.targets, strict=True))
    mix = inventory.load.mix
    if not math.isclose(sum(mix.values()), 1.0, abs_tol=0.001):
        report.add("load.mix", "its shares must add up to 1", dict(mix))
    unique(placed, "name", lambda target: target.name, report)
    for where, target in placed:
        _check_instance(inventory, where, target, report)
        _check_addresses(inventory, where, target, report)


def _check_instance(inventory: Inventory, where: str, target: LoadTarget, report: Report) -> None:
    node = next((n for n in inventory.nodes if n.name == target.node), None)
    tenant = next((t for t in inventory.tenants if t.name == target.tenant), None)
    if target.node and node is None:
        known = nearest(target.node, [n.name for n in inventory.nodes])
        report.add(inside(where, "node"), f"there is no such node, {known}", target.node)
    if target.tenant and tenant is None:
        known = nearest(target.tenant, [t.name for t in inventory.tenants])
        report.add(inside(where, "tenant"), f"there is no such tenant, {known}", target.tenant)
    if node is not None and tenant is not None and all(i.tenant != tenant.name for i in node.instances):
        report.add(inside(where, "tenant"), f'node "{node.name}" has no name server for it', target.tenant)
    if tenant is not None and target.zone and target.zone.lower() not in [z.lower() for z in tenant.zones]:
        report.add(
            inside(where, "zone"), f"is none of the tenant's zones, {nearest(target.zone, tenant.zones)}", target.zone
        )


def _check_addresses(inventory: Inventory, where: str, target: LoadTarget, report: Report) -> None:
    addresses = [(element(inside(where, "addresses"), i), address) for i, address in enumerate(target.addresses)]
    unique(addresses, "value", str, report)
    if not addresses and target.name:
        report.add(inside(where, "addresses"), "expected at least one address")
    if target.class_ is TargetClass.LAB:
        return
    for at, address in addresses:
        if owner := owner_of(inventory, address):
            problem = (
                f'is in the announced prefix {owner[1]} of tenant "{owner[0].name}": a load test would hit whichever node is nearest. '
                'Give the address that is this instance\'s alone (class = "lab" allows it, where nothing is announced to the outside)'
            )
            report.add(at, problem, address)
