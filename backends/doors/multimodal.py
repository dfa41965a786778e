"""What the route for NeMo's models of images, videos and sound takes."""

from __future__ import annotations

from typing import ClassVar

from backends.door import Checkpoints, Door, Role
from backends.doors.language import hub_verdict, refused, taken
from backends.multimodal.kinds import CALLED, KINDS
from console.checkpoints.model import Checkpoint, Format
from console.facts import Verdict
from console.text import clean

FORMATS = (Format.NEMO, Format.NEMO2)
PERCEPTION = "AudioPerceptionModule"
"""Class of the sound part of a SALM model, as `console.checkpoints.multimodal` tells it."""


def kind_of(checkpoint: Checkpoint) -> str:
    """Upstream's ``model_type`` for a checkpoint; empty where it has none."""
    if checkpoint.model_class == PERCEPTION:
        return "salm"
    facts = checkpoint.language
    return CALLED.get(facts.multimodal, "") if facts else ""


class NemoMultimodalDoor(Door):
    """Multimodal checkpoints of NeMo and what was exported of them."""

    name: ClassVar[str] = "nemo-multimodal"
    title: ClassVar[str] = "NeMo multimodal: images, videos and sound with text, through TensorRT"
    roles: ClassVar[tuple[Role, ...]] = (
        Role("model", "Visual, perception or exported model"),
        Role("language", "Language model", required=False),
    )

    served: ClassVar[tuple[frozenset[str], ...]] = (
        frozenset({"input_text", "input_media"}),
        frozenset({"input_text", "input_signal", "input_signal_length"}),
    )

    def accepts(self, checkpoints: Checkpoints) -> Verdict:
        checkpoint = checkpoints.get("model")
        if checkpoint is None:
            return refused("no checkpoint is named", fix="name one under [checkpoints] model")
        if checkpoint.format is Format.HUB:
            return hub_verdict(checkpoint)
        found = f"{clean(checkpoint.path.name)} is {clean(checkpoint.title)}"
        kind = kind_of(checkpoint)
        if checkpoint.format in (*FORMATS, Format.TRTLLM_ENGINE) and kind:
            built = checkpoint.format is Format.TRTLLM_ENGINE
            said = "exported already" if built else "TensorRT engines can be built from it"
            return taken(f"a {KINDS[kind].title} model: {said}", found)
        fixes = {
            Format.HUGGING_FACE: "take vllm, which serves vision-language models of Hugging Face",
            Format.MEGATRON: "take in-framework, or export it to Hugging Face format",
        }
        return refused(
            "this route takes NeVA, Video NeVA, LITA, VILA, VITA and SALM models of NeMo",
            found,
            fixes.get(checkpoint.format, "choose a .nemo of one of them, or an exported folder"),
        )
