"""NVML through a library of our own that answers as a driver does, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.nvml import run_script

MIB = 1024 * 1024
HEAD = """
import json, os, dataclasses
from console.telemetry.nvml import Nvml
from console.telemetry.sampler import Sampler
now = [0.0]
nvml = Nvml(clock=lambda: now[0])
sampler = Sampler(nvml)
def sample():
    told = sampler.sample()
    return [dataclasses.asdict(g) for g in told.gpus], told.gpu_note
"""


def run(script: str, library: Path | None, **environ: str) -> Any:
    return run_script(HEAD + script, library, **environ)


def test_eight_gpus_are_sampled(fakenvml: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("0 1024 42 50 300\n7 2048 99 60 690\n")
    gpus, note = run("print(json.dumps(sample()))", fakenvml, FAKENVML_STATE=str(state))
    assert note == ""
    assert [g["index"] for g in gpus] == list(range(8))
    first, last = gpus[0], gpus[7]
    assert (first["name"], first["memory_total"]) == ("NVIDIA H200", 143771 * MIB)
    assert (first["memory_used"], first["utilisation"]) == (1024 * MIB, 42)
    assert (last["memory_used"], last["utilisation"]) == (2048 * MIB, 99)
    assert {g["problem"] for g in gpus} == {""}


def test_facts_show_the_reserve_apart(fakenvml: Path) -> None:
    script = (
        "gpus, note = nvml.gpus()\n"
        "print(json.dumps([[dataclasses.asdict(g) for g in gpus], note, nvml.versions()]))"
    )
    gpus, note, versions = run(script, fakenvml, FAKENVML_GPUS="1")
    assert note == ""
    assert gpus[0]["memory_reserved"] == 500 * MIB
    assert gpus[0]["compute_capability"] == [9, 0]
    assert gpus[0]["uuid"].startswith("GPU-")
    assert versions == ["580.82.07", "13.0"]


def test_a_lost_gpu_costs_its_own_figures_and_comes_back(fakenvml: Path) -> None:
    script = (
        "first = sample()\n"
        "os.environ['FAKENVML_LOST'] = '2'\n"
        "lost = sample()\n"
        "del os.environ['FAKENVML_LOST']\n"
        "print(json.dumps([first, lost, sample()]))"
    )
    (first, _), (lost, note), (back, _) = run(script, fakenvml, FAKENVML_GPUS="4")
    assert first[2]["problem"] == back[2]["problem"] == ""
    assert note == ""
    assert lost[2]["problem"] == "GPU is lost: it fell off the bus or was reset"
    assert lost[2]["name"] == "NVIDIA H200"
    assert (lost[2]["memory_used"], lost[2]["utilisation"]) == (None, None)
    assert [g["problem"] for g in lost if g["index"] != 2] == ["", "", ""]
    assert back[2]["memory_used"] is not None


def test_a_figure_that_took_long_once_is_asked_again(fakenvml: Path, tmp_path: Path) -> None:
    """Nobody asks it in the sampler's place: a busy machine would take it away for good."""
    slow = tmp_path / "control"
    slow.write_text("nvmlDeviceGetUtilizationRates * delay 60000\n")
    script = "print(json.dumps([sample()[0][0]['utilisation'] for _ in range(4)]))"
    settings = {"FAKENVML_GPUS": "1", "FAKENVML_CONTROL": str(slow)}
    assert None not in run(script, fakenvml, **settings)


def test_a_gpu_lost_from_the_start_is_named(fakenvml: Path) -> None:
    script = "g, n = nvml.gpus(); print(json.dumps([[x.index for x in g], n]))"
    indices, note = run(script, fakenvml, FAKENVML_GPUS="3", FAKENVML_LOST="1")
    assert indices == [0, 2]
    assert note == "GPU 1: GPU is lost: it fell off the bus or was reset"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "18",
            "NVIDIA driver and library versions differ: the driver was updated; reload it or reboot",
        ),
        ("9", "the NVIDIA driver is not loaded"),
        ("999", "Unknown Error"),
    ],
)
def test_a_driver_that_does_not_start_is_said_in_words(
    fakenvml: Path, code: str, words: str
) -> None:
    script = "print(json.dumps([sample(), nvml.gpus(), nvml.versions()]))"
    sample, gpus, versions = run(script, fakenvml, FAKENVML_INIT=code)
    assert sample == [[], words]
    assert gpus == [[], words]
    assert versions == ["", ""]


def test_a_driver_that_recovers_is_used_after_a_pause(fakenvml: Path) -> None:
    script = (
        "broken = sample()[1]\n"
        "del os.environ['FAKENVML_INIT']\n"
        "soon = sample()[1]\n"
        "now[0] = 6.0\n"
        "print(json.dumps([broken, soon, sample()]))"
    )
    broken, soon, (gpus, note) = run(script, fakenvml, FAKENVML_INIT="18", FAKENVML_GPUS="2")
    assert "versions differ" in broken
    assert soon == broken
    assert (len(gpus), note) == (2, "")


def test_a_driver_that_forgets_us_is_initialised_again(fakenvml: Path) -> None:
    script = (
        "first = sample()\n"
        "import pynvml; pynvml.nvmlShutdown()\n"
        "lost = sample(); back = sample()\n"
        "print(json.dumps([lost, back]))"
    )
    (_, note), (gpus, after) = run(script, fakenvml, FAKENVML_GPUS="1")
    assert note == "the NVIDIA driver was restarted"
    assert (len(gpus), after) == (1, "")


def test_no_driver_is_said_in_words() -> None:
    script = (
        "import ctypes\n"
        "real = ctypes.CDLL\n"
        "def without(name, *rest, **named):\n"
        "    if 'nvidia-ml' in str(name): raise OSError('not found')\n"
        "    return real(name, *rest, **named)\n"
        "ctypes.CDLL = without\n"
        "print(json.dumps([sample(), nvml.versions()]))"
    )
    assert run(script, None) == [[[], "no NVIDIA driver on this host"], ["", ""]]


def test_a_driver_without_gpus_says_so(fakenvml: Path) -> None:
    assert run("print(json.dumps(sample()))", fakenvml, FAKENVML_GPUS="0") == [
        [],
        "the NVIDIA driver sees no GPU",
    ]


def test_importing_the_room_imports_no_nvml() -> None:
    script = "import sys; print(json.dumps('pynvml' in sys.modules))"
    assert run(script, None) is False
