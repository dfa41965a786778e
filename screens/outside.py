"""Programs of the operator's own, with the terminal to themselves: pager and editor."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App, SuspendNotSupported

from console.facts import UsageError
from console.text import clean

if TYPE_CHECKING:
    from console.runtimes.host import Launch


def pager() -> list[str]:
    """The operator's pager; `UsageError` when this machine has none."""
    return _program(("PAGER",), ("less", "more", "cat"))


def editor() -> list[str]:
    """The operator's editor; `UsageError` when this machine has none."""
    return _program(("VISUAL", "EDITOR"), ("nano", "vim", "vi"))


def _program(variables: tuple[str, ...], known: tuple[str, ...]) -> list[str]:
    for variable in variables:
        words = shlex.split(os.environ.get(variable, ""))
        if words and shutil.which(words[0]):
            return words
    for name in known:
        if found := shutil.which(name):
            return [found]
    raise UsageError(
        f"there is neither ${variables[-1]} nor {' nor '.join(known)} here",
        fix=f"set {variables[-1]} to a program of yours",
    )


def run(app: App[None], argv: list[str], file: Path) -> None:
    """Give the terminal to `argv` with `file` until it ends; raises `UsageError` in words."""
    code = _lent(app, [*argv, str(file)], f"open {clean(str(file))} in another one")
    if code:
        raise UsageError(f"{clean(argv[0])} ended with {code}")


def become(app: App[None], launch: Launch) -> None:
    """Give the terminal to a shell until it is left; how it ended says nothing."""
    words = "run tritondeck shell in another one"
    _lent(app, list(launch.argv), words, launch.env, launch.cwd)


def _lent(
    app: App[None],
    argv: list[str],
    instead: str,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> int:
    try:
        with app.suspend():
            return subprocess.run(argv, check=False, env=env, cwd=folder).returncode
    except SuspendNotSupported as error:
        raise UsageError("this terminal cannot be lent to another program", fix=instead) from error
    except OSError as error:
        raise UsageError(f"cannot start {clean(argv[0])}", why=error.strerror or "") from error
