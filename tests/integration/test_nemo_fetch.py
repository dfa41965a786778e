"""Pretrained names of NeMo: the real NeMo downloads from a file store of our own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from console.checkpoints import hub
from console.checkpoints.model import HubRef
from console.checkpoints.read import fetched
from tests.integration.ngc_server import Ngc
from tests.support import ANY_PORTS, Operator

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"
NAME = "stt_en_conformer_ctc_small"

pytestmark = pytest.mark.integration


def fetch(
    environment: Path, folder: Path, name: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """The worker as a run calls it."""
    for worker in ("fetch_nemo.py", "nemo_archive.py"):
        shutil.copy(ROOT / "backends" / "workers" / worker, folder)
    words = [str(environment / "bin" / "python"), str(folder / "fetch_nemo.py"), f"--name={name}"]
    words += [f"--link={folder}/fetched/model", f"--report={folder}/fetched/model.json"]
    env = {"PATH": os.defpath, "HOME": str(folder), "NEMO_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(
        words,
        env=env | environ,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.mark.slow
def test_an_unknown_name_is_answered_with_names_like_it(
    nemo_environment: Path, tmp_path: Path
) -> None:
    done = fetch(nemo_environment, tmp_path, "STT_en_conformer_ctc_smal")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("error: NeMo's lists have no pretrained model STT_en_conformer_ctc_smal")
    assert NAME in last


def test_without_a_network_the_address_and_the_way_out_are_told(
    nemo_environment: Path, tmp_path: Path
) -> None:
    done = fetch(nemo_environment, tmp_path, NAME, https_proxy="http://127.0.0.1:9")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"error: {NAME} cannot be downloaded from https://")
    assert "Connection refused" in last
    assert "give the .nemo file itself" in last
    assert not (tmp_path / "fetched").exists()


@pytest.mark.slow
def test_a_name_becomes_the_file_in_nemos_cache_and_a_broken_one_is_replaced(
    nemo_environment: Path, tmp_path: Path
) -> None:
    digits = (DIGITS / "digits.nemo").read_bytes()
    with Ngc(tmp_path, **{NAME: digits[: len(digits) // 2]}) as ngc:
        done = fetch(nemo_environment, tmp_path, NAME, **ngc.environ)
        assert done.returncode == 1
        assert "not a whole .nemo archive" in done.stdout.splitlines()[-1]
        assert len(ngc.gets) == 2
        ngc.files[f"{NAME}.nemo"] = digits
        done = fetch(nemo_environment, tmp_path, NAME, **ngc.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "fetched" / "model.json").read_text())["bytes"] == len(digits)
    ref = HubRef("nemo", NAME)
    file = hub.fetched(ref, tmp_path / "fetched", "model")
    assert file is not None
    assert (tmp_path / "cache") in file.parents
    found = fetched(ref, file)
    assert (found.hub, found.model_class) == (ref, "EncDecCTCModelBPE")


@pytest.mark.slow
def test_a_pretrained_name_is_deployed_and_answers_with_the_right_words(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    file = tmp_path / "deployment.toml"
    text = (DIGITS / "deployment.toml").read_text()
    file.write_text(text.replace('model = "digits.nemo"', f'model = "nemo:{NAME}"'))
    shutil.copytree(DIGITS / "wavs", tmp_path / "wavs")
    with Ngc(tmp_path, **{NAME: (DIGITS / "digits.nemo").read_bytes()}) as ngc:
        operator.env |= ngc.environ
        try:
            run = operator.json("deploy", str(file), *ANY_PORTS)["run"]
        finally:
            operator.leave()
    assert (run["state"], run["number"]) == ("succeeded", 2)
    assert {s["id"]: s["state"] for s in run["steps"]}["export"] == "done"
