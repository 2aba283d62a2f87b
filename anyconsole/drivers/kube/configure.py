"""Writes the configuration of a name server in its pod: puts in the node's name and the TSIG key, which no template holds.

Runs in the pod as `configure.py FOLDER FILE TARGET`, on Python 3.10 or newer with nothing but its standard library. FOLDER is the mounted
ConfigMap: FILE is the configuration with @NODE@ and @TSIG_...@ in it, `nodes` says what the profile calls each Kubernetes node.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

TSIG = Path("/etc/anyconsole/tsig")
SECRET_KEYS = ("name", "algorithm", "secret")
HARMLESS = re.compile(r"[A-Za-z0-9+/=._-]{1,1024}")


def main(argv: list[str], tsig: Path = TSIG) -> int:
    """Write the file; returns the exit code. What is wrong is said on standard error, never with a secret in it."""
    folder, name, target = Path(argv[0]), argv[1], Path(argv[2])
    values = {"NODE": node_name(os.environ["NODE"], (folder / "nodes").read_text())}
    template = (folder / name).read_text()
    if "@TSIG_" in template:
        problem = add_key(values, tsig)
        if problem:
            print(problem, file=sys.stderr)
            return 1
    # The name server runs as the same user.
    descriptor = os.open(str(target / name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(re.sub("@([A-Z_]+)@", lambda match: values.get(match[1], match[0]), template))
    return 0


def node_name(kubernetes: str, known: str) -> str:
    """What the profile calls a Kubernetes node, by lines of both names; without one, what Kubernetes does."""
    names = dict(line.split() for line in known.splitlines() if line.strip())
    return names.get(kubernetes, kubernetes)


def add_key(values: dict[str, str], tsig: Path) -> str:
    """Take the TSIG key from the mounted Secret; returns what is wrong with it."""
    for key in SECRET_KEYS:
        try:
            value = (tsig / key).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return f"the Secret with the TSIG key has no `{key}`; it needs {', '.join(SECRET_KEYS)}"
        if not HARMLESS.fullmatch(value):
            return f"`{key}` of the Secret with the TSIG key holds what no TSIG key has there"
        values[f"TSIG_{key.upper()}"] = value
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
