"""The programs of load tests as texts, and the command that starts one on a host without storing anything there."""

from __future__ import annotations

import functools
import importlib.resources
import shlex
import zlib

__all__ = ["NO_PYTHON", "bootstrap"]

NO_PYTHON = '{"ev":"error","why":"no python3 of 3.8 or later"}'
"""The line that the command writes where it can't run the program."""

# Reads with os.read, byte-exact: a buffered stdin would swallow the first commands behind the program. Runs on any Python 3.
_START = """\
import os, sys, zlib
if sys.version_info < (3, 8):
    print({missing!r})
    raise SystemExit(3)
got = b''
while len(got) < {size}:
    more = os.read(0, {size} - len(got))
    if not more:
        raise SystemExit(4)
    got += more
exec(zlib.decompress(got))
main()
"""

_PACKAGE = "anyconsole.drivers.load"
_BESIDE = {"dnsperf_agent": ("tool_agent",), "kxdpgun_agent": ("tool_agent",)}
"""Modules that a program imports, which travel with it."""

# Imports of a module that is there by its full name need no packages.
_LOAD = """\
import sys, types
module = sys.modules[{name!r}] = types.ModuleType({name!r})
exec(compile({source!r}, '<{name}>', 'exec'), module.__dict__)
"""


@functools.cache
def bootstrap(name: str = "agent") -> tuple[str, bytes]:
    """The command line, which works in any login shell, and the bytes to write to its standard input first.

    `name` is "agent", "dnsperf_agent", "kxdpgun_agent", "watcher", "responder" or "lock". Keep the input open afterwards: its end is the
    program's end.
    """
    parts = [
        _LOAD.format(name=f"{_PACKAGE}.{module}", source=_source(module)).encode() for module in _BESIDE.get(name, ())
    ]
    # Each is compiled alone: what they import from the future must come first in them.
    parts.append(f"exec(compile({_source(name)!r}, '<anyconsole load {name}>', 'exec'))\n".encode())
    program = zlib.compress(b"".join(parts), 9)
    # One line: some login shells take no line breaks in quotes.
    code = f"exec({_START.format(missing=NO_PYTHON, size=len(program))!r})"
    script = (
        "PATH=$PATH:/usr/local/bin:/usr/bin:/bin; "
        f"command -v python3 >/dev/null 2>&1 && exec python3 -ISc {shlex.quote(code)}; "
        f"echo {shlex.quote(NO_PYTHON)}"
    )
    return f"exec /bin/sh -c {shlex.quote(script)}", program


def _source(module: str) -> str:
    return importlib.resources.files(_PACKAGE).joinpath(f"{module}.py").read_text("utf-8")
