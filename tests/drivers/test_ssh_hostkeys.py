"""known_hosts as OpenSSH reads it, checked against files that OpenSSH's own ssh-keygen wrote."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncssh
import pytest

from anyconsole.drivers.ssh.fault import Fault
from anyconsole.drivers.ssh.hostkeys import HostKeyBook, KnownHosts, Offer, Trust, names_of, offered_algorithms
from anyconsole.drivers.ssh.resolve import Endpoint


def new_key(algorithm: str = "ssh-ed25519") -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(algorithm)


def line(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


KEY, OTHER, EC = new_key(), new_key(), new_key("ecdsa-sha2-nistp256")


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def endpoint(known_hosts: Path, host: str = "fra1.example", port: int = 22, alias: str = "") -> Endpoint:
    return Endpoint(name="fra1", host=host, port=port, alias=alias, known_hosts=(str(known_hosts), "/nonexistent"))


def trusted(known_hosts: Path, text: str, where: Endpoint | None = None, key: asyncssh.SSHKey = KEY) -> bool:
    known_hosts.write_text(text)
    where = where or endpoint(known_hosts)
    trust = HostKeyBook().trust(where)
    offer = Offer.of(key)
    return offer.key in {e.key for e in trust.keys} - {e.key for e in trust.revoked}


@pytest.mark.parametrize(
    ("pattern", "host", "port", "expected"),
    [
        ("fra1.example", "fra1.example", 22, True),
        ("FRA1.example", "Fra1.Example", 22, True),
        ("fra1.example", "fra2.example", 22, False),
        ("fra2.example,fra1.example,192.0.2.1", "fra1.example", 22, True),
        ("*.example", "fra1.example", 22, True),
        ("fra?.example", "fra1.example", 22, True),
        ("*.example,!fra1.example", "fra1.example", 22, False),
        ("!fra1.example,*.example", "fra1.example", 22, False),
        ("!fra1.example", "fra2.example", 22, False),
        ("*", "fra1.example", 22, True),
        ("fra1[0-9].example", "fra11.example", 22, False),
        ("[fra1.example]:2222", "fra1.example", 2222, True),
        ("[fra1.example]:2222", "fra1.example", 22, False),
        ("fra1.example", "fra1.example", 2222, True),
        ("[*.example]:2222", "fra1.example", 2222, True),
        ("[fra1.example]:2223", "fra1.example", 2222, False),
    ],
)
def test_names_patterns_and_ports_match_as_in_openssh(
    known_hosts: Path, pattern: str, host: str, port: int, expected: bool
) -> None:
    assert trusted(known_hosts, f"{pattern} {line(KEY)} a comment\n", endpoint(known_hosts, host, port)) is expected


def test_a_key_for_the_port_hides_the_one_for_the_bare_name(known_hosts: Path) -> None:
    text = f"[fra1.example]:2222 {line(KEY)}\nfra1.example {line(OTHER)}\n"
    assert trusted(known_hosts, text, endpoint(known_hosts, port=2222))
    assert not trusted(known_hosts, text, endpoint(known_hosts, port=2222), OTHER)


def test_an_alias_stands_for_itself_whatever_host_and_port(known_hosts: Path) -> None:
    where = endpoint(known_hosts, "192.0.2.1", 2222, alias="fra1-alias")
    assert names_of(where) == ("fra1-alias",)
    assert trusted(known_hosts, f"fra1-alias {line(KEY)}\n", where)
    assert not trusted(known_hosts, f"192.0.2.1 {line(KEY)}\n", where)


def test_lines_hashed_by_ssh_keygen_are_found(known_hosts: Path) -> None:
    known_hosts.write_text(f"fra1.example {line(KEY)}\n[ams1.example]:2222 {line(OTHER)}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known_hosts)], check=True, timeout=20, capture_output=True)
    text = known_hosts.read_text()
    assert "fra1" not in text
    assert trusted(known_hosts, text)
    assert trusted(known_hosts, text, endpoint(known_hosts, "ams1.example", 2222), OTHER)
    assert not trusted(known_hosts, text, endpoint(known_hosts, "sin1.example"))


def test_a_revoked_key_is_never_trusted_and_shown_as_changed(known_hosts: Path) -> None:
    text = f"fra1.example {line(KEY)}\n@revoked * {line(KEY)}\n"
    assert not trusted(known_hosts, text)
    error = HostKeyBook().refusal(endpoint(known_hosts), Offer.of(KEY))
    assert error.fault is Fault.HOSTKEY_CHANGED
    assert "REVOKED" in str(error)
    assert f"{known_hosts}:2" in str(error)


def test_garbage_lines_are_skipped_and_counted_not_fatal() -> None:
    good = f"fra1 {line(KEY)}"
    bad = [
        "fra1",
        "fra1 ssh-ed25519",
        "@unknown fra1 ssh-ed25519 AAAA",
        "fra1 ssh-ed25519 ***",
        "|1|x|y ssh-ed25519 AAAA",
        "|2|a",
    ]
    file = KnownHosts("\n".join(["# comment", "", *bad, good]))
    assert file.unreadable == len(bad)
    assert len(list(file.entries("fra1"))) == 1


def test_unknown_and_changed_are_told_apart_with_advice(known_hosts: Path) -> None:
    known_hosts.write_text(f"ams1.example {line(KEY)}\n")
    book = HostKeyBook()
    unknown = book.refusal(endpoint(known_hosts), Offer.of(KEY))
    assert unknown.fault is Fault.HOSTKEY_UNKNOWN
    assert unknown.fingerprint == KEY.get_fingerprint()
    assert "the same key is on file for ams1.example" in str(unknown)
    changed = book.refusal(endpoint(known_hosts, "ams1.example"), Offer.of(OTHER))
    assert changed.fault is Fault.HOSTKEY_CHANGED
    assert KEY.get_fingerprint() in str(changed)
    assert OTHER.get_fingerprint() in str(changed)


def test_another_key_type_than_the_one_on_file_counts_as_changed(known_hosts: Path) -> None:
    known_hosts.write_text(f"fra1.example {line(EC)}\n")
    assert HostKeyBook().refusal(endpoint(known_hosts), Offer.of(KEY)).fault is Fault.HOSTKEY_CHANGED


def test_a_change_that_concerns_the_host_is_seen_without_restart_and_no_other(known_hosts: Path) -> None:
    book, where = HostKeyBook(), endpoint(known_hosts)
    unknown = book.stamp(where)
    known_hosts.write_text(f"fra1.example {line(KEY)}\n")
    known = book.stamp(where)
    assert known != unknown
    known_hosts.write_text(f"another.example {line(OTHER)}\nfra1.example {line(KEY)}\n")
    assert book.stamp(where) == known
    known_hosts.write_text(f"fra1.example {line(KEY)}\n@revoked fra1.example {line(KEY)}\n")
    assert book.stamp(where) != known


def test_the_host_is_asked_for_the_key_type_we_know(known_hosts: Path) -> None:
    known_hosts.write_text(f"fra1.example {line(EC)}\n")
    algorithms = offered_algorithms(HostKeyBook().trust(endpoint(known_hosts)), ())
    assert algorithms[0] == "ecdsa-sha2-nistp256"
    assert "ssh-ed25519" in algorithms
    assert not any("cert" in a for a in algorithms)
    known_hosts.write_text(f"@cert-authority *.example {line(EC)}\n")
    assert "cert" in offered_algorithms(HostKeyBook().trust(endpoint(known_hosts)), ())[0]


def test_rsa_keys_on_file_ask_for_sha2_signatures_and_the_users_list_is_kept() -> None:
    entry = next(iter(KnownHosts("fra1 ssh-rsa AAAA").entries("fra1")))
    assert offered_algorithms(Trust(keys=(entry,)), ())[:2] == ["rsa-sha2-512", "rsa-sha2-256"]
    assert offered_algorithms(Trust(), ("rsa-sha2-256", "ssh-rsa")) == ["rsa-sha2-256"]
