"""The role that only reads, on the screen: every key that would change something in a cluster names what is missing, and tries nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from anyconsole.profile import load_profile
from anyconsole.tui.actions import ACTIONS
from tests.e2e.observe import open_profile, run_profile
from tests.e2e.stacks import REAL, Stack, real_stack
from tests.kube.dead_men import DeadMen
from tests.kube.virtual import VirtualCluster
from tests.terminal import ENTER, ESCAPE, Terminal

PATIENCE = 30.0
pytestmark = pytest.mark.timeout(400 if REAL else 120)

TARGET = """
[[generator]]
name = "pods"
cluster = "k3s"
[[load.target]]
name = "nic.hv1"
node = "hv1"
tenant = "nic"
addresses = ["198.18.1.9"]
class = "lab"
max_qps = 1000
max_seconds = 60
"""

KEYS = {key for action in ACTIONS if action.mutates for key in action.keys}

LOCK = "no permission for .*bob: .*create leases"
DELETE, CREATE = "not permitted: delete services in .*nic", "not permitted: create namespaces"

GUARDS = """
[poll]
dns = 1
[guards]
min_nodes = 1
hold = 20
settle = 0.5
"""

TITLES = {"1": "Fleet", "2": "Tenants", "3": "BGP", "4": "Health", "4m": "Pods"}

ROWS = {
    ("1", "hv1"): {"S": CREATE, "L": LOCK},
    ("2", "nic.example"): {"T": DELETE},
    ("2", "de.example"): {"S": CREATE},
    ("4", "hv1 nic"): {"L": LOCK},
    ("4m", "nic ns-nsd"): {"T": DELETE},
}
"""What is said to each key on a row: (pane, filter) -> key -> words."""

DRAINED = {
    ("1", "hv2"): {"D": LOCK, "U": LOCK},
    ("3", "hv2 SESSION"): {"D": LOCK, "U": LOCK},
}
"""The same, once a tenant is drained on hv2: without that there is nothing to put back."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Two of three tenants are set up, so that there is something to set up and to tear down."""
    if REAL:
        with real_stack(tmp_path) as real:
            if not real.has_sessions:
                pytest.skip("a real cluster needs a BGPPeer of Calico's for all nodes")
            real.profile.write_text(real.profile.read_text() + GUARDS)
            words = ("setup", "--tenant", "nic", "--tenant", "enum", "--reason", "a test", "--yes")
            done = run_profile(real.profile, tmp_path, *words, timeout=200)
            assert done.returncode == 0, done.stdout + done.stderr
            yield real
        return
    with VirtualCluster() as made:
        profile = made.profile(tmp_path / "virtual.toml", more=GUARDS)
        inventory = load_profile(str(profile))
        made.make_roles(inventory)
        made.serve(inventory, ("nic", "enum"))
        DeadMen(made, tmp_path)
        yield Stack(profile, made.kubeconfig, made)


@pytest.fixture
def console(stack: Stack, tmp_path: Path) -> Iterator[Terminal]:
    """The console of bob, who may only read; it is armed."""
    folder = tmp_path / "console"
    folder.mkdir()
    reader = stack.user("bob", "anyconsole-reader")
    profile = folder / "virtual.toml"
    profile.write_text(stack.profile.read_text().replace(str(stack.kubeconfig), str(reader)) + TARGET)
    with open_profile(profile, folder) as terminal:
        terminal.wait_for(r"nic .*no permission to create pods/exec", PATIENCE)
        strike(terminal, ":arm 10m" + ENTER)
        terminal.wait_for("ARMED", PATIENCE)
        yield terminal


def strike(console: Terminal, keys: str) -> None:
    for key in keys:
        console.send(key)
        time.sleep(0.05)


def says(console: Terminal, words: str) -> bool:
    """Whether a dialog says it, however it is broken into lines."""
    told = " ".join(console.text().replace("│", " ").split())
    return re.search(words, told) is not None


def told(console: Terminal, rows: dict[tuple[str, str], dict[str, str]]) -> None:
    """Strike the keys on these rows, one after the other, and read what is said."""
    for (pane, wanted), keys in rows.items():
        strike(console, pane)
        console.wait_for(rf"^ {TITLES[pane]}\[", PATIENCE)
        strike(console, "/" + wanted + ENTER)
        console.wait_for(rf"^ {TITLES[pane]}\[.*</{re.escape(wanted)}>", PATIENCE)
        for key, words in keys.items():
            console.send(key)
            console.wait_until(partial(says, console, words), PATIENCE, f"{key} on {wanted} in pane {pane}: {words}")
            console.send(ESCAPE)
            console.wait_gone("Cancel", PATIENCE)
        console.send(ESCAPE)
        console.wait_gone("</", PATIENCE)


def test_every_key_that_changes_something_names_what_is_missing_and_tries_nothing(
    stack: Stack, console: Terminal, tmp_path: Path
) -> None:
    # That `de` is intended there and isn't set up keeps nobody from draining another tenant.
    scope = ("--node", "hv2", "--tenant", "nic", "--hard", "--reason", "a test", "--yes")
    unmeasured = ("--override", "capacity=nobody measured it")
    session = stack.inventory.node("hv2").speakers[0].sessions[0].name
    with ThreadPoolExecutor() as beside:
        draining = beside.submit(run_profile, stack.profile, tmp_path, "drain", *scope, *unmeasured, timeout=90)
        told(console, ROWS)
        drained = draining.result()
    assert drained.returncode == 0, drained.stdout + drained.stderr
    told(console, {(pane, row.replace("SESSION", session)): keys for (pane, row), keys in DRAINED.items()})
    assert {key for rows in (ROWS, DRAINED) for keys in rows.values() for key in keys} == KEYS
    assert stack.ask("GET", f"/api/v1/namespaces/{stack.namespace('de')}")["code"] == 404
    if stack.fake is not None:
        tried = [path for user, method, path in stack.fake.server.requests if user == "bob" and method != "GET"]
        harmless = ("selfsubject", "caliconodestatuses", "dryRun=All")
        assert not [path for path in tried if not any(word in path for word in harmless)]
    undrained = run_profile(stack.profile, tmp_path, "undrain", *scope[:2], *scope[5:], timeout=90)
    assert undrained.returncode == 0, undrained.stdout + undrained.stderr
