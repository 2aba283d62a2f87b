"""What is offered at a login, in OpenSSH's order, and what is said about keys that can't be used."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from anyconsole.drivers.ssh.credentials import Identities, Keyring, key_name
from anyconsole.drivers.ssh.resolve import Endpoint
from tests.drivers.sshd import keygen


@pytest.fixture
def agent() -> Iterator[str]:
    # Not tmp_path: socket names are limited to 107 characters.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
        while not path.exists():
            time.sleep(0.01)
        yield str(path)
        process.terminate()
        process.wait(5)


def lock(key: Path) -> None:
    """Give a key file a passphrase."""
    command = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(key)]
    subprocess.run(command, check=True, timeout=10, stdout=subprocess.DEVNULL)


def add(agent: str, key: Path) -> None:
    subprocess.run(
        ["ssh-add", "-q", str(key)],
        check=True,
        timeout=5,
        env={**os.environ, "SSH_AUTH_SOCK": agent},
        stderr=subprocess.DEVNULL,
    )


def body(key: Path) -> bytes:
    return key.with_suffix(".pub").read_bytes().split()[1]


async def offer(**options: object) -> Identities:
    async with Keyring().identities(Endpoint(name="n", host="h", **options)) as identities:  # type: ignore[arg-type]
        return identities


async def test_key_files_are_offered_and_missing_default_names_are_no_news(tmp_path: Path) -> None:
    key = keygen(tmp_path / "id")
    identities = await offer(identity_files=(str(key), str(tmp_path / "id_rsa")))
    assert len(identities.keys) == 1
    assert identities.notes == ()


async def test_a_key_with_passphrase_is_named_and_never_asked_for(tmp_path: Path) -> None:
    key = keygen(tmp_path / "id", "-N", "secret")
    identities = await offer(identity_files=(str(key),))
    assert identities.keys == ()
    assert "ssh-add" in identities.notes[0]
    assert str(key) in identities.notes[0]
    assert "secret" not in identities.notes[0]


async def test_agent_keys_named_by_the_configuration_come_first_then_others_then_files(
    tmp_path: Path, agent: str
) -> None:
    other, named, file = (keygen(tmp_path / name) for name in ("other", "named", "file"))
    add(agent, other)
    add(agent, named)
    files = (str(named), str(file))
    offered = [key.public_data for key in (await offer(identity_files=files, agent=agent)).keys]

    assert [base64.b64encode(data) for data in offered] == [body(named), body(other), body(file)]
    only = [key.public_data for key in (await offer(identity_files=files, agent=agent, identities_only=True)).keys]
    assert [base64.b64encode(data) for data in only] == [body(named), body(file)]


async def test_a_locked_key_that_the_agent_holds_is_no_trouble(tmp_path: Path, agent: str) -> None:
    key = keygen(tmp_path / "id")
    add(agent, key)
    lock(key)
    identities = await offer(identity_files=(str(key),), agent=agent, identities_only=True)
    assert len(identities.keys) == 1
    assert identities.notes == ()


async def test_an_agent_that_is_gone_is_a_note_not_an_error(tmp_path: Path) -> None:
    key = keygen(tmp_path / "id")
    identities = await offer(identity_files=(str(key),), agent=str(tmp_path / "nothing"))
    assert len(identities.keys) == 1
    assert "agent" in identities.notes[0]


async def test_an_agent_that_hangs_does_not_hang_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyconsole.drivers.ssh.credentials.AGENT_DEADLINE", 0.2)
    server = await asyncio.start_unix_server(lambda _r, _w: None, path=str(tmp_path / "a"))
    identities = await asyncio.wait_for(offer(agent=str(tmp_path / "a")), 2)
    assert identities.keys == ()
    assert "no answer" in identities.notes[0]
    server.close()


async def test_the_stamp_changes_with_files_and_agent(tmp_path: Path, agent: str) -> None:
    key = keygen(tmp_path / "id")
    endpoint = Endpoint(name="n", host="h", identity_files=(str(key),), agent=agent)
    ring = Keyring()
    first = await ring.stamp(endpoint)
    assert await ring.stamp(endpoint) == first
    add(agent, key)
    second = await ring.stamp(endpoint)
    assert second != first
    os.utime(key, (1, 1))
    assert await ring.stamp(endpoint) != second


async def test_a_changed_key_file_is_read_again(tmp_path: Path) -> None:
    key = keygen(tmp_path / "id")
    ring = Keyring()
    endpoint = Endpoint(name="n", host="h", identity_files=(str(key),))
    async with ring.identities(endpoint) as before:
        pass
    key.unlink()
    keygen(key)
    async with ring.identities(endpoint) as after:
        pass
    assert before.keys[0].public_data != after.keys[0].public_data


async def test_a_certificate_beside_the_key_is_offered(tmp_path: Path) -> None:
    authority, key = keygen(tmp_path / "ca"), keygen(tmp_path / "id")
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", "ops", str(key) + ".pub"]
    subprocess.run(command, check=True, timeout=10)  # noqa: ASYNC221
    assert len((await offer(identity_files=(str(key),))).certificates) == 1


@pytest.mark.parametrize("with_agent", [False, True])
async def test_a_key_is_named_by_its_comment_else_by_its_fingerprint(
    tmp_path: Path, agent: str, with_agent: bool
) -> None:
    named = keygen(tmp_path / "named", "-C", "alice@desk")
    nameless = keygen(tmp_path / "nameless", "-C", "")
    options: dict[str, object] = {"identity_files": (str(named), str(nameless))}
    if with_agent:
        add(agent, named)
        options["agent"] = agent
    alice, nobody = [key_name(key) for key in (await offer(**options)).key_pairs()]
    assert alice == "alice@desk"
    assert nobody == asyncssh.read_public_key(str(nameless) + ".pub").get_fingerprint()
