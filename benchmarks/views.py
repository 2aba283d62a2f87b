"""What the model costs on paper fleets of any size: verdicts and views per row, and the store per update. No I/O, one core.

.venv/bin/python -m benchmarks.views [--nodes 300 1000] [--markdown]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from anyconsole.model import verdicts
from anyconsole.model.facts import Beat, QueryRates
from anyconsole.model.store import FleetStore, Update
from anyconsole.model.table import UNICODE, View
from anyconsole.model.views import views
from tests.fleet import NOW, healthy_store, inventory

__all__ = ["main"]

_SPEND = 0.5
"""Seconds spent on each figure; the best round counts."""

_NODES_AT_ONCE = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[300, 1000], help="sizes (default: 300 1000)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args(argv)
    columns = [measure(count) for count in args.nodes]
    heads = ["µs per", *(f"{count} nodes" for count in args.nodes)]
    rows = [[name, *(f"{column[name]:.1f}" for column in columns)] for name in columns[0]]
    if args.markdown:
        rows = [["---", *("---:" for _ in args.nodes)], *rows]
    for row in (heads, *rows):
        print(f"| {' | '.join(row)} |" if args.markdown else f"{row[0]:34}" + "".join(f"{v:>12}" for v in row[1:]))
    return 0


def measure(count: int) -> dict[str, float]:
    """Microseconds by what they are spent on, for a fleet of this many nodes."""
    store = healthy_store(inventory(f"s{number % 50:02}n{number:04}" for number in range(count)))
    found = {
        "verdict of a node": _best(lambda: _node_verdicts(store), _NODES_AT_ONCE),
        "update of another value": _best(_Updates(store).changed, _NODES_AT_ONCE),
        "update of the same value": _best(_Updates(store).same, _NODES_AT_ONCE),
        "beat of a node": _best(_Updates(store).beats, _NODES_AT_ONCE),
    }
    for name, view in views(store).items():
        keys = view.keys(store)[:_NODES_AT_ONCE]
        found[f"row of {name}"] = _best(lambda view=view, keys=keys: _rows(store, view, keys), len(keys))  # type: ignore[misc]
    return found


def _best(work: Callable[[], None], units: int) -> float:
    best, until = float("inf"), time.perf_counter() + _SPEND
    while time.perf_counter() < until:
        begun = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begun)
    return best / units * 1e6


_ticks = iter(range(1 << 60))


def _now() -> float:
    """Another moment each time, so that nothing is remembered from the round before; all evidence stays fresh."""
    return NOW + next(_ticks) * 1e-6


def _node_verdicts(store: FleetStore) -> None:
    now = _now()
    for spec in store.inventory.nodes[:_NODES_AT_ONCE]:
        verdicts.node(store, spec, now)


def _rows(store: FleetStore, view: View, keys: list[tuple[str, ...]]) -> None:
    now = _now()
    for key in keys:
        view.row(store, key, now, UNICODE)


class _Updates:
    """What drivers emit, a fact of each of some nodes at a time."""

    def __init__(self, store: FleetStore) -> None:
        self._store = store
        rates = (fact for fact in store if isinstance(fact, QueryRates))
        self._rates = [fact for fact, _ in zip(rates, range(_NODES_AT_ONCE), strict=False)]
        self._turn = 0

    def changed(self) -> None:
        self._turn += 1
        updates: list[Update] = [
            msgspec.structs.replace(fact, qps=fact.qps + self._turn % 7 + 1) for fact in self._rates
        ]
        self._rates = [update for update in updates if isinstance(update, QueryRates)]
        self._store.apply(updates)

    def same(self) -> None:
        self._store.apply(self._rates)

    def beats(self) -> None:
        at = _now()
        self._store.apply(
            Beat(node=fact.node, at=at, sections=("host", "bird", "nsd:de", "nsd:nic", "nsd:enum", "dns"))
            for fact in self._rates
        )


if __name__ == "__main__":
    sys.exit(main())
