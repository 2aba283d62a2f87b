"""What watching thousands of pods costs: our engine beside `kubectl get pods -A -w` and the official client's typed models.

    .venv/bin/python -m benchmarks.kube [--pods 5000] [--events 50000] [--rate 2500] [--clients engine kubectl typed] [--markdown]

Each watches the same API server (that of the tests, in a process of its own) in turn: first all pods, then events at a rate, each a changed
pod. CPU seconds are the client's alone, as the kernel counts them, without what it takes to start it; memory is its resident set, once
started, after the list and at the most. A pause is the longest that its event loop was away (the engine's and the typed client's only).
The engine does all that it does for a screen: verdicts' store, events, and four frames a second are made of what changed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

__all__ = ["main"]

NAMESPACES = [f"load-{number:02}" for number in range(10)]
_PATIENCE = 300.0


class Cost(NamedTuple):
    """What one client took: CPU seconds of list and events, MiB at three moments, milliseconds of the longest pause (None: not known)."""

    list_cpu: float
    events_cpu: float
    started: float
    listed: float
    most: float
    list_pause: float | None
    events_pause: float | None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=5000, help="default: 5000")
    parser.add_argument("--events", type=int, default=50_000, help="default: 50000")
    parser.add_argument("--rate", type=float, default=2500, help="events a second (default: 2500)")
    parser.add_argument("--clients", nargs="+", choices=sorted(_CLIENTS), default=["engine", "kubectl", "typed"])
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--child", choices=("engine", "typed"), help=argparse.SUPPRESS)
    parser.add_argument("--kubeconfig", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        asyncio.run(_CHILDREN[options.child](options.kubeconfig, options.pods))
        return 0
    rows = []
    with _server(options.pods) as server:
        for client in options.clients:
            cost = _CLIENTS[client](server, options.pods, options.events, options.rate)
            rows.append(_row(client, cost, options.events))
    heads = [
        "client",
        "list, CPU s",
        "event, CPU ms",
        "MiB started",
        "listed",
        "at most",
        "pause in list, ms",
        "in events",
    ]
    for row in (heads, *([["---"] + ["---:"] * 7] if options.markdown else []), *rows):
        print(f"| {' | '.join(row)} |" if options.markdown else "".join(f"{word:>18}" for word in row))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


def _row(client: str, cost: Cost, events: int) -> list[str]:
    pauses = ["-" if pause is None else f"{pause:.0f}" for pause in (cost.list_pause, cost.events_pause)]
    memory = [f"{size:.0f}" for size in (cost.started, cost.listed, cost.most)]
    return [client, f"{cost.list_cpu:.2f}", f"{cost.events_cpu / events * 1000:.3f}", *memory, *pauses]


# --- the server


class _Server(Protocol):
    kubeconfig: str

    def change(self, events: int, rate: float) -> None:
        """That many watch events."""


class _Process:
    """The API server of the tests as a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.kubeconfig = self._line()

    def change(self, events: int, rate: float) -> None:
        """That many watch events; returns when all were sent."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"events {events} {rate}\n")
        self._process.stdin.flush()
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def _server(pods: int) -> Iterator[_Process]:
    argv = [sys.executable, "-m", "tests.kube.apiserver", "--pods", str(pods), "--keep-events", "200000"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield _Process(process)
        assert process.stdin is not None
        process.stdin.close()


# --- clients in a process of their own


def _measured(child: str) -> Callable[[_Server, int, int, float], Cost]:
    """Runs `--child`, which says a JSON line when it has started, listed, and whenever it is asked."""

    def measure(server: _Server, pods: int, events: int, rate: float) -> Cost:
        argv = [sys.executable, "-m", "benchmarks.kube", "--child", child, "--kubeconfig", server.kubeconfig]
        with subprocess.Popen(
            [*argv, "--pods", str(pods)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            started, listed = (json.loads(process.stdout.readline()) for _ in range(2))
            server.change(events, rate)
            process.stdin.write("settle\n")
            process.stdin.flush()
            done = json.loads(process.stdout.readline())
            process.stdin.close()
        return Cost(
            listed["cpu"] - started["cpu"], done["cpu"] - listed["cpu"], started["rss"], listed["rss"], done["peak"],
            listed["pause"], done["pause"],
        )  # fmt: skip

    return measure


class _Lag:
    """How long the event loop was away at the most, in milliseconds, since it was asked last."""

    def __init__(self) -> None:
        self._worst = 0.0

    async def run(self) -> None:
        while True:
            due = time.perf_counter() + 0.002
            await asyncio.sleep(0.002)
            self._worst = max(self._worst, time.perf_counter() - due)

    def take(self) -> float:
        worst, self._worst = self._worst, 0.0
        return worst * 1000


def _say(lag: _Lag) -> None:
    page, status = os.sysconf("SC_PAGE_SIZE"), Path("/proc/self/status").read_text()
    rss = int(Path("/proc/self/statm").read_text().split()[1]) * page / (1 << 20)
    peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"cpu": time.process_time(), "rss": rss, "peak": peak, "pause": lag.take()}), flush=True)


async def _quiet(count: Callable[[], int]) -> None:
    """Wait until nothing more arrives."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 1.0:
        if count() != before:
            before, since = count(), time.monotonic()
        await asyncio.sleep(0.1)


async def _serve(lag: _Lag, count: Callable[[], int]) -> None:
    """Say how it is whenever it has settled after a line on standard input, until that ends."""
    while await asyncio.to_thread(sys.stdin.readline):
        await _quiet(count)
        _say(lag)


async def _engine_child(kubeconfig: str, pods: int) -> None:
    from anyconsole.engine.core import FleetEngine  # noqa: PLC0415 - not in the others' processes
    from anyconsole.model.inventory import ClusterSpec, Inventory, NodeSpec, Site, Stack, Tenant  # noqa: PLC0415
    from anyconsole.model.pods import Pod  # noqa: PLC0415

    tenants = tuple(
        Tenant(name=f"t{n}", number=n + 1, prefixes=(), addresses=(), zones=()) for n in range(len(NAMESPACES))
    )
    spaces = {tenant.name: namespace for tenant, namespace in zip(tenants, NAMESPACES, strict=True)}
    inventory = Inventory(
        name="benchmark",
        sites=(Site(name="s"),),
        tenants=tenants,
        clusters=(ClusterSpec(name="k", kubeconfig=kubeconfig, namespaces=spaces),),
        nodes=(NodeSpec(name="n", site="s", address="load-node-000", stack=Stack.VIRTUAL, cluster="k"),),
    )
    engine, lag = FleetEngine(inventory), _Lag()
    seen = 0

    async def frames() -> None:
        nonlocal seen
        while True:
            seen += len(engine.drain()[0])
            await asyncio.sleep(0.25)

    _say(lag)
    tasks = [asyncio.create_task(task) for task in (engine.run(), lag.run(), frames())]
    async with asyncio.timeout(_PATIENCE):
        while len(engine.store.of_node("k", Pod)) < pods:  # noqa: ASYNC110 - the store has no event for it
            await asyncio.sleep(0.05)
    _say(lag)
    await _serve(lag, lambda: sum(pod.restarts for pod in engine.store.of_node("k", Pod)))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _typed_child(kubeconfig: str, pods: int) -> None:
    import kubernetes.aio as kubernetes  # noqa: PLC0415 - not in the others' processes

    untyped: Any = kubernetes
    client, config, watch = untyped.client, untyped.config, untyped.watch
    lag = _Lag()
    pauses = asyncio.create_task(lag.run())
    await config.load_kube_config(kubeconfig)
    async with client.ApiClient() as api:
        core = client.CoreV1Api(api)
        _say(lag)
        listed = await core.list_pod_for_all_namespaces()
        known = {(pod.metadata.namespace, pod.metadata.name): pod for pod in listed.items}
        assert len(known) >= pods
        _say(lag)
        seen = 0

        async def follow() -> None:
            nonlocal seen
            stream = watch.Watch().stream(
                core.list_pod_for_all_namespaces, resource_version=listed.metadata.resource_version
            )
            async for event in stream:
                pod = event["object"]
                known[pod.metadata.namespace, pod.metadata.name] = pod
                seen += 1

        following = asyncio.create_task(follow())
        await _serve(lag, lambda: seen)
        following.cancel()
        pauses.cancel()
        await asyncio.gather(following, pauses, return_exceptions=True)


# --- kubectl


def _kubectl(server: _Server, pods: int, events: int, rate: float) -> Cost:
    program = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        raise SystemExit("kubectl is missing: the development dependencies bring it")
    argv = [program, "--kubeconfig", server.kubeconfig, "get", "pods", "-A", "-w"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(pods + 1):
            process.stdout.readline()
        listed, size = _cpu(process.pid), _size(process.pid, "VmRSS")
        reader = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        server.change(events, rate)
        time.sleep(2.0)
        cost = Cost(listed, _cpu(process.pid) - listed, 0.0, size, _size(process.pid, "VmHWM"), None, None)
        process.kill()
        reader.wait()
    return cost


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _size(pid: int, key: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(key))


_CHILDREN: dict[str, Callable[[str, int], Coroutine[Any, Any, None]]] = {"engine": _engine_child, "typed": _typed_child}
_CLIENTS: dict[str, Callable[[_Server, int, int, float], Cost]] = {
    "engine": _measured("engine"),
    "kubectl": _kubectl,
    "typed": _measured("typed"),
}


if __name__ == "__main__":
    sys.exit(main())
