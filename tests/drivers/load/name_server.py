"""A real name server (NSD) on this machine's loopback, over UDP, TCP and DoT, for what has to be asked for real."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["ZONE", "NameServer", "serving"]

ZONE = "load.test"

_CONFIG = """\
server:
  ip-address: 127.0.0.1@{port}
  ip-address: 127.0.0.1@{tls}
  tls-port: {tls}
  tls-service-key: {folder}/key
  tls-service-pem: {folder}/cert
  server-count: 1
  rrl-ratelimit: 0
  username: ""
  chroot: ""
  database: ""
  zonesdir: {folder}
  pidfile: {folder}/pid
  xfrdfile: {folder}/xfrd
  zonelistfile: {folder}/zonelist
remote-control:
  control-enable: no
zone:
  name: {zone}
  zonefile: zone
  provide-xfr: 127.0.0.1 NOKEY
"""


class NameServer(NamedTuple):
    """Where it listens, and what it serves."""

    port: int
    tls_port: int
    zone_text: str


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[NameServer]:
    """One that answers, for as long as the context lasts; its files are in `folder`."""
    port, tls = _free_port(), _free_port()
    hosts = (f"h{n} A 192.0.2.{n}\nh{n} AAAA 2001:db8::{n:x}\n" for n in range(1, 101))
    text = f"$ORIGIN {ZONE}.\n$TTL 3600\n@ SOA ns h 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n{''.join(hosts)}"
    (folder / "zone").write_text(text)
    (folder / "nsd.conf").write_text(_CONFIG.format(port=port, tls=tls, folder=folder, zone=ZONE))
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=test",
    ]
    subprocess.run(
        [*request, "-keyout", "key", "-out", "cert"], cwd=folder, check=True, capture_output=True, timeout=20
    )
    log = folder / "log"
    with (
        log.open("wb") as said,
        subprocess.Popen(["nsd", "-d", "-c", str(folder / "nsd.conf")], stdout=said, stderr=said) as nsd,
    ):
        try:
            deadline = time.monotonic() + 10
            while not _listens(tls):
                assert nsd.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            yield NameServer(port, tls, text)
        finally:
            nsd.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
