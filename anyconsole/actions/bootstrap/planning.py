"""Plans of a bootstrap: what is still to be done on the host, after one look at it. Changes nothing.

What is as wanted already has no step, so a second run does the rest of the first, or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from anyconsole.actions.bootstrap.guards import findings
from anyconsole.actions.bootstrap.request import ACTION, BootstrapRequest, HostHands, boot_of
from anyconsole.actions.plan import Plan, Step
from anyconsole.drivers.k3s.bundle import BundleFile, Supply, sources, supply_of
from anyconsole.drivers.k3s.kubeconfig import authority_in
from anyconsole.drivers.k3s.layout import ARCHITECTURES, CONFIG, OWN, UNINSTALL
from anyconsole.drivers.k3s.scripts import (
    READ_KUBECONFIG,
    applied_hash,
    as_root_if_may,
    calico_script,
    config_text,
    install_script,
    mark_of,
    mark_script,
    receive_script,
    server_of,
)  # fmt: skip
from anyconsole.drivers.k3s.survey import HostSurvey, parse_survey, survey_script
from anyconsole.drivers.parse_error import ParseError
from anyconsole.errors import AnyconsoleError
from anyconsole.model.bootstrap import Bootstrap
from anyconsole.model.facts import LinkState
from anyconsole.model.inventory import Inventory
from anyconsole.model.store import FleetStore

__all__ = ["Look", "Part", "UnseenError", "files_to_send", "look_at", "make_plan", "settled_parts", "steps_of"]

_CONNECT_DEADLINE: Final = 15.0
_LOOK_DEADLINE: Final = 120.0
"""Seconds: checksums of images are made there."""


class Part:
    """The steps, in their order."""

    FILES: Final = "files"
    K3S: Final = "k3s"
    CALICO: Final = "calico"
    KUBECONFIG: Final = "kubeconfig"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan is made of: the host, what is to be sent, and whose kubeconfig is here already."""

    survey: HostSurvey
    supply: Supply
    kubeconfig: str | None


async def make_plan(store: FleetStore, hands: HostHands, request: BootstrapRequest, now: float) -> Plan:
    """The plan for a request.

    Raises:
        AnyconsoleError: The profile doesn't say enough, or the host said something that makes no sense.
    """
    inventory = store.inventory
    boot = boot_of(inventory, request.cluster)
    request = msgspec.structs.replace(request, cluster=boot.cluster)
    steps: Sequence[Step] = ()
    missing: list[str] = []
    try:
        steps = steps_of(inventory, boot, await look_at(store, boot, hands), request.within)
    except UnseenError as error:
        missing.append(str(error))
    kubeconfig = inventory.cluster(boot.cluster).kubeconfig
    return Plan(
        action=ACTION,
        title=f"make {boot.name} the cluster {boot.cluster}: k3s {boot.version} and Calico",
        profile=inventory.name,
        made_at=now,
        reason=request.reason,
        ticket=request.ticket,
        request=msgspec.json.decode(msgspec.json.encode(request)),
        type_to_confirm=boot.name if steps else "",
        steps=tuple(steps),
        in_order=True,
        missing=tuple(missing),
        notes=(f"its tenants come next: anyconsole setup --cluster {boot.cluster}",),
        settled=f"{boot.name} is the cluster {boot.cluster}, and {kubeconfig} leads there",
    )


async def _until_reached(store: FleetStore, host: str) -> None:
    """Nobody else waits for this host, so its connection may not be there yet; returns when it is, or is given up for now."""
    waiting = (LinkState.IDLE, LinkState.CONNECTING, LinkState.STARTING)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CONNECT_DEADLINE):
            while (link := store.link(host)) is None or link.state in waiting:  # noqa: ASYNC110 - as whoever looks does
                await asyncio.sleep(0.1)


class UnseenError(AnyconsoleError):
    """The host can't be asked."""


async def look_at(store: FleetStore, boot: Bootstrap, hands: HostHands) -> Look:
    """Look at the host, the bundle and the kubeconfig. Raises AnyconsoleError, UnseenError if the host can't be asked."""
    inventory = store.inventory
    cluster = inventory.cluster(boot.cluster)
    await _until_reached(store, boot.name)
    # Which files it takes depends on the architecture, and the host is asked about all of them at once.
    machine = await _ask(boot, hands, "uname -m")
    arch = ARCHITECTURES.get(machine.decode("ascii", "replace").strip(), "")
    supply = await asyncio.to_thread(supply_of, boot, arch) if arch else Supply()
    fetched, registries = sources(boot, arch)
    paths = [*(file.target for file in supply.files), CONFIG]
    script = survey_script(paths, inventory.node(boot.node).address, cluster.calico, fetched, registries)
    said = await _ask(boot, hands, as_root_if_may(script))
    try:
        survey = parse_survey(said)
    except ParseError as error:
        raise AnyconsoleError(f"{boot.name}: the look at it can't be understood: {error}") from error
    kubeconfig = await asyncio.to_thread(authority_in, Path(cluster.kubeconfig))
    return Look(survey=survey, supply=supply, kubeconfig=kubeconfig)


async def _ask(boot: Bootstrap, hands: HostHands, script: str) -> bytes:
    try:
        said = await hands.execute(boot.name, script, _LOOK_DEADLINE)
    except AnyconsoleError as error:
        raise UnseenError(str(error)) from error
    if said.exit_status != 0:
        words = said.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise AnyconsoleError(f"{boot.name}: can't be looked at: {words or f'exit status {said.exit_status}'}")
    return said.stdout


def steps_of(inventory: Inventory, boot: Bootstrap, look: Look, within: int) -> list[Step]:
    """What is still to be done, in order; all of it was found out by one look."""
    node, namespace = inventory.node(boot.node).address, inventory.cluster(boot.cluster).calico
    found = tuple(findings(inventory, boot, look.survey, look.supply, look.kubeconfig))
    done = settled_parts(inventory, boot, look)

    def step(part: str, title: str, script: str, proof: str, about: Sequence[str] = (), diff: str = "") -> Step:
        return Step(
            host=boot.name,
            part=part,
            title=title,
            apply=script,
            confirm="",
            revert="",
            hold=within,
            lasting=True,
            diff=diff,
            about=tuple(about),
            findings=found,
            undo=tuple(_undo(inventory, boot, part)),
            proof=(proof,),
        )

    steps: list[Step] = []
    if files := files_to_send(look, done):
        size = sum(file.size for file in files)
        text = "".join(
            [mark_script(boot), *(f"\n# {file.source}, {_size(file)}\n{receive_script(file)}" for file in files)]
        )
        about = [f"sends {Path(file.source).name}, {_size(file)} -> {file.target}" for file in files]
        steps.append(
            step(
                Part.FILES,
                f"send {len(files)} files, {_mib(size)}",
                text,
                "files: each is there with the same SHA-256",
                about,
            )
        )
    if Part.K3S not in done:
        diff = "\n".join([CONFIG, *(f"  + {line}" for line in config_text(boot, node).splitlines()[1:])])
        how = f"from {boot.bundle}" if boot.bundle else f"by {boot.installer_url or boot.installer}"
        steps.append(
            step(
                Part.K3S,
                f"install k3s {boot.version} {how}",
                install_script(boot, node),
                "api: the API server says that it is ready",
                diff=diff,
            )
        )
    if Part.CALICO not in done:
        about = [f"applies {manifest}" for manifest in boot.calico]
        steps.append(
            step(
                Part.CALICO,
                f"apply Calico to {boot.cluster}",
                calico_script(boot, namespace),
                "node: it is Ready, and so is its calico-node",
                about,
            )
        )
    if Part.KUBECONFIG not in done:
        path = inventory.cluster(boot.cluster).kubeconfig
        about = [
            f"written to {path} here, for {server_of(boot)}; only its owner may read it",
            "it is a key to everything: shown nowhere, in no journal",
        ]
        steps.append(
            step(
                Part.KUBECONFIG,
                "fetch its kubeconfig",
                READ_KUBECONFIG,
                f"kubeconfig: {path} is there",
                about,
            )
        )
    return steps


def settled_parts(inventory: Inventory, boot: Bootstrap, look: Look) -> set[str]:
    """The parts that are as wanted already."""
    survey, cluster = look.survey, inventory.cluster(boot.cluster)
    config = config_text(boot, inventory.node(boot.node).address)
    done = set()
    if survey.is_begun and survey.mark == mark_of(boot) and survey.status.is_served:
        is_same = survey.files.get(CONFIG) == hashlib.sha256(config.encode()).hexdigest()
        done |= {Part.K3S} if is_same else set()
    if Part.K3S in done and survey.applied == applied_hash(boot, cluster.calico) and survey.status.is_whole:
        done.add(Part.CALICO)
    if survey.ca and look.kubeconfig == survey.ca:
        done.add(Part.KUBECONFIG)
    return done


def files_to_send(look: Look, done: Collection[str]) -> list[BundleFile]:
    """The files that aren't there, and that a part needs which isn't done."""
    return [
        file
        for file in look.supply.files
        if look.survey.files.get(file.target) != file.sha256 and (Part.K3S if file.of_k3s else Part.CALICO) not in done
    ]


def _undo(inventory: Inventory, boot: Bootstrap, part: str) -> Iterator[str]:
    if part == Part.KUBECONFIG:
        yield f"remove {inventory.cluster(boot.cluster).kubeconfig} here"
        return
    if part == Part.FILES:
        yield f"on {boot.name}, as root: rm -rf {' '.join(OWN)}"
        return
    yield f"on {boot.name}, as root: {UNINSTALL} (takes all of it, also what was sent); where it isn't there yet: rm -rf {' '.join(OWN)}"


def _size(file: BundleFile) -> str:
    return f"{_mib(file.size)}, SHA-256 {file.sha256}"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
