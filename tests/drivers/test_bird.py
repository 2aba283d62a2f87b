"""The BIRD collector over the samples of three dialects and several drain states."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from anyconsole.drivers import bird
from anyconsole.drivers.ask import FRESH, Ask, CollectError, Read, Reply, Row, State, Talk
from anyconsole.drivers.parse_error import ParseError
from tests.drivers.samples import SAMPLES, drive, file_name

V2, V3 = "bird-2.0.12", "bird-3.3.2"

SPEC = {
    "section": "bird",
    "speaker": "bird",
    "socket": "/run/bird/bird.ctl",
    "sessions": [
        {"name": "ix1_v4", "peer": "ix1", "family": "ipv4", "number": 11, "community": ""},
        {"name": "ix1_v6", "peer": "ix1", "family": "ipv6", "number": 12, "community": ""},
        {"name": "gone_v4", "peer": "ix3", "family": "ipv4", "number": 31, "community": ""},
    ],
    "tenants": [{"name": "de", "number": 1, "prefixes": ["192.0.2.0/24", "2001:db8:de::/48"]}],
}


def playback(version: str, state: str = "", changed: dict[str, bytes] | None = None) -> Callable[[Ask], Reply]:
    def answer(ask: Ask) -> Reply:
        assert isinstance(ask, Talk)
        assert ask.framing == "bird"
        command = ask.data.decode().rstrip("\n")
        if changed and command in changed:
            return Reply(changed[command])
        name = file_name(command.replace("ix1_v6", "ix1_v4") if "protocols all" in command else command)
        for suffix in ([f"__{state}"] if state else []) + [""]:
            path = SAMPLES / version / f"wire_{name}{suffix}.txt"
            if path.exists():
                return Reply(path.read_bytes())
        if command == "eval DRAIN_NOTE":
            return Reply(b"9001 syntax error, unexpected CF_SYM_UNDEFINED\n")
        raise AssertionError(f"no sample for {command!r}")

    return answer


def look(answer: Callable[[Ask], Reply], state: State | None = None) -> dict[tuple[str, ...], Row]:
    rows = drive(bird.collect(SPEC, {} if state is None else state, 0.0), answer)
    return {tuple(str(r.get(k)) for k in ("kind", "session", "prefix") if r.get(k)): r for r in rows}


@pytest.mark.parametrize("version", [V2, V3])
def test_serving_speaker(version: str) -> None:
    rows = look(playback(version))
    speaker = rows["speaker",]
    assert (speaker["running"], speaker["drain_serial"], speaker["drain_hard"], speaker["pending"]) == (True, 0, [], "")
    session = rows["session", "ix1_v4"]
    assert (session["state"], session["neighbor"], session["exported"]) == ("Established", "10.0.11.2", 3)
    assert session["local"] == "10.0.11.1"

    assert rows["export", "ix1_v4", "192.0.2.0/24"]["exported"] == "announced"
    assert rows["export", "ix1_v6", "2001:db8:de::/48"]["exported"] == "announced"
    assert ("export", "ix1_v4", "2001:db8:de::/48") not in rows
    assert rows["session", "gone_v4"]["state"] == "Absent"
    assert rows["export", "gone_v4", "192.0.2.0/24"]["exported"] == "absent"


def test_our_address_on_a_session_is_remembered_when_it_goes_down() -> None:
    state: State = {}
    look(playback(V2), state)
    session = look(playback(V2, "disabled"), state)["session", "ix1_v4"]
    assert (session["state"], session["local"]) == ("Admin down", "10.0.11.1")


@pytest.mark.parametrize("version", [V2, V3])
def test_drains_are_read_from_the_daemons_memory(version: str) -> None:
    soft = look(playback(version, "soft_t1"))
    assert (1, 11) in soft["speaker",]["drain_soft"]
    assert soft["speaker",]["drain_serial"] == 11
    cell = soft["export", "ix1_v4", "192.0.2.0/24"]
    assert cell["exported"] == "depreferred"
    assert "graceful shutdown" in cell["detail"]
    hard = look(playback(version, "hard_t1"))
    assert (1, 11) in hard["speaker",]["drain_hard"]
    assert hard["export", "ix1_v4", "192.0.2.0/24"]["exported"] == "absent"


@pytest.mark.parametrize("version", [V2, V3])
def test_unconfirmed_change_names_the_moment_of_its_undo_and_not_a_count_down(version: str) -> None:
    state: State = {}
    first = look(playback(version, "hard_ix1_pending_confirm"), state)["speaker",]["pending"]
    assert first.startswith("unconfirmed, undo at 16:4")
    later = b"0003-Daemon is up and running\n0022-Configuration unconfirmed, undo in 28.4 s\n0000 \n"
    again = look(playback(version, "hard_ix1_pending_confirm", {"configure status": later}), state)["speaker",][
        "pending"
    ]
    assert again == first


@pytest.mark.parametrize("version", [V2, V3])
def test_disabled_session_announces_nothing(version: str) -> None:
    rows = look(playback(version, "disabled"))
    assert rows["session", "ix1_v4"]["state"] == "Admin down"
    assert rows["session", "ix1_v4"]["info"] == "drain CHG4711 (op1)"
    assert rows["export", "ix1_v4", "192.0.2.0/24"]["exported"] == "absent"
    assert rows["session", "ix1_v6"]["state"] == "Established"


def test_session_that_goes_down_between_two_commands_is_absent_not_an_error() -> None:
    for text in (b"9001 No valid tables\n", b"8005 Protocol is down\n"):
        rows = look(playback(V2, changed={"show route 192.0.2.0/24 export ix1_v4 all": text}))
        assert rows["export", "ix1_v4", "192.0.2.0/24"]["exported"] == "absent"


def test_lookup_that_bird_does_not_understand_is_unknown_not_absent() -> None:
    rows = look(playback(V2, changed={"show route 192.0.2.0/24 export ix1_v4 all": b"9001 syntax error\n"}))
    assert rows["export", "ix1_v4", "192.0.2.0/24"]["exported"] == "unknown"


def test_set_too_long_for_bird_to_print_is_asked_cell_by_cell() -> None:
    rows = look(
        playback(
            V2,
            changed={
                "eval DRAIN_HARD": b"8000 <line overflow>\n",
                "eval (1,11) ~ DRAIN_HARD": b"0023 TRUE\n",
                "eval (1,12) ~ DRAIN_HARD": b"0023 FALSE\n",
                "eval (1,31) ~ DRAIN_HARD": b"0023 FALSE\n",
            },
        )
    )
    assert rows["speaker",]["drain_hard"] == [(1, 11)]


def test_bird_without_our_drain_file_has_no_serial() -> None:
    undefined = b"9001 syntax error, unexpected CF_SYM_UNDEFINED\n"
    rows = look(playback(V2, changed={f"eval DRAIN_{w}": undefined for w in ("SERIAL", "HARD", "SOFT")}))
    assert rows["speaker",]["drain_serial"] is None


def test_jittering_since_changes_no_row() -> None:
    state: State = {}
    before = look(playback(V2), state)
    listing = (SAMPLES / V2 / "wire_show_protocols.txt").read_bytes()
    after = look(playback(V2, changed={"show protocols": listing.replace(b"16:41:44.106", b"16:41:44.107")}), state)
    assert after == before


def test_daemon_that_does_not_run_announces_nothing() -> None:
    rows = look(lambda _ask: Reply(fault="absent", text="talk to /run/bird/bird.ctl: Connection refused"))
    assert rows["speaker",]["running"] is False
    assert "Connection refused" in rows["speaker",]["detail"]
    assert {r["state"] for k, r in rows.items() if k[0] == "session"} == {"Absent"}
    assert {r["exported"] for k, r in rows.items() if k[0] == "export"} == {"absent"}


@pytest.mark.parametrize("fault", ["timeout", "denied", "failed", "unsupported"])
def test_daemon_that_can_not_be_asked_is_not_called_down(fault: str) -> None:
    with pytest.raises(CollectError, match="the reason"):
        look(lambda _ask: Reply(fault=fault, text="the reason"))


def test_any_command_may_fail_without_half_a_row() -> None:
    commands: list[str] = []
    whole = playback(V2)

    def listen(ask: Ask) -> Reply:
        assert isinstance(ask, Talk)
        commands.append(ask.data.decode().rstrip("\n"))
        return whole(ask)

    look(listen)
    for command in commands:
        for bad in (b"", b"junk", b"0000 \n1000 x\n"):
            with pytest.raises((CollectError, ParseError)):
                look(playback(V2, changed={command: bad}))


def test_many_announcements_take_turns() -> None:
    prefixes = [f"10.{n // 256}.{n % 256}.0/24" for n in range(bird.LOOKUPS_PER_ROUND + 10)]
    spec = {**SPEC, "tenants": [{"name": "de", "number": 1, "prefixes": prefixes}], "sessions": SPEC["sessions"][:1]}
    asked: list[str] = []

    def answer(ask: Ask) -> Reply:
        assert isinstance(ask, Talk)
        command = ask.data.decode()
        if command.startswith("show route"):
            asked.append(command)
            return Reply(b"0000 \n")
        return playback(V2)(ask)

    state: State = {}
    rows = drive(bird.collect(spec, state, 0.0), answer)
    assert len(asked) == bird.LOOKUPS_PER_ROUND
    assert sum(r.get("exported") == "unknown" for r in rows) == 10
    rows = drive(bird.collect(spec, state, 1.0), answer)
    assert not any(r.get("exported") == "unknown" for r in rows)


@pytest.mark.parametrize(
    ("reply", "serial"),
    [
        (Reply(b"# ours\ndefine DRAIN_SERIAL = 1795452000;\ndefine DRAIN_HARD = [ (0,0) ];\n"), 1795452000),
        (Reply(b"# define DRAIN_SERIAL = 3;\n"), None),
        (Reply(b""), None),
        (Reply(fault="denied", text="read /etc/bird/drain.conf: Permission denied"), None),
        (Reply(fault="absent", text="read /etc/bird/drain.conf: No such file or directory"), None),
    ],
)
def test_the_serial_on_disk_is_told_beside_that_in_memory_and_unknown_where_it_may_not_be_read(
    reply: Reply, serial: int | None
) -> None:
    whole = playback(V2)
    asked: list[str] = []

    def answer(ask: Ask) -> Reply:
        if isinstance(ask, Read):
            asked.append(ask.path)
            return reply
        return whole(ask)

    rows = drive(bird.collect({**SPEC, "drain_file": "/etc/bird/drain.conf"}, {}, 0.0), answer)
    assert asked == ["/etc/bird/drain.conf"]
    assert (rows[0]["drain_serial"], rows[0]["disk_serial"]) == (0, serial)


def test_a_fresh_round_takes_no_turns() -> None:
    prefixes = [f"10.{n // 256}.{n % 256}.0/24" for n in range(bird.LOOKUPS_PER_ROUND + 10)]
    spec = {**SPEC, "tenants": [{"name": "de", "number": 1, "prefixes": prefixes}], "sessions": SPEC["sessions"][:1]}

    def answer(ask: Ask) -> Reply:
        assert isinstance(ask, Talk)
        return Reply(b"0000 \n") if ask.data.startswith(b"show route") else playback(V2)(ask)

    rows = drive(bird.collect(spec, {FRESH: True}, 0.0), answer)
    assert not any(r.get("exported") == "unknown" for r in rows)


@pytest.mark.parametrize(
    ("sets", "hard", "soft"),
    [
        ("DRAIN_HARD = [ (0,0), (1,11..12) ];\ndefine DRAIN_SOFT = [ (0,0) ];", [(1, 11), (1, 12)], []),
        ("DRAIN_HARD = [\n (2, 11),  # ix1\n (3,*) ];\ndefine DRAIN_SOFT = [];", [(2, 11)], []),
        (
            "DRAIN_HARD = [ (1..2,11) ];\ndefine DRAIN_SOFT = [ (1,11)..(1,12) ];",
            [(1, 11), (2, 11)],
            [(1, 11), (1, 12)],
        ),
        ("DRAIN_HARD = [ (T_DE, 11) ];\n# define DRAIN_SOFT = [ ];", None, None),
        ("DRAIN_HARD = [ (1,11) ]", None, None),
        ("DRAIN_HARD = [ (*,11) ];\ndefine DRAIN_SOFT = [ (1,12..11) ];", None, None),
    ],
)
def test_the_drains_on_disk_are_told_however_somebody_wrote_them(
    sets: str, hard: list[tuple[int, int]] | None, soft: list[tuple[int, int]] | None
) -> None:
    whole = playback(V2)
    text = f'define DRAIN_SERIAL = 5;\ndefine DRAIN_NOTE = "by=bob";\ndefine {sets}\n'.encode()

    def answer(ask: Ask) -> Reply:
        return Reply(text) if isinstance(ask, Read) else whole(ask)

    row = drive(bird.collect({**SPEC, "drain_file": "/etc/bird/drain.conf"}, {}, 0.0), answer)[0]
    assert (row["disk_serial"], row["disk_note"]) == (5, "by=bob")
    assert (row.get("disk_hard"), row.get("disk_soft")) == (hard, soft)


def test_a_drain_file_that_is_gone_or_says_nothing_is_a_fault_and_one_that_may_not_be_read_is_none() -> None:
    whole = playback(V2)

    def fault(reply: Reply) -> object:
        def answer(ask: Ask) -> Reply:
            return reply if isinstance(ask, Read) else whole(ask)

        return drive(bird.collect({**SPEC, "drain_file": "/etc/bird/drain.conf"}, {}, 0.0), answer)[0].get("disk_fault")

    assert fault(Reply(b"# to be written")) == "/etc/bird/drain.conf has no line that defines DRAIN_SERIAL"
    assert fault(Reply(fault="absent", text="read it: No such file")) == "read it: No such file"
    assert not fault(Reply(fault="denied", text="read it: Permission denied"))
