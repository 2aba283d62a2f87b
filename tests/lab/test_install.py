"""Installing what the lab needs must not start or enable anything on the user's machine: proven with a real Debian package."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyconsole.lab import requirements

SCRIPT = Path(__file__).parents[2] / "scripts" / "install-debian"
POLICY = Path("/usr/sbin/policy-rc.d")
PRESET = Path("/run/systemd/system-preset/00-anyconsole-install.preset")

needs_debian_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dpkg-deb") is None or shutil.which("deb-systemd-helper") is None,
    reason="needs root on a Debian machine",
)


class Package:
    """A package with a systemd unit and an init script, whose maintainer scripts are what debhelper writes."""

    def __init__(self, folder: Path) -> None:
        self.name = f"anyconsole-test-{os.getpid()}"
        self.unit = f"{self.name}.service"
        self.started = folder / "started"
        self.file = folder / "test.deb"
        root = folder / "root"
        self._write(
            root / "lib/systemd/system" / self.unit,
            0o644,
            f"""\
[Service]
ExecStart=/usr/bin/touch {self.started}
[Install]
WantedBy=multi-user.target
""",
        )
        # Another name than the unit's: nothing but its own boot links decides whether this one starts.
        self._write(
            root / "etc/init.d" / f"{self.name}-old",
            0o755,
            f"""\
#!/bin/sh
### BEGIN INIT INFO
# Provides:          {self.name}-old
# Required-Start:
# Required-Stop:
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
### END INIT INFO
[ "$1" != start ] || touch {self.started}
""",
        )
        self._write(
            root / "DEBIAN/control",
            0o644,
            f"""\
Package: {self.name}
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: only there for a test
""",
        )
        self._write(
            root / "DEBIAN/postinst",
            0o755,
            f"""\
#!/bin/sh
set -e
deb-systemd-helper unmask '{self.unit}' >/dev/null || true
if deb-systemd-helper --quiet was-enabled '{self.unit}'; then
    deb-systemd-helper enable '{self.unit}' >/dev/null || true
else
    deb-systemd-helper update-state '{self.unit}' >/dev/null || true
fi
deb-systemd-invoke start '{self.unit}' >/dev/null || true
update-rc.d {self.name}-old defaults >/dev/null
invoke-rc.d --skip-systemd-native {self.name}-old start || exit 1
""",
        )
        self._write(
            root / "DEBIAN/postrm",
            0o755,
            f"""\
#!/bin/sh
set -e
[ "$1" != purge ] || {{ update-rc.d {self.name}-old remove; deb-systemd-helper purge '{self.unit}' >/dev/null || true; }}
""",
        )
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, self.file], check=True, capture_output=True)

    @staticmethod
    def _write(path: Path, mode: int, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def enabled(self) -> list[str]:
        """What would start at boot because of this package."""
        links = [
            *Path("/etc/systemd/system").rglob(f"*{self.name}*"),
            *Path("/etc").glob(f"rc[2345S].d/S*{self.name}*"),
        ]
        return sorted(str(link) for link in links)


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    made = Package(tmp_path)
    yield made
    subprocess.run(["dpkg", "--purge", made.name], check=True, capture_output=True)
    assert made.enabled() == []


@pytest.fixture
def own_policy(tmp_path: Path) -> Iterator[str]:
    """The machine has a policy of its own that lets services start (a container's often forbids it, and would prove nothing)."""
    kept = tmp_path / "policy-rc.d"
    if POLICY.exists():
        shutil.copy2(POLICY, kept)
    text = "#!/bin/sh\n# the machine's own\nexit 0\n"
    POLICY.write_text(text)
    POLICY.chmod(0o755)
    yield text
    POLICY.unlink(missing_ok=True)
    if kept.exists():
        shutil.copy2(kept, POLICY)


def guarded(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, "--guarded", *argv], capture_output=True, text=True, timeout=60, check=False)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


@pytest.mark.lab
@needs_debian_root
def test_a_package_installed_by_us_is_neither_started_nor_enabled(package: Package, own_policy: str) -> None:
    done = guarded("dpkg", "-i", package.file)
    assert done.returncode == 0, done.stderr
    state = subprocess.run(["dpkg", "-s", package.name], capture_output=True, text=True, check=True).stdout
    assert "install ok installed" in state
    assert package.enabled() == []
    assert not package.started.exists()
    assert POLICY.read_text() == own_policy
    assert not PRESET.exists()


@pytest.mark.lab
@needs_debian_root
@pytest.mark.usefixtures("own_policy")
def test_the_same_package_without_our_guard_starts_and_is_enabled(package: Package) -> None:
    """The package of these tests really is one that starts by itself, so the test above can fail."""
    subprocess.run(["dpkg", "-i", package.file], check=True, capture_output=True)
    assert any(package.unit in link for link in package.enabled())
    assert any("/rc2.d/S" in link for link in package.enabled())
    assert package.started.exists()


@pytest.mark.lab
@needs_debian_root
@pytest.mark.usefixtures("own_policy")
def test_a_service_that_was_enabled_before_stays_enabled_though_its_place_in_the_order_changes(
    package: Package,
) -> None:
    subprocess.run(["dpkg", "-i", package.file], check=True, capture_output=True)
    before = package.enabled()
    link = next(Path(path) for path in before if "/rc2.d/S" in path)
    moved = link.with_name(f"S98{link.name[3:]}")
    assert guarded("mv", link, moved).returncode == 0
    assert package.enabled() == sorted([*(path for path in before if path != str(link)), str(moved)])


@pytest.mark.lab
@needs_debian_root
def test_a_failed_installation_leaves_the_machine_as_it_was(own_policy: str) -> None:
    assert guarded("false").returncode == 1
    assert POLICY.read_text() == own_policy
    assert not PRESET.exists()


@pytest.mark.lab
@needs_debian_root
def test_an_interrupted_installation_leaves_the_machine_as_it_was(own_policy: str, tmp_path: Path) -> None:
    during = tmp_path / "during"
    process = subprocess.Popen([SCRIPT, "--guarded", "sh", "-c", f"cp {POLICY} {during}; sleep 0.5"])
    wait_for(during)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    assert "exit 101" in during.read_text()
    assert POLICY.read_text() == own_policy
    assert not PRESET.exists()


@pytest.mark.lab
@needs_debian_root
def test_what_a_killed_installation_left_is_mended_by_the_next_one(own_policy: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    process = subprocess.Popen([SCRIPT, "--guarded", "sh", "-c", f"touch {here}; exec sleep 0.5"])
    wait_for(here)
    process.kill()
    process.wait(timeout=10)
    assert PRESET.exists()
    assert guarded("true").returncode == 0
    assert POLICY.read_text() == own_policy
    assert not PRESET.exists()


def test_check_names_exactly_what_is_missing(tmp_path: Path) -> None:
    script, table = tmp_path / "scripts" / "install-debian", tmp_path / "anyconsole" / "lab" / "packages.txt"
    for path in (script, table):
        path.parent.mkdir(parents=True)
    shutil.copy2(SCRIPT, script)
    table.write_text("# comment\nthere lab /bin/sh\nabsent lab /nonexistent/program\npattern test /bin/s*h\n")
    done = subprocess.run([script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, "Debian packages that are missing: absent")
    table.write_text("there lab /bin/sh\n")
    assert subprocess.run([script, "--check"], check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_without_root_it_says_what_is_needed_and_stops() -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: that one only root may enter
        base = Path(name)
        base.chmod(0o755)
        script, table = base / "scripts" / "install-debian", base / "anyconsole" / "lab" / "packages.txt"
        for path in (script, table):
            path.parent.mkdir(parents=True)
        shutil.copy2(SCRIPT, script)
        table.write_text("absent lab /nonexistent/program\n")
        somebody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        done = subprocess.run([*somebody, script], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "absent" in done.stderr
        assert "needs root" in done.stderr
        table.write_text("there lab /bin/sh\n")
        assert subprocess.run([*somebody, script], check=False).returncode == 0


def test_lab_names_missing_packages_and_how_to_install_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "packages.txt"
    table.write_text("there lab /bin/sh\nabsent lab /nonexistent/program\nfor-tests test /nonexistent/other\n")
    monkeypatch.setattr(requirements, "_LIST", table)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert requirements.missing_packages() == ["absent"]
    assert "absent" in requirements.unmet()
    assert "install-debian" in requirements.unmet()
