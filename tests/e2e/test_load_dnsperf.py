"""Load tests with dnsperf, end to end: over TCP, from three generators, under the same plan and into the same record as ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyconsole.lab import Lab
from tests.e2e.loads import measured

pytestmark = [pytest.mark.lab, pytest.mark.measures, pytest.mark.timeout(120)]

TCP = ("--purpose", "fixed", "--rate", "300", "--seconds", "4", "--protocol", "tcp")


def test_tcp_is_measured_by_dnsperf_and_the_record_says_so(lab: Lab, tmp_path: Path) -> None:
    # Knot: NSD closes TCP connections whenever somebody reads its statistics.
    record = measured(lab, tmp_path, "de.ams1", *TCP, "--engine", "dnsperf")
    assert record.header.generator == "dnsperf"
    assert record.conditions.workload.protocol == "tcp"
    assert [host.flows for host in record.conditions.generators] == [16, 16, 16]
    (trial,) = record.trials
    assert trial.why == ""
    assert trial.sent == pytest.approx(1200, rel=0.03)
    assert trial.ok > 0.9 * trial.sent
    (row,) = record.seconds
    assert (row.queries, (row.until - row.since) / record.header.time_units_per_sec) == (trial.sent, 4)
