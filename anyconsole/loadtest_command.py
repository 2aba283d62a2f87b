"""`anyconsole loadtest run | pair | list | show | compare | export`: measuring, and what was measured.

How a run is carried out is `change_command`'s; the others touch no node.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from anyconsole.actions.journal import journal_of
from anyconsole.actions.load.capabilities import Capability, capabilities
from anyconsole.actions.load.compare import Comparison, Side, compare
from anyconsole.actions.load.files import read_run, runs_folder
from anyconsole.actions.load.index import LoadIndex, RunFilter, RunLine
from anyconsole.actions.load.record import RunRecord
from anyconsole.actions.load.report import (
    RUN_COLUMNS,
    comparison_csv,
    comparison_document,
    comparison_sheet,
    run_csv,
    run_document,
    run_row,
    run_sheet,
)
from anyconsole.actions.load.request import LoadRequest, Purpose
from anyconsole.actions.load.sheet import Sheet, markdown, text
from anyconsole.errors import AnyconsoleError, JournalError, LoadError
from anyconsole.model.inventory import Family, Inventory, LoadEngine
from anyconsole.model.load import Transport
from anyconsole.model.report import render

__all__ = ["request_of", "run"]


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Print what is asked for; returns 0, or 1 where two sets can't be compared.

    Raises:
        AnyconsoleError: There is no such run, it can't be read, or the output can't be made.
    """
    if args.verb == "run":
        from anyconsole.change_command import run_plan  # noqa: PLC0415 - the engine, which what only reads does without

        return run_plan(inventory, args, "loadtest", request_of(args, time.time()))
    if args.verb == "pair":
        return _run_pair(inventory, args)
    index = LoadIndex(runs_folder(inventory))
    if args.verb == "list":
        return _list(inventory, index, args)
    if args.verb == "compare":
        return _compared(inventory, compare(*_sides(index, args)), args)
    if args.verb == "export" and args.against:
        a, b = _several(index, args.run), _several(index, args.against)
        return _compared(inventory, compare(a, b), args)
    path = _path(index, args.run) if args.run else _last(index)
    _put(_of_run(path, args.output), args.file)
    return 0


def _run_pair(inventory: Inventory, args: argparse.Namespace) -> int:
    """Test two targets in turns, and print their comparison once all of it was carried out."""
    from anyconsole.change_command import run_plan  # noqa: PLC0415

    if args.output == "json" and not args.plan:
        raise AnyconsoleError(
            "pair prints two reports, which are no one document: say loadtest compare --pair ID --output json later"
        )
    args.target = [args.a, args.b]
    args.pair = args.pair or secrets.token_hex(3)
    if status := run_plan(inventory, args, "loadtest", request_of(args, time.time())):
        if not args.plan:
            print(f"anyconsole: pair {args.pair} is not whole, there is nothing to compare", file=sys.stderr)
        return status
    if args.plan:
        return 0
    print()
    index = LoadIndex(runs_folder(inventory))
    return _compared(inventory, compare(*_pair(index, args.pair)), args)


def request_of(args: argparse.Namespace, now: float) -> LoadRequest:
    """What the command line asks for."""
    return LoadRequest(
        purpose=Purpose(args.purpose),
        targets=tuple(args.target),
        nodes=tuple(args.node),
        tenants=tuple(args.tenant),
        generators=tuple(args.generator),
        family=Family(f"ipv{args.family}") if args.family else None,
        rate=args.rate,
        seconds=args.seconds,
        cap=args.cap,
        loss=args.loss,
        width=args.width,
        confirm=args.confirm,
        flows=args.flows,
        queries=args.queries,
        protocol=Transport(args.protocol),
        engine=LoadEngine(args.engine) if args.engine else None,
        pair=args.pair,
        rounds=args.rounds,
        reason=args.reason,
        ticket=args.ticket,
        force=args.force_prod,
        window_until=now + args.window if args.window else 0.0,
        second=args.second,
    )


def _compared(inventory: Inventory, comparison: Comparison, args: argparse.Namespace) -> int:
    _put(_of_comparison(inventory, comparison, args.output), args.file)
    return 1 if comparison.refused else 0


def _list(inventory: Inventory, index: LoadIndex, args: argparse.Namespace) -> int:
    chosen = RunFilter(
        target=args.target,
        node=args.node,
        tenant=args.tenant,
        kind=args.kind,
        purpose=args.purpose,
        verdict=args.verdict,
        operator=args.operator,
        pair_id=args.pair,
        since=args.since,
    )
    runs = index.runs(chosen, args.limit)
    if not runs and args.output == "table":
        what = "no such load test" if chosen != RunFilter() else "no load test"
        print(f"{what} of {inventory.name} in {index.folder}", file=sys.stderr)
        return 0
    rows = [run_row(line, place) for place, line in enumerate(runs)]
    _put(render(RUN_COLUMNS, rows, args.output, inventory.name, "loadtests", time.time()), None)
    return 0


# --- which runs are meant


def _last(index: LoadIndex) -> Path:
    last = index.runs(limit=1)
    if not last:
        raise LoadError(f"there is no load test in {index.folder}")
    return Path(last[0].path)


def _several(index: LoadIndex, said: str | None) -> list[RunRecord]:
    names = [name for name in (said or "").split(",") if name]
    if not names:
        raise LoadError("which runs? Name them, joined by commas")
    return [read_run(path) for path in dict.fromkeys(_path(index, name) for name in names)]


def _path(index: LoadIndex, said: str) -> Path:
    """The file of a run: by its id, the last part of it, or the file itself, which may be another tool's."""
    if "/" in said or said.endswith((".json", ".jsonl")):
        return Path(said)
    found = index.find(said)
    if len(found) == 1:
        return Path(found[0].path)
    if found:
        raise LoadError(f"{said!r} may be any of {', '.join(r.id for r in found[:5])}: say the whole")
    known = ", ".join(r.id for r in index.runs(limit=3))
    raise LoadError(
        f"there is no load test {said!r} in {index.folder}; {f'the last ones are {known}' if known else 'there is none'}"
    )


def _sides(index: LoadIndex, args: argparse.Namespace) -> tuple[list[RunRecord], list[RunRecord]]:
    if args.pair and not args.a:
        return _pair(index, args.pair)
    if args.pair or not args.b:
        raise LoadError("compare what? Say A and B, each one or more runs joined by commas, or --pair ID")
    a, b = _several(index, args.a), _several(index, args.b)
    if both := {run.id for run in a} & {run.id for run in b}:
        raise LoadError(f"{', '.join(sorted(both))}: on both sides")
    return a, b


def _pair(index: LoadIndex, pair_id: str) -> tuple[list[RunRecord], list[RunRecord]]:
    """Both sides of the runs that were made to be compared: virtual against bare, else the one that began against the other."""
    lines = [line for line in reversed(index.runs(RunFilter(pair_id=pair_id))) if line.state == "done"]
    lines = [line for line in lines if line.purpose == "search"] or lines
    sides: dict[str, list[RunLine]] = {}
    for line in lines:
        sides.setdefault(line.target, []).append(line)
    if len(sides) != 2:
        said = f"of {', '.join(sides)}" if sides else "by that name"
        raise LoadError(f"pair {pair_id!r}: two targets are needed, but there are {len(lines)} finished runs {said}")
    ordered = sorted(sides.values(), key=lambda side: side[0].kind != "virtual")
    a, b = ([read_run(Path(line.path)) for line in side] for side in ordered)
    return a, b


# --- what is told of them


def _of_run(path: Path, output: str) -> str | bytes:
    run = read_run(path)
    for remark in run.remarks:
        print(f"anyconsole: {remark}", file=sys.stderr)
    match output:
        case "json":
            return _as_json(run_document(run))
        case "csv":
            return run_csv(run)
        case "jsonl":
            return path.read_bytes()
        case "svg" | "png":
            from anyconsole.actions.load.plot import run_figure  # noqa: PLC0415 - only these two need it

            return _drawn(run_figure(run), output)
        case _:
            return _as_text(run_sheet(run), output)


def _of_comparison(inventory: Inventory, comparison: Comparison, output: str) -> str | bytes:
    match output:
        case "json":
            return _as_json(comparison_document(comparison, _capabilities(inventory, comparison)))
        case "csv":
            return comparison_csv(comparison)
        case "jsonl":
            raise LoadError("a comparison has no rows of its own; --output json, or export its runs")
        case "svg" | "png":
            from anyconsole.actions.load.plot import comparison_figure  # noqa: PLC0415

            return _drawn(comparison_figure(comparison), output)
        case _:
            return _as_text(comparison_sheet(comparison, _capabilities(inventory, comparison)), output)


def _drawn(figure: Any, output: str) -> str | bytes:  # noqa: ANN401 - charts are loaded when one is wanted
    if output == "png":
        from anyconsole.actions.load.chart_png import png  # noqa: PLC0415

        return png(figure)
    from anyconsole.actions.load.chart_svg import svg  # noqa: PLC0415

    return svg(figure)


def _capabilities(inventory: Inventory, comparison: Comparison) -> tuple[Capability, ...]:
    a, b = comparison.a, comparison.b
    return capabilities(
        comparison,
        tenants=(_tenants(inventory, a), _tenants(inventory, b)),
        setup_seconds=(_setup_seconds(inventory, a), _setup_seconds(inventory, b)),
    )


def _nodes(side: Side) -> set[str]:
    return {run.conditions.target.node for run in side.runs}


def _tenants(inventory: Inventory, side: Side) -> int | None:
    """How many tenants the node of a side has, as the profile says."""
    nodes = [node for node in inventory.nodes if node.name in _nodes(side)]
    return len({instance.tenant for instance in nodes[0].instances}) if len(nodes) == 1 else None


def _setup_seconds(inventory: Inventory, side: Side) -> float | None:
    """How long the last set-up on a side's node took, as the journal says."""
    try:
        changes = journal_of(inventory).changes()
    except JournalError:
        return None
    for change in changes:
        hosts = {step.host for step in change.plan.steps}
        if (
            change.plan.action == "setup"
            and change.outcome == "done"
            and hosts & _nodes(side)
            and change.closed_at is not None
        ):
            return change.closed_at - change.opened_at
    return None


# --- output


def _as_text(sheet: Sheet, output: str) -> str:
    return markdown(sheet) if output == "markdown" else text(sheet)


def _as_json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=not _can_print_all(), indent=2) + "\n"


def _can_print_all() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _put(content: str | bytes, file: str | None) -> None:
    """To a file, or to standard output, which takes no picture if it is a terminal."""
    if file is not None:
        try:
            Path(file).write_bytes(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise AnyconsoleError(f"{file}: can't be written: {error.strerror}") from error
    elif isinstance(content, bytes):
        if sys.stdout.isatty() and content.startswith(b"\x89PNG"):
            raise AnyconsoleError("a PNG is nothing for a terminal: say --file FILE, or send it into one")
        sys.stdout.buffer.write(content)
    else:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(content.encode(encoding, "replace").decode(encoding))
