"""A job that is done again and again on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Turn(threading.Thread):
    """Does `job` every `seconds()`; None waits for `wake` or `run_once` alone.

    `share` is the part of one processor that the job may take: where it costs more (a host with
    thousands of processes), it is done less often.
    """

    def __init__(
        self,
        name: str,
        job: Callable[[], object],
        seconds: Callable[[], float | None],
        share: float = 1.0,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._job = job
        self._seconds = seconds
        self._share = share
        self._changed = threading.Condition()
        self._wanted = seconds() is not None
        self._done = 0
        self._closed = False
        self.problem = ""
        """What went wrong in the last turn, in words."""

    def run(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                if not self._wait(due):
                    return
                self._wanted = False
            began, spent = time.monotonic(), time.thread_time()
            self._attempt()
            spent = time.thread_time() - spent
            # Beats that were missed while the job took long are not made up for.
            due = began + max(self._seconds() or 0.0, spent / self._share)
            with self._changed:
                self._done += 1
                self._changed.notify_all()

    def wake(self) -> None:
        """Do the job now, or once more when it is being done."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()

    def run_once(self, patience: float) -> bool:
        """Have the job done and wait for that, no longer than `patience` seconds."""
        with self._changed:
            before = self._done
            self._wanted = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done > before, patience)

    def close(self) -> None:
        """End after the job that is being done; does not wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait(self, due: float) -> bool:
        """Until the next turn; False to end. Called with the condition held."""
        while not (self._wanted or self._closed):
            left = None if self._seconds() is None else due - time.monotonic()
            if left is not None and left <= 0:
                break
            self._changed.wait(left)
        return not self._closed

    def _attempt(self) -> None:
        try:
            self._job()
            self.problem = ""
        # The job asks callables of other rooms: whatever they raise must end neither this thread,
        # whose class of figures would silently grow old, nor draw a traceback over the screen.
        except Exception as error:  # noqa: BLE001
            self.problem = f"{type(error).__name__}: {error}"
