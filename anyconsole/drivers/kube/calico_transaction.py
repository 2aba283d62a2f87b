"""A drain of a node in a cluster as three scripts of API calls, and what it is planned from (see `drivers.transaction`).

One change at a time may be unconfirmed in a cluster, for nodes share objects: the Lease is the lock. The Node says how it stands, in
annotations that every console reads: the serial of its drain state, and the mark of what isn't confirmed. Nothing is changed before the
dead-man said that it is awake; it alone takes a change back, when the time is over or when it is asked to. Before it was awake there is
nothing to take back: then all that stays is the Lease, which whoever comes next removes once it has expired.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from anyconsole.drivers.kube import dead_man_job
from anyconsole.drivers.kube.advertising import PENDING, SERIAL, CalicoObjects, NodeDrain
from anyconsole.drivers.kube.calico import CalicoApi, node_path
from anyconsole.drivers.kube.dead_man import ARMED
from anyconsole.drivers.kube.dead_man_job import ASKED, Watched, job
from anyconsole.drivers.kube.diff import difference
from anyconsole.drivers.kube.levers import Levers, ObjectChange, applied
from anyconsole.drivers.kube.lock import LEASE_PATH, NAMESPACE, Lock, lease
from anyconsole.drivers.kube.script import Call, Verb, render
from anyconsole.drivers.kube.values import Json, part, text
from anyconsole.drivers.transaction import Transaction
from anyconsole.model.drain_note import parse_note
from anyconsole.model.pods import RoutingConfig, RoutingObject

__all__ = ["confirmed", "objects_from", "routing_config", "transaction"]

_JOBS: Final = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
_GONE: Final[Json] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}


# What it is planned from


def routing_config(
    objects: CalicoObjects, cluster: str, at: float, lock: Lock | None = None, obstacle: str = ""
) -> RoutingConfig:
    """The fact of these objects, and of the lock as it was read."""
    found = tuple(
        RoutingObject(kind=kind, name=name, body=msgspec.json.encode(obj).decode())
        for (kind, name), obj in sorted(objects.found.items())
    )
    is_left = (
        lock is not None
        and lock.expires_at < at
        and not any(PENDING in _annotations(objects, n) for n, _ in objects.of("Node"))
    )
    return RoutingConfig(
        node=cluster,
        section="calico",
        at=at,
        api=objects.api.group_version,
        calico=".".join(map(str, objects.calico)) if objects.calico is not None else "",
        dead_man=lock.has_account if lock is not None else None,
        lock=lock.holder if lock is not None and not is_left else "",
        expired_lock=lock.uid if lock is not None and is_left else "",
        obstacle=obstacle,
        objects=found,
    )


def objects_from(config: RoutingConfig) -> CalicoObjects:
    """The objects of a fact."""
    found = {(obj.kind, obj.name): msgspec.json.decode(obj.body) for obj in config.objects}
    major, _, minor = config.calico.partition(".")
    return CalicoObjects(CalicoApi(config.api), found, (int(major), int(minor)) if minor else None)


# The scripts


def transaction(
    objects: CalicoObjects, kube: str, before: int, after: NodeDrain, levers: Levers, hold: int, image: str, lock: str
) -> Transaction:
    """The scripts of one change on one node.

    Args:
        objects: As they are.
        kube: What Kubernetes calls the node.
        before: The serial that the drain state has, as it is told of the speaker.
        after: What is wanted, with its serial and note.
        levers: How.
        hold: Seconds until it is taken back unless it is confirmed; it may be later.
        image: Has a Python, for the dead-man.
        lock: The uid of a lock that has expired and has to go first, "" if there is none.

    Raises:
        ValueError: `hold` or the serials can't be, or it is too much for one change.
    """
    if hold < 1:
        raise ValueError(f"a change can't be held for {hold} s")
    if after.serial is None or after.serial == before:
        raise ValueError(f"serials that differ are needed, not {before} -> {after.serial}")
    hold = max(hold, dead_man_job.SHORTEST)
    told = text(_annotations(objects, kube), SERIAL) or None
    node, token = node_path(kube), _token(kube, after)
    untouched: Json = {SERIAL: told, PENDING: None}
    expected = _node(untouched)
    watched = Watched(
        token=token,
        mark=PENDING,
        node=node,
        lease=LEASE_PATH,
        hold=hold,
        undo=tuple(levers.undo_calls()),
        before={SERIAL: told},
        after={SERIAL: str(after.serial)},
    )
    name = f"dead-man-{after.serial}-{token.rpartition('.')[2]}"
    holder: Json = {"spec": {"holderIdentity": token}}
    apply = [
        _expect(node, expected, "nobody changed what is drained there, and nothing there waits to be confirmed"),
        *(_taken_over(lock) if lock else ()),
        Call(verb=Verb.CREATE, path=LEASE_PATH.rpartition("/")[0], body=lease(token), note="the lock of the cluster"),
        Call(verb=Verb.CREATE, path=_JOBS, body=job(name, NAMESPACE, kube, image, watched), note="the dead-man"),
        Call(
            verb=Verb.AWAIT,
            path=LEASE_PATH,
            body=holder | {"metadata": {"annotations": {ARMED: token}}},
            note="it is awake, and may do what it will have to",
        ),
        _expect(node, expected, "from here on unconfirmed"),
        Call(verb=Verb.MERGE, path=node, body=_node({SERIAL: str(after.serial), PENDING: token})),
        *(call for change in levers.changes for call in change.calls()),
    ]
    ended = [
        Call(verb=Verb.DELETE, path=f"{_JOBS}/{name}", body=_GONE, if_exists=True),
        Call(verb=Verb.EXPECT, path=LEASE_PATH, body=holder, else_skip=True),
        Call(verb=Verb.DELETE, path=LEASE_PATH, if_exists=True),
    ]
    confirm = [
        _expect(node, _node({SERIAL: str(after.serial), PENDING: token}), "still unconfirmed, and ours"),
        Call(verb=Verb.MERGE, path=node, body=_node({PENDING: None}), note="from here on confirmed"),
        *ended,
    ]
    revert = [
        Call(verb=Verb.EXPECT, path=node, body=_node({PENDING: token}), else_skip=True),
        Call(verb=Verb.MERGE, path=node, body=_node({PENDING: f"{token} {ASKED}"}), note="ask the dead-man for it"),
        Call(verb=Verb.AWAIT, path=node, body=_node({PENDING: None})),
        _expect(node, _node({SERIAL: told}), "as before, and not confirmed"),
        *ended,
    ]
    scripts = [
        f"# Calico, {len(levers.changes)} changes of objects\n{render(calls)}" for calls in (apply, confirm, revert)
    ]
    return Transaction(apply=scripts[0], confirm=scripts[1], revert=scripts[2], hold=hold, diff=_diff(levers))


def confirmed(objects: CalicoObjects, kube: str, levers: Levers, serial: int) -> CalicoObjects:
    """The objects once the change of these levers is confirmed: what the next one is planned from."""
    then = applied(objects, levers.changes)
    obj = then.get("Node", kube) or {}
    metadata = part(obj, "metadata")
    marked = obj | {"metadata": metadata | {"annotations": part(metadata, "annotations") | {SERIAL: str(serial)}}}
    return msgspec.structs.replace(then, found=then.found | {("Node", kube): marked})


def _annotations(objects: CalicoObjects, kube: str) -> Json:
    return part(part(objects.get("Node", kube), "metadata"), "annotations")


def _token(kube: str, after: NodeDrain) -> str:
    """Whose change it is: for people, and the same for no other."""
    note = parse_note(after.note)
    digest = hashlib.sha256(f"{kube}\n{after.note}\n{after.hard}\n{after.soft}".encode()).hexdigest()[:8]
    return f"{(note.operator if note is not None else '') or 'somebody'}.{after.serial}.{digest}"


def _node(annotations: Json) -> Json:
    return {"metadata": {"annotations": annotations}}


def _expect(path: str, body: Json, note: str) -> Call:
    return Call(verb=Verb.EXPECT, path=path, body=body, note=note)


def _taken_over(uid: str) -> list[Call]:
    expect = Call(
        verb=Verb.EXPECT,
        path=LEASE_PATH,
        body={"metadata": {"uid": uid}},
        note="a lock whose time is over",
        else_skip=True,
    )
    return [expect, Call(verb=Verb.DELETE, path=LEASE_PATH, if_exists=True)]


def _diff(levers: Levers) -> str:
    return "\n".join(line for change in levers.changes for line in _difference(change))


def _difference(change: ObjectChange) -> list[str]:
    """One object: what becomes different, and what isn't there any more."""
    if change.after is None:
        return [change.title]
    if change.before is None:
        return [change.title, *(f"  {line}" for line in difference({"spec": change.after.get("spec")}, None))]
    lines = difference(change.after, change.before)
    dropped = [f"- {line[2:]}" for line in difference(change.before, change.after) if line.startswith("+ ")]
    return [change.title, *(f"  {line}" for line in (*lines, *(line for line in dropped if line not in lines)))]
