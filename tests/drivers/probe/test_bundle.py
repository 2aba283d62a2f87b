"""The probe travels as one program: it must run on Python 3.7 with nothing but the standard library."""

from __future__ import annotations

import ast
import importlib.resources
import json
import subprocess
import sys
import zlib

import pytest

from anyconsole.drivers.plugins import name_server, name_servers, speaker, speakers
from anyconsole.drivers.probe.bundle import MODULES, NO_PYTHON, bootstrap, program
from anyconsole.drivers.probe.config import probe_config, vantage_config
from anyconsole.drivers.probe.stream import ProbeStream
from tests.drivers.fleet_of_one import INVENTORY, NODE

# Things that came after Python 3.7 and that the grammar alone does not reveal.
TOO_NEW = {
    "removeprefix", "removesuffix", "cache", "cached_property", "batched", "pairwise", "prod", "dist", "fromisocalendar", "bit_count",
    "to_thread", "TaskGroup", "ExceptionGroup", "is_relative_to", "unparse", "randbytes", "create_server", "shlex_join", "pidfd_open",
}  # fmt: skip
STANDARD = {
    "__future__", "collections", "errno", "importlib", "ipaddress", "json", "os", "re", "select", "signal", "socket", "struct",
    "subprocess", "sys", "threading", "time", "typing", "zlib",
}  # fmt: skip


def source(module: str) -> str:
    path = importlib.resources.files("anyconsole.drivers").joinpath(
        *module.split(".")[:-1], module.rpartition(".")[2] + ".py"
    )
    return path.read_text("utf-8")


def at_run_time(tree: ast.Module) -> list[ast.stmt]:
    """All statements but those under `if TYPE_CHECKING`."""
    return [s for s in tree.body if not (isinstance(s, ast.If) and getattr(s.test, "id", "") == "TYPE_CHECKING")]


@pytest.mark.parametrize("module", MODULES)
def test_module_is_python_3_7(module: str) -> None:
    tree = ast.parse(source(module), feature_version=(3, 7))
    for statement in at_run_time(tree):
        for node in ast.walk(statement):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            assert name not in TOO_NEW, f"{module}: {name}"
            assert not isinstance(node, ast.NamedExpr), f"{module}: walrus"
            if isinstance(node, ast.Call):
                assert not (isinstance(node.func, ast.Name) and node.func.id == "zip" and node.keywords), (
                    f"{module}: zip"
                )
                assert not {k.arg for k in node.keywords} & {"capture_output", "slots", "kw_only"}, (
                    f"{module}: {ast.dump(node)}"
                )


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_the_standard_library_and_what_travels_before_it(module: str) -> None:
    before = {f"anyconsole.drivers.{m}" for m in MODULES[: MODULES.index(module)]}
    for statement in at_run_time(ast.parse(source(module))):
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert node.module in before or node.module.split(".")[0] in STANDARD, f"{module}: {node.module}"
            elif isinstance(node, ast.Import):
                assert {a.name.split(".")[0] for a in node.names} <= STANDARD, f"{module}: {ast.unparse(node)}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_that_a_probe_needs_defers_its_annotations(module: str) -> None:
    assert "from __future__ import annotations" in source(module)


def test_every_registered_driver_travels() -> None:
    for module in [speaker(k).__name__ for k in speakers()] + [name_server(k).__name__ for k in name_servers()]:
        assert module.removeprefix("anyconsole.drivers.") in MODULES


def test_program_is_small_and_names_no_secret() -> None:
    assert len(program()) < 60_000
    assert b"/work" not in zlib.decompress(program())


def run(command: str, stdin: bytes, shell: str = "/bin/sh", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [shell, "-c", command], input=stdin, capture_output=True, timeout=20, check=False, env=environment or None
    )


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_probe_starts_from_any_login_shell_speaks_and_ends_with_its_input(shell: str) -> None:
    command, stdin = bootstrap(vantage_config(INVENTORY, INVENTORY.vantages[0]) | {"dns": {"questions": []}})
    assert "\n" not in command
    done = run(command, stdin, shell)
    assert (done.returncode, done.stderr) == (0, b"")
    stream = ProbeStream("client1")
    stream.feed(done.stdout, 1795452000.0)
    assert stream.hello is not None


def test_whole_bundle_loads_and_says_why_it_can_not_see_what_is_not_there() -> None:
    config = probe_config(INVENTORY, NODE)
    config["dns"]["questions"] = []
    command, stdin = bootstrap(config)
    process = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(stdin)
    process.stdin.flush()
    hello, first = process.stdout.readline(), process.stdout.readline()
    process.stdin.close()
    assert process.wait(5) == 0
    assert json.loads(hello)["sections"] == ["host", "bird", "frr", "gobgp", "nsd:de", "knot:nic", "bind:enum"]
    told = {(r["kind"], r["section"]): r for r in json.loads(first)["f"]}
    assert told["speaker", "bird"]["running"] is False
    assert told["instance", "nsd:de"]["running"] is False
    assert told["host", "host"]["cores"] >= 1
    process.stdout.close()


def test_requests_right_behind_the_program_are_not_swallowed() -> None:
    config = vantage_config(INVENTORY, INVENTORY.vantages[0]) | {"dns": {"questions": []}}
    command, stdin = bootstrap(config)
    done = run(command, stdin + b'{"id":7,"op":"raw","section":"host"}\n{"id":8,"op":"raw","section":"nope"}\n')
    replies = [json.loads(x) for x in done.stdout.splitlines() if b'"id"' in x]
    assert {r["id"] for r in replies} <= {7, 8}


def test_node_without_python_says_so() -> None:
    command, stdin = bootstrap(vantage_config(INVENTORY, INVENTORY.vantages[0]))
    # The command adds the usual directories to PATH itself: take their Python away by naming others.
    done = run(command.replace("/usr/local/bin:/usr/bin:/bin", "/nowhere"), stdin, PATH="/nowhere")
    assert done.stdout.decode().strip() == NO_PYTHON


def test_old_python_says_so() -> None:
    command, stdin = bootstrap(vantage_config(INVENTORY, INVENTORY.vantages[0]))
    done = run(command.replace("(3, 7)", "(9, 9)"), stdin)
    assert done.stdout.decode().strip() == NO_PYTHON


def test_probe_whose_input_ends_early_does_not_start() -> None:
    command, stdin = bootstrap(vantage_config(INVENTORY, INVENTORY.vantages[0]))
    assert run(command, stdin[:1000]).stdout == b""


def test_bundle_does_not_import_the_engine() -> None:
    code = (
        "import sys\nfrom anyconsole.drivers.probe import main\n"
        "print([m for m in sys.modules if m in ('msgspec', 'dns', 'asyncssh', 'textual')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.strip() == "[]"
