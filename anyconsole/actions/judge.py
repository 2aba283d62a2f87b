"""Which guards judge a plan: its action's. So that whoever shows or carries out a plan needs to know no action."""

from __future__ import annotations

from anyconsole.actions import guards
from anyconsole.actions.bootstrap import request as bootstrap
from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.load import guards as load_guards
from anyconsole.actions.plan import Plan
from anyconsole.actions.stack import guards as stack_guards
from anyconsole.actions.stack.request import Way
from anyconsole.model.store import FleetStore

__all__ = ["judge"]


def judge(store: FleetStore, plan: Plan, now: float) -> list[GuardVerdict]:
    """All guards on a plan as a whole, in the order in which they are shown. Raises AnyconsoleError if it makes no sense any more."""
    if plan.action in list(Way):
        return stack_guards.evaluate(store, plan.action, plan.steps, now)
    if plan.action == bootstrap.ACTION:
        return bootstrap.evaluate(plan.steps)
    if plan.action == "loadtest":
        return load_guards.evaluate(store, plan, now)
    return guards.evaluate(store, plan.changes, now, repairs=plan.repairs)
