"""The multimodal plan's script, with recorders in upstream's place; the worker over NeMo's classes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.nemo_multimodal import NemoMultimodalBackend
from backends.upstream.place import ENVIRONMENT
from console.checkpoints.model import Checkpoint
from console.facts import ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import CommandStep, Plan, ServiceStep
from console.planning.script import render
from tests import mediafiles, shell, upstream
from tests.contract import samples
from tests.shell import ANSWERS

WORKERS = Path(__file__).parents[2] / "backends" / "workers"
BACKEND = NemoMultimodalBackend()
DEPLOY = "scripts/deploy/multimodal/deploy_triton.py"
EXPORT = "scripts/export/export_mm_to_trtllm.py"
NEVA_EXPORT = "examples/multimodal/multimodal_llm/neva/neva_export.py"
EXTRACT = "examples/multimodal/speech_llm/export/extract_salm_weights.py"
MERGE = "scripts/nlp_language_modeling/merge_lora_weights/merge.py"
RECORDED = """
import json, pathlib, sys
pathlib.Path(RECORD).mkdir(exist_ok=True)
with open(pathlib.Path(RECORD, "NAME"), "w") as file:
    json.dump(sys.argv[1:], file)
"""
SERVING = (
    ANSWERS
    + """
def answered(headers, body):
    head = json.loads(body[: int(headers["Inference-Header-Content-Length"])])
    told = {one["name"]: one["shape"] for one in head["inputs"]}
    with open(pathlib.Path(RECORD, "shapes"), "w") as file:
        json.dump(told, file)
    return {"outputs": [
        {"name": "outputs", "shape": [1, 1], "datatype": "BYTES", "data": ["ANSWER"]}
    ]}

http.server.HTTPServer((args.triton_http_address, args.triton_port), Handler).serve_forever()
"""
)
ENGINES = """
def built(folder, ranks, encoder):
    inner = pathlib.Path(folder) / "llm_engine" / "trtllm_engine"
    inner.mkdir(parents=True)
    (inner / "config.json").write_text(json.dumps({"version": "0.18", "build_config": {}}))
    for rank in range(ranks):
        (inner / f"rank{rank}.engine").write_text("engine")
    if encoder:
        (pathlib.Path(folder) / encoder).mkdir()
        (pathlib.Path(folder) / encoder / "visual_encoder.engine").write_text("engine")
"""
PARTS = """
out = pathlib.Path(args.output_dir)
name = pathlib.Path(args.model_file_path).name.split(".")[0]
(out / f"{name}_perception").mkdir(parents=True)
(out / f"{name}_perception" / "model_weights.ckpt").write_text("weights")
(out / f"{name}_lora.nemo").write_text("lora")
(out / f"{name}_llm.nemo").write_text("llm")
"""
HYDRA = "given = dict(word.split('=', 1) for word in sys.argv[1:])\n"
MERGED = "pathlib.Path(given['merged_model_path'].strip('\"')).write_text('merged')\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return upstream.place(tmp_path)


def install(place: Path, name: str, generation: str, rest: str = "") -> None:
    """A script that records what it is given, and goes on with `rest`."""
    body = (RECORDED + rest).replace("RECORD", repr(str(place / "said")))
    upstream.install(place, name, generation, body.replace("NAME", Path(name).name))


def planned(place: Path, model: Checkpoint, *verify: Any, **options: Any) -> Plan:
    made = Deployment.model_validate(
        {
            "name": "neva",
            "backend": BACKEND.name,
            "checkpoints": {"model": str(model.path)},
            "options": {"place": "environment", "scripts_root": str(place / "nemo"), **options},
            "server": {"http_port": 0, "grpc_port": 0, "metrics_port": 0},
            "environments": {ENVIRONMENT: {"use": str(place / "env")}},
            "verify": verify,
        }
    )
    return BACKEND.plan(made, {"model": model}, samples.GPU_HOST, ToolFacts())


def bash(place: Path, made: Plan) -> subprocess.CompletedProcess[str]:
    return shell.run(place, render(made), PYTHONPATH=str(place / "modules"))


def said(place: Path, script: str) -> Any:
    return json.loads((place / "said" / Path(script).name).read_text())


@pytest.mark.parametrize("generation", ["nemo-24.07", "nemo-25.04", "ed-0.4"])
def test_the_script_gives_upstream_exactly_the_planned_words(place: Path, generation: str) -> None:
    install(place, DEPLOY, generation, SERVING)
    made = planned(place, samples.multimodal(), generation=generation, max_input_len=5000)
    done = bash(place, made)
    assert done.returncode == 0, done.stdout + done.stderr
    service = next(step for step in made.steps if isinstance(step, ServiceStep))
    heard = said(place, DEPLOY)
    assert heard == upstream.heard(place, "neva", service.service.process.argv, heard)
    shapes = said(place, "shapes")
    assert shapes["input_media"] == [1, 1, 64, 64, 3] and shapes["input_text"] == [1, 1]


def test_a_verified_picture_is_read_by_nemos_client(place: Path) -> None:
    install(place, DEPLOY, "nemo-25.04", SERVING)
    module = place / "modules" / "nemo" / "deploy" / "multimodal.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "import numpy as np\nfrom PIL import Image\n"
        "class NemoQueryMultimodal:\n"
        "    def __init__(self, url, model_name, model_type): pass\n"
        "    def setup_media(self, path): return np.array(Image.open(path))[None]\n"
    )
    picture = mediafiles.picture(place / "a picture's.png")
    case = {"input": str(picture), "text": "What is this?", "expect": "ANSWER"}
    done = bash(place, planned(place, samples.multimodal("vila"), case))
    assert done.returncode == 0, done.stdout + done.stderr
    assert said(place, "shapes")["input_media"] == [1, 1, 48, 64, 3]
    wrong = bash(place, planned(place, samples.multimodal("vila"), {**case, "expect": "a cat"}))
    assert wrong.returncode != 0 and "expected 'a cat'" in wrong.stderr


def test_an_unknown_flag_ends_the_script_before_upstream_runs(place: Path) -> None:
    install(place, DEPLOY, "nemo-24.07", SERVING)
    done = bash(place, planned(place, samples.multimodal(), vision_max_batch_size=4))
    assert done.returncode != 0 and not (place / "said").exists()
    assert "there is no flag --vision_max_batch_size here" in done.stdout


def test_an_error_that_comes_as_an_answer_fails_the_script(place: Path) -> None:
    install(place, DEPLOY, "nemo-25.04", SERVING.replace("ANSWER", "An error occurred: no memory"))
    done = bash(place, planned(place, samples.multimodal()))
    assert done.returncode != 0 and "An error occurred: no memory" in done.stderr


def test_salm_is_taken_apart_merged_and_served_from_its_parts(place: Path) -> None:
    for name, rest in ((EXTRACT, PARTS), (MERGE, HYDRA + MERGED), (DEPLOY, SERVING)):
        install(place, name, "nemo-25.04", rest)
    model = replace(samples.salm(), path=Path("/models/it's a salm.v1.nemo"))
    done = bash(place, planned(place, model))
    assert done.returncode == 0, done.stdout + done.stderr
    parts = place / "neva" / "salm"
    heard = said(place, DEPLOY)
    assert heard[heard.index("--visual_checkpoint") + 1] == f"{parts}/it's a salm_perception"
    assert heard[heard.index("--llm_checkpoint") + 1] == f"{parts}/merged.nemo"
    assert f'gpt_model_file="{parts}/it\'s a salm_llm.nemo"' in said(place, MERGE)
    shapes = said(place, "shapes")
    assert shapes["input_signal"] == [1, 16_000] and shapes["input_signal_length"] == [1, 1]


@pytest.mark.parametrize(
    ("ranks", "encoder", "said_"),
    [
        (2, "visual_engine", ""),
        (1, "visual_engine", "1 engine files for 2 ranks"),
        (2, "", "holds no engine of an encoder"),
    ],
)
def test_an_export_is_proved_by_an_encoder_and_an_engine_for_every_rank(
    place: Path, ranks: int, encoder: str, said_: str
) -> None:
    rest = ENGINES + f"built(args.output_dir, {ranks}, {encoder!r})\n"
    install(place, EXPORT, "ed-0.3", rest)
    made = planned(place, samples.multimodal(), mode="export", generation="ed-0.3", num_gpus=2)
    done = bash(place, made)
    assert (done.returncode == 0) is not bool(said_), done.stdout + done.stderr
    assert said_ in done.stdout
    command = made.step("export")
    assert isinstance(command, CommandStep)
    assert said(place, EXPORT) == upstream.heard(place, "neva", command.command.argv, [])


def test_neva_export_gets_its_overrides_as_single_words(place: Path) -> None:
    folder = "given['infer.output_dir'].strip('\"')"
    install(
        place, NEVA_EXPORT, "nemo-25.04",
        HYDRA + ENGINES + f"built({folder}, 1, 'visual_engine')\n",
    )  # fmt: skip
    model = replace(samples.multimodal("lita"), path=Path("/models/a lita.nemo"))
    done = bash(place, planned(place, model, mode="export"))
    assert done.returncode == 0, done.stdout + done.stderr
    heard = dict(word.split("=", 1) for word in said(place, NEVA_EXPORT))
    assert heard["model.visual_model_path"] == '"/models/a lita.nemo"'
    assert heard["model.type"] == "lita" and heard["infer.vision_max_batch_size"] == "256"
    assert heard["model.llm_model_path"] == "null"


# ---------------------------------------------------------------------------- classes


MODULES = {
    "nemo_export/tensorrt_mm_exporter.py": """
import json, os
class TensorRTMMExporter:
    def __init__(self, model_dir, load_model=True, modality="vision"):
        self.said = {"init": [model_dir, load_model, modality]}
    def export(self, visual_checkpoint_path, llm_checkpoint_path=None, model_type="neva"):
        self.said["export"] = [visual_checkpoint_path, llm_checkpoint_path, model_type]
""",
    "nemo_deploy/__init__.py": """
import json, os
class DeployPyTriton:
    def __init__(self, triton_model_name, model, http_port=8000, grpc_port=8001):
        self.triton, self.model = "a server", model
    def deploy(self):
        pass
    def serve(self):
        json.dump(self.model.said, open(os.environ["RECORD"], "w"))
""",
}


def test_the_multimodal_classes_are_called_with_what_was_planned(tmp_path: Path) -> None:
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    document = {
        "export_module": "nemo_export.tensorrt_mm_exporter", "export_class": "TensorRTMMExporter",
        "paths": {"checkpoint": "visual_checkpoint_path", "language": "llm_checkpoint_path"},
        "deploy_module": "nemo_deploy", "http_port": "http_port", "grpc_port": "grpc_port",
        "init": {"load_model": False, "modality": "audio"}, "export": {"model_type": "salm"},
        "deploy": {"triton_model_name": "m"},
    }  # fmt: skip
    (tmp_path / "arguments.json").write_text(json.dumps(document))
    argv = [
        sys.executable, str(WORKERS / "nemo_trtllm.py"), "run", "--mode", "serve",
        "--arguments", str(tmp_path / "arguments.json"), "--engine", "/engine",
        "--checkpoint", "/perception", "--language", "/llm.nemo",
    ]  # fmt: skip
    environ = {"PYTHONPATH": str(tmp_path), "RECORD": str(tmp_path / "record")}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "record").read_text()) == {
        "init": ["/engine", False, "audio"], "export": ["/perception", "/llm.nemo", "salm"],
    }  # fmt: skip
