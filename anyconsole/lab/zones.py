"""The tenants' zones: plain text made from a serial, and signed with ldns for the tenant that has DNSSEC."""

from __future__ import annotations

import subprocess
from pathlib import Path

from anyconsole.errors import LabError
from anyconsole.lab.paths import LabPaths
from anyconsole.lab.topology import TENANTS, Tenant

__all__ = ["make_zones", "query_names", "write_zone"]

_HOSTS_IN_ZONE = 40


def zone_text(tenant: Tenant, serial: int) -> str:
    """The unsigned zone."""
    lines = [
        f"$ORIGIN {tenant.zone}.",
        "$TTL 3600",
        f"@ IN SOA ns.{tenant.zone}. hostmaster.{tenant.zone}. {serial} 7200 3600 1209600 600",
        "@ IN NS ns",
        f"ns IN A {tenant.address4}",
        f"ns IN AAAA {tenant.address6}",
        '@ IN TXT "a zone of the anyconsole lab"',
    ]
    base4, base6 = tenant.prefix4.rsplit(".", 1)[0], tenant.prefix6.split("/")[0]
    for number in range(1, _HOSTS_IN_ZONE + 1):
        lines.append(f"www{number} IN A {base4}.{100 + number}")
        lines.append(f"www{number} IN AAAA {base6}{100 + number:x}")
    if tenant.name == "enum":
        lines.append('*.1.2.3 IN NAPTR 10 100 "u" "E2U+sip" "!^.*$!sip:info@enum.example!" .')
    return "\n".join(lines) + "\n"


def query_names(tenant: Tenant) -> str:
    """The names the background load asks for, as dnsperf reads them: mostly there, some not."""
    lines = [f"www{n}.{tenant.zone} {'A' if n % 3 else 'AAAA'}" for n in range(1, _HOSTS_IN_ZONE + 1)]
    lines += [f"{tenant.zone} SOA", f"{tenant.zone} NS", f"nobody1.{tenant.zone} A", f"nobody2.{tenant.zone} A"]
    return "\n".join(lines) + "\n"


def make_zones(paths: LabPaths, serial: int) -> None:
    """Write every tenant's zone to the lab's zone directory, signed where it should be. Raises LabError."""
    paths.zones.mkdir(parents=True)
    for tenant in TENANTS:
        write_zone(paths, tenant, serial, paths.zones / f"{tenant.name}.zone")


def write_zone(paths: LabPaths, tenant: Tenant, serial: int, target: Path) -> None:
    """Write one zone with this serial to `target` in place, so that its owner and its inode stay. Raises LabError."""
    plain = zone_text(tenant, serial)
    if not tenant.signed:
        target.write_text(plain)
        return
    keys = paths.zone_keys
    if not keys.is_dir():
        keys.mkdir(mode=0o700)
        for role in ((), ("-k",)):
            _ldns(["ldns-keygen", "-a", "ECDSAP256SHA256", *role, tenant.zone], keys)
    (keys / "unsigned").write_text(plain)
    names = sorted({p.name.removesuffix(".private") for p in keys.glob("K*.private")})
    _ldns(["ldns-signzone", "-o", tenant.zone, "-f", "signed", "unsigned", *names], keys)
    target.write_text((keys / "signed").read_text())


def _ldns(argv: list[str], folder: Path) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)} failed: {done.stderr.strip()[-300:]}")
