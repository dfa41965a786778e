"""The model repository of the retrieval route: configurations, ensembles, sources, store settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backends.retrieval.work import PAIR, SENTENCE, STORE, Work
from backends.sources import model_files, model_folder, version_folder
from console.facts import TensorSpec
from console.planning.plan import FileSpec, join
from console.planning.variables import literal
from console.triton.repository import (
    DynamicBatching,
    Instances,
    ensemble_config,
    model_config,
    to_text,
)

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

ADAPTER_KEY = "tritondeck_adapter"
ADAPTER = "clip-retrieval:match"
IMAGE = TensorSpec("IMAGE", "BYTES", (-1, 1))
TEXT = TensorSpec("TEXT", "BYTES", (-1, 1))
IDS = TensorSpec("input_ids", "INT64", (-1, -1))
MASK = TensorSpec("attention_mask", "INT64", (-1, -1))
MATCH_INPUTS = (
    TensorSpec("IMAGE", "BYTES", (-1, 1), optional=True),
    TensorSpec("TEXT", "BYTES", (-1, 1), optional=True),
    TensorSpec("TOP", "INT32", (-1, 1), optional=True),
    TensorSpec("FILTER", "BYTES", (-1, 1), optional=True),
    TensorSpec("AGAINST", "BYTES", (-1, 1), optional=True),
    TensorSpec("CANDIDATES", "BYTES", (-1, 1), optional=True),
)
MATCH_OUTPUTS = (
    TensorSpec("BEST", "BYTES", (-1, 1)),
    TensorSpec("SCORE", "FP32", (-1, 1)),
    TensorSpec("MATCHES", "BYTES", (-1, 1)),
)
STORE_SOURCES = ("store", "postgres", "qdrant", "private", "packages")


def repository_files(work: Work) -> tuple[FileSpec, ...]:
    """Every file that is known before the towers are exported."""
    files = [*_images(work), *_texts(work, "tokens", "text", "text_embed", work.towers.dimension)]
    if work.sentence is not None:
        dimension = work.sentence.dimension
        files += _texts(work, "sentence_tokens", "sentence", "sentence_embed", dimension)
    return (*files, *_match(work))


def _images(work: Work) -> Iterator[FileSpec]:
    size = work.towers.size
    pixels = TensorSpec("pixel_values", "FP32", (-1, 3, size, size))
    yield from _front(work, "pixels", (IMAGE,), (pixels,), "pixels")
    embeds = TensorSpec("image_embeds", "FP32", (-1, work.towers.dimension))
    yield from _tower(work, "vision", (pixels,), embeds)
    yield from _ensemble(work, "image_embed", IMAGE, ("pixels", "vision"), (pixels,), embeds)


def _texts(work: Work, front: str, tower: str, whole: str, dimension: int) -> Iterator[FileSpec]:
    masked = tower == "sentence" or work.towers.masked
    ids = (IDS, MASK) if masked else (IDS,)
    yield from _front(work, front, (TEXT,), ids, "tokens")
    embeds = TensorSpec("text_embeds", "FP32", (-1, dimension))
    yield from _tower(work, tower, ids, embeds)
    yield from _ensemble(work, whole, TEXT, (front, tower), ids, embeds)


def _batching(work: Work) -> DynamicBatching | None:
    options = work.options
    return DynamicBatching(options.max_queue_delay_us) if options.dynamic_batching else None


def _settings(work: Work, count: int, kind: str = "cpu") -> dict[str, Any]:
    return {
        "max_batch_size": work.options.max_batch_size,
        "dynamic_batching": _batching(work),
        "instances": Instances(count, "gpu" if kind == "cuda" else "cpu"),
    }


def _front(
    work: Work,
    part: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    source: str,
) -> Iterator[FileSpec]:
    """A python model in front of a tower."""
    name = work.model(part)
    parameters = {"packages": work.packages, "tritondeck_deployment": work.deployment.name}
    settings = _settings(work, work.options.front_instances)
    if source == "pixels":
        # One image costs what one image costs: a batch would only make the first ones wait.
        settings |= {"dynamic_batching": None}
    config = model_config(name, inputs, outputs, parameters=parameters, **settings)
    yield from _config(work, name, config)
    yield from model_files(f"retrieval_{source}", ("model",), version_folder(name))
    yield from _shared((source, "packages"), version_folder(name))


def _tower(
    work: Work, part: str, inputs: tuple[TensorSpec, ...], output: TensorSpec
) -> Iterator[FileSpec]:
    """One graph: in Triton's onnxruntime backend, or in our python model."""
    name, options = work.model(part), work.options
    settings = _settings(work, options.instance_count, options.device)
    if work.form == "onnxruntime":
        config = model_config(name, inputs, (output,), backend="onnxruntime", **settings)
        if options.threads:
            config.parameters["intra_op_thread_count"].string_value = str(options.threads)
        yield from _config(work, name, config)
        return
    parameters = {
        "device": options.device,
        "threads": str(options.threads),
        "verbose": "true" if options.verbose else "false",
        "tritondeck_deployment": work.deployment.name,
    }
    config = model_config(name, inputs, (output,), parameters=parameters, **settings)
    yield from _config(work, name, config)
    yield from model_files("onnx_runtime", ("model",), version_folder(name))


def _ensemble(
    work: Work,
    part: str,
    given: TensorSpec,
    steps: tuple[str, str],
    between: tuple[TensorSpec, ...],
    made: TensorSpec,
) -> Iterator[FileSpec]:
    """Front model and tower as one model: what goes in as a file or text comes out as a vector."""
    name = work.model(part)
    passed = {tensor.name: tensor.name for tensor in between}
    config = ensemble_config(
        name,
        (given,),
        (TensorSpec("EMBEDDING", "FP32", made.shape),),
        (
            (work.model(steps[0]), {given.name: given.name}, passed),
            (work.model(steps[1]), passed, {made.name: "EMBEDDING"}),
        ),
        max_batch_size=work.options.max_batch_size,
        parameters={"tritondeck_deployment": work.deployment.name},
    )
    yield from _config(work, name, config)


def _match(work: Work) -> Iterator[FileSpec]:
    name, options = work.name, work.options
    parameters = {
        ADAPTER_KEY: ADAPTER,
        "tritondeck_deployment": work.deployment.name,
        "packages": work.packages,
        "image_model": work.model("image_embed"),
        "text_model": work.model("text_embed"),
        "sentence_model": work.model("sentence_embed") if work.sentence else "",
        "image_searches": options.image_searches,
        "text_searches": work.text_searches,
        "top": str(options.top),
    }
    settings = _settings(work, options.front_instances)
    config = model_config(name, MATCH_INPUTS, MATCH_OUTPUTS, parameters=parameters, **settings)
    yield from _config(work, name, config)
    folder = version_folder(name)
    yield from model_files("retrieval_match", ("model",), folder)
    yield from _shared(STORE_SOURCES, folder)
    text = json.dumps(store_settings(work), indent=2) + "\n"
    yield FileSpec(path=join(folder, "store.json"), text=text, template=True)


def store_settings(work: Work) -> dict[str, Any]:
    """What the store's sources read (`backends/models/retrieval/store.py`); strings are templates."""
    options = work.options
    columns = {"image": PAIR, "text": PAIR}
    if work.sentence is not None:
        columns["sentence"] = SENTENCE
    return {
        "kind": options.store,
        "url": literal(options.store_url),
        "folder": STORE,
        "packages": work.packages,
        "password_env": options.store_password_env,
        "password_file": literal(options.store_password_file),
        "collection": options.collection,
        "hnsw_m": options.hnsw_m,
        "hnsw_ef_construction": options.hnsw_ef_construction,
        "ef_search": options.ef_search,
        "build_memory": f"{options.build_memory_mb}MB",
        "columns": columns,
    }


def _shared(names: tuple[str, ...], folder: str) -> tuple[FileSpec, ...]:
    """Sources of `models/retrieval`; the mark against bytecode comes with the model's own."""
    return model_files("retrieval", names, folder)[:-1]


def _config(work: Work, model: str, config: ModelConfig) -> Iterator[FileSpec]:
    """Each version keeps its configuration; the one that Triton reads is a copy of the live one's,
    put there when the version is loaded, or here for a server that loads by itself. It is a template:
    an ensemble names the versions that it is made of, a model the environment of its packages."""
    folders = [version_folder(model)]
    if work.deployment.server.control == "none":
        folders.append(model_folder(model))
    text = to_text(config)
    for folder in folders:
        yield FileSpec(path=join(folder, "config.pbtxt"), text=text, template=True)
