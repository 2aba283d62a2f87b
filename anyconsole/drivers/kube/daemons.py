"""The name servers as they run in pods: their commands, and the pieces of their configurations that depend on keys and families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from anyconsole.model.inventory import Family, NameServerKind, StackTenant, Tenant, family_of

__all__ = ["DAEMONS", "Daemon", "listening"]


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind is started, in the foreground and as nobody in particular, and how its exporter finds it.

    Images need the daemon on their PATH, and nothing of their own entry point.
    """

    config: str
    command: tuple[str, ...]
    exporter: tuple[str, ...]
    exporter_port: int


DAEMONS: Final[Mapping[NameServerKind, Daemon]] = {
    NameServerKind.NSD: Daemon(
        config="nsd.conf",
        command=("nsd", "-d", "-c", "/run/configuration/nsd.conf"),
        # optix2000/nsd_exporter
        exporter=("-config-file", "/etc/anyconsole/config/nsd.conf"),
        exporter_port=9167,
    ),
    NameServerKind.KNOT: Daemon(
        config="knot.conf",
        command=("knotd", "-c", "/run/configuration/knot.conf"),
        # CZ.NIC's knot-exporter
        exporter=(
            "--knot-socket-path",
            "/run/name-server/knot.sock",
            "--web-listen-addr",
            "::",
            "--web-listen-port",
            "9433",
        ),
        exporter_port=9433,
    ),
    NameServerKind.BIND: Daemon(
        config="named.conf",
        command=("named", "-g", "-c", "/run/configuration/named.conf"),
        # Prometheus' bind_exporter
        exporter=("--bind.stats-url=http://127.0.0.1:8053/", "--web.listen-address=:9119"),
        exporter_port=9119,
    ),
}


def listening(known: StackTenant, tenant: Tenant) -> dict[str, Any]:
    """Values of the configurations: on which addresses to listen, and the key to name with each primary.

    A pod has one address of each family, which isn't known before it runs: the name server listens on whatever there is.
    """
    families = {family_of(address) for address in tenant.addresses}
    key = "@TSIG_NAME@" if known.tsig_secret else ""
    return {
        "listen": [any_ for family, any_ in ((Family.IPV4, "0.0.0.0"), (Family.IPV6, "::")) if family in families],  # noqa: S104
        "bind_listen": "any" if Family.IPV4 in families else "none",
        "bind_listen_six": "any" if Family.IPV6 in families else "none",
        "nsd_key": key or "NOKEY",
        "knot_key": f'    key: "{key}"' if key else "",
        "bind_key": f' key "{key}"' if key else "",
        "primaries_list": ", ".join(known.primaries),
        "knot_masters": ", ".join(f"primary-{number}" for number, _ in enumerate(known.primaries, start=1)),
    }
