"""Views as text: table, JSON, CSV and Markdown, and the one line for a monitoring system. Pure; the command line prints it.

The JSON shape is documented in docs/json.md; `JSON_VERSION` is raised when a field changes its meaning or goes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from anyconsole.model import verdicts
from anyconsole.model.store import FleetStore
from anyconsole.model.table import Column, Level, Row, level_of

__all__ = ["JSON_VERSION", "document", "render", "row_value", "summary"]

JSON_VERSION = 1


def row_value(columns: tuple[Column, ...], row: Row) -> dict[str, Any]:
    """A row as JSON: each column's value by its id."""
    return {column.id: cell.value for column, cell in zip(columns, row.cells, strict=True)}


def document(profile: str, view: str, now: float, **rest: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The envelope of everything printed as JSON."""
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"version": JSON_VERSION, "profile": profile, "view": view, "at": at, **rest}


def render(columns: tuple[Column, ...], rows: list[Row], output: str, profile: str, view: str, now: float) -> str:
    """The whole view as text in one of the output formats, with a newline at the end."""
    match output:
        case "json":
            body = [row_value(columns, row) for row in rows]
            return json.dumps(document(profile, view, now, rows=body), ensure_ascii=False, indent=2) + "\n"
        case "csv":
            buffer = io.StringIO()
            writer = csv.writer(buffer, lineterminator="\n")
            writer.writerow([c.id for c in columns])
            writer.writerows([_csv_value(cell.value) for cell in row.cells] for row in rows)
            return buffer.getvalue()
        case "markdown":
            return "".join(_markdown(columns, rows))
        case _:
            return "".join(_plain(columns, rows))


def _csv_value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    text = str(value)
    return f"'{text}" if text[:1] in {"=", "+", "@"} else text  # a spreadsheet must not run what a node said


def _markdown(columns: tuple[Column, ...], rows: list[Row]) -> Iterator[str]:
    yield "| " + " | ".join(c.title for c in columns) + " |\n"
    yield "|" + "|".join(" ---: " if c.right else " --- " for c in columns) + "|\n"
    for row in rows:
        yield "| " + " | ".join(cell.text.replace("\\", "\\\\").replace("|", "\\|") for cell in row.cells) + " |\n"


def _plain(columns: tuple[Column, ...], rows: list[Row]) -> Iterator[str]:
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - only this format needs it

    widths = [max([cell_len(c.title), *(cell_len(row.cells[i].text) for row in rows)]) for i, c in enumerate(columns)]

    def line(texts: Iterable[str]) -> str:
        parts = []
        for column, width, text in zip(columns, widths, texts, strict=True):
            parts.append(" " * (width - cell_len(text)) + text if column.right else set_cell_size(text, width))
        return "  ".join(parts).rstrip() + "\n"

    yield line(c.title for c in columns)
    for row in rows:
        yield line(cell.text for cell in row.cells)


# --- monitoring

_STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def summary(store: FleetStore, now: float) -> tuple[int, str]:
    """Exit code and one line with performance data (Monitoring Plugins guidelines) for the state of the fleet."""
    nodes = [verdicts.node(store, spec, now) for spec in store.inventory.nodes]
    tenants = [verdicts.tenant(store, spec, now) for spec in store.inventory.tenants]
    troubles = [(v.verdict, v.node, v.reason) for v in nodes] + [(v.verdict, v.tenant, v.reason) for v in tenants]
    levels = {Level.OK: 0, Level.DRAINED: 0, Level.WARN: 1, Level.CRIT: 2, Level.STALE: 1}
    code = max((levels[level_of(verdict)] for verdict, _, _ in troubles), default=0)
    if nodes and all(level_of(v.verdict) is Level.STALE for v in nodes):
        code = 3
    shown = sorted((t for t in troubles if levels[level_of(t[0])]), key=lambda t: t[0].rank)[:5]
    words = "; ".join(f"{name} {verdict}{': ' + reason if reason else ''}" for verdict, name, reason in shown)
    serving = sum(level_of(v.verdict) in (Level.OK, Level.DRAINED) for v in nodes)
    rates = [
        r.qps for n in store.inventory.nodes for i in n.instances if (r := store.qps(n.name, i.tenant, now)) is not None
    ]
    perf = [f"nodes_ok={serving};;;0;{len(nodes)}", f"qps={sum(rates):.1f};;;0"]
    perf += [f"'{v.tenant}_nodes'={min(v.healthy.values(), default=0)};;;0;{v.nodes}" for v in tenants]
    text = words or f"{serving} of {len(nodes)} nodes serve {len(tenants)} tenants"
    return code, f"ANYCAST {_STATES[code]} - {text.replace('|', '/')} | {' '.join(perf)}"
