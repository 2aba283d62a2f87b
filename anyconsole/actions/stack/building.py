"""Set-up and teardown while they run: the calls one after the other, then looks at the cluster until everything is proved.

Nothing takes back what was done, so a step is planned anew right before it begins, and not begun if anything has become different.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import msgspec

from anyconsole.actions.action import Gate, NotBegunError, Standing
from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Outcome, Proof
from anyconsole.actions.stack import guards
from anyconsole.actions.stack.planning import plan_step
from anyconsole.actions.stack.proofs import Seen, Serial, layers, serials_in
from anyconsole.actions.stack.request import (
    FindCluster,
    InCluster,
    Way,
    asked_of,
    hosting,
    namespace_of,
    tenant_of,
)  # fmt: skip
from anyconsole.drivers.kube import addresses
from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.execute import named
from anyconsole.drivers.kube.objects import HASH, KEY_HASH, SET_LABEL, collections_in, holds_key
from anyconsole.drivers.kube.rollout import rollout_of
from anyconsole.drivers.kube.script import Call, Verb, parse
from anyconsole.drivers.kube.sets import COUNTER, ours_in
from anyconsole.drivers.transaction import Ended
from anyconsole.drivers.tsig import TsigError, TsigKey, read_key
from anyconsole.errors import AnyconsoleError
from anyconsole.model.inventory import ClusterSpec
from anyconsole.model.store import FleetStore

__all__ = ["Stacking", "action_of"]

_CALL_SECONDS: Final = 20.0
_LOOK_EVERY: Final = 0.5
_SERIALS_EVERY: Final = 3.0
_DONE: Final = {Way.SETUP: "set up", Way.TEARDOWN: "gone"}
_WORKLOADS: Final = ("deployments", "daemonsets", "statefulsets")
_SERIALS: Final = ("python3", "-I", "/etc/anyconsole/programs/observer.py", "serials")


def action_of(store: FleetStore, plan: Plan, in_cluster: FindCluster, clock: Callable[[], float]) -> Stacking:
    """The action of a plan, from now on. Raises AnyconsoleError."""
    return Stacking(store, plan, in_cluster, clock)


class Stacking:
    """The action of one set-up or teardown."""

    def __init__(self, store: FleetStore, plan: Plan, in_cluster: FindCluster, clock: Callable[[], float]) -> None:
        self._store = store
        self._way = Way(plan.action)
        self._request = asked_of(plan)
        self._in_cluster = in_cluster
        self._clock = clock
        self._seen: dict[tuple[str, str], Seen] = {}
        self._confirmed_at = clock()
        self._serials_due: dict[tuple[str, str], float] = {}

    # --- what the runner asks

    def witnesses(self, steps: Sequence[Step]) -> set[str]:
        """Every node that hosts a tenant that goes; what is added endangers nobody."""
        if self._way is Way.SETUP:
            return set()
        tenants = {tenant_of(step.part) for step in steps}
        return {n.name for n in self._store.inventory.nodes if any(i.tenant in tenants for i in n.instances)}

    def guards(
        self, steps: Sequence[Step], now: float, *, unconfirmed: bool = False, unseen: Collection[str] = ()
    ) -> list[GuardVerdict]:
        """The guards of `guards`."""
        assert not unconfirmed  # noqa: S101 - nothing of it waits to be confirmed
        return guards.evaluate(self._store, self._way, steps, now, unseen)

    def gate(self, step: Step, now: float) -> Gate:  # noqa: ARG002
        """Nothing has to be waited for: traffic is a guard's to judge."""
        return Gate(is_open=True)

    def proofs(self, step: Step, now: float) -> tuple[Proof, ...]:
        """What was seen of the cluster last, and what the store says of sessions and vantage points."""
        seen = self._seen.get((step.host, step.part), Seen())
        return layers(self._store, self._way, step, seen, now)

    def standing(self, step: Step, now: float) -> Standing:  # noqa: ARG002
        """The store doesn't know the objects; `inspect` does."""
        return Standing.UNKNOWN

    async def inspect(self, step: Step) -> str:
        """How much of a step's calls is in effect, by the objects themselves. Raises AnyconsoleError."""
        calls = [call for call in parse(step.apply) if call.verb in (Verb.APPLY, Verb.DELETE)]
        found = await self._in_cluster(step.host).find([call.path for call in calls])
        done = {call.path for call, obj in zip(calls, found, strict=True) if _is_done(call, obj)}
        left = [named(call.path) for call in calls if call.path not in done]
        what = "as planned" if self._way is Way.SETUP else "gone"
        more = f"; not: {', '.join(left[:8])}{' ...' if len(left) > 8 else ''}" if left else ""
        again = f"; anyconsole {self._way} again does the rest" if left else ""
        return f"{len(done)} of {len(calls)} objects are {what}{more}{again}"

    # --- doing it

    async def perform(self, step: Step, say: Callable[[str], None]) -> str:
        """Carry out the calls, then look until all is proved; the runner's patience ends it otherwise."""
        key = (step.host, step.part)
        hands = self._in_cluster(step.host)
        say("nothing yet: looking whether the cluster is as it was planned for")
        try:
            fresh = await plan_step(self._store, self._in_cluster, self._request, step)
        except KubeError as error:
            raise NotBegunError(str(error), Outcome.NO_EVIDENCE) from error
        if fresh is None or fresh.apply != step.apply:
            raise NotBegunError(
                f"{step.host}: {step.part} is not as it was planned for any more: plan again", Outcome.CONFLICT
            )
        calls = parse(step.apply)
        pieces = _pieces(calls)
        self._seen[key] = Seen(total=len(pieces))
        for done, piece in enumerate(pieces, start=1):
            line = await self._carry_out(hands, step, piece, begun=done > 1)
            self._seen[key] = Seen(done=done, total=len(pieces))
            say(f"{done} of {len(pieces)} calls: {line}")
        while True:
            try:
                self._seen[key] = await self._look(hands, step, calls, self._seen[key])
            except AnyconsoleError as error:
                say(f"{len(pieces)} calls done; the cluster can't be asked: {error}")
            else:
                told = self.proofs(step, self._clock())
                waiting = [p for p in told if p.required and not p.met]
                if not waiting:
                    took = self._clock() - self._confirmed_at
                    return f"{_DONE[self._way]} {took:.1f} s after it was confirmed, with {len(pieces)} calls"
                say(f"{len(pieces)} calls done; waits for {waiting[0].layer}: {waiting[0].words}")
            await asyncio.sleep(_LOOK_EVERY)

    async def _carry_out(self, hands: InCluster, step: Step, piece: Sequence[Call], *, begun: bool) -> str:
        """One call, with what it expects. Raises AnyconsoleError; NotBegunError if it is the first and wasn't taken."""
        cluster = step.host
        try:
            key = await self._key(step, piece)
            send = hands.carry_out(piece, _CALL_SECONDS) if key is None else hands.apply_key(piece, key, _CALL_SECONDS)
            said = await send
        except (KubeError, TsigError) as error:
            if begun or (isinstance(error, KubeError) and error.maybe_done):
                raise
            raise NotBegunError(str(error), Outcome.NO_EVIDENCE) from error
        line = said.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2]
        if said.exit_status == 0:
            return line
        if begun:
            raise AnyconsoleError(f"{cluster}: {line}")
        ended = Ended(said.exit_status)
        raise NotBegunError(f"{cluster}: {line}", Outcome.CONFLICT if ended.is_conflict else Outcome.FAILED)

    async def _key(self, step: Step, piece: Sequence[Call]) -> TsigKey | None:
        """The TSIG key that a call needs, read now; None if it needs none. Raises TsigError."""
        wanted = next((call for call in piece if call.verb is Verb.APPLY and holds_key(call.body)), None)
        known = self._store.inventory.stack.tenant(tenant_of(step.part))
        if wanted is None or wanted.body is None or known is None:
            return None
        key = await read_key(known)
        if key.fingerprint(wanted.path) != wanted.body["metadata"]["annotations"][KEY_HASH]:
            raise TsigError(f"{known.tsig_source} holds another TSIG key than when it was planned: plan again")
        return key

    # --- looking

    async def _look(self, hands: InCluster, step: Step, calls: Sequence[Call], seen: Seen) -> Seen:
        """What is there of a step's set now. Raises AnyconsoleError."""
        cluster = self._store.inventory.cluster(step.host)
        tenant = tenant_of(step.part)
        namespace = namespace_of(cluster, tenant) if tenant else cluster.monitoring if step.part == "monitoring" else ""
        if self._way is Way.SETUP:
            return await self._look_at_workloads(hands, step, seen, cluster, namespace)
        found = ours_in(await hands.listed_in(collections_in(namespace), f"{SET_LABEL}={step.part}"), step.part)
        space = f"/api/v1/namespaces/{namespace}"
        goes = any(call.verb is Verb.DELETE and call.path == space for call in calls)
        found = [obj for obj in found if goes or obj["kind"] != COUNTER]
        found += await hands.listed(f"{space}/pods", f"{SET_LABEL}={step.part}")
        secrets = [call.path for call in calls if call.verb is Verb.DELETE and "/secrets/" in call.path]
        found += [{**obj, "kind": "Secret"} for obj in await hands.find(secrets) if obj is not None]
        (still,) = await hands.find([space]) if goes else (None,)
        left = [f"{obj['kind']} {obj['metadata']['name']}" for obj in (*found, *([still] if still else []))]
        listed: list[str] = []
        if hands.calico is not None:
            (live,) = await hands.find([hands.calico.path("BGPConfiguration", "default")])
            listed = addresses.entries_of(live)[1]
        mine = set(addresses.cidrs_of(self._store.inventory.tenant(tenant).addresses))
        return msgspec.structs.replace(
            seen, is_looked=True, left=tuple(left), entries=tuple(sorted(mine & set(listed)))
        )  # fmt: skip

    async def _look_at_workloads(
        self, hands: InCluster, step: Step, seen: Seen, cluster: ClusterSpec, namespace: str
    ) -> Seen:
        there = collections_in(namespace) if namespace else []
        wanted = [collection for collection in there if collection.rpartition("/")[2] in _WORKLOADS]
        found = await hands.listed_in(wanted, f"{SET_LABEL}={step.part}")
        rollouts = tuple(rollout_of(obj) for obj in found)
        seen = msgspec.structs.replace(seen, is_looked=True, rollouts=rollouts)
        tenant = tenant_of(step.part)
        is_due = self._clock() >= self._serials_due.get((step.host, step.part), 0.0)
        if tenant and rollouts and all(r.is_complete for r in rollouts) and is_due:
            self._serials_due[step.host, step.part] = self._clock() + _SERIALS_EVERY
            told = await self._serials(hands, cluster, tenant, namespace)
            seen = msgspec.structs.replace(seen, serials=tuple(told))
        return seen

    async def _serials(self, hands: InCluster, cluster: ClusterSpec, tenant: str, namespace: str) -> list[Serial]:
        """What the observer of each ready pod sees: the serial here and at the primaries. What can't be asked isn't among them."""
        told: list[Serial] = []
        nodes = {node.address: node.name for node in hosting(self._store.inventory, cluster, tenant)}
        for pod in self._store.pods(cluster.name, namespace):
            if not (pod.is_ready and pod.host in nodes and any(c.name == "observer" for c in pod.containers)):
                continue
            try:
                said = await hands.run(namespace, pod.name, "observer", _SERIALS, _CALL_SECONDS)
            except AnyconsoleError:
                continue  # not permitted, or just not there: then it isn't known, and that is shown
            if said.exit_status == 0:
                told += serials_in(nodes[pod.host], said.stdout.decode("utf-8", "replace"))
        return told


def _pieces(calls: Iterable[Call]) -> list[list[Call]]:
    """Calls one by one, each with what it expects before it."""
    pieces: list[list[Call]] = []
    expected: list[Call] = []
    for call in calls:
        expected.append(call)
        if call.verb.changes:
            pieces.append(expected)
            expected = []
    return pieces


def _is_done(call: Call, obj: dict[str, Any] | None) -> bool:
    """Whether a call is in effect, by the object as it is."""
    if call.verb is Verb.DELETE or obj is None:
        return call.verb is Verb.DELETE and obj is None
    return _rendered(obj) == _rendered(call.body)


def _rendered(obj: dict[str, Any] | None) -> object:
    return (((obj or {}).get("metadata") or {}).get("annotations") or {}).get(HASH)
