"""What limited a name server in a load test is named: each limit is made in the lab, and found."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anyconsole.lab import Lab, quota
from tests.e2e.loads import answers_lost, costly_answers, measured

pytestmark = [pytest.mark.lab, pytest.mark.measures, pytest.mark.timeout(240)]


def _overloaded(lab: Lab, state: Path, target: str, rate: int, *more: str) -> str:
    run = measured(lab, state, target, "--purpose", "fixed", "--rate", str(rate), "--seconds", "2", *more)
    limit = run.result.limit
    assert limit is not None, run.result
    return f"{limit.cause}: {limit.words}"


def test_a_rate_limit_and_small_buffers_are_told_apart(breakable_lab: Lab, tmp_path: Path) -> None:
    lab = breakable_lab
    lab.break_("rrl", "fra1", "nic")
    lab.break_("smallbuffer", "fra2", "nic")
    with ThreadPoolExecutor() as pool:
        limited = pool.submit(_overloaded, lab, tmp_path / "rrl", "nic.fra1", 2000, "--generator", "gen1")
        others = ("--generator", "gen2", "--generator", "gen3")
        small = pool.submit(_overloaded, lab, tmp_path / "small", "nic.fra2", 12_000, *others)
    assert limited.result().startswith("rate-limit: ")
    assert small.result().startswith("socket-buffer: ")


def test_what_a_name_server_withholds_and_what_is_lost_on_the_way_back_are_told_by_its_own_counters(
    breakable_lab: Lab, tmp_path: Path
) -> None:
    """On the wire both look alike: queries that nothing answers. So do they in the counters of the node's kernel."""
    lab = breakable_lab
    lab.break_("silentrrl", "fra1", "nic")
    lab.break_("silentrrl", "ams1", "nic")
    with answers_lost(lab, "ix1", "fra2", "nic"), ThreadPoolExecutor() as pool:
        nsd = pool.submit(_overloaded, lab, tmp_path / "nsd", "nic.fra1", 1000, "--generator", "gen1")
        knot = pool.submit(_overloaded, lab, tmp_path / "knot", "nic.ams1", 1000, "--generator", "gen3")
        back = pool.submit(_overloaded, lab, tmp_path / "back", "nic.fra2", 1000, "--generator", "gen2")
    for limited in (nsd, knot):
        assert re.match(r"rate-limit: the name servers themselves withheld [\d,]+ answers", limited.result()), (
            limited.result()
        )
    assert re.match(r"return-path: the name servers took in [\d,]+ of [\d,]+ queries", back.result()), back.result()


@pytest.mark.skipif(not quota.can_be_set(), reason="no CPU quota can be set on this machine")
def test_a_cpu_quota_is_what_it_is(breakable_lab: Lab, tmp_path: Path) -> None:
    breakable_lab.break_("quota", "lon1", "nic")
    assert _overloaded(breakable_lab, tmp_path, "nic.lon1", 30_000).startswith("cpu-quota: ")


def test_one_flow_that_fills_one_of_two_workers_is_a_skew(breakable_lab: Lab, tmp_path: Path) -> None:
    breakable_lab.break_("workers", "fra2", "enum")
    with costly_answers(breakable_lab, "fra2", "enum"):
        one = _overloaded(breakable_lab, tmp_path, "enum.fra2", 22_000, "--flows", "1", "--generator", "gen3")
    assert one.startswith("flow-skew: "), one
