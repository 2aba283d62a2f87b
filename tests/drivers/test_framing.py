"""Where replies end on control sockets."""

from __future__ import annotations

import pytest

from anyconsole.drivers.framing import FRAMINGS, bird_end, frr_end, knot_end
from tests.drivers.samples import sample, samples


@pytest.mark.parametrize("path", samples("bird-2.0.12", "wire_*.txt"), ids=lambda p: p.name)
def test_birds_replies_end_at_their_last_line_and_nowhere_before(path: object) -> None:
    whole = path.read_bytes()  # type: ignore[attr-defined]
    assert bird_end(whole) == len(whole)
    assert bird_end(whole + b"0013 next\n") == len(whole)
    assert all(bird_end(whole[:n]) is None for n in range(len(whole)))


def test_frrs_and_knots_replies_end_nowhere_before_their_end() -> None:
    for whole, end in (
        (b'{"a":1}\n\0\0\0\0', frr_end),
        (b"% Unknown\0\0\0\2", frr_end),
        (sample("knot-3.2.6", "zone-status.bin"), knot_end),
    ):
        assert end(whole) == len(whole)
        assert all(end(whole[:n]) is None for n in range(len(whole)))


def test_bird_is_restricted_and_frr_enabled_before_anything_else() -> None:
    assert FRAMINGS["bird"].opening == ((b"restrict\n", b"0016 "),)
    assert FRAMINGS["frr"].opening[0][0] == b"enable\0"
