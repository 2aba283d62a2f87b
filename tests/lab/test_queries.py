"""The load that drains are judged by: it loses nothing by itself, it sees every loss, and nothing of it is left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from anyconsole.errors import LabError
from anyconsole.lab import Lab, control, network, processes, readiness
from anyconsole.lab.queries import QueryLoad
from anyconsole.lab.slow import slowed

pytestmark = pytest.mark.lab

CLIENTS = ("client1", "client2", "client3")


def wait(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_of(lab: Lab, host: str) -> set[int]:
    return set(processes.members({network.namespace_inode(lab.paths.namespace(host))}))


def test_nothing_is_lost_while_nothing_is_changed(lab: Lab) -> None:
    with QueryLoad(lab, rate=200, clients=CLIENTS) as load:
        began = time.monotonic()
        load.wait_until(lambda _: time.monotonic() > began + 3, 10, "three seconds")
    result = load.result
    assert (result.lost, result.failed, result.strays, result.dropped) == (0, 0, 0, 0), result
    assert set(result.by_node) == {"fra1", "ams1", "sin1"}
    assert len(result.streams) == 6
    # Nothing is skipped: every number is there once, at the rate that was asked for.
    for stream in result.streams:
        assert [q.number for q in stream.queries] == list(range(len(stream.queries)))
        assert len(stream.queries) >= 600


def test_a_cut_is_seen_with_its_time_its_length_and_its_reason(breakable_lab: Lab) -> None:
    lab = breakable_lab
    with QueryLoad(lab, rate=200) as load:
        cut_at = time.monotonic()
        lab.break_("nameserver", "fra1", "de")
        load.wait_until(lambda _: load.lost > 20, 10, "a loss")
        healing_at = time.monotonic()
        lab.heal()
        load.wait_until(lambda _: "fra1" in load.answering()["client1", "ipv6"], 10, "answers again")
    result = load.result
    assert result.sent == result.answered + result.failed + result.lost
    assert {burst.client for burst in result.bursts} == {"client1"}
    assert result.of("client3").answered == result.of("client3").sent > 400
    for family in ("ipv4", "ipv6"):
        longest = max((b for b in result.bursts if b.family == family), key=lambda b: b.queries)
        assert cut_at < longest.began_at < healing_at < longest.over_at
        assert longest.queries >= 200 * (healing_at - longest.began_at) - 2
    assert result.errors["ECONNREFUSED"] > 0


def test_a_change_of_node_is_seen_at_once(breakable_lab: Lab) -> None:
    with QueryLoad(breakable_lab, rate=50, clients=["client3"]) as load:
        changed_at = time.monotonic()
        breakable_lab.break_("link", "sin1", "ix2")
        moved = {("client3", family): {"lon1"} for family in ("ipv4", "ipv6")}
        load.wait_until(lambda _: load.answering() == moved, 10, "lon1")
    turns = [(t.family, t.node) for t in load.result.turns if t.at > changed_at]
    assert sorted(turns) == [("ipv4", "lon1"), ("ipv6", "lon1")]


def test_a_load_that_is_interrupted_leaves_nothing_behind(lab: Lab) -> None:
    before = processes_of(lab, "client1")
    load = QueryLoad(lab, rate=10, clients=["client1"])

    def interrupted() -> None:
        with load:
            assert processes_of(lab, "client1") > before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert processes_of(lab, "client1") <= before
    assert load.result.sent > 0


def test_a_load_whose_owner_is_killed_leaves_nothing_behind(lab: Lab) -> None:
    before = processes_of(lab, "client1")
    script = (
        "import sys, time; from anyconsole.lab import Lab; from anyconsole.lab.queries import QueryLoad\n"
        "with QueryLoad(Lab(sys.argv[1]), rate=10, clients=['client1']): print('on', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, lab.name], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"on\n"
        assert processes_of(lab, "client1") > before
        owner.kill()
    wait(lambda: processes_of(lab, "client1") <= before)


def test_a_slowed_router_learns_nothing_and_then_goes_on(lab: Lab) -> None:
    def standing_still() -> bool:
        pid = next(row.pid for row in control.daemons(lab.paths, "transit2") if row.name == "bird")
        return lab.run("transit2", ["cat", f"/proc/{pid}/stat"]).stdout.rpartition(")")[2].split()[0] == "T"

    with slowed(lab, "transit2", 0.4):
        assert standing_still()
    assert not standing_still()
    states = readiness.session_states(lab.paths, "transit2")
    assert set(states.values()) == {"Established"}


def test_a_host_without_routing_daemon_can_not_be_slowed(lab: Lab) -> None:
    with pytest.raises(LabError, match="client1 has no bird"), slowed(lab, "client1"):
        pass
