"""kxdpgun only where the profile says that a host has nothing else to do; its report means the same as ours; nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings

from anyconsole.drivers.load.kxdpgun import clean_up, command, parse_report, trial_of
from anyconsole.drivers.parse_error import ParseError
from anyconsole.errors import LoadError
from anyconsole.model.inventory import Generator
from anyconsole.model.load import Order, Phase, Verdict
from benchmarks.wire import Wire
from tests.drivers.samples import mutated, sample, samples, survives

DEDICATED = Generator(name="gen1", address="192.0.2.7", dedicated=True, interface="w0")


def test_a_host_that_was_not_declared_dedicated_keeps_its_interface() -> None:
    order = Order(phase=Phase.FIXED, rate=100_000, seconds=5)
    for generator in (
        Generator(name="gen1", address="192.0.2.7"),
        Generator(name="gen1", address="192.0.2.7", interface="w0"),
    ):
        with pytest.raises(LoadError, match="generator gen1: kxdpgun takes an interface away"):
            command(order, generator, address="192.0.2.1", queries="/q")


def test_a_report_is_read() -> None:
    report = parse_report(sample("load", "kxdpgun-3.2.6-veth.out").decode())
    assert (report.sent, report.replies, report.seconds) == (99900, 97236, 5)
    trial = trial_of(report, Order(phase=Phase.FIXED, rate=20_000, seconds=5), 0)
    assert (trial.counts.lost, trial.counts.rcodes, trial.void) == (2664, {0: 87635, 3: 9601}, "")
    assert trial.verdict(0.01) is Verdict.BAD


def test_the_last_of_several_reports_counts() -> None:
    assert parse_report(sample("load", "kxdpgun-3.2.6-usr1-int.out").decode()).sent == 8820


def test_a_run_that_sent_too_little_is_void_and_surplus_answers_are_strays() -> None:
    report = parse_report(sample("load", "kxdpgun-3.2.6-veth.out").decode().replace("97236", "99999"))
    trial = trial_of(report, Order(phase=Phase.FIXED, rate=25_000, seconds=4.5), 0)
    assert trial.void == "kxdpgun sent 80% of what it was to send"
    assert (trial.counts.answered, trial.counts.stray, trial.order.seconds) == (99900, 99, 5)


@pytest.mark.lab
def test_a_real_run_is_read_and_the_interface_given_back(tmp_path: Path) -> None:
    order = Order(phase=Phase.FIXED, rate=2000, seconds=1)
    queries = tmp_path / "queries"
    with Wire(f"kxdp{os.getpid()}") as wire:
        queries.write_text(wire.queries)
        argv = command(order, DEDICATED, address=wire.server_v4, queries=str(queries))
        began_at = time.time()
        done = subprocess.run([*wire.client, *argv], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stdout + done.stderr
        subprocess.run([*wire.client, *clean_up(DEDICATED)], check=True, timeout=10)
        link = subprocess.run(
            [*wire.client, "ip", "link", "show", "w0"], capture_output=True, text=True, check=True
        ).stdout
        arrived = wire.counted()
    trial = trial_of(parse_report(done.stdout), order, began_at)
    assert trial.verdict(0.01) is Verdict.OK, (trial.void, trial.counts)
    assert trial.counts.sent == pytest.approx(2000, rel=0.03)
    assert arrived == trial.counts.sent
    assert " xdp" not in link


def test_broken_output_gives_a_report_or_a_named_error() -> None:
    originals = [path.read_bytes() for path in samples("load", "kxdpgun*.out")]

    @settings(max_examples=200, deadline=None)
    @given(content=mutated(originals))
    def check(content: bytes) -> None:
        survives(lambda data: parse_report(data.decode("utf-8", "replace")), content)

    check()


def test_output_without_its_report_is_refused() -> None:
    text = sample("load", "kxdpgun-3.2.6-veth.out").decode()
    with pytest.raises(ParseError, match="no report of kxdpgun"):
        parse_report(text[: text.index("duration")])
