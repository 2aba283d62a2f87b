"""What the probe tells and what it keeps to itself."""

from __future__ import annotations

import json
from typing import Any

from anyconsole.drivers.probe.main import Frames

ROW = {"kind": "session", "section": "bird", "speaker": "bird", "session": "a", "state": "Idle"}


def frame(
    frames: Frames, seen: dict[str, list[dict[str, Any]]], errors: dict[str, str] | None = None
) -> dict[str, Any]:
    (line,) = frames.frame(seen, errors or {}, 5.0)
    value: dict[str, Any] = json.loads(line)
    return value


def test_first_frame_tells_everything_then_only_changes() -> None:
    frames = Frames(60)
    assert frame(frames, {"bird": [ROW]}) == {"s": 0, "t": 5.0, "f": [ROW], "ok": ["bird"]}
    assert frame(frames, {"bird": [ROW]}) == {"s": 1, "t": 5.0, "ok": ["bird"]}
    changed = {**ROW, "state": "Active"}
    assert frame(frames, {"bird": [changed]})["d"] == [changed]
    assert frame(frames, {"bird": []})["x"] == [["session", "bird", "a"]]


def test_section_in_error_keeps_what_was_told() -> None:
    frames = Frames(60)
    frame(frames, {"bird": [ROW]})
    assert frame(frames, {}, {"bird": "stuck"}) == {"s": 1, "t": 5.0, "ok": [], "err": {"bird": "stuck"}}
    assert "d" not in frame(frames, {"bird": [ROW]})


def test_keyframes_come_by_rhythm_and_on_demand() -> None:
    frames = Frames(3)
    kinds = ["f" if "f" in frame(frames, {"bird": [ROW]}) else "d" for _ in range(7)]
    assert "".join(kinds) == "fddfddf"
    frames.ask_key()
    assert "f" in frame(frames, {"bird": [ROW]})
