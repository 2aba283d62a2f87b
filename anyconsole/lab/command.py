"""`anyconsole lab up | status | down | shell | break | heal | limit` on the command line. stdout is for output, progress goes to stderr."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from anyconsole.errors import AnyconsoleError, LabError
from anyconsole.lab.kinds import ALIASES, KINDS

if TYPE_CHECKING:
    from anyconsole.lab.lab import HostRow, Lab

__all__ = ["add_parser", "main", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `lab` sub-command to a parser's sub-commands."""
    parser = subparsers.add_parser("lab", help="a disposable real anycast network on this machine")
    _fill(parser)


def _fill(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (("up", "build it and wait until all of it works"), ("status", "show its hosts, daemons and sessions"),
                       ("down", "remove it without a trace"), ("shell", "a root shell, or a command, inside one of its hosts"),
                       ("break", "break something on purpose"), ("heal", "undo every break"),
                       ("limit", "limit the queries that a node's name servers get, for load tests to find")):  # fmt: skip
        sub = verbs.add_parser(verb, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.add_argument(
            "--name", default="default", help="which lab (default: %(default)s); several can be up side by side"
        )
        if verb == "up":
            sub.add_argument(
                "--speaker",
                action="append",
                default=[],
                metavar="NODE=KIND",
                help="let a node run bird, frr or gobgp instead of its usual routing daemon; can be given several times",
            )
        if verb == "status":
            sub.add_argument("--output", choices=("table", "json"), default="table")
        if verb == "shell":
            sub.add_argument("host")
            sub.add_argument(
                "argv",
                nargs="*",
                metavar="COMMAND",
                help="instead of a shell; put options before HOST and -- before COMMAND",
            )
        if verb == "break":
            sub.epilog = "kinds:\n" + "\n".join(f"  {kind:11}{text}" for kind, text in KINDS.items())
            sub.add_argument("kind", choices=(*KINDS, *ALIASES), metavar="KIND")
            sub.add_argument("host", metavar="HOST")
            sub.add_argument("argument", nargs="?", default="", metavar="ARG")
        if verb == "limit":
            sub.epilog = (
                "Only UDP queries to the unicast addresses of the node are limited, not those to service addresses."
            )
            sub.add_argument("host", metavar="NODE")
            sub.add_argument("rate", metavar="RATE", help="queries/s for each name server, or off")
            sub.add_argument("--tenant", default="", help="only this tenant's name server")
        if verb == "heal":
            sub.add_argument("host", nargs="?", default="", metavar="HOST", help="only this host's breaks")


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed `lab` command and return the exit code. Raises LabError."""
    from anyconsole.lab.lab import Lab  # noqa: PLC0415 - netlink takes a while to import and no other command needs it

    speakers = dict(_speaker(text) for text in args.speaker) if args.verb == "up" else {}
    return _VERBS[args.verb](Lab(args.name, speakers), args)


def _speaker(text: str) -> tuple[str, str]:
    host, equals, kind = text.partition("=")
    if not equals:
        raise LabError(f"{text!r} names no routing daemon: give NODE=KIND, for example sin1=gobgp")
    return host, kind


def _up(lab: Lab, _args: argparse.Namespace) -> int:
    if not lab.up(_tell):
        _tell(f"lab {lab.name!r} is up already")
    print(lab.profile_path)
    return 0


def _down(lab: Lab, _args: argparse.Namespace) -> int:
    _tell(f"lab {lab.name!r} is gone" if lab.down() else f"there was no lab {lab.name!r}")
    return 0


def _status(lab: Lab, args: argparse.Namespace) -> int:
    rows = lab.status()
    if args.output == "json":
        print(msgspec.json.encode({"version": 1, "lab": lab.name, "hosts": rows}).decode())
    else:
        print(_table(rows))
    return 0 if not any(row.faults for row in rows) else 1


def _table(rows: list[HostRow]) -> str:
    lines = [f"{'HOST':12}{'DAEMONS':9}{'SESSIONS':10}FAULTS"]
    for row in rows:
        daemons = f"{sum(row.daemons.values())}/{len(row.daemons)}"
        up = sum(value == "Established" for value in row.sessions.values())
        sessions = f"{up}/{len(row.sessions)}" if row.sessions else "-"
        lines.append(f"{row.host:12}{daemons:9}{sessions:10}{'; '.join(row.faults) or 'none'}")
    return "\n".join(lines)


def _shell(lab: Lab, args: argparse.Namespace) -> int:
    command = lab.enter_command(args.host, args.argv or ["bash", "-i"])
    environment = {key: os.environ[key] for key in ("TERM", "LANG", "COLORTERM") if key in os.environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.execvpe(command[0], command, {**environment, "PATH": path, "HOME": "/root", "USER": "root"})  # noqa: S606 - no shell on purpose


def _break(lab: Lab, args: argparse.Namespace) -> int:
    done = lab.break_(args.kind, args.host, args.argument)
    _tell(f"broken: {' '.join((done.kind, done.host, *done.arguments))}")
    return 0


def _heal(lab: Lab, args: argparse.Namespace) -> int:
    healed = lab.heal(args.host)
    for item in healed:
        _tell(f"healed: {' '.join((item.kind, item.host, *item.arguments))}")
    if not healed:
        _tell("nothing is broken")
    return 0


def _limit(lab: Lab, args: argparse.Namespace) -> int:
    if args.rate == "off":
        lab.unlimit(args.host, args.tenant)
        _tell(f"unlimited: {args.host} {args.tenant}".rstrip())
        return 0
    if not args.rate.isdecimal():
        raise LabError(f"{args.rate!r} is no limit: give queries a second, or off")
    lab.limit(args.host, int(args.rate), args.tenant)
    _tell(f"limited: {args.host} {args.tenant}".rstrip() + f" to {args.rate} queries/s")
    return 0


_VERBS: dict[str, Callable[[Lab, argparse.Namespace], int]] = {
    "up": _up, "down": _down, "status": _status, "shell": _shell, "break": _break, "heal": _heal,
    "limit": _limit,
}  # fmt: skip


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """`python -m anyconsole.lab`: the same commands, without the console around them."""
    parser = argparse.ArgumentParser(prog="python -m anyconsole.lab", description=__doc__)
    _fill(parser)
    try:
        return run(parser.parse_args())
    except AnyconsoleError as error:
        _tell(f"error: {error}")
        return 2
