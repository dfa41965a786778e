"""Every figure of every GPU, and what each fault of a driver costs: its own figure, said in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.nvml import SONAME, build, run_script

MIB = 1 << 20
HEAD = """
import json, os, dataclasses, time
from pathlib import Path
from console.telemetry.nvml import Nvml
from console.telemetry.gpus import FastGpus
from console.telemetry.slowgpus import SlowGpus, PcieTurns, readings

now = [1000.0]
fast = FastGpus(Nvml(lambda: now[0]), lambda: now[0])
slow, pcie = SlowGpus(fast), PcieTurns(fast)

def control(*lines):
    file = Path(os.environ["FAKENVML_CONTROL"])
    new = file.with_name(f"new{time.monotonic_ns()}")
    new.write_text("".join(line + "\\n" for line in lines))
    new.replace(file)

def look(seconds=1.0):
    "Every class once, `seconds` later."
    now[0] += seconds
    fast.read()
    slow.read()
    for _ in fast.look.figures:
        pcie.read()
    return told()

def told():
    return [dataclasses.asdict(gpu) for gpu in readings(fast, slow, pcie, now[0] - 15)]

def note():
    return fast.look.note

def show(*values):
    print(json.dumps(values))
"""


def run(script: str, library: Path, folder: Path, **environ: str) -> Any:
    state = folder / "state"
    state.write_text("0 1024 42 50 300\n1 2048 99 60 690\n")
    settings = {
        "FAKENVML_GPUS": "2",
        "FAKENVML_STATE": str(state),
        "FAKENVML_CONTROL": str(folder / "control"),
    }
    return run_script(HEAD + script, library, **settings | environ)


def test_every_field_has_a_figure(fakenvml: Path, tmp_path: Path) -> None:
    ((gpu, other),) = run("look(); show(look())", fakenvml, tmp_path)
    assert gpu["problems"] == other["problems"] == {}
    assert [name for name, value in gpu.items() if value is None] == []
    assert (gpu["uuid"][:4], gpu["name"], gpu["state"]) == ("GPU-", "NVIDIA H200", "ok")
    assert gpu["memory_total"] == 143771 * MIB
    assert (gpu["memory_used"], gpu["memory_reserved"]) == (1024 * MIB, 500 * MIB)
    assert gpu["memory_free"] == (143771 - 1024 - 500) * MIB
    assert (gpu["utilisation"], gpu["memory_utilisation"]) == (42, 21)
    assert (gpu["memory_clock"], gpu["power"], gpu["power_limit"]) == (3201, 300.0, 700.0)
    assert (gpu["temperature"], gpu["memory_temperature"]) == (50, 58)
    assert (gpu["ecc_corrected"], gpu["ecc_uncorrected"], gpu["mig_mode"]) == (0, 0, False)


def test_throttling_is_said_in_words(fakenvml: Path, tmp_path: Path) -> None:
    ((cool, hot),) = run("show(look())", fakenvml, tmp_path)
    assert (cool["throttle"], cool["throttle_bits"]) == ([], 0)
    assert (hot["throttle"], hot["throttle_bits"]) == (["software power cap"], 4)


def test_nvlink_is_a_rate_of_its_counters(fakenvml: Path, tmp_path: Path) -> None:
    """The library sends 1 GiB/s by the real clock; the interval here is the script's."""
    script = """
began = time.monotonic(); first = look()
time.sleep(0.05)
second = look(0.1); took = time.monotonic() - began
show(first[0]["nvlink_tx"], second[0]["nvlink_tx"], second[0]["nvlink_rx"], took)
"""
    first, sent, received, took = run(script, fakenvml, tmp_path)
    assert first is None
    assert 0.04 * 2**30 / 0.1 < sent < 1.1 * took * 2**30 / 0.1
    assert received == pytest.approx(sent / 2, rel=0.01)


@pytest.mark.parametrize(
    ("fault", "field", "words"),
    [
        ("nvmlDeviceGetPowerUsage * error 3", "power", "not supported by this GPU"),
        ("nvmlDeviceGetClockInfo * error 4", "sm_clock", "no permission to ask the NVIDIA driver"),
        ("nvmlDeviceGetTemperature * error 13", "temperature", "not supported by this driver"),
        ("nvmlDeviceGetTotalEcc * error 10", "ecc_corrected", "the NVIDIA driver does not answer"),
        ("nvmlDeviceGetPcie * error 999", "pcie_tx", "Unknown Error"),
        ("nvmlDeviceGetMemoryInfo * error 17", "memory_used", "The operating system has blocked the request."),
        ("nvmlDeviceGetFieldValues * error 2", "memory_temperature",
         "the NVIDIA driver does not know the question"),
        ("nvmlDeviceGetComputeRunning * error 4", "processes",
         "no permission to ask the NVIDIA driver"),
    ],
)  # fmt: skip
def test_a_fault_costs_its_own_field_and_is_gone_with_its_cause(
    fakenvml: Path, tmp_path: Path, fault: str, field: str, words: str
) -> None:
    script = f"look(); well = look(); control({fault!r}); ill = look(); control(); look(); show(well, ill, look())"
    well, ill, again = run(script, fakenvml, tmp_path)
    assert ill[0]["state"] == "ok"
    assert ill[0]["problems"][field] == words
    assert ill[0].get(field) is None
    assert (ill[0]["utilisation"], ill[0]["name"]) == (42, "NVIDIA H200")
    assert well[0]["problems"] == again[0]["problems"] == {}
    assert again[0].get(field, 0) is not None


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ("nvmlDeviceGetMemoryInfo", "memory_used"),
        ("nvmlDeviceGetUtilizationRates", "utilisation"),
        ("nvmlDeviceGetClockInfo", "memory_clock"),
        ("nvmlDeviceGetPowerUsage", "power"),
        ("nvmlDeviceGetEnforcedPowerLimit", "power_limit"),
        ("nvmlDeviceGetTemperatureV", "temperature"),
        ("nvmlDeviceGetFieldValues", "memory_temperature"),
        ("nvmlDeviceGetCurrentClocksEventReasons", "throttle"),
        ("nvmlDeviceGetTotalEccErrors", "ecc_uncorrected"),
        ("nvmlDeviceGetPcieThroughput", "pcie_rx"),
    ],
)
def test_a_mark_for_no_value_is_no_figure(
    fakenvml: Path, tmp_path: Path, call: str, field: str
) -> None:
    script = f"control('{call} * garbage'); show(look())"
    ((gpu, _),) = run(script, fakenvml, tmp_path)
    assert gpu[field] is None
    assert gpu["problems"][field] == "the driver gave no valid figure"
    assert gpu["state"] == "ok"


def test_a_process_without_a_figure_still_shows_its_pid(fakenvml: Path, tmp_path: Path) -> None:
    script = """
control('nvmlDeviceGetComputeRunning * garbage', 'nvmlDeviceGetProcessUtil * garbage')
look()
show([(p.pid, p.memory) for p in fast.look.processes], slow.use[0, 77])
"""
    found = run(script, fakenvml, tmp_path, FAKENVML_PROCS="77:0:512")
    assert found == [[[77, None]], 0]


def test_a_name_of_garbage_is_no_name(fakenvml: Path, tmp_path: Path) -> None:
    ((gpu, _),) = run("control('nvmlDeviceGetName * garbage'); show(look())", fakenvml, tmp_path)
    assert (gpu["name"], gpu["state"]) == ("", "ok")


def test_a_name_cannot_act_on_the_terminal(fakenvml: Path, tmp_path: Path) -> None:
    ((gpu, _),) = run("show(look())", fakenvml, tmp_path, FAKENVML_NAME="H200\x1b]0;owned\x07!")
    assert gpu["name"] == "H200!"


def test_a_gpu_lost_while_sampled_costs_its_figures_alone(fakenvml: Path, tmp_path: Path) -> None:
    script = "look(); control('* 1 error 15'); lost = look(); control(); show(lost, look())"
    (well, lost), (_, back) = run(script, fakenvml, tmp_path)
    assert (well["state"], well["problems"]["nvlink_tx"] if well["problems"] else "") == ("ok", "")
    assert lost["state"] == "lost"
    assert lost["problems"] == {"state": "GPU is lost: it fell off the bus or was reset"}
    assert (lost["name"], lost["memory_used"], lost["pcie_tx"]) == ("NVIDIA H200", None, None)
    assert (back["state"], back["memory_used"]) == ("ok", 2048 * MIB)


def test_a_gpu_that_was_reset_is_seen_after_a_new_start(fakenvml: Path, tmp_path: Path) -> None:
    """NVML answers for it only after it was initialised again."""
    script = "look(); control('* 1 reset'); lost = look(); soon = look(); look(6); show(lost, soon, look())"
    lost, soon, back = run(script, fakenvml, tmp_path)
    assert [gpu["state"] for gpu in lost] == [gpu["state"] for gpu in soon] == ["ok", "lost"]
    assert [gpu["state"] for gpu in back] == ["ok", "ok"]


def test_new_starts_for_a_lost_gpu_grow_rare(fakenvml: Path, tmp_path: Path) -> None:
    script = """
look(); control('* 1 error 15'); starts = []
for _ in range(400):
    before = fast.nvml.generation
    fast.read(); slow.read(); now[0] += 1
    if fast.nvml.generation != before:
        starts.append(int(now[0]))
show([b - a for a, b in zip(starts, starts[1:])])
"""
    (gaps,) = run(script, fakenvml, tmp_path)
    assert gaps[:4] == [5, 10, 20, 40]


def test_a_restarted_driver_is_used_again(fakenvml: Path, tmp_path: Path) -> None:
    script = "look(); control('* * reload 1'); gone = look(); said = note(); look(); show(gone, said, look())"
    gone, said, back = run(script, fakenvml, tmp_path)
    assert said == "the NVIDIA driver was restarted"
    assert gone == []
    assert [(gpu["state"], gpu["problems"]) for gpu in back] == [("ok", {})] * 2


def test_a_replaced_library_is_loaded_without_a_restart_of_ours(tmp_path: Path) -> None:
    """A driver update: the module is new, the library in memory is old, the file is new."""
    (tmp_path / "new").mkdir()
    script = f"""
look(); first = slow.versions
os.environ['FAKENVML_KERNEL'] = '590.10'
control('* * reload 1')
look(); look(); broken = note(); control()
os.replace({str(build(tmp_path / "new", "590.10") / SONAME)!r}, {str(tmp_path / SONAME)!r})
look(6); look(0.1)
show(first, broken, note(), slow.versions, told())
"""
    first, broken, after, versions, gpus = run(script, build(tmp_path), tmp_path)
    assert first[0] == "580.82.07"
    assert broken.startswith("NVIDIA driver and library versions differ")
    assert (after, versions[0]) == ("", "590.10")
    assert [gpu["state"] for gpu in gpus] == ["ok", "ok"]


def test_mig_instances_have_their_own_memory(fakenvml: Path, tmp_path: Path) -> None:
    script = "look(); show(look(), [dataclasses.asdict(p) for p in fast.look.processes])"
    (whole, split), processes = run(
        script, fakenvml, tmp_path, FAKENVML_MIG="1:3", FAKENVML_PROCS="77:1:512"
    )
    assert (whole["mig_mode"], whole["mig"]) == (False, [])
    assert split["mig_mode"] is True
    assert [one["index"] for one in split["mig"]] == [0, 1, 2]
    first = split["mig"][0]
    assert (first["gpu_instance"], first["compute_instance"]) == (7, 0)
    assert (first["uuid"][:4], first["profile"]) == ("MIG-", "1g.18gb")
    assert first["memory_used"] == 2048 * MIB // 8
    assert split["problems"]["utilisation"] == "not supported by this GPU"
    assert (processes[0]["pid"], processes[0]["gpu_instance"]) == (77, 7)


def test_a_gpu_in_mig_mode_without_instances_has_none(fakenvml: Path, tmp_path: Path) -> None:
    script = "look(); show(look())"
    ((gpu, _),) = run(script, fakenvml, tmp_path, FAKENVML_MIG="0:0")
    assert (gpu["mig_mode"], gpu["mig"]) == (True, [])


def test_sixteen_gpus_are_told_apart(fakenvml: Path, tmp_path: Path) -> None:
    (gpus,) = run("show(look())", fakenvml, tmp_path, FAKENVML_GPUS="16")
    assert [gpu["index"] for gpu in gpus] == list(range(16))
    assert len({gpu["uuid"] for gpu in gpus}) == 16


def test_a_question_that_became_slow_leaves_the_fast_look_until_it_is_quick(
    fakenvml: Path, tmp_path: Path
) -> None:
    script = """
import itertools
control('nvmlDeviceGetPowerUsage 1 delay 60000')
clock = time.monotonic
fast = FastGpus(Nvml(clock), clock); slow = SlowGpus(fast); pcie = PcieTurns(fast)
def power():
    return [figures.values.get('power') for figures in fast.look.figures.values()]
fast.read(); fast.read(); first = power()
fast.read(); without = power()
slow.read(); later = [g.power for g in readings(fast, slow, pcie, 0)]
control(); slow.read(); fast.read()
show(first, without, later, power())
"""
    first, without, later, again = run(script, fakenvml, tmp_path)
    assert first == later == again == [300.0, 690.0]
    assert without == [300.0, None]


def test_a_lost_gpu_that_is_slow_to_say_so_holds_nobody_up(fakenvml: Path, tmp_path: Path) -> None:
    script = """
clock = time.monotonic
fast = FastGpus(Nvml(clock), clock); slow = SlowGpus(fast)
fast.read()
control('* 1 error 15', '* 1 delay 60000')
fast.read(); fast.read(); shunned = sorted(fast.shunned)
control()
fast.read(); still = fast.look.figures[1].problems
slow.read(); fast.read()
show(shunned, still, fast.look.figures[1].problems)
"""
    shunned, still, after = run(script, fakenvml, tmp_path)
    assert shunned == [1]
    assert still["state"].startswith("GPU is lost")
    assert after == {}


def test_an_old_driver_answers_with_its_older_calls(fakenvml: Path, tmp_path: Path) -> None:
    """Version 1 of memory counts the reserve as used; temperature has an older name."""
    script = """
control('nvmlDeviceGetMemoryInfo_v2 * error 13', 'nvmlDeviceGetTemperatureV * error 13')
show(look())
"""
    ((gpu, _),) = run(script, fakenvml, tmp_path)
    assert (gpu["memory_used"], gpu["memory_reserved"]) == ((1024 + 500) * MIB, None)
    assert gpu["temperature"] == 50
