"""What the multimodal route says to upstream: command lines, Hydra overrides, arguments of its classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.doors.multimodal import PERCEPTION, kind_of
from backends.language.nemo_trtllm_words import MODEL_TYPES
from backends.multimodal.kinds import KINDS, Kind
from backends.multimodal.options import MultimodalOptions
from backends.upstream import generations, mm_api, parsers, place, trtllm_api
from backends.upstream.place import flagged
from console.checkpoints.data import section, text
from console.checkpoints.model import Checkpoint
from console.planning.plan import join
from console.planning.variables import literal
from console.storage import is_folder

SERVE_ROUTE, SALM_ROUTE = "nemo-multimodal", "salm"
EXPORT_ROUTE, HYDRA_ROUTE = "nemo-multimodal-export", "neva-export"
EXTRACT_ROUTE, MERGE_ROUTE = "salm-extract", "merge-lora"
PARTS = "${work}/salm"
"""Where a SALM checkpoint is taken apart."""
_SPEAKING = {
    "v1": "llama", "llama_2": "llama", "llama_3": "llama", "mistral": "llama", "vita": "llama",
    "mixtral": "mixtral", "nvgpt": "gptnext", "nv_steerlm": "gptnext", "nv_dpo": "gptnext",
}  # fmt: skip
"""``mm_cfg.llm.model_type`` (a conversation template) to upstream's ``llm_model_type``."""


@dataclass(frozen=True)
class Call(place.Call):
    """One use of upstream's multimodal scripts."""

    options: MultimodalOptions
    language: Checkpoint | None = None
    """The language model where it is a checkpoint of its own."""

    @property
    def kind_name(self) -> str:
        """Upstream's ``model_type``; empty where the checkpoint does not tell."""
        if self.options.model_type != "auto":
            return self.options.model_type
        return kind_of(self.checkpoint)

    @property
    def kind(self) -> Kind:
        return KINDS[self.kind_name or "neva"]

    @property
    def modality(self) -> str:
        chosen = self.options.modality
        return self.kind.modality if chosen == "auto" else chosen

    @property
    def vision_batch(self) -> int:
        return self.options.vision_max_batch_size or self.kind.vision_batch

    @property
    def separated(self) -> bool:
        """Whether a whole SALM checkpoint is taken apart before the export."""
        whole = self.checkpoint.model_class != PERCEPTION
        return self.kind_name == "salm" and whole and self.options.mode != "load"

    @property
    def merged(self) -> bool:
        """Whether a LoRA is merged into the language model before the export."""
        if self.options.mode == "load":
            return False
        if self.options.lora_file:
            return True
        trained = bool(text(section(self.checkpoint.config, "peft"), "peft_scheme"))
        return self.separated and trained and self.options.lora_merge == "auto"

    @property
    def visual(self) -> str:
        """What the encoder is built from (template)."""
        return self.part("perception") if self.separated else literal(str(self.checkpoint.path))

    @property
    def spoken(self) -> str:
        """What the language model is built from (template); empty for the visual checkpoint."""
        return join(PARTS, "merged.nemo") if self.merged else self.base

    @property
    def base(self) -> str:
        """The language model before a LoRA is merged (template)."""
        if self.separated:
            return self.part("llm.nemo")
        if self.language is not None:
            return literal(str(self.language.path))
        if mm_api.language("needed", self.kind_name, self.generation):
            return literal(str(self.checkpoint.path))
        return ""

    @property
    def lora(self) -> str:
        """The LoRA that is merged (template)."""
        given = self.options.lora_file
        return literal(given) if given else self.part("lora.nemo")

    def part(self, name: str) -> str:
        """What ``extract_salm_weights.py`` calls a part: by the checkpoint's name up to its first dot."""
        return join(PARTS, literal(f"{self.checkpoint.path.name.split('.')[0]}_{name}"))

    @property
    def route(self) -> str:
        if self.options.mode != "export":
            return SERVE_ROUTE
        wanted = self.options.export_with
        if wanted != "auto":
            return HYDRA_ROUTE if wanted == "neva_export" else EXPORT_ROUTE
        example = generations.has(HYDRA_ROUTE, self.generation) and self.modality == "vision"
        return HYDRA_ROUTE if example else EXPORT_ROUTE

    @property
    def hydra(self) -> bool:
        """Whether the script takes Hydra overrides instead of flags."""
        return bool(self.script) and self.route == HYDRA_ROUTE

    def argv(self) -> list[str]:
        if self.hydra:
            return [f"{key}={value}" for key, value in overrides(self).items()]
        return _export(self) if self.options.mode == "export" else _deploy(self)

    def arguments(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        return _api(self)

    def reads(self) -> tuple[str, ...]:
        first = self.engine if self.options.mode == "load" else literal(str(self.checkpoint.path))
        named = (self.options.lora_file, self.options.lora_checkpoint_path, self.options.hf_cache)
        more = [literal(name) for name in named if name]
        spoken = [literal(str(self.language.path))] if self.language else []
        asked = [literal(case.input) for case in self.deployment.verify if case.input]
        encoder = encoder_of(self.checkpoint)
        local = [literal(encoder)] if encoder.startswith("/") and is_folder(Path(encoder)) else []
        return tuple(dict.fromkeys((first, *spoken, *more, *asked, *local)))

    def environment(self, *, online: bool) -> dict[str, str]:
        found = super().environment(online=online or self.options.hub_access)
        cache = self.options.hf_cache
        return {**found, "HF_HOME": literal(cache)} if cache else found


def encoder_of(checkpoint: Checkpoint) -> str:
    """The vision encoder that upstream loads by its hub name or path; empty where none is named."""
    named = section(section(checkpoint.config, "mm_cfg"), "vision_encoder")
    return text(named, "from_pretrained")


def llm_type(call: Call) -> str:
    """Upstream's word for the language model's architecture; empty where nothing tells."""
    if call.options.llm_model_type != "auto":
        return call.options.llm_model_type
    if call.kind_name == "mllama":
        return "mllama"
    config = (call.language or call.checkpoint).config
    template = text(section(section(config, "mm_cfg"), "llm"), "model_type")
    if template in _SPEAKING:
        return _SPEAKING[template]
    if text(config, "normalization") == "rmsnorm" and "swiglu" in text(config, "activation"):
        return "llama"  # NeMo 1 saves Llama and its relatives as GPT models
    facts = (call.language or call.checkpoint).language
    return MODEL_TYPES.get(facts.family.lower(), "") if facts else ""


def _deploy(call: Call) -> list[str]:
    options = call.options
    words: list[str] = []
    if options.mode == "serve":
        words += ["--visual_checkpoint", call.visual]
        words += ["--llm_checkpoint", call.spoken] if call.spoken else []
    words += [
        *("--model_type", call.kind_name or "neva", "--llm_model_type", llm_type(call) or "llama"),
        *("--triton_model_name", literal(call.deployment.served_name)),
        *("--triton_model_version", str(options.model_version)),
        *("--triton_port", call.http, "--triton_http_address", literal(call.address)),
        *("--triton_model_repository", call.engine),
        *("--num_gpus", str(options.num_gpus), "--max_batch_size", str(options.max_batch_size)),
    ]
    words += _since(call, "--modality", call.modality, "vision")
    if options.mode == "load":
        return words
    words += ["--dtype", options.dtype]
    words += _lengths(call)
    return words + flagged(_adapter(options))


def _export(call: Call) -> list[str]:
    options = call.options
    words = ["--output_dir", call.engine, "--visual_checkpoint_path", call.visual]
    words += [
        *("--llm_checkpoint_path", call.spoken or call.visual),
        *("--modality", call.modality, "--model_type", call.kind_name or "neva"),
        *("--llm_model_type", llm_type(call) or "llama"),
        *("--tensor_parallel_size", str(options.num_gpus), "--dtype", options.dtype),
        *("--max_batch_size", str(options.max_batch_size), *_lengths(call)),
        # Without the second it asks the model something afterwards, and fails for want of a picture.
        *("--delete_existing_files", "--test_export_only"),
    ]
    return words + flagged(_adapter(options))


def _lengths(call: Call) -> list[str]:
    options = call.options
    return [
        *("--max_input_len", str(options.max_input_len)),
        *("--max_output_len", str(options.max_output_len)),
        *("--max_multimodal_len", str(options.max_multimodal_len)),
        *_since(call, "--vision_max_batch_size", str(call.vision_batch), "1"),
    ]


def _since(call: Call, flag: str, value: str, without: str) -> list[str]:
    """A flag that early scripts lack, and need not have where they do `without` by themselves."""
    known = parsers.known(call.script, call.generation)
    missing = known is not None and known.find(flag) is None
    return [] if missing and value == without else [flag, value]


def _adapter(options: MultimodalOptions) -> dict[str, Any]:
    return {
        "--use_lora_plugin": options.use_lora_plugin,
        "--lora_target_modules": options.lora_target_modules,
        "--max_lora_rank": options.max_lora_rank if options.max_lora_rank != 64 else 0,
        "--lora_checkpoint_path": options.lora_checkpoint_path,
    }


# ---------------------------------------------------------------------------- Hydra


def quoted(value: str) -> str:
    """A text as a value of a Hydra override (template): its grammar ends a value at a quote, and
    OmegaConf fills in what stands in ``${…}``, so that a dollar sign of ours is escaped for it."""
    # `literal` writes a dollar sign twice; backslashes count only before a quote.
    ours = re.sub(r'(\\*)"', r'\1\1\\"', value.replace("$${", "\\$${"))
    return '"' + re.sub(r"(\\+)\Z", r"\1\1", ours) + '"'


def overrides(call: Call) -> dict[str, str]:
    """Keys of ``neva_export.py`` with their values (templates)."""
    options = call.options
    lengths = {
        "infer.max_batch_size": options.max_batch_size,
        "infer.tensor_parallelism": options.num_gpus,
        "infer.max_input_len": options.max_input_len,
        "infer.max_output_len": options.max_output_len,
        "infer.max_multimodal_len": options.max_multimodal_len,
    }
    found = {
        "infer.output_dir": quoted(call.engine),
        **{key: str(value) for key, value in lengths.items()},
        "model.type": call.kind_name or "neva",
        "model.precision": options.dtype,
        "model.visual_model_path": quoted(call.visual),
        # The script's own example is a path that does not exist.
        "model.llm_model_path": quoted(call.spoken) if call.spoken else "null",
        "model.llm_model_type": llm_type(call) or "llama",
    }
    if call.vision_batch != 1:
        found["infer.vision_max_batch_size"] = str(call.vision_batch)
    if options.lora_checkpoint_path:
        found["model.lora_path"] = quoted(literal(options.lora_checkpoint_path))
    # No such keys; a check says so before anything runs.
    rest = {**_adapter(options), "--lora_checkpoint_path": ""}
    return found | {f"infer.{k.strip('-')}": str(v) for k, v in rest.items() if v}


# ---------------------------------------------------------------------------- classes


def _api(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The worker's document. Paths and ports come on its command line: they may hold variables."""
    options, generation = call.options, call.generation
    init = {"load_model": options.mode == "load", "modality": call.modality}
    if call.modality == "vision" and split_out("modality", generation):
        del init["modality"]
    deploy = {
        "triton_model_name": call.deployment.served_name,
        "triton_model_version": options.model_version,
        "max_batch_size": options.max_batch_size,
        "address": call.address,
    }
    ports = {
        f"{name}_port": trtllm_api.takes("deploy", f"{name}_port", generation)
        for name in ("http", "grpc")
    }
    document: dict[str, Any] = {
        "export_module": mm_api.module("export", generation),
        "export_class": "TensorRTMMExporter",
        "paths": {"checkpoint": "visual_checkpoint_path", "language": "llm_checkpoint_path"},
        "deploy_module": trtllm_api.module("deploy", generation),
        "http_port": "http_port" if ports["http_port"] else "port",
        "grpc_port": "grpc_port" if ports["grpc_port"] else "",
    }
    document["init"], lacking = mm_api.split("init", init, generation)
    export = _export_arguments(call) if options.mode != "load" else {}
    document["export"], more = mm_api.split("export", export, generation)
    document["deploy"], rest = trtllm_api.split("deploy", deploy, generation)
    return document, (*lacking, *more, *rest)


def split_out(name: str, generation: str) -> bool:
    """Whether the exporter of `generation` does not take `name`."""
    return bool(mm_api.split("init", {name: None}, generation)[1])


def _export_arguments(call: Call) -> Mapping[str, Any]:
    options = call.options
    wanted: dict[str, Any] = {
        "model_type": call.kind_name or "neva",
        "llm_model_type": llm_type(call) or "llama",
        "tensor_parallel_size": options.num_gpus,
        "max_input_len": options.max_input_len,
        "max_output_len": options.max_output_len,
        "max_batch_size": options.max_batch_size,
        "max_multimodal_len": options.max_multimodal_len,
        "vision_max_batch_size": call.vision_batch if call.vision_batch != 1 else None,
        "dtype": options.dtype,
        "delete_existing_files": True,
        "load_model": options.mode == "serve",
        "use_lora_plugin": options.use_lora_plugin or None,
        "lora_target_modules": list(options.lora_target_modules) or None,
        "lora_checkpoint_path": options.lora_checkpoint_path or None,
        "max_lora_rank": options.max_lora_rank if options.max_lora_rank != 64 else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}
