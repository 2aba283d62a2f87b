"""A GoBGP node is drained and put back with queries all the while.

Its peers are the witnesses: GoBGP 3.10 may call a route gone that they still have. In a lab of its own, where sin1 runs gobgpd. client3 is
served by sin1, client1 by another node and through another network. Every run drains a real gobgpd in tests/drivers, as its peers see it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anyconsole.drivers import gobgp
from anyconsole.lab import Lab, state
from anyconsole.lab.gobgp import API, DRAIN_FILE
from anyconsole.lab.queries import QueryLoad
from anyconsole.lab.topology import NODES, TENANTS, Tenant, sessions_of, unicast
from anyconsole.lab.uptimes import flapped, uptimes
from tests.e2e.consoles import StruckConsole
from tests.e2e.drains import change
from tests.e2e.long import LONG
from tests.e2e.observe import run_headless
from tests.e2e.struck import Boundary, Strike

pytestmark = [LONG, pytest.mark.lab, pytest.mark.timeout(300)]

NODE = "sin1"
PEERS = ("ix2", "transit2")
DE, NIC, ENUM = TENANTS
HOLD = 10
ALONE = ("--override", "regions=the only node of its region")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    built = Lab(f"g{os.getpid()}", speakers={NODE: "gobgp"})
    try:
        built.up()
        yield built
    finally:
        built.down()


@pytest.fixture
def whole(lab: Lab) -> Iterator[Lab]:
    """The lab, and whatever a test broke in it is healed."""
    yield lab
    lab.heal()
    lab.wait_until_well()


def told(lab: Lab, *words: str) -> str:
    said: str = lab.run(NODE, ["gobgp", "--target", API, *words]).stdout
    return said


def at_peers(lab: Lab, tenant: Tenant) -> dict[tuple[str, str], str]:
    """The attributes with which the tenant's prefixes have come to the peers straight from the node; what is absent isn't there."""
    found = {}
    for router in PEERS:
        for prefix, family in ((tenant.prefix4, "v4"), (tenant.prefix6, "v6")):
            said = lab.run(router, ["birdc", "show", "route", prefix, "all", "protocol", f"{NODE}_{family}"]).stdout
            if prefix in said:
                found[router, prefix] = said.partition(prefix)[2]
    return found


def wait(met: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)


def test_lab_with_a_gobgp_node_is_well_and_says_what_it_runs(lab: Lab) -> None:
    rows = {row.host: row for row in lab.status()}
    assert [row.faults for row in rows.values() if row.faults] == []
    assert rows[NODE].daemons["gobgpd"]
    assert list(rows[NODE].sessions.values()) == ["Established"] * 4
    assert {n.name: n.speaker for n in state.nodes(lab.paths)}["lon1"] == "frr"
    carried = lab.run("transit2", ["birdc", "show", "route", "protocol", f"{NODE}_v4"]).stdout
    assert set(re.findall(r"^([\d.]+/\d+) ", carried, re.MULTILINE)) == {t.prefix4 for t in TENANTS}, "no transit"


def test_drain_and_undrain_lose_no_query_and_the_peers_have_seen_it(lab: Lab, tmp_path: Path) -> None:
    up, others = uptimes(lab), at_peers(lab, ENUM)
    assert len(at_peers(lab, DE)) == 4
    assert all("(65535,0)" not in attributes for attributes in at_peers(lab, DE).values())
    scope = ("--node", NODE, "--tenant", DE.name, "--reason", "zero loss")
    with QueryLoad(lab, tenant=DE.name, rate=200, clients=("client1", "client3")) as load:
        assert load.answering()["client3", "ipv4"] == load.answering()["client3", "ipv6"] == {NODE}
        drained = change(lab, tmp_path, "drain", *scope, "--ticket", "CHG7", "--for", "2h", *ALONE)
        assert at_peers(lab, DE) == {}
        assert at_peers(lab, ENUM).keys() == others.keys()
        told_elsewhere = run_headless(lab, tmp_path / "second", "drains", "--output", "json")
        undrained = change(lab, tmp_path, "undrain", *scope)
        load.wait_until(lambda now: now.answering()["client3", "ipv6"] == {NODE}, 10, "client3 back at the node")
    assert load.result.lost == 0, str(load.result)
    assert load.result.failed == 0, str(load.result)
    assert flapped(up, uptimes(lab)) == []
    assert len(at_peers(lab, DE)) == 4
    assert [d["run"]["outcome"] for d in (drained, undrained)] == ["done", "done"]
    for step in (s for d in (drained, undrained) for s in d["run"]["steps"]):
        assert {p["layer"] for p in step["proofs"] if p["required"] and p["met"]} >= {"daemon", "peers"}, step
    (row,) = json.loads(told_elsewhere.stdout)["rows"]
    assert (row["node"], row["ticket"]) == (NODE, "CHG7")
    assert DE.name in row["scope"]


def test_node_takes_back_by_itself_what_a_killed_console_left_unconfirmed(lab: Lab, tmp_path: Path) -> None:
    profile = tmp_path / "short.toml"
    text = lab.profile_path.read_text()
    profile.write_text(re.sub(r"\[guards\]\n(.+\n)+", f"[guards]\nhold = {HOLD}\nsettle = 1\npatience = 8\n", text))
    argv = ["headless", "--profile", str(profile), "drain", "--node", NODE, "--tenant", NIC.name, "--reason", "killed"]
    argv += ["--yes", "--output", "json", *ALONE, "--residual", "go"]
    up = uptimes(lab)
    with (
        pytest.MonkeyPatch.context() as environment,
        QueryLoad(lab, tenant=NIC.name, clients=("client1", "client3")) as load,
    ):
        environment.setenv("XDG_STATE_HOME", str(tmp_path))
        console = StruckConsole(argv, Boundary("after", "applied", 1), Strike.KILL)
        assert console.wait() == -signal.SIGKILL, console.last_words
        assert _is_unconfirmed(lab), "it died too late"
        wait(lambda: not _is_unconfirmed(lab), HOLD + 10, "the node to take it back")
        shown = run_headless(lab, tmp_path, "journal", "show", "--open").stdout
        wait(lambda: len(_soft(lab, NIC)) == 4, 5, "the peers to have it as softly drained as was confirmed")
        change(lab, tmp_path, "undrain", "--node", NODE, "--tenant", NIC.name, "--reason", "as it was")
        wait(lambda: len(at_peers(lab, NIC)) == 4 and not _soft(lab, NIC), 5, "the peers to have it as before")
    assert "killed" in shown
    assert load.result.lost == 0, str(load.result)
    assert flapped(up, uptimes(lab)) == []


def _is_unconfirmed(lab: Lab) -> bool:
    mark = gobgp.drain_mark(gobgp.parse_prefix_sets(told(lab, "-j", "policy", "prefix").encode()))
    return mark is not None and mark.until > 0


def _soft(lab: Lab, tenant: Tenant) -> list[str]:
    return [attributes for attributes in at_peers(lab, tenant).values() if "(65535,0)" in attributes]


def test_restarted_daemon_keeps_the_drain_that_its_start_up_loads_and_serves_without(
    whole: Lab, tmp_path: Path
) -> None:
    lab = whole
    change(lab, tmp_path, "drain", "--node", NODE, "--tenant", ENUM.name, "--hard", "--reason", "kept", *ALONE)
    for kept in (True, False):
        lab.break_("speaker", NODE)
        wait(lambda: not at_peers(lab, DE), 5, "the peers to lose the node")
        if not kept:
            assert lab.run(NODE, ["rm", DRAIN_FILE]).returncode == 0
        lab.heal()
        wait(lambda: len(at_peers(lab, DE)) == 4, 15, "the node to be back")
        wait(lambda: ENUM.prefix6 in told(lab, "global", "rib", "-a", "ipv6"), 5, "all prefixes to be there")
        assert len(at_peers(lab, ENUM)) == (0 if kept else 4)


def test_cut_link_and_a_session_that_is_shut_leave_the_other_way_out(whole: Lab) -> None:
    lab = whole
    ask = ["kdig", f"@{unicast(NODES[-1], DE)[1]}", "+short", "+time=2", "+retry=0", "CH", "TXT", "id.server"]
    lab.break_("link", NODE, "ix2")
    lab.break_(
        "session", NODE, next(s.name for s in sessions_of(state.nodes(lab.paths)[-1]) if s.peer.name == "transit")
    )
    wait(lambda: at_peers(lab, DE).keys() == {("transit2", DE.prefix6)}, 5, "one way to be left")
    assert lab.run("client1", ask).stdout.strip() == f'"{DE.name}.{NODE}"'
