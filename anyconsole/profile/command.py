"""`anyconsole profile check | print | import`: profiles on the command line. Profiles go to stdout, everything else to stderr."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from anyconsole.errors import ProfileError
from anyconsole.model.inventory import Inventory
from anyconsole.profile.load import chosen_profile, explain_profiles, load_profile, read_bounded

__all__ = ["add_parser", "run"]

_FAILED = 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `profile` to the sub-commands of a command line."""
    profile = subparsers.add_parser("profile", help="check, print and import profiles")
    commands = profile.add_subparsers(dest="profile_command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="say everything that is wrong with a profile")
    check.add_argument("profiles", nargs="+", metavar="FILE", help="a profile: its file, or its name")
    show = commands.add_parser("print", help="print a profile with templates applied and all defaults")
    show.add_argument("name", nargs="?", metavar="NAME", help="a profile: its name, or its file")
    sources = commands.add_parser("import", help="make a profile of hosts listed elsewhere")
    kinds = sources.add_subparsers(dest="source", required=True, metavar="SOURCE")
    ansible = kinds.add_parser("ansible", help="an Ansible inventory: INI, or the JSON of `ansible-inventory --list`")
    ansible.add_argument("file", type=Path, metavar="INVENTORY")
    ansible.add_argument(
        "--site-from",
        choices=["group", "prefix"],
        default="group",
        help="without a variable `site`, a host's site is its first group or the letters its name begins with (default: group)",
    )
    ssh = kinds.add_parser("ssh", help="an ssh_config; its aliases become nodes")
    ssh.add_argument("file", type=Path, metavar="CONFIG")
    ssh.add_argument("--match", default="*", metavar="GLOB", help="take only these aliases, like 'ns-*'")
    for importer in (ansible, ssh):
        importer.add_argument(
            "-o", dest="output", type=Path, metavar="FILE", help="write it there (a new file), not to stdout"
        )


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks for.

    Returns:
        The exit code.

    Raises:
        ProfileError: A profile or what is to be imported can't be used.
    """
    if args.profile_command == "check":
        return _check(args.profiles)
    if args.profile_command == "print":
        return _print(args.name or chosen_profile(getattr(args, "profile", None)))
    return _import(args)


def _check(profiles: list[str]) -> int:
    failed = False
    for name in profiles:
        try:
            inventory = load_profile(name)
        except ProfileError as error:
            failed = True
            print(error, file=sys.stderr)
        else:
            print(f"ok: {_summary(inventory)}" if len(profiles) == 1 else f"{name}: ok: {_summary(inventory)}")
    return _FAILED if failed else 0


def _print(name: str | None) -> int:
    if name is None:
        print(explain_profiles(), file=sys.stderr)
        return _FAILED
    # `check` has no use for it.
    from anyconsole.profile.printing import print_profile  # noqa: PLC0415

    inventory = load_profile(name)
    print(f"# {inventory.path}, as anyconsole understands it\n{print_profile(inventory)}", end="")
    return 0


def _import(args: argparse.Namespace) -> int:
    name = re.sub(r"\W+", "-", (args.output or args.file).stem)
    if args.source == "ansible":
        from anyconsole.profile.import_ansible import import_ansible  # noqa: PLC0415

        text = import_ansible(read_bounded(args.file), str(args.file), name, site_from=args.site_from)
    else:
        from anyconsole.profile.import_ssh import import_ssh  # noqa: PLC0415

        text = import_ssh(args.file, name, match=args.match)
    if args.output is None:
        print(text, end="")
        return 0
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        # A profile that took somebody a day isn't overwritten by an import.
        with args.output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ProfileError(f"{args.output}: can't be written: {error.strerror}; nothing is overwritten") from error
    todos = text.count("# TODO")
    print(f"wrote {args.output} with {todos} TODOs; then run `anyconsole profile check {args.output}`", file=sys.stderr)
    return 0


def _summary(inventory: Inventory) -> str:
    sessions = sum(len(speaker.sessions) for node in inventory.nodes for speaker in node.speakers)
    instances = sum(len(node.instances) for node in inventory.nodes)
    counts = {
        "node": len(inventory.nodes),
        "site": len(inventory.sites),
        "cluster": len(inventory.clusters),
        "tenant": len(inventory.tenants),
        "session": sessions,
        "instance": instances,
        "vantage": len(inventory.vantages),
        "looking glass": len(inventory.looking_glasses),
    }
    return ", ".join(
        f"{count} {what}{'' if count == 1 else 'es' if what.endswith('s') else 's'}" for what, count in counts.items()
    )
