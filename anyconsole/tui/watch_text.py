"""A run in words, as the watch screen shows it: steps with what proves them, who picks up the queries, guards, and how it ended. Pure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator

from anyconsole.actions.plan import Step
from anyconsole.actions.run import Outcome, Proof, Run, RunState, StepRun, StepState
from anyconsole.model.table import Glyphs, duration, rate
from anyconsole.tui.guard_text import guard_level, guard_words
from anyconsole.tui.plain_text import some
from anyconsole.tui.traffic import Traffic
from anyconsole.tui.widgets.cells import Level
from anyconsole.tui.widgets.text_view import Line

__all__ = ["ended_words", "folded", "outcome_level", "run_words", "watch_lines", "who_line"]

_OPEN = (
    StepState.CHECKING, StepState.APPLYING, StepState.VERIFYING, StepState.CONFIRMING, StepState.PERFORMING, StepState.REVERTING,
)  # fmt: skip
_LEVELS = {
    StepState.WAITING: Level.STALE, StepState.SKIPPED: Level.STALE, StepState.DONE: Level.OK, StepState.REVERTING: Level.WARN,
    StepState.REVERTED: Level.WARN, StepState.REFUSED: Level.WARN, StepState.CANCELLED: Level.WARN,
    StepState.FAILED: Level.CRIT, StepState.UNKNOWN: Level.CRIT,
}  # fmt: skip
_OUTCOMES = {Outcome.DONE: Level.OK, Outcome.UNKNOWN: Level.CRIT}
_SHOWN_WAITING = 4
"""Steps that have not begun yet are counted from here on."""

_NARROWEST = 30


def outcome_level(run: Run) -> Level:
    """How the end of a run is painted."""
    return _OUTCOMES.get(run.outcome, Level.WARN) if run.outcome is not None else Level.CRIT


def ended_words(run: Run) -> str:
    """The end of a run in one line."""
    took = duration((run.ended_at or run.began_at) - run.began_at)
    return f"{str(run.outcome or 'ended').upper()} after {took}: {run.plan.title}"


def run_words(run: Run, now: float) -> str:
    """What a run is doing, beside its title."""
    if run.state is RunState.ENDED:
        return f"ended: {run.outcome}"
    done = sum(step.state is StepState.DONE for step in run.steps)
    return f"{run.state}, {done} of {len(run.plan.steps)} steps done, {duration(now - run.began_at)}"


def watch_lines(run: Run, moves: Traffic, now: float, glyphs: Glyphs, width: int) -> list[Line]:
    """All of it, the most urgent first."""
    return [
        *folded(_ending(run), width),
        *folded(_steps(run, now, glyphs), width),
        *folded(_moves(run, moves, glyphs), width),
        *folded(_guards(run, glyphs), width),
        *folded([who_line(run)], width),
    ]


def folded(lines: Iterable[Line], width: int) -> Iterator[Line]:
    """Lines no longer than the screen; what is carried over stands under where the words began."""
    for line in lines:
        indent = len(line.text) - len(line.text.lstrip()) + 2
        pieces = textwrap.wrap(
            line.text,
            max(_NARROWEST, width),
            subsequent_indent=" " * indent,
            drop_whitespace=True,
            break_on_hyphens=False,
        )
        yield from (Line(piece, line.level, line.bold) for piece in pieces or [""])


def _title(words: str) -> Line:
    return Line(words, Level.ACCENT, bold=True)


def _ending(run: Run) -> Iterator[Line]:
    if run.state is not RunState.ENDED:
        return
    level = outcome_level(run)
    if run.words:
        yield Line(run.words, Level.PLAIN if level is Level.OK else level)
    undo = [words for step, state in _pairs(run) if state.state is StepState.DONE for words in step.undo]
    for index, words in enumerate(dict.fromkeys(undo)):
        yield Line(f"{'to undo it: ' if not index else '            '}{words}")
    yield Line("")


def _pairs(run: Run) -> Iterator[tuple[Step, StepRun]]:
    yield from zip(run.plan.steps, run.steps, strict=False)


def _steps(run: Run, now: float, glyphs: Glyphs) -> Iterator[Line]:
    yield _title("Steps")
    waiting = 0
    is_over = run.state is RunState.ENDED
    for number, (step, state) in enumerate(_pairs(run), start=1):
        waiting += state.state is StepState.WAITING
        if waiting <= _SHOWN_WAITING:
            yield from _step(number, step, state, now, glyphs, is_over=is_over)
    if waiting > _SHOWN_WAITING:
        yield Line(f"  {glyphs.unknown} and {waiting - _SHOWN_WAITING} more that wait", Level.STALE)
    yield Line("")


def _step(number: int, step: Step, state: StepRun, now: float, glyphs: Glyphs, *, is_over: bool) -> Iterator[Line]:
    level = _LEVELS.get(state.state, Level.ACCENT)
    sign = {Level.OK: glyphs.ok, Level.WARN: glyphs.warn, Level.CRIT: glyphs.crit, Level.STALE: glyphs.unknown}.get(
        level, glyphs.arrow[-1]
    )
    took = ""
    if state.began_at is not None:
        took = f"  {duration((state.ended_at or now) - state.began_at)}"
    part = f" {step.part}" if step.part and not step.title.startswith(step.part) else ""
    yield Line(
        f"  {sign} {state.state:<15} {number}. {step.host}{part}: {step.title}{took}", level, state.state in _OPEN
    )
    if state.words:
        yield Line(f"      {state.words}", level if level in (Level.WARN, Level.CRIT) else Level.PLAIN)
    if state.state is StepState.WAITING and step.waits_for:
        yield Line(f"      waits for {step.waits_for}", Level.STALE)
    if state.reverts_at is not None and state.ended_at is None:
        left = duration(max(0.0, state.reverts_at - now))
        yield Line(f"      unconfirmed: {step.host} takes it back by itself in {left}", Level.WARN)
    if state.state in _OPEN or is_over or level is Level.CRIT:
        yield from (_proof(proof, state, now, glyphs) for proof in state.proofs)
    shown = {proof.layer for proof in state.proofs}
    if stopwatch := [f"{layer} {seconds:.1f} s" for layer, seconds in state.timings.items() if layer not in shown]:
        yield Line(f"      seen after the command: {', '.join(stopwatch)}")


def _proof(proof: Proof, state: StepRun, now: float, glyphs: Glyphs) -> Line:
    sign, word, level = {
        True: (glyphs.ok, "seen", Level.OK),
        False: (glyphs.warn, "not yet", Level.WARN if proof.required else Level.STALE),
        None: (glyphs.unknown, "unknown", Level.STALE),
    }[proof.met]
    when = ""
    if proof.layer in state.timings:
        when = f" (after {state.timings[proof.layer]:.1f} s)"
    elif proof.met and proof.since is not None:
        when = f" (for {duration(now - proof.since)})"
    need = "required" if proof.required else ""
    return Line(f"      {sign} {word:<8} {need:<9} {proof.layer}: {proof.words}{when}", level)


def _moves(run: Run, moves: Traffic, glyphs: Glyphs) -> Iterator[Line]:
    if not run.plan.changes:
        return
    yield _title("Queries")
    share = f", {moves.now / moves.before:.0%} of it now" if moves.before > 0 and not math.isnan(moves.now) else ""
    nodes = dict.fromkeys(change.node for change in run.plan.changes)
    tenants = dict.fromkeys(change.tenant for change in run.plan.changes)
    yield Line(
        f"  {rate(moves.now).text} q/s at {some(nodes)} ({', '.join(tenants)}); {rate(moves.before).text} before{share}"
    )
    if moves.gains:
        told = [f"{node} {'+' if gain > 0 else '-'}{rate(abs(gain)).text}" for node, gain in moves.gains[:8]]
        yield Line(f"  elsewhere since then: {', '.join(told)} q/s")
    else:
        yield Line(f"  {glyphs.unknown} no other node has noticeably more or less than before", Level.STALE)
    yield Line("")


def _guards(run: Run, glyphs: Glyphs) -> Iterator[Line]:
    if run.guards:
        yield _title("Guards")
        for guard in run.guards:
            level = guard_level(guard).value
            yield Line(f"  {guard_words(guard, glyphs)}", Level.PLAIN if level == Level.OK else level)
            if reason := run.overrides.get(guard.name):
                yield Line(f"      overridden: {reason}", Level.WARN)
            if looked_at := run.acknowledged.get(guard.name):
                yield Line(f"      looked at: {looked_at}", Level.STALE)
        yield Line("")


def who_line(run: Run) -> Line:
    """Who began it, and why."""
    who = run.operator
    key = f" with key {who.key}" if who.key else ""
    ticket = f", {run.plan.ticket}" if run.plan.ticket else ""
    return Line(f"begun by {who.user}@{who.host}{key}{ticket}: {run.plan.reason or 'no reason given'}", Level.STALE)
