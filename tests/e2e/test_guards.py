"""What guards refuse loses queries: each is refused, then done all the same, and the queries that it costs are counted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from anyconsole.actions.load.files import runs_folder
from anyconsole.lab import Lab
from anyconsole.lab.queries import QueryLoad
from anyconsole.lab.query_result import QueryResult
from anyconsole.lab.topology import NODES, TENANTS
from anyconsole.profile import load_profile
from tests.actions import load_runs
from tests.e2e.drains import change, put_back

pytestmark = pytest.mark.lab

_DE = next(tenant for tenant in TENANTS if tenant.name == "de")
_LAST = "lon1"


def _refused(document: dict[str, Any]) -> set[str]:
    return {guard["name"] for guard in document["guards"] if guard["outcome"] == "refuse"}


def _missed(result: QueryResult) -> int:
    return result.lost + result.failed


def test_below_the_floor_the_next_failure_takes_the_service_away(breakable_lab: Lab, tmp_path: Path) -> None:
    lab = breakable_lab
    others = [spec.name for spec in NODES if spec.name != _LAST]
    nodes = [word for name in others for word in ("--node", name)]
    scope = (*nodes, "--tenant", "de", "--hard", "--parallel", "4", "--reason", "below the floor")
    refused = _refused(change(lab, tmp_path, "drain", *scope, status=3))
    assert refused == {"floor", "sites", "regions"}
    overrides = [word for name in sorted(refused) for word in ("--override", f"{name}=to see why")]
    bird = [spec.name for spec in NODES if spec.speaker == "bird"]
    with put_back(lab, *bird):
        with QueryLoad(lab, rate=100) as load:
            change(lab, tmp_path, "drain", *scope, *overrides)
            drained_at = time.monotonic()
            last = change(lab, tmp_path, "drain", "--node", _LAST, "--tenant", "de", "--reason", "no", status=3)
            assert "last announcer" in _refused(last)
            failed_at = time.monotonic()
            lab.break_("speaker", _LAST)  # as its failure would, and as that drain would have
            time.sleep(1.0)
        assert _missed(load.result.between(drained_at, failed_at - 1)) == 0, "one node does, while it lives"
        assert _missed(load.result.between(failed_at)) > 0


def test_a_name_server_that_does_not_answer_put_back_is_a_black_hole(breakable_lab: Lab, tmp_path: Path) -> None:
    lab = breakable_lab
    with QueryLoad(lab, rate=100) as load:
        with put_back(lab, "fra1"):
            change(lab, tmp_path, "drain", "--node", "fra1", "--tenant", "de", "--reason", "new disks")
            lab.break_("nameserver", "fra1", "de")
            undrain = ("undrain", "--node", "fra1", "--tenant", "de", "--reason", "disks are in")
            assert "answers" in _refused(change(lab, tmp_path, *undrain, status=3))
            undrained_at = time.monotonic()
        # By hand, it is served again: that is how `put_back` does it.
        load.wait_until(lambda now: "fra1" not in now.answering(0.5)["client1", "ipv4"], 5, "client1 without an answer")
        time.sleep(1.0)
    assert _missed(load.result.between(end=undrained_at - 1)) == 0
    assert _missed(load.result.between(undrained_at)) > 0


def test_more_load_than_a_node_was_measured_to_take_is_lost_there(
    breakable_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = breakable_lab
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    head = load_runs.header("20261123-000000-cafe", at=time.time() - 3600, node="fra2", kind="bare")
    load_runs.write_search(runs_folder(load_profile(str(lab.profile_path))), head, capacity=600)
    limit = (
        "add table inet slow; add chain inet slow in { type filter hook input priority 0; };"
        f"add rule inet slow in ip daddr {_DE.address4} udp dport 53 limit rate over 100/second counter drop"
    )
    scope = ("drain", "--node", "fra1", "--tenant", "de", "--hard", "--reason", "too much for fra2")
    assert lab.run("fra2", ["nft", limit]).returncode == 0
    try:
        with put_back(lab, "fra1"), QueryLoad(lab, rate=300) as load:
            assert _refused(change(lab, tmp_path, *scope, status=3)) == {"capacity"}
            begun_at = time.monotonic()
            change(lab, tmp_path, *scope, "--override", "capacity=to see why")
    finally:
        lab.run("fra2", ["nft", "delete table inet slow"])
    assert _missed(load.result.between(end=begun_at - 1)) == 0
    assert _missed(load.result.between(begun_at)) > 0
