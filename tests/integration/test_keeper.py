"""The keeper with real processes and real signals."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from console import keeper, processes
from console.facts import DeckError, Refused
from console.keeper import Request, look
from console.processes import Identity
from tests.processes import fill, running_with, small_disk, until

ENV = {"PATH": os.environ["PATH"], "CANARY": "hf_canarycanarycanary42"}


def keep(folder: Path, script: str, **fields: object) -> Path:
    request = Request(
        str(folder), ("bash", "-c", script), ENV, "/", str(folder / "step.log"), **fields
    )
    keeper.launch(request)
    return folder


def test_exit_code_output_and_usage_are_in_the_folder(tmp_path: Path) -> None:
    keep(tmp_path, "echo out; echo err >&2; exit 7")
    ended = until(lambda: look(tmp_path).exit)
    assert (ended.code, ended.signal, ended.asked) == (7, None, False)
    assert (tmp_path / "step.log").read_text() == "out\nerr\n"
    assert ended.peak_memory > 0 and ended.elapsed > 0


def test_child_has_no_terminal_and_empty_stdin_and_private_files(tmp_path: Path) -> None:
    keep(tmp_path, f"cat; tty; ps -o sid= -p $$; touch {tmp_path}/made; exit 0")
    until(lambda: look(tmp_path).exit)
    child = look(tmp_path).child
    assert child is not None
    assert (tmp_path / "step.log").read_text().split() == ["not", "a", "tty", str(child.pid)]
    for name in ("made", "step.log", "exit.json", "identity.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 == 0, name


def test_the_environment_reaches_the_child_and_no_file(tmp_path: Path) -> None:
    keep(tmp_path, 'test "$CANARY" = hf_canarycanarycanary42')
    assert until(lambda: look(tmp_path).exit).code == 0
    until(lambda: not still_kept(tmp_path))
    for file in tmp_path.iterdir():
        assert b"canarycanary" not in file.read_bytes(), file.name


def test_kill_9_of_the_child_is_told_as_a_signal(tmp_path: Path) -> None:
    child = look(keep(tmp_path, "exec sleep 600")).child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    assert until(lambda: look(tmp_path).exit).words == "ended by SIGKILL"


def test_end_terminates_the_whole_group(tmp_path: Path) -> None:
    word = uuid4().hex
    keep(tmp_path, f"sh -c 'sleep 600; : {word}' & sleep 600; : {word}")
    until(lambda: len(running_with(word)) == 2)
    ended = keeper.end(tmp_path, 5).exit
    assert ended is not None and ended.asked and ended.signal == signal.SIGTERM
    assert running_with(word) == []


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    keep(tmp_path, "trap '' TERM; echo up; while :; do sleep 0.05; done", grace=0.3)
    until(lambda: (tmp_path / "step.log").stat().st_size)
    ended = keeper.end(tmp_path, 0.3).exit
    assert ended is not None and ended.killed and ended.signal == signal.SIGKILL


def test_daemons_of_the_child_end_with_it_and_are_counted(tmp_path: Path) -> None:
    word = uuid4().hex
    keep(tmp_path, f"setsid sh -c 'sleep 600; : {word}' & sleep 0.2")
    ended = until(lambda: look(tmp_path).exit)
    assert ended.leftover >= 1 and ended.stuck == 0
    assert running_with(word) == []


def test_kill_9_of_the_keeper_ends_the_step_and_its_daemons_can_be_found(tmp_path: Path) -> None:
    word = uuid4().hex
    keep(tmp_path, f"setsid sh -c 'sleep 600; : {word}' & sleep 600; : {word}")
    until(lambda: len(running_with(word)) == 2)
    kept = look(tmp_path)
    assert kept.keeper is not None
    os.kill(kept.keeper.pid, signal.SIGKILL)
    until(lambda: not look(tmp_path).child_alive)
    kept = look(tmp_path)
    assert kept.lost and kept.exit is None
    assert processes.survivors(kept.mark)  # the daemon, in a session of its own
    assert keeper.end_survivors(kept) >= 1
    assert running_with(word) == []


def test_a_service_outlives_the_kill_of_its_keeper(tmp_path: Path) -> None:
    kept = look(keep(tmp_path, "exec sleep 600", end_with_keeper=False))
    assert kept.keeper is not None
    os.kill(kept.keeper.pid, signal.SIGKILL)
    until(lambda: look(tmp_path).lost)
    assert look(tmp_path).child_alive
    keeper.end(tmp_path, 2)
    assert not look(tmp_path).child_alive


def test_the_keeper_outlives_whoever_started_it_and_a_hangup_of_the_session(tmp_path: Path) -> None:
    program = (
        "from tests.integration.test_keeper import keep; from pathlib import Path; import os, time;"
        f"keep(Path({str(tmp_path)!r}), 'sleep 0.6; echo done');"
        "print('kept', flush=True); time.sleep(600)"
    )
    root = Path(__file__).parents[2]
    console = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, start_new_session=True
    )
    assert console.stdout is not None and console.stdout.readline() == b"kept\n"
    os.killpg(console.pid, signal.SIGHUP)
    assert console.wait() == -signal.SIGHUP
    console.stdout.close()
    assert until(lambda: look(tmp_path).exit).code == 0
    assert (tmp_path / "step.log").read_text() == "done\n"


def test_a_second_keeper_in_one_folder_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, "exec sleep 600")
    before = look(tmp_path)
    with pytest.raises(Refused, match="already kept"):
        keep(tmp_path, "exit 0")
    assert look(tmp_path) == before and before.watched
    keeper.end(tmp_path, 2)


def test_a_missing_program_is_told_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    request = Request(str(tmp_path), ("no-such-program",), ENV, "/", str(tmp_path / "step.log"))
    with pytest.raises(DeckError, match="cannot start no-such-program") as caught:
        keeper.launch(request)
    assert "No such file" in caught.value.why
    assert look(tmp_path).keeper is None


def test_a_log_that_is_a_symlink_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "step.log").symlink_to(victim)
    with pytest.raises(DeckError, match="symbolic link"):
        keep(tmp_path, "echo overwritten")
    assert victim.read_text() == "mine"


def test_a_full_disk_loses_no_exit_status(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        keep(
            disk, "while ! test -e go; do sleep 0.05; done; exit 9".replace("go", f"{tmp_path}/go")
        )
        fill(disk)
        (tmp_path / "go").touch()
        assert until(lambda: look(disk).exit).code == 9


def test_a_full_disk_refuses_the_start_in_words(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        with pytest.raises(DeckError, match="is full") as caught:
            keep(disk, "exit 0")
        assert "free of 512 KiB" in caught.value.why
        assert look(disk).keeper is None


def test_a_reused_pid_is_not_taken_for_the_process() -> None:
    me = Identity.of(os.getpid())
    other = Identity(me.host, me.boot, me.namespace, me.pid, me.start + 1)
    assert me.alive and not other.alive
    assert not other.signal(signal.SIGKILL)


def test_a_process_of_another_boot_host_or_container_is_never_alive() -> None:
    me = Identity.of(os.getpid())
    assert not Identity(me.host, "another-boot", me.namespace, me.pid, me.start).alive
    elsewhere = Identity("elsewhere", me.boot, me.namespace, me.pid, me.start)
    container = Identity(me.host, me.boot, "pid:[1]", me.pid, me.start)
    assert elsewhere.foreign and container.foreign
    assert not elsewhere.alive and not container.alive


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    identity = Identity.of(child.pid)
    until(lambda: Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "Z")
    assert not identity.alive
    child.wait()


def test_an_exit_file_of_an_earlier_child_does_not_count(tmp_path: Path) -> None:
    keep(tmp_path, "exit 3")
    until(lambda: look(tmp_path).exit)
    earlier = json.loads((tmp_path / "exit.json").read_bytes())
    until(lambda: not still_kept(tmp_path))
    keep(tmp_path, "exec sleep 600")
    assert look(tmp_path).exit is None and earlier["code"] == 3
    keeper.end(tmp_path, 2)


def still_kept(folder: Path) -> bool:
    kept = look(folder)
    return kept.keeper is not None and kept.keeper.alive
