"""Other kinds of speech checkpoints through the real exporter: same decisions, same texts."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import psutil
import pytest
from onnx_work import DIGITS, ROOT, build, deployment, plan_of, report, run

from console.checkpoints.read import read
from console.planning.deployment import VerifyCase
from console.planning.plan import CommandStep
from tests.support import written

pytestmark = pytest.mark.integration

MAKER = ROOT / "tests" / "assets" / "make_speech_checkpoints.py"
SOUNDS = tuple(VerifyCase(input=str(DIGITS / "wavs" / f"digits_{n}.wav")) for n in (1, 2, 3))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, nemo_environment) -> Path:
    """A folder with one tiny checkpoint of each kind."""
    names = ("hybrid_bpe", "quartznet_char", "conformer_bpe", "conformer_wpe", "streaming_bpe")
    return make(tmp_path_factory.mktemp("checkpoints"), nemo_environment, names)


def make(folder: Path, nemo: Path, names: tuple[str, ...]) -> Path:
    """`folder` with those checkpoints in it."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        [str(nemo / "bin" / "python"), str(MAKER), str(folder), *names],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-3000:]
    return folder


def values_for(work: Path, nemo: Path) -> dict[str, str]:
    repository = str(work / "repository")
    return {"work": str(work), "repository": repository, "env_nemo": str(nemo), "version": "1"}


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("hybrid_bpe", 8),
        pytest.param("quartznet_char", 2, marks=pytest.mark.slow),
        pytest.param("conformer_bpe", 4, marks=pytest.mark.slow),
        pytest.param("conformer_wpe", 4, marks=pytest.mark.slow),
        pytest.param("streaming_bpe", 8, marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_reads_as_in_pytorch(checkpoints, tmp_path, nemo_environment, name, factor):
    checkpoint = read(checkpoints / f"{name}.nemo")
    values = values_for(tmp_path, nemo_environment)
    # NeMo asks for this tokenizer by name; a folder of that name keeps the test off the network.
    shutil.copytree(checkpoints / "bert-base-cased", tmp_path / "bert-base-cased")
    build(plan_of(checkpoint, deployment(checkpoint, name, verify=SOUNDS)), values)
    found = report(values)
    assert found["subsampling_factor"] == factor
    assert found["max_abs_diff"] <= 1e-4 and found["frontend_max_abs_diff"] <= 1e-3
    assert found["decisions_equal"] and found["vocabulary_equal"] and found["text_equal"]
    assert all(found["texts"]), "an empty text compares nothing"


def export_step(checkpoint, tmp_path: Path, nemo: Path, **changes):
    """The export of a plan whose files are written, ready to run."""
    plan = plan_of(checkpoint, deployment(checkpoint, "sample", **changes))
    values = values_for(tmp_path, nemo)
    for step_id in ("workers", "repository"):
        written(plan.step(step_id).files, values)
    step = plan.step("export")
    assert isinstance(step, CommandStep)
    return step, values


@pytest.mark.slow
def test_a_graph_past_the_tolerance_is_not_published(checkpoints, tmp_path, nemo_environment):
    step, values = export_step(
        read(checkpoints / "conformer_bpe.nemo"), tmp_path, nemo_environment, tolerance=1e-12
    )
    done = run(step, values)
    assert done.returncode == 1
    assert "differs from PyTorch by" in done.stdout.splitlines()[-1]
    assert report(values)["max_abs_diff"] > 1e-12
    assert not list(tmp_path.rglob("model.onnx"))
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".export-")]


def test_a_graph_that_is_not_the_predicted_one_is_not_published(
    checkpoints, tmp_path, nemo_environment
):
    step, values = export_step(read(checkpoints / "conformer_bpe.nemo"), tmp_path, nemo_environment)
    predicted = tmp_path / "workers" / "signature.json"
    changed = json.loads(predicted.read_text())
    changed["outputs"][0]["shape"] = [-1, -1, 5]
    predicted.write_text(json.dumps(changed))
    done = run(step, values)
    assert done.returncode == 1
    assert "not the one that the plan predicted" in done.stdout.splitlines()[-1]
    assert not list(tmp_path.rglob("model.onnx"))


@pytest.mark.slow
def test_a_large_graph_gets_one_sidecar(checkpoints, tmp_path, nemo_environment):
    step, values = export_step(
        read(checkpoints / "quartznet_char.nemo"), tmp_path, nemo_environment
    )
    argv = (*step.command.argv, "--sidecar-above", "1000")
    command = step.command.model_copy(update={"argv": argv})
    done = run(step.model_copy(update={"command": command}), values)
    assert done.returncode == 0, done.stdout[-2000:]
    version = tmp_path / "repository" / "sample" / "1"
    weights = {p.name for p in version.iterdir() if p.name.startswith("model.onnx")}
    assert weights == {"model.onnx", "model.onnx.data"}
    assert (version / "model.onnx.data").stat().st_size > 50_000


@pytest.mark.slow
def test_a_graph_past_two_gigabytes_is_exported_compared_and_runs(tmp_path, nemo_environment):
    """The real limit of one protobuf file, with a real model. Needs 9 GB of memory, 7 GB of disk."""
    free = psutil.virtual_memory().available
    assert free > 9 << 30, f"{free >> 20} MiB of memory are free, 9 GiB are needed"
    make(tmp_path / "made", nemo_environment, ("large_bpe",))
    checkpoint = read(tmp_path / "made" / "large_bpe.nemo")
    # Sums over 2048 numbers differ by more than those over 32.
    step, values = export_step(checkpoint, tmp_path, nemo_environment, tolerance=1e-2)
    done = run(step, values)
    assert done.returncode == 0, done.stdout[-2000:]
    found = report(values)
    assert found["decisions_equal"] and found["text_equal"] and found["bytes"] > 2 << 30
    version = tmp_path / "repository" / "sample" / "1"
    weights = {p.name: p.stat().st_size for p in version.glob("model.onnx*")}
    assert set(weights) == {"model.onnx", "model.onnx.data"}
    assert weights["model.onnx"] < 100 << 20 and weights["model.onnx.data"] > 2_000_000_000


@pytest.mark.slow
def test_a_checkpoint_that_nemo_cannot_restore_says_where_the_cause_is(
    checkpoints, tmp_path, nemo_environment
):
    """As a fork's checkpoint does: its configuration names what this NeMo does not know."""
    broken = tmp_path / "broken.nemo"
    with tarfile.open(checkpoints / "quartznet_char.nemo") as old, tarfile.open(broken, "w") as new:
        for member in old.getmembers():
            data = old.extractfile(member).read() if member.isfile() else b""
            if member.name.endswith("model_config.yaml"):
                data = data.replace(b"conv_mask: true", b"conv_mask: true\n  multisoftmax: true")
                assert b"multisoftmax" in data
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    step, values = export_step(read(broken), tmp_path, nemo_environment)
    done = run(step, values)
    assert done.returncode == 1
    assert "NeMo does not restore the checkpoint" in done.stdout.splitlines()[-1]
    assert "multisoftmax" in done.stdout
