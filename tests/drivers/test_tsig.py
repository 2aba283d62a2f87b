"""TSIG keys come from where the operator keeps them, and are told by nothing else."""

from __future__ import annotations

import base64
import sys
import time
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.drivers import tsig
from anyconsole.drivers.tsig import TsigError, TsigKey, parse_key, read_key
from anyconsole.model.inventory import StackTenant

SECRET = base64.b64encode(b"not so secret here").decode()
LINE = f"hmac-sha512:transfer.example.:{SECRET}"


def known(**source: str) -> StackTenant:
    return StackTenant(tenant="de", primaries=("198.18.8.1",), **source)


def printing(folder: Path, program: str) -> StackTenant:
    path = folder / "a program"
    path.write_text(f"#!{sys.executable}\n{program}")
    path.chmod(0o700)
    return known(tsig_command=f"'{path}' dns/de")


def content(key: TsigKey) -> dict[str, str]:
    return {name: base64.b64decode(value).decode() for name, value in key.data().items()}


async def test_a_key_is_what_a_command_prints_first(tmp_path: Path) -> None:
    source = printing(
        tmp_path, f"import sys\nprint({LINE!r} if sys.argv[1:] == ['dns/de'] else '')\nprint('user: bob')"
    )
    assert content(await read_key(source)) == {
        "name": "transfer.example.",
        "algorithm": "hmac-sha512",
        "secret": SECRET,
    }


async def test_a_key_is_in_the_environment_and_hmac_sha256_unless_it_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DE_TSIG", f"transfer:{SECRET}\n")
    assert content(await read_key(known(tsig_env="DE_TSIG"))) == {
        "name": "transfer", "algorithm": "hmac-sha256", "secret": SECRET,
    }  # fmt: skip
    monkeypatch.delenv("DE_TSIG")
    with pytest.raises(TsigError, match=r"\$DE_TSIG holds no TSIG key"):
        await read_key(known(tsig_env="DE_TSIG"))


async def test_a_command_that_fails_hangs_or_is_none_is_named_without_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = printing(tmp_path, f"import sys\nprint({LINE!r})\nprint({LINE!r}, file=sys.stderr)\nsys.exit(3)")
    with pytest.raises(TsigError, match="failed with 3; try it by hand") as failed:
        await read_key(source)
    assert SECRET not in "".join(traceback.format_exception(failed.value))
    with pytest.raises(TsigError, match="can't be run: No such file"):
        await read_key(known(tsig_command="/nowhere/pass show"))
    monkeypatch.setattr(tsig, "_DEADLINE", 0.3)
    began = time.monotonic()
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with pytest.raises(TsigError, match="must not ask for anything"):
        await read_key(printing(tmp_path, child))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing is in its first line"),
        ("\n" + LINE, "nothing is in its first line"),
        (SECRET, "expected [ALGORITHM:]NAME:SECRET"),
        (f"hmac-md5:transfer:{SECRET}", "ALGORITHM one of hmac-sha1"),
        (f"hmac-sha256:tra nsfer:{SECRET}", "expected"),
        (f'transfer:{SECRET}"; }}', "expected"),
        (f"hmac-sha256:transfer:{SECRET}:more", "expected"),
        ("transfer:" + base64.b64encode(b"short").decode(), "too short: 5 bytes"),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(text: str, words: str) -> None:
    with pytest.raises(TsigError) as failed:
        parse_key(text, "`pass show`")
    assert words in str(failed.value)
    assert "`pass show`" in str(failed.value)
    assert SECRET not in str(failed.value)


@given(st.text("abhmc-sh256:=.\n Aa/+0\0", max_size=80))
def test_any_text_is_a_key_or_an_error_that_doesnt_hold_it(text: str) -> None:
    try:
        key = parse_key(text, "SOURCE")
    except TsigError as error:
        said = str(error)
        assert all(part not in said for part in text.split(":") if len(part) > 12)
    else:
        assert content(key)["secret"] in text


def test_a_fingerprint_tells_keys_and_places_apart_and_nothing_else() -> None:
    key, again = parse_key(LINE, ""), parse_key(LINE, "")
    assert key.fingerprint("a") == again.fingerprint("a") != key.fingerprint("b")
    other = base64.b64encode(b"another secret of us").decode()
    for changed in (LINE.replace(SECRET, other), LINE.replace("transfer", "notify"), LINE.replace("sha512", "sha256")):
        assert parse_key(changed, "").fingerprint("a") != key.fingerprint("a")
    assert SECRET not in f"{key!r} {key} {key.fingerprint('a')}"


def test_a_secret_that_a_server_repeats_is_taken_out_also_where_it_was_cut_off() -> None:
    key = parse_key(LINE, "")
    for said in (SECRET, key.data()["secret"], SECRET[:13], key.data()["secret"][:9]):
        assert key.scrub(f"invalid value: {said}") == "invalid value: ***"
    assert key.scrub("nothing to see") == "nothing to see"
