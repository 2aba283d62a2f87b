"""Load tests with kxdpgun, end to end: from a dedicated generator, under the same plan and into the same record as ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anyconsole.lab import Lab
from tests.e2e.loads import IN_SERVICE, load_test, records_of

pytestmark = [pytest.mark.lab, pytest.mark.measures, pytest.mark.timeout(120)]

HOST = "client3"


def sh(lab: Lab, script: str) -> str:
    done = lab.run(HOST, ["sh", "-ec", script], 10)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def root_may_log_in(lab: Lab) -> Iterator[None]:
    """Taking an interface from the kernel needs root, which the lab's hosts let nobody be from afar."""
    reload = "kill -HUP $(cat /run/sshd.pid)"
    sh(
        lab,
        "cp /etc/ssh/sshd_config /tmp/sshd_config; mkdir -p -m 700 /root/.ssh; cp /home/ops/.ssh/authorized_keys /root/.ssh/; "
        "sed -e 's/^PermitRootLogin.*/PermitRootLogin prohibit-password/' -e 's/^AllowUsers.*/& root/' /tmp/sshd_config "
        f"> /etc/ssh/sshd_config; {reload}",
    )
    try:
        yield
    finally:
        sh(lab, f"cat /tmp/sshd_config > /etc/ssh/sshd_config; rm -r /root/.ssh; {reload}")


def test_a_dedicated_generator_measures_with_kxdpgun_and_has_its_interface_back(lab: Lab, tmp_path: Path) -> None:
    interface = json.loads(sh(lab, "ip -j route show default"))[0]["dev"]
    profile = tmp_path / "dedicated.toml"
    profile.write_text(f"""\
include = "{lab.profile_path}"
[[generator]]
name = "gen3"
address = "{HOST}"
user = "root"
engine = "kxdpgun"
max_qps = 60000
dedicated = true
interface = "{interface}"
""")
    fixed = ("--purpose", "fixed", "--rate", "3000", "--seconds", "2")
    with root_may_log_in(lab):
        load_test(lab, tmp_path / "state", "de.ams1", *fixed, *IN_SERVICE, profile=str(profile))
        assert " xdp" not in sh(lab, f"ip -o link show dev {interface}")
    (record,) = records_of(tmp_path / "state")
    assert (record.header.generator, record.header.timeout) == ("kxdpgun", 1)
    (trial,) = record.trials
    assert trial.why == ""
    assert trial.sent == pytest.approx(6000, rel=0.01)
    assert trial.ok > 0.9 * trial.sent
    assert (trial.late, trial.tc, trial.p99) == (None, None, None), "what it doesn't tell isn't known"
    (row,) = record.seconds
    assert row.queries == trial.sent
