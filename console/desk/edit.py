"""Use case: replace the text of a saved deployment, checked as a whole before anything is written."""

from __future__ import annotations

from pathlib import Path

from console import storage
from console.desk import configure, readonly, tomlfile
from console.facts import Refused, UsageError
from console.planning import deployment as files
from console.settings import Settings, private_folder
from console.text import clean


def text(settings: Settings, name: str) -> str:
    """The deployment file as it is, right or wrong; `UsageError` when there is none."""
    file = configure.file_of(settings, name)
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"there is no deployment called {clean(name)!r}",
            fix="tritondeck deployments lists them",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {clean(str(file))}", why=clean(str(error))) from error


def replace(settings: Settings, name: str, new: str, before: str) -> Path:
    """Write `new` if it is a valid deployment called `name`; `before` is what it was made from.

    Raises `UsageError` that names file, key and line, and `Refused` when somebody else has changed
    the file meanwhile.
    """
    readonly.require_writable(settings, f"edit {name}")
    file = configure.file_of(settings, name)
    configure.validated(files.loads(new, file), file, new)
    if text(settings, name) != before:
        raise Refused(
            f"{clean(name)} was changed by somebody else meanwhile",
            fix="edit it again: your text was not written",
        )
    tomlfile.put(file, new, file.stat().st_mode & 0o777)
    return file


def draft_file(settings: Settings, name: str, content: str) -> Path:
    """A private copy for an editor, in a folder of ours."""
    readonly.require_writable(settings, f"edit {name}")
    configure.file_of(settings, name)
    private_folder(settings.folders.state)
    folder = private_folder(settings.folders.state / "editing")
    file = folder / f"{name}.toml"
    try:
        storage.write_private(file, content.encode())
    except OSError as error:
        raise storage.storage_error(error, file) from error
    return file
