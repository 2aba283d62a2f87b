"""What a running process really loaded: start-up stays quick, and the screen's process stays free of transports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

TRANSPORTS = {
    "asyncssh",
    "kubernetes",
    "aiohttp",
    "numpy",
    "requests",
    "prometheus_api_client",
    "dns",
    "pyroute2",
    "cryptography",
}
SCREEN = {"textual"}


def loaded_by(code: str) -> set[str]:
    """Top-level modules in sys.modules after running `code` in a fresh interpreter."""
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def run_cli(*args: str) -> str:
    argv = ["anyconsole", *args]
    return f"from anyconsole import cli\nsys.argv = {argv!r}\ntry:\n    cli.main()\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize(
    "args",
    [
        ("--version",),
        ("--help",),
        ("profile", "check", "profiles/prod.example.toml"),
        ("show", "--help"),
        ("lab", "--help"),
        (),
    ],
)
def test_commands_without_a_screen_load_neither_textual_nor_transports(args: tuple[str, ...]) -> None:
    assert not loaded_by(run_cli(*args)) & (TRANSPORTS | SCREEN)


def test_the_headless_views_never_load_textual() -> None:
    assert not loaded_by("import anyconsole.headless, anyconsole.engine.server") & SCREEN


def test_the_screen_process_loads_no_transport() -> None:
    seen = loaded_by("import anyconsole.tui.app")
    assert "textual" in seen
    assert not seen & TRANSPORTS


@pytest.mark.measures
def test_the_screen_costs_little_more_than_textual_itself() -> None:
    def cpu(module: str) -> float:
        code = f"import time\nimport {module}\nprint(time.process_time())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        return float(done.stdout)

    # In turns: whatever else this machine does makes both dearer.
    ours, textual = zip(*((cpu("anyconsole.tui.app"), cpu("textual.app")) for _ in range(10)), strict=True)
    assert min(ours) <= 2.0 * min(textual)
