"""What an internal error leaves: one line in words and a private file, never the values of locals.

The command line and the screens both end here with whatever is no `DeckError`.
"""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path

from console.facts import DeckError
from console.settings import Folders, private_folder
from console.text import clean, redact


def describe(error: BaseException) -> str:
    """The traceback with file names and source lines, cleaned and without secrets or locals."""
    report = "".join(traceback.format_exception(error))
    return redact(clean(report, multiline=True), _secrets())


def write_crash(folders: Folders, error: BaseException, note: str = "") -> Path | None:
    """Save a crash report (mode 0600) and return its path, None when the disk refuses it.

    Secrets that a variable of the environment holds are masked by value.
    """
    text = redact(f"{note}\n{describe(error)}".lstrip(), _secrets())
    try:
        folder = private_folder(folders.crashes)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except Exception:  # noqa: BLE001 - a crash report must never hide the crash itself
        return None
    return path


def one_line(error: BaseException, saved: Path | None) -> str:
    """What a person at a shell reads."""
    where = f"; details in {clean(str(saved))}" if saved else ""
    return f"tritondeck: internal error ({type(error).__name__}){where}. Runs go on."


def in_words(error: BaseException, saved: Path | None) -> DeckError:
    """The same as an error screen and as JSON say it."""
    return DeckError(
        f"tritondeck made a mistake here ({type(error).__name__})",
        why="this is a defect of the console, not of your files; runs are not touched",
        fix=f"report it with {clean(str(saved))}" if saved else "report it with the text below",
        raw=describe(error),
    )


def _secrets() -> list[str]:
    return [v for k, v in os.environ.items() if k.endswith(("TOKEN", "KEY", "PASSWORD"))]
