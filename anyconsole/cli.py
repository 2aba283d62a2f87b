"""The command line: opens the console, or does the same without a screen.

Standard output is for output, diagnostics go to standard error. Exit codes: 0 done, 2 bad input (one line says what and where), 130
interrupted; `check` uses those of monitoring plugins instead. Nothing heavy is imported before it is needed: `--version` and the
sub-commands never load Textual.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from anyconsole import __version__
from anyconsole.errors import AnyconsoleError

__all__ = ["main"]

_VIEWS = ("fleet", "tenants", "bgp", "announcements", "catchment", "health", "qps", "events")
_FORMATS = ("table", "json", "csv", "markdown")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anyconsole", description="The operations console for an anycast DNS cloud.")
    parser.add_argument("--version", action="version", version=f"anyconsole {__version__}")
    parser.add_argument(
        "--profile",
        metavar="NAME|FILE",
        help="the fleet to watch (default: $ANYCONSOLE_PROFILE)",
    )
    screen = parser.add_argument_group("the screen")
    screen.add_argument(
        "--theme", default="night", help="night, day, colour-blind, ansi, or one of your own (default: night)"
    )
    screen.add_argument(
        "--glyphs", choices=("unicode", "ascii"), default="unicode", help="signs and charts (default: unicode)"
    )
    screen.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="without a screen")

    show = commands.add_parser("show", help="print a view of the fleet", description="Print one view of the fleet.")
    show.add_argument("view", choices=_VIEWS)
    show.add_argument("--output", choices=_FORMATS, default="table", help="default: table")
    show.add_argument("--watch", action="store_true", help="keep running and print every changed row as a line of JSON")
    show.add_argument(
        "--wait", type=_seconds, default=10.0, metavar="S", help="wait S seconds at most for all nodes (default: 10)"
    )

    check = commands.add_parser(
        "check",
        help="one line for a monitoring system",
        description="Nagios plugin: exit 0 ok, 1 warning, 2 critical, 3 unknown.",
    )
    check.add_argument(
        "--wait", type=_seconds, default=10.0, metavar="S", help="wait S seconds at most for all nodes (default: 10)"
    )

    _add_drain(commands)
    from anyconsole.lab import command as lab_command  # noqa: PLC0415 - both are light, and their words are theirs to say
    from anyconsole.profile import command as profile_command  # noqa: PLC0415

    profile_command.add_parser(commands)
    lab_command.add_parser(commands)
    return parser


def _add_drain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, what in (("drain", "taking announcements out"), ("undrain", "putting announcements back")):
        parser = commands.add_parser(
            name,
            help=f"plan {what}: exact commands and guards; changes nothing",
            description=f"The plan of {what}, against the fleet as it is now. Only planning is built: nothing is changed. "
            "Exit 0 if every guard agrees, 3 if one refuses, 4 if the evidence is not enough.",
        )
        parser.add_argument("--plan", action="store_true", help="required: print the plan")
        for scope in ("node", "site", "tenant", "peer"):
            parser.add_argument(
                f"--{scope}", action="append", default=[], metavar="NAME", help="may be repeated; default: all"
            )
        parser.add_argument("--family", action="append", default=[], choices=("4", "6"), help="default: both")
        if name == "drain":
            level = parser.add_mutually_exclusive_group()
            level.add_argument("--soft", action="store_true", help="de-prefer (the default)")
            level.add_argument("--hard", action="store_true", help="withdraw")
        parser.add_argument("--reason", default="", metavar="TEXT")
        parser.add_argument("--ticket", default="", metavar="ID")
        parser.add_argument("--output", choices=("text", "json"), default="text", help="default: text")
        parser.add_argument(
            "--wait",
            type=_seconds,
            default=10.0,
            metavar="S",
            help="wait S seconds at most for all nodes (default: 10)",
        )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of seconds, more than 0 and at most 3600")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    try:
        args = _parser().parse_args(words)
    except SystemExit as end:
        if end.code == 2 and "check" in words:
            return 3  # monitoring would read 2 as critical; a wrong word is unknown
        raise
    try:
        return _run(args)
    except AnyconsoleError as error:
        for line in str(error).splitlines():
            print(f"anyconsole: {line}", file=sys.stderr)
        return 3 if args.command == "check" else 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went; say nothing more at exit
        return 0


def _run(args: argparse.Namespace) -> int:
    if args.command == "lab":
        from anyconsole.lab import command as lab_command  # noqa: PLC0415

        return lab_command.run(args)
    if args.command == "profile":
        from anyconsole.profile import command as profile_command  # noqa: PLC0415

        return profile_command.run(args)

    from anyconsole import profile  # noqa: PLC0415

    chosen = profile.chosen_profile(args.profile)
    if not chosen:
        if args.command:
            raise AnyconsoleError("no profile: say --profile NAME or set ANYCONSOLE_PROFILE")
        print(profile.explain_profiles())
        return 0
    inventory = profile.load_profile(chosen)
    if args.command is None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise AnyconsoleError("the console needs a terminal; without one, use `show` (see anyconsole show --help)")
        from anyconsole.tui.app import run  # noqa: PLC0415

        return run(inventory, theme=args.theme, glyphs=args.glyphs, mouse=not args.no_mouse)

    if args.command in ("drain", "undrain"):
        from anyconsole import drain_command  # noqa: PLC0415

        return drain_command.run(inventory, args)

    from anyconsole import headless  # noqa: PLC0415

    if args.command == "check":
        return headless.check(inventory, args.wait)
    return headless.show(inventory, args.view, args.output, watch=args.watch, wait=args.wait)


if __name__ == "__main__":
    sys.exit(main())
