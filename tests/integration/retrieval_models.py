"""Makes tiny models with random weights, and says what PyTorch makes of an image and texts.

Runs in the managed environment `nemo`: ``make FOLDER``, ``embed FOLDER IMAGE TEXT…`` (JSON to stdout).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)


def tokenizer(folder: Path, mask: bool) -> None:
    """Letters, with an end token that also pads."""
    vocabulary = {"<unk>": 0, "</s>": 1, "<s>": 2}
    for letter in [*map(chr, range(33, 127)), "▁"]:
        vocabulary[letter] = len(vocabulary)
    made = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    names = ["input_ids", *(["attention_mask"] if mask else [])]
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        pad_token="</s>",
        eos_token="</s>",
        model_max_length=16,
        model_input_names=names,
    ).save_pretrained(folder)


def make(place: Path) -> None:
    torch.manual_seed(3)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2}
    text = {"vocab_size": 120, "max_position_embeddings": 16, "projection_size": 32}
    vision = {"image_size": 48, "patch_size": 16}
    config = SiglipConfig(text_config=small | text, vision_config=small | vision)
    SiglipModel(config).save_pretrained(place / "siglip")
    SiglipImageProcessor(size={"height": 48, "width": 48}).save_pretrained(place / "siglip")
    tokenizer(place / "siglip", mask=False)
    bert = BertConfig(vocab_size=120, max_position_embeddings=64, **small | {"hidden_size": 24})
    BertModel(bert).save_pretrained(place / "sentence")
    tokenizer(place / "sentence", mask=True)


def embed(place: Path, image: str, texts: list[str]) -> dict[str, list[list[float]]]:
    pair = AutoModel.from_pretrained(place / "siglip").eval()
    processor = AutoImageProcessor.from_pretrained(place / "siglip", use_fast=False)
    words = AutoTokenizer.from_pretrained(place / "siglip")
    sentence = AutoModel.from_pretrained(place / "sentence").eval()
    more = AutoTokenizer.from_pretrained(place / "sentence")
    with torch.no_grad():
        pixels = processor(Image.open(image).convert("RGB"), return_tensors="pt")
        ids = words(texts, padding="max_length", truncation=True, return_tensors="pt")
        given = more(texts, padding=True, truncation=True, return_tensors="pt")
        states = sentence(**given).last_hidden_state
        mask = given["attention_mask"].unsqueeze(-1)
        found = {
            "image": pair.get_image_features(**pixels),
            "text": pair.get_text_features(**ids),
            "sentence": (states * mask).sum(1) / mask.sum(1),
        }
    return {name: (v / v.norm(dim=-1, keepdim=True)).tolist() for name, v in found.items()}


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        print(json.dumps(embed(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])))
