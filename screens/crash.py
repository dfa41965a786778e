"""Writes what happened when the console itself is at fault: a private file, never locals."""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path

from console.settings import Settings, private_folder
from console.text import clean, redact


def describe(error: BaseException) -> str:
    """The traceback with file names and source lines, cleaned and without secrets or locals."""
    report = "".join(traceback.format_exception(error))
    return redact(clean(report, multiline=True))


def write_crash(settings: Settings, error: BaseException, note: str = "") -> Path | None:
    """Save a crash report (mode 0600) and return its path, None when the disk refuses it.

    Secrets that a variable of the environment holds are masked by value.
    """
    secrets = [v for k, v in os.environ.items() if k.endswith(("TOKEN", "KEY", "PASSWORD"))]
    text = redact(f"{note}\n{describe(error)}".lstrip(), secrets)
    try:
        folder = private_folder(settings.folders.crashes)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except Exception:  # noqa: BLE001 - a crash report must never hide the crash itself
        return None
    return path
