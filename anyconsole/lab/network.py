"""Namespaces, links, addresses and static routes of a lab, made through netlink. Knows nothing about daemons."""

from __future__ import annotations

import errno
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute, NetlinkError, NetNS, netns

from anyconsole.lab import state
from anyconsole.lab.paths import LabPaths
from anyconsole.lab.topology import (
    CLIENTS,
    HOSTS,
    LINKS,
    TENANTS,
    ends_of,
    management,
    node,
    router,
    sources,
    static_routes,
    unicast,
    unicast_networks,
    uplink,
)

__all__ = [
    "build_network", "has_uplink", "in_namespace", "index_is_free", "namespace_inode", "namespaces_of", "remove_namespace_directory",
    "remove_namespaces", "remove_uplink", "restore_link", "set_link", "uplink_name",
]  # fmt: skip

_T = TypeVar("_T")
_NO_DAD = 0x02
_FOR_EVER = 0xFFFFFFFF
_BRIDGE = "mgmt"


def uplink_name(index: int) -> str:
    """The machine's interface towards jump of the lab with this index."""
    return f"anyc-{index}"


def index_is_free(index: int) -> bool:
    """True if nothing on this machine uses the addresses of that index."""
    wanted = uplink(index)[0].network
    with IPRoute() as root:
        if root.link_lookup(ifname=uplink_name(index)):
            return False
        routes = [r for r in root.get_routes(family=2) if r.get("dst") and r["dst_len"] > 0]
    return not any(wanted.overlaps(IPv4Network(f"{r.get('dst')}/{r['dst_len']}", strict=False)) for r in routes)


def namespaces_of(paths: LabPaths) -> list[str]:
    """Hosts of this lab that have a network namespace right now."""
    there = set(netns.listnetns())
    return [host for host in HOSTS if paths.namespace(host) in there]


def namespace_inode(name: str) -> int:
    """Identity of a network namespace, as /proc/PID/ns/net shows it."""
    return Path(netns.NETNS_RUN_DIR, name).stat().st_ino


def build_network(paths: LabPaths, index: int) -> None:
    """Make every namespace with its links up and its addresses usable at once."""
    for host in HOSTS:
        netns.create(paths.namespace(host))
        in_namespace(paths.namespace(host), _trust_own_addresses)
    with ExitStack() as stack:
        spaces = {host: stack.enter_context(NetNS(paths.namespace(host))) for host in HOSTS}
        for space in spaces.values():
            space.link("set", index=_index(space, "lo"), state="up")
        _management(paths, spaces)
        for link in LINKS:
            peer = {"ifname": link.a, "net_ns_fd": paths.namespace(link.b)}
            spaces[link.a].link("add", ifname=link.b, kind="veth", peer=peer)
            for host in (link.a, link.b):
                _configure_end(paths, spaces[host], host, link.other(host))
        for host, space in spaces.items():
            if (here := node(host)) is not None:
                for tenant in TENANTS:
                    own4, own6 = unicast(here, tenant)
                    for address4, address6 in ((tenant.address4, tenant.address6), (own4, own6)):
                        _address(space, "lo", address4, 32)
                        _address(space, "lo", address6, 128)
        _uplink(paths, spaces["jump"], index)


def _trust_own_addresses() -> None:
    # Without duplicate address detection even link-local addresses work at once. /proc/sys/net shows the calling thread's namespace.
    for which in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{which}/accept_dad").write_text("0")


def _management(paths: LabPaths, spaces: dict[str, NetNS]) -> None:
    jump = spaces["jump"]
    jump.link("add", ifname=_BRIDGE, kind="bridge")
    bridge = _index(jump, _BRIDGE)
    jump.link("set", index=bridge, state="up")
    for host, space in spaces.items():
        if host != "jump":
            peer = {"ifname": _BRIDGE, "net_ns_fd": paths.namespace(host)}
            jump.link("add", ifname=host, kind="veth", peer=peer)
            jump.link("set", index=_index(jump, host), master=bridge, state="up")
            space.link("set", index=_index(space, _BRIDGE), state="up")
        for interface in management(host):
            _address(space, _BRIDGE, str(interface.ip), interface.network.prefixlen)


def _uplink(paths: LabPaths, jump: NetNS, index: int) -> None:
    outside, inside = uplink(index)
    name = uplink_name(index)
    with IPRoute() as root:
        root.link("add", ifname=name, kind="veth", peer={"ifname": "uplink", "net_ns_fd": paths.namespace("jump")})
        _address(root, name, str(outside.ip), outside.network.prefixlen)
        root.link("set", index=_index(root, name), state="up")
    _address(jump, "uplink", str(inside.ip), inside.network.prefixlen)
    jump.link("set", index=_index(jump, "uplink"), state="up")


def _configure_end(paths: LabPaths, space: NetNS | IPRoute, host: str, far: str) -> None:
    link = next(item for item in ends_of(host) if item.other(host) == far)
    space.link("set", index=_index(space, far), state="up")
    for interface in (link.interface4(host), link.interface6(host)):
        _address(space, far, str(interface.ip), interface.network.prefixlen)
    gateways = link.interface4(far).ip, link.interface6(far).ip
    for client in CLIENTS:
        if client.name == host:
            for interface in sources(client)[2:]:
                _address(space, far, str(interface.ip), interface.network.prefixlen, only_if_asked_for=True)
            _default_routes(space, gateways, 0)
    here = state.node(paths, host)
    if here is not None and here.speaker == "gobgp":
        # gobgpd installs no routes. The first link is preferred.
        _default_routes(space, gateways, ends_of(host).index(link))
    if router(host) is not None:
        for target in static_routes(host).get(far, []):
            for gateway, network in zip(gateways, unicast_networks(target), strict=True):
                _route(space, str(network), str(gateway))


def _default_routes(space: NetNS | IPRoute, gateways: tuple[IPv4Address, IPv6Address], position: int) -> None:
    for gateway, everywhere in zip(gateways, ("0.0.0.0/0", "::/0"), strict=True):
        _route(space, everywhere, str(gateway), priority=1024 + position)


def _route(space: NetNS | IPRoute, network: str, gateway: str, **options: int) -> None:
    with _already_there():
        space.route("add", dst=network, gateway=gateway, **options)


def _address(
    space: NetNS | IPRoute, interface: str, address: str, prefixlen: int, *, only_if_asked_for: bool = False
) -> None:
    options: dict[str, int] = {}
    if ":" in address:
        options["flags"] = _NO_DAD
        if only_if_asked_for:
            # Deprecated (RFC 4862): good for a socket that is bound to it, never chosen by itself. In IPv4 the first address is.
            options |= {"preferred_lft": 0, "valid_lft": _FOR_EVER}
    with _already_there():
        space.addr("add", index=_index(space, interface), address=address, prefixlen=prefixlen, **options)


@contextmanager
def _already_there() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _index(space: NetNS | IPRoute, interface: str) -> int:
    found = space.link_lookup(ifname=interface)
    if not found:
        raise KeyError(interface)
    return int(found[0])


def set_link(paths: LabPaths, host: str, far: str, *, up: bool) -> None:
    """Put `host`'s side of the link to `far` up or down. Raises KeyError if there is no such link."""
    with NetNS(paths.namespace(host)) as space:
        space.link("set", index=_index(space, far), state="up" if up else "down")


def restore_link(paths: LabPaths, host: str, far: str) -> None:
    """Put a link up again with the addresses and routes that the kernel dropped when it went down."""
    with NetNS(paths.namespace(host)) as space:
        _configure_end(paths, space, host, far)


def remove_namespaces(paths: LabPaths) -> None:
    """Remove the namespaces of this lab; their links go with them."""
    for host in namespaces_of(paths):
        netns.remove(paths.namespace(host))


def remove_uplink(index: int) -> None:
    """Remove the machine's interface towards jump, if it is still there."""
    with IPRoute() as root:
        for found in root.link_lookup(ifname=uplink_name(index)):
            try:
                root.link("del", index=found)
            except NetlinkError as error:
                if (
                    error.code != errno.ENODEV
                ):  # it went with its other end, whose namespace the kernel is just removing
                    raise


def has_uplink(index: int) -> bool:
    """True if the machine's interface towards jump is there."""
    with IPRoute() as root:
        return bool(root.link_lookup(ifname=uplink_name(index)))


def remove_namespace_directory() -> None:
    """Unmount and remove the directory of named namespaces, which is empty and which a lab was the first to need."""
    subprocess.run(["umount", "-n", netns.NETNS_RUN_DIR], capture_output=True, timeout=10, check=False)
    Path(netns.NETNS_RUN_DIR).rmdir()


def in_namespace(name: str, work: Callable[[], _T]) -> _T:
    """Call `work` inside a network namespace, in a thread of its own that ends with it. Raises what `work` raises."""
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            netns.setns(name)
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, name=f"in {name}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
