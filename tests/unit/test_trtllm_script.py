"""The TensorRT-LLM routes' scripts from end to end, with recorders in upstream's place; and the worker
that looks at the place."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from backends.language.trtllm_catalog import catalog
from backends.trtllm_engine import TrtllmEngineBackend
from backends.trtllm_llmapi import TrtllmLlmapiBackend
from backends.workers import trtllm_place
from console.facts import ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import CommandStep, Plan, ServiceStep
from console.planning.script import render
from console.planning.variables import expand
from console.runs import keys
from tests import shell
from tests.contract import samples
from tests.shell import ANSWERS
from tests.trtllm import VERSION, packages, programs, recorded

WORKER = Path(trtllm_place.__file__)
SERVER = (
    """
import json, sys
if sys.argv[1:] == ["--help"]:
    sys.exit("Usage:\\n  --model-repository <string>\\n  --http-port <integer>\\n")
with open(RECORD + "tritonserver", "w") as file:
    json.dump(sys.argv[1:], file)
port = next(word.partition("=")[2] for word in sys.argv if word.startswith("--http-port="))

def answered(headers, body):
    return {"text_output": "hello"}
"""
    + ANSWERS
    + """
http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""
)
MPIRUN = """#!/bin/bash
printf '%s\\0' "$@" > {record}mpirun
words=()
shift 3
for word in "$@"; do
    [ "$word" = : ] && break
    words+=("$word")
done
exec "${{words[@]}}"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A machine with TensorRT-LLM of a version, its scripts and programs, all of which record."""
    programs(tmp_path, ("gpt", "llama"))
    record = repr(str(tmp_path / "said-"))
    texts = {
        "tritonserver": f"#!{sys.executable}\n" + SERVER.replace("RECORD", record),
        "python3": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
        "mpirun": MPIRUN.format(record=tmp_path / "said-"),
    }
    for name, text in texts.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    packages(tmp_path, VERSION)
    return tmp_path


def checkpoint(place: Path, name: str = "model") -> Any:
    from dataclasses import replace

    folder = place / f"the {name}"
    folder.mkdir(exist_ok=True)
    return replace(samples.language(), path=folder)


def planned(place: Path, *, draft: bool = False, **options: Any) -> Plan:
    found = {"model": checkpoint(place)} | ({"draft": checkpoint(place, "draft")} if draft else {})
    made = Deployment.model_validate(
        {
            "name": "llama",
            "backend": "trtllm-engine",
            "checkpoints": {role: str(one.path) for role, one in found.items()},
            "options": {
                "tensorrt_llm": VERSION, "examples": str(place / "examples"), **options
            },
            "server": {"launcher": "local", "http_port": 0, "grpc_port": 0, "metrics_port": 0},
        }
    )  # fmt: skip
    return TrtllmEngineBackend().plan(made, found, samples.GPU_HOST, ToolFacts())


def bash(place: Path, made: Plan) -> subprocess.CompletedProcess[str]:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return shell.run(place, render(made), PATH=path, PYTHONPATH=str(place / "site"))


def expected(place: Path, made: Plan, *steps: str) -> list[list[str]]:
    found = []
    for name in steps:
        step = made.step(name)
        assert isinstance(step, CommandStep)
        words = [expand(word, {"work": str(place / "llama")}) for word in step.command.argv]
        found.append(words[2:] if words[0] == "python3" else words[1:])
    return found


def test_the_script_gives_every_program_exactly_the_planned_words(place: Path) -> None:
    made = planned(place, quantization="int8", max_seq_len=2048, fast_build=True)
    done = bash(place, made)
    assert done.returncode == 0, done.stdout + done.stderr
    assert recorded(place, "convert_checkpoint.py") == expected(place, made, "convert")
    assert recorded(place, "trtllm-build") == expected(place, made, "build")
    facts = place / "llama" / "engine-key"
    assert (facts / "tensorrt-llm-version").read_text() == f"{VERSION}\n"


def test_model_and_draft_are_converted_and_built_one_after_the_other(place: Path) -> None:
    made = planned(place, draft=True)
    done = bash(place, made)
    assert done.returncode == 0, done.stdout + done.stderr
    both = expected(place, made, "convert", "convert-draft")
    assert recorded(place, "convert_checkpoint.py") == both
    built = recorded(place, "trtllm-build")
    assert built == expected(place, made, "build", "build-draft")
    assert ["--max_draft_len" in words for words in built] == [True, False]


def test_two_ranks_are_started_by_one_mpirun_with_the_planned_words(place: Path) -> None:
    made = planned(place, tensor_parallel_size=2)
    done = bash(place, made)
    assert done.returncode == 0, done.stdout + done.stderr
    said = (place / "said-mpirun").read_text().split("\0")[:-1]
    service = made.step("service")
    assert isinstance(service, ServiceStep)
    argv = service.service.process.argv
    assert len(said) == len(argv) - 1 and said.count("-n") == 2
    fixed = [(ours, theirs) for ours, theirs in zip(argv[1:], said, strict=True) if "$" not in ours]
    assert all(ours == theirs for ours, theirs in fixed)
    assert len(list((place / "llama" / "engine").glob("rank*.engine"))) == 2


@pytest.mark.parametrize(
    ("version", "problem"),
    [("1.1.0", "TensorRT-LLM 1.1.0 is here, and the plan is for 1.2.1"), ("", "is not installed")],
)
def test_another_version_than_the_planned_one_ends_the_script_first(
    place: Path, version: str, problem: str
) -> None:
    shutil.rmtree(place / "site")
    if version:
        packages(place, version)
    done = bash(place, planned(place))
    assert done.returncode != 0 and problem in done.stdout
    assert not list(place.glob("said-*"))


def test_another_patch_of_the_planned_series_is_told_and_taken(place: Path) -> None:
    shutil.rmtree(place / "site")
    packages(place, "1.2.0rc6")
    done = look(place, "--checkpoint", str(place), "--expect", VERSION)
    assert done.returncode == 0 and "planned was 1.2.1 of the same series" in done.stdout
    bound = (place / "facts" / "tensorrt-llm-version").read_text()
    assert bound == "1.2.0rc6\n"


def test_a_flag_that_the_installed_script_lacks_ends_the_script_before_it_runs(place: Path) -> None:
    script = place / "examples" / catalog().script("llama", VERSION)
    script.write_text(script.read_text().replace('"--use_parallel_embedding"', '"--other"'))
    done = bash(place, planned(place, use_parallel_embedding=True))
    assert done.returncode != 0 and "there is no flag --use_parallel_embedding" in done.stdout
    assert not (place / "said-convert_checkpoint.py").exists()


def test_an_engine_is_taken_again_until_what_it_is_bound_to_changes(place: Path) -> None:
    made = planned(place)
    assert bash(place, made).returncode == 0
    step, values = made.step("build"), {"work": str(place / "llama")}
    keys.remember(step, values, keys.key_of(step, made, values), "a run")
    looked = made.step("place")
    assert isinstance(looked, CommandStep)
    words = [expand(word, values) for word in looked.command.argv[2:]]

    def why() -> str:
        done = look(place, *words)
        assert done.returncode == 0, done.stdout
        return keys.why_run(step, values, keys.key_of(step, made, values))

    assert why() == ""
    (place / "site" / "tensorrt-10.14.1.48.dist-info").rename(
        place / "site" / "tensorrt-10.15.0.1.dist-info"
    )
    metadata = place / "site" / "tensorrt-10.15.0.1.dist-info" / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: tensorrt\nVersion: 10.15.0.1\n")
    assert why() == "input tensorrt-version changed"
    words[words.index("--sizes") + 1] = "tensor 2, pipeline 1"
    keys.remember(step, values, keys.key_of(step, made, values), "a run")
    assert why() == "input parallel-sizes changed"


def test_a_plugin_that_the_installed_build_lacks_is_found_before_the_conversion(
    place: Path,
) -> None:
    file = place / "site" / "tensorrt_llm" / "plugin" / "plugin.py"
    file.write_text(file.read_text().replace("'tokens_per_block', ", ""))
    done = bash(place, planned(place, tokens_per_block=64))
    assert done.returncode != 0 and "there is no flag --tokens_per_block here" in done.stdout
    assert not (place / "said-convert_checkpoint.py").exists()


def test_the_llm_apis_script_takes_the_model_that_is_installed(place: Path) -> None:
    model, source = checkpoint(place), place / "all_models"
    source.mkdir()
    (source / "model.py").write_text("installed = True\n")
    made = Deployment.model_validate(
        {
            "name": "llama",
            "backend": "trtllm-llmapi",
            "checkpoints": {"model": str(model.path)},
            "options": {"tensorrt_llm": VERSION, "python_model": str(source)},
            "server": {"launcher": "local", "http_port": 0, "grpc_port": 0, "metrics_port": 0},
        }
    )
    plan = TrtllmLlmapiBackend().plan(made, {"model": model}, samples.GPU_HOST, ToolFacts())
    done = bash(place, plan)
    assert done.returncode == 0, done.stdout + done.stderr
    (copied,) = place.glob("llama/**/llama/1/model.py")
    assert copied.read_text() == "installed = True\n"
    assert json.loads((copied.parent / "model.yaml").read_text())["model"] == str(model.path)


# ---------------------------------------------------------------------------- the worker


def look(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    facts = () if "--facts" in words else ("--facts", str(place / "facts"))
    return subprocess.run(
        [sys.executable, str(WORKER), *facts, *words],
        env={**os.environ, "PYTHONPATH": str(place / "site")},
        capture_output=True,
        text=True,
        check=False,
    )


def archive(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return path


def test_an_archive_is_unpacked_once_and_again_when_it_changes(place: Path) -> None:
    file = archive(place / "m.qnemo", "./config.json", "./rank0.safetensors")
    folder = place / "unpacked"
    words = ("--checkpoint", str(file), "--unpack", str(file), str(folder))
    assert look(place, *words).returncode == 0
    assert (folder / "rank0.safetensors").is_file()
    (folder / "mine").write_text("")
    assert look(place, *words).returncode == 0 and (folder / "mine").exists()
    archive(file, "./config.json", "./rank0.safetensors", "./rank1.safetensors")
    assert look(place, *words).returncode == 0 and not (folder / "mine").exists()
    assert (folder / "rank1.safetensors").is_file()


def test_a_folder_is_linked_and_a_name_outside_is_refused(place: Path) -> None:
    folder, inner = place / "link", place / "folder"
    inner.mkdir()
    assert look(
        place, "--checkpoint", str(inner), "--unpack", str(inner), str(folder)
    ).returncode == 0  # fmt: skip
    assert folder.resolve() == inner
    bad = archive(place / "bad.qnemo", "../outside")
    done = look(place, "--checkpoint", str(bad), "--unpack", str(bad), str(place / "x"))
    assert done.returncode == 1 and "outside of itself" in done.stdout
    assert not (place / "outside").exists()


def test_nemos_tokenizer_gets_its_plain_name_and_its_absence_a_sentence(place: Path) -> None:
    file = archive(place / "m.nemo", "./weights.ckpt", "./0123ab_tokenizer.model")
    folder = place / "tokenizer"
    words = ("--checkpoint", str(file), "--tokenizer", str(file), str(folder))
    assert look(place, *words).returncode == 0
    names = {path.name for path in folder.iterdir()}
    assert "tokenizer.model" in names and "weights.ckpt" not in names
    bare = archive(place / "bare.nemo", "./weights.ckpt")
    done = look(place, "--checkpoint", str(bare), "--tokenizer", str(bare), str(folder))
    assert done.returncode == 1 and "name a folder with one" in done.stdout


def test_a_model_that_is_there_already_is_left_alone(place: Path) -> None:
    source, target = place / "from", place / "to"
    source.mkdir()
    (source / "model.py").write_text("one")
    words = ("--checkpoint", str(source), "--copy", str(source), str(target))
    assert look(place, *words).returncode == 0
    before = (target / "model.py").stat().st_mtime_ns
    assert look(place, *words).returncode == 0
    assert (target / "model.py").stat().st_mtime_ns == before
    gone = look(place, "--checkpoint", str(source), "--copy", str(place / "nothing"), str(target))
    assert gone.returncode == 1 and "no python model" in gone.stdout
