"""Real outputs of real daemons (tests/samples), and a transport that plays them back to a collector."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from anyconsole.drivers.ask import Ask, CollectError, Collector, Reply, Row
from anyconsole.drivers.parse_error import ParseError

SAMPLES = Path(__file__).parent.parent / "samples"

REFUSALS = (ParseError, CollectError)
"""The only errors a parser may raise, whatever it is fed."""


def sample(*parts: str) -> bytes:
    return SAMPLES.joinpath(*parts).read_bytes()


def samples(folder: str, pattern: str) -> list[Path]:
    found = sorted((SAMPLES / folder).glob(pattern))
    assert found, f"no samples {folder}/{pattern}"
    return found


def drive(collector: Collector, answer: Callable[[Ask], Reply]) -> list[Row]:
    """A collector's rows when `answer` answers each ask."""
    rows: object = None
    try:
        batch = next(collector)
        while True:
            batch = collector.send([answer(ask) for ask in batch])
    except StopIteration as done:
        rows = done.value
    assert isinstance(rows, list)
    return rows


def file_name(command: str) -> str:
    """How a command is spelt in a sample's file name."""
    return re.sub("[^A-Za-z0-9]+", "_", command.strip()).strip("_")


def refuses_every_truncation(parse: Callable[[bytes], object], whole: bytes) -> None:
    """A reply cut anywhere must be refused by name, never parsed in half."""
    parse(whole)
    for length in range(len(whole)):
        with pytest.raises(REFUSALS):
            parse(whole[:length])


def survives_every_truncation(parse: Callable[[bytes], object], whole: bytes) -> None:
    """For texts that may end at any line: a value or a named error, nothing else."""
    for length in range(len(whole)):
        survives(parse, whole[:length])


def survives(parse: Callable[[bytes], object], content: bytes) -> None:
    """A value or a named error, nothing else."""
    said = ""
    try:
        parse(content)
    except REFUSALS as refusal:
        said = str(refusal)
    assert len(said) < 1000
    assert said.isprintable()


@st.composite
def mutated(draw: st.DrawFn, originals: Iterable[bytes]) -> bytes:
    """A sample with a few bytes changed, taken out, put in, doubled or cut off."""
    content = bytearray(draw(st.sampled_from(list(originals))))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        span = draw(st.integers(1, 12))
        match draw(st.integers(0, 4)):
            case 0 if content:
                content[at] = draw(st.integers(0, 255))
            case 1:
                del content[at : at + span]
            case 2:
                content[at:at] = draw(st.binary(min_size=1, max_size=12))
            case 3:
                content[at:at] = content[at : at + span * 10]
            case _:
                content[at : at + 1] = draw(
                    st.sampled_from([b"\n", b" ", b"9", b"-", b"{", b"]", b"\0", b"\xff", b"0000 \n"])
                )
    return bytes(content)
