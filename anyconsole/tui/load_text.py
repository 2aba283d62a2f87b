"""A load test in words, as its screen shows it: what is lost against the goal first, then votes, latency, answers, hosts. Pure.

What isn't known is a dash or says so; what stopped coming says how old it is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from anyconsole.actions.load.rows import rcode_names
from anyconsole.actions.load.words import milliseconds, percent
from anyconsole.actions.load.words import rate as whole
from anyconsole.model.load import Phase, Verdict
from anyconsole.model.load_view import GeneratorRow, GridPoint, InstanceRow, LoadSecond, LoadState, LoadView
from anyconsole.model.table import Glyphs, duration
from anyconsole.tui.plain_text import fit, plain
from anyconsole.tui.widgets.cells import Level
from anyconsole.tui.widgets.text_view import Line

__all__ = ["doing_words", "found_words", "is_good", "load_lines", "sign_of"]

_LABEL = 10
"""Cells before the words of a line."""

_SILENT = 2.5
"""Seconds after which the newest second is said to be old."""

_SHORT = 0.03
"""Share of its schedule from which on a generator's trial is void."""

_THROTTLED = 0.1
_TALL = 26
"""Lines from which on there is room for many votes."""

_LETTERS = {Verdict.OK: "o", Verdict.BAD: "b", Verdict.VOID: "v"}
_LEVELS = {Verdict.OK: Level.OK, Verdict.BAD: Level.CRIT, Verdict.VOID: Level.STALE}

_Piece = str | tuple[str, str]


def sign_of(verdict: Verdict, glyphs: Glyphs) -> str:
    """The sign of a trial's verdict, one cell."""
    return {Verdict.OK: glyphs.ok, Verdict.BAD: glyphs.crit, Verdict.VOID: glyphs.stale}[verdict]


def is_good(view: LoadView) -> bool:
    """True if the test came to a result about its target."""
    return view.verdict in ("ok", ">=cap")


def doing_words(view: LoadView, now: float) -> str:
    """What it does now, beside the title."""
    took = duration((view.ended_at or now) - view.began_at)
    if view.state is LoadState.ENDED:
        return f"ended: {view.verdict or 'no verdict'} after {took}"
    # Until a trial is over its words are those of what came before.
    words = f": {plain(view.words, 100)}" if view.points and view.state is LoadState.RUNNING else ""
    return f"{view.state}, {took}{words}"


def found_words(view: LoadView) -> str:
    """The interval as far as it is known."""
    if view.lower is None and view.upper is None:
        return "not known yet" if view.state is not LoadState.ENDED else "none"
    if view.lower is None:
        return f"less than {whole(view.upper)} q/s"
    return (
        f"{whole(view.lower)} q/s or more" if view.upper is None else f"{whole(view.lower)} .. {whole(view.upper)} q/s"
    )


def load_lines(view: LoadView, now: float, glyphs: Glyphs, width: int, height: int) -> list[Line]:
    """All of it, the most urgent first.

    Args:
        view: The test.
        now: Epoch seconds.
        glyphs: Signs before the words.
        width: Cells of a line.
        height: Lines of the screen; on a low one few votes are shown.
    """
    second = view.seconds[-1] if view.seconds else None
    votes = 9 if height >= _TALL else 3
    return [
        *_end(view, width),
        _target(view, now),
        _flow(second),
        _loss(view, second, glyphs, width),
        *_best(view),
        *_votes(view, glyphs, votes, width),
        _latency(second),
        _answers(second),
        *_age(view, second, now),
        *_generators(view, now, width),
        *_instances(view.instances, width),
    ]


def _labelled(label: str, *pieces: _Piece, level: str = Level.PLAIN) -> Line:
    return Line.of((f"{label:<{_LABEL}}", Level.DIM), *pieces, level=level)


def _end(view: LoadView, width: int) -> Iterator[Line]:
    """How it ended and what limited it, or what it does before there is anything to measure."""
    if view.state is LoadState.ENDED:
        words = f"{view.verdict or 'no verdict'}{': ' if view.words else ''}{view.words}"
        yield from _said("ended", words, Level.OK if is_good(view) else Level.WARN, width)
    elif view.state in (LoadState.PREPARING, LoadState.PROVING):
        yield from _said("now", view.words, Level.PLAIN, width)
    yield from _said("limit", view.limit, Level.ACCENT, width)


def _said(label: str, words: str, level: str, width: int) -> Iterator[Line]:
    """Words of any length, all of them in sight; nothing for none."""
    for index, piece in enumerate(
        textwrap.wrap(plain(words), max(20, width - _LABEL), max_lines=4, placeholder=" ...")
    ):
        yield _labelled("" if index else label, (piece, level))


def _target(view: LoadView, now: float) -> Line:
    doing: list[_Piece] = []
    if view.state is LoadState.RUNNING and view.phase is not None:
        doing.append(f"   {view.phase}")
        votes = next((g.votes for g in view.grid if abs(g.rate - view.rate) < 1e-6 * max(1.0, view.rate)), None)
        if view.phase is Phase.VOTE:
            doing.append(f" {len(votes or ()) + 1}")
        if view.ends_at is not None and view.ends_at > now:
            doing.append(f", {view.ends_at - now:.0f} s left")
    rate = f"{whole(view.rate)} q/s" if view.rate else "-"
    return _labelled("target", rate, *doing, (f"   cap {whole(view.cap)}, never above", Level.STALE))


def _flow(second: LoadSecond | None) -> Line:
    if second is None:
        return _labelled("offered", "-   answered -   lost -   late -")
    sent = f"   sent {whole(second.sent)}" if second.sent != second.offered else ""
    late = "-" if second.late is None else whole(second.late)
    return _labelled(
        "offered",
        f"{whole(second.offered)}{sent}   answered {whole(second.answered)}   lost {whole(second.lost)}   late {late}",
    )


def _loss(view: LoadView, second: LoadSecond | None, glyphs: Glyphs, width: int) -> Line:
    goal = percent(view.goal, 1)
    if second is None:
        return _labelled("loss", f"-   goal {goal}")
    level = Level.CRIT if second.loss > view.goal else Level.OK
    said = "OVER the goal" if second.loss > view.goal else "within the goal"
    bar = _bar(second.loss, view.goal, max(10, min(60, width - 52)), glyphs)
    return _labelled("loss", (f"{percent(second.loss):<9}", level), *bar, f"  {said} of {goal}")


def _bar(loss: float, goal: float, cells: int, glyphs: Glyphs) -> list[_Piece]:
    """The loss from nothing to twice the goal, whose line stands in the middle; `>` says that it goes on."""
    full, empty, line = ("#", "-", "|") if glyphs.ok.isascii() else ("█", "·", "│")
    half = cells // 2
    filled = round(loss / goal * half) if goal > 0 else (2 * half if loss > 0 else 0)
    left, right = min(half, filled), min(half, max(0, filled - half))
    beyond = ">" if filled > 2 * half else " "
    return [
        "[",
        (full * left, Level.OK if not right else Level.CRIT),
        (empty * (half - left), Level.DIM),
        (line, Level.WARN),
        (full * right, Level.CRIT),
        (empty * (half - right), Level.DIM),
        "]",
        beyond,
    ]


def _best(view: LoadView) -> Iterator[Line]:
    plateau = f"   plateau {whole(view.plateau)}" if view.plateau is not None else ""
    yield _labelled("best", (found_words(view), Level.ACCENT), plateau)
    if view.points:
        point = view.points[-1]
        words = f"void: {plain(point.void, 60)}" if point.verdict is Verdict.VOID and point.void else point.verdict
        yield _labelled(
            "trials",
            f"{len(view.points)}, the last at {whole(point.rate)} q/s: {percent(point.loss)} lost, ",
            (words, _LEVELS[point.verdict]),
        )


def _votes(view: LoadView, glyphs: Glyphs, most: int, width: int) -> Iterator[Line]:
    """The points nearest to the present rate, the highest first: it is what fails that one looks for."""
    near = sorted(view.grid, key=lambda g: abs(g.rate - (view.rate or g.rate)))[:most]
    for index, point in enumerate(sorted(near, key=lambda g: -g.rate)):
        yield _labelled("" if index else "votes", *_marks(point, glyphs, width))


def _marks(point: GridPoint, glyphs: Glyphs, width: int) -> Iterator[_Piece]:
    yield f"{whole(point.rate):>9} q/s  "
    room = max(4, (width - _LABEL - 26) // 3)
    for vote in point.votes[-room:]:
        yield (f"{sign_of(vote, glyphs)}{_LETTERS[vote]}", _LEVELS[vote])
        yield " "
    words, level = {True: ("passed", Level.OK), False: ("FAILED", Level.CRIT), None: ("open", Level.STALE)}[
        point.passed
    ]
    yield (f" {words}", level)


def _latency(second: LoadSecond | None) -> Line:
    if second is None:
        return _labelled("latency", "p50 -   p95 -   p99 -   max - ms")
    figures = (("p50", second.p50), ("p95", second.p95), ("p99", second.p99), ("max", second.worst))
    return _labelled("latency", f"{'   '.join(f'{name} {milliseconds(value)}' for name, value in figures)} ms")


def _answers(second: LoadSecond | None) -> Line:
    if second is None or not second.answered:
        return _labelled("answers", "none" if second is not None else "-")
    bad = {2: Level.CRIT, 5: Level.CRIT}
    names = zip(sorted(second.rcodes), rcode_names(second.rcodes).items(), strict=True)
    pieces = [
        (f"{name} {percent(n / second.answered, 1)}   ", bad.get(code, "") if n else "") for code, (name, n) in names
    ]
    truncated = None if second.truncated is None else second.truncated / second.answered
    return _labelled("answers", *pieces, (f"TC {percent(truncated, 1)}", Level.WARN if truncated else ""))


def _age(view: LoadView, second: LoadSecond | None, now: float) -> Iterator[Line]:
    """Whether these figures are of now. Between trials nothing is asked; that is no fault, but it must be seen."""
    if view.state is LoadState.ENDED:
        yield _labelled("", ("figures of its last second", Level.STALE))
    elif second is not None and (old := now - second.at - 1) > _SILENT:
        yield _labelled("", (f"figures {duration(old)} old: nothing has been asked since", Level.STALE))


def _generators(view: LoadView, now: float, width: int) -> Iterator[Line]:
    name = _name_width((g.name for g in view.generators), width - 60)
    yield Line(f"{'generator':<{name}}     sent    cpu skipped rcv-err   flows   limit  heard", Level.DIM)
    for g in view.generators:
        yield _generator(g, now, name, is_over=view.state is LoadState.ENDED)


def _generator(g: GeneratorRow, now: float, name: int, *, is_over: bool) -> Line:
    age = None if g.heard_at is None else max(0.0, now - g.heard_at)
    heard = "-" if age is None or is_over else f"{age:.1f} s"
    flows = "-" if g.flows is None else f"{g.flows}/{g.sources}" if g.sources else str(g.flows)
    return Line.of(
        fit(g.name, name),
        _figure(whole(g.sent), 9),
        _figure(_share(g.busy), 7, g.busy is not None and g.busy > 0.9),
        _figure(percent(g.short, 1), 8, g.short is not None and g.short > _SHORT),
        _figure("-" if g.receive_errors is None else str(g.receive_errors), 8, bool(g.receive_errors)),
        _figure(flows, 8),
        _figure(whole(g.limit), 8),
        _figure(heard, 7, age is not None and not is_over and age > _SILENT),
        f"  {plain(g.state, 60)}",
    )


def _instances(rows: Sequence[InstanceRow], width: int) -> Iterator[Line]:
    names = [f"{row.tenant} {row.node}" for row in rows]
    name = _name_width(names, width - 60)
    if rows:
        yield Line(f"{'instance':<{name}}   served  share  cores throttled drops/s  bgp", Level.DIM)
    for row, words in zip(rows, names, strict=True):
        busy = "-" if row.busy is None else f"{row.busy:.2f}"
        drops = "-" if row.drops is None else whole(row.drops)
        yield Line.of(
            fit(words, name),
            _figure(whole(row.served), 9),
            _figure(_share(row.share), 7),
            _figure(busy, 7),
            _figure(_share(row.throttled), 10, row.throttled is not None and row.throttled > _THROTTLED),
            _figure(drops, 8, bool(row.drops)),
            f"  {plain(row.bgp, 40) or '-'}",
            ("" if row.is_target else "  neighbour", Level.STALE),
            level=Level.PLAIN if row.is_target else Level.STALE,
        )


def _name_width(names: Iterable[str], most: int) -> int:
    return max(10, min(max(most, 12), max((len(plain(name)) for name in names), default=0)))


def _share(value: float | None) -> str:
    return percent(value, 0)


def _figure(text: str, width: int, is_bad: bool = False) -> _Piece:
    """A cell of a table; what is bad has a sign, for those who see no colours."""
    return (f"!{text}".rjust(width), Level.WARN) if is_bad else text.rjust(width)
