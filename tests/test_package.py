"""What is shipped: a wheel built from this checkout carries themes, profiles and style sheets, and the lock files name no index."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_carries_everything_a_running_console_reads(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"anyconsole/data/{p.relative_to(ROOT)}"
        for folder in ("themes", "profiles")
        for p in (ROOT / folder).glob("*.toml")
    }
    wanted |= {
        str(p.relative_to(ROOT)) for p in ROOT.glob("anyconsole/**/*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert wanted
    assert not wanted - shipped
    assert not [name for name in shipped if name.startswith("tests/")]


def test_the_lock_files_hold_hashes_and_name_no_index() -> None:
    for path in (ROOT / "requirements.lock", ROOT / "requirements-dev.lock"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert "index" not in text
        pinned = re.findall(r"^[a-z0-9][\w.-]*==", text, re.MULTILINE)
        assert len(pinned) > 10
        assert text.count("--hash=sha256:") >= len(pinned)


def test_every_dependency_says_what_it_is_for() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    start = lines.index("dependencies = [") + 1
    block = lines[start : lines.index("]", start)]
    for number, line in enumerate(block):
        if line.strip().startswith('"'):
            assert block[number - 1].strip().startswith("#"), line
