"""One fleet of processes on SSH nodes and pods in a cluster: both kinds in every pane, and one that is lost costs the other nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from anyconsole.actions.journal import journal_of
from anyconsole.actions.load.files import RunFile, runs_folder
from anyconsole.actions.load.record import Result
from anyconsole.lab import Lab
from anyconsole.model.inventory import Inventory
from anyconsole.profile import load_profile
from tests.actions.journalled import ended, run, step
from tests.actions.load_runs import header
from tests.e2e.observe import open_profile, run_profile
from tests.kube.apiserver.server import Fault
from tests.kube.virtual import KUBE, PEERS, VirtualCluster
from tests.terminal import ENTER, Terminal

pytestmark = pytest.mark.lab

TENANTS = ("de", "nic", "enum")
LAB, CLUSTER = ("fra1", "fra2", "ams1", "lon1", "sin1"), ("hv1", "hv2")
PATIENCE = 30.0
QUICK = 5.0
"""Seconds that the answer to a key may take on a machine that is busy with other tests."""


class Hybrid(NamedTuple):
    """The fleet, and the console that watches it all the while."""

    cluster: VirtualCluster
    profile: Path
    state: Path
    console: Terminal

    def show(self, view: str) -> list[dict[str, Any]]:
        """The rows of a view, from the command line."""
        said = run_profile(self.profile, self.state, "show", view, "--output", "json", timeout=60)
        assert said.returncode == 0, said.stderr
        rows: list[dict[str, Any]] = json.loads(said.stdout)["rows"]
        return rows

    def go(self, keys: str) -> None:
        """Strike keys, a pane's first."""
        for key in keys:
            self.console.send(key)
            time.sleep(0.05)

    def sees(self, keys: str, *patterns: str) -> None:
        """In the pane that keys lead to, each pattern begins a row."""
        self.go(keys)
        for pattern in patterns:
            self.console.wait_for(rf"^\W*{pattern}", PATIENCE)


@pytest.fixture(scope="module")
def hybrid(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hybrid]:
    state = tmp_path_factory.mktemp("state")
    with VirtualCluster() as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        profile = cluster.profile(state / "hybrid.toml", lab=lab)
        inventory = load_profile(str(profile))
        cluster.make_roles(inventory)
        cluster.serve(inventory)
        _on_record(inventory)
        with open_profile(profile, state) as console:
            yield Hybrid(cluster, profile, state, console)


def _on_record(inventory: Inventory) -> None:
    """A load test of an instance of each kind, and a change of a node of each."""
    for kind, node in (("bare", "fra1"), ("virtual", "hv1")):
        with RunFile.create(runs_folder(inventory), header(f"t-{node}", kind=kind, node=node)) as record:
            record.end(Result(verdict="ok", lower_qps=20_000))
    begun = run(steps=(step("fra1"), step("hv1")))
    plan = msgspec.structs.replace(begun.plan, title="drain soft: nodes fra1, hv1")
    change = journal_of(inventory).open_change(msgspec.structs.replace(begun, plan=plan))
    change.close(ended(msgspec.structs.replace(begun, id=change.id, plan=plan)))


def test_both_kinds_are_side_by_side_in_every_pane(hybrid: Hybrid, breakable_lab: Lab) -> None:
    stacks = [
        *zip(LAB, ("bird", "bird", "bird", "frr", "bird"), strict=True),
        *((n, r"k3s calico\+nsd") for n in CLUSTER),
    ]
    hybrid.sees("1", *(rf"{node} +\S+ +● SERVING +\d\S* +4/4 +3/3 +12/12 .* {stack}" for node, stack in stacks))
    hybrid.sees("2", *(rf"{tenant} +● SERVING +\d+ +7/7 +7/7 +5/2 " for tenant in TENANTS))
    hybrid.sees(ENTER, r"fra1 +de +● SERVING +nsd 4\.6", r"hv1 +de +● SERVING +nsd 4\.12")
    hybrid.sees("3m", r"\w+ +de +192")
    hybrid.sees("/192.0.2.0" + ENTER, r"fra1 +de +192\.0\.2\.0/24 .*announced +yes", r"hv2 +de .*announced +yes")
    hybrid.sees("4", r"ams1 +enum +● SERVING +knot .* inside ", r"hv2 +enum +● SERVING .* pod .* ready +ready")
    hybrid.sees("4m", *(rf"{tenant} +ns-nsd-.* 2/2 ● Running" for tenant in TENANTS))
    hybrid.sees("5", r"fra1 +de .* probe +\d", r"hv1 +de .* 100 .* prometheus +\d")
    hybrid.sees("6", r".* de@fra1 +● ok", r".* de@hv1 +● ok")
    hybrid.sees("8", r".* done +drain soft: nodes fra1, hv1")

    breakable_lab.break_("session", "ams1", "ix1_v4")
    hybrid.cluster.set_session("node-1", PEERS["ix1"][1], is_up=False)
    try:
        hybrid.sees(
            "3", r"ams1 +ix1_v4 .* ▲ Admin down", r"hv1 +ix1 198\.18\.20\.1 .* ✖ Active", r"fra1 .*v4 +● Established"
        )
        hybrid.sees(
            "7", r".* session +ams1 bird ix1_v4 +Established", r".* session +hv1 calico 198\.18\.20\.1 +Established"
        )
    finally:
        hybrid.cluster.set_session("node-1", PEERS["ix1"][1], is_up=True)


def stale(words: str) -> list[str]:
    """The rows of nodes in a cluster that is lost, for this reason."""
    counts = r"- +\?/4 +\?/3 +\?/12 .* \d+s k3s calico\+nsd"
    return [rf"{node} +ber +. STALE +{counts} .*({words})" for node in CLUSTER]


ALIVE = [rf"{node} .* 4/4 +3/3 +12/12 .* [0-2]s (bird|frr)" for node in LAB]
BACK = [rf"{node} .* SERVING .* 4/4 +3/3 +12/12 .* [0-2]s k3s" for node in CLUSTER]


def test_a_lost_api_server_makes_its_rows_stale_and_leaves_the_rest_alive(hybrid: Hybrid) -> None:
    hybrid.sees("1", *ALIVE, *BACK)
    hybrid.cluster.stop()
    try:
        with ThreadPoolExecutor() as beside:
            showing = beside.submit(hybrid.show, "fleet")
            checking = beside.submit(run_profile, hybrid.profile, hybrid.state, "check", timeout=60)
            hybrid.sees("", *stale("connection refused"), *ALIVE)
            for keys, title, row in (
                ("4", "Health", r"hv1 +de +. STALE .* no evidence for \d+ s"),
                ("4m", "Pods", r"de +ns-nsd-.* \?/2 . STALE .* was Running \d+s ago"),
                ("5", "Queries per second", r"hv1 +de +- .* none +\d+s"),
                ("3", "BGP", r"hv1 +ix1 .* . STALE .* was Established \d+s ago"),
                ("2", "Tenants", r"de +. DEGRADED .* 5/7 +5/7 +4/2 .* hv1 STALE"),
                ("7", "Events", r".* cluster +k3s +live +. backoff"),
            ):
                struck = time.monotonic()
                hybrid.go(keys)
                hybrid.console.wait_for(rf"^ {title}\[", PATIENCE)
                assert time.monotonic() - struck < QUICK, "keys answer"
                hybrid.console.wait_for(rf"^\W*{row}", PATIENCE)
            rows = {row["node"]: row for row in showing.result()}
            checked = checking.result()
    finally:
        hybrid.cluster.start()
    assert {rows[node]["status"] for node in CLUSTER} == {"STALE"}
    assert all("connection refused" in rows[node]["reason"] for node in CLUSTER)
    assert {rows[node]["announced"] for node in LAB} == {12}
    assert {rows[node]["announced"] for node in CLUSTER} == {None}
    assert checked.returncode == 1, checked.stdout
    assert "hv1 STALE: k3s: https" in checked.stdout
    assert "nodes_ok=5;;;0;7" in checked.stdout
    hybrid.sees("1", *BACK)


def refuse(cluster: VirtualCluster) -> None:
    """Answer everything with an error, as a server does that has lost its storage; what is being watched falls silent."""
    cluster.fail(Fault(500, "InternalError", "etcdserver: request timed out", times=1_000_000))
    for node in KUBE.values():
        cluster.hang_calico(node)


def obey(cluster: VirtualCluster) -> None:
    """Answer again."""
    cluster.call(cluster.server.faults.clear)
    for node in KUBE.values():
        cluster.hang_calico(node, is_hung=False)


@pytest.mark.parametrize(
    ("lose", "words", "mend"),
    [
        (VirtualCluster.freeze, "nothing heard for [0-9]+ s|no answer in time", VirtualCluster.thaw),
        (refuse, r"etcdserver: request timed out \(500\)", obey),
    ],
    ids=["hangs", "answers 500"],
)
def test_an_api_server_that_is_there_and_of_no_use_is_lost_too(
    hybrid: Hybrid, lose: Callable[[VirtualCluster], None], words: str, mend: Callable[[VirtualCluster], None]
) -> None:
    hybrid.sees("1", *ALIVE, *BACK)
    lose(hybrid.cluster)
    try:
        hybrid.sees("", *stale(words), *ALIVE)
        hybrid.sees("4", r"fra1 +de +● SERVING", r"hv1 +de +. STALE .* no evidence for \d+ s")
    finally:
        mend(hybrid.cluster)
    hybrid.sees("1", *BACK)
