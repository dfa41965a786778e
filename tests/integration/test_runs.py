"""Runs with real runners, keepers and signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from console.facts import Refused, UsageError
from console.keeper import Kept, look
from console.planning.plan import (
    ExitCode,
    FileExists,
    FileSpec,
    InputFile,
    JsonFile,
    LogMarker,
    Plan,
    ProgressRule,
    WriteStep,
)
from console.planning.variables import Variable
from console.runs.folder import RunFolder
from console.runs.model import RunState, StepState
from console.runs.store import RunStore
from console.settings import Settings
from tests.processes import (
    ended,
    executed,
    gone,
    plan,
    running_with,
    settings_at,
    shell,
    started,
    state_of,
    until,
)
from tests.support import contents


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_at(tmp_path / "home")


@pytest.fixture
def store(settings: Settings) -> RunStore:
    return RunStore(settings)


@pytest.fixture
def work(settings: Settings) -> Path:
    return settings.folders.work / "digits"


def kill_runner(store: RunStore, run_id: str) -> None:
    pid = store.view(run_id).runner_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid))


def until_running(store: RunStore, run_id: str, step: str) -> None:
    """Wait until the step's command runs under its keeper."""
    folder = RunFolder(store.view(run_id).folder)
    until(lambda: any(look(k).child_alive for k in folder.kept("").glob(f"*-{step}")))


WAITS = "sh -c 'sleep 600; : %s'"


def with_daemon(store: RunStore, run_id: str, word: str) -> Kept:
    """The kept step ``build`` when it runs, and beside it what it started with `WAITS`."""
    until_running(store, run_id, "build")
    until(lambda: ["sh", "-c", f"sleep 600; : {word}"] in map(command_line, running_with(word)))
    return look(RunFolder(store.view(run_id).folder).kept("1-build"))


def command_line(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return []


# ---------------------------------------------------------------------------- the normal case


def test_steps_run_in_order_and_the_run_ends_verified(store: RunStore, work: Path) -> None:
    files = FileSpec(path="${work}/in.txt", text="$literal", mode=0o640)
    view = executed(
        store,
        WriteStep(id="files", title="Files", files=(files,)),
        shell("build", "cat in.txt > out.txt", success=(FileExists(path="${work}/out.txt"),)),
    )
    assert view.state is RunState.SUCCEEDED and view.error == ""
    assert [s.state for s in view.steps] == [StepState.DONE, StepState.DONE]
    assert (work / "out.txt").read_text() == "$literal"
    assert stat.S_IMODE((work / "in.txt").stat().st_mode) == 0o640
    assert view.number == 1 and view.id == "digits-1" and view.elapsed > 0


def test_folders_are_private_whatever_the_umask(store: RunStore, settings: Settings) -> None:
    before = os.umask(0)
    try:
        view = gone(executed(store, shell("build", "exit 0")))
    finally:
        os.umask(before)
    open_to_others = [
        path for path in settings.folders.state.rglob("*") if path.stat().st_mode & 0o077
    ]
    assert view.state is RunState.SUCCEEDED
    assert open_to_others == []


def test_progress_comes_from_the_general_line_and_from_the_steps_own_rule(
    store: RunStore, tmp_path: Path
) -> None:
    def gated(name: str) -> str:
        return f"until [ -e '{tmp_path / name}' ]; do sleep 0.05; done"

    run_id = started(
        store,
        shell("general", f"echo '[tritondeck] progress 0.25 a quarter'; {gated('general')}"),
        shell(
            "own",
            rf"printf 'x\r 40%% of it\r'; {gated('own')}",
            progress=ProgressRule(pattern=r"(?P<fraction>\d+)% (?P<message>.*)"),
        ),
    )
    for step, fraction, message in (("general", 0.25, "a quarter"), ("own", 0.4, "of it")):

        def said(step: str = step, fraction: float = fraction, message: str = message) -> bool:
            now = store.view(run_id).current
            return bool(
                now and now.id == step and (now.fraction, now.message) == (fraction, message)
            )

        until(said)
        (tmp_path / step).touch()
    assert ended(store, run_id).state is RunState.SUCCEEDED


def test_memory_of_the_steps_tree_is_recorded(store: RunStore, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    holds = "x = bytearray(b'x') * (60 << 20)"
    waits = f"while not os.path.exists('{gate}'): time.sleep(0.05)"
    hold = f'{sys.executable} -c "import os, time; {holds}\n{waits}"; true'
    run_id = started(store, shell("build", hold))
    until(lambda: any((s.tree_rss or 0) > 60 << 20 for s in store.samples(run_id)))
    gate.touch()
    ended(store, run_id)
    assert all(s.host_total > s.host_used > 0 for s in store.samples(run_id))


def test_figures_of_a_json_probe_are_shown_with_their_bound(store: RunStore) -> None:
    probe = JsonFile(path="${work}/f.json", expect={"diff.max": {"max": 1e-4}, "ok": True})
    view = executed(
        store,
        shell(
            "compare", """echo '{"diff": {"max": 3e-06}, "ok": true}' > f.json""", success=(probe,)
        ),
    )
    assert view.steps[0].message == "diff.max 3e-06 (≤ 0.0001), ok true"


# ---------------------------------------------------------------------------- failures in words


def test_a_failed_command_is_told_with_its_exit_code_and_last_words(store: RunStore) -> None:
    script = "echo Traceback; echo '  File x'; echo 'ValueError: no such dtype'; echo ----; exit 3"
    view = executed(store, shell("build", script), shell("after", "exit 0"))
    assert view.state is RunState.FAILED
    assert [s.state for s in view.steps] == [StepState.FAILED, StepState.PENDING]
    assert "exit code 3" in view.error and "ValueError: no such dtype" in view.error
    assert view.fix


def test_escape_sequences_and_secrets_of_a_log_do_not_reach_the_error(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("MY_TOKEN", "canary-value-123456")
    step = shell("build", r"printf '\033]0;evil\007error: %s\n' $MY_TOKEN; exit 1")
    command = step.command.model_copy(update={"secrets": ("MY_TOKEN",)})
    view = gone(executed(store, step.model_copy(update={"command": command})))
    assert view.error.endswith("error: ‹secret›") and "\x1b" not in view.error
    for file, content in contents(settings.folders.state):
        if file.name != "build.log":  # the command's own words stay its own
            assert b"canary-value" not in content, file.name


def test_exit_code_zero_without_the_promised_file_is_a_failure(store: RunStore) -> None:
    view = executed(
        store, shell("build", "exit 0", success=(FileExists(path="${work}/model.onnx"),))
    )
    assert view.state is RunState.FAILED and "model.onnx was not made" in view.error


def test_a_figure_past_its_bound_and_nan_stop_the_plan(store: RunStore) -> None:
    for value, shown in (("0.02", "0.02"), ("NaN", "nan")):
        probe = JsonFile(path="${work}/f.json", expect={"diff": {"max": 1e-4}})
        view = executed(
            store, shell("compare", f"echo '{{\"diff\": {value}}}' > f.json", success=(probe,))
        )
        assert view.state is RunState.FAILED
        assert f"diff is {shown}" in view.error and "≤ 0.0001" in view.error


def test_log_markers_are_judged_both_ways(store: RunStore) -> None:
    good = executed(store, shell("a", "echo all fine", success=(LogMarker(pattern="all f"),)))
    absent = LogMarker(pattern="^error", absent=True)
    bad = executed(store, shell("b", "echo 'error: odd'", success=(ExitCode(), absent)))
    assert good.state is RunState.SUCCEEDED
    assert bad.state is RunState.FAILED and "error: odd" in bad.error


def test_a_step_past_its_time_limit_is_ended_and_told(store: RunStore) -> None:
    word = uuid4().hex
    view = executed(store, shell("slow", f"sleep 600; : {word}", timeout=0.5))
    assert view.state is RunState.FAILED and "limit of 500 ms" in view.error
    assert running_with(word) == []


def test_kill_9_of_the_command_is_told(store: RunStore) -> None:
    view = executed(store, shell("build", "kill -9 $$"))
    assert view.state is RunState.FAILED and "ended by SIGKILL" in view.error
    assert "memory runs out" in view.error


def test_a_missing_program_is_told(store: RunStore) -> None:
    step = shell("build", "")
    step = step.model_copy(update={"command": step.command.model_copy(update={"argv": ("nope",)})})
    view = executed(store, step)
    assert view.state is RunState.FAILED and "cannot run nope" in view.error


# ---------------------------------------------------------------------------- skip and retry


def test_an_unchanged_step_is_skipped_and_says_why(store: RunStore, work: Path) -> None:
    step = shell("build", "date +%N > out", outputs=("${work}/out",))
    executed(store, step)
    made = (work / "out").read_text()
    again = executed(store, step).steps[0]
    assert (again.state, again.reason) == (
        StepState.SKIPPED,
        "unchanged: same options, tools and inputs",
    )
    assert (work / "out").read_text() == made


def test_what_changed_is_named_when_a_step_is_not_skipped(
    store: RunStore, work: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model.nemo"
    checkpoint.write_bytes(b"weights")

    def reason(script: str = "echo 1 > out", **options: object) -> str:
        step = shell(
            "build", script, inputs=(InputFile(path=str(checkpoint)),), outputs=("${work}/out",)
        )
        return executed(store, step, **options).steps[0].reason

    assert reason() == "not done here before"
    checkpoint.write_bytes(b"retrained")
    assert reason() == "input model.nemo changed"
    assert reason("echo 2 > out") == "its options changed"
    (work / "out").unlink()
    assert reason("echo 2 > out") == "output out is missing"
    (work / "out").write_text("by hand")
    assert reason("echo 2 > out") == "output out was changed by something else"
    assert reason("echo 2 > out", force=True) == "asked for"
    assert reason("echo 2 > out", from_step="build") == "asked for"


def test_ports_do_not_count_as_a_change(store: RunStore) -> None:
    step = shell("build", "true")
    step = step.model_copy(
        update={"command": step.command.model_copy(update={"env": {"P": "${port}"}})}
    )
    states = []
    for port in ("8000", "9000"):
        variable = Variable(name="port", kind="port", default=port)
        made = Plan(deployment="digits", backend="test", steps=(step,), variables=(variable,))
        run_id = store.create(made, "")
        store.start(run_id)
        states.append(ended(store, run_id).steps[0].state)
    assert states == [StepState.DONE, StepState.SKIPPED]


def test_retry_goes_on_at_the_failed_step(store: RunStore, work: Path) -> None:
    steps = (
        shell("first", "echo x >> first", outputs=("${work}/first",)),
        shell("second", "test -e allowed"),
    )
    run_id = executed(store, *steps).id
    (work / "allowed").touch()
    assert store.retry(run_id) == run_id
    view = ended(store, run_id)
    assert view.state is RunState.SUCCEEDED
    assert [s.state for s in view.steps] == [StepState.SKIPPED, StepState.DONE]
    assert (work / "first").read_text() == "x\n"
    assert view.number == 1 and len(store.views()) == 1


def test_retry_from_a_step_runs_it_and_the_following_ones(store: RunStore, work: Path) -> None:
    steps = tuple(shell(n, f"echo x >> {n}", outputs=(f"${{work}}/{n}",)) for n in "abc")
    run_id = executed(store, *steps).id
    store.retry(run_id, "b")
    ended(store, run_id)
    assert [(work / n).read_text().count("x") for n in "abc"] == [1, 2, 2]
    with pytest.raises(UsageError, match="no step nowhere"):
        store.retry(run_id, "nowhere")


def test_the_log_of_an_earlier_attempt_is_kept(store: RunStore) -> None:
    run_id = executed(store, shell("build", "echo attempt; exit 1")).id
    store.retry(run_id)
    logs = sorted(p.name for p in (ended(store, run_id).folder / "logs").iterdir())
    assert logs == ["build.before-2.log", "build.log"]


# ---------------------------------------------------------------------------- cancel


def test_cancel_ends_the_whole_process_tree(store: RunStore) -> None:
    word = uuid4().hex
    script = f"setsid sh -c 'sleep 600; : {word}' & sh -c 'sleep 600; : {word}' & wait; : {word}"
    run_id = started(store, shell("export", script), shell("after", "exit 0"))
    until(lambda: len(running_with(word)) == 3)
    store.cancel(run_id)
    view = ended(store, run_id)
    assert view.state is RunState.CANCELLED
    assert [s.state for s in view.steps] == [StepState.CANCELLED, StepState.PENDING]
    assert running_with(word) == []
    gone(view)
    (keeper,) = (look(kept).keeper for kept in RunFolder(view.folder).kept("").iterdir())
    until(lambda: keeper is not None and not keeper.alive)


def test_sigterm_to_the_runner_cancels(store: RunStore) -> None:
    word = uuid4().hex
    run_id = started(store, shell("export", f"sleep 600; : {word}"))
    until_running(store, run_id, "export")
    pid = store.view(run_id).runner_pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    assert ended(store, run_id).state is RunState.CANCELLED
    assert running_with(word) == []


def test_a_cancelled_run_can_be_continued(store: RunStore, work: Path) -> None:
    run_id = started(store, shell("export", "test -e go || sleep 600"))
    until_running(store, run_id, "export")
    store.cancel(run_id)
    ended(store, run_id)
    with pytest.raises(Refused, match="has ended already"):
        store.cancel(run_id)
    (work / "go").touch()
    store.retry(run_id)
    assert ended(store, run_id).state is RunState.SUCCEEDED


# ---------------------------------------------------------------------------- kill -9 and hangup


def test_the_run_goes_on_when_the_console_is_killed_and_its_terminal_hangs_up(
    store: RunStore, tmp_path: Path, work: Path
) -> None:
    program = (
        "from tests.processes import *; import sys;"
        f"store = RunStore(settings_at(Path({str(tmp_path / 'home')!r})));"
        "started(store, shell('build', 'until test -e go; do sleep 0.05; done; echo done > out'));"
        "print('started', flush=True); time.sleep(600)"
    )
    root = Path(__file__).parents[2]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(root)
        os.execv(sys.executable, [sys.executable, "-c", program])
    try:
        said = b""
        while b"started" not in said:
            said += os.read(terminal, 1024)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    finally:
        os.close(terminal)  # the kernel hangs up the session
    (work / "go").touch()
    assert ended(store, "digits-1").state is RunState.SUCCEEDED
    assert (work / "out").read_text() == "done\n"


def test_kill_9_of_the_runner_is_told_and_the_living_step_is_adopted(
    store: RunStore, work: Path
) -> None:
    run_id = started(store, shell("build", "echo x >> runs; until test -e go; do sleep 0.05; done"))
    until_running(store, run_id, "build")
    kill_runner(store, run_id)
    view = store.view(run_id)
    assert view.state is RunState.ORPHANED and view.active and view.runner_pid is None
    assert view.steps[0].state is StepState.RUNNING
    store.retry(run_id)
    adopted = state_of(store, run_id, RunState.RUNNING)
    assert adopted.steps[0].reason == "adopted: it goes on while no runner was there"
    (work / "go").touch()
    view = ended(store, run_id)
    assert view.state is RunState.SUCCEEDED
    assert (work / "runs").read_text() == "x\n"


def test_a_step_that_ended_without_a_runner_is_judged_by_the_next(
    store: RunStore, work: Path
) -> None:
    wait = "until test -e go; do sleep 0.05; done"
    run_id = started(store, shell("build", f"echo x >> runs; {wait}; exit 4"))
    until_running(store, run_id, "build")
    kill_runner(store, run_id)
    (work / "go").touch()
    view = state_of(store, run_id, RunState.INTERRUPTED)
    assert "exit code 4" in view.steps[0].reason and not view.active
    store.retry(run_id)
    view = ended(store, run_id)
    assert view.state is RunState.FAILED and "exit code 4" in view.error
    assert (work / "runs").read_text() == "x\n"


def test_a_step_adopted_and_done_is_skipped_the_next_time(store: RunStore, work: Path) -> None:
    step = shell("build", "until test -e go; do sleep 0.05; done")
    run_id = started(store, step)
    until_running(store, run_id, "build")
    kill_runner(store, run_id)
    store.retry(run_id)
    (work / "go").touch()
    assert ended(store, run_id).state is RunState.SUCCEEDED
    assert executed(store, step).steps[0].state is StepState.SKIPPED


def test_cancel_of_a_run_without_runner_ends_its_step(store: RunStore) -> None:
    word = uuid4().hex
    run_id = started(store, shell("build", f"sleep 600; : {word}"))
    until_running(store, run_id, "build")
    kill_runner(store, run_id)
    store.cancel(run_id)
    assert ended(store, run_id).state is RunState.CANCELLED
    assert running_with(word) == []


def test_retry_from_another_step_ends_the_living_one_first(store: RunStore, work: Path) -> None:
    word = uuid4().hex
    steps = (shell("first", "true"), shell("build", f"test -e first-again || sleep 600; : {word}"))
    run_id = started(store, *steps)
    until_running(store, run_id, "build")
    kill_runner(store, run_id)
    (work / "first-again").touch()
    store.retry(run_id, "first")
    assert ended(store, run_id).state is RunState.SUCCEEDED
    assert running_with(word) == []


def test_progress_of_an_earlier_attempt_is_not_shown(store: RunStore) -> None:
    once = "test -e tried && sleep 600; touch tried; echo '[tritondeck] progress 0.9 nearly'; sleep 0.4"
    run_id = started(store, shell("build", once + "; exit 1"))
    ended(store, run_id)
    store.retry(run_id)
    until_running(store, run_id, "build")
    step = state_of(store, run_id, RunState.RUNNING).steps[0]
    assert (step.fraction, step.message) == (None, "")
    store.cancel(run_id)
    ended(store, run_id)


def test_kill_9_of_the_keeper_fails_the_step_in_words_and_leaves_no_orphan(store: RunStore) -> None:
    word = uuid4().hex
    run_id = started(store, shell("build", f"setsid {WAITS % word} & sleep 600"))
    kept = with_daemon(store, run_id, word)
    assert kept.keeper is not None
    os.kill(kept.keeper.pid, signal.SIGKILL)
    view = ended(store, run_id)
    assert view.state is RunState.FAILED and "its keeper was killed" in view.error
    assert running_with(word) == []


def test_kill_9_of_runner_and_keeper_is_told_and_the_rest_is_ended_by_retry(
    store: RunStore,
) -> None:
    word = uuid4().hex
    run_id = started(store, shell("build", f"setsid {WAITS % word} & sleep 600"))
    kept = with_daemon(store, run_id, word)
    kill_runner(store, run_id)
    assert kept.keeper is not None
    os.kill(kept.keeper.pid, signal.SIGKILL)
    view = state_of(store, run_id, RunState.INTERRUPTED)
    assert "still run" in view.steps[0].reason
    store.cancel(run_id)
    assert ended(store, run_id).state is RunState.CANCELLED
    assert running_with(word) == []


# ---------------------------------------------------------------------------- watching


def test_two_watchers_see_the_same_run_from_its_folder(tmp_path: Path) -> None:
    store = RunStore(settings_at(tmp_path / "home"))
    run_id = started(store, shell("build", "sleep 0.7"))
    root = Path(__file__).parents[2]
    program = (
        "from tests.processes import *;"
        f"store = RunStore(settings_at(Path({str(tmp_path / 'home')!r})));"
        f"print(ended(store, {run_id!r}).state)"
    )
    watchers = [
        subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [w.communicate()[0] for w in watchers] == [b"succeeded\n"] * 2
    assert store.view(run_id).state is RunState.SUCCEEDED


def test_a_torn_journal_is_read_and_continued(store: RunStore) -> None:
    run_id = executed(store, shell("build", "exit 1")).id
    journal = store.view(run_id).folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    view = state_of(store, run_id, RunState.INTERRUPTED)
    assert view.steps[0].state is StepState.FAILED
    store.retry(run_id)
    assert ended(store, run_id).state is RunState.FAILED
    events = [json.loads(line) for line in journal.read_bytes().splitlines() if line.endswith(b"}")]
    assert [e["event"] for e in events].count("start") == 2


def test_durations_survive_a_clock_that_jumps(store: RunStore) -> None:
    run_id = executed(store, shell("build", "sleep 0.3")).id
    journal = store.view(run_id).folder / "journal.jsonl"
    before = store.view(run_id)
    events = [json.loads(line) for line in journal.read_bytes().splitlines()]
    for event in events[len(events) // 2 :]:
        event["time"] -= 86_400
    journal.write_text("".join(json.dumps(e) + "\n" for e in events))
    after = store.view(run_id)
    assert (after.elapsed, after.steps[0].elapsed) == (before.elapsed, before.steps[0].elapsed)
    assert 0.3 <= after.elapsed < 3600


def test_a_run_of_another_host_is_view_only(store: RunStore) -> None:
    run_id = store.create(plan(shell("build", "exit 0")), "")
    manifest = store.view(run_id).folder / "run.json"
    raw = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**raw, "host": "elsewhere"}))
    assert store.view(run_id).state is RunState.FOREIGN
    for act in (store.start, store.retry, store.cancel, store.delete):
        with pytest.raises(Refused):
            act(run_id)


def test_a_run_of_another_version_is_told_in_words(store: RunStore) -> None:
    run_id = executed(store, shell("build", "exit 0")).id
    manifest = store.view(run_id).folder / "run.json"
    manifest.write_text(json.dumps({"version": 99, "id": run_id}))
    view = store.view(run_id)
    assert view.state is RunState.FOREIGN and "another version" in view.error and "99" in view.error
    assert [v.id for v in store.views()] == [run_id]
    with pytest.raises(Refused, match="cannot be used"):
        store.start(run_id)


# ---------------------------------------------------------------------------- refusals


def test_two_runs_of_one_deployment_do_not_run_at_once(store: RunStore) -> None:
    first = started(store, shell("build", "sleep 600"))
    second = store.create(plan(shell("build", "exit 0")), "")
    with pytest.raises(Refused, match=f"run {first} of digits is still"):
        store.start(second)
    with pytest.raises(Refused, match="being executed already"):
        store.retry(first)
    store.cancel(first)
    ended(store, first)
    store.start(second)
    assert ended(store, second).state is RunState.SUCCEEDED


def test_a_run_that_could_not_start_is_told_and_does_not_block_the_next(store: RunStore) -> None:
    first = started(store, shell("build", "sleep 600"))
    second = store.create(plan(shell("build", "exit 0")), "")
    with pytest.raises(Refused):
        store.start(second)
    view = store.view(second)
    assert view.state is RunState.INTERRUPTED and view.error == "the run was never started"
    store.cancel(first)
    ended(store, first)
    assert executed(store, shell("build", "exit 0")).state is RunState.SUCCEEDED
    store.delete(second)


def test_delete_removes_an_ended_run_and_refuses_a_living_one(store: RunStore) -> None:
    run_id = started(store, shell("build", "sleep 600"))
    with pytest.raises(Refused):
        store.delete(run_id)
    store.cancel(run_id)
    folder = ended(store, run_id).folder
    store.delete(run_id)
    assert not folder.exists() and store.views() == ()
    with pytest.raises(UsageError, match="no run"):
        store.view(run_id)


@pytest.mark.parametrize("name", ["../../escape", "/etc", "a/b", ".", "..", "", "x\n"])
def test_a_run_id_that_is_a_path_is_refused(store: RunStore, name: str) -> None:
    with pytest.raises(UsageError):
        store.view(name)


def test_bytecode_of_an_earlier_server_makes_room_for_the_file_that_keeps_it_out(
    store: RunStore, work: Path
) -> None:
    cache = work / "model" / "1" / "__pycache__"
    cache.mkdir(parents=True)
    (cache / "model.cpython-311.pyc").touch()
    spec = FileSpec(path="${work}/model/1/__pycache__", text="")
    step = WriteStep(id="files", title="Files", files=(spec,))
    assert executed(store, step).state is RunState.SUCCEEDED
    assert cache.is_file()
