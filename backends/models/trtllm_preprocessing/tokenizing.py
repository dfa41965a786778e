"""The tokenizer of the stages around a TensorRT-LLM engine: whichever of three kinds the folder has.

A tokenizer.json is read by tokenizers, a folder of transformers by transformers, and a lone
tokenizer.model, as NeMo saves it, by sentencepiece. Nothing is fetched and no code of the folder runs.
"""

import json
from pathlib import Path

NAMED = ("tokenizer_config.json", "vocab.json", "vocab.txt")  # what transformers needs one of
SPACE = "\u2581"  # what stands for a leading space in sentencepiece vocabularies


def tokenizer(folder):
    """The reader that fits `folder`."""
    place = Path(folder)
    if (place / "tokenizer.json").is_file():
        return Fast(place)
    named = any((place / name).is_file() for name in NAMED)
    if (place / "tokenizer.model").is_file() and not named:
        return Pieces(place)
    if named:
        return Slow(place)
    raise ValueError(
        "no tokenizer.json, tokenizer_config.json or tokenizer.model is in %s" % folder
    )


class Fast:
    def __init__(self, folder):
        from tokenizers import Tokenizer

        self.reader = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.config = folder / "tokenizer_config.json"

    def encode(self, text, special):
        return self.reader.encode(text, add_special_tokens=special).ids

    def decode(self, ids, skip):
        return self.reader.decode(ids, skip_special_tokens=skip)

    def token(self, number):
        return self.reader.id_to_token(number)

    def special(self, name):
        """Id of ``eos_token`` or ``pad_token``; None where there is none."""
        if not self.config.is_file():
            return None
        said = json.loads(self.config.read_text(encoding="utf-8")).get(name)
        said = said.get("content") if isinstance(said, dict) else said
        return self.reader.token_to_id(said) if said else None


class Slow:
    def __init__(self, folder):
        from transformers import AutoTokenizer

        self.reader = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    def encode(self, text, special):
        return self.reader.encode(text, add_special_tokens=special)

    def decode(self, ids, skip):
        return self.reader.decode(ids, skip_special_tokens=skip)

    def token(self, number):
        return self.reader.convert_ids_to_tokens(number)

    def special(self, name):
        return getattr(self.reader, name + "_id")


class Pieces:
    def __init__(self, folder):
        from sentencepiece import SentencePieceProcessor

        self.reader = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))

    def encode(self, text, special):
        begin = special and self.reader.bos_id() >= 0
        return self.reader.encode(text, add_bos=begin)

    def decode(self, ids, skip):
        wanted = [number for number in ids if not (skip and self.reader.is_control(number))]
        return self.reader.decode(wanted)

    def token(self, number):
        return self.reader.id_to_piece(number)

    def special(self, name):
        number = {"eos_token": self.reader.eos_id, "pad_token": self.reader.pad_id}[name]()
        return number if number >= 0 else None
