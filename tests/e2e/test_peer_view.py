"""The peer's view: what a node withdraws is seen to go at the peers' own routers, and only what it withdraws."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyconsole.lab import Lab
from tests.e2e.observe import run_headless

pytestmark = pytest.mark.lab

DRAINED = """\
define DRAIN_SERIAL = 1;
define DRAIN_NOTE = "by hand";
define DRAIN_HARD = [ (0,0), (2,11), (2,12), (2,31), (2,32) ];
define DRAIN_SOFT = [ (0,0), (3,31) ];
"""


def configure(lab: Lab, drain: str) -> None:
    done = lab.run("fra1", ["sh", "-c", f"cat > /etc/bird/drain.conf <<'EOT'\n{drain}EOT\nbirdc configure"])
    assert "Reconfigured" in done.stdout, (done.stdout, done.stderr)


@pytest.fixture
def untouched(lab: Lab) -> Iterator[Lab]:
    """The lab, with fra1's drain state put back to the letter afterwards."""
    kept = lab.run("fra1", ["cat", "/etc/bird/drain.conf"]).stdout
    yield lab
    configure(lab, kept)


def at_peers(lab: Lab, state: Path) -> dict[str, set[tuple[str, str, str]]]:
    """By tenant, how fra1's announcements are seen at the peers: the peer's session, what it has, and who says so."""
    done = run_headless(lab, state, "show", "announcements", "--output", "json")
    found: dict[str, set[tuple[str, str, str]]] = {}
    for row in json.loads(done.stdout)["rows"]:
        if row["node"] == "fra1":
            assert row["at_peer_age"] is None or row["at_peer_age"] < 10
            peer, glass = row["session"].partition("_")[0], row["seen_by"].removeprefix("not at ").partition(":")[0]
            found.setdefault(row["tenant"], set()).add((peer, row["at_peer"], glass))
    return found


def wait_for(lab: Lab, state: Path, wanted: dict[str, set[tuple[str, str, str]]]) -> None:
    end = time.monotonic() + 20
    while (seen := at_peers(lab, state)) != wanted:
        assert time.monotonic() < end, seen


def test_what_is_drained_by_hand_is_seen_to_go_and_come_back_at_the_peers(untouched: Lab, tmp_path: Path) -> None:
    lab = untouched
    kept = lab.run("fra1", ["cat", "/etc/bird/drain.conf"]).stdout
    there = {("ix1", "announced", "ix1"), ("transit", "announced", "transit")}
    gone = {("ix1", "absent", "ix1"), ("transit", "absent", "transit")}
    wait_for(lab, tmp_path, dict.fromkeys(("de", "nic", "enum"), there))
    configure(lab, DRAINED)
    soft = there | {("transit", "depreferred", "transit")}
    wait_for(lab, tmp_path, {"de": there, "nic": gone, "enum": soft})
    configure(lab, kept)
    wait_for(lab, tmp_path, dict.fromkeys(("de", "nic", "enum"), there))
