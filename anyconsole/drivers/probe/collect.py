"""Which collectors a probe's configuration calls for. Both transports start here. Standard library only: it travels to the nodes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyconsole.drivers.ask import Collector, State

__all__ = ["Section", "sections"]


class Section(NamedTuple):
    """One source of facts on a node. `start(state, now)` begins a round; `deadline` is how many seconds it may take.

    A `slow` one takes longer than a tick by nature: it reports when it is done, and nobody waits for it.
    """

    name: str
    start: Callable[[State, float], Collector]
    deadline: float
    slow: bool = False


def sections(config: dict[str, Any]) -> list[Section]:
    """The sections of a configuration made by `probe_config` or `vantage_config`."""
    half = 0.5 / float(config["hz"])
    found = [_section("host", "anyconsole.drivers.host", config["host"], half)]
    found += [_section(s["section"], s["module"], s, half) for s in config["speakers"]]
    found += [_section(i["section"], i["module"], i, half) for i in config["instances"]]
    if config["dns"]["questions"]:
        found.append(_section("dns", "anyconsole.drivers.dns_exchange", config["dns"], half))
    return found


def _section(name: str, module: str, spec: dict[str, Any], deadline: float) -> Section:
    driver = import_module(module)
    collect = driver.collect
    own_deadline = getattr(driver, "DEADLINE", 0.0)
    return Section(name, lambda state, now: collect(spec, state, now), max(deadline, own_deadline), bool(own_deadline))
