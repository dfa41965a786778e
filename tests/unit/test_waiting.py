"""How long the console waits for what nobody tells."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from console import keeper, storage, waiting
from console.facts import Refused


class Clock:
    """In the place of `time`: each pause takes what it is told to, and some take longer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, still: float = 0.0) -> None:
        self.now, self.pauses, self.still = 1000.0, 0, still
        monkeypatch.setattr(waiting, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses += 1
        self.now += seconds + (self.still if self.pauses == 1 else 0.0)


def test_there_is_one_look_without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert (len(list(waiting.looks(0.0))), clock.pauses) == (1, 0)


def test_the_last_look_comes_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    times = [clock.now for _ in waiting.looks(2.0, 0.25)]
    assert (times[0], times[-1], len(times)) == (1000.0, 1002.0, 9)


def test_a_machine_that_stood_still_takes_little_of_the_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Clock(monkeypatch, still=3.0)
    assert len(list(waiting.looks(2.0, 0.25))) == 8


def test_a_look_that_takes_long_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    seen = 0
    for _ in waiting.looks(2.0, 0.1):
        clock.now += 0.4
        seen += 1
    assert seen == 5


def test_a_lock_is_had_from_somebody_who_was_held_up_for_longer_than_the_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder ends after the machine stood still for three seconds, with one second of patience."""
    clock = Clock(monkeypatch, still=3.0)
    held = storage.lock(tmp_path / "lock", "held")
    pause = clock.sleep

    def ends(seconds: float) -> None:
        pause(seconds)
        if clock.pauses == 2:
            os.close(held)

    monkeypatch.setattr(clock, "sleep", ends)
    os.close(storage.lock(tmp_path / "lock", "held", patience=1.0))


def test_a_lock_that_stays_held_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    held = storage.lock(tmp_path / "lock", "held")
    with pytest.raises(Refused, match="held"):
        storage.lock(tmp_path / "lock", "held", patience=1.0)
    os.close(held)


class HeldUp(keeper.Keeper):
    """Gets no turn from the moment that it was asked to end until three seconds after the grace; the
    child has ended by then, or not."""

    def __init__(self, folder: Path, clock: Clock, ended: bool) -> None:
        # What runs below this process is the test session's own.
        words = (str(folder), ("child",), {}, "/", str(folder / "log"))
        super().__init__(keeper.Request(*words, grace=10.0, leave=True))
        self.clock, self.ended = clock, ended
        self.sent: list[int] = []

    def _next_signal(self, deadline: float | None) -> int:
        if deadline is None:
            return signal.SIGTERM
        self.clock.now = deadline + 3.0
        return signal.SIGCHLD

    def _to_group(self, number: int) -> None:
        self.sent.append(number)

    def _reap(self) -> None:
        late = self.clock.now > 1010.0
        if late and (self.ended or signal.SIGKILL in self.sent):
            self.status = 0


@pytest.mark.parametrize(
    ("ended", "sent"), [(True, [signal.SIGTERM]), (False, [signal.SIGTERM, signal.SIGKILL])]
)
def test_a_keeper_that_got_no_turn_calls_no_child_late_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool, sent: list[int]
) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(keeper, "time", clock)
    monkeypatch.setattr(HeldUp, "_result", lambda *figures: {})
    kept = HeldUp(tmp_path, clock, ended)
    kept._exit = storage.StatusFile(tmp_path / "exit.json")
    kept.wait()
    assert (kept.sent, kept.killed) == (sent, not ended)
