"""What the retrieval route takes: a vision and a text tower with one space, and a sentence encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from backends.door import Checkpoints, Door, Role
from console.checkpoints.model import Checkpoint, Format
from console.facts import Level, Verdict
from console.text import clean

ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Towers:
    """What a configuration says of two towers; every figure is checked by the export."""

    dimension: int
    """Of the space that images and texts share."""
    size: int
    """Height and width of the pixels that go in."""
    tokens: int
    """Most tokens of a text."""
    masked: bool
    """Whether the text tower takes an attention mask."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a configuration says of a sentence encoder."""

    dimension: int
    tokens: int


_CLIP = {"dimension": 512, "size": 224, "tokens": 77}
_SIGLIP = {"dimension": 768, "size": 224, "tokens": 64}
UNMASKED = frozenset({"siglip", "siglip2"})
"""Families whose text tower was trained on padded texts without a mask."""
WITHOUT_GRID = "siglip2"
"""Takes patches of images in place of pixels unless its vision tower has a fixed size."""
SENTENCES = frozenset({"bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "modernbert"})
"""Families of encoders that a mean over tokens, or the first token, makes a sentence of."""
MOST_SENTENCE_TOKENS = 256


def towers(checkpoint: Checkpoint) -> Towers | None:
    """The two towers of a Hugging Face folder; None for what has no such pair.

    Configurations leave out what is their library's default, which is taken then.
    """
    config = checkpoint.config
    vision, text = _section(config, "vision_config"), _section(config, "text_config")
    family = str(config.get("model_type", ""))
    if checkpoint.format is not Format.HUGGING_FACE or vision is None or text is None:
        return None
    unmasked = family in UNMASKED
    projected = "projection_dim" in config
    if family != "clip" and not unmasked and not projected:
        return None  # a model that writes about images has two such sections too
    usual = _SIGLIP if unmasked else _CLIP
    if unmasked:
        inner = _whole(text, "hidden_size", usual["dimension"])
        dimension = _whole(text, "projection_size", inner)
    else:
        dimension = _whole(config, "projection_dim", usual["dimension"])
    return Towers(
        dimension=dimension,
        size=_whole(vision, "image_size", usual["size"]),
        tokens=_whole(text, "max_position_embeddings", usual["tokens"]),
        masked=not unmasked,
    )


def sentence(checkpoint: Checkpoint | None) -> Sentence | None:
    """The sentence encoder of a Hugging Face folder; None for what is none."""
    if checkpoint is None or checkpoint.format is not Format.HUGGING_FACE:
        return None
    config = checkpoint.config
    hidden = _whole(config, "hidden_size", 0)
    if str(config.get("model_type", "")) not in SENTENCES or not hidden:
        return None
    positions = _whole(config, "max_position_embeddings", MOST_SENTENCE_TOKENS)
    return Sentence(hidden, min(MOST_SENTENCE_TOKENS, positions))


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found = config.get(name)
    return found if isinstance(found, Mapping) else None


def _whole(config: Mapping[str, Any], name: str, usual: int) -> int:
    value = config.get(name)
    return value if isinstance(value, int) and 0 < value < 1 << 20 else usual


class RetrievalDoor(Door):
    """Whether images and texts of this checkpoint can be compared."""

    name: ClassVar[str] = "clip-retrieval"
    title: ClassVar[str] = "Retrieval: CLIP, SigLIP and other pairs of towers, with a vector store"
    roles: ClassVar[tuple[Role, ...]] = (
        Role("model", "Vision and text towers"),
        Role("sentence", "Sentence encoder", required=False),
    )

    def accepts(self, checkpoints: Checkpoints) -> Verdict:
        pair, encoder = checkpoints.get("model"), checkpoints.get("sentence")
        verdict = _pair(pair)
        if verdict.level is Level.FAIL or encoder is None or encoder.format is Format.HUB:
            return verdict
        if sentence(encoder) is None:
            return Verdict(
                ROUTE,
                Level.FAIL,
                f"the sentence encoder is {clean(encoder.title)}, which is none",
                fix="name a folder of the MiniLM family (BERT, RoBERTa, MPNet), or leave it out",
                option="checkpoints.sentence",
            )
        return verdict


def _pair(checkpoint: Checkpoint | None) -> Verdict:
    fix = "name a Hugging Face folder with a vision and a text tower (CLIP, SigLIP)"
    if checkpoint is None:
        return Verdict(ROUTE, Level.FAIL, "no checkpoint is given", fix=fix)
    if checkpoint.format is Format.HUB:
        if checkpoint.hub is not None and checkpoint.hub.hub == "nemo":
            return Verdict(ROUTE, Level.FAIL, "NeMo's pretrained names are speech models", fix=fix)
        return Verdict(ROUTE, Level.UNKNOWN, "whether it has two towers shows when it is fetched")
    found = towers(checkpoint)
    if found is None:
        return Verdict(
            ROUTE, Level.FAIL, f"{clean(checkpoint.title)}: not a pair of towers", fix=fix
        )
    return Verdict(
        ROUTE,
        Level.PASS,
        f"images and texts in one space of {found.dimension} dimensions",
    )
