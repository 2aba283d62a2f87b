"""What the engine makes of agents that lie, flood, babble or fall silent: a clear error that names the host, never a wrong number."""

from __future__ import annotations

import ast
import asyncio
import importlib.resources
import subprocess
import time
from collections.abc import AsyncIterator, Callable

import dns.edns
import dns.flags
import dns.message
import dns.rdatatype
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyconsole.drivers.load import agent, generator
from anyconsole.drivers.load.bundle import NO_PYTHON, bootstrap
from anyconsole.drivers.load.generator import Generator, Generators
from anyconsole.drivers.load.messages import MAX_LINE, Lines, MessageError, Setup, decode
from anyconsole.errors import LoadError
from anyconsole.model.load import Order, Phase, Trial, bin_of

SETUP = Setup(address="192.0.2.1", max_rate=1000, max_seconds=60)
ORDER = Order(phase=Phase.FIXED, rate=100, seconds=2)
HELLO = b'{"ev":"hello","agent":1,"python":"3.11.2","cores":2}'
READY = b'{"ev":"ready","batched":true,"flows":200,"processes":1}'
GOOD = b'{"offered":100,"sent":100,"answered":100,"rcodes":{"0":100},"latency":{"bins":{"180":100}}}'


def second(number: int, counts: bytes = GOOD, trial: int = 1) -> bytes:
    return b'{"ev":"second","trial":%d,"second":%d,"counts":%s}' % (trial, number, counts)


def end(counts: bytes = b"{}", **more: str) -> bytes:
    extra = "".join(f',"{k}":"{v}"' for k, v in more.items()).encode()
    return b'{"ev":"trial","trial":1,"cpu":0.5,"elapsed":2.5,"ran":2,"processes":1%s,"counts":%s}' % (extra, counts)


class Script:
    """A channel to an agent that says what the test wants: its answers to each command by name."""

    def __init__(self, **answers: list[bytes]) -> None:
        self.last_words = ""
        self.heard: list[str] = []
        self.closed = self.aborted = False
        self._answers = {"program": [HELLO], "prepare": [READY], **answers}
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def write(self, data: bytes) -> None:
        operation = msgspec.json.decode(data)["op"] if data.startswith(b"{") else "program"
        self.heard.append(operation)
        for line in self._answers.get(operation, []):
            self._queue.put_nowait(line)

    async def lines(self) -> AsyncIterator[bytes]:
        splitter = Lines()
        while (data := await self._queue.get()) is not None:
            for line in splitter.feed(data + b"\n"):
                yield line

    def close(self) -> None:
        self.closed = True
        self._queue.put_nowait(None)

    def abort(self) -> None:
        self.aborted = True
        self._queue.put_nowait(None)

    def say(self, line: bytes) -> None:
        self._queue.put_nowait(line)

    def die(self, why: str) -> None:
        self.last_words = why
        self._queue.put_nowait(None)


async def trial_of(*channels: Script) -> Trial:
    both = [Generator(f"gen{n}", channel, SETUP, "a.test A") for n, channel in enumerate(channels, 1)]
    async with Generators(both) as generators:
        return await generators.trial(ORDER)


async def test_seconds_of_all_generators_add_up_second_by_second() -> None:
    one = Script(trial=[second(0), second(1), end()])
    other = Script(trial=[second(0), second(1), end(b'{"late":3,"stray":1}')])
    trial = await trial_of(one, other)
    assert trial.void == ""
    assert [c.sent for c in trial.seconds] == [200, 200]
    assert (trial.counts.answered, trial.counts.late, trial.counts.stray) == (400, 3, 1)
    assert trial.counts.latency.bins == {180: 400}
    assert trial.health["gen2"].busy == pytest.approx(0.2)
    for channel in (one, other):
        assert channel.heard[:3] == ["program", "hb", "prepare"] or channel.heard[:3] == ["program", "prepare", "hb"]
        assert channel.closed
        assert channel.aborted


@pytest.mark.parametrize(
    ("counts", "last", "why"),
    [
        (b'{"offered":100,"sent":97,"skipped":3}', end(), ""),
        (b'{"offered":100,"sent":96,"skipped":4}', end(), "gen2: it could not send 4.0% of its queries in time"),
        (b'{"offered":100,"sent":0,"skipped":100}', end(unsendable="no route"), "in time: no route"),
        (b'{"offered":100,"sent":100,"receive_errors":2}', end(), "gen2: its own buffers dropped 4 answers"),
        (GOOD, end(stopped="stop"), "stopped"),
        (GOOD, end(stopped="heartbeat"), "gen2: it stopped itself: no heartbeat came"),
    ],
)
async def test_one_bad_generator_voids_the_trial_of_all_and_is_named(counts: bytes, last: bytes, why: str) -> None:
    good = Script(trial=[second(0), second(1), end()])
    trial = await trial_of(good, Script(trial=[second(0, counts), second(1, counts), last]))
    assert trial.void.endswith(why)
    assert bool(trial.void) == bool(why)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([b"\xff\xfe rubbish"], "dropped, b'.*rubbish'"),
        ([b"{" * 5000], "dropped"),
        ([b"x" * (MAX_LINE + 1)], "a line of more than"),
        ([b'{"ev":"second","trial":1,"second":0,"counts":{"sent":-5}}'], "dropped.*sent"),
        ([b'{"ev":"second","trial":1,"second":0,"counts":{"sent":1e99}}'], "dropped"),
        ([second(1)], "second 1 after 0 others"),
        ([second(0, b'{"latency":{"bins":{"5000":1}}}')], "dropped"),
        ([second(0), end()], "told 1 seconds of a trial of 2"),
        ([HELLO], "trial: said Hello out of turn"),
        ([b'{"ev":"tick","trial":9,"at":0,"counts":{}}'] * 600, "more than 500 lines in a second"),
        ([b'{"ev":"error","why":"a sending\\u001b[31m process died"}'], r"a sending \[31m process died"),
    ],
)
async def test_an_agent_that_breaks_the_protocol_is_dropped_and_named(said: list[bytes], why: str) -> None:
    channel = Script(trial=said)
    with pytest.raises(LoadError, match=f"^load generator gen1: .*{why}") as caught:
        await trial_of(channel)
    assert "\x1b" not in str(caught.value)
    assert channel.aborted


async def test_an_agent_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "START_DEADLINE", 0.05)
    monkeypatch.setattr(generator, "GRACE", -2.4)
    monkeypatch.setattr(generator, "_CLOSE_DEADLINE", 0.05)
    with pytest.raises(LoadError, match=r"^load generator gen1: start: no answer within 0.05 s"):
        await trial_of(Script(program=[]))
    with pytest.raises(LoadError, match="gen1: trial: no answer within"):
        await trial_of(Script())


async def test_a_host_without_python_says_so() -> None:
    with pytest.raises(LoadError, match=r"^load generator gen1: no python3 of 3.8 or later"):
        await trial_of(Script(program=[NO_PYTHON.encode()]))


@pytest.mark.parametrize("stop", [Generators.stop, None])
async def test_whoever_stops_waiting_has_stopped_the_load(stop: Callable[[Generators], object] | None) -> None:
    channels = [Script(trial=[second(0)], stop=[end(stopped="stop")]) for _ in range(2)]
    both = [Generator(f"gen{n}", channel, SETUP, "a.test A") for n, channel in enumerate(channels, 1)]
    async with Generators(both) as generators:
        task = asyncio.create_task(generators.trial(ORDER))
        await asyncio.sleep(0)
        while not all("trial" in channel.heard for channel in channels):
            await asyncio.sleep(0.001)
        if stop is None:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await generators.stop()
            assert (await task).void == "stopped"
    assert all("stop" in channel.heard for channel in channels)


async def test_a_link_that_breaks_voids_the_trial_and_stops_the_others() -> None:
    broken, whole = Script(trial=[second(0)]), Script(trial=[second(0)], stop=[end(stopped="stop")])
    both = [Generator(name, channel, SETUP, "a.test A") for name, channel in (("gen1", broken), ("gen2", whole))]
    async with Generators(both) as generators:
        task = asyncio.create_task(generators.trial(ORDER))
        while "trial" not in whole.heard:
            await asyncio.sleep(0.001)
        broken.die("connection reset")
        trial = await task
    assert trial.void == "load generator gen1: lost: connection reset"
    assert not trial.is_halted, "it is void for more than our stopping it"
    assert trial.counts.sent == 100


async def test_a_generator_that_falls_silent_is_lost_and_the_others_are_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A link that swallows everything ends no connection: all that tells is that no tick comes."""
    monkeypatch.setattr(generator, "_LOOK", 0.01)
    monkeypatch.setattr(generator, "SILENCE", 0.1)
    silent, talking = Script(trial=[second(0)]), Script(trial=[second(0)], stop=[end(stopped="stop")])
    both = [Generator(name, channel, SETUP, "a.test A") for name, channel in (("gen1", silent), ("gen2", talking))]
    async with Generators(both) as generators:
        task = asyncio.create_task(generators.trial(ORDER))
        while "stop" not in talking.heard:
            talking.say(b'{"ev":"tick","trial":1,"at":0,"counts":{}}')
            await asyncio.sleep(0.01)
        trial = await task
        assert trial.void == "load generator gen1: nothing was heard of it for 0.1 s"
        assert "stop" in silent.heard, "should it hear again"
        with pytest.raises(LoadError, match="gen1: nothing was heard of it"):
            await generators.trial(ORDER)


async def test_a_stall_of_our_own_is_not_taken_for_a_generators_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_LOOK", 0.01)
    monkeypatch.setattr(generator, "SILENCE", 0.05)
    channel = Script(trial=[second(0)])
    async with Generators([Generator("gen1", channel, SETUP, "a.test A")]) as generators:
        task = asyncio.create_task(generators.trial(ORDER))
        while "trial" not in channel.heard:
            await asyncio.sleep(0.001)
        time.sleep(0.2)  # noqa: ASYNC251 - the stall
        for line in (second(1), end()):
            channel.say(line)
        assert (await task).void == ""


async def test_a_trial_that_is_stopped_before_it_began_never_begins() -> None:
    channel = Script(trial=[second(0), second(1), end()])
    async with Generators([Generator("gen1", channel, SETUP, "a.test A")]) as generators:
        task = generators.begin(ORDER)
        generators.halt()
        trial = await task
        assert "trial" not in channel.heard
        assert (trial.is_halted, trial.counts.sent, trial.order.seconds) == (True, 0, 0)


async def test_a_trial_that_was_stopped_is_as_long_as_it_ran() -> None:
    halted = Script(trial=[second(0), second(1)], stop=[end(stopped="stop")])
    async with Generators([Generator("gen1", halted, SETUP, "a.test A")]) as generators:
        task = asyncio.create_task(generators.trial(msgspec.structs.replace(ORDER, seconds=60)))
        while "trial" not in halted.heard:
            await asyncio.sleep(0.001)
        generators.halt()
        trial = await task
    assert trial.order.seconds == 2
    assert trial.answered_rate == 100
    assert (trial.void, trial.is_halted) == ("stopped", True)
    assert (trial.unhalted().void, trial.voided("a guard").void) == ("", "a guard")


# --- the agent's parts

BESIDE = "anyconsole.drivers.load.tool_agent"
"""What travels with the agents that run another program."""


@pytest.mark.parametrize("program", ["agent", "tool_agent", "dnsperf_agent", "kxdpgun_agent"])
def test_an_agent_is_python_3_8_and_the_standard_library(program: str) -> None:
    source = importlib.resources.files("anyconsole.drivers.load").joinpath(f"{program}.py").read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    imports = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imports |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    code = "import sys; print(*sys.stdlib_module_names)"
    known = subprocess.run(
        ["python3", "-c", code], capture_output=True, text=True, check=True, timeout=20
    ).stdout.split()
    assert {name.partition(".")[0] for name in imports - {BESIDE}} - {"__future__"} <= set(known)
    names = {getattr(n, "attr", getattr(n, "id", None)) for n in ast.walk(tree)}
    assert not names & {"removeprefix", "removesuffix", "pairwise", "batched", "cache", "bit_count", "anext", "aiter"}
    # `list[int]` and `int | str` may stand in annotations alone, which nobody evaluates.
    assert "from __future__ import annotations" in source
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            assert not any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.BitOr) for n in ast.walk(statement))
            assert not any(
                isinstance(n, ast.Subscript) and getattr(n.value, "id", "") in ("list", "dict", "tuple")
                for n in ast.walk(statement)
            )


def test_the_command_works_in_any_login_shell_and_leaves_old_pythons_alone() -> None:
    start, program = bootstrap()
    assert "\n" not in start
    assert len(program) < 20_000
    for shell in ("/bin/sh", "/bin/bash"):
        done = subprocess.run([shell, "-c", start], input=program, capture_output=True, check=False, timeout=20)
        assert (done.returncode, done.stderr) == (0, b"")
        assert decode(done.stdout).__class__.__name__ == "Hello"
    done = subprocess.run(
        ["/bin/sh", "-c", start.replace("(3, 8)", "(9, 9)")],
        input=program,
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert done.stdout.decode().strip() == NO_PYTHON


def test_latency_bins_are_those_of_the_model() -> None:
    places = agent.bins_until(1_000_001)
    first = places[0]
    assert all(places[us] - first == bin_of(us) for us in (*range(3000), *range(3000, 1_000_001, 97)))
    edges = [us for us in range(1, 1_000_001) if places[us] != places[us - 1]]
    assert all(places[us] - first == bin_of(us) and places[us - 1] - first == bin_of(us - 1) for us in edges)


@pytest.mark.parametrize("name", ["a.test", "WWW.Example.test.", r"a\.b.test", r"\255\000x.test", ".", "_dmarc.test"])
def test_queries_are_what_they_are_meant_to_be(name: str) -> None:
    wire = b"\x12\x34" + agent.encode(f"{name} AAAA", 1232, dnssec=True, nsid=True)
    query = dns.message.from_wire(wire)
    (question,) = query.question
    assert question.name == dns.name.from_text(name)
    assert question.rdtype == dns.rdatatype.AAAA
    assert (query.edns, query.payload, query.ednsflags, query.flags) == (0, 1232, dns.flags.DO, 0)
    assert [option.otype for option in query.options] == [dns.edns.OptionType.NSID]
    bare = dns.message.from_wire(b"\x12\x34" + agent.encode(f"{name} TYPE65", 0, dnssec=False, nsid=False))
    assert bare.edns == -1


@pytest.mark.parametrize("line", ["a.test", "a.test NOPE", "a..test A", "x" * 64 + ".test A", r"a\999.test A", ""])
def test_a_line_that_is_no_query_is_refused_and_quoted(line: str) -> None:
    with pytest.raises(agent.Refused, match=r"'"):
        agent.encode(line, 1232, dnssec=False, nsid=False)


def test_the_nsid_is_found_behind_everything_else() -> None:
    query = dns.message.make_query("a.test", "A")
    answer = dns.message.make_response(query)
    answer.use_edns(
        0, options=[dns.edns.GenericOption(dns.edns.OptionType.PADDING, b"\0" * 7), dns.edns.NSIDOption(b"fra1")]
    )
    answer.answer.append(dns.rrset.from_text("a.test.", 60, "IN", "A", "192.0.2.1"))
    assert agent.nsid_of(answer.to_wire()) == "fra1"
    answer.use_edns(0, options=[dns.edns.NSIDOption(b"\x00\xff")])
    assert agent.nsid_of(answer.to_wire()) == "00ff"
    assert agent.nsid_of(dns.message.make_response(query).to_wire()) == ""


@given(st.binary(max_size=200))
def test_no_answer_upsets_the_agent(data: bytes) -> None:
    agent.nsid_of(data)


@given(st.binary(max_size=300))
def test_no_line_is_half_understood(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode(data)
