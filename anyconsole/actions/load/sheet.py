"""Reports of tables and words, as plain text or Markdown. Pure.

What is in them is data, whoever said it: it is cleaned, and escaped where it stands in Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from anyconsole.actions.markdown import inline, table
from anyconsole.model.table import clean

__all__ = ["Sheet", "Table", "markdown", "text"]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a sheet. `right` are the columns that hold figures; without titles it is a list of names and values."""

    title: str = ""
    titles: tuple[str, ...] = ("", "")
    rows: tuple[tuple[str, ...], ...] = ()
    right: tuple[int, ...] = ()


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A report, before it is text: its title, words of its own, tables, and remarks at the end."""

    title: str
    words: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    remarks: tuple[str, ...] = ()


def text(sheet: Sheet) -> str:
    """The sheet as plain text, with a newline at the end."""
    lines = [clean(sheet.title, 500), *(clean(words, 1000) for words in sheet.words)]
    for part in sheet.tables:
        if part.rows:
            lines += ["", *([clean(part.title)] if part.title else []), *_plain(part)]
    if sheet.remarks:
        lines += ["", *(f"- {clean(remark, 1000)}" for remark in sheet.remarks)]
    return "\n".join(lines) + "\n"


def _plain(part: Table) -> Iterator[str]:
    rows = [tuple(clean(cell) for cell in row) for row in part.rows]
    if any(part.titles):
        rows.insert(0, part.titles)
    widths = [max(len(row[i]) for row in rows) for i in range(len(part.titles))]
    for row in rows:
        cells = (
            c.rjust(w) if i in part.right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        yield f"  {'  '.join(cells)}".rstrip()


def markdown(sheet: Sheet) -> str:
    """The sheet as Markdown, with a newline at the end."""
    lines = [f"# {inline(sheet.title)}"]
    for words in sheet.words:
        lines += ["", inline(words)]
    for part in sheet.tables:
        if part.rows:
            lines += ["", *([f"## {inline(part.title)}", ""] if part.title else [])]
            lines += table(part.titles, part.rows, escaped=False, right=part.right)
    if sheet.remarks:
        lines += ["", *(f"- {inline(remark)}" for remark in sheet.remarks)]
    return "\n".join(lines) + "\n"
