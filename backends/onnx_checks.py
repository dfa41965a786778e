"""What the ONNX route takes, and what it finds before any time is spent."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

from backends import onnx_runtime, speech
from backends.onnx_options import BatchingOptions, OnnxOptions
from backends.upstream import flags
from console.checkpoints.model import Checkpoint, SpeechFacts
from console.facts import Host, Level, TensorSpec, ToolFacts, UsageError, Verdict
from console.planning.deployment import Deployment
from console.storage import is_file
from console.text import clean
from console.triton.launchers import launcher
from console.triton.repository import batchable

# ---------------------------------------------------------------------------- checks


def triton_backends(deployment: Deployment, tools: ToolFacts) -> frozenset[str]:
    """Triton backends of the chosen launcher: what was asked, else what data expects of it."""
    return tools.triton_backends or launcher(deployment).expected(deployment).triton_backends


def checks(
    deployment: Deployment,
    options: OnnxOptions,
    checkpoint: Checkpoint,
    host: Host,
    tools: ToolFacts,
) -> tuple[Verdict, ...]:
    """Every verdict of this route but the one on the format and those on the checkpoint's risks,
    which hold for any route."""
    verdicts = [_form(deployment, options, tools)]
    verdicts += _device(options, host, tools)
    verdicts.append(_version(deployment, options, checkpoint, tools))
    verdicts += _unused(options, checkpoint)
    verdicts += batching_unused(options)
    if checkpoint.graph is not None:
        verdicts += _graph(options, checkpoint)
    if checkpoint.speech is not None:
        verdicts += _lengths(deployment, options, checkpoint)
        verdicts += _tokenizer(checkpoint.speech)
        verdicts += _head(options, checkpoint)
        verdicts += _language(options, checkpoint.speech)
    verdicts += _verify_files(deployment)
    return tuple(verdicts)


_EXPORT = ("opset", "tolerance", "decoder", "max_symbols")
_WORDS = ("word_times", "long_audio")


def _unused(options: OnnxOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    """Options of an export and of speech, where the checkpoint is a graph or its head has none."""
    if checkpoint.speech is None:
        names = (*_EXPORT, *_WORDS, "language", "unit_embedding", "chunk_seconds")
        yield from flags.unused(options, names, "it is for NeMo's speech models")
        if options.form == "onnxruntime":
            yield from flags.unused(options, ["verbose"], "Triton's own backend runs the graph")
        return
    try:
        head = speech.head(checkpoint, options.decoder)
    except UsageError:
        return  # `_head` says so
    if head != "rnnt":
        yield from flags.unused(options, ["max_symbols"], "it is for a transducer")
    if head != "speaker":
        yield from flags.unused(options, ["unit_embedding"], "it is for speaker models")
    if head not in speech.TEXT_HEADS:
        yield from flags.unused(options, (*_WORDS, "decoder"), "the model recognises no words")


def batching_unused(options: BatchingOptions) -> Iterator[Verdict]:
    """What is said of batches, where requests are not collected into any."""
    names = ("max_queue_delay_us", "preferred_batch_sizes")
    if not options.dynamic_batching:
        yield from flags.unused(options, names, "dynamic_batching is off")
    elif not options.max_batch_size:
        yield from flags.unused(options, names, "max_batch_size = 0 has no batches")


def _form(deployment: Deployment, options: OnnxOptions, tools: ToolFacts) -> Verdict:
    there = triton_backends(deployment, tools)
    listed = ", ".join(sorted(there)) or "not probed"
    if options.form != "onnxruntime" or "onnxruntime" in there:
        return Verdict("onnx-form", Level.PASS, "the server can run this form", figure=listed)
    return Verdict(
        "onnx-form",
        Level.FAIL if there else Level.UNKNOWN,
        "the server has no onnxruntime backend"
        if there
        else "whether the server has the onnxruntime backend is not known",
        figure=f"Triton backends: {listed}",
        source=f"launcher {deployment.server.launcher}",
        fix='set form = "auto": our python model gives the same answers',
        option="options.form",
    )


def _device(options: OnnxOptions, host: Host, tools: ToolFacts) -> Iterator[Verdict]:
    wants = options.device == "cuda" or options.instance_kind == "gpu"
    if not wants:
        yield Verdict("onnx-device", Level.PASS, "runs on the CPU")
        return
    key = "options.device" if options.device == "cuda" else "options.instance_kind"
    if not host.gpus:
        yield Verdict(
            "onnx-device",
            Level.FAIL,
            "a GPU is asked for and there is none",
            figure=host.gpu_note,
            source="NVML",
            fix='set device = "cpu" and instance_kind = "auto"',
            option=key,
        )
        return
    serving = tools.environments.get("embedded")
    if serving and options.device == "cuda" and "onnxruntime-gpu" not in serving.packages:
        yield Verdict(
            "onnx-device",
            Level.FAIL,
            "the serving environment has ONNX Runtime for the CPU only",
            figure=f"onnxruntime {serving.packages.get('onnxruntime', 'absent')}",
            source=clean(str(serving.python)),
            fix='put onnxruntime-gpu into the environment `embedded`, or set device = "cpu"',
            option=key,
        )
        return
    yield Verdict("onnx-device", Level.PASS, f"{len(host.gpus)} GPU(s)", source="NVML")


def _graph(options: OnnxOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    graph = checkpoint.graph
    assert graph is not None
    fixed = next((t for t in (*graph.inputs, *graph.outputs) if not batchable((t,))), None)
    if options.max_batch_size and fixed is not None:
        yield Verdict(
            "onnx-batch",
            Level.FAIL,
            f"{clean(fixed.name)} has no dynamic first dimension, so the server cannot batch",
            figure=f"shape {_shape(fixed)}",
            source="the graph's signature",
            fix="set max_batch_size = 0, or export the graph with a dynamic batch",
            option="options.max_batch_size",
        )
    else:
        yield Verdict("onnx-batch", Level.PASS, "batch size fits the graph")


def _version(
    deployment: Deployment, options: OnnxOptions, checkpoint: Checkpoint, tools: ToolFacts
) -> Verdict:
    """Whether the ONNX Runtime that serves knows the graph's opset and format."""
    graph = checkpoint.graph
    opset, form = (graph.opset, graph.ir_version) if graph else (options.opset, 0)
    installed = onnx_runtime.version(deployment, tools)
    newest = onnx_runtime.newest(installed) if installed else None
    ours = f"opset {opset}" + (f", IR {form}" if form else "")
    if newest is None:
        return Verdict(
            "onnx-version",
            Level.UNKNOWN,
            "which opset the server's ONNX Runtime knows is not known",
            figure=ours,
            source=f"ONNX Runtime {installed}" if installed else "no version is known",
            fix="the step that opens the graph tells",
        )
    newer = opset > newest.opset or form > newest.ir
    return Verdict(
        "onnx-version",
        Level.FAIL if newer else Level.PASS,
        "the graph is newer than ONNX Runtime reads" if newer else "ONNX Runtime reads this graph",
        figure=f"{ours} (newest: opset {newest.opset}, IR {newest.ir})",
        source=f"ONNX Runtime {installed}",
        fix="export it again with an older opset" if newer else "",
        option="" if graph else "options.opset",
    )


def _shape(tensor: TensorSpec) -> str:
    return "[" + ", ".join("any" if n < 0 else str(n) for n in tensor.shape) + "]"


def _lengths(
    deployment: Deployment, options: OnnxOptions, checkpoint: Checkpoint
) -> Iterator[Verdict]:
    longest = speech.longest_seconds(checkpoint)
    figure = f"{longest:g} s"
    source = "pos_emb_max_len × subsampling_factor × window_stride"
    if options.long_audio == "chunk":
        fits = options.chunk_seconds <= longest
        yield Verdict(
            "onnx-audio-length",
            Level.PASS if fits else Level.FAIL,
            "longer recordings are cut into chunks"
            if fits
            else "a chunk is longer than the model takes",
            figure=f"chunks of {options.chunk_seconds:g} s, longest {figure}",
            source=source,
            fix="" if fits else f"set chunk_seconds to at most {longest:g}",
            option="options.chunk_seconds",
        )
        return
    past = [
        (case.input, seconds)
        for case in deployment.verify
        if case.input and (seconds := wav_seconds(Path(case.input))) and seconds > longest
    ]
    if past:
        name, seconds = past[0]
        yield Verdict(
            "onnx-audio-length",
            Level.FAIL,
            f"{clean(Path(name).name)} is longer than the model takes",
            figure=f"{seconds:.1f} s, longest {figure}",
            source=source,
            fix='set long_audio = "chunk"',
            option="options.long_audio",
        )
        return
    yield Verdict(
        "onnx-audio-length", Level.PASS, "longest recording", figure=figure, source=source
    )


def _tokenizer(spoken: SpeechFacts) -> Iterator[Verdict]:
    if spoken.tokenizer == "wpe":
        yield Verdict(
            "onnx-tokenizer",
            Level.WARN,
            "NeMo asks the Hugging Face hub for bert-base-cased when it restores this tokenizer",
            source="nemo.collections.common.tokenizers.huggingface.auto_tokenizer, 2.7.3",
            fix="on a box without internet, put that tokenizer into the Hugging Face cache first",
        )


def _head(options: OnnxOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    """Whether the wanted head is there, and what a fork's checkpoint costs."""
    fork = speech.is_fork(checkpoint)
    try:
        chosen = speech.head(checkpoint, options.decoder)
    except UsageError as error:
        yield Verdict(
            "onnx-decoder",
            Level.FAIL,
            f"{error.title}: {error.why}",
            fix=error.fix,
            option="options.decoder",
        )
        return
    if chosen != "ctc" and options.form == "onnxruntime":
        yield Verdict(
            "onnx-decoder",
            Level.FAIL,
            f"a {chosen} model runs in our python model only",
            fix='set form = "auto"',
            option="options.form",
        )
    if not fork:
        return
    if chosen == "rnnt" and not options.language:
        yield Verdict(
            "onnx-decoder",
            Level.FAIL,
            "the fork's transducer has one joint network for each language: one is served",
            fix='set language to the one that is spoken, or decoder = "ctc" for all of them',
            option="options.language",
        )
    keys = ", ".join(speech.fork_keys(checkpoint)) or "none listed here"
    yield Verdict(
        "onnx-fork",
        Level.WARN,
        "the checkpoint was written by AI4Bharat's fork of NeMo: configuration keys that NeMo does "
        "not know are dropped, and the exported weights compared with the checkpoint's",
        figure=f"dropped: {keys}; the export's report lists all",
        source="tokenizer.type and the keys of decoder, joint and aux_ctc.decoder",
    )


def _language(options: OnnxOptions, spoken: SpeechFacts) -> Iterator[Verdict]:
    if options.language and options.language not in spoken.languages:
        yield Verdict(
            "onnx-language",
            Level.FAIL,
            f"the checkpoint has no language {clean(options.language)}",
            figure=", ".join(map(clean, spoken.languages)) or "it lists none",
            source="tokenizer.langs",
            fix="name one of them, or none",
            option="options.language",
        )


def wav_seconds(path: Path) -> float | None:
    """Length of a PCM WAV file in seconds; None when its header does not tell."""
    try:
        with wave.open(str(path), "rb") as file:
            # What was written through a pipe says 0xFFFFFFFF of its length.
            there = path.stat().st_size // (file.getnchannels() * file.getsampwidth())
            return min(file.getnframes(), there) / file.getframerate()
    except (OSError, EOFError, wave.Error, ZeroDivisionError):
        return None


def _verify_files(deployment: Deployment) -> Iterator[Verdict]:
    for number, case in enumerate(deployment.verify):
        if case.input and not is_file(Path(case.input)):
            yield Verdict(
                "verify-file",
                Level.FAIL,
                f"the verify file {clean(case.input)} does not exist",
                fix=f"correct verify[{number}].input",
                option="verify",
            )
