"""What proves that a tenant is set up on a cluster, or gone from it: layers in the order of trust. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from anyconsole.actions.plan import Step
from anyconsole.actions.run import Proof
from anyconsole.actions.stack.request import Way, hosting, namespace_of, tenant_of
from anyconsole.drivers.kube.objects import key_secret
from anyconsole.drivers.kube.rollout import Rollout
from anyconsole.model import verdicts
from anyconsole.model.cluster_state import denied_of
from anyconsole.model.facts import Exported, SessionState
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import AnnouncementVerdict, Intent
from anyconsole.model.views.catchment import node_of_nsid

__all__ = ["Seen", "Serial", "layers", "serials_in"]

_MOST = 3


class Serial(msgspec.Struct, frozen=True):
    """The serial of a zone on a node, and at its primaries; None is not known."""

    node: str
    zone: str
    here: int | None
    primary: int | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a step's set in the cluster: calls carried out, its workloads, what is left of it; nothing before `is_looked`."""

    done: int = 0
    total: int = 0
    is_looked: bool = False
    rollouts: tuple[Rollout, ...] = ()
    serials: tuple[Serial, ...] = ()
    left: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()


def serials_in(node: str, said: str) -> list[Serial]:
    """What an observer says of the serials on a node: lines of zone, serial here, serial at the primaries, "-" for what it can't tell."""
    found = []
    for line in said.splitlines():
        match line.split():
            case [zone, here, primary] if all(word == "-" or word.isdigit() for word in (here, primary)):
                found.append(Serial(node, zone, *(None if word == "-" else int(word) for word in (here, primary))))
    return found


def layers(store: FleetStore, way: Way, step: Step, seen: Seen, now: float) -> tuple[Proof, ...]:
    """The layers of one step, as they are now."""
    calls = Proof(
        layer="calls", met=0 < seen.total == seen.done, words=f"{seen.done} of {seen.total} carried out", required=True
    )
    tenant = tenant_of(step.part)
    if way is Way.TEARDOWN:
        return (calls, *_gone(store, step, tenant, seen, now))
    told = [calls, *_workloads(store, step, tenant, seen)]
    if tenant:
        told += [
            _announced(store, step, tenant, now),
            _serials(store, step, tenant, seen),
            _vantages(store, tenant, now),
            _catchment(store, step, tenant, now),
        ]
    return tuple(told)


# --- set-up


def _workloads(store: FleetStore, step: Step, tenant: str, seen: Seen) -> Iterator[Proof]:
    """Pods are ready while their observer gets answers on each service address."""
    if not tenant and not seen.rollouts:
        return
    cluster = store.inventory.cluster(step.host)
    namespace = namespace_of(cluster, tenant) if tenant else cluster.monitoring
    names = {rollout.name for rollout in seen.rollouts}
    waiting = [
        f"{pod.name}: {pod.trouble or pod.status}"
        for pod in store.pods(step.host, namespace)
        if not pod.is_ready and pod.owner.partition("/")[2] in names
    ]
    told = ", ".join(rollout.words for rollout in seen.rollouts) or "none is seen yet"
    is_met = bool(seen.rollouts) and all(rollout.is_complete for rollout in seen.rollouts)
    if waiting and not is_met:
        told += f"; {'; '.join(waiting[:_MOST])}{' ...' if len(waiting) > _MOST else ''}"
        if tenant:
            told += _secret(store, step, tenant)
    elif is_met and tenant:
        told += "; their observers get answers on each service address"
    yield Proof(layer="workloads", met=is_met, words=told, required=True)


def _secret(store: FleetStore, step: Step, tenant: str) -> str:
    """What to do about a TSIG key that the pods wait for: their events say so, for we may not look."""
    cluster = store.inventory.cluster(step.host)
    secret = key_secret(store.inventory, cluster, store.inventory.tenant(tenant))
    wanted = store.inventory.stack.tenant(tenant)
    events = store.cluster_events(step.host, namespace_of(cluster, tenant))
    is_missing = (
        secret is not None
        and wanted is not None
        and any(event.reason == "FailedMount" and f'"{wanted.tsig_secret}"' in event.message for event in events)
    )
    return f"; {secret.advice}" if secret is not None and is_missing else ""


def _cells(store: FleetStore, step: Step, tenant: str, now: float) -> list[AnnouncementVerdict]:
    nodes = hosting(store.inventory, store.inventory.cluster(step.host), tenant)
    return [cell for node in nodes for cell in verdicts.announcements(store, node, now, tenant)]


def _is_up(store: FleetStore, cell: AnnouncementVerdict) -> bool:
    session = store.session(cell.node, cell.speaker, cell.session)
    return session is None or session.state is SessionState.ESTABLISHED


def _can_be_seen(store: FleetStore, cluster: str) -> bool:
    """Whether exports can be known at all: BIRD is asked by an exec in Calico's pods."""
    known = store.cluster(cluster)
    spec = store.inventory.cluster(cluster)
    denied = {p.namespace for p in denied_of(known, "pods/exec")} | {p.namespace for p in denied_of(known, "pods")}
    return known is not None and bool(known.calico) and not denied & {"", spec.calico}


def _announced(store: FleetStore, step: Step, tenant: str, now: float) -> Proof:
    """What is drained stays drained; a session that is down is told of nothing."""
    cells = _cells(store, step, tenant, now)
    wanted = [cell for cell in cells if cell.intent is not Intent.HARD and _is_up(store, cell)]
    sent = [cell for cell in wanted if cell.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED)]
    unknown = [cell for cell in wanted if cell.exported is Exported.UNKNOWN]
    words = f"{len(sent)} of {len(wanted)} announcements are sent"
    words += f", {len(unknown)} not known" if unknown else ""
    words += f"; {len(cells) - len(wanted)} are drained, or their session is down" if len(cells) > len(wanted) else ""
    if not cells:
        return Proof(layer="announced", met=None, words="the profile names no session there")
    if not _can_be_seen(store, step.host):
        return Proof(
            layer="announced", met=None, words="exports can't be seen there (no Calico, or no exec in its pods)"
        )
    met = None if unknown and len(sent) + len(unknown) == len(wanted) else len(sent) == len(wanted)
    return Proof(layer="announced", met=met, words=words, required=True)


def _serials(store: FleetStore, step: Step, tenant: str, seen: Seen) -> Proof:
    zones = store.inventory.tenant(tenant).zones
    known = [serial for serial in seen.serials if serial.here is not None and serial.primary is not None]
    if not known:
        return Proof(
            layer="serials", met=None, words="the observers can't be asked (exec), or their primaries don't answer"
        )
    differ = [s for s in known if s.here != s.primary]
    if differ:
        words = f"{differ[0].node} has {differ[0].zone} {differ[0].here}, its primaries {differ[0].primary}"
        return Proof(layer="serials", met=False, words=words, required=True)
    nodes = {serial.node for serial in known}
    hosts = hosting(store.inventory, store.inventory.cluster(step.host), tenant)
    words = f"{len({s.zone for s in known})} of {len(zones)} zones as at the primaries, on {len(nodes)} of {len(hosts)} nodes"
    return Proof(layer="serials", met=True, words=words, required=True)


def _vantages(store: FleetStore, tenant: str, now: float) -> Proof:
    """From outside, each service address by itself."""
    spec = store.inventory.tenant(tenant)
    told, silent, count = [], 0, 0
    for address in spec.addresses:
        good = asked = 0
        for vantage in store.inventory.vantages:
            answers = [a for zone in spec.zones if (a := store.answer(vantage.name, address, zone)) is not None]
            fresh = [answer for answer in answers if store.is_fresh(answer, now)]
            asked += bool(fresh)
            good += bool(fresh) and not any(answer.error for answer in fresh)
        count += asked
        silent += asked - good
        told.append(f"{address} answers at {good} of {asked}")
    if not count:
        return Proof(layer="vantages", met=None, words="no vantage point tells")
    return Proof(layer="vantages", met=not silent, words=", ".join(told))


def _catchment(store: FleetStore, step: Step, tenant: str, now: float) -> Proof:
    spec = store.inventory.tenant(tenant)
    nodes = {node.name for node in hosting(store.inventory, store.inventory.cluster(step.host), tenant)}
    here: set[str] = set()
    asked: set[str] = set()
    for vantage in store.inventory.vantages:
        for address in spec.addresses:
            for zone in spec.zones:
                answer = store.answer(vantage.name, address, zone)
                if answer is not None and store.is_fresh(answer, now) and answer.nsid:
                    asked.add(vantage.name)
                    here |= {vantage.name} if node_of_nsid(store, answer.nsid) in nodes else set()
    if not asked:
        return Proof(layer="catchment", met=None, words="no vantage point tells")
    return Proof(
        layer="catchment", met=bool(here) or None, words=f"answers {', '.join(sorted(here)) or 'no vantage point'}"
    )


# --- teardown


def _gone(store: FleetStore, step: Step, tenant: str, seen: Seen, now: float) -> Iterator[Proof]:
    words = (
        f"left: {', '.join(seen.left[:_MOST])}{' ...' if len(seen.left) > _MOST else ''}"
        if seen.left
        else "none is left"
    )
    yield Proof(
        layer="objects",
        met=seen.is_looked and not seen.left,
        words=words if seen.is_looked else "not looked at yet",
        required=True,
    )
    listed = f"still listed: {', '.join(seen.entries)}" if seen.entries else "none of ours is listed"
    yield Proof(
        layer="entries",
        met=seen.is_looked and not seen.entries,
        words=listed if seen.is_looked else "not looked at yet",
        required=True,
    )
    cells = _cells(store, step, tenant, now)
    sent = [cell for cell in cells if cell.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED)]
    unknown = [cell for cell in cells if cell.exported is Exported.UNKNOWN and _is_up(store, cell)]
    if not cells or not _can_be_seen(store, step.host):
        yield Proof(layer="routes", met=None, words="exports can't be seen there")
        return
    told = f"{len(sent)} of {len(cells)} announcements are still sent" + (
        f", {len(unknown)} not known" if unknown else ""
    )
    yield Proof(layer="routes", met=False if sent else None if unknown else True, words=told, required=True)
