"""A bare host that becomes a cluster: what a profile says of it."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["OPERATOR_NAMESPACE", "VENDOR", "Bootstrap"]

OPERATOR_NAMESPACE: Final = "calico-system"
"""Where Calico's operator puts everything. A cluster that names it gets an Installation of ours."""

VENDOR: Final = "https://get.k3s.io"
"""Where k3s publishes its installer."""


class Bootstrap(msgspec.Struct, frozen=True, kw_only=True):
    """A host, reached over SSH, that becomes the `node` of a `cluster` by k3s and Calico. Until then nobody else is served there.

    `version` is k3s' own name of a release. `bundle` is a folder of this machine with everything that it takes, "" is "the host fetches it
    from the vendors". `installer` is k3s', a file of this machine or, without a bundle, a URL; "" is the bundle's, else the vendor's.
    `calico` are Calico's manifests in their order: names in the bundle, URLs without one. Addresses and networks are one of each family,
    that which the cluster prefers first.
    """

    name: str
    cluster: str
    node: str
    address: str
    version: str
    calico: tuple[str, ...]
    node_ips: tuple[str, ...]
    cluster_cidr: tuple[str, ...]
    service_cidr: tuple[str, ...]
    user: str = ""
    jump: tuple[str, ...] | None = None
    bundle: str = ""
    installer: str = ""

    @property
    def installer_url(self) -> str:
        """Where the host fetches the installer, "" if it is sent."""
        if self.bundle or self.installer.startswith("/"):
            return ""
        return self.installer or VENDOR
