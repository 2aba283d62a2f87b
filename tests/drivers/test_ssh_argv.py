"""Command lines: what reaches `ssh`, and what must never reach it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.drivers.ssh.argv import Hop, HopError, jump_chain, resolve_argv, shell_argv
from anyconsole.model.inventory import ClusterSpec, Inventory, NodeSpec, SshSpec, Vantage


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("fra1", Hop(host="fra1")),
        ("ops@fra1", Hop(host="fra1", user="ops")),
        ("ops@fra1:2222", Hop(host="fra1", user="ops", port=2222)),
        ("fra1:22", Hop(host="fra1", port=22)),
        ("[2001:db8::1]:2222", Hop(host="2001:db8::1", port=2222)),
        ("ops@[2001:db8::1]", Hop(host="2001:db8::1", user="ops")),
        ("2001:db8::1", Hop(host="2001:db8::1")),
        ("ssh://ops@fra1:2222", Hop(host="fra1", user="ops", port=2222)),
        ("ad.user@corp@fra1", Hop(host="fra1", user="ad.user@corp")),
    ],
)
def test_a_host_is_read_as_openssh_writes_it(text: str, hop: Hop) -> None:
    assert Hop.parse(text) == hop
    assert Hop.parse(str(hop)) == hop


@pytest.mark.parametrize(
    "text",
    ["-oProxyCommand=x", "", "ops@-fra1", "a b", "fra1;reboot", "$(id)", "`id`", "fra1:0", "fra1:99999", "fra1:x", "[::1",
     "[::1]x", "-l@fra1", "a|b", "fra1\n", "a\x00b", "fra1:²", "'fra1'"],
)  # fmt: skip
def test_a_host_that_a_shell_or_ssh_could_misread_is_refused(text: str) -> None:
    with pytest.raises(HopError):
        Hop.parse(text)


@given(st.text(max_size=40))
def test_no_text_at_all_becomes_an_option(text: str) -> None:
    try:
        hop = Hop.parse(text)
    except HopError:
        return
    argv = resolve_argv(SshSpec(), hop)
    assert argv[-2] == "--"
    assert not any(c.isspace() for c in hop.host + hop.user)
    assert not hop.user.startswith("-")


def inventory(ssh: SshSpec, **node: object) -> Inventory:
    return Inventory(
        name="t",
        ssh=ssh,
        nodes=(NodeSpec(name="fra1", site="s", address="fra1.example", **node),),  # type: ignore[arg-type]
        vantages=(Vantage(name="c1", address="c1.example", user="probe"),),
    )


def test_an_empty_profile_leaves_everything_to_the_users_own_configuration() -> None:
    assert shell_argv(inventory(SshSpec()), "fra1") == ["ssh", "-o", "ForwardAgent=no", "--", "fra1.example"]


def test_the_shell_takes_config_user_and_jump_chain_of_the_profile() -> None:
    ssh = SshSpec(config_file="/etc/lab/ssh_config", user="ops", jump=("edge", "ops2@jump:2222"))
    assert shell_argv(inventory(ssh), "fra1") == [
        "ssh", "-F", "/etc/lab/ssh_config", "-o", "ForwardAgent=no", "-J", "ops@edge,ops2@jump:2222", "-l", "ops", "--", "fra1.example",
    ]  # fmt: skip
    assert shell_argv(inventory(ssh), "c1")[-4:] == ["-l", "probe", "--", "c1.example"]


def test_the_jumps_own_ssh_gets_known_hosts_and_keys_too() -> None:
    ssh = SshSpec(known_hosts=("/k h",), identity_files=("/id",), jump=("edge", "jump"))
    argv = shell_argv(inventory(ssh), "fra1")
    proxy = next(a for a in argv if a.startswith("ProxyCommand="))
    assert "-J" not in argv
    assert proxy.count("UserKnownHostsFile") == 2
    assert proxy.count("IdentityFile=/id") == 2
    assert 'UserKnownHostsFile="/k h"' in argv


def test_a_node_can_forbid_the_jump_or_name_its_own() -> None:
    ssh = SshSpec(jump=("jump",))
    direct = inventory(ssh, jump=())
    assert "ProxyJump=none" in shell_argv(direct, "fra1")
    assert jump_chain(ssh, direct.nodes[0]) == ()
    assert shell_argv(inventory(ssh, jump=("other",)), "fra1")[-4:-2] == ["-J", "other"]
    assert jump_chain(SshSpec(), NodeSpec(name="a", site="s", address="a")) is None


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(HopError, match="nowhere"):
        shell_argv(inventory(SshSpec()), "nowhere")


def test_there_is_no_shell_over_ssh_on_what_is_in_a_cluster() -> None:
    node = NodeSpec(name="hv1", site="s", address="worker-1", cluster="k3s")
    fleet = Inventory(name="t", clusters=(ClusterSpec(name="k3s"),), nodes=(node,))
    with pytest.raises(HopError, match="node 'hv1' is in cluster 'k3s': there is no SSH to it"):
        shell_argv(fleet, "hv1")
    with pytest.raises(HopError, match="'k3s' is a cluster: there is no SSH to it"):
        shell_argv(fleet, "k3s")


def test_the_command_line_needs_no_asyncssh() -> None:
    code = "import sys, anyconsole.drivers.ssh.argv; sys.exit('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
