"""The views show what the verdicts say, in the same words on the screen and in JSON."""

from __future__ import annotations

import json
import math

import msgspec
import pytest

from anyconsole.model.drain_note import DrainNote
from anyconsole.model.facts import Exported, LinkState, SessionState
from anyconsole.model.inventory import Family, SessionSpec
from anyconsole.model.metrics import DnsProbe
from anyconsole.model.report import render, row_value, summary
from anyconsole.model.store import FleetStore
from anyconsole.model.table import ASCII, UNICODE, Row, View, clean, duration, rate
from anyconsole.model.verdicts import Verdict
from anyconsole.model.views import spark, views
from anyconsole.model.views.drains import scope_words
from tests.fleet import CLUSTER, NOW, healthy_hybrid, healthy_store, hybrid, inventory


def rows_of(store: FleetStore, name: str, now: float = NOW) -> tuple[View, list[Row]]:
    view = views(store)[name]
    return view, view.rows(store, now)


@pytest.mark.parametrize("name", ["fleet", "tenants", "bgp", "announcements", "catchment", "health", "qps"])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_every_view_has_a_cell_per_column_full_or_empty(name: str, glyphs: object) -> None:
    for store in (healthy_store(), FleetStore(inventory())):
        view = views(store)[name]
        rows = view.rows(store, NOW, glyphs)  # type: ignore[arg-type]
        assert rows
        assert len({row.key for row in rows}) == len(rows)
        for row in rows:
            assert len(row.cells) == len(view.columns)
            json.dumps(row_value(view.columns, row), allow_nan=False)


def test_the_fleet_puts_the_worst_first_and_says_why() -> None:
    store = healthy_store()
    fact = store.instance("sin1", "de")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, running=False, detail="connection refused")])
    view, rows = rows_of(store, "fleet")
    first = row_value(view.columns, rows[0])
    assert (first["node"], first["status"]) == ("sin1", "BLACKHOLE")
    assert first["reason"] == "de: nsd is not running (connection refused), but announced"
    assert [row_value(view.columns, r)["status"] for r in rows[1:]] == ["SERVING"] * 4


def test_what_a_silent_node_has_is_unknown_not_none() -> None:
    store = healthy_store()
    link = store.link("fra1")
    assert link is not None
    store.apply(
        [msgspec.structs.replace(link, state=LinkState.STALE, error="timeout", detail="fra1: nothing heard for 40 s")]
    )
    view, rows = rows_of(store, "fleet", NOW + 40)
    row = next(r for r in rows if r.key == ("node", "fra1"))
    value = row_value(view.columns, row)
    assert (value["status"], value["reason"], value["age"]) == ("STALE", "nothing heard for 40 s", 40.0)
    assert (value["sessions"], value["instances"], value["announced"], value["load"]) == (None, None, None, None)
    assert [c.text for c in row.cells][4:7] == ["?/4", "?/3", "?/12"]
    view, rows = rows_of(store, "health", NOW + 40)
    value = row_value(view.columns, next(r for r in rows if r.key == ("instance", "fra1", "de")))
    assert (value["status"], value["announced"]) == ("STALE", None)


def test_json_keeps_the_daemons_name_of_a_session_that_is_shown_with_its_peer() -> None:
    fleet = inventory()
    session = SessionSpec(name="198.19.23.2", peer="ix1", family=Family.IPV4, number=11)
    speaker = msgspec.structs.replace(fleet.nodes[0].speakers[0], name="frr", kind="frr", sessions=(session,))
    node = msgspec.structs.replace(fleet.nodes[0], speakers=(speaker,))
    store = FleetStore(msgspec.structs.replace(fleet, nodes=(node,)))
    for name in ("bgp", "announcements"):
        view, rows = rows_of(store, name)
        place = [c.id for c in view.columns].index("session")
        assert rows[0].cells[place].text == "ix1 198.19.23.2"
        assert row_value(view.columns, rows[0])["session"] == "198.19.23.2"


def test_the_fleet_row_counts_what_is_up() -> None:
    view, rows = rows_of(healthy_store(), "fleet")
    value = row_value(view.columns, rows[0])
    assert (value["sessions"], value["instances"], value["announced"], value["qps"]) == (4, 3, 12, 36.0)
    assert [c.text for c in rows[0].cells][4:7] == ["4/4", "3/3", "12/12"]


def test_the_matrix_names_each_tenant_in_its_own_column() -> None:
    store = healthy_store()
    fact = store.session("fra1", "bird", "ix1_v4")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, state=SessionState.ACTIVE, info="Connection refused")])
    view, rows = rows_of(store, "bgp")
    value = row_value(view.columns, rows[0])
    assert (value["session"], value["tenant.de"], value["tenant.nic"], value["info"]) == (
        "ix1_v4",
        "DOWN",
        "DOWN",
        "Connection refused",
    )


def test_catchment_reads_the_node_out_of_the_nsid() -> None:
    view, rows = rows_of(healthy_store(), "tenants")
    assert next(v["catchment"] for v in (row_value(view.columns, r) for r in rows)) == {
        "client1/v4": "fra1",
        "client1/v6": "fra1",
    }


def probed(address: str, **fields: object) -> DnsProbe:
    return msgspec.structs.replace(
        DnsProbe(
            node=CLUSTER, section=f"blackbox:{address}", at=NOW, tenant="de", address=address, succeeded=True, answered=True,
            latency=0.0012, serial=7, zone="de.example",
        ),
        **fields,
    )  # fmt: skip


def test_dns_probes_in_a_cluster_stand_beside_the_vantage_points() -> None:
    fleet = hybrid()
    clusters = (msgspec.structs.replace(fleet.clusters[0], prometheus="monitoring/prometheus:web", qps="q"),)
    store = healthy_hybrid(msgspec.structs.replace(fleet, clusters=clusters))
    v4, v6 = store.inventory.tenant("de").addresses
    store.apply([probed(v4), probed(v6, succeeded=False, answered=False)])

    def shown(address: str, now: float = NOW) -> dict[str, str]:
        view, rows = rows_of(store, "catchment", now)
        row = next(r for r in rows if r.key[1:3] == (CLUSTER, address))
        return {column.id: cell.text for column, cell in zip(view.columns, row.cells, strict=True)}

    good = shown(v4)
    assert (good["answered_by"], good["latency_ms"], good["serial"], good["zone"]) == (
        "● DNS probe: answers", "1.2ms", "7", "de.example",
    )  # fmt: skip
    assert shown(v6)["answered_by"] == "✖ DNS probe: no answer"
    assert shown(store.inventory.tenant("nic").addresses[0])["answered_by"] == "· no DNS probe in Prometheus"
    assert shown(v4, NOW + 60)["answered_by"] == "● DNS probe: answers"
    assert shown(v4, NOW + 200)["answered_by"] == "? STALE"
    view, rows = rows_of(store, "catchment")
    said = {
        r.key[2]: row_value(view.columns, r)["answered_by"]
        for r in rows
        if r.key[1] == CLUSTER and r.key[2] in (v4, v6)
    }
    assert said == {v4: "answers", v6: "no answer"}
    view, rows = rows_of(store, "tenants")
    landed = next(v["catchment"] for v in (row_value(view.columns, r) for r in rows) if v["tenant"] == "de")
    assert (landed[f"{CLUSTER}/v4"], landed[f"{CLUSTER}/v6"]) == ("answers", "no answer")


def test_a_cluster_whose_prometheus_is_not_asked_has_no_row_for_probes() -> None:
    assert all(row.key[1] != CLUSTER for row in rows_of(healthy_hybrid(), "catchment")[1])


def test_the_monitoring_line_is_one_line_with_performance_data() -> None:
    store = healthy_store()
    assert summary(store, NOW) == (
        0,
        (
            "ANYCAST OK - 5 of 5 nodes serve 3 tenants | "
            "nodes_ok=5;;;0;5 qps=180.0;;;0 'de_nodes'=5;;;0;5 'nic_nodes'=5;;;0;5 'enum_nodes'=5;;;0;5"
        ),
    )
    fact = store.session("fra1", "bird", "ix1_v4")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, state=SessionState.ACTIVE, info="a | pipe")])
    code, line = summary(store, NOW)
    assert code == 1
    assert line.count("|") == 1
    answer = store.instance("fra1", "de")
    assert answer is not None
    store.apply([msgspec.structs.replace(answer, running=False)])
    assert summary(store, NOW)[0] == 2
    assert summary(store, NOW + 1000)[0] == 3


@pytest.mark.parametrize("output", ["table", "json", "csv", "markdown"])
def test_every_output_holds_every_row(output: str) -> None:
    view, rows = rows_of(healthy_store(), "health")
    text = render(view.columns, rows, output, "paper", "health", NOW)
    assert text.endswith("\n")
    for row in rows:
        assert row.key[1] in text
    if output == "json":
        document = json.loads(text)
        assert (document["version"], document["view"], len(document["rows"])) == (1, "health", 15)


def test_a_cell_that_a_spreadsheet_would_run_is_quoted() -> None:
    store = healthy_store()
    fact = store.session("fra1", "bird", "ix1_v4")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, state=SessionState.ACTIVE, info="=cmd()")])
    view, rows = rows_of(store, "bgp")
    assert "'=cmd()" in render(view.columns, rows, "csv", "paper", "bgp", NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (61, "1m01s"), (3600, "1h00m"), (90_000, "1d1h"), (math.inf, "-"), (None, "-")],
)
def test_durations_use_two_units_at_most(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0"), (12.34, "12.3"), (1234.0, "1234"), (12345.0, "12.3k"), (2.5e6, "2.5M")]
)
def test_rates_keep_three_digits(value: float, text: str) -> None:
    assert rate(value).text == text


def test_remote_text_is_cleaned_of_everything_a_terminal_obeys() -> None:
    assert clean("\x1b[2Jevil\x9b31m\u202e\x00") == "[2Jevil 31m"
    assert len(clean("x" * 10_000)) == 300


def test_a_dead_name_server_has_no_rate_whatever_prometheus_remembers() -> None:
    store = healthy_store()
    own, status = store.rates("fra1", "de", "probe"), store.instance("fra1", "de")
    assert own is not None
    assert status is not None
    store.apply(
        [
            msgspec.structs.replace(own, source="prometheus", section="prometheus"),
            msgspec.structs.replace(status, running=False),
        ]
    )
    view, rows = rows_of(store, "qps")
    value = next(v for v in (row_value(view.columns, r) for r in rows) if (v["node"], v["tenant"]) == ("fra1", "de"))
    assert (value["qps"], value["prometheus"]) == (None, 12.0)


def test_a_spark_is_as_long_as_its_series_and_blank_where_unknown() -> None:
    assert spark((math.nan, 0.0, 5.0, 10.0), ASCII) == " .-+"
    assert spark((0.0, 0.0), ASCII) == ".."


def test_verdicts_on_the_screen_are_glyph_and_word() -> None:
    _, rows = rows_of(healthy_store(), "fleet")
    assert rows[0].cells[2].text == f"● {Verdict.SERVING}"


def test_a_session_disabled_by_hand_is_drift_in_the_matrix_with_the_daemons_own_state() -> None:
    store = healthy_store()
    fact = store.session("fra1", "bird", "ix1_v4")
    assert fact is not None
    store.apply([msgspec.structs.replace(fact, state=SessionState.ADMIN_DOWN, since="18:02:11.004")])
    view, rows = rows_of(store, "bgp")
    value = row_value(view.columns, rows[0])
    assert (value["state"], value["tenant.de"], value["info"]) == (
        "Admin down",
        "DRIFT",
        "ix1_v4 disabled by hand on the node since 18:02:11",
    )
    assert rows[0].cells[4].text == "▲ Admin down"


# --- drains

SESSIONS = ("ix1_v4", "ix1_v6", "transit_v4", "transit_v6")


def test_the_drains_say_what_whose_until_when_and_why() -> None:
    store = healthy_store()
    fact = store.speaker("fra1", "bird")
    assert fact is not None
    minute = NOW - NOW % 60
    note = DrainNote(operator="alice", ticket="CHG4711", reason="new rack", at=minute - 3600, expires=minute + 3600)
    hard, soft = ((1, 11), (2, 11), (1, 12), (2, 12)), ((3, 31),)
    store.apply(
        [msgspec.structs.replace(fact, drain_serial=7, drain_hard=hard, drain_soft=soft, drain_note=note.text())]
    )
    view, rows = rows_of(store, "drains")
    by_level = {r.key[3]: row_value(view.columns, r) for r in rows}
    assert by_level["hard"]["scope"] == "de, nic on ix1 (both families)"
    assert by_level["soft"]["scope"] == "enum on transit v4"
    shown = {k: by_level["hard"][k] for k in ("node", "by", "ticket", "announcements", "reason")}
    assert shown == {"node": "fra1", "by": "alice", "ticket": "CHG4711", "announcements": 4, "reason": "new rack"}
    assert by_level["hard"]["until"] == "2026-11-23T19:53:00Z"
    assert by_level["soft"]["announcements"] == 1
    json.dumps(by_level, allow_nan=False)


def test_an_overdue_drain_comes_first_and_one_with_a_foreign_note_shows_it_as_it_is() -> None:
    store = healthy_store()
    for name, note in (("fra1", "by hand, ask bob"), ("ams1", "CHG1 op1 exp=2020-01-01T00:00Z")):
        fact = store.speaker(name, "bird")
        assert fact is not None
        store.apply([msgspec.structs.replace(fact, drain_serial=7, drain_hard=((1, 11),), drain_note=note)])
        for export in [f for f in store if f.key == ("export", name, "bird", "ix1_v4", "192.0.2.0/24")]:
            store.apply([msgspec.structs.replace(export, exported=Exported.ABSENT)])
    view, rows = rows_of(store, "drains")
    shown = [row_value(view.columns, r) for r in rows]
    assert [(v["node"], v["status"], v["by"], v["reason"]) for v in shown] == [
        ("ams1", "EXPIRED", "op1", ""),
        ("fra1", "DRAINED", "", "by hand, ask bob"),
    ]


def test_nothing_drained_is_an_empty_list() -> None:
    assert rows_of(healthy_store(), "drains")[1] == []


@pytest.mark.parametrize(
    ("drained", "words"),
    [
        (
            {s: {"de", "nic", "enum"} for s in SESSIONS},
            "all tenants on all sessions",
        ),
        ({s: {"nic"} for s in SESSIONS}, "nic on all sessions"),
        ({"ix1_v4": {"de", "nic", "enum"}, "ix1_v6": {"de", "nic", "enum"}}, "all tenants on ix1 (both families)"),
        (
            {"ix1_v4": {"de"}, "ix1_v6": {"de"}, "transit_v4": {"de"}, "transit_v6": {"nic"}},
            "de on ix1 (both families), transit v4; nic on transit v6",
        ),
        ({}, ""),
    ],
)
def test_a_scope_is_said_in_as_few_words_as_it_takes(drained: dict[str, set[str]], words: str) -> None:
    sessions = inventory().nodes[0].speakers[0].sessions
    assert scope_words(sessions, ("de", "nic", "enum"), drained) == words
