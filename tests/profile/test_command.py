"""`anyconsole profile ...`: output on stdout, everything else on stderr, and nothing of the operator's is overwritten."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyconsole.errors import ProfileError
from anyconsole.profile import command as profile_command
from anyconsole.profile.load import load_profile, parse_profile
from anyconsole.profile.printing import print_profile
from anyconsole.profile.toml_text import toml_string, toml_value

EXAMPLE = Path(__file__).parent.parent.parent / "profiles" / "prod.example.toml"
TINY = '[profile]\nname = "tiny"\n[[site]]\nname = "fra"\n[[node]]\nname = "n1"\nsite = "fra"\n'


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    profile_command.add_parser(parser.add_subparsers())
    return profile_command.run(parser.parse_args(["profile", *words]))


def test_check_counts_what_a_good_profile_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("check", str(EXAMPLE)) == 0
    assert capsys.readouterr() == (
        "ok: 7 nodes, 3 sites, 1 cluster, 3 tenants, 22 sessions, 21 instances, 2 vantages, 1 looking glass\n",
        "",
    )


def test_check_tells_all_mistakes_of_all_files_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(TINY)
    bad.write_text(TINY.replace("site =", "sit =") + "[poll]\nprobe = 0\n")
    assert _run("check", str(bad), str(good), str(tmp_path / "absent.toml")) == 2
    out, err = capsys.readouterr()
    counts = "1 node, 1 site, 0 clusters, 0 tenants, 0 sessions, 0 instances, 0 vantages, 0 looking glasses"
    assert out == f"{good}: ok: {counts}\n"
    assert len(err.strip().split("\n")) == 4


def test_print_shows_the_effective_profile_and_reading_it_gives_it_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("print", str(EXAMPLE)) == 0
    text = capsys.readouterr().out
    for expected in (
        'address = "ams1.ams.example.net"',
        'control = "/srv/anycast/nic/run/nsd.ctl"',
        "stale = 3.0",
        "number = 22",
    ):
        assert expected in text
    assert not re.search(r"template|\{(?! )", text)
    assert parse_profile(text, EXAMPLE) == load_profile(str(EXAMPLE))


def test_print_without_a_profile_explains_profiles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ANYCONSOLE_PROFILE", raising=False)
    assert _run("print") == 2
    assert "lab up" in capsys.readouterr().err
    monkeypatch.setenv("ANYCONSOLE_PROFILE", str(EXAMPLE))
    assert _run("print") == 0


def test_braces_in_paths_survive_printing() -> None:
    text = TINY + '[[node.speaker]]\nkind = "bird"\nsocket = "/run/{{x}}/{node}"\n'
    fleet = parse_profile(text, Path("x"))
    assert fleet.nodes[0].speakers[0].socket == "/run/{x}/n1"
    assert parse_profile(print_profile(fleet), Path("x")) == fleet


_TEXT = st.text(st.characters(codec="utf-8"))


@given(_TEXT)
def test_any_text_survives_a_toml_string(text: str) -> None:
    import tomllib

    assert tomllib.loads(f"a = {toml_string(text)}") == {"a": text}
    assert toml_string(text).isprintable()


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | _TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
        max_leaves=9,
    )
)
def test_any_value_survives_as_toml(value: object) -> None:
    import tomllib

    assert tomllib.loads(f"a = {toml_value(value)}") == {"a": value}


@settings(max_examples=50, deadline=None)
@given(
    description=st.text(
        st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"), exclude_characters="\u00a0"), max_size=20
    ),
    seconds=st.floats(1, 2.5),
    share=st.floats(0, 1),
)
def test_whatever_a_profile_says_reading_its_print_gives_it_back(
    description: str, seconds: float, share: float
) -> None:
    fleet = load_profile(str(EXAMPLE))
    description = "".join(c for c in description if c.isprintable())
    changed = msgspec.structs.replace(
        fleet,
        sites=(msgspec.structs.replace(fleet.sites[0], description=description), *fleet.sites[1:]),
        poll=msgspec.structs.replace(fleet.poll, probe=seconds),
        guards=msgspec.structs.replace(fleet.guards, min_share=share),
    )
    assert parse_profile(print_profile(changed), EXAMPLE) == changed


def test_an_import_writes_a_new_file_and_never_over_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hosts, target = tmp_path / "hosts", tmp_path / "profiles" / "prod.toml"
    hosts.write_text("[fra]\nfra[1:3]\n")
    assert _run("import", "ansible", str(hosts), "-o", str(target)) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"then run `anyconsole profile check {target}`" in err
    assert load_profile(str(target)).name == "prod"
    before = target.read_text()
    with pytest.raises(ProfileError, match="File exists; nothing is overwritten"):
        _run("import", "ansible", str(hosts), "-o", str(target))
    assert target.read_text() == before


def test_an_import_without_a_file_goes_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config"
    config.write_text("Host a1 b1\n")
    assert _run("import", "ssh", str(config), "--match", "a*") == 0
    assert [n.name for n in parse_profile(capsys.readouterr().out, Path("x")).nodes] == ["a1"]


def test_an_import_of_nothing_says_what_could_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="absent: can't be read: No such file"):
        _run("import", "ansible", str(tmp_path / "absent"))
