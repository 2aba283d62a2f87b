"""Profiles: finds the TOML file that describes a fleet and turns it into an `Inventory`, or says everything that is wrong with it.

What may stand in a profile is in `schema`, nodes with their templates and placeholders in `nodes`, clusters in `clusters`, and what must
hold between the parts in `rules`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from anyconsole.errors import ProfileError
from anyconsole.model.inventory import (
    Bootstrap,
    Generator,
    Interconnect,
    Inventory,
    LoadSpec,
    LoadTarget,
    LookingGlass,
    Peer,
    Site,
    Tenant,
    Vantage,
)
from anyconsole.profile.bootstraps import check_bootstraps
from anyconsole.profile.clusters import read_cluster
from anyconsole.profile.load_rules import check_load
from anyconsole.profile.nodes import Known, read_nodes
from anyconsole.profile.read import Row, build, check_keys, read_array, read_table
from anyconsole.profile.report import Report, inside, nearest
from anyconsole.profile.rules import SessionNumbers, check_rules
from anyconsole.profile.schema import ARRAYS, SECTIONS, TOP_KEYS
from anyconsole.profile.stack import check_stack, read_stack
from anyconsole.profile.toml_text import shown

__all__ = [
    "chosen_profile",
    "explain_profiles",
    "find_profile",
    "load_profile",
    "parse_profile",
    "profile_folders",
    "read_bounded",
]

LAB_FOLDER = Path("/run/anyconsole/lab")
_H = TypeVar("_H", Vantage, LookingGlass, Generator, Bootstrap)
_LARGEST = 16 * 1024 * 1024
_DEEPEST_INCLUDE = 8


def chosen_profile(argument: str | None) -> str | None:
    """The profile that is asked for: the argument of `--profile`, else ANYCONSOLE_PROFILE, else None."""
    return argument or os.environ.get("ANYCONSOLE_PROFILE") or None


def load_profile(name_or_path: str) -> Inventory:
    """The inventory that a profile describes.

    Args:
        name_or_path: See `find_profile`.

    Raises:
        ProfileError: There is no such profile, or it can't be used. Names everything that is wrong, one problem a line.
    """
    path = find_profile(name_or_path)
    return parse_profile(read_bounded(path), path)


def parse_profile(text: str, path: Path) -> Inventory:
    """The inventory that the TOML in `text` describes.

    Args:
        text: The TOML.
        path: Where it stands: for error messages and relative includes.

    Raises:
        ProfileError: It can't be used.
    """
    raw, origins = _with_includes(_parse_toml(text, path), path, (path,))
    report = Report(str(path), origins)
    inventory = _inventory(raw, str(path), report)
    report.raise_if_any()
    return inventory


# Finding


def profile_folders() -> list[Path]:
    """Where profiles are looked for, first come first served: ./profiles, the user's, those that come with the program."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    package = Path(__file__).parent.parent
    packaged = package / "data" / "profiles"
    return [
        Path("profiles"),
        Path(home) / "anyconsole" / "profiles",
        # A wheel carries them inside the package, a checkout beside it.
        packaged if packaged.is_dir() else package.parent / "profiles",
    ]


def find_profile(name: str) -> Path:
    """The file of a profile. A value with a "/" or ending in ".toml" is a path, anything else a name in one of `profile_folders`.

    Raises:
        ProfileError: There is none.
    """
    if not name or name.startswith("-") or not name.isprintable():
        raise ProfileError(
            f"profile {shown(name)}: expected a name or a path that doesn't start with - and can be printed"
        )
    if "/" in name or name.endswith(".toml"):
        return Path(name)
    for folder in profile_folders():
        path = folder / f"{name}.toml"
        if _is_file(path):
            return path
    folders = ", ".join(str(folder) for folder in profile_folders())
    raise ProfileError(f"profile {shown(name)}: not found in {folders}; {nearest(name, _found_profiles())}")


def explain_profiles() -> str:
    """One screen for somebody who started without a profile: which there are, how to make one, what to type."""
    found = _found_profiles()
    width = max([len(name) for name in found] + [12])
    listed = [f"  {name:{width}}  {path}" for name, path in list(found.items())[:8]]
    if len(found) > 8:
        listed.append(f"  ... and {len(found) - 8} more")
    return "\n".join(
        [
            "anyconsole shows the fleet that a profile describes, and was not told which.",
            "",
            "Profiles found:" if listed else "No profiles found in " + ", ".join(map(str, profile_folders())),
            *listed,
            "",
            "Type one of",
            "  anyconsole lab up                    build a small real anycast network, then",
            "  anyconsole --profile lab             open the console on it",
            "  anyconsole --profile NAME|FILE.toml  open the console on your own fleet",
            "",
            "Make your own profile from what you have; every option is in prod.example:",
            "  anyconsole profile import ansible INVENTORY -o profiles/prod.toml",
            "  anyconsole profile import ssh ~/.ssh/config -o profiles/prod.toml",
            "  anyconsole profile check profiles/prod.toml",
            "",
            "ANYCONSOLE_PROFILE=NAME in the environment saves typing --profile.",
        ]
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A folder that may not be looked into, or a name too long for any: not found here.
        return False


def _found_profiles() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in profile_folders():
        for path in sorted(folder.glob("*.toml")):
            if path.stem.isprintable():
                found.setdefault(path.stem, path)
    return found


# Reading


def read_bounded(path: Path) -> str:
    """The text of a file somebody named. Raises ProfileError, also when it isn't text or has more than 16 MiB."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ProfileError(f"{path}: can't be read: {reason}") from error
    if len(content) > _LARGEST:
        raise ProfileError(f"{path}: has more than {_LARGEST // 1024 // 1024} MiB, which no profile or inventory needs")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ProfileError(f"{path}:{line}:{column}: isn't UTF-8 text") from error


def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ProfileError(f"{path}: not valid TOML: nested too deeply") from error
    except ValueError as error:
        reason, _, place = str(error).rpartition(" (at ")
        position = re.fullmatch(r"line (\d+), column (\d+)\)", place)
        if position:
            raise ProfileError(f"{path}:{position[1]}:{position[2]}: not valid TOML: {reason}") from error
        last_line = text.count("\n") + 1
        at_end = f"{path}:{last_line}:{len(text) - text.rfind(chr(10))}" if "end of document" in place else str(path)
        raise ProfileError(f"{at_end}: not valid TOML: {reason or error}") from error


def _with_includes(raw: dict[str, Any], path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """`raw` on top of the file it includes, and which file each included key came from."""
    if "include" not in raw:
        return raw, {}
    value = raw["include"]
    own = {key: item for key, item in raw.items() if key != "include"}
    problem = Report(str(path))
    if not isinstance(value, str) or not value or not value.isprintable():
        problem.add("include", "expected the path of another profile", value)
        problem.raise_if_any()
    target = Path.home() / value[2:] if value.startswith("~/") else path.parent / value
    if target.is_relative_to(LAB_FOLDER) and _is_missing(target):
        problem.add("include", "the lab is not up: run `anyconsole lab up`", value)
    elif os.path.realpath(target) in map(os.path.realpath, seen):
        problem.add("include", "includes itself", value)
    elif len(seen) > _DEEPEST_INCLUDE:
        problem.add("include", f"is nested more than {_DEEPEST_INCLUDE} deep", value)
    problem.raise_if_any()
    base, origins = _with_includes(_parse_toml(read_bounded(target), target), target, (*seen, target))
    origins = {**dict.fromkeys(base, str(target)), **origins}
    for key, item in own.items():
        below = base.get(key)
        if isinstance(item, dict) and isinstance(below, dict):
            base[key] = {**below, **item}
            origins |= {f"{key}.{name}": str(path) for name in item}
        else:
            base[key] = item
            origins[key] = str(path)
    return base, origins


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # reading it will say why it can't be
    return False


def _inventory(raw: dict[str, Any], path: str, report: Report) -> Inventory:
    check_keys(raw, TOP_KEYS, "", report)
    settings: dict[str, Any] = {}
    targets: list[tuple[str, LoadTarget]] = []
    stack_tenants: list[str] = []
    for name, table in SECTIONS.items():
        if name in raw or name != "prometheus":
            row = read_table(raw.get(name, {}), table, name, report)
            if name == "load":
                target_rows = row.values.pop("target", [])
                targets = [(t.where, build(t, table.array("target"), LoadTarget)) for t in target_rows]
            if name == "stack":
                stack_tenants = [t.where for t in row.values.get("tenant", [])]
                settings[name] = read_stack(row)
                continue
            settings[name] = row.values if name == "profile" else build(row, table, table.struct)
    rows = {
        name: read_array(raw.get(name, []), table, name, report) for name, table in ARRAYS.items() if name != "node"
    }
    sites = [build(row, ARRAYS["site"], Site) for row in rows["site"]]
    numbers = SessionNumbers(report)
    interconnects = [_interconnect(row, numbers) for row in rows["interconnect"]]
    tenants = [build(row, ARRAYS["tenant"], Tenant) for row in rows["tenant"]]
    vantages = [_host(row, "vantage", Vantage) for row in rows["vantage"]]
    glasses = [_host(row, "looking_glass", LookingGlass) for row in rows["looking_glass"]]
    generators = [_host(row, "generator", Generator) for row in rows["generator"]]
    bootstraps = [_host(row, "bootstrap", Bootstrap) for row in rows["bootstrap"]]
    by_name = {tenant.name: tenant for tenant in tenants if tenant.name}
    clusters = [(row.where, read_cluster(row, by_name, report)) for row in rows["cluster"]]
    known = Known(
        sites=tuple(site.name for site in sites),
        tenants=by_name,
        clusters=tuple(cluster.name for _, cluster in clusters if cluster.name),
        peers={peer.name: peer for interconnect in interconnects for peer in interconnect.peers},
        numbers=numbers,
    )
    nodes = read_nodes(raw.get("node", []), raw.get("template", {}), known, report)
    profile = settings.pop("profile")
    profile.setdefault("name", "")
    settings["load"] = _with_targets(settings["load"], [target for _, target in targets], known.tenants)
    inventory = Inventory(
        **profile,
        path=path,
        **settings,
        sites=tuple(sites),
        interconnects=tuple(interconnects),
        tenants=tuple(tenants),
        clusters=tuple(cluster for _, cluster in clusters),
        nodes=tuple(node for _, node in nodes),
        vantages=tuple(vantages),
        looking_glasses=tuple(glasses),
        generators=tuple(generators),
        bootstraps=tuple(bootstraps),
    )
    check_rules(
        inventory,
        [row.where for row in rows["site"]],
        [(row.where, item) for row, item in zip(rows["interconnect"], interconnects, strict=True)],
        [(row.where, item) for row, item in zip(rows["tenant"], tenants, strict=True)],
        clusters,
        nodes,
        [
            *((row.where, item) for row, item in zip(rows["vantage"], vantages, strict=True)),
            *((row.where, item) for row, item in zip(rows["looking_glass"], glasses, strict=True)),
            *((row.where, item) for row, item in zip(rows["generator"], generators, strict=True)),
            *((row.where, item) for row, item in zip(rows["bootstrap"], bootstraps, strict=True)),
        ],
        report,
    )
    check_load(inventory, [where for where, _ in targets], report)
    check_stack(inventory, stack_tenants, report)
    check_bootstraps(inventory, [row.where for row in rows["bootstrap"]], report)
    return inventory


def _with_targets(load: LoadSpec, targets: Iterable[LoadTarget], tenants: Mapping[str, Tenant]) -> LoadSpec:
    """The section with its targets: one without a zone is asked for the first one of its tenant."""
    filled = (
        msgspec.structs.replace(target, zone=target.zone or next(iter(tenants[target.tenant].zones), ""))
        if target.tenant in tenants
        else target
        for target in targets
    )
    return msgspec.structs.replace(load, targets=tuple(filled))


def _interconnect(row: Row, numbers: SessionNumbers) -> Interconnect:
    table = ARRAYS["interconnect"]
    peers = []
    for peer_row in row.values.pop("peer", []):
        peer = build(peer_row, table.array("peer"), Peer, interconnect=row.values.get("name", ""))
        for family, number in peer.numbers.items():
            numbers.claim(inside(inside(peer_row.where, "numbers"), family), number, peer.name, family)
        peers.append(peer)
    return build(row, table, Interconnect, peers=tuple(peers))


def _host(row: Row, table: str, struct: type[_H]) -> _H:
    """Whatever is a host and no node: its address is its name unless it says otherwise."""
    address = row.values.pop("address", row.values.get("name", ""))
    return build(row, ARRAYS[table], struct, address=address)
