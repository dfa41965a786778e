"""Verdicts that only the retrieval route can give."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from backends.doors.retrieval import sentence, towers
from backends.onnx_checks import triton_backends
from backends.retrieval.options import RetrievalOptions
from backends.retrieval.work import ENVIRONMENT
from backends.upstream import flags
from console.checkpoints.model import Checkpoint
from console.facts import Host, Level, ToolFacts, Verdict
from console.planning.deployment import Deployment
from console.storage import is_file
from console.text import clean

LOCAL = ("localhost", "127.0.0.1", "[::1]")


def checks(
    deployment: Deployment,
    options: RetrievalOptions,
    checkpoints: Mapping[str, Checkpoint],
    host: Host,
    tools: ToolFacts,
) -> tuple[Verdict, ...]:
    """Every verdict of this route but the one on the format."""
    return (
        *_spaces(options, checkpoints),
        *_form(deployment, options, tools),
        *_device(options, host),
        *_store(deployment, options),
        *_unused(options),
        *_password(options),
        *_python(deployment, tools),
        *_files(deployment),
    )


def _spaces(options: RetrievalOptions, checkpoints: Mapping[str, Checkpoint]) -> Iterator[Verdict]:
    pair, encoder = towers(checkpoints["model"]), sentence(checkpoints.get("sentence"))
    assert pair is not None, "an accepted checkpoint has towers"
    if options.text_searches == "sentence" and encoder is None:
        yield Verdict(
            "retrieval-spaces",
            Level.FAIL,
            "texts shall search sentence vectors, and no sentence encoder is named",
            fix="name one under [checkpoints] sentence, or set text_searches = auto",
            option="options.text_searches",
        )
        return
    if encoder is None:
        words = f"one space of {pair.dimension} dimensions for images and texts"
    else:
        words = (
            f"images and texts share {pair.dimension} dimensions; the sentence encoder has "
            f"{encoder.dimension} of its own, which only texts are compared in"
        )
    yield Verdict("retrieval-spaces", Level.PASS, words, source="config.json")


def _form(deployment: Deployment, options: RetrievalOptions, tools: ToolFacts) -> Iterator[Verdict]:
    there = triton_backends(deployment, tools)
    if options.form == "onnxruntime" and "onnxruntime" not in there:
        yield Verdict(
            "onnx-form",
            Level.FAIL if there else Level.UNKNOWN,
            "the server has no onnxruntime backend",
            figure=f"Triton backends: {', '.join(sorted(there)) or 'not probed'}",
            source=f"launcher {deployment.server.launcher}",
            fix='set form = "auto": our python model gives the same answers',
            option="options.form",
        )
    else:
        yield Verdict("onnx-form", Level.PASS, "the server can run the towers")


def _device(options: RetrievalOptions, host: Host) -> Iterator[Verdict]:
    if options.device == "cuda" and not host.gpus:
        yield Verdict(
            "onnx-device",
            Level.FAIL,
            "a GPU is asked for and there is none",
            figure=host.gpu_note,
            source="NVML",
            fix='set device = "cpu"',
            option="options.device",
        )
    else:
        yield Verdict("onnx-device", Level.PASS, f"the towers run on {options.device}")


def _store(deployment: Deployment, options: RetrievalOptions) -> Iterator[Verdict]:
    contained = deployment.server.launcher == "container"
    if contained and (not options.store_url or any(name in options.store_url for name in LOCAL)):
        yield Verdict(
            "retrieval-store",
            Level.FAIL,
            "a container does not reach a store of this host's loopback or work folder",
            options.store_url or "a private server",
            fix="name a server by an address that the container reaches",
            option="options.store_url",
        )
    elif options.store == "qdrant" and not options.store_url:
        yield Verdict(
            "retrieval-store",
            Level.WARN,
            "Qdrant in this process compares every vector: for trying, up to some 10,000 records",
            source="qdrant-client's local mode",
            fix="name a Qdrant server, or take postgresql",
            option="options.store_url",
        )
    elif options.store_url:
        yield Verdict("retrieval-store", Level.PASS, f"the store is at {clean(options.store_url)}")
    else:
        yield Verdict(
            "retrieval-store", Level.PASS, "a PostgreSQL of the deployment's own, without a port"
        )


def _unused(options: RetrievalOptions) -> Iterator[Verdict]:
    """Options of batches, of another store or of another way to run the towers."""
    if not options.dynamic_batching:
        yield from flags.unused(options, ["max_queue_delay_us"], "dynamic_batching is off")
    if options.form == "onnxruntime":
        yield from flags.unused(options, ["verbose"], "Triton's own backend runs the towers")
    if options.store == "qdrant":
        yield from flags.unused(options, ["build_memory_mb"], "it is for PostgreSQL")
        if not options.store_url:
            index = ("hnsw_m", "hnsw_ef_construction", "ef_search")
            yield from flags.unused(options, index, "Qdrant in this process has no index")
    if not options.store_url:
        names = ("store_password_env", "store_password_file")
        yield from flags.unused(options, names, "a store of the deployment's own has no password")


def _password(options: RetrievalOptions) -> Iterator[Verdict]:
    name, file = options.store_password_env, options.store_password_file
    if name and name not in os.environ:
        yield Verdict(
            "retrieval-password",
            Level.FAIL,
            f"the variable {name}, which holds the store's password, is not set",
            fix="set it where tritondeck is started",
            option="options.store_password_env",
        )
    elif file and (not (there := is_file(Path(file))) or Path(file).stat().st_mode & 0o077):
        yield Verdict(
            "retrieval-password",
            Level.FAIL,
            "the password file can be read by others" if there else "there is no password file",
            clean(file),
            fix="chmod 600" if there else "write it, for you alone",
            option="options.store_password_file",
        )
    elif name or file:
        yield Verdict("retrieval-password", Level.PASS, "the store's password is there")


def _python(deployment: Deployment, tools: ToolFacts) -> Iterator[Verdict]:
    """The server's models import from the environment, so both are for one Python."""
    facts = tools.environments.get(ENVIRONMENT)
    if facts is None or not tools.stub_python:
        return
    if facts.python_version.rpartition(".")[0] == tools.stub_python:
        yield Verdict("retrieval-python", Level.PASS, "server and packages are for one Python")
        return
    yield Verdict(
        "retrieval-python",
        Level.FAIL,
        "the server's Python is not the one of the environment that its models import from",
        f"{tools.stub_python} and {facts.python_version}",
        fix=f"set environments.{ENVIRONMENT}.python to a Python {tools.stub_python}",
        option=f"environments.{ENVIRONMENT}.python",
    )


def _files(deployment: Deployment) -> Iterator[Verdict]:
    missing = [c.input for c in deployment.verify if c.input and not is_file(Path(c.input))]
    if missing:
        yield Verdict(
            "verify-file",
            Level.FAIL,
            "a file of the [[verify]] cases is not there",
            clean(missing[0]),
            fix="correct its path",
        )
