"""`anyconsole lab` on the command line: what it prints where, and what it ends with."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import pytest

from anyconsole.errors import LabError
from anyconsole.lab import Lab, command, requirements
from anyconsole.lab.faults import _KINDS
from anyconsole.lab.kinds import ALIASES, KINDS
from anyconsole.lab.topology import HOSTS


def lab_command(*argv: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "anyconsole.lab", *argv]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def test_every_kind_of_break_is_explained_and_can_be_done() -> None:
    assert set(_KINDS) == set(KINDS)
    assert set(ALIASES.values()) <= set(KINDS)


def test_the_sub_command_fits_into_the_consoles_own_command_line() -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(dest="command"))
    args = parser.parse_args(["lab", "break", "nameserver", "fra1", "de", "--name", "x"])
    assert (args.command, args.verb, args.kind, args.host, args.argument, args.name) == (
        "lab",
        "break",
        "nameserver",
        "fra1",
        "de",
        "x",
    )
    args = parser.parse_args(["lab", "limit", "fra1", "off", "--tenant", "de"])
    assert (args.verb, args.host, args.rate, args.tenant) == ("limit", "fra1", "off", "de")
    assert parser.parse_args(["lab", "shell", "fra1", "--", "ls", "-l"]).argv == ["ls", "-l"]


def test_reading_the_command_line_loads_no_netlink() -> None:
    program = "import sys, anyconsole.lab.command; sys.exit('pyroute2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_root_every_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    lab = Lab("absent")
    for call in (lab.up, lab.down, lab.status, lab.heal):
        with pytest.raises(LabError, match="only root"):
            call()


def test_an_error_is_one_line_on_stderr_and_exit_code_2() -> None:
    if reason := requirements.unmet():
        pytest.skip(reason)
    done = lab_command("status", "--name", "absent")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no lab 'absent'")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.lab
def test_up_on_a_lab_that_is_up_prints_its_profile_again(lab: Lab) -> None:
    done = lab_command("up", "--name", lab.name)
    assert (done.returncode, done.stdout.strip()) == (0, str(lab.profile_path))
    assert "up already" in done.stderr
    other = lab_command("up", "--name", lab.name, "--speaker", "sin1=gobgp")
    assert other.returncode == 2
    assert "sin1 runs bird in it" in other.stderr
    assert "give NODE=KIND" in lab_command("up", "--name", lab.name, "--speaker", "gobgp").stderr


@pytest.mark.lab
def test_status_is_a_table_for_people_and_json_for_programs(breakable_lab: Lab) -> None:
    lab = breakable_lab
    table = lab_command("status", "--name", lab.name)
    assert table.returncode == 0
    assert [line.split()[0] for line in table.stdout.splitlines()[1:]] == list(HOSTS)
    assert all(line.endswith("none") for line in table.stdout.splitlines()[1:])
    assert lab_command("break", "speaker", "fra2", "--name", lab.name).stderr == "broken: speaker fra2 bird\n"
    broken = lab_command("status", "--name", lab.name, "--output", "json")
    assert broken.returncode == 1
    rows = {row["host"]: row for row in json.loads(broken.stdout)["hosts"]}
    assert rows["fra2"]["daemons"]["bird"] is False
    assert rows["fra2"]["faults"]
    assert rows["ams1"]["faults"] == []
    assert lab_command("heal", "--name", lab.name).stderr == "healed: speaker fra2 bird\n"


@pytest.mark.lab
def test_shell_runs_inside_the_host(lab: Lab) -> None:
    done = lab_command(
        "shell", "--name", lab.name, "lon1", "--", "sh", "-c", "hostname; pwd; ls /etc/frr; cat /proc/1/comm; exit 7"
    )
    assert done.returncode == 7
    assert done.stdout.split() == ["lon1", "/", "frr.conf", "vtysh.conf", "python3"]
    assert lab_command("shell", "--name", lab.name, "mars").stderr.startswith(
        "error: 'mars' is no host of the lab: jump, fra1"
    )


@pytest.mark.lab
def test_a_limit_is_set_and_taken_away(lab: Lab) -> None:
    limited = lab_command("limit", "fra2", "500", "--tenant", "nic", "--name", lab.name)
    rules = lab.run("fra2", ["nft", "list", "tables"]).stdout
    assert lab_command("limit", "fra2", "off", "--name", lab.name).returncode == 0
    assert limited.stderr == "limited: fra2 nic to 500 queries/s\n"
    assert rules == "table inet limit_nic\n"
    assert lab.run("fra2", ["nft", "list", "tables"]).stdout == ""
    assert "give queries a second, or off" in lab_command("limit", "fra2", "5k", "--name", lab.name).stderr
