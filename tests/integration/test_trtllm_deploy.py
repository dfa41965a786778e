"""The engine route from the command line to an answer: recorders in TensorRT-LLM's place, a real Triton
with a stand-in for its Triton backend, the rest of it for real."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_tensorrt import installation
from tests.support import Operator, managed
from tests.trtllm import VERSION, packages, programs, recorded

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FACTS = Path(__file__).parents[2] / "examples" / "facts"
STANDIN = Path(__file__).with_name("trtllm_standin.py")
LLMAPI = Path(__file__).with_name("trtllm_llmapi_standin.py")
ACCEPTED = [w for name in ("gpu", "gpu-memory") for w in ("--accept", name)]
QUESTION = "What is the color of a banana?"
TRAIN = """
import sentencepiece, sys
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([sys.argv[2]] * 50), model_prefix=sys.argv[1], vocab_size=40,
    minloglevel=2, hard_vocab_limit=False,
)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """TensorRT-LLM, a Triton with its backend, and a tokenizer that both sides of it can read."""
    installation(tmp_path)
    backend = tmp_path / "opt" / "tritonserver" / "backends" / "tensorrtllm"
    backend.mkdir()
    (backend / "model.py").write_text(STANDIN.read_text())
    packages(tmp_path, VERSION)
    programs(tmp_path, ("llama",))
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    python = managed("embedded") / "bin" / "python"
    subprocess.run(
        [str(python), "-c", TRAIN, str(folder / "tokenizer"), QUESTION],
        check=True,
        capture_output=True,
    )
    return tmp_path


@pytest.fixture
def operator(machine: Path) -> Iterator[Operator]:
    home = machine / "home"
    home.mkdir()
    someone = Operator(home)
    python = machine / "bin" / "python3"
    python.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{machine / "site"}"\n'
        f'exec "{managed("embedded") / "bin" / "python"}" "$@"\n'
    )
    python.chmod(0o755)
    someone.env["PATH"] = f"{machine / 'bin'}:{someone.env['PATH']}"
    yield someone
    someone.does("stop", "facts-trtllm", code=None)


def deployment(machine: Path, backend: str, **options: object) -> Path:
    given = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    file = machine / "facts.toml"
    file.write_text(
        f"""version = 1
name = "facts-trtllm"
backend = "{backend}"
[checkpoints]
model = "{FACTS}"
[options]
tensorrt_llm = "{VERSION}"
max_seq_len = 256
{given}
[server]
launcher = "local"
path = "{machine / "opt" / "tritonserver" / "bin" / "tritonserver"}"
http_port = 0
grpc_port = 0
metrics_port = 0
[[verify]]
text = "{QUESTION}"
expect = "{QUESTION}"
"""
    )
    return file


def test_an_engine_is_built_served_asked_and_taken_again_until_what_it_is_bound_to_changes(
    operator: Operator, machine: Path
) -> None:
    places = {name: str(machine / name) for name in ("examples", "tokenizer")}
    file = str(deployment(machine, "trtllm-engine", max_input_len=128, **places))
    first = operator.json("deploy", file, *ACCEPTED)["run"]
    assert first["state"] == "succeeded" and QUESTION in first["answer"]
    assert len(recorded(machine, "convert_checkpoint.py")) == 1
    assert len(recorded(machine, "trtllm-build")) == 1
    assert QUESTION in operator.does("query", "facts-trtllm", "--text", QUESTION)

    again = operator.json("deploy", file, *ACCEPTED)["run"]
    states = {step["id"]: step["state"] for step in again["steps"]}
    assert (states["convert"], states["build"]) == ("skipped", "skipped")

    metadata = machine / "site" / "tensorrt-10.14.1.48.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("10.14.1.48", "10.15.0.1"))
    third = operator.json("deploy", file, *ACCEPTED)["run"]
    build = next(step for step in third["steps"] if step["id"] == "build")
    assert build["state"] == "done" and "tensorrt-version changed" in str(build)
    assert len(recorded(machine, "convert_checkpoint.py")) == 1
    assert len(recorded(machine, "trtllm-build")) == 2


def test_the_llm_api_is_served_with_the_model_of_its_installation(
    operator: Operator, machine: Path
) -> None:
    source = machine / "all_models"
    source.mkdir()
    (source / "model.py").write_text(LLMAPI.read_text())
    file = str(deployment(machine, "trtllm-llmapi", python_model=str(source)))
    run = operator.json("deploy", file, *ACCEPTED)["run"]
    assert run["state"] == "succeeded" and QUESTION in run["answer"]
    assert QUESTION in operator.does("query", "facts-trtllm", "--text", QUESTION)
    source.joinpath("model.py").unlink()
    failed = operator.json("deploy", file, *ACCEPTED, code=1)["run"]
    assert "has no python model of this TensorRT-LLM" in failed["error"]
