"""Starting a module of ours as a process of its own, in its own session and with no terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from console.facts import DeckError, Refused, UsageError
from console.processes import MARK
from console.storage import open_log, storage_error
from console.text import clean

_START_TIMEOUT = 60.0

Ready = Callable[[], None]


def start(
    module: str,
    request: Mapping[str, Any],
    env: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
) -> None:
    """Start `module` detached with `request` and return when it says that it is ready.

    The request travels through a pipe and is on no disk. `env` is the detached process's own
    environment (a few names of ours by default, and those of `secrets`). Raises the `DeckError` that
    it failed with.
    """
    if env is None:
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONPATH", "TZ", *secrets)
        env = {name: os.environ[name] for name in kept if name in os.environ}
    # What is detached belongs to no keeper above us any more.
    env = {name: value for name, value in env.items() if name != MARK}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd="/",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(json.dumps(request).encode(), timeout=_START_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise DeckError(
            "a background process did not start",
            why=f"{module} gave no sign of life within {_START_TIMEOUT:.0f} s",
            fix="the machine is overloaded or out of memory: try again",
        ) from None
    said = json.loads(out) if out else {}
    if said.get("ready"):
        return
    log = Path(request["folder"]) / "messages.log"
    raw = err or (log.read_bytes()[-4000:] if log.is_file() else b"")
    kinds: dict[str, type[DeckError]] = {"Refused": Refused, "UsageError": UsageError}
    raise kinds.get(said.get("kind", ""), DeckError)(
        said.get("title", "a background process did not start"),
        why=said.get("why", f"{module} ended before it was ready"),
        fix=said.get("fix", ""),
        raw=said.get("raw", clean(raw.decode(errors="replace"), multiline=True)),
    )


def detached(work: Callable[[dict[str, Any], Ready], None]) -> NoReturn:
    """The other side of `start`: leave parent, session and terminal, then do `work`.

    `work` gets the request and a function to call when it has started; an `OSError` or `DeckError`
    before that is told to whoever asked. Messages go to ``<folder>/messages.log`` afterwards.
    """
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    answer = os.dup(1)
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    told = False

    def tell(value: Mapping[str, Any]) -> None:
        nonlocal told
        if told:
            return
        told = True
        try:
            os.write(answer, json.dumps(value).encode())
        except BrokenPipeError:
            pass  # whoever asked is gone; the work goes on
        os.close(answer)

    try:
        messages = open_log(folder / "messages.log")
        for number, target in ((nothing, 0), (messages, 1), (messages, 2)):
            os.dup2(number, target)
        work(request, lambda: tell({"ready": True}))
    except DeckError as error:
        tell(_told(error))
        _complain(error)
        os._exit(1)
    except OSError as error:
        tell(_told(storage_error(error, Path(error.filename or folder))))
        _complain(error)
        os._exit(1)
    sys.exit(0)


def _told(error: DeckError) -> dict[str, str]:
    kind = type(error).__name__
    # A pipe takes this in one piece; the whole text is in messages.log.
    return {
        "kind": kind,
        "title": error.title[:800],
        "why": error.why[:800],
        "fix": error.fix[:400],
        "raw": error.raw[-1500:],
    }


def _complain(error: Exception) -> None:
    try:
        print(clean(str(error)), file=sys.stderr, flush=True)
    except OSError:
        pass  # a full disk: it has been told through the pipe
