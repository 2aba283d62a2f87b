"""A server's and a generator's network namespace with a wire between them, and NSD on the server's side: a target that can be trusted.

Every address and name is the wire's own business; what the server's side received is counted there, by the kernel.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self

__all__ = ["NSID", "ZONE", "Wire"]

ZONE: Final = "load.test"
NSID: Final = "wire1"
_NAMES: Final = 2000

_CONFIG = """\
server:
  ip-address: {v4}
  ip-address: {v6}
  server-count: 1
  rrl-ratelimit: 0
  nsid: ascii_{nsid}
  username: root
  chroot: ""
  database: ""
  zonesdir: {folder}
  pidfile: {folder}/pid
  xfrdfile: {folder}/xfrd
  zonelistfile: {folder}/zonelist
  logfile: {folder}/log
remote-control:
  control-enable: no
zone:
  name: {zone}
  zonefile: zone
"""

# Before the drop: what arrived counts even if the server never sees it.
_RULES = """\
table inet wire {{
  counter arrived {{ }}
  counter second {{ }}
  counter dropped {{ }}
  chain input {{
    type filter hook input priority 0
    udp dport 53 counter name arrived
    ip saddr {second} udp dport 53 counter name second
  }}
  chain drops {{
    type filter hook input priority 1
  }}
}}
"""


class Wire:
    """Up for as long as the context lasts. Needs root."""

    server_v4, server_v6 = "198.18.253.2", "2001:2:253::2"
    client_v4, client_v6 = ("198.18.253.1", "198.18.253.3"), ("2001:2:253::1", "2001:2:253::3")

    def __init__(self, name: str) -> None:
        self._server, self._client = f"{name}-s", f"{name}-c"
        self._folder = tempfile.TemporaryDirectory(prefix=f"{name}-")

    def __enter__(self) -> Self:
        try:
            self._connect()
            self._serve()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        pid = Path(self._folder.name, "pid")
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False, timeout=10)
        for namespace in (self._server, self._client):
            subprocess.run(["ip", "netns", "del", namespace], check=False, timeout=10, stderr=subprocess.DEVNULL)
        self._folder.cleanup()

    @property
    def client(self) -> list[str]:
        """What goes before a command that is to run on the generator's side."""
        return ["ip", "netns", "exec", self._client]

    @property
    def server(self) -> list[str]:
        """What goes before a command that is to run on the server's side."""
        return ["ip", "netns", "exec", self._server]

    @property
    def queries(self) -> str:
        """A query set of the zone: three quarters A, the rest AAAA and names that don't exist."""
        kinds = ("h{} A", "h{} A", "h{} A", "h{} AAAA", "h{} A", "h{} A", "h{} A", "h{} AAAA", "h{} A", "x{} A")
        words = (kinds[n % 10].format(n).split() for n in range(_NAMES))
        return "".join(f"{name}.{ZONE} {kind}\n" for name, kind in words)

    @property
    def server_pid(self) -> int:
        """A process of the name server's."""
        return int(Path(self._folder.name, "pid").read_text())

    def delivered(self) -> int:
        """Datagrams that the server's side delivered to a socket since it was set up, over both protocols. Cheap."""
        lines = Path(f"/proc/{self.server_pid}/net/snmp").read_text().splitlines()
        v4 = next(line for line in lines if line.startswith("Udp: ") and line[5].isdigit()).split()[1]
        lines = Path(f"/proc/{self.server_pid}/net/snmp6").read_text().splitlines()
        v6 = next(line for line in lines if line.startswith("Udp6InDatagrams")).split()[1]
        return int(v4) + int(v6)

    def counted(self, what: str = "arrived") -> int:
        """Queries that "arrived" at the server's side, were "dropped" there, came from the "second" IPv4 address."""
        said = json.loads(_run([*self.server, "nft", "-j", "list", "counter", "inet", "wire", what]))
        return int(next(o["counter"]["packets"] for o in said["nftables"] if "counter" in o))

    def drop(self, percent: int) -> None:
        """Drop so many of a hundred queries from now on, evenly."""
        rules = "flush chain inet wire drops\n"
        if percent:
            chosen = f"numgen inc mod 100 < {percent}" if percent < 100 else ""
            rules += f"add rule inet wire drops udp dport 53 {chosen} counter name dropped drop\n"
        _run([*self.server, "nft", "-f", "-"], rules)

    def _connect(self) -> None:
        for namespace in (self._server, self._client):
            _run(["ip", "netns", "add", namespace])
            _run(["ip", "-n", namespace, "link", "set", "lo", "up"])
        _run(["ip", "link", "add", "w0", "netns", self._server, "type", "veth", "peer", "name", "w0", "netns", self._client])  # fmt: skip
        ends = {self._server: ((self.server_v4,), (self.server_v6,)), self._client: (self.client_v4, self.client_v6)}
        for namespace, (v4, v6) in ends.items():
            for address in v4:
                _run(["ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "w0"])
            for address in v6:
                _run(["ip", "-n", namespace, "addr", "add", f"{address}/64", "dev", "w0", "nodad"])
            _run(["ip", "-n", namespace, "link", "set", "w0", "up"])
        _run([*self.server, "nft", "-f", "-"], _RULES.format(second=self.client_v4[1]))

    def _serve(self) -> None:
        folder = Path(self._folder.name)
        records = (f"h{n} A 192.0.2.{n % 250}\nh{n} AAAA 2001:db8::{n:x}\n" for n in range(_NAMES))
        folder.joinpath("zone").write_text(
            f"$ORIGIN {ZONE}.\n$TTL 3600\n@ SOA ns h 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n" + "".join(records)
        )
        config = folder / "nsd.conf"
        config.write_text(_CONFIG.format(v4=self.server_v4, v6=self.server_v6, nsid=NSID, folder=folder, zone=ZONE))
        _run([*self.server, "nsd", "-c", str(config)])
        deadline = time.monotonic() + 10
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"NSD doesn't answer: {folder.joinpath('log').read_text()}")
        _run([*self.server, "nft", "reset", "counters"])

    def _answers(self) -> bool:
        argv = [*self.client, "kdig", f"@{self.server_v4}", f"h1.{ZONE}", "+short", "+time=1", "+retry=0"]
        said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10).stdout
        return said.strip() == "192.0.2.1"


def _run(argv: list[str], stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
