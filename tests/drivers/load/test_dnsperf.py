"""dnsperf as a second engine: its numbers mean the same as ours, and where it can't be believed it isn't."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from anyconsole.drivers.load.dnsperf import Transport, command, parse_interval, parse_report, parse_version, trial_of
from anyconsole.drivers.load.zone_mix import from_zone_text
from anyconsole.drivers.parse_error import ParseError
from anyconsole.model.load import Order, Phase, Verdict
from tests.drivers.load.name_server import ZONE, NameServer, serving
from tests.drivers.samples import mutated, sample, samples, survives

ORDER = Order(phase=Phase.FIXED, rate=1000, seconds=10)


def report_of(name: str) -> str:
    return sample("load", name).decode()


def test_late_answers_of_both_versions_are_counted_apart_and_lost() -> None:
    for version, completed, lost in (((2, 10), 226, 1374), ((2, 14), 230, 1370)):
        report = parse_report(report_of(f"late-answers-dnsperf-{version[0]}.{version[1]}-timeouts.out"))
        assert (report.version, report.sent, report.completed, report.lost) == (version, 1600, completed, lost)
        order = Order(phase=Phase.FIXED, rate=200, seconds=8)
        counts = trial_of(report, order, 0).counts
        assert (counts.lost, counts.late, counts.skipped) == (lost, report.unexpected, 0)
        assert 600 < counts.late < 700
        assert sum(counts.rcodes.values()) == completed
        assert counts.rcodes.keys() == {0, 3}


def test_the_histogram_of_2_14_becomes_ours() -> None:
    report = parse_report(report_of("dnsperf-2.14-verbose-hist.out"))
    assert report.latency.count == report.completed == 8149
    assert report.latency.mean == pytest.approx(report.average, rel=0.02)
    assert report.latency.percentile(1) == pytest.approx(report.maximum, rel=0.04)


def test_a_run_that_was_stopped_says_nothing_about_what_was_in_the_air() -> None:
    report = parse_report(report_of("dnsperf-2.10-deadport.out"))
    assert (report.lost, report.interrupted, report.ended) == (0, 4066, "interruption")
    trial = trial_of(report, ORDER, 0)
    assert trial.verdict(0.01) is Verdict.VOID
    assert trial.void == "dnsperf was stopped with 4066 of 4066 queries in the air"


def test_a_run_that_fell_behind_is_void_unless_losses_held_it_up() -> None:
    report = parse_report(report_of("nsd-rrl-trap-Q3000.out"))
    assert trial_of(report, Order(phase=Phase.FIXED, rate=3000, seconds=6), 0).verdict(0.01) is Verdict.BAD
    behind = trial_of(
        parse_report(report_of("dnsperf-2.14-verbose-hist.out")), Order(phase=Phase.FIXED, rate=5000, seconds=5), 0
    )
    assert behind.void == "dnsperf sent 33% of what it was to send"
    slowed = trial_of(report, Order(phase=Phase.FIXED, rate=6000, seconds=6), 0)
    assert slowed.verdict(0.01) is Verdict.BAD


def test_short_trials_are_void_because_it_begins_slowly() -> None:
    report = parse_report(report_of("nsd-rrl-trap-Q3000.out"))
    assert "less than 4 s" in trial_of(report, Order(phase=Phase.FIXED, rate=18000, seconds=1), 0).void


def test_the_flags_are_the_measured_ones() -> None:
    argv = command(Order(phase=Phase.FIXED, rate=20_000, seconds=8), address="192.0.2.1", queries="/q", version=(2, 10))
    assert " ".join(argv) == (
        "timeout -s INT -k 1 13.25 stdbuf -oL dnsperf -s 192.0.2.1 -d /q -l 8 -Q 20000 -q 600 -t 0.25 -c 200 -T 1 -b 4096 "
        "-S 1 -W -O suppress=timeouts"
    )
    newer = command(
        Order(phase=Phase.FIXED, rate=100_000, seconds=8), address="192.0.2.1", queries="/q", version=(2, 14)
    )
    assert newer[newer.index("-T") + 1] == "3"
    assert "latency-histogram" in newer
    far = command(ORDER, address="192.0.2.1", queries="/q", version=(2, 10), timeout=0.5, transport=Transport.DOT)
    assert far[far.index("-m") + 1] == "dot"
    across = command(
        Order(phase=Phase.FIXED, rate=20_000, seconds=8), address="::1", queries="/q", version=(2, 10), timeout=0.5
    )
    assert across[across.index("-q") + 1] == "1200"


def test_live_lines_are_told_from_all_others() -> None:
    lines = report_of("dnsperf-2.10-deadport.out").splitlines()
    assert [rate for line in lines if (rate := parse_interval(line)) is not None] == [0.0] * 4
    assert parse_interval("1795450503.896460: 4985.167477") == 4985.167477


@pytest.fixture(scope="module")
def name_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    with serving(tmp_path_factory.mktemp("nsd")) as server:
        yield server


@pytest.mark.lab
def test_real_runs_are_read_over_every_transport(tmp_path: Path, name_server: NameServer) -> None:
    queries = tmp_path / "queries"
    queries.write_text(from_zone_text(name_server.zone_text, ZONE).text)
    version = parse_version(subprocess.run(["dnsperf", "-h"], capture_output=True, text=True, check=False).stdout)
    order = Order(phase=Phase.FIXED, rate=500, seconds=4)
    running = {}
    for transport in Transport:  # at the same time: each takes four seconds
        port = name_server.tls_port if transport is Transport.DOT else name_server.port
        argv = command(
            order, address="127.0.0.1", queries=str(queries), version=version, port=port, transport=transport, timeout=2
        )
        running[transport] = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for transport, process in running.items():
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0, said
        trial = trial_of(parse_report(said), order, time.time())
        assert trial.verdict(0.01) is Verdict.OK, (transport, trial.void, trial.counts, said)
        assert trial.counts.sent == pytest.approx(2000, rel=0.03)
        assert trial.counts.rcodes[3] / trial.counts.answered == pytest.approx(0.1, abs=0.03)


def test_broken_output_gives_a_report_or_a_named_error() -> None:
    originals = [path.read_bytes()[-3000:] for path in samples("load", "*dnsperf*.out")]

    @settings(max_examples=300, deadline=None)
    @given(content=mutated(originals))
    def check(content: bytes) -> None:
        survives(lambda data: parse_report(data.decode("utf-8", "replace")), content)

    check()


def test_output_without_its_report_is_refused() -> None:
    text = report_of("late-answers-dnsperf-2.10-timeouts.out")
    for end in ("\nStatistics:", "  Queries completed:", "  Average Latency"):
        with pytest.raises(ParseError):
            parse_report(text[: text.index(end)])
