"""Verdicts of the multimodal route: generation, flags, model types, encoder, precision, memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from backends.language.common import language, layout_checks, memory_checks
from backends.multimodal import words
from backends.multimodal.kinds import KINDS
from backends.multimodal.words import Call
from backends.upstream import flags, generations, mm_api, parsers, place_checks
from console.checkpoints.model import Checkpoint, Format
from console.facts import Gpu, Host, Level, ToolFacts, Verdict
from console.planning.language_memory import USABLE, Layout, Need, need
from console.storage import is_file, is_folder
from console.text import clean

GUIDE = "the model and GPU tables of NeMo's multimodal deployment guide"
BFLOAT16_FROM, OLDEST, NEWEST = (8, 0), (7, 0), (9, 0)
"""Compute capabilities: Ampere computes bfloat16; the guide's GPUs go from Volta to Hopper."""
LORA_FOLDERS = "nemo-25.07"
"""From here on an adapter must be a folder."""


_BUILD = (
    "max_multimodal_len", "vision_max_batch_size", "use_lora_plugin", "lora_target_modules",
    "max_lora_rank", "lora_checkpoint_path", "lora_file", "lora_merge",
)  # fmt: skip


def spoken(call: Call) -> Checkpoint:
    """The checkpoint that holds the language model."""
    return call.language or call.checkpoint


def need_of(call: Call) -> Need | None:
    """What the language model needs on each GPU; None where its geometry is not told."""
    facts = language(spoken(call))
    if facts is None:
        return None
    options = call.options
    return need(
        facts,
        Layout(options.num_gpus),
        weights=options.dtype,
        cache=options.dtype,
        step_tokens=min(8192, options.max_batch_size * options.max_input_len),
        counted=spoken(call).parameters,
    )


def checks(call: Call, host: Host, tools: ToolFacts) -> Iterator[Verdict]:
    """Every verdict of this route, the cheap and decisive ones first."""
    route = words.SALM_ROUTE if call.kind_name == "salm" else words.SERVE_ROUTE
    yield generations.verdict(route, call.generation)
    yield from place_checks.found(call, tools)
    yield from place_checks.runnable(call)
    yield from _types(call)
    yield from _flags(call, tools)
    yield from _unused(call)
    yield from _language(call)
    yield from _encoder(call)
    yield from _batch(call)
    yield from _lora(call)
    yield from place_checks.emptied(call)
    yield from _precision(call)
    yield from _gpus(call, host)


def _unused(call: Call) -> Iterator[Verdict]:
    """Options of a build, of a script or of a whole SALM model, where there is none."""
    options, exports = call.options, call.options.mode == "export"
    script = ("export_with",) if exports else ()
    yield from place_checks.unused(call, build=_BUILD, serving=("model_version",), script=script)
    if not exports:
        yield from flags.unused(options, ["export_with"], "it is for mode = export")
    if options.mode != "load" and (options.lora_file or not call.separated):
        why = "a LoRA is named" if options.lora_file else "it is for whole SALM checkpoints"
        yield from flags.unused(options, ["lora_merge"], why)


def _types(call: Call) -> Iterator[Verdict]:
    """The model's and the language model's type, and whether this generation has them."""
    for option, value in (("model_type", call.kind_name), ("llm_model_type", words.llm_type(call))):
        deploy = parsers.known(
            generations.catalog().routes[words.SERVE_ROUTE].script, call.generation
        )
        known = deploy.find(f"--{option}") if deploy else None
        if not value:
            yield Verdict(
                "model-type",
                Level.WARN if call.options.mode == "load" else Level.FAIL,
                f"the checkpoint does not tell its {option}",
                source=GUIDE,
                fix=f"set {option}",
                option=f"options.{option}",
            )
        elif known is not None and value not in known.choices:
            yield Verdict(
                "model-type",
                Level.FAIL,
                f"{generations.generation(call.generation).title} has no {option} {value}",
                f"it has {', '.join(map(str, known.choices))}",
                generations.generation(call.generation).ref,
                "choose a later generation",
                "options.generation",
            )
    chosen = call.options.modality
    if chosen != "auto" and chosen != call.kind.modality:
        yield Verdict(
            "model-type",
            Level.FAIL,
            f"{call.kind.title} has the modality {call.kind.modality}",
            f"modality = {chosen}",
            GUIDE,
            "leave modality at auto",
            "options.modality",
        )


def _flags(call: Call, tools: ToolFacts) -> Iterator[Verdict]:
    """The planned words against what upstream takes."""
    if not generations.has(words.SERVE_ROUTE, call.generation):
        return
    source = f"backends/catalog/multimodal.toml of {mm_api.catalog().date}"
    if call.hydra and generations.has(words.HYDRA_ROUTE, call.generation):
        _, lacking = mm_api.split("hydra", words.overrides(call), call.generation)
        for key in lacking:
            yield Verdict(
                flags.CHECK,
                Level.FAIL,
                f"neva_export.py has no {key} in {call.generation}",
                source=source,
                fix="leave this option out, or set form = api",
            )
        if not lacking:
            yield Verdict(flags.CHECK, Level.PASS, "neva_export.py takes every key", source=source)
    elif call.script:
        yield from place_checks.accepted(call, tools)
    else:
        yield from place_checks.arguments(call, source)
    if generations.has(words.SALM_ROUTE, call.generation) or not call.separated:
        yield from _parts(call)


def _parts(call: Call) -> Iterator[Verdict]:
    """The scripts that take a SALM checkpoint apart and merge its LoRA."""
    wanted = ((call.separated, words.EXTRACT_ROUTE), (call.merged, words.MERGE_ROUTE))
    for used, route in wanted:
        if used and not generations.has(route, call.generation):
            yield generations.verdict(route, call.generation)


def _language(call: Call) -> Iterator[Verdict]:
    """Whether the language model is there, and whether upstream would look at it."""
    if call.options.mode == "load":
        return
    found = call.language
    if found is not None and (found.language is None or found.language.multimodal):
        yield Verdict(
            "language-checkpoint",
            Level.FAIL,
            "the language checkpoint is no language model",
            clean(found.title),
            fix="name a NeMo language model, or none",
            option="checkpoints.language",
        )
    if found is None and call.kind_name == "salm" and not call.separated:
        yield Verdict(
            "language-checkpoint",
            Level.FAIL,
            "a perception model has no language model in it",
            source="nemo/export/multimodal/build.py",
            fix="name the language model, or the whole SALM checkpoint as the model",
            option="checkpoints.language",
        )
    if found is not None and mm_api.language("ignored", call.kind_name, call.generation):
        yield Verdict(
            "language-checkpoint",
            Level.FAIL,
            f"{call.generation} builds the language model of {call.kind.title} from the visual "
            "checkpoint, whatever else is named",
            source="nemo/export/multimodal/build.py",
            fix="choose nemo-24.12 or later, or name no language checkpoint",
            option="options.generation",
        )


def _encoder(call: Call) -> Iterator[Verdict]:
    """Upstream loads the vision encoder by its name, from Hugging Face."""
    named = words.encoder_of(call.checkpoint)
    if call.options.mode == "load" or not named or call.modality == "audio":
        return
    option, source = "options.hub_access", "mm_cfg.vision_encoder.from_pretrained"
    if named.startswith("/"):
        if not is_folder(Path(named)):
            yield Verdict(
                "vision-encoder",
                Level.FAIL,
                "the vision encoder is not where the checkpoint says",
                clean(named),
                source,
                "put its Hugging Face folder there",
            )
        return
    if call.options.hub_access:
        yield Verdict(
            "vision-encoder",
            Level.WARN,
            "the vision encoder is fetched from Hugging Face, and code that comes with it is run",
            clean(named),
            source,
            "have it in a folder (hf_cache) that you know",
            option,
        )
    elif call.options.hf_cache:
        yield Verdict(
            "vision-encoder", Level.PASS, "the vision encoder is taken from hf_cache", clean(named)
        )
    else:
        yield Verdict(
            "vision-encoder",
            Level.FAIL,
            "upstream loads the vision encoder from Hugging Face, which is not allowed here",
            clean(named),
            source,
            "set hf_cache to a folder that holds it, or hub_access = true",
            option,
        )


def _batch(call: Call) -> Iterator[Verdict]:
    options = call.options
    if options.mode != "load" and call.vision_batch < call.kind.vision_batch:
        yield Verdict(
            "vision-batch",
            Level.WARN,
            f"a video of more than {call.vision_batch} frames fails: {call.kind.title}'s encoder "
            "takes all of them at once",
            f"vision_max_batch_size = {call.vision_batch}",
            GUIDE,
            f"set {call.kind.vision_batch}, or 0",
            "options.vision_max_batch_size",
        )
    if options.mode != "load" and options.max_multimodal_len > options.max_input_len:
        yield Verdict(
            "multimodal-length",
            Level.WARN,
            "pictures count as part of the prompt, and more of them are allowed than of prompt",
            f"{options.max_multimodal_len} of {options.max_input_len} tokens",
            "nemo/export/multimodal/run.py",
            "raise max_input_len",
            "options.max_input_len",
        )


def _lora(call: Call) -> Iterator[Verdict]:
    given = call.options.lora_checkpoint_path
    order = list(generations.catalog().generations)
    late = order.index(call.generation) >= order.index(LORA_FOLDERS)
    if given and late and is_file(Path(given)):
        yield Verdict(
            "lora",
            Level.FAIL,
            "this generation takes an adapter as a folder only",
            clean(given),
            generations.generation(call.generation).ref,
            "unpack it: tar -xf FILE -C FOLDER",
            "options.lora_checkpoint_path",
        )


# ---------------------------------------------------------------------------- precision, GPUs


def _precision(call: Call) -> Iterator[Verdict]:
    if call.options.mode == "load":
        return
    option = "options.dtype"
    if call.options.dtype != "bfloat16":
        yield Verdict(
            "precision",
            Level.WARN,
            f"{call.kind.title} is listed with bfloat16 only",
            "dtype = float16",
            GUIDE,
            "set dtype = bfloat16 where the GPUs compute it",
            option,
        )
    saved = spoken(call).dtype
    if saved and saved != "bf16":
        yield Verdict(
            "precision",
            Level.WARN,
            f"the checkpoint is in {clean(saved)}, and upstream lists bfloat16 checkpoints only",
            source=GUIDE,
            fix="compare some answers with those of NeMo itself",
        )


def _gpus(call: Call, host: Host) -> Iterator[Verdict]:
    if not host.gpus:
        yield Verdict(
            "gpu",
            Level.FAIL,
            "TensorRT needs a GPU, and there is none here",
            clean(host.gpu_note),
            fix="plan it here and run the script where the GPUs are",
        )
        return
    for gpu in host.gpus[: call.options.num_gpus]:
        yield from _capability(call, gpu)
    layout = Layout(call.options.num_gpus)
    if spoken(call).language is None and spoken(call).format is Format.NEMO:
        return  # a perception model alone: another verdict says what is missing
    yield from layout_checks(spoken(call), layout, host)
    wanted = need_of(call)
    if wanted is not None:
        length = call.options.max_input_len + call.options.max_output_len
        yield from memory_checks(wanted, host.gpus, layout, fraction=USABLE, length=length)


def _capability(call: Call, gpu: Gpu) -> Iterator[Verdict]:
    has = gpu.compute_capability
    name = f"GPU {gpu.index} ({clean(gpu.name)})"
    if has is None:
        yield Verdict(
            "compute-capability",
            Level.UNKNOWN,
            f"{name} does not tell its compute capability",
            source=GUIDE,
            fix="upstream supports Volta to Hopper; bfloat16 needs Ampere or later",
        )
        return
    figure = f"{has[0]}.{has[1]}"
    if has < OLDEST:
        said, fix = f"{name} is older than Volta", "use a Volta or later GPU"
        yield Verdict("compute-capability", Level.FAIL, said, figure, GUIDE, fix)
    elif has < BFLOAT16_FROM and call.options.dtype == "bfloat16" and call.options.mode != "load":
        yield Verdict(
            "compute-capability",
            Level.FAIL,
            f"{name} does not compute bfloat16",
            f"{figure}, and bfloat16 needs 8.0 (Ampere)",
            GUIDE,
            "set dtype = float16, or use an Ampere or later GPU",
            "options.dtype",
        )
    elif has > NEWEST:
        yield Verdict(
            "compute-capability",
            Level.WARN,
            f"{name} is newer than what upstream lists",
            figure,
            GUIDE,
            "take the newest generation with this route, ed-0.4",
            "options.generation",
        )
    else:
        said = f"{name} computes {call.options.dtype}"
        yield Verdict("compute-capability", Level.PASS, said, figure, GUIDE)


def title(call: Call) -> str:
    """What is deployed, for people."""
    return KINDS[call.kind_name].title if call.kind_name else "a multimodal model"
