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

    A `slow` one takes longer than a tick by nature: it reports when it is done, and nobody waits for it. An `on_demand` one is looked at
    at once when somebody asks for it; DNS answers are not, each waits for its turn.
    """

    name: str
    start: Callable[[State, float], Collector]
    deadline: float
    slow: bool = False
    on_demand: bool = True


def sections(config: dict[str, Any]) -> list[Section]:
    """The sections of a configuration made by `anyconsole.drivers.probe.config`."""
    half = 0.5 / float(config["hz"])
    found = []
    if config["host"]:
        found.append(_section("host", "anyconsole.drivers.host", config["host"], half))
    found += [_section(s["section"], s["module"], s, half) for s in config["speakers"]]
    found += [_section(c["section"], c["module"], c, half) for c in config["covering"]]
    found += [_section(i["section"], i["module"], i, half) for i in config["instances"]]
    if config["dns"]["questions"]:
        dns = _section("dns", "anyconsole.drivers.dns_exchange", config["dns"], half)
        found.append(dns._replace(on_demand=False))
    if config["routes"]:
        found.append(_section(config["routes"]["section"], config["routes"]["module"], config["routes"], half))
    return found


def _section(name: str, module: str, spec: dict[str, Any], deadline: float) -> Section:
    driver = import_module(module)
    collect = driver.collect
    own_deadline = getattr(driver, "DEADLINE", 0.0)
    return Section(name, lambda state, now: collect(spec, state, now), max(deadline, own_deadline), bool(own_deadline))
