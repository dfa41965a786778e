"""Verdicts of the NeMo TensorRT-LLM route: generation, flags, folder, FP8, memory, open ports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from backends.language import nemo_trtllm_words as words
from backends.language.common import language, layout_checks, memory_checks
from backends.language.nemo_trtllm_words import Call
from backends.upstream import flags, generations, parsers, trtllm_api
from console.checkpoints.model import Format
from console.facts import Host, Level, ToolFacts, Verdict
from console.planning.language_memory import USABLE, Need, need
from console.text import clean

MARK = ".tritondeck-engine"
"""What `workers/check_flags.py` leaves in a folder that it found empty."""
FP8_FROM = (8, 9)
"""Compute capability of Ada; Hopper has 9.0."""
SOURCE = "NVIDIA's CUDA programming guide: FP8 from compute capability 8.9 on"


def need_of(call: Call) -> Need | None:
    """What each GPU needs; None where the checkpoint does not tell its geometry."""
    facts = language(call.checkpoint)
    if facts is None:
        return None
    options = call.options
    weights = facts.quantisation or options.dtype
    if options.export_fp8_quantized != "auto":
        weights = "fp8" if options.export_fp8_quantized == "true" else options.dtype
    cache = {"true": "fp8", "false": options.dtype}.get(options.use_fp8_kv_cache, "")
    step = options.max_num_tokens or min(8192, options.max_batch_size * options.max_input_len)
    return need(
        facts,
        options.layout,
        weights=weights,
        cache=cache or ("fp8" if facts.kv_quantisation == "fp8" else options.dtype),
        step_tokens=step,
        counted=call.checkpoint.parameters,
    )


def checks(call: Call, host: Host, tools: ToolFacts) -> Iterator[Verdict]:
    """Every verdict of this route, the cheap and decisive ones first."""
    yield generations.verdict(call.route if call.script else words.SERVE_ROUTE, call.generation)
    yield from _found(call, tools)
    yield from _place(call)
    yield from _flags(call, tools)
    yield from _model(call)
    yield from _folder(call)
    yield from _fp8(call, host)
    yield from _gpus(call, host)


def _found(call: Call, tools: ToolFacts) -> Iterator[Verdict]:
    """The generation that is chosen against the one that is known to be there."""
    facts = tools.environments.get(words.ENVIRONMENT)
    installed = generations.of_packages(facts.packages) if facts else ""
    there = (installed,) if installed else generations.of_image(call.options.image)
    if call.options.place == "container" and not call.options.image:
        there = ()
    if there and call.generation not in there:
        yield Verdict(
            "generation",
            Level.FAIL,
            f"the place has {generations.generation(there[0]).title}, and the plan is for another",
            generations.generation(call.generation).title,
            "the image's tag" if not installed else "installed packages",
            f"set generation = {there[0]}, or auto",
            "options.generation",
        )


def _place(call: Call) -> Iterator[Verdict]:
    entry = generations.generation(call.generation)
    image = words.image_of(call.options, call.generation)
    if call.inside and not image:
        yield Verdict(
            "generation",
            Level.FAIL,
            f"no image of {entry.title} is known",
            source=f"backends/catalog/generations.toml of {generations.catalog().date}",
            fix="name one in options.image",
            option="options.image",
        )
    wish = call.deployment.environments.get(words.ENVIRONMENT)
    if not call.inside and not (wish and wish.use):
        yield Verdict(
            "generation",
            Level.FAIL,
            "the environment with NeMo and TensorRT-LLM is not named",
            source="TensorRT-LLM's packages are not made here",
            fix=f"[environments.{words.ENVIRONMENT}] use = the folder of one, or take a container",
            option=f"environments.{words.ENVIRONMENT}.use",
        )
    lacking = [note for note in entry.notes if "no TensorRT-LLM" in note]
    if call.inside and lacking and not call.options.image:
        yield Verdict(
            "generation",
            Level.WARN,
            clean(lacking[0]),
            image,
            entry.ref,
            "name an image with the extra installed in options.image",
            "options.image",
        )
    if not call.inside and call.options.mode != "export":
        yield _open_ports(call)


def _open_ports(call: Call) -> Verdict:
    """PyTriton's gRPC and metrics ports listen on every address: no argument reaches them."""
    fixed = f"gRPC {words.GRPC} and metrics {words.METRICS}"
    said = "PyTriton listens on every address for gRPC, and no flag of upstream changes that"
    if call.deployment.server.exposed:
        return Verdict("upstream-ports", Level.WARN, said, fixed, "DeployPyTriton's arguments")
    return Verdict(
        "upstream-ports",
        Level.FAIL,
        said,
        fixed,
        "DeployPyTriton's arguments",
        "take place = container, which publishes on loopback only",
        "options.place",
    )


def _flags(call: Call, tools: ToolFacts) -> Iterator[Verdict]:
    """The planned words against the catalog, and against the installed script where it was read."""
    if not generations.has(words.SERVE_ROUTE, call.generation):
        return
    if not call.script:
        yield from _arguments(call)
        return
    predicted = parsers.known(call.script, call.generation)
    argv = call.argv()
    text = tools.sources.get(call.installed)
    if text is not None:
        yield from flags.compare(
            argv,
            parsers.read(text, call.installed),
            script=call.script,
            source=clean(call.installed),
            generation=call.generation,
            predicted=predicted,
        )
    elif predicted is not None:
        yield from flags.compare(
            argv,
            predicted,
            script=call.script,
            source=generations.generation(call.generation).ref,
            generation=call.generation,
        )
    else:
        has = [n for n in generations.catalog().generations if parsers.known(call.script, n)]
        yield Verdict(
            flags.CHECK,
            Level.FAIL,
            f"{generations.generation(call.generation).title} has no {call.script}",
            figure=f"the last with it is {has[-1]}" if has else "",
            source="backends/catalog/scripts.json",
            fix="set form = auto or api",
            option="options.form",
        )


def _arguments(call: Call) -> Iterator[Verdict]:
    _, lacking = call.arguments()
    source = f"backends/catalog/trtllm_api.toml of {trtllm_api.catalog().date}"
    for name in lacking:
        yield Verdict(
            flags.CHECK,
            Level.FAIL,
            f"NeMo's classes take no {name} in {call.generation}",
            source=source,
            fix="leave this option out, or choose another generation",
        )
    if not lacking:
        yield Verdict(flags.CHECK, Level.PASS, "the classes take every argument", source=source)


def _model(call: Call) -> Iterator[Verdict]:
    if call.options.mode == "load" or words.model_type(call.options, call.checkpoint):
        return
    family = call.checkpoint.language.family if call.checkpoint.language else ""
    yield Verdict(
        "model-type",
        Level.FAIL,
        "upstream has no model type for this checkpoint",
        clean(family) or "it does not tell its family",
        "the model table of NeMo's TensorRT-LLM guide",
        "set model_type when you know that it is one of them, or take vllm",
        "options.model_type",
    )


def _folder(call: Call) -> Iterator[Verdict]:
    """Upstream empties the folder that it builds in."""
    given = call.options.engine_folder
    if not given or call.options.mode == "load":
        return
    folder = Path(given)
    try:
        names = [found.name for found in folder.iterdir()]
    except FileNotFoundError:
        return  # it is made
    except OSError as error:
        yield Verdict(
            "engine-folder",
            Level.FAIL,
            "the engine folder cannot be looked at",
            f"{clean(given)}: {error.strerror}",
            fix="name a folder of yours",
            option="options.engine_folder",
        )
        return
    if names and MARK not in names:
        yield Verdict(
            "engine-folder",
            Level.FAIL,
            "the engine folder holds what is not ours, and upstream deletes what it finds",
            f"{len(names)} things in {clean(given)}",
            "delete_existing_files of TensorRTLLM.export",
            "name an empty folder",
            "options.engine_folder",
        )


def wants_fp8(call: Call) -> str:
    """Why FP8 is needed, in words, or empty."""
    options, facts = call.options, call.checkpoint.language
    if options.dtype == "fp8":
        return "dtype = fp8"
    if "true" in (options.export_fp8_quantized, options.use_fp8_kv_cache):
        return "FP8 is asked for"
    trained = facts is not None and "fp8" in facts.quantisation
    fixed = call.checkpoint.format in (Format.QNEMO, Format.TRTLLM_ENGINE)
    if trained and (fixed or options.export_fp8_quantized == "auto"):
        return "the checkpoint is in FP8"
    if facts is not None and facts.kv_quantisation == "fp8" and options.use_fp8_kv_cache == "auto":
        return "the checkpoint has an FP8 cache"
    return ""


def _fp8(call: Call, host: Host) -> Iterator[Verdict]:
    why = wants_fp8(call)
    if not why or not host.gpus:
        return
    used = host.gpus[: call.options.layout.a_node]
    old = [gpu for gpu in used if gpu.compute_capability and gpu.compute_capability < FP8_FROM]
    unknown = [gpu for gpu in used if gpu.compute_capability is None]
    if old:
        major, minor = old[0].compute_capability or (0, 0)
        yield Verdict(
            "compute-capability",
            Level.FAIL,
            f"{why}, and GPU {old[0].index} ({clean(old[0].name)}) cannot compute it",
            f"{major}.{minor}, and FP8 needs 8.9 (Ada) or 9.0 (Hopper)",
            SOURCE,
            "set export_fp8_quantized = false, or use an Ada, Hopper or later GPU",
            "options.export_fp8_quantized",
        )
    elif unknown:
        yield Verdict(
            "compute-capability",
            Level.UNKNOWN,
            f"{why}, and GPU {unknown[0].index} does not tell its compute capability",
            source=SOURCE,
            fix="FP8 needs an Ada, Hopper or later GPU",
        )
    else:
        yield Verdict(
            "compute-capability", Level.PASS, f"{why}; the GPUs compute it", source=SOURCE
        )


def _gpus(call: Call, host: Host) -> Iterator[Verdict]:
    if not host.gpus:
        yield Verdict(
            "gpu",
            Level.FAIL,
            "TensorRT-LLM needs a GPU, and there is none here",
            clean(host.gpu_note),
            fix="plan it here and run the script where the GPUs are",
        )
        return
    options = call.options
    yield from layout_checks(call.checkpoint, options.layout, host)
    wanted = need_of(call)
    if wanted is not None:
        yield from memory_checks(
            wanted, host.gpus, options.layout, fraction=USABLE, length=options.sequence
        )
