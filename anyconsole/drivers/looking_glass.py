"""A peer's table, read from a BIRD of that peer's network: which paths to the service prefixes have arrived there, and how preferred.

Reads only, as `bird` does: one exact-prefix lookup per service prefix. Standard library only: this module travels to the hosts.
"""

# ruff: noqa: B905  -- travels to hosts with Python 3.7
from __future__ import annotations

from typing import TYPE_CHECKING

from anyconsole.drivers.ask import CollectError, Talk
from anyconsole.drivers.bird_reply import BirdRefusedError, parse_routes
from anyconsole.drivers.export_verdict import judge

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Collector, Row, Spec, State
    from anyconsole.drivers.bird_reply import TableRoute

__all__ = ["MAX_PATHS", "collect"]

MAX_PATHS = 64
"""Paths that are told of one prefix; more are counted."""

_NOT_UNDERSTOOD = 9001


def collect(spec: Spec, _state: State, _now: float) -> Collector:
    """One round: a row for each service prefix, also for those that aren't in the table. See `anyconsole.drivers.ask`."""
    prefixes = spec["prefixes"]
    replies = yield [Talk(spec["socket"], "bird", f"show route {prefix} all\n".encode()) for prefix in prefixes]
    rows: list[Row] = []
    refused: BirdRefusedError | None = None
    for prefix, reply in zip(prefixes, replies):
        if reply.fault:
            raise CollectError(reply.text or reply.fault)
        try:
            paths = parse_routes(reply.data, prefix)
        except BirdRefusedError as refusal:
            if refusal.code != _NOT_UNDERSTOOD:
                raise
            refused = refusal  # BIRD 1.6 knows one family only; of the other it can't say anything
            continue
        rows.append(
            {
                "kind": "peer_route",
                "section": spec["section"],
                "prefix": prefix,
                "paths": [_path(path, spec["community"]) for path in paths[:MAX_PATHS]],
                "more": max(0, len(paths) - MAX_PATHS),
            }
        )
    if refused is not None and not rows:
        raise refused
    return rows


def _path(path: TableRoute, soft_community: str) -> Row:
    route = path.route
    # An anycast prefix is originated by its own network: the last AS of the path is ours, wherever the path is looked at.
    own_as = route.as_path[-1] if route.as_path else None
    _, why = judge(route.communities, route.as_path, route.med, own_as=own_as, base=1, soft_community=soft_community)
    if path.local_pref == 0:
        why = ", ".join(filter(None, (why, "local preference 0")))
    return {
        "protocol": path.protocol,
        "source": path.source,
        "next_hop": path.next_hop,
        "local_pref": path.local_pref,
        "as_path": route.as_path,
        "communities": route.communities,
        "best": path.best,
        "depreferred": why,
    }
