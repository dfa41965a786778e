"""The step that puts the graph into the model repository: exported by NeMo, or copied and checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backends import onnx_requests, speech
from backends.onnx_serving import verification
from backends.onnx_work import REPORT, SAMPLES, SIGNATURE, Work
from backends.sources import WORKERS, version_folder, worker
from console.facts import TensorSpec
from console.planning.plan import (
    Command,
    CommandStep,
    ExitCode,
    FileExists,
    FileSpec,
    InputFile,
    JsonFile,
    join,
)
from console.planning.variables import literal

NEMO_WORKERS = ("nemo_to_onnx", "nemo_archive", "nemo_model", "nemo_compare")
SOUNDS = 5
"""How many verify files the export is compared with as well."""


def worker_files(work: Work) -> tuple[FileSpec, ...]:
    """The scripts of `graph_step`, and what they expect of the graph."""
    scripts = NEMO_WORKERS if work.exported else ("onnx_to_repository",)
    predicted = json.dumps(_predicted(work), indent=2) + "\n"
    return (*map(worker, scripts), FileSpec(path=SIGNATURE, text=predicted))


def graph_step(work: Work) -> CommandStep:
    """Writes the graph, and proves it before a server opens it."""
    return _export(work) if work.exported else _copy(work)


def _predicted(work: Work) -> dict[str, Any]:
    if work.exported:
        return {**speech.signature(work.checkpoint, work.head)}

    def listed(tensors: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in tensors]

    predicted: dict[str, Any] = {
        "inputs": listed(work.graph.inputs),
        "outputs": listed(work.graph.outputs),
    }
    predicted["sample"] = onnx_requests.sample(work.graph, work.request_graph, work.batching)
    return predicted


def _export(work: Work) -> CommandStep:
    options, graph_folder = work.options, version_folder(work.graph_model)
    script, sources = join(WORKERS, "nemo_to_onnx.py"), version_folder(work.name)
    checkpoint = literal(str(work.checkpoint.path))
    sounds = [literal(c.input) for c in work.deployment.verify if c.input][:SOUNDS]
    argv = ["${env_nemo}/bin/python", script, "--checkpoint", checkpoint]
    argv += ["--graph-folder", graph_folder, "--frontend-folder", sources, "--sources", sources]
    argv += ["--report", REPORT, "--signature", SIGNATURE, "--sample", f"{SAMPLES}/sample.wav"]
    argv += ["--max-seconds", f"{speech.longest_seconds(work.checkpoint):g}"]
    argv += ["--decoder", work.head, "--opset", str(options.opset), "--device", options.device]
    argv += ["--tolerance", f"{options.tolerance:g}"]
    if work.head == "rnnt" and options.max_symbols:
        argv += ["--max-symbols", str(options.max_symbols)]
    for sound in sounds:
        argv += ["--sound", sound]
    argv += ["--masked"] if work.masked else []
    argv += ["--language", work.language] if work.language else []
    argv += ["--verbose"] if options.verbose else []
    workers = [join(WORKERS, f"{name}.py") for name in NEMO_WORKERS]
    served = [join(sources, f"{name}.py") for name in work.sources]
    outputs = (*_exported_files(work, graph_folder, sources), f"{SAMPLES}/sample.wav", REPORT)
    expect = {"max_abs_diff": {"max": options.tolerance}, "decisions_equal": True}
    if work.text:
        expect |= {"vocabulary_equal": True, "text_equal": True}
    return CommandStep(
        id="export",
        title="export to ONNX",
        why="NeMo writes the graph; ONNX Runtime and PyTorch must then agree on the same sound",
        inputs=_inputs(checkpoint, *workers, SIGNATURE, *served, *sounds),
        outputs=outputs,
        success=(
            ExitCode(),
            *(FileExists(path=path) for path in outputs),
            JsonFile(path=REPORT, expect=expect),
        ),
        command=Command(argv=tuple(argv), runtime="environment:nemo", env=_network(work)),
    )


def _exported_files(work: Work, graphs: str, sources: str) -> tuple[str, ...]:
    """What the export publishes (a large graph's data aside)."""
    beside = {
        "ctc": ("vocabulary.json",),
        "rnnt": ("vocabulary.json", "transducer.json"),
    }.get(work.head, ("labels.json",))
    search = (join(graphs, "decoder_joint.onnx"),) if work.head == "rnnt" else ()
    files = (join(sources, name) for name in ("frontend.npz", *beside))
    return (join(graphs, "model.onnx"), *search, *files)


def _network(work: Work) -> dict[str, str]:
    """No checkpoint needs the hub to be restored, but for one kind of tokenizer (see the checks)."""
    spoken = work.checkpoint.speech
    return {} if spoken and spoken.tokenizer == "wpe" else {"HF_HUB_OFFLINE": "1"}


def _copy(work: Work) -> CommandStep:
    folder, path = work.staged or version_folder(work.name), work.checkpoint.path
    script, graph = join(WORKERS, "onnx_to_repository.py"), literal(str(path))
    sidecars = [literal(name) for name in work.graph.external_data]
    argv = ["${env_embedded}/bin/python", script, "--graph", graph, "--into", folder]
    argv += ["--signature", SIGNATURE, "--report", REPORT]
    for name in sidecars:
        argv += ["--sidecar", name]
    made: list[str] = []
    if not work.deployment.verify:
        argv += ["--samples", SAMPLES]
        (case,) = verification(work)
        made = [tensor.file for tensor in case.inputs if tensor.file]
        made += [expected.near_file for expected in case.expect if expected.near_file]
    outputs = (
        join(folder, "model.onnx"),
        *(join(folder, name) for name in sidecars),
        *made,
        REPORT,
    )
    beside = path if path.suffix != ".onnx" else path.parent
    return CommandStep(
        id="graph",
        title="copy and check the graph",
        why="ONNX Runtime opens the graph and its data before a server does",
        inputs=_inputs(graph, script, SIGNATURE, *(literal(str(beside / n)) for n in _raw(work))),
        outputs=outputs,
        success=(ExitCode(), *(FileExists(path=item) for item in outputs)),
        command=Command(argv=tuple(argv), runtime="environment:embedded"),
    )


def _raw(work: Work) -> tuple[Path, ...]:
    return tuple(Path(name) for name in work.graph.external_data)


def _inputs(*paths: str) -> tuple[InputFile, ...]:
    return tuple(InputFile(path=path) for path in paths)
