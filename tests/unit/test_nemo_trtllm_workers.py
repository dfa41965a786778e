"""The workers of the NeMo TensorRT-LLM route, and its script with recorders in upstream's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.nemo_trtllm import NemoTrtllmBackend
from backends.upstream.place import ENVIRONMENT
from console.facts import ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import CommandStep, Plan, ServiceStep
from console.planning.script import render
from tests import shell, upstream
from tests.contract import samples
from tests.shell import ANSWERS

ROOT = Path(__file__).parents[2]
WORKERS = ROOT / "backends" / "workers"
BACKEND = NemoTrtllmBackend()
DEPLOY = "scripts/deploy/nlp/deploy_triton.py"
SCRIPT = """import argparse
from nowhere import Missing
p = argparse.ArgumentParser()
p.add_argument("-tmn", "--triton_model_name", required=True, type=str)
p.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
p.add_argument("--max_input_len", type=int, default=512)
p.add_argument("--task_ids", nargs="+")
p.add_argument("--use_cpp_runtime", action="store_true")
p.add_argument("--rest", type=bool, default=False)
"""
SERVING = (
    """
import json, sys
with open(RECORD, "w") as file:
    json.dump(sys.argv[1:], file)

def answered(headers, body):
    return {"outputs": [
        {"name": "outputs", "shape": [1, 1], "datatype": "BYTES", "data": ["ANSWER"]}
    ]}
"""
    + ANSWERS
    + """
http.server.HTTPServer((args.triton_http_address, args.triton_port), Handler).serve_forever()
"""
)
ENGINE = """
import json, pathlib, sys
with open(RECORD, "w") as file:
    json.dump(sys.argv[1:], file)
folder = pathlib.Path(args.model_repository) / "trtllm_engine"
folder.mkdir(parents=True)
(folder / "config.json").write_text(json.dumps({"version": "0.18", "build_config": {}}))
for rank in range(args.tensor_parallelism_size * RANKS):
    (folder / f"rank{rank}.engine").write_text("engine")
"""


def run(worker: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(WORKERS / f"{worker}.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )


def compare(folder: Path, *words: str, text: str = SCRIPT, **plan: Any) -> tuple[int, str, Any]:
    """Exit code, output and result of the flag worker."""
    (folder / "script.py").write_text(text)
    (folder / "planned.json").write_text(json.dumps(plan))
    result = folder / "made" / "flags.json"
    done = run(
        "check_flags", f"--script={folder / 'script.py'}", f"--plan={folder / 'planned.json'}",
        f"--result={result}", "--", *words,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, json.loads(result.read_text())


# ---------------------------------------------------------------------------- flags


def test_flags_that_fit_an_installed_script_pass(tmp_path: Path) -> None:
    words = ("--triton_model_name", "m", "--task_ids", "-1", "b", "--use_cpp_runtime")
    code, said, result = compare(tmp_path, *words)
    assert (code, result["failures"]) == (0, 0)
    assert "takes what is planned" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--precision", "fp8"), "there is no flag --precision here"),
        (("--dtype", "fp8"), "line 5: --dtype: fp8 is not among bfloat16, float16"),
        (("--max_input_len", "many"), "line 6: --max_input_len: many is not of type int"),
        (("--max_input_len", "1", "2"), "takes one value, and 2 are given"),
        (("--task_ids",), "line 7: --task_ids: needs a value"),
        (("--use_cpp_runtime", "yes"), "line 8: --use_cpp_runtime: takes no value"),
        (("--rest", "False"), "any text counts as true, False as well"),
    ],
)
def test_a_flag_that_does_not_fit_is_named_with_its_line(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    code, output, result = compare(tmp_path, "-tmn", "m", *words, generation="nemo-25.04")
    assert code == 1 and result["failures"] == 1
    assert f"[tritondeck] fail {said}" in output or said in output
    assert "does not take what is planned" in output.splitlines()[-1]


def test_a_required_flag_that_is_left_out_is_named(tmp_path: Path) -> None:
    code, said, _ = compare(tmp_path, "--dtype", "float16")
    assert code == 1 and "line 4: --triton_model_name is required" in said


def test_a_default_that_changed_is_told_and_does_not_fail(tmp_path: Path) -> None:
    code, said, _ = compare(tmp_path, "-tmn", "m", defaults={"--max_input_len": 256})
    assert code == 0
    assert "warn line 6: --max_input_len has the default 512 here, and 256 was expected" in said


def test_choices_that_stand_under_a_name_are_not_judged(tmp_path: Path) -> None:
    text = 'TYPES = ("bfloat16",)\n' + SCRIPT.replace('["bfloat16", "float16"]', "TYPES")
    assert compare(tmp_path, "-tmn", "m", "--dtype", "bfloat16", text=text)[0] == 0


@pytest.mark.parametrize("text", ["def (", None])
def test_a_script_that_cannot_be_read_is_said_in_words(tmp_path: Path, text: str | None) -> None:
    if text is None:
        (tmp_path / "planned.json").write_text("{}")
        done = run(
            "check_flags", "--script=/nowhere/x.py", f"--plan={tmp_path / 'planned.json'}",
            f"--result={tmp_path / 'flags.json'}",
        )  # fmt: skip
        assert done.returncode == 1 and "cannot read /nowhere/x.py: No such file" in done.stdout
    else:
        code, said, _ = compare(tmp_path, text=text)
        assert code == 1 and "no Python that can be read" in said


def test_a_folder_of_others_is_not_given_to_be_emptied(tmp_path: Path) -> None:
    (tmp_path / "planned.json").write_text("{}")
    folder = tmp_path / "engine"
    words = (f"--plan={tmp_path / 'planned.json'}", f"--result={tmp_path / 'r.json'}")
    first = run("check_flags", *words, f"--folder={folder}")
    (folder / "engine").mkdir()
    again = run("check_flags", *words, f"--folder={folder}")
    assert (first.returncode, again.returncode) == (0, 0)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("")
    refused = run("check_flags", *words, f"--folder={tmp_path / 'thesis'}")
    assert refused.returncode == 1 and "upstream would empty it" in refused.stdout
    below = tmp_path / "thesis" / "chapter.tex" / "engine"
    refused = run("check_flags", *words, f"--folder={below}")
    assert refused.returncode == 1 and "can be built in: Not a directory" in refused.stdout


# ---------------------------------------------------------------------------- classes


MODULES = {
    "nemo_export/tensorrt_llm.py": """
import json, os
class TensorRTLLM:
    def __init__(self, model_dir, load_model=True, use_python_runtime=True):
        self.said = {"init": [model_dir, load_model, use_python_runtime]}
    def export(self, nemo_checkpoint_path, model_type=None, max_batch_size=8, **EXTRA):
        self.said["export"] = [nemo_checkpoint_path, model_type, max_batch_size]
        json.dump(self.said, open(os.environ["RECORD"], "w"))
""",
    "nemo_deploy/__init__.py": """
import json, os
class DeployPyTriton:
    def __init__(self, triton_model_name, model, http_port=8000, grpc_port=8001):
        self.given, self.triton = [triton_model_name, http_port, grpc_port], None
        self.model = model
    def deploy(self):
        if not os.environ.get("BROKEN"):
            self.triton = "a server"
    def serve(self):
        json.dump({**self.model.said, "deploy": self.given}, open(os.environ["RECORD"], "w"))
""",
}


def classes(folder: Path, mode: str, extra: str = "", **given: Any) -> Any:
    """The worker over modules that stand in for Export-Deploy's, and what they were told."""
    for name, text in MODULES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace(", **EXTRA", extra))
    document = {
        "export_module": "nemo_export.tensorrt_llm", "deploy_module": "nemo_deploy",
        "http_port": "http_port", "grpc_port": "grpc_port", "tables": [],
        "init": {"load_model": mode == "load", "use_python_runtime": False},
        "export": {"model_type": "llama", "max_batch_size": 4}, "deploy": {"triton_model_name": "m"},
    }  # fmt: skip
    (folder / "arguments.json").write_text(json.dumps(document | given.pop("document", {})))
    return run(
        "nemo_trtllm", "run", "--mode", mode, "--arguments", str(folder / "arguments.json"),
        "--engine", "/engine", "--checkpoint", "/c.nemo", "--http-port", "18000",
        PYTHONPATH=str(folder), RECORD=str(folder / "record"), **given,
    )  # fmt: skip


def test_the_classes_are_called_with_what_was_planned(tmp_path: Path) -> None:
    done = classes(tmp_path, "serve")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "record").read_text()) == {
        "init": ["/engine", False, False],
        "export": ["/c.nemo", "llama", 4],
        "deploy": ["m", 18000, 8001],
    }


def test_an_export_through_the_classes_serves_nothing(tmp_path: Path) -> None:
    assert classes(tmp_path, "export").returncode == 0
    assert "deploy" not in json.loads((tmp_path / "record").read_text())


def test_an_argument_that_the_installed_class_lacks_is_refused_before_the_build(
    tmp_path: Path,
) -> None:
    document = {"export": {"model_type": "llama", "n_gpus": 1}}
    done = classes(tmp_path, "serve", document=document)
    assert done.returncode == 1 and not (tmp_path / "record").exists()
    assert "TensorRTLLM.export takes no n_gpus here" in done.stdout.splitlines()[-1]


def test_a_server_that_upstream_lost_silently_is_a_failure(tmp_path: Path) -> None:
    done = classes(tmp_path, "load", BROKEN="1")
    assert done.returncode == 1 and "the server did not start" in done.stdout


def test_a_missing_package_is_said_in_words(tmp_path: Path) -> None:
    done = classes(tmp_path, "load", document={"export_module": "tensorrt_llm_of_nobody"})
    assert done.returncode == 1 and "cannot import tensorrt_llm_of_nobody" in done.stdout


# ---------------------------------------------------------------------------- the plan's script


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return upstream.place(tmp_path)


def script(place: Path, name: str, generation: str, rest: str) -> None:
    upstream.install(place, name, generation, rest.replace("RECORD", repr(str(place / "record"))))


def planned(place: Path, **options: Any) -> Plan:
    made = Deployment.model_validate(
        {
            "name": "llama",
            "backend": BACKEND.name,
            "checkpoints": {"model": str(samples.nemo_language().path)},
            "options": {
                "place": "environment", "scripts_root": str(place / "nemo"), **options
            },
            "server": {"http_port": 0, "grpc_port": 0, "metrics_port": 0},
            "environments": {ENVIRONMENT: {"use": str(place / "env")}},
        }
    )  # fmt: skip
    found = {"model": samples.nemo_language()}
    return BACKEND.plan(made, found, samples.GPU_HOST, ToolFacts())


def bash(place: Path, made: Plan) -> subprocess.CompletedProcess[str]:
    return shell.run(place, render(made))


def recorded(place: Path) -> list[str]:
    found: list[str] = json.loads((place / "record").read_text())
    return found


@pytest.mark.parametrize("generation", ["nemo-24.07", "nemo-25.04", "ed-0.4"])
def test_the_script_gives_upstream_exactly_the_planned_words(place: Path, generation: str) -> None:
    script(place, DEPLOY, generation, SERVING)
    made = planned(place, generation=generation, lora_ckpt=["/l 1", "/l 2"], debug_mode=True)
    done = bash(place, made)
    assert done.returncode == 0, done.stdout + done.stderr
    service = next(step for step in made.steps if isinstance(step, ServiceStep))
    heard = recorded(place)
    assert heard == upstream.heard(place, "llama", service.service.process.argv, heard)


def test_an_unknown_flag_ends_the_script_before_upstream_runs(place: Path) -> None:
    script(place, DEPLOY, "ed-0.4", SERVING)
    done = bash(place, planned(place, task_ids=["a"], ptuning_nemo_checkpoint=["/t"],
                               max_prompt_embedding_table_size=9))  # fmt: skip
    assert done.returncode != 0 and not (place / "record").exists()
    assert "there is no flag --ptuning_nemo_checkpoint here" in done.stdout


def test_an_error_that_comes_as_an_answer_fails_the_script(place: Path) -> None:
    script(place, DEPLOY, "nemo-25.04", SERVING.replace("ANSWER", "An error occurred: no memory"))
    done = bash(place, planned(place))
    assert done.returncode != 0 and "An error occurred: no memory" in done.stderr


@pytest.mark.parametrize("ranks", [1, 0])
def test_an_export_is_proved_by_an_engine_for_every_rank(place: Path, ranks: int) -> None:
    rest = ENGINE.replace("RANKS", str(ranks))
    script(place, "scripts/export/export_to_trt_llm.py", "nemo-25.04", rest)
    made = planned(place, mode="export", tensor_parallel_size=2)
    done = bash(place, made)
    assert (done.returncode == 0) is bool(ranks), done.stdout + done.stderr
    command = made.step("export")
    assert isinstance(command, CommandStep)
    assert recorded(place) == upstream.heard(place, "llama", command.command.argv, [])
    if not ranks:
        assert "0 engine files for 2 ranks" in done.stdout
