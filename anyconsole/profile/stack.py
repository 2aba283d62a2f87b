"""The section [stack] of a profile: what set-up makes in clusters. Its tables of images add to the defaults, one by one."""

from __future__ import annotations

from typing import Any

from anyconsole.model.inventory import Inventory, StackSpec, StackTenant
from anyconsole.profile.read import Row, build
from anyconsole.profile.report import Report, element, inside, nearest
from anyconsole.profile.rules import owner_of, unique
from anyconsole.profile.schema import SECTIONS

__all__ = ["check_stack", "read_stack"]


_SECRET = "tsig"  # noqa: S105 - a name
"""The Secret that set-up makes of a key, unless it is called otherwise."""


def read_stack(row: Row) -> StackSpec:
    """The section of a row."""
    table = SECTIONS["stack"]
    rows: list[Row] = row.values.pop("tenant", [])
    for tenant in rows:
        if tenant.values.get("tsig_command") or tenant.values.get("tsig_env"):
            tenant.values["tsig_secret"] = tenant.values.get("tsig_secret") or _SECRET
    tenants = tuple(build(tenant, table.array("tenant"), StackTenant) for tenant in rows)
    defaults = StackSpec()
    images: dict[str, Any] = {
        "images": defaults.images | row.values.get("images", {}),
        "exporters": defaults.exporters | row.values.get("exporters", {}),
    }
    return build(row, table, StackSpec, tenants=tenants, **images)


def check_stack(inventory: Inventory, tenants: list[str], report: Report) -> None:
    """Report what can't be right in the section [stack].

    Args:
        inventory: All parts.
        tenants: Key paths of the section's tenants.
        report: Takes what is wrong.
    """
    placed = list(zip(tenants, inventory.stack.tenants, strict=True))
    unique(placed, "tenant", lambda tenant: tenant.tenant, report)
    known = [tenant.name for tenant in inventory.tenants]
    for where, tenant in placed:
        if tenant.tenant and tenant.tenant not in known:
            problem = f"there is no such tenant, {nearest(tenant.tenant, known)}"
            report.add(inside(where, "tenant"), problem, tenant.tenant)
        if tenant.tsig_command and tenant.tsig_env:
            report.add(inside(where, "tsig_env"), "a TSIG key has one source: tsig_command is another", tenant.tsig_env)
        at = inside(where, "primaries")
        primaries = [(element(at, index), address) for index, address in enumerate(tenant.primaries)]
        if not primaries:
            report.add(at, "expected at least one address")
        unique(primaries, "value", str, report)
        for each, address in primaries:
            if owner := owner_of(inventory, address):
                problem = f'is in the announced prefix {owner[1]} of tenant "{owner[0].name}": the primary is elsewhere'
                report.add(each, problem, address)
