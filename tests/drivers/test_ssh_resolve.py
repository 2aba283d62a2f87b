"""Endpoints are what the user's own OpenSSH would do."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest

from anyconsole.drivers.ssh.argv import Hop
from anyconsole.drivers.ssh.fault import Fault, SshError
from anyconsole.drivers.ssh.resolve import (
    FAILURE_KEPT,
    Endpoint,
    Resolver,
    config_files,
    endpoint_from,
    parse_answer,
    stamp_of,
)
from anyconsole.model.inventory import NodeSpec, SshSpec


def node(address: str, **more: object) -> NodeSpec:
    return NodeSpec(name="n", site="s", address=address, **more)  # type: ignore[arg-type]


def resolve(config: Path, text: str, address: str, **ssh: object) -> Awaitable[Endpoint]:
    config.write_text(text)
    return Resolver(SshSpec(config_file=str(config), **ssh)).resolve(node(address))  # type: ignore[arg-type]


async def test_host_name_port_user_alias_and_files_come_from_ssh_config(tmp_path: Path) -> None:
    endpoint = await resolve(
        tmp_path / "config",
        """Host fra1
  HostName 192.0.2.1
  Port 2222
  User ops
  HostKeyAlias fra1.example
  IdentityFile ~/.ssh/fleet
  IdentityFile %d/.ssh/%r-key
  CertificateFile ~/.ssh/fleet-cert.pub
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile /x/kh1 /x/kh2
  GlobalKnownHostsFile none
  AddressFamily inet
  ForwardAgent yes
""",
        "fra1",
    )
    home = str(Path.home())
    assert (endpoint.name, endpoint.host, endpoint.port, endpoint.user) == ("fra1", "192.0.2.1", 2222, "ops")
    assert endpoint.alias == endpoint.key_name == "fra1.example"
    assert endpoint.identity_files == (f"{home}/.ssh/fleet", f"{home}/.ssh/ops-key")
    assert endpoint.certificate_files == (f"{home}/.ssh/fleet-cert.pub",)
    assert endpoint.identities_only
    assert endpoint.agent == ""
    assert endpoint.known_hosts == ("/x/kh1", "/x/kh2")
    assert endpoint.family == socket.AF_INET
    assert endpoint.via == ()


async def test_the_profile_overrides_ssh_config(tmp_path: Path) -> None:
    text = "Host fra1\n  User nobody\n  UserKnownHostsFile /x/mine\n  ProxyJump wrong\nHost jump\n  Port 2022\n"
    endpoint = await resolve(
        tmp_path / "config",
        text,
        "fra1",
        user="ops",
        known_hosts=("/x/a b", "/x/c"),
        identity_files=("/x/id",),
        jump=("jump",),
    )
    assert endpoint.user == "ops"
    assert endpoint.known_hosts[:1] != ("/x/mine",)
    assert "/x/c" in endpoint.known_hosts
    assert endpoint.identity_files == ("/x/id",)
    assert [(hop.host, hop.port, hop.user) for hop in endpoint.via] == [("jump", 2022, "ops")]


async def test_a_known_hosts_name_with_spaces_stays_whole(tmp_path: Path) -> None:
    spaced = tmp_path / "known hosts"
    spaced.write_text("")
    endpoint = await resolve(tmp_path / "config", "", "fra1", known_hosts=(str(spaced), "/x/other"))
    assert endpoint.known_hosts[:2] == (str(spaced), "/x/other")


async def test_jump_chains_of_ssh_config_nest_as_in_openssh(tmp_path: Path) -> None:
    text = """Host fra1
  ProxyJump ops@mid:2022,last
Host mid
  ProxyJump outer
Host last
  ProxyJump ignored-because-the-chain-says-mid
"""
    endpoint = await resolve(tmp_path / "config", text, "fra1")
    assert [hop.name for hop in endpoint.via] == ["outer", "mid", "last"]
    assert endpoint.via[1].user == "ops"
    assert endpoint.via[1].port == 2022
    assert [hop.name for hop in endpoint.via[2].via] == ["outer", "mid"]


async def test_proxyjump_none_and_an_empty_chain_in_the_profile_mean_direct(tmp_path: Path) -> None:
    endpoint = await resolve(tmp_path / "config", "Host fra1\n  ProxyJump none\nHost *\n  ProxyJump jump\n", "fra1")
    assert endpoint.via == ()
    resolver = Resolver(SshSpec(config_file=str(tmp_path / "config"), jump=("jump",)))
    assert (await resolver.resolve(node("other", jump=()))).via == ()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("Host *\n  ProxyJump jump\n", "jumphost loop"),
        ("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\nHost fra1\n  ProxyJump a\n", "more than 8 jump hosts"),
    ],
)
async def test_jumps_in_a_circle_are_an_error_not_a_hang(tmp_path: Path, config: str, said: str) -> None:
    with pytest.raises(SshError, match=said):
        await resolve(tmp_path / "config", config, "fra1")


async def test_a_broken_configuration_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(SshError, match=r"config.*line 2.*Bad configuration option.*correct the ssh configuration"):
        await resolve(tmp_path / "config", "Host fra1\n  Frobnicate yes\n", "fra1")


@pytest.mark.parametrize("address", ["-oProxyCommand=touch /x/x", "fra1;id", "ops@-x"])
async def test_a_host_that_looks_like_an_option_never_reaches_ssh(address: str) -> None:
    async def run(argv: Sequence[str]) -> str:
        raise AssertionError(argv)

    with pytest.raises(SshError, match="not allowed"):
        await Resolver(SshSpec(), run).resolve(node(address))


async def test_a_host_name_of_the_configuration_is_checked_too() -> None:
    async def run(_: Sequence[str]) -> str:
        return "hostname -oProxyCommand=x\nuser a\nport 22\n"

    with pytest.raises(SshError, match="not allowed"):
        await Resolver(SshSpec(), run).resolve(node("fra1"))


async def test_ssh_is_asked_once_per_host_until_a_configuration_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("Include conf.d/*\n")
    asked = 0

    async def run(_: Sequence[str]) -> str:
        nonlocal asked
        asked += 1
        return f"hostname 192.0.2.{asked}\nuser a\nport 22\n"

    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    resolver = Resolver(SshSpec(config_file=str(config)), run)
    both = await asyncio.gather(resolver.resolve(node("fra1")), resolver.resolve(node("fra1")))
    assert asked == 1
    assert both[0] == both[1]
    now += 5
    assert (await resolver.resolve(node("fra1"))).host == "192.0.2.1"
    config.write_text("Include conf.d/*\nPort 2022\n")
    now += 5
    assert (await resolver.resolve(node("fra1"))).host == "192.0.2.2"


async def test_a_failure_is_remembered_but_not_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    async def run(_: Sequence[str]) -> str:
        nonlocal asked
        asked += 1
        if asked == 2:  # the network is back
            return "hostname 192.0.2.1\nuser a\nport 22\n"
        raise SshError(Fault.UNREACHABLE, "bad")

    resolver = Resolver(SshSpec(config_file=str(tmp_path / "none")), run)
    for _ in range(3):
        with pytest.raises(SshError, match="bad"):
            await resolver.resolve(node("fra1"))
    assert asked == 1
    now += FAILURE_KEPT
    assert (await resolver.resolve(node("fra1"))).host == "192.0.2.1"


async def test_another_network_is_noticed_when_a_host_is_reached_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(f'Match host fra1 exec "test -e {tmp_path}/at_home"\n  ProxyJump jump\n')
    monkeypatch.setattr("anyconsole.drivers.ssh.resolve.ANSWER_KEPT", 0.0)
    resolver = Resolver(SshSpec(config_file=str(config)))
    assert not (await resolver.resolve(node("fra1"))).via
    (tmp_path / "at_home").touch()
    assert (await resolver.resolve(node("fra1"))).via


def test_a_file_that_becomes_readable_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.touch(mode=0o000)
    before = stamp_of([str(file)])
    file.chmod(0o600)
    assert stamp_of([str(file)]) != before


def test_included_files_and_their_folders_are_watched(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "one").write_text(f"Include {tmp_path}/two\n")
    (tmp_path / "config").write_text(f'# Include no\ninclude "{folder}/*"\n')
    files = config_files(str(tmp_path / "config"))
    assert {str(tmp_path / "config"), str(folder), str(folder / "one"), str(tmp_path)} <= set(files)
    before = stamp_of(files)
    os.utime(folder / "one", (1, 1))
    assert stamp_of(files) != before


async def test_a_hanging_match_exec_ends_at_the_deadline_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anyconsole.drivers.ssh.resolve.DEADLINE", 0.3)
    with pytest.raises(SshError, match="slow Match exec") as caught:
        await resolve(tmp_path / "config", 'Match exec "exec sleep 31.4159"\n  Port 1\n', "fra1")
    assert caught.value.fault is Fault.TIMEOUT
    assert subprocess.run(["pgrep", "-f", "sleep 31.4159"], check=False, timeout=5).returncode == 1  # noqa: ASYNC221


def test_the_agent_is_the_one_ssh_would_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/x/agent")
    monkeypatch.setenv("OTHER", "/x/other")

    def agent(line: str) -> str:
        return endpoint_from(Hop(host="h"), parse_answer(f"hostname h\nuser u\nport 22\n{line}"), ()).agent

    assert agent("") == "/x/agent"
    assert agent("identityagent none") == ""
    assert agent("identityagent SSH_AUTH_SOCK") == "/x/agent"
    assert agent("identityagent $OTHER") == "/x/other"
    assert agent("identityagent /x/%r.sock") == "/x/u.sock"


async def test_a_machine_without_ssh_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SshError, match="openssh-client"):
        await Resolver(SshSpec()).resolve(node("fra1"))
