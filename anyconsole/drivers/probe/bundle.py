"""The probe as one program text, and the command that starts it on a node without storing anything there."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.resources
import importlib.util
import json
import shlex
import zlib
from typing import Any

from anyconsole.drivers.plugins import PluginError

__all__ = ["MODULES", "NO_PYTHON", "bootstrap", "program"]

NO_PYTHON = '{"h":0,"error":"no python3 of 3.7 or later"}'
"""The line the remote command writes where it can't run the probe."""

_PACKAGES = ("anyconsole", "anyconsole.drivers", "anyconsole.drivers.probe")

MODULES = (
    "parse_error", "ask", "framing", "quantise", "process", "instance_rows", "export_verdict", "speaker_rows", "drain_lists",
    "dns_exchange", "host", "bird_reply", "bird", "looking_glass", "frr_reply", "frr", "gobgp", "nsd", "knot", "bind",
    "covering", "bird_covering", "frr_covering", "gobgp_covering",
    "probe.row_keys", "probe.transport", "probe.collect", "probe.main",
)  # fmt: skip
"""Modules of `anyconsole.drivers` that travel, each after those it imports. Standard library only, Python >= 3.7 (tests see to both)."""

_LOADER = """\
import sys, types
def _load(name, source, package):
    module = types.ModuleType(name)
    if package:
        module.__path__ = []
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    exec(compile(source, "<" + name + ">", "exec"), module.__dict__)
"""

_MAIN = """\
import json, os, zlib
from anyconsole.drivers.probe.main import main
try:
    main(json.loads(zlib.decompress(config).decode()))
except BrokenPipeError:
    pass
os._exit(0)
"""

# Reads with os.read, byte-exact: a buffered stdin would swallow the first requests behind the program. Runs on any Python 3.
_START = """\
import os, sys, zlib
if sys.version_info < (3, 7):
    print({missing!r})
    raise SystemExit(3)
got = b''
while len(got) < {size}:
    more = os.read(0, {size} - len(got))
    if not more:
        raise SystemExit(4)
    got += more
unpack = zlib.decompressobj()
code = unpack.decompress(got)
exec(code, {{'config': unpack.unused_data}})
"""


@functools.cache
def program(extra: tuple[str, ...] = ()) -> bytes:
    """The probe's whole program, compressed. It expects `config` (compressed JSON) in its globals.

    `extra` are full names of modules of drivers that came as plugins; they may import only what travels anyway.
    """
    drivers = importlib.resources.files("anyconsole.drivers")
    parts = [_LOADER]
    parts += [f"_load({name!r}, '', True)\n" for name in _PACKAGES]
    for module in MODULES:
        source = drivers.joinpath(*module.split(".")[:-1], module.rsplit(".", 1)[-1] + ".py").read_text("utf-8")
        parts.append(f"_load({'anyconsole.drivers.' + module!r}, {source!r}, False)\n")
    for module in extra:
        parts += [f"_load({p!r}, '', True)\n" for p in _parents(module)]
        parts.append(f"_load({module!r}, {_source(module)!r}, False)\n")
    parts.append(_MAIN)
    return zlib.compress("".join(parts).encode(), 9)


def bootstrap(config: dict[str, Any]) -> tuple[str, bytes]:
    """The remote command line, and the bytes to write to its standard input first.

    The command works in any login shell. Keep the input open afterwards: its end is the probe's end. Where there is no Python of 3.7 or
    later the command writes `NO_PYTHON` and exits.
    """
    own = {f"anyconsole.drivers.{m}" for m in MODULES}
    extra = tuple(sorted({s["module"] for s in config["speakers"] + config["instances"]} - own))
    stdin = program(extra) + zlib.compress(json.dumps(config, separators=(",", ":")).encode(), 9)
    # One line: some login shells take no line breaks in quotes.
    code = f"exec({_START.format(missing=NO_PYTHON, size=len(stdin))!r})"
    script = (
        "PATH=$PATH:/usr/local/bin:/usr/bin:/bin; "
        f"command -v python3 >/dev/null 2>&1 && exec python3 -ISuc {shlex.quote(code)}; "
        f"echo {shlex.quote(NO_PYTHON)}"
    )
    return f"exec /bin/sh -c {shlex.quote(script)}", stdin


def _parents(module: str) -> list[str]:
    words = module.split(".")[:-1]
    return [p for i in range(len(words)) if (p := ".".join(words[: i + 1])) not in _PACKAGES]


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    loader = spec.loader if spec is not None else None
    source = loader.get_source(module) if isinstance(loader, importlib.abc.InspectLoader) else None
    if source is None:
        raise PluginError(f"driver {module} has no source that could travel to the nodes")
    return source
