"""What the routes for language models take."""

from __future__ import annotations

from typing import ClassVar, Literal

from backends.door import Checkpoints, Door, Role
from console.checkpoints.model import Checkpoint, Format
from console.facts import Level, Verdict
from console.text import clean

Family = Literal["gpt", "llama", "gemma", "falcon"]
NEMO = (Format.NEMO, Format.NEMO2, Format.MEGATRON)
WRITERS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "CausalLM")
"""How transformers' classes end that continue a text."""
BUILT = frozenset({Format.TRTLLM_ENGINE})
READY = frozenset({Format.TRTLLM_CHECKPOINT, Format.QNEMO})
"""What goes to TensorRT-LLM's build as it is."""
ENCODED = frozenset({Format.NEMO, Format.NEMO2, Format.TRTLLM_ENGINE})
"""Formats of NeMo's whose models with an encoder only its own exporter serves."""
FAMILIES: dict[str, Family] = {
    "gpt2": "gpt", "gpt": "gpt", "gptnext": "gpt", "gpt_bigcode": "gpt", "starcoder": "gpt",
    "starcoder2": "gpt", "nemotron": "gpt", "persimmon": "gpt", "kosmos-2": "gpt",
    "llama": "llama", "mistral": "llama", "mixtral": "llama",
    "gemma": "gemma", "gemma2": "gemma",
    "falcon": "falcon",
}  # fmt: skip
"""Family of a checkpoint to the TensorRT-LLM conversion script that takes it."""


class LanguageDoor(Door):
    """What is the same for all of them: something is named, and a hub id is not read yet."""

    def accepts(self, checkpoints: Checkpoints) -> Verdict:
        checkpoint = checkpoints.get("model")
        if checkpoint is None:
            return refused("no checkpoint is named", fix="name one under [checkpoints] model")
        if checkpoint.format is Format.HUB:
            return hub_verdict(checkpoint)
        found = f"{clean(checkpoint.path.name)} is {clean(checkpoint.title)}"
        if checkpoint.format is Format.HUGGING_FACE and not generates(checkpoint):
            fix = "take clip-retrieval for images and sentences, or name a model that writes"
            return refused("this model does not write text", found, fix)
        facts = checkpoint.language
        if facts is not None and facts.multimodal and checkpoint.format in ENCODED:
            return refused("this route serves text alone", found, "take nemo-multimodal")
        return self._read(checkpoint, found)

    def _read(self, checkpoint: Checkpoint, found: str) -> Verdict:
        raise NotImplementedError


class VllmDoor(LanguageDoor):
    """A Hugging Face folder of a language model; what NeMo made goes through NeMo's own script."""

    name: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM: language models in Hugging Face format"

    def _read(self, checkpoint: Checkpoint, found: str) -> Verdict:
        if checkpoint.format is Format.QNEMO:
            fix = "take nemo-tensorrt-llm, or a quantised Hugging Face folder"
            return refused("a .qnemo is made for TensorRT-LLM alone", found, fix)
        spoken = checkpoint.speech is not None or checkpoint.language is None
        if checkpoint.format not in (Format.HUGGING_FACE, *NEMO) or spoken:
            what = "vLLM serves language models in Hugging Face format"
            return refused(what, found, "choose a folder with config.json and safetensors")
        if checkpoint.format in NEMO:
            return taken("a language model that NeMo's script for vLLM takes", found)
        return taken("a language model in Hugging Face format", found)


class InFrameworkDoor(LanguageDoor):
    """A language model in Hugging Face, NeMo or Megatron format."""

    name: ClassVar[str] = "in-framework"
    title: ClassVar[str] = "In-framework: NeMo, Megatron and Hugging Face models through PyTriton"
    runs: ClassVar[str] = "PyTorch"
    """What runs the model, in a word."""

    def _read(self, checkpoint: Checkpoint, found: str) -> Verdict:
        takes = checkpoint.format in (Format.HUGGING_FACE, *NEMO)
        if not takes or checkpoint.speech is not None or checkpoint.language is None:
            return refused(
                "this route serves language models in Hugging Face, NeMo or Megatron format",
                found,
                "choose a folder with config.json and safetensors, or a NeMo checkpoint",
            )
        return taken(f"a language model that {self.runs} can run", found)


class NemoTrtllmDoor(LanguageDoor):
    """NeMo checkpoints of language models, and engines that were built before."""

    name: ClassVar[str] = "nemo-tensorrt-llm"
    title: ClassVar[str] = "NeMo to TensorRT-LLM: language models of NeMo, served by PyTriton"
    FORMATS: ClassVar = (Format.NEMO, Format.NEMO2, Format.QNEMO)

    def _read(self, checkpoint: Checkpoint, found: str) -> Verdict:
        facts = checkpoint.language
        if checkpoint.format not in (*self.FORMATS, *BUILT) or facts is None:
            fixes = {
                Format.HUGGING_FACE: "take vllm, or import it into NeMo first (nemo llm import …)",
                Format.MEGATRON: "take in-framework, or export it to Hugging Face format",
            }
            return refused(
                "this route takes language models of NeMo (.nemo, .qnemo) and built engines",
                found,
                fixes.get(checkpoint.format, "choose a NeMo checkpoint of a language model"),
            )
        return taken("a language model that TensorRT-LLM can be built from", found)


class TrtllmEngineDoor(LanguageDoor):
    """A checkpoint that a conversion script takes, or one that needs none; a draft model as well."""

    name: ClassVar[str] = "trtllm-engine"
    title: ClassVar[str] = "TensorRT-LLM engine (legacy): build and serve in one image"
    roles: ClassVar[tuple[Role, ...]] = (
        Role("model", "Checkpoint"),
        Role("draft", "Draft model", required=False),
    )

    def accepts(self, checkpoints: Checkpoints) -> Verdict:
        """The draft model is judged as the model is, and said by its name."""
        found = super().accepts(checkpoints)
        draft = checkpoints.get("draft")
        if found.level is not Level.PASS or draft is None:
            return found
        judged = super().accepts({"model": draft})
        return judged if judged.level is not Level.PASS else found

    def _read(self, checkpoint: Checkpoint, found: str) -> Verdict:
        if checkpoint.format in READY | BUILT:
            return taken("it needs no conversion", found)
        facts = checkpoint.language
        nemo = checkpoint.format is Format.NEMO and facts is not None
        folder = checkpoint.format is Format.HUGGING_FACE and facts is not None
        if nemo or (folder and facts is not None and facts.family.lower() in FAMILIES):
            return taken("a conversion script takes it", found)
        return refused(
            "the conversion scripts take models of gpt, llama, mistral, mixtral, gemma and falcon",
            found,
            "take the backend trtllm-llmapi or vllm",
        )


class TrtllmLlmapiDoor(LanguageDoor):
    """A Hugging Face folder of a language model."""

    name: ClassVar[str] = "trtllm-llmapi"
    title: ClassVar[str] = "TensorRT-LLM (LLM API): language models in Hugging Face format"

    def _read(self, checkpoint: Checkpoint, found: str) -> Verdict:
        if checkpoint.format is not Format.HUGGING_FACE or checkpoint.language is None:
            what = "the LLM API serves language models in Hugging Face format"
            fix = "choose a folder with config.json and safetensors, or the backend trtllm-engine"
            return refused(what, found, fix)
        return taken("a language model in Hugging Face format", found)


def generates(checkpoint: Checkpoint) -> bool:
    """Whether a Hugging Face model continues a text, by the class that its configuration names: CLIP
    and BERT have layers and heads too. One that names none is taken at its word."""
    named = checkpoint.config.get("architectures")
    classes = [str(name) for name in named] if isinstance(named, list) else []
    return not classes or any(name.endswith(WRITERS) for name in classes)


def hub_verdict(checkpoint: Checkpoint) -> Verdict:
    """Of a model that is named by a hub id and not here: nothing is known of it, but that NeMo's own
    lists hold no language models."""
    if checkpoint.hub is not None and checkpoint.hub.hub == "nemo":
        what, name = "NeMo's pretrained names are speech models", clean(checkpoint.hub.name)
        return refused(what, name, "name a language model: hub:owner/name@revision")
    return Verdict("route", Level.UNKNOWN, "whether it is taken is known when it is fetched")


def taken(what: str, found: str) -> Verdict:
    return Verdict("route", Level.PASS, what, found)


def refused(what: str, found: str = "", fix: str = "") -> Verdict:
    return Verdict("route", Level.FAIL, what, found, fix=fix)
