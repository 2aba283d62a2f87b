"""`anyconsole journal show | export`: what was changed, by whom and why, without a screen and without touching any node."""

from __future__ import annotations

import argparse
import json
import sys
import time

from anyconsole.actions.journal import Contents, Journal, journal_of
from anyconsole.actions.journal_record import OPEN, JournalledChange, summary
from anyconsole.actions.journal_report import CHANGE_COLUMNS, change_row, document, markdown
from anyconsole.errors import JournalError
from anyconsole.model.inventory import Inventory
from anyconsole.model.report import render

__all__ = ["run"]


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Print what is asked for; returns 0.

    Raises:
        JournalError: There is no such change, or the journal can't be read.
    """
    journal = journal_of(inventory)
    whole = args.verb == "export" or args.id or args.open  # an old change may be meant
    contents = journal.read(None if whole else args.limit)
    for remark in contents.remarks:
        print(f"anyconsole: {remark}", file=sys.stderr)
    if args.verb == "show" and not args.id:
        _print_list(inventory, contents.changes, args)
        return 0
    change = _chosen(journal, contents, args.id)
    if args.verb == "export" and args.output == "json":
        print(_as_json(change))
    else:
        sys.stdout.write(_printable(markdown(change)))
    return 0


def _print_list(inventory: Inventory, changes: list[JournalledChange], args: argparse.Namespace) -> None:
    chosen = [c for c in changes if c.outcome == OPEN] if args.open else changes
    if not chosen:
        print(f"the journal of {inventory.name} has no {'open ' if args.open else ''}change", file=sys.stderr)
        return
    rows = [change_row(summary(change), index) for index, change in enumerate(chosen[: args.limit])]
    sys.stdout.write(_printable(render(CHANGE_COLUMNS, rows, "table", inventory.name, "journal", time.time())))


def _chosen(journal: Journal, contents: Contents, id_: str | None) -> JournalledChange:
    changes = contents.changes
    if not changes:
        raise JournalError(f"the journal in {journal.folder} has no change")
    if id_ is None:
        return changes[0]
    # The end of an id is enough where it means one change: people read it to each other.
    meant = [c for c in changes if c.id == id_] or [c for c in changes if id_ and c.id.endswith(f"-{id_}")]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise JournalError(f"{id_!r} may be any of {', '.join(c.id for c in meant[:5])}: say the whole")
    raise JournalError(
        f"there is no change {id_!r} in {journal.folder}; the last ones are {', '.join(c.id for c in changes[:3])}"
    )


def _as_json(change: JournalledChange) -> str:
    text = json.dumps(document(change), ensure_ascii=False, indent=2)
    return text if _printable(text) == text else json.dumps(document(change), indent=2)


def _printable(text: str) -> str:
    """`text` as far as the terminal has its characters."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
