"""The model repository of the ONNX route: the configurations, and the sources that run in the server."""

from __future__ import annotations

from typing import Any

from backends import labels, speech
from backends.onnx_work import Work
from backends.sources import model_files, model_folder, version_folder
from console.planning.plan import FileSpec, join
from console.triton.repository import DynamicBatching, Instances, model_config, to_text


def repository_files(work: Work) -> tuple[FileSpec, ...]:
    """Every file of the model repository that is known before the graph is."""
    return _speech_files(work) if work.exported else _graph_files(work)


def settings_of(work: Work) -> dict[str, Any]:
    """Batches and instances, as `model_config` takes them."""
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
    settings, parameters = settings_of(work), _speech_parameters(work)
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
    files = [*config_files(work, work.name, to_text(config))]
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
        files += config_files(work, work.graph_model, to_text(_threads(work, acoustic)))
    return tuple(files)


def _graph_files(work: Work) -> tuple[FileSpec, ...]:
    graph, settings = work.graph, settings_of(work)
    if work.form == "onnxruntime":
        config = model_config(
            work.name, graph.inputs, graph.outputs, backend="onnxruntime", **settings
        )
        return config_files(work, work.name, to_text(_threads(work, config)))
    config = model_config(
        work.name, graph.inputs, graph.outputs, parameters=_common_parameters(work), **settings
    )
    files = model_files("onnx_runtime", ("model",), version_folder(work.name))
    return (*config_files(work, work.name, to_text(config)), *files)


def _threads(work: Work, config: Any) -> Any:
    if work.options.threads:
        config.parameters["intra_op_thread_count"].string_value = str(work.options.threads)
    return config


def config_files(work: Work, model: str, text: str) -> tuple[FileSpec, ...]:
    """Each version keeps its configuration; the one that Triton reads is a copy of the live one's,
    put there when the version is loaded, or here for a server that loads by itself."""
    folders = [version_folder(model)]
    if work.deployment.server.control == "none":
        folders.append(model_folder(model))
    return tuple(FileSpec(path=join(folder, "config.pbtxt"), text=text) for folder in folders)
