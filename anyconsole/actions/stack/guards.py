"""Guards of set-up and teardown: what planning found in the cluster, and what the fleet says now. Pure.

What isn't known counts against the change: a rate that nobody tells is traffic, an export that nobody tells is announced.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from anyconsole.actions import guards
from anyconsole.actions.guards import GuardVerdict, Outcome
from anyconsole.actions.plan import Step
from anyconsole.actions.stack.request import Way, hosting, tenant_of
from anyconsole.model import verdicts
from anyconsole.model.facts import Exported, LinkState
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Intent

__all__ = ["evaluate"]

_FINDINGS: Final = {
    "permissions": "whatever it takes may be done there",
    "foreign": "nothing of the same name is somebody else's",
    "namespace": "no namespace is used that others made",
    "conflicts": "no field is managed by somebody else",
    "api server": "the API server would take it all (dry run)",
    "tsig": "every TSIG key can be read where the profile says",
}
"""What planning finds out, and how it is said that it found nothing."""

_SHARED: Final = ("last announcer", "floor", "sites", "regions", "evidence", "pending")
"""Guards of drains that a teardown has to pass too."""

_OBSERVER_PACE: Final = 2.0
"""Seconds between two rounds of the observer in each pod; its questions are no traffic."""

_LEAST: Final = 2
"""Nodes that have to serve a tenant before the pods of one are restarted."""


def evaluate(
    store: FleetStore, way: str, steps: Sequence[Step], now: float, unseen: Collection[str] = ()
) -> list[GuardVerdict]:
    """All guards on steps of one plan, in the order in which they are shown. `unseen` are nodes that could not be looked at afresh."""
    if not steps:
        return []
    if way == Way.TEARDOWN:
        return [
            _connected(store, steps),
            _found("permissions", steps),
            _drained(store, steps, now, unseen),
            _traffic(store, steps, now, unseen),
            *_remaining(store, steps, now, unseen),
        ]
    return [
        _connected(store, steps),
        *(_found(name, steps) for name in _FINDINGS),
        _nodes(store, steps, now),
        _restarts(store, steps, now),
    ]


def _connected(store: FleetStore, steps: Iterable[Step]) -> GuardVerdict:
    for name in dict.fromkeys(step.host for step in steps):
        link = store.link(name)
        if link is None or link.state is not LinkState.LIVE:
            numbers = f"{name} is {link.state if link is not None else 'not connected'}"
            return GuardVerdict(name="connected", outcome=Outcome.REFUSE, numbers=numbers, overridable=False)
    return GuardVerdict(name="connected", outcome=Outcome.OK, numbers="the API servers answer")


def _found(name: str, steps: Iterable[Step]) -> GuardVerdict:
    """What planning found, of all steps together; the gravest counts."""
    found = [finding for step in steps for finding in step.findings if finding.name == name]
    if not found:
        return GuardVerdict(name=name, outcome=Outcome.OK, numbers=_FINDINGS[name])
    numbers = "; ".join(dict.fromkeys(finding.numbers for finding in found))
    overridable = all(finding.overridable for finding in found)
    return GuardVerdict(name=name, outcome=Outcome.REFUSE, numbers=numbers, overridable=overridable)


# --- set-up


def _tenants(steps: Iterable[Step]) -> list[tuple[str, str]]:
    """(cluster, tenant) of the steps that are about one."""
    return [(step.host, tenant) for step in steps if (tenant := tenant_of(step.part))]


def _nodes(store: FleetStore, steps: Iterable[Step], now: float) -> GuardVerdict:
    """A pod that is meant for a node which takes none waits for ever."""
    bad: dict[str, str] = {}
    for cluster, tenant in _tenants(steps):
        for node in hosting(store.inventory, store.inventory.cluster(cluster), tenant):
            known = store.cluster_node(node.name)
            if known is None or not store.is_fresh(known, now):
                bad[node.name] = f"{node.name} ({node.address}) is not seen"
            elif known.is_cordoned or known.is_ready is not True:
                bad[node.name] = f"{node.name} is {'cordoned' if known.is_cordoned else 'not ready'}"
    if bad:
        return GuardVerdict(name="nodes", outcome=Outcome.REFUSE, numbers="; ".join(bad.values()))
    return GuardVerdict(name="nodes", outcome=Outcome.OK, numbers="every node that is to get a pod takes pods")


def _restarts(store: FleetStore, steps: Sequence[Step], now: float) -> GuardVerdict:
    """Pods are replaced one after the other; meanwhile somebody else has to serve."""
    concerned = [step for step in steps if any(finding.name == "restarts" for finding in step.findings)]
    told, few = [], False
    for _, tenant in _tenants(concerned):
        serving = {
            node.name
            for node in store.inventory.nodes
            for cell in verdicts.announcements(store, node, now, tenant)
            if cell.answering and cell.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED)
        }
        few |= len(serving) < _LEAST
        told.append(f"pods of {tenant} are replaced one after the other, {len(serving)} nodes serve it now")
    if few:
        return GuardVerdict(name="restarts", outcome=Outcome.REFUSE, numbers=f"{'; '.join(told)}; {_LEAST} are wanted")
    words = "; ".join(told) or "no pod that runs is replaced"
    return GuardVerdict(name="restarts", outcome=Outcome.OK, numbers=words)


# --- teardown


def _drained(store: FleetStore, steps: Iterable[Step], now: float, unseen: Collection[str]) -> GuardVerdict:
    """What is taken away must not be announced: neither by intention nor in fact."""
    sent, unknown, count = [], [], 0
    for change in (change for step in steps for change in step.changes):
        count += 1
        export = store.export(change.node, change.speaker, change.session, change.prefix)
        is_known = export is not None and store.is_fresh(export, now) and change.node not in unseen
        exported = export.exported if export is not None and is_known else Exported.UNKNOWN
        if exported in (Exported.ANNOUNCED, Exported.DEPREFERRED):
            sent.append(f"{change.prefix} on {change.node} {change.session}")
        elif exported is Exported.UNKNOWN:
            unknown.append(f"{change.prefix} on {change.node} {change.session}")
    if sent or unknown:
        what = f"{len(sent)} of {count} announcements are still sent" if sent else "not known whether it is still sent"
        first = (sent or unknown)[0]
        scope = " ".join(_scope(steps))
        numbers = f"{what}: {first}{' ...' if len(sent or unknown) > 1 else ''}; first drain it: anyconsole drain {scope} --hard"
        return GuardVerdict(name="drained", outcome=Outcome.REFUSE, numbers=numbers)
    return GuardVerdict(name="drained", outcome=Outcome.OK, numbers=f"none of {count} announcements is sent")


def _scope(steps: Iterable[Step]) -> Iterator[str]:
    """The steps' announcements as a drain's arguments: there, and nowhere else."""
    changes = [change for step in steps for change in step.changes]
    yield from (f"--tenant {shlex.quote(name)}" for name in dict.fromkeys(change.tenant for change in changes))
    yield from (f"--node {shlex.quote(name)}" for name in dict.fromkeys(change.node for change in changes))


def _traffic(store: FleetStore, steps: Iterable[Step], now: float, unseen: Collection[str]) -> GuardVerdict:
    """Whoever still asks here would get no answer."""
    live, quiet = [], []
    inventory = store.inventory
    for cluster, name in _tenants(steps):
        tenant = inventory.tenant(name)
        # Our own questions never leave: those of the vantage points, and of the observer in each pod.
        own = len(tenant.addresses) * (1 / inventory.poll.dns + (len(tenant.zones) + 1) / _OBSERVER_PACE)
        for node in hosting(inventory, inventory.cluster(cluster), name):
            status = store.instance(node.name, name)
            if status is not None and store.is_fresh(status, now) and not status.running and node.name not in unseen:
                quiet.append(f"{name} on {node.name} doesn't run")
                continue
            rates = store.qps(node.name, name, now) if node.name not in unseen else None
            peak = max((rate for rate in store.series(node.name, name) if rate == rate), default=0.0)  # noqa: PLR0124 - NaN
            limit = inventory.guards.residual * peak + 2 * own
            if rates is None:
                live.append(f"{name} on {node.name} answers an unknown rate")
            elif rates.qps >= limit:
                live.append(f"{name} on {node.name} answers {rates.qps:.1f} q/s, under {limit:.1f} is silence")
            else:
                quiet.append(f"{name} on {node.name} {rates.qps:.1f} q/s")
    if live:
        return GuardVerdict(name="live traffic", outcome=Outcome.REFUSE, numbers="; ".join(live))
    return GuardVerdict(
        name="live traffic", outcome=Outcome.OK, numbers="; ".join(quiet) or "no name server runs there"
    )


def _remaining(store: FleetStore, steps: Iterable[Step], now: float, unseen: Collection[str]) -> list[GuardVerdict]:
    """Who serves afterwards. Unlike a drain, a teardown may be the end of a tenant: by its name typed, and with a reason."""
    changes = [msgspec.structs.replace(change, after=Intent.HARD) for step in steps for change in step.changes]
    judged = [g for g in guards.evaluate(store, changes, now, unseen=unseen) if g.name in _SHARED]
    return [msgspec.structs.replace(g, overridable=True) if g.name == "last announcer" else g for g in judged]
