"""The probe's own rhythm: sections that are stuck block nobody, and late results are not lost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from anyconsole.drivers.ask import FRESH, CollectError, Collector, Read, State
from anyconsole.drivers.probe import main
from anyconsole.drivers.probe.bundle import bootstrap
from anyconsole.drivers.probe.collect import Section
from anyconsole.drivers.probe.config import vantage_config
from anyconsole.drivers.probe.main import Frames, Requests, Rounds, Worker
from tests.drivers.fleet_of_one import INVENTORY


def section(seconds: float = 0.0, error: Exception | None = None) -> Section:
    def start(state: State, _now: float) -> Collector:
        state["rounds"] = state.get("rounds", 0) + 1
        time.sleep(seconds)
        if error is not None:
            raise error
        yield [Read("/proc/uptime")]
        return [{"kind": "host", "section": "s", "rounds": state["rounds"]}]

    return Section("s", start, 0.5)


def test_worker_brings_rows_and_keeps_what_was_heard() -> None:
    worker = Worker(section())
    worker.begin()
    result = worker.take(time.monotonic() + 2)
    assert result is not None
    assert result[0] is not None
    assert result[0][0]["rounds"] == 1
    assert worker.raw[0][0] == "/proc/uptime"


def test_stuck_worker_is_left_alone_and_its_result_comes_late() -> None:
    worker = Worker(section(seconds=0.2))
    worker.begin()
    began = time.monotonic()
    assert worker.take(began + 0.02) is None
    assert time.monotonic() - began < 0.15
    worker.begin()
    result = worker.take(time.monotonic() + 2)
    assert result is not None
    assert result[0] is not None
    assert result[0][0]["rounds"] == 1


@pytest.mark.parametrize(
    ("error", "said"), [(CollectError("no \x1b socket"), "no   socket"), (KeyError("bug"), "KeyError: 'bug'")]
)
def test_failing_section_says_why_and_goes_on(error: Exception, said: str) -> None:
    worker = Worker(section(error=error))
    for _ in range(2):
        worker.begin()
        assert worker.take(time.monotonic() + 2) == (None, said)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    with contextlib.suppress(OSError):
        os.close(writer)


def test_requests_come_in_pieces_and_an_end_of_input_is_the_end(pipe: tuple[int, int]) -> None:
    requests = Requests(pipe[0])
    os.write(pipe[1], b'{"ping":1}\n{"key"')
    assert requests.wait(1) == [{"ping": 1}]
    os.write(pipe[1], b":1}\n\n")
    assert requests.wait(1) == [{"key": 1}, {}]
    assert requests.wait(0) == []
    os.close(pipe[1])
    assert requests.wait(1) is None


def test_client_that_fell_silent_or_sends_an_endless_line_is_gone(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests(pipe[0])
    monkeypatch.setattr(main, "SILENCE", 0.0)
    assert requests.wait(0.01) is None
    os.write(pipe[1], b"x" * 40000)
    assert requests.wait(1) == []
    os.write(pipe[1], b"x" * 40000)
    assert requests.wait(1) is None


def start() -> tuple[subprocess.Popen[bytes], list[dict[str, Any]]]:
    config = vantage_config(INVENTORY, INVENTORY.vantages[0]) | {"dns": {"questions": []}, "hz": 5.0}
    command, stdin = bootstrap(config)
    process = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(stdin)
    process.stdin.flush()
    return process, [json.loads(process.stdout.readline()) for _ in range(3)]


def test_requests_are_answered_and_nonsense_is_ignored() -> None:
    process, lines = start()
    assert process.stdin is not None
    assert process.stdout is not None
    assert [("h" in x, "f" in x) for x in lines] == [(True, False), (False, True), (False, False)]
    process.stdin.write(
        b'\n\n{"ping":1}\nnonsense\n[]\n{"op":"rm"}\n{"key":1}\n{"id":3,"op":"raw","section":"host"}\n{"hz":1000}\n'
    )
    process.stdin.flush()
    later = [json.loads(process.stdout.readline()) for _ in range(4)]
    raw = [x for x in later if x.get("id") == 3]
    assert raw
    assert raw[0]["raw"].startswith("> /proc/loadavg\n")
    assert any("f" in x for x in later)
    process.stdin.close()
    assert process.wait(5) == 0
    process.stdout.close()


def test_probe_whose_reader_is_gone_ends_quietly() -> None:
    process, _ = start()
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(5) == 0
    assert process.stdin is not None
    process.stdin.close()


def test_probe_is_nice() -> None:
    process, _ = start()
    try:
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(5)
        assert process.stdout is not None
        process.stdout.close()


# --- looks


class Gate:
    """A section whose rounds end when the test lets them; each row says what it saw when it began."""

    def __init__(self) -> None:
        self.truth = "before"
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Semaphore(0)
        self.fresh: list[bool] = []
        self.error = False

    def section(self, name: str = "bird") -> Section:
        def start(state: State, _now: float) -> Collector:
            self.fresh.append(state[FRESH])
            seen = self.truth
            self.begun.release()
            self.open.wait(5)
            if self.error:
                raise CollectError("denied")
            yield [Read("/proc/uptime")]
            return [{"kind": "speaker", "section": name, "speaker": name, "saw": seen}]

        return Section(name, start, 0.5)


def rounds_of(*sections: Section) -> Rounds:
    return Rounds({s.name: Worker(s) for s in sections}, Frames(50))


def tick(rounds: Rounds, *, whole: bool = False, seconds: float = 2.0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rounds.tick(time.monotonic() + seconds, whole=whole)]


def test_look_shows_what_is_true_after_it_was_asked_for_and_answers_after_the_frame() -> None:
    gate = Gate()
    rounds = rounds_of(gate.section())
    tick(rounds, whole=True)
    gate.truth = "after"
    rounds.look(7)
    frame, answer = tick(rounds)
    assert frame["d"][0]["saw"] == "after"
    assert answer == {"id": 7, "look": ["bird"]}
    assert gate.fresh == [False, True]
    assert not rounds.is_awaited()


def test_round_that_runs_already_does_not_count_as_a_look() -> None:
    gate = Gate()
    rounds = rounds_of(gate.section())
    gate.open.clear()
    tick(rounds, whole=True, seconds=0.0)
    assert gate.begun.acquire(timeout=2)
    gate.truth = "after"
    rounds.look(7)
    assert tick(rounds) == [], "nothing to begin and nothing to tell while the old round runs"
    gate.open.set()
    deadline = time.monotonic() + 2
    told: list[dict[str, Any]] = []
    while not any("look" in line for line in told):
        assert time.monotonic() < deadline
        told += tick(rounds)
    assert told[-1] == {"id": 7, "look": ["bird"]}
    saw = [row["saw"] for line in told for row in line.get("d", line.get("f", []))]
    assert saw[-1] == "after"


def test_look_is_answered_without_the_section_that_can_not_be_seen() -> None:
    good, bad = Gate(), Gate()
    bad.error = True
    rounds = rounds_of(good.section("bird"), bad.section("nsd:de"))
    rounds.look(7)
    frame, answer = tick(rounds)
    assert frame["err"] == {"nsd:de": "denied"}
    assert answer == {"id": 7, "look": ["bird"]}


def test_look_gives_up_on_a_stuck_section_and_does_not_wake_the_others_again(monkeypatch: pytest.MonkeyPatch) -> None:
    good, stuck = Gate(), Gate()
    stuck.open.clear()
    rounds = rounds_of(good.section("host"), stuck.section("bird"))
    rounds.look(7)
    assert [sorted(line) for line in tick(rounds, seconds=0.1)] == [["d", "ok", "s", "t"]]
    for _ in range(5):
        assert tick(rounds, seconds=0.1) == []
    assert len(good.fresh) == 1
    monkeypatch.setattr(main, "LOOK_PATIENCE", 0.0)
    assert tick(rounds, seconds=0.1) == [{"id": 7, "look": ["host"]}]
    stuck.open.set()


def test_failing_section_stays_an_error_in_frames_that_are_not_about_it() -> None:
    good, bad = Gate(), Gate()
    bad.error = True
    rounds = rounds_of(good.section("host"), bad.section("bird"))
    tick(rounds, whole=True)
    bad.open.clear()
    (frame,) = tick(rounds, whole=True, seconds=0.1)
    assert frame["err"] == {"bird": "denied"}
    bad.open.set()


def test_probe_that_looks_rarely_answers_a_look_at_once() -> None:
    process, _ = start()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"hz":0.1}\n')
    process.stdin.flush()
    json.loads(process.stdout.readline())
    began = time.monotonic()
    process.stdin.write(b'{"id":9,"op":"look"}\n')
    process.stdin.flush()
    lines = [json.loads(process.stdout.readline())]
    while "look" not in lines[-1]:
        lines.append(json.loads(process.stdout.readline()))
    assert time.monotonic() - began < 3
    assert lines[-1] == {"id": 9, "look": ["host"]}
    assert lines[-2]["ok"] == ["host"]
    process.stdin.close()
    assert process.wait(5) == 0
    process.stdout.close()
