"""A scan of a log in a process of its own, and its answers as they come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

Answer = Callable[[Mapping[str, Any]], None]


class Scan:
    """One scan; `answer` is called from a thread with each part of the result.

    A scan that ends without ``end`` in its last part has failed; `answer` is then told so with
    ``{"failed": …}``. After `cancel` nothing more is answered.
    """

    def __init__(self, request: Mapping[str, Any], answer: Answer) -> None:
        self._answer = answer
        self._cancelled = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "console.logs.scan"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        thread = threading.Thread(target=self._read, args=(dict(request),), daemon=True)
        thread.start()

    def running(self) -> bool:
        """Whether the process still lives."""
        return self._process.poll() is None

    def cancel(self) -> None:
        """End it now, whatever it is doing."""
        self._cancelled = True
        self._process.kill()

    def _read(self, request: dict[str, Any]) -> None:
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        ended = False
        with process:
            try:
                told = {**request, "parent": os.getpid()}
                process.stdin.write(json.dumps(told).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it was cancelled, or says on standard error why it could not start
            for line in process.stdout:
                if self._cancelled or not line.endswith(b"\n"):
                    break  # it was killed in the middle of a line
                said = json.loads(line)
                ended = bool(said.get("end"))
                self._answer(said)
            why = process.stderr.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        if not ended and not self._cancelled:
            self._answer({"failed": why or f"the scan ended with {process.returncode}"})
