"""Cloning, editing and comparing deployments and runs."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from console import settings
from console.desk.desk import Desk
from console.facts import Refused, UsageError
from console.runs.store import RunStore
from tests.processes import plan, shell
from tests.unit.test_cli import ROOT, tritondeck

TEXT = """\
# scored by the night shift
name = "scorer"
backend = "onnx"

[checkpoints]
model = "graphs/a.onnx"  # beside this file

[options]
max_batch_size = 4
"""


@dataclass
class Shelf:
    home: Path
    desk: Desk

    @property
    def saved(self) -> Path:
        return self.desk.settings.folders.deployments

    def put(self, name: str = "scorer", text: str = TEXT) -> Path:
        self.saved.mkdir(parents=True, exist_ok=True)
        (self.saved / f"{name}.toml").write_text(text)
        return self.saved / f"{name}.toml"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path, Desk(settings.load({"TRITONDECK_HOME": str(tmp_path)})))


# ---------------------------------------------------------------------------- clone


def test_a_clone_keeps_options_and_comments_under_a_new_name(shelf: Shelf) -> None:
    shelf.put()
    text = shelf.desk.clone("scorer", "scorer-2").read_text()
    assert "# scored by the night shift" in text and 'name = "scorer-2"' in text
    made = shelf.desk.open("scorer-2")
    assert (made.options["max_batch_size"], made.name) == (4, "scorer-2")
    assert made.checkpoints == shelf.desk.open("scorer").checkpoints


def test_a_clone_of_a_file_elsewhere_means_the_same_checkpoint(shelf: Shelf) -> None:
    file = shelf.home / "elsewhere" / "scorer.toml"
    file.parent.mkdir()
    file.write_text(TEXT)
    shelf.desk.clone(str(file), "mine")
    assert shelf.desk.open("mine").checkpoints["model"] == str(file.parent / "graphs" / "a.onnx")


def test_a_clone_never_replaces_a_deployment(shelf: Shelf) -> None:
    shelf.put()
    shelf.put("other", TEXT.replace("scorer", "other"))
    with pytest.raises(Refused, match="already"):
        shelf.desk.clone("scorer", "other")
    with pytest.raises(UsageError):
        shelf.desk.clone("scorer", "../escape")


# ---------------------------------------------------------------------------- diff


def test_equal_deployments_differ_in_nothing(shelf: Shelf) -> None:
    shelf.put()
    found = shelf.desk.diff("scorer", "scorer")
    assert (found.entries, found.text) == ((), "")


def test_a_changed_option_is_in_the_table_and_in_the_text(shelf: Shelf) -> None:
    shelf.put()
    shelf.desk.clone("scorer", "big")
    file = shelf.saved / "big.toml"
    file.write_text(file.read_text().replace("max_batch_size = 4", "max_batch_size = 64"))
    found = shelf.desk.diff("scorer", "big")
    rows = {(e.section, e.key): (e.left, e.right) for e in found.entries}
    assert rows[("options", "max_batch_size")] == ("4", "64")
    assert "-max_batch_size = 4\n+max_batch_size = 64\n" in found.text


def test_runs_differ_by_outcome_timings_and_what_their_steps_depended_on(shelf: Shelf) -> None:
    store = RunStore(shelf.desk.settings)
    toml = 'name = "digits"\nbackend = "onnx"\n[checkpoints]\n'

    def run(script: str) -> str:
        run_id = store.create(plan(shell("work", script)), toml)
        store.start(run_id)
        list(shelf.desk.follow(run_id))
        return run_id

    first, second = run("true"), run("exit 3")
    found = shelf.desk.diff(first, second)
    rows = {(e.section, e.key): (e.left, e.right) for e in found.entries}
    assert rows[("outcome", "state")] == ("succeeded", "failed")
    assert rows[("timings", "work")][1].startswith("failed")
    left, right = rows[("keys", "work.options")]
    assert left != right and len(left) == len(right) == 12


def test_a_step_that_one_run_skipped_differs_in_its_timing_alone(shelf: Shelf) -> None:
    store = RunStore(shelf.desk.settings)
    toml = 'name = "digits"\nbackend = "onnx"\n[checkpoints]\n'
    made = []
    for _ in range(2):
        made.append(store.create(plan(shell("work", "true")), toml))
        store.start(made[-1])
        list(shelf.desk.follow(made[-1]))
    found = shelf.desk.diff(*made)
    rows = {(e.section, e.key): (e.left, e.right) for e in found.entries}
    assert rows[("timings", "work")][1].startswith("skipped")
    assert not [key for key in rows if key[0] == "keys"]


# ---------------------------------------------------------------------------- edit


def editor(home: Path, script: str) -> str:
    """An editor that is a script: it gets the file as its last word."""
    program = home / "editor"
    program.write_text(f"#!/bin/bash\n{script}\n")
    program.chmod(0o700)
    return str(program)


def test_what_the_editor_saves_is_checked_and_written(shelf: Shelf) -> None:
    file = shelf.put()
    words = editor(shelf.home, "sed -i s/size\\ =\\ 4/size\\ =\\ 8/ $1")
    done = tritondeck(shelf.home, "edit", "scorer", VISUAL=words, EDITOR="false")
    assert done.returncode == 0, done.stderr
    assert file.read_text() == TEXT.replace("size = 4", "size = 8")
    assert not any((shelf.desk.settings.folders.state / "editing").iterdir())


def test_a_wrong_text_is_kept_and_told_with_its_line(shelf: Shelf) -> None:
    file = shelf.put()
    words = editor(shelf.home, "sed -i s/size\\ =\\ 4/size\\ =\\ -4/ $1")
    done = tritondeck(shelf.home, "edit", "scorer", EDITOR=words)
    assert done.returncode == 2
    assert "line 9, options.max_batch_size" in done.stderr
    assert file.read_text() == TEXT
    kept = shelf.desk.settings.folders.state / "editing" / "scorer.toml"
    assert "-4" in kept.read_text() and str(kept) in done.stderr


def test_an_edit_does_not_overwrite_somebody_elses(shelf: Shelf) -> None:
    file = shelf.put()
    words = editor(shelf.home, f"echo '# mine' >> $1; echo '# theirs' >> {file}")
    done = tritondeck(shelf.home, "edit", "scorer", EDITOR=words)
    assert done.returncode == 3 and "somebody else" in done.stderr
    assert "# theirs" in file.read_text() and "# mine" not in file.read_text()


def test_an_edit_cannot_rename(shelf: Shelf) -> None:
    shelf.put()
    words = editor(shelf.home, "sed -i s/scorer/other/ $1")
    done = tritondeck(shelf.home, "edit", "scorer", EDITOR=words)
    assert done.returncode == 2 and "expected scorer" in done.stderr


def test_leaving_the_editor_without_a_change_changes_nothing(shelf: Shelf) -> None:
    file = shelf.put()
    before = file.stat().st_mtime_ns
    done = tritondeck(shelf.home, "edit", "scorer", EDITOR="true")
    assert (done.returncode, done.stdout) == (0, "scorer unchanged\n")
    assert file.stat().st_mtime_ns == before


def test_on_a_terminal_the_editor_is_offered_again(shelf: Shelf) -> None:
    file = shelf.put()
    words = editor(
        shelf.home,
        f"echo x >> {shelf.home}/times\n"
        f"if [ $(wc -l < {shelf.home}/times) = 1 ]; then sed -i 's/size = 4/size = -4/' $1\n"
        "else sed -i 's/size = -4/size = 16/' $1; fi",
    )
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TRITONDECK_HOME": str(shelf.home), "EDITOR": words}
    argv = [sys.executable, "-m", "console.cli", "edit", "scorer"]
    with subprocess.Popen(
        argv, env=env, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    ) as process:
        seen = b""
        while b"edit again?" not in seen:
            seen += os.read(ours, 4096)
        os.write(ours, b"y\n")
        assert process.wait(30) == 0
    os.close(theirs)
    os.close(ours)
    assert b"line 9, options.max_batch_size" in seen
    assert "max_batch_size = 16" in file.read_text()


# ---------------------------------------------------------------------------- shell


def test_a_command_runs_where_the_steps_do_and_sees_what_they_see(shelf: Shelf) -> None:
    shelf.put()
    words = ("shell", "scorer", "--environment", "host", "--", "env")
    done = tritondeck(shelf.home, *words, HF_TOKEN="hf_secret_of_the_console", TERM="dumb")
    env = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert done.returncode == 0, done.stderr
    assert env["TERM"] == "dumb" and "HF_TOKEN" not in env and "TRITONDECK_HOME" not in env
    place = tritondeck(shelf.home, "shell", "scorer", "--environment", "host", "--", "pwd").stdout
    assert place == f"{shelf.desk.settings.folders.work / 'scorer'}\n"


def test_the_environment_of_a_deployment_is_entered(shelf: Shelf) -> None:
    shelf.put()
    mine = shelf.home / "environment"
    (mine / "bin").mkdir(parents=True)
    (mine / "bin" / "python").symlink_to(shutil.which("true") or "/bin/true")
    choice = f'\n[environments.embedded]\nuse = "{mine}"\n'
    (shelf.saved / "scorer.toml").write_text(TEXT + choice)
    launch = shelf.desk.shell("scorer", "embedded", ("python", "-c", "1 $HOME"))
    assert launch.argv == (str(mine / "bin" / "python"), "-c", "1 $HOME")
    assert launch.env["VIRTUAL_ENV"] == str(mine)
    assert launch.env["PATH"].split(os.pathsep)[0] == str(mine / "bin")


def test_the_exit_code_of_the_command_is_the_verbs(shelf: Shelf) -> None:
    shelf.put()
    words = ("shell", "scorer", "--environment", "host", "--", "bash", "-c", "exit 42")
    assert tritondeck(shelf.home, *words).returncode == 42


def test_an_unknown_environment_lists_the_deployments_own(shelf: Shelf) -> None:
    shelf.put()
    done = tritondeck(shelf.home, "shell", "scorer", "--environment", "vllm")
    assert done.returncode == 2 and "embedded" in done.stderr and "host" in done.stderr


def test_diff_ends_with_1_when_something_differs(shelf: Shelf) -> None:
    shelf.put()
    shelf.desk.clone("scorer", "other")
    done = tritondeck(shelf.home, "diff", "scorer", "other", "--json")
    shown = json.loads(done.stdout)["diff"]
    assert done.returncode == 1
    assert [(e["key"], e["left"], e["right"]) for e in shown["entries"]] == [
        ("name", "scorer", "other")
    ]
    assert tritondeck(shelf.home, "diff", "scorer", "scorer").returncode == 0
