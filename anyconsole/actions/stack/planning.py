"""Plans of set-up and teardown: what each set of objects is to be, against what is in the clusters now. Changes nothing.

A step is one set on one cluster. It holds only the calls that change something, so a cluster that is as the profile says has no steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.stack.adding import Adding
from anyconsole.actions.stack.one_cluster import OneCluster
from anyconsole.actions.stack.removing import Removing
from anyconsole.actions.stack.request import FindCluster, StackRequest, Way, scope_of
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.model.inventory import ClusterSpec, Tenant
from anyconsole.model.store import FleetStore

__all__ = ["make_plan", "plan_step"]

_PLANNERS: Final[dict[Way, type[OneCluster]]] = {Way.SETUP: Adding, Way.TEARDOWN: Removing}


async def make_plan(store: FleetStore, in_cluster: FindCluster, request: StackRequest, now: float) -> Plan:
    """The plan for a request. Sets that are as wanted already are left alone.

    Raises:
        AnyconsoleError: The scope means nothing, the profile doesn't say enough, or a cluster refuses to tell.
    """
    scope = scope_of(store.inventory, request)
    steps: list[Step] = []
    notes: list[str] = []
    missing: list[str] = []
    for cluster, tenants in scope:
        try:
            planner = _PLANNERS[request.way](store, in_cluster(cluster.name), request, cluster)
            await planner.look()
            planned = [await planner.step(set_id) for set_id in planner.sets(tenants)]
        except KubeError as error:
            if error.status:
                raise
            missing.append(str(error))  # it doesn't answer: what is there isn't known, so nothing can be planned
            continue
        steps += [step for step in planned if step is not None]
        notes += planner.notes
    where = ", ".join(cluster.name for cluster, _ in scope)
    names = list(dict.fromkeys(tenant.name for _, tenants in scope for tenant in tenants))
    is_setup = request.way is Way.SETUP
    return Plan(
        action=request.way,
        title=f"{'set up' if is_setup else 'tear down'} {', '.join(names)} on {where}",
        profile=store.inventory.name,
        made_at=now,
        reason=request.reason,
        ticket=request.ticket,
        request=msgspec.json.decode(msgspec.json.encode(request)),
        type_to_confirm=_type_to_confirm(store, request, scope, names),
        steps=tuple(steps),
        missing=tuple(missing),
        notes=tuple(dict.fromkeys(notes)),
        settled=f"{', '.join(names)} on {where}: {'as the profile says' if is_setup else 'nothing of it is there'}",
    )


async def plan_step(store: FleetStore, in_cluster: FindCluster, request: StackRequest, step: Step) -> Step | None:
    """The same step, planned anew on the cluster as it is now; None if nothing is left to do. Raises AnyconsoleError."""
    planner = _PLANNERS[request.way](store, in_cluster(step.host), request, store.inventory.cluster(step.host))
    await planner.look()
    return await planner.step(step.part)


def _type_to_confirm(
    store: FleetStore, request: StackRequest, scope: Sequence[tuple[ClusterSpec, list[Tenant]]], names: Sequence[str]
) -> str:
    if request.way is Way.TEARDOWN:
        return " ".join(names)
    if len(scope) > 1:
        return store.inventory.name
    return scope[0][0].name if len(names) > 1 else ""
