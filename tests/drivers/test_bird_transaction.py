"""A drain of BIRD ends in effect and on disk, or not at all: whoever interferes, whatever fails, and even if nobody comes back to it."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anyconsole.drivers.bird_reply import steady_time
from anyconsole.drivers.bird_transaction import drain_file, transaction
from anyconsole.drivers.transaction import CellChange, DrainState, Ended, Transaction
from anyconsole.lab import Lab
from anyconsole.model.inventory import Family, SpeakerSpec
from tests.drivers.samples import SAMPLES

SPEAKER = SpeakerSpec(
    name="bird", kind="bird", socket="/run/bird/bird.ctl", drain_file="/etc/bird/drain.conf", sessions=()
)
CELL = CellChange(session="ix1_v4", peer="ix1", family=Family.IPV4, prefix="192.0.2.0/24", before="serve", after="hard")
DE_AT_IX1 = frozenset({(1, 11), (1, 12)})
LOCK = "/etc/bird/.anyconsole.lock"

AS_OPERATOR = ("setpriv", "--reuid=ops", "--regid=ops", "--init-groups", "sh", "-c")

# Each change of a run has its own serial, as in life: a dead-man of an earlier test must not take a later change for its own.
_serials = itertools.count(1001)


def change(before: int, level: str = "hard", hold: int = 30, speaker: SpeakerSpec = SPEAKER) -> tuple[int, Transaction]:
    """A change of tenant de at ix1, and its serial."""
    after = DrainState(
        serial=next(_serials),
        note="CHG1 op1 $(id) `id`",
        hard=DE_AT_IX1 if level == "hard" else frozenset(),
        soft=DE_AT_IX1 if level == "soft" else frozenset(),
    )
    return after.serial, transaction(speaker, DrainState(serial=before), after, [CELL], hold)


class Node:
    """ams1 of the lab, as its operator, its other operators, and its peer ix1 see it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def root(self, script: str, *, may_fail: bool = False) -> str:
        done = self.lab.run("ams1", ["sh", "-c", script])
        assert may_fail or done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def run(self, script: str) -> tuple[Ended, str]:
        """What a script ends with, run as the login user."""
        done = self.lab.run("ams1", [*AS_OPERATOR, script], 30)
        assert done.stdout, done.stderr
        return Ended(done.returncode), done.stdout.splitlines()[-1]

    def apply(self, level: str = "hard", hold: int = 30) -> tuple[int, Transaction]:
        """Make a change that nobody hinders, unconfirmed."""
        serial, made = change(self.serial, level, hold)
        ended, words = self.run(made.apply)
        assert ended is Ended.DONE, words
        return serial, made

    def ssh(self, script: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["ssh", "-F", str(self.lab.ssh_config), "ams1", shlex.join(["sh", "-c", script])],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def guard(self, hold: int) -> str:
        """Process of the youngest dead-man that sleeps for a change of that hold."""
        return self.root(f"ps -o ppid= -p $(pgrep -nxf 'sleep {hold + 2}')").strip()

    @property
    def serial(self) -> int:
        return int(self.root("birdc eval DRAIN_SERIAL").split()[-1])

    @property
    def on_disk(self) -> str:
        return self.root("cat /etc/bird/drain.conf")

    @property
    def is_pending(self) -> bool:
        return "unconfirmed" in self.root("birdc configure status")

    def sessions(self) -> dict[str, tuple[str, str]]:
        rows = [line.split() for line in self.root("birdc show protocols").splitlines()]
        return {r[0]: (f"{r[4]} {r[5]}", r[6]) for r in rows if r[1:2] == ["BGP"]}

    def level_at_peer(self, tenant: str = "de") -> set[str]:
        """What ix1 hears of a tenant from this node, in both families."""
        prefixes = {"de": ("192.0.2.0/24", "2001:db8:de::/48"), "nic": ("198.51.100.0/24", "2001:db8:11c::/48")}
        seen = set()
        for prefix, session in zip(prefixes[tenant], ("ams1_v4", "ams1_v6"), strict=True):
            route = self.lab.run("ix1", ["birdc", "show", "route", prefix, "all", "protocol", session]).stdout
            seen.add("hard" if "as_path" not in route else "soft" if "64500 64500" in route else "serve")
        return seen

    def wait_for(self, is_so: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture
def node(lab: Lab) -> Iterator[Node]:
    """ams1, undrained; its files, their owners and its drain state are put back to the letter afterwards."""
    here = Node(lab)
    here.root("rm -rf /tmp/kept; cp -a /etc/bird /tmp/kept")
    kept = here.serial, here.sessions()
    yield here
    here.root(
        f"cp -a /tmp/kept/. /etc/bird/; rm -rf {LOCK} /etc/bird/drain.stage.* /etc/bird/broken.conf /tmp/kept; birdc configure"
    )
    assert here.serial == kept[0]
    for name, (since, state) in here.sessions().items():
        assert (steady_time(kept[1][name][0], since), state) == kept[1][name], "a session was restarted"
    here.wait_for(lambda: here.level_at_peer() == {"serve"}, 3)


@pytest.mark.lab
def test_soft_hard_and_serve_reach_the_peer_and_the_disk_without_restarting_a_session(node: Node) -> None:
    for level in ("soft", "hard", "serve"):
        before = node.serial
        kept = node.on_disk
        serial, made = node.apply(level)
        assert node.is_pending
        assert node.on_disk == kept
        node.wait_for(lambda level=level: node.level_at_peer() == {level}, 3)  # type: ignore[misc]
        assert node.run(made.confirm) == (Ended.DONE, f"confirmed: serial {serial}, in /etc/bird/drain.conf too")
        assert (node.serial, node.is_pending) == (serial, False)
        assert f"DRAIN_SERIAL = {serial};" in node.on_disk
        assert node.level_at_peer() == {level}
        assert node.level_at_peer("nic") == {"serve"}
        assert node.run(made.confirm)[0] is Ended.NOT_PENDING
        assert node.run(made.revert)[0] is Ended.NOT_PENDING
        ended, words = node.run(made.apply)
        assert (ended, f"planned for {before}" in words) == (Ended.STALE, True)
        # A second operator, and a daemon that starts anew, can read it.
        assert "-rw-rw-r-- ops bird" in node.root("stat -c '%A %U %G' /etc/bird/drain.conf")


@pytest.mark.lab
def test_taken_back_at_once(node: Node) -> None:
    before = node.serial
    serial, made = node.apply()
    assert node.run(made.revert) == (Ended.DONE, f"taken back: serial {serial} -> {before}")
    assert (node.serial, node.is_pending) == (before, False)
    assert node.run(made.revert) == (Ended.DONE, f"taken back already: BIRD is at serial {before}")
    assert node.run(made.confirm)[0] is Ended.NOT_PENDING


@pytest.mark.lab
def test_a_killed_client_leaves_a_change_that_ends_by_itself(node: Node) -> None:
    before, kept = node.serial, node.on_disk
    serial, made = change(before, hold=2)
    with node.ssh(made.apply) as client:
        node.wait_for(lambda: node.serial == serial, 10)
        client.kill()
    node.wait_for(lambda: node.serial == before, 8)
    assert node.on_disk == kept
    ended, words = node.run(made.confirm)
    assert (ended, "taken back already" in words) == (Ended.NOT_PENDING, True)


@pytest.mark.lab
def test_of_five_operators_exactly_one_wins(node: Node) -> None:
    before = node.serial
    changes = [change(before) for _ in range(5)]
    argvs = [node.lab.enter_command("ams1", [*AS_OPERATOR, made.apply]) for _, made in changes]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for argv in argvs]
    ended = [Ended(r.wait(20)) for r in running]
    words = [r.communicate()[0] for r in running]
    assert ended.count(Ended.DONE) == 1, words
    assert set(ended) <= {Ended.DONE, Ended.LOCKED, Ended.PENDING}, words
    assert node.serial == changes[ended.index(Ended.DONE)][0]


@pytest.mark.lab
def test_who_comes_second_is_told_whose_change_it_is(node: Node) -> None:
    before = node.serial
    serial, made = node.apply()
    ended, words = node.run(change(before)[1].apply)
    assert ended is Ended.PENDING
    assert f"serial {serial}, CHG1 op1" in words
    assert node.run(made.revert)[0] is Ended.DONE
    holder = subprocess.Popen(node.lab.enter_command("ams1", ["flock", LOCK, "cat"]), stdin=subprocess.PIPE)
    node.wait_for(lambda: "held" in node.root(f"flock -n {LOCK} true || echo held"), 5)
    assert node.run(change(before)[1].apply)[0] is Ended.LOCKED
    holder.communicate()
    assert node.serial == before


@pytest.mark.lab
def test_a_timer_of_somebody_else_is_neither_used_nor_confirmed(node: Node) -> None:
    before = node.serial
    node.root("birdc configure timeout 30")
    assert node.run(change(before)[1].apply)[0] is Ended.PENDING
    node.root("birdc configure confirm")
    _, made = node.apply()
    node.root("birdc configure timeout 30")
    assert node.run(made.confirm)[0] is Ended.NOT_PENDING
    assert (node.serial, node.is_pending) == (before, True)


@pytest.mark.lab
def test_a_configure_by_somebody_else_drops_the_change_and_confirm_says_so(node: Node) -> None:
    before, kept = node.serial, node.on_disk
    _, made = node.apply()
    node.root("birdc configure")
    assert node.run(made.confirm)[0] is Ended.NOT_PENDING
    assert (node.serial, node.on_disk) == (before, kept)
    assert node.run(made.revert)[0] is Ended.DONE


def break_timer(node: Node) -> None:
    """Somebody's typo: BIRD forgets its timer and what it would go back to, and keeps the change."""
    node.root("echo nonsense >/etc/bird/broken.conf; birdc configure '\"/etc/bird/broken.conf\"'", may_fail=True)
    assert not node.is_pending


@pytest.mark.lab
def test_a_broken_configure_by_somebody_else_is_repaired_by_hand(node: Node) -> None:
    before = node.serial
    serial, made = node.apply()
    break_timer(node)
    ended, words = node.run(made.confirm)
    assert (ended, "somebody ended the timer" in words) == (Ended.NOT_PENDING, True)
    assert node.serial == serial
    assert node.run(made.revert) == (Ended.DONE, f"taken back: serial {serial} -> {before}")


@pytest.mark.lab
def test_a_broken_configure_by_somebody_else_is_repaired_by_the_node_itself(node: Node) -> None:
    before = node.serial
    serial, made = change(before, hold=2)
    with node.ssh(made.apply) as client:
        node.wait_for(lambda: node.is_pending, 10)
        # BIRD's own files are broken, so that nothing can be configured at all until they are mended.
        node.root("echo nonsense >>/etc/bird/main.conf; birdc configure", may_fail=True)
        # The session ends although what it leaves behind lives on.
        client.wait(10)
    guard = node.guard(2)
    assert node.root(f"ps -o sid= -p {guard}").strip() == guard, "a signal to the session would end it"
    assert (node.serial, node.is_pending) == (serial, False)
    ended, words = node.run(made.revert)
    assert (ended, f"serial {serial} stays until that is mended" in words) == (Ended.BAD_CONFIG, True)
    node.wait_for(lambda: node.root("pgrep -xf 'sleep 5'", may_fail=True) != "", 10)
    node.root("cp -a /tmp/kept/main.conf /etc/bird/main.conf")
    node.wait_for(lambda: node.serial == before, 12)


@pytest.mark.lab
def test_taking_back_never_breaks_the_timer_that_would_do_it(node: Node) -> None:
    before = node.serial
    serial, made = node.apply(hold=4)
    node.root("echo nonsense >>/etc/bird/main.conf; touch -d '1 hour ago' /etc/bird/main.conf")
    ended, words = node.run(made.revert)
    assert (ended, "BIRD takes it back by itself" in words) == (Ended.BAD_CONFIG, True)
    node.root("touch -d '2 seconds' /etc/bird/main.conf")
    ended, words = node.run(made.revert)
    assert (ended, "main.conf" in words) == (Ended.DRIFT, True)
    assert (node.serial, node.is_pending) == (serial, True)
    node.wait_for(lambda: node.serial == before, 10)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("edit", "word"),
    [
        ("touch -d '2 seconds' /etc/bird/main.conf", "main.conf"),
        ("sed -i 's/SERIAL = .*;/SERIAL = 7;/' /etc/bird/drain.conf", "drain.conf"),
        ("sed -i 's/(1,/(2,/' /etc/bird/drain.stage.conf", "drain.stage.conf"),
    ],
)
def test_nothing_that_somebody_edited_meanwhile_is_confirmed(node: Node, edit: str, word: str) -> None:
    _, made = node.apply()
    node.root(edit)
    kept = node.on_disk
    ended, words = node.run(made.confirm)
    assert (ended, word in words) == (Ended.DRIFT, True), words
    assert (node.on_disk, node.is_pending) == (kept, True)


@pytest.mark.lab
def test_what_cannot_be_written_is_not_confirmed_and_can_still_be_taken_back(node: Node) -> None:
    before, kept = node.serial, node.on_disk
    serial, made = node.apply()
    node.root("mount -o remount,bind,ro /etc/bird")
    try:
        ended, words = node.run(made.confirm)
        assert (ended, "Read-only file system" in words) == (Ended.CANNOT_WRITE, True), words
        assert (node.serial, node.is_pending, node.on_disk) == (serial, True, kept)
        assert node.run(made.revert)[0] is Ended.DONE
    finally:
        node.root("mount -o remount,bind,rw /etc/bird")
    assert node.serial == before


@pytest.mark.lab
def test_a_confirmation_that_was_cut_short_is_finished_by_whoever_comes_first(node: Node) -> None:
    serial, made = node.apply()
    node.root("mv /etc/bird/drain.stage.conf /etc/bird/drain.conf")
    assert node.run(made.confirm)[0] is Ended.DONE
    assert (node.serial, node.is_pending) == (serial, False)
    serial, _ = node.apply("soft", hold=1)
    node.root("mv /etc/bird/drain.stage.conf /etc/bird/drain.conf")
    node.wait_for(lambda: node.serial != serial, 5)
    node.wait_for(lambda: node.serial == serial, 8)
    node.wait_for(lambda: node.level_at_peer() == {"soft"}, 3)


@pytest.mark.lab
def test_the_guard_of_a_confirmed_change_leaves_the_next_change_alone(node: Node) -> None:
    _, made = node.apply(hold=3)
    assert node.run(made.confirm)[0] is Ended.DONE
    serial, _ = node.apply("soft")
    guard = node.guard(3)
    node.wait_for(lambda: node.root(f"test -e /proc/{guard} || echo gone") != "", 10)
    assert (node.serial, node.is_pending) == (serial, True)


FULL_DISK = (
    "mount -t tmpfs -o size=64k,mode=2775,gid=$(stat -c %g /tmp/kept) none /etc/bird; cp -a /tmp/kept/. /etc/bird; "
    "cat /dev/zero >/etc/bird/fill || test $(stat -c %s /etc/bird/fill) -gt 0"
)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("trouble", "cure", "ended", "words"),
    [
        (FULL_DISK, "umount /etc/bird", Ended.CANNOT_WRITE, "drain.stage.conf: cat: write error: No space left on device"),
        (f": >{LOCK}; mount -o remount,bind,ro /etc/bird", "mount -o remount,bind,rw /etc/bird", Ended.CANNOT_WRITE,
         "Read-only file system"),
        ("chmod 755 /etc/bird", "", Ended.CANNOT_WRITE, "cannot lock /etc/bird: "),
        (f": >{LOCK}; chmod 755 /etc/bird", "", Ended.CANNOT_WRITE, "drain.stage.new: Permission denied"),
        ("chmod 700 /etc/bird", "", Ended.CANNOT_WRITE, "cannot use /etc/bird: "),
        (f"install -m 600 /dev/null {LOCK}", "", Ended.CANNOT_WRITE, "Permission denied"),
        ("chmod 600 /run/bird/bird.ctl", "chmod 660 /run/bird/bird.ctl", Ended.REFUSED, "Permission denied"),
        ("rm /etc/bird/stage.conf", "", Ended.BAD_CONFIG, "there is no /etc/bird/stage.conf"),
        ("cp /etc/bird/bird.conf /etc/bird/stage.conf", "", Ended.BAD_CONFIG, "does not include drain.stage.conf"),
        ("echo nonsense >>/etc/bird/stage.conf", "", Ended.BAD_CONFIG, "/etc/bird/stage.conf:3:1 syntax error"),
        ("sed -i 's/SERIAL = .*;/SERIAL = 7;/' /etc/bird/drain.conf", "", Ended.DRIFT, "/etc/bird/drain.conf says: 7"),
        ("touch -d '2 seconds' /etc/bird/drain.conf", "", Ended.DRIFT, "would ride along: drain.conf"),
        ("touch -d '2 seconds' /etc/bird/main.conf", "", Ended.DRIFT, "would ride along: main.conf"),
        ("chown root:root /etc/bird/drain.conf; chmod 600 /etc/bird/drain.conf", "", Ended.DRIFT, "Permission denied"),
    ],
)  # fmt: skip
def test_a_node_in_trouble_says_which_and_goes_on_as_before(
    node: Node, trouble: str, cure: str, ended: Ended, words: str
) -> None:
    before = node.serial
    _, made = change(before)
    node.root(trouble)
    try:
        said = node.run(made.apply)
        assert not node.is_pending
        assert node.root("ls -A /etc/bird | grep drain.stage.new", may_fail=True) == ""
    finally:
        node.root(cure)
    assert said[0] is ended, said
    assert words in said[1]
    assert node.serial == before
    assert node.level_at_peer() == {"serve"}


# --- BIRD 1.6: no daemon of it can be had here, so a stub says what the samples of 1.6.8 say. It proves the scripts' logic alone.

STUB = r"""#!/bin/sh
shift 2
read_serial() { sed -n 's/define DRAIN_SERIAL = \(.*\);/\1/p' "$1"; }
wire() { sed 's/^[0-9]*[- ]//; s/^ //' "$SAMPLES/wire_$1.txt"; }
wire hello
case "$*" in
  "configure status") wire configure_status; exit 1 ;;
  "show status") wire show_status ;;
  "eval DRAIN_SERIAL") cat running ;;
  "eval DRAIN_NOTE") echo a note ;;
  "configure check"*) printf 'Reading configuration from %s\nConfiguration OK\n' "$PWD" ;;
  "configure \"$PWD/stage.conf\" timeout "*) read_serial drain.stage.conf >running; printf 'Undo scheduled in 9 s\nReconfigured\n' ;;
  configure) read_serial drain.conf >running; echo Reconfigured ;;
  *) echo "syntax error"; exit 1 ;;
esac
"""


@pytest.fixture
def bird16(tmp_path: Path) -> Iterator[Callable[[str], Ended]]:
    """A folder with a 1.6 at serial 0 in it, and what runs a script there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/birdc").write_text(STUB)
    (tmp_path / "bin/birdc").chmod(0o755)
    (tmp_path / "running").write_text("0\n")
    (tmp_path / "drain.conf").write_text(drain_file(0, "", [], []))
    (tmp_path / "bird.conf").write_text('include "drain.conf";\n')
    (tmp_path / "stage.conf").write_text('include "drain.stage.conf";\n')
    for name in ("drain.conf", "bird.conf"):  # older than the sample's last reconfiguration
        os.utime(tmp_path / name, (0, 0))
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    env = {"PATH": path, "SAMPLES": str(SAMPLES / "bird-1.6.8-calico-style")}

    def run(script: str) -> Ended:
        done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=20, check=False)
        assert done.stdout, done.stderr
        return Ended(done.returncode)

    yield run
    (tmp_path / "running").write_text("0\n")


def change16(folder: Path, before: int = 0) -> tuple[int, Transaction]:
    speaker = SpeakerSpec(name="b", kind="bird", socket="/run/b.ctl", drain_file=f"{folder}/drain.conf")
    return change(before, hold=1, speaker=speaker)


def test_bird_1_6_is_drained_without_configure_status(bird16: Callable[[str], Ended], tmp_path: Path) -> None:
    serial, made = change16(tmp_path)
    assert bird16(made.confirm) is Ended.NOT_PENDING
    assert bird16(made.apply) is Ended.DONE
    assert bird16(change16(tmp_path)[1].apply) is Ended.PENDING
    assert bird16(made.revert) is Ended.DONE
    assert bird16(made.apply) is Ended.DONE
    (tmp_path / "running").write_text("0\n")  # its timer ran out: what is left in the folder must not count as pending
    assert bird16(made.confirm) is Ended.NOT_PENDING
    assert bird16(change16(tmp_path, before=5)[1].apply) is Ended.STALE
    assert bird16(made.apply) is Ended.DONE
    assert bird16(made.confirm) is Ended.DONE
    assert (tmp_path / "running").read_text() == f"{serial}\n"
    assert f"DRAIN_SERIAL = {serial};" in (tmp_path / "drain.conf").read_text()


def test_an_edit_is_seen_in_files_that_are_included_by_included_files(
    bird16: Callable[[str], Ended], tmp_path: Path
) -> None:
    for name, text in (
        ("bird.conf", 'include "drain.conf";\ninclude "main.conf";\n'),
        ("main.conf", 'include "p*.conf";\n'),
    ):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "unused.conf").touch()
    assert bird16(change16(tmp_path)[1].apply) is Ended.DONE
    (tmp_path / "running").write_text("0\n")
    (tmp_path / "peers.conf").touch()
    assert bird16(change16(tmp_path)[1].apply) is Ended.DRIFT


@pytest.mark.parametrize(
    "wrong",
    [
        {"note": 'a "quote"'},
        {"note": "a\\backslash"},
        {"note": "two\nlines"},
        {"note": "Zürich"},
        {"serial": 0},
        {"serial": 1 << 32},
        {"hard": frozenset({(1, 1 << 16)})},
    ],
)
def test_nothing_is_written_that_bird_would_read_otherwise(wrong: dict[str, object]) -> None:
    values: dict[str, object] = {"serial": 1, **wrong}
    with pytest.raises(ValueError, match=r"serials|note|pairs"):
        transaction(SPEAKER, DrainState(serial=0), DrainState(**values), [], 30)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["drain.conf", "/drain.conf", '/etc/bird "/drain.conf', "/etc/bird/"])
def test_a_path_that_scripts_and_bird_can_not_share_is_refused(path: str) -> None:
    speaker = SpeakerSpec(name="b", kind="bird", socket="/run/b.ctl", drain_file=path)
    with pytest.raises(ValueError, match="absolute path"):
        change(0, speaker=speaker)


# --- drift that is settled


@pytest.fixture
def drifted(lab: Lab) -> Iterator[Node]:
    """ams1: its drain file says something else than BIRD runs, and ix2_v4 was disabled by hand."""
    here = Node(lab)
    here.root("rm -rf /tmp/kept; cp -a /etc/bird /tmp/kept; birdc disable ix2_v4")
    here.root("sed -i 's/HARD .*/HARD = [ (0,0), (2,11..12) ];/; s/SERIAL .*/SERIAL = 777;/' /etc/bird/drain.conf")
    yield here
    here.root("rm -f /etc/bird/drain.stage.*; cp -a /tmp/kept/. /etc/bird/; rm -rf /tmp/kept; birdc configure")
    here.wait_for(lambda: "Established" in here.sessions()["ix2_v4"][1], 10)


@pytest.mark.lab
@pytest.mark.parametrize("how", ["revert", "timer", "killed timer"])
def test_settling_drift_is_taken_back_to_the_drift_that_was(drifted: Node, how: str) -> None:
    """Neither the drains of the file nor the disabled session come to life, whoever takes it back."""
    node, edited, before = drifted, drifted.on_disk, drifted.serial
    after = DrainState(serial=next(_serials), hard=DE_AT_IX1)
    hold = 30 if how == "revert" else 2
    made = transaction(SPEAKER, DrainState(serial=before), after, [CELL], hold, disk=777, disabled=["ix2_v4"])

    def is_disabled() -> bool:
        return " down " in node.root("birdc show protocols ix2_v4")

    ended, words = node.run(made.apply)
    assert ended is Ended.DONE, words
    assert not is_disabled()
    if how == "revert":
        assert node.run(made.revert)[0] is Ended.DONE
    elif how == "killed timer":
        node.root("echo nonsense >/tmp/no.conf; birdc configure '\"/tmp/no.conf\"' || rm /tmp/no.conf")
        assert (node.serial, node.is_pending) == (after.serial, False)
    node.wait_for(lambda: node.serial == before and is_disabled(), 10)
    assert node.on_disk == edited
    node.wait_for(lambda: node.level_at_peer("nic") == node.level_at_peer("de") == {"serve"}, 3)


@pytest.mark.lab
def test_drift_is_only_settled_as_it_was_seen(drifted: Node) -> None:
    states = DrainState(serial=drifted.serial), DrainState(serial=next(_serials))
    other = transaction(SPEAKER, *states, [], 30, disk=778, disabled=["ix2_v4"])
    assert drifted.run(other.apply)[0] is Ended.DRIFT
    enabled = transaction(SPEAKER, *states, [], 30, disk=777, disabled=["ix1_v4"])
    assert drifted.run(enabled.apply)[0] is Ended.STALE
    drifted.root("touch /etc/bird/main.conf -d '+2 seconds'")
    seen = transaction(SPEAKER, *states, [], 30, disk=777, disabled=["ix2_v4"])
    ended, words = drifted.run(seen.apply)
    assert (ended, "would ride along: main.conf" in words) == (Ended.DRIFT, True)
    assert drifted.serial == states[0].serial
