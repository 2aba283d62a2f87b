"""Runs on a lab node: copies the name servers' query counters into a file that node exporter's textfile collector reads.

Standard library only, `python3 -IS collector.py collector.json`. Stands for what an operator would have on every node already.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

INTERVAL = 2.0
TIMEOUT = 2.0


def nsd_queries(control: str) -> int:
    """Queries NSD has answered, asked over its control socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(control)
        connection.sendall(b"NSDCT1 stats_noreset\n")
        text = connection.makefile("rb").read(1 << 20).decode()
    return int(_value(text, "num.queries="))


def knot_queries(control: str) -> int:
    """Queries Knot DNS has answered, asked through knotc."""
    argv = ["/usr/sbin/knotc", "-s", control, "stats", "mod-stats.server-operation"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    return int(_value(done.stdout, "server-operation[query] = ", default="0"))


def bind_queries(control: str) -> int:
    """Queries BIND has answered, asked over its statistics channel."""
    with urllib.request.urlopen(f"http://{control}/json/v1/server", timeout=TIMEOUT) as reply:
        return int(json.load(reply)["opcodes"]["QUERY"])


def _value(text: str, key: str, default: str | None = None) -> str:
    for line in text.splitlines():
        if key in line:
            return line.split(key, 1)[1]
    if default is None:
        raise ValueError(f"no {key} in {text[:80]!r}")
    return default


READERS = {"nsd": nsd_queries, "knot": knot_queries, "bind": bind_queries}


def metrics(kind: str, controls: dict[str, str]) -> str:
    """The text node exporter serves. A tenant whose name server doesn't answer has no line, so its series ends."""
    lines = ["# TYPE anycast_queries_total counter"]
    for tenant, control in controls.items():
        try:
            count = READERS[kind](control)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            print(f"{tenant}: {error!r}", file=sys.stderr)
            continue
        lines.append(f'anycast_queries_total{{tenant="{tenant}"}} {count}')
    return "\n".join(lines) + "\n"


def main() -> None:
    """Collect for ever."""
    config = json.loads(Path(sys.argv[1]).read_text())
    target = Path(config["target"])
    while True:
        fresh = target.with_suffix(".new")
        fresh.write_text(metrics(config["kind"], config["controls"]))
        fresh.rename(target)
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
