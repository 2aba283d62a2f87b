"""Whether an exported route is announced at full preference or depreferred, and why. One rule for all speakers.

Standard library only: this module travels to the nodes.
"""

from __future__ import annotations

__all__ = ["ABSENT", "ANNOUNCED", "DEPREFERRED", "GRACEFUL_SHUTDOWN", "UNKNOWN", "export_row", "judge"]

ANNOUNCED, DEPREFERRED, ABSENT, UNKNOWN = "announced", "depreferred", "absent", "unknown"

GRACEFUL_SHUTDOWN = "65535:0"
"""RFC 8326."""

_MED_MAX = 4294967294


def judge(
    communities: list[str],
    as_path: list[int],
    med: int | None,
    *,
    own_as: int | None,
    base: int,
    soft_community: str = "",
) -> tuple[str, str]:
    """Returns (announced or depreferred, what makes it so).

    Args:
        communities: as "65535:0" or "64500:1:2".
        as_path: the path as this speaker shows it for its export.
        med: its MED, None if it has none.
        own_as: the speaker's AS; None takes the path's first.
        base: how many own ASNs a route without prepends has in this speaker's view (0 if it shows the path before its own AS is added).
        soft_community: the peer's own "lower the preference" community.
    """
    why = []
    if GRACEFUL_SHUTDOWN in communities:
        why.append("graceful shutdown community")
    if soft_community and soft_community in communities:
        why.append("community " + soft_community)
    own = own_as if own_as is not None else (as_path[0] if as_path else None)
    prepends = sum(1 for asn in as_path if asn == own) - base
    if prepends > 0:
        why.append(f"prepended x{prepends}")
    if med is not None and med >= _MED_MAX:
        why.append(f"MED {med}")
    return (DEPREFERRED, ", ".join(why)) if why else (ANNOUNCED, "")


def export_row(
    section: str,
    speaker: str,
    session: str,
    prefix: str,
    exported: str,
    *,
    communities: list[str] | None = None,
    as_path: list[int] | None = None,
    med: int | None = None,
    detail: str = "",
) -> dict[str, object]:
    """A row for the fact `Export`."""
    return {
        "kind": "export",
        "section": section,
        "speaker": speaker,
        "session": session,
        "prefix": prefix,
        "exported": exported,
        "communities": communities or [],
        "as_path": as_path or [],
        "med": med,
        "detail": detail,
    }
