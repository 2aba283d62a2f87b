"""The fake cluster as a process of its own, for benchmarks and for a look around: prints its kubeconfig, then obeys its standard input.

Commands, one a line: `pods COUNT`, `events COUNT [RATE]`; each is answered by a line. The end of the input ends it.
"""

from __future__ import annotations

import argparse
import sys

from tests.kube.apiserver import FakeCluster


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.kube.apiserver", description=__doc__)
    parser.add_argument("--nodes", type=int, default=0, help="nodes, with a kubelet and controllers (default: none)")
    parser.add_argument("--pods", type=int, default=0, help="running pods of real size to begin with")
    parser.add_argument(
        "--keep-events", type=int, default=10_000, help="how many events a watcher may lag behind (default: 10000)"
    )
    options = parser.parse_args()
    with FakeCluster(nodes=options.nodes, keep_events=options.keep_events) as cluster:
        cluster.make_pods(options.pods)
        print(cluster.kubeconfig, flush=True)
        for line in sys.stdin:
            match line.split():
                case ["pods", count]:
                    cluster.make_pods(int(count))
                    print("made", flush=True)
                case ["events", count, *rate]:
                    print(f"{cluster.change_pods(int(count), float(rate[0]) if rate else None):.3f}", flush=True)
                case _:
                    print("not understood", flush=True)


if __name__ == "__main__":
    main()
