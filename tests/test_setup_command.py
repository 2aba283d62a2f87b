"""`anyconsole setup` and `teardown`: what their arguments mean before any cluster is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyconsole import cli
from tests.drivers.kube.stack import TEXT


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "virtual.toml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("teardown", "--reason", "x", "--yes"), "teardown of what? Say --tenant NAME"),
        (("teardown", "--plan"), "teardown of what? Say --tenant NAME"),
        (("setup", "--yes"), "setup needs --reason TEXT"),
        (("setup", "--reason", "x"), "there is no terminal to confirm on"),
        (("--read-only", "setup", "--reason", "x", "--yes"), "read-only"),
    ],
)
def test_nothing_is_begun_without_a_scope_a_reason_and_somebody_who_confirms(
    profile: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert cli.main(["--profile", str(profile), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_teardown_has_no_way_to_take_fields_by_force(profile: Path) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--profile", str(profile), "teardown", "--tenant", "de", "--force-conflicts"])
    assert end.value.code == 2
