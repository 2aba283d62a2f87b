"""The identity of a row, as `anyconsole.model.facts` defines it for facts, without the node. It travels to the nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Row

__all__ = ["KEY_FIELDS", "row_key"]

KEY_FIELDS = {
    "host": (),
    "speaker": ("speaker",),
    "session": ("speaker", "session"),
    "export": ("speaker", "session", "prefix"),
    "instance": ("tenant",),
    "rates": ("tenant", "source"),
    "covering": ("speaker", "address"),
    "answer": ("address", "zone"),
    "peer_route": ("prefix",),
}


def row_key(row: Row) -> tuple[str, ...]:
    """("session", "bird", "ix1_v4"). Raises KeyError for a kind a node can't report."""
    return (row["kind"], *tuple(row[field] for field in KEY_FIELDS[row["kind"]]))
