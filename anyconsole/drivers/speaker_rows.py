"""Rows that all speakers' collectors share: the daemon, its sessions, and what is left to say when the daemon isn't there.

Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyconsole.drivers.ask import CollectError
from anyconsole.drivers.export_verdict import ABSENT, export_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyconsole.drivers.ask import Reply, Row, Spec

__all__ = ["announcements_of", "down_rows", "not_running", "session_row", "speaker_row"]


def speaker_row(spec: Spec, daemon: str, *, running: bool, **fields: object) -> Row:
    """A row for the fact `SpeakerStatus`."""
    row: Row = {
        "kind": "speaker",
        "section": spec["section"],
        "speaker": spec["speaker"],
        "daemon": daemon,
        "running": running,
    }
    row.update(fields)
    return row


def session_row(spec: Spec, name: str, state: str, *, local: str = "", **fields: object) -> Row:
    """A row for the fact `SessionStatus`. `local` is our own address on the session."""
    row: Row = {
        "kind": "session",
        "section": spec["section"],
        "speaker": spec["speaker"],
        "session": name,
        "state": state,
        "local": local,
    }
    row.update(fields)
    return row


def announcements_of(spec: Spec) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """Every (session, tenant, prefix) of a speaker whose families match."""
    for session in spec["sessions"]:
        for tenant in spec["tenants"]:
            for prefix in tenant["prefixes"]:
                if (":" in prefix) == (session["family"] == "ipv6"):
                    yield session, tenant, prefix


def not_running(reply: Reply) -> bool:
    """True if the reply proves that nobody serves the control socket. Raises CollectError for any other fault."""
    if reply.fault == "absent":
        return True
    if reply.fault:
        raise CollectError(reply.text or reply.fault)
    return False


def down_rows(spec: Spec, daemon: str, why: str) -> list[Row]:
    """All that is true of a speaker whose daemon isn't running: no session, no announcement of its own making."""
    rows = [speaker_row(spec, daemon, running=False, detail=why)]
    rows.extend(session_row(spec, s["name"], "Absent", info=daemon + " is not running") for s in spec["sessions"])
    for session, _tenant, prefix in announcements_of(spec):
        rows.append(
            export_row(
                spec["section"], spec["speaker"], session["name"], prefix, ABSENT, detail=daemon + " is not running"
            )
        )
    return rows
