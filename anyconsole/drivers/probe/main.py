"""The probe on a node: looks at every section once a tick and pushes what changed as lines of JSON; reads requests from its standard input.

Lines out: a hello `{"h":1,...}`; a keyframe `{"s":N,"t":...,"f":[rows],...}`; a delta `{"s":N,"t":...,"d":[rows],"x":[keys],...}`; with
"ok" (sections looked at again) and "err" (section: why it could not be seen). A frame longer than a line may be goes on in lines with the
next numbers and "m": 1 on all but the last. Lines in: `{"ping":1}`, `{"key":1}`, `{"hz":2}`, `{"id":7,"op":"raw","section":"bird"}`, and
`{"id":8,"op":"look"}`: every section but DNS is looked at at once, and after the frame that tells what was seen comes
`{"id":8,"look":[sections]}` with those that were seen in a round that began after the request.
Exits when its input ends or 30 s after the last line of it. Standard library only, Python >= 3.7: this module travels to the nodes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from anyconsole.drivers.ask import FRESH, CollectError, Get, Read, Run, Talk
from anyconsole.drivers.parse_error import ParseError, printable
from anyconsole.drivers.probe.collect import sections
from anyconsole.drivers.probe.row_keys import row_key
from anyconsole.drivers.probe.transport import Transport, run_round

if TYPE_CHECKING:
    from anyconsole.drivers.ask import Ask, Reply, Row
    from anyconsole.drivers.probe.collect import Section

__all__ = ["VERSION", "Frames", "Requests", "Rounds", "Worker", "main"]

VERSION = 1
LINE_LIMIT = 200_000
"""Bytes of rows in one line; the engine refuses lines over 256 KB."""

SILENCE = 30.0
"""Seconds without a line from the client after which the probe ends itself."""

LOOK_PATIENCE = 30.0
"""Seconds after which a look is answered without the sections that are still stuck."""

LOOK_PAUSE = 0.05
"""Seconds between two glances at sections that a look waits for."""

MAX_LOOKS = 16

RAW_CHUNK = 16384
RAW_LIMIT = 262144


class Worker:
    """One section's thread: a round when told to, never more than one at a time. A stuck daemon blocks nobody else."""

    def __init__(self, section: Section) -> None:
        self.section = section
        self.busy = False
        self.began = 0.0
        self.rounds = 0
        self.error = ""
        self.result: tuple[list[Row] | None, str] | None = None
        self.raw: list[tuple[str, bytes]] = []
        self._fresh = False
        self._heard: list[tuple[str, bytes]] = []
        self._wake = threading.Event()
        self._done = threading.Event()
        self._state: dict[str, Any] = {}
        self._transport = Transport()
        thread = threading.Thread(target=self._run, name=section.name, daemon=True)
        thread.start()

    def begin(self, *, fresh: bool = False) -> None:
        """Starts a round unless the last one still runs; a `fresh` one remembers nothing."""
        if not self.busy:
            self.busy = True
            self.rounds += 1
            self._fresh = fresh
            self.began = time.monotonic()
            self._done.clear()
            self._wake.set()

    def take(self, until: float) -> tuple[list[Row] | None, str] | None:
        """The result of the round: (rows, ""), (None, error), or (None, "") if there was nothing to look at. None: it still runs.

        Waits until the monotonic time `until`.
        """
        if not self.busy or not self._done.wait(max(0.0, until - time.monotonic())):
            return None
        self.busy = False
        return self.result

    def is_ready(self) -> bool:
        """True if a round can begin or has a result to take."""
        return not self.busy or self._done.is_set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self.result = self._round()
            self._done.set()

    def _round(self) -> tuple[list[Row] | None, str]:
        now = time.monotonic()
        self._heard = []
        self._state[FRESH] = self._fresh
        try:
            rows = run_round(
                self.section.start(self._state, now), self._transport, now + self.section.deadline, self._note
            )
        except (CollectError, ParseError) as error:
            result: tuple[list[Row] | None, str] = None, printable(str(error), 300)
        except Exception as error:  # noqa: BLE001  a bug in one section must not end the others; it is shown as its error
            self._state.clear()
            result = None, printable(f"{type(error).__name__}: {error}", 300)
        else:
            result = rows, ""
        self.raw = self._heard
        return result

    def _note(self, ask: Ask, reply: Reply) -> None:
        self._heard.append((_ask_text(ask), reply.data if not reply.fault else ("! " + reply.text).encode()))


def _ask_text(ask: Ask) -> str:
    if isinstance(ask, Talk):
        return "{}: {}".format(ask.path, printable(ask.data.decode("utf-8", "replace"), 200))
    if isinstance(ask, Run):
        return " ".join(ask.argv)
    if isinstance(ask, Read):
        return ask.path
    if isinstance(ask, Get):
        return f"http://{ask.host}:{ask.port}{ask.path}"
    return f"{ask.address}#{ask.port}"


class Frames:
    """What the client has been told, and the lines that tell it the rest. Pure: rows in, lines out."""

    def __init__(self, key_every: int) -> None:
        self._told: dict[str, dict[tuple[str, ...], Row]] = {}
        self._seq = 0
        self._key_every = key_every
        self._since_key = key_every

    def ask_key(self) -> None:
        """The next frame is a keyframe."""
        self._since_key = self._key_every

    def frame(
        self, seen: dict[str, list[Row]], errors: dict[str, str], at: float, *, whole: bool = True
    ) -> list[bytes]:
        """Lines for one tick: `seen` are the rows of the sections looked at, `errors` the sections that could not be seen.

        Where not the `whole` node was to be looked at, it is never a keyframe.
        """
        key = whole and self._since_key >= self._key_every
        self._since_key = 1 if key else self._since_key + whole
        rows: list[Row] = []
        gone: list[tuple[str, ...]] = []
        for section, new in seen.items():
            old = self._told.get(section, {})
            now = {row_key(r): r for r in new}
            rows.extend(now.values() if key else (r for k, r in now.items() if old.get(k) != r))
            gone.extend(k for k in old if k not in now)
            self._told[section] = now
        body: dict[str, Any] = {"ok": sorted(seen)}
        if errors:
            body["err"] = errors
        if gone and not key:
            body["x"] = gone
        return self._lines("f" if key else "d", rows, body, at)

    def _lines(self, name: str, rows: list[Row], body: dict[str, Any], at: float) -> list[bytes]:
        parts: list[list[Row]] = [[]]
        size = 0
        for row in rows:
            length = len(json.dumps(row, separators=(",", ":")))
            if size + length > LINE_LIMIT and parts[-1]:
                parts.append([])
                size = 0
            parts[-1].append(row)
            size += length
        lines = []
        for i, part in enumerate(parts):
            line: dict[str, Any] = {"s": self._seq, "t": round(at, 3)}
            self._seq += 1
            if part or name == "f":
                line[name] = part
            if i < len(parts) - 1:
                line["m"] = 1
            else:
                line.update(body)
            lines.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        return lines


class Look:
    """Somebody waits for it: each section has to end a round that began after the request."""

    def __init__(self, ident: int, workers: dict[str, Worker]) -> None:
        self.ident = ident
        self.began = time.monotonic()
        self.seen: list[str] = []
        self._wanted = {name: w.rounds + 1 for name, w in workers.items() if w.section.on_demand}

    def wants(self, name: str) -> bool:
        """True while the section has not ended such a round."""
        return name in self._wanted

    def ended(self, name: str, worker: Worker, *, seen: bool) -> None:
        """The section's round ended; `seen` if it brought rows."""
        if worker.rounds >= self._wanted.get(name, worker.rounds + 1):
            del self._wanted[name]
            if seen:
                self.seen.append(name)

    def is_over(self) -> bool:
        """True if there is nothing more to wait for."""
        return not self._wanted or time.monotonic() - self.began > LOOK_PATIENCE


class Rounds:
    """The rounds of all sections: those of every tick, and those between ticks that somebody waits for."""

    def __init__(self, workers: dict[str, Worker], frames: Frames) -> None:
        self._workers = workers
        self._frames = frames
        self._looks: list[Look] = []

    def look(self, ident: int) -> None:
        """Somebody asked for a look now."""
        self._looks = [*self._looks, Look(ident, self._workers)][-MAX_LOOKS:]

    def is_awaited(self) -> bool:
        """True while somebody waits for a look."""
        return bool(self._looks)

    def tick(self, until: float, *, whole: bool) -> list[bytes]:
        """Begins the rounds of all sections, or only those that a look waits for; waits for them until a monotonic time.

        Returns the frame and then the answers to the looks that are over.
        """
        if not whole and not any(w.is_ready() and self._is_wanted(n) for n, w in self._workers.items()):
            return self._answers()
        seen: dict[str, list[Row]] = {}
        began = []
        for name, worker in self._workers.items():
            self._take(name, 0.0, seen)  # late results of the last round first
            wanted = self._is_wanted(name)
            if whole or wanted:
                worker.begin(fresh=wanted)
                began.append(name)
        for name in began:
            # A slow section (DNS waits a second for its answers) goes out with a later tick.
            slow = self._workers[name].section.slow
            self._take(name, min(until, time.monotonic() + 0.02) if slow else until, seen)
        return self._frames.frame(seen, self._errors(), time.time(), whole=whole) + self._answers()

    def _is_wanted(self, name: str) -> bool:
        return any(look.wants(name) for look in self._looks)

    def _take(self, name: str, until: float, seen: dict[str, list[Row]]) -> None:
        worker = self._workers[name]
        result = worker.take(until)
        if result is None:
            return
        rows, error = result
        if rows is not None:
            seen[name] = rows
        if rows is not None or error:
            worker.error = error
        for look in self._looks:
            look.ended(name, worker, seen=rows is not None)

    def _errors(self) -> dict[str, str]:
        errors = {}
        for name, worker in self._workers.items():
            late = time.monotonic() - worker.began
            if worker.busy and late > worker.section.deadline + 0.5:
                errors[name] = f"no answer for {late:.0f} s"
            elif worker.error:
                errors[name] = worker.error
        return errors

    def _answers(self) -> list[bytes]:
        over = [look for look in self._looks if look.is_over()]
        self._looks = [look for look in self._looks if look not in over]
        return [
            json.dumps({"id": look.ident, "look": look.seen}, separators=(",", ":")).encode() + b"\n" for look in over
        ]


class Requests:
    """The probe's input as lists of requests; knows when the client fell silent or left."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self.heard_at = time.monotonic()

    def wait(self, seconds: float) -> list[dict[str, Any]] | None:
        """Requests that came within `seconds`; None if the client is gone."""
        if not select.select([self._descriptor], [], [], max(0.0, seconds))[0]:
            return None if time.monotonic() - self.heard_at > SILENCE else []
        data = os.read(self._descriptor, 65536)
        if not data:
            return None
        self.heard_at = time.monotonic()
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > 65536:
            return None
        requests = []
        for line in lines:
            try:
                request = json.loads(line.decode("utf-8")) if line.strip() else {}
            except ValueError:
                continue
            if isinstance(request, dict):
                requests.append(request)
        return requests


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def _raw_lines(ident: int, worker: Worker | None) -> list[bytes]:
    if worker is None:
        text = "no such section"
    else:
        text = "\n".join(
            "> {}\n{}".format(ask, data.decode("utf-8", "backslashreplace")) for ask, data in list(worker.raw)
        )
    text = text[:RAW_LIMIT]
    chunks = [text[i : i + RAW_CHUNK] for i in range(0, len(text), RAW_CHUNK)] or [""]
    return [
        json.dumps({"id": ident, "n": i, "raw": c, "more": i < len(chunks) - 1}, separators=(",", ":")).encode() + b"\n"
        for i, c in enumerate(chunks)
    ]


def main(config: dict[str, Any]) -> None:
    """Runs until the client leaves."""
    try:
        os.nice(10)
    except OSError as error:
        sys.stderr.write(f"nice: {error}\n")
    signal.alarm(int(SILENCE) + 5)  # ends us even if a write to a client that reads no more never returns
    workers = {s.name: Worker(s) for s in sections(config)}
    hello = {
        "h": 1,
        "v": VERSION,
        "python": ".".join(str(n) for n in sys.version_info[:2]),
        "boot": _boot_id(),
        "t": round(time.time(), 3),
    }
    hello["sections"] = list(workers)
    _write(json.dumps(hello, separators=(",", ":")).encode() + b"\n")
    frames = Frames(int(config["key_every"]))
    rounds = Rounds(workers, frames)
    requests = Requests()
    period = 1.0 / min(5.0, max(0.1, float(config["hz"])))
    pending: list[bytes] = []
    # The first tick is at once; the following ones keep the node's own phase, so that a fleet doesn't tick in step.
    due = time.monotonic()
    phase = float(config["phase"])
    while True:
        pause = due - time.monotonic()
        heard = requests.wait(0.0 if pending else min(pause, LOOK_PAUSE) if rounds.is_awaited() else pause)
        if heard is None:
            return
        if heard:
            signal.alarm(int(SILENCE) + 5)
        for request in heard:
            if request.get("key"):
                frames.ask_key()
            hz = request.get("hz")
            if isinstance(hz, (int, float)) and 0.1 <= hz <= 5:
                period = 1.0 / hz
            pending += _asked(request, workers, rounds)
        if pending:
            _write(pending.pop(0))
        began = time.monotonic()
        if began < due:
            if rounds.is_awaited():
                _write(b"".join(rounds.tick(began + period / 2, whole=False)))
            continue
        _write(b"".join(rounds.tick(began + period / 2, whole=True)))
        due = time.monotonic() + period - (time.time() - phase) % period
        if due - began < period / 2:
            due += period


def _asked(request: dict[str, Any], workers: dict[str, Worker], rounds: Rounds) -> list[bytes]:
    """Begins what a request asks for; returns the lines that answer it at once."""
    ident = request.get("id")
    if not isinstance(ident, int):
        return []
    if request.get("op") == "look":
        rounds.look(ident)
    if request.get("op") == "raw":
        return _raw_lines(ident, workers.get(str(request.get("section"))))
    return []


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123  (pathlib costs a node 10 ms)
            return file.read().strip()
    except OSError:
        return ""
