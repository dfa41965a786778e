"""The steps of the ONNX route.

environments → workers → repository (configuration and sources) → graph (export or copy, compared and
checked) → service → load → verify. The configuration is written before the graph exists, from the
signature that the checkpoint's facts predict; the graph step fails when the real one differs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends import labels, onnx_requests, speech
from backends.environments import environment
from backends.onnx_checks import accepts, triton_backends
from backends.onnx_options import OnnxOptions
from backends.sources import WORKERS, model_files, worker
from console.checkpoints.model import Checkpoint, Format, GraphFacts
from console.facts import Level, TensorSpec, ToolFacts, UsageError
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    CommandStep,
    EnvironmentSpec,
    EnvironmentStep,
    ExitCode,
    FileExists,
    FileSpec,
    Inference,
    InputFile,
    JsonFile,
    LoadStep,
    Plan,
    ServiceStep,
    Step,
    UrlReady,
    VerifyStep,
    WriteStep,
    join,
)
from console.planning.variables import literal
from console.triton import embedded
from console.triton.repository import DynamicBatching, Instances, model_config, to_text

REPORT = "${work}/export/report.json"
SAMPLES = "${work}/export/samples"
SIGNATURE = join(WORKERS, "signature.json")
SHARED_SOURCES = ("sound", "features", "graphs")
TEXT_SOURCES = (*SHARED_SOURCES, "decoding", "transducer")
NEMO_WORKERS = ("nemo_to_onnx", "nemo_archive", "nemo_model", "nemo_compare")
SOUNDS = 5
"""How many verify files the export is compared with as well."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every step needs to know."""

    deployment: Deployment
    options: OnnxOptions
    checkpoint: Checkpoint
    form: str
    """``onnxruntime`` or ``python``"""

    @property
    def name(self) -> str:
        return self.deployment.served_name

    @property
    def folder(self) -> str:
        return model_folder(self.name)

    @property
    def exported(self) -> bool:
        return self.checkpoint.format is Format.NEMO

    @property
    def head(self) -> speech.Head:
        """The head of a speech checkpoint that is served."""
        return speech.head(self.checkpoint, self.options.decoder)

    @property
    def text(self) -> bool:
        return self.head in speech.TEXT_HEADS

    @property
    def sources(self) -> tuple[str, ...]:
        return TEXT_SOURCES if self.text else SHARED_SOURCES

    @property
    def languages(self) -> tuple[str, ...]:
        spoken = self.checkpoint.speech
        return spoken.languages if spoken is not None and self.text else ()

    @property
    def masked(self) -> bool:
        """Whether the head means something only within one language."""
        return bool(self.languages) and speech.is_fork(self.checkpoint)

    @property
    def batching(self) -> bool:
        return self.options.max_batch_size > 0

    @property
    def graph_model(self) -> str:
        """The model whose version folder holds ``model.onnx``."""
        return (
            f"{self.name}_acoustic" if self.exported and self.form == "onnxruntime" else self.name
        )

    @property
    def graph(self) -> GraphFacts:
        if self.exported:
            assert self.head == "ctc", "other heads have no graph of their own in the server"
            return speech.acoustic_graph(self.checkpoint, self.options.opset)
        assert self.checkpoint.graph is not None, "accepted checkpoints have a graph"
        return self.checkpoint.graph


def model_folder(model: str) -> str:
    """A model's folder in the repository (template)."""
    return join("${repository}", literal(model))


def version_folder(model: str) -> str:
    return join(model_folder(model), "1")


def plan(
    deployment: Deployment, options: OnnxOptions, checkpoint: Checkpoint, tools: ToolFacts
) -> Plan:
    """The plan. Raises `UsageError` for a checkpoint that is not accepted, a launcher that this
    version cannot start, and verify cases that do not fit the model."""
    verdict = accepts(checkpoint)
    if verdict.level is not Level.PASS:
        raise UsageError(
            f"the onnx route does not take {checkpoint.path.name}",
            why=verdict.summary,
            fix=verdict.fix,
        )
    if deployment.server.launcher != "embedded":
        raise UsageError(
            f"the launcher {deployment.server.launcher} is not there yet",
            fix='set [server] launcher = "embedded"',
        )
    form, note = choose_form(deployment, options, tools)
    if checkpoint.speech is not None and speech.head(checkpoint, options.decoder) != "ctc":
        form, note = (
            "python",
            "our python model runs the graph in ONNX Runtime, with what is around it",
        )
    work = Work(deployment, options, checkpoint, form)
    environments = [environment("embedded", deployment)]
    if work.exported:
        environments.insert(0, environment("nemo", deployment))
    steps: list[Step] = [_environment_step(spec) for spec in environments]
    steps += [_workers(work), _repository(work), _export(work) if work.exported else _copy(work)]
    steps += _serving(work)
    return Plan(
        deployment=deployment.name,
        backend="onnx",
        variables=embedded.variables(deployment),
        environments=tuple(environments),
        steps=tuple(steps),
        notes=(note, *_notes(work)),
    )


def choose_form(deployment: Deployment, options: OnnxOptions, tools: ToolFacts) -> tuple[str, str]:
    """The serving form, and the sentence that says why."""
    there = triton_backends(deployment, tools)
    if options.form == "onnxruntime" or (options.form == "auto" and "onnxruntime" in there):
        reason = "as asked" if options.form == "onnxruntime" else "the server has it"
        return "onnxruntime", f"the graph runs in Triton's onnxruntime backend: {reason}"
    reason = "as asked" if options.form == "python" else "this server has no onnxruntime backend"
    return "python", f"our python model runs the graph in ONNX Runtime: {reason}"


def _notes(work: Work) -> tuple[str, ...]:
    notes = []
    if work.exported:
        spoken = work.checkpoint.speech
        assert spoken is not None, "only speech checkpoints are exported"
        if spoken.decoder == "hybrid":
            through = "CTC head" if work.head == "ctc" else "transducer (decoder = rnnt)"
            notes.append(f"the hybrid checkpoint is served through its {through}")
        if spoken.streaming:
            notes.append(
                "the checkpoint can stream (cache-aware), but is served offline: "
                "whole recordings in, no partial answers"
            )
        if work.languages:
            notes.append(_language_note(work))
        longest = speech.longest_seconds(work.checkpoint)
        action = (
            f"longer ones are cut into chunks of at most {work.options.chunk_seconds:g} s"
            if work.options.long_audio == "chunk"
            else "longer ones are refused"
        )
        notes.append(f"recordings of up to {longest:g} s are recognised whole; {action}")
    if not work.deployment.verify:
        notes.append("no [[verify]] case is given: the plan proves an answer, not the right one")
    return tuple(notes)


def _language_note(work: Work) -> str:
    known = ", ".join(work.languages)
    default = work.options.language
    if default:
        return f"LANG chooses among {known}; a request without it is in {default}"
    if work.masked and len(work.languages) > 1:
        return f"every request names its language in LANG: {known}"
    return f"LANG keeps an answer to one language ({known}); without it any is heard"


# ---------------------------------------------------------------------------- build


def _environment_step(spec: EnvironmentSpec) -> EnvironmentStep:
    what = "exports the checkpoint" if spec.name == "nemo" else "runs Triton"
    return EnvironmentStep(
        id=f"environment-{spec.name}",
        title=f"environment: {spec.title}",
        why=f"the Python environment that {what}, apart from the console's own",
        environment=spec.name,
    )


def _workers(work: Work) -> WriteStep:
    scripts = NEMO_WORKERS if work.exported else ("onnx_to_repository",)
    predicted = json.dumps(_predicted(work), indent=2) + "\n"
    files = (
        *map(worker, scripts),
        worker("embedded_triton"),
        FileSpec(path=SIGNATURE, text=predicted),
    )
    return _write(
        "workers",
        "workers",
        "the scripts that run in the environments, and what they expect",
        files,
    )


def _predicted(work: Work) -> dict[str, Any]:
    if work.exported:
        return {**speech.signature(work.checkpoint, work.head)}

    def listed(tensors: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in tensors]

    predicted: dict[str, Any] = {
        "inputs": listed(work.graph.inputs),
        "outputs": listed(work.graph.outputs),
    }
    predicted["sample"] = onnx_requests.sample(work.graph, work.batching)
    return predicted


def _write(step: str, title: str, why: str, files: tuple[FileSpec, ...]) -> WriteStep:
    return WriteStep(
        id=step, title=title, why=why, files=files, outputs=tuple(file.path for file in files)
    )


def _repository(work: Work) -> WriteStep:
    files = list(_speech_files(work) if work.exported else _graph_files(work))
    return _write(
        "repository",
        "model repository",
        "config.pbtxt says which tensors the model takes and answers, and how it is run",
        tuple(files),
    )


def _settings(work: Work) -> dict[str, Any]:
    options = work.options
    kind = options.instance_kind
    if kind == "auto":
        kind = "gpu" if options.device == "cuda" else "cpu"
    batching = DynamicBatching(options.max_queue_delay_us, options.preferred_batch_sizes)
    return {
        "max_batch_size": options.max_batch_size,
        "dynamic_batching": batching if options.dynamic_batching and work.batching else None,
        "instances": Instances(options.instance_count, kind),
    }


def _common_parameters(work: Work) -> dict[str, str]:
    return {
        "device": work.options.device,
        "threads": str(work.options.threads),
        "verbose": _word(work.options.verbose),
        "tritondeck_deployment": work.deployment.name,
    }


def _word(value: bool) -> str:
    return "true" if value else "false"


def _speech_parameters(work: Work) -> dict[str, str]:
    options = work.options
    parameters = _common_parameters(work) | {
        "decoder": work.head,
        "max_seconds": f"{speech.longest_seconds(work.checkpoint):g}",
    }
    if not work.text:
        unit = {"unit_embedding": _word(options.unit_embedding)}
        return parameters | {speech.ADAPTER_KEY: labels.ADAPTER} | unit
    parameters |= {
        speech.ADAPTER_KEY: speech.ADAPTER,
        "chunk_seconds": f"{options.chunk_seconds:g}",
        "long_audio": options.long_audio,
        "word_times": _word(options.word_times),
    }
    if work.languages:
        needed = work.masked and len(work.languages) > 1 and not options.language
        parameters |= {
            "languages": ",".join(work.languages),
            "language": options.language,
            "language_needed": _word(needed),
        }
    return parameters


def _speech_files(work: Work) -> tuple[FileSpec, ...]:
    settings, parameters = _settings(work), _speech_parameters(work)
    remote = work.form == "onnxruntime"
    if work.text:
        inputs, outputs = speech.tensors(work.batching, bool(work.languages))
    else:
        inputs, outputs = labels.tensors(work.batching, work.head)
    if remote:
        parameters["acoustic_model"] = work.graph_model
    front = settings | (
        {"instances": Instances(work.options.instance_count, "cpu")} if remote else {}
    )
    config = model_config(work.name, inputs, outputs, parameters=parameters, **front)
    if settings["dynamic_batching"] is not None:
        # Sounds of unequal length arrive together; the model pads them itself.
        next(t for t in config.input if t.name == "SAMPLES").allow_ragged_batch = True
    files = [_config_file(work.name, to_text(config))]
    package = "speech" if work.text else "labels"
    files += model_files(package, ("model",), version_folder(work.name))
    files += model_files("speech", work.sources, version_folder(work.name))
    if remote:
        # The batches come from our model, whole: the server must not wait for more.
        settings = settings | {"dynamic_batching": None}
        graph = work.graph
        acoustic = model_config(
            work.graph_model, graph.inputs, graph.outputs, backend="onnxruntime", **settings
        )
        files.append(_config_file(work.graph_model, to_text(_threads(work, acoustic))))
    return tuple(files)


def _graph_files(work: Work) -> tuple[FileSpec, ...]:
    graph, settings = work.graph, _settings(work)
    if work.form == "onnxruntime":
        config = model_config(
            work.name, graph.inputs, graph.outputs, backend="onnxruntime", **settings
        )
        return (_config_file(work.name, to_text(_threads(work, config))),)
    config = model_config(
        work.name, graph.inputs, graph.outputs, parameters=_common_parameters(work), **settings
    )
    files = model_files("onnx_runtime", ("model",), version_folder(work.name))
    return (_config_file(work.name, to_text(config)), *files)


def _threads(work: Work, config: Any) -> Any:
    if work.options.threads:
        config.parameters["intra_op_thread_count"].string_value = str(work.options.threads)
    return config


def _config_file(model: str, text: str) -> FileSpec:
    return FileSpec(path=join(model_folder(model), "config.pbtxt"), text=text)


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
    for sound in sounds:
        argv += ["--sound", sound]
    argv += ["--masked"] if work.masked else []
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
    folder, path = version_folder(work.name), work.checkpoint.path
    script, graph = join(WORKERS, "onnx_to_repository.py"), literal(str(path))
    sidecars = [literal(name) for name in work.graph.external_data]
    argv = ["${env_embedded}/bin/python", script, "--graph", graph, "--into", folder]
    argv += ["--signature", SIGNATURE, "--report", REPORT]
    for name in sidecars:
        argv += ["--sidecar", name]
    made: list[str] = []
    if not work.deployment.verify:
        argv += ["--samples", SAMPLES]
        (case,) = _verification(work)
        made = [tensor.file for tensor in case.inputs if tensor.file]
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


# ---------------------------------------------------------------------------- serve


def _serving(work: Work) -> list[Step]:
    deployment = work.deployment
    # A model that others call must be there first.
    models = tuple(dict.fromkeys((work.graph_model, work.name)))
    service = embedded.service(deployment, models, join(WORKERS, "embedded_triton.py"))
    explicit = deployment.server.control == "explicit"
    timeout = 60.0 if explicit else 60.0 + deployment.server.load_timeout * len(models)
    steps: list[Step] = [
        ServiceStep(
            id="service",
            title="start Triton",
            why="the server starts empty; live is not yet ready",
            service=service,
            success=(UrlReady(url=f"{service.http_url}/v2/health/live", timeout=timeout),),
        )
    ]
    if explicit:
        steps.append(
            LoadStep(
                id="load",
                title="load the model",
                why="one request for each model, with a time limit",
                service=service.name,
                models=models,
                model_timeout=deployment.server.load_timeout,
                success=tuple(
                    UrlReady(url=f"{service.http_url}/v2/models/{name}/ready") for name in models
                ),
            )
        )
    steps.append(
        VerifyStep(
            id="verify",
            title="verify",
            why="a model serves only when a real request has the right answer",
            service=service.name,
            success=_verification(work),
        )
    )
    return steps


def _verification(work: Work) -> tuple[Inference, ...]:
    cases = enumerate(work.deployment.verify)
    if not work.exported:
        given = [
            onnx_requests.verify_case(c, i, work.name, work.graph, work.batching) for i, c in cases
        ]
        made = onnx_requests.default_case(work.name, work.graph, work.batching, SAMPLES)
        return tuple(given) or (made,)
    sample = f"{SAMPLES}/sample.wav"
    if not work.text:
        heard = [labels.verify_case(case, i, work.name, work.batching) for i, case in cases]
        return tuple(heard) or (labels.default_case(work.name, work.batching, sample),)
    spoken = [speech.verify_case(case, i, work.name, work.batching) for i, case in cases]
    language = work.languages[0] if work.masked and not work.options.language else ""
    return tuple(spoken) or (speech.default_case(work.name, work.batching, sample, language),)
