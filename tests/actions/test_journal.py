"""The journal keeps what was done through crashes, full disks and several consoles at once, and keeps secrets out."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from anyconsole.actions.journal import LONGEST_OUTPUT, Journal, bounded_output, journal_of, new_id
from anyconsole.actions.journal_record import FOUND, OPEN, RUNNING, JournalledChange, durations, summary
from anyconsole.actions.journal_report import markdown
from anyconsole.actions.journal_scrub import REMOVED, scrub, scrub_json
from anyconsole.actions.run import Operator, Outcome, Proof, StepRun
from anyconsole.errors import JournalError
from anyconsole.model.inventory import Inventory
from anyconsole.model.verdicts import Intent
from tests.actions.journalled import ALICE, NOW, ended, run, step

BOB = Operator(user="bob", host="desk2")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: mounts a tiny file system, or becomes somebody else"
)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "lab"


@pytest.fixture
def journal(folder: Path) -> Journal:
    return Journal(folder, clock=Clock())


def month(folder: Path) -> Path:
    return folder / "2026-11.jsonl"


# --- a change from its beginning to its end


def test_a_change_is_read_back_as_it_was_made(journal: Journal) -> None:
    begun = run()
    change = journal.open_change(begun)
    change.record("step", step=0, host="fra1", event="applied", exit_status=0, output="ok\n")
    change.close(ended(begun))
    (read,) = journal.changes()
    assert read.plan == begun.plan
    assert (read.operator, read.guards, read.overrides) == (ALICE, begun.guards, begun.overrides)
    assert (read.outcome, read.words, read.ticket, read.reason) == (
        "done",
        "1 of 1 steps done",
        "CHG-7",
        "router upgrade",
    )
    assert [r.kind for r in read.records] == ["opened", "step", "closed"]
    assert read.records[1].fields == {"step": 0, "host": "fra1", "event": "applied", "exit_status": 0, "output": "ok\n"}
    assert journal.change(change.id) == read
    assert list(journal.folder.glob("*.lock")) == []


def test_what_is_written_is_on_the_disk_before_the_caller_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    change = Journal(folder, clock=Clock()).open_change(run())
    # The folders that were made and the one the file was made in, too, or the file is gone after a power cut.
    assert synced == [folder.parent.parent, folder.parent, month(folder), folder]
    change.record("step", step=0, event="applying")
    assert synced[4:] == [month(folder)]


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_nobody_else_can_read_it_whatever_the_umask(umask: int, folder: Path) -> None:
    before = os.umask(umask)
    try:
        Journal(folder, clock=Clock()).open_change(run())
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (folder.parent, folder, *folder.iterdir())}
    assert set(modes.values()) == {0o700, 0o600}
    assert modes["2026-11.jsonl"] == 0o600


def test_a_journal_that_was_opened_to_others_is_closed_to_them_again(journal: Journal, folder: Path) -> None:
    change = journal.open_change(run())
    folder.chmod(0o755)
    month(folder).chmod(0o644)
    change.close(ended(run()))
    journal.open_change(run())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(month(folder).stat().st_mode) == 0o600


def test_a_change_over_the_end_of_a_month_stays_whole_even_if_the_clock_goes_back(folder: Path) -> None:
    clock = Clock()
    journal = Journal(folder, clock=clock)
    clock.now = 1_796_083_200.0 + 5  # 2026-12-01 00:00:05
    change = journal.open_change(run())
    clock.now -= 10
    change.close(ended(run()))
    assert [p.name for p in folder.iterdir()] == ["2026-12.jsonl"]
    assert journal.changes(limit=1)[0].outcome == "done"
    assert summary(journal.changes()[0]).seconds == 0


def test_a_limit_reads_the_newest_months_and_never_half_a_change(folder: Path) -> None:
    clock = Clock()
    journal = Journal(folder, clock=clock)
    for _ in range(3):
        journal.open_change(run()).close(ended(run()))
        clock.now += 1
    over_new_year = journal.open_change(run())
    clock.now += 14 * 86400
    over_new_year.close(ended(run()))
    last = journal.open_change(run())
    assert [c.id for c in journal.changes(limit=1)] == [last.id]
    assert [(c.id, len(c.records)) for c in journal.changes(limit=2)] == [(last.id, 1), (over_new_year.id, 2)]
    assert len(journal.changes()) == 5


def test_names_of_changes_sort_by_time_and_differ_within_a_second() -> None:
    assert new_id(NOW).startswith("20261123-185320-")
    assert new_id(NOW) < new_id(NOW + 1)
    assert len({new_id(NOW) for _ in range(20)}) > 15


def test_a_name_cannot_lead_out_of_the_folder(journal: Journal) -> None:
    with pytest.raises(JournalError, match="can't be the name"):
        journal.open_change(run("../../etc/x"))


def test_profiles_never_share_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folders = [
        journal_of(Inventory(name=name)).folder
        for name in ("lab", "lab 2", "a/b", "a%2Fb", "..", ".", "", "prod.example")
    ]
    assert len(set(folders)) == 8
    assert {f.parent for f in folders} == {tmp_path / "anyconsole" / "journal"}
    assert folders[-1].name == "prod.example"


# --- what crashes and full disks leave

HOLDER = """
import sys
from pathlib import Path
from anyconsole.actions.journal import Journal
from tests.actions.journalled import run
change = Journal(Path(sys.argv[1])).open_change(run())
change.record("step", step=0, host="fra1", event="applying", script="echo apply")
print(change.id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another console in the middle of a change, and the id of that change."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], 30)[0]
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_killed_console_leaves_an_open_change_that_somebody_closes_once(
    journal: Journal, folder: Path, holder: tuple[subprocess.Popen[str], str]
) -> None:
    process, id_ = holder
    assert journal.change(id_).outcome == RUNNING
    with pytest.raises(JournalError, match="another console"):
        journal.acknowledge(id_, BOB, "all serve")
    process.send_signal(signal.SIGKILL)
    process.wait(10)

    left = journal.change(id_)
    assert (left.outcome, left.closed_at) == (OPEN, None)
    assert left.records[-1].fields["event"] == "applying"

    journal.acknowledge(id_, BOB, "fra1 went back by itself")
    closed = journal.change(id_)
    assert (closed.outcome, closed.words, closed.operator) == (FOUND, "fra1 went back by itself", ALICE)
    assert closed.records[-1].fields["operator"]["user"] == "bob"
    with pytest.raises(JournalError, match="closed already"):
        journal.acknowledge(id_, BOB, "again")
    assert list(folder.glob("*.lock")) == []


def test_a_change_closed_while_somebody_looks_is_never_shown_as_left_open(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = journal.open_change(run())
    reader = Journal(folder)
    look = Journal._is_held

    def closed_meanwhile(self: Journal, id_: str) -> bool:
        change.close(ended(run()))
        return look(self, id_)

    monkeypatch.setattr(Journal, "_is_held", closed_meanwhile)
    assert [c.outcome for c in reader.changes()] == ["done"]


@pytest.mark.parametrize(
    "torn", [b'{"v":1,"at":1795460000,"id":"x","ki', b"\xff\xfe", b"null", b'{"at": NaN, "id": "x", "kind": "y"}']
)
def test_a_torn_line_costs_that_line_alone_and_is_told(torn: bytes, journal: Journal, folder: Path) -> None:
    change = journal.open_change(run())
    with month(folder).open("ab") as file:
        file.write(torn)
    change.close(ended(run()))
    contents = journal.read()
    assert [c.outcome for c in contents.changes] == ["done"]
    assert contents.remarks == (f"1 unreadable line in {month(folder)}",)


def test_a_change_without_its_first_record_is_shown_and_not_dropped(journal: Journal, folder: Path) -> None:
    change = journal.open_change(run())
    change.close(ended(run()))
    first, last = month(folder).read_bytes().splitlines(keepends=True)
    month(folder).write_bytes(first[:50] + b"\n" + last)
    (read,) = journal.changes()
    assert (read.id, read.outcome, read.operator.user) == (change.id, "done", "unknown")
    assert "missing" in markdown(read)


def test_a_plan_of_another_version_is_no_reason_to_lose_the_change(journal: Journal, folder: Path) -> None:
    journal.open_change(run()).close(ended(run()))
    opened, closed = month(folder).read_text().splitlines()
    document = json.loads(opened)
    document["plan"] = {"shape": "of the future"}
    month(folder).write_text(f"{json.dumps(document)}\n{closed}\n")
    (read,) = journal.changes()
    assert (read.title, read.outcome, read.plan.steps) == ("drain soft: node fra1", "done", ())
    assert "another version" in markdown(read)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@needs_root
def test_a_full_disk_is_an_error_that_names_file_and_cause_and_spoils_nothing(tiny_disk: Path) -> None:
    journal = Journal(tiny_disk / "journal", clock=Clock())
    change = journal.open_change(run())
    with pytest.raises(JournalError, match=r"2026-11\.jsonl: the journal can't be written: No space left on device"):
        change.record("step", step=0, event="applying", script="x" * 100_000)
    with pytest.raises(JournalError, match="No space left"):
        change.close(ended(run()))
    assert journal.change(change.id).outcome == OPEN  # its console has given up on it
    with pytest.raises(JournalError, match="No space left"):
        journal.open_change(run())

    subprocess.run(["mount", "-o", "remount,size=1m", tiny_disk], check=True)
    change.close(ended(run()))
    contents = journal.read()
    assert [(c.id, c.outcome) for c in contents.changes] == [(change.id, "done")]
    assert len(contents.remarks) == 1
    assert (
        contents.remarks[0].endswith(f"unreadable lines in {tiny_disk}/journal/2026-11.jsonl")
        or "1 unreadable" in contents.remarks[0]
    )


@needs_root
def test_a_read_only_file_system_stops_changes_but_not_reading(tiny_disk: Path) -> None:
    journal = Journal(tiny_disk / "journal", clock=Clock())
    journal.open_change(run()).close(ended(run()))
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(JournalError, match="Read-only file system"):
        journal.open_change(run())
    assert [c.outcome for c in journal.changes()] == ["done"]


@needs_root
def test_a_folder_of_somebody_else_is_an_error_and_not_an_empty_journal(journal: Journal) -> None:
    journal.open_change(run())
    os.seteuid(65534)
    try:
        with pytest.raises(JournalError, match="Permission denied"):
            journal.open_change(run())
        with pytest.raises(JournalError, match="Permission denied"):
            Journal(journal.folder).changes()
    finally:
        os.seteuid(0)


APPENDER = """
import sys
from pathlib import Path
from anyconsole.actions.journal import Journal
from tests.actions.journalled import ended, run
journal = Journal(Path(sys.argv[1]))
for number in range(8):
    change = journal.open_change(run())
    change.record("note", text=sys.argv[2] * 20_000)
    change.close(ended(run()))
"""


def test_consoles_that_write_at_the_same_time_never_mix_their_lines(journal: Journal) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", APPENDER, str(journal.folder), letter]) for letter in "abcd"]
    assert [w.wait(60) for w in writers] == [0] * 4
    contents = journal.read()
    assert contents.remarks == ()
    assert len(contents.changes) == 32
    notes = [c.records[1].fields["text"] for c in contents.changes]
    assert sorted(notes) == sorted(letter * 20_000 for letter in "abcd" for _ in range(8))
    assert {c.outcome for c in contents.changes} == {"done"}


# --- texts


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters()),
    st.dictionaries(st.text(), st.floats() | st.integers() | st.booleans() | st.none() | st.text()),
)
@example("line\nline\r\n\x00\x1b[2J\u2028\x85\udcff", {"\ud800": float("nan")})
def test_any_text_survives_the_journal_but_for_secrets(tmp_path: Path, text: str, values: dict[str, object]) -> None:
    journal = Journal(tmp_path / "texts", clock=Clock())
    change = journal.open_change(run(reason=text))
    change.record("note", text=text, values=values)
    change.close(ended(run(), words=text))
    read = journal.change(change.id)
    assert (read.reason, read.words) == (scrub(text), scrub(text))
    assert read.records[1].fields == {"text": scrub(text), "values": scrub_json(values)}
    assert "\x1b" not in markdown(read)
    (tmp_path / "texts" / "2026-11.jsonl").unlink()


def test_output_is_bounded_cleaned_and_says_what_it_lacks() -> None:
    assert bounded_output("a\tb\x1b[31m\r\nüber\n") == "a       b [31m\nüber\n"
    long = bounded_output("ü" * 4000)
    kept, _, rest = long.partition("\n")
    assert len(kept.encode()) == LONGEST_OUTPUT
    assert rest == "… 3904 bytes more"


SECRETS = [
    'key "k" { algorithm hmac-sha256; secret "HUSHHUSHHUSHHUSH=="; };',
    "key:\n  - id: k\n    secret: HUSHHUSHHUSHHUSH==",
    "neighbor 192.0.2.1 password HUSH",
    "enable password 8 HUSH",
    'password "a\\"HUSH";',
    'printf "%s" "password \\"HUSH\\";"',
    '{"password": "HUSH"}',
    "auth-password = 'HUSH'",
    "export PGPASSWORD=HUSH",
    'password "HUSH and then the output was cut',
    "ip ospf message-digest-key 1 md5 HUSH",
    "dig -y hmac-sha256:k:HUSHHUSH== @192.0.2.53",
    "dig -y k:HUSHHUSH== @192.0.2.53",
    "key hmac-sha256:k HUSHHUSHHUSHHUSH==",
    "key k HUSHHUSHHUSHHUSH==",
    "PrivateKey: HUSH",
    "https://user:HUSH@prometheus.example.net/",
    "Authorization: Bearer HUSH",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nHUSH\n-----END OPENSSH PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\nHUSH, and cut",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_secret_reaches_the_disk(text: str, journal: Journal, folder: Path) -> None:
    secret_step = step()
    begun = run(
        reason=text, steps=(type(secret_step)(host="fra1", title="t", apply=text, confirm=text, revert=text, hold=9),)
    )
    change = journal.open_change(begun)
    change.record("step", step=0, event="applied", output=text, commands=[text], proofs=[{"words": text}])
    change.close(ended(begun, words=text))
    assert b"HUSH" not in month(folder).read_bytes()
    assert REMOVED.encode() in month(folder).read_bytes() or b"[private key removed]" in month(folder).read_bytes()


def test_what_only_names_a_secret_is_known_by_its_name() -> None:
    assert scrub_json({"password": "x", "token": "y", "key": "alice@laptop"}) == {
        "password": REMOVED,
        "token": REMOVED,
        "key": "alice@laptop",
    }
    assert scrub_json(["birdc", "--password", "x", "-v"]) == ["birdc", "--password", REMOVED, "-v"]


def test_plain_sentences_and_scripts_are_left_alone() -> None:
    plain = "set -e\nkey=$(cat drain.conf)\n# 3 tokens, key exchange ok; community 64500:1\nflock -n 9 || exit 75\n"
    assert scrub(plain) == plain


@given(st.text(st.sampled_from("password secret:=\"'\\;\n{}-y hmac key BEGIN")))
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    assert scrub(scrub(text)) == scrub(text)


# --- the report

FENCES = "```\n# not a heading\n````\n~~~\n</details><script>\n`````"


def journalled(journal: Journal, output: str, words: str = "1 of 1 steps done") -> JournalledChange:
    begun = run(reason=words)
    change = journal.open_change(begun)
    change.record("step", step=0, host="fra1", event="applying", script="echo apply\n")
    change.record("step", step=0, host="fra1", event="applied", exit_status=0, output=output)
    proof = Proof(layer="daemon", met=True, words=words, required=True, since=NOW + 2)
    change.record("step", step=0, host="fra1", event="done", proofs=(proof,), timings={"daemon": 1.5})
    change.close(ended(begun, words=words))
    return journal.change(change.id)


def test_the_report_tells_who_what_why_when_and_how_it_ended(journal: Journal) -> None:
    text = markdown(journalled(journal, "reconfigured\n"))
    for expected in (
        "# drain soft: node fra1",
        "| Outcome | **done**: 1 of 1 steps done |",
        "| Who | alice on desk1 (SSH key alice@laptop) |",
        "| Ticket | CHG-7 |",
        "| Opened | 2026-11-23 18:53:20 UTC |",
        "| de | 192.0.2.0/24 | rs1_v4 | rs1 | serve | soft | announced |",
        "| floor | REFUSE | served by 1 nodes, at least 2 are wanted | overridden |",
        "- **floor**: agreed with NOC",
        "**2026-11-23 18:53:20** step 1, fra1: applied; exit status: 0",
        "```sh\necho apply\n```",
        "```\nreconfigured\n```",
        "| 1 | fra1 | daemon | yes | seen | 1.5 s | 1 of 1 steps done |",
    ):
        assert expected in text
    ran, not_run = text.split("## Scripts that were not run")
    assert "echo apply" in ran
    assert "echo revert" in not_run
    assert "echo apply" not in not_run


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "the node takes it back by itself after 120 s"),
        ({"confirm": "", "lasting": True}, "What of it is done stays, however it ends"),
        ({"confirm": ""}, "It ends by itself 120 s after its console"),
    ],
)
def test_the_report_promises_of_a_step_only_what_it_is(journal: Journal, fields: dict[str, object], words: str) -> None:
    made = run(steps=(msgspec.structs.replace(step(), **fields),))
    text = markdown(journal.change(journal.open_change(made).id))
    assert words in text
    assert text.count("by itself") == ("by itself" in words)


@pytest.mark.parametrize(
    "hostile", [FENCES, "| a | b |\n|---|", "<img src=x>", "*a* _b_ __c__ [d](e) `f` &amp; \\", "# x\n- y"]
)
def test_nothing_a_node_or_an_operator_says_becomes_markup(hostile: str, journal: Journal) -> None:
    change = journalled(journal, hostile, words=hostile)
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown(change))
    fences = [t.content for t in tokens if t.type == "fence"]
    assert bounded_output(hostile) + "\n" in fences
    assert sum(t.type == "table_open" for t in tokens) == 4
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert headings == [
        "drain soft: node fra1", "Plan", "Step 1: fra1, drain soft", "Guards", "Overrides", "Timeline (UTC)", "Verification",
        "Scripts that were not run",
    ]  # fmt: skip
    inline = [child.type for t in tokens for child in t.children or ()]
    assert {"em_open", "link_open", "image", "code_inline", "html_inline", "html_block"}.isdisjoint(
        {*inline, *(t.type for t in tokens)}
    )
    said = [t.content for t in tokens if t.type == "inline" and t.content.startswith("**done**")]
    rendered = [
        "".join(c.content for c in t.children or () if c.type in ("text", "text_special"))
        for t in tokens
        if t.type == "inline"
    ]
    assert len(said) == 1
    assert f"done: {' '.join(hostile.split())}" in rendered


# --- estimates


def test_the_next_plan_learns_from_the_last_ten_times(folder: Path) -> None:
    clock = Clock()
    journal = Journal(folder, clock=clock)
    for number in range(12):
        begun = run(steps=(step("fra1", Intent.SOFT), step("ams1", Intent.HARD)))
        change = journal.open_change(begun)
        change.record("step", step=0, host="fra1", event="done", timings={"daemon": float(number), "queries": 60.0})
        change.record("step", step=1, host="ams1", event="reverted", timings={"daemon": 99.0})
        change.close(ended(begun))
        clock.now += 60
    estimates = durations(journal.changes(), {"fra1": "fra", "ams1": "ams"})
    assert estimates.keys() == {("fra", "soft")}  # what was taken back is no measure
    daemon = estimates["fra", "soft"]["daemon"]
    assert (daemon.median, daemon.worst, daemon.count) == (6.5, 11.0, 10)
    assert durations(journal.changes(), {}) == {}


# --- syslog


def test_syslog_gets_one_bounded_line_per_record(folder: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "log"))
        receiver.settimeout(5)
        journal = Journal(folder, clock=Clock(), syslog=True, syslog_path=str(tmp_path / "log"))
        change = journal.open_change(run(reason="two\nlines \x1b[2J password HUSH" + "x" * 500))
        change.record("note", **{f"f{n}": "y" * 500 for n in range(20)})
        lines = [receiver.recv(1 << 16).decode() for _ in range(2)]
    assert lines[0].startswith(
        f'<13>anyconsole[{os.getpid()}]: journal change={change.id} kind=opened operator="alice@desk1" '
    )
    assert 'reason="two lines  [2J password [removed]"' in lines[0]
    assert all(line.isprintable() and len(line.encode()) <= 1100 for line in lines)
    assert lines[1].endswith("…")


def test_a_dead_syslog_is_told_once_and_stops_nothing(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(folder, clock=Clock(), syslog=True, syslog_path=str(tmp_path / "nobody"))
    change = journal.open_change(run())
    change.close(ended(run(), Outcome.ROLLED_BACK))
    assert journal.change(change.id).outcome == "rolled back"
    assert sum("syslog" in r.message for r in caplog.records) == 1


def test_a_syslog_that_takes_nothing_delays_a_change_by_half_a_second_at_most(folder: Path, tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler,
    ):
        deaf.bind(str(tmp_path / "log"))
        filler.connect(str(tmp_path / "log"))
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                filler.send(b"x")
        change = Journal(folder, clock=Clock(), syslog=True, syslog_path=str(tmp_path / "log")).open_change(run())
    assert [c.id for c in Journal(folder).changes()] == [change.id]


def test_timings_of_a_run_are_in_its_last_record(journal: Journal) -> None:
    begun = run()
    change = journal.open_change(begun)
    change.close(
        type(begun)(id="", plan=begun.plan, operator=ALICE, began_at=NOW, steps=(StepRun(timings={"daemon": 2.0}),))
    )
    closed = journal.change(change.id)
    assert closed.records[-1].fields["timings"] == {"0": {"daemon": 2.0}}
    assert closed.outcome == "unknown"
