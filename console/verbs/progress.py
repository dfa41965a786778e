"""Following a run in plain lines: what `deploy`, `runs retry` and `quickstart` print."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from console.facts import Progress
from console.runs.model import RunState, RunView, StepState, StepView
from console.text import clean, human_seconds
from console.verbs import output

if TYPE_CHECKING:
    from console.desk.desk import Desk

EXIT_CODES = {
    RunState.SUCCEEDED: 0,
    RunState.FAILED: 1,
    RunState.CANCELLED: 4,
}
EXIT_UNFINISHED = 5
"""The run has not ended as far as we know: left by Ctrl-C, its runner gone, another host's."""
INTERVAL = 2.0
"""Least seconds between two progress lines of one step."""
STEP_WIDTH = 22
_WORDS = {
    StepState.DONE: ("done", "green"),
    StepState.SKIPPED: ("unchanged", "dim"),
    StepState.FAILED: ("FAILED", "red"),
    StepState.CANCELLED: ("cancelled", "yellow"),
}


def started(
    on: Desk,
    run_id: str,
    *,
    detach: bool,
    as_json: bool,
    then: Callable[[], str] | None = None,
) -> int:
    """Follow the run to its end, unless detached; returns the exit code.

    `then` starts the run that goes on from a succeeded one; it is followed too.
    """
    view = on.run(run_id)
    if detach:
        if as_json:
            output.emit("run", view)
        else:
            output.say(f"run {view.id} started")
            output.say(f"follow it: tritondeck logs -f {view.deployment}")
        return 0
    try:
        view = told(on, run_id)
        if then and view.state is RunState.SUCCEEDED:
            run_id = then()
            view = told(on, run_id)
    except KeyboardInterrupt:
        view = on.run(run_id)
        if as_json:
            output.emit("run", view)
        output.note("")
        output.note(f"left; run {view.id} goes on")
        output.note(f"come back: tritondeck logs -f {view.deployment}, or tritondeck")
        output.note(f"end it:    tritondeck runs cancel {view.id}")
        return EXIT_UNFINISHED
    if as_json:
        output.emit("run", view)
    else:
        summary(view)
    return EXIT_CODES.get(view.state, EXIT_UNFINISHED)


def told(on: Desk, run_id: str) -> RunView:
    """Follow the run to its end, telling each change on stderr in one line."""
    teller = Teller()
    view = on.run(run_id)
    for view in on.follow(run_id):
        teller.tell(view)
    output.notice(on.settings.notify, view)
    return view


class Teller:
    """Remembers what was said, and says what is new."""

    def __init__(self) -> None:
        self._said: dict[str, StepState] = {}
        self._message: dict[str, tuple[str, float]] = {}
        self._announced = False

    def tell(self, view: RunView) -> None:
        if not self._announced:
            self._announced = True
            output.note(f"run {view.id}: {len(view.steps)} steps")
        for number, step in enumerate(view.steps, 1):
            place = f"[{number}/{len(view.steps)}] {step.id:{STEP_WIDTH}}"
            if step.state is not self._said.get(step.id, StepState.PENDING):
                self._said[step.id] = step.state
                output.note(f"{place} {_step_words(step)}")
            elif step.state is StepState.RUNNING:
                self._progress(place, step)

    def _progress(self, place: str, step: StepView) -> None:
        words = clean(step.message)
        if step.fraction is not None:
            words = f"{step.fraction:4.0%} {words}"
        before, at = self._message.get(step.id, ("", -INTERVAL))
        now = time.monotonic()
        if words and words != before and now - at >= INTERVAL:
            self._message[step.id] = (words, now)
            output.note(f"{place} {words}")


def _step_words(step: StepView) -> str:
    if step.state is StepState.RUNNING:
        return clean(step.title)
    word = _WORDS[step.state][0] if step.state in _WORDS else step.state.value
    took = f" in {human_seconds(step.elapsed)}" if step.elapsed else ""
    reason = clean(step.reason).removeprefix(f"{word}: ")
    reason = f": {reason}" if reason else ""
    return f"{word}{took}{reason}"


def noting() -> Progress:
    """A progress callback that tells each new message on stderr once, with whole percents."""
    said = ""

    def tell(message: str, fraction: float | None = None) -> None:
        nonlocal said
        line = message if fraction is None else f"{fraction:4.0%} {message}"
        if line != said:
            said = line
            output.note(line)

    return tell


def summary(view: RunView) -> None:
    """Each step with its time, how the run ended, and the answer."""
    for step in view.steps:
        word, colour = _WORDS.get(step.state, (step.state.value, "dim"))
        took = human_seconds(step.elapsed) if step.elapsed else ""
        print(
            f"{output.coloured(f'{word:10}', colour)} {clean(step.id):{STEP_WIDTH}} {took}".rstrip()
        )
    output.say(f"run {view.id} {view.state.value} after {human_seconds(view.elapsed)}")
    if view.error:
        output.say(f"error: {view.error}")
        failed = next((s for s in view.steps if s.state is StepState.FAILED), None)
        fix = view.fix or (failed.fix if failed else "")
        if fix:
            output.say(f"fix: {fix}")
        if failed:
            output.say(f"log: tritondeck logs {view.deployment} --step {failed.id}")
    if view.state in (RunState.INTERRUPTED, RunState.FAILED, RunState.CANCELLED):
        output.say(f"continue: tritondeck runs retry {view.id}")
    if view.answer:
        output.say(f"answer: {view.answer}")
