"""A bootstrap as somebody wants it, and what it is carried out with. Light: the command line knows it too."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import Final, Protocol

import msgspec

from anyconsole.actions.action import Said
from anyconsole.actions.guards import GuardVerdict
from anyconsole.actions.plan import Plan, Step
from anyconsole.errors import AnyconsoleError
from anyconsole.model.bootstrap import Bootstrap
from anyconsole.model.inventory import Inventory

__all__ = ["ACTION", "WITHIN", "BootstrapRequest", "HostHands", "asked_of", "boot_of", "evaluate"]

ACTION: Final = "bootstrap"

WITHIN: Final = 900
"""Seconds that one step may take: images have to be sent or pulled."""


class BootstrapRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants. `cluster` "" is the only one that has a host to become it. `within` is seconds for each step."""

    cluster: str = ""
    within: int = WITHIN
    reason: str = ""
    ticket: str = ""
    operator: str = ""


class HostHands(Protocol):
    """How the host is reached. Both raise AnyconsoleError: then it may or may not have been done."""

    async def execute(self, host: str, script: str, deadline: float) -> Said: ...  # noqa: D102

    async def feed(self, host: str, script: str, pieces: AsyncIterable[bytes], deadline: float) -> Said: ...  # noqa: D102


def asked_of(plan: Plan) -> BootstrapRequest:
    """The request that a plan was made from. Raises AnyconsoleError if it can't be read."""
    try:
        return msgspec.convert(plan.request, BootstrapRequest)
    except msgspec.ValidationError as error:
        raise AnyconsoleError(f"the request of this {plan.action} can't be read: {error}") from error


def evaluate(steps: Sequence[Step]) -> list[GuardVerdict]:
    """What the guards say of steps of one plan: every step has the same findings, of one look at the host."""
    return list(steps[0].findings) if steps else []


def boot_of(inventory: Inventory, cluster: str) -> Bootstrap:
    """The host that becomes a cluster. Raises AnyconsoleError if nothing is said of it, or of several and none is named."""
    known = [one.cluster for one in inventory.bootstraps]
    if not known:
        raise AnyconsoleError(
            f"profile {inventory.name} has no [[bootstrap]]: it says which host becomes which cluster, and how"
        )
    if not cluster and len(known) > 1:
        raise AnyconsoleError(f"bootstrap what? Say --cluster NAME: {', '.join(known)}")
    wanted = cluster or known[0]
    found = next((one for one in inventory.bootstraps if one.cluster == wanted), None)
    if found is None:
        raise AnyconsoleError(
            f"profile {inventory.name} has no [[bootstrap]] with cluster = {wanted!r}; there are {', '.join(known)}"
        )
    return found
