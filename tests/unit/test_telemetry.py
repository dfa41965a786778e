"""The telemetry of the whole application: its threads, its processes, and who they belong to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from console.facts import UsageError
from console.telemetry.hostload import Disks, HostLoad, device_name
from console.telemetry.people import People, masked, with_gpu_memory
from console.telemetry.rates import Rate
from console.telemetry.reading import GpuProcess
from console.telemetry.telemetry import Telemetry
from console.telemetry.turn import Turn
from tests.nvml import run_script

HEAD = """
import json, os, time
from pathlib import Path
from console.telemetry import telemetry as room
from console.telemetry.telemetry import Telemetry

def control(*lines):
    file = Path(os.environ["FAKENVML_CONTROL"])
    new = file.with_name(f"new{time.monotonic_ns()}")
    new.write_text("".join(line + "\\n" for line in lines))
    new.replace(file)

def until(condition):
    "The first reading that meets it; fails after a minute."
    last, end = None, time.monotonic() + 60
    while time.monotonic() < end:
        last = telemetry.wait(last) or last
        if last is not None and condition(last):
            return last
    raise SystemExit(f"never: {last}")

telemetry = Telemetry(0.25)
"""


def run(script: str, library: Path | None, folder: Path, **environ: str) -> Any:
    settings = {"FAKENVML_GPUS": "2", "FAKENVML_CONTROL": str(folder / "control")}
    return run_script(HEAD + script + "\ntelemetry.close()\n", library, **settings | environ)


def test_a_reading_holds_every_class(fakenvml: Path, tmp_path: Path) -> None:
    script = """
telemetry.start()
def whole(gpu):
    return None not in (gpu.memory_used, gpu.power_limit, gpu.pcie_rx)
r = until(lambda r: len(r.gpus) == 2 and all(map(whole, r.gpus)) and r.driver)
print(json.dumps([r.driver, r.cuda, r.gpu_note, r.host.memory_total, [g.state for g in r.gpus]]))
"""
    driver, cuda, note, memory, states = run(script, fakenvml, tmp_path)
    assert (driver, cuda, note) == ("580.82.07", "13.0", "")
    assert memory > 0
    assert states == ["ok", "ok"]


def test_a_windowed_call_that_hangs_delays_no_fast_figure(fakenvml: Path, tmp_path: Path) -> None:
    """Readings with fresh GPU figures go on while PCIe throughput waits in the driver."""
    script = """
control('nvmlDeviceGetPcie * delay 600000000')
telemetry.start()
first = until(lambda r: len(r.gpus) == 2)
seen = [first]
for _ in range(5):
    seen.append(telemetry.wait(seen[-1], 60))
print(json.dumps([[g.pcie_tx for r in seen for g in r.gpus], [g.state for r in seen for g in r.gpus]]))
"""
    figures, states = run(script, fakenvml, tmp_path)
    assert figures == [None] * 12
    assert states == ["ok"] * 12


def test_a_fast_question_that_became_slow_keeps_its_figure(fakenvml: Path, tmp_path: Path) -> None:
    """The slow class asks it at every interval, and the other figures do not wait for it."""
    script = """
room.SLOW_SECONDS = 600.0
telemetry.start()
until(lambda r: len(r.gpus) == 2 and r.driver)
control('nvmlDeviceGetPowerUsage 1 delay 100000')
seen = [None]
for _ in range(4):
    seen.append(until(lambda r: r.gpus[1].power not in (None, seen[-1])).gpus[1].power)
print(json.dumps(seen[1:]))
"""
    figures = run(script, fakenvml, tmp_path)
    assert all(before != after for before, after in pairwise(figures))


def test_a_gpu_lost_in_mid_run_is_said_and_comes_back(fakenvml: Path, tmp_path: Path) -> None:
    script = """
telemetry.start()
until(lambda r: len(r.gpus) == 2 and r.gpus[1].memory_used is not None)
control('* 1 error 15')
lost = until(lambda r: r.gpus[1].state == 'lost')
control()
back = until(lambda r: r.gpus[1].state == 'ok' and r.gpus[1].memory_used is not None)
print(json.dumps([lost.gpus[0].state, lost.gpus[1].problem, lost.gpus[1].memory_used, back.gpus[1].problem]))
"""
    assert run(script, fakenvml, tmp_path) == [
        "ok",
        "GPU is lost: it fell off the bus or was reset",
        None,
        "",
    ]


def test_a_driver_that_hangs_leaves_the_host_s_figures_and_is_said(
    fakenvml: Path, tmp_path: Path
) -> None:
    script = """
room.STALE_SECONDS = 0.5
telemetry.start()
well = until(lambda r: len(r.gpus) == 2)
control('* * delay 1500000')
hung = until(lambda r: r.gpus and r.gpus[0].state == 'stalled')
later = telemetry.wait(hung, 60)
control()
back = until(lambda r: len(r.gpus) == 2 and r.gpus[0].state == 'ok')
print(json.dumps([hung.gpu_note, later.monotonic > hung.monotonic, later.host.memory_total, back.gpu_note]))
telemetry.close()
"""
    note, goes_on, memory, after = run(script, fakenvml, tmp_path)
    assert note.startswith("the NVIDIA driver has not answered for ")
    assert goes_on
    assert memory > 0
    assert after == ""


def test_a_process_that_got_no_turn_blames_no_driver(fakenvml: Path, tmp_path: Path) -> None:
    """The GPUs' figures are a minute old; only the third reading without newer ones says so."""
    script = """
from dataclasses import replace
class Late:
    def run_once(self, patience): return False
telemetry._gpus_turn = Late()
look = telemetry._gpus.read()
telemetry._gpus.look = replace(look, at=look.at - 60)
told = []
for _ in range(3):
    telemetry._tick()
    told.append([telemetry.reading().gpu_note, telemetry.reading().gpus[0].state])
print(json.dumps(told))
"""
    first, second, third = run(script, fakenvml, tmp_path)
    assert first == second == ["", "ok"]
    assert third[0].startswith("the NVIDIA driver has not answered for ")
    assert third[1] == "stalled"


def test_no_driver_is_said_and_the_host_is_read(tmp_path: Path) -> None:
    script = """
import ctypes
real = ctypes.CDLL
def without(name, *rest, **named):
    if 'nvidia-ml' in str(name): raise OSError('not found')
    return real(name, *rest, **named)
ctypes.CDLL = without
telemetry.start()
r = until(lambda r: r.gpu_note != 'the NVIDIA driver has not answered yet')
print(json.dumps([r.gpu_note, len(r.gpus), r.host.memory_total > 0, r.host.problems]))
"""
    assert run(script, None, tmp_path) == ["no NVIDIA driver on this host", 0, True, {}]


def test_a_set_clock_moves_the_time_and_no_figure(fakenvml: Path, tmp_path: Path) -> None:
    script = """
jump = [0.0]
telemetry = Telemetry(0.25, wall=lambda: time.time() + jump[0])
room.SLOW_SECONDS = 0.25
telemetry.start()
before = until(lambda r: r.gpus and r.gpus[0].nvlink_tx is not None)
jump[0] = -86400.0
back = until(lambda r: r.time < before.time)
jump[0] = 86400.0
ahead = until(lambda r: r.time > before.time + 80000)
later = telemetry.wait(ahead, 60)
told = [[r.gpus[0].nvlink_tx, r.gpus[0].state, r.gpu_note] for r in (before, back, ahead, later)]
print(json.dumps([told, [r.monotonic for r in (before, back, ahead, later)]]))
"""
    told, times = run(script, fakenvml, tmp_path)
    for rate, state, note in told:
        assert 0.05 * 2**30 < rate < 20 * 2**30  # by the set clock it would be 300000 times off
        assert (state, note) == ("ok", "")
    assert times == sorted(times)


def test_a_survey_is_whole_without_threads(fakenvml: Path, tmp_path: Path) -> None:
    script = """
r = telemetry.survey(0.05)
import threading
figures = [[g.memory_used, g.pcie_tx, g.nvlink_tx] for g in r.gpus]
print(json.dumps([figures, len(r.host.cores), threading.active_count()]))
"""
    figures, cores, threads = run(script, fakenvml, tmp_path)
    assert len(figures) == 2
    assert all(None not in row for row in figures)
    assert cores == psutil.cpu_count()
    assert threads == 1


def test_a_closed_telemetry_ends_its_threads_and_starts_again(
    fakenvml: Path, tmp_path: Path
) -> None:
    script = """
import threading
telemetry.start(); until(lambda r: len(r.gpus) == 2); telemetry.close()
left = [t.name for t in threading.enumerate() if t.name.startswith('telemetry')]
last = telemetry.reading()
none = telemetry.wait(last, 0.01)
telemetry.start(); again = telemetry.wait(last, 60)
print(json.dumps([left, none, again not in (None, last)]))
"""
    assert run(script, fakenvml, tmp_path) == [[], None, True]


def test_a_new_gpu_process_is_named_before_its_class_comes_round(
    fakenvml: Path, tmp_path: Path
) -> None:
    script = """
room.PEOPLE_SECONDS = 600.0
telemetry.start()
until(lambda r: len(r.gpus) == 2 and not r.processes)
os.environ['FAKENVML_PROCS'] = f'{os.getpid()}:1:512'
r = until(lambda r: r.processes and r.processes[0].command)
print(json.dumps([r.processes[0].user, r.processes[0].memory, r.processes[0].gpu]))
"""
    user, memory, gpu = run(script, fakenvml, tmp_path)
    assert user == psutil.Process().username()
    assert (memory, gpu) == (512 << 20, 1)


@pytest.mark.parametrize("seconds", [0.1, 11, 0, -1])
def test_an_interval_outside_the_limits_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="no interval for telemetry"):
        Telemetry(seconds)


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process whose child runs too, and the child's pid."""
    child = "import sys; print('up', flush=True); sys.stdin.read()"
    script = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
        "print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        lines = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        yield parent, int((lines - {"up"}).pop())
        parent.communicate()


def test_a_tree_is_its_root_s_and_holds_its_children_s_memory(
    family: tuple[subprocess.Popen[str], int],
) -> None:
    parent, child = family
    people = People(lambda: {parent.pid: "run-7"})
    people.read([child])
    rows = people.describe([GpuProcess(child, 0, 5 << 30), GpuProcess(child, 1, 1 << 30)], {})
    (tree,) = with_gpu_memory(people.trees, rows)
    assert [row.owner for row in rows] == ["run-7", "run-7"]
    assert (tree.owner, tree.pids[0], set(tree.pids)) == ("run-7", parent.pid, {parent.pid, child})
    assert tree.memory is not None
    assert tree.memory > psutil.Process(child).memory_info().rss
    assert tree.gpu_memory == 6 << 30


def test_a_process_that_is_not_ours_has_no_owner(family: tuple[subprocess.Popen[str], int]) -> None:
    parent, _ = family
    people = People(dict)
    people.read([parent.pid])
    (row,) = people.describe([GpuProcess(parent.pid, 0, 1)], {(0, parent.pid): 40})
    assert (row.owner, row.sm, row.user) == ("", 40, psutil.Process().username())
    assert row.command.startswith(sys.executable)
    assert row.created == psutil.Process(parent.pid).create_time()


def test_a_tree_whose_root_ended_says_so() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    people = People(lambda: {gone.pid: "run-7"})
    people.read([])
    (tree,) = people.trees
    assert (tree.problem, tree.memory) == ("ended", None)


def test_a_process_that_cannot_be_read_still_shows_pid_and_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another user's under hidepid; NVML names those of other containers too."""
    people = People(dict)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    people.read([gone.pid])

    def denied(self: psutil.Process) -> str:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "username", denied)
    rows = [GpuProcess(gone.pid, 0, 7), GpuProcess(os.getpid(), 0, 8)]
    first = people.describe(rows, {})
    people.read([os.getpid()])
    second = people.describe(rows, {})
    assert (first[0].pid, first[0].memory) == (gone.pid, 7)
    assert first[0].problem == "ended, or of another container"
    assert (second[1].pid, second[1].memory) == (os.getpid(), 8)
    assert second[1].problem == "of another user"


def test_a_command_line_shows_no_secret() -> None:
    told = masked(
        "tritonserver --http-restricted-api=inference,health:triton-key=s3cretvalue "
        "--grpc-restricted-protocol inference:triton-key=other99value --model-repository=/m"
    )
    assert "s3cretvalue" not in told
    assert "other99value" not in told
    assert told.endswith(" --model-repository=/m")


def test_a_rate_is_not_made_of_a_counter_that_began_anew() -> None:
    rate = Rate()
    assert [rate.of(100, 0.0), rate.of(300, 2.0), rate.of(5, 3.0), rate.of(25, 5.0)] == [
        None, 100.0, None, 10.0,
    ]  # fmt: skip


def test_the_host_s_figures_agree_with_the_system() -> None:
    load = HostLoad()
    before = os.times().user
    while os.times().user - before < 0.1:
        sum(range(1000))
    host = load.read()
    assert host.problems == {}
    assert host.cpu_percent is not None
    assert 0 < host.cpu_percent <= 100
    assert len(host.cores) == psutil.cpu_count()
    assert host.memory_total is not None
    assert host.memory_used is not None
    assert 0 < host.memory_used < host.memory_total
    assert host.network_rx is None  # a rate needs two looks
    assert load.read().network_rx is not None


def test_a_figure_that_the_system_hides_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> None:
        raise PermissionError(13, "Permission denied")

    load = HostLoad()
    monkeypatch.setattr(psutil, "swap_memory", hidden)
    host = load.read()
    assert host.swap_used is None
    assert host.problems == {"swap_total": "Permission denied", "swap_used": "Permission denied"}
    assert host.memory_total is not None


def test_disks_are_those_of_the_folders(tmp_path: Path) -> None:
    disks = Disks(lambda: [tmp_path, tmp_path / "missing"])
    disks.read()
    disks.read()
    here, missing = disks.found
    space = os.statvfs(tmp_path)
    assert here.total == space.f_blocks * space.f_frsize
    assert here.free is not None
    assert (here.write is not None) == bool(device_name(tmp_path.stat().st_dev))
    assert (missing.free, missing.problem) == (None, "No such file or directory")


def test_a_turn_whose_job_fails_says_so_and_goes_on() -> None:
    done = threading.Event()
    results = iter([KeyError("owner"), None])

    def job() -> None:
        error = next(results, None)
        if error is not None:
            raise error
        done.set()

    turn = Turn("turn", job, lambda: None)
    turn.start()
    try:
        assert turn.run_once(10)
        assert turn.problem == "KeyError: 'owner'"
        assert turn.run_once(10)
        assert turn.problem == ""
        assert done.is_set()
    finally:
        turn.close()
        turn.join()
