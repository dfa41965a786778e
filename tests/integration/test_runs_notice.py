"""A notice when a run ends: the operator's command, and what the following terminal gets."""

from __future__ import annotations

import os
import pty
from dataclasses import replace
from pathlib import Path

import pytest

from console.planning.plan import ExitCode
from console.runs import notice
from console.runs.model import RunState, RunView
from console.runs.store import RunStore
from console.settings import NotifySettings
from console.verbs import output
from tests.processes import executed, gone, running_with, settings_at, shell, until

pytestmark = pytest.mark.integration


def store_with(home: Path, command: list[str], after: float = 0) -> RunStore:
    (home / "config").mkdir()
    text = f"[notify]\nafter = {after}\ncommand = {command}\n"
    (home / "config" / "settings.toml").write_text(text)
    return RunStore(settings_at(home))


def test_the_command_learns_how_the_run_ended(tmp_path: Path) -> None:
    told = tmp_path / "told"
    store = store_with(tmp_path, ["bash", "-c", f"env > {told}.part; mv {told}.part {told}"])
    view = executed(store, shell("work", "exit 3", success=(ExitCode(),)))
    assert view.state is RunState.FAILED
    until(told.exists)
    env = dict(line.split("=", 1) for line in told.read_text().splitlines() if "=" in line)
    assert (env["TRITONDECK_RUN"], env["TRITONDECK_RUN_STATE"]) == ("digits-1", "failed")
    assert env["TRITONDECK_RUN_DEPLOYMENT"] == "digits"
    assert "exit code 3" in env["TRITONDECK_RUN_ERROR"]


def test_the_command_gets_no_secret_of_the_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_never_in_a_notice")
    told = tmp_path / "told"
    store = store_with(tmp_path, ["bash", "-c", f"env > {told}.part; mv {told}.part {told}"])
    executed(store, shell("work", "true"))
    until(told.exists)
    assert "hf_never" not in told.read_text()


def test_a_command_that_fails_is_in_the_messages_and_changes_nothing(tmp_path: Path) -> None:
    store = store_with(tmp_path, ["bash", "-c", "exit 7"])
    view = executed(store, shell("work", "true"))
    until(lambda: "notice: bash ended with 7" in (view.folder / "messages.log").read_text())
    assert store.view(view.id).state is RunState.SUCCEEDED


def test_a_command_that_does_not_exist_is_in_the_messages(tmp_path: Path) -> None:
    store = store_with(tmp_path, ["no-such-program-at-all"])
    view = executed(store, shell("work", "true"))
    until(lambda: "cannot start no-such-program" in (view.folder / "messages.log").read_text())


def test_a_command_does_not_keep_the_next_run_waiting(tmp_path: Path) -> None:
    seconds = f"600.0{os.getpid()}"
    store = store_with(tmp_path, ["sleep", seconds])
    executed(store, shell("work", "true"))
    first = until(lambda: running_with(seconds))
    executed(store, shell("work", "true"))
    assert set(first) <= set(running_with(seconds))
    second = until(lambda: set(running_with(seconds)) - set(first))
    for pid in {*first, *second}:
        os.kill(pid, 9)


def test_a_short_run_calls_nobody(tmp_path: Path) -> None:
    told = tmp_path / "told"
    store = store_with(tmp_path, ["touch", str(told)], after=3600)
    gone(executed(store, shell("work", "true")))
    until(lambda: not running_with("console.runs.notice"))
    assert not told.exists()


def test_a_command_that_hangs_is_ended_with_what_it_started() -> None:
    script = "sleep 600.050607 & sleep 600.050607"
    said = notice.carry_out(["bash", "-c", script], {"PATH": os.environ["PATH"]}, limit=0.3)
    assert said == "bash was ended after 0.3 s"
    until(lambda: not running_with("600.050607"))


# ---------------------------------------------------------------------------- the terminal

ENDED = RunView(
    id="digits-1",
    deployment="digits",
    number=1,
    state=RunState.SUCCEEDED,
    folder=Path(),
    steps=(),
    started=0.0,
    elapsed=61.0,
)


def seen(settings: NotifySettings, view: RunView) -> bytes:
    """What a terminal gets."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        output.notice(settings, view, stream)
        stream.write("end")
        stream.flush()
        data = b""
        while not data.endswith(b"end"):
            data += os.read(ours, 1024)
    os.close(ours)
    return data.removesuffix(b"end")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (NotifySettings(), b"\x1b]9;tritondeck: digits succeeded\x1b\\\a"),
        (NotifySettings(bell=False), b"\x1b]9;tritondeck: digits succeeded\x1b\\"),
        (NotifySettings(osc9=False), b"\a"),
        (NotifySettings(after=62), b""),
    ],
)
def test_the_terminal_that_followed_a_long_run_is_called(
    monkeypatch: pytest.MonkeyPatch, settings: NotifySettings, expected: bytes
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert seen(settings, ENDED) == expected


def test_nothing_is_written_for_a_run_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert seen(NotifySettings(after=0), replace(ENDED, state=RunState.RUNNING)) == b""


def test_a_file_gets_no_control_characters(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        output.notice(NotifySettings(after=0), ENDED, stream)
    assert (tmp_path / "log").read_text() == ""
