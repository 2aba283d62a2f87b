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
from datetime import UTC, datetime

import msgspec

from anyconsole import __version__
from anyconsole.errors import AnyconsoleError

__all__ = ["main"]

_VIEWS = (
    "fleet", "tenants", "bgp", "announcements", "catchment", "health", "pods", "monitoring", "qps", "drains", "events",
)  # fmt: skip
_FORMATS = ("table", "json", "csv", "markdown")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anyconsole", description="The operations console for an anycast DNS cloud.")
    parser.add_argument("--version", action="version", version=f"anyconsole {__version__}")
    parser.add_argument(
        "--profile",
        metavar="NAME|FILE",
        help="the fleet to watch (default: $ANYCONSOLE_PROFILE)",
    )
    parser.add_argument(
        "--read-only",
        action="store_true",
        default=bool(os.environ.get("ANYCONSOLE_READ_ONLY")),
        help="change nothing, whatever is typed (also: $ANYCONSOLE_READ_ONLY)",
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
    drains = commands.add_parser(
        "drains", help="what is drained, by whom, until when", description="What is drained: the same as `show drains`."
    )
    drains.set_defaults(view="drains")
    for view in (show, drains):
        view.add_argument("--output", choices=_FORMATS, default="table", help="default: table")
        view.add_argument(
            "--watch", action="store_true", help="keep running and print every changed row as a line of JSON"
        )
        view.add_argument(
            "--wait",
            type=_seconds,
            default=10.0,
            metavar="S",
            help="wait S seconds at most for all nodes (default: 10)",
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
    _add_drift(commands)
    _add_journal(commands)
    _add_loadtest(commands)
    from anyconsole.lab import command as lab_command  # noqa: PLC0415 - both are light, and their words are theirs to say
    from anyconsole.profile import command as profile_command  # noqa: PLC0415

    _add_stack(commands)
    _add_bootstrap(commands)
    _add_render(commands)
    profile_command.add_parser(commands)
    lab_command.add_parser(commands)
    return parser


def _add_drain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, what in (("drain", "take announcements out"), ("undrain", "put announcements back")):
        parser = commands.add_parser(
            name,
            help=f"{what}, safely",
            description=f"{what.capitalize()}: plan, guards, confirmation, then step by step, each taken back by its node unless it is "
            "confirmed. Exit 0 done, 1 failed and rolled back (or stopped on the way: the result says what stays), 2 usage or profile "
            "error, 3 refused by a guard, 4 evidence insufficient, 5 conflict with another operator.",
        )
        for scope in ("node", "site", "tenant", "interconnect", "peer"):
            parser.add_argument(
                f"--{scope}", action="append", default=[], metavar="NAME", help="may be repeated; default: all"
            )
        parser.add_argument("--family", action="append", default=[], choices=("4", "6"), help="default: both")
        if name == "drain":
            level = parser.add_mutually_exclusive_group()
            level.add_argument("--soft", action="store_true", help="de-prefer only")
            level.add_argument(
                "--hard",
                action="store_true",
                help="withdraw at once; default: soft, then hard when the traffic has left",
            )
            parser.add_argument(
                "--for",
                dest="lasts",
                type=_duration,
                metavar="2h",
                help="after this it is shown as overdue; nothing is undrained by itself",
            )
        _add_change(parser)


def _add_drift(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    drift = commands.add_parser(
        "drift",
        help="settle what was changed behind the console's back",
        description="What somebody changed by hand (a session disabled, the drain file edited, another configuration loaded) is either "
        "wanted (adopt) or not (revert). Both are changes as drains are, with the same exit codes.",
    )
    ways = drift.add_subparsers(dest="way", required=True, metavar="adopt|revert")
    for name, what in (
        ("adopt", "what is announced now is what is wanted: write it into the drain file"),
        ("revert", "what the drain file says takes effect again, and what was disabled serves again"),
    ):
        parser = ways.add_parser(name, help=what, description=what.capitalize() + ".")
        parser.add_argument(
            "--node", action="append", default=[], metavar="NAME", help="may be repeated; default: all that drifted"
        )
        _add_change(parser)


def _add_change(parser: argparse.ArgumentParser) -> None:
    """What every command takes that changes the fleet."""
    parser.add_argument("--reason", default="", metavar="TEXT", help="required unless --plan")
    parser.add_argument("--ticket", default="", metavar="ID")
    parser.add_argument("--plan", action="store_true", help="only print the plan and what the guards say")
    parser.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    parser.add_argument(
        "--override", action="append", default=[], metavar="GUARD=REASON", help="go on although this guard refuses"
    )
    parser.add_argument(
        "--residual",
        choices=("stay", "wait", "go"),
        default="",
        help="if traffic doesn't leave a soft drain: stay soft (default), wait on, or go hard",
    )
    parser.add_argument(
        "--parallel", type=_count, default=1, metavar="N", help="nodes at once, after the first (default: 1)"
    )
    parser.add_argument("--output", choices=("text", "json"), default="text", help="default: text")
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=10.0,
        metavar="S",
        help="wait S seconds at most for all nodes (default: 10)",
    )


def _duration(text: str) -> float:
    units = {"m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in units or not 0 < int(number) * units[unit] <= 366 * 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of minutes, hours or days, as 30m, 2h or 7d")
    return float(int(number) * units[unit])


def _add_journal(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    journal = commands.add_parser(
        "journal",
        help="what was changed, by whom and why",
        description="What was changed through the console on this machine, by this user. Touches no node.",
    )
    verbs = journal.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    show = verbs.add_parser("show", help="list the changes, the newest first, or tell all of one")
    show.add_argument("id", nargs="?", metavar="ID", help="a change; its last part is enough")
    show.add_argument("--open", action="store_true", help="only those that were begun and never ended")
    show.add_argument("--limit", type=_count, metavar="N", help="N changes at most (default: all)")
    export = verbs.add_parser("export", help="an incident report of one change, ready to paste")
    export.add_argument("id", nargs="?", metavar="ID", help="default: the last change")
    export.add_argument("--output", choices=("markdown", "json"), default="markdown", help="default: markdown")


def _add_loadtest(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    loadtest = commands.add_parser(
        "loadtest",
        help="measure what name servers answer, and what was measured",
        description="Load tests of the targets that the profile lists, and the results of those made on this machine, by this user.",
    )
    verbs = loadtest.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    _add_loadtest_run(verbs)
    _add_loadtest_pair(verbs)
    listed = verbs.add_parser("list", help="the load tests, the newest first")
    for name, what in (
        ("target", "of this target"),
        ("node", "on this node"),
        ("tenant", "of this tenant"),
        ("verdict", "that ended so: ok, >=cap, aborted, ..."),
        ("operator", "by this operator, as user@host"),
        ("pair", "made to be compared, by the id of the pair"),
    ):
        listed.add_argument(f"--{name}", default="", metavar="NAME", help=f"only those {what}")
    listed.add_argument("--kind", default="", choices=("virtual", "bare"), help="only of this kind of stack")
    listed.add_argument(
        "--purpose", default="", choices=("search", "fixed", "ramp", "soak"), help="only for this purpose"
    )
    listed.add_argument("--since", type=_day, metavar="YYYY-MM-DD", help="only from this day on (UTC)")
    listed.add_argument("--limit", type=_count, metavar="N", help="N at most (default: all)")
    run = "its id, the last part of it, or a file; default: the last"
    show = verbs.add_parser("show", help="all of one: the result, what limited it, the conditions, every trial")
    show.add_argument("run", nargs="?", metavar="RUN", help=run)
    show.set_defaults(file=None)
    compare = verbs.add_parser(
        "compare",
        help="two sets side by side",
        description="Two sets of load tests side by side. Exit 1 if their conditions forbid a ratio: the sheet says which.",
    )
    compare.add_argument("a", nargs="?", metavar="A", help="runs, joined by commas")
    compare.add_argument("b", nargs="?", metavar="B", help="runs, joined by commas")
    compare.add_argument("--pair", default="", metavar="ID", help="both sides of this pair, instead of A and B")
    compare.set_defaults(file=None)
    for parser in (listed, show, compare):
        parser.add_argument("--output", choices=_FORMATS, default="table", help="default: table")
    export = verbs.add_parser("export", help="one run or a comparison as a report, a chart, or the record itself")
    export.add_argument("run", nargs="?", metavar="RUN", help=run)
    export.add_argument("--against", metavar="B", help="compare RUN with these, joined by commas")
    formats = ("markdown", "json", "csv", "jsonl", "svg", "png")
    export.add_argument("--output", choices=formats, default="markdown", help="default: markdown; jsonl is the record")
    export.add_argument("--file", metavar="FILE", help="default: standard output")


def _add_loadtest_run(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "run",
        help="find the highest rate at which at most 1.0 %% is lost, or offer one rate",
        description="Load test targets of the profile, one after the other, from its generators. Exit codes are those of drain; "
        "0 says that it was carried out, the result says what was found.",
    )
    for name, what in (
        ("target", "a target"),
        ("node", "the targets on a node"),
        ("tenant", "the targets of a tenant"),
    ):
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME", help=f"{what} of the profile; may be repeated"
        )
    parser.add_argument("--pair", default="", metavar="ID", help="joins runs that are to be compared")
    parser.set_defaults(rounds=0)
    _add_loadtest_options(parser)
    _add_change(parser)


def _add_loadtest_pair(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "pair",
        help="two targets in turns, and their comparison",
        description="Load test two targets of the profile in turns, A B B A A B B A, as one change, then compare them. Exit codes are "
        "those of drain; also 1 if their conditions forbid a ratio.",
    )
    parser.add_argument("a", metavar="A", help="a target of the profile")
    parser.add_argument("b", metavar="B", help="another")
    parser.add_argument("--rounds", type=_count, default=4, metavar="N", help="tests of each (default: 4)")
    parser.add_argument("--pair", default="", metavar="ID", help="what the pair is called (default: something new)")
    parser.set_defaults(node=[], tenant=[], file=None)
    _add_loadtest_options(parser)
    _add_change(parser)


def _add_loadtest_options(parser: argparse.ArgumentParser) -> None:
    """What is asked, from where and how fast."""
    parser.add_argument(
        "--generator",
        action="append",
        default=[],
        metavar="NAME",
        help="from this generator; may be repeated; default: all",
    )
    parser.add_argument(
        "--purpose", choices=("search", "fixed", "ramp", "soak"), default="search", help="default: search"
    )
    parser.add_argument("--family", choices=("4", "6"), default="", help="default: the target's first address")
    parser.add_argument(
        "--rate", type=_rate, default=0.0, metavar="QPS", help="of a fixed run or a soak, or where a ramp ends"
    )
    parser.add_argument("--seconds", type=_rate, default=0.0, metavar="S", help="how long (not for a search)")
    parser.add_argument("--cap", type=_rate, default=0.0, metavar="QPS", help="never faster than this")
    parser.add_argument(
        "--loss", type=_percent, metavar="PERCENT", help="that may be lost (default: the profile's, 1.0)"
    )
    parser.add_argument(
        "--width", type=_percent, metavar="PERCENT", help="of the interval that is found (default: 1.0)"
    )
    parser.add_argument(
        "--confirm",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="how long a search holds what it found (default: 30)",
    )
    parser.add_argument("--flows", type=_count, default=256, metavar="N", help="sockets that ask (default: 256)")
    parser.add_argument(
        "--queries", default="", metavar="FILE", help="lines of NAME TYPE, a .pcap or a .dnstap; default: from the zone"
    )
    parser.add_argument(
        "--protocol",
        choices=("udp", "tcp", "dot"),
        default="udp",
        help="default: udp; the others want --engine dnsperf",
    )
    parser.add_argument(
        "--engine",
        choices=("agent", "dnsperf", "kxdpgun"),
        default="",
        help="that makes the queries; default: the generators' own",
    )
    parser.add_argument("--force-prod", action="store_true", help="a production target, at a fixed rate")
    parser.add_argument(
        "--window", type=_duration, default=0.0, metavar="30m", help="how long from now it may be loaded"
    )
    parser.add_argument("--second", default="", metavar="NAME", help="who else has seen this plan")


def _add_stack(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, what, more in (
        (
            "setup",
            "set tenants up in Kubernetes clusters",
            "What is there already is left as it is, drift is shown and repaired.",
        ),
        (
            "teardown",
            "take tenants out of Kubernetes clusters",
            "They have to be drained and silent; what set-up didn't make is left alone.",
        ),
    ):
        parser = commands.add_parser(
            name,
            help=what,
            description=f"{what.capitalize()}: plan, guards, confirmation, then set by set, each proved before the next begins. {more} "
            "What was done stays, however it ends. Exit codes are those of drain.",
        )
        for scope in ("cluster", "tenant"):
            default = "required" if (name, scope) == ("teardown", "tenant") else "default: all"
            parser.add_argument(
                f"--{scope}", action="append", default=[], metavar="NAME", help=f"may be repeated; {default}"
            )
        if name == "setup":
            parser.add_argument(
                "--force-conflicts",
                action="store_true",
                help="take fields that somebody else manages; wants --override conflicts=REASON too",
            )
        parser.add_argument(
            "--within",
            type=_seconds,
            default=300.0,
            metavar="S",
            help="all of a set must be proved within S seconds (default: 300)",
        )
        _add_change(parser)


def _add_bootstrap(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bootstrap",
        help="make a bare host a cluster: k3s and Calico",
        description="Make a host of the profile ([[bootstrap]]) a cluster, over SSH: plan, guards on what the host says, confirmation, "
        "then step by step, each proved by the host. What was done stays; a second run does the rest, or nothing. Exit codes are those "
        "of drain.",
    )
    parser.add_argument("--cluster", default="", metavar="NAME", help="default: the profile's, if there is one only")
    parser.add_argument(
        "--setup", action="store_true", help="then set up its tenants, with a plan of its own, as `setup` does"
    )
    parser.add_argument(
        "--within",
        type=_seconds,
        default=900.0,
        metavar="S",
        help="each step must be proved within S seconds (default: 900)",
    )
    _add_change(parser)


def _add_render(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "render",
        help="print the Kubernetes objects of tenants, for GitOps",
        description="Print the objects that set-up applies to a cluster. No cluster is asked, and TSIG keys are in none of them.",
    )
    parser.add_argument(
        "--tenant", action="append", default=[], metavar="NAME", help="may be repeated; default: all in the cluster"
    )
    parser.add_argument("--cluster", default="", metavar="NAME", help="default: the profile's, if there is one only")
    parser.add_argument(
        "--set",
        dest="sets",
        action="append",
        default=[],
        choices=("tenants", "cluster", "calico", "monitoring"),
        help="may be repeated: the tenants', what they share (roles, priority), Calico's, monitoring's; default: tenants",
    )
    groups = ("projectcalico.org/v3", "crd.projectcalico.org/v1")
    parser.add_argument(
        "--calico", choices=groups, default=groups[0], help=f"API group of Calico's objects (default: {groups[0]})"
    )
    parser.add_argument("--output", choices=("yaml", "json"), default="yaml", help="default: yaml")


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e8:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number, more than 0")
    return value


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 50:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of percent, as 1.0")
    return value / 100


def _day(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a day, as 2026-11-23") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, at least 1")
    return int(text)


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
    if args.read_only:
        inventory = msgspec.structs.replace(inventory, read_only=True, is_locked=True)
    if args.command is None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise AnyconsoleError("the console needs a terminal; without one, use `show` (see anyconsole show --help)")
        from anyconsole.tui.app import run  # noqa: PLC0415

        return run(inventory, theme=args.theme, glyphs=args.glyphs, mouse=not args.no_mouse)

    if args.command in ("drain", "undrain"):
        from anyconsole import drain_command  # noqa: PLC0415

        return drain_command.run(inventory, args)

    if args.command in ("setup", "teardown"):
        from anyconsole import setup_command  # noqa: PLC0415

        return setup_command.run(inventory, args)

    if args.command == "bootstrap":
        from anyconsole import bootstrap_command  # noqa: PLC0415

        return bootstrap_command.run(inventory, args)

    if args.command == "drift":
        from anyconsole import drift_command  # noqa: PLC0415

        return drift_command.run(inventory, args)

    if args.command == "journal":
        from anyconsole import journal_command  # noqa: PLC0415

        return journal_command.run(inventory, args)

    if args.command == "loadtest":
        from anyconsole import loadtest_command  # noqa: PLC0415

        return loadtest_command.run(inventory, args)

    if args.command == "render":
        from anyconsole import render_command  # noqa: PLC0415

        return render_command.run(inventory, args)

    from anyconsole import headless  # noqa: PLC0415

    if args.command == "check":
        return headless.check(inventory, args.wait)
    return headless.show(inventory, args.view, args.output, watch=args.watch, wait=args.wait)


if __name__ == "__main__":
    sys.exit(main())
