"""`clone`, `edit`, `diff` and `shell`: what is done with a saved deployment."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path

from console.facts import DeckError, UsageError
from console.text import clean
from console.verbs import common, output


def clone(args: argparse.Namespace) -> int:
    file = common.desk(args).clone(args.name, args.new)
    if args.json:
        output.emit("deployment", args.new, file=file)
    else:
        output.say(f"{args.new} saved: {file}")
    return 0


def diff(args: argparse.Namespace) -> int:
    """0 when nothing differs, 1 when something does, as diff(1)."""
    found = common.desk(args).diff(args.left, args.right)
    if args.json:
        output.emit("diff", found)
        return 1 if found.entries or found.text else 0
    print(found.text, end="")
    for section, entries in groupby(found.entries, key=lambda entry: entry.section):
        output.say()
        output.table(
            (section.upper(), found.left, found.right),
            [(entry.key, entry.left or "-", entry.right or "-") for entry in entries],
        )
    if not found.entries and not found.text:
        output.say("nothing differs")
        return 0
    return 1


def edit(args: argparse.Namespace) -> int:
    on = common.desk(args)
    before = on.deployment_text(args.name)
    file = on.draft_file(args.name, before)
    while True:
        _editor(file)
        text = file.read_text(encoding="utf-8", errors="replace")
        if text == before:
            file.unlink()
            output.say(f"{args.name} unchanged")
            return 0
        try:
            saved = on.replace_text(args.name, text, before)
        except DeckError as error:
            if not _again(error):
                output.note(f"your text is kept in {file}")
                raise
            continue
        file.unlink()
        output.say(f"{args.name} saved: {saved}")
        return 0


def _editor(file: Path) -> None:
    words = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    try:
        code = subprocess.run([*words, str(file)], check=False).returncode
    except OSError as error:
        raise UsageError(
            f"cannot start the editor {clean(words[0])}",
            why=error.strerror or str(error),
            fix="set VISUAL or EDITOR to an editor that is installed",
        ) from error
    if code:
        raise DeckError(
            f"the editor {clean(words[0])} ended with {code}", why=f"your text is kept in {file}"
        )


def _again(error: DeckError) -> bool:
    """Show what is wrong and offer the editor again, on a terminal."""
    if isinstance(error, UsageError) and sys.stdin.isatty() and sys.stderr.isatty():
        output.show_error(error, as_json=False)
        return input("edit again? [Y/n] ").strip().lower() in ("", "y", "yes")
    return False


def shell(args: argparse.Namespace) -> int:
    """Becomes the shell or the command: its exit code is the verb's."""
    launch = common.desk(args).shell(args.name, args.environment, tuple(args.command))
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(launch.cwd)
    os.execve(launch.argv[0], launch.argv, launch.env)
