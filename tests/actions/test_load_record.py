"""A load test's file says what was measured and under which conditions, whatever happens to the console that writes it."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.actions.load.answer import Answer, Ending
from anyconsole.actions.load.answer import Sustained as LongRun
from anyconsole.actions.load.files import RunFile, read_run
from anyconsole.actions.load.record import Header, InstanceSecond, LimitCause, Periodic, Result
from anyconsole.actions.load.rows import counts_of, line_of, periodic_of, result_of, rows_of
from anyconsole.errors import LoadError
from anyconsole.model.load import Counts, Latency, total
from tests.actions.load_runs import NOW, Clock, counts, header, write_search, write_soak


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_search(tmp_path_factory.mktemp("loadtests"), header("20261123-185320-ab3f"))


def test_a_file_gives_back_the_conditions_the_trials_and_the_result(search: Path) -> None:
    run = read_run(search)
    assert (run.id, run.state, run.remarks) == ("20261123-185320-ab3f", "done", ())
    assert run.began_at == NOW
    assert run.conditions == header("x").x
    assert [t.phase for t in run.trials][-1] == "confirm"
    assert {t.verdict for t in run.trials} == {"ok", "bad", "void"}
    assert run.trials[14].why == "the generator skipped 10.0 %"
    assert (run.result.verdict, run.result.trials) == ("ok", 26)
    assert run.result.lower_qps == pytest.approx(20_202, rel=0.001)
    assert run.result.limit is not None
    assert run.result.limit.evidence == {"throttled_periods": "9 of 10"}
    assert run.seconds[3].x is not None
    assert run.seconds[3].x.inst["de-k3s-2"] == InstanceSecond(share=1.0, served=20_000, cpu=0.7, throttled=4)


def test_the_totals_are_those_of_all_trials(search: Path) -> None:
    run = read_run(search)
    assert run.summary is not None
    assert run.summary.queries == sum(t.sent for t in run.trials)
    assert run.summary.response_rcodes["NXDOMAIN"] == sum(t.response_rcodes["NXDOMAIN"] for t in run.trials)


def test_rows_have_the_names_of_dns_metrics_so_that_other_tools_read_them(search: Path) -> None:
    rows = [json.loads(line) for line in search.read_bytes().splitlines()]
    assert {row["runid"] for row in rows} == {"20261123-185320-ab3f"}
    first = {row["type"]: row for row in reversed(rows)}
    assert set(first) == {"header", "event", "stats_periodic", "trial", "stats_sum"}
    assert first["header"].keys() >= {
        "schema_version", "generator", "generator_version", "generator_params", "time_units_per_sec", "stats_interval", "timeout",
    }  # fmt: skip
    for kind in ("stats_periodic", "stats_sum"):
        assert first[kind].keys() >= {
            "since",
            "until",
            "queries",
            "responses",
            "timeouts",
            "unexpected",
            "response_rcodes",
        }
        assert first[kind]["response_latency"].keys() == {"avg", "min", "max", "buckets"}
    assert "cpu_s_per_Mq_server" in first["stats_sum"]["x"]["result"]


def test_only_the_user_can_read_it(search: Path) -> None:
    assert stat.S_IMODE(search.stat().st_mode) == 0o600
    assert stat.S_IMODE(search.parent.stat().st_mode) == 0o700
    assert search.parent.name == "2026"


def test_a_file_cut_off_anywhere_is_an_aborted_run_without_a_result(search: Path, tmp_path: Path) -> None:
    content, cut = search.read_bytes(), tmp_path / "cut.jsonl"
    header_ends, end_begins = content.index(b"\n"), content.rindex(b"\n", 0, -1)
    whole = len(read_run(search).trials)
    for length in random.Random(7).sample(range(header_ends + 1, end_begins), 40):
        cut.write_bytes(content[:length])
        run = read_run(cut)
        assert run.state == "aborted"
        assert (run.result.verdict, run.result.lower_qps) == ("aborted", None)
        assert len(run.trials) <= whole
        assert len(run.remarks) <= 1
    cut.write_bytes(content[: header_ends - 1])
    with pytest.raises(LoadError, match="no row in it has the type header"):
        read_run(cut)


def test_a_run_that_goes_on_is_told_from_one_whose_console_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from anyconsole.actions.load.files import RunFile; from tests.actions.load_runs import header\n"
        "file = RunFile.create(Path(sys.argv[1]), header('a-1')); file.event('begins'); print(file.path, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as console:
        assert console.stdout is not None
        path = Path(console.stdout.readline().strip())
        assert read_run(path).state == "running"
        console.send_signal(signal.SIGKILL)
    run = read_run(path)
    assert (run.state, run.events[0].msg) == ("aborted", "begins")


def test_fields_and_rows_of_newer_versions_are_passed_over(search: Path, tmp_path: Path) -> None:
    lines = search.read_bytes().splitlines()
    newer = json.loads(lines[0])
    newer["x"]["weather"], newer["new"] = "rain", [1, 2]
    path = tmp_path / "newer.jsonl"
    path.write_bytes(b"\n".join([json.dumps(newer).encode(), b'{"runid":"a","type":"moon_phase"}', *lines[1:]]))
    run = read_run(path)
    assert run.result == read_run(search).result
    assert run.conditions == read_run(search).conditions
    assert run.remarks == (f"1 of the unknown type 'moon_phase' in {path}",)


def test_what_kxdpgun_wrote_can_be_read(tmp_path: Path) -> None:
    """As kxdpgun 3.4 -j writes it: runs are numbers, `additional_info` and summaries of threads are its own."""
    rows = (
        (
            '{"runid":17,"type":"header","schema_version":20240530,"generator":"kxdpgun","generator_version":"3.4.0","generator_params":'
            '["kxdpgun","-j"],"time_units_per_sec":1000000000,"stats_interval":1.0,"additional_info":{"interface":"eth1"}}'
        ),
        '{"type":"thread_summary","runid":17,"subid":0,"qry_sent":99900,"ans_recv":97236,"lost":0,"errors":0}',
        (
            '{"runid":17,"type":"stats_sum","since":1795460000000000000,"until":1795460005000000000,"queries":99900,"responses":97236,'
            '"response_rcodes":{"NOERROR":87635,"NXDOMAIN":9601},"conn_info":{"type":"udp","socket_errors":0}}'
        ),
    )
    path = tmp_path / "kxdpgun.json"
    path.write_text("\n".join(rows))
    run = read_run(path)
    assert (run.id, run.state, run.header.generator, run.began_at) == ("17", "done", "kxdpgun", NOW)
    assert run.summary is not None
    found = counts_of(run.summary)
    assert (found.sent, found.answered, found.rcodes) == (99900, 97236, {0: 87635, 3: 9601})
    # The same, spread over lines.
    path.write_text("\n".join(json.dumps(json.loads(row), indent=4) for row in rows))
    assert read_run(path).summary == run.summary


def test_times_of_other_tools_are_read_in_their_units() -> None:
    row = '{"runid":"1","type":"stats_periodic","since":1,"until":2,"response_latency":{"avg":126,"buckets":[[100,152,40],[3904,3967,1]]}}'
    (second,), remarks = rows_of(row.encode())
    assert isinstance(second, Periodic)
    assert remarks == ()
    latency = counts_of(second, 1_000_000).latency
    assert latency.count == 41
    assert latency.percentile(0.5) == pytest.approx(126e-6, rel=0.03)


def test_no_secret_gets_into_the_file(tmp_path: Path) -> None:
    head = header("a-1")
    x = msgspec.structs.replace(head.x, reason="password: hunter2")
    head = msgspec.structs.replace(head, x=x, generator_params=("dnsperf", "-y", "hmac-sha256:key:c2VjcmV0c2VjcmV0"))
    with RunFile.create(tmp_path, head) as file:
        file.event("token=abcdef was refused", "note")
        file.end(Result(verdict="ok", why="secret 'sesame'"))
    content = file.path.read_text()
    assert [word for word in ("hunter2", "c2VjcmV0", "abcdef", "sesame") if word in content] == []
    assert content.count("[removed]") == 4


def test_nothing_is_begun_that_cannot_be_recorded(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="can't be the name"):
        RunFile.create(tmp_path, header("../evil"))
    RunFile.create(tmp_path, header("a-1")).close()
    with pytest.raises(LoadError, match="there already"):
        RunFile.create(tmp_path, header("a-1"))
    (tmp_path / "file").write_text("")
    with pytest.raises(LoadError, match="the load test can't be recorded: "):
        RunFile.create(tmp_path / "file", header("a-2"))


def test_a_full_disk_is_told_at_the_row_that_did_not_fit(tmp_path: Path) -> None:
    file = RunFile.create(tmp_path, header("a-1"))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file._descriptor or 0)
    os.close(full)
    with pytest.raises(LoadError, match="No space left on device"):
        file.periodic(NOW, Counts(sent=1))
    file.close()
    with pytest.raises(LoadError, match="is closed"):
        file.event("too late")


def test_an_end_that_is_written_twice_says_so(tmp_path: Path) -> None:
    with RunFile.create(tmp_path, header("a-1"), clock=Clock()) as file:
        file.end(Result(verdict="ok"))
        with pytest.raises(LoadError, match="is closed"):
            file.end(Result(verdict="ok"))


def test_percentiles_of_a_whole_run_come_from_its_seconds(tmp_path: Path) -> None:
    run = read_run(write_soak(tmp_path, header("a-1")))
    dice = random.Random(3)
    live = total(counts(8000, 8000 * (0.93 if second == 77 else 1.8), dice) for second in range(120))
    read = total(counts_of(second) for second in run.seconds)
    assert read == live
    assert read.latency.percentile(0.99) == live.latency.percentile(0.99)


_counts = st.integers(0, 10**9)


@given(
    st.builds(
        Counts, offered=_counts, sent=_counts, answered=_counts, late=_counts, truncated=_counts, stray=_counts, skipped=_counts,
        receive_errors=_counts, rcodes=st.dictionaries(st.integers(0, 4095), st.integers(1, 10**9), max_size=5),
        latency=st.builds(Latency, bins=st.dictionaries(st.integers(0, 600), st.integers(1, 10**9), max_size=9)),
    )
)  # fmt: skip
def test_a_second_comes_back_as_it_was_counted(found: Counts) -> None:
    (second,), remarks = rows_of(line_of(periodic_of("a-1", NOW, found, {})))
    assert isinstance(second, Periodic)
    assert (counts_of(second), remarks) == (found, ())


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b'{"runid":', b'"type":', b'"trial"', b"{", b"}", b"1", b"\n", b","])).map(b"".join)
)
def test_any_bytes_are_rows_or_remarks_and_never_an_exception(content: bytes) -> None:
    rows, remarks = rows_of(content)
    assert bool(rows or remarks) == any(line.strip() for line in content.split(b"\n"))


def test_an_answer_of_a_search_is_recorded_with_what_limited_it() -> None:
    long = LongRun(rate=5000, seconds=30, loss=0.004, p50=0.001, p95=0.002, p99=0.003, worst=0.01)
    answer = Answer(
        ending=Ending.OK,
        why="",
        lower=5000,
        upper=5050,
        loss=0.009,
        p99=0.003,
        sustained=long,
        plateau=4950,
        trials=22,
        seconds=61,
    )
    result = result_of(answer, limit=LimitCause(cause="cpu-quota"), cpu_s_per_mq_server=7.1)
    assert (result.verdict, result.lower_qps, result.upper_qps, result.plateau_qps) == ("ok", 5000, 5050, 4950)
    assert result.sustained is not None
    assert (result.sustained.qps, result.sustained.max) == (5000, 0.01)
    assert result.limit == LimitCause(cause="cpu-quota")


def test_cores_are_the_least_of_quota_cpu_set_and_workers() -> None:
    (instance,) = header("x").x.target.instance
    assert instance.cores == 1.5
    assert msgspec.structs.replace(instance, cpu_limit=None, cpuset="0-1,8").cores == 3
    assert msgspec.structs.replace(instance, cpu_limit=None, workers=None).cores is None
    assert Header(runid="1").x.target.cores is None
