"""Hosts of an OpenSSH client configuration: each alias becomes a node that is reached by that alias.

So the configuration goes on deciding user, port, jump hosts and keys; nothing of it is copied into the profile.
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from anyconsole.errors import ProfileError
from anyconsole.profile.importing import FoundHost, profile_of, site_by_prefix
from anyconsole.profile.load import read_bounded

__all__ = ["import_ssh"]

_LINE = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)")
# OpenSSH's own limit.
_DEEPEST_INCLUDE = 16
_MOST_FILES = 1000


def import_ssh(path: Path, name: str, *, match: str = "*") -> str:
    """A profile, as TOML, of the hosts in an ssh configuration.

    Args:
        path: The configuration. Its includes are followed.
        name: What the profile should be called.
        match: Takes only aliases that fit this shell pattern.

    Raises:
        ProfileError: It can't be read, or has no such hosts.
    """
    entries: dict[str, dict[str, str]] = {}
    current: list[dict[str, str]] = []
    for keyword, arguments in _settings(path, [0], 0):
        if keyword in {"host", "match"}:
            aliases = (
                [a for a in arguments if not a.startswith("!") and not {"*", "?"} & set(a)] if keyword == "host" else []
            )
            current = [entries.setdefault(alias, {}) for alias in aliases if fnmatchcase(alias, match)]
        elif keyword in {"hostname", "proxyjump"} and arguments:
            for entry in current:
                entry.setdefault(keyword, arguments[0])
    hosts = [_found_host(alias, entry) for alias, entry in entries.items()]
    default = Path.home() / ".ssh" / "config"
    config_file = "" if path.absolute() == default else str(path.absolute())
    return profile_of(hosts, str(path), name, config_file=config_file if config_file.isprintable() else "")


def _found_host(alias: str, entry: dict[str, str]) -> FoundHost:
    known = {"hostname": "is", "proxyjump": "through"}
    note = ", ".join(f"{word} {entry[key]}" for key, word in known.items() if key in entry)
    return FoundHost(name=alias, address=alias, site=site_by_prefix(alias), notes=(f"{alias} {note}",) if note else ())


def _settings(path: Path, files: list[int], depth: int) -> Iterator[tuple[str, list[str]]]:
    """The settings of a configuration and the files it includes: keyword in small letters, arguments."""
    files[0] += 1
    if depth > _DEEPEST_INCLUDE or files[0] > _MOST_FILES:
        raise ProfileError(f"{path}: more than {_DEEPEST_INCLUDE} includes deep or more than {_MOST_FILES} files")
    for line in read_bounded(path).split("\n"):
        found = _LINE.match(line)
        if not found:
            continue
        keyword, arguments = found[1].lower(), _words(found[2])
        if keyword == "include":
            for pattern in arguments:
                for included in _included(pattern):
                    yield from _settings(included, files, depth + 1)
        else:
            yield keyword, arguments


def _included(pattern: str) -> list[Path]:
    """The files an Include names; like for ssh, none is no mistake."""
    if pattern.startswith("~/"):
        pattern = str(Path.home() / pattern[2:])
    elif not pattern.startswith("/"):
        pattern = str(Path.home() / ".ssh" / pattern)
    if "\0" in pattern:
        return []
    # Unlike Path.glob this takes absolute patterns, as ssh does.
    found = glob.glob(pattern)  # noqa: PTH207
    return [path for path in map(Path, sorted(found)) if path.is_file()]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()
