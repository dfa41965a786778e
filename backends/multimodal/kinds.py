"""The multimodal models that NeMo exports: what each takes, and what its prompts begin with.

Sources: the model table of NeMo's multimodal deployment guide; ``query_multimodal.py`` for the media;
``nemo/export/multimodal/build.py`` and ``run.py`` for encoders and prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IMAGE_MARK = "<image>\n "
"""What the guide puts before the text: without it the model sees no picture."""
LONGEST_SOUND = 30.72
"""Seconds: the perception engine is built for 64 to 3072 windows of 10 ms."""
SHORTEST_SOUND = 0.64
SOUND_RATE = 16_000
"""The feature extractor resamples nothing."""
VIDEO_BATCH = 256
"""Frames of a video that the encoder of LITA and VITA takes at once, by the guide."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One ``model_type`` of upstream's scripts."""

    title: str
    media: Literal["image", "video", "sound"]
    marked: bool = False
    """Whether its prompts need `IMAGE_MARK`."""
    frames: int = 0
    """Frames of a video at most, evenly spaced; 0 sends all of them."""
    vision_batch: int = 1
    """Pictures that the encoder is built for where nothing is said."""

    @property
    def modality(self) -> Literal["vision", "audio"]:
        return "audio" if self.media == "sound" else "vision"

    @property
    def encoder(self) -> str:
        """Folder of the encoder's engine beside ``llm_engine``."""
        return "perception_engine" if self.media == "sound" else "visual_engine"


KINDS = {
    "neva": Kind("NeVA", "image"),
    # Its encoder takes all frames of a video as one: a batch is of videos, not of frames.
    "video-neva": Kind("Video NeVA", "video"),
    "lita": Kind("LITA", "video", marked=True, frames=VIDEO_BATCH, vision_batch=VIDEO_BATCH),
    "vila": Kind("VILA", "image", marked=True),
    "vita": Kind("VITA", "video", marked=True, frames=VIDEO_BATCH, vision_batch=VIDEO_BATCH),
    "mllama": Kind("Llama 3.2 Vision", "image"),
    "salm": Kind("SALM", "sound"),
}
CALLED = {**{name: name for name in KINDS}, "llava": "neva"}
"""What a checkpoint calls itself, to ``model_type``."""
