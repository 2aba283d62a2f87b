"""Every command that changes the fleet: plan, guards, confirmation, then the change itself, with its progress on standard error.

It knows actions by name only. The engine runs in this process: an interrupt takes back what is unconfirmed, and a node takes it back by
itself if we are killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence

import msgspec

from anyconsole.actions.guards import GuardVerdict, asked
from anyconsole.actions.judge import judge
from anyconsole.actions.plan import Plan, document, render
from anyconsole.actions.run import Outcome, Question, Run, StepState
from anyconsole.actions.runner import Runner, refusal_outcome
from anyconsole.engine.core import FleetEngine
from anyconsole.errors import AnyconsoleError, JournalError
from anyconsole.headless import looked_at
from anyconsole.logs import log_to_file
from anyconsole.model.inventory import Inventory
from anyconsole.model.table import clean
from anyconsole.model.table import clock as time_of_day

__all__ = ["answer_to", "run_plan"]

_ARMED = 12 * 3600.0
"""Seconds for which a confirmed command may change things: longer than any change takes."""

_GATE_WORDS_EVERY = 5.0

_OPEN_TOLD = 3
"""Changes that were left open which are told of, the newest; the others are counted."""


def run_plan(inventory: Inventory, args: argparse.Namespace, action: str, request: msgspec.Struct) -> int:
    """Plan what `action` is asked for and, unless `--plan` is said, carry it out; returns the exit code.

    0 done, 1 failed and rolled back (or stopped on the way), 3 refused by a guard, 4 evidence insufficient, 5 conflict with another
    operator.

    Raises:
        AnyconsoleError: The scope, the reason or the confirmation is missing or wrong; nothing was changed.
    """
    if not args.plan:
        if inventory.is_locked:
            raise AnyconsoleError(f"read-only (--read-only, ANYCONSOLE_READ_ONLY): {args.command} can only --plan")
        if not args.reason.strip():
            raise AnyconsoleError(f"{args.command} needs --reason TEXT: it is written on the node and in the journal")
        if not args.yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise AnyconsoleError("there is no terminal to confirm on: say --yes, or --plan to see what would be done")
    log_to_file("headless")
    return asyncio.run(_run_plan(inventory, args, action, request))


async def _run_plan(inventory: Inventory, args: argparse.Namespace, action: str, request: msgspec.Struct) -> int:
    async with looked_at(inventory, args.wait) as engine:
        await _tell_open(engine)
        plan = await engine.changes.plan(action, msgspec.json.encode(request))
        guards = judge(engine.store, plan, time.time())
        if args.plan or plan.missing or not plan.steps:
            _print(args, plan, guards, None)
            return Outcome.NO_EVIDENCE.exit_code if plan.missing else _refusal(guards, {}).exit_code
        overrides = _overrides(args.override, guards)
        outcome = _refusal(guards, overrides)
        if outcome is not Outcome.DONE:
            _print(args, plan, guards, None)
            return outcome.exit_code
        if args.output == "text":
            sys.stdout.write(render(plan, guards))
            sys.stdout.flush()
        if not args.yes:
            await _confirm(plan)
        ended = await _carry_out(engine, plan, overrides, asked(guards), args)
        if args.output == "json":
            _print(args, plan, guards, ended)
        else:
            print(_result(ended))
    return ended.outcome.exit_code if ended.outcome is not None else 1


async def _tell_open(engine: FleetEngine) -> None:
    """Say on standard error which changes were never ended, and what the nodes say of them now."""
    try:
        left_open = await engine.changes.left_open()
    except JournalError as error:
        print(f"what was left open is not known: {error}", file=sys.stderr)
        return
    for change in left_open[:_OPEN_TOLD]:
        print(
            f"open change from {time_of_day(change.opened_at)} UTC, {change.id}: {clean(change.title)}\n"
            f"  {clean(await engine.changes.found(change), 400)}\n  `journal show {change.id[-4:]}` tells all of it; a console closes it",
            file=sys.stderr,
        )
    if len(left_open) > _OPEN_TOLD:
        print(f"{len(left_open) - _OPEN_TOLD} more: `journal show --open` lists them", file=sys.stderr)


def _refusal(guards: Sequence[GuardVerdict], overrides: dict[str, str]) -> Outcome:
    refused = [g for g in guards if g.refuses and not (g.overridable and g.name in overrides)]
    return refusal_outcome(refused) if refused else Outcome.DONE


def _overrides(given: Sequence[str], guards: Sequence[GuardVerdict]) -> dict[str, str]:
    """`NAME=REASON` of the command line. Raises AnyconsoleError for what can't be overridden."""
    known = {g.name: g for g in guards}
    overrides = {}
    for text in given:
        name, _, reason = text.partition("=")
        if name not in known:
            raise AnyconsoleError(f"--override {text!r}: there is no guard {name!r}; there are {', '.join(known)}")
        if not known[name].overridable:
            raise AnyconsoleError(f"--override {text!r}: the guard {name!r} can't be overridden")
        if not reason.strip():
            raise AnyconsoleError(f"--override {text!r}: say why, as {name}=REASON")
        overrides[name] = reason.strip()
    return overrides


def _print(args: argparse.Namespace, plan: Plan, guards: Sequence[GuardVerdict], ended: Run | None) -> None:
    if args.output == "json":
        whole = document(plan, guards)
        if ended is not None:
            run_ = msgspec.to_builtins(ended)
            del run_["plan"]
            whole["run"] = run_
        print(json.dumps(whole, ensure_ascii=False, indent=2))
    else:
        sys.stdout.write(render(plan, guards))


# --- the terminal


async def _confirm(plan: Plan) -> None:
    """Ask on the terminal. Raises AnyconsoleError for anything but the word asked for."""
    word = plan.type_to_confirm or "yes"
    typed = await _typed(f"\nType {word!r} to carry this out, anything else to leave it: ")
    if typed != word:
        raise AnyconsoleError("not confirmed, nothing was changed")


async def _typed(prompt: str) -> str:
    """A line from the terminal; the loop goes on meanwhile. "" at the end of input."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    print(prompt, end="", file=sys.stderr, flush=True)
    loop.add_reader(sys.stdin, read)
    try:
        return (await line).strip()
    finally:
        loop.remove_reader(sys.stdin)


def _result(ended: Run) -> str:
    lines = ["", f"{(ended.outcome or 'unknown').upper()}: {ended.words}  (change {ended.id})"]
    for step, planned in zip(ended.steps, ended.plan.steps, strict=True):
        times = ", ".join(f"{layer} {seconds:.1f} s" for layer, seconds in step.timings.items())
        lines.append(f"  {planned.host} {planned.title}: {step.state}{f' ({times})' if times else ''}")
        lines += [f"    {p.layer}: {p.words}" for p in step.proofs]
    return "\n".join(lines)


# --- carrying it out


async def _carry_out(
    engine: FleetEngine, plan: Plan, overrides: dict[str, str], looked_at: dict[str, str], args: argparse.Namespace
) -> Run:
    engine.changes.arm(_ARMED)
    run_id = await engine.changes.start(plan, overrides, looked_at, args.parallel)
    runner = engine.changes.runner(run_id)
    async with _interruptible(runner), _progress(runner, args):
        return await engine.changes.wait(run_id)


@contextlib.asynccontextmanager
async def _interruptible(runner: Runner) -> AsyncIterator[None]:
    """While it runs, ctrl-c, a closed terminal and a kill take back what is unconfirmed, and wait for that."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, runner.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _progress(runner: Runner, args: argparse.Namespace) -> AsyncIterator[None]:
    task = asyncio.create_task(_tell(runner, args), name="progress")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _tell(runner: Runner, args: argparse.Namespace) -> None:
    """Say on standard error what becomes of it, and ask what it asks."""
    said: dict[int, tuple[StepState, str]] = {}
    said_at = 0.0
    asked = 0
    while True:
        for i, step in enumerate(runner.run.steps):
            is_waiting = step.state is StepState.WAITING
            if (is_waiting and not step.words) or said.get(i) == (step.state, step.words):
                continue
            if is_waiting and time.monotonic() - said_at < _GATE_WORDS_EVERY:
                continue
            said[i], said_at = (step.state, step.words), time.monotonic()
            host = runner.run.plan.steps[i].host
            print(
                f"{time_of_day(time.time())} {i + 1}. {host} {step.state}: {clean(step.words, 200)}".rstrip(": "),
                file=sys.stderr,
                flush=True,
            )
        question = runner.run.question
        if question is not None and question.id != asked:
            asked = question.id
            answer = await answer_to(question, args)
            with contextlib.suppress(AnyconsoleError):  # answered by its default meanwhile
                runner.answer(question.id, answer)
        await asyncio.sleep(0.1)


async def answer_to(question: Question, args: argparse.Namespace) -> str:
    """What the command line answers: as asked for with `--residual` if the question has that choice, else what is safe, or is typed."""
    known = {choice for choice, _ in question.choices}
    if args.residual or args.yes or not sys.stdin.isatty():
        return str(args.residual) if args.residual in known else question.default
    choices = "\n".join(f"  {choice}: {meaning}" for choice, meaning in question.choices)
    typed = await _typed(f"{question.text}\n{choices}\n[{question.default}] ")
    return typed if typed in known else question.default
