"""Drains while they run: what a step waits for, the four layers that prove it, where its node stands. All read from the store."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

from anyconsole.actions.action import Gate, Standing
from anyconsole.actions.guards import Change, GuardVerdict, evaluate
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Proof
from anyconsole.errors import AnyconsoleError
from anyconsole.model import verdicts
from anyconsole.model.facts import Exported, SessionState
from anyconsole.model.inventory import family_of
from anyconsole.model.peer_view import peer_view
from anyconsole.model.store import FleetStore
from anyconsole.model.verdicts import Intent
from anyconsole.model.views.catchment import node_of_nsid

__all__ = ["Draining"]

SAMPLES = 3
"""Looks in a row at which the traffic must be gone."""

CANARY_SECONDS = 3.0
"""Least seconds an undrain stays soft before it serves."""

_EXPORTED = {Intent.SERVE: Exported.ANNOUNCED, Intent.SOFT: Exported.DEPREFERRED, Intent.HARD: Exported.ABSENT}


SESSION_PATIENCE = 10.0
"""Seconds that a session which is enabled without announcements may take to come up; its peer may well refuse it."""


class _Wait:
    """A step at its gate: since when, how many looks in a row found its traffic gone, and when the last one was."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.quiet = 0
        self.sampled_at = -math.inf


class Draining:
    """The action of one drain, undrain, or settling of drift. Make it when the run starts: the traffic of that moment is the baseline."""

    def __init__(self, store: FleetStore, plan: Plan, now: float) -> None:
        self._store = store
        self._baseline = {pair: _rate(store, *pair, now) for pair in {(c.node, c.tenant) for c in plan.changes}}
        self._waits: dict[tuple[str, str, int], _Wait] = {}

    def witnesses(self, steps: Sequence[Step]) -> set[str]:
        """Every node that hosts a tenant concerned."""
        tenants = {c.tenant for step in steps for c in step.changes}
        hosts = {n.name for n in self._store.inventory.nodes if any(i.tenant in tenants for i in n.instances)}
        return hosts | {step.host for step in steps}

    def guards(
        self, steps: Sequence[Step], now: float, *, unconfirmed: bool = False, unseen: Collection[str] = ()
    ) -> list[GuardVerdict]:
        """The guards of `actions.guards`."""
        changes = [c for step in steps for c in step.changes]
        repairs = [step.repair for step in steps if step.repair is not None]
        return evaluate(self._store, changes, now, repairs=repairs, unconfirmed=unconfirmed, unseen=unseen)

    # --- before a step

    def gate(self, step: Step, now: float) -> Gate:
        """Hard after soft waits until the traffic has left; serve after soft until the canary answers."""
        if not step.waits_for:
            return Gate(is_open=True)
        wait = self._waits.setdefault((step.host, step.part, step.serial), _Wait(now))
        since = wait.since
        if step.changes[0].after is Intent.SERVE:
            return self._canary(step, wait, now)
        settle = self._store.inventory.guards.settle
        rate, limit, baseline = self.traffic(step, now)
        told = "unknown" if rate is None else f"{rate:.1f} q/s"
        if self._serves_elsewhere(step, now):
            words = f"{step.host} answers {told}; what of it comes over these sessions can't be told apart"
            if now - since < settle:
                return Gate(is_open=False, words=f"{words}; settles for {settle - (now - since):.0f} s more")
            return Gate(is_open=True, words=words)
        if now - wait.sampled_at >= 0.9:
            wait.sampled_at = now
            wait.quiet = wait.quiet + 1 if rate is not None and rate < limit else 0
        words = f"{step.host} still answers {told}, it goes on under {limit:.1f} q/s ({baseline:.1f} q/s before)"
        if now - since < settle:
            return Gate(is_open=False, words=f"{words}; settles for {settle - (now - since):.0f} s more")
        if wait.quiet >= SAMPLES:
            return Gate(is_open=True)
        if now - since < self._store.inventory.guards.patience:
            return Gate(is_open=False, words=words)
        wait.since = now - settle  # asked again after another patience
        if rate is None:
            return _unseen(f"what {step.host} still answers is not known")
        return Gate(
            is_open=False,
            words=words,
            ask=f"{words}. Withdraw all the same?",
            choices=(
                ("stay", "leave it soft and end here"),
                ("wait", "wait on for the traffic to leave"),
                ("go", f"withdraw now: what is still answered here ({told}) has to find another node"),
            ),
            default="stay",
        )

    def _serves_elsewhere(self, step: Step, now: float) -> bool:
        """True if the node announces the step's prefixes on other sessions too: its queries then needn't leave."""
        cells = {(c.session, c.prefix) for c in step.changes}
        prefixes = {c.prefix for c in step.changes}
        return any(
            cell.prefix in prefixes
            and (cell.session, cell.prefix) not in cells
            and cell.exported in (Exported.ANNOUNCED, Exported.DEPREFERRED)
            for cell in verdicts.announcements(self._store, self._store.inventory.node(step.host), now)
        )

    def _canary(self, step: Step, wait: _Wait, now: float) -> Gate:
        if now - wait.since < CANARY_SECONDS:
            return Gate(is_open=False, words="the canary announces at low preference")
        silent = [c for c in step.changes if not self._answers(c, now)]
        if not silent:
            return Gate(is_open=True)
        words = f"{step.host} does not answer for {silent[0].tenant} ({silent[0].prefix})"
        if now - wait.since < self._store.inventory.guards.patience:
            return Gate(is_open=False, words=words)
        wait.since = now - CANARY_SECONDS
        status = self._store.speaker(step.host, step.part)
        if status is None or not self._store.is_fresh(status, now):
            return _unseen(f"{step.host} can't be seen, nor whether it answers")
        choices = (("stay", "leave it at low preference and end here"), ("wait", "wait on"))
        return Gate(is_open=False, words=words, ask=words, choices=choices, default="stay")

    def _answers(self, change: Change, now: float) -> bool:
        tenant = self._store.inventory.tenant(change.tenant)
        return verdicts.answering(self._store, change.node, tenant, tenant.addresses_in(change.prefix), now)[0] is True

    def traffic(self, step: Step, now: float) -> tuple[float | None, float, float]:
        """Queries per second that the step's node answers for its tenants: (now, what counts as gone, before the run).

        A console asks every address itself; those questions never leave, so they are allowed for.
        """
        tenants = sorted({c.tenant for c in step.changes})
        rates = [_rate(self._store, step.host, t, now) for t in tenants]
        before = [self._baseline.get((step.host, t)) for t in tenants]
        baseline = sum(rate for rate in before if rate is not None)
        poll = self._store.inventory.poll
        own = sum(len(self._store.inventory.tenant(t).addresses) for t in tenants) / poll.dns
        limit = self._store.inventory.guards.residual * baseline + 2 * own
        known = [rate for rate in rates if rate is not None]
        return (sum(known) if len(known) == len(rates) else None), limit, baseline

    # --- after a step

    def proofs(self, step: Step, now: float) -> tuple[Proof, ...]:
        """The daemon's decision, the peers' view, the catchment, the node's own traffic: in the order of trust (bgp.md, 8)."""
        if not step.changes:
            return (self._daemon(step, now),)
        return (
            self._daemon(step, now),
            self._peers(step, now),
            self._catchment(step, now),
            self._traffic_proof(step, now),
        )

    def _daemon(self, step: Step, now: float) -> Proof:
        status = self._store.speaker(step.host, step.part)
        serial = status.drain_serial if status is not None and self._store.is_fresh(status, now) else None
        if serial != step.serial:
            words = f"drain serial {'unknown' if serial is None else serial}, not {step.serial}"
            return Proof(layer="daemon", met=False, words=words, required=True)
        if (down := self._still_down(step, now)) is not None:
            return Proof(layer="daemon", met=False, words=down, required=True)
        wrong = untold = 0
        for change in step.changes:
            sent = self._sent(change, now)
            bgp = self._store.session(step.host, change.speaker, change.session)
            is_down = bgp is not None and bgp.state != "Established"
            # A soft drain that the daemon can't show (FRR hides communities) is left to its peers to see.
            unseen = sent is Exported.UNKNOWN and change.after is not Intent.SERVE
            if is_down:
                continue
            untold += unseen
            wrong += sent is not _EXPORTED[change.after] and not unseen
        total = len(step.changes)
        wanted = "/".join(dict.fromkeys(str(_EXPORTED[c.after]) for c in step.changes))
        exports = f"{total - wrong - untold} of {total} exports are {wanted}" if total else "no announcement changes"
        words = f"serial {serial}, {exports}{f', {untold} it does not tell' if untold else ''}"
        return Proof(layer="daemon", met=not wrong, words=words, required=True)

    def _sent(self, change: Change, now: float) -> Exported:
        """What the daemon is known to export now."""
        export = self._store.export(change.node, change.speaker, change.session, change.prefix)
        return export.exported if export is not None and self._store.is_fresh(export, now) else Exported.UNKNOWN

    def _still_down(self, step: Step, now: float) -> str | None:
        """Why a session that comes up with the step isn't up; None if all are, or one that announces nothing has had its time."""
        raised = step.repair.sessions if step.repair is not None else ()
        status = self._store.speaker(step.host, step.part)
        for name in raised:
            bgp = self._store.session(step.host, step.part, name)
            if bgp is None or not self._store.is_fresh(bgp, now):
                return f"{name} is not seen"
            announces = any(c.session == name and c.after is not Intent.HARD for c in step.changes)
            had_time = status is not None and now - status.at > SESSION_PATIENCE
            is_down = bgp.state is not SessionState.ESTABLISHED
            if bgp.state is SessionState.ADMIN_DOWN or (is_down and (announces or not had_time)):
                return f"{name} is {bgp.state}, not Established"
        return None

    def _peers(self, step: Step, now: float) -> Proof:
        good = bad = unknown = 0
        why = ""
        speaker = next(s for s in self._store.inventory.node(step.host).speakers if s.name == step.part)
        sessions = {s.name: s for s in speaker.sessions}
        for change in step.changes:
            view = peer_view(self._store, step.host, step.part, sessions[change.session], change.prefix, now)
            if view.seen == "unknown":
                unknown += 1
            elif _peer_agrees(change, view.seen, is_told=self._sent(change, now) is not Exported.UNKNOWN):
                good += 1
            else:
                bad += 1
                why = why or f"{change.peer} still has {change.prefix}: {view.words}"
        if bad:
            return Proof(layer="peers", met=False, words=why, required=True)
        if noted := self._only_noted(step, now):
            return Proof(layer="peers", met=False, words=noted, required=True)
        if good:
            words = f"{good} of {len(step.changes)} as planned at the peers"
            return Proof(layer="peers", met=True, words=words, required=True)
        return Proof(layer="peers", met=None, words="no looking glass tells")

    def _only_noted(self, step: Step, now: float) -> str:
        """What of a step nothing but our own note on a Node says: Calico's serial is none of BIRD's. "" if there is no such thing."""
        speaker = next(s for s in self._store.inventory.node(step.host).speakers if s.name == step.part)
        sessions = {s.name: s for s in speaker.sessions}
        for change in step.changes if speaker.kind == "calico" else ():
            export = self._store.export(step.host, step.part, change.session, change.prefix)
            is_told = (
                export is not None and self._store.is_fresh(export, now) and export.exported is not Exported.UNKNOWN
            )
            view = peer_view(self._store, step.host, step.part, sessions[change.session], change.prefix, now)
            if not is_told and view.seen == "unknown":
                why = export.detail if export is not None and export.detail else "BIRD was not asked"
                return f"nobody tells whether {change.peer} still has {change.prefix}: {why}"
        return ""

    def _catchment(self, step: Step, now: float) -> Proof:
        """Which vantage points the node answers, for tenants of the step."""
        here, asked, silent = set(), set(), set()
        for change in step.changes:
            tenant = self._store.inventory.tenant(change.tenant)
            for vantage in self._store.inventory.vantages:
                for address in tenant.addresses_in(change.prefix):
                    for zone in tenant.zones:
                        answer = self._store.answer(vantage.name, address, zone)
                        if answer is None or not self._store.is_fresh(answer, now):
                            continue
                        if answer.error:
                            silent.add(f"{vantage.name} ({change.tenant}, {family_of(change.prefix)})")
                        if not answer.nsid:
                            continue
                        asked.add(vantage.name)
                        if node_of_nsid(self._store, answer.nsid) == step.host:
                            here.add(f"{vantage.name} ({change.tenant}, {family_of(change.prefix)})")
        if silent:  # not necessarily of our doing, but nothing to call proved
            return Proof(layer="catchment", met=None, words=f"no answer at all at {', '.join(sorted(silent))}")
        if not asked:
            return Proof(layer="catchment", met=None, words="no vantage point tells")
        if step.changes[0].after is Intent.SERVE:
            words = f"answers {', '.join(sorted(here))}" if here else "answers no vantage point"
            return Proof(layer="catchment", met=bool(here) or None, words=words)
        words = f"still answers {', '.join(sorted(here))}" if here else f"answers none of {len(asked)} vantage points"
        is_open = bool(here) and self._serves_elsewhere(step, now)
        return Proof(layer="catchment", met=None if is_open else not here, words=words)

    def _traffic_proof(self, step: Step, now: float) -> Proof:
        rate, limit, baseline = self.traffic(step, now)
        if rate is None:
            return Proof(layer="traffic", met=None, words="its query rate is not known")
        words = f"{rate:.1f} q/s here, {baseline:.1f} before"
        if step.changes[0].after is Intent.SERVE:
            return Proof(layer="traffic", met=rate > limit or None, words=words)
        is_open = rate >= limit and self._serves_elsewhere(step, now)
        return Proof(layer="traffic", met=None if is_open else rate < limit, words=words)

    # --- a step that leaves nothing behind

    async def perform(self, step: Step, say: Callable[[str], None]) -> str:  # noqa: ARG002
        """Raises AnyconsoleError: every step of a drain leaves something behind, and is confirmed."""
        raise AnyconsoleError(f"{step.title}: this plan has no confirmation, so it is no drain of this console's")

    # --- where it stands

    async def inspect(self, step: Step) -> str:  # noqa: ARG002
        """The daemon's own memory says it all."""
        return ""

    def standing(self, step: Step, now: float) -> Standing:
        """By the drain serial in the daemon's own memory, and whether it waits to be confirmed."""
        status = self._store.speaker(step.host, step.part)
        if status is None or not self._store.is_fresh(status, now) or status.drain_serial is None:
            return Standing.UNKNOWN
        if status.drain_serial == step.serial:
            is_saved = status.disk_serial == step.serial or (status.disk_serial is None and not status.disk_fault)
            return Standing.CONFIRMED if not status.pending and is_saved else Standing.UNCONFIRMED
        return Standing.BEFORE if status.drain_serial == step.serial_before else Standing.OTHER


def _unseen(words: str) -> Gate:
    """Asks about a host of which nothing is known. To wait for its traffic to leave, or its answers to come, would be to wait for ever."""
    choices = (("stay", "leave it as it is and end here"), ("look", "wait for it to be seen again"))
    return Gate(is_open=False, words=words, ask=f"{words}. Wait for it?", choices=choices, default="stay")


def _peer_agrees(change: Change, seen: Exported, *, is_told: bool) -> bool:
    """Whether a peer shows what was changed. `is_told`: the daemon itself tells what it exports."""
    if change.after is Intent.HARD:
        return seen is Exported.ABSENT
    if change.after is Intent.SOFT and not is_told:
        return seen is Exported.DEPREFERRED  # nothing else would prove that it went soft
    # Whether a peer honours our wish is its own affair: that it has the route is what can be asked of it.
    return seen in (Exported.ANNOUNCED, Exported.DEPREFERRED)


def _rate(store: FleetStore, node: str, tenant: str, now: float) -> float | None:
    rates = store.qps(node, tenant, now)
    return rates.qps if rates is not None else None
