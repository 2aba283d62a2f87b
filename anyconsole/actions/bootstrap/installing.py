"""A bootstrap while it runs: files sent, k3s installed, Calico applied, the kubeconfig fetched, each until the host itself proves it.

Nothing takes any of it back by itself, so before each step the host is looked at anew, and nothing is begun if it has become different.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from anyconsole.actions.action import Gate, NotBegunError, Said, Standing
from anyconsole.actions.bootstrap.planning import (
    Look,
    Part,
    UnseenError,
    files_to_send,
    look_at,
    settled_parts,
    steps_of,
)
from anyconsole.actions.bootstrap.request import HostHands, asked_of, boot_of, evaluate
from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.plan import Plan, Step
from anyconsole.actions.run import Outcome, Proof
from anyconsole.drivers.k3s.bundle import BundleFile
from anyconsole.drivers.k3s.kubeconfig import made_of, write_new
from anyconsole.drivers.k3s.scripts import READ_KUBECONFIG, as_root, mark_script, receive_script, server_of
from anyconsole.drivers.k3s.survey import Status, parse_status, status_script
from anyconsole.drivers.parse_error import ParseError
from anyconsole.errors import AnyconsoleError
from anyconsole.model.facts import LinkState
from anyconsole.model.store import FleetStore

__all__ = ["Bootstrapping"]

_PIECE: Final = 1 << 18
_ASK_SECONDS: Final = 60.0
_LOOK_EVERY: Final = 2.0
_LAYERS: Final = {Part.FILES: "files", Part.K3S: "api", Part.CALICO: "node", Part.KUBECONFIG: "kubeconfig"}
_NAMED: Final = 4


class Bootstrapping:
    """The action of one bootstrap."""

    def __init__(self, store: FleetStore, plan: Plan, hands: HostHands) -> None:
        self._store = store
        self._request = asked_of(plan)
        self._boot = boot_of(store.inventory, self._request.cluster)
        self._cluster = store.inventory.cluster(self._boot.cluster)
        self._hands = hands
        self._proved: dict[str, Proof] = {}

    # --- what the runner asks

    def witnesses(self, steps: Sequence[Step]) -> set[str]:  # noqa: ARG002
        """Nobody is endangered: the host serves nobody, or a guard refuses."""
        return set()

    def guards(
        self,
        steps: Sequence[Step],
        now: float,  # noqa: ARG002
        *,
        unconfirmed: bool = False,
        unseen: Collection[str] = (),  # noqa: ARG002
    ) -> list[GuardVerdict]:
        """What the look at the host found."""
        assert not unconfirmed  # noqa: S101 - nothing of it waits to be confirmed
        return evaluate(steps)

    def gate(self, step: Step, now: float) -> Gate:  # noqa: ARG002
        """Nothing has to be waited for."""
        return Gate(is_open=True)

    def proofs(self, step: Step, now: float) -> tuple[Proof, ...]:  # noqa: ARG002
        """What the host has shown of the step so far."""
        layer = _LAYERS[step.part]
        told = [self._proved.get(layer, Proof(layer=layer, met=False, words="not yet", required=True))]
        if step.part == Part.KUBECONFIG:
            link = self._store.link(self._boot.cluster)
            is_live = link is not None and link.state is LinkState.LIVE
            told.append(
                Proof(layer="reached", met=is_live, words="by this console" if is_live else "not by this console yet")
            )
        return tuple(told)

    def standing(self, step: Step, now: float) -> Standing:  # noqa: ARG002
        """The store doesn't know; `inspect` does."""
        return Standing.UNKNOWN

    async def inspect(self, step: Step) -> str:
        """Whether a step is done, by the host itself. Raises AnyconsoleError."""
        look = await self._look()
        done = settled_parts(self._store.inventory, self._boot, look)
        is_done = step.part in done or (step.part == Part.FILES and not files_to_send(look, done))
        return "done" if is_done else "not done; anyconsole bootstrap again does the rest"

    # --- doing it

    async def perform(self, step: Step, say: Callable[[str], None]) -> str:
        """Do one step; the runner's patience ends it otherwise."""
        say("nothing yet: looking whether the host is as it was planned for")
        look = await self._fresh(step)
        try:
            match step.part:
                case Part.FILES:
                    return await self._send(step, look, say)
                case Part.K3S:
                    return await self._install(step, say)
                case Part.CALICO:
                    return await self._apply(step, say)
                case _:
                    return await self._fetch()
        except AnyconsoleError as error:
            raise AnyconsoleError(f"{error}; to take it back: {'; '.join(step.undo)}") from error

    async def _fresh(self, step: Step) -> Look:
        """The host as it is now. Raises NotBegunError if the step would be another one, or a guard refuses that did not."""
        try:
            look = await self._look()
        except UnseenError as error:
            raise NotBegunError(str(error), Outcome.NO_EVIDENCE) from error
        steps = steps_of(self._store.inventory, self._boot, look, step.hold)
        fresh = next((one for one in steps if one.part == step.part), None)
        if fresh is None or fresh.apply != step.apply:
            raise NotBegunError(
                f"{self._boot.name} is not as it was planned for any more: plan again", Outcome.CONFLICT
            )
        before = {guard.name for guard in step.findings if guard.refuses}
        if now := [guard for guard in fresh.findings if guard.refuses and guard.name not in before]:
            words = "; ".join(f"{guard.name}: {guard.numbers}" for guard in now)
            raise NotBegunError(words, Outcome.REFUSED)
        return look

    async def _look(self) -> Look:
        return await look_at(self._store, self._boot, self._hands)

    async def _send(self, step: Step, look: Look, say: Callable[[str], None]) -> str:
        done = settled_parts(self._store.inventory, self._boot, look)
        files = files_to_send(look, done)
        await self._run(mark_script(self._boot), _ASK_SECONDS)
        for number, file in enumerate(files, start=1):
            name = Path(file.source).name

            def sent(size: int, file: BundleFile = file, number: int = number, name: str = name) -> None:
                say(f"{number - 1} of {len(files)} files; {name} {10 * (10 * size // max(1, file.size))} %")

            script = as_root(receive_script(file))
            said = await self._hands.feed(self._boot.name, script, _pieces(Path(file.source), sent), float(step.hold))
            self._must(said, name)
        self._prove(step, f"{len(files)} of {len(files)} are there with the same SHA-256")
        return f"{len(files)} files sent"

    async def _install(self, step: Step, say: Callable[[str], None]) -> str:
        say("k3s' installer runs")
        await self._run(step.apply, float(step.hold))
        while not (status := await self._status()).is_served:
            say(f"installed; waits for the API server: {status.ready or 'no answer'}")
            await asyncio.sleep(_LOOK_EVERY)
        self._prove(step, "the API server is ready")
        return f"k3s {self._boot.version} runs"

    async def _apply(self, step: Step, say: Callable[[str], None]) -> str:
        say("manifests are applied")
        await self._run(step.apply, float(step.hold))
        while not (status := await self._status()).is_whole:
            say(f"applied; {_lacks(status)}")
            await asyncio.sleep(_LOOK_EVERY)
        self._prove(step, f"Ready, {status.running} of {status.wanted} calico-node ready")
        return "node and Calico are ready"

    async def _fetch(self) -> str:
        said = await self._run(READ_KUBECONFIG, _ASK_SECONDS)
        text = made_of(
            said.stdout, server_of(self._boot), self._boot.cluster, self._cluster.context or self._boot.cluster
        )
        path = Path(self._cluster.kubeconfig)
        await asyncio.to_thread(write_new, path, text)
        self._proved["kubeconfig"] = Proof(
            layer="kubeconfig", met=True, words=f"{path}, for {server_of(self._boot)}", required=True
        )
        return f"written to {path}; next: anyconsole setup --cluster {self._boot.cluster}"

    async def _status(self) -> Status:
        script = as_root(status_script(self._store.inventory.node(self._boot.node).address, self._cluster.calico))
        try:
            said = await self._hands.execute(self._boot.name, script, _ASK_SECONDS)
            return parse_status(said.stdout)
        except (AnyconsoleError, ParseError) as error:
            return Status(ready=str(error))  # a host that is busy starting a cluster may not answer in time

    async def _run(self, script: str, deadline: float) -> Said:
        """A script as root. Raises AnyconsoleError if it fails; what it said on standard output is never in the message."""
        return self._must(await self._hands.execute(self._boot.name, as_root(script), deadline), "")

    def _must(self, said: Said, what: str) -> Said:
        if said.exit_status != 0:
            lines = [line.strip() for line in said.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
            words = " / ".join(lines[-3:])[-300:] or f"exit status {said.exit_status}"
            raise AnyconsoleError(f"{self._boot.name}: {what}{': ' if what else ''}{words}")
        return said

    def _prove(self, step: Step, words: str) -> None:
        layer = _LAYERS[step.part]
        self._proved[layer] = Proof(layer=layer, met=True, words=words, required=True)


async def _pieces(path: Path, sent: Callable[[int], None]) -> AsyncIterator[bytes]:
    """A file piece by piece; `sent` hears how much of it was asked for."""
    done = 0
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
            done += len(piece)
            sent(done)


def _lacks(status: Status) -> str:
    """What a cluster still waits for, in words."""
    if not status.is_served:
        return f"the API server doesn't answer: {status.ready or 'nothing'}"
    told = f"node Ready is {status.node or 'unknown'}, calico-node {status.running} of {status.wanted}"
    if status.waits:
        more = " ..." if len(status.waits) > _NAMED else ""
        told += f"; can't start: {', '.join(status.waits[:_NAMED])}{more}"
    return told
