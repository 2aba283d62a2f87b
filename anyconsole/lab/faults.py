"""Breaking and healing a lab on purpose, for tours and for tests. Every break is remembered until it is healed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from anyconsole.errors import LabError
from anyconsole.lab import control, gobgp, network, processes, quota, readiness, state
from anyconsole.lab.accounts import uid
from anyconsole.lab.kinds import ALIASES
from anyconsole.lab.nameservers import Tuning, chroot_of, daemon_name, instance, reload_command
from anyconsole.lab.state import Break
from anyconsole.lab.topology import HOSTS, TENANTS, Node, Tenant, ends_of, router, sessions_of, unicast
from anyconsole.lab.zones import write_zone

if TYPE_CHECKING:
    from anyconsole.lab.lab import Lab

__all__ = ["break_", "heal"]

_SSHD = "/usr/sbin/sshd"
_RRL = 5
_SMALL = 4096
_WORKERS = 2
_START_PATIENCE = 5.0


def break_(lab: Lab, kind: str, host: str, argument: str) -> Break:
    """Break something and remember it. Raises LabError for a kind, host or argument that isn't there."""
    kind = ALIASES.get(kind, kind)
    if kind not in _KINDS:
        raise LabError(f"{kind!r} is no kind of break: {', '.join(_KINDS)}")
    if host not in HOSTS:
        raise LabError(f"{host!r} is no host of the lab: {', '.join(HOSTS)}")
    wanted = Break(kind=kind, host=host, arguments=_KINDS[kind].plan(lab, host, argument))
    broken = state.load_breaks(lab.paths)
    if wanted not in broken:
        # Remembered first: what was broken halfway can still be healed.
        state.save_breaks(lab.paths, (*broken, wanted))
    _KINDS[kind].break_(lab, wanted)
    return wanted


def heal(lab: Lab, host: str) -> tuple[Break, ...]:
    """Undo breaks, the latest first. Raises LabError if some can't be undone, after all others were."""
    healed: list[Break] = []
    failures: list[str] = []
    broken = state.load_breaks(lab.paths)
    for item in reversed(broken):
        if host not in {"", item.host}:
            continue
        try:
            _KINDS[item.kind].heal(lab, item)
        except (LabError, OSError) as error:
            failures.append(f"{item.kind} on {item.host}: {error}")
        else:
            healed.append(item)
            state.save_breaks(lab.paths, tuple(b for b in broken if b not in healed))
    if failures:
        raise LabError(f"could not heal {'; '.join(failures)}")
    return tuple(healed)


def _node(lab: Lab, host: str) -> Node:
    here = state.node(lab.paths, host)
    if here is None:
        raise LabError(f"{host} is no node, it has no name servers: choose a node")
    return here


def _tenants(lab: Lab, host: str, argument: str) -> tuple[str, ...]:
    _node(lab, host)
    names = tuple(t.name for t in TENANTS)
    if argument and argument not in names:
        raise LabError(f"{argument!r} is no tenant: {', '.join(names)}")
    return (argument,) if argument else names


def _tenant(name: str) -> Tenant:
    return next(t for t in TENANTS if t.name == name)


def _speaker(lab: Lab, host: str, argument: str) -> tuple[str, ...]:
    _no_argument(argument)
    here = state.node(lab.paths, host)
    if here is None and router(host) is None:
        raise LabError(f"{host} has no routing daemon: choose a node or a router")
    return (readiness.speaker_daemon(here),)


def _no_argument(argument: str) -> None:
    if argument:
        raise LabError(f"this kind of break takes no further argument, not {argument!r}")


def _nothing(_lab: Lab, _host: str, argument: str) -> tuple[str, ...]:
    _no_argument(argument)
    return ()


def _link(_lab: Lab, host: str, argument: str) -> tuple[str, ...]:
    others = [link.other(host) for link in ends_of(host)]
    if argument not in others:
        raise LabError(f"{host} has no link to {argument!r}; it has links to: {', '.join(others) or 'nobody'}")
    return (argument,)


def _session(lab: Lab, host: str, argument: str) -> tuple[str, ...]:
    names = [s.name for s in sessions_of(_node(lab, host))]
    if argument not in names:
        raise LabError(f"{host} has no session {argument!r}; it has: {', '.join(names)}")
    return (argument,)


def _stop_name_servers(lab: Lab, item: Break) -> None:
    control.stop(lab.paths, item.host, [daemon_name(_tenant(t)) for t in item.arguments])


def _start_name_servers(lab: Lab, item: Break) -> None:
    control.start(lab.paths, item.host, [daemon_name(_tenant(t)) for t in item.arguments])


def _stop_speaker(lab: Lab, item: Break) -> None:
    control.stop(lab.paths, item.host, list(item.arguments))


def _start_speaker(lab: Lab, item: Break) -> None:
    control.start(lab.paths, item.host, list(item.arguments))


def _freeze(lab: Lab, item: Break) -> None:
    control.signal_program(lab.paths, item.host, _SSHD, signal.SIGSTOP)


def _thaw(lab: Lab, item: Break) -> None:
    control.signal_program(lab.paths, item.host, _SSHD, signal.SIGCONT)


def _cut(lab: Lab, item: Break) -> None:
    network.set_link(lab.paths, item.host, item.arguments[0], up=False)


def _join(lab: Lab, item: Break) -> None:
    network.restore_link(lab.paths, item.host, item.arguments[0])


def _drop_session(lab: Lab, item: Break) -> None:
    _set_session(lab, item, up=False)


def _raise_session(lab: Lab, item: Break) -> None:
    _set_session(lab, item, up=True)


def _set_session(lab: Lab, item: Break, *, up: bool) -> None:
    here, name = _node(lab, item.host), item.arguments[0]
    if here.speaker == "bird":
        argv = ["birdc", "enable" if up else "disable", name]
        expected = f"{name}: "
    elif here.speaker == "gobgp":
        argv = ["gobgp", "--target", gobgp.API, "neighbor", name, "enable" if up else "disable"]
        expected = ""
    else:
        change = f"{'no ' if up else ''}neighbor {name} shutdown"
        argv = ["vtysh", "-c", "configure terminal", "-c", "router bgp 64500", "-c", change]
        expected = ""
    done = lab.run(item.host, argv)
    if done.returncode != 0 or expected not in done.stdout or "%" in done.stdout:
        raise LabError(f"{' '.join(argv)} on {item.host} failed: {(done.stdout + done.stderr).strip()[-300:]}")


def _stale_serial(lab: Lab, item: Break) -> None:
    # One behind: what a node shows that missed the last zone transfer.
    _set_serial(lab, item, -1)


def _current_serial(lab: Lab, item: Break) -> None:
    _set_serial(lab, item, 0)


def _set_serial(lab: Lab, item: Break, offset: int) -> None:
    found = state.load_state(lab.paths)
    if found is None:
        raise LabError(f"there is no lab {lab.name!r}")
    here = _node(lab, item.host)
    for name in item.arguments:
        tenant = _tenant(name)
        zone = lab.paths.host(item.host) / chroot_of(tenant).removeprefix("/") / "zones" / f"{tenant.zone}.zone"
        write_zone(lab.paths, tenant, found.serial + offset, zone)
        _reload(lab, here, tenant)


def _buffered(lab: Lab, host: str, argument: str) -> tuple[str, ...]:
    if _node(lab, host).name_server == "knot":
        raise LabError(f"{host} runs Knot, which has no setting for its receive buffer: choose a node with NSD or BIND")
    return _tenants(lab, host, argument)


def _many_workers(lab: Lab, host: str, argument: str) -> tuple[str, ...]:
    if _node(lab, host).name_server == "bind":
        raise LabError(
            f"{host} runs BIND, which is told its workers when it is started: choose a node with NSD or Knot"
        )
    return _tenants(lab, host, argument)


def _one_tenant(lab: Lab, host: str, argument: str) -> tuple[str, ...]:
    if not argument:
        _node(lab, host)
        raise LabError(f"a quota is one tenant's: {', '.join(t.name for t in TENANTS)}")
    return _tenants(lab, host, argument)


def _tune(lab: Lab, item: Break) -> None:
    _restart(lab, item, state.load_breaks(lab.paths))


def _untune(lab: Lab, item: Break) -> None:
    _restart(lab, item, tuple(b for b in state.load_breaks(lab.paths) if b != item))


def _restart(lab: Lab, item: Break, broken: tuple[Break, ...]) -> None:
    """Start name servers with what is broken of them now. One that is stopped stays stopped."""
    here = _node(lab, item.host)
    running = {row.name for row in control.daemons(lab.paths, here.name) if row.running}
    for name in item.arguments:
        tenant, daemon = _tenant(name), daemon_name(_tenant(name))
        kinds = {b.kind for b in broken if b.host == here.name and name in b.arguments}
        tuning = Tuning(
            rrl=_RRL if kinds & {"rrl", "silentrrl"} else 0,
            slip=0 if "silentrrl" in kinds else 2,
            receive_buffer=_SMALL if "smallbuffer" in kinds else 0,
            workers=_WORKERS if "workers" in kinds else 1,
        )
        for file, text in instance(here, tenant, tuning).files.items():
            # In place, so that its owner and its inode stay.
            (lab.paths.host(here.name) / chroot_of(tenant).removeprefix("/") / file).write_text(text)
        if daemon in running:
            control.stop(lab.paths, here.name, [daemon])
            control.start(lab.paths, here.name, [daemon])
            _await_answer(lab, here, tenant)
            if "quota" in kinds:
                _hold_down(lab, here.name, tenant)


def _await_answer(lab: Lab, here: Node, tenant: Tenant) -> None:
    deadline = time.monotonic() + _START_PATIENCE
    while fault := readiness.ask_soa(lab.paths, here.name, tenant, unicast(here, tenant)[0])[1]:
        if time.monotonic() > deadline:
            raise LabError(f"{tenant.name} on {here.name} doesn't come back: {fault}")
        time.sleep(0.05)


def _set_quota(lab: Lab, item: Break) -> None:
    _hold_down(lab, item.host, _tenant(item.arguments[0]))


def _lift_quota(lab: Lab, item: Break) -> None:
    quota.give_back(lab.paths, item.host, item.arguments[0], control.first_process(lab.paths, item.host))


def _hold_down(lab: Lab, host: str, tenant: Tenant) -> None:
    inside = processes.members({network.namespace_inode(lab.paths.namespace(host))})
    quota.hold_down(lab.paths, host, tenant.name, processes.owned(inside, uid(tenant.user)))


def _reload(lab: Lab, here: Node, tenant: Tenant) -> None:
    argv = reload_command(here, tenant)
    if argv is None:
        pid = next(r.pid for r in control.daemons(lab.paths, here.name) if r.name == daemon_name(tenant))
        argv = ["kill", "-HUP", str(pid)]
    done = lab.run(here.name, argv)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)} on {here.name} failed: {(done.stdout + done.stderr).strip()[-300:]}")


class _Kind(NamedTuple):
    """One kind of break. `plan` makes of its argument what exactly is to be broken, or raises LabError."""

    plan: Callable[[Lab, str, str], tuple[str, ...]]
    break_: Callable[[Lab, Break], None]
    heal: Callable[[Lab, Break], None]


_KINDS = {
    "nameserver": _Kind(_tenants, _stop_name_servers, _start_name_servers),
    "speaker": _Kind(_speaker, _stop_speaker, _start_speaker),
    "sshd": _Kind(_nothing, _freeze, _thaw),
    "link": _Kind(_link, _cut, _join),
    "session": _Kind(_session, _drop_session, _raise_session),
    "serial": _Kind(_tenants, _stale_serial, _current_serial),
    "rrl": _Kind(_tenants, _tune, _untune),
    "silentrrl": _Kind(_tenants, _tune, _untune),
    "smallbuffer": _Kind(_buffered, _tune, _untune),
    "workers": _Kind(_many_workers, _tune, _untune),
    "quota": _Kind(_one_tenant, _set_quota, _lift_quota),
}
