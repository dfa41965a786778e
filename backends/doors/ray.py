"""What the Ray Serve route takes."""

from __future__ import annotations

from typing import ClassVar

from backends.doors.language import NEMO, LanguageDoor, refused, taken
from console.checkpoints.model import Checkpoint, Format
from console.facts import Verdict


class RayServeDoor(LanguageDoor):
    """A language model in Hugging Face, NeMo or Megatron format."""

    name: ClassVar[str] = "ray-serve"
    title: ClassVar[str] = "Ray Serve: language models on a cluster of machines"

    def _read(self, checkpoint: Checkpoint, found: str) -> Verdict:
        takes = checkpoint.format in (Format.HUGGING_FACE, *NEMO)
        if not takes or checkpoint.speech is not None or checkpoint.language is None:
            return refused(
                "this route serves language models in Hugging Face, NeMo or Megatron format",
                found,
                "choose a folder with config.json and safetensors, or a NeMo checkpoint",
            )
        return taken("a language model that Ray Serve can run", found)
